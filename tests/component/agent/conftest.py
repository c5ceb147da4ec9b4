"""A pod with real parts, and scikit-learn models whose answers tell them apart."""

import io
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import joblib
import pytest
from sklearn.dummy import DummyRegressor

from .parts import Pod


def model(answer: float) -> bytes:
    """A scikit-learn model that answers ``answer`` to everything."""
    content = io.BytesIO()
    joblib.dump(DummyRegressor(strategy="constant", constant=answer).fit([[0.0]], [answer]), content)
    return content.getvalue()


@pytest.fixture
def artifact() -> Callable[[float], bytes]:
    return model


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    with tempfile.TemporaryDirectory(prefix="shoal-agent-") as folder:
        made = Pod(Path(folder))
        try:
            yield await made.start()
        finally:
            await made.stop()
