"""One object's status: as it is stored, and what would be written of it now."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from shoal_operator.state.world.values import ModelKey, ServiceKey
from shoal_operator.state.world.views import ModelView, ServiceView

from .budget import Due, Ledger, Rank, due
from .conditions import Finding
from .model_status import model_status, trouble
from .service_status import service_status
from .service_status import trouble as service_trouble
from .stored import EMPTY, dump, pack, unpack
from .subjects import QUIET_SECONDS, Subject, Target

Object = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """As stored, packed. Thousands of these are kept, so nothing in it is larger than needed."""

    uid: str = ""
    version: int = 0
    stored: bytes = EMPTY
    altered: bytes = b""  # digest of what was sent when something else came of it: the schema may drop fields
    ledger: Ledger = field(default_factory=Ledger)
    due: float | None = None
    queued: Rank | None = None  # the queue it counts in; an older place in another one is void
    writing: bool = False
    changed: bool = False  # while it was being written
    failures: int = 0

    def begin(self, uid: str) -> None:
        """Another object has the name: nothing is known of it."""
        self.uid, self.version, self.stored, self.altered, self.ledger = uid, 0, EMPTY, b"", Ledger()

    def wrote(self, version: int, sent: Object, came: Mapping[str, Any]) -> None:
        """The API server has taken what was sent, and stored ``came``."""
        self.version = version
        self.stored = pack(came)
        self.altered = b"" if came == sent else _digest(dump(sent), self.stored)

    def came_of(self, desired: Object) -> bool:
        """What is stored is what comes of sending that."""
        return bool(self.altered) and _digest(dump(desired), self.stored) == self.altered


@dataclass(frozen=True, slots=True)
class Work:
    """What would be written now. ``trouble``: what an event is to say with it."""

    uid: str
    desired: Object
    due: Due
    trouble: Callable[[], Finding | None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What statuses should be, from views that are built on demand."""

    model_view: Callable[[ModelKey], ModelView | None]
    service_view: Callable[[ServiceKey], ServiceView | None]
    cluster_domain: str
    clock: Callable[[], float]
    now: Callable[[], datetime]

    def of(self, target: Target, entry: Entry) -> Work | None:
        """What is to be written of an object, or None when it is gone or equal to what is stored."""
        subject, namespace, name = target
        previous = unpack(entry.stored)
        needs_attention: Callable[[], Finding | None]
        if subject is Subject.MODEL:
            model = self.model_view(ModelKey(namespace, name))
            if model is None:
                return None
            uid = model.spec.uid
            previous = previous if uid == entry.uid else {}
            desired = model_status(model, previous, self.now(), self.cluster_domain)
            needs_attention = partial(trouble, model)
        else:
            service = self.service_view(ServiceKey(namespace, name))
            if service is None:
                return None
            uid = service.spec.uid
            previous = previous if uid == entry.uid else {}
            desired = service_status(service, previous, self.now(), self.cluster_domain)
            needs_attention = partial(service_trouble, service)
        if uid != entry.uid:
            entry.begin(uid)
        entry.uid = uid  # the state's own string, so that it is kept only once
        if desired == previous or entry.came_of(desired):
            entry.ledger.differs_since = None
            entry.queued = None
            return None
        when = due(previous, desired, entry.ledger, QUIET_SECONDS[subject], self.clock())
        return Work(uid, desired, when, needs_attention)


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
