"""Logs of keyed records, made at random or by hand, and their compaction in one go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

from lograft.partitions.environment import ReplicaConfig
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.storage.compaction import CompactionSettings, CompactionState, plan_compaction
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.rewriting import Job, Outcome, rewrite
from lograft.proto.record_batch import Compression, NewRecord, Record, decode, encode, stamp

from tests.unit.storage.fakes import DATA, LOG_DIRECTORY, PARTITION, VOTERS, FakeEnvironment, term_start, voter_change

SMALL = ReplicaConfig(segment_bytes_max=700, index_interval_bytes=200)
NOW_MS = 1_000_000
OLD = CompactionSettings(tombstones_ms=0, segment_bytes_max=700, dirty_bytes_max=0, index_interval_bytes=200)
YOUNG = OLD._replace(tombstones_ms=10 * NOW_MS)

Pair = tuple[bytes | None, bytes | None]


@dataclass
class History:
    """A log's items, as a leader would append them."""

    end: Point = ORIGIN
    items: list[Item] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    sequences: dict[int, int] = field(default_factory=dict)

    def take(self, item: Item) -> None:
        self.items.append(item)
        self.end = item.point

    def put(self, *pairs: Pair, producer: int = -1, compression: Compression = Compression.NONE) -> None:
        sequence = self.sequences.get(producer, 0) if producer >= 0 else -1
        made = encode(
            [NewRecord(self.end.offset + at, key, value) for at, (key, value) in enumerate(pairs)],
            compression=compression,
            producer_id=producer,
            producer_epoch=min(producer, 0),
            base_sequence=sequence,
        )
        if producer >= 0:
            self.sequences[producer] = sequence + len(pairs)
        data = bytes(stamp(made, self.end.offset, self.end.term))
        self.records += decode(data)
        self.take(Item(self.end._replace(offset=self.end.offset + len(pairs)), ItemKind.RECORDS, data))

    def begin_term(self, term: int) -> None:
        self.take(term_start(self.end, term))

    def newest(self) -> dict[bytes, Record]:
        return {record.key: record for record in self.records if record.key is not None}


def random_history(seed: int, *, batches: int = 60, keys: int = 6) -> History:
    random = Random(seed)
    history = History()
    history.begin_term(1)
    for _ in range(batches):
        chance = random.random()
        if chance < 0.05:
            history.begin_term(history.end.term + random.randint(1, 3))
        elif chance < 0.08:
            history.take(voter_change(history.end, VOTERS[: random.randint(1, 3)]))
        else:
            pairs: list[Pair] = []
            for _ in range(random.choice((1, 1, 2, 5))):
                key = None if random.random() < 0.05 else b"k%d" % random.randrange(keys)
                gone = key is not None and random.random() < 0.3
                pairs.append((key, None if gone else b"v%d" % random.randrange(1 << 40)))
            codec = random.choice((Compression.NONE, Compression.LZ4, Compression.ZSTD))
            history.put(*pairs, producer=random.choice((-1, 7, 8)), compression=codec)
    return history


async def log_of(env: FakeEnvironment, history: History) -> PartitionLog:
    log = await PartitionLog.create(env, DATA, PARTITION, VOTERS, SMALL)
    for at, item in enumerate(history.items):
        log.append([item], at + 1)
    await log.sync()
    return log


async def no_pace(size: int) -> None:
    await asyncio.sleep(0)


def job_for(log: PartitionLog, settings: CompactionSettings, state: CompactionState | None = None) -> Job | None:
    state = state or CompactionState(0)
    return plan_compaction(LOG_DIRECTORY, log.base, log.closed_segments(), log.end, state, settings, NOW_MS)


async def compact(env: FakeEnvironment, log: PartitionLog, settings: CompactionSettings = OLD) -> Outcome:
    job = job_for(log, settings)
    assert job is not None
    outcome = await rewrite(job, env.disk, no_pace, token="0a1b2c3d")
    for rewritten in outcome.segments:
        assert await log.replace(rewritten)
    return outcome


def items_in(log: PartitionLog) -> list[Item]:
    return list(log.read_items(log.base, log.end, 1 << 30))
