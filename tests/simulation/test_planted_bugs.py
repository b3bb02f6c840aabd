from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from tests import planted_bugs
from tests.chaos import tools
from tests.simulation.invariants import Violation
from tests.simulation.planted_bugs import PLANTED_BUGS, PlantedBug
from tests.simulation.simulation import Report, simulate


def first_failure(bug: PlantedBug) -> Report | None:
    for seed in range(bug.quick_from, bug.seeds):
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


def by_chaos_if(monkeypatch: pytest.MonkeyPatch, *, with_bug: int, without: int) -> planted_bugs.Finding:
    """What is said of a bug if chaos ends with these exit codes."""

    def chaos(words: Sequence[str], *more: str) -> subprocess.CompletedProcess[str]:
        code = with_bug if more else without
        told = "checker       FAIL: duplicate, dedup-window\nWRONG         the checker: ...\n" if code == 1 else ""
        return subprocess.CompletedProcess([], code, told, "")

    planted_bugs._is_clean.cache_clear()
    monkeypatch.setattr(planted_bugs, "_chaos", chaos)
    found = planted_bugs.by_chaos("takes_a_batch_twice")
    planted_bugs._is_clean.cache_clear()
    return found


def test_chaos_has_found_a_bug_only_if_it_fails_with_it_and_not_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = by_chaos_if(monkeypatch, with_bug=1, without=0)
    assert found.is_found and found.what == "duplicate, dedup-window"
    assert not by_chaos_if(monkeypatch, with_bug=1, without=1).is_found
    assert not by_chaos_if(monkeypatch, with_bug=0, without=0).is_found
    assert not by_chaos_if(monkeypatch, with_bug=tools.NOTHING_SHOWN, without=0).is_found


def test_bugs_that_cannot_be_planted_here_are_named_and_nobody_says_that_all_were_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["planted_bugs", "--only-chaos"])
    monkeypatch.setattr(tools, "missing", lambda tool: "/dev/fuse is not there")
    monkeypatch.setattr(
        planted_bugs, "by_chaos", lambda name: planted_bugs.Finding(name, "chaos", True, "9 s", 9.0, "duplicate")
    )
    assert planted_bugs.main() == tools.NOTHING_SHOWN
    told = capsys.readouterr().out
    assert told.count("NOT TRIED") == 3 and "all 2 planted bugs were found of those tried" in told


def test_what_broke_is_told_by_the_rows_of_histories_and_by_the_kind_of_what_the_code_came_upon() -> None:
    complaints = "duplicate, 2 times: a stands at 1, and at 2; b / dedup-window, 1 times: a / b"
    assert planted_bugs._rule(Violation("history", complaints)) == "duplicate, dedup-window"
    assert planted_bugs._rule(Violation("one-vote", "b1 voted twice")) == "one-vote"
    assert planted_bugs._rule(IndexError("list index out of range")) == "IndexError in the code"
