"""Producers, readers and trimmers, which hold the brokers to what they answer.

A producer follows the rules of an idempotent client: sequences count from 0 for each partition, at most five batches
are open, and whatever goes wrong it sends again from the oldest open batch on, none overtaking another. If it gives a
batch up, all later open ones go with it and it continues under a new id: those may be in the log or not, but at most
once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from lograft.partitions.appendings import Appended
from lograft.partitions.chunk import Chunk
from lograft.partitions.environment import PartitionId
from lograft.proto.errors import LograftError, OffsetOutOfRange
from lograft.proto.record_batch import encode

from tests.simulation.cluster import Cluster
from tests.simulation.keys import record_with

OPEN_BATCHES_MAX = 5
ANSWER_MS = 800.0
BACK_OFF_MS = (10.0, 100.0)
GIVE_UP_MS = 4000.0


@dataclass(slots=True)
class _Open:
    """A batch without a final answer."""

    sequence: int
    values: tuple[bytes, ...]
    data: bytes
    since_ms: float
    is_settled: bool = False


def _goes_ahead(cluster: Cluster, random: Random) -> bool:
    return cluster.traffic >= 1.0 or random.random() < cluster.traffic


class Producer:
    """One idempotent producer on one partition, with a value never used before in every record."""

    def __init__(
        self, cluster: Cluster, name: str, partition: PartitionId, *, pace_ms: float, value_bytes: int
    ) -> None:
        self.name = name
        self.partition = partition
        self.acknowledged = 0
        self.is_stopped = False
        self._cluster = cluster
        self._random = Random(f"{cluster.seed} producer {name}")
        self._pace_ms = pace_ms
        self._value_bytes = value_bytes
        self._count = 0
        self._open: deque[_Open] = deque()
        self._broker_id = self._random.choice(list(cluster.machines))
        self._attempt = 0
        self._begin_identity()

    def start(self) -> None:
        self._cluster.loop.call_later(self._random.uniform(0, self._pace_ms) / 1000.0, self._produce_on)

    def stop(self) -> None:
        """Make no new batches; what is open is still brought to its end."""
        self.is_stopped = True

    @property
    def open_batches(self) -> int:
        return len(self._open)

    def _produce_on(self) -> None:
        if self.is_stopped:
            return
        if _goes_ahead(self._cluster, self._random):
            self.produce(self._random.choice((1, 1, 2, 4)))
        self._cluster.loop.call_later(self._random.expovariate(1 / self._pace_ms) / 1000.0, self._produce_on)

    def produce(self, count: int) -> None:
        """Send a batch of `count` records, if another one may be open."""
        if len(self._open) >= OPEN_BATCHES_MAX:
            return
        values = tuple(self._new_value() for _ in range(count))
        data = encode(
            [record_with(value) for value in values],
            producer_id=self._producer_id,
            producer_epoch=0,
            base_sequence=self._next_sequence,
        )
        batch = _Open(self._next_sequence, values, data, self._cluster.loop.now_ms())
        self._next_sequence += count
        self._open.append(batch)
        self._send(batch)
        if len(self._open) == 1:
            self._watch()

    def _begin_identity(self) -> None:
        self._producer_id = self._random.getrandbits(62)
        self._next_sequence = 0

    def _new_value(self) -> bytes:
        self._count += 1
        return f"{self.name}:{self._count}:".encode().ljust(self._random.randint(8, 8 + self._value_bytes), b".")

    def _send(self, batch: _Open) -> None:
        attempt, first_open = self._attempt, self._open[0].sequence
        self._cluster.call(
            self._broker_id,
            lambda process, answer: process.produce(self.partition, batch.data, first_open, answer),
            lambda outcome: self._take_answer(attempt, batch, outcome),
        )

    def _take_answer(self, attempt: int, batch: _Open, outcome: object) -> None:
        if isinstance(outcome, Appended):
            if not batch.is_settled:
                batch.is_settled = True
                self._acknowledge(batch, outcome)
        elif attempt == self._attempt:
            assert isinstance(outcome, LograftError), f"a broker answered {outcome!r}"
            if not outcome.retriable:
                raise outcome
            self._send_again_later(outcome.facts.get("leader_id"))

    def _acknowledge(self, batch: _Open, appended: Appended) -> None:
        cluster = self._cluster
        cluster.invariants.note_acknowledged(self.partition, appended.base_offset, batch.values)
        cluster.trace.note("acknowledged", f"{self.name} sequence {batch.sequence} at {appended.base_offset}")
        self.acknowledged += len(batch.values)
        while self._open and self._open[0].is_settled:
            self._open.popleft()
        if self._open:
            self._watch()

    def _watch(self) -> None:
        """Send again if the oldest open batch has no answer in time."""
        oldest, attempt = self._open[0], self._attempt

        def look() -> None:
            if attempt == self._attempt and self._open and self._open[0] is oldest:
                self._send_again_later(None)

        self._cluster.loop.call_later(ANSWER_MS / 1000.0, look)

    def _send_again_later(self, leader_id: str | None) -> None:
        self._attempt += 1
        attempt = self._attempt
        self._broker_id = int(leader_id) if leader_id else self._random.choice(list(self._cluster.machines))

        def send_again() -> None:
            if attempt != self._attempt or not self._open:
                return
            is_old = self._cluster.loop.now_ms() - self._open[0].since_ms > GIVE_UP_MS
            if is_old and not self.is_stopped and self._random.random() < 0.2:
                self._cluster.trace.note("gives up", f"{self.name} {len(self._open)} batches")
                self._open.clear()
                self._begin_identity()
                return
            for batch in list(self._open):
                if not batch.is_settled:
                    self._send(batch)
            self._watch()

        self._cluster.loop.call_later(self._random.uniform(*BACK_OFF_MS) / 1000.0, send_again)


class Reader:
    """Reads one partition from its beginning, again and again, and asks for its end now and then."""

    def __init__(self, cluster: Cluster, partition: PartitionId, *, pace_ms: float) -> None:
        self.partition = partition
        self.records_read = 0
        self._cluster = cluster
        self._random = Random(f"{cluster.seed} reader {partition}")
        self._pace_ms = pace_ms
        self._position = 0

    def start(self) -> None:
        self._cluster.loop.call_later(self._random.uniform(0, self._pace_ms) / 1000.0, self._read_on)

    def _read_on(self) -> None:
        replica = self._cluster.leader_of(self.partition) if _goes_ahead(self._cluster, self._random) else None
        if replica is not None:
            self._ask(replica.voter.broker_id)
        self._cluster.loop.call_later(self._pace_ms / 1000.0, self._read_on)

    def _ask(self, broker_id: int) -> None:
        cluster, partition, position = self._cluster, self.partition, self._position
        trimmed = cluster.invariants.trimmed[partition]
        if self._random.random() < 0.2:
            known = cluster.invariants.acknowledged[partition]
            cluster.call(
                broker_id,
                lambda process, answer: process.confirm_end(partition, answer),
                lambda end: isinstance(end, int) and cluster.invariants.note_confirmed_end(partition, end, known),
            )
        bytes_max = self._random.choice((1, 500, 1 << 20))
        cluster.call(
            broker_id,
            lambda process, answer: process.fetch(partition, position, bytes_max, answer),
            lambda outcome: self._take(position, trimmed, outcome),
        )

    def _take(self, position: int, trimmed: int, chunk: object) -> None:
        if isinstance(chunk, OffsetOutOfRange) and position == self._position:
            start = int(chunk.facts["start"])
            if position < start:
                self._position = self._cluster.invariants.note_refused(self.partition, position, start)
            elif self._cluster.invariants.committed[self.partition].losses:
                self._position = start  # what it had read last is gone from the memory of a majority
            return
        if not isinstance(chunk, Chunk) or position != self._position:
            return
        self._position = self._cluster.invariants.note_read(self.partition, position, chunk.batches, trimmed)
        self.records_read += self._position - position
        if self._position == chunk.committed_offset and self._random.random() < 0.05:
            self._position = 0


class Trimmer:
    """Lets the log of one partition start later now and then: a little, or at all that is acknowledged."""

    def __init__(self, cluster: Cluster, partition: PartitionId, *, pace_ms: float) -> None:
        self.partition = partition
        self.is_stopped = False
        self._cluster = cluster
        self._random = Random(f"{cluster.seed} trimmer {partition}")
        self._pace_ms = pace_ms

    def start(self) -> None:
        self._cluster.loop.call_later(self._random.uniform(0, self._pace_ms) / 1000.0, self._trim_on)

    def stop(self) -> None:
        self.is_stopped = True

    def _trim_on(self) -> None:
        if self.is_stopped:
            return
        leader = self._cluster.leader_of(self.partition) if _goes_ahead(self._cluster, self._random) else None
        if leader is not None:
            self._trim(leader.voter.broker_id)
        self._cluster.loop.call_later(self._random.expovariate(1 / self._pace_ms) / 1000.0, self._trim_on)

    def _trim(self, broker_id: int) -> None:
        cluster, partition = self._cluster, self.partition
        end = cluster.invariants.acknowledged[partition]
        offset = self._random.choice((end, end, max(end - 10, 0), self._random.randint(0, end), end + 1))

        def take(outcome: object) -> None:
            if isinstance(outcome, int):
                cluster.trace.note("trimmed", f"{partition.number} to {offset}: {outcome}")
                cluster.invariants.note_trimmed(partition, offset, outcome)

        cluster.call(broker_id, lambda process, answer: process.trim(partition, offset, answer), take)
