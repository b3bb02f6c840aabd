"""What a seed that fails says of how to see it again, and what many say together."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.world.__main__ import replay, verdict
from tests.simulation.world.simulation import Report


def test_a_seed_that_failed_under_a_planted_bug_is_replayed_with_it() -> None:
    assert replay(7, "a-bug") == ".venv/bin/python -m tests.simulation.world --from 7 --seeds 1 --plant a-bug"


def test_a_seed_that_differed_from_itself_is_replayed_twice() -> None:
    assert replay(7, None, twice=True) == ".venv/bin/python -m tests.simulation.world --from 7 --seeds 1 --twice"


def test_a_seed_that_failed_is_replayed_by_make() -> None:
    assert replay(7, None) == "make world FROM=7 SEEDS=1"


def a_report(**fields: object) -> Report:
    usual: dict[str, object] = {
        "simulated_ms": 31_000.0,
        "counts": Counter({"records acknowledged": 40}),
        "faults": Counter({"kill_one": 2, "halve": 1, "(lost a disk)": 5}),
    }
    return Report(1, **(usual | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"simulated_ms": 29_000.0}, "29000 ms simulated"),
        ({"counts": Counter()}, "no record acknowledged"),
        ({"faults": Counter({"kill_one": 2, "(lost a disk)": 9})}, "2 faults"),
    ],
)
def test_a_seed_counts_if_it_was_long_troubled_and_acknowledged_records(fields: dict[str, object], why: str) -> None:
    assert a_report(**fields).why_worthless == why


def test_the_last_line_says_how_many_seeds_ran_and_that_none_failed_only_if_some_count() -> None:
    assert verdict([], 9, 9, 9, interrupted=False) == "no seed failed"
    assert verdict([], 2, 2, 9, interrupted=True) == "interrupted after 2 of 9 seeds; of those no seed failed"
    assert verdict([1], 2, 2, 9, interrupted=False) == "ended after 2 of 9 seeds; of those failed: [1]"
    assert verdict([], 0, 9, 9, interrupted=False) == "no seed counts: nothing is shown"
