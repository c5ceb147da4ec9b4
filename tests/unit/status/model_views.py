"""Views of one model in one service, for the tests of status and explain."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from shoal_api.messages import CopyFailure, FailureStage
from shoal_operator.state.world.values import ModelSpec, Problem, ServiceSpec
from shoal_operator.state.world.views import CopyState, CopyView, ModelView
from shoal_operator.status.model_status import model_status

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
MEBIBYTE = 1 << 20

SPEC = ModelSpec("demo", "m", "u", 4, "iris", "s3://bucket/m", "sklearn", 256 * MEBIBYTE, "content")
SERVICE = ServiceSpec("demo", "iris", "s", 1, 512 * MEBIBYTE, frozenset({"sklearn", "xgboost"}), "mlserver", "v1")
PULL = CopyFailure(stage=FailureStage.STORAGE, reason="AccessDenied", message="403 for s3://bucket/m.", attempts=7)
LOAD = CopyFailure(stage=FailureStage.LOAD, reason="LoadFailed", message="ValueError: no joblib.")
UNSUPPORTED = Problem("StorageUriNotSupported", "hdfs:// cannot be pulled.")


def copy(state: CopyState, failure: CopyFailure | None = None, pod: str = "p1") -> CopyView:
    return CopyView(pod, f"uid-{pod}", state, state in (CopyState.LOADED, CopyState.OUTDATED), failure)


def view(*copies: CopyView, **changes: Any) -> ModelView:
    whole = ModelView(spec=SPEC, service=SERVICE, service_ready=True, url="http://iris.demo.example.com", copies=())
    return with_copies(whole, copies, **changes)


def with_copies(of: ModelView, copies: Sequence[CopyView], **changes: Any) -> ModelView:
    """As state makes it: what it says of the model's copies as a whole is so of these."""
    placed = sum(copy.state not in (CopyState.DRAINING, CopyState.UNLOADING) for copy in copies)
    failures = [copy.failure for copy in sorted(copies, key=lambda copy: copy.pod_uid) if copy.failure is not None]
    given = {"copies": tuple(copies), "placed": placed, "failure": next(iter(failures), None)}
    return replace(of, **{**given, **changes})


def verdicts(of: ModelView) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in model_status(of, None, NOW)["conditions"]}


def message(of: ModelView, kind: str = "Ready") -> str:
    return next(str(c.get("message", "")) for c in model_status(of, None, NOW)["conditions"] if c["type"] == kind)
