"""One client's Produce call: batches in, appended at once and in order; answers out as soon as they are true.

Invariants
    entries of one partition are appended in the order in which the stream brought them, one request after the other
    each request gets exactly one answer, however its entries fare
    an answer leaves only once every entry of its request has what its acks asked for, or has failed
    an answer counts against the budget until it was written: a client that reads none is soon not read from either
    past its budget the broker stops reading from the stream; it drops nothing
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import TYPE_CHECKING

import grpc
from lograft.v1 import broker_service_pb2 as pb
from lograft.v1 import common_pb2

from ...proto.errors import InvalidRequest, LograftError
from ...proto.record_batch import Buffer
from ..appends import append_entry, failure_of
from ..metrics import Metrics
from ..replicas import Led
from .budget import ByteBudget
from .large_messages import ProduceMessage
from .limits import PARTITIONS_PER_REQUEST_MAX, check_count
from .status import partition_error

if TYPE_CHECKING:
    from ...partitions.appendings import Appended, Appending
    from ..replicas import Replicas

REQUEST_OVERHEAD_BYTES = 512
"""What a request costs besides its batches: else a million empty ones would be free."""

ENTRIES_PER_TURN = 50
"""Of a request of thousands, in one turn of the loop: a broker that is held up gives up its leads."""
ANSWER_COPIES = 4
"""What an answer takes in memory, as a multiple of what it takes on the wire."""

MEDIUMS = {"fsync": common_pb2.Durability.MEDIUM_FSYNC, "memory": common_pb2.Durability.MEDIUM_MEMORY}


def durability(appended: Appended) -> common_pb2.Durability:
    """What an acknowledgement bought."""
    return common_pb2.Durability(
        medium=MEDIUMS[appended.durability], copies=appended.copies, replicas=appended.replicas
    )


def awaited(appending: Appending, acks: int) -> asyncio.Future[Appended] | None:
    """What an entry's answer waits for; None with ACKS_NONE."""
    if acks == pb.ACKS_NONE:
        return None
    return appending.persisted if acks == pb.ACKS_LEADER else appending.committed


def check_acks(acks: int) -> int:
    """The acks asked for, the default filled in. Raises InvalidRequest."""
    if acks == pb.ACKS_UNSPECIFIED:
        return pb.ACKS_QUORUM
    if acks not in (pb.ACKS_QUORUM, pb.ACKS_LEADER, pb.ACKS_NONE):
        raise InvalidRequest(f"acks {acks} does not exist; use quorum (1), leader (2) or none (3)", acks=acks)
    return acks


class ProduceStream:
    """Carries one Produce call through. `budget` is this stream's own, under the broker's."""

    def __init__(self, replicas: Replicas, budget: ByteBudget, metrics: Metrics) -> None:
        self._replicas = replicas
        self._budget = budget
        self._metrics = metrics
        self._answers: asyncio.Queue[pb.ProduceResponse | None] = asyncio.Queue()
        self._unanswered = 0
        self._unwritten_bytes = 0
        """Taken of the budget for answers that have not left yet."""
        self._ended = False
        self._input_ended = False

    async def serve(self, requests: AsyncIterable[ProduceMessage], context: grpc.aio.ServicerContext) -> None:
        """Return once the client has ended its side and has all its answers."""
        writer = asyncio.create_task(self._write_answers(context))
        try:
            async for request in requests:
                await self._take(request)
                await self._budget.room()
            self._input_ended = True
            self._end_if_done()
            await writer
        finally:
            writer.cancel()
            self._ended = True
            self._hold(-self._unwritten_bytes)

    async def _take(self, request: ProduceMessage) -> None:
        check_count(request.count, PARTITIONS_PER_REQUEST_MAX, "batches")
        self._unanswered += 1
        await _Request(request, self._budget, self._metrics, self._answer).append_all(request, self._replicas)

    def _answer(self, response: pb.ProduceResponse) -> None:
        self._unanswered -= 1
        if self._ended:
            return
        self._hold(REQUEST_OVERHEAD_BYTES + ANSWER_COPIES * response.ByteSize())
        self._answers.put_nowait(response)
        self._end_if_done()

    def _hold(self, size: int) -> None:
        self._unwritten_bytes += size
        if size > 0:
            self._budget.take(size)
        else:
            self._budget.give_back(-size)

    def _end_if_done(self) -> None:
        if self._input_ended and not self._unanswered:
            self._answers.put_nowait(None)

    async def _write_answers(self, context: grpc.aio.ServicerContext) -> None:
        while (response := await self._answers.get()) is not None:
            await context.write(response)
            # Not sooner: whoever sends and does not read would pile up answers here.
            self._hold(-REQUEST_OVERHEAD_BYTES - ANSWER_COPIES * response.ByteSize())


class _Request:
    """One request under way: it lives as long as one of its entries is unanswered."""

    __slots__ = ("_answer", "_began", "_budget", "_metrics", "_request_id", "_results", "_waiting")

    def __init__(
        self,
        request: ProduceMessage,
        budget: ByteBudget,
        metrics: Metrics,
        answer: Callable[[pb.ProduceResponse], None],
    ) -> None:
        self._answer = answer
        self._began = time.monotonic()
        self._budget = budget
        self._metrics = metrics
        self._request_id = request.request_id
        self._results: list[pb.ProduceResponse.Result] = []
        self._waiting = 1  # for `append_all` to have seen all entries
        self._budget.take(REQUEST_OVERHEAD_BYTES)

    async def append_all(self, request: ProduceMessage, replicas: Replicas) -> None:
        """The stream brings nothing else meanwhile, so its entries stay in order."""
        try:
            for number, (entry, batch) in enumerate(request.entries(), start=1):
                if number % ENTRIES_PER_TURN == 0:
                    await asyncio.sleep(0)
                self._append(entry, batch, request.acks, replicas)
        finally:
            self._one_less()

    def _append(self, entry: pb.ProduceRequest.Entry, batch: Buffer, acks: int, replicas: Replicas) -> None:
        result = pb.ProduceResponse.Result(topic=entry.topic, partition=entry.partition, base_offset=-1)
        self._results.append(result)
        first_open = entry.first_open if entry.HasField("first_open") else None
        try:
            acks = check_acks(acks)
            led, appending = append_entry(
                replicas, entry.topic, entry.partition, entry.topic_id, batch, first_open, self._metrics
            )
        except LograftError as error:
            self._fail(result, error)
            return
        # With ACKS_NONE too, the bytes count until the leader's disk has them: that is what slows the client down.
        future = awaited(appending, acks)
        self._budget.take(len(batch))
        if future is None:
            appending.persisted.add_done_callback(partial(_give_back, self._budget, len(batch)))
        else:
            self._waiting += 1
            future.add_done_callback(partial(self._on_done, led, result, len(batch)))

    def _on_done(
        self, led: Led, result: pb.ProduceResponse.Result, size: int, future: asyncio.Future[Appended]
    ) -> None:
        self._budget.give_back(size)
        error = failure_of(future)
        if error is None:
            appended = future.result()
            result.base_offset = -1 if appended.base_offset is None else appended.base_offset
            result.term = appended.term
            result.duplicate = appended.duplicate
            result.durability.CopyFrom(durability(appended))
            result.log_start_offset = led.replica.log_start
        else:
            self._fail(result, error)
        self._one_less()

    def _fail(self, result: pb.ProduceResponse.Result, error: LograftError) -> None:
        self._metrics.count_rejected(error.reason)
        result.error.CopyFrom(partition_error(error))

    def _one_less(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._budget.give_back(REQUEST_OVERHEAD_BYTES)
            self._metrics.traffic.produce_ack_seconds.observe(time.monotonic() - self._began)
            self._answer(pb.ProduceResponse(request_id=self._request_id, results=self._results))


def _give_back(budget: ByteBudget, size: int, future: asyncio.Future[Appended]) -> None:
    budget.give_back(size)
    failure_of(future)  # looked at, so that asyncio does not report it as forgotten
