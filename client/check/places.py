"""What stands where in each partition, by the word of acknowledgements and of readers.

Rows: inconsistent-offsets, duplicate, dedup-window, garbage-read, aborted-read, epoch-regress, epoch-fork, lost-write,
unseen, start-past-end.

Always
    what was read counts, whoever read it and however that reading ended: readers always get what is committed
    of what was acknowledged only what nobody has read yet is held apart; at the end that is what may be lost
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from .frontier import Frontier
from .history import BadHistory, Event, History, ReadAll, Send
from .rows import Row, Rows
from .sends import FAILED, OK, OPEN, SendOrder, Sends, facts, partition_name, topic_of, who


@dataclass(slots=True)
class Span:
    """Offsets over which a reader went, from the first through the one before `end`."""

    start: int
    end: int


@dataclass(slots=True)
class Final:
    """The newest final read of a partition that ended."""

    began_seq: int
    start: int
    end: int
    event: ReadAll


@dataclass(slots=True)
class Log:
    """One partition, as far as the history tells."""

    name: str
    topic: str
    compacted: bool
    trimmed: bool
    read: dict[int, str] = field(default_factory=dict)
    where: dict[str, int] = field(default_factory=dict)
    terms: dict[int, int] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)
    """Acknowledged, and handed out to nobody yet."""
    contested: list[tuple[int, str]] = field(default_factory=list)
    """Acknowledged at an offset at which another value stands."""
    unplaced: dict[str, None] = field(default_factory=dict)
    """Acknowledged without an offset, in their order."""
    late: list[tuple[int, int, int]] = field(default_factory=list)
    """Of those, once read: when they were acknowledged, where they stand, whose they are."""
    acked: Frontier = field(default_factory=Frontier)
    seen: Frontier = field(default_factory=Frontier)
    stored: Frontier = field(default_factory=Frontier)
    """By members of groups: the offset to go on from."""
    highest_read: int = -1
    highest_start: int | None = None
    """The highest log start that anybody was told; None: nobody was told any."""
    spans: list[Span] = field(default_factory=list)
    final: Final | None = None
    finals_open: int = 0
    unjudged: int = 0
    """Acknowledged after the final read had begun, and not in it."""

    def start_for(self, start: int) -> int:
        """Below which offset nothing is missed: a log that is not trimmed begins where it began."""
        return start if self.trimmed else 0


class Places:
    """All partitions of a history so far."""

    def __init__(self, history: History, sends: Sends, order: SendOrder, rows: Rows) -> None:
        self._history, self._sends, self._order, self._rows = history, sends, order, rows
        self.logs: dict[str, Log] = {}
        self._strange = Row("garbage-read")
        self.lag_s_worst, self.lag_of = 0.0, ""
        self.beyond: dict[str, str] = {}
        """Of partitions that begin behind all that is known of them: what to say of it."""
        if not history.idempotent:
            rows["duplicate"].fails = rows["dedup-window"].fails = False

    def log(self, name: str) -> Log:
        log = self.logs.get(name)
        if log is None:
            topic = topic_of(name)
            log = Log(name, topic, topic in self._history.compacted, topic in self._history.trimmed)
            self.logs[name] = log
        return log

    # What senders were told

    def sending(self, event: Send, begun: Event) -> None:
        self._sends.begin(event)

    def sent(self, event: Send, begun: Send) -> None:
        number = self._sends.end(event, begun)
        if event.type != "ok" or begun.acks != "quorum":
            return
        assert event.partition is not None and begun.topic is not None and begun.values is not None
        offsets = event.offsets or []
        if len(offsets) != len(begun.values):
            raise BadHistory(
                self._history.paths[event.file],
                None,
                f"{self._sends.who(number)} was of {len(begun.values)} values, and was told {len(offsets)} offsets",
                "an ok has an offset for each value, null where it is unknown",
            )
        name = partition_name(begun.topic, event.partition)
        asked = self._sends.partition[number]
        self._sends.partition[number] = name
        log = self.log(name)
        if asked is not None and asked != name:
            self._rows["garbage-read"].add(
                log.topic,
                f"{self._sends.who(number)} was sent to {asked} and acknowledged in {name}",
                partition=name,
                **self._sends.facts(number),
            )
        self._order.acknowledged(number, event, begun, name)
        lowest = highest = -1
        self._rows["inconsistent-offsets"].judged += len(begun.values)
        for value, offset in zip(begun.values, offsets, strict=True):
            if offset is None or offset < 0:
                if value not in log.where:
                    log.unplaced[value] = None
                continue
            lowest = offset if lowest < 0 else min(lowest, offset)
            highest = max(highest, offset)
            if log.read.get(offset) == value:
                self._term(log, offset, value, event)
                continue
            if offset in log.read or log.unread.setdefault(offset, value) != value:
                log.contested.append((offset, value))
            else:
                self._term(log, offset, value, event)
        if lowest >= 0:
            self._order.placed(number, name, lowest, log.acked, log.seen)
            log.acked.rise(event.seq, highest, number)

    # What readers were told

    def place(self, log: Log, offset: int, value: str, term: int | None, event: Event) -> None:
        """Somebody was handed `value` at `offset`."""
        known = log.read.get(offset)
        if known is None:
            if log.unread.get(offset, value) != value:
                log.terms.pop(offset, None)  # of an acknowledgement; what was read counts
            self._first(log, offset, value, event)
        if known is not None and known != value:
            self._two_values(log, offset, known, value, term, event)
        elif term is not None:
            self._term(log, offset, value, event, term)
        if offset > log.highest_read:
            log.highest_read = offset
            log.seen.rise(event.seq, offset, event.op)

    def _term(self, log: Log, offset: int, value: str, event: Event, term: int | None = None) -> None:
        """`value` is of `term` by the word of `event`: a reading, or the acknowledgement of its send."""
        told = event.term if isinstance(event, Send) else term
        if told is None:
            return
        known = log.terms.setdefault(offset, told)
        self._rows["epoch-regress"].judged += 1
        if known != told:
            self._rows["epoch-fork"].add(
                log.topic,
                f"{log.name}, offset {offset}: {value!r} is of term {known}, and of term {told} to "
                f"{who(self._history, event)}",
                partition=log.name,
                offset=offset,
                values=[value],
                terms=[known, told],
                **facts(self._history, event),
            )

    def _two_values(self, log: Log, offset: int, known: str, value: str, term: int | None, event: Event) -> None:
        one_term = term is not None and log.terms.get(offset) == term
        self._rows["epoch-fork" if one_term else "inconsistent-offsets"].add(
            log.topic,
            f"{log.name}, offset {offset}{f', term {term}' if one_term else ''}: {known!r} to somebody, and {value!r} "
            f"to {who(self._history, event)}",
            partition=log.name,
            offset=offset,
            values=[known, value],
            **facts(self._history, event),
        )
        log.where.setdefault(value, offset)

    def _first(self, log: Log, offset: int, value: str, event: Event) -> None:
        log.read[offset] = value
        rows = self._rows
        rows["inconsistent-offsets"].judged += 1
        before = log.where.setdefault(value, offset)
        if before != offset:
            rows["duplicate"].add(
                log.topic,
                f"{log.name}: {value!r} stands at {before} and at {offset}; read by {who(self._history, event)}",
                partition=log.name,
                offsets=[before, offset],
                values=[value],
                **facts(self._history, event),
            )
            return
        if log.unread.get(offset) == value:
            del log.unread[offset]
        number = self._sends.of_value.get(value)
        if number is None:
            self._garbage(self._strange, log, offset, value, event, "which nobody had sent")
            return
        sent_to = self._sends.partition[number]
        if sent_to is None and self._sends.topic[number] == log.topic:
            self._sends.partition[number] = sent_to = log.name
        if sent_to != log.name:
            other = self.logs.get(sent_to or "")
            if other is not None and value in other.where:
                rows["duplicate"].add(
                    log.topic,
                    f"{value!r} stands in {sent_to} at {other.where[value]} and in {log.name} at {offset}; read by "
                    f"{who(self._history, event)}",
                    partition=log.name,
                    offsets=[other.where[value], offset],
                    values=[value],
                    **facts(self._history, event),
                )
            else:
                where = sent_to or f"topic {self._sends.topic[number]}"
                self._garbage(
                    rows["garbage-read"], log, offset, value, event, f"which {self._sends.who(number)} sent to {where}"
                )
            return
        rows["garbage-read"].judged += 1
        status = self._sends.status[number]
        if status == OK:
            lag_s = event.t - self._sends.ended_t[number]
            if lag_s > self.lag_s_worst and not isinstance(event, ReadAll):
                self.lag_s_worst = lag_s
                self.lag_of = f"{value!r} at {offset} of {log.name}, read by {who(self._history, event)}"
            if value in log.unplaced:  # the acknowledgement did not say where: now it is known
                self._order.found(number, log.name, offset, log.acked, log.seen)
                log.late.append((self._sends.ended_seq[number], offset, number))
        elif status == OPEN:
            self._order.placed(number, log.name, offset, log.acked, log.seen)

    def _garbage(self, row: Row, log: Log, offset: int, value: str, event: Event, why: str) -> None:
        row.add(
            log.topic,
            f"{log.name}, offset {offset}: {who(self._history, event)} read {value!r}, {why}",
            partition=log.name,
            offset=offset,
            values=[value],
            **facts(self._history, event),
        )

    # The end

    def value_at(self, name: str, offset: int) -> str | None:
        log = self.log(name)
        return log.read.get(offset) or log.unread.get(offset)

    def finish(self) -> None:
        """Tell what only the whole history shows."""
        self._rows["duplicate"].judged = sum(len(log.where) for log in self.logs.values())
        self._tell_aborted()
        self._tell_halves()
        self._tell_starts()
        for log in self.logs.values():
            self._order_late(log)
        for log in self.logs.values():
            self._tell_terms(log)
            left = self._tell_other_places(log)
            if log.compacted:  # what is missing inside may have been taken; the end of a log stays where it was
                end = self._end_of_final(log)
                left = [one for one in left if one[0] is not None and one[0] >= end]
            self._tell_missing(log, left)
        # Where nobody recorded sends, that nobody had sent what stands there says nothing.
        for topic in sorted(self._sends.topics):
            self._rows["garbage-read"].take(self._strange, topic)

    def _order_late(self, log: Log) -> None:
        """What was sent after an acknowledgement that named no offset stands behind what it acknowledged, too."""
        acked = Frontier()
        for ended, offset, number in sorted(log.late):
            acked.rise(ended, offset, number)
        if acked.highest is None:
            return
        for value, offset in [*log.where.items(), *((value, offset) for offset, value in log.unread.items())]:
            sender = self._sends.of_value.get(value)
            if sender is not None and self._sends.partition[sender] == log.name:
                self._order.placed(sender, log.name, offset, acked, Frontier())
        row = self._rows["int-nonmonotonic-send"]
        found = [(self._sends.of_value[value], log.where[value]) for value in log.unplaced if value in log.where]
        for (one, before), (number, offset) in pairwise(found):
            if one != number:
                continue
            row.judged += 1
            if offset < before:
                row.add(
                    log.topic,
                    f"{log.name}: of the values of {self._sends.who(number)} a later one stands at {offset}, before "
                    f"{before}",
                    partition=log.name,
                    offsets=[before, offset],
                    **self._sends.facts(number),
                )

    def _tell_aborted(self) -> None:
        row = self._rows["aborted-read"]
        row.judged = len(self._sends.failed_values)
        for value in self._sends.failed_values:
            number = self._sends.of_value[value]
            log = self.logs.get(self._sends.partition[number] or "")  # None: nobody found it anywhere
            if log is not None and value in log.where:
                row.add(
                    log.topic,
                    f"{log.name}, offset {log.where[value]}: {value!r} was read, and its send had surely failed: "
                    + self._sends.who(number),
                    partition=log.name,
                    offset=log.where[value],
                    values=[value],
                    **self._sends.facts(number),
                )

    def _tell_halves(self) -> None:
        """What was sent as one stands together, or nowhere, also if nobody was told what became of it."""
        if not self._history.idempotent:
            return  # each try may have been appended
        for number, values in self._sends.unanswered.items():
            log = self.logs.get(self._sends.partition[number] or "")
            if log is None:
                continue
            found = {index: log.where[value] for index, value in enumerate(values) if value in log.where}
            if found:
                self._order.unanswered(number, log.name, found, self._strays(log, len(values), found))

    def _strays(self, log: Log, count: int, found: dict[int, int]) -> str:
        """Where some of a send of `count` values is `found`: why the rest of it cannot be there; empty if it can."""
        index, offset = next(iter(found.items()))
        base, end = offset - index, self._end_of_final(log)
        for at in (base + index for index in range(count) if index not in found):
            if at < 0:
                return "the log has no room for those before"
            if (other := log.read.get(at)) is not None:
                return f"at {at} stands {other!r}"
            if log.final is not None and offset < end <= at:
                return f"the final read ends at {end}"
        return ""

    def _tell_starts(self) -> None:
        """A log that begins behind all that is known of it: nothing of it is missed, so it must be one that can be."""
        starts: dict[str, tuple[int, int]] = {}
        for log in self.logs.values():
            known = max(-1 if log.acked.highest is None else log.acked.highest, log.highest_read) + 1
            if log.highest_start is not None and log.highest_start > known and log.topic in self._sends.topics:
                starts[log.name] = log.highest_start, known
        if not starts:
            return
        open_in: Counter[str] = Counter()  # by partition, or by topic if nobody knows the partition
        for value, number in self._sends.of_value.items():
            name = self._sends.partition[number]
            is_read = name is not None and name in self.logs and value in self.logs[name].where
            is_placed = self._sends.status[number] == OK and not (name in starts and value in self.logs[name].unplaced)
            if not is_read and not is_placed and self._sends.status[number] != FAILED:
                open_in[name or self._sends.topic[number]] += 1
        for name, (start, known) in starts.items():
            log = self.logs[name]
            most = known + open_in[name] + open_in[log.topic]
            all_is_known = self._history.idempotent and log.acked.highest is not None
            if start > most and all_is_known and log.topic not in self._strange.found:
                self._rows["start-past-end"].add(
                    log.topic,
                    f"{name}: begins at {start}, and its records cannot go beyond {most}: {known} are known, and "
                    f"{most - known} more may be there",
                    partition=name,
                    start=start,
                    known_end=known,
                    end_max=most,
                )
            else:
                self.beyond[name] = f"{name} begins at {start}, and the records known of it end at {known}"

    def _tell_terms(self, log: Log) -> None:
        """Along offsets terms never fall, so each has a range of its own."""
        ranges: dict[int, list[int]] = {}
        for offset, term in log.terms.items():
            found = ranges.get(term)
            if found is None:
                ranges[term] = [offset, offset]
            elif offset < found[0]:
                found[0] = offset
            elif offset > found[1]:
                found[1] = offset
        self._rows["epoch-fork"].judged += len(log.terms)
        ordered = sorted(ranges.items())
        for (term, (_, last)), (later, (first, _)) in pairwise(ordered):
            if first < last:
                self._rows["epoch-regress"].add(
                    log.topic,
                    f"{log.name}: offset {first} ({self.value_at(log.name, first)!r}) is of term {later}, and offset "
                    f"{last} ({self.value_at(log.name, last)!r}), behind it, of term {term}",
                    partition=log.name,
                    offsets=[first, last],
                    terms=[later, term],
                )

    def _tell_other_places(self, log: Log) -> list[tuple[int | None, str]]:
        """Of what was acknowledged, and not read at its place: what was read elsewhere. Returns the rest."""
        left: list[tuple[int | None, str]] = []
        self._rows["dedup-window"].judged += len(log.where)
        for offset, value in [*log.unread.items(), *log.contested]:
            elsewhere = log.where.get(value)
            number = self._sends.of_value[value]
            if elsewhere is not None and elsewhere != offset:
                self._rows["dedup-window"].add(
                    log.topic,
                    f"{log.name}: {value!r} of {self._sends.who(number)} was acknowledged at {offset}, and stands at "
                    f"{elsewhere}",
                    partition=log.name,
                    offsets=[offset, elsewhere],
                    values=[value],
                    **self._sends.facts(number),
                )
                continue
            if elsewhere is None:
                left.append((offset, value))
            other = log.read.get(offset) or log.unread.get(offset)
            if other is not None and other != value and log.where.get(other, offset) == offset:
                self._rows["inconsistent-offsets"].add(
                    log.topic,
                    f"{log.name}, offset {offset}: {other!r}, and {value!r} by the acknowledgement of "
                    + self._sends.who(number),
                    partition=log.name,
                    offset=offset,
                    values=[other, value],
                    **self._sends.facts(number),
                )
        left += [(None, value) for value in log.unplaced if value not in log.where]
        return left

    def _end_of_final(self, log: Log) -> int:
        """Behind all that the final read of `log` found, or told of."""
        if log.final is None:
            return 0
        values = log.final.event.values or []
        return max([log.final.end, *(offset + 1 for offset, _ in values)])

    def _tell_missing(self, log: Log, left: list[tuple[int | None, str]]) -> None:
        """Of what was acknowledged and read by nobody: what a reader went past, and what lies behind the final read."""
        starts, ends = _merged(log.spans)
        began = log.final.began_seq if log.final is not None else -1
        self._rows["lost-write"].judged += len(log.where) if log.spans and not log.compacted else 0
        if log.final is not None or log.finals_open:
            self._rows["unseen"].judged += len(log.where) + len(left)
        for offset, value in left:
            number = self._sends.of_value[value]
            if log.trimmed and (offset is None or (log.highest_start is not None and offset < log.highest_start)):
                continue
            covering = -1 if offset is None or log.compacted else bisect_right(starts, offset) - 1
            if offset is not None and covering >= 0 and offset < ends[covering]:
                row, why = "lost-write", "readers went past it, and nobody got it"
            elif log.final is not None and self._sends.ended_seq[number] < began:
                row, why = "unseen", f"the final read found the end at {log.final.end} and did not have it"
            elif log.final is None and log.finals_open:
                row, why = "unseen", "the final read never ended"
            else:
                log.unjudged += log.final is not None
                continue
            self._rows[row].add(
                log.topic,
                f"{log.name}, offset {'unknown' if offset is None else offset}: {value!r} of {self._sends.who(number)} "
                f"was acknowledged; {why}",
                partition=log.name,
                offset=offset,
                values=[value],
                **self._sends.facts(number),
            )


def _merged(spans: list[Span]) -> tuple[list[int], list[int]]:
    """Starts and ends of the same offsets in as few spans as possible, in order."""
    starts: list[int] = []
    ends: list[int] = []
    for span in sorted(spans, key=lambda one: (one.start, one.end)):
        if ends and span.start <= ends[-1]:
            ends[-1] = max(ends[-1], span.end)
        else:
            starts.append(span.start)
            ends.append(span.end)
    return starts, ends
