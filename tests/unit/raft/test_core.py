"""What one member of a Raft group may and may not do, rule by rule."""

from __future__ import annotations

import pytest
from lograft.partitions.raft.core import Role
from lograft.partitions.raft.events import (
    DamageFound,
    LeaderResigned,
    PeerSilent,
    Persisted,
    Promise,
    Propose,
    ReadIndex,
    SetLearners,
    SetWilling,
    StepDown,
    TimerFired,
    TransferAbandoned,
    TransferTo,
)
from lograft.partitions.raft.messages import AppendReply, AppendRequest, CampaignNow, ReadProbe, VoteReply, VoteRequest
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point

from .group import Group, a_core, heard, items_of_terms, voter

N1, N2, N3 = voter(1), voter(2), voter(3)


def append(sender=N2, to=N1, term=1, session=1, prev=ORIGIN, committed=ORIGIN, items=(), session_end=ORIGIN):
    return AppendRequest(sender, to, term, session, session_end, prev=prev, committed=committed, items=tuple(items))


# -- votes -----------------------------------------------------------------------------------------------------------


def test_follower_refuses_its_vote_to_a_shorter_log_but_enters_the_new_term() -> None:
    core = a_core(log=(1, 2, 4), term=4)
    effects = core.step(VoteRequest(N2, N1, 5, last=Point(4, 2, 1)))
    assert effects.send_when_persisted == [VoteReply(N1, N2, 5, granted=False)]
    assert effects.promise == Promise(5, None)


def test_vote_leaves_only_with_its_promise() -> None:
    core = a_core(log=(1,), term=1)
    effects = core.step(VoteRequest(N2, N1, 2, last=Point(1, 1, 1)))
    assert effects.send_now == []
    assert effects.promise == Promise(2, N2)
    assert effects.send_when_persisted == [VoteReply(N1, N2, 2, granted=True)]


def test_own_candidacy_leaves_only_with_its_promise_and_own_vote_counts_only_then() -> None:
    core = a_core(of=1)
    effects = core.step(TimerFired())
    assert effects.promise == Promise(1, N1)
    assert core.role is Role.CANDIDATE, "its own vote is not on disk yet"
    assert effects.send_when_persisted == [VoteReply(N1, N1, 1, granted=True)]
    core.step(effects.send_when_persisted[0])
    assert core.role is Role.LEADER


def test_at_most_one_vote_a_term() -> None:
    core = a_core(term=1)
    core.step(VoteRequest(N2, N1, 2, last=ORIGIN))
    effects = core.step(VoteRequest(N3, N1, 2, last=ORIGIN))
    assert effects.send_when_persisted == [VoteReply(N1, N3, 2, granted=False)]


def test_vote_is_granted_again_to_the_same_candidate_whose_answer_was_lost() -> None:
    core = a_core(term=1)
    core.step(VoteRequest(N2, N1, 2, last=ORIGIN))
    effects = core.step(VoteRequest(N2, N1, 2, last=ORIGIN))
    assert effects.send_when_persisted == [VoteReply(N1, N2, 2, granted=True)]


def test_vote_given_before_a_restart_binds_after_it() -> None:
    core = a_core(term=2, voted_for=N2)
    effects = core.step(VoteRequest(N3, N1, 2, last=ORIGIN))
    assert effects.send_when_persisted == [VoteReply(N1, N3, 2, granted=False)]


def test_vote_request_to_another_identity_of_this_broker_is_not_answered() -> None:
    core = a_core(term=1)
    wiped = voter(1)._replace(directory_id="before-the-wipe")
    effects = core.step(VoteRequest(N2, wiped, 2, last=ORIGIN))
    assert not effects.send_when_persisted and not effects.send_now and core.term == 1


def test_votes_of_strangers_learners_and_repeated_votes_do_not_elect() -> None:
    core = a_core(of=5)
    core.step(TimerFired())
    for sender in (N2, N2, N2, voter(9), voter(3, replica_number=7)):
        core.step(VoteReply(sender, N1, 1, granted=True, pre=True))
    assert core.role is Role.PRE_CANDIDATE
    core.step(VoteReply(N3, N1, 1, granted=True, pre=True))
    assert core.role is Role.CANDIDATE


def test_the_rank_decides_between_logs_that_end_at_the_same_offset_and_term() -> None:
    core = a_core(log=(1,), term=1)
    core.journal.extend(Point(1, 1, 2))
    effects = core.step(VoteRequest(N2, N1, 2, last=Point(1, 1, 1)))
    assert effects.send_when_persisted == [VoteReply(N1, N2, 2, granted=False)]


def test_pre_vote_is_refused_while_the_leader_is_heard_and_leaves_the_term_alone() -> None:
    core = a_core(term=3)
    core.step(append(term=3))
    effects = core.step(VoteRequest(N3, N1, 9, last=Point(9, 9, 9), pre=True))
    assert effects.send_now == [VoteReply(N1, N3, 3, granted=False, pre=True)]
    assert (core.term, core.leader) == (3, N2)


def test_real_vote_request_is_ignored_while_the_leader_is_heard() -> None:
    core = a_core(term=3)
    core.step(append(term=3))
    core.step(VoteRequest(N3, N1, 9, last=Point(9, 9, 9)))
    assert (core.term, core.leader) == (3, N2)


def test_member_back_from_a_long_partition_disturbs_nobody() -> None:
    group = Group.of(3)
    group.elect(1)
    group.cut_off(3)
    for _ in range(20):
        group.step(3, TimerFired())
        group.drop(lambda message: True)
    group.connect_all()
    group.step(3, TimerFired())
    group.settle()
    assert group.core(1).role is Role.LEADER
    assert {group.core(each).term for each in (1, 2, 3)} == {1}


def test_doubtful_vote_counts_only_if_all_voters_give_theirs() -> None:
    core = a_core(term=1)
    core.step(TimerFired())
    core.step(VoteReply(N2, N1, 2, granted=True, pre=True, doubtful=True))
    assert core.role is Role.PRE_CANDIDATE
    core.step(VoteReply(N3, N1, 2, granted=True, pre=True, doubtful=True))
    assert core.role is Role.CANDIDATE


def test_two_sure_voters_are_enough_beside_a_doubtful_one() -> None:
    core = a_core(term=1)
    core.step(TimerFired())
    core.step(VoteReply(N2, N1, 2, granted=True, pre=True, doubtful=False))
    assert core.role is Role.CANDIDATE


def test_replica_votes_by_its_word_while_its_log_is_shorter() -> None:
    core = a_core(log=(1,), term=1, word=Point(1, 5, 1))
    refused = core.step(VoteRequest(N2, N1, 2, last=Point(1, 4, 1)))
    granted = core.step(VoteRequest(N3, N1, 3, last=Point(1, 5, 1)))
    assert refused.send_when_persisted == [VoteReply(N1, N2, 2, granted=False)]
    assert granted.send_when_persisted == [VoteReply(N1, N3, 3, granted=True)]


@pytest.mark.parametrize("state", [{"damaged": True}, {"word": Point(1, 5, 1)}, {"learner": True}])
def test_replica_that_is_damaged_or_below_its_word_or_a_learner_never_campaigns(state) -> None:
    core = a_core(log=(1,), term=1, **state)
    assert core.start().timer_ms is None
    effects = core.step(TimerFired())
    assert core.role is Role.FOLLOWER and not effects.send_now


def test_a_term_that_no_election_could_have_reached_is_not_entered() -> None:
    core = a_core(term=3)
    core.step(VoteRequest(N2, N1, 2**62, last=Point(2**62, 1, 1)))
    core.step(append(term=2**62))
    assert core.term == 3


# -- following -------------------------------------------------------------------------------------------------------


def test_request_of_an_older_term_is_answered_with_the_newer_one() -> None:
    core = a_core(term=5)
    effects = core.step(append(term=4))
    assert effects.send_now[0].term == 5 and not effects.send_now[0].accepted


def test_isolated_old_leader_steps_down_on_first_contact() -> None:
    group = Group.of(3)
    group.elect(1)
    core = group.core(1)
    reply = AppendReply(N2, N1, 9, 1, accepted=False, match=ORIGIN, committed=ORIGIN)
    group.step(1, reply)
    assert (core.role, core.term, group.members[1].promise) == (Role.FOLLOWER, 9, Promise(9, None))


def test_empty_heartbeat_over_a_longer_log_cuts_nothing_and_commits_only_what_it_proves() -> None:
    core = a_core(log=(1, 1, 1), term=1)
    effects = core.step(append(term=1, prev=Point(1, 1, 1), committed=Point(1, 3, 1)))
    assert effects.cut is None and core.last == Point(1, 3, 1)
    assert core.committed == Point(1, 1, 1), "the tail is not proved to be the leader's"


def test_old_shorter_append_that_arrives_late_cuts_nothing() -> None:
    core = a_core(log=(1, 1, 1), term=1)
    effects = core.step(append(term=1, items=items_of_terms(1, 1)))
    assert effects.cut is None and effects.append == () and core.last == Point(1, 3, 1)


def test_true_conflict_is_cut_at_the_first_item_that_differs() -> None:
    core = a_core(log=(1, 2, 2), term=2)
    items = items_of_terms(1, 3)
    effects = core.step(append(term=3, items=items))
    assert effects.cut == Point(1, 1, 1)
    assert [str(item.point) for item in effects.append] == ["1@3.1", "2@3.1"]


def test_cut_below_what_is_committed_is_a_mistake_that_stops_the_process() -> None:
    core = a_core(log=(1, 1), term=1)
    core.step(append(term=1, prev=Point(1, 2, 1), committed=Point(1, 2, 1)))
    with pytest.raises(AssertionError, match="committed"):
        core.step(append(term=2, items=items_of_terms(2)))


def test_gap_is_refused_with_the_best_guess_of_the_common_point() -> None:
    core = a_core(log=(1, 1, 2), term=3)
    effects = core.step(append(term=3, prev=Point(3, 9, 1)))
    reply = effects.send_when_persisted[0]
    assert not reply.accepted and reply.match == Point(2, 3, 1)


def test_acknowledgement_of_an_append_waits_for_the_disk() -> None:
    core = a_core()
    effects = core.step(append(items=items_of_terms(1)))
    assert effects.send_now == []
    assert [reply.match for reply in effects.send_when_persisted] == [Point(1, 1, 1)]


def test_zero_width_item_at_the_same_offset_is_not_mistaken_for_the_one_before() -> None:
    core = a_core()
    start, second = Item(Point(1, 0, 1), ItemKind.TERM_START, b""), Item(Point(1, 0, 2), ItemKind.LOG_START, b"")
    core.step(append(items=[start]))
    effects = core.step(append(prev=start.point, items=[second]))
    assert effects.append == (second,) and core.last == Point(1, 0, 2)


# -- leading ---------------------------------------------------------------------------------------------------------


def test_leader_counts_its_own_copy_only_once_it_is_flushed() -> None:
    group = Group.of(3)
    group.elect(1)
    group.slow_disks.add(1)
    end = group.propose(1)
    group.deliver(lambda message: message.to == N2)
    group.deliver(lambda message: message.sender == N2)
    assert group.core(1).committed < end, "one persisted copy of three"
    group.flush(1)
    assert group.core(1).committed == end


def test_single_replica_commits_only_what_it_flushed() -> None:
    group = Group.of(1)
    group.elect(1)
    group.slow_disks.add(1)
    end = group.propose(1)
    assert group.core(1).committed < end
    group.flush(1)
    assert group.core(1).committed == end


def test_items_of_an_earlier_term_are_committed_only_with_one_of_the_own_term() -> None:
    """Raft paper, figure 8: record 2@2 is on a majority, but may still be replaced until n1 commits in its own term."""
    group = Group.of(3, n1=(1, 2), n2=(1,), n3=(1,))
    core = group.core(1)
    group.step(1, TimerFired())
    group.deliver(lambda message: isinstance(message, VoteRequest))
    group.deliver(lambda message: isinstance(message, VoteReply))
    group.deliver(lambda message: isinstance(message, VoteRequest))
    group.deliver(lambda message: isinstance(message, VoteReply))
    assert core.is_leader
    held = Point(2, 2, 1)
    core.step(AppendReply(N2, N1, core.term, 1, accepted=True, match=held, committed=ORIGIN))
    assert core.committed < held
    core.step(AppendReply(N2, N1, core.term, 1, accepted=True, match=core.last, committed=ORIGIN))
    assert core.committed == core.last


def test_reply_of_an_older_session_or_term_counts_for_nothing() -> None:
    group = Group.of(3)
    group.elect(1)
    core = group.core(1)
    group.drop(lambda message: True)
    end = group.propose(1)
    session = core.progress[N2].session
    group.step(1, heard(2))
    group.step(1, AppendReply(N2, N1, core.term, session, accepted=True, match=end, committed=ORIGIN))
    group.step(1, AppendReply(N2, N1, core.term - 1, session + 1, accepted=True, match=end, committed=ORIGIN))
    assert core.committed < end
    group.step(1, AppendReply(N2, N1, core.term, session + 1, accepted=True, match=end, committed=ORIGIN))
    assert core.committed == end


def test_doubtful_follower_holds_items_but_does_not_commit_them() -> None:
    group = Group.of(3)
    group.elect(1)
    core = group.core(1)
    group.drop(lambda message: True)
    end = group.propose(1)
    session = core.progress[N2].session
    group.step(1, AppendReply(N2, N1, core.term, session, accepted=True, match=end, committed=ORIGIN, counts=False))
    assert core.progress[N2].match == end and core.committed < end


def test_doubtful_follower_counts_once_it_holds_what_the_leader_held_when_the_session_began() -> None:
    core = a_core(log=(1,), term=1, doubtful=True)
    items = items_of_terms(1, 1, 2)
    end = items[-1].point
    effects = core.step(append(term=2, prev=Point(1, 1, 1), items=items[2:], session_end=end))
    assert [reply.counts for reply in effects.send_when_persisted] == [False] and core.doubtful
    effects = core.step(Persisted(end))
    assert effects.doubt_cleared and not core.doubtful
    assert [(reply.counts, reply.match) for reply in effects.send_when_persisted] == [(True, end)]


def test_what_came_while_a_follower_was_in_doubt_counts_too_once_it_is_on_disk() -> None:
    core = a_core(log=(1,), term=1, doubtful=True)
    items = items_of_terms(1, 1, 2, 2)
    until, end = items[-2].point, items[-1].point
    core.step(append(term=2, prev=Point(1, 1, 1), items=items[2:-1], session_end=until))
    effects = core.step(append(term=2, prev=until, items=items[-1:], session_end=until))
    assert [reply.counts for reply in effects.send_when_persisted] == [False]
    effects = core.step(Persisted(until))
    assert effects.doubt_cleared
    assert [(reply.counts, reply.match) for reply in effects.send_when_persisted] == [(True, end)]


def test_doubt_is_not_cleared_by_a_point_that_is_not_on_disk() -> None:
    core = a_core(log=(1,), term=1, doubtful=True)
    items = items_of_terms(1, 1)
    effects = core.step(append(term=1, prev=Point(1, 1, 1), items=items[2:], session_end=items[-1].point))
    assert not effects.doubt_cleared and core.doubtful


def test_who_is_elected_in_doubt_doubts_until_what_it_was_elected_with_is_on_disk() -> None:
    core = a_core(log=(1,), term=1, doubtful=True)
    items = items_of_terms(1, 1)
    core.step(append(term=1, prev=Point(1, 1, 1), items=items[2:], session_end=items[-1].point))
    core.step(LeaderResigned(2, term=1))
    core.step(TimerFired())
    core.step(VoteReply(N2, N1, 2, granted=True, pre=True))
    core.step(VoteReply(N3, N1, 2, granted=True, pre=True))
    core.step(VoteReply(N2, N1, 2, granted=True))
    effects = core.step(VoteReply(N3, N1, 2, granted=True))
    # A power loss would take the second record, which a majority may have acknowledged, this replica among them.
    assert core.role is Role.LEADER and core.doubtful and not effects.doubt_cleared
    effects = core.step(Persisted(items[-1].point))
    assert core.doubtful and not effects.doubt_cleared
    effects = core.step(Persisted(core.last))
    assert not core.doubtful and effects.doubt_cleared


def test_learner_gets_the_log_but_does_not_count() -> None:
    learner = a_core(4, learner=True)
    group = Group(*(a_core(each) for each in (1, 2, 3)), learner)
    group.connect_all()
    group.elect(1)
    group.step(1, SetLearners((voter(4),)))
    group.settle()
    group.drop(lambda message: True)
    end = group.propose(1)
    group.deliver(lambda message: message.to == voter(4))
    group.deliver(lambda message: message.sender == voter(4))
    assert learner.last == end and group.core(1).progress[voter(4)].match == end
    assert group.core(1).committed < end


def test_leader_that_loses_touch_with_the_majority_steps_down() -> None:
    group = Group.of(3)
    group.elect(1)
    group.step(1, PeerSilent(2))
    assert group.core(1).is_leader
    group.step(1, PeerSilent(3))
    assert group.core(1).role is Role.FOLLOWER


def test_in_flight_bytes_to_a_follower_are_bounded() -> None:
    group = Group(*(a_core(each, in_flight_bytes_max=100) for each in (1, 2, 3)))
    group.connect_all()
    group.elect(1)
    for _ in range(50):
        group.propose(1, size=30)
    assert group.core(1).progress[N2].in_flight_bytes <= 130
    group.settle()
    assert group.core(1).committed == group.core(1).last


def test_lost_messages_are_sent_again_when_the_timer_says_so() -> None:
    group = Group.of(3)
    group.elect(1)
    end = group.propose(1)
    group.drop(lambda message: True)
    for _ in range(4):
        group.step(1, TimerFired())
        group.settle()
    assert all(group.core(each).committed == end for each in (1, 2, 3))


def test_group_goes_quiet_only_when_every_live_follower_has_the_last_point_and_knows_the_commit() -> None:
    group = Group.of(3)
    group.elect(1)
    group.propose(1)
    assert group.members[1].timer_ms is not None
    group.settle()
    group.step(1, TimerFired())
    assert all(group.core(each).committed == group.core(1).last for each in (1, 2, 3))
    group.members[1].timer_ms = None
    group.step(1, TimerFired())
    assert group.members[1].timer_ms is None and group.network == []


def test_damaged_follower_halts_its_stream_and_nothing_it_says_counts() -> None:
    group = Group.of(3)
    group.elect(1)
    group.step(3, DamageFound(group.core(3).last))
    end = group.propose(1)
    group.settle()
    assert group.core(1).committed == end
    assert group.core(1).copies_of(end) == 2 and group.core(3).last < end
    assert group.network == []


# -- elections in time -----------------------------------------------------------------------------------------------


def test_remaining_voters_wait_in_placement_order_when_their_leader_falls_silent() -> None:
    group = Group.of(5)
    group.elect(2)
    for each in (1, 3, 4, 5):
        group.step(each, PeerSilent(2))
    assert [group.members[each].timer_ms for each in (1, 3, 4, 5)] == [150, 300, 450, 600]


def test_failed_campaigns_back_off_to_eight_times() -> None:
    core = a_core()
    waits = [core.step(TimerFired()).timer_ms for _ in range(6)]
    assert waits[0] <= 1000 and 4000 <= waits[4] <= 8000 and 4000 <= waits[5] <= 8000


def test_whoever_granted_a_vote_waits_one_whole_timeout() -> None:
    core = a_core(term=1)
    effects = core.step(VoteRequest(N2, N1, 2, last=ORIGIN))
    assert 500 <= effects.timer_ms <= 1000


def test_session_with_a_broker_outside_the_group_puts_no_election_off() -> None:
    core = a_core()
    assert core.step(heard(9)).timer_ms is None
    assert core.step(heard(2)).timer_ms == 150


def test_unwilling_replica_votes_and_follows_but_does_not_lead_until_it_may() -> None:
    group = Group.of(3)
    group.elect(1)
    group.step(1, SetWilling(False))
    assert group.core(1).role is Role.FOLLOWER
    group.step(1, TimerFired())
    assert group.core(1).role is Role.FOLLOWER
    group.step(2, LeaderResigned(1, term=1))
    group.step(3, LeaderResigned(1, term=1))
    group.elect(2)
    assert group.core(1).leader == N2
    group.step(2, StepDown("a test"))
    group.step(1, LeaderResigned(2, term=2))
    group.step(3, LeaderResigned(2, term=2))
    assert group.step(1, SetWilling(True)).timer_ms is not None
    group.elect(1)


def test_resignation_of_the_leader_starts_the_election_at_once_but_an_old_one_does_not() -> None:
    core = a_core(term=2)
    core.step(append(term=2))
    assert core.step(LeaderResigned(2, term=1)).timer_ms is None and core.leader == N2
    assert core.step(LeaderResigned(2, term=2)).timer_ms == 150 and core.leader is None


def test_follower_of_a_leader_that_was_silent_already_does_not_wait_for_it_for_ever() -> None:
    # A follower that stood still reads what its dead leader sent before; that the leader is silent it was told earlier.
    group = Group.of(3)
    group.elect(1)
    group.propose(1)
    late = [message for message in group.network if message.to == N2]
    group.settle()
    group.cut_off(1)
    for message in late:
        group.step(2, message)
    assert group.core(2).leader == N1 and group.members[2].timer_ms is not None
    group.step(3, TimerFired())
    group.settle()
    assert group.core(3).role is Role.LEADER, "who follows a silent leader grants its vote"


def test_follower_of_a_leader_that_is_silent_campaigns_when_its_time_is_over() -> None:
    core = a_core(log=(1,), term=1, in_touch=False)
    core.step(append(N2, term=1, prev=Point(1, 1, 1)))
    assert core.leader == N2
    core.step(heard(3))
    core.step(TimerFired())
    assert (core.role, core.leader) == (Role.PRE_CANDIDATE, None)


def test_leader_that_is_heard_again_stops_the_timer_of_its_follower() -> None:
    core = a_core(log=(1,), term=1, in_touch=False)
    assert core.step(append(N2, term=1, prev=Point(1, 1, 1))).timer_ms
    assert core.step(append(N2, term=1, prev=Point(1, 1, 1))).timer_ms, "each word of it counts"
    assert core.step(heard(3)).timer_ms is None
    assert core.step(heard(2)).timer_ms == 0
    assert core.step(append(N2, term=1, prev=Point(1, 1, 1))).timer_ms is None


def test_candidate_that_a_majority_does_not_hear_is_not_elected() -> None:
    core = a_core(term=1, in_touch=False)
    core.step(TimerFired())
    core.step(VoteReply(N2, N1, 2, granted=True, pre=True))
    core.step(VoteReply(N3, N1, 2, granted=True, pre=True))
    assert (core.role, core.term) == (Role.PRE_CANDIDATE, 1)


def test_leader_that_slept_drops_its_leadership() -> None:
    group = Group.of(3)
    group.elect(1)
    effects = group.step(1, StepDown("the loop slept"))
    assert group.core(1).role is Role.FOLLOWER and effects.role_changed


# -- reads and transfer ----------------------------------------------------------------------------------------------


def test_read_index_waits_for_a_commit_in_the_own_term() -> None:
    group = Group.of(3, n1=(1,), n2=(1,), n3=(1,))
    group.step(1, TimerFired())
    for _ in range(4):
        group.deliver(lambda message: isinstance(message, VoteRequest | VoteReply))
    assert group.core(1).is_leader and not group.core(1).is_ready
    group.step(1, ReadIndex(7))
    assert not [message for message in group.network if isinstance(message, ReadProbe)]
    group.settle()
    assert group.members[1].reads_confirmed == [7]


def test_read_that_comes_during_a_round_is_confirmed_by_the_next_one() -> None:
    group = Group.of(3)
    group.elect(1)
    group.settle()
    group.step(1, ReadIndex(1))
    group.step(1, ReadIndex(2))
    group.deliver()
    group.deliver()
    assert group.members[1].reads_confirmed == [1]
    group.settle()
    assert group.members[1].reads_confirmed == [1, 2]


def test_cut_off_leader_confirms_no_read_and_refuses_it_when_it_steps_down() -> None:
    group = Group.of(3)
    group.elect(1)
    group.step(1, ReadIndex(1))
    group.cut_off(1)
    assert group.members[1].reads_confirmed == [] and group.members[1].reads_refused == [1]


def test_transfer_waits_until_the_target_has_everything_and_then_takes_one_election() -> None:
    group = Group.of(3)
    group.elect(1)
    group.propose(1)
    group.step(1, TransferTo(2))
    assert not [message for message in group.network if isinstance(message, CampaignNow)]
    group.settle()
    assert group.core(2).is_leader and group.core(2).term == 2


def test_transfer_to_a_dead_target_is_abandoned_and_the_leader_goes_on() -> None:
    group = Group.of(3)
    group.elect(1)
    group.settle()
    group.step(1, TransferTo(2))
    group.drop(lambda message: message.to == N2)
    group.step(1, TransferAbandoned())
    end = group.propose(1)
    group.settle()
    assert group.core(1).is_leader and group.core(1).committed == end


def test_transfer_is_over_as_soon_as_its_target_falls_silent() -> None:
    group = Group.of(3)
    group.elect(1)
    group.settle()
    group.step(1, TransferTo(2))
    group.drop(lambda message: message.to == N2)
    group.step(1, PeerSilent(3))
    assert group.core(1).transfer_target == N2, "it is another one that is gone"
    group.step(1, heard(3))
    group.step(1, PeerSilent(2))
    end = group.propose(1)
    group.settle()
    assert group.core(1).is_leader and group.core(1).committed == end


def test_proposal_to_a_follower_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        a_core().step(Propose(items_of_terms(1)))


# -- conversations ---------------------------------------------------------------------------------------------------


def test_new_leader_overwrites_the_tail_that_a_deposed_leader_never_got_committed() -> None:
    group = Group.of(3, n1=(1, 1, 3), n2=(1, 1, 2, 2), n3=(1, 1, 3))
    for each in (1, 2, 3):
        group.core(each).term = 3
    group.step(1, TimerFired())
    group.settle()
    group.propose(1)
    group.settle()
    assert [group.terms(each) for each in (1, 2, 3)] == [[1, 1, 3, 4]] * 3
    assert group.members[2].cuts == [Point(1, 2, 1)]


@pytest.mark.parametrize(
    "log",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ],
    ids="abcdef",
)
def test_leader_brings_every_log_of_the_papers_figure_7_to_its_own(log) -> None:
    leader = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    group = Group.of(3, n1=leader, n2=log, n3=leader)
    for each in (1, 2, 3):
        group.core(each).term = 7
    group.step(1, TimerFired())
    group.settle()
    group.propose(1)
    group.settle()
    assert group.terms(2) == group.terms(1) == [*leader, 8]
    assert group.core(2).committed == group.core(1).last
