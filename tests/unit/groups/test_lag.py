"""How far readers are behind, over replicas that are only lists of batches."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from crc32c import crc32c
from lograft.node.controller.facts import DeletedTopicFact, PartitionFact, TopicFact, delete, put
from lograft.node.controller.state import ClusterState
from lograft.node.groups.calls import Unread
from lograft.node.groups.lag import UNREAD_CALL, Lag, unread_from
from lograft.node.sightings import Leading
from lograft.partitions.chunk import Chunk
from lograft.partitions.cold_reads import NotInMemory
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import Point
from lograft.proto import record_batch
from lograft.proto.errors import BrokerUnavailable, InvalidRequest, NoLeader, NotLeader
from lograft.proto.record_batch import Compression, NewRecord

TOPIC_ID = "a" * 32
NOW_MS = 10_000
FIRST, SECOND, THIRD = (PartitionId(TOPIC_ID, number) for number in range(3))


class FakeReplica:
    """Leads. Holds batches, each given by its records' times; all of it is committed, but `start` on."""

    def __init__(self, *batches: list[int], start: int = 0) -> None:
        self.batches: list[bytes | bytearray] = []
        end = 0
        for times in batches:
            batch = record_batch.encode([NewRecord(time, None, b"v") for time in times], compression=Compression.LZ4)
            self.batches.append(record_batch.stamp(batch, end, 1))
            end += len(times)
        self.log_start = start
        self.committed = Point(1, end, 1)
        self.leads = True
        self.rounds = 0
        self.confirms = True
        self.reads: list[int] = []
        self.cold: set[int] = set()
        """Offsets that are not in memory."""
        self.waited: list[int] = []

    path = "a segment"

    async def bring_in(self, position: int, size: int) -> None:
        await asyncio.sleep(0)
        self.cold.discard(position)
        self.waited.append(position)

    async def confirm_read(self) -> int:
        self.rounds += 1
        if not self.confirms:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self._require_lead()
        return self.committed.offset

    def read(self, offset: int, bytes_max: int, *, only_cached: bool = False) -> Chunk:
        self._require_lead()
        if offset in self.cold:
            assert only_cached, "a wait for the disk holds up the loop"
            raise NotInMemory(self, offset, 1)  # type: ignore[arg-type]
        self.reads.append(offset)
        for batch in self.batches:
            header = record_batch.read_header(batch)
            if header.next_offset > offset:
                return Chunk([memoryview(batch)], header.next_offset, self.committed.offset, 0, 1)
        return Chunk([], offset, self.committed.offset, 0, 1)

    def _require_lead(self) -> None:
        if not self.leads:
            raise NoLeader("lost it")


class Broker:
    """One broker: what it holds, whom it takes for leaders, and calls to others that end at their `Lag`."""

    def __init__(self, broker_id: int = 1) -> None:
        self.broker_id = broker_id
        self.state = ClusterState()
        voters = (Voter(1, "d", 1),)
        fact = PartitionFact(placement=voters, first_voters=voters)
        self.topic = TopicFact(
            name="t", topic_id=TOPIC_ID, config={}, partitions=(fact,) * 3, next_replica_number=2, created_ms=0
        )
        self.state.apply(put(self.topic))
        self.table: dict[PartitionId, Any] = {}
        self.leaders: dict[PartitionId, int] = {}
        self.others: dict[int, Broker] = {}
        self.calls: list[int] = []
        self.lag = Lag(broker_id, self, self, lambda: NOW_MS)

    def lead(self, partition: PartitionId, replica: FakeReplica) -> FakeReplica:
        self.table[partition] = replica
        self.leaders[partition] = self.broker_id
        return replica

    # Replicas

    def leading(self, name: str, number: int, topic_id: str = "") -> Any:
        assert (name, topic_id) == ("t", TOPIC_ID)
        replica = self.table.get(PartitionId(TOPIC_ID, number))
        if replica is None or not replica.leads:
            raise NotLeader("elsewhere")
        return SimpleNamespace(replica=replica)

    def leader_of(self, partition: PartitionId) -> Leading:
        return Leading(self.leaders.get(partition), 1)

    # Links

    async def call(self, broker_id: int, method: str, body: bytes = b"", *, timeout_ms: float) -> bytes:
        assert method == UNREAD_CALL and timeout_ms > 0
        self.calls.append(broker_id)
        other = self.others.get(broker_id)
        if other is None:
            raise BrokerUnavailable("no link")
        return await other.lag.carry_out(body)


def done(what: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(what, 5))


def now() -> int:
    return NOW_MS


@pytest.mark.parametrize(
    ("offset", "timestamp_ms"),
    [(0, 1000), (1, 1001), (2, 1002), (3, 2000), (4, 2001), (5, -1)],
)
def test_the_next_unread_record_is_found_at_and_within_batches(offset: int, timestamp_ms: int) -> None:
    unread = done(unread_from(FakeReplica([1000, 1001, 1002], [2000, 2001]), offset, now))
    age_ms = 0 if timestamp_ms < 0 else NOW_MS - timestamp_ms
    assert unread == Unread(0, 5, timestamp_ms, age_ms)


def test_a_reader_behind_the_logs_start_has_the_start_before_him() -> None:
    unread = done(unread_from(FakeReplica([1000], [2000], [3000], start=1), 0, now))
    assert unread == Unread(1, 3, 2000, 8000)


def test_nothing_is_unread_in_an_empty_log_or_past_its_end() -> None:
    assert done(unread_from(FakeReplica(), 0, now)) == Unread(0, 0, -1, 0)
    assert done(unread_from(FakeReplica([1000]), 77, now)) == Unread(0, 1, -1, 0)


def test_a_record_from_the_future_is_not_of_negative_age() -> None:
    assert done(unread_from(FakeReplica([NOW_MS + 500]), 0, now)).age_ms == 0


def test_a_record_without_a_time_has_no_age() -> None:
    replica = FakeReplica([1000])
    struct.pack_into(">q", replica.batches[0], 27, -1)  # type: ignore[arg-type]
    assert done(unread_from(replica, 0, now)) == Unread(0, 1, -1, 0)


def test_the_first_of_a_batch_is_told_without_decoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Any] = []
    monkeypatch.setattr(record_batch, "decode_columns", lambda batch, **_: decoded.append(batch))
    assert done(unread_from(FakeReplica([1000, 1001]), 0, now)).timestamp_ms == 1000
    assert not decoded


def test_records_that_nobody_can_read_are_as_old_as_their_batch() -> None:
    replica = FakeReplica([1000, 1001, 1002])
    garbled = bytearray(replica.batches[0])
    garbled[61:] = b"\xff" * (len(garbled) - 61)
    struct.pack_into(">I", garbled, 17, crc32c(garbled[21:]))  # brokers take it: by its header it is sound
    replica.batches = [garbled]
    assert done(unread_from(replica, 1, now)).timestamp_ms == 1000


def test_records_compacted_away_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = FakeReplica([1000, 1001, 1002], [2000])
    columns = record_batch.decode_columns

    def compacted(batch: Any, **bounds: Any) -> Any:
        """Of the first batch only its first record is left."""
        whole = columns(batch, **bounds)
        return whole if whole.offsets[0] else whole._replace(offsets=[0], timestamps_ms=[1000])

    monkeypatch.setattr(record_batch, "decode_columns", compacted)
    assert done(unread_from(replica, 1, now)).timestamp_ms == 2000


def test_what_is_led_here_is_told_without_a_call_and_the_rest_by_one_call_to_each_leader() -> None:
    here, there = Broker(1), Broker(2)
    here.others[2] = there
    here.lead(FIRST, FakeReplica([1000]))
    there.lead(SECOND, FakeReplica([2000, 2001]))
    there.lead(THIRD, FakeReplica([3000]))
    here.leaders |= {SECOND: 2, THIRD: 2}
    found = done(here.lag.unread({FIRST: 0, SECOND: 1, THIRD: 1}))
    assert found == {FIRST: Unread(0, 1, 1000, 9000), SECOND: Unread(0, 2, 2001, 7999), THIRD: Unread(0, 1, -1, 0)}
    assert here.calls == [2]


def test_who_cannot_be_asked_is_left_out() -> None:
    here = Broker(1)
    here.lead(FIRST, FakeReplica([1000]))
    here.leaders[SECOND] = 2  # not in session; and of the third nobody knows who leads it
    assert done(here.lag.unread({FIRST: 0, SECOND: 0, THIRD: 0})).keys() == {FIRST}


def test_a_broker_that_leads_no_longer_tells_of_the_others_it_leads() -> None:
    here, there = Broker(1), Broker(2)
    here.others[2] = there
    there.lead(FIRST, FakeReplica([1000]))
    there.lead(SECOND, FakeReplica([1000])).leads = False
    here.leaders |= {FIRST: 2, SECOND: 2}
    assert done(here.lag.unread({FIRST: 0, SECOND: 0})).keys() == {FIRST}


def test_a_leader_that_cannot_confirm_is_left_out_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lograft.node.groups.lag.CONFIRM_SECONDS_MAX", 0.0)
    here = Broker(1)
    here.lead(FIRST, FakeReplica([1000])).confirms = False
    assert done(here.lag.unread({FIRST: 0})) == {}


def test_leadership_lost_after_the_round_leaves_the_partition_out() -> None:
    here = Broker(1)
    first, second = here.lead(FIRST, FakeReplica([1000])), here.lead(SECOND, FakeReplica([1000]))

    def lose_the_second(
        offset: int, bytes_max: int, read: Callable[..., Chunk] = first.read, *, only_cached: bool = False
    ) -> Chunk:
        second.leads = False
        return read(offset, bytes_max)

    first.read = lose_the_second  # type: ignore[method-assign]
    assert done(here.lag.unread({FIRST: 0, SECOND: 0})).keys() == {FIRST}


def test_a_deleted_topic_has_no_readers() -> None:
    here = Broker(1)
    here.lead(FIRST, FakeReplica([1000]))
    here.state.apply(delete(here.topic))
    assert done(here.lag.unread({FIRST: 0})) == {}


def test_an_end_is_known_of_the_own_replica_or_because_a_leader_told_and_only_rises() -> None:
    here, there = Broker(1), Broker(2)
    here.others[2] = there
    assert here.lag.known_end(FIRST) == 0
    replica = there.lead(FIRST, FakeReplica([1000], [1000], [1000]))
    here.leaders[FIRST] = 2
    done(here.lag.unread({FIRST: 0}))
    assert here.lag.known_end(FIRST) == 3
    replica.committed = Point(1, 2, 1)  # a leader that has not heard of the last commit
    done(here.lag.unread({FIRST: 0}))
    assert here.lag.known_end(FIRST) == 3
    here.table[FIRST] = FakeReplica([1000])
    assert here.lag.known_end(FIRST) == 3
    here.table[FIRST] = FakeReplica([1000], [1000], [1000], [1000])
    assert here.lag.known_end(FIRST) == 4


def test_ends_of_deleted_topics_are_forgotten() -> None:
    here = Broker(1)
    here.lead(FIRST, FakeReplica([1000]))
    done(here.lag.unread({FIRST: 0}))
    del here.table[FIRST]
    here.lag.forget_deleted()
    assert here.lag.known_end(FIRST) == 1
    here.state.apply(delete(here.topic))
    here.state.apply(put(DeletedTopicFact(topic_id=TOPIC_ID, name="t", deleted_ms=1)))
    here.lag.forget_deleted()
    assert here.lag.known_end(FIRST) == 0


def test_a_call_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        done(Broker(1).lag.carry_out(b"\xc1"))


def test_what_left_memory_is_brought_in_by_others_than_the_loop() -> None:
    replica = FakeReplica([1_000, 2_000], [3_000])
    replica.cold = {0}
    unread = asyncio.run(unread_from(replica, 0, lambda: NOW_MS))
    assert (unread.timestamp_ms, replica.waited) == (1_000, [0])
