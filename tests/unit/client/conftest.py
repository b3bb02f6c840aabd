"""One event loop for all: gRPC allows one a process, and the blocking client's is it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from lograft.client import sync

from tests.unit.client.fake_cluster import FakeCluster


def run(work: Coroutine[Any, Any, Any], timeout_s: float = 20.0) -> Any:
    return sync._background.run(asyncio.wait_for(work, timeout_s))


@pytest.fixture
def with_cluster() -> Callable[..., None]:
    """Runs an async function against a fresh cluster of `brokers` brokers."""

    def with_cluster(test: Callable[[FakeCluster], Coroutine[Any, Any, None]], brokers: int = 1) -> None:
        async def whole() -> None:
            async with fake_cluster(brokers) as cluster:
                await test(cluster)

        run(whole())

    return with_cluster


@asynccontextmanager
async def fake_cluster(brokers: int = 1) -> AsyncIterator[FakeCluster]:
    cluster = await FakeCluster().start(brokers)
    try:
        yield cluster
    finally:
        await cluster.stop()
