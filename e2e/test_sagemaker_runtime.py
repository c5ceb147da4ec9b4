"""boto3's client of SageMaker's runtime API against the installed gateway: models of any owner, and what goes wrong."""

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from demo import predictions, sample_answers, samples
from e2e import servers
from e2e.cold import a_cold_one, create, loaded, small
from e2e.installation import BUCKET, Installation
from e2e.space import ROW, Space, space
from e2e.test_migrate import as_here, blocks
from e2e.test_own_model import isvc, wait_service

ANSWERS = {f"team--model-{index}": 10.0 + index for index in range(6)}


@pytest.fixture(scope="module")
def few(installation: Installation) -> Iterator[Space]:
    """Six models in an InferenceService whose one pod holds four."""
    with space(installation, "sagemaker-runtime") as fresh:
        fresh.service(**small())
        create(fresh, ANSWERS)
        fresh.wait_ready(*ANSWERS)
        yield fresh


def runtime(space: Space) -> Any:
    """As users make one, with keys that mean nothing."""
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=space.target().url,
        region_name="eu-central-1",
        aws_access_key_id="made-up",
        aws_secret_access_key="made-up",
        config=Config(read_timeout=75),
    )


def invoke(space: Space, service: str, body: Any, **parameters: Any) -> Any:
    answer = runtime(space).invoke_endpoint(
        EndpointName=f"{space.name}--{service}",
        ContentType="application/json",
        Body=json.dumps(body).encode(),
        **parameters,
    )
    return json.loads(answer["Body"].read())


def test_every_model_answers_by_its_artifacts_name_though_few_fit(few: Space) -> None:
    for _ in range(2):
        for name, answer in ANSWERS.items():
            artifact = name.replace("--", "/").replace("-", "_") + ".tar.gz"
            said = invoke(few, "models", predictions.v2_body(ROW), TargetModel=artifact)
            assert predictions.v2_answer(said) == answer
    cold = a_cold_one(few, ANSWERS)
    assert predictions.v2_answer(invoke(few, "models", predictions.v2_body(ROW), TargetModel=cold)) == ANSWERS[cold]
    assert cold in loaded(few, ANSWERS)


def test_errors_are_those_of_that_api(few: Space) -> None:
    known = runtime(few).exceptions
    with pytest.raises(known.ValidationError, match="has no TrainedModel of this name"):
        invoke(few, "models", {}, TargetModel="nobody.tar.gz")
    with pytest.raises(known.ValidationError, match="no InferenceService answers at host"):
        invoke(few, "nobody", {}, TargetModel="nobody.tar.gz")
    with pytest.raises(known.ModelError) as caught:
        invoke(few, "models", {"inputs": "wrong"}, TargetModel="team--model-0")
    assert caught.value.response["OriginalStatusCode"] == 400
    few.model("gone", few.uri("not-there"))
    few.wait_condition("gone", "Ready", "False", "ArtifactNotFound")
    with pytest.raises(known.ModelError, match="artifact"):
        invoke(few, "models", predictions.v2_body(ROW), TargetModel="gone")


def test_an_inference_services_own_model_by_either_protocol(own: Space) -> None:
    """What it speaks where nothing is said is v1."""
    uri = own.put("own", 7.0)
    own.apply(isvc("first", uri), isvc("second", uri, protocolVersion="v2"))
    for name in ("first", "second"):
        wait_service(own, name, "Ready", "True")
    assert invoke(own, "first", {"instances": [ROW]}) == {"predictions": [7.0]}
    assert predictions.v2_answer(invoke(own, "second", predictions.v2_body(ROW))) == 7.0


def test_the_migrate_pages_yaml(own: Space) -> None:
    servers.provide(own, "mms")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as writing:
        writing.add(samples.FOLDER / "mms" / "script", arcname=".")
    own.put_bytes("housing", archive.getvalue(), "Houston_TX.tar.gz")
    (text,) = blocks("sagemaker.md")
    own.apply(as_here(own, text))
    own.wait_ready("houston-tx", seconds=servers.START_SECONDS)
    row = [1.0, 2.0, 3.0]
    assert invoke(own, "housing", row, TargetModel="Houston_TX.tar.gz") == {"sum": sample_answers.weighted(row)}
    uri = own.trained_model("houston-tx")["spec"]["model"]["storageUri"]
    assert uri == f"s3://{BUCKET}/{own.name}/housing/Houston_TX.tar.gz"
