"""Which partition a record without a key goes to. No cluster, and the clock is the test's."""

from __future__ import annotations

from lograft.client.accumulator import STAY_BYTES, STAY_S, TopicLanes
from lograft.client.delivery import Failures
from lograft.client.lane import Batch, Lane
from lograft.client.metadata import PartitionView, TopicView
from lograft.client.records import TopicPartition
from lograft.proto.record_batch import BatchBuilder, Compression


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lanes_of(partitions: int, clock: Clock) -> TopicLanes:
    view = TopicView("t", "id", [PartitionView(number, leader_id=0) for number in range(partitions)])

    def lane(number: int) -> Lane:
        return Lane(
            TopicPartition("t", number),
            "id",
            compression=Compression.NONE,
            draw_producer_id=None,
            failures=Failures(),
            on_settled=lambda batch: None,
        )

    lanes = TopicLanes(view, lane, 0, clock)
    lanes.lane_without_key()  # the first look moves on: nobody stayed anywhere yet
    return lanes


def put(lanes: TopicLanes, size: int) -> int:
    """A batch of that size is begun and closed; where?"""
    lane = lanes.lane_without_key()
    lane.building = Batch(lane.partition, BatchBuilder(1 << 20), 0.0)
    lane.building.held_bytes = size
    assert lanes.lane_without_key() is lane, "it still takes records"
    lane.close_building()
    return lane.partition.partition


def test_small_batches_that_come_one_after_the_other_go_to_one_partition() -> None:
    lanes = lanes_of(3, Clock())
    assert len({put(lanes, 100) for _ in range(20)}) == 1


def test_a_partition_that_has_got_enough_is_left_for_the_next() -> None:
    lanes = lanes_of(3, Clock())
    first = put(lanes, STAY_BYTES // 2)
    assert put(lanes, STAY_BYTES // 2) == first
    assert put(lanes, 100) == (first + 1) % 3


def test_large_batches_go_to_all_partitions_in_turn() -> None:
    lanes = lanes_of(3, Clock())
    first = put(lanes, STAY_BYTES)
    assert [put(lanes, STAY_BYTES) for _ in range(4)] == [(first + step) % 3 for step in (1, 2, 3, 4)]


def test_records_that_come_now_and_then_go_to_all_partitions_in_turn() -> None:
    clock = Clock()
    lanes = lanes_of(3, clock)
    seen = []
    for _ in range(6):
        seen.append(put(lanes, 100))
        clock.now_s += STAY_S
    assert sorted(seen[:3]) == sorted(seen[3:]) == [0, 1, 2]


def test_a_topic_of_which_a_broker_that_lags_knows_fewer_partitions_is_written_to_where_it_knows_some() -> None:
    lanes = lanes_of(3, Clock())
    lanes.grow(TopicView("t", "id", [PartitionView(0, leader_id=0)]))
    assert {put(lanes, STAY_BYTES) for _ in range(6)} == {0}


def test_a_partition_in_trouble_is_left_at_once() -> None:
    lanes = lanes_of(3, Clock())
    first = put(lanes, 100)
    lanes.lanes[first].failed_tries = 1
    assert put(lanes, 100) == (first + 1) % 3
