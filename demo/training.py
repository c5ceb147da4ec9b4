"""Trains the demo's models: sixty small regressors on the data sets that scikit-learn ships.

All models of a data set are asked with the same input row and must answer differently: only then does a request that
reaches the wrong model show. Training checks that, and fails when two answers are equal.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import sklearn
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

DATA_SETS: Final[dict[str, Callable[..., Any]]] = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
}
# Two or three labels leave trees and neighbours no room to differ: there the last measurement is predicted instead.
PREDICT_LAST_COLUMN: Final = frozenset({"iris", "wine", "cancer"})
# Regressors, because the server answers a classifier's label, and there are too few labels for all models to differ.
ESTIMATORS: Final[dict[str, Callable[[int], Any]]] = {
    "ridge": lambda seed: make_pipeline(StandardScaler(), Ridge(alpha=1.0 + seed)),
    "bayes": lambda seed: make_pipeline(StandardScaler(), BayesianRidge(alpha_init=1.0 + seed)),
    "vectors": lambda seed: TransformedTargetRegressor(
        make_pipeline(StandardScaler(), SVR(C=1.0 + seed)), transformer=StandardScaler()
    ),
    "forest": lambda seed: RandomForestRegressor(8, max_depth=4, min_samples_leaf=5, random_state=seed),
    "trees": lambda seed: ExtraTreesRegressor(8, max_depth=4, min_samples_leaf=5, random_state=seed),
    "boosting": lambda seed: GradientBoostingRegressor(n_estimators=12, max_depth=2, random_state=seed),
}
SEEDS: Final = (1, 2)
SMALLEST_DIFFERENCE: Final = 1e-6
"""Relative; the answers that come through the gateway are compared to a hundredth of it."""
_ROWS: Final = 300
_CATALOGUE: Final = "catalogue.json"


class EqualAnswersError(Exception):
    """Two models of a data set answer its probe alike, so that a wrong route between them would not show."""


@dataclass(frozen=True, slots=True)
class DemoModel:
    """One trained model: its folder's name below the models folder, what to ask it, and what it must answer."""

    name: str
    data_set: str
    estimator: str
    probe: list[float]
    answer: float

    def answers_with(self, value: float) -> bool:
        """Whether ``value`` is this model's answer, and no other's of its data set."""
        return math.isclose(value, self.answer, rel_tol=SMALLEST_DIFFERENCE / 100)


def train(folder: Path) -> list[DemoModel]:
    """The demo's models, trained into ``folder/<name>/model.joblib`` unless an earlier run left the same ones there.

    Raises EqualAnswersError when two models of a data set cannot be told apart.
    """
    fingerprint = _fingerprint()
    cached = _cached(folder, fingerprint)
    if cached is not None:
        return cached
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models: list[DemoModel] = []
    for data_set in DATA_SETS:
        of_this_set = train_data_set(data_set, folder)
        check_distinct(of_this_set)
        models.extend(of_this_set)
    text = json.dumps({"fingerprint": fingerprint, "models": [asdict(model) for model in models]}, indent=1)
    (folder / _CATALOGUE).write_text(text)
    return models


def train_data_set(data_set: str, folder: Path) -> list[DemoModel]:
    """Train every estimator with every seed on one data set, each on its own random part of the rows."""
    rows, target = DATA_SETS[data_set](return_X_y=True)
    if data_set in PREDICT_LAST_COLUMN:
        rows, target = rows[:, :-1], rows[:, -1]
    probe = _probe(rows, target)
    models = []
    for estimator, build in ESTIMATORS.items():
        for seed in SEEDS:
            chosen = np.random.default_rng(seed).choice(len(rows), size=min(_ROWS, len(rows)), replace=True)
            fitted = build(seed).fit(rows[chosen], target[chosen].astype(float))
            name = f"{data_set}-{estimator}-{seed}"
            save(fitted, folder / name)
            answer = float(fitted.predict(np.array([probe]))[0])
            models.append(DemoModel(name, data_set, estimator, probe, answer))
    return models


def save(estimator: object, folder: Path) -> None:
    """Write one estimator where MLServer's scikit-learn runtime looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(estimator, folder / "model.joblib", compress=3)


def check_distinct(models: list[DemoModel]) -> None:
    """Raise EqualAnswersError unless all answers differ by more than any rounding on the way."""
    ordered = sorted(models, key=lambda model: model.answer)
    for left, right in pairwise(ordered):
        if math.isclose(left.answer, right.answer, rel_tol=SMALLEST_DIFFERENCE):
            raise EqualAnswersError(f"{left.name} and {right.name} both answer {left.answer}")


def _probe(rows: Any, target: Any) -> list[float]:
    """A row between the lowest and the highest target, where estimators disagree most."""
    low, high = rows[int(np.argmin(target))], rows[int(np.argmax(target))]
    return [float(value) for value in np.round(0.55 * low + 0.45 * high, 4)]


def _fingerprint() -> str:
    """Changes when this file or a library does that decides what a model answers."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(f"{sklearn.__version__} {np.__version__} {joblib.__version__}".encode())
    return digest.hexdigest()


def _cached(folder: Path, fingerprint: str) -> list[DemoModel] | None:
    try:
        stored = json.loads((folder / _CATALOGUE).read_text())
    except (OSError, ValueError):
        return None
    if stored.get("fingerprint") != fingerprint:
        return None
    models = [DemoModel(**entry) for entry in stored["models"]]
    return models if all((folder / model.name / "model.joblib").exists() for model in models) else None
