"""What an InferenceService's pods were made for, kept while what is written now cannot be: the last usable spec.

An edit that cannot be changes what is said and nothing else. Which formats the running pods load and how much they
hold is written on their Deployment, so that an operator that starts beside a broken spec still knows. Pure.
"""

import json
from dataclasses import replace

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
        },
        separators=(",", ":"),
    )


def served(now: ServiceSpec, annotation: str) -> ServiceSpec | None:
    """The spec as it is written now, with what the pods serve by the annotation; None where that cannot be read."""
    try:
        read = json.loads(annotation)
        return replace(
            now,
            capacity_bytes=int(read["capacityBytes"]),
            formats=frozenset(str(name) for name in read["formats"]),
            server_type=str(read["serverType"]),
            policy=replace(now.policy, server_type=str(read["serverType"])),
            protocol=str(read["protocol"]),
            problem=None,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


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
