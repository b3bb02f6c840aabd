"""What can be changed with the console: records produced, groups moved, leaders handed over. Each as its command would.

Invariants
    a group is moved by the plan that was shown: to its offsets, not by a goal that may mean something else by now
    what is asked for is checked whole before any of it is done
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from ...client.client import Client
from ...client.producer import Producer
from ...client.records import TopicPartition
from ...client.seek_plan import Move, SeekPlan
from ...proto.errors import InvalidRequest, UnknownPartition
from . import views

RECORDS_MAX = 1_000
FIELD_BYTES_MAX = 1 << 20
HEADERS_MAX = 100
OFFSET_MAX = 2**63 - 1
NUMBER_MAX = 2**31 - 1
"""Of a partition or a broker."""

Answer = Callable[[Request, Any], Awaitable[views.Json]]


class Changes:
    """Carries them out by one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._producer: Producer | None = None
        self.answers: dict[str, Answer] = {
            "topics/{topic}/records": self._produce,
            "groups/{group:path}/plan": self._plan,
            "groups/{group:path}/seek": self._seek,
            "topics/{topic}/partitions/{partition:int}/leader": self._lead,
        }

    def only_looks(self, answer: Answer) -> bool:
        """Does it change nothing?"""
        return answer == self._plan

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.close()

    async def _produce(self, request: Request, asked: views.Json) -> views.Json:
        topic = request.path_params["topic"]
        records = [record_of(one, number) for number, one in enumerate(list_of(asked, "records"))]
        if not 1 <= len(records) <= RECORDS_MAX:
            raise InvalidRequest(f"{len(records)} records: produce from 1 to {RECORDS_MAX} at a time")
        count = len((await self._client.admin.describe_topic(topic)).partitions)  # an unknown one is told at once
        for number, (_, _, _, partition) in enumerate(records):
            if partition is not None and partition >= count:
                raise UnknownPartition(
                    f"record {number}: topic {topic!r} has partitions 0 to {count - 1}, not {partition}"
                )
        if self._producer is None:
            self._producer = await self._client.producer(linger_ms=0).__aenter__()
        sent = [
            await self._producer.send(topic, value, key=key, headers=headers, partition=partition)
            for key, value, headers, partition in records
        ]
        done = [await delivery for delivery in sent]
        return {
            "produced": [{"partition": one.partition, "offset": one.offset} for one in done[:50]],
            "count": len(done),
            "durability": str(done[-1].durability),
        }

    async def _plan(self, request: Request, asked: views.Json) -> views.Json:
        topics = [text_of(name, "topics") for name in list_of(asked, "topics")] or None
        partitions = [number_of(number, "partitions") for number in list_of(asked, "partitions")] or None
        plan = await self._client.groups.plan_seek(
            request.path_params["group"], text_of(asked.get("to"), "to"), topics, partitions
        )
        return {"plan": views.plan_json(plan)}

    async def _seek(self, request: Request, asked: views.Json) -> views.Json:
        moves = []
        for one in list_of(asked, "moves"):
            if not isinstance(one, dict):
                raise InvalidRequest("a move is an object with topic, partition, topic_id and to_offset")
            place = TopicPartition(text_of(one.get("topic"), "topic"), number_of(one.get("partition"), "partition"))
            to_offset = number_of(one.get("to_offset"), "to_offset", OFFSET_MAX)
            moves.append(Move(place, text_of(one.get("topic_id"), "topic_id"), "", None, to_offset, to_offset))
        if not moves:
            raise InvalidRequest("there is nothing to move: ask for a plan first")
        group = request.path_params["group"]
        done = await self._client.groups.seek(group, SeekPlan(group, 0, tuple(moves)))
        return {"generation": done.generation, "regranted": done.regranted}

    async def _lead(self, request: Request, asked: views.Json) -> views.Json:
        place = request.path_params
        partition = number_of(place["partition"], "partition")
        broker_id = number_of(asked.get("broker_id"), "broker_id")
        term = await self._client.admin.transfer_leadership(place["topic"], partition, broker_id)
        return {"term": term}


Parsed = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int | None]


def record_of(asked: Any, number: int) -> Parsed:
    """Key, value, headers and partition of a record as a page gives it."""
    if not isinstance(asked, dict):
        raise InvalidRequest(f"record {number} is no object with key, value, headers and partition")
    headers = asked.get("headers") or []
    if not isinstance(headers, list) or len(headers) > HEADERS_MAX:
        raise InvalidRequest(f"record {number}: headers are a list of at most {HEADERS_MAX} pairs of name and value")
    pairs = []
    for pair in headers:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InvalidRequest(f"record {number}: a header is a pair of name and value")
        pairs.append((pair[0], bytes_of(pair[1], f"record {number}: header {pair[0][:80]!r}")))
    partition = asked.get("partition")
    return (
        bytes_of(asked.get("key"), f"record {number}: key"),
        bytes_of(asked.get("value"), f"record {number}: value"),
        pairs,
        None if partition is None else number_of(partition, f"record {number}: partition"),
    )


def bytes_of(asked: Any, what: str) -> bytes | None:
    """null, {"text": ...} or {"b64": ...}."""
    if asked is None:
        return None
    if isinstance(asked, dict) and isinstance(asked.get("text"), str):
        try:
            found: bytes = asked["text"].encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{what} is no text that UTF-8 can write: give it as base64") from None
    elif isinstance(asked, dict) and isinstance(asked.get("b64"), str):
        try:
            found = base64.b64decode(asked["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest(f"{what} is no valid base64") from None
    else:
        raise InvalidRequest(f'{what} is null, {{"text": ...}} or {{"b64": ...}}')
    if len(found) > FIELD_BYTES_MAX:
        raise InvalidRequest(f"{what} has {len(found)} bytes: at most {FIELD_BYTES_MAX}")
    return found


def list_of(asked: views.Json, name: str) -> list[Any]:
    found = asked.get(name) or []
    if not isinstance(found, list):
        raise InvalidRequest(f"{name} is a list")
    return found


def text_of(asked: Any, name: str) -> str:
    if not isinstance(asked, str) or not asked or len(asked) > 1000:
        raise InvalidRequest(f"{name} is a text of 1 to 1000 characters")
    return asked


def number_of(asked: Any, name: str, most: int = NUMBER_MAX) -> int:
    if not isinstance(asked, int) or isinstance(asked, bool) or not 0 <= asked <= most:
        raise InvalidRequest(f"{name} is a number from 0 to {most}")
    return asked
