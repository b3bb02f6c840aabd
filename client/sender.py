"""Batches out, answers in: one Produce stream to each broker that leads something we write to.

Invariants
    a lane's attempts under way are all on one stream, so they reach the leader in order
    every attempt taken from a lane is landed there exactly once: acknowledged, refused, or lost with its stream
    nothing is taken from a lane before the stream's broker has answered, so a dead broker leaves no doubt behind
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from lograft.v1 import broker_service_pb2, common_pb2

from ..proto.errors import (
    BrokerUnavailable,
    LograftError,
    NoLeader,
    NotLeader,
    RequestTimedOut,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .connection import Connection, backoff_s, error_of_call, error_of_partition
from .delivery import Durability
from .lane import Attempt, Lane
from .messages import produce_request
from .metadata import Metadata

_REQUEST_BYTES_TARGET = 1 << 20
"""A message is closed once it holds this much; batches of many partitions share it. One more batch, of 12 MiB at
most, may pass it: that still fits in 16 MiB."""
_STREAM_BYTES_MAX = 8 << 20
_STREAM_REQUESTS_MAX = 64
SMALL_BYTES = 16 << 10
SMALL_REQUESTS_MAX = 1
"""Unanswered at a time, to one broker. What comes meanwhile and fills no batch waits for the answer, and goes with all
that came: a record alone is not held up, and a stream of them does not cost every broker a message and a write each."""
ANSWER_SOON_S = 0.02
"""A request that is unanswered for longer holds nothing up: its partition may be in trouble, others are not."""
_REACH_TIMEOUT_S = 1.5
_SWEEP_S = 0.2
_SUSPICION_S = 1.0
"""A stream that owes an answer and has been silent this long: ask another broker who leads."""
_METADATA_AGE_S = 30.0
_HINTS_FOLLOWED_AT_ONCE = 3

_Entry = broker_service_pb2.ProduceRequest.Entry
_END_OF_STREAM: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it

_MEDIA = {
    common_pb2.Durability.MEDIUM_FSYNC: "fsync",
    common_pb2.Durability.MEDIUM_MEMORY: "memory",
    common_pb2.Durability.MEDIUM_UNSPECIFIED: "none",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long the sender waits for what, in seconds."""

    delivery_s: float = 30.0
    """From a batch's first record to giving it up."""
    answer_s: float = 10.0
    """For an answer to a request before it is sent again."""


@dataclass(slots=True)
class _Request:
    attempts: list[tuple[Lane, Attempt]]
    size: int
    sent_at: float


class LeaderStream:
    """The Produce stream to the broker at `address`. It ends with its first error; the sender then opens another."""

    def __init__(self, sender: Sender, address: str) -> None:
        self.address = address
        self._sender = sender
        self._ready: dict[Lane, None] = {}  # in the order they became ready
        self._is_pressed = False
        """Some ready lane holds a batch that takes no more records."""
        self._holding: asyncio.TimerHandle | None = None
        self._wakeup = asyncio.Event()
        self._requests: dict[int, _Request] = {}
        self._last_id = 0
        self._bytes = 0
        self._call: Any = None
        self._ended: LograftError | None = None
        self.heard_at = sender.now()
        self.suspected_at = 0.0
        self.task = asyncio.ensure_future(self._run())

    def offer(self, lane: Lane) -> None:
        """The lane may have something to send here."""
        self._ready[lane] = None
        self._is_pressed = self._is_pressed or lane.has_closed_batch
        self._wakeup.set()

    @property
    def owes_an_answer(self) -> bool:
        return bool(self._requests)

    def requests_before(self, moment: float) -> list[int]:
        return [number for number, request in self._requests.items() if request.sent_at < moment]

    def lanes_of(self, number: int) -> list[Lane]:
        return [lane for lane, _ in self._requests[number].attempts]

    def lanes_under_way(self) -> list[Lane]:
        """Each once, in the order in which they were first sent."""
        return list(dict.fromkeys(lane for request in self._requests.values() for lane, _ in request.attempts))

    def stop_waiting(self, number: int) -> None:
        """Count the request no more; its answer is not listened to."""
        self._bytes -= self._requests.pop(number).size
        self._wakeup.set()

    def break_off(self, error: LograftError) -> None:
        self._ended = self._ended or error
        self._wakeup.set()
        if self._call is not None:
            self._call.cancel()
        else:
            self.task.cancel()

    # Running -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        reader: asyncio.Task[None] | None = None
        try:
            await self._reach()
            self._call = self._sender.connection.produce(self.address)
            reader = asyncio.ensure_future(self._read())
            await self._write()
        except grpc.aio.AioRpcError as error:
            self._ended = self._ended or error_of_call(error, self.address)
        except LograftError as error:
            self._ended = self._ended or error
        except (asyncio.CancelledError, asyncio.InvalidStateError):
            # Of the call, by gRPC or by break_off; writing to a call that has ended is an invalid state.
            self._ended = self._ended or BrokerUnavailable(f"the stream to {self.address} was broken off")
        finally:
            if self._call is not None:
                self._call.cancel()
            if reader is not None:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
            self._end()

    async def _reach(self) -> None:
        """Have the broker answer once, before anything is taken from a lane."""
        connection = self._sender.connection
        method = connection.broker(self.address).Metadata
        await connection.call(self.address, method, broker_service_pb2.MetadataRequest(), timeout_s=_REACH_TIMEOUT_S)
        self.heard_at = self._sender.now()

    async def _write(self) -> None:
        while self._ended is None:
            request = self._collect()
            if request is None:
                self._wakeup.clear()
                if self._ended is None:
                    await self._wakeup.wait()
                continue
            await self._call.write(request)

    def _collect(self) -> bytes | None:
        """The next message: one batch of each ready lane in turn, until it is large enough."""
        if not self._ready or self._bytes >= _STREAM_BYTES_MAX or len(self._requests) >= _STREAM_REQUESTS_MAX:
            return None
        if not self._is_pressed and self._may_expect_answers():
            return None
        taken: list[tuple[Lane, Attempt]] = []
        size = 0
        while self._ready and size < _REQUEST_BYTES_TARGET:
            lane = next(iter(self._ready))
            del self._ready[lane]
            if not self._sender.may_go(lane, self):
                continue
            attempt = lane.take()
            if attempt is None:
                continue
            lane.carrier = self
            taken.append((lane, attempt))
            size += len(attempt.batch.encoded)
            if lane.is_sendable:
                self._ready[lane] = None  # behind the others
        self._is_pressed = bool(self._ready)
        if not taken:
            return None
        if not self._requests:
            self.heard_at = self._sender.now()  # silence counts from when an answer is owed
        self._last_id += 1
        self._requests[self._last_id] = _Request(taken, size, self._sender.now())
        self._bytes += size
        return produce_request(
            self._last_id,
            self._sender.acks,
            [
                (
                    _Entry(
                        topic=lane.partition.topic,
                        partition=lane.partition.partition,
                        topic_id=lane.topic_id,
                        first_open=attempt.first_open,
                    ),
                    attempt.batch.encoded,
                )
                for lane, attempt in taken
            ],
        )

    def _may_expect_answers(self) -> bool:
        """Are so many small requests under way that what is ready had better wait for an answer?"""
        now = self._sender.now()
        recent = [
            request.sent_at
            for request in self._requests.values()
            if request.size < SMALL_BYTES and now - request.sent_at < ANSWER_SOON_S
        ]
        if len(recent) < SMALL_REQUESTS_MAX:
            return False
        if self._holding is None:
            wait_s = min(recent) + ANSWER_SOON_S - now
            self._holding = asyncio.get_running_loop().call_later(wait_s, self._hold_no_more)
        return True

    def _hold_no_more(self) -> None:
        self._holding = None
        self._wakeup.set()

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not _END_OF_STREAM:
                self._take_in(response)
            error: LograftError = BrokerUnavailable(f"the broker at {self.address} ended the stream")
        except grpc.aio.AioRpcError as failure:
            error = error_of_call(failure, self.address)
        except (asyncio.CancelledError, asyncio.InvalidStateError):
            error = BrokerUnavailable(f"the stream to {self.address} was broken off")
        self._ended = self._ended or error
        self._wakeup.set()
        self._call.cancel()  # a write that waits for the broker to read would wait for ever

    def _take_in(self, response: broker_service_pb2.ProduceResponse) -> None:
        self.heard_at = self._sender.now()
        request = self._requests.pop(response.request_id, None)
        if request is None:
            return  # answered twice, or after we stopped waiting
        self._bytes -= request.size
        self._wakeup.set()
        if len(response.results) != len(request.attempts):
            error = LograftError(
                f"the broker at {self.address} answered {len(response.results)} of {len(request.attempts)} batches"
            )
            for lane, attempt in request.attempts:
                self._sender.lost(lane, attempt, error)
            return
        for (lane, attempt), result in zip(request.attempts, response.results, strict=True):
            self._sender.answered(lane, attempt, result, self.address)

    def _end(self) -> None:
        error = self._ended or BrokerUnavailable(f"the stream to {self.address} ended")
        requests, self._requests = self._requests, {}
        ready, self._ready = self._ready, {}
        self._sender.stream_ended(
            self, error, [pair for request in requests.values() for pair in request.attempts], list(ready)
        )


class Sender:
    """Carries the batches of one producer's lanes to their leaders and settles them, whatever happens on the way."""

    def __init__(
        self,
        connection: Connection,
        metadata: Metadata,
        *,
        acks: broker_service_pb2.Acks,
        patience: Patience,
        on_topic_gone: Callable[[str], None],
    ) -> None:
        self.connection = connection
        self.acks = acks
        self.now = connection.environment.now
        self._metadata = metadata
        self._patience = patience
        self._on_topic_gone = on_topic_gone
        self._streams: dict[str, LeaderStream] = {}
        self._busy: dict[Lane, None] = {}
        self._resting: dict[Lane, asyncio.Task[None]] = {}
        self._doubted: dict[Lane, LograftError] = {}  # a broker says that topic or partition does not exist
        self._sweeper: asyncio.Task[None] | None = None
        self._refreshed_at = self.now()
        self._used_topics: set[str] = set()
        """Those sent to since the metadata was last refreshed for its age."""
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False

    # Lanes ---------------------------------------------------------------------------------------------------------

    def expect(self, lane: Lane) -> None:
        """The lane has records to settle. They may linger yet, but are to be known to who flushes or closes: also if
        their topic is forgotten meanwhile."""
        self._busy[lane] = None

    def wake(self, lane: Lane) -> None:
        """The lane may have something to send."""
        self._busy[lane] = None
        self._used_topics.add(lane.partition.topic)
        if self._sweeper is None and not self._closed:
            self._sweeper = asyncio.ensure_future(self._sweep())
        if self._closed or lane in self._resting:
            return
        address = self._metadata.leader_address(*lane.partition)
        if address is None:
            self._rest(lane)
            return
        stream = self._streams.get(address)
        if stream is None:
            stream = self._streams[address] = LeaderStream(self, address)
        stream.offer(lane)

    def may_go(self, lane: Lane, stream: LeaderStream) -> bool:
        """Is this the stream for the lane's next batch?"""
        if lane in self._resting:
            return False
        if self._metadata.leader_address(*lane.partition) != stream.address:
            self.wake(lane)
            return False
        return lane.carrier is stream or not lane.in_flight

    def _rest(self, lane: Lane) -> None:
        """Wait a while, ask who leads, and go on."""
        if lane not in self._resting and not self._closed:
            self._resting[lane] = asyncio.ensure_future(self._rest_then_wake(lane))

    async def _rest_then_wake(self, lane: Lane) -> None:
        topic = lane.partition.topic
        try:
            wait_s = backoff_s(lane.failed_tries, self.connection.environment.chance, longest_s=0.25)
            lane.failed_tries += 1
            await asyncio.sleep(wait_s)
            doubt = self._doubted.get(lane)
            if doubt is not None:
                await self._look_again(lane, doubt)
            else:
                await self._metadata.refresh(topic)
                if topic not in self._metadata.topics:
                    await self._look_again(lane, UnknownTopic(f"topic {topic!r} is gone", topic=topic))
        except LograftError as error:
            lane.last_error = error
        finally:
            if self._resting.get(lane) is asyncio.current_task():
                del self._resting[lane]
        if not lane.is_idle:
            self.wake(lane)

    async def _look_again(self, lane: Lane, doubt: LograftError) -> None:
        """A broker says that the lane's topic is gone. It may lag behind; ask around before records are given up."""
        topic, partition = lane.partition
        gone: LograftError | None = None
        try:
            view = await self._metadata.topic(topic, timeout_s=self._patience.answer_s, fresh=True)
            if view.topic_id != lane.topic_id or partition >= len(view.partitions):
                gone = doubt
        except UnknownTopic as error:
            gone = error
        self._doubted.pop(lane, None)
        if gone is not None:
            self._on_topic_gone(lane.topic_id)
            lane.fail_all(gone)

    # Answers -------------------------------------------------------------------------------------------------------

    def answered(
        self, lane: Lane, attempt: Attempt, result: broker_service_pb2.ProduceResponse.Result, address: str
    ) -> None:
        """One batch's part of an answer."""
        if not result.HasField("error"):
            medium = _MEDIA.get(result.durability.medium, "none")
            durability = Durability(medium, result.durability.copies, result.durability.replicas)  # type: ignore[arg-type]
            lane.acknowledged(attempt, result.base_offset, result.term, durability)
        else:
            self._refused(lane, attempt, error_of_partition(result.error), address)
        if lane.is_sendable:
            self.wake(lane)

    def _refused(self, lane: Lane, attempt: Attempt, error: LograftError, address: str) -> None:
        if isinstance(error, UnknownTopic | UnknownTopicId | UnknownPartition):
            self._doubted[lane] = error
            self._metadata.doubt(address)
            lane.refused(attempt, NoLeader(str(error)))
            self._rest(lane)
            return
        lane.refused(attempt, error)
        if isinstance(error, NotLeader | NoLeader):
            self._metadata.note_not_leader(*lane.partition, error, address)
        if not error.retriable or lane.in_flight or lane.is_idle:
            return  # nothing to decide, or not before the last attempt under way has landed
        hinted = self._metadata.leader_address(*lane.partition) not in (None, address)
        if hinted and lane.failed_tries < _HINTS_FOLLOWED_AT_ONCE:
            lane.failed_tries += 1
        else:
            self._rest(lane)

    def lost(self, lane: Lane, attempt: Attempt, error: LograftError) -> None:
        """No answer will come to this attempt."""
        lane.lost(attempt, error)
        self._rest(lane)

    def stream_ended(
        self, stream: LeaderStream, error: LograftError, attempts: list[tuple[Lane, Attempt]], ready: list[Lane]
    ) -> None:
        """Its attempts are lost; its lanes look for a leader again."""
        if self._streams.get(stream.address) is stream:
            del self._streams[stream.address]
        self._metadata.doubt(stream.address)
        for lane, attempt in attempts:
            self.lost(lane, attempt, error)
        for lane in ready:
            lane.last_error = error
            self._rest(lane)

    # Time ----------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """Look at all that time alone can bring: deliveries too late, answers overdue, metadata too old."""
        now = self.now()
        for lane in list(self._busy):
            self._give_up_late(lane, now)
            if lane.is_idle:
                del self._busy[lane]
        for stream in list(self._streams.values()):
            if stream.owes_an_answer:
                self._watch(stream, now)
        # Also of who sends a record now and then, and is never found busy: it has to hear of new partitions too.
        if now - self._refreshed_at > _METADATA_AGE_S and self._used_topics:
            topics, self._used_topics = self._used_topics, set()
            self._refresh_soon(topics)

    def _give_up_late(self, lane: Lane, now: float) -> None:
        while (oldest := lane.oldest) is not None and now - oldest.begun_at > self._patience.delivery_s:
            why = f"; last heard: {lane.last_error}" if lane.last_error else ""
            late = RequestTimedOut(f"not acknowledged within {self._patience.delivery_s:g} s{why}")
            lane.fail(oldest, late)

    def _watch(self, stream: LeaderStream, now: float) -> None:
        if now - stream.heard_at > self._patience.answer_s:
            stream.break_off(RequestTimedOut(f"the broker at {stream.address} has been silent for too long"))
            return
        for number in stream.requests_before(now - self._patience.answer_s):
            for lane in stream.lanes_of(number):
                lane.abandon()
                self._rest(lane)
            stream.stop_waiting(number)
        if now - max(stream.heard_at, stream.suspected_at) > _SUSPICION_S:
            stream.suspected_at = now
            self._metadata.doubt(stream.address)
            lanes = stream.lanes_under_way()
            self._refresh_soon({lane.partition.topic for lane in lanes})
        for lane in stream.lanes_under_way() if stream.suspected_at > stream.heard_at else ():
            leader = self._metadata.leader_address(*lane.partition)
            if lane.carrier is stream and lane.in_flight and leader not in (None, stream.address):
                lane.abandon()  # another leads by now, and the silent one may never answer
                self.wake(lane)

    def _refresh_soon(self, topics: set[str]) -> None:
        self._refreshed_at = self.now()
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._refresh(sorted(topics)))

    async def _refresh(self, topics: list[str]) -> None:
        try:
            await self._metadata.refresh(*topics)
        except LograftError:
            return  # whoever needs an answer asks again, and tells

    # End -----------------------------------------------------------------------------------------------------------

    def unsettled(self) -> list[Lane]:
        return [lane for lane in self._busy if not lane.is_idle]

    async def close(self) -> None:
        """Send nothing more. What is unsettled fails."""
        self._closed = True
        closing = BrokerUnavailable("the producer was closed before this record was acknowledged")
        for lane in list(self._busy):
            lane.fail_all(closing)
        tasks: list[asyncio.Task[None]] = [task for task in (self._sweeper, self._refreshing) if task is not None]
        tasks += self._resting.values()
        for task in tasks:
            task.cancel()
        streams = list(self._streams.values())
        for stream in streams:
            stream.break_off(closing)
        await asyncio.gather(*tasks, *(stream.task for stream in streams), return_exceptions=True)
        self._busy.clear()
