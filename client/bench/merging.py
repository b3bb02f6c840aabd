"""What all workers counted, put together. Pure: the lines they tell, in any order between them.

Always
    counts and histograms are of all of them; rates are of the time in which all of them were at work
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .histogram import Histogram
from .order import Told
from .timeline import Amount, Span, Timeline, common_window

_UNEVEN = 0.05
"""Windows that leave out more than this part of the slowest worker's time are worth a word."""


@dataclass(frozen=True, slots=True)
class Bought:
    """What the weakest acknowledgement said: copies on that medium, of replicas in all."""

    medium: str
    copies: int
    replicas: int

    def __str__(self) -> str:
        return f"{self.medium} x {self.copies} of {self.replicas}" if self.medium != "none" else "none"


_MEDIA = ("none", "memory", "fsync")


@dataclass(slots=True)
class Gathered:
    """Counts of all workers so far."""

    produced: Timeline = field(default_factory=Timeline)
    consumed: Timeline = field(default_factory=Timeline)
    acknowledged: Histogram = field(default_factory=Histogram)
    end_to_end: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    recent: Histogram = field(default_factory=Histogram)
    """What was acknowledged, or else what arrived, since this was last taken."""
    produce_spans: dict[int, Span] = field(default_factory=dict)
    consume_spans: dict[int, Span] = field(default_factory=dict)
    not_sent: int = 0
    unanswered: int = 0
    weakest: Bought | None = None
    cpu_s: float = 0.0

    def take(self, worker: int, told: Told) -> None:
        """What worker number `worker` tells next."""
        self.produced.add_packed(told.produced)
        self.consumed.add_packed(told.consumed)
        self.acknowledged.add_packed(told.acknowledged)
        self.end_to_end.add_packed(told.end_to_end)
        self.late.add_packed(told.late)
        self.recent.add_packed(told.acknowledged or told.end_to_end)
        self.not_sent += told.not_sent
        self.unanswered += told.unanswered
        self.cpu_s += told.cpu_s
        if told.produce_span is not None:
            self.produce_spans[worker] = Span(*told.produce_span)
        if told.consume_span is not None:
            self.consume_spans[worker] = Span(*told.consume_span)
        if told.weakest is not None:
            bought = Bought(*told.weakest)
            if self.weakest is None or _rank(bought) < _rank(self.weakest):
                self.weakest = bought

    def take_recent(self) -> Histogram:
        """The latencies told since the last time."""
        recent, self.recent = self.recent, Histogram()
        return recent


def _rank(bought: Bought) -> tuple[int, int]:
    return _MEDIA.index(bought.medium), bought.copies


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run measured. None: nothing of the kind."""

    produced: Amount | None
    consumed: Amount | None
    acknowledged: Histogram
    end_to_end: Histogram
    late: Histogram
    not_sent: int
    unanswered: int
    weakest: Bought | None
    cpu_s: float
    notes: tuple[str, ...] = ()


def figures_of(gathered: Gathered) -> Figures:
    """Rates of the common window. Consumers beside producers are measured in the producers' window."""
    spans = gathered.produce_spans or gathered.consume_spans
    notes: list[str] = []
    produced = consumed = None
    if spans:
        window, together = common_window(spans.values())
        produced = gathered.produced.within(window) if gathered.produce_spans else None
        consumed = gathered.consumed.within(window) if gathered.consumed.records else None
        if gathered.consume_spans and consumed is None:
            consumed = Amount(0, 0, window.seconds)
        notes += _notes_of_window(list(spans.values()), window, together)
    return Figures(
        produced,
        consumed,
        gathered.acknowledged,
        gathered.end_to_end,
        gathered.late,
        gathered.not_sent,
        gathered.unanswered,
        gathered.weakest,
        gathered.cpu_s,
        tuple(notes),
    )


def _notes_of_window(spans: list[Span], window: Span, together: bool) -> list[str]:
    if not together:
        return ["the clients were never all at work at once; rates are from the first start to the last end"]
    longest_s = max(one.end for one in spans) - min(one.start for one in spans)
    if longest_s - window.seconds > _UNEVEN * longest_s:
        return [
            f"rates are of the {window.seconds:.2f} s in which all clients were at work, of {longest_s:.2f} s in all"
        ]
    return []
