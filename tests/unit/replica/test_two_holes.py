"""A log with two holes: while the second one is there, the repair of the first one makes nobody count it as whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.replica import Replica
from lograft.partitions.storage.repair import Mending
from lograft.partitions.storage.retention import RetentionLimits
from lograft.partitions.storage.segment import DamagedLog

from .test_log_start import fill, has_dropped, is_even
from .test_losing_leadership import until
from .test_reading_anew import flip
from .trio import Trio, a_batch, a_trio

AWAY, LACKS_BEGINNING, LOST_ITS_HEAD = 2, 1, 0

RECORDS = 40
IN_ITS_FIRST_ITEM = 70


async def produce(trio: Trio) -> Replica:
    """Records of several sizes, in segments of several sizes, on all three. Returns who leads."""
    leader = await trio.leader()
    for at in range(RECORDS):
        leader.append(*a_batch(b"value" + b"x" * (at * at % 23)), None)
    replicas = trio.network.replicas.values()
    await trio.watch.until(lambda: all(each.committed.offset == RECORDS for each in replicas))
    await until(lambda: all(each.log.end == each.flushed.end for each in replicas))
    return leader


def points_of(replica: Replica) -> list[Point]:
    return [item.point for item in replica.log.read_items(replica.log.base, replica.log.end, 1 << 30)]


def segments_of(root: Path, broker_id: int) -> list[Path]:
    return sorted(path for path in (root / str(broker_id)).rglob("*.log") if path.name[:20].isdigit())


def is_sound(replica: Replica) -> bool:
    status = replica.status()
    return not status.damaged and status.word == ORIGIN


def the_next_one_vanishes(second: Path, third: Path) -> None:
    flip(second, IN_ITS_FIRST_ITEM)
    third.unlink()


def it_is_cut_short_as_well(second: Path, third: Path) -> None:
    flip(second, IN_ITS_FIRST_ITEM)
    with second.open("r+b") as file:
        file.truncate(second.stat().st_size * 3 // 4)


@pytest.mark.parametrize("harm", [the_next_one_vanishes, it_is_cut_short_as_well])
def test_what_stands_behind_a_hole_is_read_once_the_hole_is_filled(
    harm: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=500) as trio:
            leader = await produce(trio)
            follower = next(each.voter.broker_id for each in trio.network.replicas.values() if each is not leader)
            held = points_of(trio.network.replicas[follower])
        harm(*segments_of(tmp_path, follower)[2:4])
        async with a_trio(tmp_path, segment_bytes_max=500) as trio:
            replica = trio.network.replicas[follower]
            assert replica.is_damaged
            await until(lambda: is_sound(replica))
            assert points_of(replica)[: len(held)] == held

    asyncio.run(go())


def test_after_a_torn_write_a_lost_first_segment_is_repaired_and_nobody_leads_without_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=500) as trio:
            leader = await produce(trio)
            follower = next(each.voter.broker_id for each in trio.network.replicas.values() if each is not leader)
        segments = segments_of(tmp_path, follower)
        with segments[-1].open("ab") as file:
            file.write(segments[1].read_bytes()[:50])
        segments[0].unlink()
        async with a_trio(tmp_path, segment_bytes_max=500) as trio:
            replica = trio.network.replicas[follower]
            await until(lambda: is_sound(replica))
            assert replica.log.base == ORIGIN and replica.log.start_offset == 0

    asyncio.run(go())


def test_who_lost_its_beginning_and_has_another_hole_gives_nobody_a_log_that_begins_later(tmp_path: Path) -> None:
    """Each disk is flawed at another place, and who has all of it is away: those who are left wait for it."""

    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=500) as trio:
            await produce(trio)
        segments = segments_of(tmp_path, LACKS_BEGINNING)
        segments[0].unlink()
        segments[3].unlink()
        flip(segments_of(tmp_path, LOST_ITS_HEAD)[0].with_suffix(".head"), 20)
        trio = Trio(tmp_path, 3, 500)
        trio.network.is_cut = lambda message: AWAY in (message.to.broker_id, message.sender.broker_id)
        await trio.start()
        try:
            everybody = tuple(each.voter for each in trio.network.replicas.values())
            replica = trio.network.replicas[LOST_ITS_HEAD]
            replica.placed = everybody
            await until(lambda: "cannot read it now" in replica.status().repair)
            assert replica.is_damaged
            trio.join()
            await until(lambda: is_sound(replica))
            assert replica.log.base == ORIGIN
        finally:
            await trio.stop()

    asyncio.run(go())


def test_what_was_met_before_a_crash_is_looked_for_until_all_of_it_is_repaired(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=500) as trio:
            leader = await produce(trio)
            replica = next(each for each in trio.network.replicas.values() if each is not leader)
            follower, held = replica.voter.broker_id, points_of(replica)
            trio.cut_off(replica)
            segments = segments_of(tmp_path, follower)
            for path in (segments[1], segments[4]):
                flip(path, IN_ITS_FIRST_ITEM)
                replica.note_unreadable(DamagedLog(str(path), 0, "a read met it"))
            await until(lambda: replica.log.hole is not None)
        async with a_trio(tmp_path, segment_bytes_max=500) as trio:
            replica = trio.network.replicas[follower]
            await until(lambda: is_sound(replica))
            assert points_of(replica)[: len(held)] == held

    asyncio.run(go())


def test_a_beginning_that_is_lost_again_right_after_its_repair_is_not_taken_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two logs may begin at one offset, but not behind the same item without width: whose file it is decides."""

    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            await fill(leader, 20)
            everybody = list(trio.network.replicas.values())
            await trio.watch.until(lambda: is_even(trio))
            # It rolls before it moves the start, the others once they hear of that.
            leader.enforce_retention(RetentionLimits(ms_max=1, follower_bytes_max=0), now_ms=1 << 50)
            await until(lambda: all(has_dropped(trio, each, 20) for each in everybody))
            await fill(leader, 3)
            await trio.watch.until(lambda: is_even(trio))
            replica, other = (each for each in everybody if each is not leader)
            assert leader.log.base < replica.log.base == other.log.base
            asked = [leader.voter]
            monkeypatch.setattr(Replica, "sources", lambda _: tuple(asked))
            head = segments_of(tmp_path, replica.voter.broker_id)[0].with_suffix(".head")
            put_in_place = Mending.put_in_place

            async def put_in_place_and_lose(mending: Mending) -> None:
                await put_in_place(mending)
                if asked == [leader.voter]:
                    flip(head, 20)
                    asked[:] = [other.voter]

            monkeypatch.setattr(Mending, "put_in_place", put_in_place_and_lose)
            flip(head, 20)
            replica.note_unreadable(DamagedLog(str(head), 0, "a read met it"))
            await until(lambda: asked == [other.voter] and not replica.is_damaged)
            assert replica.log.base == other.log.base
            assert points_of(replica) == points_of(other)

    asyncio.run(go())
