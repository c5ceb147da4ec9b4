"""What a profile says becomes pods, routes, filters and conditions, for a server unlike MLServer in all of it."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from shoal_api.tuning import Tuning
from shoal_operator.gateway import clusters, lacking, routes, surface
from shoal_operator.manifests.render import render
from shoal_operator.manifests.resolve import Resolution, resolve
from shoal_operator.manifests.scaling import Decision
from shoal_operator.manifests.server_config import MOST_SAID
from shoal_operator.manifests.storage import Storage
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import RoutePolicy
from shoal_operator.state.world.views import Endpoint

from tests.unit.manifests.objects import SETTINGS, isvc, runtime

from .acme import ACME, known

POLICY = RoutePolicy(server_type="acme")
CONFIG = "shoal.dev/server-config"


@pytest.fixture(autouse=True)
def _acme() -> Iterator[None]:
    with known():
        yield


def resolution(annotations: dict[str, str] | None = None, **container: Any) -> Resolution:
    resources = {"limits": {"memory": "1Gi", "cpu": "2500m"}}
    predictor = {"model": {"modelFormat": {"name": "acme"}, "resources": resources, **container}}
    served = runtime("acme", formats=(("acme", "1"),), server=None, image="team/acme-serving:2", protocols=())
    return resolve(isvc(annotations, **predictor), [served])


def rendered(made: Resolution) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    manifests = render(isvc(), made, Storage(), SETTINGS, Decision(replicas=1, autoscaler=False))
    (deployment,) = [each for each in manifests if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    return pod["containers"][0], pod, manifests


def env(container: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value") for item in container["env"]}


def test_its_container_is_as_the_profile_says() -> None:
    made = resolution({CONFIG: "workers=4"}, args=["--nice"])
    assert made.spec.problem is None, made.spec.problem
    assert (made.spec.server_type, made.spec.protocol, made.spec.policy.server_type) == ("acme", "native", "acme")
    server, pod, manifests = rendered(made)
    assert (server["command"], server["args"]) == (["acme", "serve"], ["--workers=4", "--nice"])
    assert [(port["name"], port["containerPort"]) for port in server["ports"]] == [("http", 7000), ("management", 7001)]
    assert server["readinessProbe"]["tcpSocket"] == {"port": 7000}
    assert {mount["mountPath"] for mount in server["volumeMounts"]} >= {"/dev/shm", "/var/acme"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["shoal-scratch-0"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert volumes["shoal-scratch-1"]["emptyDir"] == {"sizeLimit": "2Gi"}
    assert env(server)["ACME_HOME"] == "/mnt/shoal/config"
    agent = env(pod["initContainers"][0])
    assert agent["SHOAL_SERVER_TYPE"] == "acme"
    assert agent["SHOAL_SERVER_PORTS"] == "http=7000,management=7001"
    assert json.loads(agent["SHOAL_SERVER_FILES"]) == {"acme.properties": "timeout=300\n"}
    # Management is nobody's but the agent's, in the pod.
    (policy,) = [each for each in manifests if each["kind"] == "NetworkPolicy"]
    admitted = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    assert admitted == [7000, 9090]
    assert "args[0] of the model server (--port is Shoal's own)" in made.spec.ignored_fields


def test_threads_follow_the_containers_processors_unless_they_are_set() -> None:
    server, _, _ = rendered(resolution())
    assert {env(server)[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"2"}
    server, _, _ = rendered(resolution(env=[{"name": "OMP_NUM_THREADS", "value": "7"}]))
    assert (env(server)["OMP_NUM_THREADS"], env(server)["MKL_NUM_THREADS"]) == ("7", "2")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("workers=9", "workers is '9': write a whole number from 1 up to 8"),
        ('{"workers": "many"}', "workers is 'many': write a whole number"),
        ('{"workers": true}', "workers is True: write a whole number"),
        ("wrokers=2", "Acme Serving has no setting 'wrokers' here; did you mean workers?"),
        ("nonsense=2", "there are: mode, ratio, verbose, workers"),
        ("mode=slow", "mode is 'slow': write fast or safe"),
        ("verbose=maybe", "verbose is 'maybe': write true or false"),
        ("ratio=nan", "ratio is 'nan': write a number"),
        ("workers", "'workers' is no setting: write name=value, or JSON"),
        ("{nonsense", "is not JSON"),
        ('{"a":' * 2_000 + "1" + "}" * 2_000, "Acme Serving has no setting 'a.a'"),
        ('{"a":' * 2_000, "is not JSON"),
    ],
)
def test_a_setting_that_cannot_be_is_said_by_name_and_the_rest_holds(written: str, said: str) -> None:
    made = resolution({CONFIG: written})
    assert made.spec.problem is None
    (sentence,) = made.spec.not_tuned
    assert CONFIG in sentence
    assert said in sentence
    assert made.parts.args == ("--workers=1",)


def test_ten_thousands_of_settings_that_are_none_cost_no_time_and_those_that_are_hold() -> None:
    lines = [f"wrokers{number}={number}" for number in range(20_000)]
    began = time.process_time()
    made = resolution({CONFIG: "\n".join((*lines, "workers=3"))})
    assert time.process_time() - began < 2, "of the operator's loop"
    assert made.parts.args == ("--workers=3",)
    assert len(made.spec.not_tuned) == MOST_SAID + 1
    assert f"{20_000 - MOST_SAID} more are no settings" in made.spec.not_tuned[-1]


def test_settings_are_lines_or_json_and_the_inference_services_come_first() -> None:
    for text in ("# a comment\n\n workers = 3 \nverbose=TRUE\nratio=0.5\nmode=fast", '{"workers": 3, "verbose": true}'):
        made = resolution({CONFIG: text})
        assert (made.spec.not_tuned, made.parts.args) == ((), ("--workers=3",))


def paths_of(configuration: Any) -> dict[str, Any]:
    """Route actions by the regular expression or path that they match, of the first route of each."""
    found: dict[str, Any] = {}
    for route in json_format.MessageToDict(configuration)["virtualHosts"][0]["routes"]:
        match = route["match"]
        found.setdefault(match.get("safeRegex", {}).get("regex") or match.get("path") or match.get("prefix"), route)
    return found


def action(configuration: Any, path: str) -> Any:
    for expression, route in paths_of(configuration).items():
        if expression and re.fullmatch(expression, path):
            return route
    return None


def test_only_its_own_paths_lead_to_its_pods() -> None:
    to_pods = routes.to_pods("r", POLICY, "target")
    for path in ("/predictions/my-model", "/models/my-model/invoke"):
        assert action(to_pods, path)["route"]["cluster"] == "target"
    for path in ("/v2/models/m/infer", "/v1/models/m:predict", "/v1/models/m"):
        refused = action(to_pods, path)["directResponse"]
        assert refused["status"] == 404
        assert refused["bodyFormat"]["jsonFormat"]["reason"] == "ProtocolNotOffered"
        assert "/predictions/{model}" in refused["bodyFormat"]["jsonFormat"]["error"]
    call = action(to_pods, "/inference.GRPCInferenceService/ModelInfer")
    assert call["directResponse"]["status"] == 501, "UNIMPLEMENTED"
    for path in ("/models", "/models/m", "/predictions/m/x", "/ping", "/metrics"):
        assert action(to_pods, path) is None


@pytest.mark.parametrize("make", [routes.cold, routes.waiting])
def test_cold_requests_of_its_own_paths_are_held(make: Any) -> None:
    held = make("r", POLICY)
    assert action(held, "/predictions/m")["route"]["cluster"] == "cold"
    assert action(held, "/v2/models/m/infer")["directResponse"]["status"] == 404


def test_what_is_unavailable_or_unknown_is_said_on_its_own_paths() -> None:
    gone = routes.unavailable("r", POLICY, Unavailable.NO_MEMORY)
    assert action(gone, "/predictions/m")["directResponse"]["status"] == 503
    own = routes.of_service("r", POLICY, "target")
    assert action(own, "/predictions/any.thing")["directResponse"]["status"] == 404
    assert action(own, "/v2/health/live") is None, "its server has no such path"
    message = routes.from_message("r", POLICY, 1024)
    assert action(message, "/inference.GRPCInferenceService/ModelInfer")["directResponse"]["status"] == 501


def test_its_own_words_for_a_missing_model_are_read_in_its_clusters_only() -> None:
    endpoint = Endpoint("10.0.0.1", 7000, 0, "acme")
    http, grpc = (json_format.MessageToDict(each) for each in clusters.of_target("the-target", [endpoint]))
    options = http["typedExtensionProtocolOptions"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    assert options["commonHttpProtocolOptions"]["idleTimeout"] == "7.500s"
    first, last = options["httpFilters"]
    code = first["typedConfig"]["defaultSourceCode"]["inlineString"]
    assert 'status = 404, contains = {"\\034ModelNotFoundException\\034", "say \\034x\\034\\010"}' in code
    assert last["name"] == "envoy.filters.http.upstream_codec"
    endpoints = grpc["loadAssignment"]["endpoints"][0].get("lbEndpoints", [])
    assert endpoints == [], "it speaks no gRPC"
    plain, _ = clusters.of_target("the-target", [Endpoint("10.0.0.1", 8080, 8081, "mlserver")])
    options = json_format.MessageToDict(plain)["typedExtensionProtocolOptions"]
    assert "httpFilters" not in options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    assert lacking.rules("acme") == {"rest": [{"status": 404, "contains": ['"ModelNotFoundException"', 'say "x"\n']}]}


def test_names_are_found_in_its_paths() -> None:
    assert surface.native() == ("/models/{model}/invoke", "/predictions/{model}")
    first, second = map(re.compile, surface.native_expressions())
    assert first.fullmatch("/models/m1/invoke")[1] == second.fullmatch("/predictions/m1")[1] == "m1"  # type: ignore[index]
    assert surface.native_in_lua().count("path:match") == 4


def test_a_timeout_beyond_the_services_is_not_honoured() -> None:
    assert ACME.not_honoured(Tuning(timeout=300.0, workers_max=2), 300.0) == ()
    (said,) = ACME.not_honoured(Tuning(timeout=300.5), 300.0)
    assert "lower it, or raise spec.predictor.timeout" in said
    (said,) = ACME.not_honoured(Tuning(threads=2), 300.0)
    assert said.startswith("spec.serving.threads: Acme Serving cannot do that (it honours workers, timeout)")
