"""An InferenceService's counts are told whenever they change, and totals say what happened."""

from shoal_operator.state.owners.project import service_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Effect, ServiceStatusChanged
from shoal_operator.state.world.values import ModelKey, ServiceKey

from .overcommitted import Cold
from .world_in_hand import Hand, model_spec, pod_spec, service_spec

ONE, OTHER = ServiceKey("ns", "svc"), ServiceKey("ns", "other")


def told(effects: list[Effect]) -> set[ServiceKey]:
    return {effect.key for effect in effects if isinstance(effect, ServiceStatusChanged)}


def total(hand: Hand, key: ServiceKey) -> int:
    view = service_view(hand.world, key, hand.now, url="", gateways=1)
    assert view is not None
    return view.models_total


def test_a_model_that_comes_moves_or_goes_is_told_of_by_both_services_whatever_its_state() -> None:
    hand = Hand().with_pods("pod-1")
    hand.do(events.ServiceSeen(service_spec(name="other", uid="service-2")))
    assert ONE in told(hand.do(events.ModelSeen(model_spec("m", framework="unknown"))))
    hand.do(events.ModelSeen(model_spec("n", framework="unknown")))
    assert (total(hand, ONE), total(hand, OTHER)) == (2, 0)
    moved = model_spec("m", framework="unknown", service="other", generation=2)
    assert told(hand.do(events.ModelSeen(moved))) >= {ONE, OTHER}
    assert (total(hand, ONE), total(hand, OTHER)) == (1, 1)
    assert OTHER in told(hand.do(events.ModelGone(ModelKey("ns", "m"), "uid-m")))
    assert (total(hand, ONE), total(hand, OTHER)) == (1, 0)


def test_a_model_that_is_on_its_way_moves() -> None:
    """Neither ready nor failed, so that no other count changes with it."""
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.ServiceSeen(service_spec(name="other", uid="service-2")))
    hand.do(events.PodSeen(pod_spec()))
    hand.do(events.ModelSeen(model_spec("m")))
    assert not hand.world.models[ModelKey("ns", "m")].ready
    assert told(hand.do(events.ModelSeen(model_spec("m", service="other", generation=2)))) >= {ONE, OTHER}
    assert OTHER in told(hand.do(events.ModelGone(ModelKey("ns", "m"), "uid-m")))


def test_a_copy_that_only_failed_was_not_evicted() -> None:
    """It makes way, and nothing is unloaded for that: as many evictions as unloads."""
    hand = Cold("pod-1", room=2)
    hand.broken.add("bad")
    hand.add("bad", "a")
    hand.ask("a")
    hand.add("b")
    hand.pass_time(5)
    assert hand.loaded_models() == {"a", "b"}
    assert hand.service.stats.evictions == hand.service.stats.unloads == 0
    hand.now += 100
    hand.add("c")
    hand.ask("c")
    hand.pass_time(5)
    assert hand.service.stats.evictions == hand.service.stats.unloads == 1


def test_whatever_moves_is_counted_where_it_is_and_nowhere_else() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("good"))
    hand.do(events.ServiceSeen(service_spec(name="other", uid="service-2", formats=frozenset({"sklearn"}))))
    hand.do(events.ModelSeen(model_spec("bad", framework="unknown")))

    def counts(key: ServiceKey) -> tuple[int, int, int]:
        service = hand.world.services[key]
        return service.loaded_count, service.ready_count, service.failed_count

    assert (counts(ONE), counts(OTHER)) == ((1, 1, 1), (0, 0, 0))
    hand.do(events.ModelSeen(model_spec("bad", framework="unknown", service="other", generation=2)))
    assert (counts(ONE), counts(OTHER)) == ((1, 1, 0), (0, 0, 1))
    hand.do(events.ModelSeen(model_spec("good", service="other", generation=2)))
    assert (counts(ONE), counts(OTHER)[:2]) == ((0, 0, 0), (0, 0))
    hand.do(events.PodSeen(pod_spec("pod-2", service="other")))
    hand.report("pod-2")
    hand.loaded("pod-2")
    assert counts(OTHER) == (1, 1, 1)
    for name in ("good", "bad"):
        hand.do(events.ModelGone(ModelKey("ns", name), f"uid-{name}"))
    assert counts(OTHER) == (0, 0, 0)
