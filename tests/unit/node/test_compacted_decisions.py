"""The state built from a compacted log is the one that was built while it was written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.node.controller.state import ClusterState
from lograft.node.decision_log import DecisionLog
from lograft.node.groups.facts import (
    GrantFact,
    GrantKey,
    GroupFact,
    GroupKey,
    MemberFact,
    MemberKey,
    OffsetFact,
    OffsetKey,
    encode_key,
    encode_value,
)
from lograft.node.groups.state import GroupsState
from lograft.partitions.chunk import Chunk
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.points import Point
from lograft.partitions.storage.log import PartitionLog
from lograft.proto.errors import OffsetOutOfRange
from lograft.proto.record_batch import read_header

from tests.unit.controller.test_state import LOGS
from tests.unit.storage.fakes import FakeDisk, FakeEnvironment
from tests.unit.storage.histories import OLD, YOUNG, History, compact, log_of

Record = tuple[bytes | None, bytes | None]

GROUPS = st.sampled_from(["g", "h", "a/b"])
PARTITIONS = st.builds(PartitionId, st.sampled_from(["1" * 32, "2" * 32]), st.integers(0, 2))
GROUP_CHANGES = st.one_of(
    st.tuples(st.builds(GroupKey, GROUPS), st.none() | st.builds(GroupFact, generation=st.integers(0, 9))),
    st.tuples(
        st.builds(MemberKey, GROUPS, st.sampled_from(["m1", "m2"])),
        st.none() | st.builds(MemberFact, topics=st.just(("t",)), session_timeout_ms=st.just(1), joined_ms=st.just(1)),
    ),
    st.tuples(
        st.builds(GrantKey, GROUPS, PARTITIONS),
        st.none() | st.builds(GrantFact, member_id=st.sampled_from(["m1", "m2"]), generation=st.integers(0, 9)),
    ),
    st.tuples(
        st.builds(OffsetKey, GROUPS, PARTITIONS),
        st.none() | st.builds(OffsetFact, offset=st.integers(0, 9), stored_ms=st.just(1)),
    ),
)
GROUP_RECORDS = st.lists(
    GROUP_CHANGES.map(lambda change: (encode_key(change[0]), None if change[1] is None else encode_value(change[1]))),
    max_size=40,
)


class LogReplica:
    """A replica of an internal partition, as far as a DecisionLog asks: what is in `log` is committed."""

    def __init__(self, log: PartitionLog) -> None:
        self.log = log
        self.resets = 0

    @property
    def committed(self) -> Point:
        return self.log.end

    def read_committed(self, offset: int, bytes_max: int) -> Chunk:
        end = self.log.end.offset
        if offset > end:
            raise OffsetOutOfRange("it is not there", offset=offset, start=0, end=end)
        batches = self.log.read_records(offset, end, 700)
        return Chunk(batches, read_header(batches[-1]).next_offset, end, 0, 1)

    def on_commit_past(self, offset: int, callback: Callable[[], None]) -> None:
        return


def a_history(records: list[Record], sizes: list[int]) -> History:
    history = History()
    history.begin_term(1)
    left = [*records, (b"broker/9", None)]
    for size in sizes * len(left):
        if not left:
            break
        history.put(*left[:size])
        left = left[size:]
    for _ in range(8):  # what is compacted are closed segments
        history.put((b"other", b"x" * 100))
    return history


def decisions(replica: LogReplica, state: Any) -> DecisionLog[Any]:
    return DecisionLog(replica, state, asyncio.get_running_loop().call_soon, lambda *_, **__: None)  # type: ignore[arg-type]


def check(
    kind: type[ClusterState] | type[GroupsState], records: list[Record], sizes: list[int], tombstones: bool
) -> None:
    async def scenario() -> None:
        history = a_history(records, sizes)
        live: Any = kind()
        for record in history.records:
            live.apply_record(record.key, record.value)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        await compact(env, log, YOUNG if tombstones else OLD)
        rebuilt = decisions(LogReplica(log), kind())
        rebuilt.catch_up()
        assert rebuilt.state == live and rebuilt.applied_offset == log.end.offset

        # A follower that was behind when its log was begun anew, as a copy of the compacted one.
        behind = decisions(replica := LogReplica(log), kind())
        for record in history.records[: len(history.records) // 2]:
            behind.state.apply_record(record.key, record.value)
        behind.applied_offset = len(history.records) // 2
        replica.resets += 1
        told: list[str] = []
        behind.on_change(told.extend)
        behind.catch_up()
        assert behind.state == live and behind.applied_offset == log.end.offset

    asyncio.run(scenario())


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(records=LOGS, sizes=SIZES, tombstones=st.booleans())
def test_all_decisions_are_found_again_in_the_compacted_log(
    records: list[Record], sizes: list[int], tombstones: bool
) -> None:
    check(ClusterState, records, sizes, tombstones)


@settings(max_examples=25, deadline=None)
@given(records=GROUP_RECORDS, sizes=SIZES, tombstones=st.booleans())
def test_all_groups_are_found_again_in_the_compacted_log(
    records: list[Record], sizes: list[int], tombstones: bool
) -> None:
    check(GroupsState, records, sizes, tombstones)


def a_deletion(digit: bytes) -> tuple[bytes, bytes]:
    topic_id = digit * 32
    return b"deleted/" + topic_id, b'{"topic_id":"%s","name":"t","deleted_ms":0}' % topic_id


@pytest.mark.parametrize(
    ("kind", "older", "newer", "changed"),
    [
        (ClusterState, a_deletion(b"1"), a_deletion(b"2"), ["deleted/" + "1" * 32, "deleted/" + "2" * 32]),
        (GroupsState, (b"group/a", b'{"generation":1}'), (b"group/b", b'{"generation":2}'), ["a", "b"]),
    ],
)
def test_while_a_state_is_built_anew_the_old_one_stays_in_force_and_then_says_what_changed(
    kind: Any, older: Record, newer: Record, changed: list[str]
) -> None:
    async def scenario() -> None:
        others = [(b"other", b"x" * 100)] * 20
        whole, copy = History(), History()
        for history, records in ((whole, [older, *others]), (copy, [*others, newer])):
            history.begin_term(1)
            for record in records:
                history.put(record)
        log = decisions(replica := LogReplica(await log_of(FakeEnvironment(FakeDisk()), whole)), kind())
        told: list[str] = []
        log.on_change(told.extend)
        log.catch_up()
        assert told == changed[:1]
        told.clear()
        # Its log begins anew: of the older key even the tombstone is gone, and the newer one is there.
        replica.log, replica.resets = await log_of(FakeEnvironment(FakeDisk()), copy), 1
        while log._apply_chunk() and log.applied_offset < 21:
            assert told == [] and log.state != kind()
        assert told == changed

    asyncio.run(scenario())


def test_of_a_log_that_began_anew_nothing_is_seen_before_it_is_read_again() -> None:
    """Else its compaction could drop a tombstone just between the reading of an older record and of that."""

    async def scenario() -> None:
        history = History()
        history.begin_term(1)
        history.put((b"key", b"value"))
        log = decisions(replica := LogReplica(await log_of(FakeEnvironment(FakeDisk()), history)), GroupsState())
        log.catch_up()
        assert log.seen_offset == log.applied_offset == 1
        replica.resets += 1
        assert log.seen_offset == 0
        log.catch_up()
        assert log.seen_offset == 1

    asyncio.run(scenario())
