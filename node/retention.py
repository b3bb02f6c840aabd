"""Lets the partitions led here forget what their topics no longer keep.

Invariants
    only the leader decides, and it acts by an item of the log: no later leader can have an older start
    internal topics are never touched
    nothing is dropped for its age unless this broker's clock is within a minute of the median of the clocks of the
    partition's brokers, and a majority of those could be asked just now
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from statistics import median_high, median_low
from typing import Protocol

from ..partitions.replica import Replica
from ..partitions.storage.retention import RetentionLimits
from ..proto.errors import LograftError
from .controller.topic_rules import TopicSettings, is_internal
from .replicas import Replicas

CLOCK_CALL = "broker.clock"
ANSWER_MS_MAX = 1_000
CLOCKS_APART_MS_MAX = 60_000
JUDGED_AT_ONCE = 32
"""Partitions, until others get their turn in the loop."""


class Calling(Protocol):
    """What is asked of `node.peer.links.PeerLinks`."""

    async def call(self, broker_id: int, method: str, body: bytes = b"", *, timeout_ms: float) -> bytes: ...


class Retention:
    """One a broker. `enforce` is called at an interval."""

    def __init__(self, broker_id: int, replicas: Replicas, links: Calling, wall_ms: Callable[[], int]) -> None:
        self._broker_id = broker_id
        self._replicas = replicas
        self._links = links
        self._wall_ms = wall_ms

    def encoded_clock(self) -> bytes:
        """The answer to CLOCK_CALL."""
        return self._wall_ms().to_bytes(8, "big", signed=True)

    async def enforce(self) -> None:
        """Look at every partition led here once."""
        wanted: list[tuple[Replica, TopicSettings]] = []
        for replica in self._replicas.led:
            topic = self._replicas.state.topic_by_id(replica.partition.topic_id)
            if topic is not None and not is_internal(topic.name):
                settings = self._replicas.settings(topic)
                if settings.forgets_segments:
                    wanted.append((replica, settings))
        ages_matter = [replica for replica, settings in wanted if settings.retention_ms >= 0]
        apart_ms = await self.clocks_apart({voter.broker_id for replica in ages_matter for voter in replica.voters})
        for count, (replica, settings) in enumerate(wanted):
            if count % JUDGED_AT_ONCE == JUDGED_AT_ONCE - 1:
                await asyncio.sleep(0)
            trusted = is_clock_trusted(self._broker_id, [voter.broker_id for voter in replica.voters], apart_ms)
            if replica.is_ready:
                replica.enforce_retention(limits_of(settings), self._wall_ms() if trusted else None)

    async def clocks_apart(self, brokers: set[int]) -> dict[int, float]:
        """How far each broker's clock is ahead of this one's. Who does not answer is missing."""
        others = sorted(brokers - {self._broker_id})
        answers = await asyncio.gather(*(self._clock_ahead(broker_id) for broker_id in others))
        apart = {broker_id: ahead for broker_id, ahead in zip(others, answers, strict=True) if ahead is not None}
        return {self._broker_id: 0.0, **apart}

    async def _clock_ahead(self, broker_id: int) -> float | None:
        asked_ms = self._wall_ms()
        try:
            answer = await self._links.call(broker_id, CLOCK_CALL, timeout_ms=ANSWER_MS_MAX)
        except LograftError:
            return None
        # It answered at some moment in between.
        return int.from_bytes(answer, "big", signed=True) - (asked_ms + self._wall_ms()) / 2


def is_clock_trusted(broker_id: int, brokers: list[int], ahead_ms: Mapping[int, float]) -> bool:
    """Is the clock of `broker_id` near the median of those of `brokers`, as far as `ahead_ms` knows them?"""
    known = [ahead_ms[each] for each in brokers if each in ahead_ms]
    if broker_id not in ahead_ms or len(known) <= len(brokers) // 2:
        return False
    # Of an even number both in the middle must agree: nobody could say which of two is right.
    return all(
        abs(ahead_ms[broker_id] - middle) <= CLOCKS_APART_MS_MAX for middle in (median_low(known), median_high(known))
    )


def limits_of(settings: TopicSettings) -> RetentionLimits:
    return RetentionLimits(
        ms_max=settings.retention_ms if settings.retention_ms >= 0 else None,
        bytes_max=settings.retention_bytes if settings.retention_bytes >= 0 else None,
        follower_bytes_max=settings.retention_follower_bytes,
    )
