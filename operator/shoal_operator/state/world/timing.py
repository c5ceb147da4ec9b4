"""The seconds that shape what the state does, in one place: settings and tests choose others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that shape behaviour; tests shorten them."""

    recovery: float = 30.0  # longest wait for ready pods' agents after a start
    # After every Envoy acknowledged: its workers follow its main thread, and requests are on the wire.
    drain_grace: float = 1.25
    unload: float = 10.0  # an unload that takes longer is not waited for: who was promised its memory goes elsewhere
    server_restart: float = 15.0  # the agent restores models by itself; placement waits this long
    first_placement: float = 20.0  # a new service waits for all its pods, so that its models spread from the start
    service_move: float = 600.0  # the old InferenceService serves a moved model at most this long
    retry_refused: float = 0.5  # freed memory is offered to refused models in batches
    gate: float = 300.0  # a new pod turns Ready at the latest after this, loaded or not
    first_answer: float = 2.0  # a copy that a request waited for stays at least so long, for that request to come
    residency: float = 30.0  # a copy that was loaded goes only after this while older ones can
    use_wait: float = 0.1  # for agents to say what is used now, before anyone is evicted; 0: they are not asked
    pressure: float = 60.0  # after an eviction, free memory is left to requests, and not filled with cold models
    failure_first: float = 10.0  # a failed model whose copy made way is tried again after this, then twice as long,
    failure_last: float = 300.0  # up to this,
    crash_last: float = 3600.0  # or this, where each try costs other models their server
    crash_told: float = 30.0  # Kubernetes says within this time of a server's end how it came about
    hot_idle: float = 60.0  # a further copy of a hot model may take the place of one unused for so long
    hot_rate: float = 5.0  # requests a second below which no model is hot
    review: float = 5.0  # how often hot models and replicas are reviewed
    scale_up: float = 15.0  # more pods only when that was wanted for so long
    scale_down: float = 300.0  # fewer likewise (Kubernetes' HPA has the same default)
    use_told: float = 6.0  # agents may tell of use so late (use.REPORT_SECONDS, and their way)
    look_up: float = 60.0  # a pod is asked for at most so often where nothing but a look-up waits for it
    working_set: float = 600.0  # what was used so recently should fit the pods
    revise_first: float = 2.0  # an artifact that is overwritten again is followed again after this, then twice as long,
    revise_last: float = 300.0  # up to this
    check_pace: float = 0.05  # between two looks at the storage beside what serves, of all models together
