"""Who repairs a log: how often it tries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.events import HoleLost
from lograft.partitions.raft.messages import RepairReply, RepairRequest, Serving, Voter
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.repairer import RepairCounts, Repairer
from lograft.partitions.storage.log import DamagedLog, PartitionLog
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.repair import Hole, head_of_reply

from tests.unit.storage.fakes import (
    DATA,
    ONE_SEGMENT,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    a_log,
    items_of,
    turns,
)


class DiskForgets:
    """A replica whose log, filled or not, is found with the same hole."""

    partition = PARTITION
    voter = VOTERS[0]
    leader: Voter | None = None
    term = 1
    is_leader = False
    compacted_to = (0, 0)
    log_start = 0
    is_log_in_flux = False
    awaits_repair = True

    def __init__(self, environment: FakeEnvironment, log: PartitionLog) -> None:
        self.environment = environment
        self.log = log
        self.times_read = 0

    def sources(self) -> Sequence[Voter]:
        return ()

    def hole_lost(self, event: HoleLost) -> None:
        raise AssertionError(event)

    def note_unreadable(self, damage: DamagedLog) -> None:
        raise AssertionError(damage)

    async def read_log_anew(self, suspect: int | None = None, base: Point | None = None) -> None:
        self.times_read += 1
        self.log.close()
        self.log = await log_with_hole(self.environment)


class Heals(DiskForgets):
    """Its disk gave errors for a moment: read anew, the log is whole."""

    async def read_log_anew(self, suspect: int | None = None, base: Point | None = None) -> None:
        self.times_read += 1
        self.log.hole = None
        self.awaits_repair = False


class NoPromises:
    """Of a replica that is not listed."""

    def recall(self, partition: PartitionId) -> None:
        return None


async def log_with_hole(environment: FakeEnvironment) -> PartitionLog:
    """A log that needs nobody's help: of what lies beyond the hole nothing was surely held."""
    log, _ = await PartitionLog.recover(
        environment, DATA, PARTITION, mark=ORIGIN, same_boot=True, config=ONE_SEGMENT, suspects=None
    )
    log.hole = Hole(log.end, (0,), 0, ORIGIN, log.size_bytes, claims=())
    return log


def test_a_hole_that_is_found_again_however_often_it_is_filled_is_filled_ever_more_seldom() -> None:
    async def scenario() -> None:
        environment = FakeEnvironment(FakeDisk())
        log = await a_log(environment, "T1", 3)
        log.close()
        replica = DiskForgets(environment, await log_with_hole(environment))
        assert replica.log.hole is not None
        repairer = Repairer(environment, cast(Any, NoPromises()), cast(Any, replica), RepairCounts())
        repairer.begin()
        await turns()
        assert (replica.times_read, len(environment.timers)) == (1, 1)
        assert "found again" in repairer.state
        environment.run_timers()
        await turns()
        assert (replica.times_read, len(environment.timers)) == (2, 1)
        await repairer.stop()

    asyncio.run(scenario())


def test_a_log_that_is_found_whole_when_it_is_read_anew_is_not_replaced_by_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        environment = FakeEnvironment(FakeDisk())
        log = await a_log(environment, "T1", 3)
        log.close()
        replica = Heals(environment, await log_with_hole(environment))
        repairer = Repairer(environment, cast(Any, NoPromises()), cast(Any, replica), RepairCounts())
        begun: list[int] = []

        async def fill_from_peers(tried: Any) -> bool:
            begun.append(tried.hole.segment)
            tried.servings.add(Serving.CLEANED)
            await replica.read_log_anew(tried.hole.bases[0])
            return False

        monkeypatch.setattr(repairer, "_fill_from_peers", fill_from_peers)
        repairer.begin()
        await turns()
        await repairer.stop()
        assert (begun, replica.times_read, repairer.state) == ([0], 1, "")

    asyncio.run(scenario())


class Mended:
    """A new segment that is about to take its place, and ends behind the mark of a log."""

    head = None
    rewritten_to = 0
    items_taken = bytes_taken = 0
    after = Point(1, 3, 1)

    def __init__(self, hole: Hole, promises: Promises) -> None:
        self.hole = hole
        self.base_offset = hole.bases[hole.segment]
        self._promises = promises
        self.marks: list[Point] = []

    async def finish(self) -> None:
        return

    async def put_in_place(self) -> None:
        known = self._promises.recall(PARTITION)
        assert known is not None
        self.marks.append(known.mark)


def test_before_what_was_mended_past_the_mark_is_in_place_the_mark_is_raised_to_its_end() -> None:
    """Others merge what stands around it: no item would end at the mark, and the log be unreadable for good."""

    async def scenario() -> None:
        environment = FakeEnvironment(FakeDisk())
        log = await a_log(environment, "T1", 3)
        log.close()
        promises = await Promises.open(environment, DATA)
        promises.note_created(PARTITION, 4)
        promises.raise_mark(PARTITION, Point(1, 2, 1))
        await promises.sync(promises.note_vote(PARTITION, 1, None))
        replica = DiskForgets(environment, await log_with_hole(environment))
        assert replica.log.hole is not None
        mended = Mended(replica.log.hole, promises)
        repairer = Repairer(environment, promises, cast(Any, replica), RepairCounts())
        assert await repairer._put_in_place(cast(Any, mended))
        assert mended.marks == [mended.after] and replica.times_read == 1

    asyncio.run(scenario())


class Asked:
    """A replica that is whole, and is asked for what another one lost."""

    partition = PARTITION
    voter = VOTERS[1]
    term = 1
    is_leader = False
    compacted_to = (0, 0)
    is_log_in_flux = False

    def __init__(self, log: PartitionLog, log_start: int) -> None:
        self.log = log
        self.log_start = log_start


def asked_for_the_beginning(
    voters: tuple[Voter, ...], *shapes: Any, base_offset: int = 0, log_start: int = 0
) -> RepairReply:
    """What a log, that began when these voted, gives to one whose first head is lost, and begins at `base_offset`."""

    async def scenario() -> RepairReply:
        environment = FakeEnvironment(FakeDisk())
        log = await PartitionLog.create(environment, DATA, PARTITION, voters, ONE_SEGMENT)
        for item in items_of(log.end, *shapes):
            log.append([item], 5)
        repairer = Repairer(environment, cast(Promises, None), cast(Any, Asked(log, log_start)), RepairCounts())
        request = RepairRequest(VOTERS[0], VOTERS[1], 1, 1, ORIGIN, ORIGIN, (log.end,), base_offset=base_offset)
        return repairer.answer(request)

    return asyncio.run(scenario())


def test_the_beginning_of_a_log_is_had_from_one_who_knows_who_votes() -> None:
    reply = asked_for_the_beginning(VOTERS, "T1", 3)
    assert reply.serving is Serving.ITEMS
    assert head_of_reply(reply.head, "the head").voters == VOTERS


def test_who_lost_its_first_segment_gets_the_log_from_its_start_and_not_from_what_it_has_left() -> None:
    """It cannot know: the head of what is left is unreadable, too, and would say where the log starts."""
    shapes = ("T1", 3, 3, 3)
    lost = asked_for_the_beginning(VOTERS, *shapes, base_offset=6)
    assert lost.serving is Serving.ITEMS
    assert (lost.after, head_of_reply(lost.head, "the head").base) == (ORIGIN, ORIGIN)
    trimmed = asked_for_the_beginning(VOTERS, *shapes, base_offset=6, log_start=6)
    assert trimmed.serving is Serving.ITEMS
    assert trimmed.after == head_of_reply(trimmed.head, "the head").base == Point(1, 6, 1)


def test_a_learner_who_was_never_told_who_votes_gives_nobody_the_beginning_of_a_log() -> None:
    reply = asked_for_the_beginning((), "T1", 3)
    assert (reply.serving, reply.head) == (Serving.UNPROVED, b"")


def test_a_learner_in_whose_log_the_voters_are_named_gives_its_beginning() -> None:
    reply = asked_for_the_beginning((), "T1", 3, VOTERS, 2)
    assert reply.serving is Serving.ITEMS


def test_who_does_not_answer_is_not_asked_again_in_the_same_round() -> None:
    """Identities that are no more never answer: each would take its time twice."""

    async def scenario() -> None:
        environment = FakeEnvironment(FakeDisk())
        log = await a_log(environment, "T1", 3)
        log.hole = Hole(log.end, (0,), 0, ORIGIN, log.size_bytes, claims=(Point(1, 9, 1),))
        replica = DiskForgets(environment, log)
        asked: list[Voter] = []
        repairer = Repairer(environment, cast(Promises, None), cast(Any, replica), RepairCounts())

        def send(partition: Any, message: Any) -> None:
            asked.append(message.to)
            if message.to == VOTERS[1]:
                environment.call_soon(
                    lambda: repairer.take(
                        RepairReply(message.to, message.sender, 1, message.number, Serving.CLEANED, message.after)
                    )
                )
            else:
                environment.call_soon(environment.run_timers)

        environment.send = send  # type: ignore[method-assign]
        replica.sources = lambda: (VOTERS[2], VOTERS[1])  # type: ignore[method-assign]
        repairer.begin()
        for _ in range(20):
            await turns()
        assert asked[:3] == [VOTERS[2], VOTERS[1], VOTERS[1]]
        await repairer.stop()

    asyncio.run(scenario())
