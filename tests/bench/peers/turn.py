"""One turn: everything that is measured of one system in one round, its servers started afresh and stopped again."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from . import pipe
from .figures import END_TO_END, ONE_BY_ONE, PIPE, PRODUCE, READ, Figure, throughput
from .processes import Failed, child, finish
from .system import Cluster, System
from .tool_output import Unreadable
from .work import Order

WORK_SECONDS_MAX = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much of each work is done."""

    rounds: int = 5
    seconds: float = 2.0
    """How long records are sent, in each throughput figure."""
    bytes_max: int = 512 << 20
    """No throughput figure sends more than this, so that disks are not filled."""
    pipe_bytes: int = 512 << 20
    latency_seconds: float = 4.0
    one_by_one_seconds: float = 1.5
    warm_up_seconds: float = 2.0
    produce_sizes: tuple[int, ...] = (100, 1024, 16 << 10)
    read_sizes: tuple[int, ...] = (100, 1024)
    latency_bytes: int = 1024
    per_second: int = 1000
    tool_one_by_one_records: int = 2000

    def seconds_of(self, system: System) -> float:
        """About how long its works take, on a quiet machine."""
        by_client, by_tool = self.seconds + 1.5, 1.5 * self.seconds + system.tool_start_seconds
        produced = sum(
            len(system.lanes_for(size)) * by_client + len(system.produce_tools_for(size)) * by_tool
            for size in self.produce_sizes
        )
        read = len(self.read_sizes) * (by_client + len(system.read_tools) * by_tool) if system.is_read else 0.0
        latency = self.latency_seconds + 3 + 1.2 * self.one_by_one_seconds + 1.5 + 2 * len(system.one_by_one_tools)
        return produced + read + latency + len(system.request_loads) * (self.seconds + 3)

    def seconds_to_start(self, system: System) -> float:
        return system.start_seconds + (1 + system.warm_up_factor) * self.warm_up_seconds

    def seconds_of_the_pipe(self) -> float:
        return 6.0 + self.pipe_bytes / 100e6 + self.one_by_one_seconds


QUICK = Plan(
    rounds=1,
    seconds=1.0,
    bytes_max=64 << 20,
    pipe_bytes=128 << 20,
    latency_seconds=2.0,
    one_by_one_seconds=1.0,
    warm_up_seconds=1.0,
    tool_one_by_one_records=500,
)

Tell = Callable[[str], None]
Known = dict[tuple[str, str, int], float]
"""Records a second that (system, client or tool, size) has reached, so that a tool can be told how many to send."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that could not be measured in one round."""

    round: int
    system: str
    what: str
    why: str


def turn_of_the_pipe(number: int, plan: Plan, directory: Path) -> Iterator[Figure]:
    values = pipe.produce(directory, plan.pipe_bytes)
    yield Figure(number, PIPE, "64 KiB frames", PRODUCE, pipe.FRAME_BYTES, values)
    values = pipe.one_by_one(directory, plan.latency_bytes, plan.one_by_one_seconds)
    yield Figure(number, PIPE, "one frame at a time", ONE_BY_ONE, plan.latency_bytes, values)


class Turn:
    """A turn of a system with servers. Works that fail are told as troubles; the others go on."""

    def __init__(self, number: int, system: System, cluster: Cluster, plan: Plan, known: Known) -> None:
        self._number, self._system, self._cluster, self._plan, self._known = number, system, cluster, plan, known
        self._in_topic: dict[str, int] = {}

    def figures(self) -> Iterator[Figure | Trouble]:
        """The disk is quiet before each work, so that none pays for another. Latency comes last, with all warm."""
        for what, measure in self._works():
            os.sync()
            try:
                self._cluster.servers.check()
                yield measure()
            except (Failed, Unreadable, NotImplementedError) as failure:
                yield Trouble(self._number, self._system.name, what, str(failure) or type(failure).__name__)

    def _works(self) -> Iterator[tuple[str, Callable[[], Figure]]]:
        system, plan = self._system, self._plan
        for size in plan.produce_sizes:
            for lane in system.lanes_for(size):
                name, number = lane.name, system.lanes.index(lane)
                yield f"{PRODUCE}, {size} B, {name}", lambda number=number, size=size: self._produce(number, size)  # type: ignore[misc]
            if size in plan.read_sizes and system.is_read:
                yield f"{READ}, {size} B, {system.reads_by}", lambda size=size: self._read(size)  # type: ignore[misc]
            for tool in system.produce_tools_for(size):
                yield f"{PRODUCE}, {size} B, {tool}", lambda tool=tool, size=size: self._produce_by_tool(tool, size)  # type: ignore[misc]
            if size in plan.read_sizes and system.is_read:
                for tool in system.read_tools:
                    yield f"{READ}, {size} B, {tool}", lambda tool=tool, size=size: self._read_by_tool(tool, size)  # type: ignore[misc]
        for load, (work, size) in system.request_loads.items():
            yield f"{work}, {size} B, {load}", lambda load=load: self._requests(load)  # type: ignore[misc]
        size = plan.latency_bytes
        yield f"{END_TO_END}, {size} B, {system.reads_by}", self._end_to_end
        yield f"{ONE_BY_ONE}, {size} B, {system.reads_by}", self._one_by_one
        for tool in system.one_by_one_tools:
            yield f"{ONE_BY_ONE}, {size} B, {tool}", lambda tool=tool: self._one_by_one_by_tool(tool)  # type: ignore[misc]

    # The works ------------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Code is loaded and, in Kafka's case, compiled; connections between servers are up."""
        lane, seconds = self._system.lanes[-1], self._plan.warm_up_seconds * self._system.warm_up_factor
        topic = self._make_topic("warm-up")
        made = self._drive("produce", self._order(topic, 1024, seconds=seconds, way=lane.way))
        self._drive("read", self._order(topic, 1024, records=int(made["in_topic"])))

    def _end_to_end(self) -> Figure:
        order = self._order(self._make_topic("latency"), self._plan.latency_bytes, seconds=self._plan.latency_seconds)
        before = self._cluster.servers.cpu_seconds()
        with child(self._command("listen", order)) as listener:
            _wait_for_ready(listener)
            self._drive("send_paced", order)
            output = finish(listener, f"{self._system.reads_by} listening", seconds=WORK_SECONDS_MAX)
        values = _last_json(output)
        values["server_cpu_s"] = self._cluster.servers.cpu_seconds() - before
        return self._figure(self._system.reads_by, END_TO_END, order.record_bytes, values)

    def _one_by_one(self) -> Figure:
        order = self._order(
            self._make_topic("one-by-one"), self._plan.latency_bytes, seconds=self._plan.one_by_one_seconds
        )
        return self._figure(self._system.reads_by, ONE_BY_ONE, order.record_bytes, self._drive("one_by_one", order))

    def _one_by_one_by_tool(self, tool: str) -> Figure:
        topic = self._make_topic(f"one-by-one-{self._system.one_by_one_tools.index(tool)}")
        size = self._plan.latency_bytes
        values = self._cluster.one_by_one_by_tool(tool, topic, size, self._plan.tool_one_by_one_records)
        return self._figure(tool, ONE_BY_ONE, size, values)

    def _produce(self, number: int, size: int) -> Figure:
        lane, topic = self._system.lanes[number], self._make_topic(f"produced-{size}-{number}")
        made = self._drive("produce", self._order(topic, size, seconds=self._plan.seconds, way=lane.way))
        self._in_topic[topic] = int(made["in_topic"])
        return self._throughput(lane.name, PRODUCE, size, made)

    def _read(self, size: int) -> Figure:
        topic = self._name(f"produced-{size}-{len(self._system.lanes) - 1}")
        read = self._drive("read", self._order(topic, size, records=self._produced(topic)))
        if read["bytes"] != read["records"] * size:
            raise Failed(f"{read['bytes']} bytes were read in {read['records']} records of {size} bytes")
        return self._throughput(self._system.reads_by, READ, size, read)

    def _produce_by_tool(self, tool: str, size: int) -> Figure:
        topic = self._make_topic(f"by-tool-{size}-{self._system.produce_tools.index(tool)}")
        records = self._records_for(tool, size)
        before = self._cluster.servers.cpu_seconds()
        values = self._cluster.produce_by_tool(tool, topic, size, records)
        values["server_cpu_s"] = self._cluster.servers.cpu_seconds() - before
        self._in_topic[topic] = int(values.pop("in_topic"))
        values["records"] = records
        self._known[(self._system.name, tool, size)] = values["records_per_s"]
        return self._figure(tool, PRODUCE, size, values)

    def _read_by_tool(self, tool: str, size: int) -> Figure:
        topic = self._name(f"by-tool-{size}-0")
        values = self._cluster.read_by_tool(tool, topic, size, self._produced(topic))
        return self._figure(tool, READ, size, values)

    def _requests(self, load: str) -> Figure:
        work, size = self._system.request_loads[load]
        before = self._cluster.servers.cpu_seconds()
        topic = self._name(f"requests-{list(self._system.request_loads).index(load)}")
        values = self._cluster.requests_by_tool(load, topic, self._plan.seconds, self._plan.bytes_max)
        values["server_cpu_s"] = self._cluster.servers.cpu_seconds() - before
        return self._figure(load, work, size, values)

    def _name(self, topic: str) -> str:
        """Others may be on the same servers."""
        return f"{self._system.name}-{topic}"

    def _make_topic(self, topic: str) -> str:
        self._cluster.make_topic(self._name(topic))
        return self._name(topic)

    # What they share ------------------------------------------------------------------------------------------------

    def _records_for(self, tool: str, size: int) -> int:
        """About as many as take half as long again as planned, the start being cold: as the tool did before, else as
        the Python client did."""
        system = self._system
        seen = [
            self._known[(system.name, name, size)]
            for name in (tool, *(lane.name for lane in reversed(system.lanes)))
            if (system.name, name, size) in self._known
        ]
        per_second = seen[0] if seen else 1000.0
        return max(1000, min(int(1.5 * per_second * self._plan.seconds), self._plan.bytes_max // size))

    def _produced(self, topic: str) -> int:
        if topic not in self._in_topic:
            raise Failed("there is nothing to read, as producing failed")
        return self._in_topic[topic]

    def _order(self, topic: str, record_bytes: int, *, seconds: float = 0.0, records: int = 0, way: str = "") -> Order:
        return Order(
            servers=self._cluster.addresses,
            topic=topic,
            record_bytes=record_bytes,
            seconds=seconds,
            bytes_max=self._plan.bytes_max,
            records=records,
            per_second=self._plan.per_second,
            way=way,
        )

    def _command(self, work: str, order: Order) -> list[str]:
        return [
            *(sys.executable, "-m", f"{__package__}.work", self._system.client, work, json.dumps(asdict(order))),
        ]

    def _drive(self, work: str, order: Order) -> dict[str, float]:
        before = self._cluster.servers.cpu_seconds()
        with child(self._command(work, order)) as process:
            values = _last_json(finish(process, f"{self._system.reads_by} {work}", seconds=WORK_SECONDS_MAX))
        values["server_cpu_s"] = self._cluster.servers.cpu_seconds() - before
        return values

    def _throughput(self, client: str, work: str, size: int, made: dict[str, float]) -> Figure:
        values = throughput(int(made["records"]), size, made["seconds"])
        values |= {name: made[name] for name in ("client_cpu_s", "server_cpu_s")}
        self._known[(self._system.name, client, size)] = values["records_per_s"]
        return self._figure(client, work, size, values)

    def _figure(self, client: str, work: str, size: int, values: dict[str, float]) -> Figure:
        return Figure(self._number, self._system.name, client, work, size, values)


def _last_json(output: str) -> dict[str, float]:
    lines = output.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise Failed(f"no figures in {output[-200:]!r}") from None
    assert isinstance(found, dict)
    return found


def _wait_for_ready(listener: subprocess.Popen[str], seconds: float = 30.0) -> None:
    assert listener.stdout is not None
    heard, _, _ = select.select([listener.stdout], [], [], seconds)
    if not heard or listener.stdout.readline().strip() != "ready":
        listener.kill()
        _, errors = listener.communicate()
        raise Failed(
            f"the listener did not get ready: {(errors.strip().splitlines() or ['it said nothing'])[-1][-300:]}"
        )
