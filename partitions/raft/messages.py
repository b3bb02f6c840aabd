"""What the members of one Raft group say to each other.

Every message names the identity it comes from and the identity it asks: a replica that was deleted and placed again, or
whose disk was wiped, is somebody else, and nobody else answers for it.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    """Accepted: the last point this message proved, persisted. Refused: the sender's best guess of the common point."""
    committed: Point
    counts: bool = True
    """False from a doubtful or damaged replica: it holds the items, but what it says must not commit them."""


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


Message = VoteRequest | VoteReply | AppendRequest | AppendReply | HeadOffer | ReadProbe | ReadProbeReply | CampaignNow
