"""Who is there, what there is and who leads it: ApiVersions, Metadata, DescribeCluster.

Invariants
    addresses are those that brokers advertise for this door, never those they listen at
    a partition's leader and its epoch are told together: the epoch is the leader's term
    only brokers that have this door are told of; a partition led by another one has no leader for Kafka clients
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from ...partitions.environment import PartitionId
from ...proto.errors import BrokerUnavailable, LograftError, UnknownTopic, UnknownTopicId
from ..config import KafkaSection, host_and_port
from ..controller.facts import TopicFact
from ..controller.topic_rules import is_internal
from ..replicas import CLUSTER_PARTITION, Replicas
from ..rpc.limits import PARTITIONS_PER_REQUEST_MAX, check_count
from .apis import APIS
from .errors import LEADER_NOT_AVAILABLE, NONE, code_of
from .requests import Call

Told = Mapping[str, Any]

CATCH_UP_INTERVAL_S, CATCH_UP_TRIES = 0.1, 50
PARTITIONS_PER_PAGE_MAX = 2_000


class KnownBrokers(Protocol):
    """Where brokers are, for this door."""

    @property
    def broker_id(self) -> int: ...

    def kafka_addresses(self) -> Mapping[int, str]:
        """Broker id -> host:port, of those that have this door and were met."""
        ...

    def is_alive(self, broker_id: int) -> bool: ...
    def cluster_id(self) -> str: ...


class TopicMaker(Protocol):
    async def create_topic(
        self, name: str, partitions: int, replication: int, config: Mapping[str, str], *, validate_only: bool
    ) -> object: ...


class ClusterRequests:
    def __init__(
        self,
        replicas: Replicas,
        brokers: KnownBrokers,
        section: KafkaSection,
        maker: TopicMaker,
    ) -> None:
        self._replicas = replicas
        self._brokers = brokers
        self._section = section
        self._maker = maker

    async def api_versions(self, request: Any, call: Call) -> Told:
        return {
            "api_keys": [
                {"api_key": api.key, "min_version": api.lowest, "max_version": api.highest} for api in APIS.values()
            ]
        }

    async def metadata(self, request: Any, call: Call) -> Told:
        asked = request.topics
        try:
            await self._caught_up()
            check_count(0 if asked is None else len(asked), PARTITIONS_PER_REQUEST_MAX, "topics")
        except LograftError as error:
            # That they have no leader is what clients ask again after.
            code = LEADER_NOT_AVAILABLE if error.retriable else code_of(error)
            return self._told_of_brokers() | {
                "topics": [dict(_refused(one.name, None, error)) | {"error_code": code} for one in asked or ()]
            }
        if asked is None or (call.version == 0 and not asked):
            state = self._replicas.state
            topics = [self._topic(state.topics[name]) for name in sorted(state.topics)]
            return self._told_of_brokers() | {"topics": topics}
        may_make = self._section.auto_create_topics and getattr(request, "allow_auto_topic_creation", True)
        # Each once, as Kafka does: one of a thousand partitions, named ten thousand times, would take all memory.
        wanted = dict.fromkeys((one.name, getattr(one, "topic_id", None)) for one in asked)
        topics = []
        for name, topic_id in wanted:
            topics.append(await self._asked_topic(name, topic_id, may_make=may_make))
            await asyncio.sleep(0)
        return self._told_of_brokers() | {"topics": topics}

    async def _caught_up(self) -> None:
        """Wait a moment until all decisions are read here: else there would seem to be no topics.

        Raises BrokerUnavailable.
        """
        for _ in range(CATCH_UP_TRIES):
            try:
                self._replicas.check_caught_up()
                return
            except BrokerUnavailable:
                await asyncio.sleep(CATCH_UP_INTERVAL_S)
        self._replicas.check_caught_up()

    async def describe_cluster(self, request: Any, call: Call) -> Told:
        told = self._told_of_brokers()
        told["brokers"] = [
            {
                "broker_id": one["node_id"],
                "host": one["host"],
                "port": one["port"],
                "rack": one["rack"],
                "is_fenced": False,
            }
            for one in told["brokers"]
        ]
        return told | {"error_code": NONE, "cluster_id": told["cluster_id"] or ""}

    async def describe_topic_partitions(self, request: Any, call: Call) -> Told:
        """In pages: where one ends, the answer says where the next begins."""
        names = sorted({one.name for one in request.topics}) or sorted(self._replicas.state.topics)
        room = min(max(request.response_partition_limit, 1), PARTITIONS_PER_PAGE_MAX)
        begin = ("", 0) if request.cursor is None else (request.cursor.topic_name, request.cursor.partition_index)
        topics: list[Told] = []
        for name in names:
            if name < begin[0]:
                continue
            first = max(begin[1], 0) if name == begin[0] else 0
            told = dict(await self._asked_topic(name, None, may_make=False))
            partitions = list(told["partitions"])[first:]
            if not room or (len(partitions) > room and topics):
                return {"topics": topics, "next_cursor": {"topic_name": name, "partition_index": first}}
            told["partitions"] = [
                dict(one) | {"eligible_leader_replicas": (), "last_known_elr": ()} for one in partitions[:room]
            ]
            topics.append(told)
            if len(partitions) > room:
                return {"topics": topics, "next_cursor": {"topic_name": name, "partition_index": first + room}}
            room -= len(partitions)
        return {"topics": topics, "next_cursor": None}

    def endpoint(self, broker_id: int) -> tuple[str, int] | None:
        """Host and port of a broker's door for Kafka clients, if it has one."""
        address = self._brokers.kafka_addresses().get(broker_id)
        return host_and_port(address) if address else None

    def _told_of_brokers(self) -> dict[str, Any]:
        brokers = []
        for broker_id, address in sorted(self._brokers.kafka_addresses().items()):
            if not address or not self._brokers.is_alive(broker_id):
                continue
            host, port = host_and_port(address)
            fact = self._replicas.state.brokers.get(broker_id)
            rack = fact.rack or None if fact is not None else None
            brokers.append({"node_id": broker_id, "host": host, "port": port, "rack": rack})
        controller_id = self._replicas.leader_of(CLUSTER_PARTITION).broker_id
        if all(one["node_id"] != controller_id for one in brokers):
            controller_id = self._brokers.broker_id  # any broker passes on what is for the controller
        return {"brokers": brokers, "cluster_id": self._brokers.cluster_id() or None, "controller_id": controller_id}

    async def _asked_topic(self, name: str | None, topic_id: UUID | None, *, may_make: bool) -> Told:
        state = self._replicas.state
        if name is None and topic_id is not None:
            topic = state.topic_by_id(topic_id.hex)
            if topic is None:
                return _refused(None, topic_id, UnknownTopicId(f"there is no topic of id {topic_id}"))
            return self._topic(topic)
        topic = state.topic(name or "")
        if topic is None and may_make and name and not is_internal(name):
            try:
                await self._maker.create_topic(name, self._section.auto_create_partitions, 0, {}, validate_only=False)
            except LograftError as error:
                if error.reason != "TOPIC_EXISTS":
                    return _refused(name, None, error)
            topic = self._replicas.state.topic(name)
        if topic is None:
            return _refused(name, None, UnknownTopic(f"there is no topic {name!r:.80}"))
        return self._topic(topic)

    def _topic(self, topic: TopicFact) -> Told:
        return {
            "error_code": NONE,
            "name": topic.name,
            "topic_id": UUID(hex=topic.topic_id),
            "is_internal": is_internal(topic.name),
            "partitions": [
                self._partition(topic, number, [voter.broker_id for voter in partition.placement])
                for number, partition in enumerate(topic.partitions)
            ],
        }

    def _partition(self, topic: TopicFact, number: int, placed: list[int]) -> Told:
        leader = self._replicas.leader_of(PartitionId(topic.topic_id, number))
        addresses = self._brokers.kafka_addresses()
        is_led = leader.broker_id is not None and bool(addresses.get(leader.broker_id))
        alive = [broker_id for broker_id in placed if self._brokers.is_alive(broker_id)]
        return {
            "error_code": NONE if is_led else LEADER_NOT_AVAILABLE,
            "partition_index": number,
            "leader_id": leader.broker_id if is_led else -1,
            "leader_epoch": leader.term,
            "replica_nodes": placed,
            "isr_nodes": alive,
            "offline_replicas": [broker_id for broker_id in placed if broker_id not in alive],
        }


def _refused(name: str | None, topic_id: UUID | None, error: LograftError) -> Told:
    return {"error_code": code_of(error), "name": name, "topic_id": topic_id, "partitions": ()}
