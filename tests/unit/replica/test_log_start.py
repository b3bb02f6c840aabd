"""A log start that moves: whole replicas on real disks drop what lies before it, and begin anew where they must."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from lograft.partitions.raft.events import Event, Propose, StepDown
from lograft.partitions.replica import Replica
from lograft.proto.errors import NotLeader, OffsetOutOfRange, UnknownOutcome
from lograft.proto.record_batch import decode

from .trio import PARTITION, Trio, a_batch, a_trio

SMALL = 300
"""Bytes a segment: three records."""


async def fill(leader: Replica, count: int, *, producer_id: int = -1) -> None:
    for number in range(count):
        sequence = number if producer_id >= 0 else -1
        batch, header = a_batch(f"{number:030}".encode(), producer_id=producer_id, sequence=sequence)
        await leader.append(batch, header, sequence if producer_id >= 0 else None).committed


def segments_of(trio: Trio, replica: Replica) -> list[int]:
    directory = trio.root / str(replica.voter.broker_id) / "partitions" / str(PARTITION)
    return sorted(int(path.stem) for path in directory.glob("*.log"))


def numbers_in(replica: Replica, offset: int) -> list[int]:
    batches = replica.read_committed(offset, 1 << 20).batches
    return [int(record.value or b"") for batch in batches for record in decode(batch)]


def has_dropped(trio: Trio, replica: Replica, offset: int) -> bool:
    """Is all gone that lies before the segment that holds the offset, in memory and on disk?"""
    base = replica.log.base.offset
    return offset - 2 <= base == segments_of(trio, replica)[0] <= offset


def is_even(trio: Trio) -> bool:
    replicas = list(trio.network.replicas.values())
    return len({(each.committed, each.log.end, each.log_start) for each in replicas}) == 1


def test_a_move_of_the_start_is_answered_once_committed_and_every_replica_drops_what_lies_before(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            await fill(leader, 20)
            assert await leader.move_log_start(13) == leader.log_start == 13
            await trio.watch.until(lambda: is_even(trio))
            replicas = list(trio.network.replicas.values())
            await trio.watch.until(lambda: all(has_dropped(trio, each, 13) for each in replicas))
            for each in replicas:
                assert numbers_in(each, 13)[-7:] == list(range(13, 20))
                with pytest.raises(OffsetOutOfRange) as error:
                    each.read_committed(12, 100)
                assert error.value.facts["start"] == "13"
                assert each.status().start_offset == 13

    asyncio.run(go())


def test_trimming_to_the_end_leaves_an_empty_segment_and_what_comes_after_is_kept(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            await fill(leader, 20)
            await leader.move_log_start(20)
            replicas = list(trio.network.replicas.values())
            await trio.watch.until(lambda: all(has_dropped(trio, each, 20) for each in replicas))
            assert all(each.log.size_bytes < 200 for each in replicas)
            await fill(leader, 3)
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            assert leader.log_start == 20 and numbers_in(leader, 20) == [0, 1, 2]

    asyncio.run(go())


@pytest.mark.parametrize("offset", [-1, 21, 1 << 63])
def test_a_start_that_is_not_there_is_refused_and_nothing_moves(tmp_path: Path, offset: int) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            await fill(leader, 20)
            end = leader.log.end
            with pytest.raises(OffsetOutOfRange, match="name an offset from 0 to 20"):
                await leader.move_log_start(offset)
            assert leader.log.end == end and leader.log_start == 0

    asyncio.run(go())


def test_a_start_before_the_present_one_is_nothing_to_do(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            await fill(leader, 20)
            both = await asyncio.gather(leader.move_log_start(15), leader.move_log_start(9))
            end = leader.log.end
            assert both == [15, 15] and await leader.move_log_start(15) == 15
            assert await leader.move_log_start(0) == 15 and leader.log.end == end

    asyncio.run(go())


def test_a_start_that_is_not_committed_is_not_acted_upon_and_its_outcome_unknown(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            old = await trio.leader()
            await fill(old, 20)
            moving = asyncio.create_task(old.move_log_start(13))
            trio.network.is_cut = lambda message: True
            await asyncio.sleep(0)
            assert old.log.start_offset == 13 and old.log_start == 0
            assert numbers_in(old, 0)[0] == 0 and segments_of(trio, old)[0] == 0
            old.take(StepDown("the test says so"))
            with pytest.raises(UnknownOutcome, match="trim it again"):
                await moving
            with pytest.raises(NotLeader if old.leader else Exception):
                await old.move_log_start(13)

    asyncio.run(go())


def test_a_start_that_moves_in_the_step_that_costs_the_leadership_has_an_unknown_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when what a follower is sent with it turns out to be unreadable."""

    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            old = await trio.leader()
            await fill(old, 20)
            trio.network.is_cut = lambda _: True
            take = old.take

            def take_and_lose(event: Event) -> None:
                take(event)
                if isinstance(event, Propose):
                    take(StepDown("the test says so"))

            monkeypatch.setattr(old, "take", take_and_lose)
            with pytest.raises(UnknownOutcome, match="trim it again"):
                await old.move_log_start(13)

    asyncio.run(go())


def test_a_follower_behind_the_first_segment_begins_anew_there_and_knows_the_producers(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            await fill(leader, 3)
            await trio.watch.until(lambda: is_even(trio))
            behind = next(each for each in trio.network.replicas.values() if each is not leader)
            trio.cut_off(behind)
            for number in range(20):
                batch, header = a_batch(b"7" * 30, producer_id=7, sequence=number)
                await leader.append(batch, header, number).committed
            await leader.move_log_start(22)
            await trio.watch.until(lambda: has_dropped(trio, leader, 22))
            assert behind.committed.offset == 3
            trio.join()
            await trio.watch.until(lambda: is_even(trio))
            assert behind.log.base == leader.log.base and behind.log_start == 22
            assert has_dropped(trio, behind, 22)
            assert behind.log.producers.to_bytes() == leader.log.producers.to_bytes()
            assert numbers_in(behind, 22) == numbers_in(leader, 22)
            # What was sent before, sent again to the one that was reset, is known to be there.
            await leader.transfer_leadership(behind.voter.broker_id)
            await trio.watch.until(lambda: behind.is_ready)
            again = await behind.append(*a_batch(b"7" * 30, producer_id=7, sequence=19), 19).committed
            assert again.duplicate and again.base_offset == 22
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            assert leader.log_start == 22 and leader.read(22, 1 << 20).batches

    asyncio.run(go())
