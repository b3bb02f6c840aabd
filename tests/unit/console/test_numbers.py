"""Numbers that fit nowhere are told as what they are, not met as a defect further in."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from lograft.node.config import load_config
from lograft.node.console.changes import Changes
from lograft.node.console.door import ConsoleDoor
from lograft.node.http import HttpDoor
from lograft.proto.errors import InvalidRequest

NOBODY: Any = None


@pytest.mark.parametrize(
    ("path", "partition", "asked"),
    [
        ("topics/{topic}/partitions/{partition:int}/leader", 2**31, {"broker_id": 1}),
        ("topics/{topic}/partitions/{partition:int}/leader", 0, {"broker_id": 2**31}),
        ("group/plan", 0, {"to": "start", "partitions": [2**31]}),
        ("group/seek", 0, {"moves": [{"topic": "t", "partition": 2**31, "topic_id": "x"}]}),
        ("topics/{topic}/records", 0, {"records": [{"partition": 2**31}]}),
    ],
)  # fmt: skip
def test_a_partition_or_broker_beyond_all_is_told(path: str, partition: int, asked: dict[str, Any]) -> None:
    request: Any = SimpleNamespace(path_params={"topic": "t", "partition": partition}, query_params={"name": "g"})
    with pytest.raises(InvalidRequest, match=r"is a number|at most"):
        asyncio.run(Changes(NOBODY).answers[path](request, asked))


def test_a_path_longer_than_any_name_is_refused_before_it_is_looked_at() -> None:
    config = load_config(None, {}, ["broker.id=0", "broker.data_directory=d", "listen.http=127.0.0.1:1"])
    troubles: list[Any] = []

    async def scene() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))
        console = ConsoleDoor(config, NOBODY, lambda: "not yet")
        door = HttpDoor({}, lambda: None, console=console)
        await door.start("127.0.0.1", 0)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            place = b"/console/api/topics/t/records/0/" + b"9" * 5_000
            writer.write(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % place)
            said = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return said
        finally:
            await door.stop()
            await console.stop()

    assert asyncio.run(scene()).startswith(b"HTTP/1.1 414 ") and not troubles
