"""Replay: a topic between two pinned bounds, as a member of no group, that ends by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

from ..proto.errors import UnknownPartition
from .connection import Connection
from .consumer import Consumer
from .coordinator import Coordinator
from .metadata import Metadata
from .offset_bounds import Bound, parse_bound
from .offsets import OffsetLookup
from .records import Record, TopicPartition


async def _stops(
    lookup: OffsetLookup,
    bound: Bound,
    partitions: list[TopicPartition],
    stored: Mapping[TopicPartition, int] | None,
) -> dict[TopicPartition, int]:
    """A stop beyond the end is the end: what is not there yet is not waited for. So it is, at first, for a time."""
    if bound.base in ("zero", "time"):
        ends = await lookup.find(dict.fromkeys(partitions, "end"))
        if bound.base == "time":
            return ends
        return {partition: min(bound.number, end) for partition, end in ends.items()}
    return await lookup.resolve(bound, partitions, stored)


async def read(
    connection: Connection,
    metadata: Metadata,
    topic: str,
    start: Bound | str | int,
    stop: Bound | str | int,
    partitions: Iterable[int] | None,
    group_id: str | None = None,
    *,
    timeout_s: float,
) -> AsyncIterator[Record]:
    """The records of `topic` from `start` up to before `stop`, both pinned now; each partition's in order.

    Raises
        InvalidRequest                  a bound that is none, or `stored` without a group
        UnknownTopic, UnknownPartition  there is no such thing, or it was deleted meanwhile
        BrokerUnavailable               a partition could not be read for `timeout_s`
        OffsetOutOfRange                the log does not hold the start, or its start passed us while we read
    """
    now_ms = connection.environment.unix_ms()
    first, last = (b if isinstance(b, Bound) else parse_bound(b, now_ms=now_ms) for b in (start, stop))
    view = await metadata.topic(topic, timeout_s=timeout_s)
    numbers = [partition.number for partition in view.partitions]
    chosen = [TopicPartition(topic, number) for number in dict.fromkeys(numbers if partitions is None else partitions)]
    for _, number in chosen:
        if number not in numbers:
            raise UnknownPartition(
                f"topic {topic!r} has partitions 0 to {len(numbers) - 1}; {number} is none of them",
                topic=topic,
                partition=number,
            )
    lookup = OffsetLookup(connection, metadata, timeout_s=timeout_s)
    stored = None
    if group_id is not None and "stored" in (first.base, last.base):
        known = await Coordinator(connection, metadata, group_id, timeout_s).fetch(chosen)
        same = {p: at for p, at in known.items() if at.topic_id in ("", view.topic_id)}  # not of a topic now deleted
        stored = {partition: at.offset for partition, at in same.items()}
    stops = await _stops(lookup, last, chosen, stored)
    starts = await lookup.resolve(first, chosen, stored)
    # Brokers find the batch in which a time is reached; the record in it is found here.
    not_before_ms = first.number if first.base == "time" else None
    late_from = await lookup.resolve(last, chosen) if last.base == "time" else {}
    chosen = [partition for partition in chosen if starts[partition] < stops[partition]]
    consumer = Consumer(connection, metadata, auto_offset_reset="error", timeout_s=timeout_s, give_up_s=timeout_s)
    consumer.assign(chosen)
    for partition in chosen:
        consumer.seek(partition, starts[partition])
    early = set(chosen) if not_before_ms is not None else set()
    async with consumer:
        while consumer.assignment():
            position = await consumer.next_ready(stops)
            partition = position.topic_partition
            end = stops[partition]
            while position.at < len(position.ready) and (record := position.ready[position.at]).offset < end:
                position.at += 1
                if partition in early:
                    if not_before_ms is not None and record.timestamp_ms < not_before_ms:
                        continue
                    early.discard(partition)
                if late_from and record.offset >= late_from[partition] and record.timestamp_ms >= last.number:
                    end = record.offset
                    break
                yield record
            if (reached := position.offset) is None or reached >= end:
                consumer.drop(partition)
