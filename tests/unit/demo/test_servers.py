"""What `make demo SERVERS=…` takes, what it applies (docs/samples, and nothing else), and what it calls an answer."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.image_list import SERVERS as IMAGES
from demo import samples, server_names
from demo.failure import DemoError
from demo.predictions import Target
from demo.server_list import SERVERS, Server, same
from demo.server_names import DJL_VARIABLE, TITLES, chosen
from demo.servers import by_hand, namespace

GATEWAY = "127.0.0.1:30080"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("triton", ("triton",)),
        ("triton,torchserve,mms,djl", ("triton", "torchserve", "mms", "djl")),
        (" mms, triton ,,mms triton", ("mms", "triton")),
    ],
)
def test_names_are_taken_once_and_in_order(text: str, names: tuple[str, ...]) -> None:
    assert chosen(text) == names


@pytest.mark.parametrize("text", ["tritonserver", "mms,Triton,sglang", "mlserver"])
def test_a_name_that_there_is_not_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(DemoError) as refused:
        chosen(text)
    assert all(name in str(refused.value) for name in TITLES)
    assert [name for name in text.split(",") if name not in TITLES] == [
        name for name in text.split(",") if name in str(refused.value).partition(";")[0]
    ]


@pytest.fixture
def no_djl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without DJL Serving's parts, and a cluster of this checkout's."""
    monkeypatch.delenv("SHOAL_KUBECONFIG", raising=False)
    monkeypatch.setenv(DJL_VARIABLE, str(tmp_path))
    return tmp_path


def test_djl_without_its_parts_is_refused_before_anything_is_built(
    no_djl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server_names.main(["triton,djl"]) == 1
    said = capsys.readouterr().err
    assert str(no_djl) in said
    assert DJL_VARIABLE in said
    assert server_names.main(["triton,mms"]) == 0
    assert server_names.main(["--here"]) == 0
    assert capsys.readouterr().out.split() == [name for name in TITLES if name != "djl"]


def test_djl_is_taken_where_its_parts_are_or_the_image_is_upstreams(
    no_djl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (no_djl / "lib").mkdir()
    assert server_names.main(["djl"]) == 0
    (no_djl / "lib").rmdir()
    monkeypatch.setenv("SHOAL_KUBECONFIG", "/some/cloud")
    assert server_names.main(["djl"]) == 0


def test_every_image_of_a_server_is_one_that_the_demo_can_add() -> None:
    assert list(SERVERS) == list(TITLES)
    assert set(SERVERS) == {image.name for image in IMAGES}


def written(server: Server, bucket_uri: str = samples.BUCKET_URI) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(server.manifests(bucket_uri)))


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_what_is_applied_is_the_sample_and_every_model_in_it_is_asked(server: Server) -> None:
    folder = samples.FOLDER / server.sample
    files = [folder / server.service_file, folder / "trainedmodels.yaml"]
    assert written(server) == [each for file in files for each in yaml.safe_load_all(file.read_text())]
    keys = samples.artifacts(server.sample)
    applied = [each for each in written(server, "s3://models/samples/") if each["kind"] == "TrainedModel"]
    for model in applied:
        assert model["spec"]["inferenceService"] == server.service
        bucket, _, key = model["spec"]["model"]["storageUri"].removeprefix("s3://").partition("/")
        assert bucket == "models"
        assert any(each.startswith(key.removeprefix("samples/") + "/") for each in keys), key
    assert {question.model for question in server.questions} == set(server.models)
    assert all(f"/{question.model}" in question.path for question in server.questions)


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_artifacts_are_the_samples_folders_and_none_of_its_own_files(server: Server) -> None:
    keys = samples.artifacts(server.sample)
    assert keys
    for key, file in keys.items():
        assert file.read_bytes() == (samples.FOLDER / key).read_bytes()
        assert key.startswith(f"{server.sample}/")
        assert len(Path(key).parts) > 2


def test_namespaces_are_apart_since_samples_share_names_of_models() -> None:
    assert len({namespace(server) for server in SERVERS.values()}) == len(SERVERS)


def test_what_to_try_by_hand_names_host_path_and_how_to_be_rid_of_it() -> None:
    curl, delete = by_hand(GATEWAY, [SERVERS["mms"]])
    assert Target.of(GATEWAY, "mms-example", "shoal-demo-mms").host in curl
    assert f"http://{GATEWAY}/predictions/doubler" in curl
    assert "shoal-demo-mms" in delete
    assert list(by_hand(GATEWAY, [])) == []


@pytest.mark.parametrize(
    ("got", "right", "equal"),
    [
        ([[2.0000001, 4]], [[2.0, 4.0]], True),
        ({"rows": [1.0]}, {"rows": [1.0]}, True),
        ({"rows": [1.0], "more": 1}, {"rows": [1.0]}, False),
        ([1.0, 2.0], [1.0], False),
        ([], [1.0], False),
        ([[1.0]], [1.0], False),
        (14.6, 14.5, False),
        (float("nan"), 14.5, False),
        (None, 14.5, False),
        (True, 1.0, False),
        ("14.5", 14.5, False),
        ([1.0], {"rows": [1.0]}, False),
    ],
)
def test_answers_are_compared_in_shape_and_value(got: Any, right: Any, equal: bool) -> None:
    assert same(got, right) is equal
