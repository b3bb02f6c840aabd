"""The client's side of a Stream call, with a call that the test answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from lograft.client import tail as tails
from lograft.client.position import Position
from lograft.client.records import TopicPartition
from lograft.client.tail import Tail
from lograft.proto.record_batch import NewRecord, encode, stamp
from lograft.v1 import broker_service_pb2 as pb

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


class Call:
    def __init__(self) -> None:
        self.written: list[pb.StreamRequest] = []
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.is_cancelled = False

    async def write(self, request: pb.StreamRequest) -> None:
        self.written += [request, *request.others]

    async def read(self) -> Any:
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self) -> None:
        self.is_cancelled = True


class Scene:
    def __init__(self) -> None:
        self.call = Call()
        self.taken: list[tuple[Position, pb.StreamResponse]] = []
        self.arrivals = self.changes = 0
        self.ended = asyncio.Event()
        self.tail = Tail(lambda: self.call, take_in=self._take_in, arrived=self._arrived, changed=self._changed)

    def _take_in(self, position: Position, part: pb.StreamResponse) -> None:
        self.taken.append((position, part))
        position.take_in(part.batches, part.next_offset, part.term)

    def _arrived(self) -> None:
        self.arrivals += 1

    def _changed(self) -> None:
        self.changes += 1
        if self.tail.has_ended:
            self.ended.set()

    async def turns(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def answer(self, *answers: Any) -> None:
        for answer in answers:
            self.call.answers.put_nowait(answer)
        await self.turns()

    async def agreed(self) -> None:
        await self.answer(pb.StreamResponse())

    def starts(self) -> list[pb.StreamRequest.Start]:
        return [request.start for request in self.call.written if request.HasField("start")]


def play(scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        it = Scene()
        await it.turns()
        try:
            await scene(it)
        finally:
            it.tail.close()
            await asyncio.gather(it.tail.task, return_exceptions=True)

    asyncio.run(run())


def a_position(number: int = 0, offset: int = 0) -> Position:
    position = Position(TopicPartition("t", number), "end", "id")
    position.begin_at(offset)
    return position


def a_batch(offset: int) -> bytes:
    return bytes(stamp(encode([NewRecord(1, None, b"v", [])]), offset, 3))


def pushed(stream_id: int, offset: int) -> pb.StreamResponse:
    return pb.StreamResponse(
        stream_id=stream_id, batches=a_batch(offset), next_offset=offset + 1, committed_offset=offset + 1, term=3
    )


def test_it_is_of_use_only_once_the_broker_has_agreed() -> None:
    async def scene(it: Scene) -> None:
        assert it.call.written[0].terms == pb.StreamRequest.Terms(heartbeat_ms=tails.HEARTBEAT_MS, together=True)
        assert not it.tail.is_open
        await it.agreed()
        assert it.tail.is_open and it.changes == 1 and not it.arrivals

    play(scene)


def test_what_is_pushed_goes_to_its_position_and_is_spent_of_the_credit() -> None:
    async def scene(it: Scene) -> None:
        await it.agreed()
        one, other = a_position(0, 5), a_position(1, 0)
        it.tail.follow(one)
        it.tail.follow(other)
        it.tail.grant(1000)
        await it.turns()
        assert [(start.partition, start.offset, start.stream_id) for start in it.starts()] == [(0, 5, 1), (1, 0, 2)]
        message = pushed(1, 5)
        message.others.append(pushed(2, 0))
        await it.answer(message)
        assert [position for position, _ in it.taken] == [one, other]
        assert (one.fetch_offset, other.fetch_offset, it.arrivals) == (6, 1, 1)
        assert it.tail.outstanding_bytes == 1000 - 2 * len(a_batch(0))

    play(scene)


def test_after_a_seek_nothing_of_the_old_place_is_taken_in_and_none_of_what_follows_it() -> None:
    async def scene(it: Scene) -> None:
        await it.agreed()
        position = a_position(offset=5)
        it.tail.follow(position)
        it.tail.grant(1000)
        position.seek(2)
        await it.answer(pushed(1, 5))
        position.seek(6)
        await it.answer(pushed(1, 6))
        assert not it.taken and not it.tail.follows(position)
        assert it.call.written[-1].stop.stream_id == 1
        assert it.tail.outstanding_bytes == 1000 - 2 * len(a_batch(0)), "it came all the same"

    play(scene)


def test_a_position_that_is_paused_is_left_at_the_first_that_comes_and_nothing_behind_it_is_taken() -> None:
    async def scene(it: Scene) -> None:
        await it.agreed()
        position = a_position(offset=5)
        it.tail.follow(position)
        position.pause()
        await it.answer(pushed(1, 5))
        position.resume()
        await it.answer(pushed(1, 6))
        assert not it.taken and position.fetch_offset == 5

    play(scene)


def test_an_error_ends_one_partition_and_no_other() -> None:
    async def scene(it: Scene) -> None:
        await it.agreed()
        one, other = a_position(0), a_position(1)
        it.tail.follow(one)
        it.tail.follow(other)
        refusal = pb.StreamResponse(stream_id=1)
        refusal.error.reason = "NOT_LEADER"
        await it.answer(refusal, pushed(2, 0))
        assert [(position, part.error.reason) for position, part in it.taken] == [(one, "NOT_LEADER"), (other, "")]
        assert not it.tail.follows(one) and it.tail.follows(other)

    play(scene)


def test_those_that_are_not_wanted_any_more_are_left() -> None:
    async def scene(it: Scene) -> None:
        await it.agreed()
        one, other = a_position(0), a_position(1)
        it.tail.follow(one)
        it.tail.follow(other)
        it.tail.leave_all_but([other])
        assert not it.tail.follows(one) and it.tail.follows(other)

    play(scene)


def test_a_call_that_ends_leaves_nothing_followed_and_says_so_once() -> None:
    async def scene(it: Scene) -> None:
        await it.agreed()
        position = a_position()
        it.tail.follow(position)
        await it.answer(EOF)
        assert it.tail.has_ended and not it.tail.is_open and it.tail.was_agreed and not it.tail.is_silent
        assert not it.tail.follows(position) and it.changes == 2 and not it.tail.outstanding_bytes

    play(scene)


def test_a_broker_that_refuses_the_call_was_never_agreed_with() -> None:
    async def scene(it: Scene) -> None:
        nothing = grpc.aio.Metadata()
        await it.answer(grpc.aio.AioRpcError(grpc.StatusCode.UNIMPLEMENTED, nothing, nothing))
        assert it.tail.has_ended and not it.tail.was_agreed and it.changes == 1

    play(scene)


def test_a_broker_that_says_nothing_is_taken_for_gone(monkeypatch: Any) -> None:
    monkeypatch.setattr(tails, "SILENCE_S", 0.02)

    async def scene(it: Scene) -> None:
        await it.agreed()
        await asyncio.wait_for(it.ended.wait(), 5)
        assert it.tail.is_silent and it.call.is_cancelled and it.changes == 2

    play(scene)
