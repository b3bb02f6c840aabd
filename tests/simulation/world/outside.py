"""What one incarnation of a simulated broker has around it: `node.outside.Outside`, its environment, its disk.

Invariants
    after the end of its owner no byte reaches the disk
    a broker that halts is dead in that very moment; the code on its stack changes nothing any more
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from lograft.node.compactions import Worker
from lograft.node.outside import BrokerEnvironment, Directory, Outside
from lograft.partitions.environment import Environment, TimerHandle
from lograft.partitions.real_environment import NoTransport
from lograft.partitions.storage.rewriting import Job, Outcome, Take, rewrite
from lograft.proto.errors import InvalidConfig

from tests.simulation.disk import Crashed, CrashedNow, Mount
from tests.simulation.environment import WALL_START_MS
from tests.simulation.world.loop import Owner

if TYPE_CHECKING:
    from tests.simulation.world.machine import Machine


class WorldEnvironment(BrokerEnvironment):
    """`partitions.environment.Environment` of one incarnation."""

    def __init__(self, machine: Machine, owner: Owner) -> None:
        self.random = Random(f"{machine.world.seed} {owner.name}")
        self.transport = NoTransport()
        self.disk = Mount(machine.disk, self.call_later, self._before_disk_operation)
        self.disk_operations = 0
        self.crash_at_operation: int | None = None
        """The number of the disk operation at which this incarnation ends."""
        self._machine = machine
        self._owner = owner
        self._loop = owner.loop

    def monotonic_ms(self) -> float:
        return self._loop.now_ms()

    def wall_ms(self) -> int:
        return int(WALL_START_MS + self._loop.now_ms() + self._machine.wall_offset_ms)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> TimerHandle:
        return self._loop.call_later(delay_ms / 1000.0, self._guarded, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(self._guarded, callback)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._loop.create_task(self._contained(coroutine))

    def halt(self, reason: str) -> NoReturn:
        self._owner.end(f"halted: {reason}")
        raise Crashed(reason)

    def fail(self, error: Exception) -> NoReturn:
        self._machine.world.fail(error)
        self.halt(f"{type(error).__name__}: {error}")

    def log(self, event: str, **facts: Any) -> None:
        self._machine.world.note_log(self._owner.name, event, facts)

    def stop(self) -> None:
        pass

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            self.fail(error)

    async def _contained(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:
            self.fail(error)

    def _before_disk_operation(self, operation: str) -> None:
        if not self._owner.is_alive:
            raise Crashed("this incarnation has ended")
        self.disk_operations += 1
        if self.disk_operations == self.crash_at_operation:
            self._owner.end(f"crashed at {operation}")
            raise CrashedNow(operation)


class _Directory:
    """Stands for `node.data_directory.DataDirectory`, which is files of the real machine."""

    def __init__(self, machine: Machine, owner: Owner) -> None:
        self._machine = machine
        self._owner = owner

    def check_not_superseded(self, directory_id: str, start_number: int) -> None:
        noted = self._machine.superseded
        if noted is not None and noted[0] == directory_id and noted[1] >= start_number:
            raise InvalidConfig(f"the data directory of {self._machine.name} is an older copy")

    def note_superseded(self, directory_id: str, start_number: int, why: str) -> None:
        self._machine.superseded = (directory_id, start_number)

    def release(self) -> None:
        pass


class _Worker:
    """Rewrites segments in the broker's own loop."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._jobs = 0

    async def work(self, job: Job, take: Take) -> Outcome:
        self._jobs += 1
        return await rewrite(job, self._environment.disk, self._pace, take, token=f"{self._jobs:08x}")

    async def stop(self) -> None:
        pass

    async def _pace(self, size: int) -> None:
        if self._environment.random.random() < 0.05:
            await asyncio.sleep(self._environment.random.uniform(0, 0.02))


class WorldOutside(Outside):
    """A simulated machine, as one incarnation of a broker sees it."""

    def __init__(self, machine: Machine, owner: Owner) -> None:
        self._machine = machine
        self._owner = owner
        self._chances = 0
        self.world_environment = WorldEnvironment(machine, owner)

    def settle_memory(self, *, thoroughly: bool) -> None:
        pass  # of this process, in which many worlds live and end

    def watch_collections(self, on_pause: Callable[[int, float], None]) -> Callable[[], None]:
        return lambda: None  # likewise

    def monotonic_s(self) -> float:
        return self._owner.loop.time()

    def chance(self) -> Random:
        self._chances += 1
        return Random(f"{self._machine.world.seed} {self._owner.name} chance {self._chances}")

    def open_files_max(self) -> int:
        return 1 << 16

    def claim(self, directory: str, broker_id: int) -> Directory:
        return _Directory(self._machine, self._owner)

    def environment(
        self, directory: str, *, log: Callable[..., None], on_sync: Callable[[float], None]
    ) -> BrokerEnvironment:
        return self.world_environment

    def compaction_worker(self, bytes_per_s: int, environment: Environment) -> Worker:
        return _Worker(environment)

    def rpc_server(self, interceptors: Sequence[Any], options: Sequence[tuple[str, int]]) -> Any:
        return self._machine.world.rpc_server(interceptors, options)

    def check_free(self, address: str) -> None:
        pass

    def end_process(self, code: int) -> NoReturn:
        self._owner.end(f"ended with code {code}")
        raise Crashed(f"exit {code}")
