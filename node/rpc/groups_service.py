"""Consumer groups for clients: the servicer translates, `node.groups` does the rest.

Invariants
    no method has an `except`: `interception.ErrorTranslation` turns what is raised into the call's status
    a call that came to the wrong broker changed nothing, and is told who coordinates the group
    what one entry of a call is refused for is told in that entry's part of the answer, and fails nothing else
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol
from urllib.parse import unquote

import grpc
from lograft.v1 import common_pb2, groups_service_pb2_grpc
from lograft.v1 import groups_service_pb2 as pb

from ...partitions.environment import PartitionId
from ...proto.errors import InvalidRequest, InvalidTopic, LograftError, NoLeader
from ..config import METADATA_BYTES_HIGHEST
from ..controller.topic_rules import NAME_LENGTH_MAX
from ..groups.calls import (
    Condition,
    FetchedOffset,
    Granted,
    GrantTold,
    GroupDescription,
    GroupListed,
    Heartbeat,
    HeartbeatAnswer,
    Join,
    MemberDescription,
    OffsetToStore,
    PartitionDescription,
    Seeked,
    SeekTarget,
)
from ..groups.coordinators import GroupPlace
from ..sightings import Sightings
from .limits import CALL_SECONDS_MAX, PARTITIONS_PER_REQUEST_MAX, check_count
from .status import partition_error

STORED_METADATA_BYTES_MAX = 1 << 20
"""In one store: what it brings becomes one batch, which must fit between brokers however it is compressed."""
HOST_LENGTH_MAX = 100
WAIT_MS_MAX = 600_000
"""A third of the longest session that can be configured sensibly; the coordinator waits no longer than a session's."""

_STATES = {
    Condition.EMPTY: pb.GROUP_STATE_EMPTY,
    Condition.STABLE: pb.GROUP_STATE_STABLE,
    Condition.MOVING: pb.GROUP_STATE_MOVING,
}


class GroupsCoordinator(Protocol):
    """What is asked of the coordinator of a group: `groups.coordinator.Coordinator`, or a test's."""

    number: int

    async def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer: ...
    async def store_offsets(
        self, group: str, member_id: str, entries: Sequence[OffsetToStore]
    ) -> list[LograftError | None]: ...
    async def fetch_offsets(
        self, group: str, wanted: Sequence[tuple[str, int]]
    ) -> list[FetchedOffset | LograftError]: ...
    async def list_groups(self) -> list[GroupListed]: ...
    async def describe(self, name: str) -> GroupDescription: ...
    async def seek(self, group: str, targets: Sequence[SeekTarget], *, validate_only: bool) -> Seeked: ...
    async def delete(self, group: str) -> None: ...


class GroupsCoordinators(Protocol):
    """What is asked of this broker's coordinators: `groups.coordinators.Coordinators`, or a test's."""

    @property
    def partition_count(self) -> int: ...
    def of(self, group: str) -> GroupsCoordinator: ...
    def place(self, group: str) -> GroupPlace: ...
    def led(self) -> Sequence[GroupsCoordinator]: ...


class GroupsService(groups_service_pb2_grpc.GroupsServiceServicer):
    """Any broker answers FindCoordinator, and ListGroups for what it coordinates; the rest is the coordinator's."""

    def __init__(self, broker_id: int, coordinators: GroupsCoordinators, sightings: Sightings) -> None:
        self._broker_id = broker_id
        self._coordinators = coordinators
        self._sightings = sightings

    async def FindCoordinator(
        self, request: pb.FindCoordinatorRequest, context: grpc.aio.ServicerContext
    ) -> pb.FindCoordinatorResponse:
        place = self._coordinators.place(request.group)
        leader = self._sightings.broker(place.leader_id)
        if leader is None:
            raise NoLeader(
                f"broker {place.leader_id} coordinates group {request.group!r:.80}, and broker {self._broker_id} does "
                "not know its address yet; try again"
            )
        return pb.FindCoordinatorResponse(
            broker_id=place.leader_id,
            address=leader.addresses.grpc,
            term=place.term,
            partition=place.partition.number,
        )

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: grpc.aio.ServicerContext) -> pb.HeartbeatResponse:
        beat = _beat(request, _host(context.peer()))
        async with asyncio.timeout(beat.max_wait_ms / 1000 + CALL_SECONDS_MAX):
            answer = await self._coordinators.of(request.group).heartbeat(beat)
        return pb.HeartbeatResponse(
            generation=answer.generation,
            grants=map(_grant, answer.grants),
            revoked=map(_grant, answer.revoked),
            unknown_topics=answer.unknown_topics,
        )

    async def StoreOffsets(
        self, request: pb.StoreOffsetsRequest, context: grpc.aio.ServicerContext
    ) -> pb.StoreOffsetsResponse:
        check_count(len(request.entries), PARTITIONS_PER_REQUEST_MAX, "partitions")
        entries = [
            OffsetToStore(one.topic, one.partition, one.topic_id, one.offset, one.metadata, one.generation)
            for one in request.entries
        ]
        _check_metadata_in_all(entries)
        async with asyncio.timeout(CALL_SECONDS_MAX):
            coordinator = self._coordinators.of(request.group)
            refusals = await coordinator.store_offsets(request.group, request.member_id, entries)
        response = pb.StoreOffsetsResponse()
        for entry, refusal in zip(entries, refusals, strict=True):
            result = response.results.add(topic=entry.topic, partition=entry.number)
            if refusal is not None:
                result.error.CopyFrom(partition_error(refusal))
        return response

    async def FetchOffsets(
        self, request: pb.FetchOffsetsRequest, context: grpc.aio.ServicerContext
    ) -> pb.FetchOffsetsResponse:
        check_count(len(request.partitions), PARTITIONS_PER_REQUEST_MAX, "partitions")
        wanted = [(one.topic, one.partition) for one in request.partitions]
        async with asyncio.timeout(CALL_SECONDS_MAX):
            fetched = await self._coordinators.of(request.group).fetch_offsets(request.group, wanted)
        return pb.FetchOffsetsResponse(results=_fetched(request.partitions, fetched))

    async def ListGroups(
        self, request: pb.ListGroupsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListGroupsResponse:
        coordinators = self._coordinators.led()
        async with asyncio.timeout(CALL_SECONDS_MAX):
            listed = await asyncio.gather(*map(_listed, coordinators))
        response = pb.ListGroupsResponse(offsets_partitions=self._coordinators.partition_count)
        for coordinator, groups in zip(coordinators, listed, strict=True):
            if groups is not None:
                response.coordinated.append(coordinator.number)
                response.groups.extend(self._group(group) for group in groups)
        return response

    async def DescribeGroup(
        self, request: pb.DescribeGroupRequest, context: grpc.aio.ServicerContext
    ) -> pb.DescribeGroupResponse:
        async with asyncio.timeout(CALL_SECONDS_MAX):
            described = await self._coordinators.of(request.group).describe(request.group)
        return pb.DescribeGroupResponse(
            group=described.group,
            state=_STATES[described.condition],
            generation=described.generation,
            coordinator_id=self._broker_id,
            members=map(_member, described.members),
            partitions=map(_partition, described.partitions),
            lag_records=sum(max(partition.lag_records, 0) for partition in described.partitions),
            lag_seconds=max((max(partition.lag_seconds, 0.0) for partition in described.partitions), default=0.0),
        )

    async def SeekGroup(self, request: pb.SeekGroupRequest, context: grpc.aio.ServicerContext) -> pb.SeekGroupResponse:
        check_count(len(request.targets), PARTITIONS_PER_REQUEST_MAX, "partitions")
        targets = [SeekTarget(one.topic, one.partition, one.topic_id, one.offset) for one in request.targets]
        async with asyncio.timeout(CALL_SECONDS_MAX):
            coordinator = self._coordinators.of(request.group)
            sought = await coordinator.seek(request.group, targets, validate_only=request.validate_only)
        return pb.SeekGroupResponse(generation=sought.generation, regranted=sought.regranted)

    async def DeleteGroup(
        self, request: pb.DeleteGroupRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteGroupResponse:
        async with asyncio.timeout(CALL_SECONDS_MAX):
            await self._coordinators.of(request.group).delete(request.group)
        return pb.DeleteGroupResponse()

    def _group(self, group: GroupListed) -> pb.ListGroupsResponse.Group:
        return pb.ListGroupsResponse.Group(
            group=group.group,
            state=_STATES[group.condition],
            members=group.members,
            partitions=group.partitions,
            coordinator_id=self._broker_id,
            topics=group.topics,
        )


# What comes in -------------------------------------------------------------------------------------------------------


def _beat(request: pb.HeartbeatRequest, host: str) -> Heartbeat:
    count = len(request.owned) + len(request.giving_up) + len(request.released)
    check_count(count, PARTITIONS_PER_REQUEST_MAX, "partitions")
    return Heartbeat(
        group=request.group,
        member_id=request.member_id,
        join=_join(request.join, host) if request.HasField("join") else None,
        owned=_granted(request.owned),
        giving_up=_granted(request.giving_up),
        released=_granted(request.released),
        leave=request.leave,
        leave_reason=request.leave_reason,
        max_wait_ms=min(max(request.max_wait_ms, 0), WAIT_MS_MAX),
    )


def _join(join: pb.HeartbeatRequest.Join, host: str) -> Join:
    check_count(len(join.topics), PARTITIONS_PER_REQUEST_MAX, "topics")
    for topic in join.topics:
        # It need not exist; but what no topic can be called is a mistake, and would be kept with the member.
        if not 0 < len(topic) <= NAME_LENGTH_MAX:
            raise InvalidTopic(
                f"{topic[:80]!r} ({len(topic)} characters) cannot be subscribed to: a topic's name has 1 to "
                f"{NAME_LENGTH_MAX} characters"
            )
    return Join(
        topics=tuple(join.topics),
        pattern=join.pattern if join.HasField("pattern") else None,
        session_timeout_ms=join.session_timeout_ms,
        instance_id=join.instance_id,
        client_id=join.client_id,
        host=host,
    )


def _granted(grants: Iterable[pb.Grant]) -> frozenset[Granted]:
    return frozenset(Granted(PartitionId(one.topic_id, one.partition), one.generation) for one in grants)


def _host(peer: str) -> str:
    """Where a call comes from, of what gRPC says of it: `ipv4:127.0.0.1:40404`, `ipv6:%5B::1%5D:40404`, `unix:path`."""
    kind, _, place = unquote(peer).partition(":")
    host = place.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer
    return host[:HOST_LENGTH_MAX]


def _check_metadata_in_all(entries: Iterable[OffsetToStore]) -> None:
    """Raises InvalidRequest. What a single one may have is for the coordinator to say: it refuses that one alone."""
    sizes = (len(entry.metadata.encode()) for entry in entries)
    size = sum(one for one in sizes if one <= METADATA_BYTES_HIGHEST)
    if size > STORED_METADATA_BYTES_MAX:
        raise InvalidRequest(
            f"the offsets of one call bring at most {STORED_METADATA_BYTES_MAX} bytes of metadata together, these "
            f"{size}; store them in several calls",
            size=size,
            limit=STORED_METADATA_BYTES_MAX,
        )


# What goes out -------------------------------------------------------------------------------------------------------


async def _listed(coordinator: GroupsCoordinator) -> list[GroupListed] | None:
    """Its groups; None if it coordinates no longer: then it is for its successor to tell of them."""
    try:
        return await coordinator.list_groups()
    except LograftError:
        return None


def _grant(told: GrantTold) -> pb.Grant:
    (topic_id, number), generation = told.granted
    return pb.Grant(topic_id=topic_id, partition=number, generation=generation, topic=told.topic, grown=told.grown)


def _fetched(
    wanted: Sequence[common_pb2.TopicPartition], fetched: Iterable[FetchedOffset | LograftError]
) -> list[pb.FetchOffsetsResponse.Result]:
    results = []
    for at, found in enumerate(fetched):
        if isinstance(found, LograftError):
            result = pb.FetchOffsetsResponse.Result(
                topic=wanted[at].topic, partition=wanted[at].partition, offset=-1, error=partition_error(found)
            )
        else:
            topic, number, topic_id, offset, metadata, stored_ms = found
            result = pb.FetchOffsetsResponse.Result(
                topic=topic,
                partition=number,
                topic_id=topic_id,
                offset=offset,
                metadata=metadata,
                stored_ms=stored_ms,
            )
        results.append(result)
    return results


def _member(member: MemberDescription) -> pb.DescribeGroupResponse.Member:
    return pb.DescribeGroupResponse.Member(**member._asdict())


def _partition(partition: PartitionDescription) -> pb.DescribeGroupResponse.Partition:
    fields = partition._asdict()
    return pb.DescribeGroupResponse.Partition(partition=fields.pop("number"), **fields)
