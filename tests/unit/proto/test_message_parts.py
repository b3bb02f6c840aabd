"""Large fields put into messages and cut out of them by hand: protobuf and we agree on every byte."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from lograft.proto.message_parts import cut_out, field
from lograft.v1 import broker_service_pb2 as pb

BATCHES = pb.FetchResponse.Partition.DESCRIPTOR.fields_by_name["batches"].number

partitions = st.builds(
    pb.FetchResponse.Partition,
    topic=st.text(max_size=5),
    partition=st.integers(-(1 << 31), (1 << 31) - 1),
    batches=st.binary(max_size=300),
    next_offset=st.integers(-(1 << 63), (1 << 63) - 1),
    term=st.integers(0, 1 << 40),
)


@given(partition=partitions, pieces=st.lists(st.binary(max_size=200), max_size=3))
def test_protobuf_reads_what_was_put_in(partition: pb.FetchResponse.Partition, pieces: list[bytes]) -> None:
    partition.ClearField("batches")
    message = b"".join([partition.SerializeToString(), *field(BATCHES, [memoryview(piece) for piece in pieces])])
    read = pb.FetchResponse.Partition.FromString(message)
    assert read.batches == b"".join(pieces)
    read.ClearField("batches")
    assert read == partition


@given(partition=partitions)
def test_what_protobuf_wrote_is_cut_out_and_the_rest_is_as_it_was(partition: pb.FetchResponse.Partition) -> None:
    rest, found = cut_out(partition.SerializeToString(), BATCHES, fields_max=9)
    assert b"".join(found) == partition.batches
    partition.ClearField("batches")
    assert pb.FetchResponse.Partition.FromString(rest) == partition


def test_nothing_is_copied_of_what_is_cut_out() -> None:
    message = pb.FetchResponse.Partition(topic="t", batches=b"x" * 100, term=3).SerializeToString()
    (found,) = cut_out(message, BATCHES, fields_max=50)[1]
    assert found.obj is message


def test_a_field_of_the_number_but_of_another_type_is_left_in_the_rest() -> None:
    message = bytes([BATCHES << 3, 5])
    assert cut_out(message, BATCHES, fields_max=50) == (message, [])


@given(st.binary(max_size=40) | st.builds(lambda p, at: p.SerializeToString()[:at], partitions, st.integers(0, 60)))
def test_of_any_bytes_at_all_no_more_is_taken_than_protobuf_takes(message: bytes) -> None:
    try:
        rest, found = cut_out(message, BATCHES, fields_max=50)
        read = pb.FetchResponse.Partition.FromString(rest)
    except (ValueError, DecodeError):
        return
    whole = pb.FetchResponse.Partition.FromString(message)
    assert whole.batches == (bytes(found[-1]) if found else b"")
    whole.ClearField("batches")
    assert whole == read


@pytest.mark.parametrize(
    "message",
    [
        b"\x22",
        b"\x22\x05abc",
        b"\x08",
        b"\x08" + b"\x80" * 10 + b"\x01",
        b"\x09abc",
        b"\x0dabc",
        b"\x0b\x0c",
        b"\x02\x00",
    ],
    ids=["no size", "cut short", "no number", "endless number", "short double", "short float", "group", "field 0"],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        cut_out(message, BATCHES, fields_max=50)


def test_many_fields_are_left_to_protobuf_before_they_take_time() -> None:
    message = b"".join(field(1, [b""]) * 10)
    assert len(cut_out(message, 1, fields_max=10)[1]) == 10
    with pytest.raises(ValueError, match="more than 9"):
        cut_out(message, 1, fields_max=9)
