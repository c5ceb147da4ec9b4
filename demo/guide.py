"""What the demo leaves behind: `.local/demo.env`, and the commands to try by hand."""

import json
import os
from collections.abc import Iterable

from rich.console import Console

from demo import settings
from demo.predictions import Target, v2_body, v2_path
from demo.s3_server import S3Server
from demo.training import DemoModel

_PODS = f"-l serving.kserve.io/inferenceservice={settings.INFERENCE_SERVICE}"


def write_environment(target: Target, server: S3Server) -> None:
    """Write the shell variables of the running demo, readable by the owner only: it holds a key."""
    values = {
        "GATEWAY": target.url,
        "S3_ENDPOINT": server.endpoint,
        "S3_BUCKET": settings.BUCKET,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "NAMESPACE": settings.NAMESPACE,
        "INFERENCE_SERVICE": settings.INFERENCE_SERVICE,
    }
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    descriptor = os.open(settings.ENVIRONMENT_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def show(console: Console, target: Target, models: list[DemoModel], more: Iterable[str] = ()) -> None:
    """Print commands that work as they stand, in this checkout; ``more`` of them too."""
    model = models[0]
    body = json.dumps(v2_body(model.probe))
    v1_body = json.dumps({"instances": [model.probe]})
    kubeconfig = settings.foreign_kubeconfig() or settings.kubeconfig().relative_to(settings.CHECKOUT)
    base = f"{target.url}/{settings.NAMESPACE}/{settings.INFERENCE_SERVICE}"
    explain = (
        f"kubectl get --raw /api/v1/namespaces/{settings.SYSTEM_NAMESPACE}/services/{settings.RELEASE}-operator:http"
        f"/proxy/explain/{settings.NAMESPACE}/{model.name}"
    )
    lines = [
        "The cluster stays up. Try:",
        f"  export KUBECONFIG={kubeconfig} PATH=$PWD/.local/bin:$PATH",
        f"  kubectl get tm -n {settings.NAMESPACE}",
        f"  kubectl get isvc -n {settings.NAMESPACE}-owners   # a model of its own, one of ModelMesh's, any artifact",
        f"  curl -H 'Host: {target.host}' {target.url}{v2_path(model.name)} -d '{body}'",
        f"  curl {base}/v1/models/{model.name}:predict -d '{v1_body}'",
        f"  kubectl describe tm -n {settings.NAMESPACE} {model.name}",
        f"  {explain}",
        f"  kubectl delete pod --wait=false -n {settings.NAMESPACE} {_PODS}   # while you curl",
        *(f"  {command}" for command in more),
        "  make cluster-down   # leaves nothing behind",
        f"Addresses and keys for your own programs: {settings.ENVIRONMENT_FILE.relative_to(settings.CHECKOUT)}",
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
