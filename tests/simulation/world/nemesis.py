"""What goes wrong in a world, and when: drawn from the seed, noted in its history.

Invariants
    a majority of the disks that hold a partition survives: one at a time is lost, and not before all is well again
    while a partition is short of a disk no power fails: what that leaves in doubt, nobody could lift
    after `heal` nothing goes wrong any more
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.wires import Weather

if TYPE_CHECKING:
    from tests.simulation.world.clients import ClientProcess
    from tests.simulation.world.machine import Machine
    from tests.simulation.world.world import World

PROCESSES = (
    *("kill", "kill", "lose_power", "pause", "pause", "crash_at_disk_operation", "crash_at_disk_operation"),
    *("kill_all", "lose_power_everywhere", "crash_everywhere_at_disk_operations", "kill_majority"),
)
NETWORK = (
    *("isolate", "isolate", "cut_one_way", "cut_one_way", "cut_ring", "halve", "cut_client"),
    *("break_connections", "break_connections", "slow_network"),
)
DISKS = ("slow_disk", "stuck_disk", "fail_sync", "nearly_full_disk", "lose_disk")
OTHERS = ("jump_clock", "crash_client", "crash_client", "pause_client", "rolling_restart", "restart_cleanly")
ALL = (*PROCESSES, *NETWORK, *DISKS, *OTHERS)


class Nemesis:
    def __init__(self, world: World, clients: Sequence[ClientProcess], seed: str, *, loses_disks: bool) -> None:
        self.done: Counter[str] = Counter()
        self._world = world
        self._clients = clients
        self._random = Random(f"{seed} nemesis")
        self._loses_disks = loses_disks
        self._is_over = False

    def start(self, kinds: Sequence[str], count: int, span_ms: float) -> None:
        """Order `count` faults of these kinds within the next `span_ms`."""
        for _ in range(count):
            self._later(self._random.uniform(0, span_ms), partial(self.inflict, self._random.choice(kinds)))

    def inflict(self, kind: str) -> None:
        if not self._is_over:
            if not self.done:
                self._world.history.note("nemesis", "fault", what="nemesis", on="all", begins=True)
            self._note(kind)
            self.done[kind] += 1
            getattr(self, kind)()

    def heal(self) -> None:
        self._is_over = True
        world = self._world
        world.wires.mend_all()
        world.wires.weather = Weather(late_chance=0.0)
        for machine in world.machines.values():
            machine.wall_offset_ms = 0.0
            disk = machine.disk
            disk.sync_delay_ms, disk.sync_failures, disk.capacity_bytes = 0.0, 0, 1 << 40
            disk.stalls_ms.clear()
            machine.power_fails = False
            if machine.process is not None and machine.is_up:
                machine.process.outside.world_environment.crash_at_operation = None
                machine.process.owner.resume()
        for client in self._clients:
            client.wall_offset_ms = 0.0
            if client.owner is not None and client.is_up:
                client.owner.resume()

    # -- processes and machines --------------------------------------------------------------------------------------

    def kill(self, machine: Machine | None = None) -> None:
        machine = machine or self._some_machine()
        machine.kill()
        self._world.start_later(machine)

    def kill_all(self) -> None:
        for machine in self._world.machines.values():
            self.kill(machine)

    def kill_majority(self) -> None:
        machines = list(self._world.machines.values())
        for machine in self._random.sample(machines, len(machines) // 2 + 1):
            self.kill(machine)

    def lose_power(self, machine: Machine | None = None) -> None:
        machine = machine or self._some_machine()
        if self._is_short_of_a_disk():
            machine.kill()
        else:
            machine.lose_power()
        self._world.start_later(machine)

    def lose_power_everywhere(self) -> None:
        for machine in self._world.machines.values():
            self.lose_power(machine)

    def crash_at_disk_operation(self, machine: Machine | None = None) -> None:
        machine = machine or self._some_machine()
        if machine.process is not None and machine.is_up:
            machine.power_fails = self._random.random() < 0.6 and not self._is_short_of_a_disk()
            environment = machine.process.outside.world_environment
            count = self._random.choice((1, 2, 3, self._random.randint(1, 30), self._random.randint(1, 200)))
            environment.crash_at_operation = environment.disk_operations + count

    def crash_everywhere_at_disk_operations(self) -> None:
        for machine in self._world.machines.values():
            self.crash_at_disk_operation(machine)

    def pause(self) -> None:
        machine = self._some_machine()
        if machine.process is not None and machine.is_up:
            owner = machine.process.owner
            owner.pause()
            self._later(self._random.choice((50, 400, 900, 2500, 6000, 15_000)), owner.resume)

    def restart_cleanly(self) -> None:
        self._start_task(self._restart(self._some_machine()))

    def rolling_restart(self) -> None:
        self._start_task(self._roll())

    async def _roll(self) -> None:
        for machine in self._world.machines.values():
            await self._restart(machine)
            for _ in range(100):
                await asyncio.sleep(0.1)
                if machine.is_ready or self._is_over:
                    break

    async def _restart(self, machine: Machine) -> None:
        if self._is_over:
            return
        await machine.stop()
        await asyncio.sleep(self._random.uniform(0.1, 2.0))
        for _ in range(200):
            if not machine.is_up:
                break
            await asyncio.sleep(0.1)
        machine.start()

    def jump_clock(self) -> None:
        one = self._random.choice([*self._world.machines.values(), *self._clients])
        one.wall_offset_ms += self._random.choice((-3_600_000, -5_000, 5_000, 3_600_000))

    # -- clients -----------------------------------------------------------------------------------------------------

    def crash_client(self) -> None:
        client = self._random.choice(self._clients)
        client.crash()
        self._later(self._random.uniform(10, 4000), client.start)

    def pause_client(self) -> None:
        client = self._random.choice(self._clients)
        if client.owner is not None and client.is_up:
            owner = client.owner
            owner.pause()
            self._later(self._random.choice((400, 3000, 9000)), owner.resume)

    # -- disks -------------------------------------------------------------------------------------------------------

    def slow_disk(self) -> None:
        disk = self._some_machine().disk
        disk.sync_delay_ms = self._random.choice((50.0, 300.0, 1500.0))
        self._later(self._random.uniform(300, 6000), lambda: setattr(disk, "sync_delay_ms", 0.0))

    def stuck_disk(self) -> None:
        self._some_machine().disk.stalls_ms = [self._random.uniform(1000, 8000)]

    def fail_sync(self) -> None:
        if not self._is_short_of_a_disk():
            machine = self._some_machine()
            machine.may_halt = True
            machine.disk.sync_failures = 1

    def nearly_full_disk(self) -> None:
        disk = self._some_machine().disk
        disk.capacity_bytes = disk.used_bytes() + self._random.choice((700_000, 300_000))
        self._later(self._random.uniform(300, 6000), lambda: setattr(disk, "capacity_bytes", 1 << 40))

    def lose_disk(self) -> None:
        machine = self._some_machine()
        if self._loses_disks and self._may_lose_disk(machine):
            self.done["(lost a disk)"] += 1
            self._world.lose_disk(machine)
            self._world.start_later(machine)

    def _may_lose_disk(self, machine: Machine) -> bool:
        world = self._world
        return (
            all(other.is_ready for other in world.machines.values())
            and not self._is_short_of_a_disk()
            and all(
                len(replica.voters) >= 3 and not replica.status().doubtful and not replica.status().damaged
                for partition in world.known_partitions()
                for replica in world.replicas(partition)
            )
        )

    def _is_short_of_a_disk(self) -> bool:
        return self._world.is_short_of_a_disk()

    # -- network -----------------------------------------------------------------------------------------------------

    def isolate(self) -> None:
        one = self._some_machine().name
        others = [other for other in self._brokers() if other != one]
        if self._random.random() < 0.4:
            others += [client.name for client in self._clients]
        self._cut(both(one, others))

    def cut_one_way(self) -> None:
        one = self._some_machine().name
        others = [other for other in self._brokers() if other != one]
        to = self._random.sample(others, self._random.randint(1, len(others)))
        self._cut([(one, other) for other in to] if self._random.random() < 0.5 else [(other, one) for other in to])

    def cut_ring(self) -> None:
        """Each broker sees a majority, and no two the same one."""
        brokers = self._brokers()
        self._random.shuffle(brokers)
        count = len(brokers)
        near = count // 2 // 2 or 1
        links = []
        for at, one in enumerate(brokers):
            links += [(one, brokers[(at + steps) % count]) for steps in range(near + 1, count - near)]
        if count == 3:
            links = both(brokers[0], brokers[1:2])
        self._cut(links)

    def halve(self) -> None:
        brokers = self._brokers()
        self._random.shuffle(brokers)
        at = self._random.randint(1, len(brokers) - 1)
        self._cut([link for one in brokers[:at] for link in both(one, brokers[at:])])

    def cut_client(self) -> None:
        client = self._random.choice(self._clients).name
        self._cut(both(client, self._random.sample(self._brokers(), self._random.randint(1, 2))))

    def break_connections(self) -> None:
        hosts = [*self._brokers(), *(client.name for client in self._clients)]
        one = self._some_machine().name
        for other in self._random.sample(hosts, self._random.randint(1, 3)):
            self._world.wires.break_between(one, other)

    def slow_network(self) -> None:
        wires = self._world.wires
        wires.weather = Weather(
            delay_ms=self._random.choice(((5.0, 50.0), (50.0, 200.0))),
            late_chance=self._random.choice((0.01, 0.1)),
            reset_chance=self._random.choice((0.0, 0.001, 0.01)),
            bytes_per_ms=self._random.choice((20.0, 1000.0)),
        )
        self._later(self._random.uniform(300, 5000), self._fair_weather)

    def _fair_weather(self) -> None:
        self._world.wires.weather = Weather(late_chance=0.0) if self._is_over else self._world.options.weather

    # ----------------------------------------------------------------------------------------------------------------

    def _brokers(self) -> list[str]:
        return [machine.name for machine in self._world.machines.values()]

    def _some_machine(self) -> Machine:
        """Often one that leads: that is where most can go wrong."""
        machines = self._world.machines
        partitions = self._world.known_partitions()
        if partitions and self._random.random() < 0.5:
            leader = self._world.leader_of(self._random.choice(partitions))
            if leader is not None:
                return machines[leader.voter.broker_id]
        return self._random.choice(list(machines.values()))

    def _cut(self, links: Sequence[tuple[str, str]]) -> None:
        wires = self._world.wires
        for link in links:
            wires.cut(*link)
        breaks = self._random.random() < 0.3

        def mend() -> None:
            for link in links:
                wires.mend(*link)
                if breaks and not self._is_over:
                    wires.break_between(*link)

        self._later(self._random.choice((200, 800, 2000, 4000, 10_000)), mend)

    def _note(self, kind: str) -> None:
        self._world.trace.note("fault", kind)

    def _later(self, delay_ms: float, callback: Callable[[], object]) -> None:
        self._world.loop.call_later(delay_ms / 1000.0, callback, context=Context())

    def _start_task(self, coroutine: object) -> None:
        self._world.loop.create_task(coroutine, context=Context())  # type: ignore[arg-type]


def both(one: str, others: Sequence[str]) -> list[tuple[str, str]]:
    """Both directions between `one` and each of the others."""
    return [(one, other) for other in others] + [(other, one) for other in others]
