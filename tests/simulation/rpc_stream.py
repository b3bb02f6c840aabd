"""Both sides of one gRPC call: messages out under flow control, messages in, and one status at the end.

Frames are tuples: the number of the call, what it does at the other side (the name of a method), and the facts for it.

Invariants
    messages of one call arrive whole and in order, and before its status
    of one direction of a call no more than the window is under way or unread; the writer of more waits
    a call ends once; then no future of it stays unresolved
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from grpc._cython import cygrpc

if TYPE_CHECKING:
    from tests.simulation.rpc_link import Link

WRITE_BUFFER_BYTES = 64 << 10
"""Of a call that may wait to be sent while its writer goes on."""
PREFIX_BYTES = 5
_HEADERS_BYTES = 150
FRAME_BYTES = 9
_UNLIMITED = 1 << 62

Metadata = tuple[tuple[str, str | bytes], ...]
Frame = tuple[Any, ...]


class Status(NamedTuple):
    code: grpc.StatusCode
    details: str
    metadata: Metadata = ()


class Options(NamedTuple):
    """What of gRPC's channel arguments is heeded here."""

    send_bytes_max: int = _UNLIMITED
    receive_bytes_max: int = 4 << 20
    keepalive_s: float | None = None
    keepalive_timeout_s: float = 20.0
    pings_without_calls: bool = False
    backoff_first_s: float = 1.0
    backoff_max_s: float = 120.0
    connect_s: float = 20.0

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, Any]]) -> Options:
        given: Mapping[str, Any] = dict(pairs)
        unset = cls()

        def seconds(name: str, default: float) -> float:
            return float(given[name]) / 1000 if name in given else default

        def limit(name: str, default: int) -> int:
            number = int(given.get(name, default))
            return _UNLIMITED if number < 0 else number

        return cls(
            send_bytes_max=limit("grpc.max_send_message_length", unset.send_bytes_max),
            receive_bytes_max=limit("grpc.max_receive_message_length", unset.receive_bytes_max),
            keepalive_s=seconds("grpc.keepalive_time_ms", 0) or None,
            keepalive_timeout_s=seconds("grpc.keepalive_timeout_ms", unset.keepalive_timeout_s),
            pings_without_calls=bool(given.get("grpc.keepalive_permit_without_calls", 0)),
            backoff_first_s=seconds("grpc.initial_reconnect_backoff_ms", unset.backoff_first_s),
            backoff_max_s=seconds("grpc.max_reconnect_backoff_ms", unset.backoff_max_s),
            connect_s=seconds("grpc.min_reconnect_backoff_ms", unset.connect_s),
        )


def resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def refuse(future: asyncio.Future[Any], why: str) -> None:
    """As a batch of operations fails in gRPC's core."""
    if not future.done():
        future.set_exception(cygrpc.ExecuteBatchError(f'Failed "execute_batch": {why}'))
        future.exception()  # seen: nobody need wait for it


def _refuse_all(writes: list[asyncio.Future[None]]) -> None:
    for written in writes:
        refuse(written, "the call is over")


class _Outgoing:
    """A message under way out, or what comes after the last."""

    __slots__ = ("emit", "left", "message", "size", "written")

    def __init__(
        self, written: asyncio.Future[None], message: bytes | None, emit: Callable[[], None] | None = None
    ) -> None:
        self.written = written
        self.message = message
        self.emit = emit
        self.size = self.left = 0 if message is None else len(message) + PREFIX_BYTES


class Stream:
    """One side of one call."""

    side = "?"

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Options) -> None:
        self.loop = loop
        self.options = options
        self.link: Link | None = None
        self.number = 0
        self.is_over = False
        self.input_ended = False
        """The other side said that no message comes any more."""
        self._outgoing: deque[_Outgoing] = deque()
        self._writers: deque[tuple[int, asyncio.Future[None]]] = deque()  # done once so many bytes have left
        self._emitted: list[asyncio.Future[None]] = []
        self._queued_bytes = 0
        self._sent_bytes = 0
        self._credit = 0
        self._inbox: deque[bytes] = deque()
        self._missing_bytes = 0  # of the message of which a part has come
        self._granted_early = 0
        self._ungranted = 0
        self._reader: asyncio.Future[bytes | None] | None = None

    # For the code above

    def send(self, message: bytes) -> asyncio.Future[None]:
        """Done once nearly all of it has left. ExecuteBatchError if the call ends first."""
        written: asyncio.Future[None] = self.loop.create_future()
        if self.is_over:
            self.loop.call_soon(refuse, written, "the call is over")
        elif len(message) > self.options.send_bytes_max:
            refuse(written, "too large")
            self._give_up(
                Status(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self.side}: Sent message larger than max ({len(message)} vs. {self.options.send_bytes_max})",
                )
            )
        else:
            self._queue(_Outgoing(written, message))
        return written

    def receive(self) -> asyncio.Future[bytes | None]:
        """The next message; None once there is none any more."""
        message: asyncio.Future[bytes | None] = self.loop.create_future()
        assert self._reader is None or self._reader.done(), "two read from one call at a time"
        if self._inbox:
            data = self._inbox.popleft()
            self._consumed(data)
            self.loop.call_soon(resolve, message, data)
            if not self._inbox:
                self._inbox_emptied()
        elif self.input_ended or self.is_over:
            self.loop.call_soon(resolve, message, None)
        else:
            self._reader = message
            if self._missing_bytes:
                self._grant_the_rest()
        return message

    # For both sides

    def _queue(self, outgoing: _Outgoing) -> None:
        self._outgoing.append(outgoing)
        if outgoing.message is not None:
            self._queued_bytes += outgoing.size
            self._writers.append((self._queued_bytes - WRITE_BUFFER_BYTES, outgoing.written))
        self._pump()

    def _attached(self, link: Link, number: int) -> None:
        self.link = link
        self.number = number
        self._credit = link.window_bytes

    def _pump(self) -> None:
        link = self.link
        if link is None or self.is_over:
            return
        while self._outgoing:
            first = self._outgoing[0]
            if first.emit is not None:
                self._outgoing.popleft()
                self._emitted.append(first.written)
                first.emit()
                continue
            part = min(first.left, self._credit)
            if part <= 0:
                break
            first.left -= part
            self._credit -= part
            self._sent_bytes += part
            link.emit(
                part + FRAME_BYTES,
                (self.number, "take_data", first.size, part, None if first.left else first.message),
            )
            if not first.left:
                self._outgoing.popleft()
        link.touch(self)

    def wrote(self) -> None:
        """What was emitted has left."""
        emitted, self._emitted = self._emitted, []
        for written in emitted:
            resolve(written, None)
        while self._writers and self._writers[0][0] <= self._sent_bytes:
            resolve(self._writers.popleft()[1], None)

    def take_data(self, size: int, part: int, message: bytes | None) -> None:
        if self.is_over:
            return
        if not self._missing_bytes:
            if size - PREFIX_BYTES > self.options.receive_bytes_max:
                self._give_up(
                    Status(
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        f"{self.side}: Received message larger than max "
                        f"({size - PREFIX_BYTES} vs. {self.options.receive_bytes_max})",
                    )
                )
                return
            self._missing_bytes = size
        self._missing_bytes -= part
        is_read = self._reader is not None and not self._reader.done()
        if message is None:
            if is_read:
                self._grant_the_rest()
        elif is_read:
            assert self._reader is not None
            self._consumed(message)
            self._reader.set_result(message)
        else:
            self._inbox.append(message)

    def take_credit(self, size: int) -> None:
        self._credit += size
        self._pump()

    def _consumed(self, message: bytes) -> None:
        early, self._granted_early = self._granted_early, 0
        self._grant(len(message) + PREFIX_BYTES - early)

    def _grant_the_rest(self) -> None:
        """Of a message that is being waited for: so that one larger than the window comes through."""
        more = self._missing_bytes - self._granted_early
        if more > 0:
            self._granted_early += more
            self._grant(more, at_once=True)

    def _grant(self, size: int, *, at_once: bool = False) -> None:
        self._ungranted += size
        if self.link is not None and (at_once or self._ungranted >= self.link.window_bytes // 2):
            self.link.emit(FRAME_BYTES, (self.number, "take_credit", self._ungranted))
            self._ungranted = 0

    def _no_more_input(self) -> None:
        self.input_ended = True
        if self._reader is not None:
            resolve(self._reader, None)

    def _end(self) -> list[asyncio.Future[None]]:
        """Nothing goes out or comes in any more. Returns what waits to be written: it is for the caller to end it."""
        self.is_over = True
        self._inbox.clear()
        unsent = [outgoing.written for outgoing in self._outgoing if outgoing.message is None]
        self._outgoing.clear()
        if self.link is not None:
            self.link.forget(self)
        if self._reader is not None:
            resolve(self._reader, None)
        writers, self._writers = self._writers, deque()
        return [*(written for _, written in writers), *unsent]

    def _inbox_emptied(self) -> None:
        pass

    def _give_up(self, status: Status) -> None:
        """End it from this side, because of what this side found."""
        raise NotImplementedError

    def link_lost(self, why: str) -> None:
        raise NotImplementedError


class ClientStream(Stream):
    """The side that calls."""

    side = "CLIENT"

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: Options,
        method: str,
        deadline: float | None,
        wait_for_ready: bool,
    ) -> None:
        super().__init__(loop, options)
        self.wait_for_ready = wait_for_ready
        self.headers_sent: asyncio.Future[None] = loop.create_future()
        self.initial_metadata: asyncio.Future[Metadata] = loop.create_future()
        self.status: asyncio.Future[Status] = loop.create_future()
        self._method = method
        self._metadata: Metadata = ()
        self.deadline = deadline
        self._timer = None if deadline is None else loop.call_at(deadline, self._deadline_passed)
        self._trailers: Status | None = None

    def begin(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def attach(self, link: Link) -> None:
        """Go out on this connection."""
        self._attached(link, link.adopt(self))
        timeout_s = None if self.deadline is None else self.deadline - self.loop.time()
        link.emit(_HEADERS_BYTES, (0, "take_call", self.number, self._method, self._metadata, timeout_s))
        self._pump()
        link.touch(self)

    def half_close(self) -> asyncio.Future[None]:
        """No message follows."""
        written: asyncio.Future[None] = self.loop.create_future()
        if self.is_over:
            self.loop.call_soon(refuse, written, "the call is over")
        else:
            self._queue(_Outgoing(written, None, self._emit_half_close))
        return written

    def cancel(self, status: Status) -> None:
        """End it here and now; the server is told."""
        if self.is_over:
            return
        if self.link is not None:
            self.link.emit(FRAME_BYTES, (self.number, "take_reset", None))
        self.finish(status)

    def finish(self, status: Status) -> None:
        if self.is_over:
            return
        writes = self._end()
        if self._timer is not None:
            self._timer.cancel()
        refuse(self.headers_sent, "the call is over")
        resolve(self.initial_metadata, ())
        # Whether a write that waits fails before or after the status comes is chance in the real one; the later of
        # the two then hides the other: INTERNAL, or what the server said.
        status_first = self.link is None or self.link.random.random() < 0.7
        if status_first:
            resolve(self.status, status)
            _refuse_all(writes)
        else:
            _refuse_all(writes)
            self.loop.call_soon(resolve, self.status, status)

    def wrote(self) -> None:
        resolve(self.headers_sent, None)
        super().wrote()

    def take_headers(self, metadata: Metadata) -> None:
        resolve(self.initial_metadata, metadata)

    def take_trailers(self, status: Status) -> None:
        """The status is known to the code above only once it has read all messages."""
        if self.is_over:
            return
        self._trailers = status
        if self.link is not None:
            self.link.forget(self)  # what becomes of the connection no longer matters to this call
        self._no_more_input()
        if not self._inbox:
            self._inbox_emptied()

    def take_reset(self, status: Status | None) -> None:
        self.finish(status or Status(grpc.StatusCode.CANCELLED, "RST_STREAM with error code 8"))

    def link_lost(self, why: str) -> None:
        self.finish(Status(grpc.StatusCode.UNAVAILABLE, why))

    def _inbox_emptied(self) -> None:
        if self._trailers is not None:
            self.finish(self._trailers)

    def _give_up(self, status: Status) -> None:
        self.cancel(status)

    def _deadline_passed(self) -> None:
        self.cancel(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _emit_half_close(self) -> None:
        assert self.link is not None
        self.link.emit(FRAME_BYTES, (self.number, "take_half_close"))


class ServerStream(Stream):
    """The side that answers. `on_cancelled` is called if it ends without its status having been sent."""

    side = "SERVER"

    def __init__(self, link: Link, number: int, method: str, metadata: Metadata, timeout_s: float | None) -> None:
        super().__init__(link.loop, link.options)
        self.method = method
        self.metadata = metadata
        self.deadline = None if timeout_s is None else link.loop.time() + timeout_s
        self.peer = f"ipv4:{link.end.other.address}"
        self.on_cancelled: Callable[[], None] = lambda: None
        self.was_cancelled = False
        self._timer = None if self.deadline is None else link.loop.call_at(self.deadline, self._deadline_passed)
        self._attached(link, number)

    def send_headers(self, metadata: Metadata) -> asyncio.Future[None]:
        written: asyncio.Future[None] = self.loop.create_future()
        if self.is_over:
            self.loop.call_soon(refuse, written, "the call is over")
        else:
            self._queue(_Outgoing(written, None, lambda: self._emit(_HEADERS_BYTES, ("take_headers", metadata))))
        return written

    def send_status(self, status: Status) -> asyncio.Future[None]:
        """After all that was sent; then the call is over."""
        written: asyncio.Future[None] = self.loop.create_future()
        if self.is_over:
            self.loop.call_soon(refuse, written, "the call is over")
        else:
            self._queue(_Outgoing(written, None, lambda: self._emit_status(status)))
        return written

    def take_half_close(self) -> None:
        if not self.is_over:
            self._no_more_input()

    def take_reset(self, status: Status | None) -> None:
        self.cancel()

    def link_lost(self, why: str) -> None:
        self.cancel()

    def cancel(self) -> None:
        """It is over, and the handler is told; whether by its next operation first or not, is chance."""
        if self.is_over:
            return
        link = self.link
        assert link is not None
        if self._timer is not None:
            self._timer.cancel()
        self.was_cancelled = True
        if link.random.random() < 0.5:
            self.on_cancelled()
            _refuse_all(self._end())
        else:
            _refuse_all(self._end())
            self.loop.call_soon(self.on_cancelled)

    def _give_up(self, status: Status) -> None:
        self._emit(_HEADERS_BYTES, ("take_trailers", status))
        self.cancel()

    def _deadline_passed(self) -> None:
        self._give_up(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _emit(self, size: int, frame: Frame) -> None:
        assert self.link is not None
        self.link.emit(size, (self.number, *frame))

    def _emit_status(self, status: Status) -> None:
        self._emit(_HEADERS_BYTES, ("take_trailers", status))
        if self._timer is not None:
            self._timer.cancel()
        _refuse_all(self._end())
