"""The rows of a verdict: one for each family of anomalies, with how much was judged and what was found.

Always
    a row that judged nothing says so: it is not applicable, which is not the same as well
    what is held of findings is bounded; how many there were is not
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

RULES: dict[str, str] = {
    "inconsistent-offsets": "no offset of a partition has two values",
    "duplicate": "no value is at two places",
    "lost-write": "whatever was acknowledged is read by whoever reads past it",
    "unseen": "the final read ends behind all that was acknowledged",
    "vanished-read": "whatever was read once is in the final read",
    "log-hole": "offsets of a log have no holes",
    "aborted-read": "nothing is read whose send surely failed",
    "garbage-read": "what is read was sent before, and to there",
    "poll-skip": "the next poll of an assigned consumer begins right behind the last one",
    "nonmonotonic-poll": "the next poll of an assigned consumer does not go back",
    "int-poll-skip": "within one poll no record is left out",
    "int-nonmonotonic-poll": "within one poll offsets rise",
    "nonmonotonic-send": "what one producer sends later stands later",
    "int-nonmonotonic-send": "values of one send stand in their order",
    "g0": "the values of one send are not interleaved with those of another",
    "g1c": "what is sent after a value was read stands behind it",
    "realtime-order": "what is sent after an acknowledgement stands behind what was acknowledged",
    "stale-end": "an end asked for after an acknowledgement, or a read, lies behind what that told of",
    "end-regress": "the end of a log never goes back",
    "start-regress": "the start of a log never goes back",
    "epoch-regress": "terms never fall along offsets",
    "epoch-fork": "an offset has one term, and (term, offset) one value",
    "dedup-window": "a retry is answered with the offset at which the value stands",
    "commit-offset": "stored offsets are read as they were last stored",
    "fenced-store": "nobody stores for a partition that was granted to somebody else since",
    "double-owner": "a partition has one owner in a generation",
    "group-gap": "what a group has stored as done, it has processed",
    "store-past-end": "a group stores no offset past the end of its log",
    "start-past-end": "no log begins behind its end, nor behind all that was sent to it",
    "metadata": "topics are found as they were last created and deleted",
    "replica-divergence": "replicas hold the same bytes",
    "dead-window": "with a majority well for a while, something is acknowledged",
}
"""Each row with what must hold."""

EXAMPLES_MAX = 5
"""Of each row are told."""


@dataclass(slots=True)
class Example:
    """One anomaly: a sentence for people, facts for programs."""

    text: str
    facts: dict[str, Any]


@dataclass(slots=True)
class Row:
    """What was found of one family of anomalies."""

    name: str
    fails: bool = True
    """Else it is told and does not count against the log."""
    judged: int = 0
    """How many facts of the history the rule was held against."""
    found: dict[str | None, int] = field(default_factory=lambda: defaultdict(int))
    """By topic, as what turns out not to be judged goes by topics."""
    examples: dict[str | None, list[Example]] = field(default_factory=lambda: defaultdict(list))

    def add(self, topic: str | None, text: str, **facts: Any) -> None:
        """One more anomaly, on a topic if it is of one."""
        self.found[topic] += 1
        if len(self.examples[topic]) < EXAMPLES_MAX:
            self.examples[topic].append(Example(text, facts))

    def forget(self, topic: str | None) -> None:
        self.found.pop(topic, None)
        self.examples.pop(topic, None)

    def take(self, other: Row, topic: str | None) -> None:
        """What was kept apart in `other` of this topic counts after all."""
        if topic in other.found:
            self.found[topic] += other.found[topic]
            self.examples[topic] += other.examples[topic]

    @property
    def count(self) -> int:
        return sum(self.found.values())

    @property
    def failed(self) -> bool:
        return self.fails and self.count > 0

    @property
    def verdict(self) -> str:
        if self.count:
            return "FAIL" if self.fails else "told"
        return "ok" if self.judged else "not applicable"

    def told(self) -> list[Example]:
        """A few examples, of as many topics as possible."""
        by_turns = [
            (turn, number, example)
            for number, examples in enumerate(self.examples.values())
            for turn, example in enumerate(examples)
        ]
        by_turns.sort(key=lambda one: one[:2])
        return [example for _, _, example in by_turns[:EXAMPLES_MAX]]


class Rows:
    """All rows, by name, in the order in which they are told."""

    def __init__(self) -> None:
        self._rows = {name: Row(name) for name in RULES}

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())
