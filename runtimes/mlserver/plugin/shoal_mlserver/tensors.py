"""MLServer's reading and writing of tensors, put right where clients of the Open Inference Protocol would not get on.

- Binary tensors over HTTP, as tritonclient.http and KServe's SDK send them (see ``binary``).
- gRPC: raw contents are checked against the shape; text, NaN and FP16 in answers, in both of its forms.
- BYTES are text where a model wants an array or a data frame: MLServer cuts bytes into pieces of the last dimension's
  size, so that a label over gRPC was another one than over JSON. Null among them has no meaning in an array.
- A data frame's columns are in the order of the model's own feature names, and are those.
- What is asked for and not offered (classification, shared memory, sequences of a built-in runtime) is refused.

``install`` is for every process of the server, ``install_in_rest`` for the one that answers.
"""

import functools
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import mlserver.raw
import numpy as np
import orjson
import pandas as pd
from fastapi import HTTPException
from mlserver.codecs import numpy as numpy_codec
from mlserver.codecs import pandas as pandas_codec
from mlserver.codecs.json import encode_to_json_bytes
from mlserver.errors import MLServerError
from mlserver.grpc import converters
from mlserver.model import MLModel
from mlserver.rest.endpoints import Endpoints
from mlserver.rest.requests import Request
from mlserver.types import Datatype
from starlette.responses import Response

from . import binary, columns

_NO_NUMBERS = (b"NaN", b"Infinity")
_FLOATS = (Datatype.FP16, Datatype.FP32, Datatype.FP64)


def install() -> None:
    """Into MLServer's codecs and models. Once per process."""
    numpy_codec._to_ndarray = _text_first(numpy_codec._to_ndarray)
    pandas_codec._to_series = _text_column(pandas_codec._to_series)
    MLModel.decode_request = _in_order(MLModel.decode_request)


def install_in_rest() -> None:
    """Into MLServer's endpoints and gRPC's messages. Once per process."""
    mlserver.raw.unpack, mlserver.raw.pack = _unpack, _pack
    contents = converters.InferTensorContentsConverter
    contents._get_contents = classmethod(_contents(contents._get_contents.__func__))
    answer = converters.ModelInferResponseConverter
    answer.from_types = classmethod(_raw_if_needed(answer.from_types.__func__))
    Request.json = _binary_read(Request.json)
    Endpoints.infer = _binary_written(Endpoints.infer)


def refuse_what_is_not_offered(payload: Any, own_code: bool) -> None:
    """Raises MLServerError (400) if the request wants something that would silently be left out. ``own_code``: the
    model brings its own, and may know sequences."""
    tensors = [*payload.inputs, *(payload.outputs or ())]
    words = binary.not_offered([_extra(each.parameters) for each in tensors])
    if words is None and not own_code and _extra(payload.parameters).get("sequence_id"):
        words = "sequences (sequence_id)"
    if words:
        raise MLServerError(_refusal(words), 400)


def _refusal(words: str) -> str:
    return f"This server does not offer {words}: leave it out of the request."


def _extra(parameters: Any) -> dict[str, Any]:
    return (parameters.model_extra or {}) if parameters is not None else {}


def _datatype(tensor: Any) -> str:
    return str(getattr(tensor.datatype, "value", tensor.datatype))


def _values(tensor: Any) -> Any:
    return getattr(tensor.data, "root", tensor.data)


def _unpack(tensor: Any, raw: bytes) -> list[Any]:
    return binary.unpacked(_datatype(tensor), tensor.shape, raw, tensor.name)


def _pack(tensor: Any) -> bytes:
    return binary.packed(_datatype(tensor), _values(tensor))


def _contents(get_contents: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_contents)
    def told(cls: Any, data: Any, datatype: Any) -> Any:
        values: Iterable[Any] = getattr(data, "root", data)
        if datatype == Datatype.BYTES:
            data = [value.encode() if isinstance(value, str) else value for value in values]
        elif datatype in _FLOATS:
            data = [math.nan if value is None else value for value in values]
        return get_contents(cls, data, datatype)

    return told


def _raw_if_needed(from_types: Callable[..., Any]) -> Callable[..., Any]:
    """FP16 has no field of its own in a message."""

    @functools.wraps(from_types)
    def told(cls: Any, response: Any, use_raw: bool = False) -> Any:
        return from_types(cls, response, use_raw or any(_datatype(each) == "FP16" for each in response.outputs))

    return told


def _text(values: Sequence[Any]) -> list[Any]:
    """Elements of BYTES as text; those that are none stay bytes, all of them."""
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        return list(values)


def _text_first(to_ndarray: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(to_ndarray)
    def reading(tensor: Any) -> Any:
        values = _values(tensor)
        if _datatype(tensor) != "BYTES" or not isinstance(values, list) or len(values) != math.prod(tensor.shape):
            return to_ndarray(tensor)
        missing = next((index for index, value in enumerate(values) if value is None), None)
        if missing is not None:
            where = [int(each) for each in np.unravel_index(missing, tensor.shape)]
            raise ValueError(f"tensor {tensor.name!r} has null at {where}: text in an array cannot be missing")
        as_text = _text(values)
        return np.array(as_text, dtype=str if all(isinstance(each, str) for each in as_text) else object)

    return reading


def _text_column(to_series: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(to_series)
    def reading(tensor: Any) -> Any:
        series = to_series(tensor)
        if _datatype(tensor) != "BYTES":
            return series
        return pd.Series(_text(series.tolist()), dtype=object)

    return reading


def _in_order(decode_request: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(decode_request)
    def reading(self: Any, *arguments: Any, **named: Any) -> Any:
        decoded = decode_request(self, *arguments, **named)
        if not isinstance(decoded, pd.DataFrame):
            return decoded
        own, checked = columns.names_of(getattr(self, "_model", None))
        order = columns.in_order([str(each) for each in decoded.columns], own, checked)
        return decoded if order is None else decoded[order]

    return reading


def _binary_read(read_json: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    @functools.wraps(read_json)
    async def reading(self: Any) -> Any:
        if not hasattr(self, "_json"):
            body, length = await self.body(), self.headers.get(binary.HEADER)
            if length is None:
                self._json = _parsed(body)
            else:
                self._json = _filled(body, length)
            # A tensor in shared memory has no data, which is all that would be said of it.
            words = binary.not_offered(binary.parameters_of(self._json))
            if words:
                raise HTTPException(400, _refusal(words))
        return self._json

    return reading


def _filled(body: bytes, length: str) -> Any:
    try:
        head, tail = binary.split(body, length)
        request = _parsed(head)
        binary.fill(request, tail)
    except ValueError as error:
        raise HTTPException(400, f"The binary request cannot be read: {error}.") from error
    return request


def _parsed(body: bytes) -> Any:
    """JSON, also with the NaN and Infinity that tritonclient writes and JSON does not know."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if not any(word in body for word in _NO_NUMBERS):
            raise
        return json.loads(body)


def _binary_written(infer: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(infer)
    async def answering(self: Any, raw_request: Any, raw_response: Any, payload: Any, *args: Any, **named: Any) -> Any:
        asked = _extra(payload.parameters)
        outputs = {each.name: _extra(each.parameters) for each in payload.outputs or ()}
        response = await infer(self, raw_request, raw_response, payload, *args, **named)
        as_bytes = [binary.wanted(asked, outputs, each.name) for each in response.outputs]
        if not any(as_bytes):
            return response
        told = response.model_dump(exclude_none=True)
        told["outputs"], tail = binary.taken_out(told["outputs"], as_bytes)
        head = encode_to_json_bytes(told)
        headers = {**raw_response.headers, "Inference-Header-Content-Length": str(len(head))}
        headers.pop("content-length", None)
        return Response(head + tail, headers=headers, media_type="application/octet-stream")

    return answering
