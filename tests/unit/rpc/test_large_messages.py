"""What the broker reads and writes by hand is what protobuf would."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from lograft.node.rpc.large_messages import fetched, read_produce_request
from lograft.v1 import broker_service_pb2 as pb

LARGE = 200_000


@pytest.mark.parametrize("sizes", [(), (10,), (LARGE,), (LARGE, LARGE), (LARGE, *[5] * 500)])
def test_a_request_is_read_as_protobuf_reads_it(sizes: tuple[int, ...]) -> None:
    request = pb.ProduceRequest(request_id=7, acks=pb.ACKS_LEADER)
    for number, size in enumerate(sizes):
        request.entries.add(topic="t", partition=number, topic_id="id", batch=b"x" * size, first_open=number or None)
    read = read_produce_request(request.SerializeToString())
    assert (read.request_id, read.acks, read.count) == (7, pb.ACKS_LEADER, len(sizes))
    for (entry, batch), whole in zip(read.entries(), request.entries, strict=True):
        assert bytes(batch) == whole.batch
        assert entry.HasField("first_open") == whole.HasField("first_open")
        for name in ("topic", "partition", "topic_id", "first_open"):
            assert getattr(entry, name) == getattr(whole, name)


def test_a_large_batch_is_a_view_of_the_request() -> None:
    message = pb.ProduceRequest(entries=[pb.ProduceRequest.Entry(batch=b"x" * LARGE)]).SerializeToString()
    ((_, batch),) = read_produce_request(message).entries()
    assert isinstance(batch, memoryview)
    assert batch.obj is message


@pytest.mark.parametrize("message", [b"\x22", b"\xff" * 10, b"\xff" * LARGE, b"\x1a\x05" + bytes(LARGE)])
def test_bytes_that_are_no_request_are_refused(message: bytes) -> None:
    with pytest.raises(DecodeError):
        read_produce_request(message)


def test_an_answer_in_pieces_is_what_protobuf_would_write() -> None:
    pieces = []
    for number, batches in enumerate([[], [b"a" * LARGE, memoryview(b"b" * 10)]]):
        pieces += fetched(pb.FetchResponse.Partition(topic="t", partition=number, term=3), batches)
    first, second = pb.FetchResponse.FromString(b"".join(pieces)).partitions
    assert first == pb.FetchResponse.Partition(topic="t", term=3)
    assert second == pb.FetchResponse.Partition(topic="t", partition=1, term=3, batches=b"a" * LARGE + b"b" * 10)
