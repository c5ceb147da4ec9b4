"""Envoy's questions to the activator: envoy.service.auth.v3.Authorization, one call for each request that needs it.

A call stays open as long as its request is held; Envoy cancels it when the client is gone or its deadline has passed.
"""

import json
import math
import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2

from shoal_operator.state.values import ServiceKey
from shoal_operator.state.views import Endpoint

from . import vocabulary as words
from .activation import Activator, Refused, not_ready
from .replies import grpc_text, unknown_model

SERVICE = "envoy.service.auth.v3.Authorization"

_REST_MODEL = re.compile(r"/v[12]/models/([^/:?]+)")
_GRPC_MODEL = tuple(f"/{words.GRPC_SERVICE}/{method}" for method in words.GRPC_MODEL_METHODS)
_DENIED = 7  # any code but 0 (google.rpc.Code); Envoy answers with the HTTP status

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class Question(NamedTuple):
    """A request as the cold listener sees it. ``model`` empty: it names none. ``came_from``: the target (see
    ``GatewayTables.endpoints``) whose pods it has been to; empty: its model's scope said cold. ``attempt``: 1, 2…"""

    service: ServiceKey
    model: str
    host: str
    grpc: bool
    came_from: str
    attempt: int


class AuthorizationService:
    """``endpoints(target)``: the pods of a cluster. ``admitted(context)``: whether the caller is a gateway of ours."""

    def __init__(
        self,
        activator: Activator,
        endpoints: Callable[[str], frozenset[Endpoint]],
        admitted: Callable[[Context], bool],
    ) -> None:
        self._activator = activator
        self._endpoints = endpoints
        self._admitted = admitted

    def handlers(self) -> grpc.GenericRpcHandler:
        """To be added to a server."""
        check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._check)  # bytes in, out
        return grpc.method_handlers_generic_handler(SERVICE, {"Check": check})

    async def _check(self, request: bytes, context: Context) -> bytes:
        if not self._admitted(context):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the client certificate names no Shoal gateway")
        question = read(external_auth_pb2.CheckRequest.FromString(request).attributes)
        if question.model:
            answer = await self._activator.check(
                question.service,
                question.model,
                lambda: self._endpoints(question.came_from) if question.came_from else frozenset(),
                again=not question.came_from and question.attempt > 1,
            )
        else:
            answer = not_ready()
        said: bytes = write(question, answer).SerializeToString()
        return said


def read(attributes: attribute_context_pb2.AttributeContext) -> Question:
    """The request behind Envoy's question. The main listener has put host, path and model header into the canonical
    form (see ``lua/normalise.lua``); this finds in them what the scope's key was made of."""
    http = attributes.request.http
    service, _, rest = http.host.partition(".")
    model = ""
    if match := _REST_MODEL.match(http.path):
        model = match[1]
    elif http.path in _GRPC_MODEL:
        model = http.headers.get(words.MODEL_HEADER, "")
    attempt = http.headers.get(words.ATTEMPT_HEADER, "")
    return Question(
        ServiceKey(rest.partition(".")[0], service),
        model,
        http.host,
        http.headers.get("content-type", "").startswith("application/grpc"),
        attributes.destination.address.envoy_internal_address.endpoint_id,
        int(attempt) if attempt.isdecimal() else 1,
    )


def write(question: Question, answer: Endpoint | Refused | None) -> external_auth_pb2.CheckResponse:
    """Envoy's orders: the pod's address as metadata for the cluster ``pod``, or the reply to the client."""
    response = external_auth_pb2.CheckResponse()
    if isinstance(answer, Endpoint):
        response.ok_response.SetInParent()
        response.dynamic_metadata[words.POD] = _address(answer, grpc=question.grpc)
        return response
    if answer is None:
        answer = Refused(404, "ModelNotFound", unknown_model(question.model, question.host))
    response.status.code = _DENIED
    denied = response.denied_response
    denied.status.code = answer.status
    if answer.retry_after is not None:
        denied.headers.add().header.MergeFrom(_header("retry-after", str(max(1, math.ceil(answer.retry_after)))))
    if question.grpc:
        denied.body = grpc_text(answer.reason, answer.message)
    else:
        denied.headers.add().header.MergeFrom(_header("content-type", "application/json"))
        denied.body = json.dumps({"error": answer.message, "reason": answer.reason})
    return response


def _address(endpoint: Endpoint, *, grpc: bool) -> str:
    port = endpoint.grpc_port if grpc else endpoint.http_port
    return f"[{endpoint.ip}]:{port}" if ":" in endpoint.ip else f"{endpoint.ip}:{port}"


def _header(name: str, value: str) -> base_pb2.HeaderValue:
    return base_pb2.HeaderValue(key=name, value=value)
