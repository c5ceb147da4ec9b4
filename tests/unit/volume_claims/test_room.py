"""The room among a world, an API that has claims, and whoever makes the pods; in virtual time."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from shoal_api.messages import CopyFailure, FailureStage
from shoal_operator.kube import KubeError
from shoal_operator.manifests.volume_claims import Declared, Noted
from shoal_operator.state.world.entities import Model
from shoal_operator.state.world.events import Event, Kind, Listed, ModelGone, ModelSeen, Reachable
from shoal_operator.state.world.values import Content, ModelKey, ServiceKey
from shoal_operator.volume_claims import reader, room
from shoal_operator.volume_claims.admission import Wishes
from shoal_operator.volume_claims.room import VolumeClaims

from tests.unit.containment.plant import play
from tests.unit.state.world_in_hand import model_spec
from tests.unit.status.model_views import view

SERVICE = ServiceKey("ns", "svc")
RUNNING = Noted(there=True, template="t", pods=1, works=True, rolled_out=True)


class Api:
    """Claims by namespace and name."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        self.trouble: KubeError | None = None

    def put(self, name: str, phase: str = "Bound", mode: str = "ReadWriteMany", **meta: Any) -> None:
        version = str(len(self.asked) + 1)
        self.claims["ns", name] = {
            "metadata": {"uid": name, "resourceVersion": version, **meta},
            "spec": {},
            "status": {"phase": phase, "accessModes": [mode]},
        }

    async def request(self, method: str, path: str, **_: Any) -> dict[str, Any]:
        *_, namespace, kind, name = path.split("/")
        assert (method, kind) == ("GET", "persistentvolumeclaims")
        self.asked[name] += 1
        if self.trouble is not None:
            raise self.trouble
        if (namespace, name) not in self.claims:
            raise KubeError(404, "NotFound", path)
        return self.claims[namespace, name]


class Scene:
    def __init__(self) -> None:
        self.api, self.models = Api(), dict[ModelKey, Model]()
        self.events: list[Event] = []
        self.told: Counter[str] = Counter()
        self.changed: Counter[ServiceKey] = Counter()
        loop = asyncio.get_running_loop()
        self.room = VolumeClaims(
            self.api, self._world, self.models.get, lambda key: self.told.update([key.name]), clock=loop.time
        ).connect(self._pods_change)
        self.noted = RUNNING

    def _world(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, ModelSeen):
            self.models[event.spec.key] = Model(event.spec)
        elif isinstance(event, ModelGone):
            self.models.pop(event.key, None)

    def _pods_change(self, service: ServiceKey) -> None:
        """The Deployment is as the room wants it; its pods are still to come."""
        self.changed[service] += 1
        claims = self.room.mounting(service, self.noted).claims(self.noted.template)
        if claims != self.noted.claims:
            self.rolled(replace(self.noted, claims=claims, works=False, rolled_out=False))

    def rolled(self, noted: Noted) -> None:
        self.noted = noted
        self.room.service_seen(SERVICE, Declared(), noted)

    def listed(self) -> None:
        for kind in (Kind.MODEL, Kind.SERVICE, Kind.POD):
            self.room.handle(Listed(kind))

    def apply(self, name: str, uri: str, service: str = "svc", **given: Any) -> None:
        self.room.handle(ModelSeen(model_spec(name, storage_uri=uri, service=service), **given))

    def delete(self, name: str) -> None:
        self.room.handle(ModelGone(ModelKey("ns", name), "uid"))

    def said(self, uri: str = "pvc://models/m") -> str:
        """Reason of a model on it that its agent could not find."""
        failure = CopyFailure(stage=FailureStage.STORAGE, reason="ClaimNotMounted", message="by the agent", attempts=1)
        seen = view(failure=failure)
        seen = replace(seen, spec=replace(seen.spec, namespace="ns", service="svc", storage_uri=uri))
        found = self.room.explained(seen).failure
        assert found is not None
        return found.reason

    def reachable(self) -> list[str]:
        return [key.name for event in self.events if isinstance(event, Reachable) for key in event.models]


@asynccontextmanager
async def scene(*, listed: bool = True) -> Any:
    made = Scene()
    task = asyncio.create_task(made.room.run())
    made.room.service_seen(SERVICE, Declared(), RUNNING)
    if listed:
        made.listed()
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_from_a_model_to_pods_that_mount_its_claim() -> None:
    async def story() -> None:
        async with scene() as s:
            s.apply("m", "pvc://models/m")
            assert s.said() == "MountingClaim"
            await asyncio.sleep(10)
            assert (s.said(), s.noted.claims, s.told["m"] > 0) == ("ClaimNotFound", (), True)
            s.api.put("models", "Pending")
            await asyncio.sleep(10)
            assert (s.said(), s.noted.claims) == ("ClaimNotBound", ())
            s.api.put("models")
            await asyncio.sleep(10)
            assert (s.said(), s.noted.claims) == ("MountingClaim", ("models",))
            assert s.reachable() == []
            s.rolled(replace(s.noted, works=True, rolled_out=True))
            assert (s.said(), s.reachable()) == ("ClaimNotMounted", ["m"]), "what its agent says, until it has tried"

    play(story)


def test_what_is_counted_is_who_lies_on_a_claim_also_by_what_worked_last() -> None:
    async def story() -> None:
        async with scene() as s:
            for claim in ("models", "more"):
                s.api.put(claim)
            s.apply("a", "pvc://models/a")
            s.apply("b", "pvc://models/b")
            await asyncio.sleep(10)
            s.apply("a", "pvc://more/a", last_good=None)
            s.models[ModelKey("ns", "a")].last_good = Content("pvc://models/a", "sklearn", "digest")
            s.room.handle(ModelSeen(s.models[ModelKey("ns", "a")].spec))
            await asyncio.sleep(100)
            assert s.noted.claims == ("models", "more")
            named = s.room._wishes[SERVICE].named
            assert {claim: [key.name for key in keys] for claim, keys in named.items()} == {
                "models": ["b"],
                "more": ["a"],
            }
            s.delete("b")
            s.apply("a", "s3://bucket/a")
            assert not named
            assert s.noted.claims == ("models", "more"), "nobody's pods are replaced for that"

    play(story)


def test_a_model_counts_while_its_inference_service_is_out_of_the_world() -> None:
    async def story() -> None:
        async with scene() as s:
            s.api.put("models")
            s.apply("m", "pvc://models/m")
            await asyncio.sleep(10)
            aside = s.models.pop(ModelKey("ns", "m"))
            s.room._world = s.events.append
            s.room.handle(ModelSeen(aside.spec))
            assert list(s.room._wishes[SERVICE].named) == ["models"]
            s.room.handle(ModelGone(ModelKey("ns", "m"), "uid-m"))
            assert not s.room._wishes[SERVICE].named

    play(story)


def test_a_model_that_moves_is_counted_where_it_is() -> None:
    async def story() -> None:
        async with scene() as s:
            s.api.put("models")
            s.apply("m", "pvc://models/m", service="elsewhere")
            await asyncio.sleep(100)
            assert not s.api.asked, "nobody looks for an InferenceService that is not there"
            s.apply("m", "pvc://models/m")
            await asyncio.sleep(100)
            assert s.noted.claims == ("models",)
            assert list(s.room._wishes) == [SERVICE]

    play(story)


def test_one_models_change_on_a_claim_that_is_mounted_makes_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        reviews = 0
        review = Wishes.review

        def counted(*arguments: Any, **given: Any) -> Any:
            nonlocal reviews
            reviews += 1
            return review(*arguments, **given)

        monkeypatch.setattr(Wishes, "review", counted)
        async with scene() as s:
            s.api.put("models")
            s.apply("first", "pvc://models/m")
            await asyncio.sleep(10)
            s.rolled(replace(s.noted, works=True, rolled_out=True))
            await asyncio.sleep(100)
            before = s.told.total(), s.changed.total(), reviews
            for number in range(500):
                s.apply(f"m{number}", f"pvc://models/{number}")
            s.delete("first")
            await asyncio.sleep(100)
            assert (s.told.total(), s.changed.total(), reviews) == before
            s.api.claims.clear()
            await asyncio.sleep(100)
            assert s.told["m499"] >= 1, "all of them, once their claim is another matter"

    play(story)


def test_many_models_of_a_claim_are_told_in_pages() -> None:
    async def story() -> None:
        async with scene() as s:
            for number in range(5 * room.PAGE):
                s.apply(f"m{number}", "pvc://models/m")
            s.api.put("models")
            await asyncio.sleep(10)
            s.events.clear()
            s.rolled(replace(s.noted, works=True, rolled_out=True))
            assert [len(each.models) for each in s.events if isinstance(each, Reachable)] == [room.PAGE]
            await asyncio.sleep(0.1)
            assert len(s.reachable()) == 5 * room.PAGE

    play(story)


def test_an_api_server_that_cannot_say_changes_nothing() -> None:
    async def story() -> None:
        async with scene() as s:
            s.api.put("models")
            s.apply("m", "pvc://models/m")
            await asyncio.sleep(10)
            s.rolled(replace(s.noted, works=True, rolled_out=True))
            for status in (500, 401, 403):
                s.api.trouble = KubeError(status, "Trouble", "not now")
                await asyncio.sleep(200)
                assert s.noted.claims == ("models",)
            s.apply("other", "pvc://others/m")
            await asyncio.sleep(10)
            assert s.said("pvc://others/m") == "ClaimNotMountable", "the operator may not look"
            s.api.trouble, s.api.claims = None, {}
            await asyncio.sleep(200)
            assert s.noted.claims == ()

    play(story)


def test_look_ups_are_few() -> None:
    async def story() -> None:
        async with scene() as s:
            s.api.put("models")
            s.apply("m", "pvc://models/m")
            for number in range(1000):
                s.apply(f"m{number}", f"pvc://claim-{number}/m")
            await asyncio.sleep(60)
            assert s.api.asked["models"] <= 60 / reader.REFRESH_SECONDS + 2
            assert 64 <= len(s.api.asked) <= 3 * 64, "some of them at a time"
            assert s.api.asked.total() <= 60 / reader.PACE_SECONDS
            for number in range(1000):
                s.delete(f"m{number}")
            await asyncio.sleep(10)
            s.api.asked.clear()
            await asyncio.sleep(60)
            assert set(s.api.asked) <= {"models"}

    play(story)


def test_a_namespace_that_names_thousands_of_claims_keeps_no_other_waiting() -> None:
    async def story() -> None:
        async with scene() as s:
            for number in range(30):
                greedy = ServiceKey("greedy", f"svc-{number}")
                s.room.service_seen(greedy, Declared(), RUNNING)
                for each in range(64):
                    spec = replace(
                        model_spec(f"m{number}-{each}", storage_uri=f"pvc://c{number}-{each}/m", service=greedy.name),
                        namespace="greedy",
                    )
                    s.room.handle(ModelSeen(spec))
            await asyncio.sleep(60)
            s.api.put("models")
            s.apply("m", "pvc://models/m")
            await asyncio.sleep(3 * reader.PACE_SECONDS)
            assert s.api.asked["models"] == 1
            await asyncio.sleep(120)
            assert s.api.asked["models"] >= 120 / (reader.REFRESH_SECONDS + reader.LOOK_SECONDS)
            assert s.api.asked.total() <= 181 / reader.PACE_SECONDS

    play(story)


def test_pods_are_made_once_what_is_declared_was_looked_up() -> None:
    async def story() -> None:
        async with scene() as s:
            s.api.put("models")
            s.room.service_seen(SERVICE, Declared(("models",)), Noted())
            assert s.room.undecided(SERVICE)
            await asyncio.sleep(1)
            assert not s.room.undecided(SERVICE)
            assert s.changed[SERVICE], "whoever makes the pods was told"
            assert s.room.mounting(SERVICE, Noted()).claims("template") == ("models",)
            s.api.trouble = KubeError(500, "Trouble", "not now")
            s.room.service_seen(SERVICE, Declared(("models", "more")), Noted())
            assert s.room.undecided(SERVICE)
            s.changed.clear()
            await asyncio.sleep(10)
            assert (s.room.undecided(SERVICE), bool(s.changed[SERVICE])) == (False, True), "not for ever"
            assert not s.room.undecided(ServiceKey("ns", "unheard-of"))

    play(story)


def test_pods_that_are_refused_for_a_claim_go_on_without_it_and_its_models_say_so() -> None:
    async def story() -> None:
        async with scene() as s:
            s.api.put("models")
            s.apply("m", "pvc://models/m")
            await asyncio.sleep(1)
            s.room.refused(SERVICE, {"models"}, "policy says no")
            await asyncio.sleep(0.1)
            assert (s.said(), s.told["m"] > 0) == ("ClaimNotMountable", True)
            assert s.room.mounting(SERVICE, RUNNING).wanted == ()

    play(story)


def test_what_is_not_known_yet_is_looked_up_before_much_that_is() -> None:
    async def story() -> None:
        async with scene() as s:
            for number in range(10):
                service = ServiceKey("ns", f"svc-{number}")
                s.room.service_seen(service, Declared(), RUNNING)
                for each in range(40):
                    s.apply(f"m{number}-{each}", f"pvc://claim-{number}-{each}/m", service=service.name)
            await asyncio.sleep(30)
            assert len(s.api.asked) == 400
            s.api.put("models")
            s.apply("m", "pvc://models/m")
            await asyncio.sleep(2 * reader.PACE_SECONDS + 0.01)
            assert s.api.asked["models"] == 1
            s.api.asked.clear()
            await asyncio.sleep(30)
            assert len(s.api.asked.keys() - {"models"}) == 400, "and all others all the same"

    play(story)


def test_nothing_is_mounted_and_nothing_taken_away_before_all_models_are_known() -> None:
    async def story() -> None:
        async with scene(listed=False) as s:
            s.rolled(replace(RUNNING, claims=("models",)))
            s.api.put("models")
            s.api.put("more")
            s.apply("m", "pvc://more/m")
            await asyncio.sleep(100)
            assert s.room.mounting(SERVICE, s.noted).claims("another template") == ("models",)
            s.listed()
            await asyncio.sleep(10)
            assert s.noted.claims == ("more",), "replaced for the one, without the other"

    play(story)


def test_an_inference_service_that_goes_and_comes_finds_its_models_claims() -> None:
    async def story() -> None:
        async with scene() as s:
            s.api.put("models")
            s.apply("m", "pvc://models/m")
            await asyncio.sleep(10)
            s.room.service_gone(SERVICE)
            await asyncio.sleep(100)
            s.api.asked.clear()
            await asyncio.sleep(100)
            assert not s.api.asked
            assert s.room.mounting(SERVICE, RUNNING).wanted == ()
            await asyncio.sleep(10)
            assert s.room.mounting(SERVICE, RUNNING).wanted == ("models",)

    play(story)


def test_only_what_an_agent_says_of_a_claim_is_said_otherwise() -> None:
    async def story() -> None:
        async with scene() as s:
            for seen in (
                view(),
                view(failure=CopyFailure(stage=FailureStage.STORAGE, reason="X", message="", attempts=1)),
            ):
                assert s.room.explained(seen) is seen
            assert s.said("storage://by-a-secret/m") == "ClaimNotMounted"
            s.apply("m", "storage:///m?name=models&type=pvc")
            assert s.said("storage:///m?name=models&type=pvc") == "MountingClaim"

    play(story)


def test_a_declared_claim_that_is_not_there_is_complained_of() -> None:
    async def story() -> None:
        async with scene() as s:
            assert s.room.service_seen(SERVICE, Declared(("models",)), RUNNING) is None, "not known yet"
            await asyncio.sleep(10)
            assert s.changed[SERVICE] >= 1, "whoever makes the pods asks again"
            found = s.room.service_seen(SERVICE, Declared(("models",)), RUNNING)
            assert found is not None
            assert found.reason == "ClaimNotFound"
            s.api.put("models", mode="ReadWriteOnce")
            await asyncio.sleep(10)
            assert s.room.service_seen(SERVICE, Declared(("models",)), s.noted) is None

    play(story)
