"""`top`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .endings import Refused
from .local_commands import OutputOption
from .record_commands import BrokersOption
from .tables import OutputFormat
from .top_frame import Order


def top(
    interval_s: Annotated[
        float, typer.Option("-i", "--interval", metavar="SECONDS", min=0.5, max=3600, help="Time between two looks.")
    ] = 2.0,
    sort: Annotated[
        Order, typer.Option("-s", "--sort", help="Topics and groups: busiest (or most behind), largest, or by name.")
    ] = Order.busiest,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, whole, and stop.")] = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Watch the cluster live: brokers, throughput, topics, how far groups are behind, what is not whole.

    \b
    Keys: s sorts otherwise, p pauses, q quits.
    IN/S, OUT/S: what producers brought and consumers took. ACK P99: produce requests until they were acknowledged.
    LOOP P99: how late the broker came to what was due. BEHIND: age of the next record that the group has not read.
    STATE alone: the broker lives, but nobody describes the cluster; silent: it does not answer either.

    \b
      lograft top
      lograft top -i 5 --sort largest
      lograft top --once -o json         one frame, for programs
    """
    import asyncio

    from .local_cluster import client_addresses

    if output is OutputFormat.json and not once:
        raise typer.BadParameter("a live view is for people; add --once", param_hint="-o json")
    if not once and not sys.stdout.isatty():
        raise Refused("standard output is no terminal", "add --once for one frame, and -o json for a program")
    addresses = client_addresses(brokers)

    from .top import TopOrder, watch

    asyncio.run(watch(addresses, TopOrder(interval_s, sort, once, output)))
