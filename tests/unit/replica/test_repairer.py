"""Who repairs a log: how often it tries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from lograft.partitions.raft.events import HoleLost
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN
from lograft.partitions.repairer import RepairCounts, Repairer
from lograft.partitions.storage.log import DamagedLog, PartitionLog
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.repair import Hole

from tests.unit.storage.fakes import (
    DATA,
    ONE_SEGMENT,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    a_log,
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

    async def read_log_anew(self, suspect: int | None = None) -> None:
        self.times_read += 1
        self.log.close()
        self.log = await log_with_hole(self.environment)


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
        repairer = Repairer(environment, cast(Promises, None), cast(Any, replica), RepairCounts())
        repairer.begin()
        await turns()
        assert (replica.times_read, len(environment.timers)) == (1, 1)
        assert "found again" in repairer.state
        environment.run_timers()
        await turns()
        assert (replica.times_read, len(environment.timers)) == (2, 1)
        await repairer.stop()

    asyncio.run(scenario())
