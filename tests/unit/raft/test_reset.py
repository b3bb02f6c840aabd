"""A leader that dropped the beginning of its log, and followers that need it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lograft.partitions.raft.events import LogBegan, Persisted, SetLearners
from lograft.partitions.raft.messages import AppendReply, AppendRequest, HeadOffer, VoteReply, VoteRequest
from lograft.partitions.raft.points import ORIGIN, Point, TermJournal

from tests.unit.raft.group import Group, a_core, items_of_terms, journal_of, voter


def a_group_that_moved_on(*, dropped: int = 6, behind: tuple[int, ...] = ()) -> Group:
    """n1 leads; n3 was cut off with `behind` in its log, and n1 and n2 dropped their first records since."""
    group = Group.of(3, n3=behind) if behind else Group.of(3)
    group.core(1).term = group.core(2).term = max(behind, default=0)
    if behind:
        group.cut_off(3)
    group.elect(1)
    group.cut_off(3)
    group.propose(1, count=8)
    group.settle()
    term = group.core(1).term
    for member in (1, 2):
        group.drop_before(member, Point(term, dropped, 1))
    return group


def offers(group: Group) -> list[HeadOffer]:
    return [message for message in group.network if isinstance(message, HeadOffer)]


# -- the journal -----------------------------------------------------------------------------------------------------


def test_a_journal_that_begins_later_knows_of_its_points_what_it_knew_before() -> None:
    items = items_of_terms(1, 1, 3, 3, 3, 7)
    points = [item.point for item in items]
    for base in points:
        whole, later = journal_of(items), journal_of(items)
        later.begin_at(base)
        assert later.base == base and later.last == whole.last
        for point in points:
            assert later.holds(point) == (point >= base)
            if point >= base:
                assert later.floor(point) == whole.floor(point)
                cut_later, cut_whole = later.copy(), whole.copy()
                cut_later.cut(point)
                cut_whole.cut(point)
                assert cut_later.last == cut_whole.last == point
        assert later.floor(ORIGIN) == base
        again = TermJournal(base)
        again.extend_all(point for point in points if point > base)
        assert again.spans == later.spans


# -- the leader ------------------------------------------------------------------------------------------------------


def test_a_follower_behind_the_leaders_first_segment_is_reset_and_then_catches_up() -> None:
    group = a_group_that_moved_on()
    group.connect_all()
    group.settle()
    leader, follower = group.core(1), group.core(3)
    assert group.members[3].resets == [Point(1, 6, 1)] == [follower.journal.base]
    assert follower.last == leader.last == follower.committed
    assert leader.progress[voter(3)].match == leader.last
    assert [item.point.offset for item in group.members[3].log] == [7, 8]


def test_a_new_replica_gets_the_head_and_the_voters_as_a_learner() -> None:
    group = a_group_that_moved_on()
    newcomer = Group(a_core(4, of=4, learner=True)).members[4]
    group.members[4] = newcomer
    group.connect_all()
    group.step(1, SetLearners((voter(4),)))
    group.settle()
    assert newcomer.resets == [Point(1, 6, 1)]
    assert newcomer.core.voters == group.core(1).voters and newcomer.core.last == group.core(1).last


def test_a_follower_that_holds_the_base_is_not_reset() -> None:
    group = a_group_that_moved_on()
    group.core(1).progress[voter(2)].next = Point(1, 6, 1)
    group.connect_all()
    group.settle()
    assert group.members[2].resets == [] and group.members[3].resets != []


def test_a_follower_that_dropped_more_than_the_leader_is_met_at_its_own_base() -> None:
    group = Group.of(3)
    group.elect(1)
    group.propose(1, count=8)
    group.settle()
    group.drop_before(2, Point(1, 7, 1))
    leader = group.core(1)
    leader.progress[voter(2)].next = Point(1, 2, 1)
    group.cut_off(2)
    group.connect_all()
    group.settle()
    assert group.members[2].resets == [] and leader.progress[voter(2)].match == leader.last


def test_an_offer_that_is_lost_is_made_again() -> None:
    group = a_group_that_moved_on()
    group.connect_all()
    while not offers(group):
        group.deliver()
    group.drop(lambda message: isinstance(message, HeadOffer))
    group.settle()
    assert group.members[3].resets == []
    for _ in range(2):  # the first only notes that something was heard since the last
        group.core(1)._nudge_followers(group.step(1, Persisted(ORIGIN)))
        group.connect_all()
    group.settle()
    assert group.members[3].resets == [Point(1, 6, 1)]


def test_what_is_dropped_while_a_follower_is_asked_about_it_is_not_read() -> None:
    group = a_group_that_moved_on(dropped=4)
    group.connect_all()
    while not offers(group):
        group.deliver()
    for member in (1, 2):
        group.drop_before(member, Point(1, 7, 1))
    group.settle()
    # The offer was made of a head that has gone since; either way the follower ends with what the leader has.
    assert group.members[3].resets[-1] in (Point(1, 4, 1), Point(1, 7, 1))
    assert group.core(3).last == group.core(1).last


def test_nothing_before_a_base_that_is_not_committed_may_be_dropped() -> None:
    group = Group.of(3)
    group.elect(1)
    group.cut_off(2)
    group.drop(lambda message: True)
    core = a_core(log=(1, 1, 1))
    with pytest.raises(AssertionError, match="is committed"):
        core.step(LogBegan(Point(1, 2, 1)))


# -- the follower ----------------------------------------------------------------------------------------------------


def an_offer(base: Point, term: int = 9) -> HeadOffer:
    return HeadOffer(voter(2), voter(1), term, 3, base, (voter(1), voter(2), voter(3)), b"head")


def test_a_conflict_below_the_leaders_base_drops_the_log_and_keeps_the_word() -> None:
    """Its last item is of a newer term than the base: what it acknowledged then still counts for its votes."""
    core = a_core(log=(1, 6, 6))
    before = core.last
    effects = core.step(an_offer(Point(5, 40, 1)))
    assert effects.reset is not None and effects.committed == core.last == core.journal.base == Point(5, 40, 1)
    assert core.word == before > core.last
    (reply,) = effects.send_when_persisted
    assert isinstance(reply, AppendReply) and reply.accepted and reply.match == Point(5, 40, 1) and reply.session == 3
    # It refuses whoever holds less than it once acknowledged, and does not campaign with less itself.
    less, enough = Point(6, 1, 1), before
    core.leader = None
    refused = core.step(VoteRequest(voter(3), voter(1), 10, less)).send_when_persisted[-1]
    granted = core.step(VoteRequest(voter(3), voter(1), 11, enough)).send_when_persisted[-1]
    assert isinstance(refused, VoteReply) and isinstance(granted, VoteReply)
    assert (refused.granted, granted.granted) == (False, True) and not core._may_campaign()


def test_the_word_is_given_up_once_the_log_end_has_reached_it_on_disk() -> None:
    core = a_core(log=(1, 6, 6))
    core.step(an_offer(Point(5, 40, 1)))
    assert not core.step(Persisted(Point(5, 40, 1))).word_reached and core.word > core.last
    items = tuple(
        replace(item, point=item.point._replace(offset=item.point.offset + 40)) for item in items_of_terms(9, 9)
    )
    core.step(AppendRequest(voter(2), voter(1), 9, 3, ORIGIN, Point(5, 40, 1), ORIGIN, items))
    assert core.word != ORIGIN
    assert core.step(Persisted(items[0].point)).word_reached and core.word == ORIGIN and core._may_campaign()


def test_a_word_that_the_log_holds_again_is_given_up_at_the_start() -> None:
    core = a_core(log=(1, 6, 6), word=Point(6, 2, 1))
    assert core.start().word_reached and core.word == ORIGIN
    damaged = a_core(log=(1, 6, 6), word=Point(6, 2, 1), damaged=True)
    assert not damaged.start().word_reached and damaged.word == Point(6, 2, 1)


def test_an_offer_of_what_is_held_is_answered_and_changes_nothing() -> None:
    core = a_core(log=(5, 5, 5))
    effects = core.step(an_offer(Point(5, 2, 1)))
    assert effects.reset is None and core.last == Point(5, 3, 1)
    assert isinstance(effects.send_when_persisted[0], AppendReply) and effects.send_when_persisted[0].accepted


def test_an_offer_that_comes_late_is_refused_with_where_the_log_begins_now() -> None:
    core = a_core()
    core.step(an_offer(Point(5, 40, 1)))
    effects = core.step(an_offer(Point(5, 20, 1)))
    (reply,) = effects.send_when_persisted
    assert effects.reset is None and isinstance(reply, AppendReply)
    assert (reply.accepted, reply.match) == (False, Point(5, 40, 1))


def test_an_offer_of_an_older_term_is_refused_and_one_for_another_identity_not_answered() -> None:
    core = a_core(term=12)
    (reply,) = core.step(an_offer(Point(5, 40, 1))).send_now
    assert isinstance(reply, AppendReply) and not reply.accepted and reply.term == 12 and core.last == ORIGIN
    assert core.step(replace(an_offer(Point(5, 40, 1), 13), to=voter(1, 2))).reset is None


def test_what_is_committed_is_never_dropped_for_a_head_that_lacks_it() -> None:
    core = a_core(log=(5, 5, 5))
    core._standing.committed = Point(5, 3, 1)
    with pytest.raises(AssertionError, match="is committed"):
        core.step(an_offer(Point(4, 40, 1)))


def test_a_damaged_replica_takes_no_head() -> None:
    core = a_core(log=(1,), damaged=True)
    effects = core.step(an_offer(Point(5, 40, 1)))
    (reply,) = effects.send_when_persisted
    assert effects.reset is None and isinstance(reply, AppendReply) and not reply.counts
