"""Consumer groups seen from outside: which there are, where they stand, how far behind, and moving them.

Invariants
    a list of groups is whole: it is told only once the answers cover every partition of `__offsets`
    moving a group goes by offsets, never by a change, so that repeating it moves nothing further
    whatever is not known is None, never a number that could be added up
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lograft.v1 import groups_service_pb2

from ..proto.errors import (
    BrokerUnavailable,
    InvalidRequest,
    LograftError,
    RequestTimedOut,
    UnknownGroup,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .connection import Connection, backoff_s
from .coordinator import Coordinator
from .metadata import Metadata
from .offset_bounds import Bound
from .offsets import OffsetLookup
from .records import TopicPartition
from .seek_plan import SameAs, SeekGoal, SeekPlan, Shift, Standing, check_not_to_come, parse_goal, plan_moves

State = Literal["empty", "stable", "moving", "unknown"]
"""empty: no members, only stored offsets; stable: every partition is where it should be; moving: some are on their way
from one member to another."""

_STATES: dict[int, State] = {
    groups_service_pb2.GROUP_STATE_EMPTY: "empty",
    groups_service_pb2.GROUP_STATE_STABLE: "stable",
    groups_service_pb2.GROUP_STATE_MOVING: "moving",
}
_ASK_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class GroupListing:
    """A group in a list. `coordinator_id` is the broker that coordinates it."""

    group: str
    state: State
    members: int
    partitions: int
    topics: tuple[str, ...]
    coordinator_id: int


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A consumer process of a group. Times in milliseconds; `heard_ms_ago` is None if this coordinator did not yet."""

    member_id: str
    instance_id: str
    client_id: str
    host: str
    topics: tuple[str, ...]
    pattern: str | None
    partitions: int
    session_timeout_ms: int
    heard_ms_ago: int | None
    joined_ms: int


@dataclass(frozen=True, slots=True)
class GroupPartition:
    """A partition that the group owns or has stored an offset of."""

    partition: TopicPartition
    topic_id: str
    member_id: str
    """Its owner; empty if it has none."""
    next_member_id: str
    """Who gets it once the owner has given it up; empty if it stays."""
    generation: int
    """Of the group, at which it was granted."""
    stored_offset: int | None
    metadata: str
    stored_ms: int | None
    """When it was stored: unix milliseconds, by the coordinator's clock."""
    start_offset: int | None
    committed_offset: int | None
    lag_records: int | None
    """Between the stored offset (without one: the start) and the committed end; None if its leader was not reached."""
    lag_seconds: float | None
    """Age of the next unread record, by its leader's clock; 0 if there is none, None if its leader was not reached."""


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group. Its lag in records is the sum, in seconds the largest, over the partitions of which it is known."""

    group: str
    state: State
    generation: int
    coordinator_id: int
    members: tuple[GroupMember, ...]
    partitions: tuple[GroupPartition, ...]
    lag_records: int
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class Seeked:
    """What became of a seek: under which generation the partitions that members held were granted anew (0 if none
    were), and how many of them."""

    generation: int
    regranted: int


_Listings = list[GroupListing]
_Failures = list[LograftError]
_Names = list[str]  # by these names in a class that has a method `list`


class Groups:
    """The consumer groups of a cluster; `Client.groups`.

    Raises, from every call
        InvalidGroup                        a name that no group may have
        RequestTimedOut, BrokerUnavailable  not carried out as far as is known, within the client's timeout
    """

    def __init__(self, connection: Connection, metadata: Metadata, *, timeout_s: float) -> None:
        self._connection = connection
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._now = connection.environment.now
        self._offsets = OffsetLookup(connection, metadata, timeout_s=timeout_s)
        self._coordinators: dict[str, Coordinator] = {}

    def _coordinator(self, group: str) -> Coordinator:
        found = self._coordinators.get(group)
        if found is None:
            found = Coordinator(self._connection, self._metadata, group, timeout_s=self._timeout_s)
            self._coordinators = {group: found}  # the last one is enough: who asks again asks about the same group
        return found

    # Which there are -----------------------------------------------------------------------------------------------

    async def list(self) -> _Listings:
        """All groups by name. Every broker is asked for those it coordinates, until nothing is left uncovered."""
        deadline = self._now() + self._timeout_s
        attempt = 0
        while True:
            refused: LograftError | None = None
            try:
                await self._metadata.refresh()
            except LograftError as error:
                refused = error
            addresses = [broker.address for broker in self._metadata.brokers.values()]
            answers = await asyncio.gather(*(self._ask_for_groups(address, deadline) for address in addresses))
            heard = [answer for answer in answers if not isinstance(answer, LograftError)]
            failures = [answer for answer in answers if isinstance(answer, LograftError)]
            partitions = max((answer.offsets_partitions for answer in heard), default=0)
            covered = {number for answer in heard for number in answer.coordinated}
            missing = set(range(partitions)) - covered
            if partitions and not missing:
                listed = {group.group: _listing(group) for answer in heard for group in answer.groups}
                return sorted(listed.values(), key=lambda listing: listing.group)
            for failure in failures:
                if not failure.retriable:
                    raise failure
            wait_s = backoff_s(attempt, self._connection.environment.chance)
            if self._now() + wait_s >= deadline:
                raise self._not_whole(missing, heard != [], failures or ([refused] if refused else []))
            attempt += 1
            await asyncio.sleep(wait_s)

    async def _ask_for_groups(
        self, address: str, deadline: float
    ) -> groups_service_pb2.ListGroupsResponse | LograftError:
        timeout_s = min(_ASK_TIMEOUT_S, deadline - self._now())
        try:
            method = self._connection.groups(address).ListGroups
            answer: groups_service_pb2.ListGroupsResponse = await self._connection.call(
                address, method, groups_service_pb2.ListGroupsRequest(), timeout_s=timeout_s
            )
        except LograftError as error:
            return error
        return answer

    def _not_whole(self, missing: set[int], anybody: bool, failures: _Failures) -> LograftError:
        why = "; ".join(dict.fromkeys(map(str, failures)))
        if not anybody:
            return BrokerUnavailable(f"no broker told its groups within {self._timeout_s:g} s: {why or 'none known'}")
        what = (
            f"nobody coordinates the groups of {len(missing)} of the partitions of __offsets"
            if missing
            else "groups are not set up yet, as __offsets has no partitions"
        )
        return RequestTimedOut(f"{what}, for {self._timeout_s:g} s{f': {why}' if why else ''}; is the cluster healthy?")

    # Where one stands ----------------------------------------------------------------------------------------------

    async def describe(self, group: str) -> GroupDescription:
        """Members, partitions with their owners and stored offsets, and lag, as the group's coordinator has them.

        Raises
            UnknownGroup  it has neither members nor stored offsets
        """
        coordinator = self._coordinator(group)
        request = groups_service_pb2.DescribeGroupRequest(group=group)
        answer: groups_service_pb2.DescribeGroupResponse = await coordinator.call("DescribeGroup", request)
        return _description(answer)

    async def resolve(self, topic: str, bound: Bound) -> dict[TopicPartition, int]:
        """Where a bound lies in each partition of a topic now; an offset beyond the end is the end.

        Raises
            UnknownTopic  there is none
        """
        view = await self._metadata.topic(topic, timeout_s=self._timeout_s)
        partitions = [TopicPartition(topic, partition.number) for partition in view.partitions]
        if bound.base == "zero":
            ends = await self._offsets.find(dict.fromkeys(partitions, "end"))
            return {partition: min(bound.number, end) for partition, end in ends.items()}
        return await self._offsets.resolve(bound, partitions)

    # Moving one ----------------------------------------------------------------------------------------------------

    async def seek(
        self, group: str, offsets: Mapping[TopicPartition, int] | SeekPlan, validate_only: bool = False
    ) -> Seeked:
        """Move the group's stored offsets, all of them in one generation, also while members read: what they hold is
        granted to them anew, and nothing they fetched before can be stored over it. `validate_only` changes nothing.

        Raises
            OffsetOutOfRange                below a partition's start or past its committed end; nothing was moved
            UnknownTopic, UnknownPartition  there is no such partition (any more); nothing was moved
        """
        coordinator = self._coordinator(group)
        request = groups_service_pb2.SeekGroupRequest(group=group, validate_only=validate_only)
        if isinstance(offsets, SeekPlan):
            for move in offsets.moves:
                target = request.targets.add(topic_id=move.topic_id, offset=move.to_offset)
                target.topic, target.partition = move.partition
        else:
            for partition, offset in offsets.items():
                topic, number = partition = TopicPartition(*partition)
                view = await self._metadata.topic(topic, timeout_s=self._timeout_s)
                if not 0 <= number < len(view.partitions):
                    raise _unknown_partition(topic, number, len(view.partitions))
                if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset < 1 << 63:
                    raise InvalidRequest(
                        f"{partition}: {str(offset)[:80]} is no offset: give the next to read, 0 or above"
                    )
                request.targets.add(topic=topic, partition=number, topic_id=view.topic_id, offset=offset)
        try:
            answer = await coordinator.call("SeekGroup", request)
        except (UnknownTopicId, UnknownTopic):
            for target in request.targets:
                self._metadata.topics.pop(target.topic, None)  # the next one looks it up again
            raise
        return Seeked(answer.generation, answer.regranted)

    async def plan_seek(
        self,
        group: str,
        to: SeekGoal | datetime | str | int,
        topics: Iterable[str] | None = None,
        partitions: Iterable[int] | None = None,
    ) -> SeekPlan:
        """What moving the group would do; nothing is changed. `seek(group, plan)` carries it out.

        `to` is a datetime, or a place as `seek_plan` writes it (`start`, `@-1h`, `shift:-100`, `group:other`). The plan
        covers what the group has stored, owns or subscribes to; with `topics` all partitions of these, also those new
        to the group; with `partitions` only these numbers.

        Raises
            InvalidRequest                  no place, a time still to come, or nothing that could be moved
            UnknownGroup                    there is none, and no `topics` say where it is to begin
            UnknownTopic, UnknownPartition  there is no such thing
            OffsetOutOfRange                an offset that a partition does not hold
        """
        goal = self._goal(to)
        if isinstance(topics, str):
            raise InvalidRequest(f"topics={topics[:80]!r}: give a list of names, even of one")
        named = None if topics is None else tuple(dict.fromkeys(topics))
        try:
            described = await self.describe(group)
        except UnknownGroup:
            if not named:
                raise
            described = GroupDescription(group, "empty", 0, -1, (), (), 0, 0.0)
        chosen = await self._covered(described, named, None if partitions is None else tuple(partitions))
        if not chosen:
            raise InvalidRequest(f"group {group[:80]!r} has nothing stored and reads nothing: name topics to begin in")
        known = {one.partition: one for one in described.partitions}
        extents = await self._offsets.extents(chosen)
        standings = {}
        for partition, topic_id in chosen.items():
            one = known.get(partition)
            is_same = one is not None and one.topic_id in ("", topic_id)
            standings[partition] = Standing(
                one.member_id if one is not None and is_same else "",
                one.stored_offset if one is not None and is_same else None,
                *extents[partition],
                topic_id,
            )
        found: Mapping[TopicPartition, int] = {}
        if isinstance(goal, SameAs):
            found = await self._stored(goal.group, chosen)
            if not found:
                raise InvalidRequest(f"group {goal.group[:80]!r} has nothing stored in any of these partitions")
        elif isinstance(goal, Bound) and goal.base == "time":
            found = await self._offsets.find(dict.fromkeys(chosen, goal.number))
        moves, left_out = plan_moves(goal, standings, found)
        return SeekPlan(group, described.generation, moves, left_out)

    def _goal(self, to: SeekGoal | datetime | str | int) -> SeekGoal:
        now_ms = self._connection.environment.unix_ms()
        if isinstance(to, datetime):
            if to.tzinfo is None:
                raise InvalidRequest(f"{to} has no time zone: give it one, as datetime.now(UTC) has", time=to)
            to = Bound("time", round(to.timestamp() * 1000))
        if isinstance(to, Bound):
            check_not_to_come(to, now_ms=now_ms)
            if to.base == "stored":
                raise InvalidRequest("a group is where its stored offsets are already")
        return to if isinstance(to, Bound | Shift | SameAs) else parse_goal(to, now_ms=now_ms)

    async def _covered(
        self, described: GroupDescription, named: tuple[str, ...] | None, numbers: tuple[int, ...] | None
    ) -> dict[TopicPartition, str]:
        """The partitions that a plan is about, with the ids of their topics."""
        if named is None:
            topics = dict.fromkeys(one.partition.topic for one in described.partitions)
            subscribed = dict.fromkeys(topic for member in described.members for topic in member.topics)
            patterns = [member.pattern for member in described.members if member.pattern]
            await self._metadata.refresh(*topics, *subscribed, all_topics=bool(patterns))
            for pattern in patterns:
                subscribed |= dict.fromkeys(self._matching(pattern))
        else:
            topics, subscribed = {}, dict.fromkeys(named)
            await self._metadata.refresh(*named)
        found: dict[TopicPartition, str] = {}
        for name in subscribed:
            if named is None and name not in self._metadata.topics:
                continue  # subscribed to before it exists
            view = await self._metadata.topic(name, timeout_s=self._timeout_s)
            found |= {TopicPartition(name, partition.number): view.topic_id for partition in view.partitions}
        for one in described.partitions if named is None else ():
            # What is stored of a topic that was deleted cannot be moved, and is of no use to anybody.
            known = self._metadata.topics.get(one.partition.topic)
            if known is not None and one.topic_id in ("", known.topic_id):
                found[one.partition] = known.topic_id
        if numbers is None:
            return found
        there = {partition.partition for partition in found}
        for number in numbers:
            if number not in there and found:
                raise UnknownPartition(
                    f"no partition {str(number)[:80]} is among those of the topics to move: they have {min(there)} to "
                    f"{max(there)}",
                    partition=number,
                )
        return {partition: topic_id for partition, topic_id in found.items() if partition.partition in numbers}

    def _matching(self, pattern: str) -> _Names:
        try:
            compiled = re.compile(pattern)
        except re.error:
            return []  # the brokers took it; what it means to them shows in what is owned
        return [name for name, view in self._metadata.topics.items() if compiled.fullmatch(name) and not view.internal]

    async def _stored(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Another group's stored offsets, of the partitions where it has any."""
        other = Coordinator(self._connection, self._metadata, group, timeout_s=self._timeout_s)
        return {partition: stored.offset for partition, stored in (await other.fetch(partitions)).items()}

    # Forgetting one ------------------------------------------------------------------------------------------------

    async def delete(self, group: str) -> None:
        """Forget a group without members, and its stored offsets, for good.

        Raises
            UnknownGroup   there is none
            GroupNotEmpty  it has members: stop them first
        """
        await self.describe(group)
        try:
            request = groups_service_pb2.DeleteGroupRequest(group=group)
            await self._coordinator(group).call("DeleteGroup", request)
        except UnknownGroup:
            pass  # it was there just now: an earlier try was carried out, or somebody else was faster


def _unknown_partition(topic: str, number: int, partitions: int) -> UnknownPartition:
    return UnknownPartition(
        f"topic {topic!r} has partitions 0 to {partitions - 1}; {number} is none of them",
        topic=topic,
        partition=number,
    )


def _known(number: int) -> int | None:
    return number if number >= 0 else None


def _listing(group: groups_service_pb2.ListGroupsResponse.Group) -> GroupListing:
    return GroupListing(
        group.group,
        _STATES.get(group.state, "unknown"),
        group.members,
        group.partitions,
        tuple(group.topics),
        group.coordinator_id,
    )


def _description(answer: groups_service_pb2.DescribeGroupResponse) -> GroupDescription:
    members = tuple(
        GroupMember(
            member.member_id,
            member.instance_id,
            member.client_id,
            member.host,
            tuple(member.topics),
            member.pattern or None,
            member.partitions,
            member.session_timeout_ms,
            _known(member.heard_ms_ago),
            member.joined_ms,
        )
        for member in sorted(answer.members, key=lambda member: (member.instance_id, member.member_id))
    )
    partitions = tuple(
        GroupPartition(
            TopicPartition(one.topic, one.partition),
            one.topic_id,
            one.member_id,
            one.next_member_id,
            one.generation,
            _known(one.stored_offset),
            one.metadata,
            one.stored_ms if one.stored_offset >= 0 else None,
            _known(one.start_offset),
            _known(one.committed_offset),
            _known(one.lag_records),
            one.lag_seconds if one.lag_seconds >= 0 else None,
        )
        for one in sorted(answer.partitions, key=lambda one: (one.topic, one.partition))
    )
    return GroupDescription(
        answer.group,
        _STATES.get(answer.state, "unknown"),
        answer.generation,
        answer.coordinator_id,
        members,
        partitions,
        answer.lag_records,
        answer.lag_seconds,
    )
