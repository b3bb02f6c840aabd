"""What the members of one Raft group say to each other.

Every message names the identity it comes from and the identity it asks: a replica that was deleted and placed again, or
whose disk was wiped, is somebody else, and nobody else answers for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from .points import Item, Point


class Voter(NamedTuple):
    """Who a replica is."""

    broker_id: int
    directory_id: str
    """Minted and fsynced when a data directory is first used; a wiped disk gets another."""
    replica_number: int
    """A counter in the topic's fact, raised at each placement."""

    def __str__(self) -> str:
        return f"{self.broker_id}/{self.directory_id[:8]}#{self.replica_number}"


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """Ask for a vote in `term`; with `pre`, only whether it would be given (Raft dissertation, 9.6)."""

    sender: Voter
    to: Voter
    term: int
    last: Point
    """The candidate's last point, or its word if that is higher."""
    pre: bool = False
    transfer: bool = False
    """The old leader asked for this election: being in touch with it is no reason to refuse."""


@dataclass(frozen=True, slots=True)
class VoteReply:
    sender: Voter
    to: Voter
    term: int
    """The term asked about if granted, else the sender's own."""
    granted: bool
    pre: bool = False
    doubtful: bool = False
    """The sender may have lost what it acknowledged: this vote counts only if all voters give theirs."""


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """Items that follow `prev`; without items, a probe of `prev` or the news that `committed` moved."""

    sender: Voter
    to: Voter
    term: int
    session: int
    """Of the leader with this peer; a reply to an older one says nothing any more."""
    session_end: Point
    """The leader's last point when the session began: a doubtful replica that holds it need doubt no more."""
    prev: Point
    committed: Point
    items: tuple[Item, ...] = ()
    append_time_ms: int = 0
    """Wall clock of the leader that appended the items (unix milliseconds); 0 without items."""
    committed_synced: Point | None = None
    """As far as a majority holds it on disk, where that is less than `committed`; None: all that is committed."""


@dataclass(frozen=True, slots=True)
class HeadOffer:
    """To a follower that what is left of the leader's log cannot bring up to date: begin anew where that begins.

    Either they share no point, or the follower's last common one lies below `cleaned_to`. Everything through `base`
    and below `cleaned_to` is committed. An AppendReply answers it.
    """

    sender: Voter
    to: Voter
    term: int
    session: int
    base: Point
    voters: tuple[Voter, ...] = ()
    """As of `base`."""
    head: bytes = b""
    """Of the leader's first segment: all that its items need of what stood before them."""
    cleaned_to: int = 0
    """Below this offset the leader's log lacks what a follower in the midst of it would need to hear."""


@dataclass(frozen=True, slots=True)
class AppendReply:
    sender: Voter
    to: Voter
    term: int
    session: int
    accepted: bool
    match: Point
    """Accepted: the last point this message proved, written. Refused: the sender's best guess of the common point."""
    committed: Point
    counts: bool = True
    """False from a doubtful or damaged replica: it holds the items, but what it says must not commit them."""
    synced: Point | None = None
    """How much of `match` is on the sender's disk, where that is less; None: all of it."""


@dataclass(frozen=True, slots=True)
class ReadProbe:
    """Are you still with me? Sent once a read-index round (Raft dissertation, 6.4)."""

    sender: Voter
    to: Voter
    term: int
    round_number: int


@dataclass(frozen=True, slots=True)
class ReadProbeReply:
    sender: Voter
    to: Voter
    term: int
    """The term of the probe if the sender follows its leader; a higher one if it does not."""
    round_number: int


@dataclass(frozen=True, slots=True)
class CampaignNow:
    """The leader asks a caught-up follower to take over (TimeoutNow, Raft dissertation, 3.10)."""

    sender: Voter
    to: Voter
    term: int


class Serving(IntEnum):
    """What a replica says to one that asks it for what it lost."""

    ITEMS = 0
    """Here they are; without any: this is all that is proved to be the same in both logs."""
    UNPROVED = 1
    """The logs are not proved to be the same where the hole is."""
    CLEANED = 2
    """Compaction dropped here what the other log needs, or this log starts later."""
    BUSY = 3
    """Not now, or not readable here either."""


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """A damaged replica asks another one for items of its hole. It binds nobody, and no core hears of it."""

    sender: Voter
    to: Voter
    term: int
    number: int
    """Of this request; its answer bears the same."""
    hole: Point
    """The last point before the hole."""
    after: Point
    """Items from here on are wanted: at or past `hole`."""
    claims: tuple[Point, ...]
    """Points beyond the hole that the sender's log surely held."""
    base_offset: int = -1
    """Not -1: nothing readable stands before the hole. Begin at this offset, or where the other log begins, and say by
    a head all that stands before; `hole` and `after` are the origin."""
    bytes_max: int = 1 << 20


@dataclass(frozen=True, slots=True)
class RepairReply:
    """What is at hand for a damaged replica, in one piece of bounded size."""

    sender: Voter
    to: Voter
    term: int
    number: int
    serving: Serving
    after: Point
    """What the items follow; where the sender had to begin, `base_offset` given."""
    leads: bool = False
    """The sender leads `term`: what it does not hold is no part of the log."""
    conflicts: bool = False
    """Its log does not hold the highest claim, or not the point before the hole."""
    rewritten_to: int = 0
    """How far the sender's log is compacted at all: up to there it need not be the same byte by byte."""
    head: bytes = b""
    """Of a log that begins at `after`; empty if none was asked for."""
    items: tuple[Item, ...] = ()


Message = (
    VoteRequest
    | VoteReply
    | AppendRequest
    | AppendReply
    | HeadOffer
    | ReadProbe
    | ReadProbeReply
    | CampaignNow
    | RepairRequest
    | RepairReply
)
