"""Azurite: Azure Blob Storage on this machine, which checks signatures of keys and SAS tokens as Azure does.

It takes tokens of Microsoft Entra over TLS only, and believes any: ``EntraFront`` stands before it for those.
"""

import base64
import hashlib
import hmac
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import httpx
from aiohttp import web

from tests.component.agent.parts import HOST, Process, eventually
from tests.component.ports import free_port

from .emulators import azurite
from .pods import Pod

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, which everybody knows."""
CONTAINER = "models"
_VERSION = "2021-08-06"


class Azure:
    """``Backend``."""

    scheme: ClassVar[str] = "az"
    missing_bucket: ClassVar[str] = f"https://{ACCOUNT}.blob.core.windows.net/no-such-bucket/m"
    missing_reason: ClassVar[str] = "BucketNotFound"
    pinned: ClassVar[bool] = False
    verified: ClassVar[bool] = False
    many: ClassVar[int] = 2500
    wrong: ClassVar[tuple[str, ...]] = ("another key", "broken signature")

    def __init__(self, folder: Path) -> None:
        port, self._log = free_port(HOST), folder / "azurite.log"
        node = shutil.which("node")
        assert node is not None, "no node: install Node.js 20 or newer"
        quiet = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        arguments = [node, str(azurite()), "--blobHost", HOST, "--blobPort", str(port), *quiet]
        self._process = Process(arguments, {}, self._log)
        self.endpoint = f"http://{HOST}:{port}"
        self._client = httpx.Client(base_url=self.endpoint)

    async def start(self) -> None:
        self._process.start()
        await eventually(self._up, 60, lambda: self._log.read_text()[-2000:])
        self.request("PUT", f"/{CONTAINER}", {"restype": "container"}).raise_for_status()

    async def stop(self) -> None:
        await self._process.end()

    def _up(self) -> bool:
        try:
            return httpx.get(self.endpoint).status_code > 0
        except httpx.HTTPError:
            return False

    def put(self, key: str, content: bytes) -> None:
        self.request("PUT", f"/{CONTAINER}/{quote(key)}", {}, content).raise_for_status()

    def mark(self, folder: str) -> None:
        self.put(folder, b"")

    def uri(self, key: str) -> str:
        return f"https://{ACCOUNT}.blob.core.windows.net/{CONTAINER}/{quote(key)}"

    def admit(
        self, pod: Pod, endpoint: str | None = None, *, name: str = "storage", wrong: str = "", authority: str = ""
    ) -> Pod:
        if wrong == "broken signature":
            keys = {"AZURE_STORAGE_SAS_TOKEN": self.signature().replace("sig=", "sig=x")}
        else:
            other = base64.b64encode(b"another").decode()
            keys = {"AZURE_STORAGE_ACCESS_KEY": other if wrong else KEY}
        if authority:
            keys["ca.crt"] = authority
        return pod.secret(name, keys, {"azure-endpoint": self.at(endpoint)})

    def at(self, endpoint: str | None = None) -> str:
        """Azurite's accounts are the first part of the path."""
        return f"{endpoint or self.endpoint}/{ACCOUNT}"

    def signature(self, permissions: str = "rl", blob: str = "", end: str = "2099-01-01T00:00:00Z") -> str:
        """A SAS token of the container, or of one blob."""
        kind = "b" if blob else "c"
        place = f"/blob/{ACCOUNT}/{CONTAINER}" + (f"/{blob}" if blob else "")
        fields = [permissions, "", end, place, "", "", "", _VERSION, kind, "", "", "", "", "", "", ""]
        signed = quote(_signed("\n".join(fields)), safe="")
        return f"sv={_VERSION}&sr={kind}&sp={permissions}&se={quote(end)}&sig={signed}"

    def request(
        self, method: str, path: str, query: dict[str, str], content: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Signed with the account's key. ``path`` is encoded."""
        sent = {"x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), "x-ms-version": _VERSION}
        if method == "PUT" and not query:
            sent["x-ms-blob-type"] = "BlockBlob"
        said = "".join(f"{name}:{value}\n" for name, value in sorted(sent.items()))
        place = f"/{ACCOUNT}/{ACCOUNT}{path}" + "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        byte_range = (headers or {}).get("Range", "")
        length = str(len(content)) if content else ""
        standard = ["", "", length, "", "", "", "", "", "", "", byte_range]
        text = "\n".join([method, *standard, f"{said}{place}"])
        sent["Authorization"] = f"SharedKey {ACCOUNT}:{_signed(text)}"
        return self._client.request(
            method, f"/{ACCOUNT}{path}", params=query, content=content, headers={**sent, **(headers or {})}
        )


def _signed(text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()


class EntraFront:
    """A login and a store before Azurite: whoever brings the client's secret, or the pod's own token, gets one for the
    store. That of Microsoft is not shown."""

    def __init__(self, azure: Azure, secret: str, assertion: str) -> None:
        self._azure, self._secret, self._assertion = azure, secret, assertion
        self.endpoint = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._login)
        app.router.add_get(f"/{ACCOUNT}/{{path:.*}}", self._store)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.endpoint = f"http://{HOST}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _login(self, request: web.Request) -> web.Response:
        form = await request.post()
        known = form.get("client_secret") == self._secret or form.get("client_assertion") == self._assertion
        if request.match_info["tenant"] != "tenant" or form.get("client_id") != "client" or not known:
            said = "AADSTS7000215: Invalid client secret provided."
            return web.json_response({"error": "invalid_client", "error_description": said}, status=401)
        return web.json_response({"access_token": "for-the-store", "expires_in": 3600, "token_type": "Bearer"})

    async def _store(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer for-the-store":
            return web.Response(status=401)
        path = "/" + request.raw_path.partition("?")[0].removeprefix(f"/{ACCOUNT}/")
        found = self._azure.request("GET", path, dict(request.query))
        names = ("ETag", "Last-Modified", "Content-Type")
        kept = {name: found.headers[name] for name in names if name in found.headers}
        return web.Response(status=found.status_code, body=found.content, headers=kept)
