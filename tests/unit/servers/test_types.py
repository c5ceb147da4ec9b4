"""Both sides of every type of model server: they agree with each other, and bring what the rest relies on."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
from shoal_agent import servers as agent_servers
from shoal_agent.model_server import ModelServer, Place
from shoal_agent.servers import UnknownServer, adapter, types
from shoal_api import server_types
from shoal_api.names import MODELS_DIR, SHARED_DIR
from shoal_api.tuning import UNTUNED, Knob, Tuning
from shoal_operator import servers as operator_servers
from shoal_operator.gateway import lacking, surface
from shoal_operator.server_profile import Inputs, Protocol, ServerProfile
from shoal_operator.servers import of_image, profiles

REPOSITORY = Path(__file__).parents[3]
TOY = REPOSITORY / "tests/component/servers/toy/toy-1.dist-info/entry_points.txt"
NAMED = {value for name, value in vars(server_types).items() if name.isupper()}
_MANAGEMENT = ("/v2/repository/index", "/v2/repository/models/m/load", "/models", "/metrics", "/docs", "/v1/config")
INPUTS = Inputs("iris", 1 << 30, 1 << 28, 2.0, 300.0, 90)


def place(profile: ServerProfile) -> Place:
    return Place("127.0.0.1", profile.ports.by_name(), Path(MODELS_DIR), Path(SHARED_DIR), 90.0)


def test_every_type_has_both_sides_and_its_name_in_the_api() -> None:
    assert set(types()) == set(profiles())
    assert set(types()) <= NAMED


def test_the_page_says_how_a_package_from_elsewhere_is_found() -> None:
    page = (REPOSITORY / "docs/architecture.md").read_text().split("## How to add a model server")[1]
    groups = {line[1:-1] for line in TOY.read_text().splitlines() if line.startswith("[")}
    assert {agent_servers.GROUP, operator_servers.GROUP} < groups
    assert all(f"`{group}`" in page for group in groups)


def test_the_chart_has_runtimes_of_known_types_only() -> None:
    chart = {file.stem for file in (REPOSITORY / "charts/shoal/files/runtimes").glob("*.yaml")}
    plugins = {folder.parent.name for folder in (REPOSITORY / "runtimes").glob("*/plugin")}
    assert chart
    assert chart | plugins <= set(profiles())


def test_a_type_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(UnknownServer, match=r"'acme'; there are: .*mlserver"):
        adapter("acme")
    assert of_image("registry.example/team/acme:1") == ""


@pytest.mark.parametrize("profile", profiles().values(), ids=lambda profile: profile.server_type)
class TestType:
    def test_the_adapter_honours_what_the_profile_says(self, profile: ServerProfile) -> None:
        traits = adapter(profile.server_type)(place(profile)).traits
        # The timeout of a request may be the container's alone, and never reaches the adapter.
        honoured = set(profile.tuning).union(*profile.format_tuning.values())
        assert traits.tuning - {Knob.TIMEOUT} == honoured - {Knob.TIMEOUT}
        assert profile.format_tuning.keys() <= profile.formats.keys()
        assert traits.retunes <= traits.tuning
        assert traits.describes == (Protocol.V2 in profile.protocols and profile.questions)

    def test_the_adapter_has_every_call(self, profile: ServerProfile) -> None:
        made = adapter(profile.server_type)(place(profile))
        for name, call in inspect.getmembers(ModelServer, inspect.isfunction):
            if not name.startswith("_"):
                own = getattr(made, name)
                assert inspect.iscoroutinefunction(own) == inspect.iscoroutinefunction(call), name
                assert list(inspect.signature(own).parameters) == list(inspect.signature(call).parameters)[1:], name

    def test_it_is_found_by_its_image(self, profile: ServerProfile) -> None:
        assert all(of_image(f"registry.example/{image}:1") == profile.server_type for image in profile.images)

    def test_its_container_is_the_same_each_time_and_its_ports_are_its_own(self, profile: ServerProfile) -> None:
        assert profile.parts(INPUTS) == profile.parts(replace(INPUTS))
        ports = profile.ports.by_name()
        assert len(set(ports.values())) == len(ports)
        assert (profile.ports.grpc is not None) == (Protocol.GRPC_V2 in profile.protocols)
        assert profile.live.port in ports
        assert all(Path(name).name == name for name in profile.parts(INPUTS).files)

    def test_its_paths_lead_where_the_gateway_sends_them(self, profile: ServerProfile) -> None:
        paths = surface.of(profile.server_type)
        assert (Protocol.NATIVE in profile.protocols) == bool(profile.native)
        assert all(path.startswith("/") and path.count("{model}") == 1 for path in profile.native)
        for protocol in profile.protocols - {Protocol.GRPC_V2}:
            path = profile.path(protocol, "my-model")
            assert any(re.fullmatch(each, path) for each in paths.infer), path
            assert any(re.fullmatch(each, path) for each in paths.model), path
        for path in (
            "/v2/repository/index",
            "/v2/repository/models/m/load",
            "/models",
            "/metrics",
            "/docs",
            "/v1/config",
        ):
            every = (*paths.infer, *paths.model, *paths.ready, *paths.metadata, *paths.server, *paths.any_model)
            assert not any(re.fullmatch(each, path) for each in every), path

    def test_the_gateway_knows_how_it_says_that_it_lacks_a_model(self, profile: ServerProfile) -> None:
        said = profile.not_loaded
        rules = lacking.rules(profile.server_type)
        assert said.marked or rules["rest"]
        assert said.marked or (Protocol.GRPC_V2 not in profile.protocols) or rules["grpc"]
        # A bare status could be any model's own answer.
        assert all(answer.contains for answer in (*said.rest, *said.grpc))

    def test_what_it_cannot_honour_is_said_and_what_it_can_is_not(self, profile: ServerProfile) -> None:
        everything = Tuning(workers_max=2, batch_size=4, batch_delay=0.1, queue_size=9, timeout=5.0, threads=2)
        said = profile.not_honoured(everything, 300.0)
        assert len(said) == len(everything.asked() - profile.tuning.keys())
        assert all(f"spec.serving.{knob}:" in " ".join(said) for knob in everything.asked() - profile.tuning.keys())
        assert profile.not_honoured(everything.only(profile.tuning.keys()), 300.0) == ()
        assert profile.not_honoured(UNTUNED, 300.0) == ()
        for framework, more in profile.format_tuning.items():
            assert profile.not_honoured(everything.only(more), 300.0, framework.upper()) == ()
            assert len(profile.not_honoured(everything.only(more), 300.0, "another")) == len(more)
        assert profile.format_lacks.keys() <= profile.formats.keys()
        for framework, lacks in profile.format_lacks.items():
            assert lacks <= profile.tuning.keys()
            said = profile.not_honoured(everything.only(lacks), 300.0, framework.upper())
            assert [sentence.split(":")[0] for sentence in said] == [f"spec.serving.{knob}" for knob in lacks]
        if Knob.TIMEOUT in profile.tuning:
            assert "raise spec.predictor.timeout" in profile.not_honoured(Tuning(timeout=301), 300.0)[0]
