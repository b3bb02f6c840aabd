"""One Stream call: the client grants credit, the broker pushes committed batches as they come.

Invariants
    the broker sends no more bytes of batches than it has credit for, but for one batch that is larger than all of it
    a partition's batches come in order; partitions with something to send take turns
    after an error nothing more comes for that stream id; the others go on
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
from .limits import CREDIT_BYTES_MAX, PUSHED_PER_CALL_MAX, check_count
from .status import partition_error

if TYPE_CHECKING:
    from ...partitions.replica import CommitWaiter
    from ..replicas import Replicas

CHUNK_BYTES_MAX = 1 << 20
"""Of one message: small enough that partitions take turns, large enough that gRPC's cost per message does not show."""


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
        self._input_ended = False

    async def serve(self, requests: AsyncIterable[pb.StreamRequest], context: grpc.aio.ServicerContext) -> None:
        """Return once the client has ended its side."""
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._woken.set())
        try:
            while not reader.done():
                response = await self._next()
                if response is not None:
                    await context.write(response)
                else:
                    self._woken.clear()
                    await self._woken.wait()
            await reader
        finally:
            reader.cancel()
            for pushed in self._pushed.values():
                pushed.end()

    async def _read(self, requests: AsyncIterable[pb.StreamRequest]) -> None:
        async for request in requests:
            match request.WhichOneof("what"):
                case "start":
                    self._start(request.start)
                case "stop":
                    self._stop(request.stop.stream_id)
                case "credit_bytes":
                    if request.credit_bytes < 0:
                        raise InvalidRequest(f"credit cannot be taken back: {request.credit_bytes} bytes")
                    self._credit = min(self._credit + request.credit_bytes, CREDIT_BYTES_MAX)
                case _:
                    raise InvalidRequest("a stream request must start or stop a partition, or grant credit")
            self._woken.set()

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
        while self._ready and self._credit > 0:
            stream_id = next(iter(self._ready))
            del self._ready[stream_id]
            pushed = self._pushed[stream_id]
            try:
                bytes_max = min(CHUNK_BYTES_MAX, self._credit)
                before = pushed.next_offset
                response = await read_when_cached(
                    partial(pushed.read, self._replicas, bytes_max), self._metrics.traffic.cold_reads.add
                )
                if self._pushed.get(stream_id) is not pushed:
                    continue  # stopped, or begun anew, while it was read
                if response is None:
                    pushed.await_news(self._replicas, self._on_news)
            except LograftError as error:
                if self._pushed.get(stream_id) is not pushed:
                    continue
                del self._pushed[stream_id]
                return pb.StreamResponse(stream_id=stream_id, error=partition_error(self._replicas.with_address(error)))
            if response is not None:
                self._ready[stream_id] = None
                self._credit -= len(response.batches)
                self._metrics.count_fetched(pushed.topic, len(response.batches), response.next_offset - before)
                return response
        return None

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
