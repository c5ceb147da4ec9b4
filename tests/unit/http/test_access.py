"""Who may read of a namespace's models: nobody because he can reach the port."""

import asyncio
from typing import Any

import pytest
from shoal_operator.http.access import MAX_REMEMBERED, MAX_REVIEWS, MAX_REVIEWS_OF_ONE, Access, Reader
from shoal_operator.kube import KubeError

POD = "10.244.0.9"
API_SERVER = "192.0.2.1"


class Cluster:
    """The API server: users by token, and in which namespaces each may list TrainedModels."""

    def __init__(self) -> None:
        self.users = {"of-ann": "ann", "of-bob": "bob"}
        self.may = {("ann", "team")}
        self.asked: list[str] = []
        self.away = False
        self.slow: asyncio.Event | None = None

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        kind = path.rpartition("/")[2]
        self.asked.append(kind)
        if self.slow is not None:
            await self.slow.wait()
        if self.away:
            raise KubeError(0, "Unreachable", "no answer")
        if kind == "kubernetes":
            return {"endpoints": [{"addresses": [API_SERVER, "2001:db8::1"]}]}
        if kind == "tokenreviews":
            user = self.users.get(body["spec"]["token"])
            return {"status": {"authenticated": user is not None, "user": {"username": user, "groups": ["g"]}}}
        attributes = body["spec"]["resourceAttributes"]
        assert (attributes["verb"], attributes["group"], attributes["resource"]) == (
            "list",
            "serving.kserve.io",
            "trainedmodels",
        )
        return {"status": {"allowed": (body["spec"]["user"], attributes["namespace"]) in self.may}}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def access(cluster: Cluster, clock: list[float]) -> Access:
    return Access(cluster, lambda: clock[0], 8444)


async def status(access: Access, reader: Reader, namespace: str = "team") -> int:
    refused = await access.refusal(reader, namespace)
    return 200 if refused is None else refused.status


@pytest.mark.parametrize(
    ("reader", "namespace", "expected"),
    [
        (Reader("127.0.0.1"), "team", 200),  # kubectl port-forward
        (Reader("::1"), "other", 200),
        (Reader("::ffff:127.0.0.1"), "team", 200),
        (Reader(API_SERVER), "team", 200),  # its proxy
        (Reader(f"::ffff:{API_SERVER}"), "team", 200),
        (Reader("2001:db8:0::1"), "team", 200),
        (Reader(POD), "team", 401),
        (Reader(""), "team", 401),
        (Reader(POD, True, "of-ann"), "team", 200),
        (Reader(POD, True, "of-ann"), "other", 403),
        (Reader(POD, True, "of-bob"), "team", 403),
        (Reader(POD, True, "made-up"), "team", 401),
        (Reader(POD, False, "of-ann"), "team", 403),  # in clear
        (Reader(POD, True, "x" * 20_000), "team", 401),
        (Reader(POD, True, "tok\udcff"), "team", 401),  # as an HTTP server reads other bytes
        (Reader(API_SERVER, True, "of-bob"), "team", 403),  # who shows a token is judged by it
    ],
)
async def test_who_may_read(access: Access, reader: Reader, namespace: str, expected: int) -> None:
    assert await status(access, reader, namespace) == expected


async def test_an_answer_is_believed_for_a_while_and_for_its_namespace_only(
    access: Access, cluster: Cluster, clock: list[float]
) -> None:
    reader = Reader(POD, True, "of-ann")
    assert [await status(access, reader) for _ in range(3)] == [200] * 3
    assert cluster.asked == ["tokenreviews", "subjectaccessreviews"]
    assert await status(access, reader, "other") == 403
    cluster.may.clear()
    assert await status(access, reader) == 200
    clock[0] = 15.1
    assert await status(access, reader) == 403


async def test_nobody_reads_while_the_api_server_is_away(access: Access, cluster: Cluster) -> None:
    cluster.away = True
    assert await status(access, Reader(POD, True, "of-ann")) == 503
    assert await status(access, Reader(API_SERVER)) == 401
    cluster.away = False
    assert await status(access, Reader(POD, True, "of-ann")) == 200


async def test_made_up_tokens_of_one_address_leave_room_for_others(access: Access, cluster: Cluster) -> None:
    cluster.slow = asyncio.Event()
    flood = [asyncio.create_task(status(access, Reader(POD, True, f"made-up-{number}"))) for number in range(50)]
    good = asyncio.create_task(status(access, Reader("10.244.0.10", True, "of-ann")))
    await asyncio.sleep(0)
    assert len(cluster.asked) <= MAX_REVIEWS_OF_ONE + 1
    cluster.slow.set()
    assert await good == 200
    assert sorted(await asyncio.gather(*flood)) == [401] * MAX_REVIEWS_OF_ONE + [429] * (50 - MAX_REVIEWS_OF_ONE)


async def test_reviews_and_what_is_remembered_are_bounded(access: Access, cluster: Cluster) -> None:
    cluster.slow = asyncio.Event()
    readers = [Reader(f"10.0.{number // 250}.{number % 250}", True, f"t{number}") for number in range(100)]
    flood = [asyncio.create_task(status(access, reader)) for reader in readers]
    await asyncio.sleep(0)
    assert len(cluster.asked) == MAX_REVIEWS
    cluster.slow.set()
    await asyncio.gather(*flood)
    for number in range(MAX_REMEMBERED + 50):
        await status(access, Reader(POD, True, f"made-up-{number}"))
    assert len(access._remembered) == MAX_REMEMBERED
