"""Which step the leader of a partition takes next, from the voters it has to those it should have."""

from __future__ import annotations

import pytest
from lograft.node.controller.facts import PartitionFact, RecoveryFact
from lograft.node.voter_steps import ChangeVoters, HandOver, filled_places, next_step, who_should_vote
from lograft.partitions.raft.messages import Voter


def on(broker_id: int, number: int = 1, directory: str = "") -> Voter:
    return Voter(broker_id, directory or f"d{broker_id}", number)


A, B, C, D = on(1), on(2), on(3), on(4)


def everybody(_: Voter) -> bool:
    return True


def nobody_but(*those: Voter):
    return lambda voter: voter in those


def test_nothing_is_done_where_just_those_vote_who_are_placed() -> None:
    assert next_step(A, (A, B, C), (C, A, B), everybody) is None


def test_a_replica_that_keeps_up_is_added_and_only_then_is_the_old_one_removed() -> None:
    assert next_step(A, (A, B, C), (A, B, D), nobody_but(A, B, C)) is None
    assert next_step(A, (A, B, C), (A, B, D), everybody) == ChangeVoters((A, B, C, D))
    assert next_step(A, (A, B, C, D), (A, B, D), everybody) == ChangeVoters((A, B, D))


def test_a_lost_voter_goes_before_one_that_still_keeps_up() -> None:
    assert next_step(A, (A, B, C, D), (A, D), nobody_but(A, B, D)) == ChangeVoters((A, B, D))


def test_a_leader_that_is_placed_elsewhere_goes_last_and_hands_over_first() -> None:
    assert next_step(A, (A, B, C, D), (B, D), everybody) == ChangeVoters((A, B, D))
    assert next_step(A, (A, B, D), (B, D), everybody) == HandOver(2)
    assert next_step(B, (A, B, D), (B, D), everybody) == ChangeVoters((B, D))


def test_a_leader_that_is_placed_elsewhere_leads_on_while_nobody_could_take_over() -> None:
    assert next_step(A, (A, B), (B,), nobody_but(A)) is None


def test_more_replicas_are_added_one_by_one() -> None:
    assert next_step(A, (A,), (A, B, C), everybody) == ChangeVoters((A, B))
    assert next_step(A, (A, B), (A, B, C), everybody) == ChangeVoters((A, B, C))


def test_the_old_identity_of_a_wiped_disk_goes_once_the_new_one_votes() -> None:
    wiped, again = on(2, 1, "lost"), on(2, 7, "new")
    assert next_step(A, (A, wiped, C), (A, again, C), nobody_but(A, C)) is None
    assert next_step(A, (A, wiped, C), (A, again, C), nobody_but(A, C, again)) == ChangeVoters((A, wiped, C, again))
    assert next_step(A, (A, wiped, C, again), (A, again, C), nobody_but(A, C, again)) == ChangeVoters((A, C, again))


AGAIN = on(2, 7)
"""Placed where B is."""


def should_vote(placement: tuple[Voter, ...], voters: tuple[Voter, ...]) -> tuple[Voter, ...]:
    return who_should_vote(PartitionFact(placement=placement, first_voters=()), voters)


def test_who_should_vote_is_who_is_placed_or_who_votes_already_on_that_disk() -> None:
    elsewhere = on(2, 7, "new")
    assert should_vote((C, A, B), (A, B, C)) == (C, A, B)
    assert should_vote((A, AGAIN, D), (A, B, C)) == (A, B, D)
    assert should_vote((A, AGAIN, D), (A, C)) == (A, AGAIN, D), "the older one has gone"
    assert should_vote((A, AGAIN), (A, B, AGAIN)) == (A, AGAIN)
    assert should_vote((A, elsewhere), (A, B)) == (A, elsewhere), "what is on another disk is not there"


def test_a_replica_placed_elsewhere_and_back_before_it_had_gone_keeps_its_vote_and_its_records() -> None:
    """Seed 504468: the older one was removed, and deleted, before the newer one on its disk held anything."""
    for own in (A, B):
        assert next_step(own, (A, B), should_vote((A, AGAIN), (A, B)), everybody) is None
        step = next_step(own, (A, B, D), should_vote((A, AGAIN), (A, B, D)), everybody)
        assert step == ChangeVoters((A, B)), "and who was to take its place goes"


def test_whom_a_recovery_ended_fills_nobodys_place() -> None:
    recovery = RecoveryFact(
        number=1, source=A, heir=on(1, 4), first_number=4, term=9, kept_offset=0, lost_offset=0, decided_ms=0, by=""
    )
    fact = PartitionFact(placement=(on(1, 4), AGAIN), first_voters=(A, B), recovery=recovery)
    assert filled_places(fact, (A, B)) == {}


def test_the_only_voter_is_never_removed() -> None:
    assert next_step(A, (A,), (on(1, 7),), nobody_but(A)) is None


@pytest.mark.parametrize("placed", [(A, B, C), (B, C, D), (D, on(5), on(6)), (A,), (D,), (A, B, C, D, on(5))])
def test_step_by_step_it_arrives_with_each_step_changing_one_voter(placed: tuple[Voter, ...]) -> None:
    own, voters = A, (A, B, C)
    for _ in range(20):
        step = next_step(own, voters, placed, everybody)
        if step is None:
            break
        if isinstance(step, HandOver):
            own = next(voter for voter in voters if voter.broker_id == step.broker_id)
            continue
        assert len({*step.voters} ^ {*voters}) == 1 and own in step.voters
        assert len(step.voters) >= min(3, len(placed))
        voters = step.voters
    assert {*voters} == {*placed}
