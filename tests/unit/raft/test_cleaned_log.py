"""A leader whose log was compacted, and followers that stand in the midst of what it dropped."""

from __future__ import annotations

import pytest
from lograft.partitions.raft.events import LogCleaned
from lograft.partitions.raft.messages import AppendReply, AppendRequest, HeadOffer, Message
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.raft.progress import can_go_on

from tests.unit.raft.group import Group, voter


def clean(group: Group, broker_id: int, cleaned_to: int) -> None:
    """Its log merges all batches of records below `cleaned_to` into one."""
    member = group.members[broker_id]
    below = [item for item in member.log if item.kind is ItemKind.RECORDS and item.point.offset <= cleaned_to]
    merged = Item(below[-1].point, ItemKind.RECORDS, b"empty")
    member.log = [item for item in member.log if item not in below]
    member.log.insert(1, merged)
    group.step(broker_id, LogCleaned(cleaned_to))


def a_group_with_one_behind(held: int) -> Group:
    """n1 leads; n3 got `held` records and was cut off, n1 and n2 hold 8, committed."""
    group = Group.of(3)
    group.elect(1)
    group.propose(1, count=held)
    group.settle()
    group.cut_off(3)
    group.propose(1, count=8 - held)
    group.settle()
    return group


@pytest.mark.parametrize(
    ("match", "base", "cleaned_to", "copies", "expected"),
    [
        (Point(1, 5, 1), ORIGIN, 0, False, True),
        (Point(1, 5, 1), ORIGIN, 5, False, True),
        (Point(1, 5, 1), ORIGIN, 6, False, False),
        (Point(1, 5, 1), ORIGIN, 6, True, True),
        (Point(1, 5, 1), Point(1, 5, 1), 5, False, True),
        (Point(1, 5, 1), Point(1, 6, 1), 5, False, False),
        (Point(1, 5, 1), Point(1, 6, 1), 5, True, False),
    ],
)
def test_a_follower_can_go_on_where_the_leader_lacks_nothing_it_would_need(
    match: Point, base: Point, cleaned_to: int, copies: bool, expected: bool
) -> None:
    assert can_go_on(match, base, cleaned_to, copies=copies) is expected


def test_a_follower_below_what_was_cleaned_drops_its_log_keeps_its_word_and_copies_the_leaders() -> None:
    group = a_group_with_one_behind(3)
    clean(group, 1, 6)
    group.connect_all()
    group.settle()
    leader, follower = group.core(1), group.core(3)
    assert group.members[3].resets == [ORIGIN]
    assert follower.last == leader.last == follower.committed == leader.progress[voter(3)].match
    assert [item.point for item in group.members[3].log] == [item.point for item in group.members[1].log]
    assert follower.cleaned_to == 6 and follower.word == ORIGIN


def test_a_follower_at_or_past_what_was_cleaned_goes_on_where_it_stands() -> None:
    group = a_group_with_one_behind(6)
    clean(group, 1, 6)
    group.connect_all()
    group.settle()
    assert group.members[3].resets == [] and group.core(3).last == group.core(1).last
    assert len(group.members[3].log) == 9


def test_a_follower_that_dropped_more_than_the_leader_and_is_behind_begins_anew_all_the_same() -> None:
    group = a_group_with_one_behind(3)
    group.drop_before(3, Point(1, 3, 1))
    clean(group, 1, 6)
    group.connect_all()
    group.settle()
    assert group.members[3].resets == [ORIGIN] and group.core(3).last == group.core(1).last


def test_until_it_has_its_word_again_a_follower_that_copies_does_not_campaign() -> None:
    group = a_group_with_one_behind(3)
    clean(group, 1, 6)
    group.connect_all()
    while not group.members[3].resets:
        group.deliver()
    follower = group.core(3)
    assert follower.word == Point(1, 3, 1) and not follower._may_campaign()


def is_past(message: Message, offset: int) -> bool:
    return isinstance(message, AppendRequest) and any(item.point.offset > offset for item in message.items)


def test_a_copy_that_is_interrupted_goes_on_and_does_not_begin_again() -> None:
    group = a_group_with_one_behind(3)
    clean(group, 1, 7)
    group.core(1)._followers._append_bytes_max = 1
    group.connect_all()
    while group.core(3).last < Point(1, 7, 1):
        group.deliver(lambda message: not is_past(message, 7))
    group.drop(lambda message: is_past(message, 7))
    group.cut_off(3)
    group.connect_all()
    group.settle()
    assert group.members[3].resets == [ORIGIN] and group.core(3).last == group.core(1).last


def test_a_copy_begins_again_if_the_log_it_is_of_was_cleaned_meanwhile() -> None:
    group = a_group_with_one_behind(3)
    clean(group, 1, 6)
    group.core(1)._followers._append_bytes_max = 1
    group.connect_all()
    while group.core(3).last < Point(1, 6, 1):
        group.deliver(lambda message: not is_past(message, 6))
    group.drop(lambda message: is_past(message, 6))
    group.cut_off(3)
    clean(group, 1, 8)
    group.connect_all()
    group.settle()
    assert group.members[3].resets == [ORIGIN, ORIGIN] and group.core(3).last == group.core(1).last


def test_an_offer_that_comes_late_or_twice_drops_nothing() -> None:
    group = a_group_with_one_behind(3)
    clean(group, 1, 6)
    group.connect_all()
    while not (offered := [message for message in group.network if isinstance(message, HeadOffer)]):
        group.deliver()
    group.settle()
    for _ in range(2):
        effects = group.core(3).step(offered[0])
        assert effects.reset is None
        assert [reply for reply in effects.send_when_persisted if isinstance(reply, AppendReply)]
    assert group.core(3).last == group.core(1).last


def test_a_leader_does_not_clean_past_a_follower_that_is_catching_up_nor_past_one_not_heard_of_yet() -> None:
    group = a_group_with_one_behind(3)
    leader = group.core(1)
    assert leader.cleanable_to == leader.last
    group.connect_all()
    assert leader.cleanable_to == ORIGIN
    group.settle()
    assert leader.cleanable_to == leader.last
