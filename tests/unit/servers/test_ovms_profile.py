"""The command line of OpenVINO Model Server, and what of users' settings every model starts from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from shoal_operator.manifests.server_config import server_settings
from shoal_operator.server_profile import Inputs, Parts
from shoal_operator.servers.ovms import PROFILE

BARE = Inputs("iris", 1 << 30, 1 << 28, None, 300.0, 90)
KSERVE = (
    "--model_name=iris",
    "--port=8001",
    "--rest_port=8888",
    "--model_path=/mnt/models",
    "--file_system_poll_wait_seconds=0",
    "--grpc_bind_address=0.0.0.0",
    "--rest_bind_address=0.0.0.0",
    "--metrics_enable",
)
CONFIG = "shoal.dev/server-config"


def parts(args: Sequence[str] | None = None, **inputs: Any) -> Parts:
    return PROFILE.parts(replace(BARE, args=None if args is None else tuple(args), **inputs))


def models(made: Parts) -> Any:
    return json.loads(made.files["model-defaults.json"])


def test_nothing_written_is_a_server_under_the_agents_control() -> None:
    made = parts()
    assert made.args is not None
    assert set(made.args) >= {
        "--config_path=/mnt/models/ovms/config.json",
        "--port=9000",
        "--rest_port=8080",
        "--file_system_poll_wait_seconds=0",
    }
    assert (made.command, made.ignored, models(made)) == (None, (), {})


def test_kserves_own_runtime_loses_nothing_worth_telling() -> None:
    made = parts(KSERVE)
    assert (made.args, made.ignored) == (parts().args, ())


def test_it_starts_no_more_threads_than_the_container_has_processors() -> None:
    assert models(parts(cpus=2.5)) == {"plugin_config": {"INFERENCE_NUM_THREADS": 2}}
    assert models(parts(cpus=0.1))["plugin_config"] == {"INFERENCE_NUM_THREADS": 1}
    set_by_user = parts(cpus=2.0, settings={"plugin_config.INFERENCE_NUM_THREADS": 7})
    assert models(set_by_user)["plugin_config"] == {"INFERENCE_NUM_THREADS": 7}


def test_what_is_said_of_one_model_on_the_command_line_is_what_all_start_from() -> None:
    made = parts(["--nireq", "4", "--plugin_config", '{"NUM_STREAMS": "2", "NUMSTREAMS": 3}', "--log_level=DEBUG"])
    assert models(made) == {"nireq": 4, "plugin_config": {"NUM_STREAMS": "2"}}
    assert made.args is not None
    assert "--log_level=DEBUG" in made.args
    assert not [word for word in made.args if "nireq" in word or "plugin" in word], "it would not start"
    (said,) = made.ignored
    assert said.startswith("args --plugin_config NUMSTREAMS of the model server (there are: NUM_STREAMS, ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--file_system_poll_wait_seconds=5"], "args --file_system_poll_wait_seconds of the model server (it is '0'"),
        (["--target_device=GPU"], "args --target_device of the model server (it cannot be said of all models here)"),
        (["--batch_size", "8"], "args --batch_size of the model server"),
        (["--nireq=many"], "args --nireq of the model server"),
        (["--plugin_config=NUM_STREAMS"], "args --plugin_config of the model server (it is no JSON object)"),
        (["serve"], "args 'serve' of the model server (it is no option"),
    ],
)
def test_what_cannot_be_is_named(words: list[str], said: str) -> None:
    made = parts(words)
    assert made.args == parts().args
    assert len(made.ignored) == 1
    assert made.ignored[0].startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        '{"grpc_workers": 2, "rest_workers": 8, "nireq": 4,'
        ' "plugin_config": {"NUM_STREAMS": 2, "ENABLE_CPU_PINNING": true}}',
        "grpc_workers=2\nrest_workers=8\nnireq=4\nplugin_config.NUM_STREAMS=2\nplugin_config.ENABLE_CPU_PINNING=true",
    ],
)
def test_settings_under_their_own_names(text: str) -> None:
    settings, wrong = server_settings(PROFILE, {CONFIG: text})
    assert wrong == ()
    made = parts(["--grpc_workers=1"], settings=settings)
    assert made.args is not None
    assert set(made.args) >= {"--grpc_workers=2", "--rest_workers=8"}
    assert models(made) == {"nireq": 4, "plugin_config": {"NUM_STREAMS": 2, "ENABLE_CPU_PINNING": True}}
    assert made.ignored == (f"args --grpc_workers of the model server (annotation {CONFIG} says otherwise)",)


def test_a_key_that_the_server_does_not_know_is_named_and_left_out() -> None:
    """It would retire every model behind the one that has it."""
    text = '{"plugin_config": {"NUM_STREAM": 2, "PERFORMANCE_HINT": "FAST"}, "nireq": -1}'
    settings, wrong = server_settings(PROFILE, {CONFIG: text})
    assert settings == {}
    said = "\n".join(wrong)
    assert "no setting 'plugin_config.NUM_STREAM' here; did you mean plugin_config.NUM_STREAMS?" in said
    assert "plugin_config.PERFORMANCE_HINT is 'FAST': write LATENCY or THROUGHPUT or CUMULATIVE_THROUGHPUT" in said
    assert "nireq is" in said
