"""KServe's v1 prediction protocol, as a translation to and from Open Inference Protocol (v2) tensors. No I/O.

Request ``{"instances": [...]}`` (or ``inputs``, which KServe accepts as well); response ``{"predictions": [...]}``.
Null among numbers is a missing value, NaN: whether it may be missing is the model's to say. Text may be missing only in
a named column, where data frames have a value for it; a boolean nowhere.

Values are plain dictionaries in the shape of v2's JSON, so this file needs nothing of MLServer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class BadInput(ValueError):
    """The request's body cannot be understood. The message is for the caller."""


_DATATYPES = {"b": "BOOL", "i": "INT64", "u": "UINT64", "f": "FP64"}


def inputs_of(body: object) -> tuple[list[dict[str, Any]], str | None]:
    """v2 ``inputs`` and the request's content type (``pd`` for instances that are objects, else None).

    Raises BadInput.
    """
    if not isinstance(body, Mapping):
        raise BadInput('Expected a JSON object of the form {"instances": [...]}.')
    instances = body.get("instances", body.get("inputs"))
    if instances is None:
        raise BadInput('Expected key "instances" in the request body.')
    if not isinstance(instances, list):
        raise BadInput('Expected "instances" to be a list.')
    if not instances:
        raise BadInput('Expected "instances" to hold at least one instance.')
    if all(isinstance(instance, Mapping) for instance in instances):
        return _columns(instances), "pd"
    return [_tensor("predict", instances)], None


def _columns(instances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = list(instances[0])
    if not names:
        raise BadInput("Expected every instance to have at least one column.")
    if any(set(instance) != set(names) for instance in instances):
        raise BadInput("Expected every instance to have the same columns as the first.")
    columns = []
    for name in names:
        values = [instance[name] for instance in instances]
        column = _text_with_gaps(name, values) or _tensor(name, values)
        if len(column["shape"]) == 1:
            column["shape"] = [len(instances), 1]
        columns.append(column)
    return columns


def _text_with_gaps(name: str, values: list[Any]) -> dict[str, Any] | None:
    if None not in values or not any(isinstance(value, str) for value in values):
        return None
    if not _only_strings([value for value in values if value is not None]):
        raise BadInput(f'Expected column "{name}" to hold either only strings or only numbers.')
    return {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": values}


def _tensor(name: str, values: list[Any]) -> dict[str, Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:  # ragged
        raise BadInput('Expected all "instances" to have the same shape.') from error
    if array.dtype.kind == "O" and first_null(values) is not None:
        array = _with_gaps(array)
    kind = array.dtype.kind
    if kind in "US":
        # Numpy turns numbers beside strings into strings; say so instead of predicting on something else.
        if not _only_strings(values):
            raise BadInput('Expected "instances" to hold either only strings or only numbers.')
        data: list[Any] = array.ravel().tolist()
        return {"name": name, "shape": list(array.shape), "datatype": "BYTES", "data": data}
    if kind not in _DATATYPES:
        raise BadInput('Expected "instances" to hold numbers, booleans or strings in lists of equal length.')
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": _DATATYPES[kind],
        "data": array.ravel().tolist(),
    }


def _with_gaps(array: Any) -> Any:
    """The same as floating point numbers, NaN where there is None; only numbers may be missing so."""
    values = [value for value in array.ravel() if value is not None]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise BadInput('Expected "instances" to hold null only among numbers, or in a named column of strings.')
    return array.astype(np.float64)


def first_null(value: object, at: str = "") -> str | None:
    """Where the first null is, as in ``[0][1]`` or ``[0]["age"]``; None: nowhere."""
    # Neither this nor the next function is recursive: a client nests lists as deep as JSON may be.
    left = [(value, at)]
    while left:
        item, where = left.pop()
        if item is None:
            return where
        if isinstance(item, list):
            left.extend((item[index], f"{where}[{index}]") for index in reversed(range(len(item))))
        elif isinstance(item, Mapping):
            left.extend((item[key], f'{where}["{key}"]') for key in reversed(item))
    return None


def _only_strings(value: object) -> bool:
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left.extend(item)
        elif not isinstance(item, str):
            return False
    return True


def predictions_of(outputs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The ``predictions``: of one output its rows; of several, one object per row, keyed by output."""
    if len(outputs) == 1:
        return _rows(outputs[0])
    columns = {str(output["name"]): _rows(output) for output in outputs}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]


def _rows(output: Mapping[str, Any]) -> list[Any]:
    shape = list(output["shape"])
    data = [_text(item) for item in output["data"]]
    # MLServer writes a vector of n as [n, 1] (its batch dimension); KServe's v1 answers with the vector.
    if len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    if len(shape) < 2 or int(np.prod(shape)) != len(data):
        return data
    rows: list[Any] = np.array(data, dtype=object).reshape(shape).tolist()
    return rows


def _text(item: object) -> object:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else item
