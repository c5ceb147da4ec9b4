"""The YAML of docs/migrate, as it stands there, but for where the store is."""

import io
import re

import joblib
import pytest
from sklearn.dummy import DummyRegressor

from demo import kubernetes
from demo.settings import CHECKOUT
from e2e.installation import BUCKET
from e2e.space import ROW, Space
from e2e.test_own_model import wait_service

_YAML = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[str]:
    return _YAML.findall((CHECKOUT / "docs" / "migrate" / page).read_text())


def as_here(space: Space, text: str) -> str:
    """With this store's address, keys and bucket."""
    server = space.installation.s3
    for written, here in (
        ("s3://models/", f"s3://{BUCKET}/{space.name}/"),
        ("http://minio.minio.svc:9000", f"http://{server.endpoint_in_cluster}"),
        ('"default_bucket": "models"', f'"default_bucket": "{BUCKET}"'),
        ("${ACCESS_KEY}", server.access_key),
        ("${SECRET_KEY}", server.secret_key),
        ("path: sklearn/", f"path: {space.name}/sklearn/"),
    ):
        text = text.replace(written, here)
    return text


def test_kserve(own: Space) -> None:
    for folder, answer in (("customer-0001", 1.0), ("iris", 2.0)):
        own.put(folder, answer)
    shared, single = blocks("kserve.md")
    own.apply(as_here(own, shared))
    own.wait_ready("customer-0001")
    assert own.answer("customer-0001", "shop") == 1.0
    own.apply(as_here(own, single))
    wait_service(own, "sklearn-iris", "Ready", "True")
    assert own.answer("sklearn-iris", "sklearn-iris") == 2.0


def test_modelmesh(own: Space) -> None:
    file = io.BytesIO()
    joblib.dump(DummyRegressor(strategy="constant", constant=3.0).fit([ROW], [3.0]), file)
    own.put_bytes("sklearn", file.getvalue(), "mnist-svm.joblib")
    (text,) = blocks("modelmesh.md")
    own.apply(as_here(own, text))
    wait_service(own, "example-sklearn-isvc", "Ready", "True")
    assert own.answer("example-sklearn-isvc", "example-sklearn-isvc") == 3.0


@pytest.mark.parametrize("page", ["kserve.md", "modelmesh.md", "sagemaker.md"])
def test_each_page_is_taken_by_the_api_server(own: Space, page: str) -> None:
    for text in blocks(page):
        kubernetes.apply(as_here(own, text), "-n", own.name, "--dry-run=server")
