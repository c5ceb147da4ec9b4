"""The command line that Triton is started with: what users write stays, but where it would be out of our hands."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from shoal_operator.server_profile import Inputs, Parts
from shoal_operator.servers.triton import PROFILE

BARE = Inputs("iris", 1 << 30, 1 << 28, 2.0, 300.0, 90)
KSERVE = (
    "tritonserver",
    "--model-store=/mnt/models",
    "--grpc-port=9000",
    "--http-port=8080",
    "--allow-grpc=true",
    "--allow-http=true",
)
OURS = {
    "--model-repository=/mnt/models/slots",
    "--model-control-mode=explicit",
    "--http-port=8080",
    "--grpc-port=9000",
    "--metrics-port=8002",
    "--strict-readiness=false",
    "--exit-on-error=false",
}


def parts(args: Sequence[str] | None = None, **inputs: Any) -> Parts:
    return PROFILE.parts(replace(BARE, args=None if args is None else tuple(args), **inputs))


def given(made: Parts) -> set[str]:
    assert made.args is not None
    return set(made.args)


def test_nothing_written_is_a_server_under_the_agents_control() -> None:
    made = parts()
    assert made.args is not None
    assert made.args[0] == "tritonserver"
    assert given(made) >= OURS
    assert (made.command, made.ignored) == (None, ())


def test_kserves_own_runtime_loses_nothing_worth_telling() -> None:
    made = parts(KSERVE)
    assert made.args == parts().args
    assert made.ignored == ()


def test_what_users_tune_stays() -> None:
    written = [
        "tritonserver",
        "--log-verbose=1",
        "--backend-config=python,shm-default-byte-size=65536",
        "--backend-config=onnxruntime,default-max-batch-size=8",
        "--http-thread-count",
        "16",
        "--cache-config=local,size=1048576",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=10",
        "--cuda-memory-pool-byte-size=0:67108864",
        "--cuda-memory-pool-byte-size=1:67108864",
        "--disable-auto-complete-config",
    ]
    made = parts(written)
    assert made.args is not None
    assert given(made) >= {*OURS, *written} - {"--http-thread-count", "16"} | {"--http-thread-count=16"}
    assert "--backend-config=python,shm-default-byte-size=1048576" not in made.args, "the user's own is instead of ours"
    assert made.ignored == ()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--model-control-mode=poll", "args --model-control-mode of the model server (it is 'explicit' here)"),
        ("--http-port=9999", "args --http-port of the model server (it is '8080' here)"),
        (
            "--model-repository=s3://bucket",
            "args --model-repository of the model server (it is '/mnt/models/slots' here)",
        ),
        ("--load-model=*", "args --load-model of the model server"),
        ("--http-restricted-api=inference:key=value", "args --http-restricted-api of the model server"),
        ("--allow-sagemaker=true", "args --allow-sagemaker of the model server"),
        ("serve", "args 'serve' of the model server (it is no option of tritonserver)"),
    ],
)
def test_what_takes_it_out_of_our_hands_is_named(word: str, said: str) -> None:
    made = parts(["tritonserver", word])
    assert given(made) == given(parts())
    assert len(made.ignored) == 1
    assert made.ignored[0].startswith(said)


def test_the_program_is_called_once() -> None:
    for command in (("tritonserver",), ("/opt/tritonserver/bin/tritonserver",), ("nice", "tritonserver")):
        made = parts(["--log-verbose=1"], command=command)
        assert made.args is not None
        assert (made.command, "tritonserver" in made.args) == (None, False)
    made = parts(["-c", "tritonserver --model-store=/x"], command=("sh",))
    assert made.args is not None
    assert (made.command, "tritonserver" in made.args) == (("tritonserver",), False)
    assert len(made.ignored) == 3, "the command, and both words of its"


def test_settings_hold_over_arguments() -> None:
    settings = {"http-thread-count": 4, "log-info": False, "disable-auto-complete-config": True}
    made = parts(["--http-thread-count=8"], settings={**settings, "shm-default-byte-size": 131072})
    assert given(made) >= {
        "--http-thread-count=4",
        "--log-info=false",
        "--disable-auto-complete-config",
        "--backend-config=python,shm-default-byte-size=131072",
    }
    assert made.ignored == (
        "args --http-thread-count of the model server (annotation shoal.dev/server-config says otherwise)",
    )
    assert "--disable-auto-complete-config" not in given(parts(settings={"disable-auto-complete-config": False}))
