"""Consumer groups by raw gRPC: who gets which partition, what is stored, and what survives when brokers are killed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import broker_service_pb2, common_pb2
from lograft.v1 import groups_service_pb2 as pb

from tests.integration.brokers import Broker, Brokers, a_batch, error_info, eventually

PARTITIONS = 4
AGAIN = {"NOT_LEADER", "NO_LEADER", "UNAVAILABLE", "UNKNOWN_OUTCOME", "TIMED_OUT"}
SESSION_MS = 10_000

Held = dict[int, int]
"""Partition number -> generation under which it was granted."""


class Group:
    """A group as its clients see it; calls go to whoever coordinates it, again if that changes."""

    def __init__(self, brokers: Brokers, name: str, topic: admin_pb.TopicDescription) -> None:
        self.brokers = brokers
        self.name = name
        self.topic = topic

    @property
    def coordinator(self) -> Broker:
        request = pb.FindCoordinatorRequest(group=self.name)
        found = eventually(lambda: self.brokers.running[0].groups.FindCoordinator(request, timeout=5))
        return self.brokers[found.broker_id]

    def ask(self, method: str, seconds: float = 15, **fields: Any) -> Any:
        """The coordinator's answer. Raises what it refuses with, but for what asking again can mend."""
        request = getattr(pb, f"{method}Request")(group=self.name, **fields)
        deadline = time.monotonic() + seconds
        while True:
            try:
                return getattr(self.coordinator.groups, method)(request, timeout=10)
            except grpc.RpcError as error:
                known = error.code() is grpc.StatusCode.UNAVAILABLE or error_info(error)[1] in AGAIN
                if not known or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def refusal(self, method: str, **fields: Any) -> str:
        """The reason with which a call is refused; its message is short."""
        with pytest.raises(grpc.RpcError) as failure:
            self.ask(method, **fields)
        assert len(failure.value.details()) < 500
        return error_info(failure.value)[1]

    def store(self, offset: int, partition: int = 0, member: Member | None = None, **fields: Any) -> str:
        """Store one offset. The reason why it was not; empty if it was."""
        generation = 0 if member is None else member.held.get(partition, 0)
        fields = {"topic": self.topic.name, "generation": generation, **fields}
        entry = pb.StoreOffsetsRequest.Entry(partition=partition, offset=offset, **fields)
        member_id = "" if member is None else member.member_id
        (result,) = self.ask("StoreOffsets", member_id=member_id, entries=[entry]).results
        return str(result.error.reason)

    def stored(self) -> dict[int, tuple[int, str]]:
        """Partition -> offset and metadata, of all that is stored."""
        results = self.ask("FetchOffsets").results
        return {result.partition: (result.offset, result.metadata) for result in results}

    def seek(self, *offsets: int, **fields: Any) -> pb.SeekGroupResponse:
        """To these offsets, in partitions 0, 1, ..."""
        answer: pb.SeekGroupResponse = self.ask("SeekGroup", targets=self.targets(*offsets), **fields)
        return answer

    def targets(self, *offsets: int) -> list[pb.SeekGroupRequest.Target]:
        name = self.topic.name
        return [pb.SeekGroupRequest.Target(topic=name, partition=n, offset=o) for n, o in enumerate(offsets)]

    def describe(self) -> pb.DescribeGroupResponse:
        described: pb.DescribeGroupResponse = self.ask("DescribeGroup")
        return described

    def member(self, member_id: str, **join: Any) -> Member:
        return Member(self, member_id, **join)


class Member:
    """One member that does as it is told, heartbeat by heartbeat."""

    def __init__(self, group: Group, member_id: str, **join: Any) -> None:
        self.group = group
        self.member_id = member_id
        join = {"topics": [group.topic.name], "session_timeout_ms": SESSION_MS, **join}
        self.join: pb.HeartbeatRequest.Join | None = pb.HeartbeatRequest.Join(**join)
        self.held: Held = {}
        self.giving_up: Held = {}

    def request(self, released: Held | None = None, **fields: Any) -> pb.HeartbeatRequest:
        return pb.HeartbeatRequest(
            group=self.group.name,
            member_id=self.member_id,
            join=self.join,
            owned=self._grants(self.held),
            giving_up=self._grants(self.giving_up),
            released=self._grants(released or {}),
            **fields,
        )

    def beat(self, max_wait_ms: int = 0, released: Held | None = None) -> Member:
        """One heartbeat, and what its answer says taken to heart."""
        fields = {field.name: value for field, value in self.request(released).ListFields() if field.name != "group"}
        self.take(self.group.ask("Heartbeat", max_wait_ms=max_wait_ms, **fields))
        return self

    def take(self, answer: pb.HeartbeatResponse) -> None:
        self.join = None
        self.held = _held(answer.grants)
        self.giving_up = _held(answer.revoked)

    def give_back(self) -> Member:
        """Release whatever is to be given up."""
        released, self.giving_up = self.giving_up, {}
        return self.beat(released=released)

    def await_grants(self, count: int) -> Member:
        """Heartbeat until it holds so many partitions, and has none to give up."""
        eventually(lambda: len(self.beat(max_wait_ms=500).held) == count and not self.giving_up)
        return self

    def leave(self) -> None:
        self.group.ask("Heartbeat", member_id=self.member_id, leave=True, leave_reason="closed")
        self.held = {}

    def _grants(self, held: Held) -> list[pb.Grant]:
        topic_id = self.group.topic.topic_id
        return [pb.Grant(topic_id=topic_id, partition=number, generation=held[number]) for number in held]


def _held(grants: Iterable[pb.Grant]) -> Held:
    return {grant.partition: grant.generation for grant in grants}


@pytest.fixture(scope="module")
def records(shared_brokers: Brokers) -> admin_pb.TopicDescription:
    """A topic of four partitions with ten records in each, a second apart."""
    topic = shared_brokers.create_topic("grouped", partitions=PARTITIONS)
    begin_ms = time.time_ns() // 1_000_000 - 60_000
    for number in range(PARTITIONS):
        leader = shared_brokers.leader_of("grouped", number)
        batches = [a_batch(b"%d" % n, timestamp_ms=begin_ms + 1000 * n) for n in range(10)]
        for batch in batches:
            assert not leader.produce("grouped", batch, partition=number).error.reason
    return topic


@pytest.fixture
def group(brokers: Brokers, records: admin_pb.TopicDescription, request: pytest.FixtureRequest) -> Group:
    """A group named after the test, that nobody has joined yet."""
    return Group(brokers, request.node.name[:200], records)


def two_members(group: Group) -> tuple[Member, Member]:
    """Both with half of the partitions."""
    first = group.member("first").await_grants(PARTITIONS)
    second = group.member("second").beat()
    eventually(lambda: first.beat(max_wait_ms=500).giving_up)
    first.give_back()
    return first, second.await_grants(PARTITIONS // 2)


# Finding it ----------------------------------------------------------------------------------------------------------


def test_every_broker_names_the_same_coordinator_and_it_is_one(group: Group) -> None:
    request = pb.FindCoordinatorRequest(group=group.name)

    def agreed() -> pb.FindCoordinatorResponse | None:
        answers = [broker.groups.FindCoordinator(request, timeout=5) for broker in group.brokers.all]
        return answers[0] if answers[0] == answers[1] == answers[2] else None

    found = eventually(agreed)
    assert found.address == group.brokers[found.broker_id].address
    other = group.brokers[(found.broker_id + 1) % 3]
    with pytest.raises(grpc.RpcError) as failure:
        other.groups.DescribeGroup(pb.DescribeGroupRequest(group=group.name), timeout=5)
    code, reason, facts = error_info(failure.value)
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_LEADER")
    assert facts["leader_address"] == found.address


def test_the_lists_of_all_brokers_together_are_the_whole(group: Group) -> None:
    assert not group.store(3)

    def listed() -> bool:
        answers = [broker.groups.ListGroups(pb.ListGroupsRequest(), timeout=5) for broker in group.brokers.all]
        coordinated = sorted(number for answer in answers for number in answer.coordinated)
        (mine,) = [found for answer in answers for found in answer.groups if found.group == group.name]
        assert (mine.state, mine.members, mine.partitions) == (pb.GROUP_STATE_EMPTY, 0, 1)
        assert (list(mine.topics), mine.coordinator_id) == (["grouped"], group.coordinator.broker_id)
        return coordinated == list(range(answers[0].offsets_partitions)) == list(range(6))

    assert eventually(listed)


# Sharing partitions --------------------------------------------------------------------------------------------------


def test_a_member_alone_has_everything_and_keeps_what_does_not_move_when_another_comes(group: Group) -> None:
    first = group.member("first").await_grants(PARTITIONS)
    before = dict(first.held)
    second = group.member("second").beat()
    assert not second.held, "nothing is granted twice"
    eventually(lambda: first.beat(max_wait_ms=500).giving_up)
    assert len(first.held) == len(first.giving_up) == 2
    assert before == first.held | first.giving_up, "what is to move is still held, and the rest is as it was"
    first.give_back()
    second.await_grants(2)
    assert first.held.keys() | second.held.keys() == set(range(PARTITIONS))
    assert all(before[number] == generation for number, generation in first.held.items())
    assert all(generation > before[number] for number, generation in second.held.items())
    assert eventually(lambda: group.describe().state == pb.GROUP_STATE_STABLE)


def test_a_parked_heartbeat_is_answered_when_a_partition_comes_free(group: Group) -> None:
    first, second = two_members(group)
    parked = group.coordinator.groups.Heartbeat.future(second.request(max_wait_ms=3_000), timeout=10)
    began = time.monotonic()
    first.leave()
    second.take(parked.result())
    assert time.monotonic() - began < 2, "it did not wait for its time to be over"
    assert second.await_grants(PARTITIONS).held


def test_a_heartbeat_with_no_news_waits_as_long_as_it_may_and_no_longer(group: Group) -> None:
    member = group.member("m").await_grants(PARTITIONS)
    began = time.monotonic()
    member.beat(max_wait_ms=400)
    assert 0.3 < time.monotonic() - began < 2
    assert len(member.held) == PARTITIONS


def test_a_member_that_falls_silent_loses_its_partitions_and_cannot_store_any_more(group: Group) -> None:
    zombie = group.member("zombie", session_timeout_ms=1_000).await_grants(PARTITIONS)
    other = group.member("other").beat()
    other.await_grants(PARTITIONS)
    entries = [pb.StoreOffsetsRequest.Entry(topic="grouped", offset=9, generation=zombie.held[0])]
    assert group.refusal("StoreOffsets", member_id="zombie", entries=entries) == "UNKNOWN_MEMBER"
    assert group.refusal("Heartbeat", member_id="zombie") == "UNKNOWN_MEMBER"
    assert group.stored() == {}


def test_a_restarted_instance_takes_over_at_once_and_the_earlier_process_is_out(group: Group) -> None:
    group.member("before", instance_id="pod-1").await_grants(PARTITIONS)
    other = group.member("after", instance_id="pod-1").beat()
    assert len(other.held) == PARTITIONS
    assert group.refusal("Heartbeat", member_id="before") == "FENCED_INSTANCE"


def test_topics_that_come_later_are_shared_out_by_name_and_by_pattern(group: Group) -> None:
    name = "made-later"
    member = group.member("m", topics=[name], pattern="grou.*").await_grants(PARTITIONS)
    answer = group.coordinator.groups.Heartbeat(member.request(), timeout=5)
    assert list(answer.unknown_topics) == [name]
    later = group.brokers.create_topic(name, partitions=2)
    told = eventually(lambda: _of_topic(group.coordinator, member, later.topic_id))
    assert sorted(grant.partition for grant in told) == [0, 1]


def _of_topic(coordinator: Broker, member: Member, topic_id: str) -> list[pb.Grant]:
    answer = coordinator.groups.Heartbeat(member.request(max_wait_ms=500), timeout=5)
    return [grant for grant in answer.grants if grant.topic_id == topic_id]


def test_heartbeats_that_their_clients_gave_up_leave_nothing_behind(group: Group) -> None:
    member = group.member("m").await_grants(PARTITIONS)
    stub = group.coordinator.groups
    calls = [stub.Heartbeat.future(member.request(max_wait_ms=3_000), timeout=10) for _ in range(50)]
    time.sleep(0.2)
    for call in calls:
        call.cancel()
    assert len(member.beat().held) == PARTITIONS
    cancelled = 'lograft_requests_total{api="Heartbeat",code="CANCELLED"}'
    assert eventually(lambda: _count(group.coordinator, cancelled) >= 50)


def _count(broker: Broker, series: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in broker.http("/metrics")[1].splitlines() if series in line)


# Stored offsets and lag ----------------------------------------------------------------------------------------------


def test_an_owner_stores_and_others_see_it(group: Group) -> None:
    first, second = two_members(group)
    mine, theirs = min(first.held), min(second.held)
    assert not group.store(4, mine, first, metadata="händled")
    assert group.store(4, theirs, first, generation=second.held[theirs]) == "LOST_GRANT"
    assert not group.store(7, theirs, second)
    assert group.stored() == {mine: (4, "händled"), theirs: (7, "")}
    wanted = [common_pb2.TopicPartition(topic="grouped", partition=n) for n in (mine, 99)]
    found, unknown = group.ask("FetchOffsets", partitions=wanted).results
    assert (found.offset, found.topic_id) == (4, group.topic.topic_id)
    assert abs(found.stored_ms - time.time() * 1000) < 60_000
    assert (unknown.offset, unknown.error.reason) == (-1, "UNKNOWN_PARTITION")


def test_lag_is_told_in_records_and_in_seconds(group: Group) -> None:
    assert not group.store(0, 0)
    assert not group.store(7, 1)
    assert not group.store(10, 2)
    described = group.describe()
    whole, some, none = described.partitions
    assert [partition.lag_records for partition in described.partitions] == [10, 3, 0]
    assert (whole.start_offset, whole.committed_offset, whole.stored_offset) == (0, 10, 0)
    assert 60 < whole.lag_seconds < 180 and 6.5 < whole.lag_seconds - some.lag_seconds < 7.5
    assert none.lag_seconds == 0
    assert (described.lag_records, described.lag_seconds) == (13, whole.lag_seconds)


def test_the_same_is_told_of_any_offset_without_a_group(group: Group) -> None:
    query = broker_service_pb2.ListOffsetsRequest.Query

    def unread(*offsets: int) -> list[broker_service_pb2.ListOffsetsResponse.Result]:
        queries = [query(topic="grouped", partition=0, unread_from=offset) for offset in offsets]
        request = broker_service_pb2.ListOffsetsRequest(queries=queries)
        return list(group.brokers.leader_of("grouped").records.ListOffsets(request, timeout=5).results)

    begin, later, end, past, negative = unread(0, 4, 10, 11, -1)
    assert (begin.offset, begin.log_start_offset, later.offset) == (10, 0, 10)
    assert later.timestamp_ms - begin.timestamp_ms == 4000
    assert abs(time.time() * 1000 - begin.timestamp_ms - begin.age_ms) < 5_000
    assert (end.offset, end.timestamp_ms, end.age_ms, end.error.reason) == (10, -1, 0, "")
    assert past.error.reason == negative.error.reason == "OFFSET_OUT_OF_RANGE"


def test_a_seek_on_a_live_group_voids_what_was_fetched_before_it(group: Group) -> None:
    member = group.member("m").await_grants(PARTITIONS)
    assert not group.store(9, 0, member)
    before = dict(member.held)
    checked = group.seek(3, 4, validate_only=True)
    assert (checked.regranted, group.stored()) == (2, {0: (9, "")})
    sought = group.seek(3, 4)
    assert sought.regranted == 2 and sought.generation > max(before.values())
    assert group.store(9, 0, member) == "LOST_GRANT", "the zombie record: fetched before the seek"
    assert not group.store(9, 2, member), "other partitions go on undisturbed"
    member.beat()
    assert {member.held[0], member.held[1]} == {sought.generation}
    assert (member.held[2], member.held[3]) == (before[2], before[3])
    assert not group.store(5, 0, member)
    assert group.stored() == {0: (5, ""), 1: (4, ""), 2: (9, "")}


def test_a_group_is_deleted_once_it_has_no_members(group: Group) -> None:
    member = group.member("m").await_grants(PARTITIONS)
    assert not group.store(2, 0, member)
    assert group.refusal("DeleteGroup") == "GROUP_NOT_EMPTY"
    member.leave()
    assert group.stored() == {0: (2, "")}
    group.ask("DeleteGroup")
    assert group.stored() == {}
    assert group.refusal("DeleteGroup") == group.refusal("DescribeGroup") == "UNKNOWN_GROUP"


# Bad input -----------------------------------------------------------------------------------------------------------


def test_offsets_that_cannot_be_are_refused_one_by_one(group: Group) -> None:
    member = group.member("m").await_grants(PARTITIONS)
    held = member.held
    entry = pb.StoreOffsetsRequest.Entry
    entries = [
        (entry(topic="grouped", partition=0, offset=-1, generation=held[0]), "OFFSET_OUT_OF_RANGE"),
        (entry(topic="grouped", partition=0, offset=11, generation=held[0]), "OFFSET_OUT_OF_RANGE"),
        (entry(topic="grouped", partition=0, offset=2**63 - 1, generation=held[0]), "OFFSET_OUT_OF_RANGE"),
        (entry(topic="grouped", partition=99, offset=1, generation=held[0]), "UNKNOWN_PARTITION"),
        (entry(topic="grouped", partition=-1, offset=1, generation=held[0]), "UNKNOWN_PARTITION"),
        (entry(topic="nowhere", partition=0, offset=1, generation=held[0]), "UNKNOWN_TOPIC"),
        (entry(topic="grouped", topic_id="f" * 32, offset=1, generation=held[0]), "UNKNOWN_TOPIC_ID"),
        (entry(topic="grouped", partition=0, offset=1, generation=held[0] - 1), "LOST_GRANT"),
        (entry(topic="grouped", partition=0, offset=1, generation=2**62), "LOST_GRANT"),
        (entry(topic="grouped", offset=1, generation=held[0], metadata="x" * (1 << 20)), "OFFSET_METADATA_TOO_LARGE"),
        (entry(topic="grouped", partition=1, offset=10, generation=held[1], metadata="é" * 2048), ""),
    ]
    results = group.ask("StoreOffsets", member_id="m", entries=[one for one, _ in entries]).results
    assert [result.error.reason for result in results] == [reason for _, reason in entries]
    assert all(len(result.error.message) < 500 for result in results)
    assert group.stored() == {1: (10, "é" * 2048)}


def test_who_is_no_member_stores_only_while_there_are_none(group: Group) -> None:
    assert not group.store(1)
    group.member("m").await_grants(PARTITIONS)
    entries = [pb.StoreOffsetsRequest.Entry(topic="grouped", offset=2)]
    assert group.refusal("StoreOffsets", entries=entries) == "GROUP_NOT_EMPTY"
    assert group.refusal("StoreOffsets", member_id="stranger", entries=entries) == "UNKNOWN_MEMBER"
    assert group.stored() == {0: (1, "")}


@pytest.mark.parametrize("session_ms", [0, -1, 999, 24 * 3_600_000, 2**31 - 1])
def test_sessions_out_of_bounds_are_refused(group: Group, session_ms: int) -> None:
    join = pb.HeartbeatRequest.Join(topics=["grouped"], session_timeout_ms=session_ms)
    assert group.refusal("Heartbeat", member_id="m", join=join) == "INVALID_SESSION"
    assert group.refusal("DescribeGroup") == "UNKNOWN_GROUP", "nothing came of it"


@pytest.mark.parametrize(
    "name", ["", "a\nb", "\x00", "x" * 250, "x" * (1 << 20)], ids=["none", "line", "nul", "250", "1M"]
)
def test_bad_names_are_refused_shortly(group: Group, name: str) -> None:
    join = pb.HeartbeatRequest.Join(topics=["grouped"], session_timeout_ms=SESSION_MS)
    assert group.refusal("Heartbeat", member_id=name, join=join) == "INVALID_GROUP"
    join.instance_id = name or "a\tb"
    assert group.refusal("Heartbeat", member_id="m", join=join) == "INVALID_GROUP"
    broker = group.brokers[0]
    for call, request in (
        (broker.groups.FindCoordinator, pb.FindCoordinatorRequest(group=name)),
        (broker.groups.DescribeGroup, pb.DescribeGroupRequest(group=name)),
        (broker.groups.DeleteGroup, pb.DeleteGroupRequest(group=name)),
    ):
        with pytest.raises(grpc.RpcError) as failure:
            call(request, timeout=5)
        assert error_info(failure.value)[1] == "INVALID_GROUP"
        assert len(failure.value.details()) < 300 and "\n" not in failure.value.details()


def test_seeks_that_cannot_be_change_nothing(group: Group) -> None:
    assert not group.store(5)
    for offsets in ((3, -1), (3, 11)):
        assert group.refusal("SeekGroup", targets=group.targets(*offsets)) == "OFFSET_OUT_OF_RANGE"
    twice = group.targets(1) * 2
    assert group.refusal("SeekGroup", targets=twice) == "INVALID_REQUEST"
    assert group.stored() == {0: (5, "")}


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Group]:
    """A group of a broker alone that takes two members, and one group in each partition of its `__offsets`."""
    brokers = Brokers(tmp_path, count=1)
    with brokers[0].config_path.open("a") as config:
        config.write("\n[groups]\nmembers_max = 2\ngroups_max = 1\noffsets_partitions = 1\n")
    try:
        brokers.start()
        yield Group(brokers, "narrow", brokers.create_topic("t", partitions=4))
    finally:
        brokers.stop()


def test_one_member_and_one_group_too_many_are_refused_and_disturb_nobody(narrow: Group) -> None:
    first, second = two_members(narrow)
    join = pb.HeartbeatRequest.Join(topics=["t"], session_timeout_ms=SESSION_MS)
    assert narrow.refusal("Heartbeat", member_id="third", join=join) == "GROUP_FULL"
    another = Group(narrow.brokers, "another", narrow.topic)
    assert another.refusal("Heartbeat", member_id="m", join=join) == "GROUP_FULL"
    assert len(first.beat().held) == len(second.beat().held) == 2


# Brokers that die ----------------------------------------------------------------------------------------------------


def test_members_keep_their_grants_and_offsets_when_the_coordinator_is_killed(group: Group) -> None:
    first, second = two_members(group)
    mine = min(first.held)
    assert not group.store(6, mine, first)
    held = dict(first.held), dict(second.held)
    killed = group.coordinator
    killed.kill()
    first.beat()
    second.beat()
    assert group.coordinator is not killed
    assert (first.held, second.held) == held, "the same partitions, under the same generations"
    assert not first.giving_up and not second.giving_up
    assert group.stored() == {mine: (6, "")}
    assert not group.store(8, mine, first), "and the grant from before is good for storing"
    described = eventually(lambda: group.describe() if group.describe().state == pb.GROUP_STATE_STABLE else None)
    assert sorted(member.member_id for member in described.members) == ["first", "second"]


def test_what_was_stored_and_granted_survives_all_brokers_being_killed_at_once(group: Group) -> None:
    first, second = two_members(group)
    held = dict(first.held), dict(second.held)
    for number, owner in ((number, member) for member in (first, second) for number in member.held):
        assert not group.store(number + 1, number, owner, metadata=f"by {owner.member_id}")
    stored = group.stored()
    for broker in group.brokers.all:
        broker.kill()
    group.brokers.start()
    assert group.stored() == stored and len(stored) == PARTITIONS
    assert (first.beat().held, second.beat().held) == held


def test_a_heartbeat_parked_at_a_coordinator_that_stops_is_sent_elsewhere_at_once(group: Group) -> None:
    member = group.member("m").await_grants(PARTITIONS)
    coordinator = group.coordinator
    channel = grpc.insecure_channel(coordinator.address)
    stub = type(coordinator.groups)(channel)
    parked = stub.Heartbeat.future(member.request(max_wait_ms=3_000), timeout=10)
    time.sleep(0.2)
    assert coordinator.stop() == 0
    error = parked.exception(timeout=5)
    assert error_info(error)[1] in AGAIN
    channel.close()
    assert len(member.beat().held) == PARTITIONS, "the next coordinator knows it"
