"""What must hold in every run, checked while it goes on, against an oracle that no broker can reach.

Each rule has a name, which a violation carries:
    one-leader           at most one identity leads a partition in a term
    one-vote             an identity gives at most one vote in a term, its own candidacy included
    commits-own-term     a leader moves the committed point only to a point of its own term
    committed-rises      the committed point of a replica never moves back while its process lives, but at a reset
    committed-agrees     what was ever committed at a place of a log is in every replica that gets so far: byte by byte,
                         or without some of its records
    committed-durable    a majority of the voters' platters holds a point when it is first committed
    acknowledged-kept    what a producer was told is what is committed there
    acknowledged-synced  a replica acknowledges as synced only what its platter surely holds
    acknowledged-written and as written only what is in its files, and so outlives its process
    memory-kept          where copies count once they are written, what is committed is lost only if a majority of the
                         voters lost it with their page caches, and no voter holds it any more; and it is a tail of
                         records, from which on everybody goes on as the next leader has it
    no-needless-damage   what a power loss leaves of a log is never taken for decay
    word-kept            unless it followed a newer leader, a replica that is sound after a restart holds what it
                         acknowledged, and one that is not in doubt votes for nobody who holds less
    sure-holds           a replica whose doubt has ended holds, on its platter, what it acknowledged, and if it leads,
                         all that was committed before its term; or it has promised to doubt again if its memory goes
    offsets-whole        committed offsets have neither holes nor overlaps
    no-duplicates        no value is committed twice
    sequences-in-order   a producer's batches are committed in the order of their sequences, none missing
    log-matching         two logs that share a point are the same before it, down to where one is compacted
    reads-committed      a reader gets the committed batches, unaltered, and an end no older than its question
    ended-silent         what a recovery ended says nothing once its broker knows of that
    voters-one-by-one    each committed set of voters differs from the one before by one identity
    voters-caught-up     an identity becomes a voter only once its platter holds the term start of who adds it
    start-committed      no replica starts its log later than what it has committed says, nor drops what is
                         at or above the committed start
    start-rises          the log start of a replica never moves back, and no leader that serves has an older one than
                         what a trim was answered with
    newest-kept          a replica that is past all that was compacted has the newest record of each key, and of a key
                         that was deleted, the tombstone or nothing
    cleaning-remembered  a replica knows, whenever it comes back, how far its log is cleaned
    start-served         a reader from the log start on is served; one below what a trim was answered with is not
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import (
    AppendReply,
    AppendRequest,
    HeadOffer,
    Message,
    Voter,
    VoteReply,
    VoteRequest,
)
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.replica import Replica
from lograft.partitions.storage.log import DamagedLog
from lograft.partitions.storage.zero_width import decode_log_start, decode_voters
from lograft.proto.record_batch import Record, decode, read_header, read_zero_width

from tests.simulation.keys import compacted_to, identity_of, is_compacted, what_is_missing


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class Print(NamedTuple):
    """An item, as far as two logs must agree on it."""

    point: Point
    crc: int


def print_of(item: Item) -> Print:
    return Print(item.point, crc32(item.data))


@dataclass(slots=True)
class CommittedLog:
    """All that was ever committed in one partition."""

    partition: PartitionId
    prints: list[Print] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    """By offset."""
    records: list[Record] = field(default_factory=list)
    """By offset."""
    starts: dict[int, int] = field(default_factory=dict)
    """Base offset of each batch of records -> its place in `prints`."""
    offsets: dict[bytes, int] = field(default_factory=dict)
    places: dict[Point, int] = field(default_factory=lambda: {ORIGIN: 0})
    """Each committed point -> how many items are before it."""
    voters: tuple[Voter, ...] = ()
    """Of the newest committed set."""
    moves: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    """Of the log start: how many items make it so, and where it is then."""
    next_sequences: dict[int, int] = field(default_factory=dict)
    heirs: tuple[Voter, ...] = ()
    """Who was made the only voter by recoveries."""
    losses: int = 0
    """Times that a majority lost what it had in memory alone."""
    lost_values: set[bytes] = field(default_factory=set)
    lost_in_term: int = 0
    """Of the leader that went on without it: what replicas of earlier terms take for committed may be what was lost."""

    @property
    def end(self) -> Point:
        return self.prints[-1].point if self.prints else ORIGIN

    @property
    def start(self) -> int:
        return self.moves[-1][1]

    def start_at(self, place: int) -> int:
        """Where the log starts for who has committed so many items."""
        return self.moves[bisect_right(self.moves, place, key=lambda move: move[0]) - 1][1]

    def take(self, place: int, item: Item, who: str) -> bool:
        """`who` has committed `item` after the first `place` ones. True if nobody had before."""
        found = print_of(item)
        if place < len(self.prints):
            self.check(place, item, who)
            return False
        if item.kind is ItemKind.RECORDS:
            self._take_records(item, place, who)
        elif item.point.offset != len(self.values):
            raise Violation("offsets-whole", f"{who}: {item.point} has no width, but {len(self.values)} was next")
        self.prints.append(found)
        self.places[item.point] = place + 1
        if item.kind is ItemKind.LOG_START:
            start = decode_log_start(read_zero_width(item.data)[1], item.point.offset)
            if start <= self.start:
                raise Violation("start-rises", f"{who} committed a move of the start from {self.start} to {start}")
            self.moves.append((place + 1, start))
        elif item.kind is ItemKind.VOTERS:
            voters = decode_voters(read_zero_width(item.data)[1])
            is_forced = len(voters) == 1 and voters[0] in self.heirs
            if len({*voters} ^ {*self.voters}) != 1 and not is_forced:
                raise Violation("voters-one-by-one", f"{who} committed {voters} after {self.voters}")
            self.voters = voters
        return True

    def check(self, place: int, item: Item, who: str) -> None:
        """`who` has `item` after the first `place` ones: it is the next, or that and others without some records."""
        if self.prints[place] == print_of(item):
            return
        if not is_compacted(item) or item.point not in self.places or self.starts.get(_base_of(item)) != place:
            raise Violation(
                "committed-agrees",
                f"{who} has {print_of(item)} as item {place}, but it was {self.prints[place]}",
            )
        if {found.point[::2] for found in self.prints[place : self.places[item.point]]} != {item.point[::2]}:
            raise Violation("committed-agrees", f"{who} merged across a zero-width item, up to {item.point}")
        self.check_records(item.data, who)

    def check_records(self, batch: bytes | bytearray | memoryview, who: str) -> None:
        """The records that are left of some batches are what they were."""
        for record in decode(batch):
            if self.records[record.offset] != record:
                raise Violation("committed-agrees", f"{who} has {record}, but it was {self.records[record.offset]}")

    def give_up_after(self, point: Point, heir: Voter) -> None:
        """An operator accepted that what stands after `point` is lost."""
        place, offset = self.places[point], point.offset
        self.heirs = (*self.heirs, heir)
        del self.prints[place:]
        del self.values[offset:]
        del self.records[offset:]
        self.starts = {base: at for base, at in self.starts.items() if at < place}
        self.offsets = {value: at for value, at in self.offsets.items() if at < offset}
        self.places = {known: at for known, at in self.places.items() if at <= place}
        self.moves = [move for move in self.moves if move[0] <= place]
        self.next_sequences = {}

    def lose_after(self, place: int, term: int) -> None:
        """A majority lost the items behind the first `place` ones, which were in memory alone."""
        end = self.prints[place - 1].point if place else ORIGIN
        self.losses += 1
        self.lost_in_term = term
        self.lost_values |= {*self.values[end.offset :]}
        voters = self.voters
        self.give_up_after(end, voters[0])
        self.heirs = self.heirs[:-1]
        self.voters = voters

    def _take_records(self, item: Item, place: int, who: str) -> None:
        header = read_header(item.data)
        if header.base_offset != len(self.values) or item.point.offset != header.next_offset:
            raise Violation(
                "offsets-whole", f"{who} committed {header} up to {item.point}; {len(self.values)} was next"
            )
        if header.has_producer:
            # What a recovery gave up is missing for good: its producer goes on behind it.
            begun = header.base_sequence if self.heirs or self.losses else 0
            expected = self.next_sequences.get(header.producer_id, begun)
            # Likewise where what was answered was in memory alone, and is lost; what was open before it is sent again.
            was_lost = self.losses > 0 and header.base_sequence > expected
            if header.base_sequence != expected and not was_lost:
                raise Violation(
                    "sequences-in-order", f"{who} committed {header}, where {expected} was the producer's next sequence"
                )
            self.next_sequences[header.producer_id] = expected + header.record_count
        self.starts[header.base_offset] = place
        for record in decode(item.data):
            value = identity_of(record)
            if value in self.offsets:
                raise Violation(
                    "no-duplicates", f"{who}: {value[:24]!r} is at {self.offsets[value]} and at {record.offset}"
                )
            self.offsets[value] = record.offset
            self.values.append(value)
            self.records.append(record)


def _base_of(item: Item) -> int:
    return read_header(item.data).base_offset


@dataclass(slots=True)
class _Progress:
    """How far the oracle has followed one replica object."""

    place: int = 0
    committed: Point = ORIGIN
    start: int = 0
    resets: int = 0
    was_doubtful: bool = False


class Invariants:
    """The rules, and all that must be remembered to check them.

    `is_durable(voter, partition, point)` says whether the voter's platter surely holds its log through the point.
    """

    def __init__(
        self,
        partitions: Sequence[PartitionId],
        *,
        first_voters: Mapping[PartitionId, tuple[Voter, ...]],
        is_durable: Callable[[Voter, PartitionId, Point], bool],
        is_written: Callable[[Voter, PartitionId, Point], bool] | None = None,
    ) -> None:
        self.committed = {
            partition: CommittedLog(partition, voters=first_voters[partition]) for partition in partitions
        }
        self.acknowledged: dict[PartitionId, int] = dict.fromkeys(partitions, 0)
        """The end of what producers were told is committed."""
        self.acknowledged_records = 0
        self.trimmed: dict[PartitionId, int] = dict.fromkeys(partitions, 0)
        """The latest start that a trim was answered with."""
        self.resets = 0
        self.compacted_to = dict.fromkeys(partitions, 0)
        """How far any replica's log may be compacted."""
        self.voter_changes = 0
        """Appended by a leader, whether or not they were ever committed."""
        self.leaders: dict[tuple[PartitionId, int], Voter] = {}
        self.unreadable: set[Voter] = set()
        """Voters whose disk was damaged on purpose: they need not be whole, but they still have to keep their word."""
        self.lost: set[Voter] = set()
        """Identities whose disk is gone: what they acknowledged before they may have been counted for."""
        self._is_durable = is_durable
        self._is_written = is_written
        """None: a copy counts only once it is synced."""
        self._lost_with_memory: dict[tuple[PartitionId, Point], set[Voter]] = {}
        self._first_numbers: dict[PartitionId, int] = {}
        self._heirs: dict[PartitionId, tuple[Voter, int]] = {}
        self._votes: dict[tuple[PartitionId, Voter, int], Voter] = {}
        self._candidates: dict[tuple[PartitionId, Voter, int], Point] = {}
        self._words: dict[tuple[PartitionId, Voter], Point] = {}
        self._cleaned_to: dict[tuple[PartitionId, Voter], int] = {}
        self._progress: dict[Replica, _Progress] = {}

    def note_recovered(self, partition: PartitionId, heir: Voter, first_number: int) -> None:
        """An operator had a partition go on with one log. Until its broker hears of that, the log may still grow."""
        self._heirs[partition] = (heir, first_number)

    def _note_heir(self, heir: Replica, first_number: int) -> None:
        """It has come to be: what its log does not hold is lost, and all numbers from before count no more."""
        partition = heir.partition
        oracle = self.committed[partition]
        self._first_numbers[partition] = first_number
        oracle.give_up_after(max(filter(heir.log.journal.holds, oracle.places)), heir.voter)
        self.acknowledged[partition] = min(self.acknowledged[partition], oracle.end.offset)
        for replica in [replica for replica in self._progress if self.is_ended(replica)]:
            self.forget(replica)

    def is_ended(self, replica: Replica) -> bool:
        """Is it one that a recovery ended? What it holds, and does until it hears of that, is void."""
        return replica.voter.replica_number < self._first_numbers.get(replica.partition, 0)

    # -- what brokers do -----------------------------------------------------------------------------------------------

    def note_message(self, partition: PartitionId, message: Message) -> None:
        """A broker sends this, now."""
        match message:
            case AppendReply(accepted=True):
                synced = message.match if message.synced is None else message.synced
                is_readable = message.sender not in self.unreadable
                if is_readable and not self._is_durable(message.sender, partition, synced):
                    raise Violation(
                        "acknowledged-synced", f"{message.sender} acknowledges {synced} of {partition}, not synced"
                    )
                is_written = message.synced is not None and is_readable
                if is_written and not self._holds_written(message.sender, partition, message.match):
                    raise Violation(
                        "acknowledged-written",
                        f"{message.sender} acknowledges {message.match} of {partition}, not written",
                    )
                if message.counts:
                    key = (partition, message.sender)
                    self._words[key] = max(self._words.get(key, ORIGIN), message.match)
            case VoteRequest(pre=False):
                self._candidates[partition, message.sender, message.term] = message.last
                self._note_vote(partition, message.sender, message.term, message.sender)
            case VoteReply(pre=False, granted=True):
                self._note_vote(partition, message.sender, message.term, message.to)
                word = self._words.get((partition, message.sender), ORIGIN)
                offered = self._candidates[partition, message.to, message.term]
                if offered < word and not message.doubtful:
                    raise Violation(
                        "word-kept", f"{message.sender} acknowledged {word}, and votes for {message.to} with {offered}"
                    )
            case AppendRequest():
                self.note_leader(partition, message.term, message.sender)

    def note_received(self, partition: PartitionId, message: Message) -> None:
        """A replica takes this. One that follows a newer leader may have to cut what it told an older one."""
        if isinstance(message, AppendRequest):
            key = (partition, message.to)
            if message.term > self._words.get(key, ORIGIN).term:
                self._words.pop(key, None)
        if isinstance(message, HeadOffer):
            self._cleaned_to.pop((partition, message.to), None)  # it may be about to copy another log

    def note_opened(self, replica: Replica, *, may_be_damaged: bool = False) -> None:
        """A replica was recovered. Its machine's disk may have failed on purpose, without having forgotten anything."""
        if self.is_ended(replica):
            return
        if replica.is_damaged and not may_be_damaged and replica.voter not in self.unreadable:
            raise Violation("no-needless-damage", f"{replica.voter} is damaged, but its disk never failed")
        heir, first_number = self._heirs.get(replica.partition, (None, 0))
        if replica.voter == heir and first_number != self._first_numbers.get(replica.partition):
            self._note_heir(replica, first_number)
        self._progress[replica] = _Progress(was_doubtful=replica.is_doubtful)
        self._begin_at_base(replica)
        status = replica.status()
        word = self._words.get((replica.partition, replica.voter), ORIGIN)
        if max(status.end, status.word) < word and not status.doubtful and not status.damaged:
            raise Violation("word-kept", f"{replica.voter} acknowledged {word}, and is back with {status.end} only")
        cleaned_to = self._cleaned_to.get((replica.partition, replica.voter), 0)
        if replica.compacted_to[1] < cleaned_to:
            raise Violation(
                "cleaning-remembered",
                f"{replica.voter} cleaned to {cleaned_to}, is back with {replica.compacted_to[1]}",
            )

    def note_leader(self, partition: PartitionId, term: int, leader: Voter) -> None:
        known = self.leaders.setdefault((partition, term), leader)
        if known != leader:
            raise Violation("one-leader", f"{known} and {leader} both lead {partition} in term {term}")

    def _holds_written(self, voter: Voter, partition: PartitionId, point: Point) -> bool:
        return self._is_written is not None and self._is_written(voter, partition, point)

    def note_lost(self, partition: PartitionId, voter: Voter, points: Iterable[Point]) -> None:
        """A replica's page cache was lost, and with it these points of its log."""
        for point in points:
            self._lost_with_memory.setdefault((partition, point), set()).add(voter)

    def note_elected(self, leader: Replica) -> None:
        """A replica leads now. Where memory counts, what its log lacks of what was committed may be lost for good."""
        partition, journal = leader.partition, leader.log.journal
        oracle = self.committed[partition]
        if self._is_written is None or self.is_ended(leader) or leader.term <= oracle.end.term:
            return
        if journal.holds(oracle.end) or oracle.end <= leader.log.base:
            return
        place = next(
            at
            for at, found in enumerate(oracle.prints)
            if found.point > leader.log.base and not journal.holds(found.point)
        )
        lost = [found.point for found in oracle.prints[place:]]
        who = f"{leader.voter} leads term {leader.term} of {partition} without {lost[0]}"
        before = oracle.prints[place - 1].point if place else ORIGIN
        for point in lost:
            if point.offset == before.offset:
                raise Violation("memory-kept", f"{who} and without the zero-width item at {point}")
            before = point
        losers = self._lost_with_memory.get((partition, lost[0]), set()) | self.lost
        kept = [voter for voter in leader.voters if self._is_written(voter, partition, lost[0])]
        if kept or sum(voter in losers for voter in leader.voters) <= len(leader.voters) // 2:
            raise Violation(
                "memory-kept",
                f"{who}, which {', '.join(map(str, kept)) or 'nobody'} of its voters holds, and "
                f"{', '.join(map(str, losers)) or 'nobody'} lost",
            )
        oracle.lose_after(place, leader.term)
        self.acknowledged[partition] = min(self.acknowledged[partition], oracle.end.offset)

    def note_doubt(self, replica: Replica) -> None:
        """A replica has changed its role, or commits: is it in doubt still, or sure again, and rightly?"""
        progress = self._progress.get(replica)
        if progress is None or self.is_ended(replica):
            return
        was_doubtful, progress.was_doubtful = progress.was_doubtful, replica.is_doubtful
        if replica.is_doubtful or not was_doubtful or replica.voter in self.unreadable | self.lost:
            return
        partition, places = replica.partition, self.committed[replica.partition].places
        known = {self._words.get((partition, replica.voter), ORIGIN)} & places.keys()
        if replica.is_leader:
            known |= {max(point for point in places if point.term < replica.term)}
        for point in known:
            # What its machine's end would take must not be counted on unless it would doubt again then.
            is_noted = replica._copy.is_promised and self._holds_written(replica.voter, partition, point)
            if not is_noted and not self._is_durable(replica.voter, partition, point):
                raise Violation("sure-holds", f"{replica.voter} doubts no more, but {point} is not on its platter")

    def note_commit_moved(self, replica: Replica) -> None:
        """A replica's committed point moves, now."""
        if replica.is_leader and replica.committed.term != replica.term:
            raise Violation(
                "commits-own-term", f"{replica.voter} leads term {replica.term}, and commits {replica.committed}"
            )

    def note_committed(self, replica: Replica, voted: tuple[Voter, ...]) -> None:
        """A replica's committed point has moved in this step: follow it. `voted` is who voted when it first did."""
        if self.is_ended(replica):
            return
        progress = self._progress[replica]
        committed = replica.committed
        if replica.term < self.committed[replica.partition].lost_in_term:
            return
        if replica.resets != progress.resets:
            progress.resets = replica.resets
            progress.committed, progress.start = ORIGIN, 0
            self.resets += 1
            self._begin_at_base(replica)
        if committed < progress.committed:
            raise Violation("committed-rises", f"{replica.voter} went from {progress.committed} back to {committed}")
        oracle = self.committed[replica.partition]
        who = f"{replica.voter} in term {replica.term}"
        if progress.committed < replica.log.base:
            self._begin_at_base(replica)
        while progress.committed < committed:
            items = self._committed_items(replica, progress.committed)
            if items is None:
                progress.place, progress.committed = oracle.places[committed], committed
                break
            if not items:
                known = self._last_known(replica, progress.committed)
                if known is None:
                    return  # later, when some replica of those that live has it again
                progress.place, progress.committed = oracle.places[known], known
                continue
            for item in items:
                if oracle.take(progress.place, item, who):
                    self._check_durable(replica, item, {voted, replica.voters})
                progress.place = oracle.places[item.point]
                progress.committed = item.point
        self.check_start(replica)

    def _begin_at_base(self, replica: Replica) -> None:
        """A replica's log was reset, or recovered: what lies before its base must be committed."""
        base = replica.log.base
        place = self.committed[replica.partition].places.get(base)
        if place is None:
            raise Violation("start-committed", f"{replica.voter} begins at {base}, which nobody committed")
        progress = self._progress[replica]
        progress.place, progress.committed = place, base

    def check_start(self, replica: Replica) -> None:
        """What a replica takes for the start of its log, and what it has dropped."""
        progress = self._progress[replica]
        oracle, base = self.committed[replica.partition], replica.log.base
        if base.offset > oracle.start:
            raise Violation("start-committed", f"{replica.voter} begins at {base}, but {oracle.start} is committed")
        start = max(oracle.start_at(progress.place), base.offset)
        if replica.log_start > start:
            raise Violation(
                "start-committed", f"{replica.voter} starts at {replica.log_start}, but has committed {start}"
            )
        trimmed = self.trimmed[replica.partition] if replica.is_ready else 0
        if replica.log_start < max(progress.start, trimmed):
            raise Violation(
                "start-rises", f"{replica.voter} started at {max(progress.start, trimmed)}, now at {replica.log_start}"
            )
        progress.start = replica.log_start

    def _committed_items(self, replica: Replica, after: Point) -> Sequence[Item] | None:
        """What a replica has committed after a point; read from another where its own disk was damaged on purpose.

        None: nobody can read it any more, and all of it is known. Empty: nobody can yet.
        """
        for other in (replica, *self._progress):
            holds = other.log.journal.holds(after) and other.log.journal.holds(replica.committed)
            if other is not replica and (other.partition != replica.partition or not holds):
                continue
            try:
                with looked_at(other):
                    return other.log.read_items(after, replica.committed, 1 << 30)
            except DamagedLog:
                rewritten_to, _ = other.compacted_to
                if other is replica and replica.voter not in self.unreadable and after.offset >= rewritten_to:
                    raise  # where batches were merged, none may end there any more
        if replica.committed in self.committed[replica.partition].places:
            return None  # seen when another committed it, and dropped or compacted since by all that are whole
        return ()

    def _last_known(self, replica: Replica, after: Point) -> Point | None:
        """The last point beyond that is known to be committed, and is in this log: up to there nothing is new, though
        nobody can read it now."""
        journal, upto = replica.log.journal, replica.committed
        places = self.committed[replica.partition].places
        return max((point for point in places if after < point <= upto and journal.holds(point)), default=None)

    def forget(self, replica: Replica) -> None:
        """Its process has ended."""
        self._progress.pop(replica, None)

    def note_voters_changed(self, replica: Replica, before: tuple[Voter, ...]) -> None:
        """A leader has appended a change of its voters, who were `before`."""
        self.voter_changes += 1
        span = next(span for span in replica.log.journal.spans if span.term == replica.term)
        if span.rank_before:  # the term start is dropped already: so it was committed
            start = min(point for point in self.committed[replica.partition].places if point.term == replica.term)
        else:
            start = Point(replica.term, span.zero_width_offsets[0], 1)
        for added in {*replica.voters} - {*before}:
            spoiled = added in self.lost or added in self.unreadable
            if not spoiled and not self._is_durable(added, replica.partition, start):
                raise Violation("voters-caught-up", f"{replica.voter} adds {added}, which does not hold {start}")

    def _check_durable(self, replica: Replica, item: Item, counted: Set[tuple[Voter, ...]]) -> None:
        """Do enough of some set of voters hold it that may have counted when it was committed?"""
        partition, point = replica.partition, item.point
        is_held = self._is_durable
        how = "holds it on disk"
        if self._is_written is not None and item.kind is ItemKind.RECORDS:
            if not replica.is_leader:
                return  # whoever counted the copies is gone, and some of them may be too
            if replica.durability == "memory":
                is_held = self._has_acknowledged
                how = "wrote it"
        if not any(self._is_majority_held(voters, partition, point, is_held) for voters in counted):
            holders = [str(voter) for voter in replica.voters if is_held(voter, partition, point)]
            holding = ", ".join(holders) or "nobody"
            raise Violation("committed-durable", f"{point} of {partition} was committed, but {holding} {how}")

    def _is_majority_held(
        self,
        voters: tuple[Voter, ...],
        partition: PartitionId,
        point: Point,
        is_held: Callable[[Voter, PartitionId, Point], bool],
    ) -> bool:
        """Whoever lost it by a fault of its disk counts as one that held it."""
        spoiled = self.unreadable | self.lost
        return sum(is_held(voter, partition, point) or voter in spoiled for voter in voters) > len(voters) // 2

    def _has_acknowledged(self, voter: Voter, partition: PartitionId, point: Point) -> bool:
        """Is it written there, or was it until the process died that said so?"""
        return self._holds_written(voter, partition, point) or self._words.get((partition, voter), ORIGIN) >= point

    def _note_vote(self, partition: PartitionId, voter: Voter, term: int, candidate: Voter) -> None:
        known = self._votes.setdefault((partition, voter, term), candidate)
        if known != candidate:
            raise Violation("one-vote", f"{voter} voted for {known} and for {candidate} in term {term} of {partition}")

    # -- what clients hear ---------------------------------------------------------------------------------------------

    def note_acknowledged(self, partition: PartitionId, base_offset: int, values: Sequence[bytes]) -> None:
        """A producer was told that `values` are committed from `base_offset` on (-1: somewhere)."""
        oracle = self.committed[partition]
        if any(value in oracle.lost_values for value in values):
            return  # lost while the answer was under way
        if base_offset < 0:
            missing = [value[:24] for value in values if value not in oracle.offsets]
            if missing:
                raise Violation("acknowledged-kept", f"{missing} were acknowledged in {partition}, but never committed")
        else:
            end = base_offset + len(values)
            found = oracle.values[base_offset:end]
            if found != list(values):
                told, there = [value[:24] for value in values], [value[:24] for value in found]
                raise Violation(
                    "acknowledged-kept", f"{partition} {base_offset}: {told} acknowledged, {there} committed"
                )
            self.acknowledged[partition] = max(self.acknowledged[partition], end)
        self.acknowledged_records += len(values)

    def note_trimmed(self, partition: PartitionId, asked: int, start: int) -> None:
        """A trim to `asked` was answered: the log starts at `start`."""
        if not asked <= start <= self.committed[partition].start:
            known = self.committed[partition].start
            raise Violation("start-rises", f"{partition} was trimmed to {asked}: {start} answered, {known} committed")
        self.trimmed[partition] = max(self.trimmed[partition], start)

    def note_refused(self, partition: PartitionId, position: int, start: int) -> int:
        """A reader at `position` was told that the log starts at `start`; where it goes on."""
        known = self.committed[partition].start
        if position >= known or not position < start <= known:
            raise Violation(
                "start-served", f"{partition} starts at {known}; a reader at {position} was told that it is {start}"
            )
        return start

    def note_read(
        self, partition: PartitionId, position: int, batches: Iterable[bytes | memoryview], trimmed_before: int
    ) -> int:
        """A reader at `position` got these, when a trim to `trimmed_before` had been answered; where it goes on."""
        if position < trimmed_before:
            raise Violation("start-served", f"{partition} was trimmed to {trimmed_before}, and read at {position}")
        oracle = self.committed[partition]
        for batch in batches:
            header = read_header(batch)
            if oracle.losses and any(identity_of(record) in oracle.lost_values for record in decode(batch)):
                return position  # lost while the answer was under way
            place = oracle.starts.get(header.base_offset)
            if not header.base_offset <= position < header.next_offset:
                raise Violation("reads-committed", f"{partition} at {position} answered with {header}")
            is_whole = header.record_count == header.width
            is_bounded = header.next_offset in oracle.starts or header.next_offset == len(oracle.values)
            if place is None or not is_bounded or (is_whole and oracle.prints[place].crc != crc32(batch)):
                raise Violation(
                    "reads-committed", f"{header} of {partition} was read, but it is not what was committed"
                )
            oracle.check_records(batch, "a reader")
            position = header.next_offset
        return position

    def note_confirmed_end(self, partition: PartitionId, end: int, acknowledged_before: int) -> None:
        """A read-index round that began when `acknowledged_before` was told answered with `end`."""
        if end < min(acknowledged_before, self.acknowledged[partition]):
            raise Violation("reads-committed", f"{partition} ends at {end}, but {acknowledged_before} was acknowledged")

    # -- whole logs ----------------------------------------------------------------------------------------------------

    def check_log_matching(self, replicas: Sequence[Replica]) -> None:
        """Compare the logs of one partition's replicas, committed or not."""
        held = [all_items(replica) for replica in replicas]
        compacted = max((compacted_to(items) for items in held), default=0)
        logs = [[print_of(item) for item in items if item.point.offset > compacted] for items in held]
        for replica, items in zip(replicas, held, strict=True):
            self._check_keys(replica, items)
        for at, one in enumerate(logs):
            for beside, other in enumerate(logs[:at]):
                base = max(replicas[at].log.base, replicas[beside].log.base)
                one, other = ([found for found in log if found.point > base] for log in (logs[at], other))
                common = {found.point for found in one} & {found.point for found in other}
                if not common:
                    continue
                last = max(common)
                ours, theirs = ([found for found in log if found.point <= last] for log in (one, other))
                if ours != theirs:
                    difference = next(pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1])
                    raise Violation(
                        "log-matching",
                        f"{replicas[at].voter} and {replicas[beside].voter} hold {last}, but before it {difference}",
                    )

    def check_equal(self, replicas: Sequence[Replica]) -> None:
        """At the end: every replica holds the committed log, all of it, and nothing else."""
        for replica in replicas:
            oracle = self.committed[replica.partition]
            self.check_start(replica)
            if replica.log_start != oracle.start:
                raise Violation(
                    "start-rises", f"in the end {replica.voter} starts at {replica.log_start}, not at {oracle.start}"
                )
            items = all_items(replica)
            after = replica.log.base
            for item in items:
                if after == oracle.end:
                    raise Violation("committed-agrees", f"in the end {replica.voter} holds {item.point} past {after}")
                oracle.check(oracle.places[after], item, f"in the end {replica.voter}")
                after = item.point
            # A flaw in a closed segment may not have been met yet: what stands before it must be right.
            if after != oracle.end and replica.voter not in self.unreadable:
                raise Violation("committed-agrees", f"in the end {replica.voter} holds {after}, not {oracle.end}")
            self._check_keys(replica, items)

    def note_compacting(self, partition: PartitionId, end_offset: int) -> None:
        """A replica is about to compact its log so far."""
        self.compacted_to[partition] = max(self.compacted_to[partition], end_offset)

    def note_compacted(self, replica: Replica, cleaned_to: int) -> None:
        """What a replica's log lost by compaction is lost, whatever becomes of its process."""
        if replica.is_resetting:
            return  # it is about to copy another log, and knows by then how far that one is cleaned
        key = (replica.partition, replica.voter)
        self._cleaned_to[key] = max(self._cleaned_to.get(key, 0), min(cleaned_to, replica.compacted_to[1]))

    def _check_keys(self, replica: Replica, items: Sequence[Item]) -> None:
        """What a replica's log says of each key, once it is past all that some replica has compacted."""
        committed = replica.committed.offset
        if committed < self.compacted_to[replica.partition] or replica.voter in self.unreadable:
            return
        below = [item for item in items if item.point <= replica.committed]
        records = self.committed[replica.partition].records[:committed]
        why = what_is_missing(records, below, replica.log.base.offset)
        if why is not None:
            raise Violation("newest-kept", f"{replica.voter} of {replica.partition.number} at {committed}: {why}")


@contextmanager
def looked_at(replica: Replica) -> Iterator[None]:
    """What a log mends while the oracle reads it is no moment for the broker to crash, nor for its disk to fail."""
    environment: Any = replica._environment  # of the simulation of replicas, or of that of whole brokers
    disk = environment.disk._disk
    planned, environment.crash_at_operation = environment.crash_at_operation, None
    chance, disk.read_failure_chance = disk.read_failure_chance, 0.0
    try:
        yield
    finally:
        disk.read_failure_chance = chance
        if planned is not None:
            environment.crash_at_operation = max(planned, environment.disk_operations + 1)


def all_items(replica: Replica) -> list[Item]:
    """What it holds, up to a hole if there is one."""
    items: list[Item] = []
    after = replica.log.base
    while after < replica.log.end:
        try:
            with looked_at(replica):
                found = replica.log.read_items(after, replica.log.end, 1 << 30)
        except DamagedLog:
            break
        if not found:
            # A mended file has the name of one of its segments already, and the log is about to be read anew.
            assert replica.log.hole is not None, f"{replica.log.directory} gives nothing after {after}"
            break
        items += found
        after = found[-1].point
    return items
