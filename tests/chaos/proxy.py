"""TCP between brokers, and from clients to brokers, led through this process so that it can be troubled.

Every connection is two directions, each of which goes over a `Wire`: one for each ordered pair of ends ("b0" to "b2",
"clients" to "b1"). Whoever dials a broker's peer port says who it is in its first frame; the proxy reads that along.

Invariants
    within a connection bytes arrive in order, once, unaltered, or the connection is reset
    a wire that is cut holds its bytes back, and the end of the stream with them, as TCP does; mended, they go on
    a new connection over a cut wire is accepted and then silent: a broker must bear that no worse than a lost SYN
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import defaultdict
from dataclasses import dataclass, field

import msgspec
from lograft.proto.peer_frames import FrameReader, FrameType, PeerFrameError

CLIENTS = "clients"
CHUNK_BYTES = 64 << 10
DRIP_S = 0.02
HELLO_S_MAX = 10.0
_LINGER_NOT = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Wire:
    """One direction between two ends."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    """A slow drip; 0: no limit."""
    whole: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless it is cut."""

    def __post_init__(self) -> None:
        self.whole.set()

    def mend(self) -> None:
        self.delay_s = self.jitter_s = self.bytes_per_s = 0.0
        self.whole.set()


class Connection:
    """One dialled connection and its two directions."""

    def __init__(self, dialler: str, acceptor: str, ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.dialler, self.acceptor = dialler, acceptor
        self._ends = ends

    def joins(self, one: str, other: str) -> bool:
        return {one, other} == {self.dialler, self.acceptor}

    def reset(self) -> None:
        """RST to both ends: what was under way is gone."""
        for writer in self._ends:
            sock: socket.socket | None = writer.get_extra_info("socket")
            if sock is not None:  # else it is closed
                with contextlib.suppress(OSError, ValueError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            writer.transport.abort()

    def half_close(self) -> None:
        """End the stream towards who accepted; the other direction goes on."""
        with contextlib.suppress(OSError, RuntimeError):
            self._ends[1].write_eof()


class Proxies:
    """All wires of a cluster, and the ports that lead to them."""

    def __init__(self, chance: random.Random) -> None:
        self.connections: set[Connection] = set()
        self.bytes_passed = 0
        self._wires: defaultdict[tuple[str, str], Wire] = defaultdict(Wire)
        self._chance = chance
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # Troubling -----------------------------------------------------------------------------------------------------

    def wire(self, sender: str, receiver: str) -> Wire:
        return self._wires[sender, receiver]

    def cut(self, sender: str, receiver: str) -> None:
        """One way; call it twice for both."""
        self.wire(sender, receiver).whole.clear()

    def between(self, one: str, other: str) -> list[Connection]:
        return [connection for connection in self.connections if connection.joins(one, other)]

    def mend(self) -> None:
        """All of them. Connections that stood still while cut go on."""
        for wire in self._wires.values():
            wire.mend()

    # Carrying ------------------------------------------------------------------------------------------------------

    async def lead(self, port: int, to_port: int, acceptor: str, *, is_peer: bool) -> None:
        """Whoever dials `port` of this machine gets to `to_port`, which belongs to `acceptor`."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            # Cancelled when all is closed: nobody waits for this task, and the streams would print it as a failure.
            with contextlib.suppress(
                OSError, RuntimeError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError
            ):
                await self._carry(reader, writer, to_port, acceptor, is_peer=is_peer)

        self._servers.append(await asyncio.start_server(accept, "127.0.0.1", port))

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to_port: int,
        acceptor: str,
        *,
        is_peer: bool,
    ) -> None:
        try:
            dialler, begun = await _who_dials(reader) if is_peer else (CLIENTS, b"")
            await self.wire(dialler, acceptor).whole.wait()
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", to_port)
        except BaseException:
            writer.transport.abort()
            raise
        connection = Connection(dialler, acceptor, (writer, to_writer))
        self.connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, to_writer, self.wire(dialler, acceptor), begun))
                group.create_task(self._pump(to_reader, writer, self.wire(acceptor, dialler), b""))
        except* (OSError, RuntimeError):  # the latter is how uvloop says that it is closed
            connection.reset()
        finally:
            self.connections.discard(connection)
            for end in (writer, to_writer):
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire, begun: bytes) -> None:
        """Until the stream ends. What is read while the wire delays is sent in its order, each piece at its time."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                if (left := due - loop.time()) > 0:
                    await asyncio.sleep(left)
                await wire.whole.wait()
                if not data:
                    with contextlib.suppress(RuntimeError):  # closed meanwhile
                        writer.write_eof()
                    return
                await self._write(writer, data, wire)

        async def take() -> None:
            data = begun or await reader.read(CHUNK_BYTES)
            while True:
                delay = wire.delay_s + self._chance.uniform(0, wire.jitter_s) if wire.delay_s or wire.jitter_s else 0.0
                await under_way.put((loop.time() + delay, data))
                if not data:
                    return
                data = await reader.read(CHUNK_BYTES)

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            group.create_task(take())

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, wire: Wire) -> None:
        self.bytes_passed += len(data)
        if not wire.bytes_per_s:
            writer.write(data)
            await writer.drain()
            return
        position = 0
        while position < len(data):
            await wire.whole.wait()
            size = max(int(wire.bytes_per_s * DRIP_S), 1) if wire.bytes_per_s else len(data)
            writer.write(data[position : position + size])
            await writer.drain()
            position += size
            await asyncio.sleep(DRIP_S)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _who_dials(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The broker that says HELLO, and the bytes read until then."""
    frames, begun = FrameReader(), b""
    async with asyncio.timeout(HELLO_S_MAX):
        while True:
            data = await reader.read(CHUNK_BYTES)
            if not data:
                raise ConnectionResetError("ended before it said who it is")
            begun += data
            try:
                found = frames.feed(data)
            except PeerFrameError as error:
                raise ConnectionResetError(str(error)) from None
            if found:
                kind, body = found[0]
                if kind is not FrameType.HELLO:
                    raise ConnectionResetError(f"began with {kind.name}")
                return f"b{msgspec.msgpack.decode(body)[2][1]}", begun
