"""The port for other brokers, and what strangers say there. Rows 1-6, 8, 9, 40 and 44 of the list of bad inputs."""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Iterator

import pytest
from lograft.node.peer.handshake import HandshakeRefused, Refusal
from lograft.node.peer.raft_codec import encode_raft
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import ReadProbe, Voter
from lograft.proto.peer_frames import FrameReader, FrameType, encode_frame

from tests.fuzz.link_targets import LINK_TARGETS, MESSAGES, sealed_frame
from tests.fuzz.mutations import mutated
from tests.integration.bad_inputs.conftest import a_lone_broker
from tests.integration.bad_inputs.strangers import (
    Impostor,
    are_closed,
    connect,
    crowd,
    ended,
    framed,
    joined,
    refusal_of,
    session,
)
from tests.integration.bad_inputs.watch import Watch, metric
from tests.integration.brokers import Broker, Brokers

TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
HTTP = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
FIRST_BYTES = {
    "length 0": struct.pack(">i", 0),
    "length -1": struct.pack(">i", -1),
    "length 2^31-1": struct.pack(">i", 2**31 - 1),
    "tls": TLS_HELLO,
    "http": HTTP,
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "random": random.Random(1).randbytes(4096),
    "no such frame": framed(99, b"body"),
    "wrong crc": struct.pack(">IBI", 9, 1, 12345) + b"body",
    "a frame from the middle of a session": framed(int(FrameType.RAFT), b"body"),
    "nested without end": framed(int(FrameType.HELLO), b"\x91" * 16_000),
    "text that is none": framed(int(FrameType.HELLO), b"\x97\x01\x01\x99\xa1\xff"),
    "bytes after a HELLO": framed(int(FrameType.HELLO), b"\x00" * 100) + b"more",
}


@pytest.fixture(scope="module")
def lone_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Apart from that of the other modules: whoever proves to know the secret becomes a member, and is then gone."""
    with a_lone_broker(tmp_path_factory.mktemp("peer-port")) as brokers:
        yield brokers


PARTITION = PartitionId("0123456789abcdef" * 2, 0)


@pytest.mark.parametrize("data", FIRST_BYTES.values(), ids=FIRST_BYTES)
def test_wrong_first_bytes_end_the_connection_at_once(broker: Broker, watch: Watch, data: bytes) -> None:
    with watch:
        for _ in range(20):
            began = time.monotonic()
            with connect(broker.peer_port) as stranger:
                stranger.sendall(data)
                ended(stranger)
            assert time.monotonic() - began < 5


def test_whoever_speaks_tls_or_http_to_it_is_told_in_the_log_once(broker: Broker) -> None:
    for data, hint in ((TLS_HELLO, "looks like TLS"), (HTTP, "looks like HTTP")):
        for _ in range(5):
            with connect(broker.peer_port) as stranger:
                stranger.sendall(data)
                ended(stranger)
        said = [event["why"] for event in broker.events() if hint in event.get("why", "")]
        assert said and len(said) == len(set(said)), said


def test_length_of_a_megabyte_and_ten_bytes_then_silence_takes_no_memory_and_no_place_for_long(
    broker: Broker, watch: Watch
) -> None:
    with watch:  # handshakes have two seconds here
        strangers = [connect(broker.peer_port) for _ in range(60)]
        for stranger in strangers:
            stranger.sendall(struct.pack(">IB", 1 << 20, int(FrameType.HELLO)) + b"xxxxx")
        assert are_closed(strangers, 5) == 60


def test_one_byte_a_moment_does_not_hold_a_connection_beyond_the_handshakes_time(broker: Broker, watch: Watch) -> None:
    with watch, connect(broker.peer_port) as stranger:
        began = time.monotonic()
        hello = framed(int(FrameType.HELLO), bytes(5000))
        with pytest.raises(OSError):
            for at in range(100):
                stranger.sendall(hello[at : at + 1])
                time.sleep(0.1)
        assert 1.5 < time.monotonic() - began < 5


def test_more_than_a_handshake_takes_is_not_read_before_the_proof(broker: Broker, watch: Watch) -> None:
    with watch, connect(broker.peer_port) as stranger, pytest.raises(OSError):
        stranger.sendall(struct.pack(">IB", 20 << 20, int(FrameType.HELLO)))
        for _ in range(20):
            stranger.sendall(bytes(1 << 20))


def test_thousand_silent_connections_keep_no_broker_out(broker: Broker, watch: Watch) -> None:
    refused = metric(broker, "lograft_peer_connections_refused_total")
    with watch, crowd(broker.peer_port, 1000) as strangers:
        began = time.monotonic()
        impostor = Impostor(broker, cluster_id="0" * 32)
        with impostor.socket, pytest.raises(HandshakeRefused) as ending:  # that it gets an answer is what counts
            impostor.shake_hands()
        assert ending.value.refusal is Refusal.CLUSTER and time.monotonic() - began < 5
        # Of them all only as many are still held as the bounds allow.
        assert are_closed(strangers[:700], 3) == 700
    assert metric(broker, "lograft_peer_connections_refused_total") - refused >= 700


def test_wrong_secret_gets_no_session_and_no_hint_of_the_right_one(broker: Broker, watch: Watch) -> None:
    with watch:
        for _ in range(20):
            impostor = Impostor(broker, secret="another secret, long enough")
            body = impostor.challenge()
            with pytest.raises(HandshakeRefused):
                impostor.dialler.receive(FrameType.CHALLENGE, body)  # the broker's own proof is not for that secret
            impostor.send(framed(int(FrameType.PROOF), b"\x92\xc4\x00\xc4\x20" + os.urandom(32)))
            said = ended(impostor.socket)
            assert b"the cluster secret is not the same" in said
            impostor.close()


def test_member_of_another_cluster_is_refused_by_name(broker: Broker) -> None:
    impostor = Impostor(broker, cluster_id="f" * 32)
    with impostor.socket, pytest.raises(HandshakeRefused, match="belongs to cluster") as ending:
        impostor.shake_hands()
    assert ending.value.proved and ending.value.refusal is Refusal.CLUSTER


def test_recorded_handshake_is_worth_nothing_the_second_time(broker: Broker, watch: Watch) -> None:
    with watch:
        recorded = Impostor(broker)
        recorded.shake_hands()
        recorded.close()
        hello, proof = recorded.sent
        with connect(broker.peer_port) as replayer:
            replayer.sendall(hello)
            replayer.recv(1 << 16)  # another challenge than the one that was answered
            replayer.sendall(proof)
            assert b"the cluster secret is not the same" in ended(replayer)


def test_proof_before_a_hello_and_a_second_hello_are_refused(broker: Broker) -> None:
    impostor = Impostor(broker)
    hello = joined(impostor.dialler.hello())
    impostor.close()
    assert refusal_of(broker, framed(int(FrameType.PROOF), b"\x92\xc4\x00\xc4\x20" + bytes(32))) == ""
    with connect(broker.peer_port) as stranger:
        stranger.sendall(hello + hello)
        kinds = [frame_type for frame_type, _ in FrameReader().feed(ended(stranger))]
    assert FrameType.WELCOME not in kinds


def raft_frame(data: bytes) -> bytes:
    return framed(int(FrameType.RAFT), data)


def with_term(term: int) -> bytes:
    """A Raft message of that term, whatever the codec would say to it."""
    probe = ReadProbe(sender=Voter(77, "d" * 32, 1), to=Voter(0, "e" * 32, 1), term=0x7F, round_number=1)
    body = joined(list(encode_raft(PARTITION, probe)))
    at = body.rindex(b"\x7f")
    header = body[8:at] + b"\xcf" + struct.pack(">Q", term) + body[at + 1 :]
    return struct.pack(">II", len(header), 0) + header


@pytest.mark.parametrize("term", [2**63, 2**64 - 1, 2**31, 0])
def test_term_that_cannot_be_ends_the_session_of_whoever_sends_it(broker: Broker, watch: Watch, term: int) -> None:
    with watch, session(broker) as (control, _):
        control.send(raft_frame(with_term(term)))
        ended(control.socket)


def test_message_for_a_partition_or_from_a_replica_that_is_not_there_changes_nothing(
    broker: Broker, watch: Watch
) -> None:
    with watch, session(broker) as (_, bulk):
        for message in MESSAGES:
            bulk.send(joined(encode_frame(FrameType.RAFT, joined(list(encode_raft(PARTITION, message))))))
        time.sleep(0.3)


def test_frames_of_every_type_with_wrong_bodies_end_at_most_the_session(broker: Broker, watch: Watch) -> None:
    """A sample at the port of what the fuzzed readers are given in memory by the hundred thousand."""
    chance = random.Random(44)
    seeds = {target.name: target.seeds for target in LINK_TARGETS}
    bodies = [
        (FrameType[name.removeprefix("frame ")], body)
        for name, some in seeds.items()
        if name.startswith("frame ") and name.removeprefix("frame ") in FrameType.__members__
        for body in some
        if name != "frame REFUSED"  # a proved one may end the process, and this session could prove it
    ]
    with watch:
        for frame_type, body in bodies:
            others = [other for _, other in bodies]
            with session(broker) as (control, _):
                try:
                    for _ in range(5):
                        control.send(framed(int(frame_type), mutated(body, others, chance)[: 1 << 16]))
                        control.send(framed(int(frame_type), chance.randbytes(chance.randrange(200))))
                except OSError:
                    pass  # the session was ended, as it may be


def test_frames_altered_at_any_byte_end_the_session(broker: Broker, watch: Watch) -> None:
    frame = joined(encode_frame(FrameType.PING, b"12345678"))
    with watch:
        for at in range(len(frame)):
            with session(broker) as (control, _):
                control.send(frame[:at] + bytes([frame[at] ^ 0x41]) + frame[at + 1 :])
                if at > 3:  # a length that became longer is waited for, as any frame is
                    ended(control.socket)
    assert sealed_frame(frame) == frame
