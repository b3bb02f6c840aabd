"""`python -m tests.chaos MIX [--minutes N] [--seed S] [--brokers N] [--bug NAME]`: see `make chaos`."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
from dataclasses import replace

import uvloop

from . import bugs, failover, faults, power, tools
from .referee import Verdict
from .run import Plan, run

MIXES = {
    "mixed": faults.ALL,
    "kills": (faults.KillOne, faults.KillLeader, faults.KillMajority, faults.KillAll, faults.KillMembers),
    "processes": (*faults.PROCESSES, faults.KillMembers, faults.PauseMembers),
    "network": faults.NETWORK,
    "disks": (*faults.DISKS, faults.KillLeader),
    "clocks": (faults.ClockJump, faults.KillLeader),
    "operators": (faults.TransferLeadership, faults.MovePartitions, faults.DrainOne, faults.RestartOneByOne),
    "scripts": (faults.PauseKill, faults.PartKill),
}
IN_NAMESPACE = "LOGRAFT_CHAOS_NAMESPACE"


def enter_namespace() -> None:
    """Go on in a mount namespace of our own, as root: whatever is mounted goes with its last process."""
    if IN_NAMESPACE not in os.environ and tools.missing("mount") is None:
        os.environ[IN_NAMESPACE] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("mix", nargs="?", default="mixed", choices=[*MIXES, "power", "failover"])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time; it is printed")
    parser.add_argument("--rounds", type=int, default=20, help="of the mixes power and failover")
    parser.add_argument("--brokers", type=int, default=3, choices=[3, 5])
    parser.add_argument("--disk", choices=["plain", "small", "volatile"], default=None)
    parser.add_argument("--only", default="", help="names of faults, by commas: instead of the mix's")
    parser.add_argument("--bug", default="", choices=["", *bugs.BUGS], help="planted in every broker")
    given = parser.parse_args()
    if not 0 < given.minutes < float("inf"):
        parser.error(f"--minutes {given.minutes:g}: a run lasts longer than 0 minutes")
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds}: there is at least 1 round")
    if given.seed is not None and given.seed < 0:
        parser.error(f"--seed {given.seed}: a seed is 0 or more")
    known = [*(kind.name() for kind in faults.ALL), *failover.TROUBLES]
    if strangers := sorted(set(given.only.split(",")) - {"", *known}):
        parser.error(f"--only {', '.join(strangers)}: no such fault; there are {', '.join(known)}")
    enter_namespace()
    kinds = MIXES.get(given.mix, ())
    if given.only:
        kinds = tuple(kind for kind in faults.ALL if kind.name() in given.only.split(","))
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    plan = Plan(
        given.mix,
        seed,
        seconds=60 * given.minutes,
        brokers=given.brokers,
        faults=kinds,
        disk=given.disk,
        bug=given.bug,
    )
    if given.mix == "power":
        if (why := tools.missing("fuse")) is not None:
            print(f"NOT DONE, nothing is shown: nothing here can lose what was not synced: {why}", file=sys.stderr)
            return tools.NOTHING_SHOWN
        again = f"make chaos MIX=power ROUNDS={given.rounds} SEED={seed}"
        plan = replace(plan, disk="volatile", script=power.rounds_of(given.rounds), again=again)
    if given.mix == "failover":
        again = f"make chaos MIX=failover ROUNDS={given.rounds} SEED={seed}"
        script = failover.rounds_of(given.rounds, given.only.split(",") if given.only else list(failover.TROUBLES))
        plan = replace(plan, topics={"t": 1}, disk="plain", hires=False, settings="", script=script, again=again)
    # Started in the background of a script, a process has SIGINT ignored; whoever means us shall be heard all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return 1 if runner.run(until_terminated(plan)).wrong else 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\ninterrupted; everything is cleaned up", file=sys.stderr)
        return 130


async def until_terminated(plan: Plan) -> Verdict:
    """The run, cut short by SIGTERM as by Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(plan)


if __name__ == "__main__":
    sys.exit(main())
