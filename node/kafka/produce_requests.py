"""Produce and InitProducerId: batches go from the client's bytes into the log as they are.

Invariants
    batches of one connection are appended in the order in which they came, those of a partition several at once;
        what comes after them and is no batch waits for their answers
    an answer leaves once every batch of its request has what its acks asked for, or has failed; with acks=0 there is
        none, and a failure ends the connection: else the client would never know
    acks=-1 waits for the topic's durability on a majority, 1 for the leader's own copy
    no record is decoded
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from ...proto.errors import InvalidRecord, LograftError, UnsupportedCompression
from ...proto.record_batch import HEADER_SIZE, Compression
from ..appends import GatheredAppends, failure_of
from ..metrics import Metrics
from ..replicas import Led, Replicas
from .connection import Answer
from .errors import (
    INVALID_REQUIRED_ACKS,
    NONE,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    message_of,
    name_of,
    partition_code,
)
from .hot_codec import PRODUCE_FLEXIBLE_FROM, ProducedAnswer, ProducedBatch, ProduceRequest, produce_response
from .requests import Call

if TYPE_CHECKING:
    from ...partitions.appendings import Appended, Appending

BATCHES_PER_TURN = 50
"""Of a request of thousands, in one turn of the loop: a broker that is held up gives up its leads."""
PRODUCER_ID_BITS = 62
_ZSTD_FROM = 7
_ACKS = (-1, 0, 1)


class ProduceRequests:
    def __init__(self, replicas: Replicas, metrics: Metrics, random: Random) -> None:
        self._appends = GatheredAppends(replicas, metrics)
        self._metrics = metrics
        self._random = random

    def produce(self, request: ProduceRequest, call: Call, answer: Answer) -> Coroutine[Any, Any, None] | None:
        under_way = _UnderWay(self._appends, self._metrics, request, call.version, answer)
        if len(request.batches) <= BATCHES_PER_TURN:
            for batch in request.batches:
                under_way.append(batch)
            under_way.one_less()
            return None
        return under_way.append_all(request.batches)

    async def init_producer_id(self, request: Any, call: Call) -> dict[str, Any]:
        if request.transactional_id is not None:
            return {"error_code": TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "producer_id": -1, "producer_epoch": -1}
        # Drawn as native clients draw theirs: nothing is to be remembered, and none is given out twice.
        return {"error_code": NONE, "producer_id": self._random.getrandbits(PRODUCER_ID_BITS), "producer_epoch": 0}


class _UnderWay:
    """One request: it lives as long as one of its batches is unanswered."""

    __slots__ = (
        "_acks",
        "_answer",
        "_answers",
        "_appends",
        "_began",
        "_measures",
        "_metrics",
        "_refusal",
        "_version",
        "_waiting",
    )

    def __init__(
        self, appends: GatheredAppends, metrics: Metrics, request: ProduceRequest, version: int, answer: Answer
    ) -> None:
        self._appends = appends
        self._metrics = metrics
        self._acks = request.acks
        self._version = version
        self._answer = answer
        self._began = time.monotonic()
        self._measures = metrics.requests.api("KafkaProduce")
        self._measures.in_flight.inc()
        self._answers: list[ProducedAnswer | None] = []
        self._waiting = 1  # for all batches to have been looked at
        self._refusal: tuple[int, str] | None = None
        if request.acks not in _ACKS:
            self._refusal = INVALID_REQUIRED_ACKS, f"acks {request.acks} does not exist; use -1, 0 or 1"
        elif request.transactional_id is not None:
            self._refusal = TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "there are no transactions here"

    async def append_all(self, batches: list[ProducedBatch]) -> None:
        """The connection brings nothing else meanwhile, so they stay in order."""
        try:
            for number, batch in enumerate(batches, start=1):
                if number % BATCHES_PER_TURN == 0:
                    await asyncio.sleep(0)
                self.append(batch)
        finally:
            self.one_less()

    def append(self, batch: ProducedBatch) -> None:
        at = len(self._answers)
        self._answers.append(None)
        if self._refusal is not None:
            self._answers[at] = ProducedAnswer(batch.topic, batch.partition, self._refusal[0], -1, -1, self._refusal[1])
            return
        try:
            self._appends.add(batch.topic, batch.partition, self._checked(batch), partial(self._on_appended, at, batch))
        except LograftError as error:
            self._fail(at, batch, error)
        else:
            self._waiting += 1

    def _on_appended(self, at: int, batch: ProducedBatch, led: Led, outcome: Appending | LograftError) -> None:
        if isinstance(outcome, LograftError):
            self._fail(at, batch, outcome)
            self.one_less()
            return
        # With acks=0 too: the bytes count until the leader's disk has them, and that is what slows the client down.
        future = outcome.committed if self._acks == -1 else outcome.persisted
        future.add_done_callback(partial(self._on_done, at, batch.topic, batch.partition, led))

    def one_less(self) -> None:
        self._waiting -= 1
        if self._waiting:
            return
        seconds = time.monotonic() - self._began
        self._metrics.traffic.produce_ack_seconds.observe(seconds)
        answers = [one for one in self._answers if one is not None]
        failed = next((one for one in answers if one.error_code), None)
        self._measures.in_flight.dec()
        self._measures.ended(name_of(failed.error_code if failed else NONE), seconds)
        if self._acks:
            body = produce_response(self._version, answers)
            self._answer.give([body], is_flexible=self._version >= PRODUCE_FLEXIBLE_FROM)
            return
        self._answer.give(None)
        if failed is not None:
            self._answer.hang_up(f"a batch with acks=0 was refused: {failed.error_message}")

    def _checked(self, batch: ProducedBatch) -> memoryview:
        records = batch.records
        if records is None or len(records) < HEADER_SIZE:
            raise InvalidRecord(f"{0 if records is None else len(records)} bytes are no batch of records")
        if self._version < _ZSTD_FROM and records[22] & 7 == Compression.ZSTD:
            raise UnsupportedCompression(f"zstd needs Produce {_ZSTD_FROM} or later, this is version {self._version}")
        return records

    def _on_done(self, at: int, topic: str, number: int, led: Led, future: asyncio.Future[Appended]) -> None:
        error = failure_of(future)
        if error is not None:
            self._fail(at, ProducedBatch(topic, number, None), error)
        else:
            appended = future.result()
            start = led.replica.log_start
            self._answers[at] = ProducedAnswer(topic, number, NONE, appended.base_offset, start)
        self.one_less()

    def _fail(self, at: int, batch: ProducedBatch, error: LograftError) -> None:
        self._metrics.count_rejected(error.reason)
        self._answers[at] = ProducedAnswer(
            batch.topic, batch.partition, partition_code(error), -1, -1, message_of(error)
        )
