"""How many questions each gateway asks the activator: by model, by InferenceService, and in all. Pure.

A question costs the operator a fraction of a millisecond of its loop, which everybody shares. Any client can have it
asked, by naming cold models, and any pod, by saying that it does not have its models. So Envoy counts, before it asks,
and refuses with 503 what goes beyond. The bursts are as many as may be held for cold models, so that who waits for one
load, or comes back when a pod is gone, is not turned away; the rates are far above what can be loaded.
"""

from dataclasses import dataclass

from . import vocabulary as words
from .envoy_json import EXTENSIONS, Json, lua
from .surface import native_in_lua


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many ``per_second`` afterwards."""

    burst: int
    per_second: int


OF_A_MODEL = Rate(2_000, 50)
OF_A_SERVICE = Rate(4_000, 200)
OF_ALL = Rate(10_000, 1_000)
COUNTED = 8_192
"""Models and InferenceServices that are counted at a time; who was not heard of for longest is forgotten first."""


def counted() -> list[Json]:
    """Two filters: whose question it is, and whether it may be asked."""
    everything = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit: Json = {
        "@type": EXTENSIONS + "filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "questions",
        "status": {"code": 503},
        "filter_enabled": everything,
        "filter_enforced": everything,
        "token_bucket": _bucket(OF_ALL),
        "descriptors": [
            {"entries": [{"key": "service"}], "token_bucket": _bucket(OF_A_SERVICE)},
            {"entries": [{"key": "service"}, {"key": "model"}], "token_bucket": _bucket(OF_A_MODEL)},
        ],
        "rate_limits": [{"actions": [_named("service")]}, {"actions": [_named("service"), _named("model")]}],
        "max_dynamic_descriptors": COUNTED,
    }
    return [
        lua(words.QUESTION_FILTER, "question.lua", {"QUESTION": words.QUESTION_FILTER, "OR_NATIVE": native_in_lua()}),
        {"name": "limit", "typed_config": limit},
    ]


def _bucket(rate: Rate) -> Json:
    # Filled ten times a second, as Envoy wants whole tokens.
    return {
        "max_tokens": rate.burst,
        "tokens_per_fill": rate.per_second // 10,
        "fill_interval": "0.1s",
    }


def _named(key: str) -> Json:
    return {
        "metadata": {
            "descriptor_key": key,
            "metadata_key": {"key": words.QUESTION_FILTER, "path": [{"key": key}]},
            "default_value": "-",
            "source": "DYNAMIC",
        }
    }
