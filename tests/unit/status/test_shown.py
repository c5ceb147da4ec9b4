"""What is shown of an InferenceService whose model is on its runtime's pods, as these come and go."""

from typing import Any

import pytest
from shoal_operator.manifests.settings import WorkloadSettings
from shoal_operator.owners import Owners
from shoal_operator.shown import Shown
from shoal_operator.state.owners.project import model_view, service_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Effect, ModelStatusChanged, ServiceStatusChanged
from shoal_operator.state.world.values import ModelKey, Problem, ServiceKey, Source
from shoal_operator.status.service_status import service_status

from tests.unit.state.world_in_hand import Hand, model_spec, pod_spec, service_spec

from .model_views import NOW

GROUP = ServiceKey("ns", "runtime.mlserver")
KEY = ServiceKey("ns", "m")


class Core:
    """As the world has it."""

    def __init__(self, hand: Hand) -> None:
        self.world, self.hand = hand.world, hand

    def model(self, key: ModelKey, url: str) -> Any:
        return model_view(self.world, key, self.hand.now, url=url)

    def service(self, key: ServiceKey, url: str, gateways: int) -> Any:
        return service_view(self.world, key, self.hand.now, url=url, gateways=gateways)


class Status:
    """Notes whose status is looked at."""

    def __init__(self) -> None:
        self.changed: list[Any] = []

    def service_changed(self, key: ServiceKey) -> None:
        self.changed.append(key)

    def model_changed(self, key: ModelKey) -> None:
        self.changed.append(key)


class Story:
    """One model of a group, and what its InferenceService says once all that was told of has been looked at."""

    def __init__(self) -> None:
        self.hand = Hand()
        core: Any = Core(self.hand)
        status: Any = Status()
        workloads: Any = None
        settings = WorkloadSettings("shoal-system", "agent")
        self.status = status
        self.shown = Shown(core, lambda: 1, settings)
        self.owners = Owners(workloads, self.do, self.shown.holder, self.shown.changed)
        self.startup_said = ""
        self.shown.connect(status, self.owners, lambda service: self.startup_said, lambda view: view)
        self.said: dict[str, Any] = {}

    def do(self, event: events.Event) -> None:
        self.tell(self.hand.do(event))

    def tell(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, ModelStatusChanged):
                self.shown.model_changed(effect.key)
            elif isinstance(effect, ServiceStatusChanged):
                self.shown.service_changed(effect.key)
        if KEY in self.status.changed:
            view = self.shown.inference_service(KEY)
            assert view is not None
            self.said = service_status(view, self.said, NOW)
        self.status.changed.clear()

    @property
    def ready(self) -> tuple[str, str]:
        (found,) = [each for each in self.said["conditions"] if each["type"] == "Ready"]
        return found["status"], found["reason"]


@pytest.fixture
def story() -> Story:
    story = Story()
    story.do(events.ServiceSeen(service_spec(name=GROUP.name, strict=False)))
    own = model_spec("m", service=GROUP.name, source=Source.INFERENCE_SERVICE, memory_bytes=None)
    story.owners.claims.seen(events.ModelSeen(own))
    return story


def pod(**given: Any) -> events.PodSeen:
    return events.PodSeen(pod_spec(service=GROUP.name, **given))


def test_it_is_ready_as_soon_as_it_is_and_not_when_something_else_happens(story: Story) -> None:
    assert story.ready == ("Unknown", "PodsStarting")
    story.do(pod())
    story.tell(story.hand.report("pod-1"))
    assert story.ready[1] != "PodsStarting", "its pod takes models, whether or not Kubernetes calls it ready"


def test_why_its_pods_do_not_start(story: Story) -> None:
    story.do(pod(problem=Problem("ImagePullFailed", "No such image.")))
    assert story.ready == ("False", "ImagePullFailed")
    assert story.said["modelStatus"]["lastFailureInfo"]["reason"] == "RuntimeUnhealthy"
    story.do(pod())
    assert story.ready == ("Unknown", "PodsStarting")


def test_a_container_that_is_ended_for_its_probe_is_said_with_the_probes_words(story: Story) -> None:
    story.startup_said = "Container kserve-container's probe last said: Startup probe failed: HTTP 500."
    story.do(pod(problem=Problem("CrashLoop", "It keeps ending with code 137.")))
    assert story.ready == ("False", "CrashLoop")
    assert "code 137. Container kserve-container's probe last said: Startup" in str(story.said["conditions"])
    story.do(pod(problem=Problem("ImagePullFailed", "No such image.")))
    assert "probe" not in str(story.said["conditions"])


def test_a_group_has_no_status_and_its_pods_are_not_counted(story: Story) -> None:
    assert story.shown.inference_service(GROUP) is None
    story.do(pod())
    story.tell(story.hand.report("pod-1"))
    story.do(pod(ready=True))
    story.do(pod(uid="pod-2", ready=True))
    assert story.status.changed == []


def test_its_name_is_its_own(story: Story) -> None:
    view = story.shown.inference_service(KEY)
    assert view is not None
    assert (view.spec.name, view.spec.uid, view.url) == ("m", "uid-m", "http://m.ns.example.com")
    assert view.address == "http://shoal-gateway.shoal-system.svc.cluster.local/ns/m"
    assert story.shown.trained_model(ModelKey("ns", "m")) is None
