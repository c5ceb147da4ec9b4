"""Claims in the pods of an InferenceService: which it declares, who mounts them, and when pods need not be replaced."""

from typing import Any

import pytest
from shoal_api.names import ANNOTATION_CLAIMS
from shoal_operator.manifests.render import render
from shoal_operator.manifests.resolve import Resolution
from shoal_operator.manifests.scaling import Decision
from shoal_operator.manifests.storage import Storage
from shoal_operator.manifests.volume_claims import (
    ANNOTATION_MOUNTED,
    NONE_MOUNTED,
    NOTHING,
    Declared,
    Mounting,
    Noted,
    claim_volume,
    noted,
)

from .objects import LIMITS, SETTINGS, Object, isvc, resolved, runtime

LONG = f"{'a' * 200}.b"


def deployment(service: Any, mounting: Mounting = NONE_MOUNTED) -> Object:
    resolution: Resolution = resolved(service, runtime())
    made = render(service, resolution, Storage(), SETTINGS, Decision(replicas=1), mounting=mounting)
    return next(each for each in made if each["kind"] == "Deployment")


def claims(manifest: Object) -> dict[str, str]:
    """Claims by where the agent mounts them."""
    spec = manifest["spec"]["template"]["spec"]
    volumes = {
        each["name"]: each["persistentVolumeClaim"]["claimName"]
        for each in spec["volumes"]
        if "persistentVolumeClaim" in each
    }
    agent = next(each for each in spec["initContainers"] if each["name"] == "shoal-agent")
    mounts = {m["mountPath"]: volumes[m["name"]] for m in agent["volumeMounts"] if m["name"] in volumes}
    assert all(m["readOnly"] for m in agent["volumeMounts"] if m["name"] in volumes)
    return mounts


def declared(service: Any) -> Declared:
    return resolved(service, runtime()).claims


@pytest.mark.parametrize(
    ("text", "names", "wrong"),
    [
        ("models", ("models",), ""),
        (" models, more.of-them ,models,", ("models", "more.of-them"), ""),
        ("", (), ""),
        (" , ", (), ""),
        ("models,../etc", ("models",), "'../etc'"),
        ("Models", (), "'Models'"),
        ("a/b", (), "'a/b'"),
        (",".join(f"c{number}" for number in range(20)), tuple(f"c{number}" for number in range(16)), ""),
    ],
)
def test_declared_by_annotation(text: str, names: tuple[str, ...], wrong: str) -> None:
    resolution = resolved(isvc({ANNOTATION_CLAIMS: text}), runtime())
    assert resolution.claims.claims == names
    degraded = resolution.spec.degraded
    assert (degraded is not None and wrong in degraded.message) == bool(wrong)


def test_declared_by_the_place_of_unregistered_models() -> None:
    from_volume = {"shoal.dev/models-from": "pvc://models/all/", "shoal.dev/models-framework": "sklearn"}
    assert declared(isvc(from_volume)).claims == ("models",)


def test_declared_by_a_model_of_its_own() -> None:
    model = {"modelFormat": {"name": "sklearn"}, "resources": LIMITS, "storageUri": "pvc://models/churn"}
    assert declared(isvc(model=model)).claims == ("models",)
    by_key = {**model, "storage": {"path": "churn", "parameters": {"type": "pvc", "name": "more"}}}
    del by_key["storageUri"]
    assert declared(isvc({ANNOTATION_CLAIMS: "models"}, model=by_key)).claims == ("models", "more")
    both = {**model, "storage": {"path": "m"}}
    assert declared(isvc(model=both)).claims == ()


def test_what_the_pods_mount_already_is_mounted_for_the_agent_too_and_declared_by_nobody() -> None:
    volumes = [
        {"name": "mine", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "other", "emptyDir": {}},
        {"name": "strange", "persistentVolumeClaim": {"claimName": "../etc"}},
        {"name": "raw", "persistentVolumeClaim": {"claimName": "disk"}},
    ]
    devices = [{"name": "raw", "devicePath": "/dev/raw"}]
    server = {"resources": LIMITS, "volumeDevices": devices}
    service = isvc({ANNOTATION_CLAIMS: "models"}, sklearn=server, volumes=volumes)
    assert declared(service) == Declared((), (("models", "mine"),))
    manifest = deployment(service, Mounting(("models", "more")))
    assert claims(manifest) == {"/mnt/claims/models": "models", "/mnt/claims/more": "more"}
    own = [each for each in manifest["spec"]["template"]["spec"]["volumes"] if each["name"] == "mine"]
    assert own == [volumes[0]], "as it was written"


def test_only_the_agent_mounts_them_and_nobody_may_write() -> None:
    manifest = deployment(isvc(), Mounting((LONG, "models")))
    assert claims(manifest) == {"/mnt/claims/models": "models", f"/mnt/claims/{LONG}": LONG}
    spec = manifest["spec"]["template"]["spec"]
    server = next(each for each in spec["containers"] if each["name"] == "kserve-container")
    assert not [m for m in server["volumeMounts"] if m["name"].startswith("shoal-claim-")]
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes[claim_volume(LONG)]["persistentVolumeClaim"] == {"claimName": LONG, "readOnly": True}
    assert len(claim_volume(LONG)) < 64


def test_their_volumes_are_shoals_own() -> None:
    volume = {"name": claim_volume("models"), "persistentVolumeClaim": {"claimName": "secret"}}
    service = isvc(sklearn={"resources": LIMITS}, volumes=[volume])
    problem = resolved(service, runtime()).spec.problem
    assert problem is not None
    assert "Shoal's own" in problem.message


def live(manifest: Object, **status: int) -> Object:
    """The Deployment as its controller has taken it in."""
    replicas = manifest["spec"]["replicas"]
    full = {"observedGeneration": 7} | dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
    return {**manifest, "metadata": {**manifest["metadata"], "generation": 7}, "status": full | status}


def test_what_is_not_needed_any_more_stays_until_pods_are_replaced_anyway() -> None:
    service = isvc()
    before = deployment(service, Mounting(("a", "b")))
    seen = noted(live(before))
    assert seen == Noted(True, ("a", "b"), seen.template, 1, works=True, rolled_out=True)
    for wanted in ((), ("a",), ("b", "a")):
        assert deployment(service, Mounting(wanted, seen)) == before
    more = deployment(service, Mounting(("a", "c"), seen))
    assert claims(more).keys() == {"/mnt/claims/a", "/mnt/claims/c"}, "replaced for c: b goes with it"
    edited = isvc(sklearn={"resources": {"limits": {"memory": "1Gi"}}})
    assert claims(deployment(edited, Mounting(("a",), seen))).keys() == {"/mnt/claims/a"}
    assert claims(deployment(service, Mounting(("a",), None))).keys() == {"/mnt/claims/a"}, "b has to go"


def test_with_which_claims_pods_have_started_is_written_beside_them_and_replaces_no_pods() -> None:
    before = deployment(isvc(), Mounting(("a", "b")))
    proven = deployment(isvc(), Mounting(("a", "b"), proven=frozenset({"b", "elsewhere"})))
    assert proven["spec"] == before["spec"]
    assert (noted(live(before)).proven, noted(live(proven)).proven) == ((), ("b",))
    assert "proven" not in before["metadata"]["annotations"][ANNOTATION_MOUNTED]


def test_scaling_and_requests_policy_replace_no_pods() -> None:
    before = noted(deployment(isvc({ANNOTATION_CLAIMS: "a"}), Mounting(("a",))))
    assert before.template == noted(deployment(isvc({"shoal.dev/retries": "1"}), NONE_MOUNTED)).template


@pytest.mark.parametrize(
    ("status", "works", "rolled_out"),
    [
        ({}, True, True),
        ({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2}, False, False),
        ({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 3}, True, False),
        ({"updatedReplicas": 0, "availableReplicas": 2}, False, False),
        ({"availableReplicas": 1}, True, False),
        ({"observedGeneration": 6}, False, False),
        ({"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0}, False, False),
    ],
)
def test_whether_pods_start_with_them(status: dict[str, int], works: bool, rolled_out: bool) -> None:
    manifest = deployment(isvc(), Mounting(("a",)))
    manifest["spec"]["replicas"] = 2
    seen = noted(live(manifest, **status))
    assert (seen.works, seen.rolled_out) == (works, rolled_out)


def test_no_pods_are_as_they_should_be() -> None:
    manifest = deployment(isvc(), Mounting(("a",)))
    manifest["spec"]["replicas"] = 0
    assert noted(live(manifest)) == Noted(True, ("a",), noted(manifest).template, 0, works=False, rolled_out=True)


@pytest.mark.parametrize(
    "annotation",
    [
        None,
        "",
        "no json",
        "[]",
        '{"claims": ["a"], "template": "x", "proven": 5}',
        '{"claims": 1, "template": "x"}',
        '{"claims": ["../a"], "template": "x"}',
        "[" * 9000,
    ],
)
def test_what_others_wrote_there_is_nothing(annotation: str | None) -> None:
    found = noted({"metadata": {"annotations": {ANNOTATION_MOUNTED: annotation} if annotation is not None else {}}})
    assert (found.claims, found.template, found.proven) == ((), "", ())
    assert NOTHING.claims == ()
