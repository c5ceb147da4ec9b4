"""Where the files of an artifact go, so that Triton finds the model in them."""

import os
import re
from pathlib import Path

import pytest
from shoal_agent.model_server import ModelCopy, Place
from shoal_agent.servers.triton import connect
from shoal_agent.servers.triton.model_config import COPY_PARAMETER
from shoal_agent.servers.triton.repository import arranged
from shoal_agent.storage import StorageError
from shoal_api.tuning import UNTUNED, Tuning

CONFIG = 'backend: "x"'


def laid_out(tmp_path: Path, files: dict[str, str], framework: str, tuning: Tuning = UNTUNED) -> dict[str, str]:
    """The copy's files as the adapter leaves them, from a cache whose files may not change."""
    cache, copy = tmp_path / "cache", tmp_path / "copy"
    for path, content in files.items():
        (cache / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / path).write_text(content)
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(cache / path, copy / path)
    place = Place("127.0.0.1", {"http": 1, "grpc": 2}, tmp_path, tmp_path, 1.0)
    connect(place).prepare(ModelCopy("m", "0123", copy, framework, tuning))
    assert {str(path.relative_to(cache)): path.read_text() for path in cache.rglob("*") if path.is_file()} == files
    left = {str(path.relative_to(copy)): path.read_text() for path in copy.rglob("*") if path.is_file()}
    assert COPY_PARAMETER in left["config.pbtxt"]
    assert all(
        any(path.startswith(f"{folder.relative_to(copy)}/") for path in left)
        for folder in copy.rglob("*")
        if folder.is_dir()
    ), "no folder is left empty"
    del left["config.pbtxt"]
    return left


FLAT = [
    ("onnx", {"net.onnx": "n"}, {"1/model.onnx": "n"}),
    ("onnx", {"model.onnx": "n", "model.onnx.data": "d"}, {"1/model.onnx": "n", "1/model.onnx.data": "d"}),
    ("onnx", {"a.onnx": "a", "b.onnx": "b"}, {"1/a.onnx": "a", "1/b.onnx": "b"}),
    ("triton", {"net.onnx": "n"}, {"1/model.onnx": "n"}),
    ("python", {"model.py": "p", "help/it.py": "h"}, {"1/model.py": "p", "1/help/it.py": "h"}),
    ("triton", {"model.py": "p", "net.onnx": "n"}, {"1/model.py": "p", "1/net.onnx": "n"}),
    ("tensorrt", {"x.plan": "t"}, {"1/model.plan": "t"}),
    ("openvino", {"net.xml": "x", "net.bin": "b"}, {"1/model.xml": "x", "1/model.bin": "b"}),
    (
        "tensorflow",
        {"saved_model.pb": "s", "variables/variables.index": "v"},
        {"1/model.savedmodel/saved_model.pb": "s", "1/model.savedmodel/variables/variables.index": "v"},
    ),
    (
        "tensorflow",
        {"cat/saved_model.pb": "s", "cat/variables/v": "v", "note.txt": "n"},
        {"1/model.savedmodel/saved_model.pb": "s", "1/model.savedmodel/variables/v": "v", "1/note.txt": "n"},
    ),
]
VERSIONS = [
    ("onnx", {"3/net.onnx": "n", "12/net.onnx": "m"}, {"3/model.onnx": "n", "12/model.onnx": "m"}),
    # As TensorFlow Serving has them; Triton takes no version that begins with a zero.
    (
        "tensorflow",
        {"0001/saved_model.pb": "s", "0001/variables/v": "v"},
        {"1/model.savedmodel/saved_model.pb": "s", "1/model.savedmodel/variables/v": "v"},
    ),
    ("tensorflow", {"0/saved_model.pb": "s"}, {"1/model.savedmodel/saved_model.pb": "s"}),
    ("tensorflow", {"1/model.savedmodel/saved_model.pb": "s"}, {"1/model.savedmodel/saved_model.pb": "s"}),
    ("python", {"1/model.py": "p", "README": "r"}, {"1/model.py": "p", "README": "r"}),
    # A repository of one model.
    ("triton", {"net/config.pbtxt": CONFIG, "net/1/f": "f", "net/l.txt": "l"}, {"1/f": "f", "l.txt": "l"}),
    ("onnx", {"net/1/model.onnx": "n"}, {"1/model.onnx": "n"}),
    ("onnx", {"net/model.onnx": "n"}, {"1/model.onnx": "n"}),
]
WITH_CONFIG = [
    ("triton", {"config.pbtxt": CONFIG, "whatever": "w"}, {"1/whatever": "w"}),
    ("pytorch", {"config.pbtxt": CONFIG, "net.pt": "t"}, {"1/model.pt": "t"}),
    (
        "onnx",
        {
            "config.pbtxt": "default_model_filename: 'net.onnx' output { name: 'y' label_filename: 'l.txt' }",
            "net.onnx": "n",
            "l.txt": "l",
        },
        {"1/net.onnx": "n", "l.txt": "l"},
    ),
    ("onnx", {"config.pbtxt": CONFIG, "7/net.onnx": "n", "l.txt": "l"}, {"7/model.onnx": "n", "l.txt": "l"}),
]


@pytest.mark.parametrize(("framework", "files", "expected"), [*FLAT, *VERSIONS, *WITH_CONFIG])
def test_files_go_where_triton_looks(
    tmp_path: Path, framework: str, files: dict[str, str], expected: dict[str, str]
) -> None:
    assert laid_out(tmp_path, files, framework) == expected


@pytest.mark.parametrize(
    ("framework", "files", "message"),
    [
        ("onnx", ["a.txt"], "no model file of format onnx in it: expected one ending in .onnx; found a.txt"),
        ("onnx", [], "found nothing"),
        ("pytorch", ["net.pt"], "Add a config.pbtxt with input and output"),
        ("triton", ["a.txt"], "do not tell which backend"),
        ("triton", ["a.pt", "b.onnx"], "do not tell which backend"),
        ("sklearn", ["model.joblib"], "Triton does not know format 'sklearn'"),
        ("triton", ["a/config.pbtxt", "b/config.pbtxt", "a/1/f"], "repository of several models (a, b)"),
        ("onnx", ["1/model.onnx", "01/model.onnx"], "version folders of the same number (01, 1)"),
    ],
)
def test_what_is_no_model_is_refused_with_what_to_do(framework: str, files: list[str], message: str) -> None:
    with pytest.raises(StorageError, match=re.escape(message)) as refused:
        arranged(files, framework)
    assert refused.value.reason == "ArtifactInvalid"


def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "config.pbtxt").write_bytes(b"\xff\xfe")
    place = Place("127.0.0.1", {"http": 1, "grpc": 2}, tmp_path, tmp_path, 1.0)
    with pytest.raises(StorageError, match="no UTF-8 text"):
        connect(place).prepare(ModelCopy("m", "0123", tmp_path / "copy", "triton"))
    (tmp_path / "copy" / "config.pbtxt").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(StorageError, match="larger than"):
        connect(place).prepare(ModelCopy("m", "0123", tmp_path / "copy", "triton"))
