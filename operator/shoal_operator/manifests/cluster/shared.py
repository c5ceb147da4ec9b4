"""What a namespace has once, for all pods and models in it: the ConfigMap by which agents trust the operator, and where
it is wanted ModelMesh's Service."""

from collections.abc import Callable, Mapping
from typing import Any

from shoal_api.names import CA_CONFIGMAP, LABEL_MANAGED_BY, MANAGED_BY

from shoal_operator.work_queue import Retry

from .applier import Applier
from .owned import ObjectKey

MODELMESH_SERVICE = "modelmesh-serving"


class SharedObjects:
    """``ca_pem``: the certificate authority of the agents' API, empty while there is none yet; ``gateway_host``: where
    ModelMesh's Service leads to, empty: nobody wants one."""

    def __init__(self, applier: Applier, ca_pem: Callable[[], str], gateway_host: str) -> None:
        self._applier = applier
        self._ca_pem = ca_pem
        self._ca_told = ""
        self._gateway_host = gateway_host

    async def ensure(self, namespace: str, *, modelmesh: bool) -> None:
        """Before the pods that need them. ``modelmesh``: these are of ModelMesh's models. Raises Refused, Retry."""
        pem = self._ca_pem()
        if not pem:
            raise Retry("the certificate authority is not there yet")
        self._ca_told = pem
        await self._applier.apply(_object("ConfigMap", namespace, CA_CONFIGMAP, data={"ca.crt": pem}), "")
        if modelmesh and self._gateway_host:
            spec = {"type": "ExternalName", "externalName": self._gateway_host}
            await self._applier.apply(_object("Service", namespace, MODELMESH_SERVICE, spec=spec), "")

    async def remove(self, namespace: str) -> None:
        """The last that needs them went. Raises Refused, Retry."""
        await self._applier.remove(ObjectKey("ConfigMap", namespace, CA_CONFIGMAP))
        await self._applier.remove(ObjectKey("Service", namespace, MODELMESH_SERVICE))

    def is_one(self, kind: str, name: str) -> bool:
        """Whether an object is of these."""
        return (kind, name) in (("ConfigMap", CA_CONFIGMAP), ("Service", MODELMESH_SERVICE))

    def touched(self, kind: str, namespace: str, name: str, obj: Mapping[str, Any] | None) -> bool:
        """One of these was seen: whether it is not as it was applied."""
        return self._applier.touched(ObjectKey(kind, namespace, name), obj)

    @property
    def renewed(self) -> bool:
        """The certificate authority is another one than was last told."""
        return self._ca_pem() != self._ca_told


def _object(kind: str, namespace: str, name: str, **content: Any) -> dict[str, Any]:
    labels = {LABEL_MANAGED_BY: MANAGED_BY}
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
    } | content
