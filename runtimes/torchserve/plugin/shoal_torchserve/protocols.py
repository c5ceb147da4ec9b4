"""The three ways of asking a model, told apart by the request's path, in one batch if need be.

TorchServe reads v1 (``/v1/models/{m}:predict``) or v2 (``/v2/models/{m}/infer``) by one setting of the whole server,
and then the first request of a batch only. Here every request is read as it came: the handler gets the rows of all, as
under KServe (a row is an instance of v1, an input of v2, the request itself by ``/predictions/{m}``), and each request
its own rows' results.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy

NATIVE, V1, V2 = "native", "v1", "v2"
DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
NAMES = {value: name for name, value in DATATYPES.items()}

Entry = Callable[[Any, Any], Any]


class BadRequest(Exception):
    """The client's mistake, in words for it."""


@dataclass
class Request:
    """``index``: in the batch. ``body``: as JSON, where the protocol has any. ``rows``: what the handler gets."""

    index: int
    protocol: str
    body: Any = None
    rows: list[Any] = field(default_factory=list)
    explain: bool = False


def read(data: list[Any], context: Any) -> tuple[list[Request], dict[int, str]]:
    """The batch's requests, and by index the mistakes of those that cannot be read."""
    requests, wrong = [], {}
    for index, row in enumerate(data):
        request = Request(index, NATIVE)
        request.explain = context.get_request_header(index, "explain") == "True"
        try:
            # Set by the server on requests to /predictions only.
            if context.get_request_header(index, "url_path") is not None:
                request.rows = [row]
            else:
                request.body = body(row)
                request.protocol = V2 if isinstance(request.body, dict) and "inputs" in request.body else V1
                request.rows = instances(request.body) if request.protocol == V1 else inputs(request.body)
        except BadRequest as error:
            wrong[index] = str(error)
        else:
            requests.append(request)
    return requests, wrong


def handle(entry: Entry, data: list[Any], context: Any) -> tuple[list[Any], int]:
    """Results by request, and how many of them are errors. Raises what the handler raises."""
    requests, wrong = read(data, context)
    if not wrong and all(request.protocol == NATIVE for request in requests):
        return entry(data, context), 0
    results: list[Any] = [None] * len(data)
    for index, text in wrong.items():
        results[index] = refuse(context, index, text)
    for explain in (False, True):
        group = [request for request in requests if request.explain is explain]
        if group:
            _run(entry, group, context, results)
    return results, len(wrong)


def _run(entry: Entry, group: list[Request], context: Any, results: list[Any]) -> None:
    """The handler sees a row's own request as that row's context."""
    processors, ids = context.request_processor, context.request_ids
    of_row = [request for request in group for _ in request.rows]
    context.request_processor = [processors[request.index] for request in of_row]
    context.request_ids = {row: ids[request.index] for row, request in enumerate(of_row)}
    try:
        found = entry([row for request in group for row in request.rows], context)
    finally:
        context.request_processor, context.request_ids = processors, ids
    if len(group) > 1 and len(found) != len(of_row):
        raise ValueError(
            f"the handler got {len(of_row)} rows of {len(group)} requests and returned {len(found)} results: return "
            "one for each row, or leave batchSize at 1"
        )
    start = 0
    for request in group:
        mine = found if len(group) == 1 else found[start : start + len(request.rows)]
        start += len(request.rows)
        results[request.index] = _answer(request, mine, context)


def _answer(request: Request, results: Any, context: Any) -> Any:
    if request.protocol == NATIVE:
        return results[0]
    if request.protocol == V1:
        said = {"explanations" if request.explain else "predictions": results}
    else:
        outputs = [
            output(str(asked.get("name", number)), result)
            for number, (asked, result) in enumerate(zip(request.rows, results))
        ]
        said = infer_response(request, outputs, context)
    return as_json(context, request.index, said)


def infer_response(request: Request, outputs: list[dict[str, Any]], context: Any) -> dict[str, Any]:
    """v2's answer."""
    return {
        "id": str(request.body.get("id") or context.get_request_id(request.index)),
        "model_name": context.model_name,
        "model_version": str(((context.manifest or {}).get("model") or {}).get("modelVersion") or ""),
        "outputs": outputs,
    }


def output(name: str, result: Any) -> dict[str, Any]:
    """One tensor of v2's answer, from whatever an array can be made of."""
    array = numpy.asarray(result)
    datatype = NAMES.get(str(array.dtype), "BYTES")
    flat = array.ravel().tolist()
    if datatype == "BYTES":
        flat = [each if isinstance(each, str) else json.dumps(each, default=str) for each in flat]
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": flat}


def body(row: Any) -> Any:
    """A request's body as JSON. Raises BadRequest."""
    content = row.get("data")
    content = row.get("body") if content is None else content
    if isinstance(content, (bytes, bytearray, str)):
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON: {error}") from error
    return content


def instances(content: Any) -> list[Any]:
    """Rows of v1. Raises BadRequest."""
    found = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(found, list) or not found:
        raise BadRequest('expected {"instances": [...]} with at least one instance (v1 protocol)')
    return found


def inputs(content: Any) -> list[dict[str, Any]]:
    """Inputs of v2, ``data`` in its shape. Raises BadRequest."""
    found = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(each, dict) for each in found):
        raise BadRequest('expected {"inputs": [{"name", "shape", "datatype", "data"}]} (v2 protocol)')
    return [_shaped(each) for each in found]


def _shaped(each: dict[str, Any]) -> dict[str, Any]:
    name, datatype, data, shape = (each.get(key) for key in ("name", "datatype", "data", "shape"))
    if datatype == "BYTES" and isinstance(data, list):
        # As TorchServe's own: a single one is the row's value.
        return {**each, "data": data[0] if len(data) == 1 else data}
    if datatype not in DATATYPES:
        raise BadRequest(f"input {name!r}: datatype {datatype!r} is none of {', '.join((*DATATYPES, 'BYTES'))}")
    try:
        return {**each, "data": _array(data, DATATYPES[datatype]).reshape(tuple(shape or ())).tolist()}
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequest(f"input {name!r}: data does not fit shape {shape} and datatype {datatype}: {error}") from error


def _array(data: Any, dtype: str) -> Any:
    """An array of that type, of values that are of it: numpy would make 1 of 1.5, and True of "false". Raises what
    numpy raises, and ValueError."""
    given = numpy.array(data)
    wanted = numpy.dtype(dtype)
    if wanted.kind == "f":
        if given.dtype.kind == "O" and all(each is None or _is_number(each) for each in given.ravel()):
            return numpy.array(data, wanted)  # null is NaN
        if given.dtype.kind not in "iuf":
            raise ValueError("expected numbers")
        return given.astype(wanted)
    if wanted.kind == "b":
        if given.dtype.kind != "b" and not (given.dtype.kind in "iu" and numpy.isin(given, (0, 1)).all()):
            raise ValueError("expected true or false")
        return given.astype(wanted)
    if given.dtype.kind not in "iu" and not all(
        _is_number(each) and int(each) == each for each in given.ravel().tolist()
    ):
        raise ValueError("expected whole numbers")
    bounds = numpy.iinfo(wanted)
    if given.size and not (bounds.min <= int(given.min()) and int(given.max()) <= bounds.max):
        raise ValueError(f"expected numbers from {bounds.min} to {bounds.max}")
    return given.astype(wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def refuse(context: Any, index: int, text: str) -> str:
    """400 for one request of the batch."""
    context.set_response_status(code=400, phrase="Bad Request", idx=index)
    return as_json(context, index, {"error": text})


def as_json(context: Any, index: int, content: Any) -> str:
    """Written here: TorchServe would write every number on a line of its own. What JSON has no word for (NaN, infinite)
    is null, as by the other servers."""
    context.set_response_content_type(index, "application/json")
    try:
        return json.dumps(content, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(content), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value if value is None or isinstance(value, (str, int)) else _finite(_plain(value))


def _plain(value: Any) -> Any:
    """What handlers return beside plain values: tensors and arrays."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a handler returned {type(value).__name__}, which is no JSON: return lists and numbers")
