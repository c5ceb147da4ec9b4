"""Kubernetes quantities and durations as numbers: the two spellings of size and time that users write in YAML.

The accepted spelling is that of k8s.io/apimachinery's resource.Quantity. A value of our own because the agent, which
must stay small, reads quantities as well and installs no Kubernetes client.
"""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

from .errors import SpecError

MAX_BYTES = 2**63 - 1
"""Kubernetes keeps quantities in 64 bits; what is larger is cut to this."""

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]+))?"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_MAX_LENGTH = 64

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def quantity_bytes(value: object, where: str) -> int:
    """Whole bytes of a quantity such as ``256Mi``, ``1G``, ``1e9`` or ``1073741824``; a fraction is rounded up.

    ``where`` is the field's path, for the message. Raises SpecError (InvalidQuantity) for anything that is not a
    quantity, and for a negative one.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value) if abs(value) <= MAX_BYTES else str(MAX_BYTES if value > 0 else -1)
    elif isinstance(value, str):
        text = value
    else:
        raise _not_a_quantity(value, where)
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise _not_a_quantity(value, where)
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if number < 0:
        raise SpecError("InvalidQuantity", f"{where} is {text!r}: a size cannot be negative; write one such as 256Mi.")
    if suffix in _BINARY:
        return _whole(number * 2 ** _BINARY[suffix])
    exponent = int(match["exponent"] or 0) + _DECIMAL.get(suffix, 0)
    if number == 0:
        return 0
    # Decided before scaling: 1e999999999 is a valid quantity and must not become a number of that many digits.
    if number.adjusted() + exponent > 20:
        return MAX_BYTES
    if number.adjusted() + exponent < -40:
        return 1
    return _whole(number.scaleb(exponent))


def processors(value: object) -> float | None:
    """Processors of a quantity such as ``2``, ``1500m``, ``0.5`` or ``500000u``, up to a million; None for what is no
    quantity, or not above 0."""
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    if match is None or len(str(value)) > _MAX_LENGTH:
        return None
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        return _some(number * 2 ** _BINARY[suffix])
    exponent = int(match["exponent"] or 0) + _DECIMAL.get(suffix, 0)
    return _some(number.scaleb(exponent)) if -20 < number.adjusted() + exponent < 20 else None


def duration_seconds(value: object, where: str) -> float:
    """Seconds of a duration such as ``500ms``, ``30s``, ``5m`` or ``1h30m``. Raises SpecError (InvalidDuration)."""
    if not isinstance(value, str) or len(value) > _MAX_LENGTH or _DURATION.fullmatch(value) is None:
        raise SpecError(
            "InvalidDuration",
            f"{where} is {_shown(value)}: not a duration; write one such as 500ms, 30s, 5m or 1h30m.",
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))


NEVER: Final = "never"
LEAST_CHECK_SECONDS, MOST_CHECK_SECONDS = 10.0, 7 * 86_400.0


def check_seconds(value: object, where: str) -> float:
    """Seconds between two looks: of a duration, or 0 for ``never``. Raises SpecError (InvalidDuration)."""
    if value == NEVER:
        return 0.0
    seconds = duration_seconds(value, where)
    if LEAST_CHECK_SECONDS <= seconds <= MOST_CHECK_SECONDS:
        return seconds
    raise SpecError("InvalidDuration", f"{where} is {_shown(value)}: write {NEVER}, or a duration from 10s to 168h.")


def format_bytes(count: int) -> str:
    """A quantity that people read: the largest binary unit that keeps it exact to a tenth, such as ``1.5Gi``."""
    for suffix, power in reversed(_BINARY.items()):
        if count >= 2**power:
            return f"{count / 2**power:.1f}".removesuffix(".0") + suffix
    return str(count)


def _some(number: Decimal) -> float | None:
    return min(float(number), 1e6) if number > 0 else None


def _whole(number: Decimal) -> int:
    return min(int(number.to_integral_value(rounding=ROUND_CEILING)), MAX_BYTES)


def _not_a_quantity(value: object, where: str) -> SpecError:
    return SpecError(
        "InvalidQuantity",
        f"{where} is {_shown(value)}: not a Kubernetes quantity; write a size such as 256Mi or 1Gi.",
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"


def whole_number(text: str, most: int = MAX_BYTES) -> int | None:
    """What ASCII digits say, 0 to ``most``; None for anything else, which may be of any length."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most))):
        return None
    number = int(text)
    return number if number <= most else None
