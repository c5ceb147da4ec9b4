"""Real stores of each type, and how the contract's tests speak to them."""

from pathlib import Path
from typing import ClassVar, Protocol

from tests.component.agent.parts import ACCESS_KEY, BUCKET, SECRET_KEY, Storage

from .pods import Pod


class Store(Protocol):
    """A store with a bucket of its own."""

    scheme: ClassVar[str]
    """Which source it is."""
    missing_bucket: ClassVar[str]
    missing_reason: ClassVar[str]
    pinned: ClassVar[bool]
    """What was listed can be fetched, whatever is put there afterwards."""
    verified: ClassVar[bool]
    """What was fetched is held to a digest of its bytes."""
    many: ClassVar[int]
    """Objects of a large folder: more than a page of a listing, where listings have pages."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def put(self, key: str, content: bytes) -> None: ...

    def mark(self, folder: str) -> None:
        """Make the marker of a folder, as the store's console does."""

    def uri(self, key: str) -> str: ...

    def admit(
        self, pod: Pod, endpoint: str | None = None, *, name: str = "storage", wrong: str = "", authority: str = ""
    ) -> Pod:
        """Give a pod a Secret for the store, or for what is before it; ``authority``: PEM. Or what else it needs."""


class Backend(Store, Protocol):
    """One that is a server. ``endpoint``: where a pod finds it, or a proxy before it."""

    endpoint: str
    wrong: ClassVar[tuple[str, ...]]
    """Kinds of credentials that are not taken."""


class S3:
    """versitygw."""

    scheme: ClassVar[str] = "s3"
    missing_bucket: ClassVar[str] = "s3://no-such-bucket/m"
    missing_reason: ClassVar[str] = "BucketNotFound"
    pinned: ClassVar[bool] = False
    verified: ClassVar[bool] = False
    many: ClassVar[int] = 2500
    wrong: ClassVar[tuple[str, ...]] = ("nobody", "wrong secret")

    def __init__(self, folder: Path) -> None:
        self._storage = Storage(folder)
        self.endpoint = self._storage.endpoint
        self.put = self._storage.put

    async def start(self) -> None:
        await self._storage.start()

    async def stop(self) -> None:
        await self._storage.process.end()

    def mark(self, folder: str) -> None:
        self._storage.client.put_object(Bucket=BUCKET, Key=folder, Body=b"")

    def uri(self, key: str) -> str:
        return f"s3://{BUCKET}/{key}"

    def admit(
        self, pod: Pod, endpoint: str | None = None, *, name: str = "storage", wrong: str = "", authority: str = ""
    ) -> Pod:
        keys = {
            "AWS_ACCESS_KEY_ID": "nobody" if wrong == "nobody" else ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": "wrong" if wrong == "wrong secret" else SECRET_KEY,
        }
        said = {"s3-endpoint": endpoint or self.endpoint}
        if authority:
            keys["ca.pem"], said["s3-cabundle"] = authority, "ca.pem"
        return pod.secret(name, keys, said)
