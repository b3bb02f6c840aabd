"""Records gathered into batches, a lane for each partition, before anything is sent.

Invariants
    a record is in exactly one batch, and its bytes are held of the room until that batch is settled
    keyed records of a topic go where Kafka's murmur2 puts them; the others stay with one partition for a whole batch,
        and where batches are small for STAY_BYTES or STAY_S, whatever comes first
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from ..proto.errors import BatchTooLarge, InvalidRecord, UnknownPartition
from ..proto.record_batch import HEADER_SIZE, BatchBuilder, Compression, partition_for_key
from .delivery import Deliveries, Delivery, Failures
from .environment import Environment
from .lane import Batch, Lane
from .metadata import Metadata, TopicView
from .records import Headers, NewRecord, TopicPartition, as_bytes, header_pairs
from .room import Room

RECORD_OVERHEAD_BYTES = 32
"""What a record takes beside key, value and headers, at most."""

STAY_BYTES = 16 << 10
"""Small batches that come one after the other go to one partition: what comes while one is under way shares the next.
To as many partitions, each would cost their leaders as much as all of them together."""
STAY_S = 0.025

_SLICE_RECORDS = 512
_SLICE_BYTES = 256 << 10

Prepared = tuple[int, bytes | None, bytes | None, Sequence[tuple[str, bytes | None]], int]
"""Timestamp, key, value, headers, and the bytes it holds of the room."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathering:
    """How records become batches."""

    linger_s: float = 0.005
    """How long a batch waits for more records."""
    max_batch_bytes: int = 1 << 20
    """Before compression, the 61 bytes of the header included."""
    compression: Compression = Compression.LZ4
    idempotent: bool = True


class TopicLanes:
    """The lanes of one topic, and the one that records without a key go to at present."""

    def __init__(self, view: TopicView, new_lane: Callable[[int], Lane], start: int, now: Callable[[], float]) -> None:
        self.view = view
        self._now = now
        self._new_lane = new_lane
        self.lanes = [new_lane(partition.number) for partition in view.partitions]
        self._sticky = self.lanes[start % len(self.lanes)]
        self._stays_until = 0.0
        self._stayed_bytes = 0
        """Of batches that it has begun and closed since it is the one."""

    def grow(self, view: TopicView) -> None:
        """The topic may have more partitions now."""
        self.view = view
        self.lanes += [self._new_lane(number) for number in range(len(self.lanes), len(view.partitions))]

    def lane(self, partition: int) -> Lane:
        if not 0 <= partition < len(self.lanes):
            raise UnknownPartition(
                f"topic {self.view.name!r} has partitions 0 to {len(self.lanes) - 1}; {partition} is none of them",
                topic=self.view.name,
                partition=partition,
            )
        return self.lanes[partition]

    def lane_for_key(self, key: bytes) -> Lane:
        return self.lanes[partition_for_key(key, len(self.lanes))]

    def lane_without_key(self) -> Lane:
        """The same until its batch is closed; then, unless it has got little, the next one that is not in trouble."""
        lane = self._sticky
        if lane.building is None:
            now = self._now()
            self._stayed_bytes += lane.last_batch_bytes
            if self._stayed_bytes >= STAY_BYTES or now >= self._stays_until or not self._is_well(lane):
                start = lane.partition.partition + 1
                turn = self.lanes[start:] + self.lanes[:start]
                self._sticky = lane = next((lane for lane in turn if self._is_well(lane)), turn[0])
                self._stays_until = now + STAY_S
                self._stayed_bytes = 0
        return lane

    def _is_well(self, lane: Lane) -> bool:
        partitions = self.view.partitions
        number = lane.partition.partition
        # A broker that lags may know fewer partitions than another one told us of before.
        return not lane.failed_tries and number < len(partitions) and partitions[number].leader_id >= 0


class Accumulator:
    """All lanes of one producer. `wait_for_room` takes room for so many bytes, and says which lanes to fill afterwards.
    `on_begun` is told of a lane that has records to settle from now on, though they may linger yet; `on_ready` of one
    that may have something to send."""

    def __init__(
        self,
        gathering: Gathering,
        room: Room,
        environment: Environment,
        metadata: Metadata,
        failures: Failures,
        wait_for_room: Callable[[TopicLanes, int | None, int], Awaitable[TopicLanes]],
        on_begun: Callable[[Lane], None],
        on_ready: Callable[[Lane], None],
    ) -> None:
        self._gathering = gathering
        self._room = room
        self._environment = environment
        self._metadata = metadata
        self._failures = failures
        self._wait_for_room = wait_for_room
        self._on_begun = on_begun
        self._on_ready = on_ready
        self.topics: dict[str, TopicLanes] = {}
        self._record_bytes_max = gathering.max_batch_bytes - HEADER_SIZE

    # Topics --------------------------------------------------------------------------------------------------------

    def open_topic(self, view: TopicView) -> TopicLanes:
        """Lanes for a topic as it is now: those there are, if it is still the same topic."""
        lanes = self.topics.get(view.name)
        if lanes is not None and lanes.view.topic_id == view.topic_id:
            lanes.grow(view)
            return lanes

        def new_lane(number: int) -> Lane:
            return Lane(
                TopicPartition(view.name, number),
                view.topic_id,
                compression=self._gathering.compression,
                draw_producer_id=self._draw_producer_id if self._gathering.idempotent else None,
                failures=self._failures,
                on_settled=self._settled,
            )

        start = self._environment.chance.randrange(len(view.partitions))
        lanes = self.topics[view.name] = TopicLanes(view, new_lane, start, self._environment.now)
        return lanes

    def forget_topic(self, topic_id: str) -> None:
        """The topic is gone; the next record looks for one of its name again."""
        for name in [name for name, lanes in self.topics.items() if lanes.view.topic_id == topic_id]:
            del self.topics[name]

    def take_in_growth(self) -> None:
        """Look at the metadata for topics that have more partitions now."""
        for name, lanes in self.topics.items():
            view = self._metadata.topics.get(name)
            if view is not None and view.topic_id == lanes.view.topic_id:
                lanes.grow(view)

    def _draw_producer_id(self) -> int:
        return self._environment.chance.getrandbits(62)

    def _settled(self, batch: Batch) -> None:
        self._room.give_back(batch.held_bytes)

    # Records -------------------------------------------------------------------------------------------------------

    def prepare(
        self, value: bytes | None, key: bytes | None, headers: Headers | None, timestamp_ms: int | None
    ) -> Prepared:
        """A record ready to be appended.

        Raises
            InvalidRecord  key, value or headers are of the wrong type, or the time is before 1970
            BatchTooLarge  larger than a batch may be
        """
        if type(value) is not bytes:
            value = as_bytes(value, "value")
        size = RECORD_OVERHEAD_BYTES + (len(value) if value is not None else 0)
        if key is not None:
            if type(key) is not bytes:
                key = as_bytes(key, "key")
                assert key is not None
            size += len(key)
        pairs: Sequence[tuple[str, bytes | None]] = ()
        if headers:
            pairs, header_bytes = _checked_headers(headers)
            size += header_bytes
        if size > self._record_bytes_max:
            raise BatchTooLarge(
                f"a record of {size} bytes does not fit in a batch of {self._gathering.max_batch_bytes}: "
                "split it, or raise max_batch_bytes and the brokers' limit",
                size=size,
                limit=self._gathering.max_batch_bytes,
            )
        if timestamp_ms is None:
            timestamp_ms = self._environment.unix_ms()
        elif not 0 <= timestamp_ms < 1 << 63:
            raise InvalidRecord(f"timestamp {timestamp_ms} ms: it must be 0 or later", timestamp_ms=timestamp_ms)
        return timestamp_ms, key, value, pairs, size

    def append(self, lanes: TopicLanes, partition: int | None, record: Prepared) -> Delivery:
        """Put a record into its batch. Its bytes have been taken of the room; the batch holds them from now on."""
        timestamp_ms, key, value, headers, size = record
        batch = self._put(lanes, partition, timestamp_ms, key, value, headers)
        batch.held_bytes += size
        assert batch.builder is not None
        return Delivery(batch, batch.builder.count - 1, timestamp_ms)

    def _put(
        self,
        lanes: TopicLanes,
        partition: int | None,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
    ) -> Batch:
        while True:
            if partition is not None:
                lane = lanes.lane(partition)
            elif key is not None:
                lane = lanes.lane_for_key(key)
            else:
                lane = lanes.lane_without_key()
            batch = lane.building or self._begin(lane)
            assert batch.builder is not None
            if batch.builder.append(timestamp_ms, key, value, headers):
                return batch
            lane.close_building()
            self._on_ready(lane)

    def _begin(self, lane: Lane) -> Batch:
        batch = Batch(lane.partition, BatchBuilder(self._gathering.max_batch_bytes), self._environment.now())
        lane.building = batch
        self._on_begun(lane)
        loop = asyncio.get_running_loop()
        if self._gathering.linger_s:
            loop.call_later(self._gathering.linger_s, self._lingered, lane, batch)
        else:
            loop.call_soon(self._lingered, lane, batch)
        return batch

    def _lingered(self, lane: Lane, batch: Batch) -> None:
        batch.lingered = True
        if lane.building is batch:
            self._on_ready(lane)

    def stop_lingering(self, lanes: Iterable[Lane]) -> None:
        """What has been gathered in these goes now."""
        for lane in lanes:
            if lane.building is not None:
                self._lingered(lane, lane.building)

    # Many records --------------------------------------------------------------------------------------------------

    async def append_values(
        self, lanes: TopicLanes, partition: int | None, values: Sequence[bytes], timestamp_ms: int, into: Deliveries
    ) -> None:
        """Records that are a value alone: the loop does little more than the codec, which is C.

        Raises
            BatchTooLarge  before anything was appended
        """
        largest = max(map(len, values), default=0)
        if largest + RECORD_OVERHEAD_BYTES > self._record_bytes_max:
            self.prepare(max(values, key=len), None, None, timestamp_ms)
        position = 0
        while position < len(values):
            piece = values[position : position + _SLICE_RECORDS]
            size = sum(map(len, piece))
            while size > _SLICE_BYTES and len(piece) > 1:
                piece = piece[: len(piece) // 2]
                size = sum(map(len, piece))
            size += RECORD_OVERHEAD_BYTES * len(piece)
            if not self._room.try_take(size):
                lanes = await self._wait_for_room(lanes, partition, size)
            self._append_piece(lanes, partition, piece, timestamp_ms, into)
            position += len(piece)

    def _append_piece(
        self, lanes: TopicLanes, partition: int | None, piece: Sequence[bytes], timestamp_ms: int, into: Deliveries
    ) -> None:
        done = 0
        while done < len(piece):
            lane = lanes.lane_without_key() if partition is None else lanes.lane(partition)
            batch = lane.building or self._begin(lane)
            assert batch.builder is not None
            left = piece[done:] if done else piece
            first = batch.builder.count
            count = batch.builder.append_values(left, timestamp_ms)
            batch.held_bytes += sum(map(len, left[:count])) + RECORD_OVERHEAD_BYTES * count
            if count < len(left):
                lane.close_building()
                self._on_ready(lane)
            if count:
                into.add(batch, first, count)
                done += count

    async def append_many(
        self, lanes: TopicLanes, partition: int | None, records: Sequence[Prepared], into: Deliveries
    ) -> None:
        """Records of any shape, already prepared."""
        for record in records:
            if not self._room.try_take(record[4]):
                lanes = await self._wait_for_room(lanes, partition, record[4])
            batch = self._put(lanes, partition, *record[:4])
            batch.held_bytes += record[4]
            assert batch.builder is not None
            into.add(batch, batch.builder.count - 1)

    def prepared(self, record: object, now_ms: int) -> Prepared:
        """A record in any of the shapes that `send_many` takes: a value, (key, value), or NewRecord."""
        if isinstance(record, NewRecord):
            timestamp_ms = now_ms if record.timestamp_ms is None else record.timestamp_ms
            return self.prepare(record.value, record.key, record.headers, timestamp_ms)
        if isinstance(record, tuple):
            if len(record) != 2:
                raise InvalidRecord(f"a record given as a tuple is (key, value); this one has {len(record)} parts")
            return self.prepare(record[1], record[0], None, now_ms)
        return self.prepare(record, None, None, now_ms)  # type: ignore[arg-type]  # prepare refuses what is not bytes


def record_fits(
    value: bytes | None, key: bytes | None, headers: Sequence[tuple[str, bytes | None]], max_batch_bytes: int
) -> bool:
    """Would a producer with batches of that size take it? For who has to know before the first of several is sent."""
    size = RECORD_OVERHEAD_BYTES + len(value or b"") + len(key or b"") + _checked_headers(headers)[1]
    return size <= max_batch_bytes - HEADER_SIZE


def _checked_headers(headers: Headers) -> tuple[list[tuple[str, bytes | None]], int]:
    checked: list[tuple[str, bytes | None]] = []
    size = 0
    try:
        for name, content in header_pairs(headers):
            content = as_bytes(content, "header value")
            size += 10 + len(name.encode()) + (len(content) if content is not None else 0)
            checked.append((name, content))
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidRecord(f"headers are pairs of str and bytes or None, or a mapping of them: {error}") from error
    return checked, size
