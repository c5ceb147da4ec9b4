"""What model servers last said of their models' inputs and outputs, for who asks while a model is not loaded.

Bounded: of a model a few KiB, of all together some MiB, of which those go first that were neither told nor asked for
lately. It is what agents have said since this operator started: what is not here is said to be unknown.
"""

import json
from collections import OrderedDict
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from shoal_api.messages import ModelMetadata

MAX_BYTES = 32 * 1024 * 1024
_OVERHEAD = 256
_PACKAGE = "shoal.answers"


class LastMetadata:
    """By namespace and copy id, so that what one content has is never told of another."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    def put(self, namespace: str, said: ModelMetadata) -> None:
        """A server has said this of a copy that it holds. What is no metadata is passed over."""
        body = _checked(said)
        if body is None:
            return
        self._drop(key := (namespace, said.copy_id))
        self._known[key] = body
        self._bytes += len(body) + _OVERHEAD
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._known)))

    def get(self, namespace: str, copy_id: str) -> str | None:
        """JSON, as the server said it."""
        body = self._known.get((namespace, copy_id))
        if body is not None:
            self._known.move_to_end((namespace, copy_id))
        return body

    def _drop(self, key: tuple[str, str]) -> None:
        body = self._known.pop(key, None)
        if body is not None:
            self._bytes -= len(body) + _OVERHEAD


def as_message(body: str) -> bytes:
    """The same as the Open Inference Protocol's ModelMetadataResponse."""
    said = json.loads(body)
    made = _RESPONSE(name=said["name"], versions=said["versions"], platform=said["platform"])
    for field in ("inputs", "outputs"):
        for each in said[field]:
            getattr(made, field).add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
    return bytes(made.SerializeToString())


def _checked(said: ModelMetadata) -> str | None:
    try:
        content = json.loads(said.body)
        checked: dict[str, Any] = {
            **content,
            "name": said.name,
            "versions": [str(each) for each in content.get("versions") or ()],
            "platform": str(content.get("platform") or ""),
            **{field: [_tensor(each) for each in content.get(field) or ()] for field in ("inputs", "outputs")},
        }
        as_message(body := json.dumps(checked, allow_nan=False))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        return None  # whatever a tenant's server says
    return body


def _tensor(each: dict[str, Any]) -> dict[str, Any]:
    return {
        **each,
        "name": str(each["name"]),
        "datatype": str(each["datatype"]),
        "shape": [int(size) for size in each["shape"]],
    }


def _response() -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto(name="answers.proto", package=_PACKAGE, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    tensor = file.message_type.add(name="Tensor")
    tensor.field.add(name="name", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    tensor.field.add(name="datatype", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    tensor.field.add(name="shape", number=3, type=kinds.TYPE_INT64, label=kinds.LABEL_REPEATED)
    response = file.message_type.add(name="Metadata")
    response.field.add(name="name", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    response.field.add(name="versions", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED)
    response.field.add(name="platform", number=3, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    for number, field in ((4, "inputs"), (5, "outputs")):
        kind = f".{_PACKAGE}.Tensor"
        response.field.add(
            name=field, number=number, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED, type_name=kind
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Metadata"))


_RESPONSE: Any = _response()
