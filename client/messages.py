"""Requests and answers that carry batches, as this client writes and reads them: batches are never copied twice.

Invariants
    what is written is what protobuf would write, but for the order of fields; what is read is what it would read
    a batch that is read is a view of the answer, unless it would keep much more than itself in memory
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from google.protobuf.message import DecodeError
from lograft.v1 import broker_service_pb2

from ..proto.message_parts import Buffer, cut_out, field

_FetchResponse = broker_service_pb2.FetchResponse
_ProduceRequest = broker_service_pb2.ProduceRequest

_SMALL_BYTES = 64 << 10
"""A message up to here is protobuf's alone: copying it costs less than looking into it."""
_SMALL_PART_BYTES = 16 << 10
"""An answer whose partitions have less than this on average is protobuf's too."""
_FIELDS_MAX = 16
"""A message of ours has no more, beside what it repeats."""
_SHARE_MIN = 4
"""A partition's part of an answer is copied if it is less than one in this many of it: kept for itself, it would keep
all the others as well."""

_REQUEST_ENTRIES = _ProduceRequest.DESCRIPTOR.fields_by_name["entries"].number
_ENTRY_BATCH = _ProduceRequest.Entry.DESCRIPTOR.fields_by_name["batch"].number
_ANSWER_PARTITIONS = _FetchResponse.DESCRIPTOR.fields_by_name["partitions"].number
_PARTITION_BATCHES = _FetchResponse.Partition.DESCRIPTOR.fields_by_name["batches"].number


def produce_request(
    request_id: int,
    acks: broker_service_pb2.Acks,
    entries: Iterable[tuple[broker_service_pb2.ProduceRequest.Entry, Buffer]],
) -> bytes:
    """A ProduceRequest on the wire. Entries come without their batches, each with the batch beside it."""
    pieces: list[Buffer] = [_ProduceRequest(request_id=request_id, acks=acks).SerializeToString()]
    for entry, batch in entries:
        pieces += field(_REQUEST_ENTRIES, [entry.SerializeToString(), *field(_ENTRY_BATCH, [batch])])
    return b"".join(pieces)


class FetchedPartition(NamedTuple):
    """One partition's part of an answer to a fetch."""

    answer: broker_service_pb2.FetchResponse.Partition
    """All but the batches; those are here only if the whole answer is small."""
    batches: Buffer


def read_fetch_response(message: bytes) -> list[FetchedPartition]:
    """The partitions of a FetchResponse.

    Raises
        DecodeError  bytes that are none
    """
    if len(message) > _SMALL_BYTES:
        try:
            fields_max = len(message) // _SMALL_PART_BYTES + _FIELDS_MAX
            _, partitions = cut_out(message, _ANSWER_PARTITIONS, fields_max=fields_max)
            return [_fetched(partition, len(message)) for partition in partitions]
        except (ValueError, DecodeError):
            pass  # protobuf's to say what it is
    return [FetchedPartition(answer, answer.batches) for answer in _FetchResponse.FromString(message).partitions]


def _fetched(partition: memoryview, message_bytes: int) -> FetchedPartition:
    rest, contents = cut_out(partition, _PARTITION_BATCHES, fields_max=_FIELDS_MAX)
    batches: Buffer = contents[-1] if contents else b""
    if len(batches) * _SHARE_MIN < message_bytes:
        batches = bytes(batches)
    return FetchedPartition(_FetchResponse.Partition.FromString(rest), batches)
