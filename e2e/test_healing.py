"""What a user gets wrong, and that it heals once put right: order, artifact, credentials, file."""

import pytest

from demo.failure import DemoError
from e2e.space import FACT_SECONDS, READY_SECONDS, Space, fix_storage

SECRET_SECONDS = 240.0
"""The kubelet refreshes mounted Secrets once a minute or so, and the agent backs off meanwhile."""


def test_a_model_before_its_inference_service_waits_and_then_loads(own: Space) -> None:
    uri = own.put("early", 4.0)
    own.model("early", uri, service="later")
    waiting = own.wait_condition("early", "InferenceServiceReady", "False")
    assert "later" in waiting["message"]
    assert own.condition("early")["status"] == "False"
    own.service("later")
    own.wait_ready("early")
    assert own.answer("early", "later") == 4.0


def test_a_missing_artifact_is_named_and_heals_when_uploaded(shared: Space) -> None:
    shared.model("late", shared.uri("late"))
    failed = shared.wait_condition("late", "Ready", "False", seconds=READY_SECONDS)
    failed = shared.wait(
        lambda: found if "late" in (found := shared.condition("late", "StorageResolved")).get("message", "") else None,
        "a message that names the key",
        model="late",
    )
    assert failed["status"] == "False"
    assert shared.ask("late").status == 503
    shared.put("late", 5.0)
    shared.wait_ready("late", seconds=FACT_SECONDS * 2)
    assert shared.answer("late") == 5.0


def test_a_broken_model_file_is_named_and_harms_no_other(shared: Space) -> None:
    shared.model("whole", shared.put("whole", 6.0))
    shared.wait_ready("whole")
    shared.model("broken", shared.put_bytes("broken", b"this is no joblib file"))
    failed = shared.wait_condition("broken", "Loaded", "False", seconds=READY_SECONDS)
    shared.wait_condition("broken", "Ready", "False")
    assert failed["reason"] != "Unknown"
    refused = shared.ask("broken")
    assert refused.status == 503
    assert "Retry-After" in refused.headers
    assert shared.answer("whole") == 6.0
    shared.put("broken", 7.0)
    shared.wait_ready("broken", seconds=FACT_SECONDS * 3)
    assert shared.answer("broken") == 7.0
    assert shared.answer("whole") == 6.0


def test_wrong_credentials_are_named_and_heal_when_the_secret_is_right(own: Space) -> None:
    fix_storage(own, secret_key="not-the-key-of-this-server")
    own.service()
    own.model("locked", own.put("locked", 8.0))
    failed = own.wait_condition("locked", "StorageResolved", "False", seconds=READY_SECONDS)
    assert "403" in failed["message"] or "credential" in failed["message"].lower(), failed
    assert "not-the-key-of-this-server" not in str(own.trained_model("locked"))
    fix_storage(own)
    own.wait_ready("locked", seconds=SECRET_SECONDS)
    assert own.answer("locked") == 8.0


def test_a_storage_scheme_that_is_not_supported_is_refused_by_name(shared: Space) -> None:
    with pytest.raises(DemoError, match=r"start with one of s3://, gs://"):
        shared.model("elsewhere", "hdfs://namenode/model")
