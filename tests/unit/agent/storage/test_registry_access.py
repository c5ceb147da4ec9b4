"""Docker configurations of Secrets: what an entry is for, and what is made of it."""

import base64
import json
from pathlib import Path

import pytest
from shoal_agent.storage import StorageError
from shoal_agent.storage.registry_access import NOBODY, RegistryAccess, accesses, candidates
from shoal_agent.storage.registry_errors import Asked, of_status

NO_TEXT = '{"auths": {"q.io": {"username": "\\ud800", "password": "p"}}}'


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def read(folder: Path, **secrets: object) -> list[RegistryAccess]:
    """``secrets``: content of the key, by the Secret's name."""
    for name, content in secrets.items():
        (folder / "secrets" / name).mkdir(parents=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "secrets" / name / ".dockerconfigjson").write_text(text)
    listed = [{"name": name} for name in (*secrets, "missing")]
    (folder / "storage.json").write_text(json.dumps({"version": 1, "secrets": listed}))
    return accesses(folder / "storage.json", folder / "secrets")


@pytest.mark.parametrize(
    ("entry", "host", "repository", "for_it"),
    [
        ("q.io", "q.io", "a/b", True),
        ("https://Q.io/v2/", "q.io", "a/b", True),
        ("q.io:5000", "q.io", "a/b", False),
        ("q.io/a", "q.io", "a/b", True),
        ("q.io/a", "q.io", "ab/c", False),
        ("*.q.io", "eu.q.io", "a", True),
        ("*.q.io", "q.io", "a", False),
        ("*.q.io", "a.eu.q.io", "a", False),
        ("https://index.docker.io/v1/", "docker.io", "library/a", True),
        ("evil.io", "q.io", "a", False),
        ("", "q.io", "a", False),
    ],
)
def test_what_an_entry_is_for(tmp_path: Path, entry: str, host: str, repository: str, for_it: bool) -> None:
    known = read(tmp_path, one={"auths": {entry: auth("user:word")}})
    assert candidates(known, host, repository) == (known if for_it else [NOBODY])


def test_the_most_exact_entry_is_tried_first(tmp_path: Path) -> None:
    known = read(tmp_path, one={"auths": {"q.io": auth("all:1"), "q.io/a": auth("a:2"), "q.io/a/b": auth("b:3")}})
    assert [access.user for access in candidates(known, "q.io", "a/b")] == ["b", "a", "all"]


def test_what_is_made_of_an_entry(tmp_path: Path) -> None:
    entries = {"a": auth("user:w:ord"), "b": {"username": "u", "password": "p"}, "c": {"identitytoken": "hidden"}}
    known = read(tmp_path, one={"auths": entries})
    assert [access.basic for access in known[:2]] == [
        "Basic " + base64.b64encode(text).decode() for text in (b"user:w:ord", b"u:p")
    ]
    assert (known[2].refresh, known[2].basic, known[2].anonymous) == ("hidden", "", False)
    assert "hidden" not in repr(known)


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        '{"auths": []}',
        {"auths": {"q.io": {"auth": "%"}}},
        {"auths": {"q.io": auth("a:\r\n")}},
        NO_TEXT,
    ],
)
def test_one_that_is_none_is_said_and_keeps_no_other_from_being_used(tmp_path: Path, content: object) -> None:
    with pytest.raises(StorageError) as caught:
        read(tmp_path, wrong=content)
    assert (caught.value.reason, "Secret 'wrong'" in caught.value.message) == ("StorageCredentialsInvalid", True)
    assert len(read(tmp_path / "both", wrong=content, right={"auths": {"q.io": auth("a:b")}})) == 1


@pytest.mark.parametrize(
    ("status", "code", "anonymous", "reason"),
    [
        (401, "UNAUTHORIZED", False, "StorageCredentialsInvalid"),
        (401, "UNAUTHORIZED", True, "StorageAccessDenied"),
        (403, "DENIED", False, "StorageAccessDenied"),
        (404, "NAME_UNKNOWN", False, "RepositoryNotFound"),
        (404, "MANIFEST_UNKNOWN", False, "ArtifactNotFound"),
        (429, "TOOMANYREQUESTS", True, "StorageUnavailable"),
        (503, "", False, "StorageUnavailable"),
        (418, "", False, "StorageUnreachable"),
    ],
)
def test_every_answer_has_a_reason(status: int, code: str, anonymous: bool, reason: str) -> None:
    error = of_status(status, code, 0.0, "https://q.io/v2/a", Asked("oci://q.io/a", "a", "Secret 's'", anonymous))
    assert (error.reason, "oci://q.io/a" in error.message) == (reason, True)
    assert (error.after > 0) == (status == 429)
