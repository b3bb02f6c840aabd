"""Which clock may say how old a record is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from lograft.node.controller.topic_rules import TopicLimits, settings_of
from lograft.node.retention import CLOCK_CALL, Retention, is_clock_trusted, limits_of
from lograft.partitions.environment import PartitionId
from lograft.proto.errors import BrokerUnavailable

NEAR, FAR = 59_000, 61_000


@pytest.mark.parametrize(
    ("brokers", "ahead_ms", "trusted"),
    [
        ([1], {1: 0}, True),
        ([1, 2, 3], {1: 0, 2: NEAR, 3: -NEAR}, True),
        ([1, 2, 3], {1: 0, 2: FAR, 3: 0}, True),  # one other is wrong, and outvoted
        ([1, 2, 3], {1: 0, 2: FAR, 3: FAR}, False),  # this one is
        ([1, 2, 3], {1: 0, 2: FAR, 3: -FAR}, True),
        ([1, 2, 3], {1: 0, 2: NEAR}, True),  # one cannot be asked
        ([1, 2, 3], {1: 0, 2: FAR}, False),  # and of the other two nobody knows which is right
        ([1, 2, 3], {1: 0}, False),
        ([1, 2], {1: 0}, False),
        ([2, 3], {1: 0, 2: 0, 3: 0}, True),
        ([1, 2, 3, 4, 5], {1: 0, 2: FAR, 3: FAR, 4: 0}, False),
    ],
)
def test_a_clock_is_trusted_near_the_median_of_a_majority(
    brokers: list[int], ahead_ms: dict[int, float], trusted: bool
) -> None:
    assert is_clock_trusted(1, brokers, ahead_ms) is trusted


class Scene:
    """Broker 1 leads a partition of an ordinary topic and one of an internal one; brokers 2 and 3 have clocks too."""

    def __init__(self, config: dict[str, str], clocks: dict[int, int | None]) -> None:
        self.asked: list[int] = []
        self.enforced: list[tuple[str, Any, int | None]] = []
        self._clocks = clocks
        self._topics = {"a" * 32: SimpleNamespace(name="events"), "b" * 32: SimpleNamespace(name="__offsets")}
        self.led = [self._replica(topic_id) for topic_id in self._topics]
        self.state = SimpleNamespace(topic_by_id=self._topics.get)
        self._settings = settings_of(config, TopicLimits())

    def _replica(self, topic_id: str) -> Any:
        return SimpleNamespace(
            partition=PartitionId(topic_id, 0),
            voters=[SimpleNamespace(broker_id=each) for each in (1, 2, 3)],
            is_ready=True,
            enforce_retention=lambda limits, now_ms: self.enforced.append((topic_id, limits, now_ms)),
        )

    def settings(self, topic: Any) -> Any:
        return self._settings

    async def call(self, broker_id: int, method: str, body: bytes = b"", *, timeout_ms: float) -> bytes:
        assert method == CLOCK_CALL
        self.asked.append(broker_id)
        clock = self._clocks[broker_id]
        if clock is None:
            raise BrokerUnavailable("it is down")
        return clock.to_bytes(8, "big", signed=True)

    def enforce(self) -> list[tuple[str, Any, int | None]]:
        here: Any = self
        asyncio.run(Retention(1, here, here, lambda: 1_000_000).enforce())
        return self.enforced


def test_internal_topics_are_left_alone_and_the_others_judged_by_their_settings() -> None:
    scene = Scene({"retention.ms": "5000", "retention.bytes": "70"}, {2: 1_000_000, 3: 1_000_000})
    ((topic_id, limits, now_ms),) = scene.enforce()
    assert (topic_id, now_ms) == ("a" * 32, 1_000_000)
    assert (limits.ms_max, limits.bytes_max, limits.follower_bytes_max) == (5000, 70, 1 << 30)


def test_a_broker_whose_clock_is_wrong_or_alone_says_nothing_of_ages() -> None:
    for clocks in ({2: 9_000_000, 3: 9_000_000}, {2: None, 3: None}, {2: 9_000_000, 3: None}):
        ((_, _, now_ms),) = Scene({"retention.ms": "5000"}, clocks).enforce()
        assert now_ms is None, clocks
    ((_, _, now_ms),) = Scene({"retention.ms": "5000"}, {2: 9_000_000, 3: 1_030_000}).enforce()
    assert now_ms == 1_000_000


def test_clocks_are_asked_for_only_where_ages_matter() -> None:
    scene = Scene({"retention.bytes": "70"}, {2: None, 3: None})
    scene.enforce()
    assert scene.asked == []


def test_a_topic_that_sets_nothing_keeps_everything() -> None:
    limits = limits_of(settings_of({}, TopicLimits()))
    assert limits.ms_max is None and limits.bytes_max is None
