"""Send records. Idempotent: whatever is sent again on the way, a record is in the log once, and in order.

Invariants
    `send` returns once its record has its place in a batch; it waits only for room, and for the topic to be known
    every record handed over is settled: acknowledged, or failed with an outcome that says what is known of it
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Literal

from lograft.v1 import broker_service_pb2

from ..proto.errors import InvalidConfig, InvalidRequest, LograftError, RequestTimedOut
from ..proto.record_batch import Compression
from .accumulator import Accumulator, Gathering, TopicLanes
from .connection import Connection
from .delivery import Deliveries, Delivery, DeliveryErrors, FailedRecords, Failures, RecordMetadata
from .lane import Batch, Lane
from .metadata import Metadata
from .records import Headers, NewRecord
from .room import Room
from .sender import Patience, Sender

Acks = Literal["quorum", "leader", "none"]
Codec = Literal["lz4", "zstd", "gzip", "none"]
RecordToSend = bytes | tuple[bytes | None, bytes | None] | NewRecord
"""A value, (key, value), or a NewRecord."""

_ACKS = {
    "quorum": broker_service_pb2.ACKS_QUORUM,
    "leader": broker_service_pb2.ACKS_LEADER,
    "none": broker_service_pb2.ACKS_NONE,
}
_CODECS = {
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
    "gzip": Compression.GZIP,
    "none": Compression.NONE,
    None: Compression.NONE,
}
_BATCH_BYTES = (1 << 10, 12 << 20)


def _one_of(name: str, value: object, known: Iterable[object]) -> None:
    names = [str(option) for option in known if option is not None]
    if value not in known:
        raise InvalidConfig(f"{name}={value!r}: it is one of {', '.join(names)}", key=name, value=value)


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise InvalidConfig(f"{name}={value!r}: it must be {least:g} or more", key=name, value=value)


class Producer:
    """Sends records to any topics. Made by `Client.producer`; leave it by `async with`, which flushes.

    A batch goes once it is full, or `linger_ms` after its first record. While a small request to the same broker is
    unanswered (for 20 ms at most) a batch that is not full takes records on: so also with `linger_ms=0` a stream of
    single records goes in batches, of what came in during one round trip.

    Raises
        InvalidConfig  a setting it cannot have
    """

    def __init__(
        self,
        connection: Connection,
        metadata: Metadata,
        *,
        acks: Acks = "quorum",
        linger_ms: float = 5,
        max_batch_bytes: int = 1 << 20,
        compression: Codec | None = "lz4",
        idempotent: bool = True,
        max_in_flight_bytes: int = 64 << 20,
        timeout_s: float = 30.0,
    ) -> None:
        _one_of("acks", acks, _ACKS)
        _one_of("compression", compression, _CODECS)
        _at_least("linger_ms", linger_ms, 0)
        _at_least("max_in_flight_bytes", max_in_flight_bytes, 1)
        least, most = _BATCH_BYTES
        if not least <= max_batch_bytes <= most:
            raise InvalidConfig(
                f"max_batch_bytes={max_batch_bytes!r}: it must be {least} to {most}", key="max_batch_bytes"
            )
        self._environment = connection.environment
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._failures = Failures()
        self._room = Room(max_in_flight_bytes)
        self._sender = Sender(
            connection,
            metadata,
            acks=_ACKS[acks],
            patience=Patience(delivery_s=timeout_s, answer_s=min(10.0, timeout_s)),
            on_topic_gone=self._topic_gone,
        )
        self._accumulator = Accumulator(
            Gathering(
                linger_s=linger_ms / 1000,
                max_batch_bytes=max_batch_bytes,
                compression=_CODECS[compression],
                idempotent=idempotent,
            ),
            self._room,
            self._environment,
            metadata,
            self._failures,
            wait_for_room=self._wait_for_room,
            on_begun=self._sender.expect,
            on_ready=self._sender.wake,
        )
        self._topics = self._accumulator.topics
        self._closed = False
        metadata.on_change.append(self._accumulator.take_in_growth)

    # Sending -------------------------------------------------------------------------------------------------------

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Hand a record over. Waits for room only; await the Delivery to know where the record went.

        Raises
            InvalidRecord, BatchTooLarge    it cannot be sent as it is
            UnknownTopic, UnknownPartition  there is no such place
            BrokerUnavailable               the topic could not be looked up, or the producer is closed
        """
        record = self._accumulator.prepare(value, key, headers, timestamp_ms)
        lanes = self._topics.get(topic)
        if lanes is None or self._closed:
            lanes = await self._open_topic(topic)
        if partition is not None:
            lanes.lane(partition)
        if not self._room.try_take(record[4]):
            lanes = await self._wait_for_room(lanes, partition, record[4])
        return self._accumulator.append(lanes, partition, record)

    async def send_and_wait(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send a record and wait until it is acknowledged.

        Raises
            DeliveryFailed  see its outcome; also whatever `send` raises
        """
        return await (
            await self.send(topic, value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp_ms)
        )

    async def send_many(
        self,
        topic: str,
        records: Iterable[RecordToSend],
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Deliveries:
        """Hand many records over in one call, in their order. A list of plain values is fastest.

        Raises what `send` does; if a record cannot be sent as it is, none of them is.
        """
        given = records if isinstance(records, list) else list(records)
        now_ms = self._environment.unix_ms() if timestamp_ms is None else timestamp_ms
        values_alone = set(map(type, given)) <= {bytes}
        prepared = () if values_alone else [self._accumulator.prepared(record, now_ms) for record in given]
        if values_alone and now_ms < 0:
            self._accumulator.prepare(b"", None, None, now_ms)
        lanes = self._topics.get(topic)
        if lanes is None or self._closed:
            lanes = await self._open_topic(topic)
        if partition is not None:
            lanes.lane(partition)
        into = Deliveries()
        if values_alone:
            await self._accumulator.append_values(lanes, partition, given, now_ms, into)  # type: ignore[arg-type]
        else:
            await self._accumulator.append_many(lanes, partition, prepared, into)
        return into

    async def _open_topic(self, topic: str) -> TopicLanes:
        self._refuse_if_closed()
        view = await self._metadata.topic(topic, timeout_s=self._timeout_s)
        self._refuse_if_closed()  # nobody would send it any more
        return self._accumulator.open_topic(view)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise InvalidRequest("this producer is closed")

    async def _wait_for_room(self, lanes: TopicLanes, partition: int | None, size: int) -> TopicLanes:
        """Take room for `size` bytes. Which lanes to fill then: the topic may have been deleted meanwhile, or the
        producer closed."""
        await self._room.take(size)
        topic = lanes.view.name
        if self._topics.get(topic) is lanes and not self._closed:
            return lanes
        try:
            lanes = await self._open_topic(topic)
            if partition is not None:
                lanes.lane(partition)
            return lanes
        except BaseException:
            self._room.give_back(size)
            raise

    def _topic_gone(self, topic_id: str) -> None:
        self._accumulator.forget_topic(topic_id)

    # Ending --------------------------------------------------------------------------------------------------------

    def _unsettled(self) -> list[tuple[Lane, Batch]]:
        return [(lane, batch) for lane in self._sender.unsettled() for batch in lane.unsettled()]

    async def flush(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # it bounds the wait, not the work
        """Wait until all records sent so far are settled; `timeout` in seconds.

        Raises
            DeliveryErrors  records failed that nobody has been told of, or are still on their way after `timeout`
        """
        self._accumulator.stop_lingering(self._sender.unsettled())
        waiting = self._unsettled()
        late: list[FailedRecords] = []
        if waiting:
            futures = [batch.wait() for _, batch in waiting]
            _, pending = await asyncio.wait(futures, timeout=timeout)
            if pending:
                assert timeout is not None
                late = self._still_under_way([pair for pair in waiting if pair[1].settlement is None], timeout)
        if failures := (*self._failures.tell(), *late):
            raise DeliveryErrors(failures)

    def _still_under_way(self, pairs: list[tuple[Lane, Batch]], timeout_s: float) -> list[FailedRecords]:
        gathered = Failures()
        for lane, batch in pairs:
            why = f"; last heard: {lane.last_error}" if lane.last_error else ""
            cause: LograftError = RequestTimedOut(f"still under way after {timeout_s:g} s{why}")
            samples = batch.samples() if batch.builder is None else ["a record not yet sent"]
            gathered.add(batch.partition, "unknown", cause, batch.count, samples)
        return list(gathered.tell())

    async def close(self, *, flush: bool = True) -> None:
        """Flush, unless told not to, and stop.

        Raises
            DeliveryErrors  as `flush`; also of records that another task sent meanwhile, too late to be flushed
        """
        if self._closed:
            return
        failures: tuple[FailedRecords, ...] = ()
        try:
            if flush:
                await self.flush()
        except DeliveryErrors as flushed:
            failures = flushed.failures
        finally:
            self._closed = True
            if self._accumulator.take_in_growth in self._metadata.on_change:
                self._metadata.on_change.remove(self._accumulator.take_in_growth)
            self._room.fail_waiting(InvalidRequest("this producer is closed"))
            await self._sender.close()
        if flush and (failures := (*failures, *self._failures.tell())):
            raise DeliveryErrors(failures)

    async def __aenter__(self) -> Producer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except DeliveryErrors as failures:
            if error is None:
                raise
            error.add_note(str(failures))  # the first trouble is what the application should see

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def in_flight_bytes(self) -> int:
        """What is held of max_in_flight_bytes: key, value, headers and 32 bytes for each record not yet settled."""
        return self._room.held_bytes
