"""A stream that nobody listens to any more is cancelled, again and again; what it had open is closed all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
from lograft.node.console.scan import close_surely


def test_a_consumer_is_closed_to_its_end_also_where_each_wait_is_cancelled() -> None:
    closed: list[str] = []

    class Consumer:
        async def close(self) -> None:
            for part in ("caretaker", "fetchers"):
                await asyncio.sleep(0)
                closed.append(part)

    consumer: Any = Consumer()

    async def scene() -> None:
        with anyio.CancelScope() as scope:
            try:
                scope.cancel()
                await anyio.sleep_forever()
            finally:
                await close_surely(consumer)
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(scene())
    assert closed == ["caretaker", "fetchers"]
