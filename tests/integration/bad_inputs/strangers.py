"""Those who connect to a port and do not behave."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import crc32c
import msgspec
from lograft.node.peer.handshake import Dialler, Directories, LinkKind, PeerIdentity
from lograft.proto.peer_frames import FrameReader, FrameType, encode_frame

from tests.integration.brokers import SECRET, Broker


def connect(port: int, *, timeout: float = 15.0, source: str = "127.0.0.1") -> socket.socket:
    """From any address of the loopback network."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=(source, 0))


@contextlib.contextmanager
def crowd(port: int, count: int, *, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections from eight addresses. Each says that as soon as it is there, and no more."""
    with ExitStack() as stack:
        strangers = []
        for at in range(count):
            strangers.append(stack.enter_context(connect(port, source=f"127.0.0.{2 + at % 8}")))
            strangers[-1].sendall(says)
        yield strangers


def ended(stranger: socket.socket) -> bytes:
    """All that the broker says until it closes the connection. TimeoutError if it does not."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while piece := stranger.recv(1 << 16):
            said += piece
    return said


def are_closed(strangers: list[socket.socket], seconds: float) -> int:
    """How many of them the broker has closed within that time."""
    deadline = time.monotonic() + seconds
    closed = 0
    for stranger in strangers:
        stranger.settimeout(max(0.001, deadline - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            ended(stranger)
            closed += 1
    return closed


def framed(frame_type: int, body: bytes) -> bytes:
    """One frame with a good CRC, whatever is in it."""
    return (
        struct.pack(">IBI", len(body) + 5, frame_type, crc32c.crc32c(body, crc32c.crc32c(bytes([frame_type])))) + body
    )


def joined(buffers: list[object]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)  # type: ignore[call-overload]


class Impostor:
    """Speaks the handshake, as some broker, with some secret."""

    def __init__(
        self,
        broker: Broker,
        *,
        secret: str = SECRET,
        cluster_id: str | None = None,
        broker_id: int = 77,
        kind: LinkKind = LinkKind.CONTROL,
        identity: PeerIdentity | None = None,
        session: bytes = b"s" * 16,
    ) -> None:
        self.identity = identity or PeerIdentity(
            cluster_id=cluster_id,
            broker_id=broker_id,
            directory_id="d" * 32,
            start_number=time.time_ns(),  # each impostor is the newest process of its directory
            version="0.1.0",
        )
        self.dialler = Dialler(
            self.identity,
            secret.encode(),
            Directories(self.identity),
            kind=kind,
            session=session,
            expected_broker_id=broker.broker_id,
        )
        self.socket = connect(broker.peer_port)
        self.sent: list[bytes] = []
        self._reader = FrameReader()
        self._frames: list[tuple[FrameType, memoryview]] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.socket.sendall(data)

    def receive(self) -> tuple[FrameType, memoryview]:
        """The next frame. EOFError if the broker closes the connection first."""
        while not self._frames:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def challenge(self) -> bytes:
        """Say HELLO; the body of what is answered."""
        self.send(joined(self.dialler.hello()))
        frame_type, body = self.receive()
        assert frame_type is FrameType.CHALLENGE
        return bytes(body)

    def shake_hands(self) -> None:
        """To the end. Raises HandshakeRefused, EOFError."""
        body = self.challenge()
        self.send(joined(self.dialler.receive(FrameType.CHALLENGE, body)))
        self.dialler.receive(*self.receive())

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def session(broker: Broker, **who: object) -> Iterator[tuple[Impostor, Impostor]]:
    """Both links of a session of somebody who knows the secret, and has said the first ping on each."""
    control = Impostor(broker, kind=LinkKind.CONTROL, **who)  # type: ignore[arg-type]
    bulk = Impostor(broker, kind=LinkKind.BULK, identity=control.identity)
    with control.socket, bulk.socket:
        for link in (control, bulk):
            link.shake_hands()
        for link in (control, bulk):
            link.send(joined(encode_frame(FrameType.PING, b"\0" * 8)))
        yield control, bulk


def refusal_of(broker: Broker, data: bytes) -> str:
    """What the broker says to these first bytes before it closes the connection."""
    with connect(broker.peer_port) as stranger:
        stranger.sendall(data)
        said = ended(stranger)
    frames = FrameReader().feed(said) if said else []
    return str(msgspec.msgpack.decode(frames[-1][1])[1]) if frames else ""
