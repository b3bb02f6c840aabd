"""One TCP connection between two brokers: frames in, frames out, in few system calls and bounded memory.

Always holds
    a frame is written whole or not at all, and frames of one urgency leave in the order in which they were sent
    what waits is bounded, urgent or not
    pings and pongs go before what waits here, so that a link full of records still answers
    frames sent in one turn of the loop leave in one write
    before the handshake is over no more than HANDSHAKE_BYTES_MAX are taken, whatever a length says
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

from ...partitions.environment import Buffer
from ...proto.errors import LograftError
from ...proto.peer_frames import FrameReader, FrameType, PeerFrameError
from .handshake import HANDSHAKE_BYTES_MAX, Acceptor, Dialler, LinkKind

WRITE_BYTES = 512 << 10
"""Handed to the transport in one go."""
TRANSPORT_BYTES_HIGH = 1 << 20
"""Kept by the transport before it asks for a pause. What waits beyond it can still be overtaken by a ping."""
URGENT_MAX = 1000
"""Urgent frames that may wait: a few a second are sent, so whoever lets as many wait does not read."""
CLOSE_MS_MAX = 1000
"""For a last word to leave before the connection is cut."""


class ConnectionOwner(Protocol):
    """Who is told what happens on a connection. Called in the loop; may close the connection at any time."""

    def connection_opened(self, connection: PeerConnection) -> None: ...
    def frame_received(self, connection: PeerConnection, frame_type: FrameType, body: memoryview) -> None:
        """Raises LograftError for what has no place here: the connection is then closed."""
        ...

    def connection_ended(self, connection: PeerConnection, why: str) -> None:
        """Exactly once for each connection that was opened."""
        ...


class PeerConnection(asyncio.Protocol):
    """A connection, from the first byte to the last.

    `handshake` is the conversation that says who the other side is; `is_trusted` becomes true when it is over.
    """

    def __init__(self, owner: ConnectionOwner, handshake: Dialler | Acceptor) -> None:
        self.handshake = handshake
        self.waiting_bytes_max = 0
        """How much may wait here; set when the session begins."""
        self.is_trusted = False
        self.remote = "?"
        """Address of the other side, as an operator would write it."""
        self.remote_host = "?"
        self.received_bytes = 0
        self.sent_bytes = 0
        self.waiting_bytes = 0
        """Sent, and not yet handed to the transport."""
        self.answered_ms = 0.0
        """When the last pong came (the loop's clock)."""
        self.round_trip_ms = 0.0
        self.failed_crc = False
        """It ended at a frame that was altered on its way."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._urgent: deque[Sequence[Buffer]] = deque()
        self._queue: deque[tuple[Sequence[Buffer], int]] = deque()
        self._flush_is_due = False
        self._paused = False
        self._ended = False
        self._why = ""

    @property
    def kind(self) -> LinkKind:
        return self.handshake.kind

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._ended

    def send(self, buffers: Sequence[Buffer], size: int) -> None:
        """Write one frame of `size` bytes at the end of this turn of the loop, or when there is room.

        The bound on what waits is for the caller to keep: on one link what does not fit is dropped, the other it ends.
        """
        if self._ended:
            return
        self._queue.append((buffers, size))
        self.waiting_bytes += size
        self._flush_soon()

    def send_urgent(self, buffers: Sequence[Buffer]) -> None:
        """Write one small frame before all that waits."""
        if self._ended:
            return
        if len(self._urgent) >= URGENT_MAX:
            self.close(f"{URGENT_MAX} answers to pings wait to be sent: the other side does not read")
            return
        self._urgent.append(buffers)
        self._flush_soon()

    def close(self, why: str, last_words: Sequence[Buffer] = ()) -> None:
        """End the connection; `last_words`, one frame, still leave if they can, what else waits does not."""
        if self._ended or self._transport is None:
            return
        if last_words:
            self._transport.writelines(last_words)
            self._transport.close()
            self._loop.call_later(CLOSE_MS_MAX / 1000, self._transport.abort)
        else:
            self._transport.abort()
        self._end(why)

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # as it is; uvloop's is no subclass
        self._transport = transport
        transport.set_write_buffer_limits(high=TRANSPORT_BYTES_HIGH)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = transport.get_extra_info("peername")
        if name:
            self.remote_host = str(name[0])
            self.remote = f"[{name[0]}]:{name[1]}" if ":" in self.remote_host else f"{name[0]}:{name[1]}"
        self._owner.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        first = self.received_bytes == 0
        self.received_bytes += len(data)
        try:
            if not self.is_trusted and self.received_bytes > HANDSHAKE_BYTES_MAX:
                raise PeerFrameError(f"more than {HANDSHAKE_BYTES_MAX} bytes before the handshake was over")
            for frame_type, body in self._reader.feed(data):
                self._owner.frame_received(self, frame_type, body)
                if self._ended:
                    return
        except LograftError as error:
            self.failed_crc = isinstance(error, PeerFrameError) and error.facts.get("what") == "crc"
            self.close(f"{error}{_guess(data) if first else ''}")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"connection lost: {error}" if error else "closed by the other side")

    def _flush_soon(self) -> None:
        if not self._flush_is_due and not self._paused:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        while (self._urgent or self._queue) and not self._paused and not self._ended:
            assert self._transport is not None, "frames are sent on an open connection"
            batch: list[Buffer] = []
            size = 0
            while self._urgent:
                batch.extend(self._urgent.popleft())
            while self._queue and size < WRITE_BYTES:
                buffers, frame_size = self._queue.popleft()
                batch.extend(buffers)
                size += frame_size
            self.waiting_bytes -= size
            self.sent_bytes += size
            self._transport.writelines(batch)

    def _end(self, why: str) -> None:
        if self._ended:
            return
        self._ended = True
        self._urgent.clear()
        self._queue.clear()
        self.waiting_bytes = 0
        self._owner.connection_ended(self, why)


def _guess(data: bytes) -> str:
    """A hint for whoever pointed something else at this port."""
    if data[:2] == b"\x16\x03":
        return "; this looks like TLS, and the peer port speaks none"
    if data.split(b" ", 1)[0] in (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"PRI", b"CONNECT"):
        return "; this looks like HTTP, which is spoken on the http and grpc ports"
    return ""
