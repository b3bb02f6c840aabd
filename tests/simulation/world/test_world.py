"""Whole clusters under faults: what the checker of histories says of them, and that a seed says the same each time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.world.planted_bugs import PLANTED, planted
from tests.simulation.world.simulation import Plan, simulate

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cluster_under_faults_keeps_what_it_promised(seed: int) -> None:
    report = simulate(seed, Plan(span_ms=10_000.0, fault_count=5))
    if report.failure is not None:
        print(report.events)
        print(f"{report}\n{dict(report.faults)}\n{report.drawn}")
        raise report.failure


def test_runs_of_a_seed_are_the_same_whatever_strings_hash_to() -> None:
    script = (
        "from tests.simulation.world.simulation import Plan, simulate;"
        "report = simulate(3, Plan(span_ms=6000.0, fault_count=4));"
        "assert report.failure is None, report.failure;"
        "print(f'{report.digest:08x} {report.steps}')"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_bug_is_found(name: str) -> None:
    bug = PLANTED[name]
    assert any(_finds(name, seed) for seed in bug.seeds), f"{name} was not found in seeds {list(bug.seeds)}"


def _finds(name: str, seed: int) -> bool:
    with planted(name):
        return simulate(seed, PLANTED[name].plan).failure is not None
