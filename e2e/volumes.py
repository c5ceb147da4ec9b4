"""A PersistentVolume of the cluster's own, its claim, and a pod that writes to it."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from demo import kubernetes
from e2e.space import Space

_WRITE = """
import base64, os, sys
path = "/volume/" + sys.argv[1]
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path, "wb") as file:
    file.write(base64.b64decode(sys.argv[2]))
"""


@dataclass(frozen=True)
class Volume:
    """``claim``: its name in the space's namespace."""

    space: Space
    claim: str

    @property
    def _name(self) -> str:
        return f"{self.space.name}-{self.claim}"

    @property
    def _writer(self) -> str:
        return f"writer-{self.claim}"

    def make(self, mode: str = "ReadWriteMany") -> None:
        """The volume, which nobody has claimed."""
        kubernetes.apply(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolume",
                    "metadata": {"name": self._name},
                    "spec": {
                        "accessModes": [mode],
                        "capacity": {"storage": "1Gi"},
                        "claimRef": {"namespace": self.space.name, "name": self.claim},
                        "hostPath": {"path": self._path, "type": "DirectoryOrCreate"},
                        "persistentVolumeReclaimPolicy": "Retain",
                        "storageClassName": "",
                    },
                }
            )
        )

    def bind(self, mode: str = "ReadWriteMany") -> None:
        """The claim, and the pod that writes to it."""
        self.space.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": self.claim},
                "spec": {
                    "accessModes": [mode],
                    "resources": {"requests": {"storage": "1Gi"}},
                    "storageClassName": "",
                    "volumeName": self._name,
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": self._writer},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [
                        {
                            "name": "writer",
                            "image": self.space.python_image(),
                            "command": ["sleep", "infinity"],
                            "securityContext": {"runAsUser": 0},
                            "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
                        }
                    ],
                    "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": self.claim}}],
                },
            },
        )
        kubernetes.kubectl(
            "wait", "--for=condition=Ready", f"pod/{self._writer}", "-n", self.space.name, "--timeout=120s"
        )

    def put(self, path: str, content: bytes) -> None:
        self.python(_WRITE, path, base64.b64encode(content).decode())

    def python(self, program: str, *arguments: str) -> str:
        """Run a program where the volume is ``/volume``."""
        command = ("exec", "-n", self.space.name, self._writer, "--", "python3", "-c", program, *arguments)
        return kubernetes.kubectl(*command)

    def release(self) -> None:
        """Nobody of the test's uses it any more."""
        kubernetes.kubectl("delete", "pod", self._writer, "-n", self.space.name, "--ignore-not-found", "--timeout=60s")

    def claimed(self) -> dict[str, Any] | None:
        """The claim's object."""
        path = f"/api/v1/namespaces/{self.space.name}/persistentvolumeclaims/{self.claim}"
        found = self.space.api.get(path)
        return found.json() if found.status_code == 200 else None

    @property
    def _path(self) -> str:
        return f"/tmp/shoal-{self._name}"  # on the cluster's node

    def remove(self) -> None:
        kubernetes.kubectl("delete", "pv", self._name, "--ignore-not-found", "--wait=false")
        shutil.rmtree(self._path, ignore_errors=True)  # where the node is this machine


@contextmanager
def volume(space: Space, claim: str = "volume", mode: str = "ReadWriteMany") -> Iterator[Volume]:
    """A PersistentVolume that a claim of that name gets."""
    made = Volume(space, claim)
    made.make(mode)
    try:
        yield made
    finally:
        made.remove()
