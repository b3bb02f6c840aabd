"""Runs of minutes, each as `make chaos` makes them: `pytest tests/chaos/test_scenarios.py`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from . import tools
from .cluster import ROOT

ROUNDS = os.environ.get("ROUNDS", "3")
RUN_S_MAX = 3000


def chaos(*words: str) -> tuple[int, str]:
    """Exit code and report."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words], capture_output=True, text=True, cwd=ROOT, timeout=RUN_S_MAX
    )
    return done.returncode, done.stdout + done.stderr


needs_volatile_disks = pytest.mark.skipif(
    tools.missing("fuse") is not None, reason=f"no volatile disk: {tools.missing('fuse')}"
)


@pytest.mark.timeout(RUN_S_MAX)
@needs_volatile_disks
def test_nothing_acknowledged_is_lost_when_power_fails_for_all_brokers_and_the_cluster_comes_back_by_itself() -> None:
    code, told = chaos("power", "--rounds", ROUNDS, "--seed", "1")
    assert code == 0, told


@pytest.mark.timeout(RUN_S_MAX)
def test_another_leads_when_the_leader_dies_sleeps_or_is_cut_off() -> None:
    code, told = chaos("failover", "--rounds", ROUNDS, "--seed", "1")
    assert code == 0, told


@pytest.mark.timeout(RUN_S_MAX)
def test_a_short_mix_of_everything_leaves_nothing_wrong() -> None:
    code, told = chaos("mixed", "--minutes", "3", "--seed", "1")
    assert code == 0, told


@pytest.mark.timeout(RUN_S_MAX)
@needs_volatile_disks
@pytest.mark.parametrize("bug", ["acknowledges_before_the_flush", "skips_some_syncs", "never_syncs_directories"])
def test_power_failures_find_a_broker_that(bug: str) -> None:
    code, told = chaos("power", "--rounds", "3", "--seed", "3", "--bug", bug)
    assert code == 1 and "WRONG" in told, told


@pytest.mark.timeout(RUN_S_MAX)
@pytest.mark.parametrize(
    ("bug", "only"),
    [
        ("takes_a_batch_twice", "slow links,reset links,kill leader"),
        ("serves_what_is_not_committed", "partition leader alone,partition one way"),
    ],
)
def test_the_checker_finds_a_broker_that(bug: str, only: str) -> None:
    code, told = chaos("mixed", "--only", only, "--minutes", "1", "--seed", "3", "--disk", "plain", "--bug", bug)
    assert code == 1 and "WRONG" in told, told
