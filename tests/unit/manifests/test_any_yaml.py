"""Any JSON in any field that the CRDs let through: it renders as Kubernetes' types are, or the field's path is said."""

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService
from shoal_operator.manifests.fields import CONTAINER_FIELDS, POD_FIELDS
from shoal_operator.manifests.pod_types import POD, Checked
from shoal_operator.manifests.render import render
from shoal_operator.manifests.resolve import Resolution, resolve, unreadable
from shoal_operator.manifests.runtimes import Runtime
from shoal_operator.manifests.scaling import Decision
from shoal_operator.manifests.storage import Storage
from shoal_operator.state.world.values import Problem

from .objects import LIMITS, SETTINGS, Object, runtime

# Words of Kubernetes' own, so that what is nested is often known, and values at the edges of its types.
_NESTED = (
    "httpGet port path containerPort valueFrom secretKeyRef limits requests memory cpu mountPath emptyDir "
    "sizeLimit preStop exec conditionType value key x"
)
_WORDS = st.sampled_from([*sorted(CONTAINER_FIELDS | POD_FIELDS), *_NESTED.split()])
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**70), 10**400]),
    st.floats(),
    st.sampled_from(["", "-1", "100m", "1Gi", "99999999999Gi", "1e400", "{{.Name}}", "{{.Labels.x}}", "shoal-models"]),
    st.text(max_size=5),
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(_WORDS, st.text(max_size=3)), inner, max_size=4)
    ),
    max_leaves=12,
)
_CONTAINER = st.dictionaries(st.sampled_from(sorted(CONTAINER_FIELDS)), _JSON, max_size=3)
_POD = st.dictionaries(st.sampled_from(sorted(POD_FIELDS)), _JSON, max_size=3)
_MANY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def outcome(spec: Object, *runtimes: Runtime) -> Problem | list[Object]:
    """The manifests, or what is wrong; anything that is raised fails the test."""
    meta = {"name": "iris", "namespace": "demo", "uid": "uid-iris", "generation": 2}
    obj: Object = {"metadata": meta, "spec": spec}
    try:
        isvc = InferenceService.read(obj)
    except SpecError as error:
        resolution = unreadable(obj, error)
    else:
        resolution = resolve(isvc, runtimes or (runtime(),))
    if resolution.spec.problem is not None:
        return resolution.spec.problem
    return render(isvc, resolution, Storage(), SETTINGS, Decision(1))


def holds(found: Problem | list[Object], *paths: str) -> None:
    if isinstance(found, Problem):
        assert any(path in found.message for path in ("spec", *paths)), found
        assert len(found.message) < 4000
        return
    deployment = next(manifest for manifest in found if manifest["kind"] == "Deployment")
    checked = Checked(rendered=True)
    checked.fields(deployment["spec"]["template"]["spec"], POD, "")
    assert (checked.wrong, checked.unknown) == ([], [])


@_MANY
@given(_CONTAINER, _POD)
@example({"ports": "x"}, {})
@example({"lifecycle": "x"}, {"terminationGracePeriodSeconds": "x"})
@example({"env": [{}], "ports": [{}]}, {"terminationGracePeriodSeconds": None, "volumes": None})
def test_a_predictor_renders_or_says_where(container: Object, pod: Object) -> None:
    holds(outcome({"predictor": {**pod, "sklearn": {"resources": LIMITS, **container}}}))


@_MANY
@given(_CONTAINER, _POD)
def test_a_custom_predictor_renders_or_says_where(container: Object, pod: Object) -> None:
    env = [{"name": "MULTI_MODEL_SERVER", "value": "true"}]
    custom = {"name": "kserve-container", "image": "mlserver:1", "env": env, "resources": LIMITS, **container}
    holds(outcome({"predictor": {**pod, "containers": [custom]}}), "container", "Container")


@_MANY
@given(_CONTAINER, _POD, st.dictionaries(st.sampled_from(["builtInAdapter", "containers", "multiModel"]), _JSON))
def test_a_runtime_renders_or_is_named_with_where(container: Object, pod: Object, rest: Object) -> None:
    broken = runtime(**{"containers": [{"name": "kserve-container", **container}], **pod, **rest})
    holds(outcome({"predictor": {"sklearn": {"resources": LIMITS}}}, broken), "runtime", "Runtime")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["predictor", "transformer", "explainer", "canary", "x"]), _JSON), _JSON)
def test_a_whole_spec_renders_or_says_where(spec: Object, predictor: Any) -> None:
    holds(outcome({**spec, "predictor": predictor}))


@pytest.mark.parametrize(
    ("where", "written", "path"),
    [
        ("container", {"ports": "x"}, "spec.predictor.sklearn.ports is 'x', and a list is expected"),
        ("container", {"ports": [1]}, "spec.predictor.sklearn.ports[0] is 1, and an object is expected"),
        ("container", {"lifecycle": "x"}, "spec.predictor.sklearn.lifecycle is 'x'"),
        ("container", {"lifecycle": {"preStop": 1}}, "spec.predictor.sklearn.lifecycle.preStop is 1"),
        ("container", {"env": ["A=1"]}, "spec.predictor.sklearn.env[0]"),
        ("container", {"resources": {"requests": {"cpu": "lots"}}}, "spec.predictor.sklearn.resources.requests.cpu"),
        ("container", {"resources": {"limits": {"memory": "-1Gi"}}}, "limits.memory is '-1Gi'"),
        ("container", {"resources": {"limits": {"memory": "99999999999Gi"}}}, "more than any node has"),
        ("container", {"livenessProbe": {"httpGet": {"port": []}}}, "sklearn.livenessProbe.httpGet.port is a list"),
        ("pod", {"terminationGracePeriodSeconds": "x"}, "spec.predictor.terminationGracePeriodSeconds is 'x'"),
        ("pod", {"terminationGracePeriodSeconds": 10**400}, "predictor.terminationGracePeriodSeconds is a number too"),
        ("pod", {"volumes": [{"name": "shoal-models"}]}, "spec.predictor.volumes"),
        ("pod", {"initContainers": [{"name": "shoal-agent"}]}, "spec.predictor.initContainers"),
        ("pod", {"nodeSelector": {"a": 1}}, "spec.predictor.nodeSelector.a"),
    ],
)
def test_what_is_wrong_is_said_by_its_path(where: str, written: Object, path: str) -> None:
    server: Object = {"resources": LIMITS, **(written if where == "container" else {})}
    found = outcome({"predictor": {"sklearn": server, **(written if where == "pod" else {})}})
    assert isinstance(found, Problem)
    assert path in found.message


OWN_VOLUMES = ["shoal-credentials", "shoal-models", "shoal-shared", "shoal-storage-0a1b2c", "shoal-scratch-0"]


@pytest.mark.parametrize("volume", OWN_VOLUMES)
@pytest.mark.parametrize("field", ["volumeMounts", "volumeDevices"])
def test_volumes_of_ours_are_nobody_elses_to_mount(volume: str, field: str) -> None:
    """The agent's token is in one of them, and in others the Secrets of stores."""
    good = {"name": "mine", "mountPath": "/a", "devicePath": "/a"}
    path = "mountPath" if field == "volumeMounts" else "devicePath"
    mounts = {field: [{"name": "mine", path: good[path]}, {"name": volume, path: "/b"}]}
    pod = {"volumes": [{"name": "mine", "emptyDir": {}}]}
    server: Object = {"resources": LIMITS}
    switch = [{"name": "MULTI_MODEL_SERVER", "value": "true"}]
    sidecar = {"name": "side", "image": "side:1", "env": switch, **mounts}
    custom = {
        "name": "kserve-container",
        "image": "mlserver:1",
        "env": switch,
        "resources": LIMITS,
    }
    whose: dict[str, Any] = {"containers": [{"name": "kserve-container", "image": "mlserver:1", **mounts}], **pod}
    beside: dict[str, Any] = {"containers": [{"name": "kserve-container", "image": "mlserver:1"}, sidecar], **pod}
    cases: list[tuple[Object, tuple[Runtime, ...], str]] = [
        ({"sklearn": {**server, **mounts}, **pod}, (), "spec.predictor.sklearn"),
        ({"sklearn": server, "containers": [sidecar], **pod}, (), "spec.predictor.containers[0]"),
        ({"sklearn": server, "initContainers": [sidecar], **pod}, (), "spec.predictor.initContainers[0]"),
        ({"containers": [{**custom, **mounts}], **pod}, (), "spec.predictor.containers[0]"),
        ({"sklearn": server}, (runtime("mine", **whose),), "mine: spec.containers[0]"),
        ({"sklearn": server}, (runtime("mine", **beside),), "mine: spec.containers[1]"),
    ]
    for predictor, runtimes, where in cases:
        found = outcome({"predictor": predictor}, *runtimes)
        assert isinstance(found, Problem), where
        assert found.reason == "InvalidSpec", (where, found)
        assert f"{where}.{field}[1].name is '{volume}'" in found.message


def test_what_a_runtime_has_wrong_names_the_runtime() -> None:
    broken = runtime("mine", namespace="demo", containers=[{"name": "kserve-container", "ports": "x"}])
    found = outcome({"predictor": {"sklearn": {"resources": LIMITS}}}, broken)
    assert isinstance(found, Problem)
    assert "ServingRuntime demo/mine: spec.containers[0].ports is 'x'" in found.message


def resolution_of(**predictor: Any) -> Resolution:
    obj = {"metadata": {"name": "iris", "namespace": "demo"}, "spec": {"predictor": predictor}}
    return resolve(InferenceService.read(obj), (runtime(),))


def test_a_whole_number_may_be_written_with_a_point() -> None:
    found = resolution_of(sklearn={"resources": LIMITS}, terminationGracePeriodSeconds=30.0)
    assert (found.spec.problem, found.pod_fields) == (None, {"terminationGracePeriodSeconds": 30})
    assert isinstance(found.pod_fields["terminationGracePeriodSeconds"], int)


def test_nested_fields_that_kubernetes_does_not_have_are_left_out_and_named() -> None:
    probe = {"httpGet": {"port": 8080, "pth": "/x"}, "periodSecond": 3}
    found = resolution_of(sklearn={"resources": LIMITS, "livenessProbe": probe})
    assert found.spec.problem is None
    assert {
        "spec.predictor.sklearn.livenessProbe.httpGet.pth",
        "spec.predictor.sklearn.livenessProbe.periodSecond",
    } <= set(found.spec.ignored_fields)
    assert found.container is not None
    assert found.container["livenessProbe"] == {"httpGet": {"port": 8080}}


@pytest.mark.parametrize("name", ["MLSERVER_HOST", "mlserver_host", "MLSERVER_HTTP_PORT", "MLSERVER_CACHE_ENABLED"])
def test_a_server_that_would_break_what_is_relied_on_is_set_right_and_it_is_said(name: str) -> None:
    env = [{"name": name, "value": "127.0.0.1"}, {"name": "OTHER", "value": "1"}]
    obj = {"metadata": {"name": "iris", "namespace": "demo"}, "spec": {"predictor": {"sklearn": {"resources": LIMITS}}}}
    isvc = InferenceService.read(obj)
    found = resolve(isvc, (runtime(containers=[{"name": "mlserver", "image": "mlserver:1", "env": env}]),))
    deployment = next(m for m in render(isvc, found, Storage(), SETTINGS, Decision(1)) if m["kind"] == "Deployment")
    server = deployment["spec"]["template"]["spec"]["containers"][0]
    values = {item["name"].upper(): item.get("value") for item in server["env"]}
    assert len(values) == len(server["env"])
    assert (values["MLSERVER_HOST"], values["MLSERVER_HTTP_PORT"], values["OTHER"]) == ("0.0.0.0", "8080", "1")  # noqa: S104
    assert values["MLSERVER_CACHE_ENABLED"] == "false"
    assert any(name in field for field in found.spec.ignored_fields)
