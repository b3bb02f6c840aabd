"""A log that keeps its word, and clients that crash, time out and retry: histories in which nothing may be found.

Every op begins, takes effect at one moment (or never), and ends later, if anybody hears of it. All of them overlap as
chance has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from tests.unit.check.stories import Story

PARTITIONS = ("t/0", "t/1", "u/0")
TRIMMED = "u/0"


@dataclass
class Pending:
    op: int
    process: str
    effect: Callable[[], dict[str, object] | None] | None
    """Gives what the client is told. None: it was refused, and surely did not happen."""
    answer: dict[str, object] | None = None
    after: Callable[[dict[str, object] | None], None] | None = None
    """What the client does once it hears of it, or not."""
    lane: tuple[str, str] | None = None
    """Sends of one producer take effect in their order."""


@dataclass
class Partition:
    start: int = 0
    values: list[tuple[str, int]] = field(default_factory=list)


class ModelLog:
    """One run of `steps` steps. The story is told to its end: all faults over, everything read."""

    def __init__(self, random: Random, steps: int) -> None:
        self.random = random
        self.story = Story(trimmed=["u"], brokers=3, atomic_sends=True)
        self.partitions = {name: Partition() for name in PARTITIONS}
        self.term = 1
        self.pending: list[Pending] = []
        self.next_value = 0
        self.positions: dict[str, dict[str, int]] = {}
        self.stored: dict[str, int] = {}
        self.granted: dict[str, tuple[str, int]] = {}
        self.generation = 0
        self.heard: dict[str, dict[str, int]] = {}  # member -> its partitions, with the generation of each
        self.at: dict[str, dict[str, int]] = {}  # member -> where it reads on
        self.lives = {"c-0": 0, "c-1": 0}
        self.topics: dict[str, str] = {}
        self.next_topic = 0
        self.faults: list[tuple[str, str]] = []
        moves = [self.send] * 6 + [self.poll] * 3 + [self.take_effect] * 14 + [self.end] * 14
        moves += (
            [self.group_poll] * 8 + [self.rebalance, self.ask_ends, self.ask_stored, self.ask_stored] + [self.topic] * 3
        )
        moves += [self.crash, self.new_term, self.trim, self.fault, self.seek]
        for _ in range(3):
            self.rebalance()
        for _ in range(steps):
            random.choice(moves)()
        self.settle()

    # Steps

    def begin(self, process: str, f: str, effect: Callable[[], dict[str, object] | None], **facts: object) -> Pending:
        after = facts.pop("after", None)
        pending = Pending(self.story.begin(process, f, **facts), process, effect, after=after)  # type: ignore[arg-type]
        self.pending.append(pending)
        return pending

    def take_effect(self) -> None:
        waiting = [one for one in self.pending if one.effect is not None]
        firsts: list[Pending] = []
        for one in waiting:
            if one.lane is None or all(other.lane != one.lane for other in firsts):
                firsts.append(one)
        if firsts:
            one = self.random.choice(firsts)
            assert one.effect is not None
            one.answer, one.effect = one.effect(), None
            if one.answer is None:
                self.over(one, "fail")

    def end(self) -> None:
        if not self.pending:
            return
        one = self.random.choice(self.pending)
        if one.effect is None:
            self.over(one, "ok" if self.random.random() < 0.8 else "info")
        elif self.random.random() < 0.1:
            self.over(one, "info")
            if self.random.random() < 0.5 and one.lane is not None:
                self.pending.append(Pending(-1, one.process, one.effect, lane=one.lane))  # it may yet arrive
        elif self.random.random() < 0.05:
            self.over(one, "fail")

    def over(self, one: Pending, kind: str) -> None:
        self.pending.remove(one)
        if one.op >= 0:
            self.story.end(one.op, kind, **((one.answer or {}) if kind == "ok" else {}))
        if one.after is not None:
            one.after(one.answer if kind == "ok" else None)

    def busy(self, process: str) -> bool:
        return any(one.process == process and one.op >= 0 for one in self.pending)

    # Producers

    def send(self) -> None:
        process = self.random.choice(["p-0", "p-1"])
        values = [f"v{self.next_value + number}" for number in range(self.random.choice([1, 1, 2, 3]))]
        self.next_value += len(values)
        name = self.random.choice(PARTITIONS)
        topic, number = name.split("/")
        asked = int(number) if self.random.random() < 0.7 else None

        def append() -> dict[str, object]:
            offsets = [self.append(name, value) for value in values]
            return {"partition": int(number), "offsets": offsets, "term": self.term}

        facts = {"topic": topic, "partition": asked, "values": values, "producer": f"{process}/1"}
        self.begin(process, "send", append, **facts).lane = (process, name)

    def append(self, name: str, value: str) -> int:
        partition = self.partitions[name]
        partition.values.append((value, self.term))
        return len(partition.values) - 1

    # Assigned consumers

    def assign(self, process: str, *names: str) -> None:
        positions = {name: self.random.randint(self.partitions[name].start, self.end_of(name)) for name in names}
        self.story.did(process, "assign", {"positions": positions}, positions=positions)
        self.positions[process] = dict(positions)

    def end_of(self, name: str) -> int:
        return len(self.partitions[name].values)

    def seek(self) -> None:
        process = self.random.choice(["c-0", "c-1"])
        if process in self.positions and not self.busy(process):
            name = self.random.choice(list(self.positions[process]))
            position = self.random.randint(self.partitions[name].start, self.end_of(name))
            self.story.did(process, "seek", {"positions": {name: position}}, positions={name: position})
            self.positions[process][name] = position

    def records(self, positions: dict[str, int], most: int) -> list[list[object]]:
        found: list[list[object]] = []
        for name, position in positions.items():
            partition = self.partitions[name]
            for offset in range(max(position, partition.start), self.end_of(name))[:most]:
                value, term = partition.values[offset]
                found.append([name, offset, value, term])
                positions[name] = offset + 1
        return found

    def poll(self) -> None:
        process = self.random.choice(["c-0", "c-1"])
        if self.busy(process):
            return
        if process not in self.positions:
            self.assign(process, *self.random.sample(PARTITIONS, 2))
        positions = self.positions[process]
        self.begin(process, "poll", lambda: {"records": self.records(positions, self.random.randint(0, 3))})

    def crash(self) -> None:
        process = self.random.choice(["c-0", "c-1", "m-0", "m-1"])
        self.pending = [one for one in self.pending if one.process != process]
        self.story.note(process, "crash")
        self.positions.pop(process, None)
        if process in self.heard:
            self.heard[process] = {}
            self.at[process] = {}

    # A group

    def rebalance(self) -> None:
        name = self.random.choice(PARTITIONS)
        member = self.random.choice(["m-0", "m-1"])
        self.generation += 1
        self.granted[name] = (member, self.generation)
        for one in ("m-0", "m-1"):
            if one == member or self.random.random() < 0.6:  # the others may hear of it only later
                self.hear(one)

    def hear(self, member: str) -> None:
        granted = {name: generation for name, (owner, generation) in self.granted.items() if owner == member}
        before = self.heard.get(member, {})
        self.heard[member] = granted
        self.at[member] = {
            name: self.at[member][name] if before.get(name) == generation else self.stored.get(name, 0)
            for name, generation in granted.items()
        }
        self.story.note(member, "own", group="g", member=member, generation=granted, partitions=sorted(granted))

    def group_poll(self) -> None:
        member = self.random.choice(["m-0", "m-1"])
        if self.busy(member) or not self.heard.get(member):
            return
        positions, grants = self.at[member], self.heard[member]
        ahead = dict(positions)

        def work(answer: dict[str, object] | None) -> None:
            if answer is None or self.heard[member] is not grants:
                return  # nobody worked on them; the next poll gets them again
            positions.update(ahead)
            records = answer["records"]
            assert isinstance(records, list)
            self.story.note(member, "process", group="g", records=[record[:2] for record in records])
            if records:
                self.store(member, {name: offset + 1 for name, offset, _, _ in records}, dict(grants))

        self.begin(member, "poll", lambda: {"records": self.records(ahead, 2)}, after=work)

    def store(self, member: str, offsets: dict[str, int], grants: dict[str, int]) -> None:
        def keep() -> dict[str, object] | None:
            if any(self.granted[name] != (member, grants[name]) for name in offsets):
                return None
            self.stored.update(offsets)
            return {}

        self.begin(member, "store", keep, group="g", member=member, generation=grants, offsets=offsets)

    def ask_stored(self) -> None:
        self.begin(f"f-{self.next_value}", "fetch_stored", self.all_stored, group="g")

    def all_stored(self) -> dict[str, object]:
        return {"offsets": {name: self.stored.get(name) for name in PARTITIONS}}

    # The rest

    def ask_ends(self) -> None:
        def bounds() -> dict[str, object]:
            return {"ends": {name: [self.partitions[name].start, self.end_of(name)] for name in PARTITIONS}}

        self.begin(f"e-{self.next_value}", "ends", bounds)

    def new_term(self) -> None:
        self.term += 1

    def trim(self) -> None:
        if self.random.random() < 0.3:
            partition = self.partitions[TRIMMED]
            partition.start = self.random.randint(partition.start, len(partition.values))

    def topic(self) -> None:
        what = self.random.choice(["create_topic", "delete_topic", "list_topics"])
        process = f"a-{self.next_value}"
        name = self.random.choice(["x", "y"])
        if what == "list_topics":
            self.begin(process, what, lambda: {"topics": dict(self.topics)})
            return
        self.next_topic += 1
        topic_id = f"id-{self.next_topic}"

        def create() -> dict[str, object] | None:
            if name in self.topics:
                return None
            self.topics[name] = topic_id
            return {"topic_id": topic_id}

        def delete() -> dict[str, object] | None:
            return {} if self.topics.pop(name, None) is not None else None

        if what == "create_topic":
            self.begin(process, what, create, topic=name, topic_id=topic_id)
        else:
            self.begin(process, what, delete, topic=name)

    def fault(self) -> None:
        if self.faults and self.random.random() < 0.6:
            what, on = self.faults.pop()
            self.story.fault(what, on, False)
        else:
            fault = self.random.choice(["kill", "pause", "partition"]), self.random.choice(["b0", "b1"])
            if fault not in self.faults:
                self.faults.append(fault)
                self.story.fault(*fault, True)

    def settle(self) -> None:
        """All that can still happen happens or not; faults end; everything is read."""
        while self.pending and self.random.random() < 0.97:
            self.random.choice([self.take_effect, self.end])()
        self.pending.clear()
        for what, on in self.faults:
            self.story.fault(what, on, False)
        for name, partition in self.partitions.items():
            values = [(offset, value) for offset, (value, _) in enumerate(partition.values)][partition.start :]
            self.story.read_all(*values, start=partition.start, end=len(partition.values), partition=name)
            for broker in ("b0", "b1", "b2"):
                sums = [[offset, crc32(value.encode())] for offset, value in values]
                told = {"start": partition.start, "committed": len(partition.values), "sums": sums}
                self.story.did("reader", "replica", None, partition=name, broker=broker, **told)
