"""Looking through records for those wanted, newest or oldest first, between two places, within a budget; the live tail.

Invariants
    no group is used, and nothing is stored: whoever reads with one is not disturbed
    both ends are pinned when a search begins: it ends by itself, however fast records come in
    at most one batch is decoded, and `TURN_BYTES` looked at, before the loop has its turn; and the loop is not held for
        more than half of the time
    a search that ends early says why, how far it came in each partition, and can go on from there without leaving out
        or repeating a record
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from ...client.client import Client
from ...client.consumer import Consumer
from ...client.offset_bounds import Bound
from ...client.position import ReadBounds
from ...client.records import Record, TopicPartition
from ...proto.errors import BatchTooLarge, CorruptBatch, InvalidRequest, RequestTimedOut
from .filters import Filter

PREFETCH_BYTES = 1 << 20
BOUNDS = ReadBounds(inflated_bytes_max=16 << 20, records_max=200_000)
"""Of one batch, which is decoded at once: some were made to inflate."""
TURN_BYTES = 256 << 10
TURN_S = 0.005
RECORDS_AT_ONCE = 200
PROGRESS_S = 0.25
SILENCE_S = 10.0
WINDOW_RECORDS_MAX = 20_000
WINDOW_BYTES = 16 << 20
"""Of a backward step: records in one partition; and about so many bytes in all, by the size of those before."""
KEPT_BYTES_MAX = 32 << 20
"""Of records found and not told yet, in a backward step; one that finds more is taken back, and made smaller."""
RECORD_BYTES = 300
"""What a record takes in memory, beside its contents."""
TOO_MUCH = "too much"


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for. `cursor`: where an earlier one ended, by partition; `start` and `stop` still hold."""

    topic: str
    start: Bound
    stop: Bound
    newest_first: bool = True
    partitions: tuple[int, ...] | None = None
    limit: int = 50
    wanted: Filter = field(default_factory=Filter)
    cursor: Mapping[int, int] | None = None


@dataclass(slots=True)
class Budget:
    """What one search may take."""

    bytes_max: int
    seconds_max: float

    def spent(self, progress: Progress) -> str:
        """Why it has to end now; empty if it need not."""
        if progress.bytes_read >= self.bytes_max:
            return "bytes"
        return "time" if progress.seconds >= self.seconds_max else ""


@dataclass(slots=True)
class Progress:
    """How far a search is."""

    records_read: int = 0
    bytes_read: int = 0
    found: int = 0
    unreadable: int = 0
    """Batches that were left out, as they are corrupt or too large to be decoded in a turn."""
    records_total: int = 0
    """Between the two places: what is there to look through at most."""
    oldest_ms: int | None = None
    newest_ms: int | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def count(self, record: Record, size: int) -> None:
        self.records_read += 1
        self.bytes_read += size
        if self.oldest_ms is None or record.timestamp_ms < self.oldest_ms:
            self.oldest_ms = record.timestamp_ms
        if self.newest_ms is None or record.timestamp_ms > self.newest_ms:
            self.newest_ms = record.timestamp_ms


@dataclass(frozen=True, slots=True)
class Found:
    """Records, in the order asked for, or news of the progress (no records). The last one says why it is the last."""

    records: Sequence[Record]
    progress: Progress
    ended: str = ""
    """all, limit, bytes, time; empty while it goes on."""
    cursor: Mapping[int, int] = field(default_factory=dict)


class Pace:
    """Gives the loop its turns."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._bytes = 0

    async def looked_at(self, size: int) -> None:
        self._bytes += size
        if self._bytes < TURN_BYTES and (self._bytes & 0xFFF) != 0:
            return
        held_s = time.perf_counter() - self._since
        if self._bytes >= TURN_BYTES or held_s >= TURN_S:
            await self.rest()

    async def rest(self) -> None:
        """As long as the loop was held; so others have half of it at least."""
        await asyncio.sleep(min(time.perf_counter() - self._since, 0.1))
        self._since = time.perf_counter()
        self._bytes = 0


def open_places(consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
    """Have it read these partitions from these offsets on, within bounds."""
    consumer.assign(offsets)
    for partition, offset in offsets.items():
        consumer.seek(partition, offset)
        consumer.positions[partition].bounds = BOUNDS


async def take(consumer: Consumer) -> tuple[dict[TopicPartition, list[Record]], int]:
    """What came, for a quarter of a second at most; and how many batches were left out that cannot be read."""
    try:
        return await consumer.getmany(timeout_ms=250, max_records=RECORDS_AT_ONCE), 0
    except (CorruptBatch, BatchTooLarge) as error:
        if "next_offset" not in error.facts:
            raise
        facts = error.facts
        consumer.seek(TopicPartition(str(facts["topic"]), int(facts["partition"])), int(facts["next_offset"]))
        return {}, 1


_closing: set[asyncio.Task[None]] = set()
"""Kept until they are done."""


async def close_surely(consumer: Consumer) -> None:
    """Also where whoever awaits it is cancelled again and again, as in a scope of anyio's: in a task of its own."""
    task = asyncio.ensure_future(consumer.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    await asyncio.shield(task)


class Window:
    """Reads ranges of offsets in several partitions, each in order, by a consumer of its own."""

    def __init__(self, client: Client, ranges: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self._ends = {partition: end for partition, (begin, end) in ranges.items() if begin < end}
        self._begins = {partition: ranges[partition][0] for partition in self._ends}
        self.unreadable = 0
        """Batches left out so far."""
        self._consumer: Consumer = client.consumer(auto_offset_reset="error", prefetch_bytes=PREFETCH_BYTES)

    async def __aenter__(self) -> Window:
        try:
            open_places(self._consumer, self._begins)
            await self._consumer.__aenter__()
        except BaseException:
            await close_surely(self._consumer)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await close_surely(self._consumer)

    async def batches(self, pace: Pace) -> AsyncGenerator[tuple[TopicPartition, list[Record]], None]:
        """Until all ranges are read."""
        heard = time.monotonic()
        while self._ends:
            taken, unreadable = await take(self._consumer)
            self.unreadable += unreadable
            await pace.rest()
            for partition, records in taken.items():
                end = self._ends[partition]
                yield partition, records if records[-1].offset < end else [r for r in records if r.offset < end]
            for partition in [*taken] if taken else [*self._ends]:
                # Also without records: what compaction took out is passed over.
                if await self._consumer.position(partition) >= self._ends[partition]:
                    del self._ends[partition]
                    self._consumer.drop(partition)
            if taken or unreadable:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_S:
                names = ", ".join(map(str, [*self._ends][:5]))
                raise RequestTimedOut(f"nothing came from {names} for {SILENCE_S:g} s: has it a leader?")


def size_of(record: Record) -> int:
    return 40 + len(record.value or b"") + len(record.key or b"")


class Scanner:
    """Carries out searches by one client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def search(self, search: Search, budget: Budget) -> AsyncGenerator[Found, None]:
        """What is found, as it is found, and how far it is, every quarter of a second.

        Raises
            InvalidRequest              a partition or place that is none
            UnknownTopic                there is none
            RequestTimedOut, ...        a partition could not be read, or a time not be found within the budget
        """
        progress = Progress()
        ranges = await self._pin(search, budget, progress)
        progress.records_total = sum(max(0, end - begin) for begin, end in ranges.values())
        told = self._backward if search.newest_first else self._forward
        async with aclosing(told(search, ranges, budget, progress)) as news:
            async for found in news:
                yield found

    async def _pin(self, search: Search, budget: Budget, progress: Progress) -> dict[TopicPartition, tuple[int, int]]:
        """The ranges to look through: exact also where they are given as times."""
        resolve = self._client.groups.resolve
        firsts, lasts, starts = await asyncio.gather(
            resolve(search.topic, search.start),
            resolve(search.topic, search.stop),
            resolve(search.topic, Bound("start")),
        )
        chosen = _chosen(search, [*firsts])
        if search.start.base == "time" or search.stop.base == "time":
            ends = await resolve(search.topic, Bound("end"))
            for bound, found in ((search.start, firsts), (search.stop, lasts)):
                if bound.base == "time":
                    spans = {p: (found[p], ends[p]) for p in chosen}
                    found |= await self._exact(spans, bound.number, budget, progress)
        ranges = {}
        for partition in chosen:
            first, last = max(firsts[partition], starts[partition]), max(lasts[partition], starts[partition])
            if search.cursor is not None and partition.partition in search.cursor:
                at = search.cursor[partition.partition]
                first, last = (first, min(last, at)) if search.newest_first else (max(first, at), last)
            ranges[partition] = first, max(first, last)
        return ranges

    async def _exact(
        self, ranges: Mapping[TopicPartition, tuple[int, int]], time_ms: int, budget: Budget, progress: Progress
    ) -> dict[TopicPartition, int]:
        """Brokers find the batch in which a time is reached; the record in it is found here.

        Nearly always it is in that very batch. But what a batch says of its times is the word of a client, and
        compaction may have taken the record out: what is looked through for it counts.
        """
        found = {partition: end for partition, (_, end) in ranges.items()}
        pace = Pace()
        for partition, span in ranges.items():
            if span[0] >= span[1]:
                continue
            async with Window(self._client, {partition: span}) as window:
                async for _, records in window.batches(pace):
                    at = next((record.offset for record in records if record.timestamp_ms >= time_ms), None)
                    if at is not None:
                        found[partition] = at
                        break
                    progress.bytes_read += sum(map(size_of, records))
                    if why := budget.spent(progress):
                        raise RequestTimedOut(
                            f"where {partition} reaches that time was not found within a search's limit of {why}: "
                            "search by offset, or raise console.search_bytes_max and console.search_ms_max"
                        )
        return found

    async def _forward(
        self, search: Search, ranges: Mapping[TopicPartition, tuple[int, int]], budget: Budget, progress: Progress
    ) -> AsyncGenerator[Found, None]:
        pace, cursor = Pace(), {partition.partition: begin for partition, (begin, _) in ranges.items()}
        told_at = time.monotonic()
        async with Window(self._client, ranges) as window:
            async for partition, records in window.batches(pace):
                rows = []
                for record in records:
                    size = size_of(record)
                    progress.count(record, size)
                    cursor[partition.partition] = record.offset + 1
                    if search.wanted.matches(record):
                        rows.append(record)
                        progress.found += 1
                        if progress.found >= search.limit:
                            yield Found(rows, progress, "limit", cursor)
                            return
                    await pace.looked_at(size)
                if why := budget.spent(progress):
                    yield Found(rows, progress, why, cursor)
                    return
                if rows or time.monotonic() - told_at >= PROGRESS_S:
                    told_at = time.monotonic()
                    yield Found(rows, progress)
            progress.unreadable = window.unreadable
        yield Found((), progress, "all", {partition.partition: end for partition, (_, end) in ranges.items()})

    async def _backward(
        self, search: Search, ranges: Mapping[TopicPartition, tuple[int, int]], budget: Budget, progress: Progress
    ) -> AsyncGenerator[Found, None]:
        merge = Merge(ranges)
        pace = Pace()
        # Without a filter the first step is about what is shown; with one, each step looks at twice as much.
        step = max(10, 2 * search.limit // max(1, len(ranges))) if search.wanted.is_empty else 100
        step = max(1, min(step, WINDOW_RECORDS_MAX // max(1, len(ranges))))
        ended = ""
        while not ended:
            windows = merge.next_windows(step)
            is_too_much = False
            if windows:
                async with aclosing(self._look_through(windows, search, budget, progress, pace, merge)) as looking:
                    async for news in looking:
                        if isinstance(news, Found):
                            yield news
                        else:
                            is_too_much = news == TOO_MUCH
                            ended = news if not is_too_much else "" if step > 1 else "bytes"
                each_bytes = progress.bytes_read // max(1, progress.records_read)
                fitting = WINDOW_BYTES // ((each_bytes + RECORD_BYTES) * len(windows))
                step = max(1, step // 8 if is_too_much else min(2 * step, WINDOW_RECORDS_MAX, fitting))
            # With a filter what was found is told at once, not only once every partition has something to compare with.
            is_last = bool(ended) or not merge.has_more
            all_of_it = is_last or not search.wanted.is_empty
            while True:
                rows = merge.take(min(RECORDS_AT_ONCE, search.limit - progress.found), all_of_it=all_of_it)
                progress.found += len(rows)
                if len(rows) < RECORDS_AT_ONCE or progress.found >= search.limit:
                    break
                yield Found(rows, progress)
                await pace.rest()
            if progress.found >= search.limit:
                ended = "limit"
            elif not ended and not merge.has_more and not merge.holds_any:
                ended = "all"
            if rows or ended:
                yield Found(rows, progress, ended, merge.cursor if ended else {})
            await asyncio.sleep(0)

    async def _look_through(
        self,
        windows: Mapping[TopicPartition, tuple[int, int]],
        search: Search,
        budget: Budget,
        progress: Progress,
        pace: Pace,
        merge: Merge,
    ) -> AsyncGenerator[Found | str, None]:
        """News of the progress; at last why the search has to end, or to take smaller steps (TOO_MUCH), if so.

        What is found goes into `merge`.
        """
        told_at = time.monotonic()
        found: dict[TopicPartition, list[Record]] = {partition: [] for partition in windows}
        kept_bytes = 0
        whole: set[TopicPartition] = set(windows)
        why = ""
        async with Window(self._client, windows) as window:
            reached = {partition: begin for partition, (begin, _) in windows.items()}
            async for partition, records in window.batches(pace):
                for record in records:
                    size = size_of(record)
                    progress.count(record, size)
                    if search.wanted.matches(record):
                        found[partition].append(record)
                        kept_bytes += size + RECORD_BYTES
                    await pace.looked_at(size)
                    reached[partition] = record.offset + 1
                why = budget.spent(progress) or (TOO_MUCH if kept_bytes > KEPT_BYTES_MAX else "")
                if why:
                    whole = {partition for partition, (_, end) in windows.items() if reached[partition] >= end}
                    break
                if time.monotonic() - told_at >= PROGRESS_S:
                    told_at = time.monotonic()
                    yield Found((), progress)
            progress.unreadable += window.unreadable
        for partition in whole:
            merge.give(partition, windows[partition][0], found[partition])
        if why:
            yield why


class Merge:
    """Partitions read backwards by windows, put together newest first. Pure.

    Within a partition the order is that of offsets, whatever its timestamps say; between partitions, that of the times
    of what each has next. So what was taken of a partition is always all above one offset, and a cursor is exact.
    """

    def __init__(self, ranges: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self._begins = {partition: begin for partition, (begin, _) in ranges.items()}
        self._reached = {partition: end for partition, (_, end) in ranges.items()}
        """Everything at or above was looked at."""
        self._found: dict[TopicPartition, list[Record]] = {partition: [] for partition in ranges}
        """Not taken yet, by offset: the newest is last."""

    @property
    def has_more(self) -> bool:
        """Is there anything that was not looked at?"""
        return any(self._reached[partition] > begin for partition, begin in self._begins.items())

    def _has_more_of(self, partition: TopicPartition) -> bool:
        return self._reached[partition] > self._begins[partition]

    @property
    def holds_any(self) -> bool:
        return any(self._found.values())

    @property
    def cursor(self) -> dict[int, int]:
        """By partition: the end of what is still to be taken."""
        return {
            partition.partition: found[-1].offset + 1 if found else self._reached[partition]
            for partition, found in self._found.items()
        }

    def next_windows(self, records: int) -> dict[TopicPartition, tuple[int, int]]:
        """What to look at next: of each partition of which nothing is left to take, `records` further back."""
        return {
            partition: (max(begin, self._reached[partition] - records), self._reached[partition])
            for partition, begin in self._begins.items()
            if not self._found[partition] and self._reached[partition] > begin
        }

    def give(self, partition: TopicPartition, begin: int, records: list[Record]) -> None:
        """All of a window was looked at, down to `begin`; these were found, in order."""
        assert not self._found[partition], f"{partition} was given a window before it needed one"
        self._reached[partition] = begin
        self._found[partition] = records

    def take(self, count_max: int, *, all_of_it: bool) -> list[Record]:
        """The newest. Unless `all_of_it`, only while each partition has one to compare with, or no more at all."""
        taken: list[Record] = []
        waits = any(not found and self._has_more_of(partition) for partition, found in self._found.items())
        heads = [
            (-found[-1].timestamp_ms, partition.partition, partition)
            for partition, found in self._found.items()
            if found
        ]
        heapq.heapify(heads)
        while heads and len(taken) < count_max and (all_of_it or not waits):
            _, number, newest = heads[0]
            found = self._found[newest]
            taken.append(found.pop())
            if found:
                heapq.heapreplace(heads, (-found[-1].timestamp_ms, number, newest))
            else:
                heapq.heappop(heads)
                waits = waits or self._has_more_of(newest)
        return taken


@dataclass(frozen=True, slots=True)
class TailNews:
    """What came since the last news: some of the records that were wanted, and how many were not shown."""

    records: Sequence[Record]
    seen: int
    skipped: int


class Tail:
    """Follows a topic from its end; shows at most `rows_per_s` a second, and counts the rest."""

    def __init__(
        self, client: Client, topic: str, partitions: tuple[int, ...] | None, wanted: Filter, *, rows_per_s: int
    ) -> None:
        self._client = client
        self._topic = topic
        self._partitions = partitions
        self._wanted = wanted
        self._rows_per_s = rows_per_s

    async def news(self, *, behind_records_max: int = 20_000, look_s: float = 2.0) -> AsyncGenerator[TailNews, None]:
        """For ever; without records every now and then, so that whoever listens knows that it goes on."""
        ends = await self._client.groups.resolve(self._topic, Bound("end"))
        search = Search(self._topic, Bound("end"), Bound("end"), partitions=self._partitions)
        chosen = _chosen(search, [*ends])
        consumer = self._client.consumer(auto_offset_reset="error", prefetch_bytes=PREFETCH_BYTES)
        try:
            open_places(consumer, {partition: ends[partition] for partition in chosen})
            await consumer.__aenter__()
            async with aclosing(self._follow(consumer, behind_records_max, look_s)) as all_news:
                async for news in all_news:
                    yield news
        finally:
            await close_surely(consumer)

    async def _follow(
        self, consumer: Consumer, behind_records_max: int, look_s: float
    ) -> AsyncGenerator[TailNews, None]:
        pace = Pace()
        second_began = looked_at = told_at = time.monotonic()
        shown = seen = skipped = 0
        rows: list[Record] = []
        yield TailNews((), 0, 0)
        while True:
            taken, _ = await take(consumer)
            await pace.rest()
            now = time.monotonic()
            if now - second_began >= 1:
                second_began, shown = now, 0
            for records in taken.values():
                for record in records:
                    seen += 1
                    if self._wanted.matches(record):
                        if shown < self._rows_per_s:
                            shown += 1
                            rows.append(record)
                        else:
                            skipped += 1
                    await pace.looked_at(size_of(record))
            if now - looked_at >= look_s:
                looked_at = now
                skipped += await self._catch_up(consumer, behind_records_max)
            if ((rows or skipped) and now - told_at >= PROGRESS_S) or now - told_at >= look_s:
                yield TailNews(rows, seen, skipped)
                told_at, rows, seen, skipped = now, [], 0, 0

    async def _catch_up(self, consumer: Consumer, behind_records_max: int) -> int:
        """Where more comes in than can be looked at, go on at the end. How many records that passes over."""
        ends = await self._client.groups.resolve(self._topic, Bound("end"))
        positions = {partition: await consumer.position(partition) for partition in consumer.assignment()}
        behind = {partition: max(0, ends[partition] - position) for partition, position in positions.items()}
        if sum(behind.values()) <= behind_records_max:
            return 0
        for partition in positions:
            consumer.seek(partition, ends[partition])
        return sum(behind.values())


async def one_record(client: Client, topic: str, partition: int, offset: int) -> Record | None:
    """The record at an offset; None if the log does not hold it (any more)."""
    begin = await client.groups.resolve(topic, Bound("start"))
    ends = await client.groups.resolve(topic, Bound("end"))
    place = TopicPartition(topic, partition)
    if place not in ends:
        raise InvalidRequest(f"topic {topic[:80]!r} has no partition {partition}, only 0 to {len(ends) - 1}")
    if not begin[place] <= offset < ends[place]:
        return None
    async with Window(client, {place: (offset, offset + 1)}) as window:
        async for _, records in window.batches(Pace()):
            for record in records:
                if record.offset == offset:
                    return record
    return None


def _chosen(search: Search, there: Sequence[TopicPartition]) -> list[TopicPartition]:
    if search.partitions is None:
        return sorted(there)
    numbers = {partition.partition for partition in there}
    for number in search.partitions:
        if number not in numbers:
            raise InvalidRequest(f"topic {search.topic[:80]!r} has no partition {number}, only 0 to {len(there) - 1}")
    return sorted(partition for partition in there if partition.partition in search.partitions)
