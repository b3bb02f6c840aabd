"""What becomes of one request: which handler carries it out, in which version, and what is answered if none does.

Invariants
    an API or version that is not in the table ends the connection, as Kafka does; only ApiVersions is always answered,
        in its version 0 and with the versions that there are (KIP-511)
    handlers raise LograftError for the whole of a request only where its answer has a place for that
    every request that came whole is counted once
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

from ...proto.record_batch import Buffer
from ..metrics import Metrics
from .apis import API_VERSIONS, APIS, FETCH, HEARTBEAT, PRODUCE, Api
from .codec import decode_request, encode_response, request_codec, response_codec
from .connection import Answer, KafkaConnection
from .errors import NONE, name_of
from .frames import MalformedRequest, RequestHead, read_client_id
from .hot_codec import PRODUCE_FLEXIBLE_FROM, heartbeat_response, read_produce_request

UNSUPPORTED_VERSION = 35


class Call(NamedTuple):
    """Who asks, and in which version."""

    version: int
    client_id: str
    host: str
    peer: str
    """As the budgets name it."""


class Requests:
    """Decodes, dispatches, encodes and counts.

    `handlers` has a method for each API, by its name: a coroutine function of (request, call) that returns the answer's
    fields. Those for Produce and Fetch take the answer as well: see there.
    """

    def __init__(self, handlers: Any, metrics: Metrics) -> None:
        self._handlers = handlers
        self._metrics = metrics

    def take(
        self, frame: Buffer, head: RequestHead, answer: Answer, connection: KafkaConnection
    ) -> Coroutine[Any, Any, None] | None:
        api = APIS.get(head.api_key)
        if api is None or not api.answers(head.api_version):
            if head.api_key == API_VERSIONS:
                self._refuse_version(answer)
                return None
            raise MalformedRequest(f"request {head.api_key} of version {head.api_version} is not known here")
        if api.bytes_max is not None and len(frame) > api.bytes_max:
            raise MalformedRequest(f"a {api.name} request of {len(frame)} bytes; {api.bytes_max} are the most")
        if api.key == PRODUCE:
            # Of this one no schema is needed; the first of each is loaded in the midst of a request.
            is_flexible = head.api_version >= PRODUCE_FLEXIBLE_FROM
        else:
            is_flexible = request_codec(api.key, head.api_version).is_flexible
        client_id, position = read_client_id(frame, is_flexible=is_flexible)
        call = Call(head.api_version, client_id, connection.host, connection.peer)
        if api.key == PRODUCE:
            produced = read_produce_request(frame, position, head.api_version)
            coroutine: Coroutine[Any, Any, None] | None = self._handlers.produce(produced, call, answer)
            return coroutine
        request = decode_request(api.key, head.api_version, frame, position)
        return self._carry_out(api, request, call, answer)

    async def _carry_out(self, api: Api, request: Any, call: Call, answer: Answer) -> None:
        began = time.monotonic()
        handler = getattr(self._handlers, api.method)
        measures = self._metrics.requests.api(f"Kafka{api.name}")
        measures.in_flight.inc()
        code = "CANCELLED"
        try:
            if api.key == FETCH:
                body: list[Buffer] = await handler(request, call, answer)
                code = name_of(NONE)
            else:
                told: Mapping[str, Any] = await handler(request, call)
                if api.key == HEARTBEAT:
                    body = [heartbeat_response(call.version, told["error_code"])]
                else:
                    body = [encode_response(api.key, call.version, told)]
                code = name_of(told.get("error_code", NONE))
        finally:
            measures.in_flight.dec()
            measures.ended(code, time.monotonic() - began)
        answer.give(body, is_flexible=response_codec(api.key, call.version).is_flexible)

    def _refuse_version(self, answer: Answer) -> None:
        api = APIS[API_VERSIONS]
        known = {"api_key": api.key, "min_version": api.lowest, "max_version": api.highest}
        answer.give([encode_response(API_VERSIONS, 0, {"error_code": UNSUPPORTED_VERSION, "api_keys": [known]})])
