"""One connection between a gRPC client and a server, and both sides of the calls on it: what gRPC's core does below.

What the two sides say is what HTTP/2 says (headers, data under a window, trailers, resets, pings, GOAWAY), as objects
instead of frames; what leaves in one turn of the loop is one parcel of the wire.

Invariants
    messages of one call arrive whole and in order, and before its status
    of one direction of a call no more than the window is under way or unread; the writer of more waits
    a call ends once; then no future of it stays unresolved
    when a connection is lost, every call on it ends at both sides
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import grpc
from grpc._cython import cygrpc

from tests.simulation.wires import End

WRITE_BUFFER_BYTES = 64 << 10
"""Of a call that may wait to be sent while its writer goes on."""
WINDOWS_BYTES = (64 << 10, 256 << 10, 4 << 20)
"""One is drawn for a connection; the real one finds its own by measuring."""
PREFIX_BYTES = 5
_HEADERS_BYTES = 150
_FRAME_BYTES = 9
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
                part + _FRAME_BYTES,
                (Link.take_data, self.number, first.size, part, None if first.left else first.message),
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
            self.link.emit(_FRAME_BYTES, (Link.take_credit, self.number, self._ungranted))
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
        self._deadline = deadline
        self._timer = None if deadline is None else loop.call_at(deadline, self._deadline_passed)
        self._trailers: Status | None = None

    def begin(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def attach(self, link: Link) -> None:
        """Go out on this connection."""
        self._attached(link, link.adopt(self))
        timeout_s = None if self._deadline is None else self._deadline - self.loop.time()
        link.emit(_HEADERS_BYTES, (Link.take_call, self.number, self._method, self._metadata, timeout_s))
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
            self.link.emit(_FRAME_BYTES, (Link.take_reset, self.number, None))
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
        self.link.emit(_FRAME_BYTES, (Link.take_half_close, self.number))


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
            self._queue(_Outgoing(written, None, lambda: self._emit(_HEADERS_BYTES, (Link.take_headers, metadata))))
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
        self._emit(_HEADERS_BYTES, (Link.take_trailers, status))
        self.cancel()

    def _deadline_passed(self) -> None:
        self._give_up(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _emit(self, size: int, frame: Frame) -> None:
        assert self.link is not None
        self.link.emit(size, (frame[0], self.number, *frame[1:]))

    def _emit_status(self, status: Status) -> None:
        self._emit(_HEADERS_BYTES, (Link.take_trailers, status))
        if self._timer is not None:
            self._timer.cancel()
        _refuse_all(self._end())


class Link:
    """One side of one connection.

    `on_call` takes a call that came; `on_lost` is told once that no call can go out any more: the connection is lost,
    or its other side said GOAWAY.
    """

    def __init__(
        self,
        end: End,
        options: Options,
        random: Random,
        *,
        on_call: Callable[[ServerStream], None] | None = None,
        on_lost: Callable[[Link], None] = lambda link: None,
    ) -> None:
        self.end = end
        self.loop = asyncio.get_running_loop()
        self.options = options
        self.random = random
        self.window_bytes = 0
        self.is_lost = False
        self.is_draining = False
        """No new call: GOAWAY was said or heard."""
        self.settled: asyncio.Future[None] = self.loop.create_future()
        """The other side has said how it wants to talk."""
        self.streams: dict[int, Stream] = {}
        self._on_call = on_call
        self._on_lost = on_lost
        self._last_number = -1
        self._outbox: list[Frame] = []
        self._outbox_bytes = 0
        self._touched: dict[Stream, None] = {}
        self._flush_is_due = False
        self._heard_at = self.loop.time()
        self._pinger: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        end.user = self
        end.on_closed = lambda: self.lose("Socket closed")
        end.on_lost = lambda why: self.lose("recvmsg:Connection reset by peer")
        if on_call is not None:
            self.window_bytes = random.choice(WINDOWS_BYTES)
            self.emit(60, (Link.take_settings, self.window_bytes))
        if options.keepalive_s is not None:
            self._pinger = self.loop.call_later(options.keepalive_s, self._ping)

    # Out

    def adopt(self, stream: Stream) -> int:
        self._last_number += 2
        self.streams[self._last_number] = stream
        return self._last_number

    def forget(self, stream: Stream) -> None:
        self.streams.pop(stream.number, None)
        if self.is_draining and not self.streams:
            self.loop.call_soon(self._close_if_drained)

    def touch(self, stream: Stream) -> None:
        """Tell the stream when what it emitted has left."""
        self._touched[stream] = None
        self._flush_soon()

    def emit(self, size: int, frame: Frame) -> None:
        if self.is_lost:
            return
        self._outbox.append(frame)
        self._outbox_bytes += size
        self._flush_soon()

    def goaway(self) -> None:
        """Take no new calls."""
        if not self.is_draining and not self.is_lost:
            self.is_draining = True
            self.emit(17, (Link.take_goaway,))
            if not self.streams:
                self.loop.call_soon(self._close_if_drained)

    def close(self, why: str) -> None:
        """End it from this side, after what was emitted."""
        if not self.is_lost:
            self._flush()
            self.end.close()
            self.lose(why)

    def lose(self, why: str) -> None:
        """It is no more."""
        if self.is_lost:
            return
        self.is_lost = True
        self.end.close()
        for timer in (self._pinger, self._watch):
            if timer is not None:
                timer.cancel()
        for stream in list(self.streams.values()):
            stream.link_lost(why)
        self.streams.clear()
        if not self.settled.done():
            self.settled.set_exception(ConnectionResetError(why))
            self.settled.exception()
        if not self.is_draining or self._on_call is not None:
            self._on_lost(self)

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._outbox and not self.is_lost:
            frames, self._outbox = self._outbox, []
            size, self._outbox_bytes = self._outbox_bytes, 0
            other = self.end.other
            self.end.send(size, lambda: other.user.arrived(frames))
            if self._watch is None and self.options.keepalive_s is not None:
                self._watch = self.loop.call_later(self.options.keepalive_timeout_s, self._check_acknowledged)
        touched, self._touched = self._touched, {}
        for stream in touched:
            stream.wrote()

    def _close_if_drained(self) -> None:
        if self.is_draining and not self.streams:
            self.close("drained")

    # In

    def arrived(self, frames: list[Frame]) -> None:
        self._heard_at = self.loop.time()
        for take, *facts in frames:
            if self.is_lost:
                return
            take(self, *facts)

    def take_settings(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        resolve(self.settled, None)

    def take_goaway(self) -> None:
        if not self.is_draining:
            self.is_draining = True
            self._on_lost(self)
            self._close_if_drained()

    def take_call(self, number: int, method: str, metadata: Metadata, timeout_s: float | None) -> None:
        assert self._on_call is not None, "a client was called"
        if self.is_draining:
            self.emit(_FRAME_BYTES, (Link.take_reset, number, Status(grpc.StatusCode.UNAVAILABLE, "Stream refused")))
            return
        stream = ServerStream(self, number, method, metadata, timeout_s)
        self.streams[number] = stream
        self._on_call(stream)

    def take_headers(self, number: int, *facts: Any) -> None:
        self._tell(number, "take_headers", *facts)

    def take_data(self, number: int, *facts: Any) -> None:
        self._tell(number, "take_data", *facts)

    def take_credit(self, number: int, *facts: Any) -> None:
        self._tell(number, "take_credit", *facts)

    def take_half_close(self, number: int) -> None:
        self._tell(number, "take_half_close")

    def take_trailers(self, number: int, *facts: Any) -> None:
        self._tell(number, "take_trailers", *facts)

    def take_reset(self, number: int, *facts: Any) -> None:
        self._tell(number, "take_reset", *facts)

    def take_ping(self) -> None:
        self.emit(17, (Link.take_pong,))

    def take_pong(self) -> None:
        pass  # that something came is what counts

    def _tell(self, number: int, what: str, *facts: Any) -> None:
        stream: Any = self.streams.get(number)
        if stream is not None:
            getattr(stream, what)(*facts)

    # Is it still there?

    def _ping(self) -> None:
        assert self.options.keepalive_s is not None
        due = self._heard_at + self.options.keepalive_s
        if due > self.loop.time() or not (self.streams or self.options.pings_without_calls):
            self._pinger = self.loop.call_at(max(due, self.loop.time() + 1), self._ping)
            return
        self.emit(17, (Link.take_ping,))
        self._pinger = self.loop.call_later(self.options.keepalive_timeout_s, self._ping_unanswered, self.loop.time())

    def _ping_unanswered(self, pinged_at: float) -> None:
        if self._heard_at <= pinged_at:
            self.end.reset()
            self.lose("keepalive watchdog timeout")
        else:
            self._ping()

    def _check_acknowledged(self) -> None:
        """TCP_USER_TIMEOUT, which gRPC sets together with keepalive."""
        self._watch = None
        since = self.end.unacknowledged_since
        if since is None:
            return
        due = since + self.options.keepalive_timeout_s
        if due > self.loop.time():
            self._watch = self.loop.call_at(due, self._check_acknowledged)
        else:
            self.end.abandon()
            self.lose("recvmsg:Connection timed out")
