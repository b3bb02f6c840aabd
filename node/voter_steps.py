"""From the voters that a partition's log names to those that should vote: the next step, taken by the leader.

Invariants
    a step depends on the log, the placement and who keeps up, and on nothing remembered: whoever leads next goes on
    the voters are never fewer than the replicas placed, unless they were before
    a replica that votes stays where another is placed on its very disk: it holds the records, or is yet to be made,
        and the other can be made there only once it is gone
    a leader that is not placed any more leads until another voter can take over
The core refuses whatever would not be safe; what is chosen here is only the order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..partitions.raft.messages import Voter
from .controller.facts import PartitionFact


class ChangeVoters(NamedTuple):
    """Make these the voters."""

    voters: tuple[Voter, ...]


class HandOver(NamedTuple):
    """Let the voter on this broker lead."""

    broker_id: int


Step = ChangeVoters | HandOver


def filled_places(fact: PartitionFact, voters: Sequence[Voter]) -> dict[Voter, Voter]:
    """Whose places others fill: whoever is placed -> whoever votes on that very disk, by the leader's log.

    A replica that was placed elsewhere, and back before it had gone, has another number by then.
    """
    voting = {voter[:2]: voter for voter in voters if not fact.ended(voter)}
    return {placed: voting[placed[:2]] for placed in fact.placement if placed not in voters and placed[:2] in voting}


def who_should_vote(fact: PartitionFact, voters: Sequence[Voter]) -> tuple[Voter, ...]:
    """Those placed, or who fills their places, where `voters` vote by the leader's log."""
    filled = filled_places(fact, voters)
    return tuple(filled.get(placed, placed) for placed in fact.placement)


def next_step(
    own: Voter, voters: Sequence[Voter], placed: Sequence[Voter], keeps_up: Callable[[Voter], bool]
) -> Step | None:
    """What the leader `own` does next; None if there is nothing to do, or nothing that can be done yet.

    `placed`: as `who_should_vote` has it. `keeps_up`: is it in touch, and holds what the leader held a moment ago?
    """
    missing = [voter for voter in placed if voter not in voters]
    surplus = [voter for voter in voters if voter not in placed]
    if surplus and len(voters) > len(placed):
        # Those who are lost first: they weigh in every majority and hold nothing.
        leaving = min(surplus, key=lambda voter: (voter == own, voter != own and keeps_up(voter)))
        return _without(leaving, own, voters, placed, keeps_up)
    for voter in missing:
        if keeps_up(voter):
            return ChangeVoters((*voters, voter))
    return None


def _without(
    leaving: Voter, own: Voter, voters: Sequence[Voter], placed: Sequence[Voter], keeps_up: Callable[[Voter], bool]
) -> Step | None:
    if leaving != own:
        return ChangeVoters(tuple(voter for voter in voters if voter != leaving))
    heirs = [voter for voter in placed if voter in voters and voter != own and keeps_up(voter)]
    return HandOver(heirs[0].broker_id) if heirs else None
