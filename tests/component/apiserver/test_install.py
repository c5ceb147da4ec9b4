"""The chart's Job against a real API server: four ways of finding a cluster, and nobody else's CRDs are touched."""

import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient
from shoal_api.crd import ANNOTATION_SCHEMA_REVISION, SCHEMA_REVISION, definitions
from shoal_operator.install import install_definitions, install_runtimes
from shoal_operator.kube import Kube

from tests import kserve_samples as samples

from .server import DEFINITIONS, ApiServer, Object, api_server

NAMES = [definition["metadata"]["name"] for definition in definitions()]
TRAINED_MODELS = "trainedmodels.serving.kserve.io"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
OWNER = "shoal-operator"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of this file's own, since its tests take CRDs away."""
    with api_server(tmp_path_factory.mktemp("install")) as server:
        yield server


@pytest.fixture
def server(own_server: ApiServer) -> Iterator[ApiServer]:
    yield own_server
    own_server.remove_definitions(NAMES)
    own_server.request("DELETE", f"{ROLES}/{OWNER}")


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Kube]:
    await config.load_kube_config(config_file=str(server.kubeconfig))  # type: ignore[no-untyped-call]
    async with ApiClient() as client:
        yield Kube(client)


def kserves_definition() -> Object:
    """TrainedModel as KServe defines it: memory required, unknown fields pruned, not ours by its labels."""
    definition = copy.deepcopy(definitions()[0])
    definition["metadata"] = {"name": TRAINED_MODELS, "annotations": {"controller-gen.kubebuilder.io/version": "v0"}}
    definition["spec"]["names"].pop("categories")
    (version,) = definition["spec"]["versions"]
    version.pop("additionalPrinterColumns")
    model = {"storageUri": {"type": "string"}, "framework": {"type": "string"}}
    quantity = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    version["schema"]["openAPIV3Schema"] = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["inferenceService", "model"],
                "properties": {
                    "inferenceService": {"type": "string"},
                    "model": {
                        "type": "object",
                        "required": ["framework", "memory", "storageUri"],
                        "properties": {**model, "memory": quantity},
                    },
                },
            },
        },
    }
    return definition


def stored(server: ApiServer, name: str) -> Any:
    return server.request("GET", f"{DEFINITIONS}/{name}").body


async def test_first_install(server: ApiServer, api: Kube) -> None:
    outcome = await install_definitions(api)
    assert sorted(outcome.applied) == sorted(NAMES)
    assert server.create(samples.trained_model()).ok


async def test_a_second_run_changes_nothing(server: ApiServer, api: Kube) -> None:
    await install_definitions(api)
    versions = [stored(server, name)["metadata"]["resourceVersion"] for name in NAMES]
    await install_definitions(api)
    assert [stored(server, name)["metadata"]["resourceVersion"] for name in NAMES] == versions


async def test_upgrade_of_an_older_schema_keeps_the_objects(server: ApiServer, api: Kube) -> None:
    older = copy.deepcopy(definitions())
    for definition in older:
        definition["metadata"]["annotations"][ANNOTATION_SCHEMA_REVISION] = str(SCHEMA_REVISION - 1)
        definition["spec"]["versions"][0].pop("additionalPrinterColumns")
    del older[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["serving"]
    server.install_definitions(older)
    assert server.create(samples.trained_model()).ok
    uids = [stored(server, name)["metadata"]["uid"] for name in NAMES]

    outcome = await install_definitions(api)

    assert sorted(outcome.applied) == sorted(NAMES)
    assert [stored(server, name)["metadata"]["uid"] for name in NAMES] == uids
    (version,) = stored(server, TRAINED_MODELS)["spec"]["versions"]
    assert version["schema"] == definitions()[0]["spec"]["versions"][0]["schema"]
    assert version["additionalPrinterColumns"][0]["name"] == "InferenceService"
    assert server.get("TrainedModel", "model1-sklearn").body["spec"] == samples.trained_model()["spec"]


async def test_a_newer_schema_is_left(server: ApiServer, api: Kube) -> None:
    newer = copy.deepcopy(definitions())
    newer[0]["metadata"]["annotations"][ANNOTATION_SCHEMA_REVISION] = str(SCHEMA_REVISION + 1)
    server.install_definitions(newer)
    version = stored(server, TRAINED_MODELS)["metadata"]["resourceVersion"]
    outcome = await install_definitions(api)
    assert outcome.newer == (TRAINED_MODELS,)
    assert stored(server, TRAINED_MODELS)["metadata"]["resourceVersion"] == version


async def test_kserves_definition_is_left_as_it_is(server: ApiServer, api: Kube) -> None:
    server.install_definitions([kserves_definition()])
    before = stored(server, TRAINED_MODELS)
    outcome = await install_definitions(api)
    assert outcome.foreign == (TRAINED_MODELS,)
    assert len(outcome.applied) == 3
    assert stored(server, TRAINED_MODELS) == before


async def test_runtimes_wait_for_their_owner_and_belong_to_it(server: ApiServer, api: Kube) -> None:
    await install_definitions(api)
    wanted = {"apply": [samples.runtime("shoal-mlserver", "ClusterServingRuntime")]}
    assert await install_runtimes(api, wanted, OWNER) == []
    assert server.get("ClusterServingRuntime", "shoal-mlserver").code == 404

    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": OWNER}}
    uid = server.request("POST", ROLES, role).body["metadata"]["uid"]
    assert await install_runtimes(api, wanted, OWNER) == ["shoal-mlserver"]
    (owner,) = server.get("ClusterServingRuntime", "shoal-mlserver").body["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ClusterRole", OWNER, uid)

    assert await install_runtimes(api, {"remove": ["shoal-mlserver"]}, OWNER) == []
    assert server.get("ClusterServingRuntime", "shoal-mlserver").code == 404


async def test_a_users_runtime_of_that_name_is_not_removed(server: ApiServer, api: Kube) -> None:
    await install_definitions(api)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": OWNER}}
    server.request("POST", ROLES, role)
    assert server.create(samples.runtime("shoal-mlserver", "ClusterServingRuntime")).ok
    await install_runtimes(api, {"remove": ["shoal-mlserver"]}, OWNER)
    assert server.get("ClusterServingRuntime", "shoal-mlserver").ok
