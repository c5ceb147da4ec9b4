"""A model's artifact, name and place change while requests keep coming."""

import time

from e2e import load
from e2e.load import Question
from e2e.space import FACT_SECONDS, READY_SECONDS, ROW, Space

RATE = 50.0


def test_update_to_a_good_artifact_loses_no_request(shared: Space) -> None:
    shared.model("changing", shared.put("changing-1", 1.0))
    shared.wait_ready("changing")
    question = Question("changing", ROW, (1.0, 2.0))
    with load.running(shared.target(), [question], RATE) as running:
        time.sleep(2)
        shared.model("changing", shared.put("changing-2", 2.0))
        shared.wait(lambda: shared.answer("changing") == 2.0, "the new artifact answers", FACT_SECONDS, "changing")
        shared.wait_ready("changing")
        time.sleep(2)
    running.result.check(at_least=200)
    answers = [outcome.answer for outcome in running.result.outcomes]
    first_new = answers.index(2.0)
    assert set(answers[:first_new]) == {1.0}
    assert shared.answer("changing") == 2.0


def test_update_to_a_broken_artifact_keeps_the_old_one(shared: Space) -> None:
    shared.model("kept", shared.put("kept-1", 3.0))
    shared.wait_ready("kept")
    with load.running(shared.target(), [Question("kept", ROW, (3.0,))], RATE) as running:
        time.sleep(2)
        shared.model("kept", shared.put_bytes("kept-2", b"no model at all"))
        shared.wait_condition("kept", "Loaded", "False", seconds=READY_SECONDS)
        time.sleep(5)
    running.result.check(at_least=300)
    good = shared.put("kept-3", 4.0)
    shared.model("kept", good)
    shared.wait(lambda: shared.answer("kept") == 4.0, "a good artifact ends it", FACT_SECONDS, "kept")
    shared.wait_ready("kept")


def test_deleted_model_is_unknown_and_its_name_answers_as_the_new_model_only(shared: Space) -> None:
    shared.models({"again": shared.put("again-1", 10.0), "bystander": shared.put("bystander", 11.0)})
    shared.wait_ready("again", "bystander")
    assert shared.answer("again") == 10.0
    shared.delete("trainedmodel", "again")
    shared.wait(lambda: shared.ask("again").status == 404, "404 after the delete")
    shared.model("again", shared.put("again-2", 20.0))
    answers = []
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        got = shared.ask("again")
        answers.append(got.json()["outputs"][0]["data"][0] if got.status == 200 else got.status)
        if answers[-1] == 20.0:
            break
        time.sleep(0.05)
    assert answers[-1] == 20.0
    assert 10.0 not in answers
    assert shared.answer("bystander") == 11.0
    shared.wait_ready("again")


def test_deleted_and_created_at_once_answers_with_the_new_model(shared: Space) -> None:
    """The delete and the create reach the operator together: the UID, not the name, says what a model is."""
    shared.model("swift", shared.put("swift-1", 30.0))
    shared.wait_ready("swift")
    new = shared.put("swift-2", 40.0)
    shared.delete("trainedmodel", "swift")
    shared.model("swift", new)
    shared.wait_ready("swift")
    assert [shared.answer("swift") for _ in range(20)] == [40.0] * 20


def test_many_models_at_once(shared: Space) -> None:
    answers = {f"many-{index}": 100.0 + index for index in range(20)}
    shared.models({name: shared.put(name, answer) for name, answer in answers.items()}, memory="1Mi")
    shared.wait_ready(*answers)
    assert {name: shared.answer(name) for name in answers} == answers
