"""The same work on lograft, Apache Kafka, NATS JetStream, RabbitMQ and the bare pipe, in turn: A B C, A B C.

    make bench-peers                                five rounds of everything
    make bench-peers ROUNDS=1 QUICK=1               does all of it work here? The figures are worth little
    make bench-peers SYSTEMS="lograft kafka"        only these (and the bare pipe, unless PIPE= )

What is not on this machine comes by Maven, `go install` and apt-get, as these are set up here, and is kept below
$XDG_CACHE_HOME/lograft/peers. What cannot be had is named and left out. Everything listens on 127.0.0.1 and is stopped
again, and its data deleted. The table is printed; JSON and PNG go to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from pathlib import Path

import psutil

from . import pipe
from .figures import END_TO_END, MAIN_VALUE, ONE_BY_ONE, PIPE, REQUESTS, Figure
from .kafka import Kafka
from .lograft_system import Lograft
from .nats import Nats
from .plot import draw
from .processes import CannotBeHad, Failed
from .rabbitmq import RabbitMQ
from .report import NOTES, as_json, machine, ratios, table
from .system import System
from .turn import QUICK, Known, Plan, Trouble, Turn, turn_of_the_pipe

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        Lograft(),
        Lograft("lograft-memory", durability="memory"),
        Kafka(),
        Kafka("kafka-fsync", flush=True),
        Nats(),
        Nats("nats-fsync", sync_always=True),
        RabbitMQ(),
    )
}
FREE_BYTES_LEAST = 15_000_000_000
BUSY = ": the machine was busy with other things, and the figures are worth little"
IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}


class Comparison:
    """All rounds; what was found so far is there at any time, however it ends."""

    def __init__(self, systems: Sequence[System], plan: Plan, data: Path, *, with_pipe: bool) -> None:
        self._plan, self._data, self._with_pipe = plan, data, with_pipe
        self._wanted = list(systems)
        self.systems: list[System] = []
        self.left_out: dict[str, str] = {}
        self.troubles: list[Trouble] = []
        self.figures: list[Figure] = []
        self.versions: dict[str, str] = {}
        self.loads: list[tuple[int, str, float]] = []
        self.rounds_done = 0
        self.load_before = os.getloadavg()[0]
        """Later ones are of our own making."""
        self._known: Known = {}
        self._took: dict[str, float] = {}

    @property
    def was_busy(self) -> bool:
        return self.load_before > (os.cpu_count() or 1) / 2

    @property
    def legend(self) -> dict[str, str]:
        found = {PIPE: pipe.KEEPS} if self._with_pipe else {}
        return found | {system.name: system.keeps for system in self.systems}

    def prepare(self) -> None:
        for system in self._wanted:
            tell(f"{system.name}: is it here? If not, it is fetched now")
            try:
                system.prepare()
                self.versions |= system.versions()
            except (CannotBeHad, Failed) as failure:
                self.left_out[system.name] = str(failure)
                tell(f"{system.name}: left out: {failure}")
            else:
                self.systems.append(system)

    def groups(self) -> list[list[System]]:
        """Those that take their turns on the same servers, together."""
        return [list(group) for _, group in groupby(self.systems, key=lambda system: system.servers_of)]

    def seconds_left(self, rounds_left: int, still_in_round: Sequence[Sequence[System]] = ()) -> float:
        """An empty group stands for the bare pipe."""

        def seconds(group: Sequence[System]) -> float:
            if (name := label(group)) in self._took:
                return self._took[name]
            if not group:
                return self._plan.seconds_of_the_pipe()
            return self._plan.seconds_to_start(group[0]) + sum(map(self._plan.seconds_of, group))

        return sum(map(seconds, still_in_round)) + rounds_left * sum(map(seconds, self._in_a_round()))

    def _in_a_round(self) -> list[list[System]]:
        return [*([[]] if self._with_pipe else []), *self.groups()]

    def run(self) -> None:
        rounds = self._plan.rounds
        tell(f"{rounds} rounds of {', '.join(self.legend)}: about {minutes(self.seconds_left(rounds))}")
        for number in range(1, rounds + 1):
            groups = self._in_a_round()
            for place, group in enumerate(groups):
                left = self.seconds_left(rounds - number, groups[place:])
                load = os.getloadavg()[0]
                self.loads.append((number, label(group), load))
                tell(f"round {number} of {rounds}, {label(group)} (load {load:.1f}, {minutes(left)} left)")
                began = time.monotonic()
                if self._one_turn(number, group):
                    self._took[label(group)] = time.monotonic() - began
            self.rounds_done = number

    def _one_turn(self, number: int, group: Sequence[System]) -> bool:
        directory = Path(tempfile.mkdtemp(prefix="turn-", dir=self._data))
        try:
            if not group:
                for figure in turn_of_the_pipe(number, self._plan, directory):
                    self._take(figure)
                return True
            with group[0].running(directory) as cluster:
                turns = [Turn(number, system, system.on(cluster), self._plan, self._known) for system in group]
                turns[0].warm_up()
                # In every second round the other way about, so that none always finds fuller servers.
                for turn in turns if number % 2 else turns[::-1]:
                    for found in turn.figures():
                        self._take(found)
            return True
        except Failed as failure:
            self._take(Trouble(number, label(group), "the whole turn", str(failure)))
            for system in group:
                if not any(figure.system == system.name for figure in self.figures):
                    self.left_out[system.name] = f"it did not run here: {failure}"
                    self.systems.remove(system)
            return False
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.sync()

    def _take(self, found: Figure | Trouble) -> None:
        if isinstance(found, Trouble):
            self.troubles.append(found)
            tell(f"    FAILED {found.what}: {found.why}")
            return
        self.figures.append(found)
        value = MAIN_VALUE[found.work]
        more = f", p99 {found.values['p99_ms']:.2f} ms" if found.work in (END_TO_END, ONE_BY_ONE) else ""
        unit = "ms" if more else "a second" if found.work == REQUESTS else "MB/s"
        tell(f"    {found.work}, {found.record_bytes} B, {found.client}: {found.values[value]:,.2f} {unit}{more}")


def label(group: Sequence[System]) -> str:
    return " and ".join(system.name for system in group) or PIPE


def tell(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S}  {line}", file=sys.stderr, flush=True)


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def file_system_of(path: Path) -> str:
    """Its type, by the longest mount point above it."""
    resolved = path.resolve()
    above = [mount for mount in psutil.disk_partitions(all=True) if resolved.is_relative_to(Path(mount.mountpoint))]
    return max(above, key=lambda mount: len(mount.mountpoint)).fstype if above else "unknown"


def main(
    systems: Mapping[str, System] = SYSTEMS,
    *,
    prog: str = "python -m tests.bench.peers",
    description: str | None = __doc__,
    compared: tuple[str, str] | None = None,
    default: str = "",
) -> int:
    """`compared`: two of the systems, of which ratios are told as well. `default`: those that take part unasked."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="rounds of everything (5; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="a second of each, to see that it works")
    parser.add_argument("--systems", default=default, help=f"some of: {' '.join(systems)} ({default or 'all'})")
    parser.add_argument("--without-pipe", action="store_true", help="no bare pipe, and so no ratios")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="how long records are sent in a throughput figure (2)"
    )
    parser.add_argument("--data", type=Path, default=None, help="where servers keep their data: a real disk (/var/tmp)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="directory of the JSON and the PNG")
    given = parser.parse_args()
    unknown = set(given.systems.replace(",", " ").split()) - systems.keys()
    if unknown:
        parser.error(f"--systems: there is no {' and no '.join(sorted(unknown))}; there are {', '.join(systems)}")
    wanted = [systems[name] for name in given.systems.replace(",", " ").split()] or list(systems.values())
    if given.rounds < 0 or given.seconds < 0:
        parser.error("--rounds and --seconds: they must be 1 or more")
    plan = QUICK if given.quick else Plan()
    plan = replace(plan, rounds=given.rounds or plan.rounds, seconds=given.seconds or plan.seconds)

    above = given.data or Path("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir())
    if not above.is_dir():
        parser.error(f"--data {above}: there is no such directory")
    file_system = file_system_of(above)
    if file_system in IN_MEMORY:
        parser.error(f"{above} is in memory ({file_system}), where fsync costs nothing: name a real disk with --data")
    free = shutil.disk_usage(above).free
    if free < FREE_BYTES_LEAST:
        parser.error(
            f"{above} has {free / 1e9:.0f} GB free, and a turn may need {FREE_BYTES_LEAST / 1e9:.0f}: "
            "name another with --data"
        )
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {given.out}: {error.strerror}")
    with_pipe = not given.without_pipe
    return compare(wanted, plan, above, file_system, given.out, with_pipe=with_pipe, compared=compared)


def compare(
    wanted: Sequence[System],
    plan: Plan,
    above: Path,
    file_system: str,
    out: Path,
    *,
    with_pipe: bool,
    compared: tuple[str, str] | None = None,
) -> int:
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    data = Path(tempfile.mkdtemp(prefix="lograft-peers-", dir=above))
    comparison = Comparison(wanted, plan, data, with_pipe=with_pipe)
    began = datetime.now()
    interrupted = False
    if comparison.was_busy:
        tell(f"load average {comparison.load_before:.1f}{BUSY}")
    try:
        comparison.prepare()
        comparison.run()
    except KeyboardInterrupt:
        interrupted = True
        tell("interrupted: all servers are stopped; what was measured so far follows")
    finally:
        shutil.rmtree(data, ignore_errors=True)
    if not comparison.figures:
        tell("nothing was measured")
        return 130 if interrupted else 1
    facts: dict[str, object] = {
        "began": began.isoformat(timespec="seconds"),
        "took_s": round((datetime.now() - began).total_seconds()),
        "rounds_done": comparison.rounds_done,
        "machine": machine(above, file_system),
        "versions": comparison.versions,
        "load_average_before": comparison.load_before,
        "was_busy": comparison.was_busy,
        "load_averages": comparison.loads,
    }
    _show(comparison, facts, plan)
    if compared is not None:
        print(f"\n{ratios(comparison.figures, *compared)}")
    _keep(comparison, facts, plan, out / f"peers-{began:%Y%m%d-%H%M%S}")
    return 130 if interrupted else 0


def _show(comparison: Comparison, facts: dict[str, object], plan: Plan) -> None:
    print(f"\nRounds: {comparison.rounds_done} of {plan.rounds}. Each figure is a median (least to most).")
    print(f"Load average before it began: {comparison.load_before:.1f}{BUSY if comparison.was_busy else ''}.\n")
    print(
        table(
            comparison.figures,
            systems=comparison.legend,
            left_out=comparison.left_out,
            troubles=comparison.troubles,
        )
    )
    print("\nMachine and versions")
    for name, fact in {**facts["machine"], **comparison.versions}.items():  # type: ignore[dict-item]
        print(f"  {name:16} {fact}")
    print("\nWhat differs, and how to read this")
    for note in NOTES:
        print(f"  - {note}")


def _keep(comparison: Comparison, facts: dict[str, object], plan: Plan, base: Path) -> None:
    found = as_json(
        comparison.figures,
        systems=comparison.legend,
        left_out=comparison.left_out,
        troubles=comparison.troubles,
        facts=facts,
        plan=plan,
    )
    base.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    tell(f"kept: {base.with_suffix('.json')}")
    hardware = facts["machine"]
    assert isinstance(hardware, dict)
    title = (
        f"Three servers on one machine, R=3: {hardware['cpu']}, {hardware['cores']} cores, {hardware['file_system']}. "
        f"{comparison.rounds_done} rounds, medians, least to most. "
        + " · ".join(f"{name} {version}" for name, version in comparison.versions.items())
    )
    try:
        draw(comparison.figures, systems=comparison.legend, title=title, path=base.with_suffix(".png"))
    except ImportError:
        tell("no plot: matplotlib is not installed (pip install -e '.[peers]')")
    else:
        tell(f"kept: {base.with_suffix('.png')}")


def _end(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
