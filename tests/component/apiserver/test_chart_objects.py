"""The chart, rendered by Helm for many values, judged by a real API server; and what Helm itself refuses."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from shoal_api.names import LABEL_LEADS

from cluster import binaries

from .server import ApiServer, Object

CHART = "charts/shoal"
NAMESPACE = "shoal-system"

VALUES: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "operators that stand by": ("--set=operator.replicas=3",),
    "everything": (
        '--set-json=imagePullSecrets=[{"name":"registry"}]',
        "--set=operator.watchNamespaces={team-a,team-b}",
        '--set-json=operator.env=[{"name":"A","value":"b"}]',
        '--set-json=operator.podAnnotations={"a":"b"}',
        '--set-json=operator.nodeSelector={"disk":"ssd"}',
        '--set-json=gateway.tolerations=[{"operator":"Exists"}]',
        "--set=gateway.service.type=NodePort",
        "--set=gateway.service.nodePort=30080",
        "--set=store.persistence.enabled=true",
        "--set=store.persistence.storageClass=fast",
        "--set=networkPolicy.operator=true",
    ),
    "load balancer": ("--set=gateway.service.type=LoadBalancer",),
    "one gateway, others' CRDs": ("--set=gateway.replicas=1", "--set=crds.manage=false"),
    "existing claim, no runtime": (
        "--set=store.persistence.enabled=true",
        "--set=store.persistence.existingClaim=mine",
        "--set=runtimes.mlserver.enabled=false",
    ),
}


TYPES = sorted(file.stem for file in Path(CHART, "files", "runtimes").glob("*.yaml"))


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = binaries.ensure(binaries.HELM) / "helm"
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=60, check=False)


def rendered(*values: str, release: str = "shoal") -> list[Object]:
    done = helm("template", release, CHART, "--namespace", NAMESPACE, "--kube-version", "1.29.0", *values)
    assert done.returncode == 0, done.stderr
    return [obj for obj in yaml.safe_load_all(done.stdout) if obj]


def by_name(objects: list[Object]) -> dict[tuple[str, str], Any]:
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}


@pytest.fixture(scope="module", autouse=True)
def _namespaces(server: ApiServer) -> None:
    """The chart's namespace allows restricted pods only, and warns of Deployments that would make others."""
    strict = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    for name in (NAMESPACE, "team-a", "team-b"):
        body = {"metadata": {"name": name, "labels": strict}}
        assert server.request("POST", "/api/v1/namespaces", body).ok


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_api_server_accepts_every_object_without_a_warning(server: ApiServer, values: tuple[str, ...]) -> None:
    for obj in rendered(*values):
        reply, warnings = server.dry_run(obj)
        assert reply.ok, f"{obj['kind']} {obj['metadata']['name']}: {reply.message}"
        assert not warnings, f"{obj['kind']} {obj['metadata']['name']}: {warnings}"


def runtimes_of_the_job(*values: str) -> Any:
    return json.loads(by_name(rendered(*values))[("ConfigMap", "shoal-install")]["data"]["runtimes.json"])


def test_the_jobs_runtimes_are_accepted(server: ApiServer) -> None:
    runtimes = runtimes_of_the_job(*(f"--set=runtimes.{name}.enabled=true" for name in TYPES))
    assert runtimes["remove"] == []
    assert [runtime["metadata"]["name"] for runtime in runtimes["apply"]] == [f"shoal-{name}" for name in TYPES]
    for runtime in runtimes["apply"]:
        reply, warnings = server.dry_run(runtime)
        assert reply.ok, reply.message
        assert not warnings
        assert reply.body["spec"] == runtime["spec"]


def test_only_mlservers_runtime_is_there_by_default_and_any_can_be_turned_off() -> None:
    others = [f"shoal-{name}" for name in TYPES if name != "mlserver"]
    default = runtimes_of_the_job()
    assert [runtime["metadata"]["name"] for runtime in default["apply"]] == ["shoal-mlserver"]
    assert default["apply"][0]["spec"]["builtInAdapter"]["memBufferBytes"] == 402653184
    assert default["remove"] == others
    without = runtimes_of_the_job("--set=runtimes.mlserver.enabled=false")
    assert without == {"apply": [], "remove": sorted(["shoal-mlserver", *others])}


def test_no_two_runtimes_are_chosen_for_a_format_with_one_priority() -> None:
    """KServe's webhook refuses the second."""
    runtimes = runtimes_of_the_job(*(f"--set=runtimes.{name}.enabled=true" for name in TYPES))
    chosen = [
        (each["name"], each.get("version"), protocol, each.get("priority"))
        for runtime in runtimes["apply"]
        for each in runtime["spec"]["supportedModelFormats"]
        for protocol in runtime["spec"].get("protocolVersions") or [""]
        if each.get("autoSelect")
    ]
    assert len(set(chosen)) == len(chosen)


def test_names_do_not_depend_on_the_release() -> None:
    """A reinstall under another name takes over the Secrets, and Envoy's bootstrap knows the operator by its name."""
    assert by_name(rendered()).keys() == by_name(rendered(release="another")).keys()


def test_helm_owns_no_definition_and_no_custom_object() -> None:
    """It could neither upgrade the ones nor create the others in the same release."""
    kinds = {obj["kind"] for obj in rendered()}
    assert not kinds & {"CustomResourceDefinition", "ClusterServingRuntime"}


def test_the_operator_may_not_list_secrets_nor_write_them_elsewhere() -> None:
    for (kind, name), obj in by_name(rendered()).items():
        for rule in obj.get("rules", []) if kind in ("ClusterRole", "Role") else []:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], name
            if "secrets" in rule["resources"]:
                allowed = {"get"} if kind == "ClusterRole" else {"get", "create", "update", "patch"}
                assert set(rule["verbs"]) <= allowed, name
            if "persistentvolumeclaims" in rule["resources"]:
                assert (rule["verbs"], name) == (["get"], "shoal-workloads"), "by name, where InferenceServices are"


def test_permissions_shrink_to_the_watched_namespaces() -> None:
    objects = by_name(rendered("--set=operator.watchNamespaces={team-a}"))
    assert ("ClusterRoleBinding", "shoal-workloads") not in objects
    assert objects[("RoleBinding", "shoal-workloads")]["metadata"]["namespace"] == "team-a"
    wide = [rule["resources"] for rule in objects[("ClusterRole", "shoal-operator")]["rules"]]
    known = ["clusterservingruntimes", "customresourcedefinitions", "tokenreviews", "subjectaccessreviews"]
    assert wide == [[each] for each in (*known, "endpointslices")]


def test_of_several_operators_only_who_leads_is_reached() -> None:
    objects = by_name(rendered("--set=operator.replicas=2"))
    deployment = objects[("Deployment", "shoal-operator")]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (2, "RollingUpdate")
    (container,) = deployment["template"]["spec"]["containers"]
    assert {"name": "SHOAL_REPLICAS", "value": "2"} in container["env"]
    selector = objects[("Service", "shoal-operator")]["spec"]["selector"]
    assert selector == deployment["selector"]["matchLabels"] | {LABEL_LEADS: "true"}
    assert objects[("PodDisruptionBudget", "shoal-operator")]["spec"]["maxUnavailable"] == 1
    assert {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "patch"]} in objects[
        ("Role", "shoal-operator")
    ]["rules"]
    one = by_name(rendered())
    assert ("PodDisruptionBudget", "shoal-operator") not in one
    assert one[("Deployment", "shoal-operator")]["spec"]["strategy"]["type"] == "Recreate"
    assert LABEL_LEADS not in one[("Service", "shoal-operator")]["spec"]["selector"]


def test_operators_that_stand_by_share_no_claim() -> None:
    done = helm("template", "shoal", CHART, "--set=operator.replicas=2,store.persistence.enabled=true")
    assert done.returncode != 0
    assert "a store each" in done.stderr


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("gatewy.replicas=2", "gatewy"),
        ("gateway.replicas=0", "minimum"),
        ("gateway.replicas=two", "integer"),
        ("gateway.service.type=Ingress", "ClusterIP"),
        ("operator.replicas=0", "minimum"),
        ("operator.logLevel=loud", "INFO"),
        ("operator.image.pullPolicy=Sometimes", "IfNotPresent"),
        ("domainTemplate=models.example.com", "domainTemplate"),
        ("store.persistence.size=big", "size"),
        ("runtimes.mlserver.memBufferBytes=-1", "minimum"),
    ],
)
def test_bad_values_are_refused_by_name(value: str, word: str) -> None:
    done = helm("template", "shoal", CHART, f"--set={value}")
    assert done.returncode != 0
    assert word in done.stderr


def test_old_kubernetes_is_refused() -> None:
    done = helm("template", "shoal", CHART, "--kube-version", "1.28.0")
    assert done.returncode != 0
    assert ">=1.29" in done.stderr
