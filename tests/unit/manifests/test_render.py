"""The manifests of an InferenceService: what reaches the pods, and what they need to work with the agent."""

import json
from dataclasses import replace
from typing import Any

import pytest
from shoal_api.inference_service import InferenceService
from shoal_api.storage_secrets import StorageDocument
from shoal_operator.manifests.render import fingerprint, render
from shoal_operator.manifests.scaling import Decision
from shoal_operator.manifests.settings import WorkloadSettings
from shoal_operator.manifests.storage import Storage, StorageSecret, is_generated, secret_names
from shoal_operator.replicas.decide import LiveReplicas, decide

from .objects import LIMITS, SETTINGS, Object, isvc, resolved, runtime

NO_STORAGE = Storage()
ENDPOINT = (("serving.kserve.io/s3-endpoint", "s3.example.com"),)
STORAGE = Storage("models", (), (StorageSecret("s3.credentials", ENDPOINT),))


def manifests(
    service: InferenceService, storage: Storage = NO_STORAGE, settings: WorkloadSettings = SETTINGS, *runtimes: Any
) -> dict[str, Object]:
    resolution = resolved(service, *runtimes)
    pods = decide(resolution.scaling, None, LiveReplicas(), "iris-predictor")
    rendered = render(service, resolution, storage, settings, pods)
    return {f"{m['kind']}/{m['metadata']['name']}": m for m in rendered}


def deployment(service: InferenceService, storage: Storage = NO_STORAGE, *runtimes: Any) -> Object:
    spec: Object = manifests(service, storage, SETTINGS, *runtimes)["Deployment/iris-predictor"]["spec"]
    return spec


def pod(service: InferenceService, storage: Storage = NO_STORAGE, *runtimes: Any) -> Object:
    spec: Object = deployment(service, storage, *runtimes)["template"]["spec"]
    return spec


def server(service: InferenceService, *runtimes: Any) -> Object:
    container: Object = pod(service, NO_STORAGE, *runtimes)["containers"][0]
    return container


def agent(service: InferenceService, storage: Storage = NO_STORAGE) -> Object:
    container: Object = pod(service, storage)["initContainers"][0]
    return container


def env(container: Object) -> dict[str, Any]:
    names = [item["name"] for item in container["env"]]
    assert len(names) == len(set(names))
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def test_the_set_of_objects() -> None:
    assert list(manifests(isvc())) == [
        "NetworkPolicy/iris-predictor",
        "ConfigMap/iris-shoal-storage",
        "Deployment/iris-predictor",
        "Service/iris",
        "Service/iris-predictor",
        "PodDisruptionBudget/iris-predictor",
    ]
    without = replace(SETTINGS, network_policy=False)
    assert "NetworkPolicy/iris-predictor" not in manifests(isvc(), Storage(), without)


def test_everything_belongs_to_the_inference_service() -> None:
    for manifest in manifests(isvc(), STORAGE).values():
        meta = manifest["metadata"]
        assert meta["namespace"] == "demo"
        assert meta["labels"]["serving.kserve.io/inferenceservice"] == "iris"
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "shoal"
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("InferenceService", "uid-iris", True)


def test_rendering_is_deterministic() -> None:
    one = [fingerprint(m) for m in manifests(isvc(), STORAGE).values()]
    two = [fingerprint(m) for m in manifests(isvc(), STORAGE).values()]
    assert one == two
    json.dumps(list(manifests(isvc(), STORAGE).values()))


def test_services_lead_to_the_gateway() -> None:
    for name in ("iris", "iris-predictor"):
        spec = manifests(isvc())[f"Service/{name}"]["spec"]
        assert spec == {"type": "ExternalName", "externalName": "shoal-gateway.shoal-system.svc.cluster.local"}


def test_a_rollout_never_takes_a_pod_before_its_successor_is_ready() -> None:
    assert deployment(isvc())["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_replicas_are_the_least_or_another_autoscalers() -> None:
    assert deployment(isvc(sklearn={"resources": LIMITS}, minReplicas=3))["replicas"] == 3
    assert "replicas" not in deployment(isvc({"serving.kserve.io/autoscalerClass": "external"}))


def test_scaling_is_no_rollout_and_leaves_the_budget() -> None:
    service = isvc(sklearn={"resources": LIMITS}, minReplicas=1, maxReplicas=9)

    def objects(replicas: int) -> list[Object]:
        return render(service, resolved(service), NO_STORAGE, SETTINGS, Decision(replicas))

    one, nine = objects(1), objects(9)
    differing = [a["kind"] for a, b in zip(one, nine, strict=True) if a != b]
    assert differing == ["Deployment"]
    deployments = [next(m for m in all_ if m["kind"] == "Deployment")["spec"] for all_ in (one, nine)]
    assert [spec.pop("replicas") for spec in deployments] == [1, 9]
    assert deployments[0] == deployments[1]
    budget = next(m for m in nine if m["kind"] == "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget  # would be wrong as soon as there are fewer pods


@pytest.mark.parametrize(("metric", "target", "percent"), [("cpu", None, 80), ("cpu", 55, 55), ("memory", 70, 70)])
def test_an_autoscaler_for_what_only_kubernetes_measures(metric: str, target: int | None, percent: int) -> None:
    scale: Object = {"scaleMetric": metric, **({} if target is None else {"scaleTarget": target})}
    service = isvc(sklearn={"resources": LIMITS}, minReplicas=2, maxReplicas=5, **scale)
    assert "replicas" not in deployment(service)
    spec = manifests(service)["HorizontalPodAutoscaler/iris-predictor"]["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "iris-predictor"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    (measured,) = spec["metrics"]
    assert measured["containerResource"] == {
        "name": metric,
        "container": "kserve-container",
        "target": {"type": "Utilization", "averageUtilization": percent},
    }


@pytest.mark.parametrize(
    ("annotations", "predictor"),
    [
        ({}, {"minReplicas": 2, "maxReplicas": 5}),
        ({}, {"minReplicas": 2, "maxReplicas": 5, "scaleMetric": "concurrency"}),
        ({}, {"minReplicas": 2, "scaleMetric": "cpu"}),
        ({"serving.kserve.io/autoscalerClass": "none"}, {"maxReplicas": 5, "scaleMetric": "cpu"}),
        ({"serving.kserve.io/autoscalerClass": "external"}, {"maxReplicas": 5, "scaleMetric": "cpu"}),
    ],
)
def test_no_autoscaler_where_another_scales_or_nobody(annotations: dict[str, str], predictor: Object) -> None:
    rendered = manifests(isvc(annotations, sklearn={"resources": LIMITS}, **predictor))
    assert "HorizontalPodAutoscaler/iris-predictor" not in rendered


def test_selector_matches_the_pods() -> None:
    spec = deployment(isvc(sklearn={"resources": LIMITS}, labels={"component": "mine", "team": "fish"}))
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert labels["team"] == "fish"


def test_the_users_pod_fields_reach_the_pods() -> None:
    fields: Object = {
        "serviceAccountName": "models",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "terminationGracePeriodSeconds": 10,
        "topologySpreadConstraints": [],
    }
    spec = pod(isvc(sklearn={"resources": LIMITS}, **fields))
    for key, value in fields.items():
        assert spec[key] == value


def test_the_runtimes_pod_fields_are_below_the_users() -> None:
    loads = runtime(nodeSelector={"disk": "ssd", "zone": "a"}, tolerations=[{"key": "x"}], annotations={"team": "r"})
    service = isvc(sklearn={"resources": LIMITS}, nodeSelector={"zone": "b"})
    spec = pod(service, Storage(), loads)
    assert spec["nodeSelector"] == {"disk": "ssd", "zone": "b"}
    assert spec["tolerations"] == [{"key": "x"}]


def test_the_users_volumes_and_init_containers_stay() -> None:
    service = isvc(
        sklearn={"resources": LIMITS, "volumeMounts": [{"name": "extra", "mountPath": "/extra"}]},
        volumes=[{"name": "extra", "emptyDir": {}}],
        initContainers=[{"name": "first", "image": "x"}],
    )
    spec = pod(service)
    assert {"name": "extra", "emptyDir": {}} in spec["volumes"]
    assert [c["name"] for c in spec["initContainers"]] == ["shoal-agent", "first"]
    assert {"name": "extra", "mountPath": "/extra"} in spec["containers"][0]["volumeMounts"]


class TestServerContainer:
    def test_is_kserves_by_name(self) -> None:
        service = isvc(sklearn={"name": "sklearn-iris-predictor", "resources": LIMITS})
        assert server(service)["name"] == "kserve-container"

    def test_limit_is_the_room_for_models_plus_the_servers_own(self) -> None:
        loads = runtime(builtInAdapter={"serverType": "mlserver", "memBufferBytes": 1 << 20})
        container = server(isvc(sklearn={"resources": {"limits": {"memory": "1Mi", "cpu": "1"}}}), loads)
        assert container["resources"] == {"limits": {"memory": str(2 << 20), "cpu": "1"}}

    @pytest.mark.parametrize(("request_", "expected"), [("512Mi", str((512 + 256) << 20)), ("128Mi", "128Mi")])
    def test_a_request_equal_to_the_limit_stays_equal(self, request_: str, expected: str) -> None:
        resources = {"limits": {"memory": "512Mi"}, "requests": {"memory": request_}}
        assert server(isvc(sklearn={"resources": resources}))["resources"]["requests"]["memory"] == expected

    def test_room_is_announced_on_the_pod(self) -> None:
        annotations = deployment(isvc())["template"]["metadata"]["annotations"]
        assert annotations["shoal.dev/capacity-bytes"] == str(512 << 20)

    def test_environment_puts_mlserver_under_the_agents_control(self) -> None:
        values = env(server(isvc()))
        assert values["MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION"] == "shoal_mlserver.repository.SlotRepository"
        assert values["PYTHONPATH"] == "/mnt/shoal/plugins/mlserver"
        assert values["MLSERVER_MODELS_DIR"] == values["MLSERVER_MODEL_REPOSITORY_ROOT"] == "/mnt/models/slots"
        assert values["MLSERVER_LOAD_MODELS_AT_STARTUP"] == "false"
        assert values["MLSERVER_PARALLEL_WORKERS"] == "0"
        assert values["SHOAL_SHARED_DIR"] == "/mnt/shoal"

    def test_the_users_environment_wins_where_that_is_harmless(self) -> None:
        written = {
            "MLSERVER_PARALLEL_WORKERS": "2",
            "PYTHONPATH": "/mine",
            "MLSERVER_HTTP_PORT": "9999",
            "MLSERVER_LOAD_MODELS_AT_STARTUP": "true",
            "OMP_NUM_THREADS": "1",
        }
        values = env(
            server(isvc(sklearn={"resources": LIMITS, "env": [{"name": k, "value": v} for k, v in written.items()]}))
        )
        assert values["MLSERVER_PARALLEL_WORKERS"] == "2"
        assert values["OMP_NUM_THREADS"] == "1"
        assert values["PYTHONPATH"] == "/mnt/shoal/plugins/mlserver:/mine"
        assert values["MLSERVER_HTTP_PORT"] == "8080"
        assert values["MLSERVER_LOAD_MODELS_AT_STARTUP"] == "false"

    @pytest.mark.parametrize(
        ("args", "kept", "threads", "workers", "ignored"),
        [
            (["--nthread=3"], None, "3", "0", []),
            (["--nthread", "3", "--workers", "2"], None, "3", "2", []),
            (["--workers=1"], None, None, "0", []),
            (["--model_name=iris", "--http_port", "8081"], None, None, "0", ["--model_name", "--http_port"]),
            (["--nthread=many", "--enable_grpc"], None, None, "0", ["--nthread", "--enable_grpc"]),
            (["mlserver", "start", "/mnt/models"], ["mlserver", "start", "/mnt/models"], None, "0", []),
        ],
    )
    def test_options_of_kserves_servers_are_translated_or_named(
        self, args: list[str], kept: list[str] | None, threads: str | None, workers: str, ignored: list[str]
    ) -> None:
        service = isvc(sklearn={"resources": LIMITS, "args": args})
        container = server(service)
        assert (container.get("args") or None) == kept
        assert env(container).get("OMP_NUM_THREADS") == threads
        assert env(container)["MLSERVER_PARALLEL_WORKERS"] == workers
        said = [each for each in resolved(service, runtime()).spec.ignored_fields if each.startswith("args ")]
        assert [each.split()[1] for each in said] == ignored

    def test_processes_and_threads_are_settings_of_the_service(self) -> None:
        annotations = {"shoal.dev/server-config": "parallel_workers=2\npredict_threads=64"}
        values = env(server(isvc(annotations, sklearn={"resources": LIMITS, "args": ["--workers=3"]})))
        assert (values["MLSERVER_PARALLEL_WORKERS"], values["SHOAL_PREDICT_THREADS"]) == ("2", "64")

    def test_the_container_has_the_memory_of_all_processes_and_a_model_the_room_of_one(self) -> None:
        service = isvc({"shoal.dev/server-config": "parallel_workers=2"}, sklearn={"resources": LIMITS})
        assert server(service)["resources"] == server(isvc())["resources"]
        annotations = deployment(service)["template"]["metadata"]["annotations"]
        assert annotations["shoal.dev/capacity-bytes"] == str(256 << 20)

    def test_options_beside_a_command_are_the_commands(self) -> None:
        container = server(isvc(sklearn={"resources": LIMITS, "args": ["--x"], "command": ["mine"]}))
        assert (container["command"], container["args"]) == (["mine"], ["--x"])

    def test_readiness_does_not_depend_on_models(self) -> None:
        theirs = {"httpGet": {"path": "/v2/health/ready", "port": 8080}}
        container = server(isvc(sklearn={"resources": LIMITS, "readinessProbe": theirs, "livenessProbe": theirs}))
        assert container["readinessProbe"]["httpGet"] == {"path": "/", "port": 8083, "scheme": "HTTP"}
        assert container["livenessProbe"] == theirs

    def test_stops_only_once_the_agent_has_drained_it(self) -> None:
        hook = {"postStart": {"exec": {"command": ["true"]}}, "preStop": {"exec": {"command": ["true"]}}}
        lifecycle = server(isvc(sklearn={"resources": LIMITS, "lifecycle": hook}))["lifecycle"]
        assert lifecycle["preStop"] == {"httpGet": {"path": "/drain", "port": 9090, "scheme": "HTTP"}}
        assert lifecycle["postStart"] == hook["postStart"]

    def test_sees_models_but_cannot_change_them(self) -> None:
        mounts = {m["mountPath"]: m for m in server(isvc())["volumeMounts"]}
        assert mounts["/mnt/models"]["readOnly"] is True
        assert not any(path.startswith("/var/run/secrets") for path in mounts)


class TestAgent:
    def test_is_a_native_sidecar_that_starts_first(self) -> None:
        container = agent(isvc())
        assert (container["name"], container["restartPolicy"]) == ("shoal-agent", "Always")
        assert container["startupProbe"]["httpGet"] == {"path": "/readyz", "port": 9090, "scheme": "HTTP"}

    def test_knows_its_place(self) -> None:
        values = env(agent(isvc()))
        assert values["SHOAL_OPERATOR_URL"] == "https://shoal-operator.shoal-system.svc:8443"
        assert values["SHOAL_INFERENCE_SERVICE"] == "iris"
        assert values["SHOAL_POD_UID"]["fieldRef"]["fieldPath"] == "metadata.uid"
        assert values["SHOAL_SERVER_PORTS"] == "http=8080,grpc=8081,metrics=8082,health=8083"
        assert values["SHOAL_MODEL_LOADING_TIMEOUT_SECONDS"] == "300"

    @pytest.mark.parametrize(
        ("cpu", "written", "threads"),
        [
            (None, None, None),
            ("2", None, "2"),
            ("2500m", None, "2"),
            ("100m", None, "1"),
            ("2", {"value": "7"}, "7"),
            ("2", {"value": "4,2"}, None),
            ("2", {"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}, None),
        ],
    )
    def test_knows_what_threads_the_servers_libraries_start(
        self, cpu: str | None, written: dict[str, Any] | None, threads: str | None
    ) -> None:
        limits = {"memory": "512Mi", **({"cpu": cpu} if cpu else {})}
        named = [{"name": "OMP_NUM_THREADS", **written}] if written else []
        service = isvc(sklearn={"resources": {"limits": limits}, "env": named})
        assert env(agent(service)).get("SHOAL_SERVER_THREADS") == threads
        if written is None:
            names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            assert [env(server(service)).get(name) for name in names] == [threads] * 3

    def test_loading_timeout_is_the_runtimes(self) -> None:
        adapter = {"serverType": "mlserver", "modelLoadingTimeoutMillis": 90_500}
        spec = pod(isvc(), Storage(), runtime(builtInAdapter=adapter))
        assert env(spec["initContainers"][0])["SHOAL_MODEL_LOADING_TIMEOUT_SECONDS"] == "91"

    def test_gets_the_users_storage_settings(self) -> None:
        key = {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
        written = [key, {"name": "S3_ENDPOINT", "value": "e"}, {"name": "OTHER", "value": "x"}]
        values = env(agent(isvc(sklearn={"resources": LIMITS, "env": written})))
        assert values["AWS_SECRET_ACCESS_KEY"] == key["valueFrom"]
        assert values["S3_ENDPOINT"] == "e"
        assert "OTHER" not in values

    def test_reads_each_storage_secret_from_files(self) -> None:
        spec = pod(isvc(), STORAGE)
        mount = next(m for m in spec["initContainers"][0]["volumeMounts"] if "shoal-storage" in m["mountPath"])
        assert mount["mountPath"] == "/var/run/secrets/shoal-storage/s3.credentials"
        volume = next(v for v in spec["volumes"] if v["name"] == mount["name"])
        keys, said = volume["projected"]["sources"]  # in one volume, so that the kubelet exchanges both at once
        assert keys["secret"] == {"name": "s3.credentials", "optional": True}
        assert (said["configMap"]["name"], said["configMap"]["optional"]) == ("iris-shoal-storage", True)
        assert said["configMap"]["items"] == [{"key": "storage.json", "path": ".shoal-storage.json"}]

    def test_reads_entries_of_storage_config_whenever_it_is_made(self) -> None:
        for storage in (STORAGE, Storage("models", (), (StorageSecret("storage-config"),))):
            spec = pod(isvc(), storage)
            mounts = spec["initContainers"][0]["volumeMounts"]
            (mount,) = (m for m in mounts if m["mountPath"] == "/var/run/secrets/shoal-storage/storage-config")
            (volume,) = (v for v in spec["volumes"] if v["name"] == mount["name"])
            assert "storage-config" in str(volume)

    def test_reads_authorities_from_configmaps(self) -> None:
        said = (("serving.kserve.io/s3-cabundle-configmap", "store-ca"),)
        odd = (("serving.kserve.io/s3-cabundle-configmap", "../etc"),)
        spec = pod(isvc(), Storage("models", said, (StorageSecret("a", said), StorageSecret("b", odd))))
        mounts = [m for m in spec["initContainers"][0]["volumeMounts"] if "/.ca/" in m["mountPath"]]
        assert [m["mountPath"] for m in mounts] == ["/var/run/secrets/shoal-storage/.ca/store-ca"]
        (volume,) = (v for v in spec["volumes"] if v["name"] == mounts[0]["name"])
        assert volume["configMap"] == {"name": "store-ca", "optional": True}

    def test_credentials(self) -> None:
        volume = next(v for v in pod(isvc())["volumes"] if v["name"] == "shoal-credentials")
        token, ca, storage = volume["projected"]["sources"]
        assert token["serviceAccountToken"] == {"audience": "shoal", "expirationSeconds": 3600, "path": "token"}
        assert ca["configMap"]["name"] == "shoal-ca"
        assert (storage["configMap"]["name"], storage["configMap"]["optional"]) == ("iris-shoal-storage", True)


@pytest.mark.parametrize("path", ["/mnt/models", "/mnt/models/", "//mnt/./models", "/mnt/models/slots", "/mnt/shoal/x"])
def test_no_mount_hides_what_server_and_agent_share_and_it_is_said(path: str) -> None:
    """Loads would fail, or the container would never be made."""
    mounts = [{"name": "extra", "mountPath": path}, {"name": "extra", "mountPath": "/mnt/models-of-mine"}]
    service = isvc(sklearn={"resources": LIMITS, "volumeMounts": mounts}, volumes=[{"name": "extra", "emptyDir": {}}])
    assert [m["mountPath"] for m in server(service)["volumeMounts"]] == [
        "/mnt/models",
        "/mnt/shoal",
        "/mnt/models-of-mine",
    ]
    assert resolved(service).spec.ignored_fields == (f"volumeMounts[{path}] of the model server",)


def test_pods_meet_the_restricted_security_standard() -> None:
    service = isvc(sklearn={"resources": LIMITS})
    spec = pod(service, STORAGE)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in (*spec["initContainers"], *spec["containers"]):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["runAsNonRoot"] is True
    allowed = {"emptyDir", "projected", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])


def test_pods_wait_for_their_models_and_have_time_to_leave() -> None:
    spec = pod(isvc())
    assert {"conditionType": "shoal.dev/models-placed"} in spec["readinessGates"]
    assert spec["terminationGracePeriodSeconds"] == 60 + SETTINGS.drain_seconds


@pytest.mark.parametrize(("grace", "drain"), [(None, 60), (30, 20), (10, 5), (1, 1), (3600, 60)])
def test_draining_leaves_the_server_time_to_end(grace: int | None, drain: int) -> None:
    fields = {} if grace is None else {"terminationGracePeriodSeconds": grace}
    values = env(agent(isvc(sklearn={"resources": LIMITS}, **fields)))
    assert values["SHOAL_DRAIN_TIMEOUT_SECONDS"] == str(drain)


def test_network_policy_lets_only_the_gateway_to_the_server() -> None:
    policy = manifests(isvc())["NetworkPolicy/iris-predictor"]["spec"]
    to_server = [rule for rule in policy["ingress"] if any(p["port"] in (8080, 8081) for p in rule["ports"])]
    (rule,) = to_server
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"] == dict(SETTINGS.gateway_labels)
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "shoal-system"}


def test_what_tools_write_into_annotations_causes_no_rollout() -> None:
    noise = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "serving.kserve.io/x": "y", "shoal.dev/z": "1"}
    assert deployment(isvc(noise)) == deployment(isvc())
    annotations = deployment(isvc({"sidecar.istio.io/inject": "false"}))["template"]["metadata"]["annotations"]
    assert annotations["sidecar.istio.io/inject"] == "false"


def test_a_service_with_a_problem_is_not_rendered() -> None:
    service = isvc(sklearn={})
    with pytest.raises(ValueError, match="NoMemoryLimit"):
        render(service, resolved(service), Storage(), SETTINGS, Decision(1))


def test_names_and_urls_of_settings() -> None:
    settings = replace(SETTINGS, domain_template="{name}.{namespace}.models.example.org", cluster_domain="c.l")
    assert settings.service_url("demo", "iris") == "http://iris.demo.models.example.org"
    assert settings.gateway_host.endswith(".svc.c.l")


def test_storage_document() -> None:
    assert json.loads(STORAGE.document()) == {
        "version": 1,
        "serviceAccount": {"name": "models", "annotations": {}},
        "secrets": [
            {
                "name": "s3.credentials",
                "annotations": {"serving.kserve.io/s3-endpoint": "s3.example.com"},
                "uid": "",
                "version": "",
                "missing": False,
            }
        ],
    }
    known = Storage("models", (), (StorageSecret("a", (), "uid-a", "7"), StorageSecret("b", missing=True)))
    told = StorageDocument.model_validate_json(known.document()).secrets
    assert [(each.name, each.uid, each.version, each.missing) for each in told] == [
        ("a", "uid-a", "7", False),
        ("b", "", "", True),
    ]
    assert known.missing == ("b",)


def test_secrets_of_a_service_account() -> None:
    listed = [{"name": "b"}, {"name": "a"}, {"name": "b"}, {}, *({"name": f"x{n}"} for n in range(50))]
    names = secret_names({"secrets": listed})
    assert names[:2] == ("b", "a")
    assert secret_names({"imagePullSecrets": [{"name": "p"}, {"name": "b"}], "secrets": [{"name": "b"}]}) == ("b", "p")
    assert len(names) == 16
    assert is_generated({"annotations": {"kubernetes.io/service-account.name": "sa"}})
    assert not is_generated({"annotations": {"serving.kserve.io/s3-endpoint": "e"}})
