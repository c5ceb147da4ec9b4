"""The handler of artifacts as SageMaker's containers read them: ``inference.py``, in ``code`` or beside the model.

It has model_fn(model_dir), and where it likes input_fn(body, content_type), predict_fn(data, model) and
output_fn(answer, accept), or transform_fn(model, body, content_type, accept) for the three. Left out, input is JSON or
text, output is JSON.
"""

import importlib
import json
import os
import sys
from typing import Any

JSON = "application/json"
_loaded = {}  # type: dict[str, Any]


def handle(data: Any, context: Any) -> Any:
    """As multi-model-server calls it: once without data, then with a batch."""
    if "answer" not in _loaded:
        _load(context.system_properties.get("model_dir"))
    if not data:
        return None
    if _loaded["own"] is not None:
        return _loaded["own"](data, context)
    return [_one(row, context, number) for number, row in enumerate(data)]


def _load(folder: str) -> None:
    sys.path.insert(0, os.path.join(folder, "code"))
    script = importlib.import_module("inference")
    _loaded["own"] = getattr(script, "handle", None)
    if _loaded["own"] is not None:
        _loaded["answer"] = None
        return
    model = script.model_fn(folder)
    if hasattr(script, "transform_fn"):
        _loaded["answer"] = lambda body, kind, accept: script.transform_fn(model, body, kind, accept)
        return
    read = getattr(script, "input_fn", _read)
    predict = getattr(script, "predict_fn", lambda given, model: model(given))
    write = getattr(script, "output_fn", _write)
    _loaded["answer"] = lambda body, kind, accept: write(predict(read(body, kind), model), accept)


def _one(row: Any, context: Any, number: int) -> Any:
    body = row.get("body", row.get("data"))
    kind = context.get_request_header(number, "Content-Type") or JSON
    accept = context.get_request_header(number, "Accept") or JSON
    if accept == "*/*":
        accept = JSON
    if kind.startswith(JSON) and not isinstance(body, (bytes, bytearray, str)):
        body = json.dumps(body)  # the server has parsed it already
    answer = _loaded["answer"](body, kind, accept)
    if isinstance(answer, tuple):
        answer, accept = answer
    context.set_response_content_type(number, accept)
    return answer


def _read(body: Any, kind: str) -> Any:
    text = body.decode() if isinstance(body, (bytes, bytearray)) else body
    return json.loads(text) if kind.startswith(JSON) else text


def _write(answer: Any, _: str) -> str:
    return json.dumps(answer.tolist() if hasattr(answer, "tolist") else answer)
