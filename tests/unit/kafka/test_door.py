"""What the listener for Kafka clients tells of those it cuts off."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from lograft.node.config import KafkaSection, LimitsSection
from lograft.node.kafka.door import CUT_OFF_TOLD_S, KafkaDoor
from structlog.testing import capture_logs


class Ended:
    """All that the door asks of a connection that is over."""

    peer, requests = "ipv4:10.0.0.7:4711", 3


@pytest.mark.parametrize("seconds, told", [(0.0, [1]), (CUT_OFF_TOLD_S, [1, 2])])
def test_clients_that_are_cut_off_again_and_again_are_told_of_once_a_minute_and_counted(
    seconds: float, told: list[int]
) -> None:
    async def cut_off() -> None:
        loop = asyncio.get_running_loop()
        door = KafkaDoor(cast(Any, None), LimitsSection(), KafkaSection())
        for now in (0.0, 0.0, seconds):
            loop.time = lambda now=now: now  # type: ignore[method-assign]
            door.ended(cast(Any, Ended()), "a request of 2147483647 bytes", is_usual=False)
        door.ended(cast(Any, Ended()), "closed by the client", is_usual=True)

    with capture_logs() as logged:
        loop = asyncio.SelectorEventLoop()
        loop.run_until_complete(cut_off())
        loop.close()
    warned = [one for one in logged if one["log_level"] == "warning"]
    assert [one["cut_off_since_last_told"] for one in warned] == told
    assert warned[0] | {"why": "a request of 2147483647 bytes", "peer": Ended.peer, "requests": 3} == warned[0]
