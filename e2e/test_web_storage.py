"""A model whose artifact lies on a web server, inside the cluster, which the installation allows."""

import base64
import io

import joblib
from sklearn.dummy import DummyRegressor

from e2e.space import ROW, Space


def test_a_file_on_a_web_server(own: Space) -> None:
    own.service()
    file = io.BytesIO()
    joblib.dump(DummyRegressor(strategy="constant", constant=6.5).fit([ROW], [6.5]), file)
    own.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "files"},
            "binaryData": {"model.joblib": base64.b64encode(file.getvalue()).decode()},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "files"},
            "spec": {"selector": {"app": "files"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "files", "labels": {"app": "files"}},
            "spec": {
                "containers": [
                    {
                        "name": "server",
                        "image": own.python_image(),
                        "command": ["python3", "-m", "http.server", "8080", "--directory", "/files"],
                        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
                    }
                ],
                "volumes": [{"name": "files", "configMap": {"name": "files"}}],
            },
        },
    )
    own.model("basket", f"http://files.{own.name}.svc/model.joblib")
    own.wait_ready("basket")
    assert own.answer("basket") == 6.5
    own.model("missing", f"http://files.{own.name}.svc/missing.joblib")
    said = own.wait_condition("missing", "StorageResolved", "False", "ArtifactNotFound")
    assert f"http://files.{own.name}.svc/missing.joblib answered 404" in said["message"]
