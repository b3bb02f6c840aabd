"""Who waits for an allowance: learners that catch up, as long as the leader is told to throttle them. Nobody else."""

from __future__ import annotations

from lograft.partitions.raft.events import Allow, PeerSilent, SetThrottled, TimerFired
from lograft.partitions.raft.messages import AppendRequest

from .group import Group, a_core, heard, voter

SIZE = 100
N4 = voter(4)


def a_group_with_a_backlog(count: int = 20) -> Group:
    """n1 leads n2 and n3, throttled; n4 is a learner that holds nothing of `count` records of SIZE bytes."""
    group = Group.of(3)
    group.elect(1)
    group.step(1, SetThrottled(True))
    for _ in range(count):
        group.propose(1, size=SIZE)
    group.step(1, TimerFired())
    group.settle()
    group.add_learner(a_core(4, of=4, learner=True), leader_id=1)
    group.settle()
    return group


def held_by(group: Group, broker_id: int) -> int:
    return group.core(broker_id).last.offset


def test_a_learner_is_probed_without_an_allowance_and_sent_nothing_of_the_backlog() -> None:
    group = a_group_with_a_backlog()
    assert held_by(group, 4) == 0
    assert group.core(1).waiting_for_allowance() == [N4]


def test_a_learner_is_sent_what_it_is_allowed_and_then_waits_again() -> None:
    group = a_group_with_a_backlog()
    group.step(1, Allow(N4, 5 * SIZE))
    group.settle()
    assert held_by(group, 4) == 5 and group.core(1).waiting_for_allowance() == [N4]


def test_an_item_larger_than_the_allowance_goes_whole_and_is_paid_for_before_the_next() -> None:
    group = a_group_with_a_backlog()
    group.step(1, Allow(N4, 10))  # the term start has no size and goes with it
    group.settle()
    assert held_by(group, 4) == 1
    group.step(1, Allow(N4, SIZE - 10))
    group.settle()
    assert held_by(group, 4) == 1 and group.core(1).waiting_for_allowance() == [N4]
    group.step(1, Allow(N4, 1))
    group.settle()
    assert held_by(group, 4) == 2


def test_what_is_appended_meanwhile_goes_beyond_the_allowance_so_that_a_busy_log_is_caught_up_with() -> None:
    group = a_group_with_a_backlog(count=10)
    for _ in range(10):
        group.propose(1, count=50, size=SIZE)
        group.step(1, Allow(N4, 2 * SIZE))
        group.settle()
        group.step(1, TimerFired())
        group.settle()
    group.propose(1, size=SIZE)
    group.settle()
    assert held_by(group, 4) == held_by(group, 1)


def test_a_learner_that_has_caught_up_waits_for_nothing() -> None:
    group = a_group_with_a_backlog()
    group.step(1, Allow(N4, 1 << 20))
    group.settle()
    group.propose(1, count=1000, size=SIZE)
    group.settle()
    assert held_by(group, 4) == held_by(group, 1) and group.core(1).waiting_for_allowance() == []


def test_a_learner_that_was_away_catches_up_throttled_again() -> None:
    group = a_group_with_a_backlog()
    group.step(1, Allow(N4, 1 << 20))
    group.settle()
    group.cut_off(4)
    group.propose(1, count=30, size=SIZE)
    group.settle()
    group.step(1, TimerFired())
    group.settle()
    group.step(1, heard(4))
    group.step(4, heard(1))
    group.settle()
    assert held_by(group, 4) == 20 and group.core(1).waiting_for_allowance() == [N4]


def test_what_came_in_while_a_learner_was_away_is_backlog_when_it_is_back() -> None:
    group = a_group_with_a_backlog()
    group.cut_off(4)
    group.propose(1, count=30, size=SIZE)
    group.settle()
    group.step(1, heard(4))
    group.step(4, heard(1))
    group.settle()
    assert held_by(group, 4) == 0 and group.core(1).waiting_for_allowance() == [N4]


def test_a_voter_back_from_an_outage_is_never_throttled() -> None:
    group = a_group_with_a_backlog()
    group.cut_off(3)
    group.propose(1, count=500, size=SIZE)
    group.settle()
    group.step(1, heard(3))
    group.step(3, heard(1))
    group.settle()
    assert held_by(group, 3) == held_by(group, 1)


def test_what_is_allowed_to_a_voter_to_a_stranger_or_by_a_follower_changes_nothing() -> None:
    group = a_group_with_a_backlog()
    before = group.core(1).progress[voter(2)].allowance_bytes
    group.step(1, Allow(voter(2), 100))
    group.step(1, Allow(voter(9), 100))
    group.step(2, Allow(N4, 100))
    assert group.core(1).progress[voter(2)].allowance_bytes == before == 0 and not group.network


def test_without_a_throttle_nobody_waits_and_lifting_it_lets_the_waiting_go() -> None:
    group = a_group_with_a_backlog()
    group.step(1, SetThrottled(False))
    group.settle()
    assert held_by(group, 4) == held_by(group, 1)


def test_waiting_for_an_allowance_begins_no_new_session_and_silence_does() -> None:
    group = a_group_with_a_backlog()
    session = group.core(1).progress[N4].session
    for _ in range(10):
        group.step(1, TimerFired())
        group.settle()
    assert group.core(1).progress[N4].session == session
    group.step(1, Allow(N4, SIZE))
    group.drop(lambda message: isinstance(message, AppendRequest))
    for _ in range(3):
        group.step(1, TimerFired())
    assert group.core(1).progress[N4].session > session, "what was lost on the way is sent again"
    group.step(1, PeerSilent(4))
    assert group.core(1).waiting_for_allowance() == [], "who is not in touch waits for more than that"
