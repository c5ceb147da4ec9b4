"""What a hub answers that gives nothing, as reasons that stay and messages with what to do. Pure."""

from dataclasses import dataclass
from typing import Final

from . import (
    ARTIFACT_NOT_FOUND,
    REPOSITORY_NOT_FOUND,
    STORAGE_ACCESS_DENIED,
    STORAGE_CREDENTIALS_INVALID,
    STORAGE_UNAVAILABLE,
    STORAGE_UNREACHABLE,
    StorageError,
)
from .web_client import Answer, shown

LEFT_ALONE: Final = 30.0
"""Seconds, where a hub says that it is asked too often and not for how long."""
_GIVE: Final = (
    "Add a Secret with a token of an account that may read it, under HF_TOKEN, to the predictor's service account."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, and with what."""

    repository: str
    revision: str
    endpoint: str
    origin: str
    token: bool

    @property
    def where(self) -> str:
        return f"hf://{self.repository}:{self.revision}"

    def nothing(self, path: str) -> StorageError:
        """Neither a file nor a folder."""
        what = f"no files at {self.where}"
        if path:
            what = f"no file hf://{self.repository}/{path} in revision {self.revision}, and nothing below it"
        return StorageError(
            ARTIFACT_NOT_FOUND,
            f"{self.endpoint} answered 404: {what} (asked with {self.origin}). Upload the artifact, or correct "
            "storageUri; it is looked for again.",
        )


def explain(answer: Answer, asked: Asked, path: str) -> StorageError:
    """The StorageError of an answer about a path of a repository; the hub names its errors in a header."""
    status, code = answer.status, answer.header("X-Error-Code")[:64]
    if not (code.isascii() and code.isalnum()):
        code = ""
    said = f"{shown(answer.url)} answered {status} {code}".rstrip()
    who = f"{said} (asked with {asked.origin})"
    if status == 429 or status >= 500:
        return _passing(answer, who)
    if code == "RevisionNotFound":
        return StorageError(
            ARTIFACT_NOT_FOUND,
            f"{who}: {asked.repository!r} has no revision {asked.revision!r}. Name a branch, a tag or a commit of it "
            "in storageUri; it is looked for again.",
        )
    if code in ("GatedRepo", "RepoNotFound") or status in (401, 403):
        return _not_for_us(status, code, who, asked)
    if status in (404, 410):
        return asked.nothing(path)
    return StorageError(STORAGE_UNREACHABLE, f"{who}, which is no answer of Hugging Face's hub.")


def _passing(answer: Answer, who: str) -> StorageError:
    if answer.status != 429:
        return StorageError(STORAGE_UNAVAILABLE, f"{who}. It is tried again.", after=answer.after)
    return StorageError(
        STORAGE_UNAVAILABLE,
        f"{who}: it is asked too often. It is asked again later; a token of one's own is allowed more.",
        after=answer.after or LEFT_ALONE,
    )


def _not_for_us(status: int, code: str, who: str, asked: Asked) -> StorageError:
    if code == "GatedRepo":
        return StorageError(
            STORAGE_ACCESS_DENIED,
            f"{who}: {asked.repository!r} is given to those only whom its owner lets have it. Ask for it at "
            f"{asked.endpoint}/{asked.repository}. {_GIVE}",
        )
    if code == "RepoNotFound" or (status == 401 and not asked.token):
        return StorageError(
            REPOSITORY_NOT_FOUND,
            f"{who}: there is no repository {asked.repository!r}, or it is private. Correct storageUri. For a private "
            f"one: {_GIVE[0].lower()}{_GIVE[1:]}",
        )
    if status == 401:
        return StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"{who}: its token is not accepted. Correct it; a corrected Secret is noticed.",
        )
    return StorageError(STORAGE_ACCESS_DENIED, f"{who}: {asked.repository!r} may not be read so. {_GIVE}")
