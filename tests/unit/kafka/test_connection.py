"""One connection over a transport that only remembers: order, pipelining, and what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from lograft.node.kafka.apis import PRODUCE
from lograft.node.kafka.connection import READ_AHEAD_BYTES, REQUEST_OVERHEAD_BYTES, Answer, KafkaConnection
from lograft.node.kafka.frames import MalformedRequest
from lograft.node.rpc.budget import SharedBudget

METADATA = 3


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.reads = True
        self.aborted = False
        self.is_full = False
        self.protocol: Any = None

    def set_write_buffer_limits(self, high: int) -> None: ...
    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.1", 4711) if name == "peername" else None

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def write(self, data: bytes) -> None:
        self.written += data
        if self.is_full:
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.written) if self.is_full else 0

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def abort(self) -> None:
        self.aborted = True


class Owner:
    """Takes each request, and answers when the test says so."""

    request_bytes_max, in_flight_bytes_max = 1 << 20, 4_000

    def __init__(self) -> None:
        self.handling: Any = self
        self.budget = SharedBudget(1 << 20)
        self.taken: list[Answer] = []
        self.why: list[str] = []
        self.going: dict[int, asyncio.Event] = {}
        self.held = 0
        self.failures: list[BaseException] = []

    def take(self, frame: Any, head: Any, answer: Answer, connection: Any) -> Coroutine[Any, Any, None] | None:
        if head.api_version == 99:
            raise MalformedRequest("what is this")
        if head.api_version == 98:
            raise ZeroDivisionError
        self.taken.append(answer)
        if head.api_key == PRODUCE:
            return None
        return self._carry_out(answer)

    async def _carry_out(self, answer: Answer) -> None:
        going = self.going[answer.request.correlation_id] = asyncio.Event()
        await going.wait()
        answer.give([b"ok"])

    def opened(self, connection: Any) -> None: ...
    def holds(self, connection: Any, change: int) -> None:
        self.held += change

    def ended(self, connection: Any, why: str, *, is_usual: bool) -> None:
        self.why.append(why)

    def lease_for(self, peer: str) -> Any:
        return self.budget.lease(peer)

    def failed(self, connection: Any, request: Any, error: BaseException) -> None:
        self.failures.append(error)


def a_frame(key: int, number: int, *, version: int = 0, size: int = 0) -> bytes:
    body = key.to_bytes(2, "big") + version.to_bytes(2, "big") + number.to_bytes(4, "big") + bytes(size)
    return len(body).to_bytes(4, "big") + body


def connected() -> tuple[Owner, Transport, KafkaConnection]:
    owner, transport = Owner(), Transport()
    connection = transport.protocol = KafkaConnection(owner)
    connection.connection_made(transport)  # type: ignore[arg-type]
    return owner, transport, connection


def answered(transport: Transport) -> list[int]:
    """Correlation ids, in the order in which they left."""
    found, rest = [], transport.written
    while rest:
        size = int.from_bytes(rest[:4], "big")
        found.append(int.from_bytes(rest[4:8], "big"))
        rest = rest[4 + size :]
    return found


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@in_loop
async def test_batches_are_taken_at_once_and_their_answers_leave_in_order() -> None:
    owner, transport, connection = connected()
    connection.data_received(b"".join(a_frame(PRODUCE, number) for number in range(3)))
    assert [one.request.correlation_id for one in owner.taken] == [0, 1, 2]
    owner.taken[2].give([b"ok"])
    owner.taken[0].give([b"ok"])
    assert answered(transport) == [0]
    owner.taken[1].give([b"ok"])
    assert answered(transport) == [0, 1, 2] and owner.budget.taken == 0


@in_loop
async def test_anything_else_waits_for_what_came_before_and_holds_up_what_comes_after() -> None:
    owner, transport, connection = connected()
    connection.data_received(a_frame(PRODUCE, 1) + a_frame(METADATA, 2) + a_frame(PRODUCE, 3) + a_frame(METADATA, 4))
    await turns()
    assert [one.request.correlation_id for one in owner.taken] == [1]
    owner.taken[0].give([b"ok"])
    await turns()
    assert [one.request.correlation_id for one in owner.taken] == [1, 2]
    owner.going[2].set()
    await turns()
    assert [one.request.correlation_id for one in owner.taken] == [1, 2, 3]
    owner.taken[2].give([b"ok"])
    await turns()
    owner.going[4].set()
    await turns()
    assert answered(transport) == [1, 2, 3, 4]


@in_loop
async def test_a_request_that_wants_no_answer_gets_none_and_does_not_hold_up_the_next() -> None:
    owner, transport, connection = connected()
    connection.data_received(a_frame(PRODUCE, 1) + a_frame(PRODUCE, 2))
    owner.taken[1].give([b"ok"])
    owner.taken[0].give(None)
    assert answered(transport) == [2]


@in_loop
async def test_past_its_bytes_in_flight_nothing_more_is_taken_and_little_is_read() -> None:
    owner, transport, connection = connected()
    frame = a_frame(PRODUCE, 1, size=1500)
    connection.data_received(frame * 3)
    assert len(owner.taken) == 2 and owner.budget.taken == 2 * (len(frame) - 4 + REQUEST_OVERHEAD_BYTES)
    connection.data_received(bytes(READ_AHEAD_BYTES))
    assert not transport.reads
    for answer in list(owner.taken):
        answer.give([b"ok"])
    await turns()
    assert len(owner.taken) == 3


@in_loop
async def test_what_a_client_does_not_read_counts_until_it_does_and_holds_up_its_requests() -> None:
    owner, transport, connection = connected()
    transport.is_full = True
    connection.data_received(a_frame(PRODUCE, 1) + a_frame(PRODUCE, 2))
    owner.taken[0].give([b"ok"])
    owner.taken[1].give([b"ok"])
    connection.data_received(a_frame(PRODUCE, 3))
    assert answered(transport) == [1] and owner.budget.taken and len(owner.taken) == 2 and connection.is_stuck
    transport.is_full = False
    connection.resume_writing()
    await turns()
    assert answered(transport) == [1, 2] and len(owner.taken) == 3
    owner.taken[2].give([b"ok"])
    assert owner.budget.taken == 0


@in_loop
async def test_what_is_no_request_ends_the_connection_and_what_waited_is_given_up() -> None:
    owner, transport, connection = connected()
    connection.data_received(a_frame(METADATA, 1))
    await turns()
    connection.data_received(b"\xff\xff\xff\xff")
    await turns()
    assert transport.aborted and len(owner.why) == 1 and not owner.taken[0].is_given and owner.budget.taken == 0
    owner, transport, connection = connected()
    connection.data_received(a_frame(METADATA, 1, version=99))
    assert transport.aborted and owner.why == ["what is this"] and owner.budget.taken == 0


@in_loop
async def test_a_client_that_goes_away_leaves_only_its_batches_behind_until_they_are_on_disk() -> None:
    owner, _, connection = connected()
    connection.data_received(a_frame(PRODUCE, 1))
    connection.connection_lost(None)
    assert owner.why == ["closed by the client"] and owner.budget.taken > 0
    owner.taken[0].give([b"ok"])
    assert owner.budget.taken == 0
    owner, _, connection = connected()
    connection.data_received(a_frame(METADATA, 1))
    await turns()
    connection.connection_lost(None)
    await turns()
    assert owner.budget.taken == 0 and not owner.taken[0].is_given


@in_loop
async def test_a_request_is_whole_however_its_bytes_come_in() -> None:
    owner, transport, connection = connected()
    for byte in a_frame(PRODUCE, 7, size=40):
        connection.data_received(bytes([byte]))
    assert len(owner.taken) == 1 and connection.amid_since is None
    assert owner.held == 0
    connection.data_received(b"\0\0")
    assert owner.held == 2
    connection.mute(True)
    assert not transport.reads and connection.amid_since is None  # it is not the client that is slow
    connection.mute(False)
    assert connection.amid_since is not None and not connection.is_idle and transport.reads
    connection.connection_lost(None)
    assert owner.held == 0


@in_loop
async def test_a_mistake_of_ours_is_logged_and_ends_the_connection_and_holds_nothing() -> None:
    owner, transport, connection = connected()
    connection.data_received(a_frame(METADATA, 1, version=98) + a_frame(METADATA, 2))
    assert transport.aborted and owner.budget.taken == 0 and owner.held == 0
    assert [type(error) for error in owner.failures] == [ZeroDivisionError]


@in_loop
async def test_batches_that_cannot_be_read_or_carried_out_hold_nothing_once_their_connection_ended() -> None:
    for version in (98, 99):
        owner, transport, connection = connected()
        connection.data_received(a_frame(PRODUCE, 1, version=version, size=100))
        assert transport.aborted and owner.budget.taken == 0


@in_loop
async def test_batches_before_one_that_cannot_be_read_hold_memory_until_they_are_on_disk() -> None:
    owner, transport, connection = connected()
    connection.data_received(a_frame(PRODUCE, 1) + a_frame(PRODUCE, 2, version=99))
    assert transport.aborted and owner.budget.taken == owner.taken[0].size > 0
    owner.taken[0].give([b"ok"])
    assert owner.budget.taken == 0


@in_loop
async def test_batches_whose_turns_had_not_begun_when_their_connection_ended_hold_nothing_for_ever() -> None:
    owner, transport, connection = connected()
    ends: list[str] = []

    class Thousands:
        """Takes a request of thousands of batches, in turns."""

        def take(self, frame: Any, head: Any, answer: Answer, connection: Any) -> Coroutine[Any, Any, None]:
            return self._append_all(answer)

        async def _append_all(self, answer: Answer) -> None:
            try:
                await asyncio.sleep(0)
            finally:
                ends.append("all that was appended is on disk")
                answer.give([b"ok"])

    owner.handling = Thousands()
    connection.data_received(a_frame(PRODUCE, 1, size=1000) + b"\xff\xff\xff\xff")
    await turns()
    assert transport.aborted and ends and owner.budget.taken == 0


@in_loop
async def test_requests_that_wait_behind_a_slow_one_are_not_taken_for_a_client_that_drips() -> None:
    owner, _, connection = connected()
    connection.data_received(a_frame(METADATA, 1) + a_frame(METADATA, 2) + a_frame(METADATA, 3))
    await turns()
    assert connection.waiting_bytes and connection.amid_since is None
    connection.data_received(a_frame(METADATA, 4)[:-1])
    await turns()
    assert connection.amid_since is None  # it is this broker that lets it wait
    owner.going[1].set()
    await turns()
    owner.going[2].set()
    await turns()
    assert connection.amid_since is not None  # of the fourth not all is there
