"""Replicas as operators see them: where they lie, who leads, what moves, and which producers a partition knows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from ...partitions.environment import PartitionId
from ...proto.errors import InvalidRequest, LograftError
from ..config import BrokerConfig
from ..replicas import Replicas, partition_of
from ..rpc.limits import PARTITIONS_PER_REQUEST_MAX, check_count
from ..rpc.plain_admin import PlainAdmin
from .errors import NONE, code_of, message_of
from .requests import Call

Told = Mapping[str, Any]

PREFERRED = 0
"""The kind of election that is held here: the first of the placement leads."""
PARTITIONS_TOLD_MAX = 100
"""Of which the producers are told in one answer."""
PRODUCERS_TOLD_MAX = 1_000
"""Of one partition, those that appended last."""


class ElectionNotNeeded(InvalidRequest):
    """The preferred replica leads already."""

    reason, kafka_code = "ELECTION_NOT_NEEDED", 84


class NoReassignment(InvalidRequest):
    """A move cannot be cancelled: name the brokers to move to."""

    reason, kafka_code = "NO_REASSIGNMENT_IN_PROGRESS", 85


class Disk(Protocol):
    def free_bytes(self) -> int: ...


class ReplicaRequests:
    def __init__(self, replicas: Replicas, admin: PlainAdmin, config: BrokerConfig, disk: Disk) -> None:
        self._replicas = replicas
        self._admin = admin
        self._directory = os.path.abspath(config.broker.data_directory)
        self._disk = disk

    async def describe_log_dirs(self, request: Any, call: Call) -> Told:
        """The one directory of this broker, with the replicas in it."""
        wanted = None
        if request.topics is not None:
            wanted = {(topic.topic, number) for topic in request.topics for number in topic.partitions}
        topics: dict[str, list[Told]] = {}
        size = 0
        for partition, replica in sorted(self._replicas.table.items()):
            topic = self._replicas.state.topic_by_id(partition.topic_id)
            size += replica.log.size_bytes
            if topic is None or (wanted is not None and (topic.name, partition.number) not in wanted):
                continue
            told = {
                "partition_index": partition.number,
                "partition_size": replica.log.size_bytes,
                "offset_lag": 0 if replica.is_leader else max(replica.committed.offset - replica.log.end.offset, 0),
                "is_future_key": False,
            }
            topics.setdefault(topic.name, []).append(told)
        free = self._disk.free_bytes()
        result = {
            "error_code": NONE,
            "log_dir": self._directory,
            "topics": [{"name": name, "partitions": partitions} for name, partitions in sorted(topics.items())],
            "total_bytes": size + free,
            "usable_bytes": free,
        }
        return {"error_code": NONE, "results": [result]}

    async def describe_producers(self, request: Any, call: Call) -> Told:
        wanted = {topic.name: dict.fromkeys(topic.partition_indexes) for topic in request.topics}
        left = PARTITIONS_TOLD_MAX
        topics = []
        for name, numbers in wanted.items():
            partitions = []
            for number in numbers:
                left -= 1
                if left < 0:
                    partitions.append(_too_many(number))
                    continue
                partitions.append(self._producers(name, number))
                await asyncio.sleep(0)
            topics.append({"name": name, "partitions": partitions})
        return {"topics": topics}

    def _producers(self, topic: str, number: int) -> Told:
        told: dict[str, Any] = {"partition_index": number, "error_code": NONE, "active_producers": ()}
        try:
            replica = self._replicas.leading(topic, number).replica
        except LograftError as error:
            return told | {"error_code": code_of(error), "error_message": message_of(error)}
        told["active_producers"] = [
            {
                "producer_id": producer_id,
                "producer_epoch": epoch,
                "last_sequence": last_sequence,
                "last_timestamp": -1,
                "coordinator_epoch": -1,
                "current_txn_start_offset": -1,
            }
            for producer_id, epoch, last_sequence in replica.log.producers.known()[-PRODUCERS_TOLD_MAX:]
        ]
        return told

    async def elect_leaders(self, request: Any, call: Call) -> Told:
        asked = request.topic_partitions
        if asked is None:
            wanted = [
                (name, number)
                for name, topic in sorted(self._replicas.state.topics.items())
                for number, fact in enumerate(topic.partitions)
                if self._replicas.leader_of(PartitionId(topic.topic_id, number)).broker_id
                != fact.placement[0].broker_id
            ]
        else:
            wanted = [(topic.topic, number) for topic in asked for number in topic.partitions]
        results: dict[str, list[Told]] = {}
        for name, number in wanted[:PARTITIONS_PER_REQUEST_MAX]:
            told = {"partition_id": number} | await _outcome(
                self._elect(name, number, getattr(request, "election_type", PREFERRED))
            )
            results.setdefault(name, []).append(told)
        listed = [{"topic": name, "partition_result": told} for name, told in results.items()]
        return {"error_code": NONE, "replica_election_results": listed}

    async def _elect(self, name: str, number: int, kind: int) -> None:
        if kind != PREFERRED:
            raise InvalidRequest("who lacks what was committed is not elected; see `lograft partition recover`")
        topic = self._replicas.topic(name)
        partition = partition_of(topic, number)
        preferred = topic.partitions[number].placement[0].broker_id
        if self._replicas.leader_of(partition).broker_id == preferred:
            raise ElectionNotNeeded(f"broker {preferred} leads partition {number} of {name!r} already")
        await self._admin.transfer_leadership(name, number, preferred)

    async def alter_partition_reassignments(self, request: Any, call: Call) -> Told:
        responses = []
        for topic in request.topics:
            told = [
                {"partition_index": one.partition_index}
                | await _outcome(self._move(topic.name, one.partition_index, one.replicas))
                for one in topic.partitions
            ]
            responses.append({"name": topic.name, "partitions": told})
        return {"error_code": NONE, "error_message": None, "responses": responses}

    async def _move(self, name: str, number: int, brokers: Sequence[int] | None) -> None:
        if brokers is None:
            raise NoReassignment("a move is not cancelled; name the brokers that are to hold the partition")
        await self._admin.move_partition(name, number, brokers)

    async def list_partition_reassignments(self, request: Any, call: Call) -> Told:
        wanted: set[tuple[str, int]] | None = None
        try:
            if request.topics is not None:
                wanted = {(topic.name, number) for topic in request.topics for number in topic.partition_indexes}
                check_count(len(wanted), PARTITIONS_PER_REQUEST_MAX, "partitions")
            moving = await self._admin.moving()
        except LograftError as error:
            return {"error_code": code_of(error), "error_message": message_of(error), "topics": ()}
        topics: dict[str, list[Told]] = {}
        for one in moving:
            if wanted is None or (one.topic, one.number) in wanted:
                told = {
                    "partition_index": one.number,
                    "replicas": one.brokers,
                    "adding_replicas": one.adding,
                    "removing_replicas": one.removing,
                }
                topics.setdefault(one.topic, []).append(told)
        listed = [{"name": name, "partitions": told} for name, told in topics.items()]
        return {"error_code": NONE, "error_message": None, "topics": listed}


def _too_many(number: int) -> Told:
    error = InvalidRequest(f"the producers of {PARTITIONS_TOLD_MAX} partitions are told at a time; ask for fewer")
    return {
        "partition_index": number,
        "error_code": code_of(error),
        "error_message": message_of(error),
        "active_producers": (),
    }


async def _outcome(what: Awaitable[None]) -> dict[str, Any]:
    try:
        await what
    except LograftError as error:
        return {"error_code": code_of(error), "error_message": message_of(error)}
    return {"error_code": NONE, "error_message": None}
