"""The client's side of gRPC over wires: real `grpc.aio` calls on a channel of ours.

`grpc.aio` is Python above a core in C. The Python (the call objects, with their ways to read, write, await and cancel)
is the real one; below it stand `SimulatedCore` and `SimulatedCall` where the compiled `AioChannel` and `_AioCall` do.

Invariants
    a channel holds at most one connection that takes new calls; it connects when a call needs it
    while it cannot connect, calls fail at once (UNAVAILABLE) unless they wait for readiness; it tries again by itself
    no wall clock: deadlines are in the loop's time
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio import _call as aio_call
from grpc.aio import _channel as aio_channel

from tests.simulation.rpc_link import Link
from tests.simulation.rpc_stream import ClientStream, Metadata, Options, Status
from tests.simulation.wires import HERE, Wires

_BACKOFF_FACTOR = 1.6
_BACKOFF_JITTER = 0.2
_CYGRPC_CODES = {code: getattr(cygrpc.StatusCode, code.name.lower()) for code in grpc.StatusCode}


class SimulatedChannel(aio_channel.Channel):
    """`grpc.aio.Channel` to `address`, from the host on which the code runs that makes it."""

    def __init__(self, wires: Wires, address: str, options: Iterable[tuple[str, Any]] = ()) -> None:
        options = tuple(options)
        self._loop = wires.loop
        self._channel = self._core = SimulatedCore(wires, address, Options.of(options))
        agent = dict(options).get("grpc.primary_user_agent")
        self._sent_metadata: Metadata = (
            ("user-agent", f"{agent} grpc-python-asyncio" if agent else "grpc-python-asyncio"),
        )
        # Held until they are done, in order: what garbage collection cancels, and in which order a set of them is
        # gone through, does not follow from the seed.
        self._calls: dict[Any, None] = {}

    def unary_unary(self, method: str, *coding: Any, **more: Any) -> Any:
        return self._method(aio_call.UnaryUnaryCall, method, *coding, **more)

    def unary_stream(self, method: str, *coding: Any, **more: Any) -> Any:
        return self._method(aio_call.UnaryStreamCall, method, *coding, **more)

    def stream_unary(self, method: str, *coding: Any, **more: Any) -> Any:
        return self._method(aio_call.StreamUnaryCall, method, *coding, **more)

    def stream_stream(self, method: str, *coding: Any, **more: Any) -> Any:
        return self._method(aio_call.StreamStreamCall, method, *coding, **more)

    async def _close(self, grace: float | None) -> None:
        if self._core.closed():
            return
        self._core.closing()
        if grace:
            under_way = [self._loop.create_task(call.code()) for call in self._calls if not call.done()]
            if under_way:
                await asyncio.wait(under_way, timeout=grace)
        for call in list(self._calls):
            call.cancel()
        self._core.close()

    def __del__(self) -> None:
        pass  # as for calls

    def _method(
        self,
        make_call: Callable[..., Any],
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool = False,
    ) -> Any:
        def call(
            request: Any = None,
            timeout: float | None = None,
            metadata: Any = None,
            credentials: Any = None,
            wait_for_ready: bool | None = None,
            compression: Any = None,
        ) -> Any:
            deadline = None if timeout is None else self._loop.time() + timeout
            made = make_call(
                request,
                deadline,
                (*self._sent_metadata, *(metadata or ())),
                None,
                wait_for_ready,
                self._core,
                method.encode(),
                request_serializer,
                response_deserializer,
                self._loop,
            )
            self._calls[made] = None
            made.add_done_callback(lambda done: self._calls.pop(done, None))
            return made

        return call


class SimulatedCore:
    """Stands where `cygrpc.AioChannel` does: keeps one connection, and gives calls to it."""

    def __init__(self, wires: Wires, address: str, options: Options) -> None:
        self.loop = wires.loop
        self.options = options
        self._wires = wires
        self._host = HERE.get()
        self._context = copy_context()
        self._address = address
        self._link: Link | None = None
        self._links: dict[Link, None] = {}
        self._waiting: dict[ClientStream, None] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._failure: str | None = None
        """Why the last attempt to connect failed; None since one went well."""
        self._is_closing = False
        self._is_closed = False

    def call(
        self, method: bytes, deadline: float | None, credentials: Any, wait_for_ready: bool | None, handle: int
    ) -> SimulatedCall:
        if self._is_closing:
            raise cygrpc.UsageError("Channel is closed.")
        stream = ClientStream(self.loop, self.options, method.decode(), deadline, bool(wait_for_ready))
        return SimulatedCall(self, stream)

    def begin(self, stream: ClientStream) -> None:
        """Let the call go out, as soon as there is a connection."""
        if stream.is_over:
            return
        if self._link is not None:
            stream.attach(self._link)
        elif self._failure is not None and not stream.wait_for_ready:
            self.loop.call_soon(stream.finish, self._unreachable())
        else:
            self._waiting[stream] = None
            stream.status.add_done_callback(lambda _: self._waiting.pop(stream, None))
            self._connect()

    def get_registered_call_handle(self, method: bytes) -> int:
        return 0

    def check_connectivity_state(self, try_to_connect: bool) -> Any:
        if try_to_connect and not self._is_closing and self._link is None:
            self._connect()
        states = cygrpc.ConnectivityState
        if self._is_closing:
            return states.shutdown
        if self._link is not None:
            return states.ready
        if self._failure is not None:
            return states.transient_failure
        return states.idle if self._connecting is None else states.connecting

    def closing(self) -> None:
        self._is_closing = True

    def closed(self) -> bool:
        return self._is_closed or self._is_closing

    def close(self) -> None:
        self._is_closing = self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for stream in list(self._waiting):
            stream.finish(Status(grpc.StatusCode.CANCELLED, "Channel closed!"))
        for link in list(self._links):
            link.close("Channel closed!")

    def _connect(self) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = self.loop.create_task(self._keep_connecting(), context=self._context.copy())

    async def _keep_connecting(self) -> None:
        """Connect; after a failure try again, whether a call asks for it or not."""
        options, random = self.options, self._wires.random
        backoff_s = options.backoff_first_s
        while True:
            began = self.loop.time()
            next_s = backoff_s * random.uniform(1 - _BACKOFF_JITTER, 1 + _BACKOFF_JITTER)
            backoff_s = min(backoff_s * _BACKOFF_FACTOR, options.backoff_max_s)
            link: Link | None = None
            try:
                async with asyncio.timeout(max(next_s, options.connect_s)):
                    end = await self._wires.connect(self._host, self._address)
                    link = Link(end, options, random, on_lost=self._lost)
                    await link.settled
            except asyncio.CancelledError:
                if link is not None:
                    link.close("Channel closed!")
                raise
            except (OSError, TimeoutError) as error:
                if link is not None:
                    link.end.reset()
                    link.lose("not connected in time")
                self._failed(error.strerror if isinstance(error, OSError) and error.strerror else "timed out")
                await asyncio.sleep(max(0.0, began + next_s - self.loop.time()))
            else:
                self._connected(link)
                return

    def _connected(self, link: Link) -> None:
        self._failure = None
        if link.is_lost:
            return
        self._link = link
        self._links[link] = None
        waiting, self._waiting = self._waiting, {}
        for stream in waiting:
            if not stream.is_over:
                stream.attach(link)

    def _failed(self, why: str) -> None:
        self._failure = why
        for stream in list(self._waiting):
            if not stream.wait_for_ready:
                stream.finish(self._unreachable())

    def _unreachable(self) -> Status:
        return Status(
            grpc.StatusCode.UNAVAILABLE,
            f"failed to connect to all addresses; last error: UNKNOWN: ipv4:{self._address}: {self._failure}",
        )

    def _lost(self, link: Link) -> None:
        """Idle until the next call, unless calls wait."""
        if link.is_lost:
            self._links.pop(link, None)
        if link is self._link:
            self._link = None
            if self._waiting and not self._is_closing:
                self._connect()


class SimulatedCall:
    """Stands where `cygrpc._AioCall` does, below one real call object."""

    def __init__(self, core: SimulatedCore, stream: ClientStream) -> None:
        self._core = core
        self._stream = stream
        self._loop = core.loop
        self._status: Any = None
        self._initial_metadata: Metadata | None = None
        self._is_locally_cancelled = False
        self._done_callbacks: list[Callable[[], None]] = []
        self._status_waiters: list[asyncio.Future[None]] = []

    # State

    def done(self) -> bool:
        return self._status is not None

    def cancelled(self) -> bool:
        return self._status is not None and self._status.code() == cygrpc.StatusCode.cancelled

    def is_ok(self) -> bool:
        return self._status is not None and self._status.code() == cygrpc.StatusCode.ok

    def is_locally_cancelled(self) -> bool:
        return self._is_locally_cancelled

    def time_remaining(self) -> float | None:
        deadline = self._stream.deadline
        return None if deadline is None else max(0.0, deadline - self._loop.time())

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        if self.done():
            callback()
        else:
            self._done_callbacks.append(callback)

    async def status(self) -> Any:
        if self._status is None:
            told: asyncio.Future[None] = self._loop.create_future()
            self._status_waiters.append(told)
            await told
        return self._status

    async def initial_metadata(self) -> Metadata:
        return await asyncio.shield(self._stream.initial_metadata)

    def cancel(self, details: str) -> None:
        if details == aio_call._GC_CANCELLATION_DETAILS:
            return  # the channel itself is gone, and with it its simulation
        self._is_locally_cancelled = True
        self._set_status(Status(grpc.StatusCode.CANCELLED, details))
        self._stream.cancel(Status(grpc.StatusCode.CANCELLED, details))

    def set_internal_error(self, error: str) -> None:
        self._set_status(Status(grpc.StatusCode.INTERNAL, "Internal error from Core"), error)

    # Operations

    async def unary_unary(self, request: bytes, metadata: Any, context: Any = None) -> bytes | None:
        return await self._with_one_answer(metadata, request)

    async def stream_unary(
        self, metadata: Any, on_metadata_sent: Callable[[], None], context: Any = None
    ) -> bytes | None:
        self._begin(metadata)
        try:
            await self._stream.headers_sent
            on_metadata_sent()
            self._initial_metadata = await asyncio.shield(self._stream.initial_metadata)
        except cygrpc.ExecuteBatchError:
            self._set_status(await asyncio.shield(self._stream.status))
            on_metadata_sent()
            return None
        return await self._one_answer()

    async def initiate_unary_stream(self, request: bytes, metadata: Any, context: Any = None) -> None:
        self._watch_status()
        self._begin(metadata)
        sent = self._stream.send(request)
        closed = self._stream.half_close()
        try:
            await self._stream.headers_sent
            await sent
            await closed
            self._initial_metadata = await asyncio.shield(self._stream.initial_metadata)
        except cygrpc.ExecuteBatchError:
            await self.status()

    async def initiate_stream_stream(
        self, metadata: Any, on_metadata_sent: Callable[[], None], context: Any = None
    ) -> None:
        self._watch_status()
        self._begin(metadata)
        try:
            await self._stream.headers_sent
            on_metadata_sent()
            self._initial_metadata = await asyncio.shield(self._stream.initial_metadata)
        except cygrpc.ExecuteBatchError:
            await self.status()
            on_metadata_sent()

    async def receive_serialized_message(self) -> Any:
        message = await self._stream.receive()
        return cygrpc.EOF if message is None else message

    async def send_serialized_message(self, message: bytes) -> None:
        await self._stream.send(message)

    async def send_receive_close(self) -> None:
        await self._stream.half_close()

    # Inside

    def _begin(self, metadata: Any) -> None:
        self._stream.begin(tuple((key, value) for key, value in metadata))
        self._core.begin(self._stream)

    async def _with_one_answer(self, metadata: Any, request: bytes) -> bytes | None:
        self._begin(metadata)
        self._stream.send(request)
        self._stream.half_close()
        return await self._one_answer()

    async def _one_answer(self) -> bytes | None:
        message = await self._stream.receive()
        if message is not None:
            await self._stream.receive()  # a second one would be a mistake of the server; so the status comes
        status = await asyncio.shield(self._stream.status)
        self._initial_metadata = self._stream.initial_metadata.result()
        self._set_status(status)
        return message if status.code is grpc.StatusCode.OK else None

    def _watch_status(self) -> None:
        def on_status(status: asyncio.Future[Status]) -> None:
            if not self._is_locally_cancelled:
                self._set_status(status.result())

        self._stream.status.add_done_callback(on_status)

    def _set_status(self, status: Status, error: str | None = None) -> None:
        self._status = cygrpc.AioRpcStatus(_CYGRPC_CODES[status.code], status.details, status.metadata, error)
        if self._initial_metadata is None:
            self._initial_metadata = ()
        waiters, self._status_waiters = self._status_waiters, []
        for told in waiters:
            if not told.done():
                told.set_result(None)
        callbacks, self._done_callbacks = self._done_callbacks, []
        for callback in callbacks:
            callback()
