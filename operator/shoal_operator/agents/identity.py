"""Whose token it is: what a TokenReview's answer says, and whether a request may speak for its pod. Pure."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shoal_api.messages import SyncRequest

POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT = "system:serviceaccount:"


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


def expiry(token: str) -> float | None:
    """``exp`` of a JSON Web Token in seconds since 1970, None when it has none.

    The signature is not looked at: ask only after the API server has.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        exp = payload.get("exp")
    except (binascii.Error, ValueError, AttributeError, RecursionError):
        return None
    return float(exp) if isinstance(exp, int | float) and not isinstance(exp, bool) else None


def _only(values: Sequence[str] | None) -> str:
    return values[0] if values and len(values) == 1 else ""
