"""Messages: neighbours in protocol understand each other, and nothing unbounded can be sent or read."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from shoal_agent.exchange import Accepted, Exchange, Identity, Refused
from shoal_api.messages import (
    MAX_COUNT,
    MAX_SLOTS,
    MAX_VERSION,
    PROTOCOL_VERSION,
    CopyFailure,
    CopyIntent,
    CopyPhase,
    FailureStage,
    ModelUse,
    ServerReport,
    SlotReport,
    SyncRequest,
    SyncResponse,
    understood,
)
from shoal_operator.agents import border
from shoal_operator.agents.identity import Refused as RefusedByOperator
from shoal_operator.state.pods.limits import Known

RECORDED = Path(__file__).parent / "recorded"
"""What an agent and an operator of each protocol really sent: ``v<protocol>_<message>.json``. Never edited."""
PROTOCOLS = (1, 2)
KNOWN = Known("team", "pod", "10.0.0.1", lambda name: True, 100)


def recorded(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return content


def from_the_future(message: dict[str, Any]) -> dict[str, Any]:
    """As the next protocol may write it: fields that this one does not know, everywhere."""
    added = {"pieces": {"of": 3}, "hint": "x"}
    nested = {
        key: [{**each, **added} if isinstance(each, dict) else each for each in value]
        if isinstance(value, list)
        else value
        for key, value in message.items()
    }
    return {**nested, **added, "protocol": PROTOCOL_VERSION + 1}


def within(older: Any, newer: Any) -> bool:
    """All of ``older`` is there, spelt alike; an older peer ignores the rest."""
    if isinstance(older, dict):
        return all(key in newer and within(value, newer[key]) for key, value in older.items())
    if isinstance(older, list):
        return len(older) == len(newer) and all(map(within, older, newer))
    return bool(older == newer)


def test_there_are_recordings_of_this_protocol_and_its_neighbour() -> None:
    assert PROTOCOLS == (PROTOCOL_VERSION - 1, PROTOCOL_VERSION)
    for protocol in PROTOCOLS:
        assert recorded(f"v{protocol}_request_whole")["protocol"] == protocol


@pytest.mark.parametrize("protocol", [*PROTOCOLS, PROTOCOL_VERSION + 1])
@pytest.mark.parametrize("name", ["request_whole", "request_delta"])
def test_this_operator_reads_its_neighbours_agents(protocol: int, name: str) -> None:
    sent = recorded(f"v{min(protocol, PROTOCOL_VERSION)}_{name}")
    if protocol > PROTOCOL_VERSION:
        sent = from_the_future(sent)
    read = border.read(json.dumps(sent).encode(), KNOWN)
    assert read.message.protocol == protocol
    report = read.report
    assert (report.epoch, report.observed_version, report.observed_base) == (
        7,
        sent["observed_version"],
        sent["observed_base"],
    )
    assert [slot.name for slot in report.observed] == [slot["name"] for slot in sent["observed"]]
    assert report.observed_gone == tuple(sent["observed_gone"])
    assert [use.busy_seconds for use in report.use] == [use["busy_seconds"] for use in sent["use"]]


@pytest.mark.parametrize("protocol", [*PROTOCOLS, PROTOCOL_VERSION + 1])
def test_this_agent_obeys_its_neighbours_operators(protocol: int) -> None:
    exchange = Exchange(Identity("team", "pod", "uid", "0000000003-a"))
    for version in range(2, 15):
        exchange.observed.version = version
    for name in ("response_whole", "response_delta", "response_nothing"):
        sent = recorded(f"v{min(protocol, PROTOCOL_VERSION)}_{name}")
        if protocol > PROTOCOL_VERSION:
            sent = from_the_future(sent)
        if name == "response_delta":
            exchange.desired_version = sent["desired_base"]
        request = exchange.request(ServerReport(type="mlserver", ready=True), draining=True, wait_seconds=20)
        answer = exchange.response(request, SyncResponse.model_validate_json(json.dumps(sent)))
        assert isinstance(answer, Accepted), answer
        assert [intent.copy_id for intent in answer.wanted] == [each["copy_id"] for each in sent.get("desired", [])]
    # It goes on in what both speak.
    assert exchange.protocol == min(protocol, PROTOCOL_VERSION)
    request = exchange.request(ServerReport(type="mlserver", ready=True), draining=False, wait_seconds=20)
    assert request.protocol == exchange.protocol


@pytest.mark.parametrize("message", ["request_whole", "request_delta"])
def test_an_older_operator_finds_all_that_it_needs_in_what_this_agent_sends(message: str) -> None:
    """Protocol 1 as it was recorded is a part of what is written now: same fields, same spelling of every value."""
    older, ours = recorded(f"v1_{message}"), recorded(f"v2_{message}")
    now = json.loads(SyncRequest.model_validate(ours).model_dump_json())
    assert within({**older, "protocol": PROTOCOL_VERSION}, now)


@pytest.mark.parametrize("message", ["response_whole", "response_delta", "response_nothing"])
def test_an_older_agent_finds_all_that_it_needs_in_what_this_operator_sends(message: str) -> None:
    older = recorded(f"v1_{message}")
    now = json.loads(SyncResponse.model_validate(recorded(f"v2_{message}")).model_dump_json(exclude_defaults=True))
    assert within(older, now)
    assert now.keys() - older.keys() == {"protocol"}


def test_urgency_is_said_only_where_there_is_some() -> None:
    """An operator from before knows nothing of it, and an agent from before ignores it."""
    for protocol in PROTOCOLS:
        response = SyncResponse.model_validate(recorded(f"v{protocol}_response_whole"))
        assert response.desired
        assert not any(intent.urgent for intent in response.desired)
        said = response.model_dump_json(exclude_defaults=True)
        assert "urgent" not in said
        hurried = [intent.model_copy(update={"urgent": True}) for intent in response.desired]
        said = response.model_copy(update={"desired": hurried}).model_dump_json(exclude_defaults=True)
        assert within(recorded(f"v{protocol}_response_whole"), json.loads(said)), "all else is as it was"
        assert all(intent.urgent for intent in SyncResponse.model_validate_json(said).desired)


def test_an_agent_that_is_refused_for_its_protocol_tries_the_neighbours() -> None:
    exchange = Exchange(Identity("team", "pod", "uid", "s"))
    spoken = []
    for _ in range(3):
        spoken.append(exchange.protocol)
        exchange.protocol_refused()
    assert spoken == [PROTOCOL_VERSION, PROTOCOL_VERSION - 1, PROTOCOL_VERSION]


@pytest.mark.parametrize("protocol", [0, PROTOCOL_VERSION - 2, PROTOCOL_VERSION + 2, 10**30, "2", None, 99])
def test_a_stranger_is_refused_by_name(protocol: Any) -> None:
    sent = {**recorded("v1_request_whole"), "protocol": protocol}
    with pytest.raises(RefusedByOperator) as caught:
        border.read(json.dumps(sent).encode(), KNOWN)
    assert (caught.value.status, caught.value.reason) == (400, "ProtocolUnsupported")
    assert not understood(PROTOCOL_VERSION + 2)


SLOT = {"name": "m", "phase": "Loaded"}
USE = {"name": "m", "requests": 1, "idle_seconds": 1.0}
NO_NAMES = ["", "M", "a.b", "a/b", "a\n", "a" * 254, "\x00", "é"]
NO_COUNTS = [-1, MAX_COUNT + 1, 10**400, "9" * 4299, 1.5, float("inf")]
CONTROL = ["\x00", "\n", "\x1b", "\x7f"]
NO_SECONDS = [-0.1, float("inf"), float("-inf"), float("nan"), 1e300, 10**400]


def beyond() -> list[tuple[str, Any]]:
    """Fields of a request with values that no agent of ours sends."""
    cases: list[tuple[str, Any]] = []
    for field in ("epoch", "observed_version", "observed_base"):
        cases += [(field, value) for value in NO_COUNTS]
    cases += [("desired_version", value) for value in (-1, MAX_VERSION + 1, 10**400)]
    cases += [("wait_seconds", value) for value in NO_SECONDS]
    cases += [(field, "x" * 254) for field in ("namespace", "pod", "pod_uid", "session")]
    cases += [("observed", [{**SLOT, "name": name}]) for name in NO_NAMES]
    cases += [("observed", [{**SLOT, field: "x" * 321}]) for field in ("serving", "target")]
    cases += [(field, f"x{odd}y") for field in ("pod", "session") for odd in CONTROL]
    cases += [("observed", [{**SLOT, field: f"u.{odd}"}]) for field in ("serving", "target") for odd in CONTROL]
    cases += [("observed", [{**SLOT, "artifact_bytes": value}]) for value in NO_COUNTS]
    cases += [("observed", [{**SLOT, "phase": "Flying"}]), ("observed", "x"), ("observed", [7]), ("observed", {"a": 1})]
    failure = {"stage": "Load", "reason": "R", "message": "m"}
    for change in (
        {"reason": "R" * 65},
        {"message": "m" * 1025},
        {"attempts": -1},
        {"retry_at": float("inf")},
    ):
        cases.append(("observed", [{**SLOT, "failure": {**failure, **change}}]))
    cases += [("use", [{**USE, field: value}]) for field in ("requests", "in_flight") for value in NO_COUNTS]
    cases += [("use", [{**USE, field: value}]) for field in ("busy_seconds", "idle_seconds") for value in NO_SECONDS]
    cases += [("observed_gone", [name]) for name in NO_NAMES]
    server = {"type": "mlserver", "ready": True}
    for change in ({"memory_bytes": -1}, {"base_memory_bytes": 10**400}, {"message": "m" * 1025}, {"boot": "b" * 254}):
        cases.append(("server", {**server, **change}))
    return cases


@pytest.mark.parametrize(("field", "value"), beyond(), ids=lambda value: str(value)[:30])
def test_nothing_beyond_bounds_passes_the_border(field: str, value: Any) -> None:
    sent = {**recorded("v1_request_whole"), "observed": [], field: value}
    with pytest.raises(RefusedByOperator) as caught:
        border.read(json.dumps(sent).encode(), KNOWN)
    assert (caught.value.status, caught.value.reason) == (400, "RequestInvalid")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 10**400},
        {"epoch": -1},
        {"observed_acknowledged": MAX_COUNT + 1},
        {"desired_version": MAX_VERSION + 1},
        {"use_seconds": float("nan")},
        {
            "desired": [
                {"name": "../../etc", "copy_id": "c", "storage_uri": "s3://b/k", "framework": "f", "memory_bytes": 1}
            ]
        },
        {"desired": [{"name": "m", "copy_id": "c", "storage_uri": "s" * 2049, "framework": "f", "memory_bytes": 1}]},
        {"desired": [{"name": "m", "copy_id": "c", "storage_uri": "s", "framework": "f", "memory_bytes": 2**63}]},
        {"desired_gone": ["x/y"]},
        {"desired_gone": ["x"] * (MAX_SLOTS + 1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_agent_believes_no_operator_beyond_bounds(changes: dict[str, Any]) -> None:
    sent = {"epoch": 1, "observed_acknowledged": 1, "desired_version": 1, **changes}
    with pytest.raises(ValidationError):
        SyncResponse.model_validate_json(json.dumps(sent))


def test_what_people_read_has_lines_and_no_other_control_characters() -> None:
    """A model's own code has a hand in it: it must not end up in a terminal, nor where a NUL cannot be."""
    said = CopyFailure(stage=FailureStage.LOAD, reason="R", message="one\ttwo\nthree\x00\x1b[31mred\r\x7f")
    assert said.message == "one\ttwo\nthree  [31mred  "


@pytest.mark.parametrize(
    ("said", "becomes"),
    [("LoadFailed", "LoadFailed"), ("load failed\x00!", "loadfailed"), ("4,x:", "x"), ("", "Unknown")],
)
def test_a_reason_is_one_that_a_condition_can_have(said: str, becomes: str) -> None:
    """An agent of another hand says what it likes: its report is heard, and its status can be written."""
    assert CopyFailure(stage=FailureStage.LOAD, reason=said, message="").reason == becomes


def test_what_cannot_be_read_cannot_be_written() -> None:
    with pytest.raises(ValidationError):
        SlotReport(name="m", phase=CopyPhase.LOADED, artifact_bytes=2**63)
    with pytest.raises(ValidationError):
        ModelUse(name="m", requests=1, idle_seconds=float("inf"))
    with pytest.raises(ValidationError):
        CopyIntent(name="M", copy_id="c", storage_uri="s", framework="f", memory_bytes=1)
    assert isinstance(
        Exchange(Identity("n", "p", "u", "s"), 5).response(
            SyncRequest(
                namespace="n",
                pod="p",
                pod_uid="u",
                session="s",
                server=ServerReport(type="t", ready=True),
                observed_version=1,
            ),
            SyncResponse(epoch=4, observed_acknowledged=1),
        ),
        Refused,
    )
