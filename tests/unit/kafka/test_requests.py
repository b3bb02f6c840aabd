"""Every request in every version, whole, cut anywhere and flipped anywhere, through the real handlers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from kio.index import load_response_schema
from kio.serial import entity_reader
from lograft.node.groups.calls import Condition, GroupListed
from lograft.node.groups.consumer_calls import ConsumerGroupDescription
from lograft.node.kafka import cluster_requests, offset_requests
from lograft.node.kafka.apis import API_VERSIONS, APIS, FETCH, PRODUCE
from lograft.node.kafka.connection import Answer
from lograft.node.kafka.consumer_group_requests import ConsumerGroupRequests
from lograft.node.kafka.errors import NOT_LEADER_OR_FOLLOWER
from lograft.node.kafka.frames import MalformedRequest
from lograft.node.kafka.group_requests import GroupRequests
from lograft.node.kafka.requests import Call
from lograft.partitions.storage.segment import DamagedLog
from lograft.proto.errors import (
    BrokerUnavailable,
    DiskFull,
    LograftError,
    NoLeader,
    NotLeader,
    Overloaded,
    ReplicaDamaged,
    RequestTimedOut,
    UnknownOutcome,
)

from tests.unit.kafka.fakes import BATCH, TOPIC, TOPIC_ID, Door, FakeCoordinator, a_request

OFFSET_COMMIT = 8
EACH = [(api.key, version) for api in APIS.values() for version in range(api.answered_from, api.highest + 1)]
each_request = pytest.mark.parametrize(("key", "version"), EACH, ids=[f"{APIS[key].name}-{v}" for key, v in EACH])
NEWEST = [(api.key, api.highest) for api in APIS.values()] + [(api.key, api.answered_from) for api in APIS.values()]


def read(key: int, version: int, answer: Answer | None) -> Any:
    """The answer as kio reads it, all of it."""
    assert answer is not None and answer.body is not None
    body = b"".join(answer.body)
    told, end = entity_reader(load_response_schema(key, version))(body, 0)
    assert end == len(body)
    return told


@each_request
def test_each_request_is_answered_in_its_version(key: int, version: int) -> None:
    answer = asyncio.run(Door().ask(a_request(key, version)))
    schema: Any = load_response_schema(key, version)
    assert read(key, version, answer)
    assert answer is not None and answer.is_flexible == (schema.__header_schema__.__version__ == 1)


@pytest.mark.parametrize(("key", "version"), NEWEST, ids=[f"{APIS[key].name}-{v}" for key, v in NEWEST])
def test_a_request_cut_or_flipped_anywhere_is_answered_or_malformed_and_nothing_else(key: int, version: int) -> None:
    frame = a_request(key, version)

    async def ask_all() -> None:
        door = Door()
        for at in range(8, len(frame)):
            with pytest.raises(MalformedRequest):
                await door.ask(frame[:at])
        for at in range(8, len(frame)):
            for bit in range(8):
                flipped = bytearray(frame)
                flipped[at] ^= 1 << bit
                try:
                    answer = await asyncio.wait_for(door.ask(bytes(flipped)), 5)
                except MalformedRequest:
                    continue
                if answer is not None and answer.body is not None:
                    read(key, version, answer)

    asyncio.run(ask_all())


def test_versions_and_apis_that_are_not_known_end_the_connection() -> None:
    for key, version in ((99, 0), (PRODUCE, 2), (PRODUCE, 99), (FETCH, 3), (-1, 0), (71, 0)):
        frame = key.to_bytes(2, "big", signed=True) + version.to_bytes(2, "big") + bytes(20)
        with pytest.raises(MalformedRequest, match="not known here"):
            asyncio.run(Door().ask(frame))


@pytest.mark.parametrize("version", [5, 99, 0x7FFF])
def test_a_version_of_api_versions_to_come_is_answered_in_version_0_with_those_there_are(version: int) -> None:
    frame = API_VERSIONS.to_bytes(2, "big") + version.to_bytes(2, "big") + bytes(4) + b"what is not known yet"
    answer = asyncio.run(Door().ask(frame))
    told = read(API_VERSIONS, 0, answer)
    assert answer is not None and not answer.is_flexible
    assert told.error_code == 35
    assert [(one.api_key, one.min_version, one.max_version) for one in told.api_keys] == [(API_VERSIONS, 0, 4)]


def test_what_is_told_of_is_what_there_is() -> None:
    told = read(API_VERSIONS, 3, asyncio.run(Door().ask(a_request(API_VERSIONS, 3))))
    assert {one.api_key: (one.min_version, one.max_version) for one in told.api_keys} == {
        api.key: (api.lowest, api.highest) for api in APIS.values()
    }
    # Clients push telemetry as soon as 71 is told of, and begin transactions by finalized features.
    assert 71 not in APIS and told.finalized_features == ()


def test_a_request_larger_than_its_kind_may_be_is_malformed() -> None:
    frame = a_request(3, 12)
    with pytest.raises(MalformedRequest, match="are the most"):
        asyncio.run(Door().ask(frame + bytes(600 << 10)))


def test_batches_reach_the_log_as_they_were_sent() -> None:
    door = Door()

    async def ask() -> Any:
        return read(PRODUCE, 9, await door.ask(a_request(PRODUCE, 9)))

    told = asyncio.run(ask())
    assert door.replicas.replica.appended == [BATCH]
    (one,) = told.responses[0].partition_responses
    assert (one.error_code, one.base_offset) == (0, 1)


def test_a_client_that_knows_another_leader_is_told_before_it_is_given_anything() -> None:
    for term, code in ((2, 75), (4, 74)):
        door = Door()
        door.replicas.replica.term = term
        told = read(FETCH, 12, asyncio.run(door.ask(a_request(FETCH, 12))))
        (one,) = told.responses[0].partitions
        assert (one.error_code, one.records, one.high_watermark) == (code, b"", -1)


@pytest.mark.parametrize(
    "kind",
    [NoLeader, NotLeader, UnknownOutcome, RequestTimedOut, Overloaded, DiskFull, ReplicaDamaged, BrokerUnavailable],
)
def test_a_fetch_that_may_be_tried_again_is_refused_in_words_at_which_no_client_ends(kind: type[LograftError]) -> None:
    door = Door()

    def leading(*_: Any) -> Any:
        raise kind("not now")

    door.replicas.leading = leading
    told = read(FETCH, 12, asyncio.run(door.ask(a_request(FETCH, 12))))
    assert told.responses[0].partitions[0].error_code in (6, 56)


@pytest.mark.parametrize("kind", [NoLeader, NotLeader, UnknownOutcome, RequestTimedOut, Overloaded, BrokerUnavailable])
def test_an_offset_that_may_be_stored_later_is_refused_in_words_at_which_no_client_ends(
    kind: type[LograftError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: object, *_: object) -> list[LograftError]:
        return [kind("not now")]

    monkeypatch.setattr(FakeCoordinator, "store_classic_offsets", refuse)
    told = read(OFFSET_COMMIT, 9, asyncio.run(Door().ask(a_request(OFFSET_COMMIT, 9))))
    assert [one.error_code for topic in told.topics for one in topic.partitions] == [14]


def test_a_fetch_gives_the_batch_as_it_is_stored_by_name_and_by_id() -> None:
    for version in (4, 11, 12, 13, 16):
        told = read(FETCH, version, asyncio.run(Door().ask(a_request(FETCH, version))))
        (one,) = told.responses[0].partitions
        assert (one.error_code, one.records, one.high_watermark) == (0, BATCH, 1)


@pytest.mark.parametrize("makes", [False, True])
def test_a_topic_that_is_not_there_is_made_only_if_that_is_set_and_the_client_does_not_forbid_it(makes: bool) -> None:
    async def codes(*, allow: bool) -> list[int]:
        door = Door(f"kafka.auto_create_topics={str(makes).lower()}")
        frame = a_request(3, 12).replace(b"\x02t", b"\x02u")  # the topic is another one
        if allow:
            assert frame.endswith(b"\0\0\0")
            frame = frame[:-3] + b"\x01\0\0"
        frame = frame.replace(bytes.fromhex(TOPIC_ID), bytes(16))
        told = read(3, 12, await door.ask(frame))
        return [topic.error_code.value for topic in told.topics]

    assert asyncio.run(codes(allow=True)) == [0 if makes else 3]
    assert asyncio.run(codes(allow=False)) == [3]


def test_a_broker_that_has_not_read_the_decisions_yet_says_nothing_that_clients_take_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_requests, "CATCH_UP_TRIES", 1)

    def not_yet(*_: Any) -> None:
        raise BrokerUnavailable("not yet")

    door = Door()
    door.replicas.check_caught_up = not_yet
    door.replicas.topic = not_yet
    told = read(3, 12, asyncio.run(door.ask(a_request(3, 12))))
    assert [topic.error_code.value for topic in told.topics] == [5]
    told = read(PRODUCE, 9, asyncio.run(door.ask(a_request(PRODUCE, 9))))
    assert told.responses[0].partition_responses[0].error_code == 6


DESCRIBE_GROUPS, CONSUMER_HEARTBEAT, CONSUMER_DESCRIBE = 15, 68, 69


def test_a_member_id_with_marks_of_its_own_comes_back_as_it_was_sent() -> None:
    told = read(CONSUMER_DESCRIBE, 1, asyncio.run(Door().ask(a_request(CONSUMER_DESCRIBE, 1))))
    (group,) = told.groups
    (member,) = group.members
    assert (member.member_id, member.member_epoch, member.member_type) == ("m/x", 7, 1)
    assert (group.group_state, group.group_epoch, group.assignor_name) == ("Stable", 7, "uniform")
    (topic,) = member.assignment.topic_partitions
    assert (topic.topic_id.hex, topic.topic_name, topic.partitions) == (TOPIC_ID, TOPIC, (0,))


def test_a_heartbeat_is_answered_with_epoch_interval_and_assignment_by_id() -> None:
    told = read(CONSUMER_HEARTBEAT, 1, asyncio.run(Door().ask(a_request(CONSUMER_HEARTBEAT, 1))))
    assert (told.member_id, told.member_epoch, told.heartbeat_interval.total_seconds()) == ("t", 7, 5)
    (topic,) = told.assignment.topic_partitions
    assert (topic.topic_id.hex, topic.partitions) == (TOPIC_ID, (0,))


def test_who_asks_in_the_older_way_is_told_what_such_members_have() -> None:
    told = read(DESCRIBE_GROUPS, 5, asyncio.run(Door().ask(a_request(DESCRIBE_GROUPS, 5))))
    (group,) = told.groups
    (member,) = group.members
    assert (group.group_state, group.protocol_data, member.member_id) == ("Stable", "uniform", "m/x")
    assert member.member_assignment == bytes.fromhex("0000 00000001 0001 74 00000001 00000000 ffffffff")
    assert member.member_metadata == bytes.fromhex("0000 00000001 0001 74 ffffffff")


class CountingCoordinator(FakeCoordinator):
    """Counts rounds between brokers, and what is given out."""

    def __init__(self) -> None:
        self.rounds = self.given = 0

    async def list_groups(self) -> list[GroupListed]:
        self.rounds += 1
        return [GroupListed(f"g{number}", Condition.STABLE, 1, 1, ()) for number in range(200)]

    async def describe_classic(self, group: str) -> None:
        self.rounds += 1

    async def leave_group(self, group: str, leavers: Any) -> list[Any]:
        self.given += len(leavers)
        return await super().leave_group(group, leavers)

    async def fetch_offsets(self, group: str, wanted: Any, reader: Any = None) -> Any:
        self.given += 1
        return await super().fetch_offsets(group, wanted, reader)

    async def describe_consumers(self, group: str) -> ConsumerGroupDescription:
        self.given += 1
        return await super().describe_consumers(group)


def counted(method: str, request: Any, version: int) -> tuple[CountingCoordinator, Any]:
    coordinator = CountingCoordinator()
    requests: Any = GroupRequests(SimpleNamespace(of=lambda group: coordinator, led=lambda: [coordinator]), None)  # type: ignore[arg-type]
    if method == "consumer_group_describe":
        requests = ConsumerGroupRequests(SimpleNamespace(of=lambda group: coordinator))  # type: ignore[arg-type]
    told = asyncio.run(getattr(requests, method)(SimpleNamespace(**request), Call(version, "c", "h", "p")))
    return coordinator, told


def test_a_list_of_groups_takes_one_round_however_many_there_are() -> None:
    coordinator, told = counted("list_groups", {}, 5)
    assert len(told["groups"]) == 200 and coordinator.rounds == 1


def test_a_group_that_is_named_again_and_again_is_described_once() -> None:
    for method, field, version in (("describe_groups", "groups", 5), ("consumer_group_describe", "group_ids", 1)):
        coordinator, told = counted(method, {field: ("g",) * 1000}, version)
        assert len(told["groups"]) == 1 and coordinator.given == 1


def test_what_is_stored_of_a_group_is_told_once_in_an_answer() -> None:
    coordinator, told = counted("offset_fetch", {"groups": [SimpleNamespace(group_id="g", topics=None)] * 3}, 8)
    assert coordinator.given == 1
    assert [one["error_code"] for one in told["groups"]] == [0, 42, 42]


def test_more_members_than_a_group_may_have_do_not_leave_it_at_once() -> None:
    leavers = [SimpleNamespace(member_id="", group_instance_id="i")] * 1001
    coordinator, told = counted("leave_group", {"group_id": "g", "members": leavers}, 5)
    assert coordinator.given == 0 and told["error_code"] == 42


def test_a_topic_that_is_asked_for_again_and_again_is_told_of_once() -> None:
    for version in (1, 12):
        request = {"topics": [SimpleNamespace(name=TOPIC, topic_id=None)] * 10_000, "allow_auto_topic_creation": False}
        told = asyncio.run(Door().requests._handlers.metadata(SimpleNamespace(**request), Call(version, "c", "h", "p")))
        assert [one["name"] for one in told["topics"]] == [TOPIC]


def test_the_producers_of_a_partition_are_told_once_and_of_a_bounded_number_of_partitions() -> None:
    asked = [SimpleNamespace(name=name, partition_indexes=(*range(60), 0, 0)) for name in (TOPIC, TOPIC, "other")]
    call = Call(0, "c", "h", "p")
    told = asyncio.run(Door().requests._handlers.describe_producers(SimpleNamespace(topics=asked), call))
    partitions = [one for topic in told["topics"] for one in topic["partitions"]]
    assert len(partitions) == 120 and [one["error_code"] == 42 for one in partitions].count(True) == 20


def test_between_two_searches_for_a_time_the_loop_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = 0
    searched: list[int] = []

    def search(*_: Any) -> tuple[int, int]:
        searched.append(turn)
        return 0, 0

    async def asked() -> None:
        nonlocal turn
        queries = [SimpleNamespace(partition_index=0, timestamp=1)] * 20
        request = SimpleNamespace(topics=[SimpleNamespace(name=TOPIC, partitions=queries)])
        handlers = Door().requests._handlers
        answering = asyncio.ensure_future(handlers.list_offsets(request, Call(1, "c", "h", "p")))
        while not answering.done():
            turn += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(offset_requests, "first_at", search)
    asyncio.run(asked())
    assert len(searched) == len(set(searched)) == 20


@pytest.mark.parametrize("timestamp", [1, -3])
def test_a_search_for_a_time_that_meets_decayed_bytes_is_answered_and_has_them_repaired(timestamp: int) -> None:
    def decayed(*_: Any) -> None:
        raise DamagedLog("a.log", 7, "a bit flipped")

    door = Door()
    door.replicas.replica.log.offset_for_time = decayed
    query = SimpleNamespace(partition_index=0, timestamp=timestamp)
    request = SimpleNamespace(topics=[SimpleNamespace(name=TOPIC, partitions=[query])])
    told = asyncio.run(door.requests._handlers.list_offsets(request, Call(7, "c", "h", "p")))
    assert [one["error_code"] for one in told["topics"][0]["partitions"]] == [ReplicaDamaged.kafka_code]
    assert door.replicas.replica.unreadable == ["a.log"]


def test_who_lost_the_lead_while_a_search_for_a_time_waited_does_not_search() -> None:
    async def asked() -> Any:
        door = Door()
        replica = door.replicas.replica

        async def lose_the_lead() -> int:
            replica.is_leader = False
            return 1

        replica.confirm_read = lose_the_lead
        query = SimpleNamespace(partition_index=0, timestamp=1)
        request = SimpleNamespace(topics=[SimpleNamespace(name=TOPIC, partitions=[query])])
        return await door.requests._handlers.list_offsets(request, Call(7, "c", "h", "p"))

    told = asyncio.run(asked())
    assert [one["error_code"] for one in told["topics"][0]["partitions"]] == [NOT_LEADER_OR_FOLLOWER]
