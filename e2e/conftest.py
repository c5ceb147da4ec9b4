"""Fixtures of the end-to-end tests: one installation for the session, namespaces for modules and tests."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.training import DemoModel, train
from e2e.installation import Installation, installed
from e2e.space import Space, space
from tests.component.servers.kits import djl

_TEST_SECONDS = 600
collect_ignore = ["test_djl_sample.py"] if djl.KIT.absent else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the cluster, and may take longer than one that does not."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_TEST_SECONDS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Nothing is shown of a server that was not there, and it is not passed over in silence."""
    if collect_ignore:
        why = f"{djl.KIT.absent}; name its folder in SHOAL_DJL_SERVING"
        terminalreporter.write_line(f"NOT TRIED on the cluster: docs/samples/djl ({why})", yellow=True)


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """The cluster with the chart installed."""
    with installed() as ready:
        yield ready


@pytest.fixture(scope="module")
def shared(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace for the module, with one InferenceService `models` of one pod."""
    name = request.module.__name__.rpartition("test_")[2].replace("_", "-")
    with space(installation, name) as fresh:
        fresh.service()
        yield fresh


@pytest.fixture
def own(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace for one test, with the storage account and nothing else."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")
    with space(installation, name[:50].strip("-")) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[DemoModel]:
    """The demo's sixty models, trained in a folder of the session."""
    return train(tmp_path_factory.mktemp("models"))
