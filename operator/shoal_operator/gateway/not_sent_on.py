"""What becomes of a pod's word that it lacks the model where the request cannot be sent on to another pod. Pure.

Envoy keeps no more than 1 MiB of a request for that, and an InferenceService may allow no retries. The pod's own answer
is a 404, which a client may take for final; it gets what is said of every model that is not there for a moment: 503
with ``Retry-After``, UNAVAILABLE over gRPC.
"""

from . import vocabulary as words
from .envoy_json import EXTENSIONS, Json

STATUS = 512
"""Stands for such an answer until the local reply makes it 503 (``replies.not_sent_on``): nothing else answers so."""


def filters() -> list[Json]:
    """Two filters of the main listener, before all others: answers come to the second one first."""
    return [
        {
            "name": "mark",
            "typed_config": {
                "@type": EXTENSIONS + "filters.http.header_mutation.v3.HeaderMutation",
                "mutations": {"response_mutations": [{"remove": words.NOT_LOADED_HEADER}]},
            },
        },
        {
            "name": "not-sent-on",
            "typed_config": {
                "@type": EXTENSIONS + "filters.http.custom_response.v3.CustomResponse",
                "custom_response_matcher": {"matcher_list": {"matchers": [_marked()]}},
            },
        },
    ]


def _marked() -> Json:
    header = words.NOT_LOADED_HEADER
    kind = words.TYPE + "envoy.type.matcher.v3.HttpResponseHeaderMatchInput"
    policy = EXTENSIONS + "http.custom_response.local_response_policy.v3.LocalResponsePolicy"
    return {
        "predicate": {
            "single_predicate": {
                "input": {"name": header, "typed_config": {"@type": kind, "header_name": header}},
                "value_match": {"safe_regex": {"google_re2": {}, "regex": ".+"}},
            }
        },
        "on_match": {"action": {"name": "say", "typed_config": {"@type": policy, "status_code": STATUS}}},
    }
