"""Requests and answers that carry batches, as this broker reads and writes them: batches are never copied twice.

What comes is what protobuf would read, what leaves is what it would write, but for the order of fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from lograft.v1 import broker_service_pb2 as pb

from ...proto.message_parts import Buffer, cut_out, field

_SMALL_BYTES = 64 << 10
"""A message up to here is protobuf's alone: copying it costs less than looking into it."""
_FIELDS_MAX = 16
"""A message of ours has no more, beside what it repeats."""

_REQUEST_ENTRIES = pb.ProduceRequest.DESCRIPTOR.fields_by_name["entries"].number
_ENTRY_BATCH = pb.ProduceRequest.Entry.DESCRIPTOR.fields_by_name["batch"].number
_ANSWER_PARTITIONS = pb.FetchResponse.DESCRIPTOR.fields_by_name["partitions"].number
_PARTITION_BATCHES = pb.FetchResponse.Partition.DESCRIPTOR.fields_by_name["batches"].number

Entry = tuple[pb.ProduceRequest.Entry, Buffer]
"""An entry, which need not hold its batch, and the batch."""


class ProduceMessage:
    """A ProduceRequest as it came. Its batches are views of the message."""

    __slots__ = ("_entries", "_request")

    def __init__(self, request: pb.ProduceRequest, entries: Sequence[Entry] | None = None) -> None:
        self._request = request
        self._entries = entries

    @property
    def request_id(self) -> int:
        return self._request.request_id

    @property
    def acks(self) -> int:
        return self._request.acks

    @property
    def count(self) -> int:
        """How many entries."""
        return len(self._request.entries) if self._entries is None else len(self._entries)

    def entries(self) -> Iterator[Entry]:
        if self._entries is None:
            return ((entry, entry.batch) for entry in self._request.entries)
        return iter(self._entries)


def read_produce_request(message: bytes) -> ProduceMessage:
    """Raises DecodeError: bytes that are no ProduceRequest."""
    if len(message) > _SMALL_BYTES:
        try:
            # Many small entries are better left to protobuf as well.
            fields_max = len(message) // _SMALL_BYTES + _FIELDS_MAX
            rest, entries = cut_out(message, _REQUEST_ENTRIES, fields_max=fields_max)
            return ProduceMessage(pb.ProduceRequest.FromString(rest), [_entry(entry) for entry in entries])
        except (ValueError, DecodeError):
            pass  # protobuf's to say what it is
    return ProduceMessage(pb.ProduceRequest.FromString(message))


def _entry(message: memoryview) -> Entry:
    rest, contents = cut_out(message, _ENTRY_BATCH, fields_max=_FIELDS_MAX)
    return pb.ProduceRequest.Entry.FromString(rest), contents[-1] if contents else b""


def fetched(answer: pb.FetchResponse.Partition, batches: Sequence[Buffer]) -> list[Buffer]:
    """One partition's part of a FetchResponse, in pieces to be joined. `answer` comes without its batches."""
    contents: list[Buffer] = [answer.SerializeToString()]
    if batches:
        contents += field(_PARTITION_BATCHES, batches)
    return field(_ANSWER_PARTITIONS, contents)


DECODERS: dict[str, Callable[[bytes], Any]] = {"Produce": read_produce_request}
