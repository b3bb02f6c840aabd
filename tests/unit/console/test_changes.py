"""What a change does not do."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from lograft.node.console.changes import Changes
from lograft.proto.errors import UnknownPartition


def test_of_records_of_which_one_has_no_partition_to_go_to_none_is_sent() -> None:
    sent: list[bytes] = []

    class Producer:
        async def __aenter__(self) -> Producer:
            return self

        async def send(self, topic: str, value: bytes, *, partition: int | None, **_: Any) -> None:
            if partition == 3:
                raise UnknownPartition("topic 't' has partitions 0 to 2; 3 is none of them")
            sent.append(value)

    async def describe_topic(name: str) -> Any:
        return SimpleNamespace(name=name, partitions=[0, 1, 2])

    client: Any = SimpleNamespace(admin=SimpleNamespace(describe_topic=describe_topic), producer=lambda **_: Producer())
    request: Any = SimpleNamespace(path_params={"topic": "t"})
    records = {"records": [{"value": {"text": "a"}, "partition": 0}, {"value": {"text": "b"}, "partition": 3}]}
    with pytest.raises(UnknownPartition):
        asyncio.run(Changes(client).answers["topics/{topic}/records"](request, records))
    assert not sent
