"""`restart`: brokers of the local cluster, one after another, so that clients notice no more than a moment's pause.

Always
    a broker is stopped only while every partition has all its replicas, and no other broker is away
    what was stopped is started again, whatever comes in between: Ctrl-C is heeded once the broker runs
    it stops at the first broker that does not come back, or brings full redundancy back in time; the others go on
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import INTERRUPTED, Ended, Refused, say
from .local_commands import DataOption, OutputOption
from .tables import OutputFormat

if TYPE_CHECKING:
    from .health import ClusterHealth
    from .local_cluster import LocalBroker, LocalCluster

SETTLE_S = 5.0
"""A cluster that was started or changed a moment ago gets so long until it must be whole."""
REPLICAS_TO_GO_ON = 3
"""With fewer a partition has no majority while one of its brokers restarts."""
SAY_AGAIN_S = 5.0


def restart(
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", help="Number of the only broker to restart.", show_default=False)
    ] = None,
    rolling: Annotated[bool, typer.Option("--rolling", help="Restart all, one after another.")] = False,
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=1,
            max=86_400,
            help="How long a broker may take to come back and catch up.",
        ),
    ] = 300.0,
    data: DataOption = None,
    output: OutputOption = OutputFormat.text,
) -> None:
    """Restart brokers of the local cluster without a client losing anything, as for an upgrade of lograft.

    Each broker hands over what it leads, stops, starts again with its data and catches up; only when every partition
    has all its replicas again comes the next one. Refused if that is not so to begin with. Ctrl-C ends it after the
    broker at hand, and leaves all of them running.

    \b
      lograft restart --rolling           all brokers, one after another
      lograft restart 1                   broker 1 alone
    """
    from .local_cluster import find, locked

    if (number is None) != rolling:
        raise typer.BadParameter("name one broker, or restart all with --rolling", param_hint="N")
    cluster = find(data)
    chosen = [broker.broker_id for broker in cluster.brokers] if number is None else [cluster.broker(number).broker_id]
    began = time.monotonic()
    done: list[dict[str, Any]] = []
    with _interruptions() as interruptions:
        for at, broker_id in enumerate(chosen):
            with locked(cluster.directory):
                found = find(cluster.directory)
                health = _require_whole(found, done)
                if at == 0:
                    _tell_what_pauses(found)
                done.append(_restart_one(found, found.broker(broker_id), health, timeout_s, interruptions))
            if interruptions:
                rest = f"; not restarted: {_listed(chosen[at + 1 :])}" if chosen[at + 1 :] else ""
                say(f"interrupted after broker {broker_id}, all brokers run{rest}")
                raise Ended(INTERRUPTED)
    if output is OutputFormat.json:
        from .tables import show_json

        show_json({"seconds": round(time.monotonic() - began, 1), "brokers": done})
    else:
        say(
            f"restarted {_brokers(len(done))} in {time.monotonic() - began:.1f} s; every partition has all its replicas"
        )


def _require_whole(cluster: LocalCluster, done: list[dict[str, Any]]) -> ClusterHealth:
    """The cluster's health. Raises Refused unless every partition has all its replicas."""
    import asyncio

    from .health import wait_until

    if not cluster.running:
        raise Refused(
            f"the cluster in {cluster.shown_directory} is stopped",
            f"`lograft up{cluster.data_option}` starts it, with the version of lograft that is installed now",
        )
    nothing = "nothing was restarted" if not done else f"{_brokers(len(done))} restarted so far"
    absent = [broker.broker_id for broker in cluster.brokers if not broker.is_running]
    if absent:
        raise Refused(
            f"the cluster is not at full redundancy: {_listed(absent)} not running",
            f"{nothing}; `lograft start {absent[0]}{cluster.data_option}` starts it",
        )
    health = asyncio.run(wait_until(cluster.addresses, lambda health: health.whole, timeout_s=SETTLE_S))
    if not health.whole:
        raise Refused(
            f"the cluster is not at full redundancy: {health.reason}",
            f"{nothing}; try again when `lograft cluster health -w -e` says that it is healthy",
        )
    return health


def _restart_one(
    cluster: LocalCluster,
    broker: LocalBroker,
    before: ClusterHealth,
    timeout_s: float,
    interruptions: list[int],
) -> dict[str, Any]:
    import asyncio

    from .health import wait_until
    from .local_cluster import RESTARTING, explain

    number = broker.broker_id
    began = time.monotonic()
    say(f"broker {number}: hands over what it leads, and stops")
    killed = cluster.stop(RESTARTING, brokers=[broker])
    stopped = time.monotonic()
    cluster.launch(broker)
    if killed:
        say(f"broker {number}: did not stop in time and was killed; nothing acknowledged is lost")
    told = _Told(number)
    health = asyncio.run(
        wait_until(
            cluster.addresses,
            lambda health: health.whole or told.waits_for(health.reason),
            timeout_s=timeout_s,
            give_up=lambda: not broker.is_running or bool(interruptions),
        )
    )
    if not broker.is_running:
        for line in explain([broker]):
            say(line)
        raise Refused(
            f"broker {number} did not come back",
            f"its log is {broker.log}; the others go on, `lograft start {number}{cluster.data_option}` tries again",
        )
    if not health.whole and not interruptions:
        raise Refused(
            f"{timeout_s:.0f} s after its restart broker {number} is back, but {health.reason}",
            "nothing more was restarted; `lograft cluster health -w -e` says when it is healthy",
        )
    whole = time.monotonic()
    version = _change_of_version(number, before, health)
    if health.whole:
        say(
            f"broker {number}: stopped in {stopped - began:.1f} s, everything at full redundancy "
            f"{whole - stopped:.1f} s after its start{version}"
        )
    return {
        "broker_id": number,
        "pid": broker.process.pid if broker.process else None,
        "killed": bool(killed),
        "stop_s": round(stopped - began, 2),
        "whole_s": round(whole - stopped, 2),
    }


class _Told:
    """Says from time to time what is being waited for."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._last = time.monotonic()

    def waits_for(self, reason: str) -> bool:
        """Never true, so that it can stand beside what is waited for."""
        if time.monotonic() - self._last >= SAY_AGAIN_S:
            self._last = time.monotonic()
            say(f"broker {self._number}: waiting, {reason}")
        return False


def _change_of_version(number: int, before: ClusterHealth, after: ClusterHealth) -> str:
    versions = []
    for health in (before, after):
        described = health.described.brokers if health.described is not None else ()
        versions.append(next((one.version for one in described if one.broker_id == number), ""))
    old, new = versions
    return f", lograft {old} -> {new}" if old != new and old and new else ""


def _tell_what_pauses(cluster: LocalCluster) -> None:
    """Partitions that have no majority without one broker stand still while it restarts: say so before."""
    import asyncio

    from ..client import Client

    async def topics_that_pause() -> list[str]:
        async with Client(cluster.addresses, client_id="lograft-cli", timeout=10.0) as client:
            topics = await client.admin.list_topics()
        return sorted(topic.name for topic in topics if topic.replication < REPLICAS_TO_GO_ON)

    if len(cluster.brokers) < REPLICAS_TO_GO_ON:
        say(f"with {_brokers(len(cluster.brokers))} everything stands still while one restarts; clients wait and go on")
        return
    names = asyncio.run(topics_that_pause())
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        say(
            f"topics with fewer than {REPLICAS_TO_GO_ON} replicas stand still while one of their brokers restarts: "
            f"{', '.join(names[:5])}{more}"
        )


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Signals that ask us to end are noted and not obeyed at once: what was stopped must be started again."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if not noted:
            say("\nends once this broker runs again")
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _brokers(number: int) -> str:
    from .tables import count

    return count(number, "broker")


def _listed(numbers: list[int]) -> str:
    return ", ".join(f"broker {number}" for number in numbers)
