"""Cold models when something is wrong: slow and failing loads, no operator, a restart, a pod that goes."""

# tritonclient carries no types.
# mypy: disable-error-code="import-untyped"

import concurrent.futures
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from shoal_api.names import AGENT_CONTAINER
from tritonclient.utils import InferenceServerException

from demo import kubernetes, predictions, settings
from e2e import load
from e2e.cold import FIT, create, decided, loaded, ready_pods, row, slow_file, small, versions
from e2e.installation import Installation
from e2e.kill import container_status, kill
from e2e.load import Question
from e2e.space import READY_SECONDS, ROW, Answer, Space, space

ANSWERS = {f"model-{index}": 10.0 + index for index in range(12)}
DEADLINE = 2.0
LOAD_SECONDS = 5.0
AT_ONCE = 10.0
"""Seconds, less than a request is held for; an answer that waits for nothing comes sooner, on busy cores too."""
HELD = 3
RATE = 25.0
OPERATOR = f"deployment/{settings.RELEASE}-operator"


@pytest.fixture(scope="module")
def faulty(installation: Installation) -> Iterator[Space]:
    """InferenceService `models`: two pods for eight of twelve models. `impatient`: one pod, and a short deadline."""
    with space(installation, "cold-faults") as fresh:
        fresh.service(pods=2, **small())
        limits = {"shoal.dev/activation-timeout": f"{DEADLINE:g}s", "shoal.dev/max-held-requests": str(HELD)}
        fresh.service("impatient", annotations=limits, **small())
        create(fresh, ANSWERS)
        fresh.model("filler", fresh.put("filler", 5.0), service="impatient", memory="64Mi")
        fresh.wait_ready(*ANSWERS, "filler")
        yield fresh


def fill(space: Space) -> None:
    """Have every other model of `impatient` unloaded."""
    space.wait(lambda: space.ask("filler", "impatient").status == 200, "the filler answers", READY_SECONDS, "filler")


def timed(space: Space, model: str, service: str = "impatient") -> tuple[Answer, float]:
    begin = time.monotonic()
    return space.ask(model, service), time.monotonic() - begin


def refusal(got: Answer) -> str:
    """The reason of a 503 that says when to come again."""
    assert got.status == 503, got.text
    assert int(got.headers["Retry-After"]) > 0
    body = got.json()
    assert body["error"]
    return str(body["reason"])


def test_a_load_that_takes_too_long_goes_on_after_the_deadline(faulty: Space) -> None:
    fill(faulty)
    faulty.model("slow", faulty.put_bytes("slow", slow_file(7.0, LOAD_SECONDS)), service="impatient")
    faulty.wait_condition("slow", "Ready", "True", "OnDemand")
    got, took = timed(faulty, "slow")
    assert refusal(got) == "ActivationTimeout"
    assert DEADLINE <= took < LOAD_SECONDS
    faulty.wait(lambda: faulty.ask("slow", "impatient").status == 200, "the load's end", model="slow")
    assert faulty.answer("slow", "impatient") == 7.0
    assert decided(faulty, "slow", "Loaded") == 1
    assert faulty.condition("slow")["status"] == "True"


def test_only_so_many_requests_are_held(faulty: Space) -> None:
    faulty.model("crowded", faulty.put_bytes("crowded", slow_file(8.0, LOAD_SECONDS)), service="impatient")
    fill(faulty)
    faulty.wait_ready("crowded")
    with concurrent.futures.ThreadPoolExecutor(3 * HELD) as pool:
        got = list(pool.map(lambda _: faulty.ask("crowded", "impatient"), range(3 * HELD)))
    reasons = [refusal(answer) for answer in got]
    assert reasons.count("ActivationTimeout") == HELD, reasons
    assert reasons.count("TooManyHeldRequests") == 2 * HELD, reasons
    faulty.wait(lambda: faulty.ask("crowded", "impatient").status == 200, "the load's end", model="crowded")


def test_a_failing_load_answers_its_cause_at_once_and_heals(faulty: Space) -> None:
    faulty.model("broken", faulty.put_bytes("broken", b"this is no joblib file"), service="impatient")
    fill(faulty)
    faulty.wait(lambda: faulty.condition("broken").get("status") in ("True", "False"), "a verdict", model="broken")
    faulty.wait(lambda: refusal(faulty.ask("broken", "impatient")) == "LoadFailed", "the cause", model="broken")
    said = faulty.wait_condition("broken", "Ready", "False")
    assert said["reason"] not in ("OnDemand", "Unknown", "Pending")
    assert said["message"]
    assert refusal(faulty.ask("broken", "impatient")) == "LoadFailed"
    faulty.put("broken", 9.0)
    faulty.wait(lambda: faulty.ask("broken", "impatient").status == 200, "its healing", READY_SECONDS, "broken")
    assert faulty.answer("broken", "impatient") == 9.0
    faulty.wait_condition("broken", "Ready", "True", "OnDemand")


def test_a_missing_artifact_is_said_before_anybody_asks(faulty: Space) -> None:
    fill(faulty)
    faulty.model("absent", faulty.uri("absent"), service="impatient")
    said = faulty.wait_condition("absent", "StorageResolved", "False")
    assert "absent" in said["message"]
    faulty.wait_condition("absent", "Ready", "False")
    assert refusal(faulty.ask("absent", "impatient")) == "StorageFailed"
    faulty.put("absent", 6.0)
    faulty.wait_ready("absent")
    faulty.wait(lambda: faulty.ask("absent", "impatient").status == 200, "its healing", model="absent")
    assert faulty.answer("absent", "impatient") == 6.0


def test_operator_down_loaded_models_answer_and_cold_ones_say_why(faulty: Space) -> None:
    """And once it is back everything goes on, with no status written."""
    serving = loaded(faulty, ANSWERS)
    name = next(each for each in ANSWERS if each not in serving)
    before = versions(faulty)
    questions = faulty.questions({each: ANSWERS[each] for each in serving})
    with load.running(faulty.target(), questions, RATE) as running, no_operator(faulty):
        got, took = timed(faulty, name, "models")
        assert refusal(got) == "ActivatorUnavailable"
        assert took < AT_ONCE
        with (
            predictions.grpc_client(faulty.target()) as client,
            pytest.raises(InferenceServerException, match="ActivatorUnavailable") as refused,
        ):
            client.infer(name, [row()])
        assert refused.value.status() == "StatusCode.UNAVAILABLE"
        time.sleep(2)
    running.result.check(at_least=50)
    assert {each: faulty.answer(each) for each in ANSWERS} == ANSWERS
    assert versions(faulty) == before


@contextmanager
def no_operator(space: Space) -> Iterator[None]:
    """The operator is away for the length of the block, and takes requests again after it."""
    where = ("-n", settings.SYSTEM_NAMESPACE)
    pods = f"/api/v1/namespaces/{settings.SYSTEM_NAMESPACE}/pods?labelSelector=app.kubernetes.io/component%3Doperator"
    try:
        kubernetes.kubectl("scale", OPERATOR, *where, "--replicas=0")
        space.wait(lambda: not space.get(pods)["items"], "no pod of the operator")
        yield
    finally:
        kubernetes.kubectl("scale", OPERATOR, *where, "--replicas=1")
        kubernetes.kubectl("rollout", "status", OPERATOR, *where, "--timeout=120s")


def test_an_agents_restart_is_not_seen(faulty: Space) -> None:
    before = versions(faulty)
    pod = ready_pods(faulty)[0]
    restarts = container_status(pod, AGENT_CONTAINER)["restartCount"]
    kill(pod, AGENT_CONTAINER)
    for _ in range(2):
        assert {each: faulty.answer(each) for each in ANSWERS} == ANSWERS
    where = f"/api/v1/namespaces/{faulty.name}/pods/{pod['metadata']['name']}"
    faulty.wait(lambda: container_status(faulty.get(where), AGENT_CONTAINER)["restartCount"] > restarts, "a restart")
    assert {each: faulty.answer(each) for each in ANSWERS} == ANSWERS
    assert versions(faulty) == before


def test_a_pod_goes_under_load_with_models_cold(faulty: Space) -> None:
    """A few models are popular, and the others are asked for in between."""
    popular = sorted(ANSWERS)[: FIT - 1]
    seldom = sorted(set(ANSWERS) - set(popular))
    order = [each for rare in seldom for each in (*popular, rare)]
    questions = [Question(each, ROW, (ANSWERS[each],)) for each in order]
    pod = ready_pods(faulty)[0]["metadata"]["name"]
    with load.running(faulty.target(), questions, rate=8.0) as running:
        time.sleep(3)
        kubernetes.kubectl("delete", "pod", pod, "-n", faulty.name, "--wait=false")
        faulty.wait(
            lambda: len(there := ready_pods(faulty)) == 2 and all(each["metadata"]["name"] != pod for each in there),
            "two ready pods, another one among them",
            READY_SECONDS,
        )
        time.sleep(3)
    running.result.check(at_least=50)
    for each in ANSWERS:
        assert faulty.condition(each)["status"] == "True"
