"""From a desired list to predictions, with a real agent, S3 and MLServer: the ways of one model's life."""

import asyncio
import json

import pytest
from shoal_api.messages import ModelMetadata, content_digest, copy_id

from .artifacts import ROW, model, tar_gz
from .parts import ACCESS_KEY, HOST, SECRET_KEY, Pod, eventually, intent

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_sixty_models_answer_as_themselves_in_v2_and_v1(shared_pod: Pod) -> None:
    pod = shared_pod
    names = [f"m{number}" for number in range(60)]
    for number, name in enumerate(names):
        pod.storage.put(f"{name}/model.joblib", model(float(number)))
    await pod.operator.want(*(intent(name) for name in names))
    await pod.loaded(*names)
    for number, name in enumerate(names):
        assert await pod.predict(name, ROW) == (200, [float(number)])
        status, answer = await pod.ask("POST", f"{pod.url}/v1/models/{name}:predict", {"instances": ROW})
        assert (status, answer) == (200, {"predictions": [float(number)]})
    # m1's folder holds m1's file (and the settings) only, not those of m10…m19.
    assert len(list((pod.models / "slots" / "m1").iterdir())) == 2
    _, metrics = await pod.ask("GET", f"http://{HOST}:{pod.agent_port}/metrics")
    assert 'shoal_agent_slots{phase="Loaded"} 60.0' in metrics
    assert 'shoal_agent_model_requests_total{result="succeeded"} 120.0' in metrics


async def test_what_the_server_says_of_a_model_is_told_once(shared_pod: Pod) -> None:
    shared_pod.storage.put("described/model.joblib", model(1.0))
    await shared_pod.operator.want(intent("described"))
    await shared_pod.loaded("described")

    def told() -> list[ModelMetadata]:
        every = (each for request in shared_pod.operator.requests for each in request.metadata)
        return [each for each in every if each.name == "described"]

    await eventually(lambda: bool(told()), 30, lambda: "nothing was told")
    (said,) = told()
    assert said.copy_id == shared_pod.operator.desired["described"].copy_id
    assert json.loads(said.body)["name"] == "described"


async def test_a_prefix_an_object_and_an_archive(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("pre/a1/model.joblib", model(1.0))
    pod.storage.put("pre/a10/model.joblib", model(10.0))
    pod.storage.put("pre/deep/weights/notes.txt", b"notes")
    pod.storage.put("pre/deep/anything.pkl", model(2.0))
    pod.storage.put("packed/model.tar.gz", tar_gz({"./model.joblib": model(3.0)}))
    await pod.operator.want(
        intent("a1", "pre/a1"),
        intent("object", "pre/a10/model.joblib"),
        intent("deep", "pre/deep/"),
        intent("archive", "packed"),
    )
    await pod.loaded("a1", "object", "deep", "archive")
    answers = [(await pod.predict(name, ROW))[1] for name in ("a1", "object", "deep", "archive")]
    assert answers == [[1.0], [10.0], [2.0], [3.0]]
    files = {
        str(path.relative_to(pod.models / "slots" / "deep")) for path in (pod.models / "slots" / "deep").rglob("*")
    }
    assert files == {"weights", "weights/notes.txt", "anything.pkl", "model-settings.json"}


async def test_a_missing_artifact_says_so_and_loads_once_it_is_uploaded(shared_pod: Pod) -> None:
    pod = shared_pod
    await pod.operator.want(intent("late", "uploads/late"), intent("nowhere", "x", bucket="no-such-bucket"))
    report = await pod.failed("late", "ArtifactNotFound")
    assert report.failure is not None
    for part in ("404", "s3://models/uploads/late", pod.storage.endpoint, "Upload"):
        assert part in report.failure.message
    assert report.failure.stage == "Storage"
    assert report.failure.retry_at is not None
    missing = await pod.failed("nowhere", "BucketNotFound")
    assert missing.failure is not None
    assert "'no-such-bucket'" in missing.failure.message
    pod.storage.put("uploads/late/model.joblib", model(7.0))
    await pod.loaded("late")
    assert await pod.predict("late", ROW) == (200, [7.0])
    await pod.operator.drop("nowhere")


async def test_a_model_on_a_claim_is_copied_and_what_is_written_there_meanwhile_changes_nothing(
    shared_pod: Pod,
) -> None:
    pod = shared_pod
    uri = "pvc://models/churn"
    on_claim = intent("on-claim").model_copy(
        update={"storage_uri": uri, "copy_id": copy_id("uid-1", content_digest(uri, "sklearn"))}
    )
    await pod.operator.want(on_claim)
    report = await pod.failed("on-claim", "ClaimNotMounted")
    assert report.failure is not None
    assert "shoal.dev/claims" in report.failure.message
    file = pod.claims / "models" / "churn" / "model.joblib"
    file.parent.mkdir(parents=True)
    file.write_bytes(model(6.0))
    await pod.loaded("on-claim")
    file.write_bytes(b"half of another")
    assert await pod.predict("on-claim", ROW) == (200, [6.0])
    file.unlink()
    assert await pod.predict("on-claim", ROW) == (200, [6.0])
    await pod.operator.drop("on-claim")


async def test_wrong_credentials_say_so_and_a_rotated_secret_heals_at_once(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("secret/model.joblib", model(8.0))
    await pod.rotate(ACCESS_KEY, "wrong")
    await pod.operator.want(intent("secret"))
    report = await pod.failed("secret", "StorageCredentialsInvalid")
    assert report.failure is not None
    assert "403 SignatureDoesNotMatch" in report.failure.message
    assert "Secret 's3'" in report.failure.message
    await pod.rotate("unknown-key", SECRET_KEY)
    await eventually(
        lambda: "XAdminUserNotFound" in getattr(pod.operator.slots["secret"].failure, "message", ""), 15, pod.story
    )
    await pod.failed("secret", "StorageCredentialsInvalid")
    await pod.rotate(ACCESS_KEY, SECRET_KEY)
    await pod.loaded("secret")
    assert "wrong" not in pod.agent.log.read_text()


async def test_a_broken_file_shows_the_servers_error_and_heals_with_its_content(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("broken/model.joblib", b"this is no pickle")
    pod.storage.put("empty/README", b"nothing to load")
    await pod.operator.want(intent("broken"), intent("empty"))
    report = await pod.failed("broken", "ModelLoadFailed")
    assert report.failure is not None
    assert report.failure.stage == "Load"
    assert "Error" in report.failure.message
    assert "Traceback" not in report.failure.message
    assert "container kserve-container" in report.failure.message, "where to look further"
    invalid = await pod.failed("empty", "ArtifactInvalid")
    assert invalid.failure is not None
    assert "model.joblib" in invalid.failure.message
    assert "README" in invalid.failure.message
    pod.storage.put("broken/model.joblib", model(9.0))
    pod.storage.put("empty/model.pkl", model(9.5))
    await pod.loaded("broken", "empty")
    assert await pod.predict("broken", ROW) == (200, [9.0])


async def test_an_update_serves_throughout_and_a_broken_one_leaves_the_old(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("v1/model.joblib", model(1.0))
    pod.storage.put("v2/model.joblib", model(2.0))
    pod.storage.put("v3/model.joblib", b"broken")
    await pod.operator.want(intent("updated", "v1"))
    await pod.loaded("updated")
    answers: list[float] = []
    stop = asyncio.Event()

    async def ask_on() -> None:
        while not stop.is_set():
            status, answer = await pod.predict("updated", ROW)
            assert status == 200, answer
            answers.append(answer[0])

    asking = asyncio.create_task(ask_on())
    await pod.operator.want(intent("updated", "v2"))
    await pod.loaded("updated")
    good = pod.operator.desired["updated"].copy_id
    await pod.operator.want(intent("updated", "v3"))
    report = await pod.failed("updated", "ModelLoadFailed")
    assert (report.serving, report.target) == (good, pod.operator.desired["updated"].copy_id)
    await pod.operator.want(intent("updated", "nothing-there"))
    report = await pod.failed("updated", "ArtifactNotFound")
    assert report.serving == good
    stop.set()
    await asking
    assert set(answers) == {1.0, 2.0}
    assert answers == sorted(answers)
    # The slot leads to what serves, so that a restarted server gets the good one.
    assert json.loads((pod.models / "slots" / "updated" / "model-settings.json").read_text())["name"] == "updated"
    await pod.operator.want(intent("updated", "v2"))
    await pod.loaded("updated")


async def test_delete_takes_the_files_and_a_name_used_again_is_a_new_model(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("first/model.joblib", model(1.0))
    pod.storage.put("second/model.joblib", model(2.0))
    await pod.operator.want(intent("again", "first"))
    await pod.loaded("again")
    artifact = (pod.models / "slots" / "again" / "model.joblib").resolve()
    await pod.operator.drop("again")
    await eventually(lambda: "again" not in pod.operator.slots, 10, pod.story)
    status, _ = await pod.predict("again", ROW)
    assert status == 404
    assert not artifact.exists()
    await pod.operator.want(intent("again", "first", uid="uid-2"))
    await pod.loaded("again")
    # Deleted and there again before anything was done about it, with another URI.
    await pod.operator.drop("again")
    await pod.operator.want(intent("again", "second", uid="uid-3"))
    await pod.loaded("again")
    assert await pod.predict("again", ROW) == (200, [2.0])


async def test_the_server_takes_only_what_the_agent_staged(shared_pod: Pod) -> None:
    pod = shared_pod
    for name in ("unheard-of", ".partial-x", "copies", "%2e%2e"):
        status, _ = await pod.ask("POST", f"{pod.url}/v2/repository/models/{name}/load")
        assert status == 404


async def test_v1_answers_errors_in_kserves_shape(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("shape/model.joblib", model(4.0))
    await pod.operator.want(intent("shape"))
    await pod.loaded("shape")
    base = f"{pod.url}/v1/models"
    assert await pod.ask("GET", f"{base}/shape") == (200, {"name": "shape", "ready": True})
    assert (await pod.ask("GET", f"{base}/none"))[0] == 404
    status, answer = await pod.ask("POST", f"{base}/none:predict", {"instances": ROW})
    assert (status, answer) == (404, {"error": "Model with name none does not exist."})
    for body in ({"wrong": 1}, {"instances": 1}, {"instances": [[1], [1, 2]]}, [1]):
        status, answer = await pod.ask("POST", f"{base}/shape:predict", body)
        assert status == 400
        assert list(answer) == ["error"]
    listed = (await pod.ask("GET", base))[1]
    assert "shape" in listed["models"]


async def test_only_kept_artifacts_are_left_on_disk_when_everything_is_deleted(shared_pod: Pod) -> None:
    pod = shared_pod
    await pod.operator.drop(*pod.operator.desired)
    await eventually(lambda: not pod.operator.slots, 30, pod.story)
    await eventually(
        lambda: not list((pod.models / "copies").iterdir()),
        10,
        lambda: list(pod.models.rglob("*"))[:20],
    )
    assert not list((pod.models / "slots").iterdir())
    kept = list((pod.models / "cache").iterdir())
    assert kept
    assert all((entry / "manifest.json").exists() for entry in kept)
    _, metrics = await pod.ask("GET", f"http://{HOST}:{pod.agent_port}/metrics")
    assert f'shoal_agent_cache_artifacts{{state="kept"}} {len(kept)}.0' in metrics
