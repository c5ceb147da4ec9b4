"""What only ``hf://`` promises, held by a double of the hub's API (``hub.py``); the hub itself is not part of it."""

import zipfile
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path

import pytest
import pytest_asyncio

from .conftest import running
from .hub import GATED, LARGE, PRIVATE, REPOSITORY, STRANGER, TOKEN, Hub
from .pods import Pod

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[..., Pod]
WEIGHTS = b"w" * (LARGE + 1)


@pytest_asyncio.fixture(loop_scope="session")
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running(Hub(tmp_path / "hub")) as made:
        yield made


async def test_a_repository_of_which_large_files_are_elsewhere(hub: Hub, new_pod: NewPod) -> None:
    """The token is the hub's: no other host gets it."""
    for name, content in {"config.json": b"{}", "model.bin": WEIGHTS, ".gitattributes": b"*.bin lfs"}.items():
        hub.put(name, content)
    pod = hub.admit(new_pod())
    assert await pod.pull(f"hf://{REPOSITORY}") == {"config.json": b"{}", "model.bin": WEIGHTS}
    assert hub.beyond == [None]


async def test_what_is_not_of_its_digest_never_becomes_an_artifact(hub: Hub, new_pod: NewPod) -> None:
    hub.put("model.bin", WEIGHTS)
    pod = hub.admit(new_pod())
    hub.lie = b"x"
    error = await pod.refused(f"hf://{REPOSITORY}")
    assert (error.reason, "sha256 digest" in error.message) == ("ArtifactChanged", True)
    hub.lie = None
    assert await pod.pull(f"hf://{REPOSITORY}") == {"model.bin": WEIGHTS}


async def test_revisions(hub: Hub, new_pod: NewPod) -> None:
    hub.put("m", b"first")
    commit = hub.tag("v1.0")
    hub.put("m", b"second")
    pod = hub.admit(new_pod())
    assert await pod.pull(f"hf://{REPOSITORY}:v1.0") == {"m": b"first"}
    assert await pod.pull(f"hf://{REPOSITORY}:{commit}") == {"m": b"first"}
    assert await pod.pull(f"hf://{REPOSITORY}:main/m") == {"m": b"second"}
    error = await pod.refused(f"hf://{REPOSITORY}:v2")
    assert (error.reason, "no revision 'v2'" in error.message) == ("ArtifactNotFound", True)


async def test_a_branch_that_moves_is_another_content_and_one_that_changes_nothing_is_not(
    hub: Hub, new_pod: NewPod
) -> None:
    """As ``shoal.dev/artifact-check`` asks."""
    hub.put("a/m", b"first")
    pod = hub.admit(new_pod())
    before = (await pod.cache.look(hub.uri("a"))).revision
    hub.put("b/m", b"another model's")
    assert (await pod.cache.look(hub.uri("a"))).revision == before
    hub.put("a/m", b"again")
    assert (await pod.cache.look(hub.uri("a"))).revision != before


async def test_equal_files_of_two_repositories_are_on_disk_once(hub: Hub, new_pod: NewPod) -> None:
    for repository in (REPOSITORY, PRIVATE):
        hub.put("m", WEIGHTS, repository)
    pod = hub.admit(new_pod())
    for repository in (REPOSITORY, PRIVATE):
        assert await pod.pull(f"hf://{repository}") == {"m": WEIGHTS}
    assert (len(pod.cache.keys()), len(hub.beyond)) == (1, 1)


@pytest.mark.parametrize(
    ("repository", "token", "said"),
    [
        (GATED, "", f"StorageAccessDenied: /{GATED}. Add a Secret"),
        (GATED, STRANGER, "StorageAccessDenied: Ask for it at"),
        (PRIVATE, "", "RepositoryNotFound: under HF_TOKEN"),
        (PRIVATE, STRANGER, "RepositoryNotFound: or it is private"),
        (REPOSITORY, "hf_old", "StorageCredentialsInvalid: Secret 'hub'"),
    ],
)
async def test_who_may_not_is_told_what_to_do(
    hub: Hub, new_pod: NewPod, repository: str, token: str, said: str
) -> None:
    hub.put("m", b"x", repository)
    pod = new_pod().secret("hub", {"HF_ENDPOINT": hub.endpoint} | ({"HF_TOKEN": token} if token else {}))
    error = await pod.refused(f"hf://{repository}")
    reason, _, words = said.partition(": ")
    assert (error.reason, words in error.message) == (reason, True), error.message
    assert "hf_old" not in error.message
    assert await hub.admit(pod, name="hub").pull(f"hf://{repository}") == {"m": b"x"}


async def test_endpoint_and_token_of_the_servers_environment(hub: Hub, new_pod: NewPod) -> None:
    hub.put("m", b"x", PRIVATE)
    pod = new_pod({"HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.endpoint})
    assert await pod.pull(f"hf://{PRIVATE}") == {"m": b"x"}


async def test_a_hub_that_wants_to_be_left_alone_is(hub: Hub, new_pod: NewPod) -> None:
    hub.put("m", b"x")
    hub.busy = {"Retry-After": "70"}
    pod = hub.admit(new_pod())
    error = await pod.refused(f"hf://{REPOSITORY}")
    assert (error.reason, error.after, "asked too often" in error.message) == ("StorageUnavailable", 70.0, True)
    asked = hub.asked.total()
    for number in range(20):
        assert (await pod.refused(f"hf://shoal/{number}")).after > 60
    assert hub.asked.total() == asked


async def test_an_archive_alone_in_its_folder_is_unpacked(hub: Hub, new_pod: NewPod) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model.joblib", b"abc")
    hub.put("a/m.zip", packed.getvalue())
    assert await hub.admit(new_pod()).pull(hub.uri("a")) == {"model.joblib": b"abc"}


async def test_an_address_that_is_nobodys_business_is_not_asked(hub: Hub, new_pod: NewPod) -> None:
    """Whoever may write a Secret or an annotation names an endpoint."""
    pod = new_pod(here=False).secret("hub", {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN})
    error = await pod.refused(f"hf://{REPOSITORY}")
    assert (error.reason, hub.asked.total()) == ("StorageAccessDenied", 0)


async def test_what_is_no_hub_is_said(hub: Hub, new_pod: NewPod) -> None:
    pod = new_pod().secret("hub", {"HF_ENDPOINT": f"{hub.endpoint}/elsewhere", "HF_TOKEN": TOKEN})
    error = await pod.refused(f"hf://{REPOSITORY}")
    assert (error.reason, "no files at" in error.message) == ("ArtifactNotFound", True)
