"""A majority that is lost and given up: what stays is the log of the one that goes on, and nobody else acts."""

from __future__ import annotations

import os

import pytest
from lograft.partitions.raft.messages import Voter

from tests.simulation.process import BrokerProcess
from tests.simulation.recovery import simulate_recovery
from tests.simulation.simulation import Report

SEEDS = int(os.environ.get("SIM_SEEDS", "12"))
SEEDS_UNTIL_FOUND = 12


@pytest.mark.parametrize("seed", range(SEEDS))
def test_one_log_goes_on_and_the_others_are_over(seed: int) -> None:
    report = simulate_recovery(seed)
    assert report.failure is None, f"replay with seed {seed}: {report.failure}\n{report.events}"


def found_first() -> Report | None:
    for seed in range(SEEDS_UNTIL_FOUND):
        report = simulate_recovery(seed)
        if report.failure is not None:
            return report
    return None


def test_an_old_identity_that_still_votes_after_the_recovery_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = BrokerProcess._follow_recoveries

    async def follow_where_it_goes_on(process: BrokerProcess) -> None:
        assert process.promises is not None
        mine = process.promises.directory_id
        sources: list[Voter] = [fact.recovery.source for fact in process.topic.partitions if fact.recovery is not None]
        if any(source[:2] == (process.broker_id, mine) for source in sources):
            await right(process)

    monkeypatch.setattr(BrokerProcess, "_silence_ended", lambda process: None)
    monkeypatch.setattr(BrokerProcess, "_follow_recoveries", follow_where_it_goes_on)
    report = found_first()
    assert report is not None, "old identities went on voting, and nothing noticed"
    monkeypatch.undo()
    clean = simulate_recovery(report.seed)
    assert clean.failure is None, f"seed {report.seed} fails without the bug: {clean.failure}\n{clean.events}"
