"""The cluster as the demo and the end-to-end tests use it: kubectl for what a user types, its proxy for many reads."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from demo import settings
from demo.failure import DemoError

_COMMAND_TIMEOUT_SECONDS = 300.0


def program(name: str) -> str:
    """Where a program is: `.local/bin` first, then PATH. Raises DemoError when it is in neither."""
    local = settings.LOCAL / "bin" / name
    found = str(local) if local.exists() else shutil.which(name)
    if found is None:
        raise DemoError(f"{name} was found neither in {local.parent} nor on PATH; `make cluster` builds it")
    return found


def environment() -> dict[str, str]:
    """The environment in which kubectl and helm use the cluster of the settings, and keep what they cache in .local."""
    cache = os.environ.get("KUBECACHEDIR") or str(settings.LOCAL / "kubectl-cache")
    return {**os.environ, "KUBECONFIG": str(settings.kubeconfig()), "KUBECACHEDIR": cache}


def run(*command: str, stdin: str | None = None, timeout: float = _COMMAND_TIMEOUT_SECONDS) -> str:
    """Standard output of one command against the cluster. Raises DemoError with what it printed when it failed."""
    try:
        done = subprocess.run(
            command,
            env=environment(),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"{' '.join(command)}: no end within {timeout:.0f} s") from None
    if done.returncode != 0:
        raise DemoError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr or done.stdout}".rstrip())
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None, timeout: float = _COMMAND_TIMEOUT_SECONDS) -> str:
    """Standard output of ``kubectl <arguments>``."""
    return run(program("kubectl"), *arguments, stdin=stdin, timeout=timeout)


def apply(manifests: str, *arguments: str) -> str:
    """``kubectl apply -f -`` of YAML text; what it printed."""
    return kubectl("apply", "-f", "-", *arguments, stdin=manifests)


def get(*arguments: str) -> Any:
    """``kubectl get <arguments> -o json``, parsed."""
    return json.loads(kubectl("get", *arguments, "-o", "json"))


def ensure_namespace(name: str) -> None:
    """Create a namespace unless it is there."""
    apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))


@contextmanager
def api_proxy() -> Iterator[httpx.Client]:
    """An HTTP client of the API server through one ``kubectl proxy`` on loopback: cheap for hundreds of reads."""
    proxy = subprocess.Popen(
        [program("kubectl"), "proxy", "--port=0", "--address=127.0.0.1"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert proxy.stdout is not None  # noqa: S101 - told to the type checker; PIPE was asked for
        line = proxy.stdout.readline()
        address = line.rpartition(" ")[2].strip()
        if not address:
            raise DemoError("kubectl proxy did not start")
        with httpx.Client(base_url=f"http://{address}", timeout=30.0, trust_env=False) as client:
            yield client
    finally:
        proxy.terminate()
        proxy.wait(timeout=10)
