"""Patches that the status room sends."""

from typing import Any

import pytest
from shoal_operator.status.patches import finalizer_patch, status_patch


def test_a_status_goes_only_to_the_object_it_was_made_for() -> None:
    assert status_patch("u", {"a": 1}) == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "add", "path": "/status", "value": {"a": 1}},
    ]


DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "7", "uid": "u"}


@pytest.mark.parametrize(
    ("metadata", "left"),
    [
        ({**DELETED, "finalizers": ["trainedmodel.finalizer"]}, []),
        ({**DELETED, "finalizers": ["a", "trainedmodel.finalizer", "b"]}, ["a", "b"]),
        ({**DELETED, "finalizers": ["a"]}, None),
        ({"finalizers": ["trainedmodel.finalizer"]}, None),
        (DELETED, None),
        ({}, None),
    ],
)
def test_kserves_finalizer_is_taken_off_a_deleted_model_only(metadata: dict[str, Any], left: list[str] | None) -> None:
    patch = finalizer_patch({"metadata": metadata})
    assert (patch["metadata"]["finalizers"] if patch else None) == left
    if patch:
        assert patch["metadata"]["resourceVersion"] == "7"
