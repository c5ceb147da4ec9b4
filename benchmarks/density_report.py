"""The density benchmark's result as text."""

from . import common


def text(result: common.Json) -> str:
    return common.heading(f"{result['models']:,} models on {result['pods']} pods", result["context"])
