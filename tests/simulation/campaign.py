"""Many seeds on all cores.

Invariants
    what a seed says does not depend on which process runs it, nor on what ran there before
    nothing of it outlives its end: an interrupt, or the first seed that fails, ends the other processes
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.simulation.reach import Follower
from tests.simulation.simulation import LONG, Report, simulate
from tests.simulation.summary import FOLDERS, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """How each seed is run."""

    twice_every: int = 10
    """Every so many-th seed runs twice, to the same trace; 1: each; 0: none."""
    follow_every: int = 25
    """Of every so many-th seed it is noted which code it reaches; 0: of none."""
    events_shown: int = 60


_follower = Follower(FOLDERS)


def run_seed(seed: int, orders: Orders) -> Outcome:
    """Run it in this process."""
    began = time.process_time()
    plan = replace(LONG, events_shown=orders.events_shown)
    followed = bool(orders.follow_every) and seed % orders.follow_every == 0
    twice = bool(orders.twice_every) and seed % orders.twice_every == 0
    if followed:
        _follower.start()
    try:
        report = simulate(seed, plan)
    finally:
        _follower.stop()
    why = "" if report.failure is None else explained(report, orders.events_shown)
    if twice and not why:
        again = simulate(seed, plan)
        if (again.digest, again.steps) != (report.digest, report.steps):
            why = (
                f"seed {seed} gave two traces: {report.digest:08x} in {report.steps} steps, "
                f"then {again.digest:08x} in {again.steps}\n{replay(seed)} TWICE=1"
            )
    report.failure = None
    report.events = ""
    return Outcome(
        report,
        why,
        cpu_s=time.process_time() - began,
        ran_twice=twice,
        followed=followed,
        reached=_follower.take_fresh(),
    )


def explained(report: Report, events_shown: int) -> str:
    assert report.failure is not None
    events = "\n".join(report.events.splitlines()[-events_shown:]) if events_shown else ""
    return (
        f"{events}\n\n{report}\n{dict(report.faults)}\n{report.drawn}\n"
        f"{''.join(traceback.format_exception(report.failure, limit=-6))}\n"
        f"seed {report.seed}: {type(report.failure).__name__}: {report.failure}\n{replay(report.seed)}"
    )


def replay(seed: int) -> str:
    return f"replay: make sim FROM={seed} SEEDS=1"


def run_seeds(
    seeds: range, orders: Orders, *, processes: int, on_outcome: Callable[[Outcome], bool], idle_s: float = 600.0
) -> None:
    """Run all of them. `on_outcome` hears of each that ends, in no order, and says whether to go on.

    Raises TimeoutError: no seed ended within `idle_s`.
    """
    if processes == 1 or len(seeds) == 1:
        for seed in seeds:
            if not on_outcome(run_seed(seed, orders)):
                return
        return
    pool = multiprocessing.get_context("spawn").Pool(min(processes, len(seeds)), _leave_interrupts_to_the_parent)
    try:
        outcomes = pool.imap_unordered(_Task(orders), seeds)
        for outcome in _in_time(outcomes, idle_s):
            if not on_outcome(outcome):
                return
    finally:
        pool.terminate()
        pool.join()


def _in_time(outcomes: multiprocessing.pool.IMapIterator[Outcome], idle_s: float) -> Iterator[Outcome]:
    while True:
        try:
            yield outcomes.next(idle_s)
        except StopIteration:
            return
        except multiprocessing.TimeoutError as error:
            raise TimeoutError(f"no seed ended within {idle_s:.0f} s") from error


@dataclass(frozen=True, slots=True)
class _Task:
    orders: Orders

    def __call__(self, seed: int) -> Outcome:
        return run_seed(seed, self.orders)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
