"""`partition list|move`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .completions import complete_topic
from .endings import Refused, say
from .local_commands import OutputOption
from .record_commands import INT32_MAX, BrokersOption, TopicArgument
from .tables import OutputFormat
from .topic_commands import run_with_client

if TYPE_CHECKING:
    from ..admin import CopyProgress, PartitionDescription, TopicDescription


def list_partitions(
    topic: Annotated[str | None, typer.Argument(help="Of this topic alone.", autocompletion=complete_topic)] = None,
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
    from .recovery_commands import told
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
    for name, partition in found:
        if partition.recovery is not None:
            show(f"partition {partition.number} of {name}: {told(partition.recovery)}")


def move(
    topic: TopicArgument,
    partition: Annotated[int, typer.Argument(help="Its number.", min=0, max=INT32_MAX)],
    to: Annotated[str, typer.Option("--to", metavar="A,B,C", help="Broker ids; the first is the preferred leader.")],
    wait: Annotated[bool, typer.Option("-w", "--wait", help="Wait until it is done, and show how far it is.")] = False,
    brokers: BrokersOption = None,
) -> None:
    """Move a partition's replicas to other brokers, while records go in and out. Returns once it is decided.

    Until it is done, it can be taken back: by a move to brokers whose replicas still vote, such as those from before.

    \b
      lograft partition move events 3 --to 1,2,4
      lograft partition move events 3 --to 1,2,4 --wait
      lograft partition list events --moving                how far it has come
      lograft cluster set moves.bytes_per_second 20MB/s     how fast it may be, also while it goes on
    """
    try:
        broker_ids = [int(one) for one in to.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{to!r} is no list of broker ids, such as 1,2,4", param_hint="--to") from None

    if topic == "__cluster":
        raise Refused(
            "__cluster is on every broker and is not moved; who votes in it follows `lograft broker add` and `remove`"
        )

    async def work(client: Any) -> None:
        await client.admin.move_partition(topic, partition, broker_ids)

    run_with_client(brokers, work)
    say(f"moving partition {partition} of {topic} to {to}; `lograft partition list {topic}` shows how far it has come")
    if wait:
        from .move_watch import watch_move

        watch_move(topic, partition, broker_ids, brokers)


def _replica(replica: Any) -> str:
    remarks = [] if replica.state == "OK" else [replica.state.lower()]
    if replica.leaving:
        remarks.append("leaving")
    elif not replica.voter:
        remarks.append("learning")
    return f"{replica.broker_id}" + (f"({', '.join(remarks)})" if remarks else "")


def copied(partition: PartitionDescription) -> str:
    """How far the copies have come, for people; empty while nothing is copied."""
    return "; ".join(
        f"to {replica.broker_id}: {shown_copy(replica.copying)}"
        for replica in partition.replicas
        if replica.copying is not None
    )


def shown_copy(copying: CopyProgress) -> str:
    """`12.0 MiB of 80.0 MiB, 20.0 MiB/s, 4 s left`."""
    from .tables import size, span

    parts = [f"{size(copying.bytes_done)} of {size(copying.bytes_total)}"]
    if copying.bytes_per_second is not None:
        parts.append(f"{size(copying.bytes_per_second)}/s")
    if copying.time_left_s is not None:
        parts.append(f"{span(copying.time_left_s)} left")
    return ", ".join(parts)


def _progress(partition: PartitionDescription) -> str:
    if not partition.moving:
        return "-"
    return copied(partition) or ("under way" if partition.size_bytes >= 0 else "no leader answers")


def _as_json(name: str, partition: PartitionDescription) -> dict[str, Any]:
    from .recovery_commands import recovery_as_json

    return {
        "topic": name,
        "partition": partition.number,
        "leader_id": partition.leader_id,
        "moving": partition.moving,
        "recovery": recovery_as_json(partition.recovery),
        "replicas": [
            {
                "broker_id": replica.broker_id,
                "voter": replica.voter,
                "leaving": replica.leaving,
                "alive": replica.alive,
                "state": replica.state,
                "copying": _copying_as_json(replica.copying),
            }
            for replica in partition.replicas
        ],
    }


def _copying_as_json(copying: CopyProgress | None) -> dict[str, Any] | None:
    if copying is None:
        return None
    return {
        "bytes_done": copying.bytes_done,
        "bytes_total": copying.bytes_total,
        "bytes_per_second": copying.bytes_per_second,
        "time_left_s": copying.time_left_s,
    }
