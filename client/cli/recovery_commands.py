"""`partition recover`, and how a recovery is shown afterwards."""

from __future__ import annotations

import asyncio
import getpass
import socket
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import WRONG_USAGE, Ended, Refused, say
from .local_commands import OutputOption
from .record_commands import INT32_MAX, BrokersOption, TopicArgument
from .tables import OutputFormat
from .topic_commands import run_with_client

if TYPE_CHECKING:
    from ..admin import TopicDescription
    from ..recoveries import PartitionRecovery, RecoveryPlan

LEADER_S_MAX = 30.0


def recover(
    topic: TopicArgument,
    partition: Annotated[int, typer.Argument(help="Its number.", min=0, max=INT32_MAX)],
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Do it. Without this it is only explained.")
    ] = False,
    from_broker: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="BROKER",
            min=0,
            max=INT32_MAX,
            help="Whose log is to go on.  [default: the one that reaches furthest]",
            show_default=False,
        ),
    ] = None,
    despite_repair: Annotated[
        bool, typer.Option("--despite-repair", help="What is damaged seems whole elsewhere, but repair has failed.")
    ] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Go on with one replica's log, when the majority of a partition is lost for good.

    First it explains: who holds what, who might come back, what would be lost. If lost brokers can come back with their
    disks, bring them back instead: then nothing is lost. What is accepted as lost cannot be had again; what a returning
    disk then holds is void. It stays on record (`lograft topic describe`).

    \b
      lograft partition recover events 3                   explain
      lograft partition recover events 3 --accept-loss     explain, ask, do it
    """
    from .tables import show, show_json

    async def look(client: Any) -> RecoveryPlan:
        found: RecoveryPlan = await client.admin.plan_recovery(
            topic, partition, from_broker, despite_repair=despite_repair
        )
        return found

    if topic == "__cluster":
        raise Refused(
            "__cluster holds the decisions themselves, and nobody could decide this: stop the brokers, and see "
            "`lograft broker -c FILE --recover-cluster` (docs/operating.md)"
        )
    plan = run_with_client(brokers, look)
    if output is OutputFormat.json:
        show_json(_as_json(plan))
    else:
        for line in plan.explanation:
            (say if accept_loss else show)(line)
    if plan.refusal:
        raise Refused(plan.refusal)
    if not accept_loss:
        say(f"nothing was changed; `lograft partition recover {topic} {partition} --accept-loss` does it")
        return
    if not yes:
        _ask(topic)
    by = f"{_user()}@{socket.gethostname()}"[:200]

    async def work(client: Any) -> None:
        await client.admin.recover_partition(topic, partition, plan, from_broker, by=by, despite_repair=despite_repair)
        say(f"decided: partition {partition} of {topic} goes on with the log of broker {plan.source_broker_id}")
        await _await_leader(client, topic, partition)

    run_with_client(brokers, work)


def _ask(topic: str) -> None:
    if not sys.stdin.isatty():
        say("lograft: this loses records, so it asks at a terminal; say --yes to do it without")
        raise Ended(WRONG_USAGE)
    typed = typer.prompt(
        f"to accept that loss, type the topic's name ({topic})", err=True, default="", show_default=False
    )
    if typed != topic:
        raise Refused(f"{typed!r} is not {topic!r}", "nothing was changed")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


async def _await_leader(client: Any, topic: str, number: int) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LEADER_S_MAX
    while loop.time() < deadline:
        described: TopicDescription = await client.admin.describe_topic(topic)
        partition = described.partitions[number]
        if partition.leader_id >= 0 and partition.committed_offset >= 0:
            say(
                f"broker {partition.leader_id} leads it, up to offset {partition.committed_offset}; "
                f"`lograft partition list {topic}` shows how its replicas come back"
            )
            return
        await asyncio.sleep(0.2)
    raise Refused(
        f"it is decided, but after {LEADER_S_MAX:g} s partition {number} of {topic} has no leader yet",
        f"`lograft partition recover {topic} {number}` says why",
    )


def told(recovery: PartitionRecovery) -> str:
    """A recovery, in one line."""
    when = datetime.fromtimestamp(recovery.decided_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lost = (
        f"offsets {recovery.kept_offset} to {recovery.lost_offset - 1} were lost"
        if recovery.lost_offset > recovery.kept_offset
        else f"kept was everything up to {recovery.kept_offset} that brokers in touch held"
    )
    unknown = ", ".join(map(str, recovery.unknown_broker_ids))
    lost += f", and whatever broker {unknown} alone held" if unknown else ""
    return (
        f"recovery {recovery.number}, {when}, accepted by {recovery.by or 'somebody'}: it went on with the log of "
        f"broker {recovery.broker_id}; {lost}"
    )


def recovery_as_json(recovery: PartitionRecovery | None) -> dict[str, Any] | None:
    if recovery is None:
        return None
    return {
        "number": recovery.number,
        "broker_id": recovery.broker_id,
        "decided_ms": recovery.decided_ms,
        "by": recovery.by,
        "kept_offset": recovery.kept_offset,
        "lost_offset": recovery.lost_offset,
        "unknown_broker_ids": list(recovery.unknown_broker_ids),
    }


def _as_json(plan: RecoveryPlan) -> dict[str, Any]:
    return {
        "refusal": plan.refusal,
        "explanation": list(plan.explanation),
        "source_broker_id": plan.source_broker_id,
        "kept_offset": plan.kept_offset,
        "lost_offset": plan.lost_offset,
        "unknown_broker_ids": list(plan.unknown_broker_ids),
    }
