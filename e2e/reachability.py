"""Who reaches whom: one pod tries to connect to many addresses at once."""

import json
from collections.abc import Iterable
from typing import Final

from demo import kubernetes

_SECONDS: Final = 2
"""A refused connection gets no answer; one that is let through is there in a moment."""
_PYTHON: Final = """
import concurrent.futures, json, socket, sys
def reaches(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
    except OSError:
        return False
    return True
targets = sys.argv[1:]
with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(dict(zip(targets, pool.map(reaches, targets)))))
""".replace("SECONDS", str(_SECONDS))
_BASH: Final = """
for target in "$@"; do
  (timeout SECONDS bash -c "exec 3<>/dev/tcp/${target%:*}/${target##*:}" 2>/dev/null && echo "$target") &
done
wait
""".replace("SECONDS", str(_SECONDS))


def reached(pod: str, namespace: str, container: str, targets: Iterable[str]) -> set[str]:
    """Those of ``host:port`` that the Python in a pod's container can connect to."""
    said = _exec(pod, namespace, container, "python3", "-c", _PYTHON, *targets)
    return {target for target, yes in json.loads(said).items() if yes}


def reached_from_bash(pod: str, namespace: str, container: str, targets: Iterable[str]) -> set[str]:
    """The same from a container without Python, such as the gateway's."""
    return set(_exec(pod, namespace, container, "bash", "-c", _BASH, "reached", *targets).split())


def _exec(pod: str, namespace: str, container: str, *command: str) -> str:
    return kubernetes.kubectl("exec", "-n", namespace, pod, "-c", container, "--", *command, timeout=60.0)
