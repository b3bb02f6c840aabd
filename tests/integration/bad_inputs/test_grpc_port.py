"""The gRPC port below the level of requests: connections, streams, pings, headers. Rows 5, 35 to 38 of the list."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from lograft.v1 import broker_service_pb2 as pb
from lograft.v1 import broker_service_pb2_grpc

from tests.integration.bad_inputs.conftest import TOPIC, a_lone_broker
from tests.integration.bad_inputs.http2 import (
    CANCEL,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    RawConnection,
    call_headers,
    frame,
    going_away,
)
from tests.integration.bad_inputs.strangers import are_closed, crowd
from tests.integration.bad_inputs.watch import Watch, metric
from tests.integration.brokers import Broker, a_batch, eventually

FETCH = "/lograft.v1.BrokerService/Fetch"
METADATA = "/lograft.v1.BrokerService/Metadata"
ENHANCE_YOUR_CALM = 11


def own_channel(broker: Broker, **options: int) -> grpc.Channel:
    """A connection that is shared with nobody."""
    named = [(f"grpc.{name}", value) for name, value in options.items()]
    return grpc.insecure_channel(broker.address, options=[("grpc.use_local_subchannel_pool", 1), *named])


def test_thousand_silent_connections_have_two_seconds_and_keep_nobody_out(broker: Broker, watch: Watch) -> None:
    with watch, crowd(broker.grpc_port, 1000) as strangers:
        with own_channel(broker) as channel:
            grpc.channel_ready_future(channel).result(timeout=10)
        assert are_closed(strangers, 15) == 1000


def test_flood_of_pings_is_cut_off(broker: Broker, watch: Watch) -> None:
    with watch, RawConnection(broker.grpc_port) as flood:
        for _ in range(200):
            try:
                flood.send(frame(PING, 0, 0, bytes(8)))
            except OSError:
                break
        ((code, words),) = going_away(flood.frames_until_end())
        assert code == ENHANCE_YOUR_CALM and b"too_many_pings" in words


def test_client_that_pings_now_and_then_while_nothing_is_sent_to_it_stays(broker: Broker) -> None:
    """As many as a busy client sends of its own accord while a broker is stalled: far fewer than a flood has."""
    with RawConnection(broker.grpc_port) as client:
        for _ in range(10):
            client.send(frame(PING, 0, 0, bytes(8)))
            time.sleep(0.05)
        frames = client.frames_until_end(timeout=0.5)
        assert not going_away(frames) and len([kind for kind, _, _ in frames if kind == PING]) == 10


def test_rapid_resets_of_streams_harm_nobody(broker: Broker, watch: Watch) -> None:
    headers = call_headers(FETCH)
    with watch, RawConnection(broker.grpc_port) as attacker:
        for first in range(0, 10_000, 100):
            burst = b"".join(
                frame(HEADERS, END_HEADERS, 2 * number + 1, headers)
                + frame(RST_STREAM, 0, 2 * number + 1, CANCEL.to_bytes(4, "big"))
                for number in range(first, first + 100)
            )
            try:
                attacker.send(burst)
            except OSError:
                break  # cut off, as it may be
    eventually(lambda: metric(broker, "lograft_calls") == 0)


def test_streams_beyond_a_connections_bound_are_refused_or_wait(broker: Broker, watch: Watch) -> None:
    headers = call_headers("/lograft.v1.BrokerService/Stream")
    with watch, RawConnection(broker.grpc_port) as attacker:
        attacker.send(b"".join(frame(HEADERS, END_HEADERS, 2 * number + 1, headers) for number in range(3000)))
        time.sleep(1)
        assert metric(broker, "lograft_calls") <= 1001
    eventually(lambda: metric(broker, "lograft_calls") <= 1)


def test_metadata_beyond_its_bound_is_refused(broker: Broker, watch: Watch) -> None:
    with watch, own_channel(broker, max_metadata_size=64 << 20) as channel:
        stub = broker_service_pb2_grpc.BrokerServiceStub(channel)
        for size in (64 << 10, 1 << 20):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Metadata(pb.MetadataRequest(), metadata=[("x", "y" * size)], timeout=10)
            assert refused.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


def test_header_block_without_end_ends_the_connection(broker: Broker, watch: Watch) -> None:
    with watch, RawConnection(broker.grpc_port) as attacker, pytest.raises(OSError):
        attacker.send(frame(HEADERS, 0, 1, call_headers(FETCH)))
        for _ in range(4096):  # 64 MiB of CONTINUATION
            attacker.send(frame(9, 0, 1, b"\0" + b"\x01a" + b"\x7f\x80\x7f" + b"x" * 16_255))
        time.sleep(0.2)
        for _ in range(100):
            attacker.send(frame(9, 0, 1, b""))
            time.sleep(0.02)


@pytest.mark.parametrize("size", [17 << 20, 200 << 20])
def test_message_beyond_the_limit_is_refused_before_it_is_taken_in(broker: Broker, watch: Watch, size: int) -> None:
    with watch, own_channel(broker, max_send_message_length=-1) as channel:
        call = channel.unary_unary(FETCH)
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(size), timeout=30)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def nested(depth: int) -> bytes:
    """A message in an unknown field, in an unknown field, and so on."""
    inner = b""
    for _ in range(depth):
        size, length = len(inner), bytearray()
        while size >= 128:
            length.append(size % 128 + 128)
            size //= 128
        inner = b"\xfa\x3f" + bytes([*length, size]) + inner
    return inner


GARBAGE = {
    "random": bytes(range(256)) * 10,
    "unknown fields nested deep": nested(10_000),
    "groups nested deep": b"\xfb\x3f" * 100_000,
    "length beyond the end": b"\x0a\xff\xff\xff\xff\x07",
    "varint without end": b"\x08" + b"\xff" * 100,
    "text that is none": b"\x0a\x0a\x0a\x02\xff\xfe",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_bytes_that_are_no_request_are_refused_by_every_method(broker: Broker, watch: Watch, data: bytes) -> None:
    from lograft.v1 import admin_service_pb2, broker_service_pb2, groups_service_pb2

    files = (admin_service_pb2, broker_service_pb2, groups_service_pb2)
    with watch, own_channel(broker) as channel:
        for service in itertools.chain(*(file.DESCRIPTOR.services_by_name.values() for file in files)):
            for method in service.methods:
                call = channel.stream_stream(f"/{service.full_name}/{method.name}")
                try:
                    list(call(iter([data]), timeout=10))
                except grpc.RpcError as error:
                    assert error.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), method.name


def test_method_that_does_not_exist_is_told_so(broker: Broker) -> None:
    with own_channel(broker) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/lograft.v1.BrokerService/Explode")(b"", timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_calls_with_a_deadline_of_a_millisecond_leave_nothing_behind(broker: Broker, watch: Watch) -> None:
    with watch, own_channel(broker) as channel:
        stub = broker_service_pb2_grpc.BrokerServiceStub(channel)
        asked = pb.FetchRequest(partitions=[pb.FetchRequest.Partition(topic=TOPIC, offset=0)], max_wait_ms=3_600_000)
        for _ in range(200):
            with pytest.raises(grpc.RpcError) as ending:
                while True:
                    stub.Fetch(asked, timeout=0.001)
            assert ending.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: metric(broker, "lograft_calls") == 0)


def test_waits_of_an_hour_without_a_deadline_are_cut_short_and_hold_nobody_up(broker: Broker, watch: Watch) -> None:
    end = broker.fetch(TOPIC).committed_offset
    asked = pb.FetchRequest(
        partitions=[pb.FetchRequest.Partition(topic="quiet", offset=0)], max_wait_ms=2**31 - 1, min_bytes=2**31 - 1
    )
    create_quiet(broker)
    with watch, own_channel(broker) as channel:
        stub = broker_service_pb2_grpc.BrokerServiceStub(channel)
        waiting = [stub.Fetch.future(asked) for _ in range(900)]
        eventually(lambda: metric(broker, "lograft_calls") >= 900)
        for one in waiting:
            one.cancel()
    eventually(lambda: metric(broker, "lograft_calls") == 0)
    assert broker.fetch(TOPIC).committed_offset > end


def create_quiet(broker: Broker) -> None:
    """A topic that nobody writes to."""
    import os

    from lograft.v1 import admin_service_pb2 as admin_pb

    broker.admin.CreateTopic(admin_pb.CreateTopicRequest(name="quiet", partitions=1, topic_id=os.urandom(16).hex()))
    eventually(lambda: not broker.fetch("quiet").error.reason)


def test_produce_that_is_cancelled_midway_leaves_whole_batches_or_none(broker: Broker, watch: Watch) -> None:
    value = b"cancelled" * 1000

    def requests() -> Iterator[pb.ProduceRequest]:
        for number in itertools.count():
            entry = pb.ProduceRequest.Entry(topic=TOPIC, partition=0, batch=a_batch(value))
            yield pb.ProduceRequest(request_id=number, entries=[entry])

    with watch, own_channel(broker) as channel:
        stub = broker_service_pb2_grpc.BrokerServiceStub(channel)
        for _ in range(10):
            answers = stub.Produce(requests(), timeout=20)
            next(answers)
            answers.cancel()
            with pytest.raises(grpc.RpcError):
                list(answers)
    assert {*broker.values(TOPIC)} - {value} and all(
        one == value for one in broker.values(TOPIC) if one is not None and one.startswith(b"cancelled")
    )
    eventually(lambda: metric(broker, "lograft_calls") == 0)


def test_streams_that_never_end_their_side_hold_no_more_than_their_bytes(broker: Broker, watch: Watch) -> None:
    def silent() -> Iterator[pb.ProduceRequest]:
        entry = pb.ProduceRequest.Entry(topic=TOPIC, partition=0, batch=a_batch(b"one"))
        yield pb.ProduceRequest(request_id=1, entries=[entry])
        time.sleep(3)

    with watch, own_channel(broker) as channel, ThreadPoolExecutor(100) as pool:
        stub = broker_service_pb2_grpc.BrokerServiceStub(channel)
        ended = [pool.submit(lambda: list(stub.Produce(silent(), timeout=2.5))) for _ in range(100)]
        for one in ended:
            with pytest.raises(grpc.RpcError):
                one.result()
    eventually(lambda: metric(broker, "lograft_calls") == 0)


def test_client_that_reads_no_answers_to_its_fetches_is_in_its_own_way_alone(broker: Broker) -> None:
    entry = pb.ProduceRequest.Entry(topic=TOPIC, partition=0, batch=a_batch(bytes(900_000)))
    list(broker.records.Produce(iter([pb.ProduceRequest(request_id=1, entries=[entry] * 10)]), timeout=20))
    asked = pb.FetchRequest(partitions=[pb.FetchRequest.Partition(topic=TOPIC, offset=0)], max_bytes=8 << 20)
    # A quarter of sixteen answers of eight megabytes, and their copies on the way out.
    with Watch(broker, TOPIC, growth_bytes_max=200 << 20), RawConnection(broker.grpc_port) as client:
        for number in range(500):
            client.send(
                frame(HEADERS, END_HEADERS, 2 * number + 1, call_headers(FETCH))
                + frame(0, END_STREAM, 2 * number + 1, message_of(asked.SerializeToString()))
            )
        time.sleep(2)
    eventually(lambda: metric(broker, "lograft_calls") == 0)


def test_client_that_reads_no_answers_to_what_it_produces_is_soon_not_read_from(broker: Broker, watch: Watch) -> None:
    entry = pb.ProduceRequest.Entry(topic="nowhere" * 30, partition=0, batch=b"")
    request = message_of(pb.ProduceRequest(request_id=1, entries=[entry]).SerializeToString())
    many = frame(0, 0, 1, request * (16_000 // len(request)))
    with watch, RawConnection(broker.grpc_port) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, call_headers("/lograft.v1.BrokerService/Produce")))
        sent = client.send_while_read(many, count_max=8_000, stream=1)
        assert sent < 8_000, "it was read from to the end"
    eventually(lambda: metric(broker, "lograft_calls") == 0)


def test_client_that_reads_no_answers_to_many_streams_is_in_its_own_way_alone(tmp_path: Path) -> None:
    entry = pb.ProduceRequest.Entry(topic="nowhere" * 30, partition=0, batch=b"")
    refused = pb.ProduceRequest(request_id=1, entries=[entry] * 20)
    good = pb.ProduceRequest.Entry(topic=TOPIC, partition=0, batch=a_batch(b"good"))
    taken = [0] * 10

    def requests(at: int) -> Iterator[pb.ProduceRequest]:
        for taken[at] in range(3_000):
            yield refused

    limits = "".join(
        f"{name}_bytes_max = {1 << bits}\n"
        for name, bits in (("batch", 18), ("fetch", 19), ("message", 20), ("produce_in_flight", 20))
    )
    with a_lone_broker(tmp_path, limits) as (broker, *_), own_channel(broker) as greedy, own_channel(broker) as channel:
        stub = broker_service_pb2_grpc.BrokerServiceStub(greedy)
        calls = [stub.Produce(requests(at)) for at in range(len(taken))]
        before = [-1]
        while before != taken:
            before = taken.copy()
            time.sleep(1)
        assert max(taken) < 2_999, "it was read from to the end"
        served = broker_service_pb2_grpc.BrokerServiceStub(channel).Produce(
            iter([pb.ProduceRequest(request_id=number, entries=[good]) for number in range(5)]), timeout=10
        )
        assert [answer.request_id for answer in served] == [0, 1, 2, 3, 4]
        for call in calls:
            call.cancel()


def test_produce_request_of_a_million_empty_entries_is_refused(broker: Broker) -> None:
    with Watch(broker, TOPIC, growth_bytes_max=400 << 20), own_channel(broker) as channel:  # what reading it takes
        call = channel.stream_stream("/lograft.v1.BrokerService/Produce")
        with pytest.raises(grpc.RpcError) as refused:
            list(call(iter([b"\x1a\x00" * 1_000_000]), timeout=20))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def message_of(body: bytes) -> bytes:
    """As gRPC frames it."""
    return b"\0" + len(body).to_bytes(4, "big") + body
