from __future__ import annotations

from lograft.node.controller.balance import HandBack, HandBackPace, LeadershipHandBack, LedPartition, hand_back_once
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import Point
from lograft.proto.errors import NoLeader

from tests.unit.controller.fake_replica import Reports, run

SELF, OTHER = Voter(1, "a" * 32, 1), Voter(2, "b" * 32, 2)
PACE = HandBackPace(patience_ms=5_000, at_once=2, retry_ms=30_000, retry_ms_max=100_000)


def led(number: int = 0, end: int = 10, match: int | None = 10, preferred: Voter = OTHER) -> LedPartition:
    matched = None if match is None else Point(3, match, 1)
    return LedPartition(PartitionId("c" * 32, number), SELF, preferred, Point(3, end, 1), matched)


def the_hand_back(number: int = 0) -> HandBack:
    return HandBack(PartitionId("c" * 32, number), 2)


def looks(hand_backs: LeadershipHandBack, view: LedPartition, *times_ms: int) -> list[list[HandBack]]:
    return [hand_backs.look(time_ms, [view]) for time_ms in times_ms]


def test_leadership_goes_back_once_the_preferred_replica_was_caught_up_for_the_whole_patience() -> None:
    hand_backs = LeadershipHandBack(PACE)
    assert looks(hand_backs, led(), 0, 1_000, 4_999, 5_000) == [[], [], [], [the_hand_back()]]


def test_a_partition_led_by_its_preferred_replica_stays_where_it_is() -> None:
    hand_backs = LeadershipHandBack(PACE)
    assert looks(hand_backs, led(preferred=SELF), 0, 10_000, 20_000) == [[], [], []]


def test_a_replica_placed_anew_on_the_same_broker_is_not_taken_for_the_leader() -> None:
    hand_backs = LeadershipHandBack(PACE)
    again = led(preferred=SELF._replace(replica_number=9), match=None)
    assert looks(hand_backs, again, 0, 10_000) == [[], []]


def test_a_replica_that_is_away_or_falls_behind_begins_its_patience_anew() -> None:
    hand_backs = LeadershipHandBack(PACE)
    looks(hand_backs, led(), 0, 4_000)
    looks(hand_backs, led(match=None), 4_500)
    assert looks(hand_backs, led(), 5_000, 9_999, 10_000) == [[], [], [the_hand_back()]]
    hand_backs = LeadershipHandBack(PACE)
    looks(hand_backs, led(), 0, 4_000)
    looks(hand_backs, led(end=20, match=9), 4_500)
    assert looks(hand_backs, led(end=20, match=20), 5_000, 9_999) == [[], []]


def test_a_busy_partition_is_handed_back_although_its_end_is_always_ahead() -> None:
    hand_backs = LeadershipHandBack(PACE)
    decided = [
        hand_backs.look(second * 1_000, [led(end=(second + 1) * 100, match=second * 100)]) for second in range(8)
    ]
    assert [the_hand_back()] in decided


def test_no_more_than_a_few_are_handed_back_at_a_time() -> None:
    hand_backs = LeadershipHandBack(PACE)
    views = [led(number) for number in range(5)]
    hand_backs.look(0, views)
    first = hand_backs.look(5_000, views)
    assert first == [the_hand_back(0), the_hand_back(1)]
    assert hand_backs.look(6_000, views) == []
    hand_backs.finished(first[0].partition)
    assert hand_backs.look(7_000, views[1:]) == [the_hand_back(2)]


def test_a_hand_over_that_did_not_come_about_is_tried_ever_more_rarely() -> None:
    hand_backs = LeadershipHandBack(PACE)
    tried = []
    for second in range(400):
        for hand_back in hand_backs.look(second * 1_000, [led()]):
            tried.append(second)
            hand_backs.finished(hand_back.partition)
    assert tried == [5, 35, 95, 195, 295, 395]


def test_leadership_won_again_later_is_a_new_story() -> None:
    hand_backs = LeadershipHandBack(PACE)
    looks(hand_backs, led(), 0, 5_000)
    hand_backs.finished(led().partition)
    hand_backs.look(6_000, [])
    assert looks(hand_backs, led(), 7_000, 11_999, 12_000) == [[], [], [the_hand_back()]]


def test_a_refused_hand_over_is_reported_and_keeps_nobody_else_from_theirs() -> None:
    async def scene() -> None:
        hand_backs, reports = LeadershipHandBack(PACE), Reports()
        asked: list[tuple[int, int]] = []

        async def transfer(partition: PartitionId, broker_id: int) -> None:
            asked.append((partition.number, broker_id))
            if partition.number == 0:
                raise NoLeader("it did not take over")

        views = [led(number) for number in range(4)]
        for now_ms in (0, 5_000, 6_000):
            await hand_back_once(hand_backs, now_ms, views, transfer, reports)
        assert asked == [(0, 2), (1, 2), (2, 2), (3, 2)]
        assert reports.events == ["leadership_not_handed_back"]

    run(scene())
