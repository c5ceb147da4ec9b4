"""``storage`` of a model: KServe's other way to say where it lies, by an entry of the Secret ``storage-config``.

It becomes a storage URI, ``storage://<key>/<path>?<parameters>``, which is what everything after it knows. The entry,
which says whose store it is, is read by the agent.
"""

from typing import Annotated
from urllib.parse import quote, urlencode, urlsplit

from pydantic import Field

from .common import ApiModel, StringMap

STORAGE_CONFIG_SECRET = "storage-config"  # noqa: S105  # a name
STORAGE_CONFIG_SCHEME = "storage"
MAX_STORAGE_KEY = 253


class ModelStorage(ApiModel):
    """Where a model lies in a store that an entry of the Secret storage-config describes. As in KServe."""

    key: Annotated[str, Field(max_length=MAX_STORAGE_KEY)] | None = None
    """Key of the Secret storage-config whose JSON says which store; left out: default, or default_<type>."""
    path: Annotated[str, Field(max_length=1024)] | None = None
    """Folder or archive of the model in the store's bucket."""
    parameters: StringMap | None = None
    """Overrides of the entry's fields, such as type and bucket."""
    schema_path: Annotated[str, Field(max_length=1024)] | None = None
    """Path of the model's schema; without effect here."""

    def location(self) -> str:
        """The same as a storage URI, not checked."""
        query = urlencode(sorted((self.parameters or {}).items()), quote_via=quote)
        path = (self.path or "").replace("%", "%25").replace("?", "%3F").lstrip("/")
        return f"{STORAGE_CONFIG_SCHEME}://{self.key or ''}/{path}{f'?{query}' if query else ''}"


def by_secret_key(key: str, uri: str) -> str:
    """What ModelMesh's annotation `serving.kserve.io/secretKey` beside ``uri`` comes to: the entry says whose store it
    is, the URI which bucket and path. What is no such URI stays as it is, and is complained of where it is read."""
    parts = urlsplit(uri)
    if parts.scheme not in ("s3", "gs") or not parts.netloc:
        return uri
    return ModelStorage(key=key, path=parts.path.lstrip("/"), parameters={"bucket": parts.netloc}).location()
