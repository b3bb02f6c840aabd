"""The port for Kafka clients, and what strangers say there. Rows of the list: see test_kafka_requests.py."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time

import pytest
from lograft.node.kafka.apis import APIS

from tests.integration.bad_inputs.conftest import TOPIC
from tests.integration.bad_inputs.strangers import are_closed, connect, crowd, ended
from tests.integration.bad_inputs.watch import Watch
from tests.integration.brokers import Broker
from tests.unit.kafka.fakes import a_request

FIRST_BYTES = {
    "length 0": struct.pack(">i", 0),
    "length -1": struct.pack(">i", -1),
    "length 2^31-1": struct.pack(">i", 2**31 - 1),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "random": random.Random(1).randbytes(4096),
    "no such request": struct.pack(">ihhi", 12, 999, 0, 1) + bytes(4),
    "no such version": struct.pack(">ihhi", 12, 3, 999, 1) + bytes(4),
    "a version that is no more": struct.pack(">ihhi", 12, 0, 2, 1) + bytes(4),
    "a body that ends early": struct.pack(">ihhih", 10, 3, 12, 1, -1),
    "a list of 2^31-1": struct.pack(">ihhihi", 14, 3, 4, 1, -1, 2**31 - 1),
    "a list of 2^32-2": struct.pack(">ihhih", 16, 19, 7, 1, -1) + b"\0" + b"\xff\xff\xff\xff\x0f",
    "tagged fields without end": struct.pack(">ihhih", 15, 3, 12, 1, -1) + b"\xff\xff\xff\xff\x0f",
    "a number without end": struct.pack(">ihhih", 20, 3, 12, 1, -1) + b"\0" + b"\xff" * 9,
    "a client id of -2": struct.pack(">ihhih", 10, 3, 0, 1, -2),
    "a client id that is no UTF-8": struct.pack(">ihhih", 12, 3, 0, 1, 2) + b"\xff\xfe",
    "a topic that is no UTF-8": struct.pack(">ihhihih", 18, 3, 1, 1, -1, 1, 2) + b"\xff\xfe",
    "a topic of -5 bytes": struct.pack(">ihhihih", 16, 3, 1, 1, -1, 1, -5),
}
VERSIONS_ASKED = struct.pack(">ihhih", 10, 18, 0, 7, -1)


@pytest.fixture
def port(broker: Broker) -> int:
    return int(broker.kafka_address.rpartition(":")[2])


@pytest.mark.parametrize("data", FIRST_BYTES.values(), ids=FIRST_BYTES.keys())
def test_what_is_no_request_ends_the_connection_at_once_and_without_a_word(
    port: int, watch: Watch, data: bytes
) -> None:
    with watch, connect(port) as stranger:
        stranger.sendall(data)
        began = time.monotonic()
        assert ended(stranger) == b"" and time.monotonic() - began < 1


def test_a_version_to_come_of_api_versions_is_answered(port: int) -> None:
    with connect(port) as client:
        client.sendall(struct.pack(">ihhih", 10, 18, 77, 5, -1))
        size, correlation_id, code = struct.unpack(">iih", _exactly(client, 10))
        assert (correlation_id, code) == (5, 35) and size < 100
        client.sendall(VERSIONS_ASKED)  # as clients go on then
        size, correlation_id, code = struct.unpack(">iih", _exactly(client, 10))
        assert (correlation_id, code) == (7, 0)


@pytest.mark.parametrize("begun", [b"", b"\0", VERSIONS_ASKED[:7]])
def test_silent_connections_are_closed_and_others_are_served_meanwhile(port: int, watch: Watch, begun: bytes) -> None:
    with watch, crowd(port, 300, says=begun) as strangers:
        assert are_closed(strangers, 8) == 300


def test_a_first_request_that_drips_is_cut_off(port: int, watch: Watch) -> None:
    with watch, crowd(port, 50) as strangers:
        for byte in VERSIONS_ASKED[:-1]:
            for stranger in strangers:
                with contextlib.suppress(OSError):
                    stranger.sendall(bytes([byte]))
            time.sleep(0.25)  # a byte now and then, so that it is never silent for long
        assert are_closed(strangers, 8) == 50


def test_requests_that_are_claimed_to_be_large_take_no_more_than_what_came(port: int, broker: Broker) -> None:
    claimed = struct.pack(">ihhi", 15 << 20, 0, 9, 1)
    with Watch(broker, TOPIC, growth_bytes_max=200 << 20), crowd(port, 40, says=VERSIONS_ASKED) as strangers:
        for stranger in strangers:
            stranger.settimeout(0.2)
            _send_as_much_as_is_taken(stranger, claimed + bytes(8 << 20))


def test_a_client_that_does_not_read_holds_up_nobody_else(port: int, watch: Watch) -> None:
    with watch, crowd(port, 30, says=VERSIONS_ASKED) as strangers:
        for stranger in strangers:
            stranger.settimeout(0.2)
            _send_as_much_as_is_taken(stranger, VERSIONS_ASKED * 50_000)


def test_mutated_requests_of_each_kind_end_in_an_answer_or_the_connections_end(port: int, watch: Watch) -> None:
    chance = random.Random(7)
    # But those that wait for others, and those that change what other tests lean on.
    kinds = [api for api in APIS.values() if api.name not in ("JoinGroup", "SyncGroup", "DeleteTopics", "CreateTopics")]
    with watch:
        for api in kinds:
            for _ in range(30):
                frame = bytearray(a_request(api.key, chance.randint(api.answered_from, api.highest)))
                for _ in range(chance.randint(1, 8)):
                    frame[chance.randrange(8, len(frame))] = chance.randrange(256)
                with connect(port) as stranger:
                    stranger.settimeout(12)
                    # A request that is answered follows, so that there is something to wait for.
                    stranger.sendall(struct.pack(">i", len(frame)) + frame + VERSIONS_ASKED)
                    stranger.shutdown(socket.SHUT_WR)
                    ended(stranger)


def _exactly(client: socket.socket, size: int) -> bytes:
    """The beginning of one answer; the rest of it is read as well."""
    found = b""
    while len(found) < 4:
        found += client.recv(4 - len(found))
    whole = 4 + int.from_bytes(found, "big")
    while len(found) < whole:
        found += client.recv(whole - len(found))
    return found[:size]


def _send_as_much_as_is_taken(stranger: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # it is not read from, or was cut off
        stranger.sendall(data)
