"""Run seeds of the simulation and say what they saw: `python -m tests.simulation --seeds N [--from S]`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.simulation.simulation import Plan, Report, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--digests", action="store_true", help="print each seed's digest, and nothing else")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    parser.add_argument("--events", type=int, default=60, help="of the trace to print, for a seed that fails")
    arguments = parser.parse_args()
    reports: list[Report] = []
    started = time.process_time()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        report = simulate(seed, Plan(events_shown=arguments.events))
        reports.append(report)
        if arguments.digests:
            print(f"{seed} {report.digest:08x} {report.steps}")
        if report.failure is not None:
            print_failure(report)
            if not arguments.keep_going:
                break
    failed = [report.seed for report in reports if report.failure is not None]
    if not arguments.digests:
        print_summary(reports, time.process_time() - started)
        print(f"failed: {failed}" if failed else "no seed failed")
    return 1 if failed else 0


def print_failure(report: Report) -> None:
    print(report.events, file=sys.stderr)
    print(f"\n{report}\n{dict(report.faults)}\n{report.drawn}", file=sys.stderr)
    if report.failure is not None:
        traceback.print_exception(report.failure, limit=-6)
    print(f"replay: python -m tests.simulation --from {report.seed} --seeds 1\n", file=sys.stderr)


def print_summary(reports: list[Report], seconds: float) -> None:
    faults: Counter[str] = sum((report.faults for report in reports), Counter())
    print(f"{len(reports)} seeds in {seconds:.1f} s of processor time")
    simulated = sum(report.simulated_ms for report in reports) / 1000
    for name, total in (
        ("simulated seconds", round(simulated)),
        ("records acknowledged", sum(report.records_acknowledged for report in reports)),
        ("records read", sum(report.records_read for report in reports)),
        ("moves of a log start", sum(report.trims for report in reports)),
        ("resets", sum(report.resets for report in reports)),
        ("compactions", sum(report.compactions for report in reports)),
        ("voter changes", sum(report.voter_changes for report in reports)),
        ("leaders elected", sum(report.leaders_elected for report in reports)),
        ("process starts", sum(report.starts for report in reports)),
        ("messages delivered", sum(report.messages for report in reports)),
        ("faults", sum(faults.values())),
    ):
        print(f"  {name:<32} {total:>10,}")
    for fault, count in faults.most_common():
        print(f"    {fault:<30} {count:>10,}")


if __name__ == "__main__":
    sys.exit(main())
