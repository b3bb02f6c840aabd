"""What can be changed with the console: topics made and set, records produced, groups moved, leaders handed over. Each
as its command would.

Invariants
    a group is moved by the plan that was shown: to its offsets, not by a goal that may mean something else by now
    what is asked for is checked whole before any of it is done
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request

from ...client.accumulator import record_fits
from ...client.client import Client
from ...client.delivery import Delivery, RecordMetadata
from ...client.producer import Producer
from ...client.records import TopicPartition
from ...client.seek_plan import Move, SeekPlan
from ...proto.errors import BatchTooLarge, InvalidRequest, LograftError, UnknownPartition
from . import views

RECORDS_MAX = 1_000
FIELD_BYTES_MAX = 1 << 20
BATCH_BYTES_MIN = 1 << 10
HEADERS_MAX = 100
SETTINGS_MAX = 100
PRODUCERS_MAX = 8
OFFSET_MAX = 2**63 - 1
NUMBER_MAX = 2**31 - 1
"""Of a partition or a broker."""

Answer = Callable[[Request, Any], Awaitable[views.Json]]


class Changes:
    """Carries them out by one client. `batch_bytes_max`: what the brokers take, where a topic does not say less."""

    def __init__(self, client: Client, batch_bytes_max: int = FIELD_BYTES_MAX) -> None:
        self._client = client
        self._batch_bytes_max = batch_bytes_max
        self._producers: dict[int, Producer] = {}
        """By the size of the batches that they make at most."""
        self.answers: dict[str, Answer] = {
            "topics": self._create,
            "topics/{topic}/settings": self._alter,
            "topics/{topic}/records": self._produce,
            # A group may be called `..`, which no browser leaves in a path.
            "group/plan": self._plan,
            "group/seek": self._seek,
            "topics/{topic}/partitions/{partition:int}/leader": self._lead,
        }

    def only_looks(self, answer: Answer) -> bool:
        """Does it change nothing?"""
        return answer == self._plan

    async def stop(self) -> None:
        for producer in self._producers.values():
            await producer.close()

    async def _create(self, request: Request, asked: views.Json) -> views.Json:
        replication = asked.get("replication")
        topic = await self._client.admin.create_topic(
            text_of(asked.get("name"), "name"),
            number_of(asked.get("partitions"), "partitions"),
            None if replication is None else number_of(replication, "replication"),
            settings_of(asked.get("config"), "config"),
        )
        return {"name": topic.name, "partitions": len(topic.partitions)}

    async def _alter(self, request: Request, asked: views.Json) -> views.Json:
        unset = [text_of(name, "unset") for name in list_of(asked, "unset")]
        changes = settings_of(asked.get("set"), "set")
        topic = await self._client.admin.alter_topic(request.path_params["topic"], changes, unset=unset)
        return {"config": dict(topic.config)}

    async def _produce(self, request: Request, asked: views.Json) -> views.Json:
        topic = request.path_params["topic"]
        records = [record_of(one, number) for number, one in enumerate(list_of(asked, "records"))]
        if not 1 <= len(records) <= RECORDS_MAX:
            raise InvalidRequest(f"{len(records)} records: produce from 1 to {RECORDS_MAX} at a time")
        described = await self._client.admin.describe_topic(topic)  # an unknown one is told at once
        count, most = len(described.partitions), self._batch_bytes_of(described.config)
        for number, (key, value, headers, partition) in enumerate(records):
            if not record_fits(value, key, headers, most):
                raise BatchTooLarge(
                    f"record {number}: with its key and headers it does not fit in a batch of {most} bytes, the most "
                    f"that topic {topic!r} takes; nothing was sent"
                )
            if partition is not None and partition >= count:
                raise UnknownPartition(
                    f"record {number}: topic {topic!r} has partitions 0 to {count - 1}, not {partition}"
                )
        producer = await self._producer_of(most)
        sent = [
            await producer.send(topic, value, key=key, headers=headers, partition=partition)
            for key, value, headers, partition in records
        ]
        ended = await asyncio.gather(*(_outcome(delivery) for delivery in sent))
        done = [one for one in ended if not isinstance(one, LograftError)]
        for error in ended:
            if isinstance(error, LograftError):
                if done:
                    what = f"{len(done)} of {len(ended)} records were written; of another: {error}"
                    raise type(error)(what) from error
                raise error
        return {
            "produced": [{"partition": one.partition, "offset": one.offset} for one in done[:50]],
            "count": len(done),
            "durability": str(done[-1].durability),
        }

    async def _producer_of(self, batch_bytes_max: int) -> Producer:
        producer = self._producers.get(batch_bytes_max)
        if producer is None:
            if len(self._producers) >= PRODUCERS_MAX:
                await self._producers.pop(next(iter(self._producers))).close()
            producer = await self._client.producer(linger_ms=0, max_batch_bytes=batch_bytes_max).__aenter__()
            self._producers[batch_bytes_max] = producer
        return producer

    async def _plan(self, request: Request, asked: views.Json) -> views.Json:
        topics = [text_of(name, "topics") for name in list_of(asked, "topics")] or None
        partitions = [number_of(number, "partitions") for number in list_of(asked, "partitions")] or None
        plan = await self._client.groups.plan_seek(
            group_of(request), text_of(asked.get("to"), "to"), topics, partitions
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
        group = group_of(request)
        done = await self._client.groups.seek(group, SeekPlan(group, 0, tuple(moves)))
        return {"generation": done.generation, "regranted": done.regranted}

    async def _lead(self, request: Request, asked: views.Json) -> views.Json:
        place = request.path_params
        partition = number_of(place["partition"], "partition")
        broker_id = number_of(asked.get("broker_id"), "broker_id")
        term = await self._client.admin.transfer_leadership(place["topic"], partition, broker_id)
        return {"term": term}

    def _batch_bytes_of(self, config: Mapping[str, str]) -> int:
        said = config.get("batch.bytes.max", "")
        most = int(said) if said.isascii() and said.isdigit() and len(said) < 10 else FIELD_BYTES_MAX
        return max(min(most, self._batch_bytes_max, FIELD_BYTES_MAX), BATCH_BYTES_MIN)


async def _outcome(delivery: Delivery) -> RecordMetadata | LograftError:
    try:
        return await delivery
    except LograftError as error:
        return error


def group_of(request: Request) -> str:
    """Which group is meant: in the query, as its name may be anything, also what a path cannot hold."""
    return text_of(request.query_params.get("name"), "name of the group")


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


def settings_of(asked: Any, what: str) -> dict[str, str]:
    found = {} if asked is None else asked
    if not isinstance(found, dict) or len(found) > SETTINGS_MAX:
        raise InvalidRequest(f"{what} is an object of at most {SETTINGS_MAX} settings and their values")
    return {text_of(name, "a setting"): text_of(value, name, field=name) for name, value in found.items()}


def list_of(asked: views.Json, name: str) -> list[Any]:
    found = asked.get(name) or []
    if not isinstance(found, list):
        raise InvalidRequest(f"{name} is a list")
    return found


def text_of(asked: Any, name: str, *, field: str = "") -> str:
    if not isinstance(asked, str) or not asked or len(asked) > 1000:
        raise InvalidRequest(f"{name[:80]} is a text of 1 to 1000 characters", key=field or name)
    return asked


def number_of(asked: Any, name: str, most: int = NUMBER_MAX) -> int:
    if not isinstance(asked, int) or isinstance(asked, bool) or not 0 <= asked <= most:
        raise InvalidRequest(f"{name} is a number from 0 to {most}", key=name)
    return asked
