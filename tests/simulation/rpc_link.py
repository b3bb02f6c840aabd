"""One connection between a gRPC client and a server: what gRPC's core does below its calls.

What the two sides say is what HTTP/2 says (headers, data under a window, trailers, resets, pings, GOAWAY), as objects
instead of frames; what leaves in one turn of the loop is one parcel of the wire.

Invariants
    when a connection is lost, every call on it ends, at each side as soon as that side knows
    a connection on which nothing is heard or acknowledged ends by keepalive or by TCP's own patience
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import grpc

from tests.simulation.rpc_stream import FRAME_BYTES, Frame, Metadata, Options, ServerStream, Status, Stream, resolve
from tests.simulation.wires import End

WINDOWS_BYTES = (64 << 10, 256 << 10, 4 << 20)
"""One is drawn for a connection; the real one finds its own by measuring."""


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
            self.emit(60, (0, "take_settings", self.window_bytes))
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
            self.emit(17, (0, "take_goaway"))
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
        for number, what, *facts in frames:
            if self.is_lost:
                return
            taker: Any = self.streams.get(number) if number else self
            if taker is not None:  # what comes late for a call is nothing to anyone
                getattr(taker, what)(*facts)

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
            self.emit(FRAME_BYTES, (number, "take_reset", Status(grpc.StatusCode.UNAVAILABLE, "Stream refused")))
            return
        stream = ServerStream(self, number, method, metadata, timeout_s)
        self.streams[number] = stream
        self._on_call(stream)

    def take_ping(self) -> None:
        self.emit(17, (0, "take_pong"))

    def take_pong(self) -> None:
        pass  # that something came is what counts

    # Is it still there?

    def _ping(self) -> None:
        assert self.options.keepalive_s is not None
        due = self._heard_at + self.options.keepalive_s
        if due > self.loop.time() or not (self.streams or self.options.pings_without_calls):
            self._pinger = self.loop.call_at(max(due, self.loop.time() + 1), self._ping)
            return
        self.emit(17, (0, "take_ping"))
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
