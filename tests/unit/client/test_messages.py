"""What the client writes and reads by hand is what protobuf would, and it keeps no more in memory than it should."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from lograft.client.messages import produce_request, read_fetch_response
from lograft.v1 import broker_service_pb2 as pb

LARGE = 200_000


def an_answer(*sizes: int) -> pb.FetchResponse:
    response = pb.FetchResponse()
    for number, size in enumerate(sizes):
        response.partitions.add(topic="t", partition=number, batches=bytes([number]) * size, next_offset=9, term=2)
    response.partitions.add(topic="t", partition=99).error.reason = "NOT_LEADER"
    return response


@pytest.mark.parametrize("sizes", [(), (10,), (LARGE,), (10, LARGE, 0), (LARGE, LARGE)])
def test_an_answer_is_read_as_protobuf_reads_it(sizes: tuple[int, ...]) -> None:
    response = an_answer(*sizes)
    read = read_fetch_response(response.SerializeToString())
    assert [bytes(batches) for _, batches in read] == [partition.batches for partition in response.partitions]
    for (answer, _), partition in zip(read, response.partitions, strict=True):
        answer.ClearField("batches")
        partition.ClearField("batches")
        assert answer == partition


def test_batches_are_views_of_the_answer_unless_they_would_keep_much_more_than_themselves() -> None:
    message = an_answer(LARGE, 1_000).SerializeToString()
    (_, large), (_, small), _ = read_fetch_response(message)
    assert isinstance(large, memoryview)
    assert large.obj is message
    assert isinstance(small, bytes)


@pytest.mark.parametrize("cut", [1, 20, 1_000])
def test_a_large_answer_cut_short_is_no_answer(cut: int) -> None:
    with pytest.raises(DecodeError):
        read_fetch_response(an_answer(LARGE).SerializeToString()[:-cut])


def test_a_request_is_what_protobuf_would_write_of_it() -> None:
    batches = [b"", b"x" * 10, b"y" * LARGE]
    entries = [pb.ProduceRequest.Entry(topic="t", partition=n, topic_id="id", first_open=n or None) for n in range(3)]
    request = pb.ProduceRequest.FromString(
        produce_request(7, pb.ACKS_LEADER, zip(entries, batches, strict=True))  # type: ignore[arg-type]
    )
    for entry, batch in zip(entries, batches, strict=True):
        entry.batch = batch
    assert request == pb.ProduceRequest(request_id=7, acks=pb.ACKS_LEADER, entries=entries)
