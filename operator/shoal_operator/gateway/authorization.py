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
from shoal_api.grammar import MODEL_NAME, NAMESPACE, SERVICE_NAME

from shoal_operator.state.world.values import ServiceKey
from shoal_operator.state.world.views import Endpoint

from . import lacking
from . import vocabulary as words
from .activation import Activator, Cost, Ready, Refused, Told, not_ready
from .held import held_bytes
from .last_metadata import as_message
from .replies import ASKED_FOR_NOTHING, grpc_text, unknown_model
from .surface import native_expressions

SERVICE = "envoy.service.auth.v3.Authorization"

_REST_MODEL = re.compile(r"/v[12]/models/([^/:?]+)")
_REST_INFER = re.compile(r"/v2/models/[^?]+/(infer|generate)(_stream)?(\?|$)|/v1/models/[^/?]+:(predict|explain)(\?|$)")
_REST_METADATA = re.compile(r"/v2/models/[^/?]+(/versions/[^/?]+)?(\?|$)")
_GRPC_METADATA = f"/{words.GRPC_SERVICE}/ModelMetadata"
_REST_LIST = re.compile(r"/v1/models(\?|$)")
_GRPC_INFER = tuple(f"/{words.GRPC_SERVICE}/{method}" for method in words.GRPC_INFER_METHODS)
_GRPC_MODEL = tuple(f"/{words.GRPC_SERVICE}/{method}" for method in words.GRPC_MODEL_METHODS)
_NATIVE = tuple(re.compile(expression + r"(\?|$)") for expression in native_expressions())
_MAX_SHOWN = 256
_DIGITS = 15  # of a number that a client wrote; no number of bytes that matters has more
_DENIED = 7  # any code but 0 (google.rpc.Code); Envoy answers with the HTTP status

Answer: TypeAlias = Endpoint | Refused | Ready | Told | None
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class Question(NamedTuple):
    """A request as the cold listener sees it. ``model`` empty: it names none. ``came_from``: the target (see
    ``GatewayTables.endpoints``) whose pods it has been to; empty: its model's scope said cold. ``attempt``: 1, 2…
    ``body_bytes`` None: not known. ``received``: of them, those that the main listener has read already. ``asks``: it
    only asks about the model. ``lists``: it asks which models there are; ``describes``: for a model's metadata."""

    service: ServiceKey
    model: str
    host: str
    grpc: bool
    came_from: str
    attempt: int
    body_bytes: int | None
    asks: bool = False
    received: int = 0
    lists: bool = False
    describes: bool = False

    @property
    def held_bytes(self) -> int:
        """What it takes of its gateway while it is held."""
        return held_bytes(self.body_bytes, retried=bool(self.came_from), received=self.received)

    @property
    def can_be_known(self) -> bool:
        """Its names are names: nothing else is asked of the activator."""
        named = NAMESPACE.matches(self.service.namespace) and SERVICE_NAME.matches(self.service.name)
        return named and (not self.model or MODEL_NAME.matches(self.model))


class AuthorizationService:
    """``endpoints(target)``: the pods of a cluster. ``admitted(context)``: whether the caller is a gateway of ours.
    ``home(service, model)``: whose model it is, as a host may be called otherwise."""

    def __init__(
        self,
        activator: Activator,
        endpoints: Callable[[str], frozenset[Endpoint]],
        admitted: Callable[[Context], bool],
        home: Callable[[ServiceKey, str], ServiceKey] = lambda service, model: service,
    ) -> None:
        self._home = home
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
        answer: Answer
        if not question.can_be_known:
            answer = None
        elif question.model:
            service = self._home(question.service, question.model)
            answer = await self._activator.check(
                service,
                question.model,
                lambda: self._endpoints(question.came_from) if question.came_from else frozenset(),
                again=not question.came_from and question.attempt > 1,
                cost=Cost(_gateway(context.peer()), question.held_bytes),
                asks=question.asks,
            )
            if isinstance(answer, Ready) and question.describes:
                answer = self._activator.described(service, question.model)
        elif question.lists:
            answer = self._activator.listed(question.service)
        else:
            answer = not_ready()
        said: bytes = write(question, answer).SerializeToString()
        return said


def read(attributes: attribute_context_pb2.AttributeContext) -> Question:
    """The request behind Envoy's question. The main listener has put host, path and model header into the canonical
    form (see ``lua/normalise.lua``); this finds in them what the scope's key was made of."""
    http = attributes.request.http
    service, _, rest = http.host.partition(".")
    model, native = "", ""
    if match := _REST_MODEL.match(http.path):
        model = match[1]
    elif native := _native(http.path):
        model = native
    elif http.path in _GRPC_MODEL:
        model = http.headers.get(words.MODEL_HEADER, "")
    attempt = _number(http.headers.get(words.ATTEMPT_HEADER, ""))
    came_from = attributes.destination.address.envoy_internal_address.endpoint_id
    body_bytes = 0 if http.method in ("GET", "HEAD") else _number(http.headers.get("content-length", ""))
    received = 0
    is_grpc = http.headers.get("content-type", "").startswith("application/grpc")
    if is_grpc and http.path in _GRPC_INFER and not came_from:  # on other ways it is the client's own word
        so_far, _, complete = http.headers.get(words.RECEIVED_HEADER, "").partition(" ")
        received = _number(so_far) or 0
        if received and complete.isdecimal():
            body_bytes = received
    return Question(
        ServiceKey(rest.partition(".")[0], service),
        model,
        http.host,
        is_grpc,
        came_from,
        1 if attempt is None else attempt,
        body_bytes,
        not (http.path in _GRPC_INFER or (http.method == "POST" and (_REST_INFER.match(http.path) or native))),
        received,
        _REST_LIST.match(http.path) is not None,
        http.path == _GRPC_METADATA or _REST_METADATA.match(http.path) is not None,
    )


def _native(path: str) -> str:
    """The model's name in a path of a server's own; empty where it is none."""
    return next((found[1] for expression in _NATIVE if (found := expression.match(path))), "")


def write(question: Question, answer: Answer) -> external_auth_pb2.CheckResponse:
    """Envoy's orders: the pod's address as metadata for the cluster ``pod``, or the reply to the client."""
    response = external_auth_pb2.CheckResponse()
    if isinstance(answer, Endpoint):
        response.ok_response.SetInParent()
        response.dynamic_metadata[words.POD] = _address(answer, grpc=question.grpc)
        if rules := lacking.rules(answer.server_type):
            response.dynamic_metadata[words.LACKS] = rules
        return response
    if isinstance(answer, Told) and question.grpc:
        response.ok_response.SetInParent()
        response.dynamic_metadata[words.TOLD] = framed(as_message(answer.body)).hex()
        return response
    if isinstance(answer, Told):
        return _said(response, 200, answer.body, {"content-type": "application/json"})
    if isinstance(answer, Ready) and not question.grpc:
        body = json.dumps({"name": question.model, "ready": True})
        return _said(response, 200, body, {"content-type": "application/json"})
    if isinstance(answer, Ready):
        answer = Refused(503, *ASKED_FOR_NOTHING)  # no message can be answered from here
    if answer is None:
        answer = Refused(404, "ModelNotFound", _unknown(question))
    headers = {}
    if answer.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(answer.retry_after)))
    if question.grpc:
        return _said(response, answer.status, grpc_text(answer.reason, answer.message), headers)
    headers["content-type"] = "application/json"
    return _said(response, answer.status, json.dumps({"error": answer.message, "reason": answer.reason}), headers)


def framed(message: bytes) -> bytes:
    """As gRPC sends it: not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _said(
    response: external_auth_pb2.CheckResponse, status: int, body: str, headers: dict[str, str]
) -> external_auth_pb2.CheckResponse:
    response.status.code = _DENIED
    response.denied_response.status.code = status
    response.denied_response.body = body
    for name, value in headers.items():
        response.denied_response.headers.add().header.MergeFrom(base_pb2.HeaderValue(key=name, value=value))
    return response


def _unknown(question: Question) -> str:
    """What is no name is not repeated: it may be long, or hold anything."""
    model = question.model if MODEL_NAME.matches(question.model) else "(no model's name)"
    return unknown_model(model, question.host[:_MAX_SHOWN], artifacts=True)


def _number(text: str) -> int | None:
    """One that a client or Envoy wrote; None: it is none."""
    return int(text[:_DIGITS]) if text.isascii() and text.isdecimal() else None


def _gateway(peer: str) -> str:
    """gRPC's name of a connection, ``ipv4:10.0.0.1:33044``, without the port: a gateway has one for each worker."""
    return peer.rpartition(":")[0]


def _address(endpoint: Endpoint, *, grpc: bool) -> str:
    port = endpoint.grpc_port if grpc else endpoint.http_port
    return f"[{endpoint.ip}]:{port}" if ":" in endpoint.ip else f"{endpoint.ip}:{port}"
