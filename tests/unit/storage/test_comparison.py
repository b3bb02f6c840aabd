"""Replicas compared: equal where logs must be, whatever their files look like, and enough copies of what counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.partitions.raft.points import ORIGIN, Item, Point
from lograft.partitions.storage.checks.chunks import ChunkTable
from lograft.partitions.storage.checks.comparison import Compared, common_end, compare, first_difference
from lograft.partitions.storage.checks.findings import Level
from lograft.partitions.storage.checks.replica import ReplicaCheck, check_replica
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.promised import ReplicaPromises
from lograft.proto.record_batch import emptied, read_header

from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    ONE_SEGMENT,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    batch,
    items_of,
)

SHAPES = ("T1", 3, 2, 4, "T2", 1, 5, 2, 2, 6, "T5", 1)


@pytest.fixture(autouse=True, params=["many pieces", "one piece"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the logs are small, pieces must be as well."""
    size = 200 if request.param == "many pieces" else 4 << 20
    monkeypatch.setattr(ChunkTable.__init__, "__defaults__", (size,))


def a_replica(
    number: int,
    items: list[Item],
    *,
    config: Any = CONFIG,
    mark: Point | None = None,
    flips: tuple[tuple[int, int], ...] = (),
    **promised: Any,
) -> ReplicaCheck:
    """Of `VOTERS[number]`. `flips` are (segment, position)."""
    disk = FakeDisk()

    async def write() -> Point:
        log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, config)
        for item in items:
            log.append([item], 5)
        await log.sync()
        log.close()
        return log.end

    end = asyncio.run(write())
    paths = sorted(path for path in disk.names if path.endswith(".log"))
    for segment, position in flips:
        disk.flip(paths[segment], position)
    promises = ReplicaPromises(1, term=9, mark=end if mark is None else mark, **promised)
    return check_replica(disk, DATA, PARTITION, promises, directory_id=VOTERS[number].directory_id, same_boot=True)


def told(*replicas: ReplicaCheck) -> list[Level]:
    return [finding.level for finding in compared(*replicas).findings]


def compared(*replicas: ReplicaCheck) -> Compared:
    return compare(replicas, [f"broker {number}" for number in range(len(replicas))])


def with_another(items: list[Item], at: int) -> list[Item]:
    """The same, with other bytes and a good CRC at one place."""
    old = items[at]
    header = read_header(old.data)
    data = batch(header.base_offset, header.term, records=header.width, fill=b"y")
    return [*items[:at], replace(old, data=data), *items[at + 1 :]]


def test_logs_that_hold_the_same_are_the_same_however_they_are_segmented() -> None:
    items = items_of(ORIGIN, *SHAPES)
    found = compared(a_replica(0, items), a_replica(1, items, config=ONE_SEGMENT), a_replica(2, items))
    assert found.findings == [] and found.end == items[-1].point


@pytest.mark.parametrize("at", [1, 5, 9, 11])
def test_other_bytes_with_a_good_crc_are_found_with_offset_term_and_who_differs(at: int) -> None:
    items = items_of(ORIGIN, *SHAPES)
    odd = with_another(items, at)
    found = compared(a_replica(0, items), a_replica(1, odd), a_replica(2, items))
    (finding,) = found.findings
    assert finding.level is Level.DIFFERENCE
    assert finding.from_offset == read_header(items[at].data).base_offset
    assert "broker 0, broker 2 differ from broker 1" in finding.what
    assert f"term {items[at - 1].point.term}" in finding.what


def test_a_log_that_lacks_an_item_in_its_midst_is_found() -> None:
    items = items_of(ORIGIN, "T1", 1, VOTERS[:2], VOTERS, 2, 3)
    short = items_of(ORIGIN, "T1", 1, VOTERS, 2, 3)
    assert told(a_replica(0, items), a_replica(1, short)) == [Level.DIFFERENCE]


def test_logs_are_the_same_as_far_as_the_shorter_one_goes() -> None:
    items = items_of(ORIGIN, *SHAPES)
    long, short = a_replica(0, items), a_replica(1, items[:7])
    assert common_end(long, short) == items[6].point
    assert told(long, short, a_replica(2, items)) == []


def test_an_end_that_no_majority_holds_may_differ() -> None:
    items = items_of(ORIGIN, "T1", 3, 2)
    stale = [*items, *items_of(items[-1].point, "T2", 7)]
    newer = [*items, *items_of(items[-1].point, "T3", 1, 1)]
    assert told(a_replica(0, stale), a_replica(1, newer), a_replica(2, newer)) == []


def test_what_is_unreadable_in_one_log_is_no_difference() -> None:
    items = items_of(ORIGIN, *SHAPES)
    damaged = a_replica(0, items, flips=((1, 70), (2, 3)))
    assert not damaged.is_clean
    assert told(damaged, a_replica(1, items), a_replica(2, items)) == []


def test_beyond_a_hole_logs_are_compared_too() -> None:
    items = items_of(ORIGIN, *SHAPES)
    damaged = a_replica(0, items, flips=((0, 130),))
    assert told(damaged, a_replica(1, with_another(items, 9))) == [Level.DIFFERENCE]


def test_a_majority_that_lost_what_it_promised_is_a_danger_and_a_minority_is_not() -> None:
    items = items_of(ORIGIN, *SHAPES)
    whole, torn = a_replica(0, items), a_replica(1, items, flips=((1, 70),))
    assert told(whole, torn, a_replica(2, items)) == []
    (finding,) = compared(whole, torn, a_replica(2, items, flips=((2, 70),))).findings
    assert finding.level is Level.DANGER
    assert finding.from_offset == torn.end.offset and "broker 0" in finding.what


def test_an_end_that_only_one_disk_promised_is_no_danger() -> None:
    items = items_of(ORIGIN, *SHAPES)
    ahead = a_replica(0, items, flips=((-1, 70),))
    behind = items[:9]
    assert told(ahead, a_replica(1, behind), a_replica(2, behind)) == []


def test_the_only_voter_that_is_damaged_is_a_danger() -> None:
    items = items_of(ORIGIN, "T1", VOTERS[:1], 3, 2, 4)
    assert told(a_replica(0, items, flips=((0, 300),))) == [Level.DANGER]


def thinned(items: list[Item]) -> list[Item]:
    """What compaction leaves of them: the third item has no records any more."""
    return [*items[:2], replace(items[2], data=emptied(read_header(items[2].data))), *items[3:]]


def test_of_compacted_logs_only_what_both_keep_must_be_the_same() -> None:
    items = items_of(ORIGIN, *SHAPES)
    less, others = thinned(items), (a_replica(1, items), a_replica(2, items))
    assert told(a_replica(0, less, rewritten_to=9), *others) == []
    assert told(a_replica(0, less), *others) == [Level.DIFFERENCE]
    assert told(a_replica(0, with_another(less, 1), rewritten_to=9), *others) == [Level.DIFFERENCE]
    assert told(a_replica(0, with_another(less, 9), rewritten_to=9), *others) == [Level.DIFFERENCE]


def test_a_follower_that_was_sent_what_its_leader_had_compacted_is_no_difference() -> None:
    items = items_of(ORIGIN, *SHAPES)
    follower, whole = a_replica(0, thinned(items)), a_replica(1, items)
    assert told(follower, whole, a_replica(2, thinned(items), rewritten_to=9)) == []
    # The leader's directory is not given: what it compacted is not known.
    assert told(follower, whole) == []
    assert told(follower, a_replica(1, with_another(items, 3))) == [Level.DIFFERENCE]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_item_that_is_another_one_is_found_in_logs_of_any_shape(data: st.DataObject) -> None:
    shapes = ["T1", *data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=12))]
    items = items_of(ORIGIN, *shapes)
    at = data.draw(st.integers(1, len(items) - 1))
    configs = st.sampled_from([CONFIG, ONE_SEGMENT])
    one = a_replica(0, items, config=data.draw(configs))
    assert first_difference(one, a_replica(1, items, config=data.draw(configs)), 0) is None
    found = first_difference(one, a_replica(1, with_another(items, at), config=data.draw(configs)), 0)
    assert found is not None and found.after == items[at - 1].point
