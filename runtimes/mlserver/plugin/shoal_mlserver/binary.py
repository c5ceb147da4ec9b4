"""Tensors as bytes: the binary data extension of the Open Inference Protocol, over HTTP, and raw contents over gRPC.

A request's body is JSON, as long as the header ``Inference-Header-Content-Length`` says, and after it the bytes of each
input that has ``parameters.binary_data_size``, in their order. An answer has the same form if the request asks for it,
for all outputs (``parameters.binary_data_output``) or one (``binary_data`` in the output's parameters). Numbers are
little-endian, in row-major order; an element of BYTES is 4 bytes of length and then itself.

Values in and out are v2's JSON as dictionaries, with flat lists as data: nothing here needs MLServer. What is wrong
raises ValueError, which says what; it is the client's.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

HEADER = "inference-header-content-length"
EXTENSION = "binary_tensor_data"
"""Its name among the extensions of a server's metadata."""

TYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_SIZE = struct.Struct("<I")
_NOT_OFFERED = {
    "classification": "classification of outputs",
    "shared_memory_region": "shared memory",
}


def unpacked(datatype: str, shape: Sequence[int], raw: bytes, name: str) -> list[Any]:
    """The elements of a tensor. Raises ValueError if the bytes are not of this type and shape."""
    count = math.prod(shape)
    if datatype == "BYTES":
        elements = _elements(raw, name)
        if len(elements) != count:
            raise ValueError(f"tensor {name!r} holds {len(elements)} BYTES, but its shape {list(shape)} means {count}")
        return elements
    if datatype not in TYPES:
        raise ValueError(f"tensor {name!r}: datatype {datatype!r} is not offered: use BYTES, {', '.join(TYPES)}")
    kind = np.dtype(TYPES[datatype])
    if len(raw) != count * kind.itemsize:
        needed = f"needs {count * kind.itemsize} bytes"
        raise ValueError(f"tensor {name!r}: {datatype} of shape {list(shape)} {needed}, but has {len(raw)}")
    values: list[Any] = np.frombuffer(raw, kind).tolist()
    return values


def _elements(raw: bytes, name: str) -> list[bytes]:
    found, at = [], 0
    while at < len(raw):
        end = at + _SIZE.size
        if end <= len(raw):
            end += _SIZE.unpack_from(raw, at)[0]
        if end > len(raw):
            raise ValueError(f"tensor {name!r}: its BYTES are cut off at byte {at} of {len(raw)}")
        found.append(bytes(raw[at + _SIZE.size : end]))
        at = end
    return found


def packed(datatype: str, values: Sequence[Any]) -> bytes:
    """The bytes of a tensor's elements; None among numbers of floating point is NaN."""
    if datatype == "BYTES":
        parts = []
        for value in values:
            element = value.encode() if isinstance(value, str) else bytes(value)
            parts += (_SIZE.pack(len(element)), element)
        return b"".join(parts)
    return np.asarray(values, np.dtype(TYPES[datatype])).tobytes()


def split(body: bytes, length: str) -> tuple[bytes, bytes]:
    """JSON and what follows it. ``length``: what the header says."""
    if not (length.isascii() and length.isdecimal()) or int(length) > len(body):
        raise ValueError(
            f"Inference-Header-Content-Length is {length[:20]!r}: it has to be the length of the JSON part, at most"
            f" that of the body, {len(body)} bytes"
        )
    return body[: int(length)], body[int(length) :]


def fill(request: Any, tail: bytes) -> None:
    """Put the bytes after the JSON into the inputs of ``request``, as their data."""
    at = 0
    inputs = request.get("inputs") if isinstance(request, dict) else None
    for each in inputs if isinstance(inputs, list) else []:
        parameters = each.get("parameters") if isinstance(each, dict) else None
        if not isinstance(parameters, dict) or "binary_data_size" not in parameters:
            continue
        name, size = str(each.get("name", "")), parameters.pop("binary_data_size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - at:
            raise ValueError(f"tensor {name!r}: binary_data_size is {size!r}, but {len(tail) - at} bytes follow")
        if each.get("data") is not None:
            raise ValueError(f"tensor {name!r} has data and binary_data_size: send one of them")
        shape = each.get("shape")
        if not isinstance(shape, list) or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError(f"tensor {name!r}: shape {shape!r} is no list of sizes")
        each["data"] = unpacked(str(each.get("datatype")), shape, tail[at : at + size], name)
        at += size
    if at != len(tail):
        left = len(tail) - at
        raise ValueError(f"{left} bytes follow the last tensor: binary_data_size of an input is missing or wrong")


def wanted(parameters: Mapping[str, Any], outputs: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether the output of this name is to be bytes. ``outputs``: parameters of those that the request names."""
    own = outputs.get(name, {}).get("binary_data")
    return bool(own) if own is not None else bool(parameters.get("binary_data_output", False))


def taken_out(outputs: Sequence[Mapping[str, Any]], binary: Sequence[bool]) -> tuple[list[Mapping[str, Any]], bytes]:
    """Outputs as they stand in the JSON part, and the bytes behind it; ``binary``: which of them are bytes."""
    told: list[Mapping[str, Any]] = []
    parts = []
    for output, as_bytes in zip(outputs, binary, strict=True):
        if as_bytes:
            part = packed(output["datatype"], output["data"])
            parts.append(part)
            kept = {key: value for key, value in output.items() if key != "data"}
            told.append({**kept, "parameters": {**(output.get("parameters") or {}), "binary_data_size": len(part)}})
        else:
            told.append(output)
    return told, b"".join(parts)


def parameters_of(request: Any) -> list[Mapping[str, Any]]:
    """Of the tensors in a request as JSON, whatever shape that has."""
    found = []
    for part in ("inputs", "outputs"):
        tensors = request.get(part) if isinstance(request, dict) else None
        for each in tensors if isinstance(tensors, list) else []:
            parameters = each.get("parameters") if isinstance(each, dict) else None
            if isinstance(parameters, dict):
                found.append(parameters)
    return found


def not_offered(parameters: Sequence[Mapping[str, Any]]) -> str | None:
    """What these parameters of tensors ask for and no server here does; None: nothing."""
    return next((words for each in parameters for key, words in _NOT_OFFERED.items() if each.get(key)), None)
