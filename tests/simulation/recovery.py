"""A majority is lost, an operator gives it up, and one replica's log goes on, whatever crashes on the way.

Two of three voters lose their disks, or are dead until the decision is made and come back with what they held: together
a majority of the old voters. A broker that starts leads nothing before it has heard of all decisions; that is what
keeps such a majority from going on by itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

from lograft.node.recovery_plan import Holding, plan
from lograft.partitions.environment import PartitionId
from lograft.partitions.replica import Replica

from tests.simulation.clients import Producer
from tests.simulation.cluster import Options
from tests.simulation.faults import COMMON
from tests.simulation.invariants import Violation
from tests.simulation.machine import Machine
from tests.simulation.network import FAIR
from tests.simulation.simulation import SETTLE_MS, Plan, Report, Simulation

DECIDED_MS = 20_000
"""How long it may take until nobody could elect a leader any more."""


class RecoverySimulation(Simulation):
    def __init__(self, seed: int) -> None:
        self._random = Random(f"{seed} recovery")
        super().__init__(
            seed, Plan(brokers=5, moving=True, faults=COMMON, trim_pace_ms=0.0, compaction_pace_ms=0.0, pace_ms=40.0)
        )

    def _draw_options(self, random: Random) -> Options:
        return replace(super()._draw_options(random), partitions=1, waits_for_decisions=True)

    async def _live(self) -> None:
        cluster, random = self.cluster, self._random
        await cluster.form()
        partition = cluster.partitions[0]
        self._make_clients(partition)
        self.nemesis.start(COMMON, 3, 1_500.0)
        await asyncio.sleep(1.5)
        self.nemesis.heal()
        cluster.network.weather = FAIR
        for machine in cluster.machines.values():
            cluster.ensure_up(machine)
        await asyncio.sleep(random.uniform(0.2, 2.0))
        victims = self._lose_majority(partition)
        source = await self._give_up(partition, victims)
        machine = cluster.machines[source.voter.broker_id]
        self._crash_soon(machine)
        for victim in victims:
            self.loop.call_later(random.uniform(0, 3.0), cluster.ensure_up, victim)
        await asyncio.sleep(random.uniform(0.1, 3.0))
        await self._settle()
        deadline = self.loop.now_ms() + SETTLE_MS
        while any(map(cluster.invariants.is_ended, self._held(partition))):
            await self._pass(deadline, "what the recovery ended was not set aside")

    def _make_clients(self, partition: PartitionId) -> None:
        for name in ("a", "b"):
            self._producers.append(
                Producer(self.cluster, name, partition, pace_ms=self._pace_ms, value_bytes=self._value_bytes)
            )
            self._producers[-1].start()

    def _lose_majority(self, partition: PartitionId) -> list[Machine]:
        random, cluster = self._random, self.cluster
        placed = [voter.broker_id for voter in cluster.decisions.placement(partition)]
        victims = [cluster.machines[broker_id] for broker_id in random.sample(placed, 2)]
        for victim in victims:
            if random.random() < 0.5:
                victim.lose_disk()
            else:
                victim.kill()
        return victims

    async def _give_up(self, partition: PartitionId, victims: list[Machine]) -> Replica:
        """What an operator does, once nothing stands against it."""
        cluster = self.cluster
        deadline = self.loop.now_ms() + DECIDED_MS
        while True:
            await asyncio.sleep(0.1)
            fact = cluster.decisions.newest.partitions[partition.number]
            alive = {
                machine.broker_id: machine.directory_id or ""
                for machine in cluster.machines.values()
                if machine.is_up and machine.process is not None and machine.process.is_open
            }
            replicas = {replica.voter: replica for replica in cluster.live_replicas(partition)}
            found = plan("it", fact, [_holding(replica) for replica in replicas.values()], alive=alive, unanswered=())
            if not found.refusal and found.source is not None:
                break
            if self.loop.now_ms() > deadline:
                raise Violation("progress", f"nobody may give it up: {found.refusal}")
        source = replicas[found.source.voter]
        dead = {victim.broker_id for victim in victims}
        brokers = [source.voter.broker_id, *(one for one in cluster.machines if one not in dead)]
        brokers = [*dict.fromkeys((*brokers, *dead))][:3]
        recovery = cluster.decisions.recover(partition, source.voter, brokers, term_seen=source.term)
        self.trace.note("recovery", f"{recovery.source} goes on as {recovery.heir} after {source.log.end}")
        cluster.invariants.note_recovered(partition, recovery.heir, recovery.first_number)
        return source

    def _crash_soon(self, machine: Machine) -> None:
        """Somewhere in the midst of what the decision asks for, often."""
        process = machine.process
        if process is not None and process.is_alive and self._random.random() < 0.8:
            machine.power_fails = self._random.random() < 0.5
            process.environment.crash_at_operation = process.environment.disk_operations + self._random.randint(1, 60)

    def _held(self, partition: PartitionId) -> list[Replica]:
        """Also what is over, unlike `live_replicas`."""
        processes = [machine.process for machine in self.cluster.machines.values() if machine.process is not None]
        return [process.replicas[partition] for process in processes if partition in process.replicas]


def _holding(replica: Replica) -> Holding:
    status = replica.status()
    return Holding(
        status.voter,
        status.end,
        word=status.word,
        committed=status.committed,
        term=status.term,
        voters=status.voters,
        leads=status.ready,
        damaged=status.damaged,
        doubtful=status.doubtful,
    )


def simulate_recovery(seed: int) -> Report:
    return RecoverySimulation(seed).run()
