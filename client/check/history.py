"""A history: what applications asked of a log and were told, event by event; how such files are written and read.

A history file is UTF-8, one JSON object a line. The first is the header: `{"lograft_history": 1, "idempotent": true}`.
Further facts in it that the checker knows (all may be missing):

    idempotent     a producer's retries never append twice (the default of lograft's producer)
    atomic_sends   the values of one send went as one batch, which is appended whole
    compacted      names of topics out of which compaction may take records
    trimmed        names of topics whose log start may move: retention, trim
    brokers        how many there are; then kills and pauses of less than half of them excuse no silence

Then one event a line: `{"t": 12.5, "process": "p-1", "op": 17, "f": "send", "type": "invoke", ...}`.

    t        seconds by ONE monotonic clock, never falling within a file
    process  who asks; it does one thing after the other, but for sends, of which several may be open
    op       a number that pairs an invoke with its end, unique in the file
    type     `invoke`; then `ok`, or `fail`: it surely did not happen and never will, or `info`: nobody knows (time-out,
             lost connection, not the leader any more). An invoke without an end counts as `info`.

A partition is written "topic/3"; a value is a short string that is sent once.

    f             invoke                                  ok
    send          topic, partition (number or null),      partition, offsets: [..] (null where unknown),
                  values: [..], producer (name of the     term if known
                  idempotent instance; its sends are
                  ordered), acks (only "quorum", the
                  default, promises anything)
    assign, seek  positions: {"t/0": offset}              the same: polls of this process go on from there
    subscribe     group, topics, member, reset            -
                  ("earliest": the group began at the
                  log start)
    own           -                                       group, member, generation, partitions: [..]: from now
                                                          on it has just these (none: [])
    poll          -                                       records: [["t/0", offset, value, term or null], ...]
                                                          in the order in which they were handed out
    store         group, member (null: a seek of the      -
                  group), generation,
                  offsets: {"t/0": next}
    fetch_stored  group                                   offsets: {"t/0": next, null if none is stored}
    process       -                                       group, records: [["t/0", offset], ...]: the group's
                                                          work on them is done (before it stores them)
    ends          -                                       ends: {"t/0": [start, end]} by the leader's word
    read_all      partition                               partition, start, end, values: [[offset, value], ...]
                                                          after all faults ended
    replica       partition, broker                       partition, broker, start, committed,
                                                          sums: [[offset, crc], ...]
    create_topic  topic, topic_id if known                topic_id
    delete_topic  topic                                   -
    list_topics   -                                       topics: {name: id}
    crash         -                                       the process ended and knows nothing more
    fault         -                                       what, on (a broker, or several), begins: true or false

`own`, `process`, `crash` and `fault` are only ever `ok`, without an invoke. `generation` is one number, or one for each
partition: {"t/0": 7}. Fields that are not named here are for people, and passed over (such as `error`).

Always
    the Recorder never reorders, and has flushed a line before it returns: a killed process leaves what it saw
    events of several files are told in the order of their times; at equal times beginnings come before endings, so
    that no order is claimed which nobody saw
"""

from __future__ import annotations

import heapq
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Literal

import msgspec

VERSION = 1
"""Of the format; in the header."""


class BadHistory(Exception):
    """A file that cannot be judged: which, where, why, and what to do about it."""

    def __init__(self, path: str, line: int | None, why: str, remedy: str) -> None:
        super().__init__(f"{path}{f', line {line}' if line else ''}: {why}; {remedy}")
        self.path, self.line, self.why, self.remedy = path, line, why, remedy


Number = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
"""What offsets, terms, generations and numbers of ops may be."""


class Header(msgspec.Struct, kw_only=True):
    """The first line of a file: facts of the whole history."""

    lograft_history: int
    idempotent: bool = True
    atomic_sends: bool = False
    compacted: list[str] = []
    trimmed: list[str] = []
    brokers: int | None = None


class Event(msgspec.Struct, kw_only=True, tag_field="f"):
    """One line. A class for each `f` adds its fields, those of the invoke and those of the ok."""

    t: float
    process: str
    type: Literal["invoke", "ok", "fail", "info"]
    op: Number = -1
    # Set by whoever reads; named so that no file sets them.
    seq: int = msgspec.field(name=" seq", default=0)  # place of the event in the merged history
    file: int = msgspec.field(name=" file", default=0)


class Polled(msgspec.Struct, array_like=True, gc=False):
    """A record as a poll handed it out."""

    partition: str
    offset: Number
    value: str
    term: Number | None = None


class Send(Event, tag="send", kw_only=True):
    topic: str | None = None
    partition: Number | str | None = None
    producer: str | None = None
    acks: str = "quorum"
    values: list[str] | None = None
    offsets: list[Number | None] | None = None
    term: Number | None = None


class Assign(Event, tag="assign", kw_only=True):
    positions: dict[str, Number | None] | None = None


class Seek(Event, tag="seek", kw_only=True):
    positions: dict[str, Number | None] | None = None


class Subscribe(Event, tag="subscribe", kw_only=True):
    group: str | None = None
    topics: list[str] = []
    member: str | None = None
    reset: str | None = None


class Own(Event, tag="own", kw_only=True):
    group: str | None = None
    member: str | None = None
    generation: Number | dict[str, Number] | None = None
    partitions: list[str] | None = None


class Poll(Event, tag="poll", kw_only=True):
    records: list[Polled] | None = None


class Store(Event, tag="store", kw_only=True):
    group: str | None = None
    member: str | None = None
    generation: Number | dict[str, Number] | None = None
    offsets: dict[str, Number] | None = None


class FetchStored(Event, tag="fetch_stored", kw_only=True):
    group: str | None = None
    offsets: dict[str, Number | None] | None = None


class Process(Event, tag="process", kw_only=True):
    group: str | None = None
    records: list[tuple[str, Number]] | None = None


class Ends(Event, tag="ends", kw_only=True):
    ends: dict[str, tuple[Number, Number]] | None = None


class ReadAll(Event, tag="read_all", kw_only=True):
    partition: str | None = None
    start: Number | None = None
    end: Number | None = None
    values: list[tuple[Number, str]] | None = None


class Replica(Event, tag="replica", kw_only=True):
    partition: str | None = None
    broker: Number | str | None = None
    start: Number | None = None
    committed: Number | None = None
    sums: list[tuple[Number, Number | str]] | None = None


class CreateTopic(Event, tag="create_topic", kw_only=True):
    topic: str | None = None
    topic_id: str | None = None


class DeleteTopic(Event, tag="delete_topic", kw_only=True):
    topic: str | None = None


class ListTopics(Event, tag="list_topics", kw_only=True):
    topics: dict[str, str] | None = None


class Crash(Event, tag="crash", kw_only=True):
    pass


class Fault(Event, tag="fault", kw_only=True):
    what: str | None = None
    on: str | Number | list[str | Number] | None = None
    begins: bool | None = None


KINDS: dict[str, type[Event]] = {
    "send": Send,
    "assign": Assign,
    "seek": Seek,
    "subscribe": Subscribe,
    "own": Own,
    "poll": Poll,
    "store": Store,
    "fetch_stored": FetchStored,
    "process": Process,
    "ends": Ends,
    "read_all": ReadAll,
    "replica": Replica,
    "create_topic": CreateTopic,
    "delete_topic": DeleteTopic,
    "list_topics": ListTopics,
    "crash": Crash,
    "fault": Fault,
}

NOTES = frozenset({"own", "process", "crash", "fault"})
"""What is only ever `ok`, without an invoke."""

_NEEDED: dict[tuple[type[Event], str], tuple[str, ...]] = {
    (Send, "invoke"): ("topic", "values"),
    (Send, "ok"): ("partition", "offsets"),
    (Assign, "ok"): ("positions",),
    (Seek, "ok"): ("positions",),
    (Own, "ok"): ("group", "member", "partitions"),
    (Poll, "ok"): ("records",),
    (Store, "invoke"): ("group", "offsets"),
    (FetchStored, "invoke"): ("group",),
    (FetchStored, "ok"): ("offsets",),
    (Process, "ok"): ("group", "records"),
    (Ends, "ok"): ("ends",),
    (ReadAll, "ok"): ("partition", "start", "end", "values"),
    (Replica, "ok"): ("partition", "broker", "start", "committed", "sums"),
    (CreateTopic, "invoke"): ("topic",),
    (DeleteTopic, "invoke"): ("topic",),
    (ListTopics, "ok"): ("topics",),
    (Fault, "ok"): ("what", "begins"),
}
"""Without these fields an event says nothing."""


class Recorder:
    """Writes a history. One for each process of the operating system; threads may share it.

    `file` is open for text and stays the caller's to close; `now` is the clock, `time.monotonic` outside simulations.
    The header is written at once, with `facts` (see the top of this module).
    """

    def __init__(self, file: IO[str], now: Callable[[], float], *, idempotent: bool = True, **facts: object) -> None:
        self._file, self._now = file, now
        self._lock = threading.Lock()  # a time is taken and its line written in one step, or times would fall
        self._next_op = 0
        self._open: dict[int, tuple[str, str]] = {}
        with self._lock:
            self._write({"lograft_history": VERSION, "idempotent": idempotent, **facts})

    def invoke(self, process: str, f: str, **facts: object) -> int:
        """`process` begins something. Returns the op that its end is to name."""
        assert f in KINDS and f not in NOTES, f"{f!r} has no beginning in a history; it may be {', '.join(KINDS)}"
        with self._lock:
            op = self._next_op
            self._next_op += 1
            self._open[op] = (process, f)
            self._event(process, op, f, "invoke", facts)
        return op

    def ok(self, op: int, **facts: object) -> None:
        """It happened, and this was the answer."""
        self._end(op, "ok", facts)

    def fail(self, op: int, **facts: object) -> None:
        """It surely did not happen, and never will. If in doubt: `info`."""
        self._end(op, "fail", facts)

    def info(self, op: int, **facts: object) -> None:
        """Nobody knows whether it happened, or still will."""
        self._end(op, "info", facts)

    def note(self, process: str, f: str, **facts: object) -> int:
        """Something that has no beginning and no doubt: own, process, crash, fault."""
        assert f in NOTES, f"{f!r} has a beginning: invoke(), then ok(), fail() or info()"
        with self._lock:
            op = self._next_op
            self._next_op += 1
            self._event(process, op, f, "ok", facts)
        return op

    def _end(self, op: int, kind: str, facts: dict[str, object]) -> None:
        with self._lock:
            assert op in self._open, f"op {op} is not open: it never began, or has ended"
            process, f = self._open.pop(op)
            self._event(process, op, f, kind, facts)

    def _event(self, process: str, op: int, f: str, kind: str, facts: dict[str, object]) -> None:
        self._write({"t": self._now(), "process": process, "op": op, "f": f, "type": kind, **facts})

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._file.flush()


class History:
    """One or several files, read from beginning to end as often as asked; of no file is more held than a line.

    Raises
        BadHistory   a line that says nothing, times that fall, no header, headers that contradict each other
    """

    def __init__(self, paths: Iterable[Path | str]) -> None:
        self.paths = [str(path) for path in paths]
        assert self.paths, "a history has at least one file"
        self.notes: list[str] = []
        """What was tolerated while reading; complete once events() is exhausted."""
        self._left_out: list[str] = []
        headers = {path: header for path in self.paths if (header := self._header(path)) is not None}
        if not headers:
            raise BadHistory(self.paths[0], None, "is empty", _REMEDY_HEADER)
        self.paths = list(headers)
        first = headers[self.paths[0]]
        for path, header in headers.items():
            if (header.idempotent, header.atomic_sends) != (first.idempotent, first.atomic_sends):
                raise BadHistory(
                    path,
                    1,
                    f"its producers are said to differ from those of {self.paths[0]} (idempotent, atomic_sends)",
                    "check histories of unlike producers one by one",
                )
        self.idempotent, self.atomic_sends = first.idempotent, first.atomic_sends
        self.compacted = {topic for header in headers.values() for topic in header.compacted}
        self.trimmed = {topic for header in headers.values() for topic in header.trimmed}
        self.brokers = next((one.brokers for one in headers.values() if one.brokers is not None), None)

    def events(self) -> Iterator[Event]:
        """All events in the order of their times, numbered by `seq`."""
        self.notes[:] = self._left_out
        files = [self._events_of(number, path) for number, path in enumerate(self.paths)]
        merged = files[0] if len(files) == 1 else heapq.merge(*files, key=_order)
        for seq, event in enumerate(merged):
            event.seq = seq
            yield event

    def label(self, file: int, op: int) -> str:
        """How people are told of an op: by its number, and its file if there are several."""
        return f"op {op}" if len(self.paths) == 1 else f"op {op} of {Path(self.paths[file]).name}"

    def _header(self, path: str) -> Header | None:
        """None: whoever was to write the file was killed before it had written a line."""
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):  # what is read once would be judged without its beginning
            raise BadHistory(
                path, None, "is no file but a pipe or a device, and is read twice", "write it to a file first"
            )
        with open(path, "rb") as file:
            line = file.readline()
        if not line.strip():
            self._left_out.append(f"{path}: is empty and is left out")
            return None
        try:
            header = msgspec.json.decode(line, type=Header)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadHistory(path, 1, f"is no header of a history ({_words(error)})", _REMEDY_HEADER) from None
        if header.lograft_history != VERSION:
            raise BadHistory(
                path,
                1,
                f"is of format {header.lograft_history}, and {VERSION} is the only one known here",
                "check it with the version of lograft that wrote it",
            )
        return header

    def _events_of(self, number: int, path: str) -> Iterator[Event]:
        last_t = float("-inf")
        open_ops: dict[int, type[Event]] = {}
        with open(path, "rb") as file:
            file.readline()
            for line_number, line in enumerate(file, 2):
                if not line.strip():
                    continue
                try:
                    event: Event = _DECODE(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    if not line.endswith(b"\n"):
                        self.notes.append(
                            f"{path}: its last line, {line_number}, was cut short "
                            "(was its process killed while writing?) and is left out"
                        )
                        return
                    raise BadHistory(path, line_number, f"is no event ({_words(error)})", _REMEDY) from None
                for field in _NEEDED.get((event.__class__, event.type), ()):
                    if getattr(event, field) is None:
                        raise BadHistory(
                            path, line_number, f"a {_name(event)} that is {event.type!r} needs `{field}`", _REMEDY
                        )
                if event.t < last_t:
                    raise BadHistory(
                        path,
                        line_number,
                        f"time falls here, from {last_t} to {event.t}",
                        "all processes of a history need one monotonic clock, and each file its lines in that order",
                    )
                last_t = event.t
                self._pair(event, open_ops, path, line_number)
                event.file = number
                yield event

    def _pair(self, event: Event, open_ops: dict[int, type[Event]], path: str, line_number: int) -> None:
        """An end needs its beginning, and each op has one of each."""
        if event.type == "invoke":
            if event.op < 0 or event.op in open_ops:
                raise BadHistory(path, line_number, f"op {event.op} is open already, or no number", _REMEDY_OPS)
            open_ops[event.op] = event.__class__
        elif event.__class__ not in _NOTE_KINDS:
            began = open_ops.pop(event.op, None)
            if began is not event.__class__:
                raise BadHistory(
                    path,
                    line_number,
                    f"op {event.op} ends as {_name(event)}, and is open as {_kind_name(began) if began else 'nothing'}",
                    _REMEDY_OPS,
                )


_DECODE = msgspec.json.Decoder(
    Send
    | Assign
    | Seek
    | Subscribe
    | Own
    | Poll
    | Store
    | FetchStored
    | Process
    | Ends
    | ReadAll
    | Replica
    | CreateTopic
    | DeleteTopic
    | ListTopics
    | Crash
    | Fault
).decode
_NOTE_KINDS = frozenset(KINDS[f] for f in NOTES)
_REMEDY_HEADER = f'a history begins with {{"lograft_history": {VERSION}, "idempotent": true}}'
_REMEDY = "docs/history.md describes the format; mend the line, or take it out"
_REMEDY_OPS = "each op begins once and ends at most once; number them anew in each file"


def _order(event: Event) -> tuple[float, bool]:
    return event.t, event.type != "invoke"


def _name(event: Event) -> str:
    return _kind_name(event.__class__)


def _kind_name(kind: type[Event]) -> str:
    return str(kind.__struct_config__.tag)


def _words(error: Exception) -> str:
    return str(error).rstrip(".")
