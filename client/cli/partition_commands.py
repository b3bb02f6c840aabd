"""`partition list|move`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import say
from .local_commands import OutputOption
from .record_commands import INT32_MAX, BrokersOption, TopicArgument
from .tables import OutputFormat
from .topic_commands import run_with_client

if TYPE_CHECKING:
    from ..admin import PartitionDescription, TopicDescription


def list_partitions(
    topic: Annotated[str | None, typer.Argument(help="Of this topic alone.")] = None,
    moving: Annotated[bool, typer.Option("--moving", help="Only those whose replicas are on the move.")] = False,
    internal: Annotated[bool, typer.Option("--internal", help="Those of the cluster itself too.")] = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """List partitions: who leads, where the replicas are, and how far a move has come.

    \b
      lograft partition list
      lograft partition list events --moving
    """
    from .tables import columns, show, show_json

    async def work(client: Any) -> list[TopicDescription]:
        if topic is not None:
            return [await client.admin.describe_topic(topic)]
        found: list[TopicDescription] = await client.admin.list_topics(internal=internal)
        return found

    found = [
        (described.name, partition)
        for described in run_with_client(brokers, work)
        for partition in described.partitions
        if partition.moving or not moving
    ]
    if output is OutputFormat.json:
        show_json([_as_json(name, partition) for name, partition in found])
        return
    rows = [
        (
            name,
            partition.number,
            partition.leader_id if partition.leader_id >= 0 else "none",
            " ".join(_replica(replica) for replica in partition.replicas),
            _progress(partition),
        )
        for name, partition in found
    ]
    show(columns(("TOPIC", "PARTITION", "LEADER", "REPLICAS", "MOVE"), rows))


def move(
    topic: TopicArgument,
    partition: Annotated[int, typer.Argument(help="Its number.", min=0, max=INT32_MAX)],
    to: Annotated[str, typer.Option("--to", metavar="A,B,C", help="Broker ids; the first is the preferred leader.")],
    brokers: BrokersOption = None,
) -> None:
    """Move a partition's replicas to other brokers, while records go in and out. Returns once it is decided.

    \b
      lograft partition move events 3 --to 1,2,4
      lograft partition list events --moving        how far it has come
    """
    try:
        broker_ids = [int(one) for one in to.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{to!r} is no list of broker ids, such as 1,2,4", param_hint="--to") from None

    async def work(client: Any) -> None:
        await client.admin.move_partition(topic, partition, broker_ids)

    run_with_client(brokers, work)
    say(f"moving partition {partition} of {topic} to {to}; `lograft partition list {topic}` shows how far it has come")


def _replica(replica: Any) -> str:
    remarks = [] if replica.state == "OK" else [replica.state.lower()]
    if replica.leaving:
        remarks.append("leaving")
    elif not replica.voter:
        remarks.append("learning")
    return f"{replica.broker_id}" + (f"({', '.join(remarks)})" if remarks else "")


def percent_copied(partition: PartitionDescription) -> int | None:
    """How much of the log the replica with the least of it holds; None if nothing moves, or it is not known."""
    length = partition.committed_offset - partition.log_start_offset
    if not partition.moving or partition.committed_offset < 0:
        return None
    held = [
        max(replica.match_offset - partition.log_start_offset, 0)
        for replica in partition.replicas
        if not replica.leaving and not replica.voter
    ]
    return min(100, min(held, default=length) * 100 // length) if length else 100


def _progress(partition: PartitionDescription) -> str:
    if not partition.moving:
        return "-"
    percent = percent_copied(partition)
    return "under way" if percent is None else f"{percent}% copied"


def _as_json(name: str, partition: PartitionDescription) -> dict[str, Any]:
    return {
        "topic": name,
        "partition": partition.number,
        "leader_id": partition.leader_id,
        "moving": partition.moving,
        "percent_copied": percent_copied(partition),
        "replicas": [
            {
                "broker_id": replica.broker_id,
                "voter": replica.voter,
                "leaving": replica.leaving,
                "alive": replica.alive,
                "state": replica.state,
            }
            for replica in partition.replicas
        ],
    }
