"""`topic create|list|describe|alter|grow|trim|delete`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import Refused, say
from .local_commands import OutputOption
from .record_commands import INT32_MAX, BrokersOption, TopicArgument
from .tables import OutputFormat

if TYPE_CHECKING:
    from ..admin import TopicDescription

YesOption = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


def create(
    topic: TopicArgument,
    partitions: Annotated[int, typer.Option("-p", "--partitions", help="How many partitions.", max=INT32_MAX)] = 6,
    replication: Annotated[
        int | None,
        typer.Option(
            "-r", "--replication", max=INT32_MAX, help="Copies of each record.  [default: 3, or fewer brokers]"
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("-c", "--config", metavar="KEY=VALUE", help="A setting of the topic; may be repeated."),
    ] = None,
    brokers: BrokersOption = None,
) -> None:
    """Create a topic.

    \b
      lograft topic create events
      lograft topic create events -p 12 -r 3
      lograft topic create ticks -p 1 -c segment.bytes.max=67108864
    """
    settings = _parsed(config)

    async def work(client: Any) -> TopicDescription:
        created: TopicDescription = await client.admin.create_topic(
            topic, partitions=partitions, replication=replication, config=settings
        )
        return created

    from .tables import count

    created = run_with_client(brokers, work)
    partition_count = count(len(created.partitions), "partition")
    copies = count(created.replication, "copy")
    say(f"created {created.name}: {partition_count}, {copies} of each record")


def list_topics(
    internal: Annotated[bool, typer.Option("--internal", help="Those of the cluster itself too.")] = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """List the topics.

    \b
      lograft topic list
      lograft topic list -o json
    """
    from .tables import columns, show, show_json

    async def work(client: Any) -> list[TopicDescription]:
        found: list[TopicDescription] = await client.admin.list_topics(internal=internal)
        return found

    topics = sorted(run_with_client(brokers, work), key=lambda topic: topic.name)
    if output is OutputFormat.json:
        show_json([_as_json(topic) for topic in topics])
        return
    rows = [(topic.name, len(topic.partitions), topic.replication, _settings(topic)) for topic in topics]
    show(columns(("TOPIC", "PARTITIONS", "COPIES", "CONFIG"), rows))


def describe(topic: TopicArgument, output: OutputOption = OutputFormat.text, brokers: BrokersOption = None) -> None:
    """Show a topic's partitions: leaders, replicas, offsets.

    \b
      lograft topic describe events
    """
    from .recovery_commands import told
    from .tables import columns, count, show, show_json, size

    async def work(client: Any) -> TopicDescription:
        found: TopicDescription = await client.admin.describe_topic(topic)
        return found

    described = run_with_client(brokers, work)
    if output is OutputFormat.json:
        show_json(_as_json(described))
        return
    copies = count(described.replication, "copy")
    show(f"{described.name}  id {described.topic_id}  {copies}  {_settings(described)}".rstrip())
    rows = [
        (
            partition.number,
            partition.leader_id if partition.leader_id >= 0 else "none",
            partition.term,
            " ".join(f"{replica.broker_id}{_remark(replica.state)}" for replica in partition.replicas),
            _known(partition.log_start_offset),
            _known(partition.committed_offset),
            size(partition.size_bytes) if partition.size_bytes >= 0 else "?",
        )
        for partition in described.partitions
    ]
    show(columns(("PARTITION", "LEADER", "TERM", "REPLICAS", "START", "END", "SIZE"), rows))
    for partition in described.partitions:
        if partition.recovery is not None:
            show(f"partition {partition.number}: {told(partition.recovery)}")


def grow(
    topic: TopicArgument,
    partitions: Annotated[
        int, typer.Option("-p", "--partitions", help="How many partitions in all.", max=INT32_MAX, show_default=False)
    ],
    yes: YesOption = False,
    brokers: BrokersOption = None,
) -> None:
    """Give a topic more partitions, while records go in and out. They never become fewer again.

    Records with keys may go to other partitions from then on (murmur2 of the key, modulo the number of partitions): a
    key's order holds within one partition, so not between its records from before and after. Asks first.

    \b
      lograft topic grow events --partitions 12
    """
    from .tables import count

    async def work(client: Any, *, validate_only: bool) -> TopicDescription:
        grown: TopicDescription = await client.admin.grow_topic(topic, partitions, validate_only=validate_only)
        return grown

    if not yes:
        if not sys.stdin.isatty():
            raise Refused(f"{topic} was not grown: that cannot be undone, and keys may change partitions", "add --yes")
        run_with_client(brokers, lambda client: work(client, validate_only=True))  # refused before it is asked
        if not typer.confirm(f"let {topic} have {count(partitions, 'partition')}, for good?", err=True):
            raise Refused(f"{topic} was not grown")
    grown = run_with_client(brokers, lambda client: work(client, validate_only=False))
    say(
        f"{topic} has {count(len(grown.partitions), 'partition')} now; running producers and consumers take up the new "
        "ones within half a minute, and records with keys may go to others from then on"
    )


def alter(
    topic: TopicArgument,
    config: Annotated[
        list[str] | None,
        typer.Option("-c", "--config", metavar="KEY=VALUE", help="A setting to change; may be repeated."),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="KEY", help="A setting to leave to the brokers' default; may be repeated."),
    ] = None,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Change a topic's settings. The brokers go by them within moments; what is not named stays as it is.

    \b
      lograft topic alter events -c retention.ms=86400000
      lograft topic alter events -c segment.bytes.max=67108864 --unset retention.ms
    """
    from .tables import show, show_json

    settings = _parsed(config)
    if not settings and not unset:
        raise typer.BadParameter("name settings to change: -c KEY=VALUE or --unset KEY", param_hint="-c")

    async def work(client: Any) -> tuple[TopicDescription, TopicDescription]:
        before = await client.admin.describe_topic(topic)
        return before, await client.admin.alter_topic(topic, settings, unset=unset or ())

    before, after = run_with_client(brokers, work)
    named = {*settings, *(unset or ())}
    if output is OutputFormat.json:
        changes = {name: {"before": before.config.get(name), "after": after.config.get(name)} for name in sorted(named)}
        show_json({"name": after.name, "changes": changes, "config": dict(after.config)})
        return
    for name in sorted(named):
        old, new = before.config.get(name, "(default)"), after.config.get(name, "(default)")
        show(f"{name}: {old} -> {new}" if old != new else f"{name}: {new}, as before")


def delete(
    topic: TopicArgument,
    yes: YesOption = False,
    brokers: BrokersOption = None,
) -> None:
    """Delete a topic and all its records. Asks first, on a terminal.

    \b
      lograft topic delete events
      lograft topic delete events -y
    """

    async def find(client: Any) -> TopicDescription:
        found: TopicDescription = await client.admin.describe_topic(topic)
        return found

    async def work(client: Any) -> None:
        await client.admin.delete_topic(topic)

    if sys.stdin.isatty() and not yes:  # asked outside of the event loop, where Ctrl-C means what it says
        from .tables import count

        records = sum(
            max(0, part.committed_offset - part.log_start_offset) for part in run_with_client(brokers, find).partitions
        )
        if not typer.confirm(f"delete {topic} with {count(records, 'record')}, for good?", err=True):
            raise Refused(f"{topic} was not deleted")
    run_with_client(brokers, work)
    say(f"deleted {topic}")


def trim(
    topic: TopicArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="OFFSETS", help="The first to keep: end, N, +N, -N, @T.", show_default=False)
    ],
    partition: Annotated[
        list[int] | None,
        typer.Option("-p", "--partition", metavar="N", help="Only this partition; may be repeated.", max=INT32_MAX),
    ] = None,
    yes: YesOption = False,
    brokers: BrokersOption = None,
) -> None:
    """Forget a topic's oldest records, for good. Asks first, on a terminal.

    \b
      lograft topic trim events --to @-48h           keep the last two days
      lograft topic trim events --to 120000 -p 3     in partition 3 alone
      lograft topic trim events --to end             keep nothing of what is there now
    """

    async def work(client: Any) -> dict[int, int]:
        starts: dict[int, int] = await client.admin.trim_topic(topic, to, partition or None)
        return starts

    if sys.stdin.isatty() and not yes and not typer.confirm(f"forget what {topic} holds before {to}?", err=True):
        raise Refused(f"{topic} was not trimmed")
    for number, start in sorted(run_with_client(brokers, work).items()):
        say(f"{topic} partition {number} starts at {start}")


def _parsed(config: list[str] | None) -> dict[str, str]:
    settings: dict[str, str] = {}
    for setting in config or ():
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{setting!r} is not KEY=VALUE", param_hint="-c")
        settings[name] = value
    return settings


def run_with_client(brokers: str | None, work: Any) -> Any:
    import asyncio

    from ..client import Client
    from .local_cluster import client_addresses

    async def run() -> Any:
        async with Client(client_addresses(brokers), client_id="lograft-cli") as client:
            return await work(client)

    return asyncio.run(run())


def _settings(topic: TopicDescription) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(topic.config.items()))


def _remark(state: str) -> str:
    return "" if state == "OK" else f"({state.lower()})"


def _known(offset: int) -> int | str:
    return offset if offset >= 0 else "?"


def _as_json(topic: TopicDescription) -> dict[str, Any]:
    from .recovery_commands import recovery_as_json

    return {
        "name": topic.name,
        "topic_id": topic.topic_id,
        "replication": topic.replication,
        "config": dict(topic.config),
        "internal": topic.internal,
        "partitions": [
            {
                "number": partition.number,
                "leader_id": partition.leader_id,
                "term": partition.term,
                "replicas": [
                    {
                        "broker_id": replica.broker_id,
                        "voter": replica.voter,
                        "alive": replica.alive,
                        "state": replica.state,
                    }
                    for replica in partition.replicas
                ],
                "log_start_offset": partition.log_start_offset,
                "committed_offset": partition.committed_offset,
                "size_bytes": partition.size_bytes,
                "recovery": recovery_as_json(partition.recovery),
            }
            for partition in topic.partitions
        ],
    }
