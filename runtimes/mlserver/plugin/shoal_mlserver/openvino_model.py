"""Models of OpenVINO (IR or ONNX) on MLServer: implementation ``shoal_mlserver.openvino_model.OpenVINOModel``.

Computing is OpenVINO's own threads' business: a prediction is handed to one of ``nireq`` infer requests and awaited, so
that the event loop is free meanwhile and no thread of Python's waits. What holds for a model is, each on top of the
former: the server's environment (OMP_NUM_THREADS; SHOAL_OPENVINO, JSON), and ``parameters.extra`` of its settings:

- ``nireq``: how many are computed, or handed over, at once; by default one for each stream that NUM_STREAMS asks for,
  else what OpenVINO says is best.
- ``plugin_config``: OpenVINO's properties by name: NUM_STREAMS, INFERENCE_NUM_THREADS, PERFORMANCE_HINT, ...
- ``queue_size``: how many may wait for an infer request; the next is refused with 503. By default any number.

What came of them is logged at each load: OpenVINO takes less where there are fewer processors.
"""

import asyncio
import functools
import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import MLServerError
from mlserver.logging import logger
from mlserver.settings import ModelSettings
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, RequestInput
from mlserver.utils import get_model_uri

VARIABLE = "SHOAL_OPENVINO"
_DEVICE = "CPU"
_THREADS, _STREAMS = "INFERENCE_NUM_THREADS", "NUM_STREAMS"
_TOLD = (_STREAMS, _THREADS, "PERFORMANCE_HINT")
_FILES = ["model.xml", "model.onnx"]
_FULL = 503
_DATATYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


def tuning(extra: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[dict[str, Any], int | None, int | None]:
    """``plugin_config``, ``nireq`` and ``queue_size`` of a model whose settings say ``extra``; None: not said.

    Raises ValueError.
    """
    everywhere = json.loads(environment.get(VARIABLE) or "{}")
    plugin = {**(everywhere.get("plugin_config") or {}), **(extra.get("plugin_config") or {})}
    threads, streams = _number(environment.get("OMP_NUM_THREADS")), _number(plugin.get(_STREAMS))
    if _THREADS not in plugin and threads is not None:
        # OpenVINO counts the node's processors. A stream without a thread of its own would be none.
        plugin[_THREADS] = max(threads, streams or 1)
    said = {**everywhere, **extra}
    return plugin, _count(said, "nireq", 1) or streams or None, _count(said, "queue_size", 0)


def _number(said: Any) -> int | None:
    text = str(said)
    return int(text) if text.isascii() and text.isdecimal() else None


def _count(said: Mapping[str, Any], name: str, least: int) -> int | None:
    value = said.get(name)
    if value is None or (name == "nireq" and value == 0):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"parameters.extra.{name} is {value!r}: write a whole number from {least}")
    return value


@functools.cache
def _core() -> Any:
    """One for all models of the process, which share its threads."""
    return ov.Core()


class OpenVINOModel(MLModel):  # type: ignore[misc]  # MLServer ships no types
    """A compiled model with its infer requests."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        # MLServer unloads a model whose load failed, too.
        self._compiled: Any = None
        self._free: deque[Any] = deque()

    async def load(self) -> bool:
        uri = await get_model_uri(self.settings, wellknown_filenames=_FILES)
        extra = (self.settings.parameters.extra if self.settings.parameters else None) or {}
        plugin, nireq, self._queue_size = tuning(extra, os.environ)
        compiled = _core().compile_model(_core().read_model(uri), _DEVICE, plugin)
        nireq = nireq or compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._compiled, self._free = compiled, deque(compiled.create_infer_request() for _ in range(nireq))
        self._ports = {name: number for number, port in enumerate(compiled.inputs) for name in _names(port)}
        self._outputs = {name: number for number, port in enumerate(compiled.outputs) for name in _names(port)}
        self._turns = asyncio.Semaphore(nireq)
        self._waiting = 0
        self.inputs = self.inputs or [_metadata(port) for port in compiled.inputs]
        self.outputs = self.outputs or [_metadata(port) for port in compiled.outputs]
        came = ", ".join(f"{name} {_said(compiled.get_property(name))}" for name in _TOLD)
        logger.info("OpenVINO model %s: nireq %s, %s", self.name, nireq, came)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds = self._feeds(payload.inputs)
        wanted = self._wanted(payload)
        if self._turns.locked() and self._queue_size is not None and self._waiting >= self._queue_size:
            raise MLServerError(f"{self._waiting} requests of model {self.name!r} wait already: try later", _FULL)
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        # To its end also when nobody waits for the answer any more: the infer request is not free before.
        return await asyncio.shield(self._computed(payload.id, feeds, wanted))

    async def unload(self) -> bool:
        # A request may have come to this object before another took its place, and wait for its turn: it is answered.
        # MLServer lets go of the object, and with the last such request goes what it holds.
        return True

    async def _computed(self, number: str | None, feeds: Mapping[int, Any], wanted: Mapping[str, int]) -> Any:
        request, loop = self._free.popleft(), asyncio.get_running_loop()
        try:
            done = loop.create_future()
            request.set_callback(lambda _: loop.call_soon_threadsafe(done.set_result, None), None)
            request.start_async(feeds)
            await done
            request.wait()  # raises what went wrong
            # Copied: the next request writes into the same memory.
            answers = {name: np.array(request.get_output_tensor(port).data) for name, port in wanted.items()}
        finally:
            self._free.append(request)
            self._turns.release()
        return InferenceResponse(
            id=number,
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(name, answer) for name, answer in answers.items()],
        )

    def _feeds(self, inputs: Sequence[RequestInput]) -> dict[int, Any]:
        """Raises ValueError: what the model takes is said."""
        feeds = {}
        for each in inputs:
            # v1 has no names; where there is one input, there is nothing to mistake.
            alone = len(inputs) == len(self._compiled.inputs) == 1
            port = 0 if alone else self._ports.get(each.name)
            if port is None:
                raise ValueError(f"the model has no input {each.name!r}; it has {', '.join(self._ports)}")
            feeds[port] = self._fitting(each.name, self._compiled.inputs[port], self.decode(each, NumpyCodec))
        if len(feeds) < len(self._compiled.inputs):
            raise ValueError(f"the model has {len(self._compiled.inputs)} inputs ({', '.join(self._ports)})")
        return feeds

    @staticmethod
    def _fitting(name: str, port: Any, value: Any) -> Any:
        array = np.asarray(value)
        kind = port.get_element_type()
        if kind != ov.Type.string:
            wanted = kind.to_dtype()
            if not np.can_cast(array.dtype, wanted, "same_kind"):
                raise ValueError(f"input {name!r} is {array.dtype}, which is no {wanted}")
            array = array.astype(wanted, copy=False)
        if not port.get_partial_shape().compatible(ov.PartialShape(list(array.shape))):
            raise ValueError(f"input {name!r} has shape {list(array.shape)}, not {port.get_partial_shape()}")
        return np.ascontiguousarray(array)

    def _wanted(self, payload: InferenceRequest) -> dict[str, int]:
        if not payload.outputs:
            return {_names(port)[0]: number for number, port in enumerate(self._compiled.outputs)}
        unknown = [each.name for each in payload.outputs if each.name not in self._outputs]
        if unknown:
            raise ValueError(f"the model has no output {unknown[0]!r}; it has {', '.join(self._outputs)}")
        return {each.name: self._outputs[each.name] for each in payload.outputs}


def _names(port: Any) -> list[str]:
    """What a request may call it: tensor names, or what its node is called where it has none."""
    return sorted(port.get_names()) or [port.get_node().get_friendly_name()]


def _metadata(port: Any) -> MetadataTensor:
    kind, shape = port.get_element_type(), port.get_partial_shape()
    datatype = "BYTES" if kind == ov.Type.string else _DATATYPES.get(np.dtype(kind.to_dtype()).name, "FP32")
    sizes = [each.get_length() if each.is_static else -1 for each in shape] if shape.rank.is_static else [-1]
    return MetadataTensor(name=_names(port)[0], datatype=datatype, shape=sizes)


def _said(value: Any) -> str:
    return str(getattr(value, "name", value))
