"""What is new says nothing: of what nobody has heard, counted or decided yet there is no trace, and no number."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import pytest
from shoal_operator.placement.ledger import PodLedger
from shoal_operator.placement.spread import Spread
from shoal_operator.state.ledger import Account, Claim, Ledger
from shoal_operator.state.world.cause import Facts
from shoal_operator.state.world.decay import Decayed
from shoal_operator.state.world.desired import DesiredList, Versions
from shoal_operator.state.world.entities import NEVER, Copy, Model, Pod, Service, World
from shoal_operator.state.world.events import ModelSeen
from shoal_operator.state.world.measures import Measured, Ratio, Tally
from shoal_operator.state.world.pieces import Pieces, Walk
from shoal_operator.state.world.prefix import BURST
from shoal_operator.state.world.rest import Rest
from shoal_operator.state.world.scale import InUse, Scale
from shoal_operator.state.world.stats import Stats
from shoal_operator.state.world.values import (
    CopyAt,
    Eviction,
    ModelNeed,
    ModelSpec,
    Plan,
    PlanInput,
    PodOffer,
    PodSpec,
    Refusal,
    RoutePolicy,
    ServiceSpec,
    Victim,
)
from shoal_operator.state.world.views import ActivationView, CopyView, ModelView, ServiceView

from .world_in_hand import model_spec, pod_spec, service_spec


def said(thing: Any) -> set[str]:
    """Fields that say something, those of what is in them by a dot."""
    found = set()
    for each in fields(thing):
        value = getattr(thing, each.name)
        if is_dataclass(value):
            found |= {f"{each.name}.{name}" for name in said(value)}
        elif value not in (NEVER, float("inf")) and (not hasattr(value, "__len__") or len(value)) and value:
            found.add(each.name)
    return found


def given(*names: str) -> set[str]:
    return set(names)


MODEL, SERVICE = model_spec(), service_spec()


def copy() -> Copy:
    return Copy("m", "uid-m", "pod-1", "", "", "", Account({}, Claim.COMMITTED))


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (copy(), given("name", "uid", "pod_uid", "account.claim", "stage", "tuning")),
        (Account({}, Claim.COMMITTED), given("claim")),
        (Ledger(0), given()),
        (Rest(), given("phase")),
        (Scale(), given()),
        (InUse(), given()),
        (Stats(), given()),
        (Tally(), given()),
        (Ratio(), given("declared")),
        (Measured("", 0, 0, 0), given()),
        (Decayed(), given()),
        (Pieces(size=0, _left=0), given()),
        (Refusal(), given()),
        (Spread({}, {}), given()),
        (PodLedger(None, 0, 0, 0, 0.0), given()),  # type: ignore[arg-type]
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_new_one_says(thing: Any, says: set[str]) -> None:
    assert said(thing) == says


def test_a_new_model_wants_one_copy() -> None:
    model = Model(MODEL)
    assert {name for name in said(model) if not name.startswith("spec.")} == {"target"}
    assert model.target == 1


def test_a_new_service_waits_for_its_first_pods() -> None:
    service = Service(SERVICE)
    says = {name for name in said(service) if not name.startswith("spec.")}
    assert says == {"gathering", "rest.phase", "asked_for.tokens"}
    assert service.asked_for.tokens == BURST


def test_a_new_pod_holds_nothing_and_nobody_has_heard_of_it() -> None:
    pod = Pod(pod_spec(), DesiredList(Versions(1)), Ledger(0))
    assert {name for name in said(pod) if not name.startswith("spec.")} == set()


def test_a_new_world_is_not_known_yet() -> None:
    world = World()
    known = {name.split(".")[0] for name in said(world)}
    assert known - {"timing", "versions", "pieces", "agenda"} == {"recovery"}
    assert not world.pieces.overdue
    assert world.silent


def left_out(kind: type) -> dict[str, Any]:
    """What holds where it is left out, if that says anything."""
    defaults = {each.name: each.default for each in fields(kind) if each.default is not MISSING}
    return {name: value for name, value in defaults.items() if value and value != float("inf")}


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (ModelSpec, {"source"}),
        (PodSpec, set()),
        (ServiceSpec, {"protocol", "processes", "min_replicas", "max_replicas", "multi_model"}),
        (RoutePolicy, {"retries", "path_style", "protocol"}),
        (ModelSeen, set()),
        (Eviction, set()),
        (Plan, set()),
        (Victim, set()),
        (CopyAt, set()),
        (ModelNeed, set()),
        (PlanInput, set()),
        (PodOffer, set()),
        (Walk, set()),
        (CopyView, set()),
        (ServiceView, {"phase"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_holds_where_it_is_left_out(kind: type, says: set[str]) -> None:
    plain = {"tuning", "policy", "activation_timeout", "wake_timeout", "max_held"}
    assert left_out(kind).keys() - plain == says


def test_one_of_each_holds_where_nothing_is_said() -> None:
    spec = {name: value for name, value in left_out(ServiceSpec).items() if isinstance(value, int)}
    assert {name for name, value in spec.items() if value == 1} == {
        "processes",
        "min_replicas",
        "max_replicas",
        "multi_model",
    }
    assert left_out(Facts) == {"min_copies": 1}
    assert {name: value for name, value in left_out(ModelView).items() if name != "phase"} == {
        "min_copies": 1,
        "wanted_copies": 1,
    }


def test_a_request_waits_as_long_and_with_as_many_as_its_service_has_it_where_nothing_is_set() -> None:
    view = left_out(ActivationView)
    assert (view["timeout"], view["max_held"]) == (SERVICE.activation_timeout, SERVICE.max_held) == (60.0, 1000)
    assert SERVICE.wake_timeout == 120.0
