"""A small double of Hugging Face's hub, and of the servers that it keeps large files on.

It follows what the hub's API is documented to do, as far as an agent meets it: revisions with a commit, a tree in
pages, files of which large ones (LFS) are on another host with a signed URL, tokens, gated and private repositories,
and the error that a header names. The hub itself is not part of any test.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from aiohttp import web

from tests.component.agent.parts import HOST

from .pods import Pod

REPOSITORY, GATED, PRIVATE = "shoal/models", "shoal/gated", "shoal/private"
TOKEN, STRANGER = "hf_of_one_who_may", "hf_of_a_stranger"
LARGE = 1024 * 1024
"""Bytes from which on a file is elsewhere."""
_PAGE = 1000


@dataclass(slots=True)
class Commit:
    files: dict[str, bytes]


@dataclass(slots=True)
class Repository:
    """``revisions``: names of commits. ``trees``: contents by commit."""

    revisions: dict[str, str] = field(default_factory=dict)
    trees: dict[str, Commit] = field(default_factory=dict)
    draft: dict[str, bytes] = field(default_factory=dict)


class Hub:
    """``Backend``. ``put`` writes to main, which is one commit more as soon as anybody asks."""

    scheme: ClassVar[str] = "hf"
    missing_bucket: ClassVar[str] = "hf://no-such-bucket/m"
    missing_reason: ClassVar[str] = "RepositoryNotFound"
    wrong: ClassVar[tuple[str, ...]] = ("nobody's token", "another's token")
    pinned: ClassVar[bool] = True
    verified: ClassVar[bool] = True
    many: ClassVar[int] = 2500

    def __init__(self, folder: Path) -> None:
        self.repositories = {name: Repository() for name in (REPOSITORY, GATED, PRIVATE)}
        self.endpoint = ""
        self.asked: Counter[str] = Counter()
        self.beyond: list[str | None] = []
        """What the other host was sent as Authorization."""
        self.busy: dict[str, str] | None = None
        """Headers of the 429 that all are answered."""
        self.lie: bytes | None = None
        """What large files hold instead, in the same size."""

    async def start(self) -> None:
        self._runners = []
        api, far = web.Application(), web.Application()
        api.router.add_get("/api/models/{owner}/{name}/revision/{revision}", self._revision)
        api.router.add_get("/api/models/{owner}/{name}/tree/{commit}{path:(/.*)?}", self._tree)
        api.router.add_route("*", "/{owner}/{name}/resolve/{commit}/{path:.*}", self._resolve)
        far.router.add_get("/{commit}/{path:.*}", self._far)
        hosts = []
        for app in (api, far):
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, HOST, 0).start()
            self._runners.append(runner)
            hosts.append(f"http://{HOST}:{runner.addresses[0][1]}")
        self.endpoint, self._elsewhere = hosts

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    def put(self, key: str, content: bytes, repository: str = REPOSITORY) -> None:
        self.repositories[repository].draft[key] = content
        self.repositories[repository].revisions.pop("main", None)

    def mark(self, folder: str) -> None:
        """git has no empty folders."""

    def uri(self, key: str) -> str:
        return f"hf://{REPOSITORY}/{key}"

    def admit(
        self, pod: Pod, endpoint: str | None = None, *, name: str = "storage", wrong: str = "", authority: str = ""
    ) -> Pod:
        keys = {"HF_TOKEN": wrong.replace(" ", "-") or TOKEN, "HF_ENDPOINT": endpoint or self.endpoint}
        return pod.secret(name, keys | ({"ca.crt": authority} if authority else {}))

    def tag(self, name: str, repository: str = REPOSITORY) -> str:
        """Name what main is now; its commit."""
        found = self.repositories[repository]
        found.revisions[name] = self._commit(found, "main") or ""
        return found.revisions[name]

    def _commit(self, repository: Repository, revision: str) -> str | None:
        if revision in repository.trees:
            return revision
        if revision == "main" and "main" not in repository.revisions:
            commit = secrets.token_hex(20)
            repository.trees[commit] = Commit(dict(repository.draft))
            repository.revisions["main"] = commit
        return repository.revisions.get(revision)

    def _admitted(self, request: web.Request) -> Repository | web.Response:
        self.asked[request.path.split("/")[1]] += 1
        if self.busy is not None:
            return web.Response(status=429, headers=self.busy)
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", TOKEN, STRANGER):
            return web.Response(status=401, headers={"X-Error-Message": "Invalid credentials"})
        found = self.repositories.get(name)
        if found is None or (name == PRIVATE and token != TOKEN):
            return _error(404 if token else 401, "RepoNotFound")
        if name == GATED and token != TOKEN:
            return _error(403 if token else 401, "GatedRepo")
        return found

    async def _revision(self, request: web.Request) -> web.Response:
        found = self._admitted(request)
        if isinstance(found, web.Response):
            return found
        commit = self._commit(found, request.match_info["revision"])
        return web.json_response({"sha": commit}) if commit else _error(404, "RevisionNotFound")

    async def _tree(self, request: web.Request) -> web.Response:
        found = self._admitted(request)
        if isinstance(found, web.Response):
            return found
        tree = found.trees.get(request.match_info["commit"])
        if tree is None:
            return _error(404, "RevisionNotFound")
        below = request.match_info["path"].strip("/")
        prefix = f"{below}/" if below else ""
        recursive = request.query.get("recursive") == "true"
        listed = list(_entries(tree.files, prefix, recursive=recursive))
        if not listed and below:
            return _error(404, "EntryNotFound")
        start = int(request.query.get("cursor", "0"))
        headers = {}
        if start + _PAGE < len(listed):
            query = f"recursive={str(recursive).lower()}&cursor={start + _PAGE}"
            headers["Link"] = f'<http://{request.host}{quote(request.path)}?{query}>; rel="next"'
        return web.json_response(listed[start : start + _PAGE], headers=headers)

    async def _resolve(self, request: web.Request) -> web.Response:
        found = self._admitted(request)
        if isinstance(found, web.Response):
            return found
        commit, path = request.match_info["commit"], request.match_info["path"]
        tree = found.trees.get(commit)
        if tree is None or path not in tree.files:
            return _error(404, "EntryNotFound" if tree else "RevisionNotFound")
        content, said = tree.files[path], {"X-Repo-Commit": commit}
        if len(content) >= LARGE:
            where = f"{self._elsewhere}/{commit}/{quote(path)}?X-Amz-Signature=hidden"
            return web.Response(status=302, headers=said | {"Location": where})
        return web.Response(body=content, headers=said | {"ETag": f'"{git_id(content)}"'})

    async def _far(self, request: web.Request) -> web.Response:
        self.beyond.append(request.headers.get("Authorization"))
        commit, path = request.match_info["commit"], request.match_info["path"]
        content = next(each.trees[commit].files[path] for each in self.repositories.values() if commit in each.trees)
        if self.lie is not None:
            content = (self.lie * len(content))[: len(content)]
        part = request.http_range
        if part.start is None:
            return web.Response(body=content)
        end = min(part.stop or len(content), len(content))
        said = {"Content-Range": f"bytes {part.start}-{end - 1}/{len(content)}"}
        return web.Response(status=206, body=content[part.start : end], headers=said)


def git_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def _entries(files: dict[str, bytes], prefix: str, *, recursive: bool) -> Iterator[dict[str, object]]:
    folders: set[str] = set()
    for path, content in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        name, deeper, _ = path[len(prefix) :].partition("/")
        if deeper and name not in folders:
            folders.add(name)
            yield {"type": "directory", "oid": "0" * 40, "size": 0, "path": f"{prefix}{name}"}
        if deeper and not recursive:
            continue
        entry: dict[str, object] = {"type": "file", "oid": git_id(content), "size": len(content), "path": path}
        if len(content) >= LARGE:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        yield entry


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"error": code}, status=status, headers={"X-Error-Code": code})
