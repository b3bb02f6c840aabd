"""What a fetcher lets its broker send, with a call that the test answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lograft.client.fetcher import LeaderFetcher
from lograft.client.position import Position
from lograft.client.tail import Tail
from lograft.node.rpc.limits import CREDIT_BYTES_MAX
from lograft.proto.errors import LograftError
from lograft.v1 import broker_service_pb2 as pb


class Reader:
    """As a fetcher sees its consumer: one that reads nothing yet."""

    def __init__(self, share_bytes: int) -> None:
        self._share_bytes = share_bytes

    def positions_at(self, address: str) -> list[Position]:
        return []

    def share_bytes(self) -> int:
        return self._share_bytes

    def arrived(self) -> None:
        """Nobody waits."""

    def troubled(self, position: Position, error: LograftError, address: str) -> None:
        raise error


def a_tail(fetcher: LeaderFetcher) -> Tail:
    def open_call() -> Any:
        raise asyncio.CancelledError

    return Tail(open_call, take_in=fetcher._take_in_pushed, arrived=fetcher._pushed, changed=lambda: None)


@pytest.mark.parametrize("share_bytes", [64 << 10, 8 << 20, 512 << 20, 4 << 30])
def test_a_broker_that_keeps_to_its_bound_of_credit_never_waits_for_more(share_bytes: int) -> None:
    async def scene() -> None:
        fetcher = LeaderFetcher(None, Reader(share_bytes), "a:1")  # type: ignore[arg-type]
        tail = a_tail(fetcher)
        at_broker = 0

        def grant() -> None:
            nonlocal at_broker
            tail._outbox.clear()
            fetcher._grant(tail)
            for request in tail._outbox:
                at_broker = min(at_broker + request.credit_bytes, CREDIT_BYTES_MAX)

        for _ in range(400):
            grant()
            assert at_broker > 0, f"{tail.outstanding_bytes} bytes are thought to be granted"
            sent = min(at_broker, 1 << 20)
            at_broker -= sent
            tail._hear_part(pb.StreamResponse(stream_id=7, batches=bytes(sent)))
        tail.close()
        await fetcher.close()

    asyncio.run(scene())
