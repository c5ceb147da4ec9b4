"""What of artifacts a pod takes: the chart's values and annotations, in the agent's own variables."""

import pytest
from shoal_agent.settings import read_settings
from shoal_operator.manifests.artifact_limits import DEFAULT_LIMITS, GIB, ArtifactLimits, artifact_limits
from shoal_operator.settings import SettingsError, from_environment

from .objects import isvc
from .test_render import deployment

SAID = {
    "shoal.dev/max-artifact-bytes": "40Gi",
    "shoal.dev/max-artifact-files": "5000",
    "shoal.dev/max-disk-bytes": "200Gi",
    "shoal.dev/storage-connections": "16",
}


def test_annotations_hold_over_the_defaults() -> None:
    assert artifact_limits({}) == (DEFAULT_LIMITS, ())
    assert artifact_limits(SAID) == (ArtifactLimits(40 * GIB, 5000, 200 * GIB, 16), ())


@pytest.mark.parametrize("annotation", SAID)
@pytest.mark.parametrize("text", ["", "0", "-1", "lots", "1e99", "9" * 5000])
def test_what_cannot_be_is_said_and_the_default_holds(annotation: str, text: str) -> None:
    limits, wrong = artifact_limits({annotation: text})
    assert limits == DEFAULT_LIMITS
    assert len(wrong) == 1
    assert annotation in wrong[0]
    assert len(wrong[0]) < 300


def test_the_agent_reads_what_the_pod_is_given() -> None:
    agent = deployment(isvc(SAID))["template"]["spec"]["initContainers"][0]
    given = {each["name"]: each.get("value", "x") for each in agent["env"]}
    read = read_settings(given | {"SHOAL_POD": "p", "SHOAL_POD_UID": "u", "SHOAL_NAMESPACE": "n"})
    assert (read.max_artifact_bytes, read.max_artifact_files) == (40 * GIB, 5000)
    assert (read.max_disk_bytes, read.connections) == (200 * GIB, 16)


def test_the_charts_values_are_the_default_or_stop_the_operator() -> None:
    environment = {"SHOAL_NAMESPACE": "n", "SHOAL_AGENT_IMAGE": "i", "SHOAL_MAX_DISK_BYTES": ""}
    assert from_environment(environment).artifact_limits == DEFAULT_LIMITS
    changed = from_environment(environment | {"SHOAL_MAX_ARTIFACT_BYTES": "1Gi", "SHOAL_STORAGE_CONNECTIONS": "8"})
    assert changed.artifact_limits == ArtifactLimits(GIB, storage_connections=8)
    assert from_environment(environment | {"SHOAL_KEEP_FREE_PERCENT": "1"}).artifact_limits.keep_free_percent == 1
    with pytest.raises(SettingsError, match="SHOAL_KEEP_FREE_PERCENT"):
        from_environment(environment | {"SHOAL_KEEP_FREE_PERCENT": "95"})
    with pytest.raises(SettingsError, match=r"agent\.artifacts"):
        from_environment(environment | {"SHOAL_MAX_ARTIFACT_FILES": "many"})
