"""Whole brokers and clients, what connects them, and what is noted of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog
from lograft.node.config import (
    AdvertiseSection,
    BrokerConfig,
    BrokerSection,
    ClusterSection,
    CompactionSection,
    DiskSection,
    GroupsSection,
    LimitsSection,
    ListenSection,
    RetentionSection,
    ScrubSection,
)
from lograft.partitions.environment import PartitionId, ReplicaConfig
from lograft.partitions.replica import Replica

from tests.simulation.disk import ROOT, Crashed
from tests.simulation.invariants import Violation
from tests.simulation.trace import Trace
from tests.simulation.wires import Weather, Wires
from tests.simulation.world.loop import OWNER, WorldLoop
from tests.simulation.world.machine import Machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a seed draws before it begins."""

    brokers: int = 3
    voters: int = 3
    """Of them, those that form the cluster; the others join it."""
    replica: ReplicaConfig = field(default_factory=ReplicaConfig)
    weather: Weather = field(default_factory=Weather)
    offsets_partitions: int = 2
    write_back_chance: float = 0.05
    restarts_ms: tuple[float, float] = (50.0, 4_000.0)


class World:
    def __init__(self, seed: str, options: Options, *, loop: WorldLoop, trace: Trace) -> None:
        self.seed = seed
        self.options = options
        self.loop = loop
        self.trace = trace
        self.random = Random(f"{seed} world")
        self.write_back_chance = options.write_back_chance
        self.failure: BaseException | None = None
        self.wires = Wires(loop, Random(f"{seed} wires"), options.weather, note=trace.note)
        self.machines = {
            number: Machine(self, number, self._config(number)) for number in range(1, options.brokers + 1)
        }
        loop.world = self
        loop.after_step = self._after_step
        loop.set_exception_handler(self._on_loop_failure)

    def _config(self, number: int) -> BrokerConfig:
        addresses = {
            "grpc": f"b{number}:9600",
            "peer": f"b{number}:9601",
            "http": f"b{number}:9602",
        }
        return BrokerConfig(
            broker=BrokerSection(id=number, data_directory=ROOT, rack=""),
            listen=ListenSection(**addresses),
            advertise=AdvertiseSection(**addresses),
            cluster=ClusterSection(
                peers={voter: f"b{voter}:9601" for voter in range(1, self.options.voters + 1)},
                secret="simulated secret",
            ),
            replica=self.options.replica,
            limits=LimitsSection(),
            disk=DiskSection(produce_stop_free_bytes=1 << 20, replication_stop_free_bytes=1 << 19),
            groups=GroupsSection(offsets_partitions=self.options.offsets_partitions),
            retention=RetentionSection(check_interval_ms=1000),
            compaction=CompactionSection(check_interval_ms=2000, dirty_bytes_max=2000, table_bytes_max=1 << 20),
            scrub=ScrubSection(interval_ms=20_000),
        )

    # -- what is told ----------------------------------------------------------------------------------------------------

    def fail(self, failure: BaseException) -> None:
        if self.failure is None:
            self.failure = failure

    def note_log(self, name: str, event: str, facts: dict[str, Any]) -> None:
        told = " ".join(f"{fact}={value}" for fact, value in facts.items() if fact != "exc_info")
        self.trace.note("log", f"{name} {event} {told}")

    def in_harness(self, callback: Callable[..., object], *args: Any) -> None:
        """Soon, and as nobody's code."""
        self.loop.call_soon(callback, *args, context=Context())

    def start_later(self, machine: Machine) -> None:
        delay_s = self.random.uniform(*self.options.restarts_ms) / 1000.0
        self.loop.call_later(delay_s, machine.start, context=Context())

    def _after_step(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _on_loop_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failure = context.get("exception")
        if "never retrieved" in context.get("message", "") or isinstance(failure, Crashed):
            return  # said when memory is collected, that is at any time
        self.fail(failure if failure is not None else Violation("loop", str(context)))

    # -- what can be asked ---------------------------------------------------------------------------------------------

    def replicas(self, partition: PartitionId) -> list[Replica]:
        """Those that live."""
        return [
            machine.process.node._replicas.table[partition]
            for machine in self.machines.values()
            if machine.is_up and machine.process is not None and machine.process.is_started
            if partition in machine.process.node._replicas.table
        ]


def _to_world(logger: Any, method: str, event: dict[str, Any]) -> Any:
    owner = OWNER.get()
    if owner is not None:
        world = owner.loop.world
        name = event.pop("event")
        world.note_log(owner.name, name, event)
        error = event.get("exc_info")
        if method in ("error", "exception", "critical") and owner.is_alive:
            world.fail(error if isinstance(error, BaseException) else Violation("no-errors-logged", f"{name} {event}"))
    raise structlog.DropEvent


class LogsToWorld:
    """While it lasts, what brokers log goes to their world's trace."""

    def __enter__(self) -> None:
        self._before = structlog.get_config()
        structlog.configure(
            processors=[_to_world],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            cache_logger_on_first_use=False,
        )

    def __exit__(self, *error: object) -> None:
        structlog.configure(**self._before)
