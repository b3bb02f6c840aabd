"""`cluster info` and `cluster health`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import DONE, FAILED, Ended
from .local_commands import OutputOption
from .record_commands import BrokersOption
from .tables import OutputFormat

if TYPE_CHECKING:
    from ..admin import ClusterDescription

_WATCH_INTERVAL_S = 1.0


def info(output: OutputOption = OutputFormat.text, brokers: BrokersOption = None) -> None:
    """Show the brokers of the cluster, its controller and what it holds.

    \b
      lograft cluster info
      lograft cluster info -o json --brokers broker-1:9600,broker-2:9600
    """
    from .tables import columns, count, show, show_json

    cluster = _described_once(brokers)
    if output is OutputFormat.json:
        show_json(_as_json(cluster))
        return
    show(f"cluster {cluster.cluster_id}")
    controller = (
        f"broker {cluster.controller_id}, term {cluster.controller_term}"
        if cluster.controller_id >= 0
        else "none known"
    )
    show(f"controller {controller}")
    show(f"{count(cluster.topics, 'topic')}, {count(cluster.partitions, 'partition')}\n")
    rows = [
        (
            broker.broker_id,
            "alive" if broker.alive else "dead",
            broker.address,
            broker.rack or "-",
            broker.leaders,
            broker.replicas,
            "yes" if broker.cluster_voter else "no",
            broker.version or "?",
        )
        for broker in sorted(cluster.brokers, key=lambda broker: broker.broker_id)
    ]
    show(columns(("BROKER", "STATE", "GRPC", "RACK", "LEADS", "REPLICAS", "VOTER", "VERSION"), rows))


def health(
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on, and tell of every change.")] = False,
    exit_when_healthy: Annotated[
        bool, typer.Option("-e", "--exit-when-healthy", help="Wait until it is healthy, then stop.")
    ] = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Say whether the cluster is healthy; the exit code says it too: 0 healthy, 1 not.

    \b
      lograft cluster health
      lograft cluster health -w -e        wait until it is healthy
    """
    from ...proto.errors import LograftError
    from .endings import one_line
    from .tables import show, show_json

    told: object = None
    while True:
        try:
            shown = _health_as_json(_described_once(brokers))
        except LograftError as error:
            if not (watch or exit_when_healthy):
                raise
            shown = {"healthy": False, "reasons": [one_line(str(error))]}
        if shown != told:
            told = shown
            if output is OutputFormat.json:
                show_json(shown)
            else:
                show(_health_text(shown))
        healthy = bool(shown["healthy"])
        if exit_when_healthy and healthy:
            return
        if not (watch or exit_when_healthy):
            raise Ended(DONE if healthy else FAILED)
        time.sleep(_WATCH_INTERVAL_S)


def _described_once(brokers: str | None) -> ClusterDescription:
    import asyncio

    from ..client import Client
    from .local_cluster import client_addresses

    async def describe() -> ClusterDescription:
        async with Client(client_addresses(brokers), client_id="lograft-cli", timeout=10.0) as client:
            return await client.admin.describe_cluster()

    return asyncio.run(describe())


def _health_text(shown: dict[str, Any]) -> str:
    if not shown["healthy"]:
        return "\n".join(["not healthy", *(f"  {reason}" for reason in shown["reasons"])])
    from .tables import count

    alive, losses = count(shown["brokers_alive"], "broker"), shown["losses_borne"]
    return f"healthy: {alive}, of which {losses or 'none'} can be lost without the cluster stopping"


def _health_as_json(cluster: ClusterDescription) -> dict[str, Any]:
    return {
        "healthy": cluster.healthy,
        "reasons": list(cluster.reasons),
        "losses_borne": cluster.losses_borne,
        "brokers": len(cluster.brokers),
        "brokers_alive": sum(broker.alive for broker in cluster.brokers),
        "controller_id": cluster.controller_id,
        "leaderless_partitions": cluster.leaderless_partitions,
        "under_replicated_partitions": cluster.under_replicated_partitions,
    }


def _as_json(cluster: ClusterDescription) -> dict[str, Any]:
    return {
        "cluster_id": cluster.cluster_id,
        "controller_id": cluster.controller_id,
        "controller_term": cluster.controller_term,
        "topics": cluster.topics,
        "partitions": cluster.partitions,
        **_health_as_json(cluster),
        "brokers": [
            {
                "broker_id": broker.broker_id,
                "alive": broker.alive,
                "address": broker.address,
                "peer_address": broker.peer_address,
                "http_address": broker.http_address,
                "rack": broker.rack,
                "directory_id": broker.directory_id,
                "leaders": broker.leaders,
                "replicas": broker.replicas,
                "cluster_voter": broker.cluster_voter,
                "version": broker.version,
            }
            for broker in cluster.brokers
        ],
    }
