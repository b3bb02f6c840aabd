"""Keyed records in the simulation: how producers make them, and what of them must be in a log that is compacted.

A record's identity is unlike any other's: its value, or of a tombstone, that of its header.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

from lograft.partitions.raft.points import Item, ItemKind
from lograft.proto.record_batch import NewRecord, Record, decode, read_header

KEYS = 7
TIMESTAMP_MS = 1_767_225_600_000


def record_with(identity: bytes) -> NewRecord:
    """One of a few keys; some are tombstones, and some have no key."""
    number = crc32(identity)
    key = b"key %d" % (number % KEYS)
    match number // KEYS % 8:
        case 0:
            return NewRecord(TIMESTAMP_MS, None, identity)
        case 1 | 2:
            return NewRecord(TIMESTAMP_MS, key, None, [("identity", identity)])
    return NewRecord(TIMESTAMP_MS, key, identity)


def identity_of(record: Record) -> bytes:
    found = record.value if record.value is not None else record.headers[0].value
    return found or b""


def is_compacted(item: Item) -> bool:
    """Does it show that it lost records?"""
    if item.kind is not ItemKind.RECORDS:
        return False
    header = read_header(item.data)
    return header.record_count < header.width


def compacted_to(items: Iterable[Item]) -> int:
    """Where the last item ends that lost records; 0 if none did."""
    return max((item.point.offset for item in items if is_compacted(item)), default=0)


def what_is_missing(committed: Sequence[Record], items: Iterable[Item], base_offset: int) -> str | None:
    """Why these items do not say of each key what all committed records say, or None if they do.

    `committed` are all records up to where the items are looked at, `base_offset` is where these begin.
    """
    held: dict[int, Record] = {}
    for item in items:
        if item.kind is ItemKind.RECORDS:
            held.update((record.offset, record) for record in decode(item.data))
    newest: dict[bytes, Record] = {}
    for record in committed[base_offset:]:
        if record.key is not None:
            newest[record.key] = record
        elif record.offset not in held:
            return f"{record.offset} has no key, and is gone"
    for key, record in newest.items():
        if record.offset in held:
            continue
        if record.value is not None:
            return f"the newest record of {key!r}, at {record.offset}, is gone"
        older = [offset for offset, one in held.items() if one.key == key and offset < record.offset]
        if older:
            return f"{key!r} was deleted at {record.offset}, which is gone, but is still there at {older}"
    return None
