"""How it went: counts, faults, recoveries, and silences that nothing excuses. Row: dead-window.

Always
    silence is somebody asking and nobody getting an ok; who asks for nothing is not kept waiting, nor is who crashed
    faults excuse silence, but for kills and pauses of less than half of the brokers once their number is known
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from .history import Event, Fault, History, Send
from .rows import Rows
from .sends import partition_name, topic_of

DEAD_AFTER_S = 10.0
"""Silence for longer is a dead window."""

_DOWN = frozenset({"kill", "pause", "stop", "crash", "restart"})
"""Faults that take away a broker and nothing else."""

_ASKED_OF_LEADERS = frozenset({"ends", "fetch_stored", "list_topics"})
"""What only fails if nobody answers; of a poll or a store that is not so."""


@dataclass(slots=True)
class Recovery:
    """From the end of all faults to the first acknowledgement."""

    after: str
    healed_s: float
    took_s: float


@dataclass(slots=True)
class _Asking:
    """Of one partition, or of one kind of question."""

    waiting_since: float | None = None
    open: int = 0
    last_t: float = 0.0
    """When somebody last asked, or was last answered. Whoever was refused and asks no more does not wait."""
    refused: bool = False
    """By the last answer. Whoever got none tries again when it likes, and is kept waiting all the same."""
    told: bool = False


class Liveness:
    """How it went so far."""

    def __init__(self, history: History, rows: Rows, dead_after_s: float = DEAD_AFTER_S) -> None:
        self._history, self._row, self._dead_after_s = history, rows["dead-window"], dead_after_s
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.events = 0
        self.first_t: float | None = None
        self.last_t = 0.0
        self.records_sent = self.records_acknowledged = self.records_read = 0
        self.faults: Counter[str] = Counter()
        self.recoveries: list[Recovery] = []
        self.longest_silence_s = 0.0
        """Without an acknowledged send: from the first one sent, or the last acknowledged, to whoever was not."""
        self._silent_since: float | None = None
        self._sends_open = 0
        self._active: Counter[tuple[str, str]] = Counter()
        self._healthy_since: float | None = None
        self._healed: tuple[str, float] | None = None
        self._asking: dict[str, _Asking] = defaultdict(_Asking)
        self._open: dict[tuple[int, int], tuple[str, str]] = {}
        """Who asks, and what, by file and op."""

    def see(self, event: Event, begun: Event, f: str) -> None:
        """Every event comes by here, after it was judged."""
        self.events += 1
        if self.first_t is None:
            self.first_t = event.t
        self.last_t = event.t
        self.counts[f][event.type] += 1
        if f == "send":
            self._send(event, begun)
        elif f in _ASKED_OF_LEADERS:
            self._ask(f"{f}", event, event.type)
        elif f == "fault":
            self._fault(event)
        elif f == "crash":
            self._crash(event)

    def _send(self, event: Event, begun: Event) -> None:
        assert isinstance(event, Send) and isinstance(begun, Send)
        assert begun.topic is not None
        where = f"topic {begun.topic}" if begun.partition is None else partition_name(begun.topic, begun.partition)
        self._ask(f"sends to {where}", event, event.type)
        if event.type == "invoke":
            self.records_sent += len(event.values or ())
            self._sends_open += 1
            if self._silent_since is None:
                self._silent_since = event.t
            return
        self._sends_open -= 1
        self._silence(event.t)
        if event.type == "ok":
            self.records_acknowledged += len(begun.values or ())
            self._silent_since = event.t
            if self._healed is not None:
                after, healed_s = self._healed
                self.recoveries.append(Recovery(after, healed_s, event.t - healed_s))
                self._healed = None

    def _silence(self, now: float) -> None:
        if self._silent_since is not None:
            self.longest_silence_s = max(self.longest_silence_s, now - self._silent_since)

    def _ask(self, what: str, event: Event, kind: str) -> None:
        asking = self._asking[what]
        if kind == "invoke":
            self._open[event.file, event.op] = event.process, what
        else:
            del self._open[event.file, event.op]
        self._count(what, asking, event, kind)
        asking.last_t = event.t

    def _crash(self, event: Event) -> None:
        """Whoever crashed waits no more; until then it did."""
        for key in [key for key, (process, _) in self._open.items() if process == event.process]:
            _, what = self._open.pop(key)
            self._look(what, self._asking[what], event.t)
            self._asking[what].open -= 1

    def _count(self, what: str, asking: _Asking, event: Event, kind: str) -> None:
        if kind == "invoke":
            patience_s = self._dead_after_s / 2 if asking.refused else self._dead_after_s
            gave_up = asking.open == 0 and event.t - asking.last_t > patience_s
            if asking.waiting_since is None or gave_up:
                asking.waiting_since = event.t
            asking.open += 1
        elif kind == "ok":
            self._look(what, asking, event.t)
            asking.open -= 1
            asking.waiting_since = event.t if asking.open else None
            asking.told = False
        else:
            self._look(what, asking, event.t)
            asking.open -= 1
        asking.refused = kind == "fail"

    def _look(self, what: str, asking: _Asking, now: float) -> None:
        """Has anybody waited for too long by now, while nothing was wrong?"""
        if self._healthy_since is None or asking.waiting_since is None:
            return
        self._row.judged += 1
        since = max(asking.waiting_since, self._healthy_since)
        if now - since > self._dead_after_s and not asking.told:
            asking.told = True
            topic = what.rpartition(" ")[2]
            self._row.add(
                topic_of(topic) or topic,
                f"{what}: none got an ok from {since:.3f} to {now:.3f}, for {now - since:.1f} s, and nothing was wrong "
                f"since {self._healthy_since:.3f}",
                what=what,
                from_s=since,
                to_s=now,
            )

    def _fault(self, event: Event) -> None:
        assert isinstance(event, Fault) and event.what is not None
        for what, asking in self._asking.items():
            if asking.open:
                self._look(what, asking, event.t)
        on = event.on if isinstance(event.on, list) else [event.on]
        for one in on:
            self._active[event.what, str(one)] += 1 if event.begins else -1
        self._active = +self._active
        if event.begins:
            self.faults[event.what] += 1
            self._healed = None
        else:
            self._healed = (event.what, event.t) if not self._active else None
        self._healthy_since = event.t if self._majority_is_well() else None
        for asking in self._asking.values():
            asking.told = False

    def _majority_is_well(self) -> bool:
        if not self._active:
            return True
        down = {on for _, on in self._active}
        only_down = all(what in _DOWN for what, _ in self._active)
        return only_down and self._history.brokers is not None and 2 * len(down) < self._history.brokers

    def finish(self) -> None:
        """Who waits at the end has waited until then."""
        if self._sends_open:
            self._silence(self.last_t)
        for what, asking in self._asking.items():
            if asking.open:
                self._look(what, asking, self.last_t)
