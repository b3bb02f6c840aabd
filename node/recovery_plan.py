"""May a partition's majority be given up, which replica's log would go on, and what could be lost? Judgement alone.

Invariants
    refused while a leader commits, while a majority could still elect one, and while somebody in touch has not answered
    the log that reaches furthest goes on, by points: the log of a later term holds all that was committed before it,
        and of one term a longer log holds the shorter; of equal ones the whole before the damaged and the doubtful
    what is not known is said to be unknown, never to be nothing
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ..partitions.raft.messages import Voter
from ..partitions.raft.points import ORIGIN, Point
from .controller.facts import PartitionFact


class Holding(NamedTuple):
    """What a broker holds of a partition, by its own word."""

    voter: Voter
    end: Point
    """Up to here its log can be read."""
    word: Point = ORIGIN
    """What it is known to have held once, if more: by its mark, or an item beyond a hole."""
    committed: Point = ORIGIN
    term: int = 0
    start_offset: int = 0
    voters: tuple[Voter, ...] = ()
    """By its log."""
    leads: bool = False
    """And a majority has just confirmed it."""
    damaged: bool = False
    doubtful: bool = False
    ended: bool = False
    """An earlier recovery ended it; its files are still there."""
    why: str = ""
    """Why it cannot be read, or is not open."""
    refused_by: tuple[int, ...] = ()
    """Brokers that answered it that they cannot repair it: what they hold may be something else."""

    @property
    def known_offset(self) -> int:
        """The highest end that it is known to have held."""
        return max(self.end, self.word, self.committed).offset

    @property
    def is_able(self) -> bool:
        """Does it vote and count like any other?"""
        return self.may_campaign and not self.doubtful

    @property
    def may_campaign(self) -> bool:
        """Does it ask for votes, if a set of voters names it? Also in doubt: then its own vote alone does not count."""
        return not (self.damaged or self.ended or self.why or self.word > self.end)

    @property
    def condition(self) -> str:
        """In a word or two."""
        if self.ended:
            return "ended by an earlier recovery"
        if self.damaged:
            return "damaged"
        if self.doubtful:
            return "doubtful"
        return "lacks what it once held" if self.word > self.end else "whole"


class Plan(NamedTuple):
    """What an operator is told."""

    refusal: str
    """Why it must not be, and what to do instead; empty if it may."""
    lines: tuple[str, ...]
    """One sentence each, what matters first."""
    source: Holding | None
    """Whose log goes on."""
    kept_offset: int = 0
    lost_offset: int = 0
    """At most this end was held by those in touch."""
    unknown_brokers: tuple[int, ...] = ()
    """Nobody knows what the replicas there held."""


def plan(
    what: str,
    fact: PartitionFact,
    holdings: Sequence[Holding],
    *,
    alive: Mapping[int, str],
    unanswered: Collection[int],
    from_broker: int | None = None,
    despite_repair: bool = False,
) -> Plan:
    """Judge. `what` names the partition; `alive`: broker id -> directory id of those in touch.

    `unanswered`: those in touch of whom it is not known what they hold.
    """
    sets = _voter_sets(fact, holdings)
    members = tuple(dict.fromkeys(voter for voters in sets for voter in voters))
    held = {holding.voter: holding for holding in holdings}
    absent = [voter for voter in dict.fromkeys((*members, *fact.placement)) if voter.broker_id not in alive]
    wiped = [voter for voter in members if alive.get(voter.broker_id, voter.directory_id) != voter.directory_id]
    missing = [voter for voter in members if voter not in held and voter not in absent and voter not in wiped]
    candidates = sorted(
        (holding for holding in holdings if alive.get(holding.voter.broker_id) == holding.voter.directory_id),
        key=lambda holding: (holding.end, not holding.damaged, not holding.doubtful, -holding.voter.broker_id),
        reverse=True,
    )
    source = candidates[0] if candidates else None
    if from_broker is not None:
        source = next((holding for holding in candidates if holding.voter.broker_id == from_broker), None)
    unknown = tuple(sorted({voter.broker_id for voter in (*absent, *wiped, *missing) if voter not in held}))
    refusal = _refusal(what, fact, holdings, sets, alive, unanswered, despite_repair=despite_repair)
    if not refusal and from_broker is not None and source is None:
        holders = ", ".join(str(holding.voter.broker_id) for holding in candidates) or "no broker in touch"
        refusal = f"broker {from_broker} holds no replica of {what} that could go on; {holders} does"
    elif not refusal and source is None:
        refusal = f"no broker in touch holds anything of {what}, so there is nothing to go on with; bring one back"
    lines = [f"{what}: {_has_leader(holdings)}"]
    lines += _who_may_return(absent, wiped, missing)
    lines += [_told(holding, holding.voter in members) for holding in candidates]
    if source is None:
        return Plan(refusal, tuple(lines), None, unknown_brokers=unknown)
    kept, lost = source.end.offset, max(holding.known_offset for holding in holdings)
    lines.append(f"the log of broker {source.voter.broker_id} would go on; it is kept up to offset {kept}")
    lines += _losses(kept, lost, unknown)
    return Plan(refusal, tuple(lines), source, kept, max(kept, lost), unknown)


def _voter_sets(fact: PartitionFact, holdings: Sequence[Holding]) -> list[tuple[Voter, ...]]:
    """Every set of voters that may count; of a log that is over none does."""
    sets = [holding.voters for holding in holdings if holding.voters and not holding.ended]
    if fact.recovery is not None and not sets:
        return [(fact.recovery.heir,)]
    return list(dict.fromkeys(sets)) or [fact.placement]


def _refusal(
    what: str,
    fact: PartitionFact,
    holdings: Sequence[Holding],
    sets: Sequence[tuple[Voter, ...]],
    alive: Mapping[int, str],
    unanswered: Collection[int],
    *,
    despite_repair: bool,
) -> str:
    for holding in holdings:
        if holding.leads:
            return f"{what} is led by broker {holding.voter.broker_id}, which commits: there is nothing to recover"
    if unanswered:
        brokers = ", ".join(map(str, sorted(unanswered)))
        return f"in touch, but without an answer about {what}: brokers {brokers}; ask again in a moment"
    recovery = fact.recovery
    held = {holding.voter: holding for holding in holdings}
    if recovery is not None and alive.get(recovery.heir.broker_id) == recovery.heir.directory_id:
        begun = [holding for holding in holdings if not holding.ended and not holding.why and holding.voters]
        if not begun:
            source = next((one for one in holdings if one.voter.broker_id == recovery.heir.broker_id), None)
            why = f" ({source.why})" if source is not None and source.why else ""
            return (
                f"recovery {recovery.number} of {what} is still being carried out by broker "
                f"{recovery.heir.broker_id}{why}; wait for it, or stop that broker for good"
            )
    members = {voter for voters in sets for voter in voters}
    for voters in sets:
        present = [held[voter] for voter in voters if voter in held]
        able = [holding for holding in present if holding.is_able]
        # Who was just removed from a set may be the only one that holds it, and leads there until it is committed.
        candidates = [one for one in holdings if one.may_campaign and one.voter in members and one.voters == voters]
        if any(_supporters(candidate, able) > len(voters) // 2 for candidate in candidates):
            brokers = ", ".join(str(holding.voter.broker_id) for holding in able)
            return (
                f"{len(able)} of the {len(voters)} voters of {what} are in touch and whole (brokers {brokers}): they "
                "elect a leader by themselves; wait a moment, then look at their logs"
            )
        is_complete = len(present) == len(voters) and not any(one.damaged or one.ended or one.why for one in present)
        reached = max((one.end for one in candidates), default=ORIGIN)
        if is_complete and reached >= max(max(one.end, one.word) for one in present):
            return (
                f"all voters of {what} are in touch, if in doubt: they elect the one that holds most by themselves; "
                "wait a moment"
            )
        mendable = [one for one in present if one.damaged and any(_could_mend(other, one) for other in holdings)]
        if mendable and len(able) + len(mendable) > len(voters) // 2 and not despite_repair:
            brokers = ", ".join(str(one.voter.broker_id) for one in mendable)
            return (
                f"what is damaged at broker {brokers} seems to be whole elsewhere, so that it can be repaired without "
                "any loss: wait for that, or say --despite-repair if it has failed"
            )
    return ""


def _supporters(candidate: Holding, able: Sequence[Holding]) -> int:
    """How many surely vote for it: those who hold no more, itself among them if it is one of the able."""
    return sum(other.end <= candidate.end for other in able)


def _could_mend(whole: Holding, damaged: Holding) -> bool:
    return (
        whole.voter.broker_id not in damaged.refused_by
        and not whole.damaged
        and not whole.why
        and whole.end >= damaged.word
        and whole.start_offset <= damaged.end.offset
    )


def _has_leader(holdings: Sequence[Holding]) -> str:
    leader = next((holding for holding in holdings if holding.leads), None)
    if leader is not None:
        return f"broker {leader.voter.broker_id} leads in term {leader.term}, and commits"
    return "it has no leader that could commit anything"


def _who_may_return(absent: Sequence[Voter], wiped: Sequence[Voter], missing: Sequence[Voter]) -> list[str]:
    lines = []
    if absent:
        brokers = ", ".join(map(str, sorted({voter.broker_id for voter in absent})))
        lines.append(
            f"not in touch: broker {brokers}. If it comes back with its disk, nothing need be lost: try that first. "
            "Once this is accepted, what it holds is void; if it runs, cut off from here, so is what it acknowledges"
        )
    lines += [f"broker {voter.broker_id} has another disk now: what the old one held is gone" for voter in wiped]
    lines += [f"broker {voter.broker_id} holds nothing of it any more, though it should" for voter in missing]
    return lines


def _told(holding: Holding, votes: bool) -> str:
    told = f"broker {holding.voter.broker_id} holds {holding.start_offset} up to {holding.end.offset}"
    told += f" ({holding.condition}{'' if votes or holding.ended else ', without a vote'})"
    if holding.word > holding.end:
        told += f"; it once held up to {holding.word.offset}"
    if holding.committed > ORIGIN:
        told += f"; it knows {holding.committed.offset} to be committed"
    if holding.refused_by:
        told += f"; broker {', '.join(map(str, holding.refused_by))} could not prove what it lost"
    return told + (f"; {holding.why}" if holding.why and not holding.ended else "")


def _losses(kept: int, lost: int, unknown: Sequence[int]) -> list[str]:
    lines = []
    if lost > kept:
        lines.append(f"lost are at most the offsets {kept} to {lost - 1}, as far as those in touch know")
    else:
        lines.append(f"no replica in touch is known to have held more than the {kept} that are kept")
    if unknown:
        brokers = ", ".join(map(str, unknown))
        lines.append(
            f"unknown is what broker {brokers} held beyond that: it is lost too, however much was acknowledged"
        )
    lines.append(f"offsets from {kept} on are given out again, for other records")
    return lines
