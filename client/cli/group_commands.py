"""`group list|describe|seek|delete`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .completions import complete_group, complete_topic
from .endings import Refused, one_line, say
from .local_commands import OutputOption
from .record_commands import BrokersOption, partition_numbers
from .tables import OutputFormat

if TYPE_CHECKING:
    from ..client import Client
    from ..groups import GroupDescription, GroupListing, GroupPartition, Seeked
    from ..seek_plan import SeekPlan

_WATCH_INTERVAL_S = 1.0
_Found = TypeVar("_Found")

GroupArgument = Annotated[str, typer.Argument(show_default=False, autocompletion=complete_group)]
YesOption = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


def list_groups(output: OutputOption = OutputFormat.text, brokers: BrokersOption = None) -> None:
    """List the consumer groups.

    \b
      lograft group list
      lograft group list -o json
    """
    from .tables import show, show_json

    async def work(client: Client) -> list[GroupListing]:
        return await client.groups.list()

    groups = _run(brokers, work)
    if output is OutputFormat.json:
        show_json([_listing_as_json(group) for group in groups])
    else:
        show(listing_text(groups))


def describe(
    group: GroupArgument,
    members: Annotated[bool, typer.Option("--members", help="Show the members too.")] = False,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Look again each second, until Ctrl-C.")] = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Show who reads what in a group, and how far.

    \b
    LAG counts the records between the stored offset and the end; BEHIND is the age of the next unread one.

    \b
      lograft group describe billing
      lograft group describe billing --members
      lograft group describe billing -w
      lograft group describe billing -o json
    """

    def shown(description: GroupDescription) -> str:
        if output is OutputFormat.text:
            return description_text(description, members=members)
        import json

        return json.dumps(description_as_json(description), indent=None if watch else 2, ensure_ascii=False)

    async def work(client: Client) -> None:
        from .tables import show

        if watch:
            await _watch(client, group, shown, redraw=output is OutputFormat.text and sys.stdout.isatty())
        else:
            show(shown(await client.groups.describe(group)))

    _run(brokers, work)


async def _watch(client: Client, group: str, shown: Callable[[GroupDescription], str], *, redraw: bool) -> None:
    """Show the group each second. One that is there at first may be unreachable for a while, but not unknown."""
    import asyncio

    from ...proto.errors import LograftError
    from .tables import show

    text = shown(await client.groups.describe(group))
    if not redraw:
        while True:
            show(text)
            await asyncio.sleep(_WATCH_INTERVAL_S)
            try:
                text = shown(await client.groups.describe(group))
            except LograftError as error:
                if not error.retriable:
                    raise
                say(f"lograft: {one_line(str(error))}")
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            live.update(Text(text, no_wrap=True, overflow="crop"), refresh=True)
            await asyncio.sleep(_WATCH_INTERVAL_S)
            try:
                text = shown(await client.groups.describe(group))
            except LograftError as error:
                if not error.retriable:
                    raise
                text = f"{text.partition(chr(10))[0]}\n\n{one_line(str(error))}"


def seek(
    group: GroupArgument,
    to: Annotated[str, typer.Option("--to", metavar="PLACE", help="Where to go.", show_default=False)],
    topics: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            metavar="T",
            help="Only this topic, or a new one; may be repeated.",
            autocompletion=complete_topic,
        ),
    ] = None,
    partitions: Annotated[
        str | None, typer.Option("-p", "--partition", metavar="N,N,...", help="Only these partitions.")
    ] = None,
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and change nothing.")] = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Move a group, also while it reads.

    Shows the plan first, and asks.

    \b
    PLACE: start, end, @T (ms, seconds, date, RFC 3339, -48h), an offset, +N (after start), -N (before end),
    shift:+N, shift:-N (from where it stands), or group:H (where that group stands).
    Members are told at once and go on from there; nothing that they fetched before can be stored over it.

    \b
      lograft group seek billing --to start --dry-run
      lograft group seek billing --to @-1h               replay the last hour
      lograft group seek billing --to shift:-100 --topic orders -p 0,1
      lograft group seek billing-copy --to group:billing --topic orders -y
    """
    import time

    from ...proto.errors import InvalidRequest
    from ..seek_plan import parse_goal

    try:
        goal = parse_goal(to, now_ms=time.time_ns() // 1_000_000)
    except InvalidRequest as error:
        if "time" in error.facts:  # written as it should be, but not a place where anything is
            raise
        raise typer.BadParameter(str(error), param_hint="--to") from None
    numbers = partition_numbers(partitions, "-p")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise Refused(
            f"nobody is here to be asked whether {group[:80]} may be moved",
            "add --yes to move it, or --dry-run to see the plan",
        )

    from .tables import show, show_json

    async def find(client: Client) -> SeekPlan:
        return await client.groups.plan_seek(group, goal, topics, numbers)

    plan = _run(brokers, find)
    if output is OutputFormat.text:
        show(plan_text(plan))
    if dry_run or not plan.moves:
        if output is OutputFormat.json:
            show_json(plan_as_json(plan, None))
        elif dry_run:
            say("nothing was changed")
        if not (dry_run or plan.moves):
            raise Refused(
                f"there is nothing to move in {group[:80]}", "see `lograft group describe`, or name a --topic"
            )
        return
    if not yes:  # asked outside of the event loop, where Ctrl-C means what it says
        if output is OutputFormat.json:
            say(plan_text(plan))
        if not typer.confirm(f"move {group}?", err=True):
            raise Refused(f"{group[:80]} was not moved")

    async def work(client: Client) -> Seeked:
        return await client.groups.seek(group, plan)

    seeked = _run(brokers, work)
    if output is OutputFormat.json:
        show_json(plan_as_json(plan, seeked))
    else:
        say(outcome_text(plan, seeked))


def delete(group: GroupArgument, yes: YesOption = False, brokers: BrokersOption = None) -> None:
    """Forget a group that has no members.

    Its stored offsets are gone for good. Asks first, on a terminal.

    \b
      lograft group delete billing
      lograft group delete billing -y
    """

    async def find(client: Client) -> GroupDescription:
        return await client.groups.describe(group)

    async def work(client: Client) -> None:
        await client.groups.delete(group)

    if sys.stdin.isatty() and not yes:
        from .tables import count

        stored = sum(one.stored_offset is not None for one in _run(brokers, find).partitions)
        if not typer.confirm(f"delete {group} with the stored offsets of {count(stored, 'partition')}?", err=True):
            raise Refused(f"{group[:80]} was not deleted")
    _run(brokers, work)
    say(f"deleted {group}")


def _run(brokers: str | None, work: Callable[[Client], Awaitable[_Found]]) -> _Found:
    import asyncio

    from ..client import Client
    from .local_cluster import client_addresses

    async def run() -> _Found:
        async with Client(client_addresses(brokers), client_id="lograft-cli") as client:
            return await work(client)

    return asyncio.run(run())


# What is shown --------------------------------------------------------------------------------------------------------


def listing_text(groups: list[GroupListing]) -> str:
    from .tables import columns

    rows = [
        (
            _printable(group.group),
            group.state,
            group.members,
            group.partitions,
            ",".join(group.topics) or "-",
            group.coordinator_id if group.coordinator_id >= 0 else "?",
        )
        for group in groups
    ]
    return columns(("GROUP", "STATE", "MEMBERS", "PARTITIONS", "TOPICS", "COORDINATOR"), rows)


def description_text(description: GroupDescription, *, members: bool) -> str:
    """A group for people: what it is and its lag first, so that a table longer than the screen hides neither."""
    from .tables import columns, count, span

    group = description
    coordinator = f"broker {group.coordinator_id}" if group.coordinator_id >= 0 else "a broker not known"
    lines = [
        f"{_printable(group.group)}: {group.state}, {count(len(group.members), 'member')}, generation "
        f"{group.generation}, coordinated by {coordinator}",
        f"lag: {count(group.lag_records, 'record')}, {span(group.lag_seconds)} behind{_unknown_lags(group)}",
        "",
    ]
    has_metadata = any(one.metadata for one in group.partitions)
    names = member_names(group)
    rows = [
        (
            one.partition.topic or "(deleted)",
            one.partition.partition,
            _owner(one, names),
            _or(one.stored_offset, "-"),
            _or(one.committed_offset, "?"),
            _or(one.lag_records, "?"),
            "?" if one.lag_seconds is None else span(one.lag_seconds),
            *([_printable(one.metadata[:60])] if has_metadata else []),
        )
        for one in group.partitions
    ]
    last_title = ("METADATA",) if has_metadata else ()
    lines.append(columns(("TOPIC", "PARTITION", "OWNER", "STORED", "END", "LAG", "BEHIND", *last_title), rows))
    totals = topic_lags(group)
    if len(totals) > 1:
        lines.append("")
        rows_of_topics = [(topic, records, span(seconds)) for topic, (records, seconds) in totals.items()]
        lines.append(columns(("TOPIC", "LAG", "BEHIND"), rows_of_topics))
    if members and group.members:
        lines.append("")
        rows_of_members = [
            (
                _printable(member.member_id),
                _printable(member.instance_id) or "-",
                _printable(member.client_id) or "-",
                member.host or "-",
                member.partitions,
                span(member.session_timeout_ms / 1000),
                "not yet" if member.heard_ms_ago is None else f"{span(member.heard_ms_ago / 1000)} ago",
                _printable(",".join([*member.topics, *([f"/{member.pattern}/"] if member.pattern else [])])),
            )
            for member in group.members
        ]
        lines.append(
            columns(
                ("MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS", "SESSION", "HEARD", "READS"), rows_of_members
            )
        )
    return "\n".join(lines)


def member_names(group: GroupDescription) -> dict[str, str]:
    """What people call each member: the instance id where it has one, else the id it drew."""
    return {member.member_id: _printable(member.instance_id or member.member_id) for member in group.members}


def topic_lags(group: GroupDescription) -> dict[str, tuple[int, float]]:
    """Lag of each topic as far as it is known: records in sum, seconds at worst."""
    lags: dict[str, tuple[int, float]] = {}
    for one in group.partitions:
        records, seconds = lags.get(one.partition.topic, (0, 0.0))
        lags[one.partition.topic] = (records + (one.lag_records or 0), max(seconds, one.lag_seconds or 0.0))
    return lags


def plan_text(plan: SeekPlan) -> str:
    """A plan for people: a line for each partition, and what it comes to."""
    from .tables import columns, count

    rows = [
        (
            move.partition.topic,
            move.partition.partition,
            _printable(move.owner) or "-",
            _or(move.stored_offset, "-"),
            move.to_offset,
            _change(move.change) + (" (as far as it goes)" if move.is_cut_short else ""),
        )
        for move in plan.moves
    ]
    lines = [columns(("TOPIC", "PARTITION", "OWNER", "FROM", "TO", "CHANGE"), rows), ""] if rows else []
    lines += [f"left out: {left.partition}, {left.why}" for left in plan.left_out]
    if rows:
        told = f"{count(len(plan.owners), 'member')} will be told" if plan.owners else "no member reads them now"
        lines.append(
            f"{count(len(plan.moves), 'partition')}: {count(plan.records_back, 'record')} to be read again, "
            f"{count(plan.records_forward, 'record')} to be passed over; {told}"
        )
    return "\n".join(lines)


def outcome_text(plan: SeekPlan, seeked: Seeked) -> str:
    from .tables import count

    moved = f"moved {_printable(plan.group)}: {count(len(plan.moves), 'partition')}"
    if not seeked.regranted:
        return f"{moved}, none of which a member reads now"
    members = f" to {count(len(plan.owners), 'member')}" if plan.owners else ""
    return f"{moved}, of which {seeked.regranted:,} were granted anew{members}, in generation {seeked.generation}"


def _unknown_lags(group: GroupDescription) -> str:
    from .tables import count

    unknown = sum(one.lag_records is None for one in group.partitions)
    return f"; not known of {count(unknown, 'partition')}" if unknown else ""


def _owner(one: GroupPartition, names: dict[str, str]) -> str:
    owner = names.get(one.member_id, one.member_id) or "-"
    return f"{owner} -> {names.get(one.next_member_id, one.next_member_id)}" if one.next_member_id else owner


def _change(change: int | None) -> str:
    if change is None:
        return "new"
    return f"{change:+,}" if change else "same"


def _or(number: int | None, instead: str) -> int | str:
    return instead if number is None else number


def _printable(text: str) -> str:
    """What others chose to call something must not move the cursor here."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _listing_as_json(group: GroupListing) -> dict[str, Any]:
    return {
        "group": group.group,
        "state": group.state,
        "members": group.members,
        "partitions": group.partitions,
        "topics": list(group.topics),
        "coordinator_id": group.coordinator_id,
    }


def description_as_json(group: GroupDescription) -> dict[str, Any]:
    """null stands for what is not known, or not there."""
    return {
        "group": group.group,
        "state": group.state,
        "generation": group.generation,
        "coordinator_id": group.coordinator_id,
        "lag_records": group.lag_records,
        "lag_seconds": group.lag_seconds,
        "topics": [
            {"topic": topic, "lag_records": records, "lag_seconds": seconds}
            for topic, (records, seconds) in topic_lags(group).items()
        ],
        "members": [
            {
                "member_id": member.member_id,
                "instance_id": member.instance_id or None,
                "client_id": member.client_id or None,
                "host": member.host,
                "topics": list(member.topics),
                "pattern": member.pattern,
                "partitions": member.partitions,
                "session_timeout_ms": member.session_timeout_ms,
                "heard_ms_ago": member.heard_ms_ago,
                "joined_ms": member.joined_ms,
            }
            for member in group.members
        ],
        "partitions": [
            {
                "topic": one.partition.topic,
                "partition": one.partition.partition,
                "topic_id": one.topic_id,
                "member_id": one.member_id or None,
                "next_member_id": one.next_member_id or None,
                "generation": one.generation,
                "stored_offset": one.stored_offset,
                "metadata": one.metadata,
                "stored_ms": one.stored_ms,
                "start_offset": one.start_offset,
                "committed_offset": one.committed_offset,
                "lag_records": one.lag_records,
                "lag_seconds": one.lag_seconds,
            }
            for one in group.partitions
        ],
    }


def plan_as_json(plan: SeekPlan, seeked: Seeked | None) -> dict[str, Any]:
    """The plan, and what became of it; `generation` is null while nothing was changed."""
    return {
        "group": plan.group,
        "moved": seeked is not None,
        "generation": None if seeked is None else seeked.generation,
        "regranted": None if seeked is None else seeked.regranted,
        "members": list(plan.owners),
        "records_back": plan.records_back,
        "records_forward": plan.records_forward,
        "moves": [
            {
                "topic": move.partition.topic,
                "partition": move.partition.partition,
                "owner": move.owner or None,
                "from": move.stored_offset,
                "to": move.to_offset,
                "change": move.change,
                "asked": move.asked_offset,
            }
            for move in plan.moves
        ],
        "left_out": [
            {"topic": left.partition.topic, "partition": left.partition.partition, "why": left.why}
            for left in plan.left_out
        ],
    }
