"""Consumer groups at the door, over coordinators that only note what they are asked, by a client of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from lograft.node.groups.calls import (
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
from lograft.node.groups.coordinators import GroupPlace
from lograft.node.groups.rules import check_group
from lograft.node.metrics import Metrics
from lograft.node.rpc.groups_service import GroupsService, _host
from lograft.node.rpc.interception import ErrorTranslation
from lograft.node.sightings import Addresses
from lograft.partitions.environment import PartitionId
from lograft.proto.errors import LograftError, LostGrant, NoLeader, NotLeader, UnknownMember, UnknownTopic
from lograft.v1 import common_pb2, groups_service_pb2_grpc
from lograft.v1 import groups_service_pb2 as pb

TOPIC_ID = "a" * 32


class FakeCoordinator:
    """Notes what it is asked, and answers what the test put there; an exception is raised."""

    def __init__(self, number: int = 3) -> None:
        self.number = number
        self.asked: list[Any] = []
        self.answer: Any = None
        self.parks = False
        self.has_parked, self.has_left = asyncio.Event(), asyncio.Event()

    async def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        if self.parks:
            self.has_parked.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.has_left.set()
        return self._answered(beat)  # type: ignore[no-any-return]

    async def store_offsets(self, group: str, member_id: str, entries: Sequence[OffsetToStore]) -> Any:
        return self._answered(group, member_id, *entries)

    async def fetch_offsets(self, group: str, wanted: Sequence[tuple[str, int]]) -> Any:
        return self._answered(group, *wanted)

    async def list_groups(self) -> Any:
        return self._answered()

    async def describe(self, name: str) -> Any:
        return self._answered(name)

    async def seek(self, group: str, targets: Sequence[SeekTarget], *, validate_only: bool) -> Any:
        return self._answered(group, *targets, validate_only)

    async def delete(self, group: str) -> None:
        self._answered(group)

    def _answered(self, *asked: Any) -> Any:
        self.asked = list(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Scene:
    """Broker 1, whose coordinator takes every group; broker 2 is at host:2."""

    partition_count = 6

    def __init__(self) -> None:
        self.coordinator = FakeCoordinator()
        self.coordinators = [self.coordinator]
        self.coordinating = 2
        self.metrics = Metrics()

    # GroupsCoordinators

    def of(self, group: str) -> FakeCoordinator:
        check_group(group)
        return self.coordinator

    def place(self, group: str) -> GroupPlace:
        return GroupPlace(PartitionId(TOPIC_ID, 4), self.coordinating, 7)

    def led(self) -> list[FakeCoordinator]:
        return self.coordinators

    # Sightings

    def broker(self, broker_id: int) -> Any:
        return SimpleNamespace(addresses=Addresses("host:2", "", "")) if broker_id == 2 else None

    def with_address(self, error: LograftError) -> LograftError:
        if "leader_id" in error.facts:
            error.facts["leader_address"] = f"host:{error.facts['leader_id']}"
        return error

    def run(self, what: Callable[[groups_service_pb2_grpc.GroupsServiceAsyncStub], Awaitable[Any]]) -> Any:
        """Serve, and do `what` with a client's stub."""

        async def served() -> Any:
            server = grpc.aio.server(interceptors=[ErrorTranslation(self.metrics, self.with_address)])
            service = GroupsService(1, self, self)  # type: ignore[arg-type]
            groups_service_pb2_grpc.add_GroupsServiceServicer_to_server(service, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            options = [("grpc.max_send_message_length", 32 << 20)]
            try:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                    return await what(groups_service_pb2_grpc.GroupsServiceStub(channel))
            finally:
                await server.stop(None)

        return asyncio.run(served())

    def ask(self, method: str, request: Any) -> Any:
        return self.run(lambda stub: getattr(stub, method)(request, timeout=5))


@contextmanager
def refused() -> Iterator[SimpleNamespace]:
    """What the call within is refused with."""
    told = SimpleNamespace()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        yield told
    status = rpc_status.from_call(failure.value)
    assert status is not None
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    told.code, told.reason = failure.value.code().name, info.reason
    told.message, told.facts = failure.value.details() or "", dict(info.metadata)


def test_finding_a_coordinator_names_the_broker_and_where_it_listens() -> None:
    found = Scene().ask("FindCoordinator", pb.FindCoordinatorRequest(group="g"))
    assert (found.broker_id, found.address, found.term, found.partition) == (2, "host:2", 7, 4)


def test_a_coordinator_whose_address_is_not_known_yet_is_asked_for_again() -> None:
    scene = Scene()
    scene.coordinating = 9
    with refused() as refusal:
        scene.ask("FindCoordinator", pb.FindCoordinatorRequest(group="g"))
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "NO_LEADER")


def test_a_heartbeat_arrives_with_all_it_says_and_where_it_came_from() -> None:
    scene = Scene()
    held, left = PartitionId(TOPIC_ID, 0), PartitionId(TOPIC_ID, 1)
    scene.coordinator.answer = HeartbeatAnswer(
        9, (GrantTold(Granted(held, 4), "t", True),), (GrantTold(Granted(left, 5), "t", False),), ("later",)
    )
    request = pb.HeartbeatRequest(
        group="g",
        member_id="m",
        join=pb.HeartbeatRequest.Join(
            instance_id="i", topics=["t", "later"], pattern="x.*", session_timeout_ms=7000, client_id="app"
        ),
        owned=[pb.Grant(topic_id=TOPIC_ID, partition=0, generation=4)],
        giving_up=[pb.Grant(topic_id=TOPIC_ID, partition=1, generation=5)],
        released=[pb.Grant(topic_id=TOPIC_ID, partition=2, generation=6)],
        max_wait_ms=200,
    )
    answer = scene.ask("Heartbeat", request)
    assert scene.coordinator.asked == [
        Heartbeat(
            group="g",
            member_id="m",
            join=Join(("t", "later"), "x.*", 7000, "i", "app", "127.0.0.1"),
            owned=frozenset({Granted(held, 4)}),
            giving_up=frozenset({Granted(left, 5)}),
            released=frozenset({Granted(PartitionId(TOPIC_ID, 2), 6)}),
            max_wait_ms=200,
        )
    ]
    assert answer.generation == 9 and list(answer.unknown_topics) == ["later"]
    assert list(answer.grants) == [pb.Grant(topic_id=TOPIC_ID, partition=0, generation=4, topic="t", grown=True)]
    assert list(answer.revoked) == [pb.Grant(topic_id=TOPIC_ID, partition=1, generation=5, topic="t")]


def test_no_pattern_is_not_an_empty_pattern_and_no_join_is_no_join() -> None:
    scene = Scene()
    scene.coordinator.answer = HeartbeatAnswer(0)
    scene.ask("Heartbeat", pb.HeartbeatRequest(group="g", join=pb.HeartbeatRequest.Join(topics=["t"])))
    assert scene.coordinator.asked[0].join.pattern is None
    scene.ask("Heartbeat", pb.HeartbeatRequest(group="g", member_id="m", leave=True, leave_reason="closed"))
    beat = scene.coordinator.asked[0]
    assert (beat.join, beat.leave, beat.leave_reason) == (None, True, "closed")


@pytest.mark.parametrize(("asked_ms", "waited_ms"), [(-5, 0), (0, 0), (2**31 - 1, 600_000)])
def test_a_wait_is_kept_within_bounds(asked_ms: int, waited_ms: int) -> None:
    scene = Scene()
    scene.coordinator.answer = HeartbeatAnswer(0)
    scene.ask("Heartbeat", pb.HeartbeatRequest(group="g", member_id="m", max_wait_ms=asked_ms))
    assert scene.coordinator.asked[0].max_wait_ms == waited_ms


def test_a_heartbeat_whose_client_went_away_waits_no_longer() -> None:
    scene = Scene()
    scene.coordinator.parks = True

    async def give_up(stub: Any) -> None:
        call = stub.Heartbeat(pb.HeartbeatRequest(group="g", member_id="m", max_wait_ms=60_000), timeout=30)
        await scene.coordinator.has_parked.wait()
        call.cancel()
        await scene.coordinator.has_left.wait()

    scene.run(lambda stub: asyncio.wait_for(give_up(stub), 5))
    assert 'code="CANCELLED"} 1.0' in scene.metrics.text()


def test_another_brokers_group_is_refused_with_the_coordinators_address() -> None:
    scene = Scene()
    scene.coordinator.answer = NotLeader("elsewhere", leader_id=2, term=5)
    for method, request in (
        ("Heartbeat", pb.HeartbeatRequest(group="g")),
        ("StoreOffsets", pb.StoreOffsetsRequest(group="g")),
        ("FetchOffsets", pb.FetchOffsetsRequest(group="g")),
        ("DescribeGroup", pb.DescribeGroupRequest(group="g")),
        ("SeekGroup", pb.SeekGroupRequest(group="g")),
        ("DeleteGroup", pb.DeleteGroupRequest(group="g")),
    ):
        with refused() as refusal:
            scene.ask(method, request)
        assert refusal.reason == "NOT_LEADER", method
        assert refusal.facts == {"leader_id": "2", "leader_address": "host:2", "term": "5"}


def test_a_refusal_of_the_coordinator_is_told_as_it_is() -> None:
    scene = Scene()
    scene.coordinator.answer = UnknownMember("join again")
    with refused() as refusal:
        scene.ask("Heartbeat", pb.HeartbeatRequest(group="g", member_id="m"))
    assert (refusal.code, refusal.reason, refusal.message) == ("FAILED_PRECONDITION", "UNKNOWN_MEMBER", "join again")


def test_a_megabyte_of_name_is_answered_shortly() -> None:
    scene = Scene()
    for method, request in (
        ("DescribeGroup", pb.DescribeGroupRequest(group="x" * (1 << 20))),
        ("Heartbeat", pb.HeartbeatRequest(group="x" * (1 << 20), member_id="m")),
    ):
        with refused() as refusal:
            scene.ask(method, request)
        assert refusal.reason == "INVALID_GROUP" and len(refusal.message) < 300


@pytest.mark.parametrize("topic", ["", "x" * 250, "x" * (1 << 20)])
def test_what_no_topic_can_be_called_is_not_subscribed_to(topic: str) -> None:
    scene = Scene()
    with refused() as refusal:
        scene.ask("Heartbeat", pb.HeartbeatRequest(group="g", join=pb.HeartbeatRequest.Join(topics=["t", topic])))
    assert refusal.reason == "INVALID_TOPIC" and len(refusal.message) < 300
    assert not scene.coordinator.asked


def test_each_stored_offset_has_its_own_result_in_order() -> None:
    scene = Scene()
    scene.coordinator.answer = [None, LostGrant("granted anew", generation=8)]
    entries = [
        pb.StoreOffsetsRequest.Entry(topic="t", partition=0, topic_id=TOPIC_ID, offset=5, metadata="x", generation=7),
        pb.StoreOffsetsRequest.Entry(topic="t", partition=1, offset=6),
    ]
    stored = scene.ask("StoreOffsets", pb.StoreOffsetsRequest(group="g", member_id="m", entries=entries))
    assert scene.coordinator.asked == [
        "g",
        "m",
        OffsetToStore("t", 0, TOPIC_ID, 5, "x", 7),
        OffsetToStore("t", 1, "", 6, "", 0),
    ]
    good, lost = stored.results
    assert (good.topic, good.partition, good.error.reason) == ("t", 0, "")
    assert (lost.partition, lost.error.reason, lost.error.metadata["generation"]) == (1, "LOST_GRANT", "8")


def test_metadata_that_is_bounded_one_by_one_is_bounded_together_too() -> None:
    scene = Scene()
    scene.coordinator.answer = [None] * 300

    def stored(count: int, size: int) -> Any:
        entries = [pb.StoreOffsetsRequest.Entry(topic="t", metadata="x" * size) for _ in range(count)]
        return scene.ask("StoreOffsets", pb.StoreOffsetsRequest(group="g", entries=entries))

    assert len(stored(300, 3000).results) == 300
    with refused() as refusal:
        stored(300, 4000)
    assert refusal.reason == "INVALID_REQUEST" and "several calls" in refusal.message
    scene.coordinator.answer = [None]
    assert len(stored(1, 1 << 20).results) == 1, "the coordinator refuses that one alone"


def test_fetched_offsets_and_what_could_not_be_fetched_stand_side_by_side() -> None:
    scene = Scene()
    scene.coordinator.answer = [FetchedOffset("t", 0, TOPIC_ID, 12, "note", 99), UnknownTopic("no such topic")]
    wanted = [common_pb2.TopicPartition(topic="t", partition=0), common_pb2.TopicPartition(topic="u", partition=5)]
    found, missing = scene.ask("FetchOffsets", pb.FetchOffsetsRequest(group="g", partitions=wanted)).results
    assert scene.coordinator.asked == ["g", ("t", 0), ("u", 5)]
    assert (found.topic, found.partition, found.topic_id, found.offset) == ("t", 0, TOPIC_ID, 12)
    assert (found.metadata, found.stored_ms) == ("note", 99)
    assert (missing.topic, missing.partition, missing.offset, missing.error.reason) == ("u", 5, -1, "UNKNOWN_TOPIC")


def test_a_list_says_which_partitions_it_speaks_for_and_leaves_out_those_that_are_anothers_by_now() -> None:
    scene = Scene()
    lost, kept = FakeCoordinator(1), FakeCoordinator(4)
    lost.answer = NoLeader("lost it meanwhile")
    kept.answer = [GroupListed("g", Condition.MOVING, 2, 5, ("t", "u"))]
    scene.coordinators = [lost, kept]
    listed = scene.ask("ListGroups", pb.ListGroupsRequest())
    assert (list(listed.coordinated), listed.offsets_partitions) == ([4], 6)
    (group,) = listed.groups
    assert (group.group, group.state, group.members, group.partitions) == ("g", pb.GROUP_STATE_MOVING, 2, 5)
    assert (group.coordinator_id, list(group.topics)) == (1, ["t", "u"])


def a_partition(number: int, lag_records: int, lag_seconds: float) -> PartitionDescription:
    return PartitionDescription(
        "t", number, TOPIC_ID, "m", 3, "n", 10, "note", 50, 0, 10 + lag_records, lag_records, lag_seconds
    )


def test_a_description_sums_the_lag_that_is_known() -> None:
    scene = Scene()
    member = MemberDescription("m", "i", "app", "127.0.0.1", ("t",), None, 3, 10_000, 40, 1)
    partitions = (a_partition(0, 5, 1.5), a_partition(1, -1, -1.0), a_partition(2, 2, 2.5))
    scene.coordinator.answer = GroupDescription("g", Condition.STABLE, 4, (member,), partitions)
    described = scene.ask("DescribeGroup", pb.DescribeGroupRequest(group="g"))
    assert (described.lag_records, described.lag_seconds) == (7, 2.5)
    assert (described.state, described.generation, described.coordinator_id) == (pb.GROUP_STATE_STABLE, 4, 1)
    assert (described.members[0].member_id, described.members[0].pattern) == ("m", "")
    first, unknown, _ = described.partitions
    assert (first.topic, first.partition, first.member_id, first.next_member_id) == ("t", 0, "m", "n")
    assert (unknown.lag_records, unknown.lag_seconds) == (-1, -1.0)


def test_a_group_without_partitions_is_behind_by_nothing() -> None:
    scene = Scene()
    scene.coordinator.answer = GroupDescription("g", Condition.EMPTY, 4, (), ())
    described = scene.ask("DescribeGroup", pb.DescribeGroupRequest(group="g"))
    assert (described.lag_records, described.lag_seconds) == (0, 0.0)


def test_a_seek_is_checked_or_done_as_asked() -> None:
    scene = Scene()
    scene.coordinator.answer = Seeked(9, 2)
    target = pb.SeekGroupRequest.Target(topic="t", partition=1, topic_id=TOPIC_ID, offset=30)
    sought = scene.ask("SeekGroup", pb.SeekGroupRequest(group="g", targets=[target], validate_only=True))
    assert scene.coordinator.asked == ["g", SeekTarget("t", 1, TOPIC_ID, 30), True]
    assert (sought.generation, sought.regranted) == (9, 2)


def test_lists_in_requests_are_bounded() -> None:
    scene = Scene()
    grants = [pb.Grant()] * 5001
    for method, request in (
        ("Heartbeat", pb.HeartbeatRequest(group="g", owned=grants, released=grants)),
        ("StoreOffsets", pb.StoreOffsetsRequest(group="g", entries=[pb.StoreOffsetsRequest.Entry()] * 10_001)),
        ("FetchOffsets", pb.FetchOffsetsRequest(group="g", partitions=[common_pb2.TopicPartition()] * 10_001)),
        ("SeekGroup", pb.SeekGroupRequest(group="g", targets=[pb.SeekGroupRequest.Target()] * 10_001)),
    ):
        with refused() as refusal:
            scene.ask(method, request)
        assert (refusal.reason, refusal.facts["limit"]) == ("INVALID_REQUEST", "10000"), method
    assert not scene.coordinator.asked


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:40404", "127.0.0.1"),
        ("ipv6:%5B::1%5D:40404", "::1"),
        ("ipv6:[fe80::1]:40404", "fe80::1"),
        ("unix:/run/lograft.sock", "unix:/run/lograft.sock"),
        ("", ""),
    ],
)
def test_the_host_is_what_people_would_call_it(peer: str, host: str) -> None:
    assert _host(peer) == host
