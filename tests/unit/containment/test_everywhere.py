"""One exception at every function of the pure rooms, wherever there is one: the world converges all the same.

The functions are found, not listed: whatever is added to the rooms is tried as well.
"""

import asyncio
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from types import FunctionType
from typing import Any

import pytest
import shoal_operator.placement
import shoal_operator.state
from shoal_operator import engine
from shoal_operator.state.world import events
from shoal_operator.state.world.prefix import Prefix
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelKey, ServiceKey, Source

from tests.unit.state.world_in_hand import MI, model_spec, service_spec

from .bugs import Bug, in_groups
from .plant import Plant, play

A, D = ServiceKey("ns", "a"), ServiceKey("ns", "d")
PLACE = Prefix("s3://models/", "sklearn", memory_bytes=10 * MI, most=2)
ROOMS = (shoal_operator.state, shoal_operator.placement)
MODULES = [
    importlib.import_module(found.name)
    for room in ROOMS
    for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
]
_NOT_OURS = ("blame", "aside", "rebuild")
"""What containment itself stands on: where these fail the process ends."""
_CONTAINS = {"step", "_pass_time", "_apply", "contained"}


def functions() -> dict[str, tuple[FunctionType, list[tuple[Any, str]]]]:
    """Every function and method of the rooms, with all places that hold it."""
    found: dict[str, tuple[FunctionType, list[tuple[Any, str]]]] = {}
    for module in MODULES:
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ in _NAMES:
                found.setdefault(_name(value), (value, []))[1].append((module, name))
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                for method_name, method in vars(value).items():
                    if inspect.isfunction(method) and method.__module__ in _NAMES and method_name[:2] != "__":
                        found.setdefault(_name(method), (method, []))[1].append((value, method_name))
    for name, value in vars(engine).items():
        if inspect.isfunction(value) and value.__module__ in _NAMES:
            found[_name(value)][1].append((engine, name))
    return {
        name: places
        for name, places in found.items()
        if name.split(".")[-2] not in _NOT_OURS and name.rsplit(".", 1)[-1] not in _CONTAINS
    }


_NAMES = {module.__name__ for module in MODULES}


def _name(function: FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}".removeprefix("shoal_operator.")


@contextmanager
def watched(called: Callable[[str], None]) -> Iterator[None]:
    """``called`` hears of every call, before it, and may raise."""
    patch = pytest.MonkeyPatch()
    try:
        for name, (function, places) in functions().items():
            for holder, attribute in places:
                patch.setattr(holder, attribute, _told(function, name, called))
        yield
    finally:
        patch.undo()


def _told(function: FunctionType, name: str, called: Callable[[str], None]) -> Any:
    @wraps(function)
    def told(*arguments: Any, **more: Any) -> Any:
        called(name)
        return function(*arguments, **more)

    return told


class Story:
    """Everything that can happen to a few models, and what has to be true at its end."""

    def __init__(self) -> None:
        self.plant: Plant | None = None

    async def run(self) -> None:
        plant = self.plant = Plant()
        plant.service("a", 2, strict=False, capacity_bytes=35 * MI)
        plant.service("b", 1, strict=False)
        plant.service("c", 0, strict=False, idle=60.0)
        plant.service("d", 1, strict=False, models_from=PLACE)
        for number in range(3):
            plant.model(f"b{number}", "b")
            plant.model(f"a{number}", "a")
        plant.model("a3", "a", memory_bytes=None)
        plant.start()
        await asyncio.sleep(6)
        for name in ("d0", "d1", "missing", "d2"):
            plant.core.handle(events.Requested(D, name))
            await asyncio.sleep(0.5)
        plant.model("a4", "a", min_copies=1)
        for number in range(5, 9):
            plant.model(f"a{number}", "a")
        await asyncio.sleep(3)
        for name in ("a5", "a6", "a7", "a8"):  # not all of them fit
            plant.core.handle(events.Requested(A, name))
            await asyncio.sleep(0.5)
        plant.core.handle(events.ModelSeen(model_spec("a0", service="a", storage_uri="s3://models/new")))
        plant.core.handle(events.ModelSeen(model_spec("a1", service="a", memory_bytes=12 * MI)))
        plant.core.handle(events.ModelSeen(model_spec("b1", service="a")))
        plant.core.handle(events.ModelGone(ModelKey("ns", "a2"), "uid-a2"))
        grown = service_spec(name="b", uid="u-b", min_replicas=1, max_replicas=2, strict=False, autoscaled=True)
        plant.core.handle(events.ServiceSeen(grown))
        await asyncio.sleep(3)
        plant.pod("a", "a-3")
        await asyncio.sleep(1)
        del plant.pods["a-1"]
        plant.core.handle(events.PodGone("a-1"))
        plant.core.lost("a-2", plant.pods["a-2"].session)
        await asyncio.sleep(20)
        for name in ("a0", "a1", "a3", "b1", "a5", "a8"):
            plant.core.handle(events.Requested(A, name))
            await asyncio.sleep(3)
        await asyncio.sleep(8)  # who failed last is put back by then
        plant.core.handle(events.Requested(A, "a8"))
        for _ in range(8):  # as the activator does while a request waits
            plant.core.handle(events.Requested(D, "d3"))
            await asyncio.sleep(1)

    def check(self) -> None:
        """Nothing is lost, stuck, doubled or left over."""
        plant = self.plant
        assert plant is not None
        world = plant.core.world
        assert not world.recovering
        assert world.services.keys() == {A, *(ServiceKey("ns", name) for name in "bcd")}
        assert world.services[ServiceKey("ns", "c")].rest.phase is Phase.ZERO, "nobody asks"
        registered = {key for key, model in world.models.items() if model.spec.source is not Source.PREFIX}
        assert registered == {ModelKey("ns", f"a{n}") for n in (0, 1, *range(3, 9))} | {
            ModelKey("ns", f"b{n}") for n in range(3)
        }
        assert world.pods.keys() == {"a-2", "a-3", "b-1", "d-1"}
        assert ModelKey("ns", "missing") not in world.models
        assert plant.serves("d", "d3"), "nobody registered it"
        assert plant.serves("a", "a4"), "minCopies: 1"
        assert plant.serves("a", "a8"), "just asked for"
        assert all(plant.serves("b", name) for name in ("b0", "b2"))
        for (service, name), route in plant.routes.items():
            known = ModelKey("ns", name) in world.models and world.models[ModelKey("ns", name)].spec.service == service
            assert bool(route.pods or route.unavailable) == known, f"{service}/{name}: {route}"
            assert all(name in plant.pods[uid].loaded for uid in route.pods), f"{service}/{name}: {route}"
        for uid, pod in world.pods.items():
            assert pod.committed == sum(copy.charged for copy in pod.copies.values())
            assert pod.committed <= pod.spec.capacity_bytes
            assert plant.pods[uid].loaded.keys() <= pod.copies.keys()
        assert not any(service.plan_requested for service in world.services.values())


def calls() -> Counter[str]:
    """How often the story calls each function when nothing fails."""
    counted: Counter[str] = Counter()
    story = Story()
    with watched(lambda name: counted.update((name,))):
        play(story.run)
    story.check()
    return counted


SHARES = 6
AT_ONCE = 4
"""Functions of which one call fails in one run of the story."""


@cache
def groups() -> list[dict[str, int]]:
    """Every function that the story calls, with the number of the call that fails; a few in each group."""
    return in_groups(calls(), AT_ONCE, seed=7)


def test_the_story_comes_through_everything() -> None:
    """Else the test below would say little."""
    tried = {name for group in groups() for name in group}
    missing = functions().keys() - tried
    assert len(missing) < len(functions()) * 0.4, sorted(missing)


@pytest.mark.parametrize("share", range(SHARES))
def test_one_exception_wherever_there_can_be_one(share: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    wrong = {}
    for group in groups()[share::SHARES]:
        counted: Counter[str] = Counter()
        raised: set[str] = set()

        def called(name: str, group: dict[str, int] = group, counted: Any = counted, raised: Any = raised) -> None:
            counted[name] += 1
            if group.get(name) == counted[name]:
                raised.add(name)
                raise Bug(name)

        story = Story()
        try:
            with watched(called):
                play(story.run)
            if story.plant is not None and story.plant.fatal:
                continue  # loud: the process ends, and a new one begins
            story.check()
        except Exception as error:
            wrong[tuple(sorted(raised))] = repr(error)[:200] + repr(error)[-300:]
    assert not wrong
