"""`up`, `down`, `status`, `kill`, `start`, `broker`: clusters on this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from .endings import Refused, say
from .tables import OutputFormat

if TYPE_CHECKING:
    from .health import ClusterHealth
    from .local_cluster import LocalBroker, LocalCluster

READY_TIMEOUT_S = 60.0
LOCAL_BROKERS_MAX = 20
_WATCH_INTERVAL_S = 0.25

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Directory of the cluster.  [default: ./lograft-data, or the last one]"),
]
OutputOption = Annotated[OutputFormat, typer.Option("-o", "--output", help="For people, or for programs.")]

BrokerNumber = Annotated[int, typer.Argument(help="Number of the broker, from 0.", show_default=False)]


def up(
    brokers: Annotated[
        int | None,
        typer.Option("-n", "--brokers-count", min=1, max=LOCAL_BROKERS_MAX, help="How many brokers.  [default: 3]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where all of it lives.  [default: ./lograft-data]")
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65000, help="Broker i listens on base+10i (gRPC), +1 (peers), +2 (HTTP).  [default: 9600]"
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready, and leave it running.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Stop and delete the cluster in DIR first, with all its data.")
    ] = False,
    monitoring: Annotated[
        bool, typer.Option("--monitoring", help="Start Prometheus beside it, with our alerts; it must be installed.")
    ] = False,
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = "info",
) -> None:
    """Start a cluster on this machine, and wait until it is ready.

    Every broker is a plain process; nothing is installed and nothing runs as root. Ctrl-C stops all of them, and
    running `up` again continues with the same data.

    \b
      lograft up                        three brokers on 9600, 9610, 9620
      lograft up -n 1 --detach          one broker, in the background
      lograft up --fresh                begin anew with an empty log
      lograft up --monitoring           with a Prometheus that watches it
      lograft up --data /tmp/x --base-port 9700      a second cluster beside the first
    """
    from .local_cluster import DEFAULT_DIRECTORY, remember
    from .local_monitoring import find_program

    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"{log_level!r} is none of debug, info, warning, error", param_hint="--log-level")
    directory = Path(os.path.abspath(data or DEFAULT_DIRECTORY))
    started_at = time.monotonic()
    with _stopping_on_signals():
        program = find_program() if monitoring else None  # refused before anything has been started
        cluster = _bring_up(directory, brokers, base_port, program, fresh=fresh, log_level=log_level)
        if cluster is None:
            return
        try:
            remember(directory)
            _show_addresses(cluster)
            if cluster.monitoring is not None and cluster.is_watched:
                say(f"\nPrometheus: {cluster.monitoring.url}/alerts")
            say(f"\nready in {time.monotonic() - started_at:.1f} s, data in {cluster.shown_directory}")
            _show_hints(cluster, detach)
            if not detach:
                _watch(cluster)
        except KeyboardInterrupt:
            if detach:
                raise
            _stop_watched(cluster)


def _bring_up(
    directory: Path,
    brokers: int | None,
    base_port: int | None,
    prometheus: Path | None,
    *,
    fresh: bool,
    log_level: str,
) -> LocalCluster | None:
    """The cluster, every broker of it healthy; None if it ran already. What is started here is stopped on failure.

    `prometheus` is the program that is to watch it; None for none.
    """
    from .local_cluster import DEFAULT_BASE_PORT, DEFAULT_BROKERS, LocalCluster

    with _lock_of_new_or_old(directory):
        cluster = LocalCluster.load(directory)
        if cluster is not None and fresh:
            if cluster.running:
                say(f"stopping {_brokers(len(cluster.running))} of {cluster.shown_directory}")
            cluster.stop("lograft up --fresh")
            cluster.delete()
            cluster = None
        if cluster is not None and _is_up_already(cluster, brokers, base_port):
            if prometheus is not None:
                _watch_running(cluster, prometheus)
            return None
        if cluster is not None and cluster.is_watched:
            cluster.stop("lograft up")  # no broker runs, but its Prometheus does: it is to have the new configuration
        if cluster is None:
            cluster = LocalCluster.new(directory, brokers or DEFAULT_BROKERS, base_port or DEFAULT_BASE_PORT)
        elif brokers not in (None, len(cluster.members)):
            raise Refused(
                f"the cluster in {cluster.shown_directory} has {_brokers(len(cluster.members))}, not {brokers}",
                "leave -n out to start it as it is, or --fresh to delete it and begin anew",
            )
        else:
            cluster = cluster.moved_to(base_port or cluster.base_port)
        _refuse_taken_ports(cluster)
        try:
            cluster.prepare(log_level)
            for broker in cluster.members:
                cluster.launch(broker)
            monitoring = cluster.launch_monitoring(prometheus) if prometheus is not None else None
            _wait_until_ready(cluster)
            if monitoring is not None:
                monitoring.wait_until_ready()
        except BaseException:
            cluster.stop("lograft up", timeout_s=5.0)
            raise
    return cluster


def _watch_running(cluster: LocalCluster, prometheus: Path) -> None:
    """`up --monitoring` of a cluster that runs already; the caller holds the lock."""
    if cluster.monitoring is None or not cluster.is_watched:
        cluster.launch_monitoring(prometheus).wait_until_ready()
    if cluster.monitoring is not None:
        say(f"Prometheus: {cluster.monitoring.url}/alerts")


def down(data: DataOption = None) -> None:
    """Stop the brokers of the local cluster, and its Prometheus. Their data stays; `lograft up` continues with it.

    \b
      lograft down
    """
    from .local_cluster import find, locked

    cluster = find(data)
    with locked(cluster.directory):
        cluster = find(cluster.directory)
        running = len(cluster.running)
        if not running and not cluster.is_watched:
            say(f"no broker of {cluster.shown_directory} is running")
            return
        killed = cluster.stop("lograft down")
    for broker in killed:
        say(f"broker {broker.broker_id} did not stop in time and was killed; nothing acknowledged is lost")
    _say_stopped(cluster, running)


def status(data: DataOption = None, output: OutputOption = OutputFormat.text) -> None:
    """Show the brokers of the local cluster: processes, addresses, health.

    \b
      lograft status
      lograft status -o json
    """
    import asyncio

    from .health import wait_until
    from .local_cluster import find
    from .tables import age, columns, show, show_json, size

    cluster = find(data)
    health = None
    if cluster.running:
        health = asyncio.run(wait_until(cluster.addresses, lambda _: True, timeout_s=0))
    rows = []
    answers = health.brokers if health else [None] * len(cluster.members)
    for broker, answer in zip(cluster.members, answers, strict=True):
        rows.append(_BrokerRow.of(broker, serves=bool(answer and answer.serves)))
    if output is OutputFormat.json:
        show_json(
            {
                "directory": str(cluster.directory),
                "running": len(cluster.running),
                "healthy": bool(health and health.whole),
                "reason": health.reason if health else "stopped",
                "brokers": [row.as_json() for row in rows],
                "prometheus": _prometheus_as_json(cluster),
            }
        )
        return
    table = [
        (
            row.broker.broker_id,
            row.state,
            row.pid or "-",
            row.broker.address,
            row.broker.metrics_url,
            age(row.age_s) if row.age_s is not None else "-",
            size(row.memory_bytes) if row.memory_bytes is not None else "-",
        )
        for row in rows
    ]
    show(columns(("BROKER", "STATE", "PID", "GRPC", "METRICS", "AGE", "MEMORY"), table))
    _tell_of_prometheus(cluster)
    if health is None:
        say(f"\nstopped; `lograft up{cluster.data_option}` starts it again with its data")
    elif health.whole:
        say(f"\nhealthy, data in {cluster.shown_directory}")
    else:
        say(f"\nnot healthy: {health.reason}")


def _prometheus_as_json(cluster: LocalCluster) -> dict[str, object] | None:
    if cluster.monitoring is None or not (cluster.is_watched or cluster.monitoring.ended_by is None):
        return None
    watched = cluster.is_watched
    return {
        "url": cluster.monitoring.url,
        "state": "running" if watched else "died",
        "pid": cluster.monitoring.process.pid if cluster.monitoring.process and watched else None,
        "log": str(cluster.monitoring.log),
        "firing": cluster.monitoring.firing() if watched else None,
    }


def _tell_of_prometheus(cluster: LocalCluster) -> None:
    """Nothing of one that was never asked for, or was stopped by us."""
    monitoring = cluster.monitoring
    if monitoring is None:
        return
    if monitoring.is_running:
        firing = monitoring.firing()
        what = "does not answer" if firing is None else f"alerts firing: {', '.join(firing) or 'none'}"
        say(f"\nPrometheus at {monitoring.url}: {what}")
    elif monitoring.ended_by is None:
        say(
            f"\nPrometheus died, its log is {monitoring.log}; `lograft up --monitoring{cluster.data_option}` starts it "
            "again"
        )


def kill(number: BrokerNumber, data: DataOption = None) -> None:
    """Kill a broker the hard way (kill -9), to see the cluster bear it.

    \b
      lograft kill 1
      lograft start 1
    """
    from .local_cluster import find, locked

    cluster = find(data)
    with locked(cluster.directory):
        cluster = find(cluster.directory)
        broker = cluster.broker(number)
        cluster.kill(broker)
    pid = broker.process.pid if broker.process else None
    say(f"broker {number} (pid {pid}) is dead; `lograft start {number}{cluster.data_option}` brings it back")


def start(number: BrokerNumber, data: DataOption = None) -> None:
    """Start a broker that was killed or died, with its data.

    \b
      lograft start 1
    """
    import asyncio

    from .health import wait_until
    from .local_cluster import explain, find, locked

    cluster = find(data)
    started_at = time.monotonic()
    with locked(cluster.directory):
        cluster = find(cluster.directory)
        broker = cluster.broker(number)
        if broker.is_running and broker.process:
            raise Refused(f"broker {number} runs already (pid {broker.process.pid})")
        if broker.is_removed:
            raise Refused(
                f"broker {number} was removed from the cluster",
                f"`lograft broker add{cluster.data_option}` adds another",
            )
        _refuse_taken_ports(cluster, broker.ports.used)
        cluster.launch(broker)
    with _spinner(f"broker {number} is starting"):
        health = asyncio.run(
            wait_until(
                [broker.address],
                lambda health: health.brokers[0].serves,
                timeout_s=READY_TIMEOUT_S if len(cluster.running) > len(cluster.members) // 2 else 5.0,
                give_up=lambda: not broker.is_running,
            )
        )
    if not broker.is_running:
        for line in explain([broker]):
            say(line)
        raise Refused(f"broker {number} did not start", f"its log is {broker.log}")
    pid = broker.process.pid if broker.process else None
    if health.brokers[0].serves:
        say(f"broker {number} (pid {pid}) serves again after {time.monotonic() - started_at:.1f} s")
    else:
        say(f"broker {number} (pid {pid}) runs, but {health.brokers[0].why}; see `lograft status{cluster.data_option}`")


def add_to_local_cluster(data: Path | None) -> None:
    """`broker add`."""
    import asyncio

    from .health import wait_until
    from .local_cluster import explain, find, locked
    from .ports import PORT_MAX, BrokerPorts

    cluster = find(data)
    started_at = time.monotonic()
    with locked(cluster.directory):
        cluster = find(cluster.directory)
        if not cluster.running:
            raise Refused(
                f"the cluster in {cluster.shown_directory} is stopped, so there is nobody to join",
                f"start it with `lograft up{cluster.data_option}`",
            )
        number = len(cluster.brokers)
        if number >= LOCAL_BROKERS_MAX or max(BrokerPorts.of(cluster.base_port, number)) > PORT_MAX:
            raise Refused(
                f"broker {number} has no place: a local cluster has at most {LOCAL_BROKERS_MAX} brokers, and ports up "
                f"to {PORT_MAX}",
                "run more of them by hand with `lograft broker -c FILE`",
            )
        _refuse_taken_ports(cluster, BrokerPorts.of(cluster.base_port, number).used)
        added = cluster.add_broker()
        cluster.launch(added)
    with _spinner(f"broker {number} is joining"):
        health = asyncio.run(
            wait_until(
                [added.address],
                lambda health: health.brokers[0].serves,
                timeout_s=READY_TIMEOUT_S,
                give_up=lambda: not added.is_running,
            )
        )
    if not added.is_running:
        for line in explain([added]):
            say(line)
        raise Refused(
            f"broker {number} did not start",
            f"its log is {added.log}; `lograft start {number}{cluster.data_option}` tries again",
        )
    if not health.brokers[0].serves:
        raise Refused(
            f"broker {number} {health.brokers[0].why} after {READY_TIMEOUT_S:.0f} s; it goes on trying",
            f"see `lograft status{cluster.data_option}` and whether a majority of the others is up",
        )
    pid = added.process.pid if added.process else None
    say(f"broker {number} (pid {pid}) has joined after {time.monotonic() - started_at:.1f} s, on {added.address}")
    say("new topics and partitions are placed on it too; internal topics take to it by themselves, if they need it")
    say("`lograft cluster rebalance` shows how the others' partitions would be shared out, and does it")


def retire_from_local_cluster(number: int) -> bool:
    """Stop a broker that was removed, if it is one of the local cluster that clients find. False if it is none."""
    from .local_cluster import find, locked

    cluster = find(None)
    with locked(cluster.directory):
        cluster = find(cluster.directory)
        if number >= len(cluster.brokers) or not cluster.running:
            return False
        cluster.retire(cluster.brokers[number])
    return True


def broker(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", metavar="FILE", help="The broker's TOML file.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting that overrides the file's.")
    ] = None,
    recover_cluster: Annotated[
        bool,
        typer.Option(
            "--recover-cluster",
            help="Run nothing: explain what is lost if this stopped broker's copy of the decisions goes on alone.",
        ),
    ] = False,
    accept_loss: Annotated[bool, typer.Option("--accept-loss", help="With --recover-cluster: do it.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="With --accept-loss: do not ask.")] = False,
    follow_recovered: Annotated[
        str | None,
        typer.Option(
            "--follow-recovered",
            metavar="TOKEN",
            help="Run nothing: belong to the cluster that was recovered elsewhere.",
        ),
    ] = None,
) -> None:
    """Run one broker in this process, until it is stopped; or, with a command, manage the brokers of a cluster.

    \b
      lograft broker -c broker.toml
      lograft broker -c broker.toml --set broker.id=1 --set listen.grpc=0.0.0.0:9600
    """
    from .processes import broker_command

    if context.invoked_subcommand is not None:
        if config is not None or sets:
            raise typer.BadParameter("a broker is run with -c and without a command", param_hint="-c")
        return
    if config is None:
        raise typer.BadParameter("name the broker's configuration: -c FILE", param_hint="-c")
    if not config.is_file():
        raise Refused(f"{config} is no file", "`lograft up` needs none; samples are in cluster-configs/")
    arguments = ["-c", str(config)]
    for one in sets or ():
        arguments += ["--set", one]
    if accept_loss and not recover_cluster:
        raise typer.BadParameter("goes with --recover-cluster", param_hint="--accept-loss")
    if recover_cluster:
        arguments += ["--recover-cluster", *["--accept-loss"] * accept_loss, *["--yes"] * yes]
    if follow_recovered is not None:
        arguments += ["--follow-recovered", follow_recovered]
    command = broker_command(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def _brokers(number: int) -> str:
    from .tables import count

    return count(number, "broker")


def _say_stopped(cluster: LocalCluster, count: int) -> None:
    say(f"stopped {_brokers(count)}; `lograft up{cluster.data_option}` continues with their data")


def _refuse_foreign(directory: Path) -> None:
    """Nothing is put among files that are not ours."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise Refused(f"{directory} is no directory", "name another one with --data")
    others = sorted(entry.name for entry in directory.iterdir() if entry.name != "cluster.lock")
    if others:
        raise Refused(
            f"{directory} holds {others[0]!r}{' and more' if len(others) > 1 else ''}, but no cluster of `lograft up`",
            "name an empty or new directory with --data",
        )


@contextmanager
def _lock_of_new_or_old(directory: Path) -> Iterator[None]:
    """The lock of a directory that is ours, or is made now; a foreign one is left as it was."""
    from .local_cluster import LocalCluster, locked

    if LocalCluster.load(directory) is None:
        _refuse_foreign(directory)
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with locked(directory):
            yield
    finally:
        if made and {entry.name for entry in directory.iterdir()} <= {"cluster.lock"}:
            (directory / "cluster.lock").unlink(missing_ok=True)
            directory.rmdir()


def _is_up_already(cluster: LocalCluster, brokers: int | None, base_port: int | None) -> bool:
    """True, and said so, if all of it runs as asked. Raises Refused if it runs in part, or otherwise than asked."""
    running = cluster.running
    if not running:
        return False
    if brokers not in (None, len(cluster.members)) or base_port not in (None, cluster.base_port):
        there = f"{len(cluster.members)} brokers at base port {cluster.base_port}"
        raise Refused(
            f"{cluster.shown_directory} runs already, with {there}",
            f"stop it with `lograft down{cluster.data_option}`, or start another with --data and --base-port",
        )
    missing = [broker.broker_id for broker in cluster.members if broker not in running]
    if missing:
        raise Refused(
            f"{len(running)} of {len(cluster.members)} brokers of {cluster.shown_directory} run already",
            f"`lograft start {missing[0]}{cluster.data_option}` brings back broker {missing[0]}, "
            f"`lograft down{cluster.data_option}` stops the rest",
        )
    _show_addresses(cluster)
    say(f"\nruns already, data in {cluster.shown_directory}; `lograft down{cluster.data_option}` stops it")
    _say_what_goes_before(cluster)
    return True


def _refuse_taken_ports(cluster: LocalCluster, wanted: Sequence[int] | None = None) -> None:
    from .ports import free_base_port, taken

    taken_ports = taken(wanted or [port for broker in cluster.members for port in broker.ports.used])
    if not taken_ports:
        return
    first = taken_ports[0]
    more = f" (and {len(taken_ports) - 1} more)" if len(taken_ports) > 1 else ""
    free = free_base_port(len(cluster.brokers), cluster.base_port + 100)
    elsewhere = f", or choose others with `lograft up --base-port {free}`" if free is not None and not wanted else ""
    raise Refused(f"port {first.port}{more} is taken by {first.holder}", f"stop that process{elsewhere}")


def _wait_until_ready(cluster: LocalCluster) -> None:
    """Raises Refused, after the log's last lines, if a broker dies or the cluster is not healthy in time."""
    import asyncio

    from .health import wait_until
    from .local_cluster import explain

    def dead() -> list[LocalBroker]:
        return [broker for broker in cluster.members if not broker.is_running]

    with _spinner(f"starting {_brokers(len(cluster.members))}"):
        health: ClusterHealth = asyncio.run(
            wait_until(
                cluster.addresses, lambda health: health.whole, timeout_s=READY_TIMEOUT_S, give_up=lambda: bool(dead())
            )
        )
    if gone := dead():
        for line in explain(gone[:1]):
            say(line)
        raise Refused(f"broker {gone[0].broker_id} did not start", f"its log is {gone[0].log}")
    if not health.whole:
        slow = [one for one, answer in zip(cluster.members, health.brokers, strict=True) if not answer.serves]
        for line in explain(slow[:1] or cluster.members[:1]):
            say(line)
        raise Refused(
            f"the cluster was not ready after {READY_TIMEOUT_S:.0f} s: {health.reason}",
            f"the logs are in {cluster.shown_directory}/broker-*/log",
        )


def _show_addresses(cluster: LocalCluster) -> None:
    from .tables import columns, show

    rows = [
        (broker.broker_id, broker.address, broker.metrics_url, f"{cluster.shown_directory}/{broker.directory.name}/log")
        for broker in cluster.members
    ]
    show(columns(("BROKER", "GRPC", "METRICS", "LOG"), rows))


def _show_hints(cluster: LocalCluster, detached: bool) -> None:
    data = cluster.data_option
    say(f"\nNext{'' if detached else ', in another terminal'}:")
    say("  lograft topic create events -p 6")
    say("  echo hello | lograft produce events")
    say("  lograft consume events -o start")
    say(f"  {cluster.members[0].console_url}    # the console, in a browser")
    if len(cluster.members) > 2:
        one = cluster.members[1].broker_id
        say(f"  lograft kill {one}{data}    # and see that nothing is lost; lograft start {one}{data}")
    say(f"  lograft down{data}" if detached else "Ctrl-C stops the cluster and keeps its data.")
    _say_what_goes_before(cluster)


def _say_what_goes_before(cluster: LocalCluster) -> None:
    """Else what comes next would go to another cluster than the one just started, and nobody would see why."""
    from .profiles import goes_before

    told = goes_before(cluster.addresses)
    if told is not None:
        say(f"\nNote: {told}")


def _watch(cluster: LocalCluster) -> None:
    """Stay with a cluster until it was stopped from elsewhere, and tell of brokers that go and come."""
    from . import processes
    from .local_cluster import RESTARTING, LocalCluster, explain, locked

    seen = cluster
    watched = cluster.is_watched
    running = {broker.broker_id for broker in seen.members}
    while True:
        time.sleep(_WATCH_INTERVAL_S)
        latest = LocalCluster.load(cluster.directory)
        if latest is None:
            say(f"{cluster.shown_directory} was deleted")
            return
        for broker in latest.brokers[len(seen.brokers) :]:
            if broker.is_running and broker.process:
                running.add(broker.broker_id)
                say(f"broker {broker.broker_id} was added (pid {broker.process.pid})")
        for before, broker in zip(seen.brokers, latest.brokers, strict=False):
            number = broker.broker_id
            if number in running and not broker.is_running:
                running.discard(number)
                how = processes.how_it_ended(before.process) if before.process else None
                if broker.ended_by is not None:
                    say(f"broker {number} was stopped by {broker.ended_by}")
                    continue
                say(f"broker {number} died{f' ({how})' if how else ''}")
                for line in explain([broker]):
                    say(line)
                say(f"  the others go on; `lograft start {number}{cluster.data_option}` brings it back")
            elif number not in running and broker.is_running and broker.process:
                running.add(number)
                say(f"broker {number} is back (pid {broker.process.pid})")
        restarts = any(broker.ended_by == RESTARTING for broker in latest.brokers)
        if not running and not restarts and all(broker.ended_by for broker in latest.brokers):
            return
        if watched and not latest.is_watched:
            watched = False
            if latest.monitoring is not None and latest.monitoring.ended_by is None:
                say(f"Prometheus died, its log is {latest.monitoring.log}; the brokers go on")
        watched = watched or latest.is_watched
        if not running and not restarts:
            with locked(cluster.directory):
                latest.stop("lograft up")  # its Prometheus: nobody is left to be watched
            raise Refused("no broker is left", f"`lograft up{cluster.data_option}` starts them again with their data")
        seen = latest


def _stop_watched(cluster: LocalCluster) -> None:
    from .local_cluster import find, locked

    say("\nstopping (Ctrl-C again kills)")
    with locked(cluster.directory):
        latest = find(cluster.directory)
        number = len(latest.running)
        try:
            latest.stop("Ctrl-C")
        except KeyboardInterrupt:
            latest.stop("Ctrl-C", timeout_s=0.0)
    _say_stopped(cluster, number)


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """A closed terminal and a polite kill end us as Ctrl-C does, so that brokers are stopped and not left behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _spinner(text: str) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


class _BrokerRow:
    """What `status` tells of one broker."""

    def __init__(self, broker: LocalBroker, state: str, age_s: float | None, memory_bytes: int | None) -> None:
        self.broker = broker
        self.state = state
        self.age_s = age_s
        self.memory_bytes = memory_bytes

    @property
    def pid(self) -> int | None:
        return self.broker.process.pid if self.broker.process and self.age_s is not None else None

    @classmethod
    def of(cls, broker: LocalBroker, *, serves: bool) -> _BrokerRow:
        import psutil

        if broker.process is None or not broker.is_running:
            return cls(
                broker,
                "killed" if broker.ended_by == "lograft kill" else "stopped" if broker.ended_by else "died",
                None,
                None,
            )
        try:
            process = psutil.Process(broker.process.pid)
            age_s, memory_bytes = time.time() - process.create_time(), process.memory_info().rss
        except psutil.Error:
            return cls(broker, "died", None, None)
        return cls(broker, "serving" if serves else "starting", age_s, memory_bytes)

    def as_json(self) -> dict[str, object]:
        return {
            "broker_id": self.broker.broker_id,
            "state": self.state,
            "pid": self.pid,
            "grpc": self.broker.address,
            "metrics": self.broker.metrics_url,
            "log": str(self.broker.log),
            "age_s": None if self.age_s is None else round(self.age_s, 1),
            "memory_bytes": self.memory_bytes,
        }
