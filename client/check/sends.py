"""Who sent what, how it ended, and in what order things were to stand.

A send is known by a number, its place among all sends. Columns instead of objects: a history has millions.

Always
    a value was sent once: it names its send
    what was not acknowledged, and did not surely fail, may stand in the log or not, and may yet come to stand there
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import pairwise

from .frontier import Frontier
from .history import BadHistory, Event, History, Send
from .rows import Rows

OPEN, OK, FAILED = 0, 1, 2
"""How a send ended; `info` leaves it open, for good."""

_APART_MAX = 10_000
"""How far between the values of one send those of others are looked for."""


class Sends:
    """All sends of a history so far."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.of_value: dict[str, int] = {}
        self.status = bytearray()
        self.began_seq, self.ended_seq = array("q"), array("q")
        self.began_t, self.ended_t = array("d"), array("d")
        self._file, self._op = array("H"), array("q")
        self.process: list[str] = []
        self.topic: list[str] = []
        self.producer: list[str | None] = []
        self.partition: list[str | None] = []
        """Where it was sent to; if the client chose, where it was found."""
        self.failed_values: list[str] = []
        self.unanswered: dict[int, list[str]] = {}
        """Values of sends that went as one batch, and of which nobody was told where it stands."""
        self.topics: set[str] = set()
        self._names: dict[str, str] = {}  # each name once in memory
        self._number: dict[tuple[int, int], int] = {}  # (file, op) of those that may still end

    def begin(self, event: Send) -> int:
        assert event.topic is not None and event.values is not None
        number = len(self.status)
        for value in event.values:
            if self.of_value.setdefault(value, number) != number:
                raise BadHistory(
                    self._history.paths[event.file],
                    None,
                    f"{value!r} of {self._history.label(event.file, event.op)} was sent before, by "
                    + self.who(self.of_value[value]),
                    "a history can be judged only if every value is sent once; number them",
                )
        self.status.append(OPEN)
        self.began_seq.append(event.seq)
        self.ended_seq.append(-1)
        self.began_t.append(event.t)
        self.ended_t.append(-1.0)
        self._file.append(event.file)
        self._op.append(event.op)
        self.process.append(self._once(event.process))
        self.topic.append(self._once(event.topic))
        self.producer.append(None if event.producer is None else self._once(event.producer))
        self.partition.append(
            None if event.partition is None else self._once(partition_name(event.topic, event.partition))
        )
        self.topics.add(event.topic)
        if self._history.atomic_sends and len(event.values) > 1:
            self.unanswered[number] = event.values
        self._number[event.file, event.op] = number
        return number

    def end(self, event: Send, begun: Send) -> int:
        number = self._number.pop((event.file, event.op))
        if event.type == "ok" and begun.acks == "quorum":
            self.status[number] = OK
        elif event.type == "fail":
            self.status[number] = FAILED
            self.failed_values += begun.values or ()
        if self.status[number] != OPEN:
            self.unanswered.pop(number, None)
        self.ended_seq[number] = event.seq
        self.ended_t[number] = event.t
        return number

    def who(self, number: int) -> str:
        """A send, for people."""
        ended = {OPEN: "", OK: f", ok at {self.ended_t[number]:.6f}", FAILED: f", failed at {self.ended_t[number]:.6f}"}
        label = self._history.label(self._file[number], self._op[number])
        return f"{self.process[number]} ({label}, sent at {self.began_t[number]:.6f}{ended[self.status[number]]})"

    def facts(self, number: int) -> dict[str, object]:
        """A send, for programs."""
        return {
            "op": self._op[number],
            "file": self._history.paths[self._file[number]],
            "process": self.process[number],
            "began_s": self.began_t[number],
            "ended_s": self.ended_t[number] if self.status[number] != OPEN else None,
            "status": ("info", "ok", "fail")[self.status[number]],
        }

    def __len__(self) -> int:
        return len(self.status)

    def _once(self, name: str) -> str:
        return self._names.setdefault(name, name)


def partition_name(topic: str, partition: int | str) -> str:
    return f"{topic}/{partition}" if isinstance(partition, int) else partition


def topic_of(partition: str) -> str:
    return partition.rpartition("/")[0]


def who(history: History, event: Event) -> str:
    """An event, for people."""
    return f"{event.process} ({history.label(event.file, event.op)}, at {event.t:.6f})"


def facts(history: History, event: Event) -> dict[str, object]:
    """An event, for programs."""
    return {"op": event.op, "file": history.paths[event.file], "process": event.process, "t": event.t}


class SendOrder:
    """Order among sends: rows nonmonotonic-send, int-nonmonotonic-send, realtime-order, g1c, g0.

    Single sends to one partition can only stand in a cycle with one another if a later one stands before an earlier
    one, by the clock or by what was read; so pairs are enough, and no graph is searched (what is linearizable
    partition by partition is so as a whole).
    """

    def __init__(self, sends: Sends, rows: Rows, *, idempotent: bool, atomic: bool) -> None:
        self._sends, self._rows = sends, rows
        self._idempotent = idempotent
        self._pipelines: dict[tuple[str, str, str], array[int]] = {}
        self._told: set[int] = set()
        self._gaps: list[tuple[int, str, list[int]]] = []
        rows["g0"].fails = atomic

    def acknowledged(self, number: int, event: Send, begun: Send, name: str) -> None:
        """A send was acknowledged at these offsets of partition `name`."""
        offsets = [offset for offset in event.offsets or () if offset is not None and offset >= 0]
        if not offsets:
            return
        lowest, highest = min(offsets), max(offsets)
        if len(offsets) > 1:
            row = self._rows["int-nonmonotonic-send"]
            row.judged += 1
            self._rows["g0"].judged += 1
            if any(after <= before for before, after in pairwise(offsets)):
                row.add(
                    self._sends.topic[number],
                    f"{name}: the values of {self._sends.who(number)} stand at {_few(offsets)}",
                    partition=name,
                    offsets=offsets,
                    values=begun.values,
                    **self._sends.facts(number),
                )
            elif highest - lowest >= len(begun.values or ()):
                self._gaps.append((number, name, offsets))
        if begun.producer is not None and self._idempotent:
            pipeline = self._pipelines.setdefault((event.process, begun.producer, name), array("q"))
            pipeline.extend((number, lowest, highest))

    def found(self, number: int, name: str, offset: int, acked: Frontier, read: Frontier) -> None:
        """A value stands at `offset`, and the acknowledgement of its send, number `number`, had not said where."""
        self.placed(number, name, offset, acked, read)
        producer = self._sends.producer[number]
        if producer is not None and self._idempotent:
            pipeline = self._pipelines.setdefault((self._sends.process[number], producer, name), array("q"))
            pipeline.extend((number, offset, offset))

    def unanswered(self, number: int, name: str, found: dict[int, int], strays: str) -> None:
        """Of a send that nobody answered these values, by their index, stand at these offsets. `strays`: why the rest
        cannot be where it had to be; empty if it can."""
        offsets = list(found.values())
        row = self._rows["int-nonmonotonic-send"]
        row.judged += len(offsets) > 1
        if any(after <= before for before, after in pairwise(offsets)):
            why = ""
        else:
            row = self._rows["g0"]
            row.judged += 1
            is_torn = len({offset - index for index, offset in found.items()}) > 1
            why = ", not side by side" if is_torn else strays and f", and the rest is not with them: {strays}"
            if not why:
                return
        row.add(
            self._sends.topic[number],
            f"{name}: of the values of {self._sends.who(number)} number {_few(list(found))} stand at "
            f"{_few(offsets)}{why}",
            partition=name,
            offsets=offsets,
            **self._sends.facts(number),
        )

    def placed(self, number: int, name: str, offset: int, acked: Frontier, read: Frontier) -> None:
        """It is known, for the first time or once more, that a value of send `number` stands at `offset`."""
        began = self._sends.began_seq[number]
        before, seen = acked.before(began), read.before(began)
        self._rows["realtime-order"].judged += before is not None
        self._rows["g1c"].judged += seen is not None
        same = before is not None and self._sends.process[before.who] == self._sends.process[number]
        self._rows["nonmonotonic-send"].judged += same
        if number in self._told:
            return
        if before is not None and before.value > offset:
            one_producer = same and self._sends.producer[before.who] == self._sends.producer[number] is not None
            if one_producer and self._idempotent and self._sends.status[number] == OK:
                return  # told at the end, in the order of all that the producer sent
            self._told.add(number)
            self._rows["nonmonotonic-send" if same else "realtime-order"].add(
                self._sends.topic[number],
                f"{name}: {self._sends.who(number)} stands at {offset}, before {before.value} of "
                f"{self._sends.who(before.who)}, which was acknowledged before it was sent",
                partition=name,
                offset=offset,
                before=before.value,
                other=self._sends.facts(before.who),
                **self._sends.facts(number),
            )
        elif seen is not None and seen.value > offset:
            self._told.add(number)
            self._rows["g1c"].add(
                self._sends.topic[number],
                f"{name}: {self._sends.who(number)} stands at {offset}, though offset {seen.value} had been read "
                "before it was sent",
                partition=name,
                offset=offset,
                before=seen.value,
                **self._sends.facts(number),
            )

    def finish(self, value_at: Callable[[str, int], str | None]) -> None:
        """Tell what only the whole history shows. `value_at` knows what stands where."""
        row = self._rows["nonmonotonic-send"]
        for (process, producer, name), flat in self._pipelines.items():
            triples = sorted(zip(flat[0::3], flat[1::3], flat[2::3], strict=True))
            row.judged += max(0, len(triples) - 1)
            for (one, _, highest), (other, lowest, _) in pairwise(triples):
                if lowest < highest and other not in self._told:
                    row.add(
                        self._sends.topic[other],
                        f"{name}: {producer} of {process} sent {self._sends.who(other)} after "
                        f"{self._sends.who(one)}, and it stands at {lowest}, before {highest}",
                        partition=name,
                        offset=lowest,
                        before=highest,
                        producer=producer,
                        other=self._sends.facts(one),
                        **self._sends.facts(other),
                    )
        for number, name, offsets in self._gaps:
            end = min(offsets[-1], offsets[0] + _APART_MAX)
            between = ((at, value_at(name, at)) for at in range(offsets[0], end))
            stranger = next(
                (at for at, value in between if value is not None and self._sends.of_value.get(value) != number), None
            )
            if stranger is not None:
                self._rows["g0"].add(
                    self._sends.topic[number],
                    f"{name}: the values of {self._sends.who(number)} stand at {_few(offsets)}, and at {stranger} one "
                    "of another send",
                    partition=name,
                    offsets=offsets,
                    between=stranger,
                    **self._sends.facts(number),
                )


def _few(offsets: list[int]) -> str:
    shown = ", ".join(map(str, offsets[:8]))
    return shown + (", ..." if len(offsets) > 8 else "")
