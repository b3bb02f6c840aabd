"""Run seeds of the simulation on all cores, and say what they saw: `make sim SEEDS=n [FROM=s]`.

A seed is worth something if it simulates 30 seconds or more with three faults or more, and acknowledges records. It is
the same on every machine: one that fails can be replayed by its number. Seeds of several runs add up as long as they
name the same simulated code, at the end.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from tests.simulation.campaign import Orders, run_seed, run_seeds
from tests.simulation.simulated_code import simulated_code
from tests.simulation.summary import Outcome, Summary


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=_at_least(1), default=100, help="how many")
    parser.add_argument("--from", type=_at_least(0), default=0, dest="first", help="the first one")
    parser.add_argument("--processes", type=_at_least(1), default=os.cpu_count() or 1, help="one for each core")
    parser.add_argument("--twice", action="store_true", help="run each seed twice, not only one in ten")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    parser.add_argument("--events", type=_at_least(0), default=60, help="of the trace to print, for a seed that fails")
    parser.add_argument(
        "--follow", type=_at_least(0), default=25, metavar="N", help="note of every Nth seed which code it reaches"
    )
    parser.add_argument("--never-reached", action="store_true", help="name the functions that no seed reached")
    parser.add_argument("--digests", action="store_true", help="print each seed's digest, and nothing else")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    orders = Orders(
        twice_every=1 if given.twice else 10,
        follow_every=1 if given.seeds == 1 else given.follow,
        events_shown=given.events,
    )
    if given.digests:
        return _print_digests(seeds)
    campaign = _Campaign(given.seeds, keeps_going=given.keep_going)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell had it ignored, as for what runs behind it
        signal.signal(number, signal.default_int_handler)
    interrupted = False
    try:
        run_seeds(seeds, orders, processes=given.processes, on_outcome=campaign.take)
    except KeyboardInterrupt:
        interrupted = True
    except TimeoutError as error:
        campaign.clear_line()
        print(error, file=sys.stderr)
    campaign.clear_line()
    summary = campaign.summary
    print(summary.told(never_reached=given.never_reached))
    print(
        "code that was simulated: {0.digest}, {0.modules} modules ({0.product} without tests)".format(simulated_code())
    )
    print(campaign.verdict(interrupted=interrupted))
    if interrupted:
        return 130
    return 1 if summary.failed or not campaign.is_complete or not summary.seeds else 0


class _Campaign:
    """Hears of outcomes, and shows how far it is."""

    def __init__(self, count: int, *, keeps_going: bool) -> None:
        self.summary = Summary()
        self._count = count
        self._done = 0
        self._keeps_going = keeps_going
        self._began = time.monotonic()
        self._shown = float("-inf")
        self._is_terminal = sys.stderr.isatty()

    @property
    def is_complete(self) -> bool:
        return self._done == self._count

    def verdict(self, *, interrupted: bool) -> str:
        """The last line: what failed, out of how many."""
        failed = ", ".join(map(str, sorted(self.summary.failed)))
        what = (
            f"failed: {failed}"
            if failed
            else "no seed failed"
            if self.summary.seeds
            else "no seed counts: nothing is shown"
        )
        if self.is_complete:
            return what
        end = "interrupted" if interrupted else "ended"
        return f"{end} after {self._done:,} of {self._count:,} seeds; of those {what}"

    def take(self, outcome: Outcome) -> bool:
        self._done += 1
        self.summary.add(outcome)
        if outcome.why:
            self.clear_line()
            print(f"{outcome.why}\n", file=sys.stderr)
        self._show()
        return self._keeps_going or not outcome.why

    def clear_line(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _show(self) -> None:
        now = time.monotonic()
        if not self._is_terminal or now - self._shown < 0.5:
            return
        self._shown = now
        pace = self._done / max(now - self._began, 1e-9)
        left_s = (self._count - self._done) / pace
        left = (
            f"{left_s / 3600:.1f} h"
            if left_s > 5400
            else f"{left_s / 60:.0f} min"
            if left_s > 90
            else f"{left_s:.0f} s"
        )
        failed = f", {len(self.summary.failed)} failed" if self.summary.failed else ""
        self.clear_line()
        print(
            f"{self._done:,} of {self._count:,} seeds{failed}, {pace:.1f} a second, {left} left",
            end="",
            file=sys.stderr,
            flush=True,
        )


def _print_digests(seeds: range) -> int:
    failed = False
    for seed in seeds:
        outcome = run_seed(seed, Orders(twice_every=0, follow_every=0))
        print(f"{seed} {outcome.report.digest:08x} {outcome.report.steps}")
        if outcome.why:
            failed = True
            print(outcome.why, file=sys.stderr)
    return 1 if failed else 0


def _at_least(least: int) -> object:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
