"""How readers went through the partitions: polls, positions, and the final read.

Rows: poll-skip, nonmonotonic-poll, int-poll-skip, int-nonmonotonic-poll, vanished-read, log-hole.

Always
    a position is held only while it is certain where the next poll goes on: across a rebalance, a poll of which nobody
    knows how it ended, or two polls at once, it is not
    offsets have no holes, so the record after one is at the next offset; but where compaction works, and at a log start
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from .history import Assign, Event, History, Own, Poll, Polled, ReadAll, Seek, Subscribe
from .places import Final, Log, Places, Span
from .rows import Row, Rows
from .sends import facts, who


@dataclass(slots=True)
class _Reader:
    """A process that polls."""

    spans: dict[str, Span] = field(default_factory=dict)
    """By partition: over what it went since its position was last set. The end is where the next poll goes on."""
    polls_open: int = 0
    unsure: bool = False
    """Something happened during the poll that is open, which may have moved positions."""
    grouped: bool = False
    told_of_rebalances: bool = True
    """Of a member of a group that never told what it owns nothing is certain."""
    file: int = -1


class Reads:
    """All readers of a history so far."""

    def __init__(self, history: History, places: Places, rows: Rows) -> None:
        self._history, self._places, self._rows = history, places, rows
        self._readers: dict[str, _Reader] = {}
        self._perhaps_trimmed: list[tuple[Log, Row, int, Polled, Poll]] = []
        """Jumps where the log start moves: who was told of it may have been told only later."""
        self.started: dict[str, int] = {}
        """When each reader's positions were last set anew."""

    # Where readers are put

    def _reader(self, event: Event) -> _Reader:
        """Whoever polls under this name. In another file it is another one: the one before ended without a word."""
        reader = self._readers.get(event.process)
        if reader is None or reader.file != event.file:
            reader = self._readers[event.process] = _Reader(file=event.file)
        return reader

    def assigned(self, event: Assign | Seek, begun: Event) -> None:
        reader = self._reader(event)
        if event.type != "ok":
            if event.type == "info":
                self._forget(event)
            return
        if isinstance(event, Assign):
            self._forget(event)
            reader.grouped, reader.told_of_rebalances = False, True
        for name, position in (event.positions or {}).items():
            reader.spans.pop(name, None)
            if position is not None:
                self._begin(reader, name, position)
        reader.unsure = reader.polls_open > 0
        self.started[event.process] = event.seq

    def owns(self, event: Own, begun: Event) -> None:
        self._forget(event)
        reader = self._reader(event)
        reader.grouped = reader.told_of_rebalances = True
        self.started[event.process] = event.seq

    def restarted(self, event: Event, begun: Event) -> None:
        """A crash, or a subscription."""
        self._forget(event)
        reader = self._reader(event)
        if event.type == "ok":
            reader.polls_open = 0
        if isinstance(event, Subscribe):
            reader.grouped, reader.told_of_rebalances = True, False
        self.started[event.process] = event.seq

    def _forget(self, event: Event) -> None:
        reader = self._reader(event)
        reader.spans.clear()
        reader.unsure = reader.polls_open > 0

    def _begin(self, reader: _Reader, name: str, position: int) -> Span:
        span = Span(position, position)
        reader.spans[name] = span
        self._places.log(name).spans.append(span)
        return span

    # Polls

    def polling(self, event: Poll, begun: Event) -> None:
        reader = self._reader(event)
        reader.polls_open += 1
        if reader.polls_open > 1:
            reader.unsure = True

    def polled(self, event: Poll, begun: Event) -> None:
        reader = self._reader(event)
        reader.polls_open = max(0, reader.polls_open - 1)
        if event.type == "ok":
            self._go_on(reader, event)
        elif event.type == "info":
            reader.spans.clear()
        if reader.polls_open == 0:
            reader.unsure = False

    def _go_on(self, reader: _Reader, event: Poll) -> None:
        seen: set[str] = set()  # partitions of which this poll has handed out something
        name, log, span, within = "", None, None, False
        place, spans = self._places.place, reader.spans
        unsure = reader.unsure or not reader.told_of_rebalances
        if unsure:
            spans.clear()
        for record in event.records or ():
            offset = record.offset
            if record.partition != name:
                name = record.partition
                within = name in seen
                seen.add(name)
                log = self._places.log(name)
                span = spans.get(name) or self._begin(reader, name, offset)
            assert log is not None and span is not None
            if offset != span.end:
                if within and unsure:
                    span = self._begin(reader, name, offset)
                else:
                    span = self._jump(reader, log, span, record, event, within=within)
            span.end = offset + 1
            within = True
            place(log, offset, record.value, record.term, event)
        self._rows["poll-skip"].judged += not reader.grouped
        self._rows["nonmonotonic-poll"].judged += not reader.grouped
        if event.records:
            self._rows["int-poll-skip"].judged += 1
            self._rows["int-nonmonotonic-poll"].judged += 1
        if unsure:
            spans.clear()

    def _jump(self, reader: _Reader, log: Log, span: Span, record: Polled, event: Poll, *, within: bool) -> Span:
        """The next record does not stand right behind the last one."""
        back = record.offset < span.end
        name = ("int-" if within else "") + ("nonmonotonic-poll" if back else "poll-skip")
        if not back and log.trimmed:
            self._perhaps_trimmed.append((log, self._rows[name], span.end, record, event))
        elif back or not log.compacted:
            self._tell_jump(log, self._rows[name], span.end, record.offset, record.value, event)
        # Over what was trimmed nobody went; over what compaction took, everybody did.
        return self._begin(reader, log.name, record.offset) if back or log.trimmed else span

    # The final read

    def reading_all(self, event: ReadAll, begun: Event) -> None:
        if event.partition is not None:
            self._places.log(event.partition).finals_open += 1

    def read_all(self, event: ReadAll, begun: ReadAll) -> None:
        if event.type != "ok":
            return
        assert event.partition is not None and event.start is not None and event.end is not None
        log = self._places.log(event.partition)
        if begun.partition is not None:
            log.finals_open -= 1
        values = event.values or []
        before = log.seen.before(begun.seq)
        must_have = before.value + 1 if before is not None else 0
        first = log.start_for(event.start)
        gaps = _gaps([offset for offset, _ in values], first, max(event.end, must_have))
        self._rows["vanished-read"].judged += len(log.read)
        self._rows["int-nonmonotonic-poll"].judged += len(values) > 1
        for (earlier, _), (later, value) in pairwise(values):
            if later <= earlier:
                self._tell_jump(log, self._rows["int-nonmonotonic-poll"], earlier + 1, later, value, event)
        if log.compacted:  # in the middle anything may be missing; behind it, nothing
            behind = max([event.end, *(offset + 1 for offset, _ in values)])
            gaps = [(max(start, behind), end) for start, end in gaps if end > behind]
        else:
            self._rows["log-hole"].judged += 1
        for start, end in gaps:
            self._tell_gap(log, start, end, must_have, event)
        for offset, value in values:
            self._places.place(log, offset, value, None, event)
        log.spans.append(Span(first, event.end))
        log.final = Final(begun.seq, event.start, event.end, event)
        if log.highest_start is None or event.start > log.highest_start:
            log.highest_start = event.start

    def _tell_gap(self, log: Log, start: int, end: int, must_have: int, event: ReadAll) -> None:
        """Offsets from `start` to before `end` are not in a final read."""
        assert event.start is not None and event.end is not None
        known = log.read if end - start > len(log.read) else range(start, end)
        vanished = sorted(at for at in known if start <= at < end and at < must_have and at in log.read)
        for offset in vanished:
            self._rows["vanished-read"].add(
                log.topic,
                f"{log.name}, offset {offset}: {log.read[offset]!r} was read, and is not in the final read of "
                f"{who(self._history, event)}, from {event.start} to {event.end}",
                partition=log.name,
                offset=offset,
                values=[log.read[offset]],
                **facts(self._history, event),
            )
        acknowledged = log.unread if end - start > len(log.unread) else range(start, end)
        lost = sum(1 for at in acknowledged if start <= at < end and at in log.unread)
        inside = max(0, min(end, event.end) - max(start, event.start))
        if inside and not vanished and not lost:
            self._rows["log-hole"].add(
                log.topic,
                f"{log.name}: nothing stands at {start}{f' to {end - 1}' if end - start > 1 else ''}; "
                f"{who(self._history, event)} read from {event.start} to {event.end}",
                partition=log.name,
                offsets=[start, end - 1],
                **facts(self._history, event),
            )

    # The end

    def finish(self) -> None:
        """Tell of the jumps that no log start explains."""
        for log, row, expected, record, event in self._perhaps_trimmed:
            if log.highest_start is not None and record.offset > log.highest_start:
                self._tell_jump(log, row, expected, record.offset, record.value, event)

    def _tell_jump(self, log: Log, row: Row, expected: int, offset: int, value: str, event: Event) -> None:
        row.add(
            log.topic,
            f"{log.name}: {who(self._history, event)} got offset {offset} where {expected} was due",
            partition=log.name,
            offset=offset,
            due=expected,
            values=[value],
            **facts(self._history, event),
        )


def _gaps(offsets: list[int], first: int, end: int) -> list[tuple[int, int]]:
    """The spans of [first, end) that are not among `offsets`."""
    found = []
    for offset in sorted(offsets):
        if offset > first:
            found.append((first, min(offset, end)))
        first = max(first, offset + 1)
    if first < end:
        found.append((first, end))
    return found
