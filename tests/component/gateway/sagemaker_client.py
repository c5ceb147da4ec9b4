"""boto3's client of SageMaker's runtime API as users have it, pointed at a gateway."""

import asyncio
import json
from typing import Any

import boto3
from botocore.config import Config


def client(endpoint_url: str, *, by_host: str = "", retries: dict[str, Any] | None = None) -> Any:
    """``by_host``: the host that the gateway is asked by, as if it were its name in DNS."""
    proxies = {"http": endpoint_url} if by_host else {}
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://{by_host}" if by_host else endpoint_url,
        region_name="eu-central-1",
        aws_access_key_id="AKIAMADEUP",
        aws_secret_access_key="made-up",
        aws_session_token="made-up-token",
        config=Config(proxies=proxies, retries=retries or {"max_attempts": 0}, read_timeout=70),
    )


async def invoke(runtime: Any, endpoint: str, **parameters: Any) -> dict[str, Any]:
    """``invoke_endpoint`` in a thread; the body of the answer is read."""

    def call() -> dict[str, Any]:
        answer: dict[str, Any] = runtime.invoke_endpoint(EndpointName=endpoint, **{"Body": b"{}", **parameters})
        return {**answer, "Body": answer["Body"].read()}

    return await asyncio.to_thread(call)


async def seen(runtime: Any, endpoint: str, **parameters: Any) -> str:
    """The path at the pod that answered, by ``pods.Pod``."""
    return str(json.loads((await invoke(runtime, endpoint, **parameters))["Body"])["path"])
