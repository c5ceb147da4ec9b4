"""How much memory models take: declared, estimated from the artifact, and corrected by what pods measure.

A pod measures its server as a whole. What it takes beyond an empty server is compared with what its models declare (or
were estimated at); the ratio is kept by InferenceService and format, and used for the models that declare nothing. A
declaration is never overruled: it is the unit that users plan with (KServe's rule); that it is far off is said in
status.
"""

from shoal_api.messages import ServerReport

from .world import Copy, Model, Pod, Ratio, Service, Tally

FIRST_ESTIMATE = 2.0
"""Bytes of memory per byte of artifact before anything was measured; compressed formats take more."""
LEAST_BYTES = 1 << 20
LEAST_MEASURED_BYTES = 32 << 20
"""Of memory declared and of memory taken. Smaller differences are the server's own ups and downs."""
SMOOTHING = 0.2


def learn_size(service: Service | None, model: Model, artifact_bytes: int | None) -> None:
    """The artifact's size is known: estimate the memory of a model that declares none. Fixed for this content."""
    if artifact_bytes is not None:
        model.artifact_bytes = artifact_bytes
    if model.spec.memory_bytes is None and model.estimate is None and artifact_bytes is not None:
        ratio = service.ratios.get(model.spec.framework.lower()) if service is not None else None
        factor = ratio.per_artifact_byte if ratio is not None and ratio.per_artifact_byte else FIRST_ESTIMATE
        model.estimate = max(LEAST_BYTES, int(artifact_bytes * factor))


def count(pod: Pod, copy: Copy, model: Model | None) -> None:
    """Keep the pod's sums by format right: ``model`` answers from it now, or (None) no longer does."""
    if copy.tally is not None:
        framework, held = copy.tally
        total = pod.tallies[framework]
        total.memory -= held.memory
        total.artifacts -= held.artifacts
        copy.tally = None
        if total.memory <= 0:
            del pod.tallies[framework]
    if model is not None:
        framework = model.spec.framework.lower()
        held = Tally(max(1, copy.memory), model.artifact_bytes or 0)
        copy.tally = (framework, held)
        total = pod.tallies.setdefault(framework, Tally())
        total.memory += held.memory
        total.artifacts += held.artifacts


def measured(service: Service, pod: Pod, before: ServerReport | None, report: ServerReport) -> None:
    """A pod says what its server takes: correct the ratios of the formats that it holds."""
    if report.memory_bytes is None or report.base_memory_bytes is None:
        return
    if before is not None and (before.memory_bytes, before.boot) == (report.memory_bytes, report.boot):
        return
    taken = report.memory_bytes - report.base_memory_bytes
    memory = sum(tally.memory for tally in pod.tallies.values())
    artifacts = sum(tally.artifacts for tally in pod.tallies.values())
    if min(memory, taken) < LEAST_MEASURED_BYTES:
        return
    for framework in pod.tallies:
        ratio = service.ratios.setdefault(framework, Ratio())
        step = SMOOTHING if ratio.samples else 1.0
        ratio.declared += (taken / memory - ratio.declared) * step
        if artifacts:
            ratio.per_artifact_byte += (taken / artifacts - ratio.per_artifact_byte) * step
        ratio.samples += 1
