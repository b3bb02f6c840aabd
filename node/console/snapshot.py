"""What the cluster looks like, asked now and then while somebody watches, and told to all who watch.

Invariants
    one round of questions at a time, however many watch; none once nobody did for `WATCHED_S`
    a round takes at most a twentieth of the time: a cluster in which it takes long is asked more seldom
    what could not be asked stays as it was last, with its age and the reason; nothing here makes a page fail
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from ...client.admin import ClusterDescription, TopicDescription
from ...client.client import Client
from ...client.groups import GroupDescription, GroupListing
from ...proto.errors import LograftError, UnknownGroup
from .history import History, total

INTERVAL_S = 2.0
SHARE_MAX = 0.05
HISTORY_INTERVAL_MS = 4_500
"""Between two samples in the charts."""
WATCHED_S = 600.0
GROUPS_AT_ONCE = 8
GROUPS_DESCRIBED_MAX = 200
"""In one round; of more groups, the others have their turn in the next."""
FIRST_ANSWER_S = 5.0

T = TypeVar("T")
log = structlog.get_logger("console")


@dataclass(slots=True)
class Told(Generic[T]):
    """The newest answer to one question, and why there is no newer one."""

    value: T
    at_ms: int = 0
    """Unix milliseconds; 0: never answered."""
    trouble: str = ""


class Snapshot:
    """The cluster as last seen; `watched` keeps it fresh."""

    def __init__(self, client: Client, *, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.cluster: Told[ClusterDescription | None] = Told(None)
        self.topics: Told[list[TopicDescription]] = Told([])
        self.groups: Told[list[GroupListing]] = Told([])
        self.described: dict[str, Told[GroupDescription]] = {}
        self.history = History()
        self.round_s = 0.0
        self._client = client
        self._wall_ms = wall_ms
        self._watched_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._round_over = asyncio.Event()
        self._next_group = 0
        self._sampled_ms = 0

    async def watched(self) -> None:
        """Somebody looks. Returns once there is something to be seen, or it takes too long."""
        self._watched_at = time.monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._go_on())
        if not self.cluster.at_ms:
            try:
                async with asyncio.timeout(FIRST_ANSWER_S):
                    await self._round_over.wait()
            except TimeoutError:
                pass

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        while time.monotonic() - self._watched_at < WATCHED_S:
            began = time.monotonic()
            try:
                await self._round()
            except Exception:  # a defect in here must not leave a page that stands still without a word
                log.exception("console_round_failed")
            self._round_over.set()
            self.round_s = time.monotonic() - began
            await asyncio.sleep(max(INTERVAL_S - self.round_s, self.round_s / SHARE_MAX if self.round_s > 0.1 else 0))

    async def _round(self) -> None:
        await asyncio.gather(
            self._ask(self.cluster, self._client.admin.describe_cluster),
            self._ask(self.topics, lambda: self._client.admin.list_topics(internal=True)),
            self._ask(self.groups, self._client.groups.list),
        )
        await self._describe_groups()
        now_ms = self._wall_ms()
        if now_ms - self._sampled_ms >= HISTORY_INTERVAL_MS:
            self._sampled_ms = now_ms
            self._sample(now_ms)

    async def _ask(self, told: Told[Any], question: Callable[[], Awaitable[Any]]) -> None:
        try:
            told.value = await question()
        except LograftError as error:
            told.trouble = str(error)
        else:
            told.at_ms, told.trouble = self._wall_ms(), ""

    async def _describe_groups(self) -> None:
        names = [listing.group for listing in self.groups.value]
        self.described = {name: self.described[name] for name in names if name in self.described}
        if not names:
            return
        first = self._next_group % len(names)
        turn = (names[first:] + names[:first])[:GROUPS_DESCRIBED_MAX]
        self._next_group = (first + len(turn)) % len(names)
        room = asyncio.Semaphore(GROUPS_AT_ONCE)

        async def describe(name: str) -> None:
            async with room:
                try:
                    value = await self._client.groups.describe(name)
                except UnknownGroup:
                    self.described.pop(name, None)
                except LograftError as error:
                    if name in self.described:
                        self.described[name].trouble = str(error)
                else:
                    self.described[name] = Told(value, self._wall_ms())

        await asyncio.gather(*(describe(name) for name in turn))

    def _sample(self, now_ms: int) -> None:
        history = self.history
        if self.topics.at_ms and not self.topics.trouble:
            users = [topic for topic in self.topics.value if not topic.internal]
            counts = {topic.name: (records_ever(topic), size_bytes(topic)) for topic in self.topics.value}
            for topic in self.topics.value:
                history.add(f"topic/{topic.name}", now_ms, *counts[topic.name])
            ever, size = zip(*(counts[topic.name] for topic in users), strict=True) if users else ((), ())
            history.add("cluster/topics", now_ms, total(ever), total(size))
        for name, told in self.described.items():
            if not told.trouble:
                group = told.value
                history.add(f"group/{name}", now_ms, group.lag_records, group.lag_seconds)
        if not self.groups.trouble:
            worst = [told.value for told in self.described.values()]
            records, seconds = sum(group.lag_records for group in worst), [group.lag_seconds for group in worst]
            history.add("cluster/lag", now_ms, records, max(seconds, default=0.0))
        names = {f"topic/{topic.name}" for topic in self.topics.value} | {f"group/{name}" for name in self.described}
        history.keep_only({*names, "cluster/topics", "cluster/lag"})


def records_ever(topic: TopicDescription) -> int | None:
    """Sum of the committed ends; None if a leader was not reached."""
    ends = [partition.committed_offset for partition in topic.partitions]
    return None if any(end < 0 for end in ends) else sum(ends)


def size_bytes(topic: TopicDescription) -> int | None:
    """Of one copy, as the leaders hold it; None if one was not reached."""
    sizes = [partition.size_bytes for partition in topic.partitions]
    return None if any(size < 0 for size in sizes) else sum(sizes)
