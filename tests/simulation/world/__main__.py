"""Run seeds of whole clusters and say what they saw: `python -m tests.simulation.world --seeds N [--from S]`.

As with replicas, a seed is worth something if it simulates 30 seconds or more with three faults or more, and
acknowledges records.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.simulation.world.planted_bugs import PLANTED, planted
from tests.simulation.world.simulation import TRIMMED, Plan, Report, simulate
from tests.simulation.world.verdict import write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.world", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--digests", action="store_true", help="print each seed's digest, and nothing else")
    parser.add_argument("--twice", action="store_true", help="run each seed twice, and compare")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    parser.add_argument("--events", type=int, default=60, help="of the trace to print, for a seed that fails")
    parser.add_argument("--history", metavar="FILE", help="write the last seed's history there")
    parser.add_argument("--plant", choices=sorted(PLANTED), help="with a known wrong behaviour")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.first < 0:
        parser.error(f"--seeds {arguments.seeds} --from {arguments.first}: at least 1 seed, from 0 on")
    reports: list[Report] = []
    started = time.process_time()
    interrupted = False
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        try:
            with planted(arguments.plant):
                report = simulate(seed, Plan(events_shown=arguments.events))
                again = simulate(seed, Plan(events_shown=arguments.events)) if arguments.twice else report
        except KeyboardInterrupt:
            interrupted = True
            break
        if again.digest != report.digest:
            report.failure = report.failure or AssertionError(f"{report.digest:08x}, then {again.digest:08x}")
        reports.append(report)
        if arguments.digests:
            print(f"{seed} {report.digest:08x} {report.steps}", flush=True)
        if report.failure is not None:
            print_failure(report, replay(report.seed, arguments.plant, twice=arguments.twice))
            if not arguments.keep_going:
                break
    if arguments.history and reports:
        write(reports[-1].history, Path(arguments.history), brokers=3, trimmed=[TRIMMED])
    failed = [report.seed for report in reports if report.failure is not None]
    counting = [report for report in reports if not report.why_worthless or report.failure is not None]
    if not arguments.digests:
        print_summary(counting, time.process_time() - started)
        for report in reports:
            if report not in counting:
                print(f"seed {report.seed} does not count: {report.why_worthless}")
        print(verdict(failed, len(counting), len(reports), arguments.seeds, interrupted=interrupted))
    if interrupted:
        return 130
    return 1 if failed or not counting else 0


def verdict(failed: list[int], counting: int, ran: int, wanted: int, *, interrupted: bool) -> str:
    """The last line: what failed, out of how many."""
    what = f"failed: {failed}" if failed else "no seed failed" if counting else "no seed counts: nothing is shown"
    if ran == wanted:
        return what
    return f"{'interrupted' if interrupted else 'ended'} after {ran} of {wanted} seeds; of those {what}"


def print_failure(report: Report, again: str) -> None:
    print(report.events, file=sys.stderr)
    print(f"\n{report}\n{dict(report.faults)}\n{report.drawn}", file=sys.stderr)
    if report.failure is not None:
        traceback.print_exception(report.failure, limit=-8)
    print(f"replay: {again}\n", file=sys.stderr, flush=True)


def replay(seed: int, plant: str | None, *, twice: bool = False) -> str:
    """What to say for the same seed once more, with the same bug in the code."""
    if plant is None and not twice:
        return f"make world FROM={seed} SEEDS=1"
    more = (" --twice" if twice else "") + (f" --plant {plant}" if plant else "")
    return f".venv/bin/python -m tests.simulation.world --from {seed} --seeds 1{more}"


def print_summary(reports: list[Report], seconds: float) -> None:
    faults: Counter[str] = sum((report.faults for report in reports), Counter())
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counts)
    simulated = sum(report.simulated_ms for report in reports) / 1000
    print(
        f"{len(reports)} seeds that count, in {seconds:.1f} s of processor time, "
        f"{seconds / max(simulated, 1):.3f} a simulated one"
    )
    print(f"  {'simulated seconds':<32} {round(simulated):>10,}")
    for name, total in counts.items():
        print(f"  {name:<32} {total:>10,}")
    judged = sum((report.judged for report in reports), Counter())
    print("  judged: " + ", ".join(f"{row} {count:,}" for row, count in judged.items()))
    print(f"  {'faults':<32} {sum(faults.values()):>10,}")
    for fault, count in faults.most_common():
        print(f"    {fault:<30} {count:>10,}")


if __name__ == "__main__":
    sys.exit(main())
