"""One Stream call: the client grants credit, the broker pushes committed batches as they come.

Invariants
    the broker sends no more bytes of batches than it has credit for, but for one batch that is larger than all of it
    a partition's batches come in order; partitions with something to send take turns
    after an error nothing more comes for that stream id; the others go on
    what is ready leaves at once; only what becomes ready while a message is being written shares the next one
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import TYPE_CHECKING

import grpc
from lograft.v1 import broker_service_pb2 as pb

from ...partitions.cold_reads import read_when_cached
from ...proto.errors import InvalidRequest, LograftError
from ..metrics import Metrics
from .limits import CREDIT_BYTES_MAX, HEARTBEAT_MS_MAX, HEARTBEAT_MS_MIN, PUSHED_PER_CALL_MAX, check_count
from .status import partition_error

if TYPE_CHECKING:
    from ...partitions.commit_waiters import CommitWaiter
    from ..replicas import Replicas

CHUNK_BYTES_MAX = 1 << 20
"""Of one message: small enough that partitions take turns, large enough that gRPC's cost per message does not show."""
TOGETHER_BYTES_MAX = 64 << 10
"""Of a message that carries several partitions: what comes along is copied once more."""
PARTS_MAX = 500
"""Partitions in one message."""


class PushStream:
    """Carries one Stream call through."""

    def __init__(self, replicas: Replicas, metrics: Metrics) -> None:
        self._replicas = replicas
        self._metrics = metrics
        self._pushed: dict[int, _Pushed] = {}
        self._ready: dict[int, None] = {}
        """Stream ids that may have something to send, in the order of their turns."""
        self._credit = 0
        self._woken = asyncio.Event()
        self._together = False
        self._owes_word = False
        """The client has not heard anything for as long as it wanted to, or asks for the first time."""
        self._heartbeat_s = 0.0
        self._heartbeat: asyncio.TimerHandle | None = None
        self._is_fresh = False
        """Something was written since the last heartbeat was due."""

    async def serve(self, requests: AsyncIterable[pb.StreamRequest], context: grpc.aio.ServicerContext) -> None:
        """Return once the client has ended its side."""
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._woken.set())
        try:
            while not reader.done():
                self._woken.clear()
                response = await self._next()
                if response is not None:
                    self._is_fresh = True
                    await context.write(response)
                else:
                    await self._woken.wait()
            await reader
        finally:
            reader.cancel()
            if self._heartbeat is not None:
                self._heartbeat.cancel()
            for pushed in self._pushed.values():
                pushed.end()

    async def _read(self, requests: AsyncIterable[pb.StreamRequest]) -> None:
        async for request in requests:
            check_count(len(request.others), PUSHED_PER_CALL_MAX, "requests in others")
            self._take(request)
            for other in request.others:
                self._take(other)
            self._woken.set()

    def _take(self, request: pb.StreamRequest) -> None:
        match request.WhichOneof("what"):
            case "start":
                self._start(request.start)
            case "stop":
                self._stop(request.stop.stream_id)
            case "credit_bytes":
                if request.credit_bytes < 0:
                    raise InvalidRequest(f"credit cannot be taken back: {request.credit_bytes} bytes")
                self._credit = min(self._credit + request.credit_bytes, CREDIT_BYTES_MAX)
            case "terms":
                self._agree(request.terms)
            case _:
                raise InvalidRequest("a stream request must start or stop a partition, grant credit, or state terms")

    def _agree(self, terms: pb.StreamRequest.Terms) -> None:
        if terms.heartbeat_ms and not HEARTBEAT_MS_MIN <= terms.heartbeat_ms <= HEARTBEAT_MS_MAX:
            raise InvalidRequest(
                f"a heartbeat each {terms.heartbeat_ms} ms cannot be had; ask for 0 (none), or for "
                f"{HEARTBEAT_MS_MIN} to {HEARTBEAT_MS_MAX}"
            )
        self._together = terms.together
        self._heartbeat_s = terms.heartbeat_ms / 1000
        self._owes_word = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
        if self._heartbeat_s:
            self._heartbeat = asyncio.get_running_loop().call_later(self._heartbeat_s, self._beat)

    def _beat(self) -> None:
        # Within one interval to the next: a message just after a beat makes the silence two of them at most.
        self._heartbeat = asyncio.get_running_loop().call_later(self._heartbeat_s, self._beat)
        if not self._is_fresh:
            self._owes_word = True
            self._woken.set()
        self._is_fresh = False

    def _start(self, start: pb.StreamRequest.Start) -> None:
        self._stop(start.stream_id)
        check_count(len(self._pushed) + 1, PUSHED_PER_CALL_MAX, "partitions to stream")
        self._pushed[start.stream_id] = _Pushed(start)
        self._ready[start.stream_id] = None

    def _stop(self, stream_id: int) -> None:
        self._ready.pop(stream_id, None)
        pushed = self._pushed.pop(stream_id, None)
        if pushed is not None:
            pushed.end()

    async def _next(self) -> pb.StreamResponse | None:
        """The next message to send, or None if there is nothing to send or no credit."""
        message: pb.StreamResponse | None = None
        size = 0
        while self._ready and self._credit > 0:
            part = await self._next_part(min(CHUNK_BYTES_MAX if message is None else TOGETHER_BYTES_MAX, self._credit))
            if part is None:
                continue
            size += len(part.batches)
            if message is None:
                message = part
            else:
                message.others.append(part)
            if not self._together or size >= TOGETHER_BYTES_MAX or len(message.others) >= PARTS_MAX:
                break
        if message is None and self._owes_word:
            message = pb.StreamResponse()
        if message is not None:
            self._owes_word = False
        return message

    async def _next_part(self, bytes_max: int) -> pb.StreamResponse | None:
        """What the partition whose turn it is has; None if that is nothing."""
        stream_id = next(iter(self._ready))
        del self._ready[stream_id]
        pushed = self._pushed[stream_id]
        try:
            before = pushed.next_offset
            response = await read_when_cached(
                partial(pushed.read, self._replicas, bytes_max), self._metrics.traffic.cold_reads.inc
            )
            if self._pushed.get(stream_id) is not pushed:
                return None  # stopped, or begun anew, while it was read
            if response is None or response.next_offset >= response.committed_offset:
                pushed.await_news(self._replicas, self._on_news)
            else:
                self._ready[stream_id] = None
        except LograftError as error:
            if self._pushed.get(stream_id) is not pushed:
                return None
            del self._pushed[stream_id]
            return pb.StreamResponse(stream_id=stream_id, error=partition_error(self._replicas.with_address(error)))
        if response is not None:
            self._credit -= len(response.batches)
            self._metrics.count_fetched(pushed.topic, len(response.batches), response.next_offset - before)
        return response

    def _on_news(self, stream_id: int) -> None:
        if stream_id in self._pushed:
            self._ready[stream_id] = None
            self._woken.set()


class _Pushed:
    """One partition being pushed."""

    __slots__ = ("_start", "_waiter", "next_offset", "topic")

    def __init__(self, start: pb.StreamRequest.Start) -> None:
        self._start = start
        self.next_offset = start.offset
        self._waiter: CommitWaiter | None = None
        self.topic = start.topic

    def read(self, replicas: Replicas, bytes_max: int, only_cached: bool) -> pb.StreamResponse | None:
        """The next batches, or None if there are none yet. Raises what `Replicas.leading` and `Replica.read` raise."""
        start = self._start
        led = replicas.leading(start.topic, start.partition, start.topic_id)
        chunk = led.replica.read(self.next_offset, bytes_max, only_cached=only_cached)
        if not chunk.batches:
            return None
        self.next_offset = chunk.next_offset
        return pb.StreamResponse(
            stream_id=start.stream_id,
            batches=b"".join(chunk.batches),
            next_offset=chunk.next_offset,
            committed_offset=chunk.committed_offset,
            log_start_offset=chunk.start_offset,
            term=chunk.term,
        )

    def await_news(self, replicas: Replicas, on_news: Callable[[int], None]) -> None:
        start = self._start
        led = replicas.leading(start.topic, start.partition, start.topic_id)
        self._waiter = led.replica.on_commit_past(self.next_offset, lambda: on_news(start.stream_id))

    def end(self) -> None:
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None
