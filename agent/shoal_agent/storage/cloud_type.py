"""What the stores of Google and Azure have in common as a ``StoreType``: how their failures are told. Pure."""

from abc import abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

from obstore.exceptions import BaseError

from . import StorageError
from .cloud_errors import Asked, Words, explain


class Access(Protocol):
    """One way to reach a store, as far as messages tell of it."""

    @property
    def origin(self) -> str: ...
    @property
    def anonymous(self) -> bool: ...


A = TypeVar("A", bound=Access)


class CloudType(Generic[A]):
    """By obstore alone; ``words``: how the cloud calls things."""

    words: ClassVar[Words]
    failures: ClassVar[tuple[type[Exception], ...]] = (BaseError, OSError)
    has_exact: ClassVar[bool] = False

    @abstractmethod
    def url(self, access: A, bucket: str, key: str) -> str: ...

    @abstractmethod
    def endpoint(self, access: A) -> str: ...

    def wants_exact(self, access: A, error: Exception) -> bool:
        return False

    def explain(self, error: Exception, access: A, bucket: str, key: str) -> StorageError:
        return explain(error, self.asked(access, bucket, key), self.words)

    def asked(self, access: A, bucket: str, key: str) -> Asked:
        """A call about that object, or the prefix ``key``."""
        listed = not key or key.endswith("/")
        url, endpoint = self.url(access, bucket, key), self.endpoint(access)
        return Asked(url, bucket, endpoint, access.origin, access.anonymous, listed)
