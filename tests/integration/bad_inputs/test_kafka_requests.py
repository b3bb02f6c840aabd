"""Requests of Kafka clients that can be read and should not be granted, or not whole.

The rows of the list of bad inputs (1 to 35), as far as they concern this door, and what proves each:

    1, 2, 7, 8, 9, 10   test_kafka_port.py: first bytes; tests/unit/kafka/test_claims.py: every claim at every place
    3, 4                test_kafka_port.py: silence and dripping; amid other frames: unit/kafka/test_connection.py
    5, 6, 35            test_kafka_port.py: crowds, those who do not read, and requests without end
    11 to 15            there is no authentication at this door: docs/kafka.md
    16, 18, 19, 20      here: names, ids, internal topics, counts
    17                  test_requests.py: both doors make topics by the same call; directories are named by topic id
    21, 22, 24 to 27    here: batches. What is compressed is never inflated here (23), nor known to be truncated (24):
                        records are not decoded on the way in; an unknown codec is refused
    28, 29              here: epochs, topic ids, sequences; who does not lead: integration/kafka/test_records.py
    30, 31, 32          here: fetches. A replica's id in one buys nothing: brokers do not fetch from each other this way
    33, 34              here: offsets and members; the rest: integration/kafka/test_groups.py
    44                  test_kafka_port.py: mutations; tests/fuzz/kafka_targets.py
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import crc32c
import pytest
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer
from lograft.node.kafka.codec import _builder
from lograft.node.kafka.errors import NOT_LEADER_OR_FOLLOWER
from lograft.proto.record_batch import HEADER_SIZE, NewRecord, encode

from tests.integration.bad_inputs.conftest import TOPIC
from tests.integration.bad_inputs.strangers import connect, crowd, ended
from tests.integration.bad_inputs.watch import Watch
from tests.integration.brokers import Broker, Brokers

PRODUCE, FETCH, COMMIT, JOIN, SYNC, CREATE = 0, 1, 8, 11, 14, 19
GOOD = encode([NewRecord(1_700_000_000_000, None, b"one"), NewRecord(1_700_000_000_001, b"k", None)])


class Client:
    """Asks by hand, and reads what is answered."""

    def __init__(self, port: int, client_id: str = "stranger") -> None:
        self.socket = connect(port)
        self._client_id = client_id

    def send(self, key: int, version: int, /, **told: Any) -> None:
        self.socket.sendall(framed(key, version, self._client_id, told))

    def ask(self, key: int, version: int, /, **told: Any) -> Any:
        self.send(key, version, **told)
        return self.answer(key, version)

    def answer(self, key: int, version: int) -> Any:
        size = int.from_bytes(self._exactly(4), "big")
        schema: Any = load_response_schema(key, version)
        answer = self._exactly(size)
        found, _ = entity_reader(schema)(answer, 4 + schema.__header_schema__.__version__)
        return found

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self.socket.recv(size - len(found))
            assert piece, "the broker closed the connection"
            found += piece
        return found

    def produce(self, topic: str, records: bytes | None, *, acks: int = -1, timeout_ms: int = 1000) -> tuple[int, int]:
        """The error's code, and the offset."""
        name = topic.encode()
        body = struct.pack(">hhiih", -1, acks, timeout_ms, 1, len(name)) + name + struct.pack(">ii", 1, 0)
        body += struct.pack(">i", -1 if records is None else len(records)) + (records or b"")
        head = struct.pack(">hhih", PRODUCE, 7, 1, -1)
        self.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        (answered,) = self.answer(PRODUCE, 7).responses
        (one,) = answered.partition_responses
        return int(one.error_code), one.base_offset

    def fetch(self, topic: str, offset: int, **more: Any) -> Any:
        """One partition's part of the answer."""
        asked = {"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1 << 20, **more.pop("asked", {})}
        told = {"max_wait": 0, "min_bytes": 1, "max_bytes": 1 << 20, "replica_id": -1, **more}
        (answered,) = self.ask(FETCH, 11, topics=[{"topic": topic, "partitions": [asked]}], **told).responses
        return answered.partitions[0]


def framed(key: int, version: int, client_id: str, told: dict[str, Any]) -> bytes:
    schema: Any = load_request_schema(key, version)
    header: Any = schema.__header_schema__
    written = io.BytesIO()
    head = {"request_api_key": key, "request_api_version": version, "correlation_id": 1, "client_id": client_id}
    entity_writer(header)(written, header(**head))
    entity_writer(schema)(written, _builder(schema)({"forgotten_topics_data": (), **told}))
    return struct.pack(">i", len(written.getvalue())) + written.getvalue()


@pytest.fixture
def port(broker: Broker) -> int:
    return int(broker.kafka_address.rpartition(":")[2])


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    client = Client(port)
    with client.socket:
        yield client


@pytest.fixture
def topic(lone_brokers: Brokers) -> str:
    name = "k-" + os.urandom(6).hex()
    lone_brokers.create_topic(name)
    lone_brokers.leader_of(name)
    return name


def sealed(batch: bytes) -> bytes:
    return batch[:17] + struct.pack(">I", crc32c.crc32c(batch[21:])) + batch[21:]


def altered(at: int, form: str, value: int, *, seal: bool = True) -> bytes:
    batch = bytearray(GOOD)
    struct.pack_into(form, batch, at, value)
    return sealed(bytes(batch)) if seal else bytes(batch)


# Topics -------------------------------------------------------------------------------------------------------------


def created(client: Client, name: str, partitions: int = 1, copies: int = 1) -> int:
    made = {"name": name, "num_partitions": partitions, "replication_factor": copies, "assignments": [], "configs": []}
    (topic,) = client.ask(CREATE, 7, topics=[made], timeout=10_000, validate_only=False).topics
    return int(topic.error_code)


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "a/b",
        "a\0",
        "../../etc/x",
        "x" * 250,
        "a b",
        "оrders",
        "a\nb",
        "a\x1b[2J",
        "__offsets",
        "x" * 9999,
    ],
)
def test_name_that_no_topic_may_have_is_refused(client: Client, watch: Watch, name: str) -> None:
    with watch:
        assert created(client, name) in (17, 36, 29)  # INVALID_TOPIC, TOPIC_EXISTS, NOT_AUTHORIZED
    assert created(client, "k-" + os.urandom(6).hex()) == 0  # the connection lives


@pytest.mark.parametrize(
    ("partitions", "copies", "code"),
    [(1_000_000, 1, 37), (0, 1, 37), (-5, 1, 37), (2**31 - 1, 1, 37), (1, 0, 38), (1, -5, 38), (1, 32767, 38)],
)
def test_counts_that_no_topic_may_have_are_refused_and_nothing_is_half_made(
    client: Client, watch: Watch, partitions: int, copies: int, code: int
) -> None:
    name = "k-" + os.urandom(6).hex()
    with watch:
        assert created(client, name, partitions, copies) == code
    assert client.produce(name, GOOD)[0] == 3  # UNKNOWN_TOPIC_OR_PARTITION


def test_ids_with_control_characters_or_of_any_length_stay_out_of_the_log(port: int, watch: Watch) -> None:
    with watch:
        for client_id in ("\x1b[31m\n" * 100, "x" * 32_767):
            stranger = Client(port, client_id)
            with stranger.socket:
                assert stranger.ask(10, 3, key="g\n\x1b[2J", key_type=0) is not None
                assert joined(stranger, "g\n" * 500_000 if client_id[0] == "x" else "\x1b") in (0, 24, 79, 42)


def test_internal_topics_are_not_written_to_by_clients(client: Client, watch: Watch) -> None:
    with watch:
        for name in ("__cluster", "__offsets"):
            assert client.produce(name, GOOD)[0] in (29, 3)


# Batches ------------------------------------------------------------------------------------------------------------

BATCHES = {
    "none": (None, 87),
    "empty": (b"", 87),
    "cut short": (GOOD[:-1], 2),
    "cut in its header": (GOOD[: HEADER_SIZE - 1], 87),
    "two in one": (GOOD + GOOD, 2),
    "crc": (altered(17, ">I", 1, seal=False), 2),
    "magic 9": (altered(16, ">b", 9), 2),
    "magic 1": (altered(16, ">b", 1), 2),
    "count beside the deltas": (altered(57, ">i", 7), 87),
    "no records": (altered(57, ">i", 0), 87),
    "negative count": (altered(57, ">i", -3), None),
    "negative delta": (altered(23, ">i", -3), None),
    "length": (altered(8, ">i", 2**31 - 1), 2),
    "codec 7": (altered(21, ">h", 7), 76),
    "control": (altered(21, ">h", 0x20), 87),
    "transactional": (altered(21, ">h", 0x10), 87),
    "a producer without a sequence": (altered(43, ">q", 5), 87),
    "too large": (encode([NewRecord(0, None, bytes(2 << 20))]), 10),
}


@pytest.mark.parametrize(("batch", "code"), BATCHES.values(), ids=BATCHES.keys())
def test_a_batch_that_is_none_is_refused_and_nothing_is_appended(
    client: Client, topic: str, watch: Watch, batch: bytes | None, code: int | None
) -> None:
    with watch:
        found, offset = client.produce(topic, batch)
        assert offset == -1 and (found == code or (code is None and found in (2, 87)))
    assert client.produce(topic, GOOD) == (0, 0)  # the connection lives, and the log is empty


@pytest.mark.parametrize("timestamp", [-1, 0, 253_402_300_799_000, 2**63 - 1])
def test_any_timestamp_is_kept_as_it_is_and_ages_nothing(
    client: Client, topic: str, watch: Watch, timestamp: int
) -> None:
    batch = bytearray(GOOD)
    struct.pack_into(">qq", batch, 27, timestamp, timestamp)
    with watch:
        assert client.produce(topic, sealed(bytes(batch))) == (0, 0)
    records = client.fetch(topic, 0).records
    assert bytes(records)[27:] == bytes(batch)[27:]


def test_a_hundred_thousand_headers_are_kept_as_they_are(client: Client, topic: str, watch: Watch) -> None:
    batch = encode([NewRecord(0, None, b"v", [("h", b"")] * 100_000)])
    with watch:
        assert client.produce(topic, batch) == (0, 0)
        assert bytes(client.fetch(topic, 0).records)[21:] == batch[21:]


@pytest.mark.parametrize("acks", [7, 2, -2, 32767])
def test_acks_that_do_not_exist_are_refused(client: Client, topic: str, acks: int) -> None:
    assert client.produce(topic, GOOD, acks=acks) == (21, -1)
    assert client.produce(topic, GOOD) == (0, 0)


@pytest.mark.parametrize("timeout_ms", [-1, 0, 2**31 - 1, -(2**31)])
def test_a_timeout_of_any_length_changes_nothing(client: Client, topic: str, timeout_ms: int) -> None:
    assert client.produce(topic, GOOD, timeout_ms=timeout_ms) == (0, 0)


def test_sequences_sent_again_are_answered_with_their_offset_and_others_refused(client: Client, topic: str) -> None:
    def numbered(sequence: int, epoch: int = 3) -> bytes:
        return encode([NewRecord(0, None, b"x")], producer_id=77, producer_epoch=epoch, base_sequence=sequence)

    assert [client.produce(topic, numbered(sequence)) for sequence in (0, 1, 0, 1)] == [(0, 0), (0, 1), (0, 0), (0, 1)]
    assert client.produce(topic, numbered(5)) == (45, -1)  # ahead
    assert client.produce(topic, numbered(0, epoch=2)) == (47, -1)  # of an epoch that is over
    assert client.produce(topic, numbered(7, epoch=4)) == (45, -1)  # a new epoch begins at 0
    assert client.produce(topic, numbered(2)) == (0, 2)


# Fetches ------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_fetched_is_refused_with_its_code(client: Client, topic: str, watch: Watch) -> None:
    client.produce(topic, GOOD)
    with watch:
        for offset in (-7, 3, 2**62, -(2**63)):
            assert client.fetch(topic, offset).error_code == 1  # OFFSET_OUT_OF_RANGE
        assert client.fetch(topic, 0, asked={"current_leader_epoch": 99}).error_code == 75  # UNKNOWN_LEADER_EPOCH
        assert client.fetch(topic, 0, asked={"current_leader_epoch": 0}).error_code == 74  # FENCED_LEADER_EPOCH
        assert client.fetch(topic, 0, asked={"partition": 9}).error_code == 3
        told = {"max_wait": 0, "min_bytes": 1, "max_bytes": 100}
        asked = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 100}
        unknown = [{"topic_id": UUID(int=5), "partitions": [asked]}]
        (answered,) = client.ask(FETCH, 13, topics=unknown, replica_id=-1, **told).responses
        assert answered.partitions[0].error_code == 100  # UNKNOWN_TOPIC_ID


@pytest.mark.parametrize("bytes_max", [0, 1, -1, 2**31 - 1])
def test_a_batch_is_given_however_little_is_asked_for_and_whoever_claims_to_ask(
    client: Client, topic: str, bytes_max: int
) -> None:
    client.produce(topic, GOOD)
    for replica_id in (-1, 2):
        part = client.fetch(topic, 0, max_bytes=bytes_max, replica_id=replica_id)
        assert bytes(part.records)[21:] == GOOD[21:] and part.high_watermark == 2


def test_a_fetch_of_too_many_partitions_is_refused(port: int, topic: str, watch: Watch) -> None:
    asked = [{"partition": at, "fetch_offset": 0, "partition_max_bytes": 1} for at in range(100_000)]
    told = {"max_wait": 0, "min_bytes": 1, "max_bytes": 1, "replica_id": -1}
    with watch:
        for count in (11_000, 100_000):
            stranger = Client(port)
            with stranger.socket:
                stranger.send(FETCH, 11, topics=[{"topic": topic, "partitions": asked[:count]}], **told)
                if count == 11_000:
                    assert stranger.answer(FETCH, 11).error_code == 42  # INVALID_REQUEST
                else:
                    assert ended(stranger.socket) == b""


def test_fetches_that_would_wait_for_an_hour_hold_up_nobody(port: int, topic: str, broker: Broker) -> None:
    waiting = {"max_wait": 3_600_000, "min_bytes": 1 << 20, "max_bytes": 1 << 20, "replica_id": -1}
    asked = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20}
    frame = framed(FETCH, 11, "stranger", {"topics": [{"topic": topic, "partitions": [asked]}], **waiting})
    with Watch(broker, TOPIC), crowd(port, 400, says=frame) as strangers:
        for stranger in strangers[:5]:
            stranger.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                told = stranger.recv(1 << 16)
                # On a busy machine the broker may have given up its lead: then whoever waits is told so at once.
                assert struct.unpack_from(">h", told, 22 + 2 + len(topic) + 8) == (NOT_LEADER_OR_FOLLOWER,)


# Groups -------------------------------------------------------------------------------------------------------------


def joined(client: Client, group: str, *, session_ms: int = 10_000, metadata: bytes = b"m") -> int:
    found = client.ask(
        JOIN,
        9,
        group_id=group,
        session_timeout=session_ms,
        rebalance_timeout=10_000,
        member_id="",
        group_instance_id=None,
        protocol_type="consumer",
        protocols=[{"name": "range", "metadata": metadata}],
        reason=None,
    )
    return int(found.error_code)


@pytest.mark.parametrize("session_ms", [0, -1, 1, 86_400_000, 2**31 - 1])
def test_a_session_of_no_time_or_of_days_is_refused(client: Client, watch: Watch, session_ms: int) -> None:
    with watch:
        assert joined(client, "k-sessions", session_ms=session_ms) == 26  # INVALID_SESSION_TIMEOUT


@pytest.mark.parametrize("group", ["", "x" * 100_000])
def test_a_group_without_a_name_or_with_one_too_long_is_refused(client: Client, group: str) -> None:
    assert joined(client, group) == 24  # INVALID_GROUP_ID


def test_members_that_bring_megabytes_are_cut_off(port: int, broker: Broker) -> None:
    with Watch(broker, TOPIC):
        for _ in range(20):
            stranger = Client(port)
            with stranger.socket, pytest.raises((AssertionError, OSError)):
                joined(stranger, "k-large", metadata=bytes(10 << 20))


COMMITS = {
    "an unknown partition": ({"partition_index": 99}, {}, {3}),
    "a negative offset": ({"committed_offset": -7}, {}, {42, 1, 12, 28}),
    "metadata of 1 MiB": ({"committed_metadata": "m" * 30_000}, {}, {12}),
    "an unknown topic": ({}, {"name": "no-such-topic"}, {3}),
}


@pytest.mark.parametrize(("partition", "told", "codes"), COMMITS.values(), ids=COMMITS.keys())
def test_an_offset_that_cannot_be_stored_is_refused(
    client: Client, topic: str, watch: Watch, partition: dict[str, Any], told: dict[str, Any], codes: set[int]
) -> None:
    with watch:
        assert stored(client, {"name": topic, **told}, partition) in codes


def test_offsets_of_a_generation_or_member_that_is_not_are_refused(client: Client, topic: str) -> None:
    assert stored(client, {"name": topic}, {}, generation_id_or_member_epoch=7, member_id="nobody") in (22, 25)


def stored(client: Client, topic: dict[str, Any], partition: dict[str, Any], **more: Any) -> int:
    one = {"partition_index": 0, "committed_offset": 0, "committed_leader_epoch": -1, "committed_metadata": None}
    told = {"group_id": "k-offsets", "generation_id_or_member_epoch": -1, "member_id": "", "group_instance_id": None}
    topics = [{**topic, "partitions": [{**one, **partition}]}]
    (found,) = client.ask(COMMIT, 8, topics=topics, **{**told, **more}).topics
    return int(found.partitions[0].error_code)


# Many ---------------------------------------------------------------------------------------------------------------


def test_requests_without_end_and_all_of_one_correlation_id_are_answered_one_by_one(port: int, watch: Watch) -> None:
    asked = framed(18, 0, "stranger", {})
    count, block = 20_000, 500
    with watch, connect(port) as stranger:
        answer = _whole_answer(stranger, asked)
        for _ in range(count // block):
            stranger.sendall(asked * block)
            found = b""
            while len(found) < len(answer) * block:
                found += stranger.recv(1 << 20)
            assert found == answer * block


def _whole_answer(stranger: socket.socket, asked: bytes) -> bytes:
    stranger.sendall(asked)
    found = stranger.recv(1 << 16)
    while len(found) < 4 or len(found) < 4 + int.from_bytes(found[:4], "big"):
        found += stranger.recv(1 << 16)
    return found
