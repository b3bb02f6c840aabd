"""Small conversations over gRPC, to be held over the real one and over the simulated one: they must go the same way.

A scenario is a coroutine that takes a `Stage`. It notes what the client's code saw and, apart from it, what the
handlers saw; where the real one leaves something to chance, it notes only what is certain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

import grpc

Handler = Callable[[Any, Any], Any]
BIG = b"x" * (100 << 10)


class Ways(Protocol):
    """What makes servers and channels."""

    def server(self, options: Iterable[tuple[str, Any]]) -> Any: ...
    def channel(self, address: str, options: Iterable[tuple[str, Any]]) -> Any: ...
    def unused_address(self) -> str: ...
    async def relay(self, address: str) -> Relay: ...
    async def mute_address(self) -> str:
        """Where connections are taken, and nothing is ever said."""
        ...


class Relay(Protocol):
    """Stands between client and server."""

    address: str

    def reset(self) -> None:
        """Break every connection through it."""
        ...

    def stall(self) -> None:
        """Let nothing through any more, and say nothing about it."""
        ...


class Stage:
    """One scenario's server and channel, and what was noted."""

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.seen: list[str] = []
        """By the client."""
        self.served: list[str] = []
        """By the handlers."""
        self.address = ""
        self._open: list[Any] = []

    async def serve(self, options: Iterable[tuple[str, Any]] = (), address: str = "", **methods: Any) -> Any:
        """Serve these: each a method handler."""
        server = self.ways.server(options)
        handlers = {name: method(self._noting(name, handler)) for name, (method, handler) in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
        self.address = address or self.ways.unused_address()
        server.add_insecure_port(self.address)
        await server.start()
        self._open.append(server)
        return server

    def channel(self, *options: tuple[str, Any], address: str = "") -> Any:
        channel = self.ways.channel(
            address or self.address,
            (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100), *options),
        )
        self._open.append(channel)
        return channel

    def note(self, what: Any) -> None:
        self.seen.append(str(what))

    async def outcome(self, awaitable: Awaitable[Any]) -> Any:
        """Note how it ends."""
        try:
            result = await asyncio.wait_for(awaitable, 20)
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED):
                details = "in whatever words"
            self.note(f"{error.code().name}: {details.removeprefix('Stream removed (').replace('))', ')')}")
            return None
        except asyncio.CancelledError:
            self.note("CancelledError")
            return None
        except Exception as error:
            self.note(f"{type(error).__name__}: {error}")
            return None
        self.note("EOF" if result is grpc.aio.EOF else result if not isinstance(result, bytes) else result[:20])
        return result

    async def settle(self, seconds: float = 0.3) -> None:
        await asyncio.sleep(seconds)

    async def end(self) -> None:
        for thing in reversed(self._open):
            if hasattr(thing, "stop"):
                await thing.stop(None)
            else:
                await thing.close()

    def _noting(self, name: str, handler: Handler) -> Handler:
        """The handler; how it ended is noted."""

        async def coroutine(request: Any, context: Any) -> Any:
            self.served.append(f"{name} begins")
            try:
                answer = await handler(request, context)
            except asyncio.CancelledError:
                self.served.append(f"{name} cancelled")
                raise
            except grpc.aio.AbortError:
                self.served.append(f"{name} aborted")
                raise
            except Exception as error:
                self.served.append(f"{name} raised {type(error).__name__}")
                raise
            self.served.append(f"{name} returned")
            return answer

        return handler if "generator" in name else coroutine


UU = grpc.unary_unary_rpc_method_handler
US = grpc.unary_stream_rpc_method_handler
SU = grpc.stream_unary_rpc_method_handler
SS = grpc.stream_stream_rpc_method_handler


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def wait_long(request: Any, context: Any) -> bytes:
    await asyncio.sleep(5)
    return b"late"


async def echo_stream(requests: AsyncIterator[bytes], context: Any) -> None:
    async for request in requests:
        await context.write(b"re " + request)


async def unary(stage: Stage) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        stage.served.append(metadata["color"])
        stage.served.append(context.peer().partition(":")[0])
        stage.served.append(str(context.time_remaining() > 1))
        context.set_trailing_metadata((("tail", "end"), ("raw-bin", b"\x00\xff")))
        await context.send_initial_metadata((("head", "start"),))
        return request[::-1]

    await stage.serve(M=(UU, answer))
    call = stage.channel().unary_unary("/t.T/M")(b"abc", timeout=5, metadata=(("color", "red"),))
    await stage.outcome(call)
    stage.note([pair for pair in await call.initial_metadata() if pair[0] == "head"])
    stage.note([pair for pair in await call.trailing_metadata() if pair[0] in ("tail", "raw-bin")])
    stage.note(await call.code())
    stage.note((call.done(), call.cancelled()))


async def abort_with_details(stage: Stage) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda _: stage.served.append("done"))
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now", (("grpc-status-details-bin", b"\x01\x02"),))
        return b""

    await stage.serve(M=(UU, refuse))
    call = stage.channel().unary_unary("/t.T/M")(b"abc", timeout=5)
    await stage.outcome(call)
    stage.note(list(await call.trailing_metadata()))
    await stage.outcome(call)


async def abort_that_is_swallowed(stage: Stage) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        with suppress(grpc.aio.AbortError):
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        return b"all is well"

    await stage.serve(M=(UU, refuse))
    await stage.outcome(stage.channel().unary_unary("/t.T/M")(b"abc", timeout=5))


async def raise_in_the_handler(stage: Stage) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        raise ZeroDivisionError("oh")

    async def fail_with_code(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        raise ZeroDivisionError("oh")

    async def set_code(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.OUT_OF_RANGE)
        context.set_details("far away")
        return b"ignored"

    await stage.serve(A=(UU, fail), B=(UU, fail_with_code), C=(UU, set_code))
    channel = stage.channel()
    for name in ("A", "B", "C", "Unknown"):
        await stage.outcome(channel.unary_unary(f"/t.T/{name}")(b"abc", timeout=5))


async def deadline(stage: Stage) -> None:
    await stage.serve(M=(UU, wait_long), S=(SS, wait_long))
    channel = stage.channel()
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=0.3))
    await stage.settle()
    call = channel.stream_stream("/t.T/S")(timeout=0.3)
    await stage.outcome(call.read())
    await stage.outcome(call.read())
    await stage.outcome(call.write(b"x"))
    await stage.settle()


async def cancel_by_the_client(stage: Stage) -> None:
    await stage.serve(M=(UU, wait_long), S=(SS, wait_long))
    channel = stage.channel()
    call = channel.unary_unary("/t.T/M")(b"abc", timeout=5)
    await stage.settle()
    stage.note(call.cancel())
    await stage.outcome(call)
    stage.note((call.cancelled(), call.done(), await call.code(), await call.details()))
    stage.note(call.cancel())
    stream = channel.stream_stream("/t.T/S")()
    reading = asyncio.ensure_future(stream.read())
    await stage.settle()
    stream.cancel()
    await stage.outcome(reading)
    await stage.outcome(stream.read())
    await stage.outcome(stream.write(b"x"))
    await stage.settle()


async def cancel_of_the_awaiting_task(stage: Stage) -> None:
    await stage.serve(M=(UU, wait_long), S=(SS, wait_long))
    channel = stage.channel()
    call = channel.unary_unary("/t.T/M")(b"abc", timeout=5)

    async def wait_for(awaitable: Any) -> Any:
        return await awaitable

    task = asyncio.ensure_future(wait_for(call))
    await stage.settle()
    task.cancel()
    await stage.outcome(task)
    stage.note((call.cancelled(), call.done()))
    stream = channel.stream_stream("/t.T/S")()
    task = asyncio.ensure_future(stream.read())
    await stage.settle()
    task.cancel()
    await stage.outcome(task)
    stage.note((stream.cancelled(), stream.done()))
    await stage.settle()


async def cancel_before_it_begins(stage: Stage) -> None:
    await stage.serve(M=(UU, wait_long))
    call = stage.channel().unary_unary("/t.T/M")(b"abc", timeout=5)
    call.cancel()
    await stage.outcome(call)
    await stage.settle()


async def stream_by_read_and_write(stage: Stage) -> None:
    await stage.serve(S=(SS, echo_stream))
    call = stage.channel().stream_stream("/t.T/S")()
    for number in range(3):
        await call.write(b"%d" % number)
        await stage.outcome(call.read())
    await call.done_writing()
    await stage.outcome(call.write(b"too late"))
    await stage.outcome(call.read())
    await stage.outcome(call.read())
    stage.note(await call.code())
    await stage.outcome(call.write(b"too late"))


async def stream_by_iterators(stage: Stage) -> None:
    async def generator(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request + b"!"
            yield request + b"?"

    await stage.serve(generator=(SS, generator))

    async def requests() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    call = stage.channel().stream_stream("/t.T/generator")(requests())
    async for answer in call:
        stage.note(answer)
    stage.note(await call.code())
    await stage.outcome(call.read())


async def one_to_many_and_many_to_one(stage: Stage) -> None:
    async def generator(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(4):
            yield request + b"%d" % number
        await context.abort(grpc.StatusCode.ABORTED, "enough")

    async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b",".join([request async for request in requests])

    async def first(requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for request in requests:
            return request
        return b"none"

    await stage.serve(generator=(US, generator), join=(SU, join), first=(SU, first))
    channel = stage.channel()
    call = channel.unary_stream("/t.T/generator")(b"n", timeout=5)
    for _ in range(6):
        await stage.outcome(call.read())
    joined = channel.stream_unary("/t.T/join")()
    for number in range(3):
        await joined.write(b"%d" % number)
    await joined.done_writing()
    await stage.outcome(joined)
    early = channel.stream_unary("/t.T/first")()
    await early.write(b"one")
    await stage.outcome(early)
    await stage.outcome(early.write(b"two"))


async def abort_amid_a_stream(stage: Stage) -> None:
    async def two_then_abort(requests: AsyncIterator[bytes], context: Any) -> None:
        async for request in requests:
            await context.write(request)
            await context.write(request)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "go away")

    await stage.serve(S=(SS, two_then_abort))
    call = stage.channel().stream_stream("/t.T/S")()
    await call.write(b"a")
    await stage.settle()
    stage.note(call.done())
    for _ in range(4):
        await stage.outcome(call.read())
    stage.note(call.done())
    await stage.outcome(call.write(b"b"))
    await stage.outcome(call.done_writing())


async def early_return_of_the_handler(stage: Stage) -> None:
    async def answer_one(requests: AsyncIterator[bytes], context: Any) -> None:
        async for request in requests:
            await context.write(request)
            return

    await stage.serve(S=(SS, answer_one))
    call = stage.channel().stream_stream("/t.T/S")()
    await call.write(b"a")  # a second write would come through or not, by chance
    await stage.settle()
    stage.note(call.done())
    await stage.outcome(call.read())
    await stage.outcome(call.read())
    await stage.settle()
    stage.note((call.done(), await call.code()))
    await stage.outcome(call.write(b"b"))


async def early_return_with_nothing_sent(stage: Stage) -> None:
    async def refuse(requests: AsyncIterator[bytes], context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    await stage.serve(S=(SS, refuse))
    call = stage.channel().stream_stream("/t.T/S")()
    await stage.settle()
    stage.note(call.done())
    await stage.outcome(call.write(b"b"))
    await stage.outcome(call.read())


def _blocked_writer(code: grpc.StatusCode, *, reads_first: bool) -> Callable[[Stage], Awaitable[None]]:
    async def scenario(stage: Stage) -> None:
        may_end = asyncio.Event()

        async def never_read(requests: AsyncIterator[bytes], context: Any) -> None:
            await may_end.wait()
            if code is not grpc.StatusCode.OK:
                await context.abort(code, "enough")

        await stage.serve(S=(SS, never_read))
        call = stage.channel().stream_stream("/t.T/S")()

        async def write_much() -> None:
            for _ in range(400):
                await call.write(BIG)

        writing = asyncio.ensure_future(write_much())
        await stage.settle(0.5)
        stage.note(writing.done())
        reading = asyncio.ensure_future(call.read()) if reads_first else None
        await asyncio.sleep(0)
        may_end.set()
        await stage.settle(0.5)
        await stage.outcome(writing)
        await stage.outcome(reading or call.read())
        # The failure of the write and the status overwrite each other, by chance.
        stage.seen[-1] = "ended" if stage.seen[-1] in (stage.seen[-2], "EOF", "ABORTED: enough") else stage.seen[-1]
        stage.note(call.done())

    return scenario


async def writer_waits_for_the_handler_to_read(stage: Stage) -> None:
    may_read = asyncio.Event()

    async def read_late(requests: AsyncIterator[bytes], context: Any) -> None:
        await may_read.wait()
        count = 0
        async for request in requests:
            assert request == BIG
            count += 1
        await context.write(b"%d" % count)

    await stage.serve(S=(SS, read_late))
    call = stage.channel().stream_stream("/t.T/S")()
    written = 0

    async def write_much() -> None:
        nonlocal written
        for _ in range(400):
            await call.write(BIG)
            written += 1
        await call.done_writing()

    writing = asyncio.ensure_future(write_much())
    await stage.settle(0.5)
    stage.note((writing.done(), written < 200))
    may_read.set()
    await stage.outcome(writing)
    await stage.outcome(call.read())
    await stage.outcome(call.read())


async def handler_waits_for_the_client_to_read_and_is_cancelled(stage: Stage) -> None:
    async def write_much(requests: AsyncIterator[bytes], context: Any) -> None:
        try:
            for _ in range(400):
                await context.write(BIG)
        except BaseException:
            stage.served.append("could not write on")
            raise asyncio.CancelledError from None  # by which of the two ways it ends is chance in the real one

    await stage.serve(S=(SS, write_much))
    call = stage.channel().stream_stream("/t.T/S")()
    await stage.settle(0.5)
    stage.note(stage.served)
    await stage.outcome(call.read())
    call.cancel()
    await stage.settle(0.5)


async def messages_too_large(stage: Stage) -> None:
    async def grow(request: bytes, context: Any) -> bytes:
        return request * 100

    await stage.serve([("grpc.max_receive_message_length", 1000)], M=(UU, grow), S=(SS, echo_stream))
    channel = stage.channel(("grpc.max_receive_message_length", 2000), ("grpc.max_send_message_length", 1500))
    method = channel.unary_unary("/t.T/M")
    await stage.outcome(method(b"x" * 10, timeout=5))
    await stage.outcome(method(b"x" * 30, timeout=5))
    await stage.outcome(method(b"x" * 1200, timeout=5))
    await stage.outcome(method(b"x" * 1600, timeout=5))
    call = channel.stream_stream("/t.T/S")()
    await stage.outcome(call.write(b"x" * 1200))
    await stage.outcome(call.read())
    await stage.outcome(call.read())


async def large_messages_within_the_limit(stage: Stage) -> None:
    limits = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
    await stage.serve(limits, M=(UU, echo), S=(SS, echo_stream))
    channel = stage.channel(*limits)
    answer = await channel.unary_unary("/t.T/M")(b"x" * (12 << 20), timeout=10)
    stage.note(len(answer))
    call = channel.stream_stream("/t.T/S")()
    await call.write(b"y" * (12 << 20))
    await call.write(b"")
    await call.done_writing()
    stage.note([len(part) async for part in _each(call)])


async def _each(call: Any) -> AsyncIterator[bytes]:
    while (part := await call.read()) is not grpc.aio.EOF:
        yield part


async def refused_connection(stage: Stage) -> None:
    channel = stage.channel(address=stage.ways.unused_address())
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=5))
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=5))
    call = channel.stream_stream("/t.T/S")()
    await stage.outcome(call.write(b"a"))
    await stage.outcome(call.read())
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=0.5, wait_for_ready=True))


async def server_that_comes_up_later(stage: Stage) -> None:
    address = stage.ways.unused_address()
    channel = stage.channel(address=address)
    method = channel.unary_unary("/t.T/M")
    await stage.outcome(method(b"abc", timeout=5))
    waiting = asyncio.ensure_future(stage.outcome(method(b"patient", timeout=10, wait_for_ready=True)))
    await stage.settle()
    await stage.serve(M=(UU, echo), address=address)
    await waiting
    await stage.outcome(method(b"abc", timeout=5))


async def stop_at_once_with_calls_under_way(stage: Stage) -> None:
    server = await stage.serve(M=(UU, wait_long), S=(SS, wait_long))
    channel = stage.channel()
    call = channel.unary_unary("/t.T/M")(b"abc", timeout=10)
    await stage.settle()
    stream = channel.stream_stream("/t.T/S")()
    reading = asyncio.ensure_future(stream.read())
    await stage.settle()
    await server.stop(None)
    await stage.outcome(call)
    await stage.outcome(reading)
    await stage.outcome(stream.write(b"x"))
    await stage.settle()
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=10))
    stage.served.sort()


async def stop_with_grace(stage: Stage) -> None:
    async def slow(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.6)
        return b"slow"

    server = await stage.serve(M=(UU, slow))
    channel = stage.channel()
    call = channel.unary_unary("/t.T/M")(b"abc", timeout=10)
    await stage.settle()
    stopping = asyncio.ensure_future(server.stop(5))
    await stage.settle(0.1)
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=10))
    await stage.outcome(call)
    await stopping


async def stop_whose_grace_ends(stage: Stage) -> None:
    server = await stage.serve(M=(UU, wait_long))
    call = stage.channel().unary_unary("/t.T/M")(b"abc", timeout=10)
    await stage.settle()
    await server.stop(0.3)
    await stage.outcome(call)


async def server_that_comes_back(stage: Stage) -> None:
    address = stage.ways.unused_address()
    server = await stage.serve(M=(UU, echo), address=address)
    method = stage.channel().unary_unary("/t.T/M")
    await stage.outcome(method(b"one", timeout=5))
    await server.stop(None)
    await stage.settle()
    await stage.outcome(method(b"two", timeout=5))
    await stage.serve(M=(UU, echo), address=address)
    await stage.settle(1.5)
    await stage.outcome(method(b"three", timeout=5))


async def closing_the_channel(stage: Stage) -> None:
    await stage.serve(M=(UU, wait_long), S=(SS, wait_long))
    channel = stage.channel()
    call = channel.unary_unary("/t.T/M")(b"abc", timeout=10)
    stream = channel.stream_stream("/t.T/S")()
    reading = asyncio.ensure_future(stream.read())
    await stage.settle()
    await channel.close()
    await stage.outcome(call)
    await stage.outcome(reading)

    async def call_again() -> Any:
        return await channel.unary_unary("/t.T/M")(b"abc", timeout=10)

    await stage.outcome(call_again())
    await stage.settle()
    stage.served.sort()


async def callbacks_at_the_end_of_calls(stage: Stage) -> None:
    await stage.serve(M=(UU, echo), L=(UU, wait_long))
    channel = stage.channel()
    call = channel.unary_unary("/t.T/M")(b"abc", timeout=5)
    call.add_done_callback(lambda done: stage.note(f"done {done is call}"))
    await stage.outcome(call)
    call.add_done_callback(lambda done: stage.note("done already"))
    late = channel.unary_unary("/t.T/L")(b"abc", timeout=0.2)
    late.add_done_callback(lambda done: stage.note(f"late {done.cancelled()}"))
    await stage.outcome(late)
    await stage.settle()


async def unread_answers_hold_back_the_status(stage: Stage) -> None:
    async def three(requests: AsyncIterator[bytes], context: Any) -> None:
        for number in range(3):
            await context.write(b"%d" % number)

    await stage.serve(S=(SS, three))
    call = stage.channel().stream_stream("/t.T/S")()
    for _ in range(5):
        await stage.settle()  # once all is read, the status comes in a moment
        stage.note(call.done())
        await stage.outcome(call.read())


async def client_that_goes_away(stage: Stage) -> None:
    await stage.serve(S=(SS, echo_stream), W=(UU, wait_long))
    channel = stage.channel()
    call = channel.stream_stream("/t.T/S")()
    await call.write(b"a")
    await stage.outcome(call.read())
    waiting = channel.unary_unary("/t.T/W")(b"", timeout=10)
    await stage.settle()
    await channel.close()
    await stage.settle()
    await stage.outcome(waiting)
    # A handler that waits for a request sees the end of requests or its cancellation, whichever comes first.
    ends = ("S returned", "S cancelled")
    stage.served[:] = sorted("S ended" if line in ends else line for line in stage.served)


async def reset_of_the_connection(stage: Stage) -> None:
    await stage.serve(M=(UU, echo), W=(UU, wait_long), S=(SS, wait_long))
    relay = await stage.ways.relay(stage.address)
    channel = stage.channel(address=relay.address)
    method = channel.unary_unary("/t.T/M")
    await stage.outcome(method(b"one", timeout=5))
    call = channel.unary_unary("/t.T/W")(b"abc", timeout=5)
    stream = channel.stream_stream("/t.T/S")()
    await stream.write(b"a")
    await stage.settle()
    relay.reset()
    await stage.outcome(call)
    await stage.outcome(stream.read())
    await stage.outcome(stream.write(b"b"))
    await stage.outcome(method(b"two", timeout=5))
    await stage.settle()
    stage.served.sort()


async def connection_that_stalls(stage: Stage) -> None:
    await stage.serve(M=(UU, echo), S=(SS, wait_long))
    relay = await stage.ways.relay(stage.address)
    keepalive = (
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.http2.ping_timeout_ms", 500),
        ("grpc.http2.max_pings_without_data", 0),
    )
    channel = stage.channel(*keepalive, address=relay.address)
    await stage.outcome(channel.unary_unary("/t.T/M")(b"one", timeout=5))
    stream = channel.stream_stream("/t.T/S")()
    await stream.write(b"a")
    await stage.settle()
    relay.stall()
    began = asyncio.get_running_loop().time()
    await stage.outcome(channel.unary_unary("/t.T/M")(b"two", timeout=0.3))
    await stage.outcome(stream.read())
    stage.note(0.4 < asyncio.get_running_loop().time() - began < 4)


async def listener_that_says_nothing(stage: Stage) -> None:
    address = await stage.ways.mute_address()
    began = asyncio.get_running_loop().time()
    channel = stage.channel(("grpc.min_reconnect_backoff_ms", 1000), address=address)
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=0.3))
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=10))
    now = asyncio.get_running_loop().time()
    stage.note(0.8 < now - began < 4)
    await stage.outcome(channel.unary_unary("/t.T/M")(b"abc", timeout=10))
    stage.note(asyncio.get_running_loop().time() - now < 0.8)


SCENARIOS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    scenario.__name__: scenario
    for scenario in (
        unary,
        abort_with_details,
        abort_that_is_swallowed,
        raise_in_the_handler,
        deadline,
        cancel_by_the_client,
        cancel_of_the_awaiting_task,
        cancel_before_it_begins,
        stream_by_read_and_write,
        stream_by_iterators,
        one_to_many_and_many_to_one,
        abort_amid_a_stream,
        early_return_of_the_handler,
        early_return_with_nothing_sent,
        writer_waits_for_the_handler_to_read,
        handler_waits_for_the_client_to_read_and_is_cancelled,
        messages_too_large,
        large_messages_within_the_limit,
        refused_connection,
        server_that_comes_up_later,
        stop_at_once_with_calls_under_way,
        stop_with_grace,
        stop_whose_grace_ends,
        server_that_comes_back,
        closing_the_channel,
        callbacks_at_the_end_of_calls,
        unread_answers_hold_back_the_status,
        client_that_goes_away,
        reset_of_the_connection,
        connection_that_stalls,
        listener_that_says_nothing,
    )
} | {
    f"blocked_writer_{code.name}_{'reader_waits' if reads_first else 'then_read'}": _blocked_writer(
        code, reads_first=reads_first
    )
    for code in (grpc.StatusCode.OK, grpc.StatusCode.ABORTED)
    for reads_first in (False, True)
}
