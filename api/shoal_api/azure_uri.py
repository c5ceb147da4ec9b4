"""How Azure's storage is written as a URI. Pure; taken apart for ``storage_uri.py`` alone.

``https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH`` is KServe's form (also of accounts in a DNS zone, and with a
signature behind it); ``az://CONTAINER/PATH`` leaves the account to the Secret; ``abfs://CONTAINER@ACCOUNT.dfs...`` is
Hadoop's.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

AZURE_SCHEMES: Final = ("az", "abfs", "abfss")
AZURE_EXAMPLE: Final = "https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH"
FILE_SHARE: Final = r"https://[^/]+[.]file[.](core[.]windows|storage[.]azure)[.]net(:443)?/.*"
"""A share, which is another service; as the CRD refuses it too."""

_HOST: Final = re.compile(
    r"(?:([a-z0-9]{3,24})\.(?:blob|dfs)\.core\.windows\.net|([a-z0-9]{3,24}\.z[0-9]{1,2}\.blob\.storage\.azure\.net))(?::443)?",
    re.IGNORECASE,
)
_CONTAINER: Final = re.compile(r"\$?[a-z0-9](?:-?[a-z0-9]){2,62}")


@dataclass(frozen=True, slots=True)
class AzurePlace:
    """``account`` empty: the Secret's. ``signature``: the query behind it, if that is one. ``path`` is decoded."""

    account: str
    container: str
    path: str
    signature: str = ""

    @property
    def trouble(self) -> str:
        """Why it cannot be; empty where it can."""
        if not self.container:
            return "it names no container"
        if not _CONTAINER.fullmatch(self.container):
            return (
                f"{self.container[:80]!r} is no container: it has 3 to 63 lower-case letters, digits and single '-' "
                "between them"
            )
        return ""


def azure_place(scheme: str, rest: str) -> AzurePlace | None:
    """Of what follows ``scheme://``; None: it is not Azure's."""
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if scheme == "https":
        found = _HOST.fullmatch(host)
        if found is None:
            return None
        path, _, query = rest[len(host) :].partition("#")[0].partition("?")
        container, _, key = unquote(path).lstrip("/").partition("/")
        account = (found[1] or found[2]).lower()
        return AzurePlace(account, container, key, query if re.search(r"(?:^|&)sig=", query) else "")
    if scheme not in AZURE_SCHEMES:
        return None
    place, _, path = rest.partition("/")
    container, _, host = place.partition("@")
    found = _HOST.fullmatch(host)
    if host and found is None:
        return AzurePlace("", place, path)  # which is no container
    return AzurePlace((found[1] or found[2]).lower() if found else "", container, path)
