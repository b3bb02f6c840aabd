"""Many seeds: what is counted, what is reached, and that whatever fails stops the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from lograft.partitions.raft.points import Point, TermJournal

from tests.simulation import __main__ as command
from tests.simulation import campaign
from tests.simulation.campaign import Orders, run_seed, run_seeds
from tests.simulation.reach import Follower, functions_in, merge
from tests.simulation.simulation import Report
from tests.simulation.summary import Outcome, Summary


def a_report(seed: int, **fields: object) -> Report:
    usual: dict[str, object] = {
        "simulated_ms": 31_000.0,
        "records_acknowledged": 40,
        "faults": Counter({"kill": 2, "pause": 1, "(crashed after a promise)": 5}),
    }
    return Report(seed, **(usual | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields", [{"simulated_ms": 29_000.0}, {"records_acknowledged": 0}, {"faults": Counter({"kill": 2, "(seen)": 9})}]
)
def test_a_seed_that_is_worth_nothing_is_named_and_adds_to_no_sum(fields: dict[str, object]) -> None:
    summary = Summary()
    summary.add(Outcome(a_report(1)))
    summary.add(Outcome(a_report(2, **fields)))
    assert (summary.seeds, summary.faults["kill"], summary.seeds_with_fault["kill"]) == (1, 2, 1)
    assert "seed 2 does not count" in summary.told() and "1 seeds" in summary.told()


def test_a_seed_that_failed_is_told_whatever_it_is_worth() -> None:
    summary = Summary()
    summary.add(Outcome(a_report(7, simulated_ms=10.0), why="word-kept: ..."))
    assert summary.failed == {7: "word-kept: ..."}


def test_a_seed_counts_for_what_it_did_and_says_which_code_it_reached() -> None:
    outcome = run_seed(25, Orders(twice_every=25, follow_every=25))
    assert not outcome.why and not outcome.report.why_worthless
    assert outcome.ran_twice and outcome.followed
    reached = {path for path, _ in outcome.reached}
    assert {"partitions/replica.py", "partitions/raft/core.py", "partitions/storage/log.py"} <= reached


def test_two_traces_of_one_seed_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter((1, 2))
    monkeypatch.setattr(campaign, "simulate", lambda seed, plan: a_report(seed, digest=next(digests)))
    assert "two traces" in run_seed(10, Orders(follow_every=0)).why


def test_no_seed_runs_after_one_that_ends_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "simulate", lambda seed, plan: a_report(seed))
    seen: list[int] = []

    def take(outcome: Outcome) -> bool:
        seen.append(outcome.report.seed)
        return outcome.report.seed < 3

    run_seeds(range(9), Orders(follow_every=0), processes=1, on_outcome=take)
    assert seen == [0, 1, 2, 3]


def command_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *ran: Report) -> tuple[int, str]:
    """Exit code and last line of a command for nine seeds that is interrupted once these have run, if it is fewer."""

    def run(seeds: range, orders: Orders, *, on_outcome: Callable[[Outcome], bool], **_: object) -> None:
        for report in ran:
            on_outcome(Outcome(report))
        if len(ran) < len(seeds):
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_seeds", run)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["simulation", "--seeds", "9"])
    code = command.main()
    return code, capsys.readouterr().out.splitlines()[-1]


def test_a_campaign_that_was_interrupted_says_so_and_how_many_seeds_ran(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = command_told(monkeypatch, capsys, a_report(0), a_report(1))
    assert (code, told) == (130, "interrupted after 2 of 9 seeds; of those no seed failed")
    code, told = command_told(monkeypatch, capsys, *map(a_report, range(9)))
    assert (code, told) == (0, "no seed failed")


def test_a_campaign_of_which_no_seed_counts_is_not_called_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = command_told(monkeypatch, capsys, *(a_report(seed, records_acknowledged=0) for seed in range(9)))
    assert (code, told) == (1, "no seed counts: nothing is shown")


def test_a_line_is_reached_once_it_was_executed() -> None:
    function = next(one for one in functions_in(["partitions"]) if one.name == "TermJournal.holds")
    follower = Follower(["partitions"])
    journal = TermJournal()
    follower.start()
    journal.holds(Point(1, 0, 1))
    follower.stop()
    journal.last_of(1)
    fresh = follower.take_fresh()
    assert fresh[function.path, function.first_line] <= function.lines
    assert all(lines <= {*range(first, first + 100)} for (_, first), lines in fresh.items())
    known = dict(fresh)
    merge(known, fresh)
    assert known == fresh and not follower.take_fresh()
