"""`cluster info|rebalance`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import Refused, say
from .local_commands import OutputOption
from .record_commands import BrokersOption
from .tables import OutputFormat
from .topic_commands import YesOption, run_with_client

if TYPE_CHECKING:
    from ..admin import ClusterDescription
    from ..rebalance import PlannedMove, RebalancePlan, RebalanceProgress

_TELL_INTERVAL_S = 10.0


def info(output: OutputOption = OutputFormat.text, brokers: BrokersOption = None) -> None:
    """Show the brokers of the cluster, its controller and what it holds.

    \b
      lograft cluster info
      lograft cluster info -o json --brokers broker-1:9600,broker-2:9600
    """
    from .broker_commands import spoken
    from .health_command import described_once
    from .tables import columns, count, show, show_json

    cluster = described_once(brokers)
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
            "alive" if broker.alive else "gone" if broker.gone else "dead",
            broker.address,
            broker.rack or "-",
            broker.leaders,
            broker.replicas,
            "yes" if broker.cluster_voter else "no",
            broker.version or "?",
            spoken(broker.peer_protocol),
        )
        for broker in sorted(cluster.brokers, key=lambda broker: broker.broker_id)
    ]
    show(columns(("BROKER", "STATE", "GRPC", "RACK", "LEADS", "REPLICAS", "VOTER", "VERSION", "PROTOCOL"), rows))


def rebalance(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and change nothing.")] = False,
    yes: YesOption = False,
    at_once: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Partitions copied at a time.")] = 4,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Have the brokers hold and lead equally much, moving the least. Shows its plan, asks, and waits until it is done.

    Records go in and out meanwhile. What drained and dead brokers hold stays where it is. Ctrl-C begins no more moves;
    those under way are finished by the brokers, and the same command plans the rest anew.

    \b
      lograft cluster rebalance --dry-run
      lograft cluster rebalance --yes --at-once 2
    """
    from .tables import count, show, show_json

    if not (yes or dry_run or sys.stdin.isatty()):
        raise Refused("nothing was moved: there is nobody to ask", "add --yes to move, or --dry-run to see the plan")

    async def find(client: Any) -> RebalancePlan:
        found: RebalancePlan = await client.admin.plan_rebalance()
        return found

    plan = run_with_client(brokers, find)
    as_json = output is OutputFormat.json
    if not as_json:
        show(_plan_text(plan))
    if dry_run or not plan.moves:
        if as_json:
            show_json(_plan_as_json(plan, None))
        return
    if not yes and not typer.confirm(f"carry out {count(len(plan.moves), 'change')}?", err=True):
        raise Refused("nothing was moved")
    ended = _carry_out(plan, at_once, brokers)
    if as_json:
        show_json(_plan_as_json(plan, ended))
    for move, why in ended.left:
        say(f"{move.topic} {move.partition} was left as it is: {why}")
    if ended.leaders_awaited:
        say(f"{count(ended.leaders_awaited, 'partition')} will be led by the preferred broker once it has caught up")
    if ended.left:
        raise Refused(f"{count(len(ended.left), 'change')} could not be made", "run it again to plan them anew")
    say(f"done: {count(len(ended.done), 'change')}")


def _carry_out(plan: RebalancePlan, at_once: int, brokers: str | None) -> RebalanceProgress:
    latest: list[RebalanceProgress] = []
    told, told_at = 0, time.monotonic()

    def tell(progress: RebalanceProgress) -> None:
        nonlocal told, told_at
        latest[:] = [progress]
        for number, move in enumerate(progress.done[told:], told + 1):
            say(f"{number} of {len(plan.moves)}: {_move_text(move)}")
        if told < len(progress.done):
            told, told_at = len(progress.done), time.monotonic()
        elif progress.under_way and time.monotonic() - told_at >= _TELL_INTERVAL_S:
            told_at = time.monotonic()
            for move in progress.under_way:
                say(f"under way: {_move_text(move)}: {_how_far(progress, move)}")

    async def work(client: Any) -> RebalanceProgress:
        ended: RebalanceProgress = await client.admin.rebalance(plan, at_once=at_once, on_progress=tell)
        return ended

    try:
        return run_with_client(brokers, work)  # type: ignore[no-any-return]
    except KeyboardInterrupt:
        done, under_way = (len(latest[0].done), len(latest[0].under_way)) if latest else (0, 0)
        say(
            f"\nstopped: {done} of {len(plan.moves)} done, {under_way} under way, which the brokers finish by "
            "themselves (`lograft partition list --moving`); `lograft cluster rebalance` plans the rest"
        )
        raise


def _how_far(progress: RebalanceProgress, move: PlannedMove) -> str:
    from .partition_commands import copied

    found = progress.seen.get(move)
    if found is None or found.leader_id < 0:
        return "no leader answers"
    gone = sorted(replica.broker_id for replica in found.replicas if not replica.alive and not replica.leaving)
    if gone:
        return f"waiting for broker {_listed(tuple(gone))}, not in touch; start it, or remove it from the cluster"
    return copied(found) or ("under way" if found.moving else "at its end")


def _plan_text(plan: RebalancePlan) -> str:
    from .tables import columns, count, size

    aside = (
        f"{count(plan.set_aside, 'partition')} left aside: being moved, without a leader, or on a dead broker"
        if plan.set_aside
        else ""
    )
    if not plan.moves:
        return "\n".join(filter(None, ["balanced: nothing to do", aside]))
    moves = [
        (move.topic, move.partition, _listed(move.before), _listed(move.after), _cost(move)) for move in plan.moves
    ]
    shares = [
        (
            share.broker_id,
            f"{share.replicas_before} -> {share.replicas_after}",
            f"{share.leaders_before} -> {share.leaders_after}",
        )
        for share in plan.brokers
    ]
    copies = f"{count(plan.replicas_moved, 'replica')} copied, {size(plan.bytes_moved)} in all"
    return "\n".join(
        [
            columns(("TOPIC", "PARTITION", "NOW", "THEN", "COPIES"), moves),
            "",
            columns(("BROKER", "REPLICAS", "LEADS"), shares),
            "",
            f"{count(len(plan.moves), 'change')}: {copies}",
            *filter(None, [aside]),
        ]
    )


def _cost(move: PlannedMove) -> str:
    from .tables import size

    if not move.replicas_moved:
        return "-"
    return size(move.replicas_moved * move.size_bytes) if move.size_bytes >= 0 else "?"


def _move_text(move: PlannedMove) -> str:
    return f"{move.topic} {move.partition}: {_listed(move.before)} -> {_listed(move.after)}"


def _listed(broker_ids: tuple[int, ...]) -> str:
    return ",".join(map(str, broker_ids))


def _plan_as_json(plan: RebalancePlan, ended: RebalanceProgress | None) -> dict[str, Any]:
    def as_json(move: PlannedMove) -> dict[str, Any]:
        return {
            "topic": move.topic,
            "partition": move.partition,
            "before": list(move.before),
            "after": list(move.after),
            "replicas_moved": move.replicas_moved,
            "size_bytes": move.size_bytes,
        }

    return {
        "moves": [as_json(move) for move in plan.moves],
        "replicas_moved": plan.replicas_moved,
        "bytes_moved": plan.bytes_moved,
        "set_aside": plan.set_aside,
        "brokers": [
            {
                "broker_id": share.broker_id,
                "replicas": {"before": share.replicas_before, "after": share.replicas_after},
                "leaders": {"before": share.leaders_before, "after": share.leaders_after},
            }
            for share in plan.brokers
        ],
        "done": None if ended is None else len(ended.done),
        "left": None if ended is None else [{**as_json(move), "why": why} for move, why in ended.left],
    }


def _as_json(cluster: ClusterDescription) -> dict[str, Any]:
    from .health_command import health_as_json

    return {
        "cluster_id": cluster.cluster_id,
        "controller_id": cluster.controller_id,
        "controller_term": cluster.controller_term,
        "topics": cluster.topics,
        "partitions": cluster.partitions,
        **health_as_json(cluster),
        "brokers": [
            {
                "broker_id": broker.broker_id,
                "alive": broker.alive,
                "gone": broker.gone,
                "address": broker.address,
                "peer_address": broker.peer_address,
                "http_address": broker.http_address,
                "rack": broker.rack,
                "directory_id": broker.directory_id,
                "leaders": broker.leaders,
                "replicas": broker.replicas,
                "cluster_voter": broker.cluster_voter,
                "version": broker.version,
                "peer_protocol": None if broker.peer_protocol is None else list(broker.peer_protocol),
            }
            for broker in cluster.brokers
        ],
    }
