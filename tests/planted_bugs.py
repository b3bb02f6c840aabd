"""Plants every known-wrong behaviour in turn, and says by which means and how soon it was found: `make planted-bugs`.

A kit that does not find bugs that are there proves nothing by being green. A bug counts as found if a seed fails with
it and the same seed is clean without it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import pytest

from tests.chaos import tools
from tests.simulation.invariants import Violation
from tests.simulation.planted_bugs import PLANTED_BUGS, PlantedBug
from tests.simulation.simulation import simulate
from tests.simulation.world import simulation as world
from tests.simulation.world.planted_bugs import PLANTED, planted

BY_CHAOS = {
    "acknowledges_before_the_flush": ("power", "--rounds", "3"),
    "skips_some_syncs": ("power", "--rounds", "3"),
    "never_syncs_directories": ("power", "--rounds", "3"),
    "takes_a_batch_twice": (
        *("mixed", "--only", "slow links,reset links,kill leader", "--minutes", "1", "--disk", "plain"),
    ),
    "serves_what_is_not_committed": (
        *("mixed", "--only", "partition leader alone,partition one way", "--minutes", "1", "--disk", "plain"),
    ),
}


class Finding(NamedTuple):
    name: str
    means: str
    is_found: bool
    after: str
    """Seeds, or seconds of a real cluster."""
    seconds: float
    what: str
    """The rule that was broken."""


def by_replicas(bug: PlantedBug) -> Finding:
    began = time.process_time()
    what = ""
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        for tried in range(bug.seeds):
            failure = simulate(tried, bug.plan).failure
            if failure is not None:
                what = _rule(failure)
                break
    seconds = time.process_time() - began
    clean = simulate(tried, bug.plan).failure
    found = bool(what) and clean is None
    return Finding(bug.name, "simulation of replicas", found, _seeds(tried + 1), seconds, what + _if_unclean(clean))


def by_worlds(name: str) -> Finding:
    began = time.process_time()
    bug, what, tried = PLANTED[name], "", 0
    for seed in bug.seeds:
        tried += 1
        with planted(name):
            failure = world.simulate(seed, bug.plan).failure
        if failure is not None:
            what = _rule(failure)
            break
    seconds = time.process_time() - began
    clean = world.simulate(seed, bug.plan).failure
    found = bool(what) and clean is None
    shown = name.replace("-", " ")
    return Finding(shown, "simulation of clusters", found, _seeds(tried), seconds, what + _if_unclean(clean))


def needs_volatile_disks(name: str) -> bool:
    """Only a disk that can lose what was not synced shows it."""
    return BY_CHAOS[name][0] == "power"


def by_chaos(name: str) -> Finding:
    began = time.monotonic()
    done = _chaos(BY_CHAOS[name], "--bug", name)
    seconds = time.monotonic() - began
    failing = re.findall(r"^checker\s+FAIL: (.*)", done.stdout, re.MULTILINE)
    wrong = re.findall(r"WRONG[: ]+(.*)", done.stdout)
    what = ", ".join(failing) or (wrong[0][:60] if wrong else f"exit code {done.returncode}")
    found = done.returncode == 1 and bool(failing or wrong)
    if found and not _is_clean(BY_CHAOS[name]):
        found, what = False, f"{what} (but fails without it too)"
    return Finding(name.replace("_", " "), "chaos, " + BY_CHAOS[name][0], found, f"{seconds:.0f} s", seconds, what)


def _chaos(words: Sequence[str], *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.chaos", *words, "--seed", "3", *more]
    return subprocess.run(command, capture_output=True, text=True)


@cache
def _is_clean(words: tuple[str, ...]) -> bool:
    """Of brokers without a bug, asked once for each mix."""
    return _chaos(words).returncode == 0


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


def _rule(failure: BaseException) -> str:
    """The invariant that was broken; of histories the rows; of anything else what the code itself came upon."""
    if not isinstance(failure, Violation):
        return f"{type(failure).__name__} in the code"
    rule, _, complaints = str(failure).partition(": ")
    if rule != "history":
        return rule
    return ", ".join(complaint.partition(",")[0] for complaint in complaints.split(" / ") if ", " in complaint)


def _if_unclean(clean: BaseException | None) -> str:
    return "" if clean is None else f" (but fails without it too: {_rule(clean)})"


def findings(*, with_simulation: bool, by_chaos_of: Sequence[str]) -> Iterator[Finding]:
    if with_simulation:
        for bug in PLANTED_BUGS:
            yield by_replicas(bug)
        for name in PLANTED:
            yield by_worlds(name)
    for name in by_chaos_of:
        yield by_chaos(name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted_bugs", description=__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--no-chaos", action="store_true", help="only by simulation: some minutes less")
    only.add_argument("--only-chaos", action="store_true", help="only on real brokers")
    given = parser.parse_args()
    wanted = [] if given.no_chaos else list(BY_CHAOS)
    lacking = tools.missing("fuse") if wanted else None
    not_tried = [name for name in wanted if lacking is not None and needs_volatile_disks(name)]
    missed, tried = [], 0
    by_chaos_of = [name for name in wanted if name not in not_tried]
    for finding in findings(with_simulation=not given.only_chaos, by_chaos_of=by_chaos_of):
        verdict = "found" if finding.is_found else "MISSED"
        means = f"{finding.means:<23}{finding.after:>9}  {finding.seconds:6.1f} s"
        print(f"{verdict:<7}{finding.name:<58} {means}  {finding.what}", flush=True)
        tried += 1
        if not finding.is_found:
            missed.append(finding.name)
    for name in not_tried:
        print(f"NOT TRIED {name.replace('_', ' ')}: {lacking}")
    print(
        f"missed: {', '.join(missed)}"
        if missed
        else f"all {tried} planted bugs were found" + " of those tried" * bool(not_tried)
    )
    return 1 if missed else tools.NOTHING_SHOWN if not_tried else 0


if __name__ == "__main__":
    sys.exit(main())
