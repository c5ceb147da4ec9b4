"""Where what users and runtimes write about pods meets what Shoal itself puts there: refused, or said to be without
effect. Pure."""

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.names import AGENT_CONTAINER, MODELS_DIR, SERVER_CONTAINER, SHARED_DIR

from shoal_operator.server_profile import Parts, Ports

from . import probes
from .agent import own_volume

Object = Mapping[str, Any]

_MAX_SHOWN = 40


def refuse_clashes(sidecars: Iterable[Object], pod_fields: Object) -> None:
    """Raises SpecError (InvalidSpec) where a volume or container has a name that Shoal's own have, or has one twice."""
    taken = {SERVER_CONTAINER, AGENT_CONTAINER}
    for kind, container in (
        *(("containers", c) for c in sidecars),
        *(("initContainers", c) for c in pod_fields.get("initContainers") or ()),
    ):
        name = str(container.get("name", ""))
        if name in taken:
            _refuse(kind, name)
        taken.add(name)
    volumes: set[str] = set()
    for volume in pod_fields.get("volumes") or ():
        name = str(volume.get("name", ""))
        if name in volumes or own_volume(name):
            _refuse("volumes", name)
        volumes.add(name)


def overridden(container: Object, parts: Parts, ports: Ports) -> list[str]:
    """What is written about the model server's container and does not reach it, each with where it stands. ``ports``:
    on which the server listens here."""
    found = [
        f"env {item['name']} of the model server (it is {parts.fixed(str(item['name']))!r} here)"
        for item in container.get("env") or ()
        if (fixed := parts.fixed(str(item.get("name", "")))) is not None and item.get("value") != fixed
    ]
    found += parts.ignored
    found += [
        f"volumeMounts[{mount['mountPath']}] of the model server"
        for mount in container.get("volumeMounts") or ()
        if hides(mount)
    ]
    if container.get("readinessProbe"):
        found.append("readinessProbe of the model server (it must not depend on single models)")
    lifecycle = container.get("lifecycle") or {}
    begin = ("lifecycle.postStart", lifecycle.get("postStart"))
    for where, asks in (*((kind, container.get(kind)) for kind in probes.KINDS), begin):
        if asks and probes.that_can_pass(asks, ports, container.get("ports") or ()) is None:
            there = ", ".join(str(number) for number in ports.by_name().values())
            found.append(f"{where} of the model server (it listens on {there} here, without TLS)")
    if lifecycle.get("preStop"):
        found.append("lifecycle.preStop of the model server (it waits for the agent's drain)")
    return found


def folder(mount: Object) -> str:
    """Where a volume is mounted, however the path is written."""
    return posixpath.normpath("/" + str(mount.get("mountPath") or "").lstrip("/"))


def hides(mount: Object) -> bool:
    """Whether it would lie on or in a folder that server and agent share."""
    return any(f"{folder(mount)}/".startswith(f"{each}/") for each in (MODELS_DIR, SHARED_DIR))


def _refuse(kind: str, name: str) -> None:
    shown = name if len(name) <= _MAX_SHOWN else f"{name[: _MAX_SHOWN - 1]}…"
    raise SpecError(
        "InvalidSpec",
        f"spec.predictor.{kind}, of the InferenceService or its runtime, has {shown!r}, which is there already or is "
        "Shoal's own: give it another name.",
    )
