"""What a call that no broker carried out says, when its time is over."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from lograft.client.admin import Admin
from lograft.proto.errors import LograftError, NoLeader, RequestTimedOut

SECONDS_A_CALL = 5.0


class FakeConnection:
    """Brokers that take five seconds for an answer, and less only where the call has less left: then it times out."""

    def __init__(self, answers: dict[str, LograftError]) -> None:
        self._answers = answers
        self._now_s = 0.0
        self.environment = SimpleNamespace(now=lambda: self._now_s, chance=Random(1))

    def admin(self, address: str) -> Any:
        return SimpleNamespace(CreateTopic=address)

    async def call(self, address: str, _method: str, _request: object, *, timeout_s: float) -> None:
        self._now_s += min(SECONDS_A_CALL, timeout_s)
        if timeout_s < SECONDS_A_CALL:
            raise RequestTimedOut(f"broker at {address} did not answer in time")
        raise self._answers[address]


def test_a_call_in_an_outage_ends_with_what_the_brokers_said_and_not_with_the_last_time_out() -> None:
    answers = {
        "a:1": NoLeader("broker 0 knows no controller; a majority of brokers must be up"),
        "b:1": NoLeader("broker 1 knows no controller; a majority of brokers must be up"),
    }
    metadata: Any = SimpleNamespace(addresses=lambda: list(answers))
    connection: Any = FakeConnection(answers)
    admin = Admin(connection, metadata, timeout_s=12.0)
    with pytest.raises(RequestTimedOut) as refused:
        asyncio.run(admin._call("CreateTopic", object()))
    said = str(refused.value)
    assert "broker 0 knows no controller" in said and "broker 1 knows no controller" in said
    assert "did not answer in time" not in said
