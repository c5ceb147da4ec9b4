"""Who may read what the operator knows of a namespace's models: URIs, pods, causes.

- Somebody on loopback: he came by ``kubectl port-forward``, which the API server authorised.
- The API server itself: somebody came through its proxy (``services/proxy``), which it authorised; it hands on no
  token. Its addresses are those of the Service ``default/kubernetes``.
- A bearer token that may ``list`` TrainedModels in that namespace (TokenReview, SubjectAccessReview), over TLS only.

Everybody else, other tenants' pods among them, is told how to ask. Reviews are bounded: so many at a time, of them so
many for one address, and an answer is believed for some seconds.
"""

import hashlib
import ipaddress
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shoal_api.names import GROUP

from shoal_operator.kube import KubeApi
from shoal_operator.state.world.values import Problem

log = logging.getLogger(__name__)

MAX_TOKEN_LENGTH = 16 * 1024
MAX_REVIEWS, MAX_REVIEWS_OF_ONE = 8, 2
MAX_REMEMBERED = 1024
BELIEVED_SECONDS = 15.0
ADDRESSES_SECONDS = 30.0

_ENDPOINTS = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
_TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_HOW = (
    "Ask through the API server (kubectl get --raw "
    "/api/v1/namespaces/<the operator's>/services/shoal-operator:http/proxy/<path>), by kubectl port-forward, or over "
    "TLS on port {port} with a bearer token that may list trainedmodels in the namespace."
)

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: ``peer`` is the address of the connection; ``token`` empty: none was sent."""

    peer: str
    encrypted: bool = False
    token: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """An HTTP status and what is said with it."""

    status: int
    problem: Problem


class Access:
    """``refusal`` is None for who may read."""

    def __init__(self, api: KubeApi, clock: Callable[[], float], tls_port: int) -> None:
        self._api = api
        self._clock = clock
        self._how = _HOW.format(port=tls_port)
        self._remembered: OrderedDict[tuple[bytes, str], tuple[float, Refused | None]] = OrderedDict()
        self._reviewing: Counter[str] = Counter()
        self._addresses: frozenset[str] = frozenset()
        self._addresses_until = float("-inf")

    async def refusal(self, reader: Reader, namespace: str) -> Refused | None:
        """Why ``reader`` may not read of that namespace's models."""
        peer = _plain(reader.peer)
        if peer is not None and peer.is_loopback:
            return None
        if not reader.token:
            if peer is not None and str(peer) in await self._api_servers():
                return None
            return Refused(401, Problem("Unauthorized", f"Who asks is not known. {self._how}"))
        if not reader.encrypted:
            return Refused(403, Problem("TokenInClear", f"A token is taken over TLS only. {self._how}"))
        if len(reader.token) > MAX_TOKEN_LENGTH or not reader.token.isascii():
            text = f"A token has at most {MAX_TOKEN_LENGTH} characters, all of them ASCII."
            return Refused(401, Problem("Unauthorized", text))
        return await self._reviewed(reader, namespace)

    async def _reviewed(self, reader: Reader, namespace: str) -> Refused | None:
        key = (hashlib.sha256(reader.token.encode()).digest(), namespace)
        known = self._remembered.get(key)
        if known is not None and self._clock() < known[0]:
            return known[1]
        if self._reviewing.total() >= MAX_REVIEWS or self._reviewing[reader.peer] >= MAX_REVIEWS_OF_ONE:
            return Refused(429, Problem("TooManyReviews", "Too many tokens are being reviewed; ask again in a second."))
        self._reviewing[reader.peer] += 1
        try:
            found = await self._review(reader.token, namespace)
        except Exception as error:  # whatever the API server does: nobody reads on the strength of a failure
            log.warning("a reader was not reviewed", extra={"event": "ReviewFailed", "cause": type(error).__name__})
            return Refused(503, Problem("ReviewUnavailable", "The API server could not be asked; ask again later."))
        finally:
            self._reviewing[reader.peer] -= 1
            self._reviewing += Counter()  # drops who is at zero
        self._remembered[key] = (self._clock() + BELIEVED_SECONDS, found)
        self._remembered.move_to_end(key)
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    async def _review(self, token: str, namespace: str) -> Refused | None:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status: Object = (await self._api.request("POST", _TOKEN_REVIEWS, body=review)).get("status") or {}
        if not status.get("authenticated"):
            return Refused(401, Problem("Unauthorized", f"The API server does not know the token. {self._how}"))
        user: Object = status.get("user") or {}
        asked = {"verb": "list", "group": GROUP, "resource": "trainedmodels", "namespace": namespace}
        subject = {"user": user.get("username"), "groups": user.get("groups") or [], "uid": user.get("uid", "")}
        spec = {**subject, "extra": user.get("extra") or {}, "resourceAttributes": asked}
        access = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer: Object = (await self._api.request("POST", _ACCESS_REVIEWS, body=access)).get("status") or {}
        if answer.get("allowed"):
            return None
        who = str(user.get("username"))[:200]
        text = f"{who} may not list trainedmodels.{GROUP} in namespace {namespace}: a Role with that verb is needed."
        return Refused(403, Problem("Forbidden", text))

    async def _api_servers(self) -> frozenset[str]:
        if self._clock() >= self._addresses_until:
            try:
                slices = await self._api.request("GET", _ENDPOINTS)
            except Exception as error:  # those known before stay
                log.warning(
                    "addresses of the API server are not known",
                    extra={"event": "EndpointsUnknown", "cause": type(error).__name__},
                )
            else:
                found = [address for each in slices.get("endpoints") or [] for address in each.get("addresses") or []]
                self._addresses = frozenset(str(plain) for each in found if (plain := _plain(each)) is not None)
            self._addresses_until = self._clock() + ADDRESSES_SECONDS
        return self._addresses


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as one writes it; an IPv4 one that came over an IPv6 socket is that IPv4 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
