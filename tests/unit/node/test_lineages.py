"""What a recovery asks of a broker's replica, on a simulated disk: over, or the one that goes on."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from lograft.node.controller.facts import RecoveryFact
from lograft.node.lineages import Lineages
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN
from lograft.partitions.storage.lineage import LineageNote, read_note, write_note
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.promises import Promises

from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    LOG_DIRECTORY,
    PARTITION,
    FakeDisk,
    FakeEnvironment,
    Halted,
    PowerCut,
    recovered,
)
from tests.unit.storage.test_lineage import an_old_replica, is_done

OTHER = Voter(0, "c", 1)


def a_recovery(source: Voter, number: int = 1) -> RecoveryFact:
    return RecoveryFact(
        number=number,
        source=source,
        heir=source._replace(replica_number=7 * number),
        first_number=7 * number,
        term=1_003,
        kept_offset=16,
        lost_offset=16,
        decided_ms=1,
        by="",
    )


async def lineages(disk: FakeDisk) -> tuple[Lineages, Voter, Promises]:
    env, promises, _ = await an_old_replica(disk)
    return Lineages(env, promises, DATA), Voter(1, promises.directory_id, 2), promises


def test_a_replica_that_is_over_is_not_opened_again_and_makes_room_once_the_new_lineage_leads() -> None:
    async def scene() -> None:
        disk = FakeDisk()
        here, mine, promises = await lineages(disk)
        recovery = a_recovery(OTHER)
        assert await here.follow(PARTITION, mine, recovery, may_begin=True, is_led=False) is not None
        restarted = Lineages(FakeEnvironment(disk), promises, DATA)
        why = await restarted.admit(PARTITION, CONFIG)
        assert why is not None and "recovery 1 ended it" in why and PARTITION in restarted.ended
        assert await restarted.follow(PARTITION, mine, recovery, may_begin=False, is_led=True) is not None
        assert promises.recall(PARTITION) is not None, "before all decisions are read nothing is moved"
        assert await restarted.follow(PARTITION, mine, recovery, may_begin=True, is_led=True) is None
        assert promises.recall(PARTITION) is None and not disk.exists(LOG_DIRECTORY)
        assert any(path.startswith(f"{DATA}/recovered/") and path.endswith(".log") for path in disk.names)

    asyncio.run(scene())


def test_the_source_goes_on_only_once_all_decisions_are_read_and_a_later_recovery_may_choose_what_one_ended() -> None:
    async def scene() -> None:
        disk = FakeDisk()
        here, mine, promises = await lineages(disk)
        first, second = a_recovery(OTHER), a_recovery(mine, 2)
        await here.follow(PARTITION, mine, first, may_begin=True, is_led=False)
        assert await here.follow(PARTITION, mine, second, may_begin=False, is_led=False) is not None
        assert await here.follow(PARTITION, mine, second, may_begin=True, is_led=False) is None
        assert await here.admit(PARTITION, CONFIG) is None
        known = promises.recall(PARTITION)
        assert known is not None and known.replica_number == second.heir.replica_number
        assert not here.ended and read_note(disk, DATA, PARTITION) is None

    asyncio.run(scene())


async def an_heir_that_cannot_come_to_be(disk: FakeDisk) -> tuple[Lineages, Voter, Promises]:
    """Recovery 1 chose the replica here, and carrying that out fails; the broker was started again since."""
    here, mine, promises = await lineages(disk)
    await here.follow(PARTITION, mine, a_recovery(mine), may_begin=True, is_led=False)
    disk.syncs_that_fail = lambda path: path.endswith(".log") and "/partitions/" in path
    here = Lineages(FakeEnvironment(disk), promises, DATA)
    why = await here.admit(PARTITION, CONFIG)
    assert why is not None and "could not be carried out" in why
    disk.syncs_that_fail = lambda path: False
    known = promises.recall(PARTITION)
    assert known is not None
    return here, mine._replace(replica_number=known.replica_number), promises


def test_a_later_recovery_ends_the_heir_of_an_earlier_one_that_never_came_to_be() -> None:
    async def scene() -> None:
        disk = FakeDisk()
        here, listed, promises = await an_heir_that_cannot_come_to_be(disk)
        second = a_recovery(OTHER, 2)
        assert await here.follow(PARTITION, listed, second, may_begin=True, is_led=False) is not None
        note = read_note(disk, DATA, PARTITION)
        assert note is not None and (note.recovery, note.heir, note.records) == (2, None, b"")
        before = promises.recall(PARTITION)
        restarted = Lineages(FakeEnvironment(disk), promises, DATA)
        why = await restarted.admit(PARTITION, CONFIG)
        assert why is not None and "recovery 2 ended it" in why
        assert promises.recall(PARTITION) == before

    asyncio.run(scene())


@pytest.mark.parametrize("begun", [False, True], ids=["listed under its old number", "listed as the dead heir"])
def test_a_note_that_names_an_heir_which_it_ends_itself_brings_nobody_back(begun: bool) -> None:
    """As brokers wrote it before."""

    async def scene() -> None:
        disk = FakeDisk()
        _, mine, promises = await lineages(disk)
        first = a_recovery(mine)
        if begun:
            promises.note_created(PARTITION, first.heir.replica_number)
        await write_note(
            disk, DATA, LineageNote(PARTITION, 2, a_recovery(OTHER, 2).first_number, heir=first.heir, term=2_003)
        )
        before = promises.recall(PARTITION)
        here = Lineages(FakeEnvironment(disk), promises, DATA)
        why = await here.admit(PARTITION, CONFIG)
        assert why is not None and "recovery 2 ended it" in why and not here.is_unfinished(PARTITION)
        assert promises.recall(PARTITION) == before

    asyncio.run(scene())


def test_a_replica_that_never_came_to_be_an_heir_may_be_chosen_again() -> None:
    async def scene() -> None:
        disk = FakeDisk()
        here, listed, promises = await an_heir_that_cannot_come_to_be(disk)
        third = a_recovery(listed, 3)
        assert await here.follow(PARTITION, listed, a_recovery(OTHER, 2), may_begin=True, is_led=False) is not None
        assert await here.follow(PARTITION, listed, third, may_begin=True, is_led=False) is None
        assert await here.admit(PARTITION, CONFIG) is None
        known = promises.recall(PARTITION)
        assert known is not None and known.replica_number == third.heir.replica_number
        log, verdict = await recovered(FakeEnvironment(disk), known.mark, same_boot=True, config=CONFIG)
        assert verdict.damage is None and log.voters == (third.heir,) and log.end.offset == 16

    asyncio.run(scene())


def test_of_a_replica_that_could_not_be_opened_its_end_says_what_was_promised_not_that_it_held_nothing() -> None:
    async def scene() -> None:
        disk = FakeDisk()
        here, mine, promises = await lineages(disk)
        promised = promises.recall(PARTITION)
        assert promised is not None and promised.word is not None and promised.word > promised.mark
        await here.follow(PARTITION, mine, a_recovery(OTHER), may_begin=True, is_led=False)
        note = here.ended[PARTITION]
        assert (note.end, note.word, note.damaged) == (ORIGIN, promised.word, True)
        assert read_note(disk, DATA, PARTITION) == note

    asyncio.run(scene())


def test_what_fails_is_told_and_done_later() -> None:
    async def scene() -> None:
        disk = FakeDisk()
        here, mine, promises = await lineages(disk)
        recovery = a_recovery(mine)
        disk.free = 0
        why = await here.follow(PARTITION, mine, recovery, may_begin=True, is_led=False)
        assert why is not None and "tried again" in why
        disk.free = 1 << 30
        assert await here.follow(PARTITION, mine, recovery, may_begin=True, is_led=False) is None
        disk.syncs_that_fail = lambda path: path.endswith(".log") and "/partitions/" in path
        why = await here.admit(PARTITION, CONFIG)
        assert why is not None and here.is_unfinished(PARTITION)
        disk.syncs_that_fail = lambda path: False
        assert await here.admit(PARTITION, CONFIG) is None and not here.is_unfinished(PARTITION)
        known = promises.recall(PARTITION)
        assert known is not None and known.replica_number == recovery.heir.replica_number
        log, verdict = await recovered(FakeEnvironment(disk), known.mark, same_boot=True, config=CONFIG)
        assert verdict.damage is None and log.end.offset == 16, "a disk that could not be synced has lost nothing"

    asyncio.run(scene())


@pytest.mark.parametrize("is_power_cut", [False, True], ids=["killed", "power cut"])
def test_a_crash_at_any_write_of_making_room_leaves_it_over_and_all_its_bytes_there(is_power_cut: bool) -> None:
    async def crash_at(operation: int) -> bool:
        disk = FakeDisk()
        here, mine, promises = await lineages(disk)
        recovery = a_recovery(OTHER)
        logs = sorted(
            bytes(inode.cache) for path, inode in disk.names.items() if path.endswith(".log") and "/partitions/" in path
        )
        await here.follow(PARTITION, mine, recovery, may_begin=True, is_led=False)
        crashed = True
        disk.cut_power_at = disk.operations + operation
        with contextlib.suppress(PowerCut, Halted):
            work = here.follow(PARTITION, mine, recovery, may_begin=True, is_led=True)
            crashed = not await is_done(work)
        disk.cut_power_at = None
        if is_power_cut:
            disk.lose_power(lambda path, page: operation % 2 == 0)
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        again = Lineages(env, promises, DATA)
        if promises.recall(PARTITION) is not None:
            assert await again.admit(PARTITION, CONFIG) is not None, f"operation {operation}: it would be opened"
            assert await again.follow(PARTITION, mine, recovery, may_begin=True, is_led=True) is None
        kept = {bytes(inode.cache) for path, inode in disk.names.items() if "/recovered/" in path}
        assert {*logs} <= kept, f"operation {operation}: bytes are gone"
        return crashed

    operation = 1
    while asyncio.run(crash_at(operation)):
        operation += 1
    assert operation > 10


@pytest.mark.parametrize("is_power_cut", [False, True], ids=["killed", "power cut"])
def test_after_a_crash_at_any_write_no_note_undoes_the_replica_that_is_made_in_the_place_of_one_that_is_over(
    is_power_cut: bool,
) -> None:
    second = a_recovery(OTHER, 2)
    new, elected = Voter(1, "d", second.first_number + 1), second.heir

    async def make_room_and_a_new_one(env: FakeEnvironment, promises: Promises, here: Lineages) -> None:
        """As a broker does that hears of recovery 2, which places a replica here, and of the leader of its lineage."""
        known = promises.recall(PARTITION)
        if known is not None and known.replica_number != new.replica_number:
            listed = Voter(1, promises.directory_id, known.replica_number)
            assert await here.follow(PARTITION, listed, second, may_begin=True, is_led=True) is None
        if promises.recall(PARTITION) is None:
            await here.make_way(PARTITION)
            log = await PartitionLog.create(env, DATA, PARTITION, (), CONFIG)
            log.close()
            await promises.sync(promises.note_created(PARTITION, new.replica_number))
        await promises.sync(promises.note_vote(PARTITION, 5_000, elected))

    async def crash_at(operation: int, note_of: int) -> bool:
        disk = FakeDisk()
        here, listed, promises = await an_heir_that_cannot_come_to_be(disk)
        if note_of == 2:
            await here.follow(PARTITION, listed, second, may_begin=True, is_led=False)
        crashed = True
        disk.cut_power_at = disk.operations + operation
        with contextlib.suppress(PowerCut, Halted):
            crashed = not await is_done(make_room_and_a_new_one(FakeEnvironment(disk), promises, here))
        disk.cut_power_at = None
        if is_power_cut:
            disk.lose_power(lambda path, page: operation % 2 == 0)
        for _ in range(2):
            env = FakeEnvironment(disk)
            promises = await Promises.open(env, DATA)
            here = Lineages(env, promises, DATA)
            known = promises.recall(PARTITION)
            if known is not None and known.replica_number == new.replica_number:
                assert await here.admit(PARTITION, CONFIG) is None, f"operation {operation}"
                assert promises.recall(PARTITION) == known, f"operation {operation}: another one is listed"
            elif known is not None and note_of == 2:
                assert await here.admit(PARTITION, CONFIG) is not None, f"operation {operation}: it would be opened"
            await make_room_and_a_new_one(env, promises, here)
        last = Lineages(FakeEnvironment(disk), promises, DATA)
        assert await last.admit(PARTITION, CONFIG) is None, f"operation {operation}"
        known = promises.recall(PARTITION)
        assert known is not None
        assert (known.replica_number, known.term, known.voted_for) == (new.replica_number, 5_000, elected)
        assert read_note(disk, DATA, PARTITION) is None
        return crashed

    for note_of in (1, 2):
        operation = 1
        while asyncio.run(crash_at(operation, note_of)):
            operation += 1
        assert operation > 30
