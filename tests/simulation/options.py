"""How large a simulated run is, how hostile its surroundings are, and the operator's times in it."""

from dataclasses import dataclass

from shoal_operator.state.world.timing import Timing

NAMESPACE = "ns"
ACTIVATION_TIMEOUT = 10.0
WAKE_TIMEOUT = 20.0
TIMING = Timing(
    recovery=5,
    unload=4,
    server_restart=5,
    first_placement=5,
    service_move=20,
    gate=20,
    residency=3,
    pressure=5,
    failure_first=2,
    failure_last=10,
    review=2,
    hot_rate=0.3,
    hot_idle=5,
    scale_up=2,
    scale_down=8,
    working_set=10,
    revise_first=0.5,
    revise_last=3,
    use_told=1,
    look_up=6,
)


@dataclass
class Options:
    """Size of a run, and how hostile its surroundings are (probabilities)."""

    services: int = 2
    pods: int = 3
    models: int = 12
    capacity: int = 100
    seconds: float = 60.0
    faults: bool = True
    loss: float = 0.1
    watch_loss: float = 0.05
    strict: bool = True
    requests: float = 0.0  # requests a second, of a few popular models and many others
    unit: int = 1  # bytes, of all sizes
    undeclared: float = 0.0  # models that leave their memory out
    varied: bool = False  # idle unloads, bounds of copies, services that turn strict and back
    most_pods: int = 0  # autoscaled, from `pods` up to so many
    idle: float = 0.0  # seconds without use after which services have no pod; 0: they have pods at any time
    piece: int = 0  # so few items of work for many are done at once, with other events in between; 0: as many as real
    overwritten: bool = False  # artifacts are overwritten in place, also with what no server loads
    unregistered: float = 0.0  # requests a second for names that have no object
    samples: int = 6  # how often, while all goes on, a status is compared with what comes of a request
