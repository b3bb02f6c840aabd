"""A coordinator of groups for tests: in memory, in the brokers of a FakeCluster, and misbehaving when told to.

It keeps the rules that members rely on, and notes in `violations` whatever a member does against them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from lograft.proto import errors
from lograft.v1 import common_pb2, groups_service_pb2, groups_service_pb2_grpc

if TYPE_CHECKING:
    from tests.unit.client.fake_cluster import FakeCluster

Place = tuple[str, int]
GroupsFault = Callable[[int, str, Any], str | None]
"""Given broker id, method and request: None, a reason to refuse with, "lose" (done, its answer lost) or "hang"."""


class Granted(NamedTuple):
    member_id: str
    generation: int
    grown: bool = False


class Stored(NamedTuple):
    offset: int
    metadata: str
    topic_id: str
    member_id: str
    generation: int


@dataclass
class FakeMember:
    member_id: str
    topics: tuple[str, ...]
    pattern: str | None
    session_s: float
    instance_id: str
    heard_at: float
    given_back: set[tuple[str, int, int]] = field(default_factory=set)


@dataclass
class FakeGroup:
    generation: int = 0
    members: dict[str, FakeMember] = field(default_factory=dict)
    fenced: set[str] = field(default_factory=set)
    grants: dict[Place, Granted] = field(default_factory=dict)
    target: dict[Place, str] = field(default_factory=dict)
    offsets: dict[Place, Stored] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)  # partitions of a topic when it was last shared out
    left: list[tuple[str, str]] = field(default_factory=list)  # member, reason

    def owned(self, member_id: str) -> dict[Place, int]:
        return {place: grant.generation for place, grant in self.grants.items() if grant.member_id == member_id}


class FakeGroups:
    """All groups of a cluster, and the broker that coordinates them."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.coordinator_id: int | None = 0
        self.fault: GroupsFault = lambda broker_id, method, request: None
        self.members_max = 100
        self.session_ms_min = 50
        self.violations: list[str] = []
        self.requests: list[tuple[str, Any]] = []
        self.groups: dict[str, FakeGroup] = {}
        self._changed = asyncio.Event()

    def group(self, name: str = "g") -> FakeGroup:
        return self.groups.setdefault(name, FakeGroup())

    def heartbeats(self) -> list[Any]:
        return [request for method, request in self.requests if method == "Heartbeat"]

    def stores(self) -> list[tuple[str, int, int, int]]:
        """Topic, partition, offset and generation of each entry that came."""
        asked = [request for method, request in self.requests if method == "StoreOffsets"]
        return [(e.topic, e.partition, e.offset, e.generation) for request in asked for e in request.entries]

    def stored(self, name: str = "g") -> dict[Place, int]:
        return {place: stored.offset for place, stored in self.group(name).offsets.items()}

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that changes with what members do."""
        while not holds():
            await asyncio.wait_for(self._changed.wait(), 5)

    def stir(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # What happens to groups ----------------------------------------------------------------------------------------

    def move_to(self, broker_id: int | None) -> None:
        self.coordinator_id = broker_id
        self.stir()

    def end_session(self, member_id: str, name: str = "g") -> None:
        self._remove(self.group(name), member_id)
        self.share_out(name)

    def seek(self, places: dict[Place, int], name: str = "g") -> int:
        """Move stored offsets; what members hold of them is granted anew, in one generation."""
        group = self.group(name)
        group.generation += 1
        for (topic, number), offset in places.items():
            topic_id = self.cluster.topics[topic].topic_id
            group.offsets[topic, number] = Stored(offset, "", topic_id, "", group.generation)
            if (grant := group.grants.get((topic, number))) is not None:
                group.grants[topic, number] = Granted(grant.member_id, group.generation)
        self.stir()
        return group.generation

    def share_out(self, name: str = "g") -> None:
        """Every partition to a member that wants it, evenly; owners keep what they may."""
        group = self.group(name)
        wanted = {
            (topic.name, number): [
                one.member_id
                for one in group.members.values()
                if topic.name in one.topics or (one.pattern is not None and re.fullmatch(one.pattern, topic.name))
            ]
            for topic in self.cluster.topics.values()
            for number in range(len(topic.partitions))
        }
        bound = -(-len(wanted) // max(1, len(group.members)))
        loads = dict.fromkeys(group.members, 0)
        group.target = {}
        owners = {place: grant.member_id for place, grant in group.grants.items()}
        for place, takers in sorted(wanted.items()):
            owner = owners.get(place, "")
            if owner in takers and loads[owner] < bound:
                group.target[place] = owner
                loads[owner] += 1
        for place, takers in sorted(wanted.items()):
            if place not in group.target and takers:
                group.target[place] = min(takers, key=lambda member_id: loads[member_id])
                loads[group.target[place]] += 1
        for place in [place for place in group.grants if group.grants[place].member_id not in group.members]:
            del group.grants[place]
        self._grant_what_is_free(group)
        for topic in {place[0] for place in wanted if wanted[place]}:
            group.seen[topic] = len(self.cluster.topics[topic].partitions)
        self.stir()

    def _grant_what_is_free(self, group: FakeGroup) -> None:
        free = {place: owner for place, owner in group.target.items() if place not in group.grants}
        if free:
            group.generation += 1
        for (topic, number), owner in free.items():
            grown = topic in group.seen and number >= group.seen[topic]
            group.grants[topic, number] = Granted(owner, group.generation, grown)

    def _remove(self, group: FakeGroup, member_id: str) -> None:
        group.members.pop(member_id, None)
        for place in group.owned(member_id):
            del group.grants[place]

    def _end_sessions(self, name: str, now: float) -> None:
        group = self.group(name)
        over = [one.member_id for one in group.members.values() if now > one.heard_at + one.session_s]
        for member_id in over:
            self.end_session(member_id, name)

    # Heartbeats ----------------------------------------------------------------------------------------------------

    async def heartbeat(self, request: Any) -> Any:
        loop = asyncio.get_running_loop()
        self._end_sessions(request.group, loop.time())
        group = self.group(request.group)
        member_id = request.member_id
        if member_id in group.fenced:
            raise errors.FencedInstance("a newer process has taken over")
        if request.leave:
            group.left.append((member_id, request.leave_reason))
            self.end_session(member_id, request.group)
            return groups_service_pb2.HeartbeatResponse()
        if request.HasField("join"):
            self._join(group, request, loop.time())
            self.share_out(request.group)
        if member_id not in group.members:
            raise errors.UnknownMember("not a member, or no longer")
        member = group.members[member_id]
        member.heard_at = loop.time()
        self._check(member, request)
        back = {(one.topic_id, one.partition, one.generation) for one in request.released}
        member.given_back |= back
        for place, generation in group.owned(member_id).items():
            if (self.cluster.topics[place[0]].topic_id, place[1], generation) in back:
                del group.grants[place]
        if back:
            self._grant_what_is_free(group)
        self.stir()
        return await self._answer(group, request, loop.time() + request.max_wait_ms / 1000)

    def _join(self, group: FakeGroup, request: Any, now: float) -> None:
        join, member_id = request.join, request.member_id
        if join.session_timeout_ms < self.session_ms_min:
            raise errors.InvalidSession("too short", limit_min=self.session_ms_min)
        known = group.members.get(member_id)
        if known is None and len(group.members) >= self.members_max:
            raise errors.GroupFull("the group is full", limit=self.members_max)
        pattern = join.pattern if join.HasField("pattern") else None
        for other in list(group.members.values()):
            if known is None and join.instance_id and other.instance_id == join.instance_id:
                group.generation += 1
                for place, grant in group.grants.items():
                    if grant.member_id == other.member_id:
                        group.grants[place] = Granted(member_id, group.generation)
                del group.members[other.member_id]
                group.fenced.add(other.member_id)
        group.members[member_id] = FakeMember(
            member_id, tuple(join.topics), pattern, join.session_timeout_ms / 1000, join.instance_id, now
        )
        if known is not None:
            group.members[member_id].given_back = known.given_back

    def _check(self, member: FakeMember, request: Any) -> None:
        held = [(one.topic_id, one.partition, one.generation) for one in (*request.owned, *request.giving_up)]
        if again := member.given_back & set(held):
            self.violations.append(f"{member.member_id} has again what it gave back: {again}")
        if len({one[:2] for one in held}) < len(held):
            self.violations.append(f"{member.member_id} holds a partition twice: {held}")

    async def _answer(self, group: FakeGroup, request: Any, until: float) -> Any:
        loop = asyncio.get_running_loop()
        said_owned = {(one.topic_id, one.partition, one.generation) for one in request.owned}
        said_giving_up = {(one.topic_id, one.partition, one.generation) for one in request.giving_up}
        while True:
            changed = self._changed
            if self.coordinator_id is None:
                raise errors.NoLeader("the coordinator is gone")
            if request.member_id in group.fenced:
                raise errors.FencedInstance("a newer process has taken over")
            member = group.members.get(request.member_id)
            if member is None:
                raise errors.UnknownMember("not a member, or no longer")
            answer = groups_service_pb2.HeartbeatResponse(generation=group.generation)
            answer.unknown_topics.extend(topic for topic in member.topics if topic not in self.cluster.topics)
            grants, revoked = set(), set()
            for place, grant in group.grants.items():
                if grant.member_id != request.member_id or place[0] not in self.cluster.topics:
                    continue
                stays = group.target.get(place) == request.member_id
                topic_id = self.cluster.topics[place[0]].topic_id
                (grants if stays else revoked).add((topic_id, place[1], grant.generation))
                (answer.grants if stays else answer.revoked).add(
                    topic_id=topic_id,
                    partition=place[1],
                    generation=grant.generation,
                    topic=place[0],
                    grown=grant.grown and place not in group.offsets,
                )
            now = loop.time()
            if grants != said_owned or revoked - said_giving_up or now >= until:
                return answer
            ends = [one.heard_at + one.session_s for one in group.members.values()]
            try:
                await asyncio.wait_for(changed.wait(), max(0.001, min(until, *ends) - now))
            except TimeoutError:
                self._end_sessions(request.group, loop.time())

    # Offsets -------------------------------------------------------------------------------------------------------

    def store(self, request: Any) -> Any:
        group = self.group(request.group)
        if request.member_id in group.fenced:
            raise errors.FencedInstance("a newer process has taken over")
        if not request.member_id and group.members:
            raise errors.GroupNotEmpty("the group has members", members=len(group.members))
        response = groups_service_pb2.StoreOffsetsResponse()
        for entry in request.entries:
            result = response.results.add(topic=entry.topic, partition=entry.partition)
            try:
                self._store(group, request.member_id, entry)
            except errors.LograftError as error:
                result.error.CopyFrom(_told(error))
        self.stir()
        return response

    def _store(self, group: FakeGroup, member_id: str, entry: Any) -> None:
        topic = self.cluster.topics.get(entry.topic)
        if topic is None:
            raise errors.UnknownTopic(f"no topic {entry.topic}")
        if entry.topic_id and entry.topic_id != topic.topic_id:
            raise errors.UnknownTopicId("another topic has the name now")
        if not 0 <= entry.partition < len(topic.partitions):
            raise errors.UnknownPartition("no such partition")
        if len(entry.metadata.encode()) > 4096:
            raise errors.OffsetMetadataTooLarge("too large", size=len(entry.metadata), limit=4096)
        end = topic.partitions[entry.partition].end
        if not 0 <= entry.offset <= end:
            raise errors.OffsetOutOfRange("out of range", offset=entry.offset, start=0, end=end)
        grant = group.grants.get((entry.topic, entry.partition))
        if member_id and (grant is None or grant[:2] != (member_id, entry.generation)):
            raise errors.LostGrant("not yours", generation=grant.generation if grant else None)
        group.offsets[entry.topic, entry.partition] = Stored(
            entry.offset, entry.metadata, topic.topic_id, member_id, entry.generation
        )

    def fetch(self, request: Any) -> Any:
        group = self.group(request.group)
        response = groups_service_pb2.FetchOffsetsResponse()
        wanted: Iterable[Place] = [(one.topic, one.partition) for one in request.partitions] or group.offsets
        for place in wanted:
            stored = group.offsets.get(place)
            result = response.results.add(topic=place[0], partition=place[1], offset=-1)
            if place[0] not in self.cluster.topics:
                result.error.CopyFrom(_told(errors.UnknownTopic(f"no topic {place[0]}")))
            elif stored is not None:
                result.offset, result.metadata, result.topic_id = stored.offset, stored.metadata, stored.topic_id
                result.stored_ms = 1
        return response


def _told(error: errors.LograftError) -> common_pb2.PartitionError:
    return common_pb2.PartitionError(
        reason=error.reason, message=error.message, retriable=error.retriable, metadata=error.facts
    )


class FakeGroupsServicer(groups_service_pb2_grpc.GroupsServiceServicer):
    """The way to FakeGroups at one broker."""

    def __init__(self, groups: FakeGroups, broker_id: int, abort: Callable[[Any, errors.LograftError], Any]) -> None:
        self._groups = groups
        self._broker_id = broker_id
        self._abort = abort

    async def _serve(self, method: str, request: Any, context: Any) -> Any:
        groups = self._groups
        groups.requests.append((method, request))
        fault = groups.fault(self._broker_id, method, request)
        try:
            if fault == "hang":
                await asyncio.Event().wait()
            if fault in errors.BY_REASON:
                raise errors.BY_REASON[fault](f"told to say {fault}")
            leader = groups.cluster.brokers.get(groups.coordinator_id if groups.coordinator_id is not None else -1)
            if leader is None:
                raise errors.NoLeader("nobody coordinates")
            if method == "FindCoordinator":
                answer = groups_service_pb2.FindCoordinatorResponse(broker_id=leader.broker_id, address=leader.address)
            elif leader.broker_id != self._broker_id:
                hidden = groups.cluster.hide_hints
                hint = {} if hidden else {"leader_id": leader.broker_id, "leader_address": leader.address, "term": 1}
                raise errors.NotLeader("not me", **hint)
            elif method == "Heartbeat":
                answer = await groups.heartbeat(request)
            else:
                answer = groups.store(request) if method == "StoreOffsets" else groups.fetch(request)
        except errors.LograftError as error:
            await self._abort(context, error)
        if fault == "lose":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return answer

    async def FindCoordinator(self, request: Any, context: Any) -> Any:
        return await self._serve("FindCoordinator", request, context)

    async def Heartbeat(self, request: Any, context: Any) -> Any:
        return await self._serve("Heartbeat", request, context)

    async def StoreOffsets(self, request: Any, context: Any) -> Any:
        return await self._serve("StoreOffsets", request, context)

    async def FetchOffsets(self, request: Any, context: Any) -> Any:
        return await self._serve("FetchOffsets", request, context)
