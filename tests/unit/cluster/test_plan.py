"""The plan of a cold machine: nothing waits for what is not there, nor for what it does not need."""

import pytest

from cluster import image_list, jobs, plan
from cluster.image_list import Image
from cluster.jobs import Job


def _after(jobs: list[Job]) -> dict[str, set[str]]:
    """All that each job waits for, directly or not."""
    found: dict[str, set[str]] = {}
    direct = {job.name: job.after for job in jobs}
    assert len(direct) == len(jobs), "two jobs of one name"

    def of(name: str) -> set[str]:
        if name not in found:
            found[name] = set(direct[name]).union(*(of(other) for other in direct[name]))
        return found[name]

    return {name: of(name) for name in direct}


def test_all_images_are_built_after_their_bases_and_imported_once_the_cluster_is_up() -> None:
    after = _after(plan.whole_cluster(takeover=False))
    for image in (*image_list.PROJECT, *image_list.RUNTIMES):
        assert {"start", f"image {image.name}"} <= after[f"import {image.name}"]
        assert {f"image {base.name}" for base in image.bases} <= after[f"image {image.name}"]


@pytest.mark.parametrize("image", image_list.SERVERS, ids=lambda image: image.name)
def test_another_model_server_costs_only_those_who_ask_for_it(image: Image) -> None:
    assert f"image {image.name}" not in _after(plan.whole_cluster(takeover=False))
    asked = _after(plan.images([image_list.BY_NAME[image.name]], imported=True))
    assert asked[f"import {image.name}"] >= {f"image {base.name}" for base in image.bases}


def test_images_and_debian_packages_do_not_wait_for_the_compiler_but_for_the_one_that_holds_a_program() -> None:
    after = _after(plan.whole_cluster(takeover=False))
    compiled = {"programs of the cluster", "other programs"}
    waiting = {name for name, needs in after.items() if name.startswith("image ") and needs & compiled}
    assert waiting == {"image versitygw"}
    assert after["Debian packages"] == after["programs of the cluster"] == set()


def test_the_cluster_starts_before_the_other_programs_are_compiled() -> None:
    after = _after(plan.whole_cluster(takeover=False))
    assert after["start"] == {"Debian packages", "programs of the cluster"}
    assert after["other programs"] == {"programs of the cluster"}  # one call of the compiler at a time


def test_one_node_waits_for_nothing_that_only_several_need() -> None:
    after = _after(plan.whole_cluster(takeover=False))
    assert "programs of several nodes" not in after
    several = _after(plan.whole_cluster(takeover=False, count=3))
    assert several["programs of several nodes"] == {"other programs", "programs of the cluster"}
    assert "programs of several nodes" in several["nodes"]


def test_further_nodes_take_the_images_of_the_first_one_when_it_has_them() -> None:
    after = _after(plan.whole_cluster(takeover=False, count=2))
    assert after["nodes"] >= {f"import {image.name}" for image in (*image_list.PROJECT, *image_list.RUNTIMES)}


def test_some_images_take_their_bases_along_and_no_other() -> None:
    names = set(_after(plan.images([image_list.AGENT], imported=True)))
    assert names == {"Debian packages", "image debian", "image python", "image uv", "image agent", "import agent"}
    assert not any(name.startswith("import") for name in _after(plan.images([image_list.AGENT], imported=False)))


def test_what_was_built_is_imported_also_when_its_inputs_were_edited_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    edits = iter(["before", "edited", "again"])
    monkeypatch.setattr(Image, "digest", lambda _: next(edits))
    monkeypatch.setattr(plan, "_PACKAGES", Job("Debian packages", lambda: None))
    monkeypatch.setattr(plan, "build", lambda image: image.digest())
    imported: list[tuple[Image, str]] = []
    monkeypatch.setattr(plan, "import_into_cluster", lambda *arguments: imported.append(arguments))
    jobs.run(plan.images([image_list.UV], imported=True))
    assert imported == [(image_list.UV, "before")]
