"""SageMaker's runtime API in the gateway's configuration: its table of errors, and that it adds nothing per model."""

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from shoal_operator.gateway import activation, replies, routes, sagemaker, surface
from shoal_operator.gateway import vocabulary as words
from shoal_operator.gateway.tables import GatewayTables
from shoal_operator.servers import profiles
from shoal_operator.state.world.effects import RouteChanged, Unavailable
from shoal_operator.state.world.values import RoutePolicy, ServiceKey

SERVICE = ServiceKey("default", "iris")
OF_GRPC_AND_QUESTIONS = {
    "CompressedMessage",
    "GrpcWebNotOffered",
    "MessageNotRead",
    "MethodNotAllowed",
    "MethodNotFound",
    "ModelMetadataUnknown",
    "ModelsNotListed",
    "NamesDisagree",
}
"""Never the answer to an inference request over REST."""


def reasons() -> set[str]:
    """All that the gateway says by itself."""
    pairs = [value for value in vars(replies).values() if isinstance(value, tuple) and len(value) == 2]
    found = {reason for reason, _ in pairs if re.fullmatch(r"[A-Z][A-Za-z]+", str(reason))}
    found |= set(re.findall(r'"(TooMany\w+)",\n', inspect.getsource(activation)))
    return (
        found
        | {reason.value for reason in Unavailable}
        | {
            activation.ACTIVATION_TIMEOUT,
            replies.protocol_not_offered("")[0],
            replies.content_type_not_taken("")[0],
        }
    )


def test_every_reason_is_an_error_of_that_api() -> None:
    assert reasons() == sagemaker.ERRORS.keys() | OF_GRPC_AND_QUESTIONS


def test_the_form_that_a_request_has_meanwhile_is_read_everywhere() -> None:
    """By what finds the model's name in a path: Lua, the activator, and the filter that counts questions."""
    assert sagemaker.CONTAINER_PATH in surface.native()


@pytest.mark.parametrize("server_type", ["", *profiles()])
def test_every_type_of_server_has_a_path_for_it(server_type: str) -> None:
    made = routes.to_pods("name", RoutePolicy(server_type=server_type), "target-16-letters")
    (host,) = made.virtual_hosts
    ours = [route for route in host.routes if route.match.dynamic_metadata]
    (leads,) = [route.route for route in ours if route.HasField("route")]
    assert leads.cluster == "target-16-letters"
    path = leads.regex_rewrite.substitution or sagemaker.CONTAINER_PATH
    taken = surface.of(server_type).infer
    assert any(re.fullmatch(each, path.replace(r"\1", "m1").replace("{model}", "m1")) for each in taken)
    # Others come first: for whom it is not meant it is not looked at.
    last_of_others = max(number for number, route in enumerate(host.routes[:-1]) if not route.match.dynamic_metadata)
    assert all(list(host.routes).index(route) > last_of_others for route in ours)


def test_a_model_is_one_scope_as_before() -> None:
    tables = GatewayTables()
    tables.apply([RouteChanged(SERVICE, "first", 1, unavailable=Unavailable.LOAD_FAILED)])
    changes = tables.apply([RouteChanged(SERVICE, "second", 2, unavailable=Unavailable.LOAD_FAILED)])
    assert [change.type_url for change in changes] == [words.SCOPE]


def test_the_migrate_pages_script_names_models_as_the_gateway_looks_for_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["all/Chicago_IL.tar.gz", "all/team/iris_v1.2.tar.gz", "all/notes.txt", "all/iris.tar.gz"]
    pages = SimpleNamespace(paginate=lambda **asked: [{"Contents": [{"Key": key} for key in keys]}, {}])
    client = SimpleNamespace(get_paginator=lambda operation: pages)
    monkeypatch.setattr("boto3.client", lambda service: client)
    monkeypatch.setattr("sys.argv", ["script", "bucket", "all/", "shop", "mms"])
    page = (Path(__file__).parents[3] / "docs" / "migrate" / "sagemaker.md").read_text()
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(script, {})  # noqa: S102  # as a user runs it
    made = [json.loads(text) for text in capsys.readouterr().out.split("---\n")[1:]]
    assert {each["metadata"]["name"]: each["spec"]["model"]["storageUri"] for each in made} == {
        "chicago-il": "s3://bucket/all/Chicago_IL.tar.gz",
        "team--iris-v1-2": "s3://bucket/all/team/iris_v1.2.tar.gz",
        "iris": "s3://bucket/all/iris.tar.gz",
    }
    assert {each["spec"]["inferenceService"] for each in made} == {"shop"}
