"""Jobs run when what they need is done, and a failed one costs only what needs it."""

import threading

import pytest

from cluster import jobs
from cluster.jobs import Job
from cluster.progress import ClusterError


def test_a_job_runs_after_those_that_it_needs_and_beside_the_others() -> None:
    met = threading.Barrier(2, timeout=10)  # both jobs wait here, so both must run at the same time
    ran: list[str] = []

    def beside(name: str) -> None:
        met.wait()
        ran.append(name)

    jobs.run(
        [
            Job("last", lambda: ran.append("last"), after=("left", "right")),
            Job("left", lambda: beside("left")),
            Job("right", lambda: beside("right")),
        ]
    )
    assert sorted(ran[:2]) == ["left", "right"]
    assert ran[2:] == ["last"]


def test_what_needs_a_failed_job_is_left_out_and_the_rest_still_runs() -> None:
    ran: list[str] = []

    def fail() -> None:
        raise ClusterError("no network")

    with pytest.raises(ClusterError, match=r"^wheels: no network$"):
        jobs.run(
            [
                Job("wheels", fail),
                Job("image", lambda: ran.append("image"), after=("wheels",)),
                Job("import", lambda: ran.append("import"), after=("image",)),
                Job("other", lambda: ran.append("other")),
            ]
        )
    assert ran == ["other"]


def test_all_failures_are_told() -> None:
    def fail(why: str) -> None:
        raise ClusterError(why)

    with pytest.raises(ClusterError) as told:
        jobs.run([Job("one", lambda: fail("disk full")), Job("two", lambda: fail("no network"))])
    assert sorted(str(told.value).splitlines()) == ["one: disk full", "two: no network"]


def test_a_defect_is_not_hidden_as_a_message() -> None:
    with pytest.raises(ZeroDivisionError):
        jobs.run([Job("one", lambda: 1 // 0)])
