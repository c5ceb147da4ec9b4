"""InferenceServices of deploymentMode ModelMesh: which runtime's pods their models get, and for how long."""

from collections.abc import Callable
from typing import Any

import pytest
from shoal_operator.owners import Owners
from shoal_operator.state.world.events import Event, ModelGone, ModelSeen
from shoal_operator.state.world.values import ModelKey, ModelSpec, ServiceKey

SKLEARN, XGBOOST = "sklearn", "xgboost"


class Workloads:
    """Stands in for the controller: what it is told of groups and InferenceServices."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        self.without_pods: list[ServiceKey] = []
        self.beside_kserve = False

    def takes(self, isvc: Any) -> bool:
        return not self.beside_kserve or isvc.deployment_mode() == "ModelMesh"

    def inference_service_seen(self, obj: dict[str, Any]) -> None:
        self.seen[obj["metadata"]["name"]] = obj

    def inference_service_gone(self, namespace: str, name: str, uid: str) -> None:
        self.seen.pop(name, None)

    def released(self, key: ServiceKey) -> None:
        if self.seen.pop(key.name, None) is not None:
            self.without_pods.append(key)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


class Story:
    """Owners with stand-ins around them; ``models``: as the world would have them."""

    def __init__(self) -> None:
        self.workloads = Workloads()
        self.models: dict[ModelKey, ModelSpec] = {}
        self.told = 0
        self.later: list[Callable[[], None]] = []
        workloads: Any = self.workloads
        self.lost: list[ModelKey] = []
        self.owners = Owners(workloads, self._handle, self.models.get, lambda source, key: self.lost.append(key))
        self.owners._members._call_later = lambda seconds, call: self.later.append(call)

    def _handle(self, event: Event) -> None:
        self.told += 1
        if isinstance(event, ModelSeen):
            self.models[event.spec.key] = event.spec
        elif isinstance(event, ModelGone):
            self.models.pop(event.key, None)

    def runtime(self, name: str, *formats: str, namespace: str = "", **spec: Any) -> None:
        entries = [{"name": each, "version": "1", "autoSelect": True} for each in formats]
        meta = {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        given = {
            "multiModel": True,
            "supportedModelFormats": entries,
            "builtInAdapter": {"serverType": "mlserver"},
            "containers": [{"name": "mlserver", "image": "mlserver:1"}],
            **spec,
        }
        self.owners.runtime_seen({"metadata": meta | ({"namespace": namespace} if namespace else {}), "spec": given})

    def isvc(
        self,
        name: str,
        model_format: str = SKLEARN,
        *,
        generation: int = 1,
        mode: str = "ModelMesh",
        status: dict[str, Any] | None = None,
        **model: Any,
    ) -> None:
        given = {"modelFormat": {"name": model_format}, "storageUri": f"s3://bucket/{name}", **model}
        self.owners.seen(
            {
                "metadata": {
                    "name": name,
                    "namespace": "ns",
                    "uid": f"uid-{name}",
                    "generation": generation,
                    "annotations": {"serving.kserve.io/deploymentMode": mode},
                },
                "spec": {"predictor": {"model": given, "minReplicas": 3}},
                "status": status or {},
            }
        )

    def model(self, name: str) -> ModelSpec:
        return self.models[ModelKey("ns", name)]

    def listed(self) -> "Story":
        self.owners.runtimes_listed()
        return self

    def pass_time(self) -> None:
        due, self.later = self.later, []
        for call in due:
            call()


@pytest.fixture
def story() -> Story:
    story = Story()
    story.runtime("mlserver-1.x", SKLEARN)
    return story.listed()


def test_models_share_their_runtimes_pods(story: Story) -> None:
    story.isvc("one")
    story.isvc("two")
    assert story.model("one").service == story.model("two").service == "runtime.mlserver-1.x"
    assert set(story.workloads.seen) == {"runtime.mlserver-1.x"}, "no pods of their own"
    assert story.model("one").memory_bytes is None, "estimated, as any"
    assert "spec.predictor.minReplicas" in story.model("one").ignored_fields


def test_nothing_is_chosen_before_all_runtimes_are_known() -> None:
    story = Story()
    story.isvc("one")
    assert not story.models
    story.runtime("mlserver-1.x", SKLEARN)
    story.listed()
    assert story.model("one").service == "runtime.mlserver-1.x"


def test_a_status_that_changes_costs_nothing(story: Story) -> None:
    story.isvc("one")
    told = story.told
    story.isvc("one")
    assert story.told == told
    story.isvc("one", generation=2, storageUri="s3://bucket/other")
    assert story.model("one").storage_uri == "s3://bucket/other"


def test_without_a_runtime_it_says_so_and_comes_once_there_is_one(story: Story) -> None:
    story.isvc("late", XGBOOST)
    problem = story.model("late").problem
    assert problem is not None
    assert problem.reason == "RuntimeNotFound"
    story.runtime("other", XGBOOST)
    assert story.model("late").problem is None
    assert story.model("late").service == "runtime.other"


def test_a_runtime_by_name(story: Story) -> None:
    story.runtime("mine", SKLEARN, namespace="ns")
    story.isvc("one", runtime="mlserver-1.x")
    story.isvc("two", runtime="mine")
    assert story.model("one").service == "runtime.mlserver-1.x"
    assert story.model("two").service == "runtime.mine"
    story.isvc("three", runtime="nobodys")
    assert story.model("three").problem is not None


def test_who_lost_its_runtime_stays_where_it_was(story: Story) -> None:
    story.isvc("one")
    story.owners.runtime_gone("", "mlserver-1.x")
    spec = story.model("one")
    assert spec.service == "runtime.mlserver-1.x"
    assert spec.problem is not None
    story.runtime("mlserver-1.x", SKLEARN)
    assert story.model("one").problem is None


def test_an_edit_of_a_runtime_tells_only_those_whom_it_concerns(story: Story) -> None:
    for number in range(250):
        story.isvc(f"m{number}")
    told = story.told
    story.runtime("mlserver-1.x", SKLEARN, XGBOOST, replicas=4)
    assert story.told == told
    assert story.workloads.seen["runtime.mlserver-1.x"]["spec"]["predictor"]["minReplicas"] == 4
    story.runtime("better", SKLEARN, namespace="ns")
    assert story.told == told + 100, "the rest once others had their turn"
    story.pass_time()
    story.pass_time()
    assert story.told == told + 250
    assert {spec.service for spec in story.models.values()} == {"runtime.better"}


def test_pods_that_no_model_needs_go_after_a_while(story: Story) -> None:
    story.isvc("one")
    story.owners.gone("ns", "one", "uid-one")
    assert not story.models
    assert not story.workloads.without_pods
    story.isvc("two")
    story.pass_time()
    assert not story.workloads.without_pods, "needed again"
    story.owners.gone("ns", "two", "uid-two")
    story.pass_time()
    assert story.workloads.without_pods == [ServiceKey("ns", "runtime.mlserver-1.x")]
    story.isvc("three")
    assert "runtime.mlserver-1.x" in story.workloads.seen


def test_from_one_mode_to_the_other_and_back(story: Story) -> None:
    story.isvc("one")
    story.isvc("one", generation=2, mode="Standard")
    assert story.model("one").service == "one"
    assert "one" in story.workloads.seen
    story.isvc("one", generation=3)
    assert story.model("one").service == "runtime.mlserver-1.x"
    assert "one" not in story.workloads.seen


def test_an_object_that_cannot_be_read_changes_nothing(story: Story) -> None:
    story.isvc("one")
    story.isvc("one", generation=2, storageUri=7)
    assert story.model("one").storage_uri == "s3://bucket/one"


def conditions(**reasons: str | None) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", "reason": reason} for kind, reason in reasons.items()]}


OURS = conditions(Ready="Loaded", IngressReady="Ready")
KSERVES = conditions(Ready=None, IngressReady=None)
LAST = conditions(Ready="ServedByKServe", IngressReady="Ready")


@pytest.mark.parametrize(("status", "said"), [(OURS, True), (KSERVES, False), (LAST, False), ({}, False)])
def test_who_is_kserves_now_is_told_so_once(story: Story, status: dict[str, Any], said: bool) -> None:
    """KServe was installed: our last word on it must not go on saying that it is Ready, nor fight with KServe's."""
    story.workloads.beside_kserve = True
    story.isvc("one", mode="Standard", status=status)
    assert not story.models
    left = story.owners.left_to_kserve(ServiceKey("ns", "one"))
    assert (left is not None) is said
    assert story.lost == ([ModelKey("ns", "one")] if said else [])
    if left is not None:
        assert left.problem is not None
        assert "serving.kserve.io/deploymentMode: ModelMesh" in left.problem.message
    story.isvc("one", mode="Standard", status=KSERVES)
    assert story.owners.left_to_kserve(ServiceKey("ns", "one")) is None


def test_beside_kserve_modelmeshs_are_ours(story: Story) -> None:
    story.workloads.beside_kserve = True
    story.isvc("one")
    assert story.model("one").service == "runtime.mlserver-1.x"
