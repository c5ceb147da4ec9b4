"""What the operator asks first, of an API server that is not quite ready."""

import resource
from typing import Any

import pytest
from shoal_operator import startup
from shoal_operator.kube import KubeError


class Api:
    """Answers by path, after refusing ``refusals`` times."""

    def __init__(self, answers: dict[str, Any], refusals: int = 0) -> None:
        self.answers = answers
        self.refusals = refusals
        self.asked: list[str] = []

    async def request(self, method: str, path: str, **_: Any) -> dict[str, Any]:
        self.asked.append(path)
        if self.refusals:
            self.refusals -= 1
            raise KubeError(429, "TooManyRequests", "storage is (re)initializing", 1.0)
        if path not in self.answers:
            raise KubeError(404, "NotFound", path)
        answer: dict[str, Any] = self.answers[path]
        return answer


CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceservices.serving.kserve.io"


async def test_an_api_server_that_still_starts_is_asked_again() -> None:
    api = Api({CRD: {"metadata": {"labels": {"app.kubernetes.io/managed-by": "shoal"}}}}, refusals=2)
    assert not await startup.definitions_are_foreign(api)
    assert len(api.asked) == 3


async def test_kserves_definitions_are_known_as_such() -> None:
    assert await startup.definitions_are_foreign(Api({CRD: {"metadata": {"labels": {}}}}))


@pytest.mark.parametrize(
    ("foreign", "said", "kserves"),
    [
        (True, "auto", True),
        (False, "auto", False),
        (True, "all", False),
        (False, "modelmesh", True),
    ],
)
def test_whose_inference_services_are_served(foreign: bool, said: str, kserves: bool) -> None:
    assert startup.kserves(foreign, said) is kserves


async def test_definitions_that_change_hands_begin_all_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "LOOK_SECONDS", 0.0)
    api = Api({CRD: {"metadata": {"labels": {}}}}, refusals=3)
    with pytest.raises(startup.DefinitionsChanged, match="have come"):
        await startup.until_definitions_change(api, foreign=False)
    assert len(api.asked) == 4, "an API server that refuses says nothing about them"


async def test_without_definitions_it_does_not_start() -> None:
    with pytest.raises(KubeError):
        await startup.definitions_are_foreign(Api({}))


async def test_outside_a_cluster_nobody_owns_the_secrets() -> None:
    assert await startup.own_deployment(Api({}), "shoal-system", "shoal-operator") is None


def test_as_many_files_as_agents_need_and_never_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    infinity = resource.RLIM_INFINITY
    for limits, expected in [
        ((1024, 524_288), (startup.FILES, 524_288)),
        ((1024, 4096), (4096, 4096)),
        ((1024, infinity), (startup.FILES, infinity)),
        ((1_048_576, 1_048_576), None),
        ((infinity, infinity), None),
    ]:
        wanted: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _, now=limits: now)
        monkeypatch.setattr(resource, "setrlimit", lambda _, limit, said=wanted: said.append(limit))
        startup.allow_files()
        assert wanted == ([expected] if expected else [])
