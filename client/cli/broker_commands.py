"""`broker list|add|drain|undrain|remove`: the brokers as members. `broker -c` runs one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import Refused, say
from .local_commands import DataOption, OutputOption, add_to_local_cluster, retire_from_local_cluster
from .record_commands import INT32_MAX, BrokersOption
from .tables import OutputFormat, count
from .topic_commands import run_with_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..admin import BrokerDescription, ClusterDescription

_LOOK_INTERVAL_S = 0.2

BrokerArgument = Annotated[int, typer.Argument(metavar="N", help="The broker's id.", min=0, max=INT32_MAX)]


def list_brokers(output: OutputOption = OutputFormat.text, brokers: BrokersOption = None) -> None:
    """List the brokers: alive or dead, what they lead and hold, and whether they are draining, removed or gone.

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
        (
            broker.broker_id,
            _state(broker),
            broker.address,
            broker.leaders,
            broker.replicas,
            broker.version or "?",
            spoken(broker.peer_protocol),
        )
        for broker in found
    ]
    show(columns(("BROKER", "STATE", "GRPC", "LEADS", "REPLICAS", "VERSION", "PROTOCOL"), rows))


def spoken(peer_protocol: tuple[int, int] | None) -> str:
    """Versions of the protocol between brokers, for people."""
    if peer_protocol is None:
        return "?"
    lowest, highest = peer_protocol
    return str(highest) if lowest == highest else f"{lowest}-{highest}"


def add(data: DataOption = None) -> None:
    """Start one broker more in the local cluster, while it serves, and wait until it has joined.

    It listens on the next ports (base+10i). New topics and partitions are placed on it too; what is there already
    stays until you rebalance. Elsewhere, a broker joins by itself: run `lograft broker -c FILE` with the cluster's
    secret and a `cluster.peers` that names brokers of the cluster.

    \b
      lograft broker add
      lograft cluster rebalance        share out what the others hold
    """
    add_to_local_cluster(data)


def drain(
    broker_id: BrokerArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it leads nothing any more.")] = True,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, max=86_400, help="How long to wait at most.")
    ] = 60.0,
    brokers: BrokersOption = None,
) -> None:
    """Hand over all that a broker leads, and have it lead nothing until `undrain`. Its data stays where it is.

    For longer work on a machine. A clean stop hands leaderships over too, so that a mere restart needs no drain; what
    moves data away from a broker, for good, is `remove`. Refused if some partition would be left without a majority
    while the broker is stopped. Where several are drained, stop one at a time.

    \b
      lograft broker drain 2
      lograft broker undrain 2        once it is back
    """
    import asyncio

    async def work(client: Any) -> tuple[int, int, list[int]]:
        """What it led, what it leads still, and the other brokers that are drained."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        before = left = await _leads(client, broker_id)
        await client.admin.drain_broker(broker_id)
        while wait:
            left = await _leads(client, broker_id)
            if not left or loop.time() >= deadline:
                break
            await asyncio.sleep(_LOOK_INTERVAL_S)
        known = (await client.admin.describe_cluster()).brokers
        return before, left, [other.broker_id for other in known if other.draining and other.broker_id != broker_id]

    before, left, drained = run_with_client(brokers, work)
    if not wait:
        say(f"draining broker {broker_id}; `lograft broker list` shows what it still leads")
    elif left:
        raise Refused(
            f"broker {broker_id} still leads {count(left, 'partition')} after {timeout_s:.0f} s: nobody else can yet",
            "it goes on draining; `lograft broker list` shows what it still leads",
        )
    else:
        say(
            f"broker {broker_id} leads nothing ({count(before, 'partition')} handed over) until "
            f"`lograft broker undrain {broker_id}`, and can be stopped{_while_up(drained)}; its data stays"
        )


def _while_up(drained: Sequence[int]) -> str:
    """What stopping a drained broker leans on, where others are drained too: each was judged with the others up."""
    if not drained:
        return ""
    named = ", ".join(map(str, drained))
    return (
        f" while broker {named}, drained too, is up"
        if len(drained) == 1
        else (f" while brokers {named}, drained too, are up")
    )


async def _leads(client: Any, broker_id: int) -> int:
    """Partitions that a broker leads, the cluster's decisions among them; 0 of one that is not known."""
    cluster = await client.admin.describe_cluster()
    led = sum(broker.leaders for broker in cluster.brokers if broker.broker_id == broker_id)
    return int(led + (cluster.controller_id == broker_id))


def undrain(broker_id: BrokerArgument, brokers: BrokersOption = None) -> None:
    """Let a drained broker lead again. The partitions that prefer it come back to it within seconds, one by one.

    \b
      lograft broker undrain 2
    """

    async def work(client: Any) -> None:
        await client.admin.undrain_broker(broker_id)

    run_with_client(brokers, work)
    say(f"broker {broker_id} may lead again; what prefers it comes back within seconds")


def remove(
    broker_id: BrokerArgument,
    wait: Annotated[
        bool, typer.Option("-w", "--wait", help="Wait until it holds nothing; of a local cluster, then stop it.")
    ] = False,
    brokers: BrokersOption = None,
) -> None:
    """Place elsewhere what a broker holds, for good; it may be dead already.

    Its process is yours to stop once it holds nothing, but that of a local cluster, which `--wait` stops in the end.

    To restart a broker, stop and start it, or use `lograft restart`; `drain` has it lead nothing and moves no data.

    \b
      lograft broker remove 2 --wait
      lograft partition list --moving        what is not copied yet
    """

    async def work(client: Any) -> list[str]:
        found: list[str] = await client.admin.remove_broker(broker_id)
        return found

    moved = run_with_client(brokers, work)
    what = f"moving what it holds of {', '.join(moved)}" if moved else "nothing more is to be moved"
    say(f"broker {broker_id} is removed; {what}")
    if not wait:
        return
    try:
        run_with_client(brokers, lambda client: _wait_until_empty(client, broker_id))
    except KeyboardInterrupt:
        say(f"\nthe copying goes on; `lograft broker remove {broker_id} --wait` waits for it again")
        raise
    if brokers is None and retire_from_local_cluster(broker_id):
        say(f"broker {broker_id} holds nothing any more, and is stopped")
    else:
        say(f"broker {broker_id} holds nothing any more; stop its process")


async def _wait_until_empty(client: Any, broker_id: int) -> None:
    """Until no partition's voters, as their leaders say, and no decision name the broker; tells how many are left."""
    import asyncio

    from ...proto.errors import LograftError
    from .tables import count

    told = None
    while True:
        try:
            topics = await client.admin.list_topics(internal=True)
            cluster = await client.admin.describe_cluster()
        except LograftError:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            continue
        partitions = [partition for topic in topics for partition in topic.partitions]
        left = sum(
            # A partition whose leader does not say how large it is does not say who votes either.
            partition.size_bytes < 0 or any(replica.broker_id == broker_id for replica in partition.replicas)
            for partition in partitions
        )
        votes = any(broker.broker_id == broker_id and broker.cluster_voter for broker in cluster.brokers)
        if not left and not votes:
            return
        if left != told:
            told = left
            say(f"{count(left, 'partition')} of {len(partitions)} to go" if left else "waiting for the decisions")
        await asyncio.sleep(_LOOK_INTERVAL_S)


def _state(broker: BrokerDescription) -> str:
    marks = [
        mark
        for mark, holds in (("draining", broker.draining), ("removed", broker.removed), ("gone", broker.gone))
        if holds
    ]
    return ", ".join(["alive" if broker.alive else "dead", *marks])


def _as_json(broker: BrokerDescription) -> dict[str, Any]:
    return {
        "broker_id": broker.broker_id,
        "alive": broker.alive,
        "draining": broker.draining,
        "removed": broker.removed,
        "gone": broker.gone,
        "address": broker.address,
        "rack": broker.rack,
        "directory_id": broker.directory_id,
        "leaders": broker.leaders,
        "replicas": broker.replicas,
        "cluster_voter": broker.cluster_voter,
        "version": broker.version,
        "peer_protocol": None if broker.peer_protocol is None else list(broker.peer_protocol),
    }
