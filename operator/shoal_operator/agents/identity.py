"""Whose token it is: what a TokenReview's answer says, and whether a request may speak for its pod. Pure."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from shoal_api.messages import SyncRequest

POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT = "system:serviceaccount:"
MAX_CLAIM_LENGTH = 512
CLOCK_SECONDS = 300.0
"""How far our clock may be behind the API server's."""


class Refused(Exception):
    """The caller may not do this. ``reason`` is CamelCase and stable; the text says what to do next."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class ReviewUnavailable(Exception):
    """The API server could not be asked: nothing is known about the token."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """The pod that a projected service-account token is bound to."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class ReviewedToken:
    """``TokenReview.status`` of authentication.k8s.io/v1, only what is read here."""

    authenticated: bool
    username: str = ""
    audiences: Sequence[str] = ()
    extra: Mapping[str, Sequence[str]] | None = None
    error: str = ""


def identify(reviewed: ReviewedToken, audience: str) -> AgentIdentity:
    """The pod behind a reviewed token. Raises Refused (401) when there is none."""
    if not reviewed.authenticated:
        raise Refused(
            401,
            "TokenInvalid",
            "the API server does not accept this token (expired, or its pod is gone): send the pod's current "
            "projected token",
        )
    if audience not in reviewed.audiences:
        raise Refused(401, "TokenAudience", f"the token is not for audience {audience!r}: project one that is")
    namespace, separator, account = reviewed.username.removeprefix(_SERVICE_ACCOUNT).partition(":")
    if not reviewed.username.startswith(_SERVICE_ACCOUNT) or not separator:
        raise Refused(401, "TokenNotOfAServiceAccount", "the token is not a service account's: project one")
    extra = reviewed.extra or {}
    pod, uid = _only(extra.get(POD_NAME)), _only(extra.get(POD_UID))
    if not pod or not uid:
        raise Refused(
            401, "TokenNotOfAPod", "the token is bound to no pod: send the one that is projected into the pod"
        )
    return AgentIdentity(namespace, account, pod, uid)


def check(identity: AgentIdentity, request: SyncRequest) -> None:
    """A token speaks for its own pod. Raises Refused (403) when the request is about another."""
    claimed = (request.namespace, request.pod, request.pod_uid)
    if claimed != (identity.namespace, identity.pod, identity.pod_uid):
        raise Refused(
            403,
            "AnotherPodsToken",
            f"the token is that of pod {identity.namespace}/{identity.pod} (uid {identity.pod_uid}), the request is "
            f"about {claimed[0][:63]}/{claimed[1][:253]} (uid {claimed[2][:64]}): a pod speaks for itself only",
        )


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of itself, before anybody has looked at its signature. ``expires``: seconds since 1970."""

    namespace: str
    pod: str
    pod_uid: str
    expires: float


def claims(token: str, audience: str, now: float) -> Claims:
    """What a projected service-account token for ``audience`` says. Raises Refused (401) for anything else.

    Costs no question: a token that does not even claim to be a pod's, for us and for now, is not worth one. What it
    claims is believed only after the API server has looked at it.
    """
    payload = _payload(token)
    issuer, audiences = payload.get("iss"), payload.get("aud")
    bound = payload.get("kubernetes.io")
    if not isinstance(issuer, str) or not 0 < len(issuer) <= MAX_CLAIM_LENGTH or not isinstance(bound, dict):
        raise Refused(401, "TokenInvalid", "the token is not one that Kubernetes projects into pods: send that")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise Refused(401, "TokenAudience", f"the token is not for audience {audience!r}: project one that is")
    expires, begins = payload.get("exp"), payload.get("nbf", 0)
    if not _is_time(expires) or not _is_time(begins) or begins > now + CLOCK_SECONDS:
        raise Refused(401, "TokenInvalid", "the token does not say from when until when it is good")
    if expires <= now:
        raise Refused(401, "TokenExpired", "the token has expired: send the pod's current projected token")
    namespace, pod, account = bound.get("namespace"), bound.get("pod"), bound.get("serviceaccount")
    subject = f"{_SERVICE_ACCOUNT}{namespace}:{account.get('name')}" if isinstance(account, dict) else None
    if not isinstance(namespace, str) or not namespace or subject is None or payload.get("sub") != subject:
        raise Refused(401, "TokenNotOfAServiceAccount", "the token is not a service account's: project one")
    name, uid = (pod.get("name"), pod.get("uid")) if isinstance(pod, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(uid, str) or not 0 < len(name) < 254 or not 0 < len(uid) < 254:
        raise Refused(
            401, "TokenNotOfAPod", "the token is bound to no pod: send the one that is projected into the pod"
        )
    return Claims(namespace, name, uid, float(expires))


def _payload(token: str) -> dict[str, Any]:
    parts = token.split(".")
    try:
        if len(parts) != 3:
            raise ValueError("not three parts")
        header, payload, signature = (
            base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True) for part in parts
        )
        known, said = json.loads(header), json.loads(payload)
        if not isinstance(known, dict) or not isinstance(said, dict) or not signature:
            raise ValueError("not objects")
    except (binascii.Error, ValueError, RecursionError):
        raise Refused(
            401, "TokenInvalid", "the token is no JSON Web Token: send the one that is projected into the pod"
        ) from None
    return said


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def _only(values: Sequence[str] | None) -> str:
    return values[0] if values and len(values) == 1 else ""
