"""Statuses are kept packed: whole, equal for equal ones, and small."""

from typing import Any

import pytest
from shoal_operator.status import stored
from shoal_operator.status.model_status import model_status

from .model_views import LOAD, NOW, view

LOADED = model_status(view(artifact_seen=True), None, NOW)


@pytest.mark.parametrize(
    "status",
    [
        {},
        LOADED,
        model_status(view(failure=LOAD), None, NOW),
        {"conditions": [{"type": "Ready", "message": "ü" * 3000}], "other": [1, None, 2.5]},
    ],
)
def test_what_is_packed_comes_back(status: dict[str, Any]) -> None:
    assert stored.unpack(stored.pack(status)) == status


def test_equal_statuses_are_equal_packed_whatever_their_order() -> None:
    turned = dict(reversed(LOADED.items()))
    assert stored.pack(turned) == stored.pack(LOADED)
    assert stored.pack(LOADED | {"url": "http://other"}) != stored.pack(LOADED)


def test_a_models_status_is_small_to_keep() -> None:
    assert len(stored.dump(LOADED)) > 800
    assert len(stored.pack(LOADED)) < 150
