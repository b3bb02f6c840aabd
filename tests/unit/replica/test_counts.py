"""What replicas count: elections, how long batches took, what was dropped, cut and begun anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lograft.partitions.raft.events import PeerHeard

from .test_log_start import SMALL, fill, has_dropped, is_even
from .test_losing_leadership import lose_unnoticed, others_of
from .trio import PARTITION, Trio, a_batch, a_trio


def in_all(trio: Trio, name: str) -> int:
    return sum(int(getattr(counts, name)) for counts in trio.counts.values())


def test_an_election_is_begun_and_won_once_and_the_leader_times_each_batch_once(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            assert in_all(trio, "elections_won") >= 1
            assert in_all(trio, "elections_begun") >= in_all(trio, "elections_won")
            seconds: dict[int, list[float]] = {broker_id: [] for broker_id in trio.counts}
            for broker_id, counts in trio.counts.items():
                counts.committed_after = seconds[broker_id].append
            await fill(leader, 5, producer_id=7)
            again = await leader.append(*a_batch(b"again", producer_id=7, sequence=4), 4).committed
            assert again.duplicate, "a batch that was there already is not timed"
            mine = seconds.pop(leader.voter.broker_id)
            assert len(mine) == 5 and all(0 <= one < 10 for one in mine) and not any(seconds.values())

    asyncio.run(go())


def test_what_a_trim_drops_is_counted_in_bytes_by_every_replica(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            await fill(leader, 20)
            before = leader.log.size_bytes
            await leader.move_log_start(13)
            replicas = list(trio.network.replicas.values())
            await trio.watch.until(lambda: is_even(trio) and all(has_dropped(trio, each, 13) for each in replicas))
            for counts in trio.counts.values():
                assert before / 2 < counts.dropped_bytes[PARTITION.topic_id] < before

    asyncio.run(go())


def test_what_a_deposed_leader_has_to_cut_is_counted(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            old = await trio.leader()
            await fill(old, 1)
            lose_unnoticed(trio, old)
            batch, header = a_batch(b"never committed" * 10)
            lost = old.append(batch, header, None)
            await lost.persisted
            await trio.watch.until(lambda: any(one.is_ready for one in others_of(trio, old)))
            new = next(one for one in others_of(trio, old) if one.is_ready)
            await new.append(*a_batch(b"x"), None).committed
            trio.network.is_cut = lambda _: False
            new.take(PeerHeard(*old.voter[:2]))
            await trio.watch.until(lambda: old.committed == new.committed)
            assert trio.counts[old.voter.broker_id].cut_bytes >= len(batch)
            assert trio.counts[new.voter.broker_id].cut_bytes == 0

    asyncio.run(go())


def test_a_replica_that_begins_anew_counts_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            await fill(leader, 3)
            await trio.watch.until(lambda: is_even(trio))
            behind = next(each for each in trio.network.replicas.values() if each is not leader)
            trio.cut_off(behind)
            await fill(leader, 20)
            await leader.move_log_start(22)
            await trio.watch.until(lambda: has_dropped(trio, leader, 22))
            trio.join()
            await trio.watch.until(lambda: is_even(trio))
            assert trio.counts[behind.voter.broker_id].resets == 1
            assert trio.counts[leader.voter.broker_id].resets == 0

    asyncio.run(go())
