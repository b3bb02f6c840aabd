"""The one place where an exception becomes an answer, so that no servicer has an `except`.

Invariants
    a LograftError ends the call with its status; anything else is our mistake: INTERNAL with an id, logged in full
    bytes that are no request are the sender's mistake: INVALID_REQUEST, and nothing in our log
    cancellation passes through untouched, and so does a write that fails because the client is gone
    every call is counted once, under the code it ended with; each that changes something is logged, in one line
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from ...proto.errors import BrokerUnavailable, InvalidRequest, LograftError, NotLeader, RequestTimedOut
from ..metrics import Metrics
from .call_counts import CallCounts
from .large_messages import DECODERS
from .request_log import CHANGING, REQUEST_ID, RequestIds, given_id, log_call
from .status import grpc_code, status_of

Decode = Callable[[bytes], Any]
Encode = Callable[[Any], bytes]
Method = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]

log = structlog.get_logger("rpc")


class ErrorTranslation(grpc.aio.ServerInterceptor):
    """Wraps every method of our own services; health and reflection keep their own ways.

    `complete` adds what is known here to an error that names a leader: its address.
    """

    def __init__(
        self,
        metrics: Metrics,
        complete: Callable[[LograftError], LograftError] = lambda error: error,
        calls: CallCounts | None = None,
    ) -> None:
        self._metrics = metrics
        self._complete = complete
        self._calls = calls or CallCounts(2**31, 2**31)
        self.ids = RequestIds()
        self.stopping = False
        """Set when the broker begins to stop: calls that begin afterwards are told to go elsewhere."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        name = handler_call_details.method
        if handler is None or not name.startswith("/lograft.v1."):
            return handler
        api = name.rpartition("/")[2]
        coding = {
            "request_deserializer": _or_why_not(DECODERS.get(api) or cast(Decode, handler.request_deserializer)),
            "response_serializer": _unless_written(cast(Encode, handler.response_serializer)),
        }
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._translated(api, cast(Method, handler.unary_unary), handler_call_details), **coding
            )
        assert handler.stream_stream is not None, f"{name}: no wrapper for this kind of method"
        return grpc.stream_stream_rpc_method_handler(
            self._translated(api, cast(Method, handler.stream_stream), handler_call_details), **coding
        )

    def _note_id(self, api: str, details: grpc.HandlerCallDetails) -> str:
        """The call's id, which goes with it to other brokers; empty if it has none."""
        metadata = details.invocation_metadata
        request_id = self.ids.given_or_drawn(metadata) if api in CHANGING else given_id(metadata)
        REQUEST_ID.set(request_id)
        return request_id

    def _translated(self, api: str, method: Method, details: grpc.HandlerCallDetails) -> Method:
        measures = self._metrics.requests.api(api)

        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
            began = time.monotonic()
            began_in_loop = asyncio.get_running_loop().time()
            measures.in_flight.inc()
            code, reason = grpc.StatusCode.CANCELLED, "CANCELLED"
            request_id = self._note_id(api, details)
            try:
                if self.stopping:
                    raise BrokerUnavailable("this broker is stopping; ask another one")
                with self._calls.counted(context.peer()):
                    answer = await method(_read(request), context)
                code, reason = grpc.StatusCode.OK, ""
                return answer
            except (grpc.aio.AbortError, grpc.aio.InternalError):
                # The second is how gRPC says, as it happens instead of a cancellation, that what a method wrote cannot
                # be sent any more: the client is gone.
                raise
            except TimeoutError:
                error = RequestTimedOut(f"{api} took longer than a call may; what was asked may still happen")
                code, reason = grpc_code(error), error.reason
                await _abort(context, with_request_id(error, request_id))
            except LograftError as error:
                code, reason = grpc_code(error), error.reason
                await _abort(context, with_request_id(self._complete(error), request_id))
            except Exception:
                code, reason = grpc.StatusCode.INTERNAL, "INTERNAL"
                error_id = request_id or secrets.token_hex(4)
                log.exception("call failed unexpectedly", api=api, error_id=error_id, peer=context.peer())
                await _abort(
                    context,
                    LograftError(f"unexpected failure {error_id}; the broker's log has the cause", error_id=error_id),
                )
            finally:
                measures.in_flight.dec()
                measures.ended(code.name, time.monotonic() - began)
                if api in CHANGING and reason != NotLeader.reason:  # then it is carried out, and logged, elsewhere
                    took = asyncio.get_running_loop().time() - began_in_loop
                    log_call(api, request, request_id, code.name, reason, context.peer(), took)

        return call


def with_request_id(error: LograftError, request_id: str) -> LograftError:
    if request_id and not isinstance(error, NotLeader):
        error.facts["request_id"] = request_id
    return error


def _or_why_not(decode: Decode) -> Decode:
    """`decode`, but of bytes that are no such message it gives the error, to be raised where errors are translated."""

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return InvalidRequest(f"{len(data)} bytes came that are no such request; check the client's version")

    return read


def _unless_written(encode: Encode) -> Encode:
    """`encode`, but of an answer that is on the wire already it is the answer itself."""
    return lambda answer: answer if isinstance(answer, bytes) else encode(answer)


def _read(request: Any) -> Any:
    """The request, or the requests of a stream. Raises InvalidRequest, at the one that could not be read."""
    if isinstance(request, InvalidRequest):
        raise request
    return _each_read(request) if hasattr(request, "__aiter__") else request


async def _each_read(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, InvalidRequest):
            raise request
        yield request


async def _abort(context: grpc.aio.ServicerContext, error: LograftError) -> None:
    status = rpc_status.to_status(status_of(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
