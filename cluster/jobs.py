"""Runs what has to be done side by side, each job as soon as those that it needs are done."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from cluster import progress
from cluster.progress import ClusterError


@dataclass(frozen=True)
class Job:
    """Something to do, and the names of the jobs that must have succeeded before."""

    name: str
    run: Callable[[], object]
    after: tuple[str, ...] = ()


def run(jobs: Sequence[Job]) -> None:
    """Run jobs, each in a thread of its own. What needs a failed one is left out; the rest still runs.

    Raises ClusterError with all failures that a user should read, or the first other exception as it is.
    """
    by_name = {job.name: job for job in jobs}
    order = TopologicalSorter({job.name: job.after for job in jobs})
    order.prepare()
    ended: queue.SimpleQueue[tuple[str, BaseException | None]] = queue.SimpleQueue()
    waiting = list(by_name)
    running = 0
    failures: list[ClusterError] = []
    while True:
        for name in order.get_ready():
            waiting.remove(name)
            threading.Thread(target=_perform, args=(by_name[name], ended), daemon=True).start()
            running += 1
        progress.waiting(waiting)
        if not running:
            break
        name, failure = ended.get()
        running -= 1
        if failure is None:
            order.done(name)
        elif isinstance(failure, ClusterError):
            failures.append(failure)
        else:
            raise failure
    progress.waiting(())
    if failures:
        raise ClusterError("\n".join(str(failure) for failure in failures))


def _perform(job: Job, ended: queue.SimpleQueue[tuple[str, BaseException | None]]) -> None:
    try:
        job.run()
    except ClusterError as failure:
        ended.put((job.name, ClusterError(f"{job.name}: {failure}")))
    except BaseException as failure:
        ended.put((job.name, failure))
    else:
        ended.put((job.name, None))
