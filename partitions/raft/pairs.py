"""Heartbeats between two brokers, for all the groups they share at once.

What a broker leads is summed up in a count and an XOR over a fixed hash of its (partition, term) pairs. While the sums
of both sides agree, one small message each way holds back elections in exactly those groups, and satisfies their
leaders' CheckQuorum; an idle group costs nothing. When they differ, the lists are exchanged and the groups that differ
are named.

Invariants
    a pair is heard only while it answers our own heartbeats, so a link that works one way is silent both ways
    `leading` and `following` never name a group the other side was said not to know, until that is tried again
    a group that was told of such silence is told when it ends, also if it does not lead any more
    a resignation is an absence from the leader's list, so it is repeated until the other side has taken note of it
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Group = Hashable
"""What a group is called: anything whose str() is the same on both sides."""


class Sum(NamedTuple):
    """Number and XOR of (group, term) pairs."""

    pairs: int
    xor: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    number: int
    leads: Sum


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    number: int
    agrees: bool


@dataclass(frozen=True, slots=True)
class Leading:
    """All the groups that the sender leads and the receiver should follow it in."""

    groups: tuple[tuple[Group, int], ...]


@dataclass(frozen=True, slots=True)
class LeadingReply:
    """What the receiver of `Leading` refuses."""

    newer: tuple[tuple[Group, int], ...]
    """Groups that it knows to be in a newer term."""
    unknown: tuple[Group, ...]
    """Groups of which it has no replica, or a stopped one."""
    behind: tuple[Group, ...]
    """Groups that it has, but does not follow the sender in yet: the leader should speak to them."""


PairMessage = Heartbeat | HeartbeatReply | Leading | LeadingReply


class GroupView(NamedTuple):
    """What a broker's own replica of a group says."""

    term: int
    follows: bool
    """It follows the other broker of the pair, in `term`."""


@dataclass(slots=True)
class PairEffects:
    """What follows from a tick or a message, for the shell to carry out."""

    send: list[PairMessage] = field(default_factory=list)
    went_silent: bool = False
    was_heard_again: bool = False
    wake: list[Group] = field(default_factory=list)
    """Tell these groups' leaders that the peer is in touch: begin a new session with it."""
    silent: list[Group] = field(default_factory=list)
    """In these groups the peer does not count as in touch."""
    resigned: list[tuple[Group, int]] = field(default_factory=list)
    """The peer does not lead these any more, in the term given."""
    newer: list[tuple[Group, int]] = field(default_factory=list)
    """The peer knows a newer term."""


def group_hash(group: Group, term: int) -> int:
    """64 bits that are the same in every process."""
    return int.from_bytes(hashlib.blake2b(f"{group}@{term}".encode(), digest_size=8).digest(), "big")


class TermSet:
    """Groups with a term each, and their sum, kept as they change."""

    def __init__(self) -> None:
        self._terms: dict[Group, int] = {}
        self._xor = 0

    @property
    def sum(self) -> Sum:
        return Sum(len(self._terms), self._xor)

    def set(self, group: Group, term: int | None) -> None:
        """Note that `group` is in `term`; None takes it out."""
        old = self._terms.pop(group, None)
        if old is not None:
            self._xor ^= group_hash(group, old)
        if term is not None:
            self._terms[group] = term
            self._xor ^= group_hash(group, term)

    def get(self, group: Group) -> int | None:
        return self._terms.get(group)

    def items(self) -> Sequence[tuple[Group, int]]:
        return tuple(self._terms.items())


class Pair:
    """This broker's half of the talk with one other. Times are in milliseconds of a clock that only rises."""

    def __init__(self, *, silence_ms: float, retry_unknown_ms: float = 500) -> None:
        self.leading = TermSet()
        """Groups that this broker leads and the other has a replica of."""
        self.following = TermSet()
        """Groups in which this broker follows the other."""
        self.heard = False
        self._silence_ms = silence_ms
        self._retry_unknown_ms = retry_unknown_ms
        self._number = 0
        self._said_until = 0
        """Disagreement with a heartbeat up to this one is old: what we lead changed since, or the lists are sent."""
        self._answered_ms = 0.0
        self._unknown: dict[Group, tuple[int, float]] = {}
        """Groups that the other refused as unknown, with their term and when."""
        self._told_silent: dict[Group, None] = {}
        """Groups led here that were told so, and not yet that it knows them."""

    def begin_session(self, now_ms: float) -> PairEffects:
        """Both links to the other broker are up."""
        self.heard = True
        self._answered_ms = now_ms
        for group, (term, _) in self._unknown.items():
            self._set_leading(group, term)
        self._unknown.clear()
        self._told_silent.clear()
        return PairEffects(send=[self._heartbeat()], was_heard_again=True)

    def end_session(self) -> PairEffects:
        """A link closed."""
        was_heard, self.heard = self.heard, False
        return PairEffects(went_silent=was_heard)

    def set_leading(self, group: Group, term: int | None) -> bool:
        """Returns whether the group was told that the peer is silent, and has to hear that it is not."""
        self._unknown.pop(group, None)
        self._set_leading(group, term)
        # Whoever leads on is told when the other side knows the group; whoever does not would never be.
        if term is not None or group not in self._told_silent:
            return False
        del self._told_silent[group]
        return self.heard

    def _set_leading(self, group: Group, term: int | None) -> None:
        if self.leading.get(group) != term:
            self.leading.set(group, term)
            self._said_until = self._number

    def set_following(self, group: Group, term: int | None) -> None:
        self.following.set(group, term)

    def forget(self, group: Group) -> None:
        """The group is gone from this broker."""
        self.set_leading(group, None)
        self.set_following(group, None)

    def tick(self, now_ms: float) -> PairEffects:
        """Once a heartbeat interval, while the links are up."""
        effects = PairEffects()
        if self.heard and now_ms - self._answered_ms > self._silence_ms:
            self.heard = False
            effects.went_silent = True
        for group, (term, since_ms) in list(self._unknown.items()):
            if now_ms - since_ms >= self._retry_unknown_ms:
                del self._unknown[group]
                self._set_leading(group, term)
        effects.send.append(self._heartbeat())
        return effects

    def receive(self, message: PairMessage, now_ms: float, view: Callable[[Group], GroupView | None]) -> PairEffects:
        """Take a message of the other broker.

        `view` tells what our own replica of a group says; None if there is none.
        """
        effects = PairEffects()
        match message:
            case Heartbeat():
                effects.send.append(HeartbeatReply(message.number, agrees=message.leads == self.following.sum))
            case HeartbeatReply():
                self._on_reply(message, now_ms, effects)
            case Leading():
                self._on_leading(message, view, effects)
            case LeadingReply():
                self._on_refusals(message, now_ms, effects)
        return effects

    def _heartbeat(self) -> Heartbeat:
        self._number += 1
        return Heartbeat(self._number, self.leading.sum)

    def _on_reply(self, reply: HeartbeatReply, now_ms: float, effects: PairEffects) -> None:
        self._answered_ms = now_ms
        if not self.heard:
            self.heard = True
            effects.was_heard_again = True
            self._told_silent.clear()
        # Not only the answer to the newest one counts: on a slow machine it always comes after the next was sent.
        if reply.number <= self._said_until:
            return
        if reply.agrees:
            # It follows in all of these, also where it came to do so by other messages than the lists.
            self._wake([group for group in self._told_silent if self.leading.get(group) is not None], effects)
        else:
            self._said_until = self._number
            effects.send.append(Leading(tuple(self.leading.items())))

    def _on_leading(self, message: Leading, view: Callable[[Group], GroupView | None], effects: PairEffects) -> None:
        listed = dict(message.groups)
        newer: list[tuple[Group, int]] = []
        unknown: list[Group] = []
        behind: list[Group] = []
        for group, term in listed.items():
            own = view(group)
            if own is None:
                unknown.append(group)
            elif own.term > term:
                newer.append((group, own.term))
            elif own.term < term or not own.follows:
                behind.append(group)
        for group, term in self.following.items():
            if group not in listed:
                effects.resigned.append((group, term))
        if newer or unknown or behind:
            effects.send.append(LeadingReply(tuple(newer), tuple(unknown), tuple(behind)))

    def _on_refusals(self, reply: LeadingReply, now_ms: float, effects: PairEffects) -> None:
        for group, term in reply.newer:
            own = self.leading.get(group)
            if own is not None and own < term:
                effects.newer.append((group, term))
        for group in reply.unknown:
            own = self.leading.get(group)
            if own is not None:
                self._set_leading(group, None)
                self._unknown[group] = (own, now_ms)
                self._told_silent[group] = None
                effects.silent.append(group)
        self._wake([group for group in reply.behind if self.leading.get(group) is not None], effects)

    def _wake(self, groups: Iterable[Group], effects: PairEffects) -> None:
        for group in groups:
            effects.wake.append(group)
            self._told_silent.pop(group, None)
