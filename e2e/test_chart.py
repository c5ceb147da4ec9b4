"""The chart's life on a real cluster: upgrade, uninstall, install again under another name; models stay through all.

A first install into an empty cluster, and one beside KServe's CRDs, would take every user's objects with the CRDs away,
so they are tested in tests/component/apiserver/test_helm.py with an API server of their own.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import kubernetes, settings
from demo.failure import DemoError
from e2e.installation import Installation, install_chart
from e2e.space import READY_SECONDS, Space, space

NAMESPACE = settings.SYSTEM_NAMESPACE
OTHER = "another-name"
DEFINITIONS = tuple(
    f"{plural}.serving.kserve.io"
    for plural in ("trainedmodels", "inferenceservices", "servingruntimes", "clusterservingruntimes")
)


def helm(*arguments: str) -> str:
    return kubernetes.run(kubernetes.program("helm"), *arguments, f"--namespace={NAMESPACE}", timeout=360)


def installed_releases() -> list[str]:
    return [release["name"] for release in json.loads(helm("list", "--output=json"))]


def install_as(release: str, values: Path) -> None:
    helm(
        "install",
        release,
        str(settings.CHECKOUT / "charts" / "shoal"),
        "--create-namespace",
        f"--values={values}",
        "--wait",
        "--timeout=300s",
    )


def uninstall(release: str) -> None:
    helm("uninstall", release, "--wait", "--timeout=120s")


def uids() -> dict[str, str]:
    """UID by name of the four definitions: another UID would mean that all objects were lost with the old one."""
    items = kubernetes.get("customresourcedefinitions", *DEFINITIONS)["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


def authority() -> str:
    """The certificate by which the pods that stay know the operator: with another, they would be strangers to the next
    one until the kubelet has brought them its own."""
    secret = kubernetes.get("secret", "shoal-ca", "-n", NAMESPACE)
    certificate: str = secret["data"]["tls.crt"]
    return certificate


@pytest.fixture
def serving(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace with a model that answers; the usual release is back afterwards, whatever happened."""
    word = request.node.name.split("_")[1]
    try:
        with space(installation, f"chart-{word}") as fresh:
            fresh.service()
            fresh.model("kept", fresh.put("kept", 7.0))
            fresh.wait_ready("kept")
            yield fresh
    finally:
        for release in installed_releases():
            if release != settings.RELEASE:
                uninstall(release)
        install_chart()


def test_upgrade_keeps_models_loaded_and_leaves_nothing_of_the_job(serving: Space) -> None:
    pod = serving.pods()[0]["metadata"]["uid"]
    before = uids()
    helm("upgrade", settings.RELEASE, str(settings.CHECKOUT / "charts" / "shoal"), "--reuse-values", "--wait")
    assert uids() == before
    assert serving.pods()[0]["metadata"]["uid"] == pod
    serving.wait(lambda: serving.ask("kept").status == 200, "an answer after the upgrade")
    assert serving.answer("kept") == 7.0
    left = kubernetes.kubectl("get", "job,sa,configmap", "-n", NAMESPACE, "-o", "name").split()
    assert not [name for name in left if "shoal-install" in name]
    with pytest.raises(DemoError, match="not found"):
        kubernetes.kubectl("get", "clusterrole", "shoal-install")


def test_uninstall_keeps_definitions_objects_and_pods_and_another_name_takes_over(
    serving: Space, tmp_path: Path
) -> None:
    (pod,) = (pod["metadata"]["uid"] for pod in serving.pods())
    before, trusted = uids(), authority()
    values = tmp_path / "values.yaml"
    values.write_text(helm("get", "values", settings.RELEASE, "--output=yaml"))  # others would be other pods

    uninstall(settings.RELEASE)

    assert uids() == before
    assert authority() == trusted
    assert serving.trained_model("kept")["metadata"]["name"] == "kept"
    assert serving.pods()[0]["metadata"]["uid"] == pod
    gone = "clusterservingruntimes,clusterroles,clusterrolebindings"
    serving.wait(
        lambda: "shoal" not in kubernetes.kubectl("get", gone, "-o", "name"), "what is cluster-wide to be gone"
    )
    serving.wait(lambda: not kubernetes.get("deployments", "-n", NAMESPACE)["items"], "the Deployments to be gone")

    install_as(OTHER, values)

    assert uids() == before
    assert kubernetes.get("clusterservingruntime", "shoal-mlserver")["spec"]["multiModel"] is True
    serving.wait(lambda: serving.ask("kept").status == 200, "an answer after the reinstall", READY_SECONDS)
    assert serving.answer("kept") == 7.0
    assert [each["metadata"]["uid"] for each in serving.pods()] == [pod]
    serving.model("new", serving.put("new", 8.0))
    serving.wait_ready("new")
    assert serving.answer("new") == 8.0


def test_notes_end_with_an_apply_and_a_curl_that_are_right(serving: Space) -> None:
    """What the notes say to apply is accepted as it stands, and the curl's path is the gateway's."""
    notes = helm("get", "notes", settings.RELEASE)
    manifests = notes.partition("<<'YAML'\n")[2].partition("YAML\n")[0].replace("\n    ", "\n")
    answer = kubernetes.kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifests.removeprefix("    "))
    assert answer.count("created") + answer.count("configured") + answer.count("unchanged") == 4
    assert 'curl "$GATEWAY/default/sklearn/v2/models/my-model/infer"' in notes
