"""boto3's own client of SageMaker's runtime API, unmodified, through the real Envoy: to whom a request goes."""

import asyncio
import json
import random
import re
import string
from typing import Any

import pytest
from shoal_api.grammar import MODEL_NAME
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import RoutePolicy, ServiceKey

from tests.patience import BUSY

from .pods import Pod
from .sagemaker_client import client, invoke, seen
from .test_forms import send
from .world import Envoy, World

pytestmark = pytest.mark.component

V2, V1, NATIVE = "/v2/models/{}/infer", "/v1/models/{}:predict", "/models/{}/invoke"


@pytest.fixture
async def pod(world: World, envoy: Envoy) -> Pod:
    """Of iris.default, on a server with the path of SageMaker's containers; m1, iris and others are loaded, cold is
    cold."""
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(server_type="mms"))
    for model in ("m1", "iris", "team--iris-v1-2", "chicago-il", "invocations", "0"):
        world.route(model, pod)
    await world.applied(world.route("cold", unavailable=Unavailable.COLD))
    return pod


@pytest.mark.parametrize(
    ("server_type", "protocol", "path"),
    [
        ("mms", "native", NATIVE),
        ("djl", "native", NATIVE),
        ("sagemaker", "native", NATIVE),
        ("torchserve", "v2", "/predictions/{}"),
        ("mlserver", "v2", V2),
        ("mlserver", "v1", V1),
        ("kserve", "v1", V1),
        ("triton", "v2", V2),
        ("ovms", "v2", V2),
    ],
)
async def test_a_model_answers_by_the_path_of_its_server(
    world: World, envoy: Envoy, server_type: str, protocol: str, path: str
) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(server_type=server_type, protocol=protocol))
    world.route("m1", pod)
    await world.applied(world.route("cold", unavailable=Unavailable.COLD))
    world.loads("cold", pod, after=0.1)
    runtime = client(envoy.base)
    for model in ("m1", "cold"):
        answer = await invoke(
            runtime,
            "default--iris",
            TargetModel=f"{model}.tar.gz",
            ContentType="application/json",
            Accept="application/json",
            Body=b'{"inputs": []}',
        )
        assert json.loads(answer["Body"]) == {"pod": "a", "path": path.format(model), "bytes": 14}
        assert answer["ContentType"].startswith("application/json")
        assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert world.asked == ["cold"]
    assert pod.requests == [f"POST {path.format(model)}" for model in ("m1", "cold")]


@pytest.mark.parametrize(
    ("artifact", "model"),
    [
        ("m1", "m1"),
        ("m1.tar.gz", "m1"),
        ("team/iris_v1.2.tar.gz", "team--iris-v1-2"),
        ("Chicago_IL.tar.gz", "chicago-il"),
        ("0.tar.gz", "0"),
        ("invocations.tar.gz", "invocations"),
    ],
)
async def test_an_artifacts_name_is_a_models(envoy: Envoy, pod: Pod, artifact: str, model: str) -> None:
    runtime = client(envoy.base)
    assert await seen(runtime, "default--iris", TargetModel=artifact) == NATIVE.format(model)
    assert await seen(runtime, "default--iris", InferenceComponentName=model) == NATIVE.format(model)


async def test_without_a_name_it_is_the_services_own_model(world: World, envoy: Envoy, pod: Pod) -> None:
    runtime = client(envoy.base)
    assert await seen(runtime, "default--iris") == NATIVE.format("iris")
    await world.applied(world.service(pod, service=ServiceKey("default", "shop")))
    with pytest.raises(runtime.exceptions.ValidationError, match="no TargetModel was given, and the InferenceService"):
        await invoke(runtime, "default--shop")


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1:8080", "default--iris"),
        ("gateway.example.com", "Default--IRIS"),
        ("iris.default", "iris"),
        ("iris.default.example.com:80", "Iris"),
        ("IRIS.Default", "iris"),
        ("iris-predictor.default.svc", "iris"),
        ("iris.default", "default--iris"),
        ("shop.other", "default--iris"),
    ],
)
async def test_an_endpoint_is_an_inference_service(envoy: Envoy, pod: Pod, host: str, endpoint: str) -> None:
    runtime = client(envoy.base, by_host=host)
    assert await seen(runtime, endpoint, TargetModel="m1") == NATIVE.format("m1")
    assert pod.headers["host"].startswith("iris.default")


@pytest.mark.parametrize(
    ("host", "endpoint", "text"),
    [
        ("127.0.0.1:8080", "iris", "EndpointName names no InferenceService: write <namespace>--<name>"),
        ("iris.default", "shop", "EndpointName names no InferenceService"),
        ("iris.default", "default---iris", "EndpointName names no InferenceService"),
        ("iris.default", "--iris", "EndpointName names no InferenceService"),
        ("iris.default", "default--", "EndpointName names no InferenceService"),
        ("iris.default", "default--1iris", "EndpointName names no InferenceService"),
        ("iris.default", "default--" + "i" * 54, "EndpointName names no InferenceService"),
        ("iris.default", "default--nobody", "no InferenceService answers at host 'nobody.default'"),
        ("nobody.default", "nobody", "no InferenceService answers at host 'nobody.default'"),
        ("iris.default", "iris", "has no TrainedModel of this name"),
    ],
)
async def test_what_is_not_there_is_the_clients_mistake(
    envoy: Envoy, pod: Pod, host: str, endpoint: str, text: str
) -> None:
    runtime = client(envoy.base, by_host=host, retries={"max_attempts": 4})
    with pytest.raises(runtime.exceptions.ValidationError, match=re.escape(text)) as caught:
        await invoke(runtime, endpoint, TargetModel="nobody.tar.gz")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert pod.requests == []


async def test_where_hosts_separate_tenants_an_endpoints_name_reaches_no_other(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(server_type="mms", path_style=False))
    await world.applied(world.route("m1", pod))
    for host in ("shop.other", "127.0.0.1", "default--iris.example"):
        runtime = client(envoy.base, by_host=host)
        with pytest.raises(
            runtime.exceptions.ValidationError, match=r"does not take requests by path|no InferenceService"
        ):
            await invoke(runtime, "default--iris", TargetModel="m1")
    assert pod.requests == []
    for endpoint in ("iris", "default--iris"):
        assert await seen(client(envoy.base, by_host="iris.default"), endpoint, TargetModel="m1")


async def test_a_model_of_a_group_is_an_endpoint_of_its_own(world: World, envoy: Envoy) -> None:
    group = ServiceKey("team", "runtime.triton-2.x")
    pod = await world.pod("a")
    world.service(pod, service=group, policy=RoutePolicy(server_type="triton"))
    await world.applied(world.route("m1", pod, service=group))
    runtime = client(envoy.base)
    assert await seen(runtime, "team--m1") == V2.format("m1")
    assert await seen(runtime, "team--modelmesh-serving", TargetModel="m1") == V2.format("m1")
    with pytest.raises(runtime.exceptions.ValidationError, match=r"m2: the InferenceService at host m1.team"):
        await invoke(runtime, "team--m1", TargetModel="m2")


async def test_a_cold_models_request_is_held_until_it_is_loaded_on_whichever_pod(
    world: World, envoy: Envoy, pod: Pod
) -> None:
    other = await world.pod("b")
    world.loads("cold", other, after=0.5)
    body = b"x" * 3_000_000
    answer = await invoke(client(envoy.base), "default--iris", TargetModel="cold.tar.gz", Body=body)
    assert json.loads(answer["Body"]) == {"pod": "b", "path": NATIVE.format("cold"), "bytes": len(body)}
    assert pod.requests == []
    assert [name for name in other.headers if name.startswith("x-shoal")] == []


async def test_a_pod_that_does_not_have_the_model_any_more_is_not_the_clients_business(
    world: World, envoy: Envoy
) -> None:
    """Over v2, where the pod's stand-in says so."""
    pod, other = await world.pod("a"), await world.pod("b")
    world.service(pod, other)
    await world.applied(world.route("m1", pod))
    pod.lacks.add("m1")
    world.state_says("m1", other)
    answer = await invoke(client(envoy.base), "default--iris", TargetModel="m1")
    assert json.loads(answer["Body"])["pod"] == "b"


async def test_headers_of_the_api_reach_the_model_and_signatures_do_not(envoy: Envoy, pod: Pod) -> None:
    pod.says = 200, {"X-Amzn-SageMaker-Custom-Attributes": "back", "Content-Type": "text/csv"}, b"1,2"
    answer = await invoke(
        client(envoy.base),
        "default--iris",
        TargetModel="m1.tar.gz",
        TargetVariant="green",
        CustomAttributes="there",
        InferenceId="id-1",
        ContentType="text/csv",
        Accept="text/csv",
        Body=b"3,4",
    )
    assert (answer["Body"], answer["ContentType"], answer["CustomAttributes"]) == (b"1,2", "text/csv", "back")
    sent = {name: pod.headers.get(f"x-amzn-sagemaker-{name}") for name in ("target-model", "target-variant")}
    assert sent == {"target-model": "m1.tar.gz", "target-variant": "green"}
    assert pod.headers["x-amzn-sagemaker-custom-attributes"] == "there"
    assert (pod.headers["content-type"], pod.headers["accept"]) == ("text/csv", "text/csv")
    assert not pod.headers.keys() & {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}
    assert not [value for value in pod.headers.values() if "made-up" in value or "AKIA" in value]
    # Somebody else's login is passed on, as with every other path.
    await send(envoy, post(more="Authorization: Bearer mine\r\n"))
    assert pod.headers["authorization"] == "Bearer mine"


async def test_binary_tensors_as_triton_has_them_on_sagemaker(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(server_type="triton"))
    await world.applied(world.route("m1", pod))
    pod.says = 200, {"Inference-Header-Content-Length": "2", "Content-Type": "application/octet-stream"}, b"{}\1\2"
    form = "application/vnd.sagemaker-triton.binary+json;json-header-size="
    answer = await invoke(
        client(envoy.base), "default--iris", TargetModel="m1", ContentType=form + "7", Body=b"{}....."
    )
    assert (pod.headers["inference-header-content-length"], pod.headers["content-type"]) == (
        "7",
        "application/octet-stream",
    )
    assert (answer["ContentType"], answer["Body"]) == (form + "2", b"{}\1\2")


@pytest.mark.parametrize("content_type", ["text/csv", "application/x-npy", "application/jsonlines", "image/png"])
async def test_what_a_server_of_json_cannot_read_is_refused_with_what_it_reads(
    world: World, envoy: Envoy, content_type: str
) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(server_type="mlserver", protocol="v1"))
    await world.applied(world.route("m1", pod))
    runtime = client(envoy.base)
    said = re.escape(f"ContentType {content_type} is not taken: the body goes to /v1/models/<model>:predict")
    with pytest.raises(runtime.exceptions.ValidationError, match=said + r'.*\{"instances": '):
        await invoke(runtime, "default--iris", TargetModel="m1", ContentType=content_type)
    assert pod.requests == []
    for taken in ("application/json", "application/json; charset=utf-8", "application/octet-stream", None):
        given = {} if taken is None else {"ContentType": taken}
        assert await seen(runtime, "default--iris", TargetModel="m1", **given) == V1.format("m1")


async def test_the_other_operations_are_refused_as_such(envoy: Envoy, pod: Pod) -> None:
    runtime = client(envoy.base)

    def stream() -> Any:
        return runtime.invoke_endpoint_with_response_stream(EndpointName="default--iris", Body=b"{}")

    def later() -> Any:
        return runtime.invoke_endpoint_async(EndpointName="default--iris", InputLocation="s3://bucket/key")

    for call in (stream, later):
        with pytest.raises(runtime.exceptions.ValidationError, match="only InvokeEndpoint is offered"):
            await asyncio.to_thread(call)
    for path, method in (
        ("/endpoints/default--iris", "POST"),
        ("/endpoints/default--iris/invocations", "GET"),
        ("/endpoints/default--iris/invocations", "DELETE"),
        ("/endpoints/default--iris/invocations/x", "POST"),
        ("/endpoints/", "POST"),
    ):
        status, headers, body = await send(envoy, post(path, method))
        assert (status, headers["x-amzn-errortype"]) == (400, "ValidationError"), path
        assert "only InvokeEndpoint" in json.loads(body)["Message"]
    assert pod.requests == []


async def test_a_namespace_called_endpoints_has_its_path_style(world: World, envoy: Envoy, pod: Pod) -> None:
    theirs = ServiceKey("endpoints", "iris")
    world.service(pod, service=theirs)
    await world.applied(world.route("m1", pod, service=theirs))
    status, _, body = await send(envoy, post("/endpoints/iris/v2/models/m1/infer"))
    assert (status, json.loads(body)["path"]) == (200, "/v2/models/m1/infer")


async def test_a_hosts_container_by_name_and_two_names_at_once_are_refused(envoy: Envoy, pod: Pod) -> None:
    runtime = client(envoy.base)
    with pytest.raises(runtime.exceptions.ValidationError, match="TargetContainerHostname is not offered"):
        await invoke(runtime, "default--iris", TargetContainerHostname="first")
    with pytest.raises(runtime.exceptions.ValidationError, match="both name a model"):
        await invoke(runtime, "default--iris", TargetModel="m1", InferenceComponentName="iris")
    assert pod.requests == []


def post(
    path: str = "/endpoints/default--iris/invocations",
    method: str = "POST",
    target: str | None = "m1",
    more: str = "",
    host: str = "gateway.example.com",
) -> bytes:
    named = "" if target is None else f"X-Amzn-SageMaker-Target-Model: {target}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{named}{more}Content-Length: 2\r\n\r\n"
    return head.encode("latin-1", "replace") + b"{}"


NASTY = [
    *("", ".tar.gz", "/", "//", "m1/", "/m1", "../m1", "m1/..", "..", ".", "-m1", "m1-", "m1.tar.gz.", "_m1"),
    *("m1,iris", "m1 iris", "m1\tx", "m1?x", "m1#x", "m1%2e", "m1:predict", "m1;x", "*", "%s", "[a-z]", "\xf6", "{}"),
    *('"', "\\", "'", "m1\x7f", "x" * 254, "x/" * 127 + "x", "A" * 20_000),
]


def in_words(artifact: str) -> str:
    """What docs/usage.md says an artifact's name becomes, written a second time."""
    name = artifact.strip(" \t").removesuffix(".tar.gz").lower()
    return name.replace("/", "--").translate(str.maketrans("._", "--"))


def made_up(count: int) -> list[str]:
    """Artifacts' names: those of models in other words, and what hardly is one."""
    rng = random.Random(10)
    likely, all_letters = string.ascii_letters + string.digits + "-_./", string.printable[:95] + "\xe4\xad\x80"
    return [
        "".join(rng.choices(rng.choice((likely, likely, all_letters)), k=rng.randint(1, 12)))
        + rng.choice(("", ".tar.gz"))
        for _ in range(count)
    ]


async def test_whatever_an_artifact_is_called_a_model_is_asked_by_its_name_or_nobody(
    world: World, envoy: Envoy, pod: Pod
) -> None:
    legal = 0
    for artifact in [*NASTY, *made_up(300)]:
        model = in_words(artifact)
        known = MODEL_NAME.matches(model)
        legal += known
        if known and len(model) < 60:
            await world.applied(world.route(model, pod))
        pod.requests.clear()
        status, headers, body = await send(envoy, post(target=artifact))
        if known:
            assert (status, pod.requests) == (200, [f"POST {NATIVE.format(model)}"]), artifact
        elif "\x7f" in artifact:
            assert (status, json.loads(body)["reason"], pod.requests) == (400, "MalformedRequest", [])  # no HTTP
        else:
            assert (status, headers["x-amzn-errortype"], pod.requests) == (400, "ValidationError", []), artifact
            assert "comes to no model's name" in json.loads(body)["Message"], artifact
            assert len(body) < 600
    assert legal > 100
    assert world.asked == []


async def test_what_a_header_says_twice_or_a_client_makes_up_counts_for_nothing(
    world: World, envoy: Envoy, pod: Pod
) -> None:
    other = await world.pod("b")
    other_service = ServiceKey("tenant-b", "other")
    world.service(other, service=other_service, policy=RoutePolicy(server_type="mms"))
    await world.applied(world.route("m1", other, service=other_service))
    twice = post(more="X-Amzn-SageMaker-Target-Model: iris\r\n")
    assert (await send(envoy, twice))[0] == 400
    assert (await send(envoy, post(target="", more="X-Amzn-SageMaker-Target-Model: iris\r\n")))[0] == 400
    assert pod.requests == []
    for more in (
        "x-shoal-scope: ///cold\r\n",
        "x-shoal-scope: ///!\r\n",
        "x-shoal-unknown: x\r\n",
        "mm-model-id: cold\r\n",
        "x-amzn-errortype: ModelError\r\n",
        "x-envoy-original-path: /models/cold/invoke\r\n",
        "x-forwarded-host: other.tenant-b\r\n",
    ):
        pod.requests.clear()
        status, _, body = await send(envoy, post(more=more))
        assert (status, pod.requests) == (200, [f"POST {NATIVE.format('m1')}"]), (more, body)
    for path in (
        "/endpoints/default--iris/../default--iris/invocations",
        "//endpoints//default--iris//invocations/",
        "/endpoints/%64efault--iris/invocations",
        "http://gateway.example.com/endpoints/default--iris/invocations",
    ):
        assert (await send(envoy, post(path)))[0] == 200, path
    for path in (
        "/endpoints/default--iris%2Finvocations",
        "/endpoints/default--iris/invocations?x=/endpoints/tenant-b--other/invocations",
        "/endpoints/tenant-b--other/x/../../default--iris/x/invocations",
        "/default/iris/endpoints/default--iris/invocations",
        "/ENDPOINTS/default--iris/invocations",
    ):
        pod.requests.clear()
        status, _, body = await send(envoy, post(path))
        assert (status in (400, 404), pod.requests) == (True, []), (path, body)
    # The form that a request has meanwhile is nothing that a client of another server could send itself.
    world.service(pod, policy=RoutePolicy(server_type="mlserver"))
    await world.applied(world.route("m1", pod))
    pod.requests.clear()
    assert (await send(envoy, post("/models/m1/invoke", host="iris.default")))[0] == 404
    assert pod.requests == other.requests == []
    assert world.asked == []


async def test_a_model_called_as_the_path_is_gets_no_others_requests(world: World, envoy: Envoy, pod: Pod) -> None:
    """``invocations`` stands where the scopes' key has the model's name."""
    for target, asked in (("m1", "m1"), ("invocations", "invocations"), (None, "iris")):
        pod.requests.clear()
        assert (await send(envoy, post("/endpoints/iris/invocations", target=target, host="iris.default")))[0] == 200
        assert pod.requests == [f"POST {NATIVE.format(asked)}"]


async def test_a_body_is_limited_as_by_any_path(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(server_type="mms", max_request_bytes=1000))
    await world.applied(world.route("m1", pod))
    runtime = client(envoy.base)
    with pytest.raises(runtime.exceptions.ValidationError, match="longer than is taken"):
        await invoke(runtime, "default--iris", TargetModel="m1", Body=b"x" * 1001)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n7d1\r\n" + b"x" * 2001 + b"\r\n0\r\n\r\n"
    for path, host in (
        ("/endpoints/default--iris/invocations", "x.y"),
        ("/models/m1/invoke", "iris.default"),
        ("/predictions/m1", "iris.default"),
    ):
        status, _, body = await send(envoy, post(path, host=host).partition(b"Content-Length")[0] + chunked)
        assert status in (400, 411), (path, body)
        assert b"send Content-Length" in body
    assert pod.requests == []


async def test_no_other_request_costs_anything_more(world: World, envoy: Envoy, pod: Pod) -> None:
    """The filter's code has not run for them; for the other it has."""
    for request in (
        post("/models/m1/invoke", host="iris.default"),
        post("/default/iris/models/m1/invoke"),
        post("/models/nobody/invoke", host="iris.default"),
        post("/nothing"),
        post("/endpoints"),
    ):
        await send(envoy, request)
    assert await envoy.stat("http.gateway.lua.sagemaker.executions") == 0
    await send(envoy, post())
    assert await envoy.stat("http.gateway.lua.sagemaker.executions") > 0
    assert await envoy.stat("http.gateway.lua.sagemaker.errors") == 0


async def test_a_request_in_another_protocol_is_answered_and_harms_no_other(
    world: World, envoy: Envoy, pod: Pod
) -> None:
    for more, expected in (
        ("Upgrade: websocket\r\nConnection: upgrade\r\n", {400}),
        ("Content-Type: application/grpc\r\nte: trailers\r\n", {200}),  # gRPC's errors are 200
        ("Expect: 100-continue\r\n", {100, 200}),
        ("".join(f"X-Amzn-SageMaker-{number}: x\r\n" for number in range(120)), {431}),
    ):
        status, _, body = await send(envoy, post(more=more))
        assert status in expected, (more[:40], status, body)
        assert (await send(envoy, post()))[0] == 200
    head, _, length = post().partition(b"Content-Length")
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert length
    assert json.loads((await send(envoy, chunked))[2])["bytes"] == 2
    assert await envoy.stat("http.gateway.lua.sagemaker.errors") == 0


async def test_many_at_once(world: World, envoy: Envoy, pod: Pod) -> None:
    requests = [asyncio.create_task(send(envoy, post(target=f"m1{end}"))) for end in ("", ".tar.gz") * 100]
    async with asyncio.timeout(BUSY):
        answers = await asyncio.gather(*requests)
    assert {status for status, _, _ in answers} == {200}
    assert len(pod.requests) == 200
