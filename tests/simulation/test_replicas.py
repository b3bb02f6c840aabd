"""Seeds of the simulation: SIM_SEEDS says how many, SIM_SEED names the one to replay."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.campaign import Orders, explained, run_seed
from tests.simulation.faults import COMMON
from tests.simulation.simulation import Plan, simulate

SEED_COUNT = int(os.environ.get("SIM_SEEDS", "300"))
FIRST_SEED = int(os.environ.get("SIM_SEED", "0"))
SEEDS = [FIRST_SEED] if "SIM_SEED" in os.environ else list(range(SEED_COUNT))
BUNDLE = 10
"""Seeds a test: a test each would drown the list of tests."""
ONE_IN_TEN_TWICE = Orders(follow_every=0)


@pytest.mark.parametrize("first", SEEDS[::BUNDLE])
def test_acknowledged_records_survive_whatever_fails_and_the_cluster_recovers(first: int) -> None:
    for seed in SEEDS[SEEDS.index(first) : SEEDS.index(first) + BUNDLE]:
        outcome = run_seed(seed, ONE_IN_TEN_TWICE)
        if outcome.why:
            pytest.fail(outcome.why, pytrace=False)
        assert not outcome.report.why_worthless, f"seed {seed} is worth nothing: {outcome.report.why_worthless}"


DECAY = Plan(faults=("decay",) * 8 + COMMON, fault_count=24, scrub_pace_ms=800.0)


@pytest.mark.parametrize("seed", range(10))
def test_a_disk_that_decays_costs_no_acknowledged_record_and_no_wrong_vote(seed: int) -> None:
    report = simulate(seed, DECAY)
    if report.failure is not None:
        pytest.fail(explained(report, 60), pytrace=False)


COMPACTED = Plan(
    faults=(*COMMON, "leave_behind", "leave_behind", "crash_at_reset"), segment_bytes_max=1000, compaction_pace_ms=150.0
)


@pytest.mark.parametrize("seed", [*range(12), 256])
def test_of_each_key_the_newest_record_survives_compaction_whatever_fails(seed: int) -> None:
    report = simulate(seed, COMPACTED)
    if report.failure is not None:
        pytest.fail(explained(report, 60), pytrace=False)
    assert report.compactions > 0


MEMORY_IS_LOST = Plan(
    durability="memory",
    faults=(*COMMON, *("lose_power_everywhere",) * 4, "lose_power", "crash_everywhere_at_disk_operations", "move"),
    fault_count=14,
    pace_ms=15.0,
)


@pytest.mark.parametrize("seed", range(12))
def test_what_memory_holds_outlives_processes_and_is_lost_only_by_a_majority_and_then_by_everybody(seed: int) -> None:
    report = simulate(seed, MEMORY_IS_LOST)
    if report.failure is not None:
        pytest.fail(explained(report, 60), pytrace=False)


def test_items_behind_a_head_that_a_power_failure_tore_count_as_lost_though_they_can_be_read() -> None:
    faults = ("leave_behind", "leave_behind", "crash_at_reset", "lose_power_everywhere", "lose_power_everywhere")
    plan = Plan(
        durability="memory",
        faults=(*COMMON, *faults, "lose_power", "kill_majority"),
        segment_bytes_max=1000,
        compaction_pace_ms=0.0,
        fault_count=16,
    )
    report = simulate(60042, plan)
    if report.failure is not None:
        pytest.fail(explained(report, 60), pytrace=False)
    assert report.losses > 0


def test_what_memory_holds_is_kept_where_processes_alone_are_killed() -> None:
    plan = replace(MEMORY_IS_LOST, faults=("kill", "kill_majority", "isolate", "transfer", "break_connection"))
    reports = [simulate(seed, plan) for seed in range(6)]
    for report in reports:
        if report.failure is not None:
            pytest.fail(explained(report, 60), pytrace=False)
    assert not any(report.losses for report in reports), "even if every process was killed"


def test_a_seed_gives_the_same_trace_whatever_the_hash_order_of_strings() -> None:
    root = Path(__file__).parents[2]
    digests = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--from", "4", "--seeds", "2", "--digests"],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1
