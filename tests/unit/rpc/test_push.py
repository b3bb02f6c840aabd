"""One Stream call over replicas that are only lists of batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from lograft.node.metrics import Metrics
from lograft.node.rpc.push import TOGETHER_BYTES_MAX, PushStream
from lograft.proto.errors import InvalidRequest
from lograft.v1 import broker_service_pb2 as pb

from tests.unit.rpc.test_fetch import FakeReplica, FakeReplicas


class Client:
    """The other side of the call, and the context that its answers are written to."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[pb.StreamRequest | None] = asyncio.Queue()
        self.answers: asyncio.Queue[pb.StreamResponse] = asyncio.Queue()
        self.may_write = asyncio.Event()
        self.may_write.set()

    async def __aiter__(self) -> AsyncIterator[pb.StreamRequest]:
        while (request := await self.requests.get()) is not None:
            yield request

    async def write(self, response: pb.StreamResponse) -> None:
        self.answers.put_nowait(response)
        await self.may_write.wait()

    def ask(self, **request: Any) -> None:
        self.requests.put_nowait(pb.StreamRequest(**request))

    def start(self, topic: str, stream_id: int, offset: int = 0) -> None:
        self.ask(start=pb.StreamRequest.Start(topic=topic, stream_id=stream_id, offset=offset))

    async def heard(self) -> pb.StreamResponse:
        return await asyncio.wait_for(self.answers.get(), 5)


def with_stream(replicas: FakeReplicas, scene: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        client = Client()
        stream = PushStream(replicas, Metrics())  # type: ignore[arg-type]
        serving = asyncio.ensure_future(stream.serve(client, client))  # type: ignore[arg-type]
        try:
            await scene(client)
            client.requests.put_nowait(None)
            await asyncio.wait_for(serving, 5)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(run())


def terms(heartbeat_ms: int = 0, together: bool = True) -> pb.StreamRequest.Terms:
    return pb.StreamRequest.Terms(heartbeat_ms=heartbeat_ms, together=together)


def ids_of(answer: pb.StreamResponse) -> list[int]:
    return [answer.stream_id, *(other.stream_id for other in answer.others)]


def test_terms_are_answered_at_once_by_a_response_that_holds_nothing() -> None:
    async def scene(client: Client) -> None:
        client.ask(terms=terms())
        assert await client.heard() == pb.StreamResponse()

    with_stream(FakeReplicas(), scene)


def test_what_is_ready_of_several_partitions_leaves_in_one_message_where_the_client_takes_that() -> None:
    replicas = FakeReplicas(a=FakeReplica(b"1"), b=FakeReplica(b"2"), c=FakeReplica())

    async def scene(client: Client) -> None:
        client.ask(terms=terms())
        await client.heard()
        client.ask(credit_bytes=1000)
        others = [
            pb.StreamRequest(start=pb.StreamRequest.Start(topic=topic, stream_id=number))
            for number, topic in ((2, "b"), (3, "c"), (4, "nowhere"))
        ]
        client.ask(start=pb.StreamRequest.Start(topic="a", stream_id=1), others=others)
        answer = await client.heard()
        assert ids_of(answer) == [1, 2, 4]
        assert [part.batches for part in (answer, *answer.others)] == [b"1", b"2", b""]
        assert answer.others[1].error.reason == "NOT_LEADER"

    with_stream(replicas, scene)


def test_who_stated_no_terms_gets_a_message_for_each_partition_and_no_heartbeat() -> None:
    replicas = FakeReplicas(a=FakeReplica(b"1"), b=FakeReplica(b"2"))

    async def scene(client: Client) -> None:
        client.start("a", 1)
        client.start("b", 2)
        client.ask(credit_bytes=1000)
        assert [ids_of(await client.heard()) for _ in range(2)] == [[1], [2]]

    with_stream(replicas, scene)


def test_what_is_committed_while_a_message_is_written_shares_the_next_one() -> None:
    a, b = FakeReplica(b"1"), FakeReplica()

    async def scene(client: Client) -> None:
        client.ask(terms=terms())
        await client.heard()
        client.ask(credit_bytes=1000)
        client.start("b", 2)
        client.may_write.clear()
        client.start("a", 1)
        assert ids_of(await client.heard()) == [1]
        a.commit(b"3")
        a.commit(b"4")
        b.commit(b"5")
        client.may_write.set()
        answer = await client.heard()
        assert sorted((part.stream_id, part.batches) for part in (answer, *answer.others)) == [(1, b"34"), (2, b"5")]

    with_stream(FakeReplicas(a=a, b=b), scene)


def test_a_large_part_takes_no_others_along() -> None:
    replicas = FakeReplicas(a=FakeReplica(bytes(TOGETHER_BYTES_MAX)), b=FakeReplica(b"2"))

    async def scene(client: Client) -> None:
        client.ask(terms=terms())
        await client.heard()
        client.start("a", 1)
        client.start("b", 2)
        client.ask(credit_bytes=1 << 20)
        assert [ids_of(await client.heard()) for _ in range(2)] == [[1], [2]]

    with_stream(replicas, scene)


def test_nothing_leaves_without_credit_and_a_heartbeat_does() -> None:
    async def scene(client: Client) -> None:
        client.ask(terms=terms(heartbeat_ms=100))
        await client.heard()
        client.start("a", 1)
        assert await client.heard() == pb.StreamResponse()
        client.ask(credit_bytes=1)
        assert (await client.heard()).batches == b"1"
        assert await client.heard() == pb.StreamResponse(), "the one batch was all of the credit"

    with_stream(FakeReplicas(a=FakeReplica(b"1", b"2")), scene)


@pytest.mark.parametrize("heartbeat_ms", [-1, 1, 99, 60_001])
def test_a_heartbeat_out_of_bounds_is_refused(heartbeat_ms: int) -> None:
    async def scene(client: Client) -> None:
        client.ask(terms=terms(heartbeat_ms=heartbeat_ms))

    with pytest.raises(InvalidRequest, match="100 to 60000"):
        with_stream(FakeReplicas(), scene)
