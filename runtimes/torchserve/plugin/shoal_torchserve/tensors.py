"""The handler of a TorchScript model that came without one: numbers in, numbers out, by any of the three protocols.

A request's tensors have a batch dimension of their own. Requests of one batch whose tensors fit are computed together,
and alone where they do not, or where the model's answer has no row for each of theirs.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import torch

from . import protocols
from .protocols import NATIVE, V1, V2, BadRequest, Request

_DTYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "FP32": torch.float32,
    "FP64": torch.float64,
}


@dataclass
class Asked:
    """A request with its tensors. ``whole``: they are whole numbers of JSON, which do not say whether they are meant
    to be."""

    request: Request
    tensors: list[torch.Tensor]
    whole: bool = False


class Tensors:
    """``initialize`` loads the archive's serializedFile."""

    def initialize(self, context: Any) -> None:
        properties = context.system_properties
        file = os.path.join(properties["model_dir"], context.manifest["model"]["serializedFile"])
        gpu = properties.get("gpu_id")
        self.device = torch.device(f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu")
        try:
            self.model = torch.jit.load(file, map_location=self.device)
        except RuntimeError as error:
            raise ValueError(
                f"{os.path.basename(file)} is no TorchScript: save it with torch.jit.save, or bring an archive with a "
                f"handler (torch-model-archiver). PyTorch says: {str(error).strip().splitlines()[0]}"
            ) from error
        self.model.eval()
        self.names = [each.name for each in self.model.forward.schema.arguments[1:]]
        self.whole_are_floats = False

    def handle(self, data: list[Any], context: Any) -> tuple[list[Any], int]:
        """Results by request, and how many of them are errors."""
        results: list[Any] = [None] * len(data)
        asked: list[Asked] = []
        wrong = 0
        for index, row in enumerate(data):
            try:
                asked.append(self._read(Request(index, NATIVE), row, context))
            except BadRequest as error:
                results[index] = protocols.refuse(context, index, str(error))
                wrong += 1
        for group in _that_fit(asked):
            for one, outputs in self._compute(group):
                if isinstance(outputs, str):
                    results[one.request.index] = protocols.refuse(context, one.request.index, outputs)
                    wrong += 1
                else:
                    results[one.request.index] = _said(one.request, outputs, context)
        return results, wrong

    def _read(self, request: Request, row: Any, context: Any) -> Asked:
        content = protocols.body(row)
        native = context.get_request_header(request.index, "url_path") is not None
        request.body = content
        if isinstance(content, dict) and "inputs" in content:
            request.protocol = V2
            request.rows = protocols.inputs(content)
            return Asked(request, [_tensor(each) for each in self._in_order(request.rows)])
        if native and isinstance(content, list):
            rows = content
        else:
            request.protocol = V1
            rows = protocols.instances(content)
        try:
            tensor = torch.tensor(rows)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadRequest(f"the rows make no tensor: {error}") from error
        return Asked(request, [tensor], whole=tensor.dtype is torch.int64)

    def _in_order(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """By the names of the model's arguments, where all are named so."""
        by_name = {str(each.get("name")): each for each in inputs}
        given = self.names[: len(inputs)]
        return [by_name[name] for name in given] if set(by_name) == set(given) else inputs

    def _compute(self, group: list[Asked]) -> list[tuple[Asked, Any]]:
        """Each request with its outputs by name; or with what PyTorch says to its tensors."""
        if len(group) > 1:
            lengths = [len(each.tensors[0]) for each in group]
            together = [torch.cat(parts) for parts in zip(*(each.tensors for each in group))]
            try:
                outputs = self._run(together, group[0].whole)
            except RuntimeError:
                outputs = {}  # one of them is to blame: alone each is told
            if outputs and all(each.dim() > 0 and len(each) == sum(lengths) for each in outputs.values()):
                parts = {name: torch.split(each, lengths) for name, each in outputs.items()}
                return [(one, {name: parts[name][i] for name in parts}) for i, one in enumerate(group)]
        found: list[tuple[Asked, Any]] = []
        for one in group:
            try:
                found.append((one, self._run(one.tensors, one.whole)))
            except RuntimeError as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                found.append((one, f"the model does not take this: {lines[-1] if lines else 'no reason given'}"))
        return found

    def _run(self, tensors: list[torch.Tensor], whole: bool) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            if whole and not self.whole_are_floats:
                try:
                    return _named(self.model(*(each.to(self.device) for each in tensors)))
                except RuntimeError:
                    # JSON has one kind of number, and writes 1.0 as 1 where the client's language does.
                    outputs = _named(self.model(*(each.to(self.device, torch.float32) for each in tensors)))
                    self.whole_are_floats = True
                    return outputs
            floats = (each.to(self.device, torch.float32 if whole else None) for each in tensors)
            return _named(self.model(*floats))


def _that_fit(asked: list[Asked]) -> list[list[Asked]]:
    """Requests whose tensors can be put behind each other."""
    groups: dict[Any, list[Asked]] = {}
    for number, each in enumerate(asked):
        alike = [(tensor.dtype, tuple(tensor.shape[1:])) for tensor in each.tensors]
        rows = {len(tensor) if tensor.dim() else -1 for tensor in each.tensors}
        key = (each.whole, tuple(alike)) if len(rows) == 1 and -1 not in rows else number
        groups.setdefault(key, []).append(each)
    return list(groups.values())


def _named(output: Any) -> dict[str, torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return {"output-0": output}
    if isinstance(output, (tuple, list)):
        return {f"output-{number}": _only_tensor(each) for number, each in enumerate(output)}
    if isinstance(output, dict):
        return {str(name): _only_tensor(each) for name, each in output.items()}
    return {"output-0": _only_tensor(output)}


def _only_tensor(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, (bool, int, float)):
        return torch.tensor(output)
    raise ValueError(
        f"the model returned {type(output).__name__}, which is no tensor: bring an archive with a handler for it"
    )


def _tensor(each: dict[str, Any]) -> torch.Tensor:
    datatype = each.get("datatype")
    if datatype not in _DTYPES:
        raise BadRequest(f"input {each.get('name')!r}: datatype {datatype!r} is none of {', '.join(_DTYPES)}")
    return torch.tensor(each["data"], dtype=_DTYPES[datatype])


def _said(request: Request, outputs: dict[str, torch.Tensor], context: Any) -> str:
    if request.protocol == V2:
        named = [protocols.output(name, each.cpu().numpy()) for name, each in outputs.items()]
        return protocols.as_json(context, request.index, protocols.infer_response(request, named, context))
    lists = {name: _plain(each) for name, each in outputs.items()}
    if len(lists) == 1:
        (rows,) = lists.values()
    else:
        rows = lists  # as many keys as outputs
    return protocols.as_json(context, request.index, {"predictions": rows} if request.protocol == V1 else rows)


def _plain(tensor: torch.Tensor) -> Any:
    """What is no number is null: JSON has none."""
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        return _nulls(tensor.tolist())
    return tensor.tolist()


def _nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_nulls(each) for each in value]
    return value if math.isfinite(value) else None
