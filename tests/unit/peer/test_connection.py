"""What one connection holds for the other side."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from lograft.node.peer.connection import URGENT_MAX, PeerConnection
from lograft.proto.peer_frames import FrameType, encode_frame


class Owner:
    def __init__(self) -> None:
        self.ended = ""

    def connection_opened(self, connection: PeerConnection) -> None:
        pass

    def frame_received(self, connection: PeerConnection, frame_type: FrameType, body: memoryview) -> None:
        connection.send_urgent(encode_frame(FrameType.PONG, body))

    def connection_ended(self, connection: PeerConnection, why: str) -> None:
        self.ended = why


class Transport:
    """Takes what is written, and nothing once it is aborted."""

    def __init__(self) -> None:
        self.is_aborted = False

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str) -> None:
        pass

    def writelines(self, buffers: list[bytes]) -> None:
        assert not self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True


def test_answers_to_pings_that_nobody_reads_are_few_then_the_connection_ends() -> None:
    async def scene() -> None:
        owner, transport = Owner(), Transport()
        connection = PeerConnection(owner, cast(Any, None))
        connection.is_trusted = True
        connection.connection_made(cast(Any, transport))
        connection.pause_writing()  # the other side does not read
        ping = b"".join(map(bytes, encode_frame(FrameType.PING, bytes(8))))
        connection.data_received(ping * URGENT_MAX)
        assert not owner.ended
        connection.data_received(ping)
        assert "does not read" in owner.ended and transport.is_aborted

    asyncio.run(scene())
