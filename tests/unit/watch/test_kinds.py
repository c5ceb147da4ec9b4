"""What is watched: everything that we make, and of what clusters are full of nothing but that."""

from typing import Any

from shoal_api.names import GROUP
from shoal_operator.manifests.render import render
from shoal_operator.manifests.scaling import Decision
from shoal_operator.manifests.storage import Storage
from shoal_operator.watch.kinds import AUTOSCALERS, PODS, WATCHED

from tests.unit.manifests.objects import LIMITS, SETTINGS, isvc, resolved

LOOKED_AT_ANYWAY = {"ConfigMap"}
"""Kinds whose objects may not be listed, since users keep much in theirs: looked at with each regular pass."""


def rendered() -> list[dict[str, Any]]:
    service = isvc(sklearn={"resources": LIMITS}, minReplicas=1, maxReplicas=3, scaleMetric="cpu")
    return render(service, resolved(service), Storage(), SETTINGS, Decision(None))


def labels_match(selector: str, labels: dict[str, str]) -> bool:
    parts = [part.partition("=") for part in selector.split(",")]
    return all(labels.get(key) == value if equals else key in labels for key, equals, value in parts)


def test_a_lost_object_of_any_kind_that_we_make_is_noticed() -> None:
    """A Deployment that was deleted while the watch was away was never made again."""
    made = {(obj["kind"], obj["apiVersion"]) for obj in rendered() if obj["kind"] not in LOOKED_AT_ANYWAY}
    assert made <= {(each.kind, each.api_version) for each in WATCHED}


def test_of_what_a_cluster_is_full_of_only_ours_is_asked_for() -> None:
    """Every pod, Deployment and Service of the cluster was streamed to the operator."""
    theirs = [each for each in WATCHED if not each.api_version.startswith(f"{GROUP}/") and each is not AUTOSCALERS]
    for watched in theirs:
        assert watched.selector, f"{watched.kind} objects of everybody"
        for obj in rendered():
            if obj["kind"] == watched.kind:
                assert labels_match(watched.selector, obj["metadata"]["labels"]), watched.kind
    (pods,) = [obj["spec"]["template"]["metadata"]["labels"] for obj in rendered() if obj["kind"] == "Deployment"]
    assert labels_match(PODS.selector, pods)
    assert len(theirs) >= 5
