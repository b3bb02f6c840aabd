"""`broker list|drain|undrain|remove`: the brokers as members. `broker -c` runs one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import say
from .local_commands import OutputOption
from .record_commands import INT32_MAX, BrokersOption
from .tables import OutputFormat
from .topic_commands import run_with_client

if TYPE_CHECKING:
    from ..admin import BrokerDescription, ClusterDescription

BrokerArgument = Annotated[int, typer.Argument(metavar="N", help="The broker's id.", min=0, max=INT32_MAX)]


def list_brokers(output: OutputOption = OutputFormat.text, brokers: BrokersOption = None) -> None:
    """List the brokers: alive or dead, what they lead and hold, and whether they are draining or removed.

    \b
      lograft broker list
    """
    from .tables import columns, show, show_json

    async def work(client: Any) -> ClusterDescription:
        found: ClusterDescription = await client.admin.describe_cluster()
        return found

    found = run_with_client(brokers, work).brokers
    if output is OutputFormat.json:
        show_json([_as_json(broker) for broker in found])
        return
    rows = [
        (broker.broker_id, _state(broker), broker.address, broker.leaders, broker.replicas, broker.version or "?")
        for broker in found
    ]
    show(columns(("BROKER", "STATE", "GRPC", "LEADS", "REPLICAS", "VERSION"), rows))


def drain(broker_id: BrokerArgument, brokers: BrokersOption = None) -> None:
    """Have a broker lead nothing, so that it can be stopped unnoticed. Refused if a partition could not do without it.

    \b
      lograft broker drain 2
      lograft broker undrain 2        once it is back
    """

    async def work(client: Any) -> None:
        await client.admin.drain_broker(broker_id)

    run_with_client(brokers, work)
    say(f"draining broker {broker_id}; `lograft broker list` shows what it still leads")


def undrain(broker_id: BrokerArgument, brokers: BrokersOption = None) -> None:
    """Let a drained broker lead again.

    \b
      lograft broker undrain 2
    """

    async def work(client: Any) -> None:
        await client.admin.undrain_broker(broker_id)

    run_with_client(brokers, work)
    say(f"broker {broker_id} may lead again; what prefers it comes back within seconds")


def remove(broker_id: BrokerArgument, brokers: BrokersOption = None) -> None:
    """Place elsewhere what a broker holds, for good; it may be dead already. Its process is yours to stop.

    \b
      lograft broker remove 2
      lograft partition list --moving        what is not copied yet
    """

    async def work(client: Any) -> list[str]:
        found: list[str] = await client.admin.remove_broker(broker_id)
        return found

    moved = run_with_client(brokers, work)
    what = f"moving what it holds of {', '.join(moved)}" if moved else "it holds nothing"
    say(f"broker {broker_id} is removed; {what}")


def _state(broker: BrokerDescription) -> str:
    marks = [mark for mark, holds in (("draining", broker.draining), ("removed", broker.removed)) if holds]
    return ", ".join(["alive" if broker.alive else "dead", *marks])


def _as_json(broker: BrokerDescription) -> dict[str, Any]:
    return {
        "broker_id": broker.broker_id,
        "alive": broker.alive,
        "draining": broker.draining,
        "removed": broker.removed,
        "address": broker.address,
        "rack": broker.rack,
        "directory_id": broker.directory_id,
        "leaders": broker.leaders,
        "replicas": broker.replicas,
        "cluster_voter": broker.cluster_voter,
        "version": broker.version,
    }
