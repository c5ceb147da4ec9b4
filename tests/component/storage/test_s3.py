"""What only S3 promises, held by versitygw."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.component.agent.parts import ACCESS_KEY, BUCKET, HOST, SECRET_KEY, Storage

from .pods import Pod
from .proxy import Faults, authority, proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[[], Pod]
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
ROLE = "arn:aws:iam::123456789012:role/models"


async def test_no_keys_is_no_state(
    s3: Storage, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The chain of credentials found none once; a minute later it does."""
    s3.put("chain/m", b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    pod = new_pod().secret("storage", {}, {"s3-endpoint": s3.endpoint})
    error = await pod.refused(f"s3://{BUCKET}/chain")
    assert (error.reason, "No S3 credentials" in error.message) == ("StorageCredentialsInvalid", True)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "shoal-test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "shoal-test-secret")
    assert await pod.pull(f"s3://{BUCKET}/chain") == {"m": b"x"}


@pytest.mark.parametrize("own", [False, True])
async def test_a_ca_of_its_own(s3: Storage, new_pod: NewPod, tmp_path: Path, own: bool) -> None:
    """Also where the certificate is its own authority, which one of the two libraries does not take."""
    s3.put("tls/m", b"x")
    context, bundle = authority(tmp_path / "tls", own=own)
    async with proxy(s3.endpoint, Faults(), context) as endpoint:
        error = await new_pod().secret("storage", KEYS, {"s3-endpoint": endpoint}).refused(f"s3://{BUCKET}/tls")
        assert (error.reason, "s3-cabundle" in error.message) == ("StorageUnreachable", True)
        keys = {**KEYS, "ca.pem": bundle.read_text()}
        trusting = new_pod().secret("storage", keys, {"s3-endpoint": endpoint, "s3-cabundle": "ca.pem"})
        assert await trusting.pull(f"s3://{BUCKET}/tls") == {"m": b"x"}
        careless = new_pod().secret("storage", KEYS, {"s3-endpoint": endpoint, "s3-verifyssl": "0"})
        assert await careless.pull(f"s3://{BUCKET}/tls") == {"m": b"x"}


async def test_equal_content_is_on_disk_once(s3: Storage, new_pod: NewPod) -> None:
    pod = new_pod().secret("storage", KEYS, {"s3-endpoint": s3.endpoint})
    s3.put("copies/a/m", b"same")
    s3.put("copies/b/m", b"same")
    first, second = [await pod.cache.pull(f"s3://{BUCKET}/copies/{name}") for name in "ab"]
    assert (first.artifact, second.fetched_bytes) == (second.artifact, 0)


@asynccontextmanager
async def token_service(token: str) -> AsyncIterator[str]:
    """AWS's STS as far as a pod asks it: keys for the token of its service account, and for no other. That of AWS is
    not shown."""

    async def handle(request: web.Request) -> web.Response:
        form = await request.post()
        asked = (form.get("Action"), form.get("RoleArn"))
        if asked != ("AssumeRoleWithWebIdentity", ROLE) or form.get("WebIdentityToken") != token:
            error = "<Code>InvalidIdentityToken</Code><Message>The token is not valid.</Message>"
            return web.Response(status=400, text=f"<ErrorResponse><Error>{error}</Error></ErrorResponse>")
        keys = f"<AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>"
        until = "<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        name, found = "AssumeRoleWithWebIdentity", f"<Credentials>{keys}{until}</Credentials>"
        body = f"<{name}Response><{name}Result>{found}</{name}Result></{name}Response>"
        return web.Response(text=body, content_type="text/xml")

    app = web.Application()
    app.router.add_post("/", handle)
    async with listening(app) as endpoint:
        yield endpoint


@asynccontextmanager
async def store_for_sessions(s3: Storage) -> AsyncIterator[str]:
    """Before versitygw, which knows no sessions: it is asked for those who bring the session's token."""

    async def handle(request: web.Request) -> web.Response:
        signed = f"Credential={ACCESS_KEY}/" in request.headers["Authorization"]
        if not signed or request.headers.get("x-amz-security-token") != "session":
            return web.Response(status=403, text="<Error><Code>InvalidToken</Code></Error>")
        if "list-type" in request.query:
            found = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=request.query["prefix"])["Contents"][0]
            entry = f"<Key>{found['Key']}</Key><Size>{found['Size']}</Size><ETag>{found['ETag']}</ETag>"
            entry += f"<LastModified>{found['LastModified'].isoformat()}</LastModified>"
            return web.Response(text=f"<ListBucketResult><Contents>{entry}</Contents></ListBucketResult>")
        got = s3.client.get_object(Bucket=BUCKET, Key=request.path.removeprefix(f"/{BUCKET}/"))
        told = {"ETag": got["ETag"], "Last-Modified": got["ResponseMetadata"]["HTTPHeaders"]["last-modified"]}
        return web.Response(body=got["Body"].read(), headers=told)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    async with listening(app) as endpoint:
        yield endpoint


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("given", ["right", "wrong"])
async def test_the_pods_own_identity(s3: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """As EKS' webhook says it to a pod whose service account has a role."""
    s3.put("identity/m", b"x")
    (tmp_path / "token").write_text(given)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with token_service("right") as endpoint, store_for_sessions(s3) as store:
        for name, value in {
            "AWS_ROLE_ARN": ROLE,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ENDPOINT_URL_STS": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
        }.items():
            monkeypatch.setenv(name, value)
        pod = Pod(tmp_path / "pod", {"AWS_ENDPOINT_URL_S3": store})
        if given == "right":
            assert await pod.pull(f"s3://{BUCKET}/identity") == {"m": b"x"}
        else:
            error = await pod.refused(f"s3://{BUCKET}/identity")
            assert (error.reason, "InvalidIdentityToken" in error.message) == ("StorageCredentialsInvalid", True)
