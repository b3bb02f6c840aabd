"""What the listener for Kafka clients tells of those it cuts off."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from lograft.node.config import KafkaSection, LimitsSection
from lograft.node.kafka.connection import READ_AHEAD_BYTES, KafkaConnection
from lograft.node.kafka.door import AMID_BYTES_AT_BOUND, CUT_OFF_TOLD_S, SWEEP_S, KafkaDoor
from structlog.testing import capture_logs

from tests.unit.kafka.test_connection import METADATA, Owner, Transport, a_frame, in_loop, turns


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


@in_loop
async def test_who_waits_for_its_turn_keeps_nobody_from_bringing_the_rest_of_a_request() -> None:
    door = KafkaDoor(cast(Any, None), LimitsSection(message_bytes_max=2 * READ_AHEAD_BYTES), KafkaSection())
    slow = door.handling = cast(Any, Owner())

    def connected() -> tuple[Transport, KafkaConnection]:
        transport = Transport()
        connection = transport.protocol = KafkaConnection(door)
        connection.connection_made(transport)  # type: ignore[arg-type]
        return transport, connection

    _, waiting = connected()
    waiting.data_received(a_frame(METADATA, 1) + a_frame(METADATA, 2) + bytes(READ_AHEAD_BYTES))
    await turns()
    halves = [connected() for _ in range(AMID_BYTES_AT_BOUND)]
    for number, (_, connection) in enumerate(halves):
        connection.data_received(a_frame(METADATA, number, size=2 * READ_AHEAD_BYTES - 100)[:-1])
    sweeping = asyncio.ensure_future(door._sweep())
    assert not halves[-1][0].reads
    await asyncio.sleep(1.5 * SWEEP_S)
    assert halves[-1][0].reads and slow.taken
    sweeping.cancel()
    waiting.close("the test is over")
