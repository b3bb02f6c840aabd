"""Read records as they come, from partitions chosen by hand or from all of some topics.

Invariants
    in each partition records are handed out in order, none twice and none left out, whatever leaders do
    prefetched bytes stay within `prefetch_bytes` (each leader has an equal share; a single larger batch may pass it)
    nothing awaits a broker while records are there to hand out
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Literal, NoReturn

from ..proto.errors import (
    BrokerUnavailable,
    InvalidConfig,
    InvalidRequest,
    LograftError,
    NoLeader,
    NotLeader,
    OffsetOutOfRange,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .connection import Connection, backoff_s
from .fetcher import LeaderFetcher
from .metadata import Metadata
from .offset_bounds import parse_time
from .offsets import OffsetLookup
from .position import Position
from .records import Record, TopicPartition

Reset = Literal["latest", "earliest", "error"]
_RESETS = {"latest": "end", "earliest": "start", "error": "error"}

_GROWTH_S = 10.0
"""How often to look for topics and partitions that are new."""
_PREFETCH_BYTES_MIN = 64 << 10


class Consumer:
    """Reads records. Made by `Client.consumer`; use it by `async with` from one task at a time.

    With topics it reads all their partitions, also those added later. `assign` chooses partitions by hand instead.
    `auto_offset_reset` says where to begin without a `seek`, and where to go on when the offset is no longer held.

    Raises
        InvalidConfig  a setting it cannot have
    """

    def __init__(
        self,
        connection: Connection,
        metadata: Metadata,
        *,
        topics: Iterable[str] = (),
        group_id: str | None = None,
        pattern: str | None = None,
        auto_offset_reset: Reset = "latest",
        max_poll_records: int = 500,
        prefetch_bytes: int = 8 << 20,
        timeout_s: float = 30.0,
        give_up_s: float | None = None,
    ) -> None:
        if group_id is not None:
            _refuse_groups(f"group_id={group_id!r}")
        if auto_offset_reset not in _RESETS:
            raise InvalidConfig(
                f"auto_offset_reset={auto_offset_reset!r}: it is one of {', '.join(_RESETS)}", key="auto_offset_reset"
            )
        if max_poll_records < 1:
            raise InvalidConfig(f"max_poll_records={max_poll_records!r}: it must be 1 or more", key="max_poll_records")
        if prefetch_bytes < _PREFETCH_BYTES_MIN:
            raise InvalidConfig(
                f"prefetch_bytes={prefetch_bytes!r}: it must be {_PREFETCH_BYTES_MIN} or more", key="prefetch_bytes"
            )
        self._connection = connection
        self._metadata = metadata
        self._chance = connection.environment.chance
        self._timeout_s = timeout_s
        self._give_up_s = give_up_s  # None: a reader that follows a topic waits for its cluster to come back
        self._reset = auto_offset_reset
        self._max_poll_records = max_poll_records
        self._prefetch_bytes = prefetch_bytes
        self._offsets = OffsetLookup(connection, metadata, timeout_s=timeout_s)
        self._topics: tuple[str, ...] = ()
        self._pattern: re.Pattern[str] | None = None
        self._known_topics: dict[str, str] = {}  # of the subscription: name -> id, once its partitions were taken on
        self._failure: LograftError | None = None
        self._positions: dict[TopicPartition, Position] = {}
        self._turn: list[Position] = []  # whose turn it is to be handed out, first
        self._fetchers: dict[str, LeaderFetcher] = {}
        self._arrived = asyncio.Event()
        self._attention = asyncio.Event()
        self._caretaker: asyncio.Task[None] | None = None
        self._closed = False
        self._set_subscription(topics, pattern)

    # Lifetime ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Consumer:
        """Find the topics and, unless it begins at the start, pin where it begins: what is produced from now on is
        read."""
        try:
            if self._topics or self._pattern is not None:
                await self._take_on_topics(fresh=False)
                if self._failure is not None:
                    raise self._failure
            if self._reset == "latest":
                await self._find_places([p for p in self._positions.values() if not p.is_placed])
            self._begin()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _begin(self) -> None:
        if self._closed:
            raise InvalidRequest("this consumer is closed")
        if self._caretaker is None:
            self._metadata.on_change.append(self._metadata_changed)
            self._caretaker = asyncio.ensure_future(self._care())
            self._route()

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        """Stop fetching. What was prefetched is dropped."""
        self._closed = True
        if self._metadata_changed in self._metadata.on_change:
            self._metadata.on_change.remove(self._metadata_changed)
        fetchers, self._fetchers = self._fetchers, {}
        if self._caretaker is not None:
            self._caretaker.cancel()
            await asyncio.gather(self._caretaker, return_exceptions=True)
        await asyncio.gather(*(fetcher.close() for fetcher in fetchers.values()))
        self._arrived.set()

    # What to read --------------------------------------------------------------------------------------------------

    def subscribe(self, *topics: str, pattern: str | None = None) -> None:
        """Read all partitions of `topics`, and of those whose whole name matches the regular expression `pattern`;
        this replaces what was read before."""
        self._replace_positions([])
        self._set_subscription(topics, pattern)
        self._attention.set()

    def _set_subscription(self, topics: Iterable[str], pattern: str | None) -> None:
        try:
            self._pattern = re.compile(pattern) if pattern is not None else None
        except re.error as error:
            raise InvalidConfig(f"pattern={pattern!r} is no regular expression: {error}", key="pattern") from None
        self._topics = tuple(dict.fromkeys(topics))
        self._known_topics = {}
        self._failure = None

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read just these partitions; this replaces what was read before. Those kept go on where they are."""
        wanted = [TopicPartition(*partition) for partition in partitions]
        self._set_subscription((), None)
        self._replace_positions(wanted)
        self._attention.set()

    def assignment(self) -> tuple[TopicPartition, ...]:
        """The partitions that are read at present."""
        return tuple(self._positions)

    def _replace_positions(self, wanted: Iterable[TopicPartition]) -> None:
        before, self._positions = self._positions, {}
        for partition in wanted:
            self._positions[partition] = before.get(partition) or Position(partition, _RESETS[self._reset])
        self._turn = list(self._positions.values())
        for dropped in before.keys() - self._positions.keys():
            before[dropped].seek(None)  # answers under way to it are not for us any more
        self._route()

    def drop(self, partition: TopicPartition) -> None:
        """Stop reading one partition."""
        self._replace_positions([kept for kept in self._positions if kept != partition])

    def _position(self, partition: TopicPartition) -> Position:
        found = self._positions.get(TopicPartition(*partition))
        if found is None:
            raise InvalidRequest(f"{TopicPartition(*partition)} is not assigned to this consumer: assign it first")
        return found

    def _chosen(self, partitions: tuple[TopicPartition, ...]) -> list[TopicPartition]:
        return [self._position(p).topic_partition for p in partitions] if partitions else list(self._positions)

    # Where to read -------------------------------------------------------------------------------------------------

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at `offset` there; what was prefetched is dropped."""
        if offset < 0:
            raise InvalidRequest(f"offset {offset}: it must be 0 or above", offset=offset)
        self._position(partition).seek(offset)
        self._wake_fetchers()

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on at the first offset still held, in these or all."""
        self._seek_all(await self._offsets.find(dict.fromkeys(self._chosen(partitions), "start")))

    async def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on at the committed end as it is now, in these or all."""
        self._seek_all(await self._offsets.find(dict.fromkeys(self._chosen(partitions), "end")))

    async def seek_to_time(self, when: datetime | int | str, *partitions: TopicPartition) -> None:
        """Go on at the first batch that reaches `when`, in these or all: a datetime, unix milliseconds, or a time as
        the OFFSETS grammar writes it (`-48h`)."""
        if isinstance(when, datetime):
            if when.tzinfo is None:
                raise InvalidRequest(f"{when} has no time zone", time=when)
            moment_ms = round(when.timestamp() * 1000)
        elif isinstance(when, str):
            moment_ms = parse_time(when, now_ms=self._connection.environment.unix_ms())
        else:
            moment_ms = when
        if moment_ms < 0:
            raise InvalidRequest(f"time {moment_ms} ms is before 1970", time=moment_ms)
        self._seek_all(await self._offsets.find(dict.fromkeys(self._chosen(partitions), moment_ms)))

    def _seek_all(self, offsets: dict[TopicPartition, int]) -> None:
        for partition, offset in offsets.items():
            if partition in self._positions:
                self._positions[partition].seek(offset)
        self._wake_fetchers()

    async def position(self, partition: TopicPartition) -> int:
        """Offset of the next record to be handed out there."""
        position = self._position(partition)
        if position.offset is None:
            await self._find_places([position])
        assert position.offset is not None
        return position.offset

    async def lag(self) -> dict[TopicPartition, int]:
        """How many offsets each partition's position is behind its committed end."""
        for partition in list(self._positions):
            await self.position(partition)
        ends = await self._offsets.find(dict.fromkeys(self._positions, "end"))
        lags = {}
        for partition, end in ends.items():
            if (found := self._positions.get(partition)) is not None and found.offset is not None:
                lags[partition] = max(0, end - found.offset)
        return lags

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand nothing out of these, or all, until they are resumed; what is prefetched stays."""
        for partition in self._chosen(partitions):
            self._positions[partition].paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        for partition in self._chosen(partitions):
            self._positions[partition].paused = False
        self._arrived.set()
        self._wake_fetchers()

    def paused(self) -> tuple[TopicPartition, ...]:
        return tuple(partition for partition, position in self._positions.items() if position.paused)

    async def commit(self, offsets: dict[TopicPartition, int] | None = None) -> None:
        """Stored offsets belong to groups: InvalidRequest."""
        _refuse_groups("commit")

    async def committed(self, partition: TopicPartition) -> int | None:
        """Stored offsets belong to groups: InvalidRequest."""
        _refuse_groups("committed")

    # Records -------------------------------------------------------------------------------------------------------

    async def getone(self) -> Record:
        """The next record, however long it takes."""
        position = await self.next_ready()
        record = position.ready[position.at]
        position.at += 1
        return record

    async def getmany(
        self, timeout_ms: float = 1000, max_records: int | None = None
    ) -> dict[TopicPartition, list[Record]]:
        """The records that are there, `max_records` at most (default: max_poll_records), as soon as there are any.

        {} if there are none within `timeout_ms`.
        """
        count_max = self._max_poll_records if max_records is None else max_records
        if count_max < 1:
            raise InvalidRequest(f"max_records={max_records}: it must be 1 or more")
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        while True:
            self._begin()
            self._arrived.clear()
            if taken := self._take(count_max):
                return taken
            self._raise_failure()
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                return {}
            try:
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()
            except TimeoutError:
                return {}

    def _take(self, count_max: int) -> dict[TopicPartition, list[Record]]:
        taken: dict[TopicPartition, list[Record]] = {}
        left = count_max
        for position in list(self._turn):
            if not position.has_records:
                continue
            records = position.take(left)
            if records:
                taken[position.topic_partition] = records
                left -= len(records)
            if left <= 0:
                break
            self._turn.remove(position)
            self._turn.append(position)  # the others are first the next time
        if taken:
            self._wake_fetchers_with_room()
        return taken

    async def next_ready(self, stops: Mapping[TopicPartition, int] | None = None) -> Position:
        """A position with records decoded and ready, or one that has reached its stop, however long it takes.

        Whoever takes a record of it moves `at` on.
        """
        while True:
            for position in self._turn:
                if not position.paused and position.at < len(position.ready):
                    return position
            self._begin()
            self._arrived.clear()
            for position in self._turn:
                if position.has_records and position.decode_next():
                    self._turn.remove(position)
                    self._turn.append(position)
                    self._wake_fetchers_with_room()
                    return position
            for position in self._turn if stops else ():
                if stops and position.offset is not None and position.offset >= stops[position.topic_partition]:
                    return position
            self._raise_failure()
            await self._arrived.wait()

    async def __aiter__(self) -> AsyncIterator[Record]:
        while True:
            position = await self.next_ready()
            while position.at < len(position.ready) and not position.paused:
                record = position.ready[position.at]
                position.at += 1
                yield record

    def _raise_failure(self) -> None:
        if self._closed:
            raise InvalidRequest("this consumer is closed")
        for task in (self._caretaker, *(fetcher.task for fetcher in self._fetchers.values())):
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()):
                raise error  # a mistake of ours: better told than waited for
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._attention.set()  # who asks again gets another try
            raise failure
        for position in self._positions.values():
            if position.failure is not None and not position.has_records:
                raise position.failure

    # Fetching ------------------------------------------------------------------------------------------------------

    def positions_at(self, address: str) -> list[Position]:
        leader = self._metadata.leader_address
        return [position for position in self._turn if leader(*position.topic_partition) == address]

    def share_bytes(self) -> int:
        return max(_PREFETCH_BYTES_MIN, self._prefetch_bytes // max(1, len(self._fetchers)))

    def arrived(self) -> None:
        self._arrived.set()

    def troubled(self, position: Position, error: LograftError, address: str) -> None:
        position.troubled = error
        if isinstance(error, NotLeader | NoLeader):
            hinted = self._metadata.note_not_leader(*position.topic_partition, error, address)
            if hinted and position.failed_tries < 3:
                position.failed_tries += 1
                position.troubled = None
                self._route()
                return
        elif isinstance(error, UnknownTopic | UnknownTopicId | UnknownPartition) or error.retriable:
            self._metadata.doubt(address)
        self._attention.set()

    def _route(self) -> None:
        """A fetcher for each broker that leads something of ours, and none for others."""
        if self._closed or self._caretaker is None:
            return
        believed = (self._metadata.leader_address(*partition) for partition in self._positions)
        leaders = {address for address in believed if address is not None}
        if self._leaderless():
            self._attention.set()  # nobody fetches those until a refresh names a leader
        for address in self._fetchers.keys() - leaders:
            self._fetchers.pop(address).task.cancel()
        for address in leaders:
            if address not in self._fetchers:
                self._fetchers[address] = LeaderFetcher(self._connection, self, address)
        self._wake_fetchers()

    def _leaderless(self) -> list[Position]:
        """Those that could be fetched if anybody were known to lead them."""
        leader = self._metadata.leader_address
        return [p for p in self._positions.values() if p.is_fetchable and leader(*p.topic_partition) is None]

    def _wake_fetchers(self) -> None:
        for fetcher in self._fetchers.values():
            fetcher.wake()

    def _wake_fetchers_with_room(self) -> None:
        for fetcher in self._fetchers.values():
            fetcher.has_room()

    def _metadata_changed(self) -> None:
        for name, topic_id in list(self._known_topics.items()):
            view = self._metadata.topics.get(name)
            if view is not None and view.topic_id == topic_id:
                self._take_on(name, [partition.number for partition in view.partitions], topic_id)
        self._route()

    def _take_on(self, topic: str, numbers: Iterable[int], topic_id: str) -> None:
        """Partitions of a subscribed topic. Those that appear later are read from their start: all in them is new."""
        grown = topic in self._known_topics
        self._known_topics[topic] = topic_id
        for number in numbers:
            partition = TopicPartition(topic, number)
            if partition in self._positions:
                continue
            position = Position(partition, "start" if grown else _RESETS[self._reset])
            position.topic_id = topic_id
            self._positions[partition] = position
            self._turn.append(position)
            self._attention.set()

    # Care ----------------------------------------------------------------------------------------------------------

    async def _care(self) -> None:
        """Look up places, mend what is in trouble, and pick up what is new."""
        loop = asyncio.get_running_loop()
        look_again_at = loop.time() + _GROWTH_S
        while True:
            try:
                async with asyncio.timeout_at(look_again_at):
                    await self._attention.wait()
            except TimeoutError:
                pass
            self._attention.clear()
            if self._topics or self._pattern is not None:
                await self._take_on_topics(fresh=loop.time() >= look_again_at)
            if loop.time() >= look_again_at:
                look_again_at = loop.time() + _GROWTH_S
            await self._mend()
            lost = [p for p in self._positions.values() if p.failure is None and not (p.topic_id and p.is_placed)]
            if lost:
                await self._find_places_or_tell(lost)
            self._route()
            self._arrived.set()

    async def _take_on_topics(self, *, fresh: bool) -> None:
        try:
            if self._pattern is not None and (fresh or not self._known_topics):
                await self._metadata.refresh(all_topics=True)
            names = dict.fromkeys(self._topics)
            if self._pattern is not None:
                names |= {
                    name: None
                    for name, view in self._metadata.topics.items()
                    if self._pattern.fullmatch(name) and not view.internal
                }
            unknown = [name for name in names if name not in self._known_topics]
            if fresh and self._known_topics:
                await self._metadata.refresh(*self._known_topics)
            for name in unknown:
                view = await self._metadata.topic(name, timeout_s=self._timeout_s)
                self._take_on(name, [partition.number for partition in view.partitions], view.topic_id)
        except LograftError as error:
            if not error.retriable or not self._known_topics:
                self._failure = error

    async def _mend(self) -> None:
        leader = self._metadata.leader_address
        troubled = [
            position
            for position in self._positions.values()
            if position.troubled is not None or (position.failure is None and leader(*position.topic_partition) is None)
        ]
        if not troubled:
            return
        await asyncio.sleep(backoff_s(max(p.failed_tries for p in troubled), self._chance, longest_s=0.25))
        try:
            await self._metadata.refresh(*{position.topic_partition.topic for position in troubled})
        except LograftError as nobody:
            self._attention.set()  # nobody answers; the positions stay troubled
            for position in troubled:
                position.failed_tries += 1
                self._lose_patience(position, nobody)
            return
        for position in troubled:
            error = position.troubled
            position.failed_tries += 1
            self._lose_patience(position, error)
            if error is None:
                continue  # without a leader until now, or sought elsewhere meanwhile
            if isinstance(error, OffsetOutOfRange):
                await self._mend_out_of_range(position, error)
            elif isinstance(error, UnknownTopic | UnknownTopicId | UnknownPartition):
                await self._mend_unknown(position)
            elif not error.retriable:
                position.failure = error
            position.troubled = None

    def _lose_patience(self, position: Position, error: LograftError | None) -> None:
        """Who reads to an end rather than follows does not wait for ever for a cluster that is gone."""
        now = self._connection.environment.now()
        if position.troubled_since is None:
            position.troubled_since = now
        elif self._give_up_s is not None and now - position.troubled_since > self._give_up_s:
            why = error or NoLeader("no leader is known")
            position.failure = BrokerUnavailable(
                f"{position.topic_partition} could not be read for {self._give_up_s:g} s: {why}"
            )

    async def _mend_unknown(self, position: Position) -> None:
        """A broker does not know the partition. It may lag behind; ask around before that is believed."""
        topic, number = position.topic_partition
        try:
            view = await self._metadata.topic(topic, timeout_s=self._timeout_s, fresh=True)
        except UnknownTopic:
            position.failure = UnknownTopic(f"topic {topic!r} was deleted, or never was", topic=topic)
            return
        except LograftError:
            return
        if position.topic_id and view.topic_id != position.topic_id:
            position.failure = UnknownTopic(f"topic {topic!r} was deleted; another has its name now", topic=topic)
        elif number >= len(view.partitions):
            position.failure = UnknownPartition(
                f"topic {topic!r} has partitions 0 to {len(view.partitions) - 1}; {number} is none of them",
                topic=topic,
                partition=number,
            )

    async def _mend_out_of_range(self, position: Position, error: OffsetOutOfRange) -> None:
        """The rule is applied only once a majority has confirmed the range: a new leader may not know it yet."""
        partition, version = position.topic_partition, position.version
        try:
            start, end = (await self._offsets.extents([partition]))[partition]
        except LograftError:
            return
        offset = position.fetch_offset
        if position.version != version or offset is None or start <= offset <= end:
            return
        if position.reset == "error":
            position.failure = OffsetOutOfRange(
                f"{partition} holds offsets from {start} up to {end}; {offset} is none of them: seek, or set "
                "auto_offset_reset",
                offset=offset,
                start=start,
                end=end,
            )
        else:
            position.seek(start if position.reset == "start" else end)

    async def _find_places(self, positions: list[Position]) -> None:
        """Look up where to begin in `positions`, by their rule."""
        for position in positions:
            if not position.topic_id:
                topic, number = position.topic_partition
                view = await self._metadata.topic(topic, timeout_s=self._timeout_s)
                if number >= len(view.partitions) or number < 0:
                    raise UnknownPartition(
                        f"topic {topic!r} has partitions 0 to {len(view.partitions) - 1}; {number} is none of them",
                        topic=topic,
                        partition=number,
                    )
                position.topic_id = view.topic_id
            if position.reset == "error" and not position.is_placed:
                raise InvalidRequest(
                    f"no place to begin in {position.topic_partition}: seek first, or set auto_offset_reset"
                )
        versions = {position: position.version for position in positions if not position.is_placed}
        found = await self._offsets.find({p.topic_partition: _place(p.reset) for p in versions})
        for position, version in versions.items():
            if position.version == version:
                position.seek(found[position.topic_partition])

    async def _find_places_or_tell(self, positions: list[Position]) -> None:
        try:
            await self._find_places(positions)
        except LograftError as error:
            if error.retriable and len(positions) == 1:
                self._attention.set()  # try again; there is no hurry, the lookup has waited already
            elif len(positions) == 1:
                positions[0].failure = error
            else:
                for position in positions:
                    await self._find_places_or_tell([position])


def _place(reset: str) -> Literal["start", "end"]:
    return "start" if reset == "start" else "end"


def _refuse_groups(what: str) -> NoReturn:
    raise InvalidRequest(
        f"{what}: consumer groups come with a later release; until then read whole topics, or assign partitions"
    )
