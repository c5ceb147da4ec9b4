"""The chart's files agree with each other and with the code."""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from shoal_api import names
from shoal_operator.gateway import bootstrap
from shoal_operator.manifests.settings import WorkloadSettings

CHECKOUT = Path(__file__).parents[3]
CHART = CHECKOUT / "charts" / "shoal"


def values() -> dict[str, Any]:
    return yaml.safe_load((CHART / "values.yaml").read_text())  # type: ignore[no-any-return]


def schema() -> dict[str, Any]:
    return json.loads((CHART / "values.schema.json").read_text())  # type: ignore[no-any-return]


def test_the_defaults_are_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(values(), schema())


def _same(shown: Any, described: dict[str, Any], path: str) -> None:
    if "properties" in described and isinstance(shown, dict):
        assert shown.keys() == described["properties"].keys() - {"global"}, path
        assert described["additionalProperties"] is False, path
        for name, part in shown.items():
            _same(part, described["properties"][name], f"{path}.{name}")


def test_every_value_is_in_both_files() -> None:
    _same(values(), schema(), "values")


@pytest.mark.parametrize(
    "change",
    [
        {"operator": {"images": {}}},
        {"gateway": {"service": {"nodePort": 70000}}},
        {"operator": {"watchNamespaces": ["Team_A"]}},
        {"operator": {"resources": {"limits": {"memory": "lots"}}}},
        {"agent": {"image": {"tag": 1}}},
        {"domainTemplate": "{namespace}.{name}.x"},
        {"crds": {"manage": "yes"}},
    ],
)
def test_bad_values_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(change, schema())


def test_every_container_of_ours_has_all_four_amounts() -> None:
    """A ResourceQuota on requests and limits asks for them of every container."""
    given, job = values(), (CHART / "templates" / "install-job.yaml").read_text()
    parts = [given["operator"], given["agent"], given["gateway"], given["runtimes"]["mlserver"]]
    amounts = [part["resources"] for part in parts] + [dict(WorkloadSettings("shoal-system", "agent").agent_resources)]
    found = re.search(r"resources:\n( +requests: .*\n +limits: .*)\n", job)
    assert found is not None
    amounts.append(yaml.safe_load(found[1]))
    for amount in amounts:
        assert {(kind, name) for kind in amount for name in amount[kind]} == set(
            product(("requests", "limits"), ("cpu", "memory"))
        )


def test_every_container_in_a_template_says_its_amounts() -> None:
    """Of Jobs, hooks and init containers too."""
    found = 0
    for template in sorted((CHART / "templates").iterdir()):
        containers = re.split(r"\n +- name: [\w-]+\n +image: ", template.read_text())[1:]
        assert len(containers) == len(re.findall(r"^ +(?:- )?image: ", template.read_text(), re.MULTILINE)), template
        for container in containers:
            found += 1
            assert re.search(r"\n +resources:\n", container.split("volumes:")[0]), template
    assert found >= 3


def test_envoys_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main([str(CHART / "files" / "envoy.yaml"), "--check"]) == 0, capsys.readouterr().err


def test_ports_are_the_ones_that_all_parts_know() -> None:
    operator = (CHART / "templates" / "operator.yaml").read_text()
    for port in (names.OPERATOR_AGENTS_PORT, names.OPERATOR_ADS_PORT, names.OPERATOR_HTTP_PORT):
        assert f"containerPort: {port}," in operator
    gateway = (CHART / "templates" / "gateway.yaml").read_text()
    for port in (names.GATEWAY_PORT, bootstrap.PROBES_PORT):
        assert f"containerPort: {port}," in gateway


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = next(
        line for line in (CHECKOUT / "pyproject.toml").read_text().splitlines() if line.startswith("version = ")
    )
    assert project == f'version = "{chart["appVersion"]}"'
