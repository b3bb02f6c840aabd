"""What a broker says that it holds of a partition, where nobody leads it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from lograft.node.holdings import Holdings

from tests.unit.replica.test_reading_anew import flip
from tests.unit.replica.trio import PARTITION, a_batch, a_trio

VALUE_BYTE = 150


def test_a_replica_that_might_go_on_alone_is_read_first_as_a_flaw_of_it_could_not_be_repaired_later(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=1000) as trio:
            leader = await trio.leader()
            for _ in range(8):
                await leader.append(*a_batch(b"x" * 300), None).committed
            replica = next(each for each in trio.network.replicas.values() if each is not leader)
            await trio.watch.until(lambda: replica.committed.offset >= 8)
            trio.cut_off(replica)
            replicas = cast(Any, SimpleNamespace(table={PARTITION: replica}))
            broker_id, environment = replica.voter.broker_id, replica._environment
            holdings = Holdings(broker_id, replicas, replica._promises, cast(Any, None), environment.disk)
            (whole,) = await holdings.here(PARTITION)
            assert (whole.damaged, whole.end) == (False, replica.log.end)
            first = replica.log.stored_segments()[1]
            flip(Path(first.path), VALUE_BYTE)
            holdings = Holdings(broker_id, replicas, replica._promises, cast(Any, None), environment.disk)
            (spoiled,) = await holdings.here(PARTITION)
            assert spoiled.damaged
            assert spoiled.end == first.base
            assert spoiled.known_offset >= 8

    asyncio.run(go())


def test_a_replica_that_was_repaired_and_damaged_anew_says_where_it_is_damaged_now(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=1000) as trio:
            leader = await trio.leader()
            for _ in range(8):
                await leader.append(*a_batch(b"x" * 300), None).committed
            replica = next(each for each in trio.network.replicas.values() if each is not leader)
            await trio.watch.until(lambda: replica.committed.offset >= 8)
            replicas = cast(Any, SimpleNamespace(table={PARTITION: replica}))
            broker_id, environment = replica.voter.broker_id, replica._environment
            holdings = Holdings(broker_id, replicas, replica._promises, cast(Any, None), environment.disk)
            first, second = (segment.base for segment in replica.log.stored_segments()[:2])
            for base in (first, second):
                trio.cut_off(replica)
                (segment,) = (one for one in replica.log.stored_segments() if one.base == base)
                flip(Path(segment.path), VALUE_BYTE)
                (spoiled,) = await holdings.here(PARTITION)
                assert spoiled.damaged and base <= spoiled.end < segment.end
                trio.join()
                await trio.watch.until(lambda: not replica.is_damaged)

    asyncio.run(go())
