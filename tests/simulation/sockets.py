"""What asyncio makes of TCP, over wires: servers and transports for the product's own protocols.

Invariants
    bytes arrive in the order in which they were written, cut into segments anywhere; none is lost while the wire lives
    what is under way, or arrived and unread, is bounded by the window; what is beyond it waits at the sender
    a protocol hears `connection_made` first, `connection_lost` last and once, and nothing afterwards
    as with a real socket, `close` and `abort` let what the kernel has taken still leave
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from tests.simulation.wires import HERE, End, Wires

WINDOW_BYTES = 256 << 10
"""What the two kernels hold of one direction of a connection."""
WRITE_BYTES_HIGH = 64 << 10
"""asyncio's own default."""
SEGMENTS_MAX = 4
"""That one write is cut into."""


class Sockets:
    """The loop's `create_server` and `create_connection`; the host is that of the code that calls."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires

    def listen(self, make_protocol: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> SimulatedServer:
        """Raises OSError."""
        here = HERE.get()
        address = self.wires.free_address(here, host) if port == 0 else f"{host}:{port}"

        def accept(end: End) -> None:
            SocketTransport(end, make_protocol(), self.wires.random)

        self.wires.listen(here, address, accept)
        return SimulatedServer(self.wires, address)

    async def connect(
        self, make_protocol: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Raises OSError."""
        end = await self.wires.connect(HERE.get(), f"{host}:{port}")
        protocol = make_protocol()
        return SocketTransport(end, protocol, self.wires.random), protocol


class SimulatedServer(asyncio.AbstractServer):
    """Listens at one address."""

    def __init__(self, wires: Wires, address: str) -> None:
        self._wires = wires
        self._address = address
        self._is_closed = False

    @property
    def sockets(self) -> tuple[_ListeningSocket, ...]:
        return () if self._is_closed else (_ListeningSocket(self._address),)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._wires.stop_listening(self._address)

    def is_serving(self) -> bool:
        return not self._is_closed

    async def start_serving(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


class _ListeningSocket:
    def __init__(self, address: str) -> None:
        self._address = address

    def getsockname(self) -> tuple[str, int]:
        return _place(self._address)


class SocketTransport(asyncio.Transport):
    """One side of a connection, as its protocol sees it."""

    def __init__(self, end: End, protocol: asyncio.BaseProtocol, random: Random) -> None:
        super().__init__({"peername": _place(end.other.address), "sockname": _place(end.address)})
        self._end = end
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._protocol: Any = protocol
        self._unsent = bytearray()
        self._credit = WINDOW_BYTES
        self._unread: deque[bytes] = deque()
        self._unacknowledged = 0
        self._high = WRITE_BYTES_HIGH
        self._low = WRITE_BYTES_HIGH // 4
        self._writing_is_paused = False
        self._reading_is_paused = False
        self._eof_is_due = False
        self._half_closes = False
        self._is_closing = False
        self._is_lost = False
        end.user = self
        end.on_closed = self._other_closed
        end.on_lost = self._wire_lost
        protocol.connection_made(self)

    # What protocols call

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._is_lost or not self._end.is_open or self._half_closes:
            return
        for data in list_of_data:
            self._unsent += data
        self._send()
        if not self._writing_is_paused and len(self._unsent) > self._high:
            self._writing_is_paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        raise AssertionError("nobody half-closes a connection in lograft; wires would have to learn it first")

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._unread.clear()
        if not self._unsent:
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._is_closing = True
        self._unsent.clear()
        self._unread.clear()
        if not self._is_lost:
            self._loop.call_soon(self._lose, None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = (WRITE_BYTES_HIGH if low is None else 4 * low) if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def is_reading(self) -> bool:
        return not self._reading_is_paused and not self._is_closing

    def pause_reading(self) -> None:
        self._reading_is_paused = True

    def resume_reading(self) -> None:
        if self._reading_is_paused:
            self._reading_is_paused = False
            self._loop.call_soon(self._hand_over)

    # What wires bring

    def _send(self) -> None:
        size = min(len(self._unsent), self._credit)
        if size == 0:
            return
        self._credit -= size
        data = bytes(self._unsent[:size])
        del self._unsent[:size]
        other = self._end.other
        start = 0
        for stop in self._cuts(size):
            segment = data[start:stop]
            self._end.send(len(segment), lambda segment=segment: other.user._arrived(segment))  # type: ignore[misc]
            start = stop

    def _cuts(self, size: int) -> list[int]:
        """Where the segments of one write end: mostly only at its end."""
        random = self._random
        if size == 1 or random.random() < 0.7:
            return [size]
        return sorted({*(random.randrange(1, size) for _ in range(random.randrange(1, SEGMENTS_MAX))), size})

    def _arrived(self, data: bytes) -> None:
        self._unread.append(data)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._unread and not self._reading_is_paused and not self._is_closing:
            data = self._unread.popleft()
            self._unacknowledged += len(data)
            if self._unacknowledged >= WINDOW_BYTES // 4:
                self._acknowledge()
            self._protocol.data_received(data)
        if self._eof_is_due and not self._unread and not self._reading_is_paused and not self._is_closing:
            self._eof_is_due = False
            if not self._protocol.eof_received():
                self.close()

    def _acknowledge(self) -> None:
        size, self._unacknowledged = self._unacknowledged, 0
        other = self._end.other
        self._end.send(0, lambda: other.user._acknowledged(size))

    def _acknowledged(self, size: int) -> None:
        self._credit += size
        self._send()
        if self._is_closing and not self._unsent:
            self._lose(None)
        elif self._writing_is_paused and len(self._unsent) <= self._low:
            self._writing_is_paused = False
            self._protocol.resume_writing()

    def _other_closed(self) -> None:
        self._eof_is_due = True
        self._hand_over()

    def _wire_lost(self, why: str) -> None:
        self._lose(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._end.close()
        self._unsent.clear()
        self._unread.clear()
        self._protocol.connection_lost(error)


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
