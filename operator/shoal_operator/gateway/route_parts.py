"""Single routes in Envoy's words: what is matched, and what is done with it. Pure.

Every route of ours carries metadata that it was found by: ``lua/resolve.lua`` knows by it that there is none.
"""

from typing import Final

from . import replies
from . import vocabulary as words
from .envoy_json import Json, set_header

FOUND: Final[Json] = {"filter_metadata": {words.RESOLVE_FILTER: {"found": True}}}


def route(match: Json, action: Json) -> Json:
    return {"match": match, "metadata": FOUND, **action}


def forward(cluster: str, limits: Json | None = None) -> Json:
    return {"route": {"cluster": cluster, **(limits or {})}}


def reply(status: int, said: tuple[str, str]) -> Json:
    """``said``: reason and text."""
    return {
        "direct_response": {"status": status, "body_format": replies.error_body(*said)},
        **_retry_after(status),
    }


def reply_grpc(status: int, said: tuple[str, str]) -> Json:
    """Envoy turns it into a trailers-only answer: the text is grpc-message; 503 is UNAVAILABLE."""
    return {
        "direct_response": {"status": status, "body_format": replies.text_body(replies.grpc_text(*said))},
        **_retry_after(status),
    }


def reply_json(status: int, body: Json) -> Json:
    return {"direct_response": {"status": status, "body_format": {"json_format": body}}}


def allowed(status: int, said: tuple[str, str] | None = None) -> Json:
    """200 without a body, or the refusal, and the methods that there are."""
    said_so = reply(status, said) if said is not None else {"direct_response": {"status": status}}
    return {**said_so, "response_headers_to_add": [set_header("allow", replies.METHODS)]}


def _retry_after(status: int) -> Json:
    if status != 503:
        return {}
    return {"response_headers_to_add": [set_header("retry-after", str(replies.RETRY_AFTER_SECONDS))]}
