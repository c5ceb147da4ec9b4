"""What people type: `curl -d` says that its body is a form, and some clients say nothing about it."""

import json

import aiohttp
import pytest

from .artifacts import ROW, model
from .parts import Pod, intent

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", None])
async def test_a_body_that_does_not_say_that_it_is_json_is_answered(shared_pod: Pod, content_type: str | None) -> None:
    pod = shared_pod
    pod.storage.put("curl/model.joblib", model(4.0))
    await pod.operator.want(intent("curl"))
    await pod.loaded("curl")
    tensor = {"name": "x", "shape": [1, len(ROW[0])], "datatype": "FP64", "data": ROW[:1]}
    bodies = {"v2/models/curl/infer": {"inputs": [tensor]}, "v1/models/curl:predict": {"instances": ROW[:1]}}
    headers = {"Content-Type": content_type} if content_type else {}
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"], headers=headers) as session:
        for path, body in bodies.items():
            async with session.post(f"{pod.url}/{path}", data=json.dumps(body).encode()) as answer:
                assert answer.status == 200, f"{path}: {await answer.text()}"
