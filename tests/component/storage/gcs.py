"""fake-gcs-server, and before it what Google does and it does not.

It takes everybody's word, lists everything at once and knows no missing bucket. Here the token that a service account
signs for itself is checked against its public key, a listing comes in pages, and errors are as Google documents them.
What is Google's own is therefore not shown: IAM, quotas, and a real metadata server.
"""

import base64
import json
import time
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree as Xml

import httpx
from aiohttp import ClientSession, TCPConnector, web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from yarl import URL

from tests.component.agent.parts import HOST, Process, eventually
from tests.component.ports import free_port

from .emulators import fake_gcs_server
from .pods import Pod

PRIVATE, PUBLIC = "models", "public-models"
KEY_FILE = "gcloud-application-credentials.json"
IDENTITY_TOKEN = "token-of-the-pods-identity"
_ALLOWED, _STRANGER = "models@project.iam.gserviceaccount.com", "stranger@project.iam.gserviceaccount.com"
_PAGE = 1000


class Gcs:
    """``Backend``."""

    scheme: ClassVar[str] = "gs"
    missing_bucket: ClassVar[str] = "gs://no-such-bucket/m"
    missing_reason: ClassVar[str] = "BucketNotFound"
    pinned: ClassVar[bool] = False
    verified: ClassVar[bool] = False
    many: ClassVar[int] = 2500
    wrong: ClassVar[tuple[str, ...]] = ("another key", "unknown account")

    def __init__(self, folder: Path) -> None:
        self._port, self._log = free_port(HOST), folder / "fake-gcs-server.log"
        self._upstream = f"http://{HOST}:{self._port}"
        self._keys = {name: rsa.generate_private_key(65537, 2048) for name in (_ALLOWED, _STRANGER)}
        self._other = rsa.generate_private_key(65537, 2048)
        arguments = ["-scheme", "http", "-host", HOST, "-port", str(self._port), "-backend", "memory"]
        self._process = Process(
            [str(fake_gcs_server()), *arguments, "-public-host", f"{HOST}:{self._port}", "-log-level", "error"],
            {},
            self._log,
        )
        self.endpoint = ""
        self.identities_asked = 0

    async def start(self) -> None:
        self._process.start()
        await eventually(self._up, 30, lambda: self._log.read_text()[-2000:])
        self._client = httpx.Client(base_url=self._upstream)
        for bucket in (PRIVATE, PUBLIC):
            self._client.post("/storage/v1/b", json={"name": bucket}).raise_for_status()
        self._session = ClientSession(auto_decompress=False, connector=TCPConnector(limit=0))
        app = web.Application()
        app.router.add_get("/computeMetadata/v1/instance/service-accounts/default/token", self._identity)
        app.router.add_route("*", "/{path:.*}", self._front)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.endpoint = f"http://{HOST}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()
        await self._process.end()

    def _up(self) -> bool:
        try:
            return httpx.get(f"{self._upstream}/_internal/healthcheck").status_code == 200
        except httpx.HTTPError:
            return False

    def put(self, key: str, content: bytes, bucket: str = PRIVATE, encoding: str = "") -> None:
        query = {"uploadType": "media", "name": key} | ({"contentEncoding": encoding} if encoding else {})
        self._client.post(f"/upload/storage/v1/b/{bucket}/o", params=query, content=content).raise_for_status()

    def mark(self, folder: str) -> None:
        self.put(folder, b"")

    def uri(self, key: str) -> str:
        return f"gs://{PRIVATE}/{key}"

    def admit(
        self, pod: Pod, endpoint: str | None = None, *, name: str = "storage", wrong: str = "", authority: str = ""
    ) -> Pod:
        keys = {KEY_FILE: self.key_file(wrong)} | ({"ca.crt": authority} if authority else {})
        return pod.secret(name, keys, {"gcs-endpoint": endpoint or self.endpoint})

    def key_file(self, wrong: str = "") -> str:
        """As Google's console makes one; ``wrong``: of another key, of an account that nobody knows or admits."""
        account = {"unknown account": "nobody@elsewhere", "stranger": _STRANGER}.get(wrong, _ALLOWED)
        key = self._other if wrong in {"another key", "unknown account"} else self._keys[account]
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "project",
                "private_key_id": "1",
                "private_key": pem.decode(),
                "client_email": account,
                "token_uri": "https://oauth2.googleapis.com/token",
            }
        )

    async def _identity(self, request: web.Request) -> web.Response:
        self.identities_asked += 1
        if request.headers.get("Metadata-Flavor") != "Google":
            return web.Response(status=403)
        return web.json_response({"access_token": IDENTITY_TOKEN, "expires_in": 3600, "token_type": "Bearer"})

    async def _front(self, request: web.Request) -> web.StreamResponse:
        bucket, _, key = request.path.lstrip("/").partition("/")
        if bucket not in (PRIVATE, PUBLIC):
            return _error(404, "NoSuchBucket", "The specified bucket does not exist.")
        if bucket == PRIVATE or "Authorization" in request.headers:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            who = self._who(token) if token else ""
            if who is None:
                return _error(401, "AuthenticationRequired", "Authentication required.")
            if bucket == PRIVATE and who != _ALLOWED:
                return _error(403, "AccessDenied", f"{who or 'Anonymous caller'} does not have storage.objects access.")
        url = URL(self._upstream + request.raw_path, encoded=True)
        headers = {**request.headers, "Host": f"{HOST}:{self._port}"}
        async with self._session.request(
            request.method, url, headers=headers, skip_auto_headers=["Accept-Encoding"]
        ) as found:
            content = await found.read()
            if not key:
                return _page(content, int(request.query.get("continuation-token", "0")))
            if found.status == 404 and request.method == "GET":
                return _error(404, "NoSuchKey", "The specified key does not exist.")
            answer = web.StreamResponse(status=found.status, headers=found.headers)
            await answer.prepare(request)
            await answer.write(content)
            return answer

    def _who(self, token: str) -> str | None:
        """Whose token it is; None: nobody's."""
        if token == IDENTITY_TOKEN:
            return _ALLOWED
        try:
            signed, _, signature = token.rpartition(".")
            claims: dict[str, Any] = json.loads(_decoded(signed.partition(".")[2]))
            known = self._keys[claims["iss"]].public_key()
            known.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (KeyError, ValueError, InvalidSignature):
            return None
        return str(claims["iss"]) if claims["exp"] > time.time() and "cloud-platform" in claims["scope"] else None


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _error(status: int, code: str, said: str) -> web.Response:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{said}</Message></Error>"
    return web.Response(status=status, text=body, content_type="application/xml")


def _page(content: bytes, start: int) -> web.Response:
    """A thousand objects of a listing, from that one on."""
    listing = Xml.fromstring(content)  # noqa: S314  # our own program's
    objects = listing.findall("Contents")
    for each in objects[:start] + objects[start + _PAGE :]:
        listing.remove(each)
    if len(objects) > start + _PAGE:
        Xml.SubElement(listing, "IsTruncated").text = "true"
        Xml.SubElement(listing, "NextContinuationToken").text = str(start + _PAGE)
    for etag in listing.iter("ETag"):
        etag.text = f'"{etag.text}"'
    return web.Response(body=Xml.tostring(listing), content_type="application/xml")
