"""Whole replicas on real disks compact their logs, and one that is left behind begins anew."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from lograft.partitions.compactor import compact
from lograft.partitions.environment import ReplicaConfig
from lograft.partitions.flusher import Flusher
from lograft.partitions.raft.events import PeerHeard
from lograft.partitions.raft.messages import AppendRequest
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.replica import Replica
from lograft.partitions.storage import log as log_module
from lograft.partitions.storage.compaction import CompactionSettings
from lograft.partitions.storage.promised import ReplicaPromises
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.replacement import Replacement, decide_replacement
from lograft.partitions.storage.rewriting import Job, Outcome, Rewritten, Take, rewrite
from lograft.proto.record_batch import NewRecord, decode, emptied, encode, read_header

from .test_losing_leadership import Deaf, a_record
from .trio import PARTITION, Trio, a_trio

SMALL = 300
SETTINGS = CompactionSettings(tombstones_ms=0, segment_bytes_max=SMALL, dirty_bytes_max=0, index_interval_bytes=100)


async def put(leader: Replica, key: bytes, value: bytes | None) -> None:
    batch = encode([NewRecord(1_700_000_000_000, key, value)])
    await leader.append(batch, read_header(batch), None).committed


async def leave(_: Rewritten) -> None:
    return


async def work(job: Job, replica: Replica, take: Take = leave) -> Outcome:
    async def pace(size: int) -> None:
        await asyncio.sleep(0)

    return await rewrite(job, replica._environment.disk, pace, take)


async def compacted(replica: Replica) -> Outcome:
    outcome = await compact(replica._environment, replica, SETTINGS, lambda job, take: work(job, replica, take))
    assert outcome is not None
    return outcome


def newest_in(replica: Replica) -> dict[bytes | None, bytes | None]:
    newest: dict[bytes | None, bytes | None] = {}
    offset = 0
    while offset < replica.committed.offset:
        chunk = replica.read_committed(offset, 1 << 20)
        newest |= {record.key: record.value for batch in chunk.batches for record in decode(batch)}
        offset = chunk.next_offset
    return {key: value for key, value in newest.items() if value is not None}


def is_even(trio: Trio) -> bool:
    return len({(each.committed, each.log.end) for each in trio.network.replicas.values()}) == 1


async def fill(leader: Replica, rounds: int) -> None:
    for number in range(rounds):
        for key in (b"a", b"b", b"gone"):
            await put(leader, key, b"%030d" % number)
    await put(leader, b"gone", None)
    for _ in range(6):
        await put(leader, b"z", b"z" * 30)


WANTED = {b"a": b"%030d" % 7, b"b": b"%030d" % 7, b"z": b"z" * 30}


def test_leader_and_followers_compact_alone_and_keep_the_newest_of_each_key_over_a_restart(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            await fill(leader, 8)
            await trio.watch.until(lambda: is_even(trio))
            for replica in trio.network.replicas.values():
                before = replica.log.size_bytes
                outcome = await compacted(replica)
                assert outcome.records_dropped and replica.log.size_bytes < before / 2
                assert newest_in(replica) == WANTED
                known = replica._promises.recall(PARTITION)
                assert known is not None and known.rewritten_to >= known.cleaned_to > 0
            await put(leader, b"a", b"after")
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            await trio.watch.until(lambda: is_even(trio))
            for replica in trio.network.replicas.values():
                assert newest_in(replica) == WANTED | {b"a": b"after"}
                assert replica._core.cleaned_to > 0

    asyncio.run(go())


def test_a_follower_that_missed_a_tombstone_begins_anew_and_forgets_the_key(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            await put(leader, b"gone", b"here")
            await trio.watch.until(lambda: is_even(trio))
            behind = next(each for each in trio.network.replicas.values() if each is not leader)
            trio.cut_off(behind)
            await fill(leader, 8)
            await compacted(leader)
            assert newest_in(behind) == {b"gone": b"here"}
            trio.join()
            await trio.watch.until(lambda: is_even(trio))
            assert behind.resets == 1 and newest_in(behind) == WANTED
            known = behind._promises.recall(PARTITION)
            assert known is not None and known.cleaned_to == leader._core.cleaned_to == behind._core.cleaned_to
            # It can lead with what it copied.
            await leader.transfer_leadership(behind.voter.broker_id)
            await trio.watch.until(lambda: behind.is_ready)
            await put(behind, b"a", b"new")
            await trio.watch.until(lambda: is_even(trio))
            assert [newest_in(each)[b"a"] for each in trio.network.replicas.values()] == [b"new"] * 3
            assert behind.status().word == ORIGIN
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            await trio.leader()
            await trio.watch.until(lambda: is_even(trio))
            assert all(each._core.cleaned_to > 0 for each in (leader, behind))

    asyncio.run(go())


def test_a_segment_cleaned_past_a_follower_that_came_back_meanwhile_is_not_put_in_place(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            behind = next(each for each in trio.network.replicas.values() if each is not leader)
            trio.cut_off(behind)
            await fill(leader, 8)
            job = leader.plan_compaction(SETTINGS)
            assert job is not None
            outcome = await work(job, leader)
            trio.network.is_cut = lambda message: behind.voter == message.sender  # it is there, and silent
            for other in trio.network.replicas:
                leader.take(PeerHeard(*trio.network.replicas[other].voter[:2]))
            assert not await leader.take_compacted(outcome.segments[-1])
            trio.join()
            await trio.watch.until(lambda: is_even(trio))
            assert behind.resets == 0 and await leader.take_compacted(outcome.segments[0])

    asyncio.run(go())


def test_a_log_trimmed_while_it_is_read_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            leader = await trio.leader()
            await fill(leader, 8)

            async def late_work(job: Job, take: Take) -> Outcome:
                await put(leader, b"z", b"z" * 200)
                await leader.move_log_start(leader.committed.offset)
                await trio.watch.until(lambda: leader.log.base > job.end and not leader._start.is_dropping)
                return await work(job, leader, take)

            assert await compact(leader._environment, leader, SETTINGS, late_work) is None
            assert not leader.status().damaged and leader.is_ready

    asyncio.run(go())


async def left_behind(trio: Trio) -> tuple[Replica, Replica]:
    """The leader, and a follower that has segments to compact, but will begin anew once it hears of the leader."""
    leader = await trio.leader()
    await fill(leader, 4)
    await trio.watch.until(lambda: is_even(trio))
    behind = next(each for each in trio.network.replicas.values() if each is not leader)
    trio.cut_off(behind)
    await fill(leader, 8)
    await compacted(leader)
    return leader, behind


def test_a_log_that_began_anew_while_it_was_read_is_not_taken_for_a_damaged_one_nor_changed(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            _, behind = await left_behind(trio)

            async def late_work(job: Job, take: Take) -> Outcome:
                trio.join()
                await trio.watch.until(lambda: behind.resets == 1 and is_even(trio))
                return await work(job, behind, take)

            assert await compact(behind._environment, behind, SETTINGS, late_work) is None
            assert not behind.status().damaged and newest_in(behind) == WANTED

    asyncio.run(go())


def test_a_log_may_begin_anew_while_a_compacted_segment_is_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=SMALL) as trio:
            _, behind = await left_behind(trio)
            failures: list[Exception] = []
            monkeypatch.setattr(behind._environment, "fail", failures.append)

            async def slowly(disk: object, directory: str, replacement: Replacement, new: str) -> None:
                await decide_replacement(behind._environment.disk, directory, replacement, new)
                trio.join()
                while not behind._cutting:  # noqa: ASYNC110  # nothing tells of it
                    await asyncio.sleep(0)

            job = behind.plan_compaction(SETTINGS)
            assert job is not None
            outcome = await work(job, behind)
            cleaning = next(one for one in outcome.segments if one.cleaned_to)
            monkeypatch.setattr(log_module, "decide_replacement", slowly)
            await behind.take_compacted(cleaning)
            await trio.watch.until(lambda: bool(failures) or (behind.resets == 1 and is_even(trio)))
            assert not failures and newest_in(behind) == WANTED

    asyncio.run(go())


def test_what_a_leader_thinned_is_promised_as_rewritten_before_it_is_acknowledged(tmp_path: Path) -> None:
    """Else a repair takes this log's bytes for those that any other log holds there."""

    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            term = replica.term + 1
            whole, thinned = a_record(term, 0, b"whole"), a_record(term, 1, b"superseded")
            bounds = emptied(read_header(thinned.data))
            deaf.gate.clear()
            deaf.is_told(1, term, Point(0, 0, 0), whole, replace(thinned, data=bounds), a_record(term, 2, b"new"))
            await deaf.has_flushed(Point(term, 3, 1))
            assert replica.compacted_to == (2, 0)
            assert replica.status().persisted < Point(term, 1, 1)
            assert replica._promises.synced < replica._promised
            deaf.gate.set()
            await deaf.has_persisted(Point(term, 3, 1))

    asyncio.run(go())


@asynccontextmanager
async def after_a_crash(root: Path, trio: Trio, replica: Replica) -> AsyncIterator[tuple[ReplicaPromises, Replica]]:
    """What the replica's disk had promised at this moment, and what the next process makes of it."""
    directory = str(root / "crashed")
    shutil.copytree(root / "0", directory)
    environment = RealEnvironment(directory)
    environment.transport = trio.network
    promises = await Promises.open(environment, directory)
    known = promises.recall(PARTITION)
    assert known is not None
    flusher = Flusher(environment)
    again = await Replica.open(
        environment=environment,
        promises=promises,
        flusher=flusher,
        directory=directory,
        partition=PARTITION,
        voter=replica.voter,
        first_voters=replica.voters,
        config=ReplicaConfig(),
        observer=trio.watch,
    )
    try:
        yield known, again
    finally:
        await again.stop()
        await flusher.drain()
        await promises.close()
        environment.disk.stop()


def test_what_a_leader_thinned_is_promised_as_rewritten_though_a_crash_came_before_the_promise(tmp_path: Path) -> None:
    """The page cache outlives the process: what it was about to promise, the next one finds in the log."""

    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            term = replica.term + 1
            thinned = a_record(term, 1, b"superseded")
            bounds = emptied(read_header(thinned.data))
            deaf.gate.clear()
            deaf.is_told(1, term, Point(0, 0, 0), a_record(term, 0, b"whole"))
            await deaf.has_flushed(Point(term, 1, 1))
            sender, after = next(voter for voter in replica.voters if voter.broker_id == 1), Point(term, 1, 1)
            items = replace(thinned, data=bounds), a_record(term, 2, b"new")
            replica.receive(AppendRequest(sender, replica.voter, term, 1, after, after, Point(0, 0, 0), items, 1))
            await deaf.has_flushed(Point(term, 3, 1))
            async with after_a_crash(tmp_path, trio, replica) as (known, again):
                assert known.rewritten_to == 0
                assert (again.log.end, again.compacted_to) == (Point(term, 3, 1), (2, 0))
                assert again._promises.synced == again._promised
            deaf.gate.set()

    asyncio.run(go())


def test_the_term_of_what_the_log_holds_is_promised_though_a_crash_came_before_the_promise(tmp_path: Path) -> None:
    """Recovery counts on it that nothing past the promised term was ever acknowledged."""

    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            term = deaf.replica.term + 1
            deaf.gate.clear()
            deaf.is_told(1, term, Point(0, 0, 0), a_record(term, 0, b"old"))
            await deaf.has_flushed(Point(term, 1, 1))
            deaf.is_told(2, term + 1, Point(term, 1, 1), a_record(term + 1, 1, b"new"))
            await deaf.has_flushed(Point(term + 1, 2, 1))
            async with after_a_crash(tmp_path, trio, deaf.replica) as (known, again):
                assert known.term == term
                assert again.log.end == Point(term + 1, 2, 1)
                promised = again._promises.recall(PARTITION)
                assert promised is not None and (promised.term, promised.voted_for) == (term + 1, None)
                assert again._promises.synced == again._promised
            deaf.gate.set()

    asyncio.run(go())
