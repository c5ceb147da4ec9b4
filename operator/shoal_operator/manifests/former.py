"""What an InferenceService's pods were made for, kept while what is written now cannot be: the last usable spec.

An edit that cannot be changes what is said and nothing else. Which formats the running pods load and how much they
hold is written on their Deployment, so that an operator that starts beside a broken spec still knows. Pure.
"""

import json
from contextlib import suppress
from dataclasses import asdict, replace

from shoal_operator.state.world.prefix import Prefix
from shoal_operator.state.world.values import Problem, ServiceSpec

from . import reasons

ANNOTATION_SERVES = "shoal.dev/serves"
"""On Deployments: what their pods serve, as JSON."""

_ENDS = frozenset({reasons.NOT_MULTI_MODEL})
"""With these the user says, rather than mistypes, that the InferenceService is not for TrainedModels."""
_GOES_ON = "Until that is corrected, its pods go on as they were."


def serves(spec: ServiceSpec) -> str:
    """The annotation's value; the same for the same spec."""
    return json.dumps(
        {
            "capacityBytes": spec.capacity_bytes,
            "formats": sorted(spec.formats),
            "serverType": spec.server_type,
            "protocol": spec.protocol,
            **({"processes": spec.processes} if spec.processes > 1 else {}),
            **({"modelsFrom": asdict(spec.models_from)} if spec.models_from is not None else {}),
        },
        separators=(",", ":"),
    )


def served(now: ServiceSpec, annotation: str) -> ServiceSpec | None:
    """The spec as it is written now, with what the pods serve by the annotation; None where that cannot be read."""
    try:
        read = json.loads(annotation)
        now = with_former_place(now, annotation)
        return replace(
            now,
            capacity_bytes=int(read["capacityBytes"]),
            formats=frozenset(str(name) for name in read["formats"]),
            server_type=str(read["serverType"]),
            policy=replace(now.policy, server_type=str(read["serverType"])),
            protocol=str(read["protocol"]),
            processes=max(1, int(read.get("processes", 1))),
            problem=None,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def with_former_place(now: ServiceSpec, annotation: str) -> ServiceSpec:
    """The same with the place of unregistered models that the annotation has, where the one that is written cannot be
    used, or nobody can tell."""
    if now.place_unusable or now.problem is not None:
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            read = json.loads(annotation)["modelsFrom"]
            memory = read["memory_bytes"]
            place = Prefix(
                str(read["uri"]),
                str(read["framework"]),
                str(read["pattern"]),
                None if memory is None else int(memory),
                int(read["most"]),
            )
            return replace(now, models_from=place, policy=replace(now.policy, any_name=True))
    return now


def as_it_runs(
    spec: ServiceSpec,
    complaint: Problem | None,
    former: ServiceSpec | None,
    pods_refused: Problem | None,
    *,
    has_pods: bool,
) -> ServiceSpec:
    """What holds of an InferenceService: ``spec`` as written, or ``former`` while pods run and ``complaint`` says that
    what is written cannot be.

    ``pods_refused``: why further pods cannot be made. Without any pod a complaint is a problem; else it only degrades.
    """
    if complaint is not None and has_pods and former is not None and complaint.reason not in _ENDS:
        return replace(
            former,
            generation=spec.generation,
            ignored_fields=spec.ignored_fields,
            problem=None,
            degraded=Problem(complaint.reason, f"{complaint.message} {_GOES_ON}"),
        )
    refused = complaint or pods_refused
    if spec.problem is not None or refused is None:
        return spec
    return replace(spec, degraded=refused) if has_pods else replace(spec, problem=refused)
