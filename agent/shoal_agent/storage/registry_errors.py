"""What a registry answers that gives nothing, as reasons that stay and messages with what to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from . import (
    ARTIFACT_NOT_FOUND,
    REPOSITORY_NOT_FOUND,
    STORAGE_ACCESS_DENIED,
    STORAGE_CREDENTIALS_INVALID,
    STORAGE_UNAVAILABLE,
    STORAGE_UNREACHABLE,
    StorageError,
)
from .web_client import Answer, WebClient, shown

_MAX_ERROR: Final = 64 * 1024
LEFT_ALONE: Final = 30.0
"""Seconds, where a registry says that it is asked too often and not for how long."""
_GIVE: Final = (
    "Add a Secret with a Docker configuration for it (kubectl create secret docker-registry) to the secrets or "
    "imagePullSecrets of the predictor's service account."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, and with what."""

    uri: str
    repository: str
    origin: str
    anonymous: bool


async def explain(client: WebClient, answer: Answer, asked: Asked) -> StorageError:
    """The StorageError of an answer."""
    try:
        code = _code(await client.json(answer, _MAX_ERROR))
    except StorageError:
        code = ""
    return of_status(answer.status, code, answer.after, f"{shown(answer.url)}", asked)


def of_status(status: int, code: str, after: float, url: str, asked: Asked) -> StorageError:
    """The same of its status, and of the code in its body. Pure."""
    who = f"{url} answered {status} {code}".rstrip() + f" for {asked.uri} (asked with {asked.origin})"
    if status == 429 or code == "TOOMANYREQUESTS":
        return StorageError(
            STORAGE_UNAVAILABLE, f"{who}: it is asked too often. It is asked again later.", after=after or LEFT_ALONE
        )
    if status >= 500:
        return StorageError(STORAGE_UNAVAILABLE, f"{who}. It is tried again.", after=after)
    if status == 401 and not asked.anonymous:
        return StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"{who}: its credentials are not accepted. Correct them; a corrected Secret is noticed.",
        )
    if status in (401, 403):
        return StorageError(STORAGE_ACCESS_DENIED, f"{who}: it is not there, or not to be read so. {_GIVE}")
    if status == 404 and code == "NAME_UNKNOWN":
        return StorageError(
            REPOSITORY_NOT_FOUND,
            f"{who}: there is no repository {asked.repository!r}. Push the model there, or correct storageUri; it is "
            "looked for again.",
        )
    if status in (404, 410):
        return StorageError(
            ARTIFACT_NOT_FOUND, f"{who}. Push the model, or correct storageUri; it is looked for again."
        )
    return StorageError(STORAGE_UNREACHABLE, f"{who}, which is no answer of a registry.")


def _code(content: Any) -> str:
    errors = content.get("errors") if isinstance(content, Mapping) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, Mapping) else None
    return code[:64] if isinstance(code, str) and code.replace("_", "").isalnum() else ""
