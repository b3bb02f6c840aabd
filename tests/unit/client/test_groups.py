"""Groups seen from outside, against brokers that answer as they are told. No sockets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from lograft.client.environment import Environment
from lograft.client.groups import Groups
from lograft.client.metadata import Metadata
from lograft.client.offset_bounds import Bound
from lograft.client.records import TopicPartition
from lograft.proto import errors
from lograft.v1 import broker_service_pb2, groups_service_pb2

NOW_MS = 1_700_000_000_000
T0, T1, T2, T3 = (TopicPartition("t", number) for number in range(4))
U0 = TopicPartition("u", 0)

Listed = groups_service_pb2.ListGroupsResponse
Described = groups_service_pb2.DescribeGroupResponse


@dataclass
class FakeBrokers:
    """Three brokers, of which broker 0 coordinates every group; stands in the place of the client's connection."""

    topics: dict[str, int] = field(default_factory=lambda: {"t": 4, "u": 1, "__offsets": 2})
    """Name -> number of partitions, each of which holds offsets 10 to 100; a topic's id is its name twice."""
    listings: dict[int, deque[Listed | errors.LograftError]] = field(default_factory=dict)
    """What each broker answers to ListGroups, the last one for ever."""
    groups_known: dict[str, Described] = field(default_factory=dict)
    stored: dict[str, dict[TopicPartition, int]] = field(default_factory=dict)
    refusals: deque[errors.LograftError] = field(default_factory=deque)
    """What the coordinator answers to the next changes, before it carries any out."""
    sought: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    seconds: float = 0.0
    seconds_a_look: float = 0.001

    def __post_init__(self) -> None:
        self.environment = Environment(now=self._now, unix_ms=lambda: NOW_MS, chance=Random(1))
        self.bootstrap = ("b0:1",)

    def _now(self) -> float:
        self.seconds += self.seconds_a_look
        return self.seconds

    def broker(self, address: str) -> Any:
        return _Stub(self, int(address[1]))

    groups = broker

    async def call(self, address: str, method: Callable[..., Any], request: Any, *, timeout_s: float) -> Any:
        await asyncio.sleep(0)
        return method(request)

    def describe(self, group: str, *partitions: Any, members: Mapping[str, Any] | None = None, **more: Any) -> None:
        answer = Described(group=group, generation=7, coordinator_id=0, **more)
        for member_id, subscription in (members or {}).items():
            answer.members.add(member_id=member_id, heard_ms_ago=-1, **subscription)
        for (topic, number), owner, stored in partitions:
            answer.partitions.add(
                topic=topic, partition=number, topic_id=topic * 2, member_id=owner, stored_offset=stored
            )
        self.groups_known[group] = answer


@dataclass
class _Stub:
    """One broker's services."""

    all: FakeBrokers
    broker_id: int

    def Metadata(self, request: Any) -> Any:
        answer = broker_service_pb2.MetadataResponse(cluster_id="c")
        for broker_id in range(3):
            answer.brokers.add(broker_id=broker_id, address=f"b{broker_id}:1", alive=True)
        for name in self.all.topics if request.all_topics else request.topics:
            if name not in self.all.topics:
                answer.unknown_topics.append(name)
                continue
            topic = answer.topics.add(name=name, topic_id=name * 2, internal=name.startswith("__"))
            for number in range(self.all.topics[name]):
                topic.partitions.add(number=number, leader_id=number % 3, term=1)
        return answer

    def ListOffsets(self, request: Any) -> Any:
        answer = broker_service_pb2.ListOffsetsResponse()
        for query in request.queries:
            if query.WhichOneof("where") == "timestamp_ms":
                offset = 33
            else:
                offset = 10 if query.bound == broker_service_pb2.ListOffsetsRequest.BOUND_START else 100
            answer.results.add(topic=query.topic, partition=query.partition, offset=offset)
        return answer

    def FindCoordinator(self, request: Any) -> Any:
        return groups_service_pb2.FindCoordinatorResponse(broker_id=0, address="b0:1", term=1)

    def ListGroups(self, request: Any) -> Any:
        self.all.asked.append(f"b{self.broker_id}")
        answers = self.all.listings[self.broker_id]
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if isinstance(answer, errors.LograftError):
            raise answer
        return answer

    def DescribeGroup(self, request: Any) -> Any:
        if request.group not in self.all.groups_known:
            raise errors.UnknownGroup(f"there is no group {request.group!r}")
        return self.all.groups_known[request.group]

    def FetchOffsets(self, request: Any) -> Any:
        stored = self.all.stored.get(request.group, {})
        answer = groups_service_pb2.FetchOffsetsResponse()
        for one in request.partitions:
            offset = stored.get(TopicPartition(one.topic, one.partition), -1)
            answer.results.add(topic=one.topic, partition=one.partition, offset=offset)
        return answer

    def SeekGroup(self, request: Any) -> Any:
        if self.all.refusals:
            raise self.all.refusals.popleft()
        self.all.sought.append(request)
        return groups_service_pb2.SeekGroupResponse(generation=8, regranted=len(request.targets))

    def DeleteGroup(self, request: Any) -> Any:
        if self.all.refusals:
            refusal = self.all.refusals.popleft()
            if isinstance(refusal, errors.UnknownOutcome):
                del self.all.groups_known[request.group]
            raise refusal
        if self.all.groups_known.pop(request.group, None) is None:
            raise errors.UnknownGroup("gone")
        return groups_service_pb2.DeleteGroupResponse()


def with_groups(
    test: Callable[[Groups], Coroutine[Any, Any, Any]], brokers: FakeBrokers, timeout_s: float = 5.0
) -> Any:
    async def whole() -> Any:
        connection: Any = brokers
        return await asyncio.wait_for(test(Groups(connection, Metadata(connection), timeout_s=timeout_s)), 20)

    return asyncio.run(whole())


def listed(*groups: str, coordinated: tuple[int, ...], of: int = 2) -> Listed:
    named = [Listed.Group(group=group, state=groups_service_pb2.GROUP_STATE_STABLE, members=1) for group in groups]
    return Listed(groups=named, coordinated=coordinated, offsets_partitions=of)


DOWN = errors.BrokerUnavailable("b2 is down")
NOTHING = listed(coordinated=())


# Listing --------------------------------------------------------------------------------------------------------------


def test_groups_of_all_coordinators_are_listed_by_name() -> None:
    brokers = FakeBrokers(
        listings={
            0: deque([listed("z", "b", coordinated=(0,))]),
            1: deque([listed("a", coordinated=(1,))]),
            2: deque([NOTHING]),
        }
    )
    found = with_groups(lambda groups: groups.list(), brokers)
    assert [(group.group, group.state, group.members) for group in found] == [
        ("a", "stable", 1), ("b", "stable", 1), ("z", "stable", 1)
    ]  # fmt: skip


def test_a_list_waits_until_every_partition_of_offsets_has_a_coordinator() -> None:
    brokers = FakeBrokers(
        listings={
            0: deque([listed("a", coordinated=(0,))]),
            1: deque([NOTHING, listed(coordinated=(), of=0), listed("b", coordinated=(1,))]),
            2: deque([NOTHING]),
        }
    )
    assert [group.group for group in with_groups(lambda groups: groups.list(), brokers)] == ["a", "b"]
    assert brokers.asked.count("b1") == 3


def test_a_broker_that_is_down_is_not_missed_where_others_coordinate_all() -> None:
    brokers = FakeBrokers(listings={0: deque([listed("a", coordinated=(0, 1))]), 1: deque([NOTHING]), 2: deque([DOWN])})
    assert [group.group for group in with_groups(lambda groups: groups.list(), brokers)] == ["a"]
    assert brokers.asked.count("b2") == 1


def test_a_list_that_cannot_be_whole_is_refused_and_not_given_in_part() -> None:
    brokers = FakeBrokers(
        listings={0: deque([listed("a", coordinated=(0,))]), 1: deque([NOTHING]), 2: deque([DOWN])},
        seconds_a_look=0.1,
    )
    with pytest.raises(errors.RequestTimedOut, match=r"1 of the partitions of __offsets, for 1 s: b2 is down"):
        with_groups(lambda groups: groups.list(), brokers, timeout_s=1.0)


def test_when_no_broker_answers_a_list_says_why() -> None:
    brokers = FakeBrokers(listings={number: deque([DOWN]) for number in range(3)}, seconds_a_look=0.1)
    with pytest.raises(errors.BrokerUnavailable, match="b2 is down"):
        with_groups(lambda groups: groups.list(), brokers, timeout_s=1.0)


def test_before_there_is_an_offsets_topic_a_list_waits_for_it() -> None:
    brokers = FakeBrokers(
        listings={
            0: deque([listed(coordinated=(), of=0), listed(coordinated=(0, 1))]),
            1: deque([listed(coordinated=(), of=0)]),
            2: deque([DOWN]),
        }
    )
    assert with_groups(lambda groups: groups.list(), brokers) == []


# Describing -----------------------------------------------------------------------------------------------------------


def test_what_is_not_known_is_none_and_never_a_number() -> None:
    brokers = FakeBrokers()
    brokers.describe("g", (T0, "m1", -1), members={"m1": {"topics": ["t"]}})
    brokers.groups_known["g"].partitions[0].MergeFrom(
        Described.Partition(start_offset=-1, committed_offset=-1, lag_records=-1, lag_seconds=-1)
    )
    group = with_groups(lambda groups: groups.describe("g"), brokers)
    (one,) = group.partitions
    assert (one.partition, one.member_id) == (T0, "m1")
    assert (one.stored_offset, one.stored_ms, one.start_offset, one.committed_offset) == (None, None, None, None)
    assert (one.lag_records, one.lag_seconds, group.members[0].heard_ms_ago) == (None, None, None)


def test_an_unknown_group_is_refused_as_such() -> None:
    with pytest.raises(errors.UnknownGroup):
        with_groups(lambda groups: groups.describe("g"), FakeBrokers())


def test_a_state_of_a_later_version_is_unknown() -> None:
    brokers = FakeBrokers()
    brokers.describe("g", state=99)
    assert with_groups(lambda groups: groups.describe("g"), brokers).state == "unknown"


# Planning -------------------------------------------------------------------------------------------------------------


def test_a_plan_covers_what_is_stored_owned_and_subscribed_to() -> None:
    brokers = FakeBrokers(topics={"t": 2, "u": 1, "v": 1, "__offsets": 1, "other": 1})
    members = {"m1": {"topics": ["u", "not-yet"]}, "m2": {"pattern": "[v_].*"}}
    brokers.describe("g", (T0, "", 50), (T1, "m1", -1), members=members)
    plan = with_groups(lambda groups: groups.plan_seek("g", "start"), brokers)
    assert plan.offsets == {T0: 10, T1: 10, U0: 10, TopicPartition("v", 0): 10}
    assert [(move.stored_offset, move.owner) for move in plan.moves[:2]] == [(50, ""), (None, "m1")]
    assert plan.generation == 7


def test_topics_named_are_planned_whole_even_if_the_group_never_read_them() -> None:
    brokers = FakeBrokers()
    brokers.describe("g", (U0, "m1", 50), (T1, "", 20))
    plan = with_groups(lambda groups: groups.plan_seek("g", "end", topics=["t"]), brokers)
    assert [(move.partition, move.stored_offset) for move in plan.moves] == [
        (T0, None),
        (T1, 20),
        (T2, None),
        (T3, None),
    ]


def test_partitions_named_are_planned_alone_and_must_be_there() -> None:
    brokers = FakeBrokers()
    brokers.describe("g", (T0, "", 50), (T1, "", 50), (U0, "", 50))
    plan = with_groups(lambda groups: groups.plan_seek("g", "end", partitions=[0]), brokers)
    assert list(plan.offsets) == [T0, U0]
    with pytest.raises(errors.UnknownPartition, match=r"no partition 9 .* they have 0 to 1"):
        with_groups(lambda groups: groups.plan_seek("g", "end", partitions=[0, 9]), brokers)


def test_the_name_of_one_topic_is_not_taken_for_a_list_of_its_letters() -> None:
    with pytest.raises(errors.InvalidRequest, match="give a list of names"):
        with_groups(lambda groups: groups.plan_seek("g", "end", topics="orders"), FakeBrokers())


def test_a_group_that_is_not_there_can_be_given_a_beginning_but_only_in_topics_named() -> None:
    plan = with_groups(lambda groups: groups.plan_seek("new", "start", topics=["u"]), FakeBrokers())
    assert (plan.offsets, plan.generation) == ({U0: 10}, 0)
    with pytest.raises(errors.UnknownGroup):
        with_groups(lambda groups: groups.plan_seek("new", "start"), FakeBrokers())


def test_a_topic_that_was_deleted_or_made_anew_is_not_planned_by_what_is_stored_of_the_old_one() -> None:
    brokers = FakeBrokers()
    brokers.describe("g", (TopicPartition("gone", 0), "", 5), (T0, "", 50), (U0, "", 50))
    brokers.groups_known["g"].partitions[2].topic_id = "the one before"
    plan = with_groups(lambda groups: groups.plan_seek("g", "start"), brokers)
    assert plan.offsets == {T0: 10}
    plan = with_groups(lambda groups: groups.plan_seek("g", "start", topics=["u"]), brokers)
    assert plan.moves[0].stored_offset is None


@pytest.mark.parametrize("to", ["@-1h", datetime(2023, 11, 14, tzinfo=UTC), Bound("time", 5)])
def test_a_time_is_looked_up_at_the_leaders(to: Any) -> None:
    brokers = FakeBrokers()
    brokers.describe("g", (T0, "", 50))
    assert with_groups(lambda groups: groups.plan_seek("g", to), brokers).offsets == {T0: 33}


@pytest.mark.parametrize(
    "to", ["@2199-01-01", datetime(2199, 1, 1, tzinfo=UTC), Bound("time", NOW_MS + 100_000), datetime(2020, 1, 1), "x"]
)  # fmt: skip
def test_a_time_to_come_or_without_a_zone_is_refused_before_anybody_is_asked(to: Any) -> None:
    with pytest.raises(errors.InvalidRequest):
        with_groups(lambda groups: groups.plan_seek("g", to), FakeBrokers())


def test_another_groups_offsets_are_asked_of_its_coordinator() -> None:
    brokers = FakeBrokers(stored={"other": {T0: 60}})
    brokers.describe("g", (T0, "", 50), (T1, "", 50))
    plan = with_groups(lambda groups: groups.plan_seek("g", "group:other"), brokers)
    assert plan.offsets == {T0: 60}
    assert [left.partition for left in plan.left_out] == [T1]
    with pytest.raises(errors.InvalidRequest, match="'nobody' has nothing stored"):
        with_groups(lambda groups: groups.plan_seek("g", "group:nobody"), brokers)


# Moving ---------------------------------------------------------------------------------------------------------------


def test_a_plan_is_carried_out_in_one_call_that_names_the_topics_by_id() -> None:
    brokers = FakeBrokers()
    brokers.describe("g", (T0, "m1", 50), (U0, "", 50))

    async def plan_and_seek(groups: Groups) -> Any:
        return await groups.seek("g", await groups.plan_seek("g", "start"))

    seeked = with_groups(plan_and_seek, brokers)
    assert (seeked.generation, seeked.regranted) == (8, 2)
    (request,) = brokers.sought
    assert [(one.topic, one.partition, one.topic_id, one.offset) for one in request.targets] == [
        ("t", 0, "tt", 10), ("u", 0, "uu", 10)
    ]  # fmt: skip


def test_offsets_given_by_hand_are_sent_as_they_are_and_a_check_changes_nothing() -> None:
    brokers = FakeBrokers()
    with_groups(lambda groups: groups.seek("g", {T3: 12}, validate_only=True), brokers)
    (request,) = brokers.sought
    assert request.validate_only
    assert [(one.topic, one.partition, one.topic_id, one.offset) for one in request.targets] == [("t", 3, "tt", 12)]


@pytest.mark.parametrize(
    ("offsets", "refusal"),
    [
        ({TopicPartition("t", 4): 1}, errors.UnknownPartition),
        ({T0: -1}, errors.InvalidRequest),
        ({T0: 1 << 63}, errors.InvalidRequest),
        ({T0: "5"}, errors.InvalidRequest),
        ({T0: 1.5}, errors.InvalidRequest),
        ({T0: True}, errors.InvalidRequest),
        ({TopicPartition("nosuch", 0): 1}, errors.UnknownTopic),
    ],
)
def test_what_cannot_be_sought_is_refused_and_nothing_is_moved(offsets: Any, refusal: type[Exception]) -> None:
    brokers = FakeBrokers(seconds_a_look=0.1)
    with pytest.raises(refusal):
        with_groups(lambda groups: groups.seek("g", offsets), brokers)
    assert brokers.sought == []


def test_a_seek_goes_on_through_an_election() -> None:
    brokers = FakeBrokers(refusals=deque([errors.NoLeader("election"), errors.UnknownOutcome("lost")]))
    assert with_groups(lambda groups: groups.seek("g", {T0: 12}), brokers).generation == 8


# Deleting -------------------------------------------------------------------------------------------------------------


def test_a_deletion_whose_answer_was_lost_is_done() -> None:
    brokers = FakeBrokers(refusals=deque([errors.UnknownOutcome("lost")]))
    brokers.describe("g")
    with_groups(lambda groups: groups.delete("g"), brokers)
    assert "g" not in brokers.groups_known


def test_a_group_that_is_not_there_or_has_members_is_not_deleted() -> None:
    brokers = FakeBrokers(refusals=deque([errors.GroupNotEmpty("it has 2 members", members=2)]))
    brokers.describe("g")
    with pytest.raises(errors.GroupNotEmpty):
        with_groups(lambda groups: groups.delete("g"), brokers)
    with pytest.raises(errors.UnknownGroup):
        with_groups(lambda groups: groups.delete("nosuch"), brokers)


# Bounds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bound", "offset"), [(Bound("end"), 100), (Bound("end", -5), 95), (Bound("zero", 500), 100)])
def test_a_bound_is_looked_up_in_every_partition_of_a_topic(bound: Bound, offset: int) -> None:
    found = with_groups(lambda groups: groups.resolve("t", bound), FakeBrokers())
    assert found == dict.fromkeys((T0, T1, T2, T3), offset)
