"""Rules for all tests: the folder names the marker, hypothesis is reproducible, and a skipped test is a failure."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

_HERE = Path(__file__).parent

# Plug-ins are no packages of ours: the agent delivers them as folders on the servers' PYTHONPATH; so they are here.
for plugin in ("mlserver", "torchserve"):
    sys.path.insert(0, str(_HERE.parent / "runtimes" / plugin / "plugin"))

settings.register_profile("shoal", derandomize=True, deadline=None)
settings.load_profile("shoal")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below tests/component needs a real part."""
    for item in items:
        if _HERE / "component" in item.path.parents:
            item.add_marker(pytest.mark.component)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test says nothing and looks like success: what cannot run here has to fail."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which this project does not allow: {report.longrepr}"
    return report
