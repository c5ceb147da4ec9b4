"""``https://`` and ``http://``, held by a web server of our own making where it is to misbehave, and by nginx."""

import asyncio
import base64
import json
import socket
import subprocess
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from shoal_agent.cache import Cache
from shoal_agent.storage.web import WebSource
from shoal_agent.storage.web_addresses import Allowed

from tests.component.debian import program
from tests.component.ports import free_port

from .pods import LIMITS, Puller
from .proxy import HOST, authority

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Names(AbstractResolver):
    """Every name is our host."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=HOST, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing."""


HERE = Allowed(private=True, loopback=True)


class WebPod(Puller):
    def __init__(self, folder: Path, allowed: Allowed) -> None:
        folder.mkdir()
        self._folder = folder
        self.source = WebSource(folder / "storage.json", folder / "secrets", 8, allowed=allowed, resolver=Names)
        self.cache = Cache(
            folder / "cache", {"http": self.source, "https": self.source}, LIMITS, connections=8, keep_free=0.01
        )
        self.cache.open()

    def secret(self, host: str, headers: str, bundle: Path | None = None) -> "WebPod":
        folder = self._folder / "secrets" / "web"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "https-host").write_text(host)
        (folder / "headers").write_text(headers)
        if bundle is not None:
            (folder / "ca.crt").write_bytes(bundle.read_bytes())
        (self._folder / "storage.json").write_text('{"version": 1, "secrets": [{"name": "web"}]}')
        return self


@pytest_asyncio.fixture(loop_scope="session")
async def new_pod(tmp_path: Path) -> AsyncIterator[Callable[..., WebPod]]:
    made: list[WebPod] = []

    def make(allowed: Allowed = HERE) -> WebPod:
        made.append(WebPod(tmp_path / f"pod{len(made)}", allowed))
        return made[-1]

    yield make
    for each in made:
        await each.source.close()


@asynccontextmanager
async def server(handle: Callable[[web.Request], object]) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        made = handle(request)
        assert isinstance(made, web.StreamResponse)
        return made

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield f"{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


NewPod = Callable[..., WebPod]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str, Path]]:
    """nginx on a folder: plain, and with TLS and basic authentication. Folder, hosts, and the CA to trust."""
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "files").mkdir()
    authority(folder / "tls", own=False)
    password = base64.b64encode(b"user:word").decode()
    plain, secure = free_port(HOST), free_port(HOST)
    (folder / "nginx.conf").write_text(
        f"""daemon off; error_log stderr; pid {folder}/pid; worker_processes 1; user root;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {HOST}:{plain}; root {folder}/files; }}
  server {{
    listen {HOST}:{secure} ssl; root {folder}/files;
    ssl_certificate {folder}/tls/server.pem; ssl_certificate_key {folder}/tls/server.pem;
    if ($http_authorization != "Basic {password}") {{ return 401; }}
  }}
}}
"""
    )
    process = subprocess.Popen([program("nginx", "nginx-light"), "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        for port in (plain, secure):
            _listens(process, port)
        yield folder / "files", f"{HOST}:{plain}", f"{HOST}:{secure}", folder / "tls" / "ca.pem"
    finally:
        process.terminate()
        process.wait()


def _listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nginx does not listen on {HOST}:{port}")


async def test_files_and_archives_of_a_real_server(nginx: tuple[Path, str, str, Path], new_pod: NewPod) -> None:
    files, plain, _, _ = nginx
    large = bytes(range(256)) * (70 * 4096)  # 70 MiB: in parts
    (files / "large.bin").write_bytes(large)
    with zipfile.ZipFile(files / "m one.zip", "w") as packed:
        packed.writestr("model.joblib", b"abc")
    pod = new_pod()
    assert await pod.pull(f"http://{plain}/large.bin") == {"large.bin": large}
    assert await pod.pull(f"http://{plain}/m%20one.zip?version=3") == {"model.joblib": b"abc"}
    error = await pod.refused(f"http://{plain}/missing")
    assert (error.reason, "answered 404" in error.message) == ("ArtifactNotFound", True)


async def test_it_is_fetched_again_only_when_it_changed(nginx: tuple[Path, str, str, Path], new_pod: NewPod) -> None:
    files, plain, _, _ = nginx
    (files / "again").write_bytes(b"before")
    pod = new_pod()
    assert await pod.pull(f"http://{plain}/again") == {"again": b"before"}
    assert (await pod.cache.pull(f"http://{plain}/again")).fetched_bytes == 0
    (files / "again").write_bytes(b"afterwards")
    assert await pod.pull(f"http://{plain}/again") == {"again": b"afterwards"}


async def test_tls_with_a_ca_of_its_own_and_basic_authentication(
    nginx: tuple[Path, str, str, Path], new_pod: NewPod
) -> None:
    files, _, secure, bundle = nginx
    (files / "m").write_bytes(b"x")
    error = await new_pod().refused(f"https://{secure}/m")
    assert (error.reason, "ca.crt" in error.message) == ("StorageUnreachable", True)
    error = await new_pod().secret(secure, "{}", bundle).refused(f"https://{secure}/m")
    assert (error.reason, "keys https-host and headers" in error.message) == ("StorageCredentialsInvalid", True)
    basic = json.dumps({"Authorization": "Basic " + base64.b64encode(b"user:word").decode()})
    assert await new_pod().secret(secure, basic, bundle).pull(f"https://{secure}/m") == {"m": b"x"}


@pytest.mark.parametrize("headers", ["no json", '["a"]', '{"Host": "x"}', '{"X": "a\\r\\nY: b"}', '{"a b": "c"}'])
async def test_headers_that_cannot_be_are_said(new_pod: NewPod, headers: str) -> None:
    error = await new_pod().secret("web.example", headers).refused("http://web.example/m")
    assert (error.reason, "'web'" in error.message) == ("StorageCredentialsInvalid", True)


@pytest.mark.parametrize("uri", ["http://{host}/m", "http://inside.example:{port}/m", "http://[::ffff:127.0.51.2]/m"])
@pytest.mark.parametrize("allowed", [Allowed(), Allowed(private=True)])
async def test_the_pod_itself_is_never_asked(new_pod: NewPod, uri: str, allowed: Allowed) -> None:
    asked: list[str] = []

    def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"x")

    async with server(handle) as host:
        uri = uri.format(host=host, port=host.partition(":")[2])
        error = await new_pod(allowed).refused(uri)
        assert error.reason == "StorageAccessDenied"
        assert not asked
        if "[" not in uri:
            assert await new_pod().pull(uri) == {"m": b"x"}


async def test_a_redirect_that_leads_nowhere_is_said(new_pod: NewPod) -> None:
    async with server(lambda _: web.Response(status=302, headers={"Location": "http://x:99999/m"})) as host:
        error = await new_pod().refused(f"http://{host}/m")
        assert (error.reason, "redirects to what is no URL" in error.message) == ("StorageUnreachable", True)


async def test_redirects_are_bounded_and_take_no_headers_along(new_pod: NewPod) -> None:
    seen: dict[str, str | None] = {}

    def handle(request: web.Request) -> web.Response:
        seen[f"{request.method} {request.url.host}{request.path}"] = request.headers.get("X-Key")
        if request.path == "/loop":
            return web.Response(status=302, headers={"Location": "/loop"})
        if request.path == "/there":
            return web.Response(status=307, headers={"Location": f"http://other.example:{request.url.port}/m"})
        return web.Response(body=b"x")

    async with server(handle) as host:
        port = host.partition(":")[2]
        pod = new_pod().secret(f"one.example:{port}", '{"X-Key": "hidden"}')
        assert await pod.pull(f"http://one.example:{port}/there") == {"there": b"x"}
        assert seen["HEAD one.example/there"] == "hidden"
        assert seen["GET other.example/m"] is None
        error = await pod.refused(f"http://one.example:{port}/loop")
        assert (error.reason, "redirects" in error.message) == ("StorageUnreachable", True)


async def test_servers_that_know_neither_head_nor_ranges_nor_if_match(new_pod: NewPod) -> None:
    content = b"y" * (40 << 20)

    def handle(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=405)
        return web.Response(body=content, headers={"ETag": '"1"'})

    async with server(handle) as host:
        assert await new_pod().pull(f"http://{host}/m") == {"m": content}


async def test_what_changes_meanwhile_is_refused(new_pod: NewPod) -> None:
    count = 0

    def handle(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        return web.Response(body=b"x", headers={"ETag": f'"{count}"'})

    async with server(handle) as host:
        assert (await new_pod().refused(f"http://{host}/m")).reason == "ArtifactChanged"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "StorageCredentialsInvalid"),
        (403, "StorageAccessDenied"),
        (410, "ArtifactNotFound"),
        (418, "StorageUnreachable"),
        (429, "StorageUnavailable"),
        (503, "StorageUnavailable"),
    ],
)
async def test_every_answer_has_a_reason(new_pod: NewPod, status: int, reason: str) -> None:
    async with server(lambda _: web.Response(status=status)) as host:
        error = await new_pod().refused(f"http://{host}/m?sig=hidden")
        assert error.reason == reason
        assert "hidden" not in error.message


async def test_a_server_that_is_not_there(new_pod: NewPod) -> None:
    assert (await new_pod().refused("http://127.0.51.9:9/m")).reason == "StorageUnreachable"


async def test_what_has_no_length_is_refused(new_pod: NewPod) -> None:
    def handle(request: web.Request) -> web.Response:
        response = web.Response(body=b"x")
        response.enable_chunked_encoding()
        return response

    async with server(handle) as host:
        assert "Content-Length" in (await new_pod().refused(f"http://{host}/m")).message
        await asyncio.sleep(0)
