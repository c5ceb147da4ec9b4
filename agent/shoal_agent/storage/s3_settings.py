"""What is said of S3 for one set of keys: by the Secret's annotations, else in it, else by the service account's. Pure.

As in KServe a setting is an annotation ``serving.kserve.io/s3-<setting>``, or a value of the Secret beside its keys.
What the service account says holds where the Secret says nothing on that point: an endpoint is one point with its
scheme, and whom TLS trusts is one.
"""

from collections.abc import Callable, Mapping
from typing import Final

from shoal_api.storage_secrets import S3_ANNOTATIONS

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT", "AWS_S3_ENDPOINT"),
    "usehttps": ("S3_USE_HTTPS",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "verifyssl": ("S3_VERIFY_SSL",),
    "cabundle": ("AWS_CA_BUNDLE",),
    "cabundle-configmap": ("AWS_CA_BUNDLE_CONFIGMAP",),
    "usevirtualbucket": ("S3_USER_VIRTUAL_BUCKET", "S3_USE_VIRTUAL_BUCKET"),
    "useaccelerate": ("S3_USE_ACCELERATE",),
    "useanoncredential": ("awsAnonymousCredential",),
}
"""Settings as variables, and as keys of a Secret: AWS's and KServe's names, and OpenShift AI's of data connections."""

_TRUST: Final = frozenset({"verifyssl", "cabundle", "cabundle-configmap"})
_ADDRESS: Final = frozenset({"endpoint", "usehttps"})
_TRUE: Final = frozenset({"1", "true", "yes", "on"})


def annotated(annotations: Mapping[str, str], prefix: str = S3_ANNOTATIONS) -> dict[str, str]:
    """The settings among an object's annotations, by their names after the prefix."""
    return {key.removeprefix(prefix): value.strip() for key, value in annotations.items() if key.startswith(prefix)}


def named(value: Callable[[tuple[str, ...]], str | None]) -> dict[str, str]:
    """The settings among variables or a Secret's keys. ``value``: the first of those names that has one."""
    found = {setting: value(names) for setting, names in _NAMES.items()}
    return {setting: text.strip() for setting, text in found.items() if text}


def with_inherited(own: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """``own``, and of ``inherited`` the points on which it is silent."""
    silent = {name: value for name, value in inherited.items() if name not in own}
    if own.keys() & _TRUST:
        silent = {name: value for name, value in silent.items() if name not in _TRUST}
    if "endpoint" in own:
        silent = {name: value for name, value in silent.items() if name not in _ADDRESS}
    return {**silent, **own}


def url(endpoint: str, use_https: str) -> str:
    """An endpoint's URL; a scheme that it brings counts, ``use_https`` otherwise."""
    if "://" in endpoint:
        return endpoint.rstrip("/")
    return f"{'https' if true(use_https) else 'http'}://{endpoint.rstrip('/')}"


def maybe(value: str | None) -> bool | None:
    """A setting that has a default of its own."""
    return None if not value else true(value)


def true(value: str) -> bool:
    """As KServe's users write it."""
    return value.strip().lower() in _TRUE
