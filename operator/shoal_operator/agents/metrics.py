"""What the agents API counts."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class AgentsMetrics:
    """One registry can hold one of these."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.connected = Gauge(
            "shoal_agents_connected",
            "Agents that poll, or have polled moments ago. Fewer than shoal_pods_usable summed up: some pods' models"
            " can neither be loaded nor unloaded; see their agents' logs.",
            registry=registry,
        )
        self.waiting = Gauge(
            "shoal_agents_waiting_polls",
            "Long-polls that wait now for something to do. About as many as agents are connected when all is quiet.",
            registry=registry,
        )
        self.syncs = Counter(
            "shoal_agents_syncs_total",
            "Syncs by outcome: delta, full, unchanged, superseded, or the reason of a refusal. Many full ones mean"
            " agents that restart or that lost their way; a reason of refusal names what is wrong.",
            ["outcome"],
            registry=registry,
        )
        self.lost = Counter(
            "shoal_agents_lost_total",
            "Agents that hung up and did not come back in time. Their pods' routes stay while Kubernetes calls the pod"
            " ready and something there answers (see shoal_pods_cut_off); they get no new models.",
            registry=registry,
        )
        self.cut_off = Gauge(
            "shoal_pods_cut_off",
            "Pods that cannot be reached from here although their agents had been. Requests go elsewhere, unless more"
            " than half of an InferenceService's are so at once: then the operator is likely to be the one cut off.",
            registry=registry,
        )
        self.reviews = Counter(
            "shoal_agents_token_reviews_total",
            "TokenReviews asked of the API server, by outcome; answers are cached. Refused ones mean agents with a"
            " wrong token; believed: the API server did not answer, and a token that it had vouched for goes on.",
            ["outcome"],
            registry=registry,
        )
        self.strays = Counter(
            "shoal_agents_stray_slots_total",
            "Slots in agents' reports that were not wanted of their pods and are beyond the number that is noted. Any"
            " at all: an agent, or what poses as one, makes things up, or thousands of models were deleted while no"
            " operator ran; the log names the pod.",
            registry=registry,
        )
        self.turned_away = Counter(
            "shoal_agents_connections_refused_total",
            "Connections to the agents API that were closed because their address had too many or opened them too fast,"
            " or that showed no good token in time. Many: somebody in the cluster knocks who is no agent; the log names"
            " the address.",
            registry=registry,
        )
        self.seconds = Histogram(
            "shoal_agents_sync_seconds",
            "Seconds from a sync's arrival until its report was taken in; the long wait is not counted. When it grows"
            " the operator's event loop is busy: see shoal_plan_seconds.",
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
            registry=registry,
        )
