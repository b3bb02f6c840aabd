"""What applications hold in their hands: a partition's name, and a record read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..proto.errors import InvalidRecord
from ..proto.record_batch import Header

Headers = Sequence[tuple[str, bytes | None]] | Mapping[str, bytes | None]
"""Names and values that travel with a record, in order; a name may occur more than once."""


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Record(NamedTuple):
    """A record as it stands in the log. `term` is that of the leader under which it was appended."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    term: int


class NewRecord(NamedTuple):
    """A record to send. Without a timestamp it gets the client's clock; without a partition its key decides."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers | None = None
    timestamp_ms: int | None = None


def header_pairs(headers: Headers | None) -> Sequence[tuple[str, bytes | None]]:
    """Headers in the one shape that the codec takes."""
    if not headers:
        return ()
    return list(headers.items()) if isinstance(headers, Mapping) else headers


def as_bytes(content: object, what: str) -> bytes | None:
    """A key or a value as the codec takes it.

    Raises
        InvalidRecord  not bytes-like
    """
    if content is None or type(content) is bytes:
        return content
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    kind = type(content).__name__
    remedy = "encode it first, such as with .encode()" if isinstance(content, str) else "serialise it first"
    raise InvalidRecord(f"a record's {what} is bytes or None, not {kind}: {remedy}")
