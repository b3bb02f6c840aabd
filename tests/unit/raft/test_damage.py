"""A replica whose log has a hole: its word, its way back, and what its leader does meanwhile."""

from __future__ import annotations

from random import Random

from lograft.partitions.raft.core import RaftCore, Role
from lograft.partitions.raft.events import AskLeader, DamageFound, HoleLost, LogRecovered
from lograft.partitions.raft.messages import AppendReply, AppendRequest, CampaignNow, VoteReply, VoteRequest
from lograft.partitions.raft.points import ORIGIN, Point, TermJournal
from lograft.partitions.raft.voter_sets import VoterSets

from tests.unit.raft.group import Group, heard, items_of_terms, journal_of, voter

VOTERS = (voter(1), voter(2), voter(3))


def a_damaged_core(*, word: Point) -> RaftCore:
    """It can be read through 2@1.1, and is led by n2 in term 2."""
    core = RaftCore(
        voter=voter(1),
        voter_sets=VoterSets(ORIGIN, VOTERS),
        journal=journal_of(items_of_terms(1, 1)),
        random=Random(1),
        term=2,
        word=word,
        damaged=True,
    )
    core.start()
    core.step(heard(2))
    core.step(an_append())
    return core


def an_append() -> AppendRequest:
    return AppendRequest(voter(2), voter(1), 2, 1, Point(2, 9, 1), prev=Point(2, 9, 1), committed=ORIGIN)


def asks_for_vote(last: Point) -> VoteRequest:
    return VoteRequest(voter(3), voter(1), 7, last, transfer=True)


def granted(core: RaftCore, last: Point) -> bool:
    replies = [one for one in core.step(asks_for_vote(last)).send_when_persisted if isinstance(one, VoteReply)]
    return replies[0].granted


def test_a_damaged_follower_refuses_items_and_says_that_it_does_not_count() -> None:
    core = a_damaged_core(word=Point(1, 5, 1))
    (reply,) = core.step(an_append()).send_when_persisted
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.counts) == (False, False)


def test_where_a_hole_is_lost_the_log_is_cut_and_the_word_kept() -> None:
    core = a_damaged_core(word=Point(1, 5, 1))
    effects = core.step(HoleLost(voter(2), 2))
    assert (effects.cut, core.damaged, core.word) == (core.last, False, Point(1, 5, 1))
    assert not effects.word_reached
    assert not granted(core, Point(1, 4, 1))


def test_only_the_leader_that_is_followed_makes_a_replica_give_up_what_is_beyond_its_hole() -> None:
    core = a_damaged_core(word=Point(1, 5, 1))
    assert core.step(HoleLost(voter(3), 2)).cut is None
    assert core.step(HoleLost(voter(2), 1)).cut is None
    assert core.damaged


def test_a_log_that_is_whole_again_reaches_the_word_and_counts() -> None:
    core = a_damaged_core(word=Point(1, 5, 1))
    whole = journal_of(items_of_terms(1, 1, 1, 1, 1, 1))
    effects = core.step(LogRecovered(whole, VoterSets(ORIGIN, VOTERS), Point(1, 5, 1), False, False, 0, core.committed))
    assert effects.word_reached
    assert (core.word, core.damaged, core.persisted) == (ORIGIN, False, whole.last)
    (reply,) = core.step(AskLeader()).send_when_persisted
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.counts, reply.match) == (False, True, whole.last)


def test_a_log_of_which_a_hole_is_filled_and_another_left_does_not_count_yet() -> None:
    core = a_damaged_core(word=Point(1, 5, 1))
    longer = journal_of(items_of_terms(1, 1, 1, 1))
    effects = core.step(LogRecovered(longer, VoterSets(ORIGIN, VOTERS), Point(1, 5, 1), False, True, 0, core.committed))
    assert not effects.word_reached
    assert core.damaged
    assert not core.step(AskLeader()).send_when_persisted


def test_a_leader_that_reads_damage_asks_the_follower_that_holds_everything_to_take_over() -> None:
    group = Group.of(3)
    group.elect(1)
    group.propose(1, count=3)
    group.settle()
    effects = group.core(1).step(DamageFound(group.core(1).last))
    assert group.core(1).role is Role.FOLLOWER
    assert any(isinstance(message, CampaignNow) for message in effects.send_now)


def test_what_was_committed_is_known_again_once_the_hole_is_filled() -> None:
    group = Group.of(3)
    group.elect(1)
    group.propose(1, count=4)
    group.settle()
    core = group.core(2)
    committed, sets, journal = core.committed, core.voter_sets, core.journal.copy()
    core.step(DamageFound(core.last))
    core.step(LogRecovered(TermJournal(ORIGIN), sets.copy(), core.word, False, True, 0, core.committed))
    assert core.committed == ORIGIN
    core.step(LogRecovered(journal, sets.copy(), core.word, False, False, 0, core.committed))
    assert core.committed == committed


def test_neither_what_a_failed_cut_made_room_for_nor_what_it_left_is_committed() -> None:
    core = RaftCore(
        voter=voter(1),
        voter_sets=VoterSets(ORIGIN, VOTERS),
        journal=journal_of(items_of_terms(1, 1, 1)),
        random=Random(1),
    )
    core.step(heard(2))
    carried_out = Point(1, 1, 1)
    core.step(AppendRequest(voter(2), voter(1), 1, 1, Point(1, 3, 1), prev=Point(1, 3, 1), committed=carried_out))
    uncut = core.journal.copy()
    items = items_of_terms(1, 2, 2)[2:]
    effects = core.step(AppendRequest(voter(2), voter(1), 2, 1, Point(2, 3, 1), carried_out, Point(2, 3, 1), items, 1))
    assert effects.cut == carried_out
    assert core.committed == Point(2, 3, 1)
    core.step(DamageFound(Point(1, 3, 1)))
    core.step(LogRecovered(uncut, VoterSets(ORIGIN, VOTERS), Point(1, 3, 1), False, False, 0, carried_out))
    assert core.committed == carried_out


def test_what_a_follower_acknowledged_counts_no_more_once_it_says_that_it_does_not() -> None:
    group = Group.of(3)
    group.elect(1)
    group.propose(1, count=3)
    group.settle()
    leader, point = group.core(1), group.core(1).last
    assert leader.copies_of(point) == 3
    group.core(2).step(DamageFound(point))
    group.propose(1)
    group.settle()
    assert leader.copies_of(point) == 2
    assert not leader.is_within_reach(voter(2))
