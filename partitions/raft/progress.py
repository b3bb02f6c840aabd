"""The leader's view of its followers, and the committed point that follows from it.

Invariants
    match <= next, for every follower; match starts at the origin in each session
    a reply of an older session changes nothing
    synced <= match, and counted_synced <= counted: what is on the follower's disk, of what it has written
    what a doubtful or damaged follower holds is known (match) but does not count (counted)
    a follower is only sent what follows a point that it can go on from (`can_go_on`)
    an allowance is spent only on what is sent while the follower catches up; a session ends its being caught up
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from .messages import Voter
from .points import ORIGIN, Point


class Pace(Enum):
    PROBE = "probe"
    """One message at a time, until the common point is found."""
    STREAM = "stream"
    """Pipelined, as far as the window allows."""
    HALTED = "halted"
    """It cannot take items (damaged); wait for a new session, which begins when the timer has fired often enough."""


@dataclass(slots=True)
class Progress:
    """How far one follower has got in the present session."""

    voter: Voter
    next: Point
    """The last point sent to it: the next message begins there."""
    session: int = 0
    session_end: Point = ORIGIN
    pace: Pace = Pace.PROBE
    match: Point = ORIGIN
    synced: Point = ORIGIN
    counted: Point = ORIGIN
    counted_synced: Point = ORIGIN
    committed: Point = ORIGIN
    """What it acknowledged as committed."""
    committed_sent: Point = ORIGIN
    in_flight: deque[tuple[Point, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    caught_up: bool = False
    """In this session it held all that the leader held a moment before."""
    allowance_bytes: int = 0
    """What a throttled learner may still be sent; below zero it owes what one item was larger than its allowance."""
    filling: bool = False
    """The shell reads items for it; `Sent` says when it is done."""
    awaits_reply: bool = False
    """A probe is under way."""
    progressed: bool = True
    """Something valid was heard since the leader's timer last fired."""
    patience: int = 1
    """Timer rounds to wait before the next session; doubles while nothing is heard."""
    waited: int = 0
    is_offered: bool = False
    """In this session it was told to begin anew where our log begins."""
    copies: bool = False
    """It did so: all it holds below our `cleaned_to` came from our log as it is now."""

    def begin_session(self, next_point: Point, session_end: Point) -> None:
        self.session += 1
        self.session_end = session_end
        self.next = next_point
        self.pace = Pace.PROBE
        self.match = self.synced = self.counted = self.counted_synced = ORIGIN
        self.committed = self.committed_sent = ORIGIN
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self.caught_up = False
        # What came in while it was away is backlog now; what it owes it owes on.
        self.allowance_bytes = min(self.allowance_bytes, 0)
        self.filling = False
        self.awaits_reply = False
        self.is_offered = False

    def halt(self) -> None:
        """Its log is damaged: what it acknowledged in this session may be what it lost."""
        self.pace = Pace.HALTED
        self.match = self.synced = self.counted = self.counted_synced = ORIGIN
        self.caught_up = False

    def note_sent(self, through: Point, size_bytes: int) -> None:
        if through > self.next:
            self.in_flight.append((through, size_bytes))
            self.in_flight_bytes += size_bytes
            self.next = through

    def note_match(self, match: Point, synced: Point, *, counts: bool) -> None:
        self.pace = Pace.STREAM
        self.awaits_reply = False
        self.match = max(self.match, match)
        self.synced = max(self.synced, synced)
        self.next = max(self.next, self.match)
        if counts:
            self.counted = max(self.counted, match)
            self.counted_synced = max(self.counted_synced, synced)
        while self.in_flight and self.in_flight[0][0] <= self.match:
            self.in_flight_bytes -= self.in_flight.popleft()[1]


def can_go_on(match: Point, base: Point, cleaned_to: int, *, copies: bool) -> bool:
    """Can a follower whose log is a leader's up to `match` be brought up to date by what the leader holds after it?

    Not if that begins later. Nor if compaction dropped a tombstone after it (its key would live on over there for good)
    or merged batches, so that none of the leader's may begin at `match`; unless what the follower has is a copy of
    just this log.
    """
    return match >= base and (copies or match.offset >= cleaned_to)


def majority(voter_count: int) -> int:
    return voter_count // 2 + 1


def held_by_majority(points: Iterable[Point]) -> Point:
    """The highest point that a majority of the voters holds, given one point for each."""
    ordered = sorted(points, reverse=True)
    return ordered[majority(len(ordered)) - 1]
