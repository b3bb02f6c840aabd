"""`partition move --wait`: how far a move has come, until it is done.

Always
    whoever stops looking stops nothing: the brokers carry a move on by themselves, and this says so
    bars only on a terminal; elsewhere a line every few seconds
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from .endings import INTERRUPTED, Ended, Refused, say

if TYPE_CHECKING:
    from ..admin import PartitionDescription, TopicDescription

_LOOK_INTERVAL_S = 0.5
_LINE_INTERVAL_S = 5.0


class _Shown(Protocol):
    def __call__(self, partition: PartitionDescription) -> None: ...


def watch_move(topic: str, number: int, broker_ids: Sequence[int], brokers: str | None) -> None:
    """Return once just those brokers vote. Raises Refused if the partition is placed elsewhere meanwhile."""
    began = time.monotonic()
    try:
        with _bars() if sys.stderr.isatty() else _lines() as show:
            asyncio.run(_until_moved(topic, number, broker_ids, brokers, show))
    except KeyboardInterrupt:
        say(
            f"the move of partition {number} of {topic} goes on without you: `lograft partition list {topic} --moving` "
            "shows how far it has come, a move back to where its replicas still vote takes it back, and "
            "`lograft cluster set moves.bytes_per_second` slows it down"
        )
        raise Ended(INTERRUPTED) from None
    from .tables import span

    say(f"moved partition {number} of {topic} to {','.join(map(str, broker_ids))} in {span(time.monotonic() - began)}")


async def _until_moved(topic: str, number: int, broker_ids: Sequence[int], brokers: str | None, show: _Shown) -> None:
    from ...proto.errors import LograftError
    from ..client import Client
    from .local_cluster import client_addresses

    async with Client(client_addresses(brokers), client_id="lograft-cli") as client:
        told = ""
        while True:
            try:
                described = await client.admin.describe_topic(topic)
            except LograftError as error:
                if not error.retriable:
                    raise
                if str(error) != told:  # brokers come and go; the move waits for them, and so do we
                    told = str(error)
                    say(f"still waiting: {told}")
            else:
                partition = _partition(described, number)
                if is_done(partition, broker_ids):
                    return
                show(partition)
            await asyncio.sleep(_LOOK_INTERVAL_S)


def _partition(described: TopicDescription, number: int) -> PartitionDescription:
    return next(partition for partition in described.partitions if partition.number == number)


def is_done(partition: PartitionDescription, broker_ids: Sequence[int]) -> bool:
    """Do just `broker_ids` vote? Raises Refused if others are to."""
    placed = {replica.broker_id for replica in partition.replicas if not replica.leaving}
    if placed != {*broker_ids}:
        raise Refused(
            f"partition {partition.number} was placed on {','.join(map(str, sorted(placed)))} meanwhile",
            "see `lograft partition list`",
        )
    return not partition.moving and all(replica.voter for replica in partition.replicas)


@contextmanager
def _lines() -> Iterator[_Shown]:
    from .partition_commands import copied

    due = time.monotonic() + _LINE_INTERVAL_S

    def show(partition: PartitionDescription) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _LINE_INTERVAL_S
            say(copied(partition) or "under way")

    yield show


@contextmanager
def _bars() -> Iterator[_Shown]:
    """One for each replica that is copied."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    from .partition_commands import shown_copy

    bars: dict[int, TaskID] = {}
    with Progress(
        TextColumn("to broker {task.fields[broker]}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True),
        transient=True,
    ) as progress:

        def show(partition: PartitionDescription) -> None:
            for replica in partition.replicas:
                copying = replica.copying
                if copying is None:
                    continue
                if replica.broker_id not in bars:
                    bars[replica.broker_id] = progress.add_task("", broker=replica.broker_id, figures="")
                progress.update(
                    bars[replica.broker_id],
                    total=max(copying.bytes_total, 1),
                    completed=copying.bytes_done,
                    figures=shown_copy(copying),
                )

        yield show
