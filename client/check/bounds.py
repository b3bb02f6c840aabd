"""Where logs were said to begin and end. Rows: stale-end, end-regress, start-regress, start-past-end,
store-past-end.

The end of a log by its leader's word is linearizable: asked for after something was acknowledged or read, it lies
behind that.
"""

from __future__ import annotations

from collections import defaultdict

from .frontier import Frontier
from .history import Ends, Event, History, ReadAll
from .places import Places
from .rows import Rows
from .sends import Sends, facts, who


class Bounds:
    """All that was said of starts and ends so far."""

    def __init__(self, history: History, sends: Sends, places: Places, rows: Rows) -> None:
        self._history, self._sends, self._places, self._rows = history, sends, places, rows
        self._starts: dict[str, Frontier] = defaultdict(Frontier)
        self._ends: dict[str, Frontier] = defaultdict(Frontier)

    def told(self, event: Ends, begun: Event) -> None:
        if event.type != "ok":
            return
        for name, (start, end) in (event.ends or {}).items():
            log = self._places.log(name)
            if log.highest_start is None or start > log.highest_start:
                log.highest_start = start
            self._one(name, "end", end, self._ends[name], event, begun)
            self._one(name, "start", start, self._starts[name], event, begun)
            self._hold(name, start, end, event, begun)
            acked, seen = log.acked.before(begun.seq), log.seen.before(begun.seq)
            self._rows["stale-end"].judged += acked is not None or seen is not None
            if acked is not None and acked.value >= end:
                why, offset = f"after {acked.value} had been acknowledged to {self._sends.who(acked.who)}", acked.value
            elif seen is not None and seen.value >= end:
                why, offset = f"after {seen.value} had been read (op {seen.who})", seen.value
            else:
                continue
            self._rows["stale-end"].add(
                log.topic,
                f"{name}: {who(self._history, event)} was told that the end is {end}, asked at {begun.t:.6f}, {why}",
                partition=name,
                offset=offset,
                end=end,
                asked_s=begun.t,
                **facts(self._history, event),
            )

    def read_all(self, event: ReadAll, begun: Event) -> None:
        """A final read says where it began and ended: by the leader's word too, asked after it had begun."""
        if event.type == "ok" and event.partition is not None and event.end is not None and event.start is not None:
            self._one(event.partition, "end", event.end, self._ends[event.partition], event, begun)
            self._one(event.partition, "start", event.start, self._starts[event.partition], event, begun)
            self._hold(event.partition, event.start, event.end, event, begun)

    def _hold(self, name: str, start: int, end: int, event: Event, begun: Event) -> None:
        """The end against the start, and against what members of groups had stored by then."""
        topic, stored = self._places.log(name).topic, self._places.log(name).stored.before(begun.seq)
        asker = f"{name}: {who(self._history, event)} was told that the end is {end}, asked at {begun.t:.6f}"
        told = {"partition": name, "end": end, "asked_s": begun.t, **facts(self._history, event)}
        self._rows["start-past-end"].judged += 1
        if start > end:
            self._rows["start-past-end"].add(topic, f"{asker}, and the start {start}", start=start, **told)
        self._rows["store-past-end"].judged += stored is not None
        if stored is not None and stored.value > end:
            why = f"and a group had stored {stored.value} before (op {stored.who})"
            self._rows["store-past-end"].add(topic, f"{asker}, {why}", offset=stored.value, **told)

    def _one(self, name: str, bound: str, value: int, known: Frontier, event: Event, begun: Event) -> None:
        before = known.before(begun.seq)
        row = self._rows[f"{bound}-regress"]
        row.judged += 1
        if before is not None and value < before.value:
            row.add(
                self._places.log(name).topic,
                f"{name}: {who(self._history, event)} was told that the {bound} is {value}, asked at {begun.t:.6f}, "
                f"and op {before.who} had been told {before.value} before",
                partition=name,
                before=before.value,
                now=value,
                asked_s=begun.t,
                **facts(self._history, event),
            )
        known.rise(event.seq, value, event.op)
