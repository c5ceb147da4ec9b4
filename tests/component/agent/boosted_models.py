"""Trains a small model of each boosting library in every format that it writes: run by the model server's own Python.

``boosted_models.py FOLDER`` writes ``FOLDER/<name>/<file>`` and prints ``{"rows", "models": {name: {"framework",
"predictions"}}}``: what the library itself predicts for these rows.
"""

import json
import sys
from pathlib import Path

import lightgbm
import numpy
import xgboost

ROWS = [[0.1, 0.9, 0.3], [0.8, 0.2, 0.7], [0.5, 0.5, 0.5]]


def main(folder: Path) -> None:
    chance = numpy.random.default_rng(7)
    features = chance.random((200, 3))
    wanted = features @ [3.0, -2.0, 1.0] + (features[:, 0] > 0.5)
    rows = numpy.array(ROWS)
    made = {}
    regressor = xgboost.XGBRegressor(n_estimators=8, max_depth=3).fit(features, wanted)
    classifier = xgboost.XGBClassifier(n_estimators=8, max_depth=2).fit(features, wanted > numpy.median(wanted))
    for name, model, file in (
        ("xgb-json", regressor, "model.json"),
        ("xgb-ubj", regressor, "model.ubj"),
        ("xgb-other-name", regressor, "prices-2026.ubj"),
        ("xgb-classes", classifier, "model.json"),
    ):
        (folder / name).mkdir()
        model.save_model(folder / name / file)
        made[name] = {"framework": "xgboost", "predictions": model.predict(rows).tolist()}
    data = lightgbm.Dataset(features, wanted)
    trees = lightgbm.train({"objective": "regression", "num_leaves": 7, "verbose": -1}, data, 8)
    for name, file in (("lgb-bst", "model.bst"), ("lgb-txt", "model.txt"), ("lgb-other-name", "prices-2026.txt")):
        (folder / name).mkdir()
        trees.save_model(folder / name / file)
        made[name] = {"framework": "lightgbm", "predictions": trees.predict(rows).tolist()}
    print(json.dumps({"rows": ROWS, "models": made}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
