"""How much memory models take: declared, estimated from the artifact, and corrected by what pods measure.

A pod measures its server as a whole. What it takes beyond an empty server is compared with what its models declare (or
were estimated at); the ratio is kept by InferenceService and format, and used for the models that declare nothing. A
declaration is never overruled: it is the unit that users plan with (KServe's rule); that it is far off is said in
status.
"""

from shoal_api.messages import ServerReport, SlotReport

from shoal_operator.state.world.entities import Copy, Model, Pod, Service
from shoal_operator.state.world.measures import Measured, Ratio, Tally

FIRST_ESTIMATE = 2.0
"""Bytes of memory per byte of artifact before anything was measured; compressed formats take more."""
LEAST_BYTES = 1 << 20
LEAST_MEASURED_BYTES = 32 << 20
"""Of memory declared between two measurements. Less is lost in the server's own ups and downs."""
MUCH_BYTES = 4 << 30
"""Of memory declared by what is loaded: beside it, a framework's library (some 100 MiB) does not count."""
SMOOTHING = 0.2


def learn_size(service: Service | None, model: Model, artifact_bytes: int | None) -> bool:
    """The artifact's size is known: estimate the memory of a model that declares none. Fixed for this content.

    True: the model takes another size than was thought.
    """
    if artifact_bytes is None:
        return False
    before, first = model.size, model.artifact_bytes is None
    model.artifact_bytes = artifact_bytes
    if model.spec.memory_bytes is None and (first or model.estimate is None):
        ratio = service.ratios.get(model.spec.framework.lower()) if service is not None else None
        factor = ratio.per_artifact_byte if ratio is not None and ratio.per_artifact_byte else FIRST_ESTIMATE
        model.estimate = max(LEAST_BYTES, int(artifact_bytes * factor)) * model.spec.tuning.workers
    return model.size != before


def unlearn(model: Model, *, content: bool) -> None:
    """Another content is wanted, of which nothing is known. ``content``: forget what was estimated as well."""
    model.artifact_bytes = None
    if content:
        model.estimate = None


def take_over(service: Service | None, model: Model, declared: int) -> None:
    """The model's memory is not declared any more: its artifact tells; while nobody knows it, what was ``declared``."""
    model.estimate = declared
    if model.artifact_bytes is not None:
        model.estimate = None
        learn_size(service, model, model.artifact_bytes)


def learn_from_holder(model: Model, report: SlotReport) -> None:
    """What an earlier operator counted the model with is its estimate, where no agent has said more."""
    only = report.serving == model.wanted_id and report.target in (None, report.serving)
    if model.size is None and only and report.held_bytes:
        model.estimate = report.held_bytes


def of_stray(report: SlotReport) -> int | None:
    """Bytes that a slot takes of which nothing but its agent's word is known; None: not known either."""
    if report.held_bytes is not None or report.artifact_bytes is None:
        return report.held_bytes
    return max(LEAST_BYTES, int(report.artifact_bytes * FIRST_ESTIMATE))


def count(pod: Pod, copy: Copy, model: Model | None) -> None:
    """Keep the pod's sums by format right: ``model`` answers from it now, or (None) no longer does."""
    if copy.tally is not None:
        framework, counted = copy.tally
        total = pod.tallies[framework]
        total.memory -= counted.memory
        total.artifacts -= counted.artifacts
        copy.tally = None
        if total.memory <= 0:
            del pod.tallies[framework]
    if model is not None:
        framework = model.spec.framework.lower()
        # A ratio is of one worker: its estimate is multiplied again.
        counted = Tally(max(1, copy.memory), (model.artifact_bytes or 0) * model.spec.tuning.workers)
        copy.tally = (framework, counted)
        total = pod.tallies.setdefault(framework, Tally())
        total.memory += counted.memory
        total.artifacts += counted.artifacts


def measured(service: Service, pod: Pod, before: ServerReport | None, report: ServerReport) -> None:
    """A pod says what its server takes: correct the ratios of the formats that it holds.

    The first load brings the format's whole library with it, so two measurements are compared, the first one with
    something loaded and one with at least twice as much; unless so much is loaded that the library hardly counts.
    """
    if report.memory_bytes is None or report.base_memory_bytes is None or not pod.tallies:
        return
    if before is not None and (before.memory_bytes, before.boot) == (report.memory_bytes, report.boot):
        return
    now = Measured(
        report.boot,
        taken=(report.memory_bytes - report.base_memory_bytes) // service.spec.processes,
        declared=sum(tally.memory for tally in pod.tallies.values()),
        artifacts=sum(tally.artifacts for tally in pod.tallies.values()),
    )
    first = pod.first_measured
    if first is None or first.boot != now.boot or now.declared < first.declared:
        first = pod.first_measured = now
    declared, taken, artifacts = now.declared, now.taken, now.artifacts
    if declared < MUCH_BYTES:
        declared, taken, artifacts = declared - first.declared, taken - first.taken, artifacts - first.artifacts
        if declared < max(first.declared, LEAST_MEASURED_BYTES):
            return
    for framework in pod.tallies:
        ratio = service.ratios.setdefault(framework, Ratio())
        step = SMOOTHING if ratio.samples else 1.0
        ratio.declared += (max(0, taken) / declared - ratio.declared) * step
        if artifacts > 0:
            known = ratio.per_artifact_byte  # models that declare theirs may have been measured before any artifact
            ratio.per_artifact_byte += (max(0, taken) / artifacts - known) * (step if known else 1.0)
        ratio.samples += 1
