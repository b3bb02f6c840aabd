"""Read records as they come: from partitions chosen by hand, from all of some topics, or as a member of a group.

Invariants
    in each partition records are handed out in order, none twice and none left out, whatever leaders do
    in a group a record is handed out only under a grant in force, and nothing fetched before a seek after it
    prefetched bytes stay within `prefetch_bytes` (each leader has an equal share; a single larger batch may pass it)
    nothing awaits a broker while records are there to hand out
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Literal

from ..proto.errors import (
    InvalidConfig,
    InvalidRequest,
    LograftError,
    NoLeader,
    NotLeader,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .connection import Connection
from .coordinator import Coordinator
from .fetcher import LeaderFetcher
from .group_reading import GroupReading, GroupTerms
from .hands import Hands
from .membership import Subscription
from .mending import Mending
from .metadata import Metadata
from .offset_bounds import parse_time
from .offsets import Lag, OffsetLookup
from .places import Places
from .position import Position
from .progress import Offsets, Progress
from .records import Record, TopicPartition

Reset = Literal["latest", "earliest", "error"]
_RESETS = {"latest": "end", "earliest": "start", "error": "error"}

_GROWTH_S = 10.0
"""How often to look for topics and partitions that are new."""
_PREFETCH_BYTES_MIN = 64 << 10
_AHEAD_MS_MAX = 60_000
"""Clocks differ; a time further ahead than this is meant to be in the future."""


class Consumer:
    """Reads records. Made by `Client.consumer`; use it by `async with` from one task at a time.

    With topics it reads all their partitions, also those added later. With a `group_id` as well it shares them with the
    other members of the group, and goes on where the group has come to. `assign` chooses partitions by hand instead;
    with a `group_id` they begin at its stored offsets, and offsets can be stored while the group has no members.
    `auto_offset_reset` says where to begin where nothing is stored nor sought, and where to go on when the offset is no
    longer held.

    Raises
        InvalidConfig, InvalidSession, InvalidGroup  a setting it cannot have
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
        group_terms: GroupTerms | None = None,
        timeout_s: float = 30.0,
        give_up_s: float | None = None,
    ) -> None:
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
        self._terms = group_terms or GroupTerms()
        self._terms.check(group_id)
        self._connection = connection
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._reset = auto_offset_reset
        self._max_poll_records = max_poll_records
        self._prefetch_bytes = prefetch_bytes
        self._offsets = OffsetLookup(connection, metadata, timeout_s=timeout_s)
        self._progress: Progress | None = None
        if group_id is not None:
            coordinator = Coordinator(connection, metadata, group_id, timeout_s)
            self._progress = Progress(coordinator, tells_of_lost=not self._terms.auto_commit)
        self._places = Places(connection, metadata, self._progress, timeout_s=timeout_s)
        # give_up_s None: a reader that follows a topic waits for its cluster to come back.
        self._mending = Mending(connection, metadata, self._progress, timeout_s=timeout_s, give_up_s=give_up_s)
        self._group: GroupReading | None = None  # once it is a member, or on its way to become one
        self._topics: tuple[str, ...] = ()
        self._pattern: str | None = None
        self._subscribed = 0  # counts subscriptions: what was looked up for one before is not for us any more
        self._known_topics: dict[str, str] = {}  # of the subscription: name -> id, once its partitions were taken on
        self._failure: LograftError | None = None
        self._to_raise: deque[BaseException] = deque()  # from the next read, whatever is at hand
        self._positions: dict[TopicPartition, Position] = {}
        self._turn: list[Position] = []  # whose turn it is to be handed out, first
        self._stood_at: Position | None = None  # by `getone`, which goes on there as an iteration does
        self._hands = Hands(connection.environment.now, self._application_came_back)
        self._fetchers: dict[str, LeaderFetcher] = {}
        self._arrived = asyncio.Event()
        self._attention = asyncio.Event()
        self._caretaker: asyncio.Task[None] | None = None
        self._storing: asyncio.Task[None] | None = None
        self._closed = False
        self._set_subscription(topics, pattern)

    # Lifetime ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Consumer:
        """Find the topics and, unless it begins at the start, pin where it begins: what is produced from now on is
        read. In a group: join, and wait for the coordinator's first answer, though not for partitions.

        Raises
            UnknownTopic                          a topic that does not exist, unless there is a pattern as well
            InvalidRequest                        in a group: a topic that is the cluster's own
            GroupFull, InvalidGroup, InvalidSession, InvalidRequest  the coordinator will not have it as a member
            RequestTimedOut                       no coordinator answered; says why
        """
        try:
            if self._is_subscribed and self._progress is not None:
                if self._pattern is None:
                    await self._metadata.known_topics(self._topics, timeout_s=self._timeout_s)
                self._refuse_internal()
                self._group = self._group or self._make_group(self._progress)
                await self._group.enter(self._subscription, timeout_s=self._timeout_s)
            elif self._is_subscribed:
                await self._take_on_topics(fresh=False)
                if self._failure is not None:
                    raise self._failure
            if self._reset == "latest":
                await self._places.find([p for p in self._positions.values() if not p.is_placed])
            self._begin()
            self._hands.turned_away()  # from now on records are to be asked for
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._hands.came_back()  # the block is done, and with it the records that it had in its hands
        try:
            await self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"closing the consumer failed as well: {failure!r}")

    def _begin(self) -> None:
        if self._closed:
            raise InvalidRequest("this consumer is closed")
        if self._caretaker is None:
            self._metadata.on_change.append(self._metadata_changed)
            self._caretaker = asyncio.ensure_future(self._care())
            if self._terms.auto_commit and self._progress is not None:
                self._storing = asyncio.ensure_future(self._store_now_and_then(self._progress))
            self._route()
        if self._group is None and self._progress is not None and self._is_subscribed:
            self._group = self._make_group(self._progress)
            self._group.subscribe(self._subscription)

    def _refuse_internal(self) -> None:
        """A member of a group that names an internal topic would wait for ever: nobody is granted any of it."""
        for topic in self._topics:
            view = self._metadata.topics.get(topic)
            if view is not None and view.internal:
                raise InvalidRequest(
                    f"topic {topic!r} is the cluster's own, and no group shares it: read it without a group, or assign "
                    "partitions by hand",
                    topic=topic,
                )

    def _make_group(self, progress: Progress) -> GroupReading:
        return GroupReading(
            self._connection,
            progress.coordinator,
            self,
            self._places,
            progress,
            self._hands,
            self._terms,
            reset=_RESETS[self._reset],
        )

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def member_id(self) -> str:
        """Of this consumer in its group, as `group describe` shows it; empty if it is no member."""
        return self._group.membership.terms.member_id if self._group is not None else ""

    async def close(self) -> None:
        """Hand nothing out any more, and drop what was prefetched. In a group: with `auto_commit` store what is
        finished, call `on_revoke`, and leave; a static member does not leave, its instance may start again.

        Raises
            what `on_revoke` raised
        """
        if self._closed:
            return
        self.refuse_from_callback("close()")
        self._closed = True
        for position in self._positions.values():
            position.interrupt()
        self._arrived.set()
        self._to_raise.clear()
        try:
            await self._end_group()
        finally:
            await self._end_fetching()
        if self._to_raise:
            raise self._to_raise.popleft()

    def refuse_from_callback(self, what: str) -> None:
        """Raises InvalidRequest if called from `on_assign` or `on_revoke`, where `what` would wait for itself."""
        if self._group is not None:
            self._group.refuse_from_callback(what)

    async def _end_group(self) -> None:
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.gather(self._storing, return_exceptions=True)
        if self._group is not None:
            await self._group.close()
        elif self._terms.auto_commit and self._progress is not None:
            await self._progress.store_finished(list(self._positions.values()), timeout_s=min(5.0, self._timeout_s))

    async def _end_fetching(self) -> None:
        if self._metadata_changed in self._metadata.on_change:
            self._metadata.on_change.remove(self._metadata_changed)
        fetchers, self._fetchers = self._fetchers, {}
        if self._caretaker is not None:
            self._caretaker.cancel()
            await asyncio.gather(self._caretaker, return_exceptions=True)
        await asyncio.gather(*(fetcher.close() for fetcher in fetchers.values()))

    # What to read --------------------------------------------------------------------------------------------------

    def subscribe(self, *topics: str, pattern: str | None = None) -> None:
        """Read all partitions of `topics`, and of those whose whole name matches the regular expression `pattern`;
        this replaces what was read before. A member of a group keeps what it has until its coordinator, which hears of
        it at once, takes it away."""
        if self._group is not None:
            if not topics and pattern is None:
                raise InvalidRequest("a member of a group subscribes to something: name topics, or close the consumer")
            self._set_subscription(topics, pattern)
            self._group.subscribe(self._subscription)
            return
        self._replace_positions([])
        self._set_subscription(topics, pattern)
        if self._caretaker is not None:
            self._begin()

    def _set_subscription(self, topics: Iterable[str], pattern: str | None) -> None:
        try:
            if pattern is not None and self._progress is None:  # in a group it is the brokers who match
                re.compile(pattern)
        except re.error as error:
            raise InvalidConfig(f"pattern={pattern!r} is no regular expression: {error}", key="pattern") from None
        listed = tuple(topics)
        for topic in listed:
            if not isinstance(topic, str):
                raise InvalidConfig(
                    f"{str(topic)[:80]} is no topic's name: give names one by one, not a list", key="topics"
                )
        self._subscribed += 1
        self._pattern = pattern
        self._topics = tuple(dict.fromkeys(listed))
        self._known_topics = {}
        self._failure = None
        self._attention.set()

    @property
    def _is_subscribed(self) -> bool:
        return bool(self._topics) or self._pattern is not None

    @property
    def _subscription(self) -> Subscription:
        return Subscription(self._topics, self._pattern)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read just these partitions; this replaces what was read before. Those kept go on where they are.

        Raises
            InvalidRequest  this consumer is a member of a group, whose coordinator assigns
        """
        if self._group is not None:
            raise InvalidRequest(
                "this consumer is a member of a group, which shares its partitions out itself: use another consumer, "
                "without topics, to choose partitions by hand"
            )
        wanted = [TopicPartition(*partition) for partition in partitions]
        self._set_subscription((), None)
        self._replace_positions(wanted)

    def assignment(self) -> tuple[TopicPartition, ...]:
        """The partitions that are read at present."""
        return tuple(self._positions)

    def _replace_positions(self, wanted: Iterable[TopicPartition]) -> None:
        before, self._positions = self._positions, {}
        for partition in wanted:
            self._positions[partition] = before.get(partition) or Position(partition, _RESETS[self._reset])
        self._turn = list(self._positions.values())
        for partition, dropped in before.items():
            if partition not in self._positions:
                dropped.close()  # answers under way to it are not for us any more
        self._route()

    def drop(self, partition: TopicPartition) -> None:
        """Stop reading one partition."""
        self._replace_positions([kept for kept in self._positions if kept != partition])

    def _position(self, partition: TopicPartition) -> Position:
        found = self._positions.get(TopicPartition(*partition))
        if found is None:
            remedy = "assign it first" if self._group is None else "another member of the group has it, or will have"
            raise InvalidRequest(f"{TopicPartition(*partition)} is not assigned to this consumer: {remedy}")
        return found

    def _chosen(self, partitions: tuple[TopicPartition, ...]) -> list[TopicPartition]:
        return [self._position(p).topic_partition for p in partitions] if partitions else list(self._positions)

    # As HandOver's Reader ------------------------------------------------------------------------------------------

    @property
    def positions(self) -> Mapping[TopicPartition, Position]:
        return self._positions

    def add(self, positions: Iterable[Position]) -> None:
        for position in positions:
            self._positions[position.topic_partition] = position

    def open(self, positions: Iterable[Position]) -> None:
        self._turn += positions
        self._arrived.set()
        self._route()

    def remove(self, positions: Iterable[Position]) -> None:
        gone = set(positions)
        if not gone:
            return
        for position in gone:
            del self._positions[position.topic_partition]
        self._turn = [position for position in self._turn if position not in gone]
        self._route()

    def raise_later(self, error: BaseException) -> None:
        self._to_raise.append(error)
        self._hands.interrupt()
        self._arrived.set()

    def _application_came_back(self) -> None:
        if self._group is not None:
            self._group.application_came_back()

    # Where to read -------------------------------------------------------------------------------------------------

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at `offset` there; what was prefetched is dropped."""
        if not isinstance(offset, int) or not 0 <= offset < 1 << 63:
            raise InvalidRequest(f"{str(offset)[:80]} is no offset to go to: give a whole number, 0 or above")
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
                raise InvalidRequest(f"{when} has no time zone: give it one, as datetime.now(UTC) has", time=when)
            moment_ms = round(when.timestamp() * 1000)
        elif isinstance(when, str):
            moment_ms = parse_time(when, now_ms=self._connection.environment.unix_ms())
        else:
            moment_ms = when
        if moment_ms < 0:
            raise InvalidRequest(f"time {moment_ms} ms is before 1970", time=moment_ms)
        if moment_ms > self._connection.environment.unix_ms() + _AHEAD_MS_MAX:
            raise InvalidRequest(
                f"time {when} is in the future by the clock here; to begin at what comes next use seek_to_end",
                time=moment_ms,
            )
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
            await self._places.find([position])
        assert position.offset is not None
        return position.offset

    async def lag(self) -> dict[TopicPartition, Lag]:
        """How far each partition's position is behind its committed end: in records, and in seconds since the next of
        them was made, by its leader's clock."""
        await self._places.find([position for position in self._positions.values() if position.offset is None])
        # Of those that are ours by now: some may have been revoked meanwhile.
        offsets = {partition: position.offset for partition, position in self._positions.items()}
        return await self._offsets.lags({p: offset for p, offset in offsets.items() if offset is not None})

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand nothing out of these, or all, until they are resumed; what is prefetched stays while there is room."""
        for partition in self._chosen(partitions):
            self._positions[partition].pause()
        self._wake_fetchers()

    def resume(self, *partitions: TopicPartition) -> None:
        for partition in self._chosen(partitions):
            self._positions[partition].resume()
        self._arrived.set()
        self._wake_fetchers()

    def paused(self) -> tuple[TopicPartition, ...]:
        return tuple(partition for partition, position in self._positions.items() if position.paused)

    # How far the group has come ------------------------------------------------------------------------------------

    async def commit(self, offsets: Offsets | None = None) -> None:
        """Store how far the group has come. None: wherever records were handed out, or a place was sought, since the
        last time, up to before the next record to be handed out. Else for each partition the next offset to read, or
        that and a text to keep beside it.

        What can be stored is stored, also if an error is raised for the rest.

        Raises
            LostGrant                       names the partitions whose records were fetched under a grant that is not in
                                            force any more: others own them now, or the group was sought elsewhere;
                                            with the fact outcome=unknown an earlier try may have been stored
            OffsetOutOfRange, OffsetMetadataTooLarge, UnknownTopic, UnknownPartition
            GroupNotEmpty                   this consumer is no member, and the group has some
            RequestTimedOut                 perhaps stored, perhaps not
            InvalidRequest                  without a `group_id`
        """
        await self._in_group("commit").commit(self._positions, offsets)

    async def committed(self, partition: TopicPartition) -> int | None:
        """The offset that the group has stored: the next to read; None if nothing is stored."""
        wanted = TopicPartition(*partition)
        stored = (await self._in_group("committed").coordinator.fetch([wanted])).get(wanted)
        return stored.offset if stored is not None else None

    def _in_group(self, what: str) -> Progress:
        if self._progress is None:
            raise InvalidRequest(f"{what}: stored offsets belong to a group, and this consumer has no group_id")
        return self._progress

    async def _store_now_and_then(self, progress: Progress) -> None:
        while True:
            await asyncio.sleep(self._terms.auto_commit_interval_s)
            await progress.store_finished(list(self._positions.values()))

    # Records -------------------------------------------------------------------------------------------------------

    async def getone(self) -> Record:
        """The next record, however long it takes."""
        position = self._stood_at
        if position is None or not position.is_stood_at or position.halted or position.at >= len(position.ready):
            position = self._stood_at = await self.next_ready()
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
        self._hands.came_back()
        taken: dict[Position, list[Record]] = {}
        try:
            while True:
                self._attend()
                if taken := self._take(count_max):
                    return {position.topic_partition: records for position, records in taken.items()}
                self._raise_failure()
                left_s = deadline - asyncio.get_running_loop().time()
                if left_s <= 0:
                    return {}
                try:
                    async with asyncio.timeout(left_s):
                        await self._arrived.wait()
                except TimeoutError:
                    return {}
        finally:
            self._hands.hold(taken)

    def put_back(self, taken: Mapping[TopicPartition, list[Record]]) -> None:
        """What `getmany` returned last never reached the application: as if it had not been handed out."""
        for partition, records in taken.items():
            position = self._positions.get(partition)
            if position is not None and self._hands.holds(position):  # else it was granted anew, and begins elsewhere
                position.put_back(records)
        self._hands.came_back()  # with empty hands
        self._hands.turned_away()

    def _take(self, count_max: int) -> dict[Position, list[Record]]:
        taken: dict[Position, list[Record]] = {}
        left = count_max
        has_room = False
        for position in list(self._turn):
            if not position.has_records:
                continue
            has_room = True  # even without records: batches that compaction emptied took some
            try:
                records = position.take(left)
            except LograftError:
                if not taken:
                    raise
                break  # what was taken already is handed out first; the next read begins here
            if records:
                position.handed_from = records[0].offset
                taken[position] = records
                left -= len(records)
            if position.at < len(position.ready):
                break  # it goes on here the next time: one batch at most stays decoded
            self._turn.remove(position)
            self._turn.append(position)  # the others are first the next time
            if left <= 0:
                break
        if has_room:
            self._wake_fetchers_with_room()
        return taken

    async def next_ready(self, stops: Mapping[TopicPartition, int] | None = None) -> Position:
        """A position with records decoded and ready, or one that has reached its stop, however long it takes.

        Whoever takes a record of it moves `at` on, and asks here again once the position is `halted`.
        """
        self._hands.came_back()
        try:
            position = self._ready_now() or await self._ready_later(stops)
        except BaseException:
            self._hands.turned_away()
            raise
        self._hands.stand_at(position)
        return position

    def _ready_now(self) -> Position | None:
        if self._to_raise or self._group is not None:
            self._attend()
        for position in self._turn:
            if not position.halted and position.at < len(position.ready):
                return position
        return None

    async def _ready_later(self, stops: Mapping[TopicPartition, int] | None) -> Position:
        while True:
            self._attend()
            for position in self._turn:
                if not position.has_records:
                    continue
                has_records = position.decode_next()
                self._wake_fetchers_with_room()  # even without records: batches that compaction emptied took some
                if has_records:
                    self._turn.remove(position)
                    self._turn.append(position)
                    return position
            for position in self._turn if stops else ():
                if stops and position.offset is not None and position.offset >= stops[position.topic_partition]:
                    return position
            self._raise_failure()
            await self._arrived.wait()

    async def __aiter__(self) -> AsyncIterator[Record]:
        while True:
            position = await self.next_ready()
            while position.at < len(position.ready) and not position.halted:
                record = position.ready[position.at]
                position.at += 1
                yield record

    def _attend(self) -> None:
        """Before anything is handed out: what has to be known, told or begun."""
        self._begin()
        self._arrived.clear()
        if self._to_raise:
            for position in self._positions.values():
                position.go_on()
            raise self._to_raise.popleft()
        if self._group is not None:
            self._group.attend()

    def _raise_failure(self) -> None:
        tasks = [self._caretaker, self._storing, *(fetcher.task for fetcher in self._fetchers.values())]
        for task in [*tasks, *(self._group.tasks if self._group is not None else ())]:
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
        leaders = dict.fromkeys(address for address in believed if address is not None)  # a set has no order
        if self._leaderless():
            self._attention.set()  # nobody fetches those until a refresh names a leader
        for address in [address for address in self._fetchers if address not in leaders]:
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
            if self._is_subscribed and self._progress is None:
                await self._take_on_topics(fresh=loop.time() >= look_again_at)
            if loop.time() >= look_again_at:
                look_again_at = loop.time() + _GROWTH_S
            if not await self._mending.mend(self._positions.values()):
                self._attention.set()
            lost = [p for p in self._positions.values() if p.failure is None and not (p.topic_id and p.is_placed)]
            if lost:
                await self._find_places_or_tell(lost)
            self._route()
            self._arrived.set()

    async def _take_on_topics(self, *, fresh: bool) -> None:
        subscribed = self._subscribed
        try:
            if self._pattern is not None and (fresh or not self._known_topics):
                await self._metadata.refresh(all_topics=True)
            names = dict.fromkeys(self._topics)
            if self._pattern is not None:
                names |= {
                    name: None
                    for name, view in self._metadata.topics.items()
                    if re.fullmatch(self._pattern, name) and not view.internal
                }
            unknown = [name for name in names if name not in self._known_topics]
            if fresh and self._known_topics:
                await self._metadata.refresh(*self._known_topics)
            for name in unknown:
                view = await self._metadata.topic(name, timeout_s=self._timeout_s)
                if self._subscribed != subscribed:
                    return  # whoever chose anew has set `_attention`
                self._take_on(name, [partition.number for partition in view.partitions], view.topic_id)
        except LograftError as error:
            if self._subscribed == subscribed and (not error.retriable or not self._known_topics):
                self._failure = error

    async def _find_places_or_tell(self, positions: list[Position]) -> None:
        try:
            await self._places.find(positions)
        except LograftError as error:
            if error.retriable and len(positions) == 1:
                self._attention.set()  # try again; there is no hurry, the lookup has waited already
            elif len(positions) == 1:
                positions[0].failure = error
            else:
                for position in positions:
                    await self._find_places_or_tell([position])
