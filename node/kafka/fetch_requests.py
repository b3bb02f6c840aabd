"""Fetch: committed batches as they are stored, in a long poll.

Invariants
    a client that knows another leader than this one is told so before it is given anything (`current_leader_epoch`)
    no session is ever begun: the answer says session 0, and clients then name all partitions each time (KIP-227)
    an answer's bytes are taken of the broker's budget for them until the system has taken the answer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from ...proto.errors import FencedTerm, LograftError, UnknownTerm, UnknownTopicId
from ...proto.record_batch import Buffer
from ..config import LimitsSection
from ..fetches import Fetching, Share
from ..metrics import Metrics
from ..replicas import Led, Replicas
from ..rpc.budget import SharedBudget
from ..rpc.limits import FETCH_WAIT_MS_MAX, PARTITIONS_PER_REQUEST_MAX
from .codec import encode_response, milliseconds
from .connection import Answer
from .errors import FETCH_SESSION_ID_NOT_FOUND, INVALID_REQUEST, NONE, fetch_code
from .hot_codec import FetchedAnswer, fetch_response
from .requests import Call

FETCHES_AT_BOUND = 16
_TOPIC_IDS_FROM = 13
_SESSIONS_FROM = 7


def check_term(led: Led, known: int) -> None:
    """Raises FencedTerm, UnknownTerm: the client goes by another leader. -1: it does not say."""
    term = led.replica.term
    if 0 <= known < term:
        raise FencedTerm(f"{led.replica.partition} is led in term {term}, not {known}: ask who leads it", term=term)
    if known > term:
        raise UnknownTerm(f"{led.replica.partition} is led in term {term} here, not yet in {known}", term=term)


class Asked(NamedTuple):
    """What is asked of one partition (`fetches.AskedPartition`)."""

    topic: str
    partition: int
    topic_id: str
    offset: int
    known_term: int
    uuid: UUID | None


class _Share(Share):
    __slots__ = ()

    def led(self, replicas: Replicas) -> Led:
        asked = self.asked
        assert isinstance(asked, Asked)
        if not asked.topic:
            raise UnknownTopicId(f"there is no topic of id {asked.uuid}")
        led = super().led(replicas)
        check_term(led, asked.known_term)
        return led


class FetchRequests:
    def __init__(self, replicas: Replicas, metrics: Metrics, limits: LimitsSection) -> None:
        self._replicas = replicas
        self._metrics = metrics
        self._limits = limits
        self._budget = SharedBudget(FETCHES_AT_BOUND * limits.fetch_bytes_max)

    async def fetch(self, request: Any, call: Call, answer: Answer) -> list[Buffer]:
        """The answer's body, in pieces."""
        if getattr(request, "session_id", 0) and getattr(request, "session_epoch", -1) > 0:
            return [self._refused(call.version, FETCH_SESSION_ID_NOT_FOUND)]
        shares = [
            _Share(asked, bytes_max)
            for topic in request.topics
            for asked, bytes_max in self._asked(topic, call.version)
        ]
        if len(shares) > PARTITIONS_PER_REQUEST_MAX:
            return [self._refused(call.version, INVALID_REQUEST)]
        lease = answer.lease = self._budget.lease(call.peer)
        await lease.room()
        wait_ms = min(milliseconds(request.max_wait), self._limits.fetch_wait_ms_max, FETCH_WAIT_MS_MAX)
        fetching = Fetching(
            shares,
            self._replicas,
            self._metrics,
            bytes_max=min(max(request.max_bytes, 1), self._limits.fetch_bytes_max),
            bytes_min=request.min_bytes,
            wait_ms=max(wait_ms, 0) if request.min_bytes > 0 else 0,
            lease=lease,
        )
        await fetching.gather()
        return fetch_response(
            call.version, [_answered(share) for share in shares], is_read_committed=request.isolation_level == 1
        )

    def _asked(self, topic: Any, version: int) -> list[tuple[Asked, int]]:
        if version >= _TOPIC_IDS_FROM:
            uuid = topic.topic_id
            known = None if uuid is None else self._replicas.state.topic_by_id(uuid.hex)
            name, topic_id = ("", "") if known is None else (known.name, known.topic_id)
        else:
            uuid, name, topic_id = None, topic.topic, ""
            if not name:
                name = "?"  # no topic is called so
        return [
            (
                Asked(
                    name,
                    one.partition,
                    topic_id,
                    one.fetch_offset,
                    getattr(one, "current_leader_epoch", -1),
                    uuid,
                ),
                max(one.partition_max_bytes, 1),
            )
            for one in topic.partitions
        ]

    @staticmethod
    def _refused(version: int, code: int) -> bytes:
        told: Mapping[str, Any] = {"error_code": code if version >= _SESSIONS_FROM else NONE, "responses": ()}
        return encode_response(1, version, told)


def _answered(share: Share) -> FetchedAnswer:
    asked = share.asked
    assert isinstance(asked, Asked)
    error: LograftError | None = share.error
    if error is not None:
        return FetchedAnswer(asked.topic, asked.uuid, asked.partition, fetch_code(error), -1, -1, ())
    return FetchedAnswer(
        asked.topic, asked.uuid, asked.partition, NONE, share.committed_offset, share.start_offset, share.batches
    )
