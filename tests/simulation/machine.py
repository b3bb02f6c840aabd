"""Computers of a simulated cluster.

Invariants
    a machine (disk, clock) outlives its processes
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter

from tests.simulation.disk import ROOT, SimulatedDisk
from tests.simulation.environment import Clock, SimulatedEnvironment
from tests.simulation.invariants import Violation
from tests.simulation.platter import PageCache, Platter
from tests.simulation.process import BrokerProcess, log_directory

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class Machine:
    """A computer: its disk, its clock, and the broker process that runs on it, if one does."""

    def __init__(self, cluster: Cluster, broker_id: int, rate: float) -> None:
        self.broker_id = broker_id
        self.name = f"broker {broker_id}"
        self.disk = SimulatedDisk(Random(f"{cluster.seed} disk {broker_id}"))
        self.disk.write_back_chance = cluster.options.write_back_chance
        self.platter = Platter(self.disk)
        self.page_cache = PageCache(self.disk)
        self.clock = Clock(rate=rate)
        self.directory_id: str | None = None
        self.numbers: dict[PartitionId, int] = {}
        """Replica number of what is, or is being made, on the disk."""
        self.process: BrokerProcess | None = None
        self.starts = 0
        self.losses = 0
        """Of its disk."""
        self.power_fails = False
        """The next end of the process that the broker does not choose is a power loss."""
        self.may_halt = False
        """A fault of this machine's disk was ordered: the broker may end itself."""
        self._cluster = cluster

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.is_alive

    def start(self) -> BrokerProcess:
        """A new incarnation, not open yet."""
        assert not self.is_up, f"{self.name} runs already"
        cluster = self._cluster
        self.starts += 1
        environment = SimulatedEnvironment(
            name=self.name,
            loop=cluster.loop,
            random=Random(f"{cluster.seed} {self.name} start {self.starts}"),
            disk=self.disk,
            clock=self.clock,
            trace=cluster.trace,
            deliver=lambda _, partition, message: process.deliver(partition, message),
            on_end=lambda _, why: self._ended(why),
            on_failure=lambda _, failure: cluster.fail(failure),
        )
        process = self.process = BrokerProcess(cluster, self, environment)
        cluster.network.connect(process)
        cluster.trace.note("start", f"{self.name} as {self.disk.boot_id}")
        return process

    def run(self) -> None:
        """Start, and open everything, in the background."""
        process = self.start()
        process.environment.spawn(process.open())

    def kill(self) -> None:
        if self.process is not None and self.process.is_alive:
            self.process.environment.crash()
            self._cleared("killed")
        self._lose(self.disk.kill)

    def lose_power(self) -> None:
        if self._cluster.is_short_of_a_disk():
            # What a power loss tears is in doubt, and beside a lost disk nobody is left to lift that.
            self.kill()
            return
        if self.process is not None and self.process.is_alive:
            self.process.environment.crash()
            self._cleared("lost power")
        self._lose(self.disk.lose_power)

    def _lose(self, happen: Callable[[], None]) -> None:
        """Where copies may count once they are written: tell the oracle what the logs here lose by this."""
        if not self._cluster.options.in_memory or self.directory_id is None:
            happen()
            return
        held = {partition: self.page_cache.points(log_directory(partition)) for partition in self.numbers}
        happen()
        for partition, points in held.items():
            lost = points - self.page_cache.points(log_directory(partition))
            voter = Voter(self.broker_id, self.directory_id, self.numbers[partition])
            self._cluster.invariants.note_lost(partition, voter, lost)

    def lose_disk(self) -> None:
        """The disk is gone, with all that it held; the machine gets another one."""
        self.kill()
        assert self.directory_id is not None, f"{self.name} has nothing to lose yet"
        for number in self.numbers.values():
            self._cluster.invariants.lost.add(Voter(self.broker_id, self.directory_id, number))
        self.losses += 1
        self.disk = SimulatedDisk(Random(f"{self._cluster.seed} disk {self.broker_id} after {self.losses}"))
        self.disk.write_back_chance = self._cluster.options.write_back_chance
        self.platter = Platter(self.disk)
        self.page_cache = PageCache(self.disk)
        self.directory_id = None
        self.numbers = {}

    def lose_word(self, random: Random) -> None:
        """What the broker promised cannot be read any more, though its logs can. It comes back as somebody else."""
        self.kill()
        assert self.directory_id is not None, f"{self.name} has nothing to lose yet"
        for number in self.numbers.values():
            self._cluster.invariants.lost.add(Voter(self.broker_id, self.directory_id, number))
        self.disk.scribble(f"{ROOT}/promises.log", random)
        self.directory_id = None
        self.numbers = {}

    def _ended(self, why: str) -> None:
        """The process ended in the middle of something."""
        self._cleared(why)
        if why.startswith("halted") and not self.may_halt:
            self._cluster.fail(Violation("no-needless-halt", f"{self.name} {why}"))
        # Not now: the process's code is still on the stack.
        after = self.disk.lose_power if self.power_fails and not self._cluster.is_short_of_a_disk() else self.disk.kill
        self.power_fails = False
        self._cluster.loop.call_soon(self._lose, after)
        self._cluster.restart_later(self)

    def _cleared(self, why: str) -> None:
        assert self.process is not None
        self._cluster.trace.note("end", f"{self.name} {why}")
        for replica in self.process.replicas.values():
            self._cluster.forget_crashed(replica)
