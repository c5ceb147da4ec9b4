"""The API server of this folder's tests, with Shoal's CRDs."""

from collections.abc import Iterator

import pytest
from shoal_api.crd import definitions

from .server import ApiServer, api_server


@pytest.fixture(scope="session")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A kube-apiserver without any CRD of ours; tests that install some take `server`."""
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def server(bare_server: ApiServer) -> ApiServer:
    bare_server.install_definitions(definitions())
    return bare_server
