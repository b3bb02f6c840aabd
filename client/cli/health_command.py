"""`cluster health`: is the cluster well, in words and by the exit code.

Always
    the exit code says the worst that is true, so that a script need not read the words
    watching tells of changes alone, and goes on where no broker answers
"""

from __future__ import annotations

import json
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import DONE, Ended
from .local_commands import OutputOption
from .record_commands import BrokersOption
from .tables import OutputFormat

if TYPE_CHECKING:
    from ..admin import ClusterDescription

_WATCH_INTERVAL_S = 1.0
ASK_TIMEOUT_S = 10.0


class Condition(IntEnum):
    """How a cluster is; the number is the exit code of `cluster health`."""

    healthy = 0
    silent = 1
    """No broker answered: nothing is known. As of any command that could not be carried out."""
    degraded = 3
    """Records go in and out everywhere, but something is missing or at risk: a broker, copies, a disk."""
    undecided = 4
    """No controller: records go in and out, but nothing can be created, moved or changed."""
    leaderless = 5
    """Some partitions have no leader: no records go in or out there."""

    @classmethod
    def of(cls, cluster: ClusterDescription) -> Condition:
        if cluster.healthy:
            return cls.healthy
        if cluster.leaderless_partitions:
            return cls.leaderless
        if cluster.controller_id < 0:
            return cls.undecided
        return cls.degraded


def health(
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on, and tell of every change.")] = False,
    exit_when_healthy: Annotated[
        bool, typer.Option("-e", "--exit-when-healthy", help="Wait until it is healthy, then stop.")
    ] = False,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="With -w or -e: stop after so long, with the exit code of how it is then.",
        ),
    ] = None,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Say whether the cluster is healthy, and if not, what is wrong; the exit code says it too.

    \b
    Exit codes, the worst that is true:
      0  healthy
      1  no broker answers, so nothing is known
      3  degraded: all records go in and out, but a broker or copies are missing, or a disk is damaged
      4  no controller: nothing can be created, moved or changed
      5  partitions without a leader: no records go in or out there

    \b
      lograft cluster health
      lograft cluster health -w -e                  wait until it is healthy
      lograft cluster health -e --timeout 60        the same, for a minute at most
    """
    from ...proto.errors import LograftError
    from .endings import one_line
    from .tables import show, show_json

    stays = watch or exit_when_healthy
    if timeout_s is not None and not stays:
        raise typer.BadParameter("it says how long -w and -e go on, and there is neither", param_hint="--timeout")
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    told: object = None
    while True:
        # What is left, but never so little that a cluster in good health could not answer.
        ask_s = ASK_TIMEOUT_S if deadline is None else min(ASK_TIMEOUT_S, max(deadline - time.monotonic(), 2.0))
        try:
            shown = health_as_json(described_once(brokers, timeout_s=ask_s))
        except LograftError as error:
            if not stays:
                raise
            shown = {"healthy": False, "condition": Condition.silent.name, "reasons": [one_line(str(error))]}
        if shown != told:
            told = shown
            if output is OutputFormat.json and stays:
                show(json.dumps(shown, ensure_ascii=False))  # a line for each change, for programs that read on
            elif output is OutputFormat.json:
                show_json(shown)
            else:
                show((time.strftime("%H:%M:%S  ") if watch else "") + _health_text(shown))
        condition = Condition[shown["condition"]]
        if exit_when_healthy and condition is Condition.healthy:
            return
        if not stays or (deadline is not None and time.monotonic() >= deadline):
            raise Ended(DONE if condition is Condition.healthy else condition.value)
        pause_s = _WATCH_INTERVAL_S if deadline is None else min(_WATCH_INTERVAL_S, deadline - time.monotonic())
        time.sleep(max(pause_s, 0.0))


def described_once(brokers: str | None, *, timeout_s: float = ASK_TIMEOUT_S) -> ClusterDescription:
    """The cluster as one of its brokers tells it, over a connection of its own."""
    import asyncio

    from ..client import Client
    from .local_cluster import client_addresses

    async def describe() -> ClusterDescription:
        async with Client(client_addresses(brokers), client_id="lograft-cli", timeout=timeout_s) as client:
            return await client.admin.describe_cluster()

    return asyncio.run(describe())


def health_as_json(cluster: ClusterDescription) -> dict[str, Any]:
    return {
        "healthy": cluster.healthy,
        "condition": Condition.of(cluster).name,
        "reasons": list(cluster.reasons),
        "losses_borne": cluster.losses_borne,
        "brokers": len(cluster.brokers),
        "brokers_alive": sum(broker.alive for broker in cluster.brokers),
        "controller_id": cluster.controller_id,
        "leaderless_partitions": cluster.leaderless_partitions,
        "under_replicated_partitions": cluster.under_replicated_partitions,
        "frail_partitions": cluster.frail_partitions,
    }


def _health_text(shown: dict[str, Any]) -> str:
    if not shown["healthy"]:
        kind = {"silent": "no answer", "undecided": "no controller"}.get(shown["condition"], shown["condition"])
        return "\n".join([f"not healthy: {kind}", *(f"  {reason}" for reason in shown["reasons"])])
    from .tables import count

    alive, losses = count(shown["brokers_alive"], "broker"), shown["losses_borne"]
    text = f"healthy: {alive}, of which {losses or 'none'} can be lost without the cluster stopping"
    if losses and (frail := shown["frail_partitions"]):
        have, stop = ("has", "stops") if frail == 1 else ("have", "stop")
        text += (
            f"\nbut {count(frail, 'partition')} {have} fewer than three copies, and {stop} with one broker: "
            "`lograft topic describe`, `lograft partition move`"
        )
    return text
