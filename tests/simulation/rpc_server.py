"""The server's side of gRPC over wires: what `grpc.aio` gives a servicer, written anew, as the real one is compiled.

Invariants
    each call runs in a task of its own, in the context in which the server was started
    a handler is cancelled if its call ends before its status was sent, and only then
    a handler that raises ends its call UNKNOWN, one that aborts with what it said
    after `stop` has returned no handler runs and no connection is open
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

import grpc
from grpc import _common
from grpc._cython import cygrpc

from tests.simulation.rpc_link import Link
from tests.simulation.rpc_stream import Metadata, Options, ServerStream, Status
from tests.simulation.wires import HERE, End, Wires

_LOGGER = logging.getLogger("grpc._cython.cygrpc")


class CallDetails(NamedTuple):
    """`grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: Metadata


class SimulatedServer(grpc.aio.Server):
    """`grpc.aio.server(...)`, on the host on which the code runs that starts it."""

    def __init__(
        self, wires: Wires, *, interceptors: Sequence[Any] = (), options: Iterable[tuple[str, Any]] = ()
    ) -> None:
        self._wires = wires
        self._loop = wires.loop
        self._interceptors = tuple(interceptors)
        self._options = Options.of(tuple(options))
        self._generic: list[Any] = []
        self._registered: dict[str, Any] = {}
        self._addresses: list[str] = []
        self._links: dict[Link, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._is_stopping = False
        self._is_stopped = False
        self._is_started = False
        self._changed = asyncio.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        self._generic.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: dict[str, Any]) -> None:
        for name, handler in method_handlers.items():
            self._registered[f"/{service_name}/{name}"] = handler

    def add_insecure_port(self, address: str) -> int:
        host, _, port = address.rpartition(":")
        if port == "0":
            address = self._wires.free_address(HERE.get(), host)
        if self._wires.is_listening(address):
            raise RuntimeError(f"Failed to bind to address {address}; set GRPC_VERBOSITY=debug to see errors")
        self._addresses.append(address)
        return int(address.rpartition(":")[2])

    def add_secure_port(self, address: str, server_credentials: Any) -> NoReturn:
        raise NotImplementedError

    async def start(self) -> None:
        self._is_started = True
        for address in self._addresses:
            self._wires.listen(HERE.get(), address, self._accept)

    async def stop(self, grace: float | None) -> None:
        if not self._is_started or self._is_stopped:
            return
        if not self._is_stopping:
            self._is_stopping = True
            for address in self._addresses:
                self._wires.stop_listening(address)
            for link in list(self._links):
                link.goaway()
        try:
            async with asyncio.timeout(grace or 0):
                await self._until_idle()
        except TimeoutError:
            for link in list(self._links):
                link.close("Server shutdown")
            await self._until_idle()
        self._is_stopped = True
        self._changed.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(timeout):
                while not self._is_stopped:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return True
        return False

    @property
    def is_stopped(self) -> bool:
        return self._is_stopped

    async def _until_idle(self) -> None:
        while self._links or self._tasks:
            self._changed.clear()
            await self._changed.wait()

    def _accept(self, end: End) -> None:
        link = Link(end, self._options, self._wires.random, on_call=self._begin, on_lost=self._lost)
        self._links[link] = None

    def _lost(self, link: Link) -> None:
        self._links.pop(link, None)
        self._changed.set()

    def _begin(self, stream: ServerStream) -> None:
        state = _CallState(self, stream)
        task = self._loop.create_task(self._carry_out(state), name=stream.method)
        self._tasks[task] = None

        def ended(_: asyncio.Task[None]) -> None:
            state.run_callbacks()
            self._tasks.pop(task, None)
            self._changed.set()

        def cancelled() -> None:
            if not task.done() and not state.is_status_sent:
                task.cancel()

        task.add_done_callback(ended)
        stream.on_cancelled = cancelled

    async def _carry_out(self, state: _CallState) -> None:
        stream = state.stream
        try:
            await self._handle(state)
        except grpc.aio.AbortError as error:
            assert state.aborted is error, "Abort error has been replaced!"
        except asyncio.CancelledError:
            pass  # the real one notes it for debugging
        except _ServerStopped:
            pass
        except Exception as error:
            if isinstance(error, cygrpc.ExecuteBatchError):
                if not stream.was_cancelled:
                    _LOGGER.exception("an operation failed in %s", stream.method)
                return
            _LOGGER.exception("Unexpected [%s] raised by servicer method [%s]", type(error).__name__, stream.method)
            if not state.is_status_sent and not self._is_stopped:
                code = grpc.StatusCode.UNKNOWN if state.code is grpc.StatusCode.OK else state.code
                try:
                    await state.send_status(code, f"Unexpected {type(error)}: {error}", state.trailing_metadata)
                except cygrpc.ExecuteBatchError:
                    _LOGGER.exception("Failed sending error status from server")

    async def _handle(self, state: _CallState) -> None:
        stream = state.stream
        handler = await self._find(self._interceptors, CallDetails(stream.method, stream.metadata))
        if handler is None:
            await state.send_status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        context = SimulatedContext(state, handler)
        request: Any
        if handler.request_streaming:
            request = _Requests(context)
        else:
            raw = await stream.receive()
            if raw is None:
                return
            request = _common.deserialize(raw, handler.request_deserializer)
        if handler.response_streaming:
            await self._answer_many(handler.stream_stream or handler.unary_stream, request, context)
            state.check_running()
        else:
            answer = await (handler.stream_unary or handler.unary_unary)(request, context)
            state.check_running()
            ok = state.code is grpc.StatusCode.OK
            stream.send(_common.serialize(answer, handler.response_serializer) if ok else b"")
        await state.send_status(state.code, state.details, state.trailing_metadata)

    async def _answer_many(self, method: Any, request: Any, context: SimulatedContext) -> None:
        if inspect.iscoroutinefunction(method):
            await method(request, context)
            return
        assert inspect.isasyncgenfunction(method), f"{method} needs a thread, and the simulation has none"
        async for answer in method(request, context):
            context._state.check_running()
            await context.write(answer)

    async def _find(self, interceptors: tuple[Any, ...], details: Any) -> Any:
        if interceptors:
            return await interceptors[0].intercept_service(partial(self._find, interceptors[1:]), details)
        registered = self._registered.get(details.method)
        if registered is not None:
            return registered
        for generic in self._generic:
            handler = generic.service(details)
            if handler is not None:
                return handler
        return None


class _ServerStopped(Exception):
    pass


class _CallState:
    """Where one call stands."""

    def __init__(self, server: SimulatedServer, stream: ServerStream) -> None:
        self.stream = stream
        self.code: grpc.StatusCode = grpc.StatusCode.OK
        self.given_code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing_metadata: Metadata = ()
        self.aborted: grpc.aio.AbortError | None = None
        self.are_headers_sent = False
        self.is_status_sent = False
        self.callbacks: list[Callable[[], None]] = []
        self._server = server

    def check_running(self) -> None:
        """After the handler's code had its say."""
        if self.aborted is not None:
            raise self.aborted
        if self.is_status_sent:
            raise cygrpc.UsageError("RPC already finished.")
        if self._server.is_stopped:
            raise _ServerStopped

    async def send_status(self, code: grpc.StatusCode, details: str, metadata: Metadata = ()) -> None:
        self.is_status_sent = True
        self.send_headers_if_due()
        await self.stream.send_status(Status(code, details, metadata))

    def send_headers_if_due(self) -> None:
        if not self.are_headers_sent:
            self.are_headers_sent = True
            self.stream.send_headers(())

    def run_callbacks(self) -> None:
        try:
            for callback in self.callbacks:
                callback()
        except Exception:
            _LOGGER.exception("Error in callback for method [%s]", self.stream.method)


class SimulatedContext(grpc.aio.ServicerContext):
    """What a handler is given."""

    def __init__(self, state: _CallState, handler: Any) -> None:
        self._state = state
        self._handler = handler

    async def read(self) -> Any:
        self._state.check_running()
        raw = await self._state.stream.receive()
        self._state.check_running()
        return cygrpc.EOF if raw is None else _common.deserialize(raw, self._handler.request_deserializer)

    async def write(self, message: Any) -> None:
        self._state.check_running()
        raw = _common.serialize(message, self._handler.response_serializer)
        self._state.send_headers_if_due()
        await self._state.stream.send(raw)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._state.check_running()
        if self._state.are_headers_sent:
            raise cygrpc.UsageError("Send initial metadata failed: already sent")
        self._state.are_headers_sent = True
        await self._state.stream.send_headers(tuple(initial_metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        state = self._state
        if state.aborted is not None:
            raise cygrpc.UsageError("Abort already called!")
        assert code is not grpc.StatusCode.OK, "an abort is no success"
        state.aborted = grpc.aio.AbortError("Locally aborted.")
        state.trailing_metadata = tuple(trailing_metadata) or state.trailing_metadata
        state.details = details or state.details
        self.set_code(code)
        await state.send_status(code, state.details, state.trailing_metadata)
        raise state.aborted

    async def abort_with_status(self, status: Any) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._state.trailing_metadata = tuple(trailing_metadata)

    def trailing_metadata(self) -> Metadata:
        return self._state.trailing_metadata

    def invocation_metadata(self) -> Metadata:
        return self._state.stream.metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self._state.code = self._state.given_code = code

    def code(self) -> grpc.StatusCode | None:
        return self._state.given_code

    def set_details(self, details: str) -> None:
        self._state.details = details

    def details(self) -> str:
        return self._state.details

    def set_compression(self, compression: Any) -> None:
        pass

    def disable_next_message_compression(self) -> None:
        pass

    def peer(self) -> str:
        return self._state.stream.peer

    def peer_identities(self) -> None:
        return None

    def peer_identity_key(self) -> None:
        return None

    def auth_context(self) -> dict[str, Any]:
        return {}

    def time_remaining(self) -> float | None:
        deadline = self._state.stream.deadline
        return None if deadline is None else max(0.0, deadline - self._state.stream.loop.time())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._state.callbacks.append(partial(callback, self))

    def done(self) -> bool:
        return self._state.is_status_sent

    def cancelled(self) -> bool:
        return self._state.code is grpc.StatusCode.CANCELLED


class _Requests:
    """The requests of a stream, for a handler that iterates."""

    def __init__(self, context: SimulatedContext) -> None:
        self._context = context
        self._requests: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._requests is None:
            self._requests = self._read()
        return self._requests

    async def __anext__(self) -> Any:
        return await self.__aiter__().__anext__()

    async def _read(self) -> AsyncIterator[Any]:
        while (request := await self._context.read()) is not cygrpc.EOF:
            yield request
