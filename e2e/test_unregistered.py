"""Models that nobody registered: any artifact below a prefix answers, and what is not there is 404."""

import time

import pytest

from demo import kubernetes, predictions, settings
from e2e import cold
from e2e.cold import small
from e2e.load import running
from e2e.space import ROW, Space

BELOW = "tenants"
ANSWERS = {f"free-{index}": 60.0 + index for index in range(6)}
ESCAPED, PATH = "team-a--2ffraud--5fv2", "team-a/fraud_v2"
MISSING_SECONDS = 10.0
"""A made-up name is looked up once and answered; nothing is loaded for it."""


def open_to_all(space: Space, name: str = "any", pods: int = 1, **annotations: str) -> None:
    given = {f"shoal.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    place = {"shoal.dev/models-from": space.uri(f"{BELOW}/"), "shoal.dev/models-framework": "sklearn"}
    space.service(name, pods, {**place, **given}, **small())


def answers(space: Space, names: dict[str, float]) -> dict[str, float]:
    return {name: space.answer(name, "any") for name in names}


@pytest.mark.timeout(600)
def test_any_artifact_answers_and_nothing_else_does(own: Space) -> None:
    for name, answer in ANSWERS.items():
        own.put(f"{BELOW}/{name}", answer)
    own.put(f"{BELOW}/{PATH}", 70.0)
    open_to_all(own)
    own.wait(lambda: cold.ready_pods(own, "any"), "its pod is ready", 180)
    assert answers(own, ANSWERS) == ANSWERS, "more than fit: some were evicted meanwhile"
    assert own.answer(ESCAPED, "any") == 70.0
    with predictions.http_client(own.target("any"), 75.0) as client:
        v1 = client.post("/v1/models/free-0:predict", json={"instances": [ROW]})
    assert v1.status_code == 200, v1.text
    assert v1.json()["predictions"] == [60.0]

    started = time.monotonic()
    for number in range(20):
        refused = own.ask(f"made-up-{number}", "any")
        assert (refused.status, refused.json()["reason"]) == (404, "ModelNotFound"), refused.text
    assert time.monotonic() - started < 20 * MISSING_SECONDS
    listed = own.get("/apis/serving.kserve.io/v1alpha1/namespaces/" + own.name + "/trainedmodels")["items"]
    assert listed == [], "there is no object of any"
    assert cold.explained(own, "free-1")["model"]["storageUri"] == own.uri(f"{BELOW}/free-1")

    # A new artifact answers without anybody saying so, also where its name was asked for in vain a moment ago.
    own.put(f"{BELOW}/made-up-0", 99.0)
    own.wait(lambda: own.ask("made-up-0", "any").status == 200, "the new artifact answers", 40)
    assert own.answer("made-up-0", "any") == 99.0


@pytest.mark.timeout(600)
def test_an_operator_that_starts_knows_what_pods_hold(own: Space) -> None:
    """Requests go on meanwhile: none is lost, and nothing is loaded again."""
    names = {name: answer for name, answer in ANSWERS.items() if name in ("free-0", "free-1")}
    for name, answer in names.items():
        own.put(f"{BELOW}/{name}", answer)
    open_to_all(own)
    own.wait(lambda: cold.ready_pods(own, "any"), "its pod is ready", 180)
    assert answers(own, names) == names
    pods = {name: cold.pods_of(own, name) for name in names}
    with running(own.target("any"), own.questions(names), 20.0) as load:
        deployment = ("deployment/" + f"{settings.RELEASE}-operator", "-n", settings.SYSTEM_NAMESPACE)
        kubernetes.kubectl("rollout", "restart", *deployment)
        kubernetes.kubectl("rollout", "status", *deployment, "--timeout=120s")
        own.wait(lambda: {name: cold.pods_of(own, name) for name in names} == pods, "it knows them again", 60)
        time.sleep(5)
    load.result.check(at_least=50)
    assert {name: cold.decided(own, name, "Loaded") for name in names} == dict.fromkeys(names, 0), "loaded again"


@pytest.mark.timeout(600)
def test_what_is_written_wrong_is_said_and_changes_nothing(own: Space) -> None:
    own.put(f"{BELOW}/free-0", 60.0)
    open_to_all(own)
    own.wait(lambda: cold.ready_pods(own, "any"), "its pod is ready", 180)
    assert own.answer("free-0", "any") == 60.0
    own.service("any", 1, {"shoal.dev/models-from": "no place", "shoal.dev/models-framework": "sklearn"}, **small())

    def said() -> str | None:
        conditions = own.inference_service("any").get("status", {}).get("conditions", [])
        texts = [each.get("message", "") for each in conditions if each.get("reason") == "InvalidSetting"]
        return next((text for text in texts if "shoal.dev/models-from" in text), None)

    assert "what held before goes on" in own.wait(said, "what is wrong is said")
    assert own.answer("free-0", "any") == 60.0
    own.service("any", 1, {}, **small())
    own.wait(lambda: own.ask("free-0", "any").status == 404, "without a place there are none", 30)
