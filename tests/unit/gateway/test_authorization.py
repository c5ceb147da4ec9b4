"""What Envoy asks and what it is told: the wire between the cold listener and the activator."""

import json

import pytest
from envoy.service.auth.v3 import attribute_context_pb2
from shoal_api.grammar import MODEL_NAME
from shoal_operator.gateway.activation import Refused
from shoal_operator.gateway.authorization import Question, read, write
from shoal_operator.state.world.values import ServiceKey
from shoal_operator.state.world.views import Endpoint

INFER = "/inference.GRPCInferenceService/ModelInfer"


def attributes(
    path: str, host: str = "iris.default.example.com", came_from: str = "", **headers: str
) -> attribute_context_pb2.AttributeContext:
    made = attribute_context_pb2.AttributeContext()
    made.request.http.path, made.request.http.host = path, host
    made.request.http.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    if came_from:
        made.destination.address.envoy_internal_address.endpoint_id = came_from
    return made


def question(*, grpc: bool = False) -> Question:
    return Question(ServiceKey("default", "iris"), "m1", "iris.default.example.com", grpc, "", 1, None)


@pytest.mark.parametrize(
    ("path", "headers", "model"),
    [
        ("/v2/models/m1/infer", {}, "m1"),
        ("/v2/models/m1", {}, "m1"),
        ("/v2/models/m1?verbose=1", {}, "m1"),
        ("/v2/models/my.model-2/versions/1/infer?x=/v2/models/other", {}, "my.model-2"),
        ("/v1/models/m1:predict", {}, "m1"),
        ("/v2/models/m1/infer", {"mm_model_id": "other"}, "m1"),  # over REST the path decides
        (INFER, {"mm_model_id": "m1", "content_type": "application/grpc"}, "m1"),
        ("/inference.GRPCInferenceService/ModelStreamInfer", {"mm_model_id": "m1"}, "m1"),
        (INFER, {}, ""),
        ("/inference.GRPCInferenceService/ServerReady", {"mm_model_id": "m1"}, ""),
        ("/v2/health/ready", {"mm_model_id": "m1"}, ""),
        ("/v2", {}, ""),
    ],
)
def test_the_model_of_a_request(path: str, headers: dict[str, str], model: str) -> None:
    asked = read(attributes(path, **headers))
    assert (asked.service, asked.model) == (ServiceKey("default", "iris"), model)


@pytest.mark.parametrize("host", ["iris.default", "iris.default.svc.cluster.local"])
def test_the_service_of_a_request(host: str) -> None:
    assert read(attributes("/v2/models/m1", host)).service == ServiceKey("default", "iris")
    assert read(attributes("/v2/models/m1", "localhost")).service == ServiceKey("", "localhost")


@pytest.mark.parametrize(
    ("path", "host", "known"),
    [
        ("/v2/models/m1/infer", "iris.default", True),
        ("/v2/health/ready", "iris.default", True),
        ("/v2/models/My_Model/infer", "iris.default", False),
        ("/v2/models/" + "a" * 254, "iris.default", False),
        ("/v2/models/m1", "localhost", False),
        ("/v2/models/m1", "Iris.default", False),
        ("/v2/models/m1", "iris.de_fault", False),
    ],
)
def test_only_names_are_asked_of_the_activator(path: str, host: str, known: bool) -> None:
    asked = read(attributes(path, host))
    assert asked.can_be_known is known
    said = json.loads(write(asked, None).denied_response.body)
    assert said["reason"] == "ModelNotFound"
    assert len(said["error"]) < 600
    assert ("(no model's name)" in said["error"]) == (not MODEL_NAME.matches(asked.model))


def test_where_a_request_has_been() -> None:
    asked = read(attributes("/v2/models/m1", x_envoy_attempt_count="2", content_type="application/grpc+proto"))
    assert (asked.came_from, asked.attempt, asked.grpc) == ("", 2, True)
    asked = read(attributes("/v2/models/m1", came_from="target", x_envoy_attempt_count="x"))
    assert (asked.came_from, asked.attempt, asked.grpc) == ("target", 1, False)


@pytest.mark.parametrize(
    ("method", "headers", "body_bytes"),
    [
        ("POST", {"content_length": "1000"}, 1000),
        ("POST", {"content_length": "9" * 30_000}, 10**15 - 1),  # a number that Python would refuse to read
        ("POST", {"content_length": "x"}, None),
        ("POST", {}, None),
        ("GET", {}, 0),
    ],
)
def test_how_much_of_it_may_come(method: str, headers: dict[str, str], body_bytes: int | None) -> None:
    asked = attributes("/v2/models/m1", **headers)
    asked.request.http.method = method
    assert read(asked).body_bytes == body_bytes


@pytest.mark.parametrize(
    ("received", "came_from", "content_type", "known"),
    [
        ("5000 3", "", "application/grpc", (5000, 5000)),  # all of it is there
        ("5000 0", "", "application/grpc+proto", (5000, 5000)),
        ("5000 -", "", "application/grpc", (None, 5000)),  # more may come
        ("0 -", "", "application/grpc", (None, 0)),  # the name came as metadata: nothing was read
        ("0 1", "", "application/grpc", (None, 0)),
        ("", "", "application/grpc", (None, 0)),
        ("x y", "", "application/grpc", (None, 0)),
        ("5 3", "target", "application/grpc", (None, 0)),  # the client's own word: nobody has overwritten it
        ("5 3", "", "application/json", (None, 0)),
    ],
)
def test_how_much_of_a_call_is_there(
    received: str, came_from: str, content_type: str, known: tuple[int | None, int]
) -> None:
    asked = attributes(INFER, came_from=came_from, x_shoal_received=received, content_type=content_type)
    asked.request.http.method = "POST"
    assert (read(asked).body_bytes, read(asked).received) == known


def test_a_request_over_rest_does_not_say_how_much_of_it_is_there() -> None:
    """Whatever it calls its content: nothing on its way overwrites the header, and too little would be charged."""
    asked = attributes("/v2/models/m1/infer", x_shoal_received="1 1", content_type="application/grpcx")
    asked.request.http.method = "POST"
    assert (read(asked).body_bytes, read(asked).received) == (None, 0)


@pytest.mark.parametrize(
    ("ip", "grpc", "address"),
    [("10.0.0.1", False, "10.0.0.1:8080"), ("10.0.0.1", True, "10.0.0.1:8081"), ("fd00::1", False, "[fd00::1]:8080")],
)
def test_the_pod_is_named_by_metadata_and_by_no_header(ip: str, grpc: bool, address: str) -> None:
    said = write(question(grpc=grpc), Endpoint(ip, 8080, 8081))
    assert (said.status.code, said.HasField("ok_response"), len(said.ok_response.headers)) == (0, True, 0)
    assert dict(said.dynamic_metadata) == {"pod": address}


def test_refusals_are_json_or_text() -> None:
    refusal = Refused(503, "LoadFailed", 'it says "no"', 1.2)
    said = write(question(), refusal)
    headers = {each.header.key: each.header.value for each in said.denied_response.headers}
    assert (said.status.code, said.denied_response.status.code) == (7, 503)
    assert headers == {"retry-after": "2", "content-type": "application/json"}
    assert json.loads(said.denied_response.body) == {"error": 'it says "no"', "reason": "LoadFailed"}
    said = write(question(grpc=True), refusal)
    assert said.denied_response.body == 'LoadFailed: it says "no"'
    said = write(question(), None)
    assert said.denied_response.status.code == 404
    assert json.loads(said.denied_response.body)["reason"] == "ModelNotFound"
    assert [each.header.key for each in said.denied_response.headers] == ["content-type"]
