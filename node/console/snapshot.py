"""What the cluster looks like, asked now and then while somebody watches, and told to all who watch.

Invariants
    each question is asked once at a time, however many watch; not at all once nobody did for `WATCHED_S`
    answers take at most a twentieth of the time: a cluster in which they take long is asked more seldom
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
INTERVAL_S_MAX = 20.0
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
        self._client = client
        self._wall_ms = wall_ms
        self._watched_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._seen = asyncio.Event()
        self._next_group = 0
        self._sampled_ms: dict[str, int] = {}

    async def watched(self) -> None:
        """Somebody looks. Returns once there is something to be seen, or it takes too long."""
        self._watched_at = time.monotonic()
        if all(task.done() for task in self._tasks):
            # Each by itself: while nobody coordinates a group, say, the cluster's health is still asked for.
            self._tasks = [
                asyncio.create_task(self._go_on(look))
                for look in (self._look_at_cluster, self._look_at_topics, self._look_at_groups)
            ]
        if not self.cluster.at_ms:
            try:
                async with asyncio.timeout(FIRST_ANSWER_S):
                    await self._seen.wait()
            except TimeoutError:
                pass

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _go_on(self, look: Callable[[], Awaitable[bool]]) -> None:
        while time.monotonic() - self._watched_at < WATCHED_S:
            began, is_answered = time.monotonic(), False
            try:
                is_answered = await look()
            except Exception:  # a defect in here must not leave a page that stands still without a word
                log.exception("console_look_failed")
            # Waiting for who does not answer is no work, and no reason to ask more seldom.
            took_s = time.monotonic() - began if is_answered else 0.0
            await asyncio.sleep(min(max(INTERVAL_S - took_s, took_s / SHARE_MAX), INTERVAL_S_MAX))

    async def _look_at_cluster(self) -> bool:
        is_answered = await self._ask(self.cluster, self._client.admin.describe_cluster)
        self._seen.set()
        return is_answered

    async def _look_at_topics(self) -> bool:
        is_answered = await self._ask(self.topics, lambda: self._client.admin.list_topics(internal=True))
        if is_answered and self._is_due("topics"):
            self._sample_topics(self._wall_ms())
        return is_answered

    async def _look_at_groups(self) -> bool:
        is_answered = await self._ask(self.groups, self._client.groups.list)
        await self._describe_groups()
        if is_answered and self._is_due("groups"):
            self._sample_groups(self._wall_ms())
        return is_answered

    def _is_due(self, what: str) -> bool:
        now_ms = self._wall_ms()
        if now_ms - self._sampled_ms.get(what, 0) < HISTORY_INTERVAL_MS:
            return False
        self._sampled_ms[what] = now_ms
        return True

    async def _ask(self, told: Told[Any], question: Callable[[], Awaitable[Any]]) -> bool:
        try:
            told.value = await question()
        except LograftError as error:
            told.trouble = str(error)
            return False
        told.at_ms, told.trouble = self._wall_ms(), ""
        return True

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

    def _sample_topics(self, now_ms: int) -> None:
        history = self.history
        users = [topic for topic in self.topics.value if not topic.internal]
        counts = {topic.name: (records_ever(topic), size_bytes(topic)) for topic in self.topics.value}
        history.keep_only({f"topic/{name}" for name in counts}, of="topic/")
        for name, (ever, size) in counts.items():
            history.add(f"topic/{name}", now_ms, ever, size)
        evers, sizes = zip(*(counts[topic.name] for topic in users), strict=True) if users else ((), ())
        history.add("cluster/topics", now_ms, total(evers), total(sizes))

    def _sample_groups(self, now_ms: int) -> None:
        history = self.history
        history.keep_only({f"group/{name}" for name in self.described}, of="group/")
        groups = [told.value for told in self.described.values()]
        for name, told in self.described.items():
            if not told.trouble:
                history.add(f"group/{name}", now_ms, told.value.lag_records, told.value.lag_seconds)
        oldest_s = max((group.lag_seconds for group in groups), default=0.0)
        history.add("cluster/lag", now_ms, sum(group.lag_records for group in groups), oldest_s)


def records_ever(topic: TopicDescription) -> int | None:
    """Sum of the committed ends; None if a leader was not reached."""
    ends = [partition.committed_offset for partition in topic.partitions]
    return None if any(end < 0 for end in ends) else sum(ends)


def size_bytes(topic: TopicDescription) -> int | None:
    """Of one copy, as the leaders hold it; None if one was not reached."""
    sizes = [partition.size_bytes for partition in topic.partitions]
    return None if any(size < 0 for size in sizes) else sum(sizes)
