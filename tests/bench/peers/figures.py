"""What was measured, and what follows from it: medians, spreads, and ratios within a round.

Pure: no clock, no process, no file.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

PRODUCE, READ, END_TO_END, ONE_BY_ONE = "produce", "read", "end to end", "one by one"
REQUESTS = "requests"
"""Of one record each, as many as the servers answer."""
WORKS = (PRODUCE, READ, REQUESTS, END_TO_END, ONE_BY_ONE)
MAIN_VALUE = {
    PRODUCE: "mb_per_s",
    READ: "mb_per_s",
    REQUESTS: "records_per_s",
    END_TO_END: "p50_ms",
    ONE_BY_ONE: "p50_ms",
}
PIPE = "bare pipe"


@dataclass(frozen=True, slots=True)
class Figure:
    """What one system did of one work in one round, by one client."""

    round: int
    system: str
    client: str
    work: str
    record_bytes: int
    values: dict[str, float]

    @property
    def row(self) -> tuple[str, int, str, str]:
        return (self.work, self.record_bytes, self.system, self.client)


@dataclass(frozen=True, slots=True)
class Spread:
    """A value over the rounds."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        assert values, "a spread of nothing"
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Row:
    """One system's client at one work: each value over the rounds, and its ratio to the bare pipe of the same round."""

    work: str
    record_bytes: int
    system: str
    client: str
    values: dict[str, Spread]
    of_the_pipe: Spread | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def percentile(values: Iterable[float], share: float) -> float:
    """The least value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    assert ordered and 0 < share <= 1, f"{share} of {len(ordered)} values"
    return ordered[math.ceil(share * len(ordered)) - 1]


def latencies(values_ms: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": percentile(values_ms, 0.5),
        "p90_ms": percentile(values_ms, 0.9),
        "p99_ms": percentile(values_ms, 0.99),
        "max_ms": max(values_ms),
        "records": len(values_ms),
    }


def throughput(records: int, record_bytes: int, seconds: float) -> dict[str, float]:
    """MB are a million bytes of users' values."""
    return {
        "records_per_s": records / seconds,
        "mb_per_s": records * record_bytes / seconds / 1e6,
        "records": records,
        "seconds": seconds,
    }


def rows(figures: Sequence[Figure], systems: Sequence[str]) -> list[Row]:
    """One row for each work, size, system and client, in this order; systems and clients as they were run.

    Throughput is compared with the bare pipe's in the same round, whatever the size of the records: the pipe has none.
    One record at a time is compared with one frame of that size at a time. Without a pipe there are no ratios.
    """
    by_row: dict[tuple[str, int, str, str], list[Figure]] = {}
    for figure in figures:
        by_row.setdefault(figure.row, []).append(figure)
    order = {row: number for number, row in enumerate(by_row)}

    def place(row: tuple[str, int, str, str]) -> tuple[int, int, int, int]:
        work, record_bytes, system, _ = row
        return (WORKS.index(work), 0 if system == PIPE else record_bytes, systems.index(system), order[row])

    found = []
    for row in sorted(by_row, key=place):
        work, record_bytes, system, client = row
        names = by_row[row][0].values
        found.append(
            Row(
                work=work,
                record_bytes=record_bytes,
                system=system,
                client=client,
                values={
                    name: Spread.of([figure.values[name] for figure in by_row[row] if name in figure.values])
                    for name in names
                },
                of_the_pipe=_of_the_pipe(by_row[row], figures),
            )
        )
    return found


def against(figures: Sequence[Figure], one: str, other: str) -> list[tuple[str, int, str, Spread]]:
    """How one system's main value compares with another's in the same round, by work, size and client of both."""
    found: dict[tuple[str, int, str], list[float]] = {}
    theirs = {(each.round, *each.row[:2], each.client): each for each in figures if each.system == other}
    for mine in (each for each in figures if each.system == one):
        its = theirs.get((mine.round, *mine.row[:2], mine.client))
        value = MAIN_VALUE[mine.work]
        if its is not None and its.values[value]:
            row = (mine.work, mine.record_bytes, mine.client)
            found.setdefault(row, []).append(mine.values[value] / its.values[value])
    return [
        (*row, Spread.of(ratios)) for row, ratios in sorted(found.items(), key=lambda each: WORKS.index(each[0][0]))
    ]


def _of_the_pipe(mine: Sequence[Figure], figures: Sequence[Figure]) -> Spread | None:
    work = mine[0].work
    if mine[0].system == PIPE or work not in (PRODUCE, ONE_BY_ONE):
        return None
    value = MAIN_VALUE[work]
    pipe = {
        figure.round: figure.values[value]
        for figure in figures
        if figure.system == PIPE
        and figure.work == work
        and (work == PRODUCE or figure.record_bytes == mine[0].record_bytes)
    }
    ratios = [figure.values[value] / pipe[figure.round] for figure in mine if pipe.get(figure.round)]
    return Spread.of(ratios) if ratios else None
