"""What a recovery asks of a broker's replica, on a simulated disk: over, or the one that goes on."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from lograft.node.controller.facts import RecoveryFact
from lograft.node.lineages import Lineages
from lograft.partitions.raft.messages import Voter
from lograft.partitions.storage.lineage import read_note
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
