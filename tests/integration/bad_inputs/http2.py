"""HTTP/2 by hand: what no well-behaved library would send."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Self

from tests.integration.bad_inputs.strangers import connect

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
INITIAL_WINDOW_SIZE = 4
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def _literal(name: bytes, value: bytes) -> bytes:
    """A header without index, without Huffman."""
    return b"\0" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes([size])
    size -= 127
    out = bytearray([127])
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    return bytes([*out, size])


def call_headers(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """The header block of a gRPC call."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    )
    return b"".join(_literal(name, value) for name, value in fields)


class RawConnection:
    """One connection to a gRPC port, by hand."""

    def __init__(self, port: int) -> None:
        self._socket = connect(port, timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begun = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_while_read(self, piece: bytes, *, count_max: int, stream: int) -> int:
        """Send it again and again as far as the windows allow, reading no answers; how often, until nothing is read."""
        room = {0: 65_535, stream: 65_535}
        self._socket.settimeout(3)
        said, sent, size = b"", 0, len(piece) - 9
        while sent < count_max:
            if min(room.values()) >= size:
                self.send(piece)
                sent += 1
                for at in room:
                    room[at] -= size
                continue
            try:
                said += self._socket.recv(1 << 16)
            except TimeoutError:
                break
            while len(said) >= 9 and len(said) >= 9 + int.from_bytes(said[:3], "big"):
                length = int.from_bytes(said[:3], "big")
                kind, flags, where = said[3], said[4], int.from_bytes(said[5:9], "big")
                body = said[9 : 9 + length]
                said = said[9 + length :]
                if kind == WINDOW_UPDATE and where in room:
                    room[where] += int.from_bytes(body, "big")
                elif kind == SETTINGS and not flags & ACK:
                    for name, value in struct.iter_unpack(">HI", body):
                        if name == INITIAL_WINDOW_SIZE:
                            room[stream] += value - 65_535
                elif kind == PING and not flags & ACK:
                    self.send(frame(PING, ACK, 0, body))
        return sent

    def frames_until_end(self, timeout: float = 10.0) -> list[tuple[int, int, bytes]]:
        """Kind, flags and body of all frames until the broker closes the connection, or says nothing for so long."""
        self._socket.settimeout(timeout)
        said = self._begun
        with contextlib.suppress(OSError):
            while piece := self._socket.recv(1 << 16):
                said += piece
        found = []
        while len(said) >= 9:
            size = int.from_bytes(said[:3], "big")
            found.append((said[3], said[4], said[9 : 9 + size]))
            said = said[9 + size :]
        return found


def going_away(frames: list[tuple[int, int, bytes]]) -> list[tuple[int, bytes]]:
    """Code and words of each GOAWAY."""
    return [(struct.unpack(">I", body[4:8])[0], body[8:]) for kind, _, body in frames if kind == GOAWAY]
