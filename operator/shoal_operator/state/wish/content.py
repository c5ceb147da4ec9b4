"""Which content a model's copies load, and what is known of it: seen, sized, loaded, failed, good.

What the spec names is wanted; where that is known not to load, what was last good is loaded instead.
"""

from dataclasses import replace

from shoal_api.messages import MODEL_SERVER_CRASHED, CopyFailure

from shoal_operator.state.wish.revisions import labelled, revised
from shoal_operator.state.wish.states import MAX_CRASHES, asked, deadly, lacks_any
from shoal_operator.state.wish.transitions import answered
from shoal_operator.state.world.agenda import Topic
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import NEVER, Model, Service, World
from shoal_operator.state.world.values import Content, ModelSpec

MAX_DOUBLINGS = 16


def last_good_usable(service: Service, model: Model, now: float) -> bool:
    """There is another content than the spec's that requests can be answered with."""
    good = model.last_good
    return (
        good is not None
        and good.digest != model.spec.content
        and now >= model.last_good_retry_at
        and good.framework.lower() in service.spec.formats
        and good.memory_bytes is not None
        and good.memory_bytes <= service.spec.capacity_bytes
    )


def counted_on(service: Service, model: Model, now: float) -> bool:
    """Requests can be answered with some content of it, as far as anyone knows."""
    known = model.vouched == model.spec.content and model.failure is None
    return known or last_good_usable(service, model, now)


def choose_content(ctx: Context, model: Model) -> bool:
    """Decide what its copies load: what the spec names, unless that is known not to load here. True: it changed.

    What failed is known not to load until it is tried again, which no request waits for; the rest is not known before
    it is tried.
    """
    service = ctx.world.services.get(model.spec.service_key)
    if service is None:
        return False
    too_large = model.size is not None and model.size > service.spec.capacity_bytes
    failed = model.failure is not None and (
        ctx.now < model.retry_at or asked(model, ctx.now) or deadly(model) or lacks_any(service, model)
    )
    hopeless = failed or too_large or model.spec.framework.lower() not in service.spec.formats
    fallback = hopeless and last_good_usable(service, model, ctx.now)
    if fallback == model.fallback:
        return False
    model.fallback = fallback
    if fallback and failed and model.retry_at <= ctx.now and not deadly(model):
        ctx.world.agenda.put(ctx.now + ctx.world.timing.failure_first, model.spec.key, Topic.RETRY)
    ctx.plan_model(model)
    return True


def fail(ctx: Context, model: Model, failure: CopyFailure) -> None:
    """One more attempt at what the spec names failed. Who waits for the model is answered, by the last good content if
    there is one, else with the cause."""
    model.failure = failure
    model.failures += 1
    if failure.reason == MODEL_SERVER_CRASHED:
        model.crashes = max(model.crashes + 1, min(failure.attempts, MAX_CRASHES))
    service = ctx.world.services.get(model.spec.service_key)
    if service is not None and last_good_usable(service, model, ctx.now):
        back_off(ctx.world, model, ctx.now)
    choose_content(ctx, model)
    if not model.fallback:
        answered(ctx.world, model)


def recall(ctx: Context, model: Model, failure: CopyFailure) -> None:
    """By its status, the last attempt at what the spec names failed under another operator. It is tried again after the
    first pause: the cause may be gone since."""
    model.failure, model.failures = failure, 1
    if failure.reason == MODEL_SERVER_CRASHED:
        model.crashes, model.out_of_memory = MAX_CRASHES, _OOM_KILLED in failure.message
    back_off(ctx.world, model, ctx.now)


def fail_last_good(ctx: Context, model: Model) -> None:
    """The last good content does not load any more either: left alone for a while."""
    model.last_good_failures += 1
    model.last_good_retry_at = ctx.now + _pause(ctx.world, model.last_good_failures)
    ctx.world.agenda.put(model.last_good_retry_at, model.spec.key, Topic.RETRY)
    choose_content(ctx, model)
    if not model.fallback:
        answered(ctx.world, model)


def begin(spec: ModelSpec, last_good: Content | None, *, vouched: bool) -> Model:
    """A model that this operator knows nothing of but its object. ``vouched``, ``last_good``: by its status.

    Where the object cannot be used, what was last good stays in force.
    """
    model = Model(spec)
    if spec.problem is not None and last_good is not None:
        model.complaint = spec.problem
        model.spec = replace(
            spec,
            storage_uri=last_good.storage_uri,
            framework=last_good.framework,
            memory_bytes=last_good.memory_bytes,
            content=last_good.digest,
            tuning=last_good.tuning,
            revision=last_good.revision if labelled(last_good) else "",
            problem=None,
        )
    model.last_good = last_good
    if vouched or model.complaint is not None:
        model.vouched = model.artifact_seen = model.spec.content
    model.revision = model.spec.revision
    if last_good is not None and last_good.digest == model.spec.content:
        model.estimate = last_good.memory_bytes
        model.revision = last_good.revision
    return model


def revise(model: Model, revision: str) -> None:
    """What the spec names was overwritten: its content is another one from now on, of which all is still to be seen but
    that it is there."""
    before, was = model.spec, model.revision
    good = model.last_good
    if good is not None and good.digest == before.content:
        model.last_good = replace(good, digest=revised(before, was).content, revision=was)
    model.spec = revised(before, revision)
    model.revision = revision
    if model.vouched == before.content:
        model.vouched = model.spec.content  # as of what was seen and not loaded yet
    model.artifact_seen = model.spec.content


def saw(model: Model) -> None:
    """An agent has seen what the spec names in its storage, or holds it."""
    model.artifact_seen = model.spec.content


def worked(model: Model) -> None:
    """What failed before says nothing of the next attempt."""
    model.failure, model.failures, model.retry_at = None, 0, NEVER
    model.crashes, model.out_of_memory = 0, False


def starved(model: Model) -> None:
    """The server that ended while it was loading did so for want of memory."""
    model.out_of_memory = True


def told(model: Model, failure: CopyFailure) -> CopyFailure:
    """What is said of a failure of its copies: of a crash more is known here than by the agent."""
    if failure.reason != MODEL_SERVER_CRASHED:
        return failure
    how = f"was killed for want of memory ({_OOM_KILLED})" if model.out_of_memory else "ended"
    again = (
        "That was so often that it is left alone until its TrainedModel or its InferenceService changes, or a request "
        "asks for it after a pause: each try costs the pod's other models their server."
        if deadly(model)
        else "It is tried again alone, after the others."
    )
    return failure.model_copy(
        update={
            "message": f"The model server's process {how} while this model, and no other, was loading. {again} "
            f"{_MORE_MEMORY if model.out_of_memory else _LOOK}"
        }
    )


_OOM_KILLED = "OOMKilled"
_MORE_MEMORY = (
    "Declare more in spec.model.memory, so that fewer models share a pod with it, or raise the predictor's "
    "resources.limits.memory."
)
_LOOK = (
    "Look at the server container's previous log (kubectl logs --previous -c kserve-container). Where memory is short, "
    "declare more in spec.model.memory, or raise the predictor's resources.limits.memory."
)


def doubt(model: Model) -> None:
    """Requests cannot count on what the spec names: the last attempt at it failed."""
    model.vouched = ""


def remember(model: Model, learned: Model) -> None:
    """What was learned of the same content by what this model was before is true whatever went wrong then."""
    model.artifact_seen = model.artifact_seen or learned.artifact_seen
    model.artifact_bytes = model.artifact_bytes or learned.artifact_bytes
    model.estimate = model.estimate or learned.estimate
    model.last_used = model.last_used if model.last_used != NEVER else learned.last_used


def vouch(model: Model, *, loaded: bool) -> None:
    """Requests can count on what the spec names: it is ``loaded``, or was seen in its storage.

    What was only seen does not take the place of another content that worked.
    """
    spec = model.spec
    model.vouched = spec.content
    if not loaded and model.last_good is not None and model.last_good.digest != spec.content:
        return
    model.last_good = Content(spec.storage_uri, spec.framework, spec.content, model.size, spec.tuning, model.revision)
    model.last_good_failures, model.last_good_retry_at, model.fallback = 0, NEVER, False


def back_off(world: World, model: Model, now: float) -> None:
    """Put off the model's next try, twice as long after each failure in a row, and look at it then."""
    model.retry_at = now + _pause(world, model.failures, deadly=deadly(model))
    world.agenda.put(model.retry_at, model.spec.key, Topic.RETRY)


def try_now(world: World, model: Model, now: float) -> None:
    """What made it fail has passed: its next try is not waited for any longer."""
    model.retry_at = now
    world.agenda.put(now, model.spec.key, Topic.RETRY)


def _pause(world: World, failures: int, *, deadly: bool = False) -> float:
    doublings = min(max(0, failures - 1), MAX_DOUBLINGS)
    longest = world.timing.crash_last if deadly else world.timing.failure_last
    return min(world.timing.failure_first * 2.0**doublings, longest)
