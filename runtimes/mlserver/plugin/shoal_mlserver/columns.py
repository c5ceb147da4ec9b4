"""Named columns of a request against the names that a model was trained with. No I/O, nothing of MLServer.

A model that knows its columns gets them in its own order, whatever the order in the request: an estimator that does not
look at names would answer for other columns than the ones named. One that was trained on rows without names gets them
in the order of the request; there is nothing else to go by.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

_MAX_NAMED = 5


def names_of(model: Any) -> tuple[list[str] | None, bool]:
    """The feature names of a scikit-learn, XGBoost or LightGBM model, None if it has none or is another kind; and
    whether the model itself refuses other columns, or knows what to do without them (a ColumnTransformer)."""
    names: Any = None
    with contextlib.suppress(Exception):  # properties of estimators that are not fitted, or not this kind
        names = getattr(model, "feature_names_in_", None)
    if names is None and hasattr(model, "get_booster"):
        with contextlib.suppress(Exception):
            names = model.get_booster().feature_names
    if names is None and callable(getattr(model, "feature_name", None)):
        with contextlib.suppress(Exception):
            names = model.feature_name()
    found = [str(name) for name in names] if names is not None else []
    # What LightGBM calls columns that had no name.
    if not found or all(name == f"Column_{number}" for number, name in enumerate(found)):
        return None, False
    return found, type(model).__module__.startswith(("sklearn.", "xgboost."))


def in_order(given: Sequence[str], own: Sequence[str] | None, checked: bool) -> list[str] | None:
    """The order to bring ``given`` into; None: leave it. ``checked``: the model checks for itself which are there.

    Raises ValueError if they are not the model's columns.
    """
    if own is None:
        return None
    missing = [name for name in own if name not in given]
    others = [name for name in given if name not in own]
    if not checked and (missing or others):
        said = [f"{words} {_some(names)}" for words, names in (("lacks", missing), ("also has", others)) if names]
        raise ValueError(f"The request {' and '.join(said)}: the model's columns are {_some(own)}")
    return [name for name in own if name in given] + others


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:_MAX_NAMED])
    return f"{shown} and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else shown
