"""A machine with one broker on it: its disk and clocks outlive its processes, which know nothing but what is on it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from lograft.node.config import BrokerConfig
from lograft.node.node import Node
from lograft.proto.errors import LograftError

from tests.simulation.disk import SimulatedDisk, SyncTimes
from tests.simulation.invariants import Violation
from tests.simulation.world.loop import Owner
from tests.simulation.world.outside import WorldOutside

if TYPE_CHECKING:
    from tests.simulation.world.world import World


@dataclass(slots=True)
class Process:
    """One incarnation of a broker."""

    owner: Owner
    node: Node
    outside: WorldOutside
    is_started: bool = False
    is_stopping: bool = False


class Machine:
    """`power_fails`: what ends the process next takes the power with it. `may_halt`: its disk is not well."""

    def __init__(self, world: World, broker_id: int, config: BrokerConfig) -> None:
        self.world = world
        self.broker_id = broker_id
        self.name = f"b{broker_id}"
        self.config = config
        self.disks = 0
        self.wall_offset_ms = 0.0
        self.superseded: tuple[str, int] | None = None
        self.process: Process | None = None
        self.starts = 0
        self.power_fails = False
        self.may_halt = False
        self.stays_down = False
        """Somebody else starts it again."""
        self.put_in_disk()

    def put_in_disk(self) -> None:
        """An empty one."""
        self.disks += 1
        self.disk = SimulatedDisk(
            Random(f"{self.world.seed} disk {self.broker_id} {self.disks}"), times=SyncTimes(slow_chance=0.005)
        )
        self.disk.write_back_chance = self.world.write_back_chance

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.owner.is_alive

    @property
    def is_ready(self) -> bool:
        process = self.process
        return (
            process is not None
            and process.owner.is_alive
            and process.is_started
            and not process.is_stopping
            and process.node.not_up() is None
        )

    def start(self) -> None:
        if self.is_up:
            return
        self.starts += 1
        self.stays_down = False
        owner = Owner(self.world.loop, f"{self.name}.{self.starts}", self.name, self._ended)
        outside = WorldOutside(self, owner)
        node = owner.context.run(lambda: Node(self.config, loop_kind="simulated", outside=outside))
        self.process = Process(owner, node, outside)
        self.world.trace.note("start", owner.name)
        owner.start(self._run(self.process))

    async def _run(self, process: Process) -> None:
        try:
            await process.node.start()
            process.is_started = True
        except (LograftError, OSError) as error:
            process.owner.end(f"could not start: {error}")
        except Exception as error:
            self.world.fail(error)

    async def stop(self) -> None:
        """Cleanly. Called outside of any owner; the process may die on the way."""
        process = self.process
        if process is None or not self.is_up or not process.is_started or process.is_stopping:
            return
        process.is_stopping = True
        self.world.trace.note("stop", process.owner.name)
        self.stays_down = True
        process.owner.start(self._stop(process))

    async def _stop(self, process: Process) -> None:
        await process.node.stop()
        process.owner.end("stopped")

    def kill(self) -> None:
        self._end_process("killed", machine_dies=False)
        self.disk.kill()

    def lose_power(self) -> None:
        self._end_process("lost power", machine_dies=True)
        self.disk.lose_power()

    def lose_disk(self) -> None:
        self._end_process("lost its disk", machine_dies=True)
        self.put_in_disk()

    def _end_process(self, why: str, *, machine_dies: bool) -> None:
        if self.process is not None and self.is_up:
            self.process.owner.kill()
            self.world.trace.note("end", f"{self.process.owner.name} {why}")
            self.world.wires.reset_all(self.name, silently=machine_dies)

    def _ended(self, why: str) -> None:
        """By itself, in the middle of something."""
        world, power_fails, self.power_fails = self.world, self.power_fails, False
        assert self.process is not None
        world.trace.note("end", f"{self.process.owner.name} {why}")
        world.wires.reset_all(self.name, silently=power_fails)
        if not why.startswith(("crashed", "stopped")) and not self.may_halt:
            world.fail(Violation("no-needless-halt", f"{self.process.owner.name} {why}"))
        # Not now: the process's code is still on the stack.
        world.in_harness(self.disk.lose_power if power_fails else self.disk.kill)
        if not self.stays_down:
            world.start_later(self)
