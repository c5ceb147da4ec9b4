"""What is OpenVINO Model Server's own: one reload for all, versions as copies, and the traps of its configuration; on
the double, which has them all."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from shoal_agent.model_server import LoadedModel, ModelCopy, Place, ServerError, ServerGone
from shoal_agent.servers.ovms import connect
from shoal_agent.servers.ovms.server import OpenVinoModelServer
from shoal_api.tuning import UNTUNED, Tuning

from tests.component.agent.parts import HOST, eventually

from .kits import Answer, Files, KitServer
from .kits.ovms import KIT

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="function"), pytest.mark.timeout(300)]


class Bench:
    """A server, and an adapter that is asked as the agent asks it."""

    def __init__(self, folder: Path) -> None:
        self.models, self.shared = folder / "models", folder / "shared"
        (self.models / "copies").mkdir(parents=True)
        self.shared.mkdir()
        self.server = KitServer(KIT, folder, self.models, self.shared)
        self._identities = (f"{number:032x}" for number in itertools.count(1))
        self.adapter = self.another_adapter()
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))

    def another_adapter(self, loading_timeout: float = 60.0) -> OpenVinoModelServer:
        self.adapter = connect(Place(HOST, self.server.ports, self.models, self.shared, loading_timeout))
        self.adapter.lay_out()
        self.adapter.layout.open()
        return self.adapter

    def copy(self, name: str, files: Files, tuning: Tuning = UNTUNED) -> ModelCopy:
        identity = next(self._identities)
        made = ModelCopy(name, identity, self.models / "copies" / identity, "openvino", tuning)
        for path, content in files.items():
            (made.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (made.folder / path).write_bytes(content)
        self.adapter.prepare(made)
        return made

    async def load(self, copy: ModelCopy, former: ModelCopy | None = None) -> None:
        """As the agent does, with what it shows again after a failure."""
        self.adapter.layout.show(copy.name, copy.identity)
        try:
            await self.adapter.load(copy)
        except ServerError:
            self.adapter.layout.show(copy.name, former.identity if former else None)
            raise

    async def ask(self, name: str) -> Answer:
        return await KIT.predict(self.session, self.server.ground.base, name)

    async def listed(self) -> dict[str, list[tuple[int, str]]]:
        async with self.session.get(f"{self.server.ground.base}/v1/config") as response:
            content = await response.json()
        return {
            name: [(int(row["version"]), row["state"]) for row in model["model_version_status"]]
            for name, model in content.items()
        }

    def config(self) -> list[str]:
        found = json.loads((self.models / "ovms" / "config.json").read_text())["model_config_list"]
        return [each["config"]["name"] for each in found]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    made.server.start()
    try:
        await eventually(made.adapter.alive, 60, made.server.process.log.read_text)
        yield made
    finally:
        await made.session.close()
        await made.adapter.close()
        await made.server.kill()


async def test_a_copy_that_takes_anothers_place_answers_before_that_one_goes(bench: Bench) -> None:
    first, second = bench.copy("m", KIT.sample(1.0)), bench.copy("m", KIT.slow(2.0, load_seconds=1.0))
    await bench.load(first)
    assert await bench.adapter.find("m") == LoadedModel("m", first.identity, ready=True)
    task = asyncio.create_task(bench.load(second))
    while not task.done():
        answer = await bench.ask("m")
        assert (answer.status, answer.value) in ((200, 1.0), (200, 2.0)), answer
    await task
    assert (await bench.ask("m")).value == 2.0
    assert (await bench.adapter.state()).models == (LoadedModel("m", second.identity, ready=True),)


async def test_the_former_copy_stays_whatever_number_the_broken_one_would_have_had(bench: Bench) -> None:
    """The server looks for versions by halving a list that is sorted as text: with 9 and 10 it would give 9 up."""
    good = bench.copy("m", KIT.sample(0.0))
    await bench.load(good)
    for number in range(1, 13):
        broken = bench.copy("m", KIT.broken())
        with pytest.raises(ServerError, match=r"files could not be read \(HTTP 500"):
            await bench.load(broken, good)
        assert (await bench.ask("m")).value == number - 1
        assert await bench.adapter.find("m") == LoadedModel("m", good.identity, ready=True)
        good = bench.copy("m", KIT.sample(float(number)))
        await bench.load(good)
    assert (await bench.ask("m")).value == 12.0


async def test_the_double_has_that_trap(bench: Bench) -> None:
    good, broken = bench.copy("m", KIT.sample(1.0)), bench.copy("m", KIT.broken())
    folder = bench.models / "slots" / "m"
    folder.mkdir()
    for number, copy in ((9, good), (10, broken)):
        (folder / str(number)).symlink_to(copy.folder / "model")
        bench.adapter.layout.open()
        bench.adapter._repository.ask("m", copy.identity)
        await bench.adapter._reloads.run(30.0)
    assert (await bench.ask("m")).status == 404
    assert dict((await bench.listed())["m"])[9] == "END"


async def test_other_tuning_with_broken_content_goes_back_to_the_former_tuning(bench: Bench) -> None:
    good = bench.copy("m", KIT.sample(1.0), Tuning(workers_max=2, threads=1))
    await bench.load(good)
    broken = bench.copy("m", KIT.broken(), Tuning(workers_max=4, threads=1))
    with pytest.raises(ServerError):
        await bench.load(broken, good)

    async def as_before() -> bool:
        async with bench.session.get(f"{bench.server.ground.base}/metrics") as response:
            return 'ovms_streams{name="m",version="1"} 2' in await response.text()

    await eventually(as_before, 30, "the former tuning")
    assert (await bench.ask("m")).value == 1.0


async def test_loads_that_come_while_one_is_under_way_share_the_next_reload(bench: Bench) -> None:
    slow = asyncio.create_task(bench.load(bench.copy("slow", KIT.slow(1.0, load_seconds=2.0))))
    await eventually(lambda: bench.config() == ["slow"], 30, bench.config)
    others = [bench.copy(f"m{number}", KIT.sample(float(number))) for number in range(6)]
    broken = bench.copy("broken", KIT.broken())
    done = await asyncio.gather(*map(bench.load, (*others, broken)), return_exceptions=True)
    assert [isinstance(each, ServerError) for each in done] == [False] * 6 + [True]
    await slow
    assert [(await bench.ask(f"m{number}")).value for number in range(6)] == list(map(float, range(6)))
    assert _reloads(bench) <= 3


async def test_a_server_that_starts_again_finds_nothing_until_it_is_told(bench: Bench) -> None:
    """Whatever ended it is not loaded again by itself."""
    good, deadly = bench.copy("good", KIT.sample(1.0)), bench.copy("deadly", KIT.crashing())
    await bench.load(good)
    with pytest.raises(ServerGone):
        await bench.load(deadly)
    await eventually(lambda: not bench.server.process.running, 30, "it ends")
    assert bench.config() == []
    bench.server.start()
    await eventually(bench.adapter.alive, 60, bench.server.process.log.read_text)
    assert (await bench.adapter.state()).models == ()
    # Still on the disk, as the other: it is not told of with that one.
    bench.adapter.layout.show("deadly", deadly.identity)
    await bench.load(good)
    assert (await bench.ask("good")).value == 1.0


async def test_another_agent_knows_the_copies_and_keeps_them(bench: Bench) -> None:
    copies = [bench.copy(f"m{number}", KIT.sample(float(number))) for number in range(3)]
    await asyncio.gather(*map(bench.load, copies))
    await bench.adapter.close()
    another = bench.another_adapter()
    known = tuple(LoadedModel(copy.name, copy.identity, ready=True) for copy in copies)
    assert (await another.state()).models == known
    await another.unload("m1")  # a reload of all that it knows
    assert [await another.find(name) is None for name in ("m0", "m1", "m2")] == [False, True, False]
    assert [(await bench.ask(name)).value for name in ("m0", "m2")] == [0.0, 2.0]


async def test_what_was_unloaded_is_gone_though_the_server_lists_it(bench: Bench) -> None:
    for turn in range(3):
        copy = bench.copy("m", KIT.sample(float(turn)))
        await bench.load(copy)
        assert (await bench.ask("m")).value == turn
        await bench.ask("m")
        reading = await bench.adapter.usage.read()
        assert reading is not None
        assert reading.totals().succeeded == 2, "counted since it was loaded"
        await bench.adapter.unload("m")
        assert await bench.adapter.find("m") is None
        assert (await bench.listed())["m"] == [(1, "END")], "one row for it, however often"
        assert "is not found" in (await bench.ask("m")).body


async def test_a_request_that_does_not_end_is_said_and_a_load_is_not_asked_for_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal_agent.servers.ovms.server.UNLOAD_SECONDS", 0.5)
    await bench.load(bench.copy("stuck", KIT.slow(1.0, predict_seconds=6.0)))
    running = asyncio.create_task(bench.ask("stuck"))
    await eventually(lambda: _in_flight(bench, "stuck"), 30, "it runs")
    with pytest.raises(ServerError, match="requests under way of a model that it unloads"):
        await bench.adapter.unload("stuck")
    before = _reloads(bench)
    with pytest.raises(ServerError, match="requests under way"):
        await bench.adapter.unload("stuck")
    assert _reloads(bench) <= before + 1
    assert await bench.adapter.find("stuck") is not None, "it is still there"
    assert (await running).value == 1.0
    await eventually(lambda: _gone(bench, "stuck"), 30, "it goes at last")


async def test_every_plugin_key_that_is_offered_is_one_of_the_servers(bench: Bench) -> None:
    """One that is not would cost all the models behind it."""
    offered = {name.partition(".")[2] for name in bench.server.ground.profile.settings if "." in name}
    values = dict.fromkeys(offered, "1")
    (bench.shared / "config").mkdir()
    (bench.shared / "config" / "model-defaults.json").write_text(json.dumps({"plugin_config": values, "nireq": 3}))
    await asyncio.gather(*(bench.load(bench.copy(name, KIT.sample(1.0))) for name in ("a", "b", "c")))
    assert [(await bench.ask(name)).value for name in ("a", "b", "c")] == [1.0] * 3


def _reloads(bench: Bench) -> int:
    return bench.server.process.log.read_text().count("config reload")


async def _in_flight(bench: Bench, name: str) -> bool:
    return await bench.adapter.usage.in_flight(name) == 1


async def _gone(bench: Bench, name: str) -> bool:
    return await bench.adapter.find(name) is None
