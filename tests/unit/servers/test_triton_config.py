"""Triton's config.pbtxt: read and changed as text, and understood by the real schema afterwards."""

import re

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from shoal_agent.servers.triton.config_text import ConfigError, changed, fields, quoted
from shoal_agent.servers.triton.model_config import COPY_PARAMETER, model_config, named_files
from shoal_agent.servers.triton.repository import KINDS
from shoal_agent.storage import StorageError
from shoal_api.tuning import UNTUNED, Tuning
from shoal_operator.servers.triton import PROFILE
from tritonclient.grpc.model_config_pb2 import ModelConfig

USERS = r"""
# a comment with { and "
name: "other"   # and one behind
platform: 'onnxruntime_onnx', max_batch_size: 8;
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 3 ] }, { name: "a}\"]" data_type: TYPE_INT64 dims: 1 } ]
output < name: "y" data_type: TYPE_FP32 dims: [3] label_filename: "labels" ".txt" >
instance_group [ { count: 1, kind: KIND_GPU gpus: [ 0 , 1 ] } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  priority_levels: 2 default_priority_level: 1
  default_queue_policy { timeout_action: REJECT, default_timeout_microseconds: 5000; max_queue_size: 7 }
}
parameters [ { key: "intra_op_thread_count" value { string_value: "4" } } ]
parameters { key: "mine" value: { string_value: "it's" } }
optimization { execution_accelerators { cpu_execution_accelerator: [ { name: "openvino" } ] } }
"""


def parsed(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def made(own: str, tuning: Tuning = UNTUNED, kind: str | None = None) -> ModelConfig:
    return parsed(model_config(own, KINDS[kind] if kind else None, "abc", tuning))


def test_all_that_the_user_wrote_stays_but_the_name() -> None:
    expected = parsed(USERS)
    expected.name = ""
    expected.parameters[COPY_PARAMETER].string_value = "abc"
    assert made(USERS) == expected


def test_what_the_field_says_holds_over_what_the_file_says() -> None:
    tuning = Tuning(workers_min=1, workers_max=3, batch_size=16, batch_delay=0.25, queue_size=50, threads=2)
    expected = parsed(USERS)
    expected.name = ""
    expected.max_batch_size = 16
    expected.instance_group[0].count = 3  # on the devices that the file names
    del expected.dynamic_batching.preferred_batch_size[:]
    expected.dynamic_batching.max_queue_delay_microseconds = 250_000
    expected.dynamic_batching.default_queue_policy.max_queue_size = 50
    expected.parameters["intra_op_thread_count"].string_value = "2"
    expected.parameters[COPY_PARAMETER].string_value = "abc"
    assert made(USERS, tuning) == expected


@pytest.mark.parametrize(
    ("own", "kind", "tuning", "said"),
    [
        ('platform: "tensorrt_plan"', None, Tuning(threads=2), "threads cannot be honoured: a TensorRT model"),
        ('backend: "tensorrt"', "onnx", Tuning(threads=2), "threads cannot be honoured: a TensorRT model"),
        ('input { name: "x" }', "onnx", Tuning(batch_delay=0.1), "batch.delay cannot be honoured: max_batch_size is 0"),
        ('input { name: "x" }', None, Tuning(batch_size=2), "batch.size cannot be honoured: max_batch_size is 0"),
    ],
)
def test_what_triton_would_ignore_is_named(own: str, kind: str | None, tuning: Tuning, said: str) -> None:
    """The operator knows the format, and not what is in the artifact."""
    with pytest.raises(StorageError, match=said):
        made(own, tuning, kind)


def test_what_the_operator_names_of_a_format_keeps_no_model_from_being_loaded() -> None:
    assert "threads: Triton, for a tensorrt model" in PROFILE.not_honoured(Tuning(threads=2), 300.0, "tensorrt")[0]
    assert made("", Tuning(threads=2), "tensorrt").platform == "tensorrt_plan"


@pytest.mark.parametrize(
    ("kind", "backend", "platform", "threads"),
    [
        ("onnx", "onnxruntime", "", "intra_op_thread_count"),
        ("tensorflow", "", "tensorflow_savedmodel", "TF_NUM_INTRA_THREADS"),
        ("pytorch", "", "pytorch_libtorch", "INTRA_OP_THREAD_COUNT"),
        ("python", "python", "", "intra_op_thread_count"),
        ("tensorrt", "", "tensorrt_plan", "intra_op_thread_count"),
        ("openvino", "openvino", "", "INFERENCE_NUM_THREADS"),
    ],
)
def test_one_is_made_where_the_user_has_none(kind: str, backend: str, platform: str, threads: str) -> None:
    config = made("", Tuning(threads=3, workers_min=2, batch_delay=0.001), kind)
    assert (config.backend, config.platform) == (backend, platform)
    assert config.parameters[threads].string_value == "3"
    assert [group.count for group in config.instance_group] == [2]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert config.max_batch_size == 0, "the server finds it out"


@pytest.mark.parametrize(
    ("own", "kind", "threads"),
    [
        ("", "onnx", {"intra_op_thread_count": "2"}),
        ("", "tensorflow", {"TF_NUM_INTRA_THREADS": "2"}),
        ('platform: "onnxruntime_onnx"', None, {"intra_op_thread_count": "2"}),
        (USERS, None, {"intra_op_thread_count": "4", "mine": "it's"}),
        ("", "python", {}),  # reads OMP_NUM_THREADS, as does PyTorch
    ],
)
def test_a_backend_counts_the_containers_processors_and_not_the_nodes(
    own: str, kind: str | None, threads: dict[str, str]
) -> None:
    config = parsed(model_config(own, KINDS[kind] if kind else None, "abc", UNTUNED, 2))
    found = {name: value.string_value for name, value in config.parameters.items()}
    assert found == {COPY_PARAMETER: "abc", **threads}


def test_a_backend_that_the_user_names_stays() -> None:
    assert made('backend: "dali"', kind="python").backend == "dali"
    config = made('platform: "tensorflow_graphdef"', Tuning(threads=1), "tensorflow")
    assert (config.backend, config.platform) == ("", "tensorflow_graphdef")
    assert config.parameters["TF_NUM_INTRA_THREADS"].string_value == "1"


def test_several_groups_of_instances_become_one() -> None:
    own = "instance_group [{ count: 1 gpus: [0] }, { count: 1 gpus: [1] }]"
    assert [(group.count, list(group.gpus)) for group in made(own, Tuning(workers_max=4)).instance_group] == [(4, [])]
    assert len(made(own).instance_group) == 2


@pytest.mark.parametrize(
    ("own", "tuning", "message"),
    [
        ("ensemble_scheduling { step [] }", UNTUNED, "may be on other pods"),
        ("input { name: 'x' }", Tuning(batch_size=4), "batch.size cannot be honoured"),
        ("max_batch_size: 0 input { name: 'x' }", Tuning(batch_size=4), "batch.size cannot be honoured"),
        ("sequence_batching {}", Tuning(queue_size=4), "sequence_batching"),
        ("", Tuning(queue_size=0), "no limit to Triton"),
        ("name 'x'", UNTUNED, "line 1: 'name' has no value"),
        ("\ninput [ { name: 'x' ]", UNTUNED, "line 2: ] closes what another bracket opened"),
        ("a: 1\ninput { name: 'x'", UNTUNED, "line 2: a bracket is opened here and never closed"),
        ("a: }", UNTUNED, "'a' has '}' where its value belongs"),
        ("{ a: 1 }", UNTUNED, "where the name of a field belongs"),
        ("dynamic_batching: 3", Tuning(batch_delay=0.1), "where a message"),
        ("instance_group: [3]", Tuning(workers_max=2), "no message"),
    ],
)
def test_what_cannot_be_is_refused_with_where_and_what_to_do(own: str, tuning: Tuning, message: str) -> None:
    with pytest.raises(StorageError, match=re.escape(message)) as refused:
        made(own, tuning)
    assert refused.value.reason == "ArtifactInvalid"
    assert refused.value.message.startswith("config.pbtxt: ")


def test_files_that_the_user_names() -> None:
    own = (
        "default_model_filename: 'net' # in two\n \".onnx\" output [{ label_filename: \"labels.txt\" }, { name: 'b' }]"
    )
    assert named_files(own) == {"net.onnx", "labels.txt"}
    assert made(own).default_model_filename == "net.onnx"


_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    config = ModelConfig(name=draw(_TEXT), backend=draw(_TEXT), max_batch_size=draw(st.integers(0, 9)))
    for name in draw(st.lists(_TEXT, max_size=3)):
        config.input.add(name=name, dims=draw(st.lists(st.integers(-1, 9), max_size=3)))
        config.output.add(name=name, label_filename=draw(_TEXT))
        config.parameters[name].string_value = draw(_TEXT)
        config.instance_group.add(name=name, count=draw(st.integers(1, 4)))
    if draw(st.booleans()):
        config.dynamic_batching.preferred_batch_size.extend(draw(st.lists(st.integers(1, 9), max_size=3)))
        config.dynamic_batching.default_queue_policy.default_timeout_microseconds = draw(st.integers(0, 9))
    return config


@given(
    configs(),
    st.booleans(),
    st.booleans(),
    st.builds(
        Tuning,
        workers_max=st.none() | st.integers(1, 9),
        batch_delay=st.none() | st.floats(0, 10),
        queue_size=st.none() | st.integers(1, 9),
        threads=st.none() | st.integers(1, 9),
    ),
)
def test_any_config_is_changed_as_its_schema_understands_it(
    config: ModelConfig, one_line: bool, angles: bool, tuning: Tuning
) -> None:
    if tuning.batch_delay is not None:
        config.max_batch_size = max(1, config.max_batch_size)
    text = text_format.MessageToString(
        config, as_one_line=one_line, pointy_brackets=angles, use_short_repeated_primitives=True
    )
    result = made(text, tuning)
    config.name = ""
    if tuning.workers_max is not None:
        assert [group.count for group in result.instance_group] == [tuning.workers_max]
        if len(config.instance_group) == 1:
            assert result.instance_group[0].name == config.instance_group[0].name
        del config.instance_group[:], result.instance_group[:]
    if tuning.batch_delay is not None:
        config.dynamic_batching.max_queue_delay_microseconds = round(tuning.batch_delay * 1e6)
    if tuning.queue_size is not None:
        config.dynamic_batching.default_queue_policy.max_queue_size = tuning.queue_size
    if tuning.threads is not None:
        assert str(tuning.threads) in {parameter.string_value for parameter in result.parameters.values()}
    result.parameters.clear()
    config.parameters.clear()
    assert result == config


@given(st.text(max_size=60) | st.text("{}[]<>:;,\"'\\# \nab1-", max_size=40))
def test_any_text_is_fields_or_an_error(text: str) -> None:
    try:
        found = fields(text)
    except ConfigError:
        return
    assert fields(changed(text, {field.name: None for field in found})) == []


@given(_TEXT)
def test_any_text_can_be_quoted(text: str) -> None:
    assert parsed(f"name: {quoted(text)}").name == text
