"""How the voters of a group change: one at a time, only to who has caught up, and never into two majorities."""

from __future__ import annotations

import pytest
from lograft.partitions.raft.core import Role
from lograft.partitions.raft.events import (
    PeerHeard,
    PeerSilent,
    Propose,
    ReadIndex,
    SetLearners,
    TimerFired,
    TransferTo,
)
from lograft.partitions.raft.messages import AppendReply, AppendRequest, CampaignNow, VoteReply, VoteRequest
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.raft.voter_sets import VoterSets

from .group import Group, a_core, heard, items_of_terms, voter

N1, N2, N3, N4 = voter(1), voter(2), voter(3), voter(4)


def a_group_with_learner() -> Group:
    """n1 leads n2 and n3; n4 has learned the log, and votes as little as it did before."""
    group = Group.of(3)
    group.elect(1)
    group.propose(1, count=3)
    group.add_learner(a_core(4, of=4, learner=True), leader_id=1)
    group.settle()
    return group


def change(point: Point, *voters) -> Item:
    return Item(point, ItemKind.VOTERS, b"", voters)


# -- what a log says ---------------------------------------------------------------------------------------------------


def test_a_cut_brings_back_the_set_before_the_changes_it_takes_away() -> None:
    sets = VoterSets(ORIGIN, (N1,))
    sets.note(Point(1, 5, 2), (N1, N2))
    sets.note(Point(1, 9, 3), (N1, N2, N3))
    assert (sets.newest, sets.at(Point(1, 8, 2)), sets.at(Point(1, 5, 1))) == ((N1, N2, N3), (N1, N2), (N1,))
    sets.cut(Point(1, 5, 2))
    assert (sets.newest, sets.changed_at) == ((N1, N2), Point(1, 5, 2))
    sets.cut(ORIGIN)
    assert (sets.newest, sets.changed_at) == ((N1,), ORIGIN)


def test_a_log_that_loses_its_beginning_keeps_the_set_that_was_in_force_there() -> None:
    sets = VoterSets(ORIGIN, (N1,))
    sets.note(Point(1, 5, 2), (N1, N2))
    sets.note(Point(1, 9, 3), (N1, N2, N3))
    sets.begin_at(Point(1, 7, 2))
    sets.cut(Point(1, 8, 2))
    assert (sets.newest, sets.changed_at) == ((N1, N2), Point(1, 7, 2))


def test_a_follower_goes_by_a_change_as_soon_as_it_is_in_its_log_and_by_the_one_before_once_that_is_cut() -> None:
    core = a_core(1, log=(1,))
    end = core.last
    named = end._replace(rank=end.rank + 1)
    core.step(AppendRequest(N2, N1, 1, 1, end, prev=end, committed=ORIGIN, items=(change(named, N1, N2, N3, N4),)))
    assert core.voters == (N1, N2, N3, N4)
    start = Point(2, end.offset, 1)
    later = AppendRequest(
        N3, N1, 2, 1, start, prev=end, committed=ORIGIN, items=(Item(start, ItemKind.TERM_START, b""),)
    )
    effects = core.step(later)
    assert (effects.cut, core.voters) == (end, (N1, N2, N3))


# -- which changes a leader makes --------------------------------------------------------------------------------------


def test_a_learner_that_has_caught_up_becomes_a_voter_and_counts_from_then_on() -> None:
    group = a_group_with_learner()
    added = group.change_voters(1, N1, N2, N3, N4)
    assert group.core(1).voters == (N1, N2, N3, N4), "it counts once it is appended, not once it is committed"
    group.settle()
    assert all(group.core(each).committed == added for each in (1, 2, 3, 4))
    assert group.core(4).voters == (N1, N2, N3, N4)
    for silent in (2, 3):
        group.cut_off(silent)
    assert group.core(1).role is Role.FOLLOWER, "two of four are no majority"


def test_nobody_becomes_a_voter_before_it_holds_what_the_leader_held_a_moment_ago() -> None:
    group = Group.of(3)
    group.elect(1)
    group.propose(1, count=3)
    group.settle()
    group.add_learner(a_core(4, of=4, learner=True), leader_id=1)
    core = group.core(1)
    assert "has not caught up" in (core.refuses_voters((N1, N2, N3, N4)) or "")
    group.settle()
    assert core.refuses_voters((N1, N2, N3, N4)) is None
    group.slow_disks.add(4)
    group.propose(1)
    group.settle()
    assert core.refuses_voters((N1, N2, N3, N4)) is None, "what came in the last moment it may still lack"
    group.step(1, TimerFired())
    assert "has not caught up" in (core.refuses_voters((N1, N2, N3, N4)) or "")


def test_a_learner_out_of_touch_or_in_doubt_does_not_become_a_voter() -> None:
    group = a_group_with_learner()
    group.step(1, PeerSilent(4))
    assert "has not caught up" in (group.core(1).refuses_voters((N1, N2, N3, N4)) or "")
    group.step(1, heard(4))
    group.core(4).doubtful = True
    group.drop(lambda message: message.to == N4)
    progress = group.core(1).progress[N4]
    held = AppendReply(
        N4, N1, 1, progress.session, accepted=True, match=group.core(1).last, committed=ORIGIN, counts=False
    )
    group.step(1, held)
    assert "has not caught up" in (group.core(1).refuses_voters((N1, N2, N3, N4)) or "")


def test_a_second_change_waits_until_the_first_is_committed() -> None:
    group = a_group_with_learner()
    group.change_voters(1, N1, N2, N3, N4)
    assert "not committed yet" in (group.core(1).refuses_voters((N1, N2, N4)) or "")
    with pytest.raises(AssertionError):
        group.change_voters(1, N1, N2, N4)
    group.settle()
    assert group.core(1).refuses_voters((N1, N2, N4)) is None


def test_a_new_leader_changes_nothing_before_it_has_committed_an_item_of_its_own_term() -> None:
    group = Group.of(3)
    group.step(1, TimerFired())
    group.deliver()
    group.deliver()
    group.deliver()
    group.deliver()
    core = group.core(1)
    assert core.is_leader and not core.is_ready
    assert "own term" in (core.refuses_voters((N1, N2)) or "")
    group.settle()
    assert core.refuses_voters((N1, N2)) is None


@pytest.mark.parametrize(
    ("voters", "why"),
    [
        ((N1,), "exactly one"),
        ((N1, N2, N3), "exactly one"),
        ((N1, N2, N4), "exactly one"),
        ((N1, N2, N2), "exactly one"),
        ((), "exactly one"),
    ],
)
def test_a_change_adds_or_removes_exactly_one_voter(voters, why: str) -> None:
    group = a_group_with_learner()
    assert why in (group.core(1).refuses_voters(voters) or "")


def test_the_last_voter_is_not_removed() -> None:
    group = Group.of(1)
    group.elect(1)
    assert "at least one" in (group.core(1).refuses_voters(()) or "")


def test_no_voter_is_removed_whose_vote_the_others_need() -> None:
    group = Group.of(3)
    group.elect(1)
    group.cut_off(3)
    assert "no majority" in (group.core(1).refuses_voters((N1, N3)) or "")
    assert group.core(1).refuses_voters((N1, N2)) is None


def test_no_change_is_made_while_leadership_is_being_handed_over() -> None:
    group = a_group_with_learner()
    group.step(1, TransferTo(2))
    assert "handed" in (group.core(1).refuses_voters((N1, N2, N3, N4)) or "")


# -- who is removed ----------------------------------------------------------------------------------------------------


def test_a_removed_voter_hears_of_it_and_campaigns_no_more() -> None:
    group = Group.of(3)
    group.elect(1)
    group.change_voters(1, N1, N2)
    group.settle()
    core = group.core(3)
    assert core.voters == (N1, N2) and core.committed == group.core(1).committed
    group.step(3, PeerSilent(1))
    assert group.members[3].timer_ms is None
    assert group.step(3, TimerFired()).send_now == []


def test_a_removed_voter_that_missed_it_deposes_nobody() -> None:
    group = Group.of(4)
    group.elect(1)
    group.cut_off(4)
    group.change_voters(1, N1, N2, N3)
    group.settle()
    term = group.core(1).term
    for other in (1, 2, 3):
        group.step(other, heard(4))
        if other != 1:
            group.step(4, heard(other))
    for _ in range(3):
        group.step(4, TimerFired())
        group.deliver(lambda message: N4 in (message.sender, message.to))
        group.deliver(lambda message: N4 in (message.sender, message.to))
    assert group.core(1).is_leader and group.core(1).term == term


def test_a_leader_that_removes_itself_leads_until_the_others_have_committed_it_and_hands_over() -> None:
    group = Group.of(3)
    group.elect(1)
    group.propose(1)
    group.settle()
    removed = group.change_voters(1, N2, N3)
    core = group.core(1)
    assert core.is_leader and core.committed < removed
    group.settle()
    leaders = [each for each in (1, 2, 3) if group.core(each).is_leader]
    assert len(leaders) == 1 and leaders != [1]
    assert all(group.core(each).committed >= removed for each in leaders)
    assert group.members[1].timer_ms is None, "it does not campaign any more"


def test_a_leader_that_removes_itself_does_not_count_itself() -> None:
    group = Group.of(3)
    group.elect(1)
    removed = group.change_voters(1, N2, N3)
    group.drop(lambda message: message.to == N3)
    group.deliver()
    group.deliver()
    assert group.core(1).committed < removed, "n2 alone is no majority of n2 and n3"


def test_a_leader_that_removed_itself_confirms_reads_by_the_others_alone() -> None:
    group = Group.of(3)
    group.elect(1)
    group.slow_disks |= {2, 3}
    group.change_voters(1, N2, N3)
    group.drop(lambda message: True)
    group.step(1, ReadIndex(7))
    group.drop(lambda message: message.to == N3)
    group.deliver()
    group.flush(2)
    group.deliver()
    assert group.members[1].reads_confirmed == []


# -- who votes, and who is in touch ------------------------------------------------------------------------------------


def test_a_candidate_counts_by_the_newest_set_in_its_own_log() -> None:
    group = Group.of(3)
    group.elect(1)
    group.add_learner(a_core(4, of=4, learner=True), leader_id=1)
    group.settle()
    group.change_voters(1, N1, N2, N3, N4)
    group.deliver(lambda message: message.to == N2)
    group.drop(lambda message: True)
    group.cut_off(1)
    group.step(2, TimerFired())
    asked = {message.to for message in group.network if isinstance(message, VoteRequest)}
    assert asked == {N1, N3, N4}, "n2 has the change, though it is not committed"
    group.deliver(lambda message: message.to == N3)
    group.deliver(lambda message: message.to == N2)
    assert group.core(2).role is Role.PRE_CANDIDATE, "two of four are no majority"
    group.settle()
    assert group.core(2).is_leader


def test_a_placed_replica_answers_for_its_vote_before_its_own_log_names_it() -> None:
    core = a_core(4, of=4, learner=True)
    effects = core.step(VoteRequest(N1, N4, 1, last=ORIGIN))
    assert effects.send_when_persisted == [VoteReply(N4, N1, 1, granted=True)]
    assert effects.timer_ms is None, "but it does not campaign"


def test_a_wiped_disk_under_the_same_broker_id_is_not_in_touch_and_has_no_vote() -> None:
    group = Group.of(3)
    group.elect(1)
    core = group.core(1)
    group.cut_off(2)
    core.step(PeerHeard(2, "another directory"))
    assert not core.is_heard(N2)
    core.step(PeerSilent(3))
    assert core.role is Role.FOLLOWER, "broker 2 answers, but not as the voter it was"
    stranger = N2._replace(directory_id="another directory")
    core.step(heard(3))
    core.step(TimerFired())
    core.step(VoteReply(stranger, N1, core.term + 1, granted=True, pre=True))
    assert core.role is Role.PRE_CANDIDATE


def test_leadership_is_handed_to_the_identity_that_lives_on_a_broker_of_two() -> None:
    group = Group.of(3)
    group.elect(1)
    again = N2._replace(directory_id="another directory", replica_number=9)
    core = group.core(1)
    core.step(PeerSilent(2))
    core.step(PeerHeard(2, "another directory"))
    core.step(SetLearners((again,)))
    end = core.last
    core.step(AppendReply(again, N1, core.term, core.progress[again].session, accepted=True, match=end, committed=end))
    named = end._replace(rank=end.rank + 1)
    core.step(Propose((change(named, N1, N2, N3, again),)))
    group.members[1].core.step(TransferTo(2))
    assert core.transfer_target == again


def test_leadership_is_handed_to_the_identity_that_was_made_on_a_disk_of_two() -> None:
    group = Group.of(3)
    group.elect(1)
    core, newer = group.core(1), N3._replace(replica_number=9)
    core.step(SetLearners((newer,)))
    end = core.last
    core.step(AppendReply(newer, N1, core.term, core.progress[newer].session, accepted=True, match=end, committed=end))
    core.progress[N3].match = ORIGIN  # its broker was away when it was to be made, and was placed elsewhere meanwhile
    core.step(Propose((change(end._replace(rank=end.rank + 1), N1, N2, N3, newer),)))
    core.step(TransferTo(3))
    assert core.transfer_target == newer


def test_two_majorities_never_come_of_two_leaders_that_change_the_voters_at_once() -> None:
    """The schedule that broke Raft's first description: each of two leaders adds or removes one, neither commits."""
    group = Group.of(4)
    group.elect(1)
    group.propose(1)
    group.settle()
    # n1 removes n4, and only n1 hears of it; n2 takes over with n3 and n4.
    group.slow_disks.add(1)
    group.change_voters(1, N1, N2, N3)
    group.drop(lambda message: True)
    group.cut_off(1)
    group.elect(2)
    assert group.core(2).voters == (N1, N2, N3, N4)
    group.change_voters(2, N2, N3, N4)
    group.settle()
    committed = group.core(2).committed
    # n1 is back, and asks for votes with its own set of three: whoever holds what n2 committed refuses.
    group.flush(1)
    for other in (2, 3, 4):
        group.step(1, heard(other))
    group.step(1, TimerFired())
    group.settle()
    assert group.core(2).is_leader and not group.core(1).is_leader
    assert group.core(2).committed == committed


def test_items_of_an_older_log_are_no_voter_changes() -> None:
    assert all(item.voters == () for item in items_of_terms(1, 1, 2))


def test_take_over_is_asked_of_the_one_that_holds_everything() -> None:
    group = Group.of(3)
    group.elect(1)
    group.change_voters(1, N2, N3)
    orders = []
    for _ in range(6):
        orders += [message for message in group.network if isinstance(message, CampaignNow)]
        group.deliver()
    assert len(orders) == 1 and orders[0].to in (N2, N3)


def test_a_removed_leader_whose_change_it_alone_holds_leads_again_until_the_others_have_committed_it() -> None:
    group = Group.of(2)
    group.elect(1)
    group.settle()
    group.change_voters(1, N2)
    group.drop(lambda message: True)
    group.cut_off(1)
    group.connect_all()
    # n2 cannot win against the longer log of n1, by whose vote its own log goes.
    group.step(2, TimerFired())
    group.settle()
    assert not group.core(2).is_leader
    group.step(1, TimerFired())
    group.settle()
    assert group.core(2).is_leader and group.core(2).voters == (N2,)
    assert not group.core(1).is_leader and group.members[1].timer_ms is None


def test_a_restarted_replica_that_became_a_voter_and_was_removed_again_campaigns_if_the_removal_may_be_its_alone() -> (
    None
):
    # It does not know yet what is committed: neither the set that its log begins with nor the newest one names it.
    core = a_core(1, of=3, log=(1, 1))
    core._standing.voter_sets = VoterSets(ORIGIN, (N2, N3))
    core.voter_sets.note(Point(1, 0, 1), (N1, N2, N3))
    core.voter_sets.note(Point(1, 2, 1), (N2, N3))
    assert core.start().timer_ms
    asked = core.step(TimerFired()).send_now
    assert {message.to for message in asked if isinstance(message, VoteRequest)} == {N2, N3}
