"""Whole brokers and clients, what connects them, and what is noted of them."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog
from lograft import TopicPartition
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
from lograft.node.node import Node
from lograft.partitions.environment import PartitionId, ReplicaConfig
from lograft.partitions.replica import Replica

from tests.simulation.disk import ROOT, Crashed
from tests.simulation.invariants import Violation
from tests.simulation.rpc import Rpc
from tests.simulation.sockets import Sockets
from tests.simulation.trace import Trace
from tests.simulation.wires import Weather, Wires
from tests.simulation.world.history import History
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
        self.history: History
        self.topics: dict[str, int] = {}
        """Name -> how many partitions, of those that clients use."""
        self.counts: Counter[str] = Counter()
        self._leaders: dict[tuple[str, str], str] = {}
        self._lost: set[str] = set()
        """Directory ids on disks that are gone, and that may still vote by somebody's log."""
        self.wires = Wires(loop, Random(f"{seed} wires"), options.weather, note=trace.note)
        self.machines = {
            number: Machine(self, number, self._config(number)) for number in range(1, options.brokers + 1)
        }
        loop.world = self
        self.rpc = Rpc(self.wires)
        self.open_channel = self.rpc.open_channel
        loop.sockets = Sockets(self.wires)
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

    # -- what is told --------------------------------------------------------------------------------------------------

    def fail(self, failure: BaseException) -> None:
        if self.failure is None:
            self.failure = failure

    def note_log(self, name: str, event: str, facts: dict[str, Any]) -> None:
        told = " ".join(f"{fact}={value}" for fact, value in facts.items() if fact != "exc_info")
        self.trace.note("log", f"{name} {event} {told}")
        self.counts[event] += 1
        if event == "leading":
            reign = (str(facts["partition"]), str(facts["term"]))
            other = self._leaders.setdefault(reign, name)
            if other != name:
                self.fail(Violation("one-leader", f"{name} and {other} lead {reign[0]} in term {reign[1]}"))

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

    # -- what they are given -------------------------------------------------------------------------------------------

    def rpc_server(self, interceptors: Sequence[Any], options: Sequence[tuple[str, int]]) -> Any:
        return self.rpc.server(interceptors=interceptors, options=options)

    def lose_disk(self, machine: Machine) -> None:
        if machine.process is not None and machine.is_up:
            self._lost.add(machine.process.node._promises.directory_id)
        machine.lose_disk()

    # -- what can be asked -------------------------------------------------------------------------------------------

    def is_short_of_a_disk(self) -> bool:
        """May any set of voters that counts name a lost disk? Then the others are all needed."""
        if not self._lost:
            return False
        if not all(machine.is_ready for machine in self.machines.values()):
            return True
        named = {
            voter.directory_id
            for partition in self.known_partitions()
            for replica in self.replicas(partition)
            for voter in replica.voters
        }
        self._lost &= named
        return bool(self._lost)

    def known_partitions(self) -> list[PartitionId]:
        """Of which a replica lives."""
        return sorted({partition for node in self._nodes() for partition in node._replicas.table})

    def partitions_of(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic in topics for number in range(self.topics[topic])]

    def topic_ids(self) -> dict[str, str]:
        return {name: topic.topic_id for node in self._nodes() for name, topic in node._replicas.state.topics.items()}

    def leader_of(self, partition: PartitionId) -> Replica | None:
        """The one of the highest term."""
        leaders = [replica for replica in self.replicas(partition) if replica.is_leader]
        return max(leaders, key=lambda replica: replica.term, default=None)

    def _nodes(self) -> list[Node]:
        return [
            machine.process.node
            for machine in self.machines.values()
            if machine.is_up and machine.process is not None and machine.process.is_started
        ]

    def replicas(self, partition: PartitionId) -> list[Replica]:
        """Those that live."""
        tables = [node._replicas.table for node in self._nodes()]
        return [table[partition] for table in tables if partition in table]


def _to_world(logger: Any, method: str, event: dict[str, Any]) -> Any:
    owner = OWNER.get()
    if owner is not None:
        world = owner.loop.world
        name = event.pop("event")
        world.note_log(owner.name, name, event)
        error = event.get("exc_info")
        error = sys.exc_info()[1] if error is True else error
        if method in ("error", "exception", "critical") and owner.is_alive:
            world.fail(error if isinstance(error, BaseException) else Violation("no-errors-logged", f"{name} {event}"))
    raise structlog.DropEvent


class LogsToWorld:
    """While it lasts, what brokers log goes to their world's trace."""

    def __enter__(self) -> None:
        self._before = structlog.get_config()
        logging.disable(logging.CRITICAL)  # clients warn their users, of whom there are none
        structlog.configure(
            processors=[_to_world],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            cache_logger_on_first_use=False,
        )

    def __exit__(self, *error: object) -> None:
        structlog.configure(**self._before)
        logging.disable(logging.NOTSET)
