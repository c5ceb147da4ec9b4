"""The model server's own settings: annotation ``shoal.dev/server-config``, checked by name and type. Pure."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.names import ANNOTATION_SERVER_CONFIG
from shoal_api.quantity import processors

from shoal_operator import json_depth
from shoal_operator.server_profile import ServerProfile, Setting, SettingValue

from .annotations import shown

MOST_SAID = 20
_BOOLEANS = {"true": True, "false": False}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What most numeric libraries read; left alone each starts as many threads as the node has processors."""


def server_settings(
    profile: ServerProfile, annotations: Mapping[str, str]
) -> tuple[dict[str, SettingValue], tuple[str, ...]]:
    """The settings that can be, and a sentence for each that cannot, up to ``MOST_SAID``: an annotation has room for
    tens of thousands. Never raises."""
    text = annotations.get(ANNOTATION_SERVER_CONFIG)
    if text is None:
        return {}, ()
    try:
        written = _parsed(text)
    except SpecError as error:
        return {}, (error.message,)
    values: dict[str, SettingValue] = {}
    wrong: list[str] = []
    left_out = 0
    for name, value in written.items():
        setting = profile.settings.get(name)
        read = _value(setting, value) if setting is not None else None
        if read is not None:
            values[name] = read
        elif len(wrong) >= MOST_SAID:
            left_out += 1
        elif setting is None:
            wrong.append(f"{ANNOTATION_SERVER_CONFIG}: {_unknown(profile, name)}")
        else:
            wrong.append(f"{ANNOTATION_SERVER_CONFIG}: {name} is {shown(value)}: write {_described(setting)}")
    if left_out:
        wrong.append(
            f"{ANNOTATION_SERVER_CONFIG}: {left_out} more are no settings either, or have no value that can be"
        )
    return values, tuple(wrong)


def cpus(container: Mapping[str, Any]) -> float | None:
    """limits.cpu of a container, in processors; None where there is none, or none that can be read."""
    return processors(((container.get("resources") or {}).get("limits") or {}).get("cpu"))


def thread_defaults(limit: float | None) -> dict[str, str]:
    """Environment of a container with so many processors."""
    return {} if limit is None else dict.fromkeys(_THREADS, str(max(1, math.floor(limit))))


def _parsed(text: str) -> dict[str, Any]:
    """A JSON object, or lines as config.properties has them. What is an object itself counts by its parts, each by both
    names with a dot between."""
    parts: dict[str, Any] = {}
    for name, value in _written(text).items():
        if isinstance(value, dict):
            parts |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            parts[name] = value
    return parts


def _written(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            content = json_depth.loads(text.encode())
        except ValueError as error:
            raise SpecError("InvalidSpec", f"{ANNOTATION_SERVER_CONFIG} is not JSON: {error}") from None
        return dict(content) if isinstance(content, dict) else {}
    pairs = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals:
            raise SpecError(
                "InvalidSpec", f"{ANNOTATION_SERVER_CONFIG}: {shown(stripped)} is no setting: write name=value, or JSON"
            )
        pairs[name.strip()] = value.strip()
    return pairs


def _value(setting: Setting, written: Any) -> SettingValue | None:
    text = str(written).lower() if isinstance(written, bool) else written
    value: SettingValue | None = None
    if setting.kind is bool:
        value = _BOOLEANS.get(str(text).lower())
    elif setting.kind is str:
        value = text if isinstance(text, str) and (not setting.choices or text in setting.choices) else None
    elif not isinstance(written, bool):
        try:
            value = setting.kind(str(text))
        except ValueError:
            value = None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = setting.least, setting.most
        if (low is not None and value < low) or (high is not None and value > high):
            return None
    return value


def _described(setting: Setting) -> str:
    if setting.choices:
        return " or ".join(setting.choices)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[setting.kind]
    bounds = [f"from {setting.least:g}"] if setting.least is not None else []
    bounds += [f"up to {setting.most:g}"] if setting.most is not None else []
    return " ".join((words, *bounds))


def _unknown(profile: ServerProfile, name: str) -> str:
    close = difflib.get_close_matches(name, profile.settings, 1)
    known = f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(sorted(profile.settings)) or 'none'}"
    return f"{profile.title} has no setting {shown(name)} here{known}"
