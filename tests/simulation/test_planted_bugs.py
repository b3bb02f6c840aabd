from __future__ import annotations

import pytest

from tests.simulation.planted_bugs import PLANTED_BUGS, PlantedBug
from tests.simulation.simulation import Report, simulate


def first_failure(bug: PlantedBug) -> Report | None:
    for seed in range(bug.seeds):
        report = simulate(seed, bug.plan)
        if report.failure is not None:
            return report
    return None


@pytest.mark.parametrize("bug", PLANTED_BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_and_without_it_the_same_seed_is_clean(
    bug: PlantedBug, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug.plant(monkeypatch)
    found = first_failure(bug)
    assert found is not None, f"{bug.seeds} seeds did not find that the code {bug.name}"
    monkeypatch.undo()
    clean = simulate(found.seed, bug.plan)
    assert clean.failure is None, f"seed {found.seed} fails without the bug: {clean.failure}\n{clean.events}"
