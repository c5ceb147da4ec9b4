"""What only Azure's URIs promise, held by Azurite."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from .azure import ACCOUNT, CONTAINER, KEY, Azure, EntraFront
from .pods import Pod

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[[], Pod]


@pytest_asyncio.fixture(loop_scope="session")
async def entra(azure: Azure) -> AsyncIterator[EntraFront]:
    made = EntraFront(azure, "the-secret", "the-pods-token")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.mark.parametrize(
    "form",
    [
        "https://{account}.blob.core.windows.net/{container}/forms",
        "https://{account}.dfs.core.windows.net/{container}/forms",
        "abfss://{container}@{account}.dfs.core.windows.net/forms",
        "az://{container}/forms",
        "abfs://{container}/forms",
    ],
)
async def test_every_form_is_the_same_place(azure: Azure, new_pod: NewPod, form: str) -> None:
    azure.put("forms/m", b"x")
    keys = {"AZURE_STORAGE_ACCESS_KEY": KEY, "AZURE_STORAGE_ACCOUNT": ACCOUNT}
    pod = new_pod().secret("storage", keys, {"azure-endpoint": azure.at()})
    assert await pod.pull(form.format(account=ACCOUNT, container=CONTAINER)) == {"m": b"x"}


async def test_a_sas_token(azure: Azure, new_pod: NewPod) -> None:
    azure.put("sas/m", b"x")
    pod = new_pod().secret(
        "storage", {"AZURE_STORAGE_SAS_TOKEN": f"?{azure.signature()}"}, {"azure-endpoint": azure.at()}
    )
    assert await pod.pull(azure.uri("sas")) == {"m": b"x"}
    old = azure.signature(end="2001-01-01T00:00:00Z")
    pod = new_pod().secret("storage", {"AZURE_STORAGE_SAS_TOKEN": old}, {"azure-endpoint": azure.at()})
    error = await pod.refused(azure.uri("sas"))
    assert (error.reason, "expired" in error.message) == ("StorageCredentialsInvalid", True)
    assert "sig=" not in error.message


async def test_a_connection_string(azure: Azure, new_pod: NewPod) -> None:
    azure.put("connected/m", b"x")
    text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={azure.at()};"
    pod = new_pod().secret("storage", {"AZURE_STORAGE_CONNECTION_STRING": text})
    assert await pod.pull(f"az://{CONTAINER}/connected") == {"m": b"x"}
    pod.entry("mine", {"type": "azure", "connection_string": text, "container": CONTAINER})
    assert await pod.pull("storage://mine/connected") == {"m": b"x"}


async def test_the_signature_of_a_uri(azure: Azure, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch) -> None:
    """As KServe takes it; also one that is for a single blob, which cannot be listed. Nothing of it is told."""
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", azure.at())
    azure.put("signed/m", b"x")
    assert await new_pod().pull(f"{azure.uri('signed')}?{azure.signature()}") == {"m": b"x"}
    assert await new_pod().pull(f"{azure.uri('signed/m')}?{azure.signature('r', 'signed/m')}") == {"m": b"x"}
    broken = azure.signature("r", "signed/m").replace("sig=", "sig=hidden")
    error = await new_pod().refused(f"{azure.uri('signed/m')}?{broken}")
    assert error.reason in {"StorageCredentialsInvalid", "StorageAccessDenied"}
    assert ("hidden" in error.message, "signature in storageUri" in error.message) == (False, True)


async def test_a_service_principal_as_kserve_has_it(azure: Azure, entra: EntraFront, new_pod: NewPod) -> None:
    azure.put("principal/m", b"x")
    keys = {
        "AZ_SUBSCRIPTION_ID": "subscription",
        "AZ_TENANT_ID": "tenant",
        "AZ_CLIENT_ID": "client",
        "AZ_CLIENT_SECRET": "the-secret",
        "AZURE_AUTHORITY_HOST": entra.endpoint,
    }
    said = {"azure-endpoint": azure.at(entra.endpoint)}
    assert await new_pod().secret("storage", keys, said).pull(azure.uri("principal")) == {"m": b"x"}
    pod = new_pod().secret("storage", {**keys, "AZ_CLIENT_SECRET": "hidden"}, said)
    error = await pod.refused(azure.uri("principal"))
    assert (error.reason, "401" in error.message) == ("StorageCredentialsInvalid", True)
    assert "hidden" not in error.message


async def test_the_pods_own_identity(
    azure: Azure, entra: EntraFront, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As Azure's webhook says it to a pod."""
    azure.put("identity/m", b"x")
    (tmp_path / "token").write_text("the-pods-token")
    for name, value in {
        "AZURE_CLIENT_ID": "client",
        "AZURE_TENANT_ID": "tenant",
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
        "AZURE_AUTHORITY_HOST": entra.endpoint,
        "AZURE_STORAGE_ENDPOINT": azure.at(entra.endpoint),
    }.items():
        monkeypatch.setenv(name, value)
    assert await new_pod().pull(azure.uri("identity")) == {"m": b"x"}


async def test_a_secret_is_for_its_account_alone(
    azure: Azure, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", azure.at())
    monkeypatch.setenv("AZURE_MSI_ENDPOINT", "http://127.0.51.3:9")
    keys = {"AZURE_STORAGE_ACCESS_KEY": KEY, "AZURE_STORAGE_ACCOUNT": "another0"}
    error = await new_pod().secret("storage", keys).refused(azure.uri("m"))
    assert error.reason in {"StorageCredentialsInvalid", "StorageAccessDenied"}
    assert f"no Secret is for account '{ACCOUNT}'" in error.message


async def test_no_account_is_said(new_pod: NewPod) -> None:
    error = await new_pod().secret("storage", {"AZURE_STORAGE_ACCESS_KEY": KEY}).refused("az://models/m")
    assert (error.reason, "AZURE_STORAGE_ACCOUNT" in error.message) == ("StorageCredentialsInvalid", True)


async def test_a_key_that_is_none_is_said(azure: Azure, new_pod: NewPod) -> None:
    pod = new_pod().secret("storage", {"AZURE_STORAGE_ACCESS_KEY": "not base64!"}, {"azure-endpoint": azure.at()})
    error = await pod.refused(azure.uri("m"))
    assert (error.reason, "Secret 'storage'" in error.message) == ("StorageCredentialsInvalid", True)
    assert "not base64" not in error.message


async def test_a_public_container_needs_no_secret(azure: Azure, new_pod: NewPod) -> None:
    azure.request("PUT", "/public", {"restype": "container"}, headers={}).raise_for_status()
    pod = new_pod().secret("storage", {}, {"azure-endpoint": azure.at()})
    error = await pod.refused(azure.uri("m"))
    assert (error.reason, "AZ_CLIENT_SECRET" in error.message) == ("StorageAccessDenied", True)
