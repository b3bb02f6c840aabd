"""AdminService for callers inside this broker who speak no protobuf: plain values in, plain values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lograft.v1 import admin_service_pb2 as pb
from lograft.v1 import common_pb2

from .admin_service import AdminService


class PlainTopic(NamedTuple):
    name: str
    topic_id: str
    partitions: int
    replication: int


class Moving(NamedTuple):
    """A partition of which replicas are on their way."""

    topic: str
    number: int
    brokers: tuple[int, ...]
    """With a replica, or to have one."""
    adding: tuple[int, ...]
    removing: tuple[int, ...]


class PlainAdmin:
    """What is decided is decided by the controller, wherever it is. Raises what `AdminService` raises."""

    def __init__(self, admin: AdminService) -> None:
        self._admin = admin

    async def create_topic(
        self,
        name: str,
        partitions: int,
        replication: int,
        config: Mapping[str, str],
        *,
        validate_only: bool = False,
    ) -> PlainTopic:
        request = pb.CreateTopicRequest(
            name=name, partitions=partitions, replication=replication, config=config, validate_only=validate_only
        )
        made = (await self._admin.CreateTopic(request, None)).topic  # type: ignore[arg-type]
        return PlainTopic(made.name, made.topic_id, len(made.partitions), made.replication)

    async def delete_topic(self, name: str, topic_id: str = "") -> None:
        await self._admin.DeleteTopic(pb.DeleteTopicRequest(name=name, topic_id=topic_id), None)  # type: ignore[arg-type]

    async def grow_topic(self, name: str, partitions: int, *, validate_only: bool = False) -> None:
        request = pb.GrowTopicRequest(name=name, partitions=partitions, validate_only=validate_only)
        await self._admin.GrowTopic(request, None)  # type: ignore[arg-type]

    async def alter_topic(
        self, name: str, changes: Mapping[str, str], unset: Iterable[str], *, validate_only: bool = False
    ) -> None:
        request = pb.AlterTopicRequest(name=name, set=changes, unset=unset, validate_only=validate_only)
        await self._admin.AlterTopic(request, None)  # type: ignore[arg-type]

    async def transfer_leadership(self, topic: str, number: int, broker_id: int) -> None:
        partition = common_pb2.TopicPartition(topic=topic, partition=number)
        request = pb.TransferLeadershipRequest(partition=partition, broker_id=broker_id)
        await self._admin.TransferLeadership(request, None)  # type: ignore[arg-type]

    async def move_partition(self, topic: str, number: int, brokers: Iterable[int]) -> None:
        partition = common_pb2.TopicPartition(topic=topic, partition=number)
        request = pb.MovePartitionRequest(partition=partition, broker_ids=brokers)
        await self._admin.MovePartition(request, None)  # type: ignore[arg-type]

    async def moving(self) -> list[Moving]:
        """The partitions that are moving, as far as their leaders answer."""
        listed = await self._admin.ListTopics(pb.ListTopicsRequest(), None)  # type: ignore[arg-type]
        found = []
        for topic in listed.topics:
            for one in topic.partitions:
                if not one.moving or one.leader_id < 0:
                    continue
                brokers = tuple(dict.fromkeys(replica.broker_id for replica in one.replicas))
                adding = tuple(one.broker_id for one in one.replicas if not one.leaving and not one.voter)
                removing = tuple(one.broker_id for one in one.replicas if one.leaving)
                found.append(Moving(topic.name, one.number, brokers, adding, removing))
        return found
