"""franz-go and sarama, as Go brings them: records, groups, administration. What they run is go/session.go."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
import time
from typing import Any

import pytest
from lograft.proto.record_batch import split
from lograft.v1 import broker_service_pb2 as pb

from tests.integration.brokers import Brokers
from tests.integration.kafka.clients import Confluent, until
from tests.integration.kafka.go_clients import session, what_is_missing
from tests.integration.kafka.members import coordinator_of, stored

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing() or "they are here"),
]
RELEASES = ["2.3.0", "2.8.0"]
"""Of Kafka, as which sarama is asked to speak too: the first that knows zstd and IncrementalAlterConfigs, and the one
as which it speaks when left alone. All other tests have it speak as the newest that it knows."""
every_client = pytest.mark.parametrize("client", ["franz-go", "sarama"])
Record = dict[str, Any]


class Session:
    """One run of the program."""

    def __init__(self, client: str, what: str, bootstrap: str, topic: str, **more: Any) -> None:
        asked = {"Bootstrap": bootstrap.split(","), "Topic": topic, "Acks": -1, **more}
        self.told: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [str(session()), client, what, json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stderr = ""
        self._threads = [threading.Thread(target=self._hear), threading.Thread(target=self._hear_trouble)]
        for thread in self._threads:
            thread.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told.append(json.loads(line))

    def _hear_trouble(self) -> None:
        assert self._process.stderr is not None
        self._stderr = self._process.stderr.read()

    def end(self, given: str = "", seconds: float = 120.0) -> list[dict[str, Any]]:
        """What it told, once it is over; the end of its input tells it to stop."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(given)
            self._process.stdin.close()
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        for thread in self._threads:
            thread.join()
        assert code == 0, (self._stderr[-3000:], self.told[-3:])
        return self.told

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def ran(client: str, what: str, bootstrap: str, topic: str, given: str = "", **more: Any) -> dict[str, Any]:
    """All that a session told, as one."""
    told: dict[str, Any] = {}
    for each in Session(client, what, bootstrap, topic, **more).end(given):
        told |= each
    return told


def read(client: str, bootstrap: str, topic: str, partitions: int, count: int, **more: Any) -> list[Record]:
    return list(ran(client, "read", bootstrap, topic, Partitions=partitions, Count=count, **more)["records"])


def in_base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def some_records(count: int) -> list[Record]:
    """In two partitions: with and without key, value and headers, of bytes that are no text."""
    return [
        {
            "partition": number % 2,
            "key": in_base64([None, b"", b"\x00\xffkey %d" % number][number % 3]),
            "value": in_base64([b"again and again " * 20 + b"%d" % number, None, b"\xfe\x00"][number % 5 % 3]),
            "headers": [[in_base64(b"h%d" % one), in_base64(bytes([one, number % 256]))] for one in range(number % 4)],
            "timestamp_ms": 1_700_000_000_000 + 7 * number,
        }
        for number in range(count)
    ]


def by_partition(records: list[Record]) -> dict[int, list[Record]]:
    return {number: [one for one in records if one["partition"] == number] for number in (0, 1)}


@every_client
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_a_client_produces_with_each_codec_both_read_byte_for_byte(
    brokers: Brokers, bootstrap: str, client: str, codec: str
) -> None:
    topic = f"go-{client}-{codec}"
    brokers.create_topic(topic, partitions=2)
    records = some_records(400)
    told = ran(client, "produce", bootstrap, topic, json.dumps(records), Codec=codec, Idempotent=True)
    for place, offset in enumerate(told["offsets"]):
        records[place]["offset"] = offset
    for number, sent in by_partition(records).items():
        assert [one["offset"] for one in sent] == list(range(200)), number
        batches = brokers.leader_of(topic, number).fetch(topic, partition=number).batches
        assert {header.compression.name.lower() for header, _ in split(batches)} == {codec}
    for reader in ("franz-go", "sarama"):
        assert by_partition(read(reader, bootstrap, topic, 2, 400)) == by_partition(records), reader


@every_client
@pytest.mark.parametrize("acks", [0, 1])
def test_fewer_acks_and_no_idempotence_get_records_in_too(
    brokers: Brokers, bootstrap: str, client: str, acks: int
) -> None:
    topic = f"go-{client}-acks-{acks}"
    brokers.create_topic(topic, partitions=2)
    records = some_records(50)
    ran(client, "produce", bootstrap, topic, json.dumps(records), Acks=acks)
    found = read(client, bootstrap, topic, 2, 50)
    assert sorted(one["timestamp_ms"] for one in found) == [one["timestamp_ms"] for one in records]


@pytest.mark.parametrize("release", RELEASES)
def test_sarama_speaks_as_older_releases_of_kafka_too(brokers: Brokers, bootstrap: str, release: str) -> None:
    topic = f"go-as-{release}"
    brokers.create_topic(topic, partitions=2)
    records = some_records(100)
    ran("sarama", "produce", bootstrap, topic, json.dumps(records), Codec="zstd", Idempotent=True, Release=release)
    found = by_partition(read("sarama", bootstrap, topic, 2, 100, Release=release))
    for one in records:
        one["offset"] = (one["timestamp_ms"] - 1_700_000_000_000) // 14
    assert found == by_partition(records)
    told = ran("sarama", "admin", bootstrap, f"{topic}-made", Group=f"of-{topic}", Release=release)
    assert (told["start"], told["end"], told["stored"]) == (4, 10, [7, "seven"])


@every_client
def test_topics_groups_and_records_are_administered(brokers: Brokers, bootstrap: str, client: str) -> None:
    told = ran(client, "admin", bootstrap, f"go-admin-{client}", Group=f"of-admin-{client}")
    assert (told["made"], told["partitions"], told["brokers"], told["log_dirs"]) == (2, 3, 3, 3)
    assert "already exists" in told["made_again"].lower()
    assert told["configs"]["retention.ms"] == "86400000" and told["configs"]["max.message.bytes"] == "100000"
    assert (told["start"], told["end"], told["at"]) == (4, 10, 7)
    assert (told["stored"], told["lag"], told["listed"], told["state"]) == ([7, "seven"], 3, True, "Empty")
    assert "UNKNOWN_TOPIC_OR_PARTITION" in told["deleted_again"] or "does not exist" in told["deleted_again"]


@every_client
def test_transactions_are_refused_clearly_and_at_once(brokers: Brokers, bootstrap: str, client: str) -> None:
    brokers.create_topic(f"go-transact-{client}")
    began = time.monotonic()
    refused = ran(client, "transact", bootstrap, f"go-transact-{client}")["refused"]
    assert "transactional id authorization failed" in refused.lower().replace("_", " "), refused
    assert time.monotonic() - began < 10


@every_client
def test_an_idempotent_producer_loses_doubles_and_reorders_nothing_when_the_leader_is_killed(
    brokers: Brokers, bootstrap: str, client: str
) -> None:
    topic = f"go-killed-{client}"
    brokers.create_topic(topic)
    producer = Session(client, "stream", bootstrap, topic, Idempotent=True)
    try:
        until(lambda: end_of(brokers, topic) > 200)
        brokers.leader_of(topic).kill()
        seen = until(lambda: end_of(brokers, topic))
        until(lambda: end_of(brokers, topic) > seen + 500)
        outcome = producer.end()[0]
    finally:
        producer.kill()
    brokers.start()
    assert outcome["errors"] == []
    assert outcome["offsets"] == list(range(outcome["sent"]))
    found = Confluent.read(bootstrap, topic, [0], outcome["sent"])
    assert [(offset, value) for _, offset, value in found] == [(at, b"%d" % at) for at in range(outcome["sent"])]
    assert end_of(brokers, topic) == outcome["sent"]


def end_of(brokers: Brokers, topic: str) -> int:
    """How many committed records its first partition has."""
    query = pb.ListOffsetsRequest.Query(topic=topic, partition=0, bound=pb.ListOffsetsRequest.BOUND_END)
    leader = brokers.leader_of(topic)
    (result,) = leader.records.ListOffsets(pb.ListOffsetsRequest(queries=[query]), timeout=5).results
    return 0 if result.error.reason else result.offset  # elected a moment ago, it does not know yet


class Member(Session):
    """One of a group."""

    def __init__(self, client: str, bootstrap: str, group: str, topic: str, strategy: str, **more: Any) -> None:
        super().__init__(client, "member", bootstrap, topic, Group=group, Strategy=strategy, **more)

    @property
    def owned(self) -> set[int]:
        return next((set(one["owned"]) for one in reversed(self.told) if "owned" in one), set())

    @property
    def values(self) -> list[str]:
        return [one["read"][2] for one in self.told if "read" in one]

    @property
    def errors(self) -> list[str]:
        return [one["error"] for one in self.told if "error" in one]


every_way_to_share_out = pytest.mark.parametrize(
    ("client", "strategy"),
    [
        ("franz-go", "range"),
        ("franz-go", "cooperative-sticky"),
        ("franz-go", "server"),
        ("sarama", "range"),
        ("sarama", "cooperative-sticky"),
    ],
)


@every_way_to_share_out
def test_two_members_share_partitions_while_one_comes_and_goes_and_the_next_goes_on_where_they_stood(
    brokers: Brokers, bootstrap: str, client: str, strategy: str
) -> None:
    topic = group = f"go-{client}-{strategy}"
    brokers.create_topic(topic, partitions=4)
    fill(bootstrap, topic, 0)
    members = [Member(client, bootstrap, group, topic, strategy)]
    try:
        until(lambda: members[0].owned == {0, 1, 2, 3} and stored(brokers, group, topic, 4) == [20] * 4)
        members.append(Member(client, bootstrap, group, topic, strategy))
        until(lambda: len(members[0].owned) == len(members[1].owned) == 2)
        assert members[0].owned | members[1].owned == {0, 1, 2, 3}
        fill(bootstrap, topic, 1)
        until(lambda: stored(brokers, group, topic, 4) == [40] * 4)
        assert len(members[0].values) == 120 and len(members[1].values) == 40
        told = members[1].end()
        if strategy == "server":
            assert set(told[-1]["spoken"]) >= {"68"}, "it did not have the broker share out"
        until(lambda: members[0].owned == {0, 1, 2, 3})
        fill(bootstrap, topic, 2)
        until(lambda: stored(brokers, group, topic, 4) == [60] * 4)
        members[0].end()
        fill(bootstrap, topic, 3)
        members.append(Member(client, bootstrap, group, topic, strategy))
        until(lambda: stored(brokers, group, topic, 4) == [80] * 4)
        members[2].end()
    finally:
        for member in members:
            member.kill()
    values = [value for member in members for value in member.values]
    assert sorted(values) == sorted(f"{number}-{at}" for number in range(4) for at in range(80)), "each once"
    assert [error for member in members for error in member.errors] == []


def test_a_way_to_share_out_that_the_broker_does_not_have_is_refused_clearly(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("go-by-range")
    member = Member("franz-go", bootstrap, "go-by-range", "go-by-range", "server-range")
    try:
        until(lambda: member.errors)
        assert "UNSUPPORTED_ASSIGNOR" in member.errors[0]
        member.end()
    finally:
        member.kill()


@every_way_to_share_out
def test_a_group_goes_on_when_its_coordinator_and_a_member_are_killed(
    brokers: Brokers, bootstrap: str, client: str, strategy: str
) -> None:
    topic = group = f"go-killed-{client}-{strategy}"
    brokers.create_topic(topic, partitions=4)
    members = [Member(client, bootstrap, group, topic, strategy) for _ in range(2)]
    try:
        until(lambda: len(members[0].owned) == len(members[1].owned) == 2)
        fill(bootstrap, topic, 0)
        until(lambda: stored(brokers, group, topic, 4) == [20] * 4)
        brokers[coordinator_of(brokers, group)].kill()
        fill(bootstrap, topic, 1)
        until(lambda: stored(brokers, group, topic, 4) == [40] * 4)
        assert len(members[0].owned) == len(members[1].owned) == 2
        brokers.start()
        members[1].kill()
        until(lambda: members[0].owned == {0, 1, 2, 3})
        fill(bootstrap, topic, 2)
        until(lambda: stored(brokers, group, topic, 4) == [60] * 4)
        members[0].end()
    finally:
        for member in members:
            member.kill()
    values = {value for member in members for value in member.values}
    assert values == {f"{number}-{at}" for number in range(4) for at in range(60)}


def fill(bootstrap: str, topic: str, turn: int) -> None:
    """Twenty more records in each of four partitions."""
    for number in range(4):
        values = [b"%d-%d" % (number, 20 * turn + at) for at in range(20)]
        Confluent.produce(bootstrap, topic, values, partition=number, idempotent=True)
