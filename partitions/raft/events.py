"""What can happen to a replica besides a peer's message, and what it wants done about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .messages import AppendRequest, HeadOffer, Message, Voter
from .points import Item, Point, TermJournal
from .voter_sets import VoterSets


@dataclass(frozen=True, slots=True)
class Propose:
    """Append these items, which follow the log end in the core's own term (leader only).

    A voter change goes alone, and only if `RaftCore.refuses_voters` does not object.
    """

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Persisted:
    """This disk surely holds the log through `point`."""

    point: Point


@dataclass(frozen=True, slots=True)
class CountWritten:
    """From when on does a copy count? Of items without width, and of what stands before them, always once it is synced.

    Whoever says that the own copy counts has promised, durably, to be in doubt if the page cache is lost.
    """

    copies: bool
    """The others' copies count once they are written, as they say; not only once they are synced."""
    own: bool
    """This replica's copy counts once it is written, which is before anything else of a step is done."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a `Replicate` asked for is on its way: the items up to `through`."""

    to: Voter
    session: int
    through: Point
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time that `Effects.timer_ms` asked for is over."""


@dataclass(frozen=True, slots=True)
class PeerHeard:
    """A broker is in touch (again): whatever was under way to it before may be lost."""

    broker_id: int
    directory_id: str
    """Of the disk it runs on now: identities of another one are not in touch, whoever bears their broker id."""


@dataclass(frozen=True, slots=True)
class PeerSilent:
    """Nothing has been heard of a broker for the silence time, or its link closed, or it does not know this replica."""

    broker_id: int


@dataclass(frozen=True, slots=True)
class TellCommitted:
    """The followers that have not heard what is committed should: `Effects.has_news` asked for it a while ago."""


@dataclass(frozen=True, slots=True)
class LeaderResigned:
    """The broker that led in `term` says that it does not lead any more."""

    broker_id: int
    term: int


@dataclass(frozen=True, slots=True)
class TermSeen:
    """A peer is in `term` already."""

    term: int


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """Confirm that this replica still leads, by a round that begins after now."""

    token: int


@dataclass(frozen=True, slots=True)
class TransferTo:
    """Hand leadership to the voter on this broker."""

    broker_id: int


@dataclass(frozen=True, slots=True)
class TransferAbandoned:
    """The transfer has taken too long: lead on."""


@dataclass(frozen=True, slots=True)
class StepDown:
    """Lead no more: the loop slept, the disk is damaged or full, or the broker stops."""

    reason: str


@dataclass(frozen=True, slots=True)
class SetLearners:
    """Who else gets the log, without a vote."""

    learners: tuple[Voter, ...]


@dataclass(frozen=True, slots=True)
class SetThrottled:
    """Is a learner that catches up sent only what `Allow` allows? What is appended meanwhile it gets beyond that."""

    throttled: bool


@dataclass(frozen=True, slots=True)
class Allow:
    """A learner that catches up may be sent so much more."""

    to: Voter
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SetWilling:
    """May this replica lead? Not while its broker could not serve what it would lead."""

    willing: bool


@dataclass(frozen=True, slots=True)
class DamageFound:
    """Stored bytes of this replica are unreadable; `word` is the highest point it once held."""

    word: Point


@dataclass(frozen=True, slots=True)
class LogRecovered:
    """This replica's log was read anew from its disk, all that is named here is on it. Not while it leads."""

    journal: TermJournal
    voter_sets: VoterSets
    word: Point
    doubtful: bool
    damaged: bool
    cleaned_to: int
    committed: Point
    """What was known to be committed, and in the log, before. A step whose cut failed may have said more, of items that
    were never written."""


@dataclass(frozen=True, slots=True)
class AskLeader:
    """Let the leader send anew what this follower lacks: its log is not what the leader was told it is."""


@dataclass(frozen=True, slots=True)
class HoleLost:
    """No peer can prove what stood in the hole of this damaged log, or may give it; and the leader's log conflicts with
    what lies beyond it, or begins later, or lacks what compaction dropped: what lies beyond is worth nothing here.

    The log ends before the hole from now on. Of one of which nothing is left, `offer` says where it begins.
    """

    leader: Voter
    term: int
    offer: HeadOffer | None = None


@dataclass(frozen=True, slots=True)
class LogBegan:
    """This replica's log begins at `base` now, which is committed; what was before is dropped."""

    base: Point


@dataclass(frozen=True, slots=True)
class LogCleaned:
    """Compaction drops, or has just dropped, what a follower below this offset would need to hear."""

    cleaned_to: int


Event = (
    Message
    | Propose
    | Persisted
    | CountWritten
    | Sent
    | TimerFired
    | PeerHeard
    | PeerSilent
    | TellCommitted
    | LeaderResigned
    | TermSeen
    | ReadIndex
    | TransferTo
    | TransferAbandoned
    | StepDown
    | SetLearners
    | SetThrottled
    | Allow
    | SetWilling
    | DamageFound
    | LogRecovered
    | AskLeader
    | HoleLost
    | LogBegan
    | LogCleaned
)


@dataclass(frozen=True, slots=True)
class Promise:
    """Term and vote: durable before anyone hears of them."""

    term: int
    voted_for: Voter | None


@dataclass(frozen=True, slots=True)
class Replicate:
    """Fill `request` with items after its `prev`, at most up to `upto` and `bytes_max`; send it and report `Sent`."""

    request: AppendRequest
    upto: Point
    bytes_max: int


@dataclass(slots=True)
class Effects:
    """What the shell must do, in the order of the fields.

    What binds this replica to a promise waits until the promise is on disk; the rest may go at once. Sending appends
    before the own flush is safe only because the leader's term and own vote were durable before it campaigned.
    """

    promise: Promise | None = None
    doubt_cleared: bool = False
    word_reached: bool = False
    """The log end, on disk, has reached the word: it need not be remembered any more."""
    cut: Point | None = None
    """Forget everything after this point before appending; the leader's log differs there."""
    commits_lost: bool = False
    """What is cut had been committed by copies in memory, and a majority has lost its memory since."""
    reset: HeadOffer | None = None
    """Drop the whole log and begin anew at this head, keeping the word, before anything else is done."""
    append: tuple[Item, ...] = ()
    append_time_ms: int = 0
    """When the leader appended them; 0: now, they are this leader's own."""
    send_now: list[Message] = field(default_factory=list)
    send_when_persisted: list[Message] = field(default_factory=list)
    """A granted vote and own candidacy wait for the promise; an append's acknowledgement for the log too."""
    replicate: list[Replicate] = field(default_factory=list)
    offers: list[HeadOffer] = field(default_factory=list)
    """Fill in the head of our first segment, and send."""
    has_news: bool = False
    """Followers have not heard what is committed, and nothing on its way tells them: step `TellCommitted` soon."""
    committed: Point | None = None
    reads_confirmed: list[int] = field(default_factory=list)
    reads_refused: list[int] = field(default_factory=list)
    role_changed: bool = False
    """Role, term, leader or voters are not what they were."""
    timer_ms: float | None = None
    """None: as it is. 0: cancel it. Else: fire then, in place of the one set before."""
    notes: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    """Events an operator should see."""
