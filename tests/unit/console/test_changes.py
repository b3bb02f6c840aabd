"""What a change does not do."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from lograft.node.console.changes import Changes
from lograft.proto.errors import BatchTooLarge, InvalidRequest, UnknownPartition


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
        return SimpleNamespace(name=name, partitions=[0, 1, 2], config={})

    client: Any = SimpleNamespace(admin=SimpleNamespace(describe_topic=describe_topic), producer=lambda **_: Producer())
    request: Any = SimpleNamespace(path_params={"topic": "t"})
    records = {"records": [{"value": {"text": "a"}, "partition": 0}, {"value": {"text": "b"}, "partition": 3}]}
    with pytest.raises(UnknownPartition):
        asyncio.run(Changes(client).answers["topics/{topic}/records"](request, records))
    assert not sent


@pytest.mark.parametrize(
    ("config", "of_brokers", "size"),
    [
        ({}, 1 << 20, (1 << 20) - 20),  # the record fits, with its batch's head it does not
        ({"batch.bytes.max": "2000"}, 1 << 20, 1_990),
        ({}, 2_000, 1_990),
    ],
)
def test_of_records_of_which_one_is_too_large_for_a_batch_none_is_sent(
    config: dict[str, str], of_brokers: int, size: int
) -> None:
    async def describe_topic(name: str) -> Any:
        return SimpleNamespace(name=name, partitions=[0], config=config)

    def producer(**_: Any) -> Any:
        raise AssertionError("nothing is to be sent")

    client: Any = SimpleNamespace(admin=SimpleNamespace(describe_topic=describe_topic), producer=producer)
    request: Any = SimpleNamespace(path_params={"topic": "t"})
    records = {"records": [{"value": {"text": "a"}}, {"value": {"text": "x" * size}}]}
    with pytest.raises(BatchTooLarge, match=r"record 1: .* nothing was sent"):
        asyncio.run(Changes(client, of_brokers).answers["topics/{topic}/records"](request, records))


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "name"),
        ({"name": "t", "partitions": "6"}, "partitions"),
        ({"name": "t", "partitions": 6, "replication": -1}, "replication"),
        ({"name": "t", "partitions": 6, "config": {"retention.ms": 5}}, "retention.ms"),
    ],
)
def test_what_is_no_topic_is_told_at_its_field(asked: dict[str, Any], field: str) -> None:
    client: Any = SimpleNamespace(admin=SimpleNamespace(create_topic=None))
    with pytest.raises(InvalidRequest) as refused:
        asyncio.run(Changes(client).answers["topics"](client, asked))
    assert refused.value.facts["key"] == field
