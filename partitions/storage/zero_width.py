"""What zero-width items say: their payloads, as they stand in the log.

Invariants
    a term start says its term once more: the one in the header lies outside the CRC, and a flipped bit there would
    make a log look newer than all others
    a voter change names the whole new set, a move of the log start the whole new start: nothing older is needed
    the log never starts past the end that it had when its start was moved
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from ...proto.errors import UNDECODABLE, CorruptBatch
from ...proto.record_batch import Buffer, zero_width
from ..raft.messages import Voter
from ..raft.points import Item, ItemKind, Point

_decode_voters = msgspec.msgpack.Decoder(tuple[Voter, ...]).decode
_decode_log_start = msgspec.msgpack.Decoder(int).decode


def term_start(point: Point, timestamp_ms: int = 0) -> Item:
    return _item(point, ItemKind.TERM_START, encode_term_start(point.term), timestamp_ms)


def voter_change(point: Point, voters: Iterable[Voter], timestamp_ms: int = 0) -> Item:
    voters = tuple(voters)
    return replace(_item(point, ItemKind.VOTERS, encode_voters(voters), timestamp_ms), voters=voters)


def log_start_move(point: Point, start_offset: int, timestamp_ms: int = 0) -> Item:
    return _item(point, ItemKind.LOG_START, encode_log_start(start_offset), timestamp_ms)


def item_of(point: Point, kind: ItemKind, payload: bytes, data: Buffer) -> Item:
    """The item in `data`, whose payload, of a zero-width one, has been read. CorruptBatch: it names no voters."""
    return Item(point, kind, data, decode_voters(payload) if kind is ItemKind.VOTERS else ())


def encode_term_start(term: int) -> bytes:
    return msgspec.msgpack.encode(term)


def encode_voters(voters: Iterable[Voter]) -> bytes:
    return msgspec.msgpack.encode(tuple(voters))


def decode_voters(payload: bytes) -> tuple[Voter, ...]:
    """CorruptBatch if it is no set that a leader could have made."""
    try:
        voters = _decode_voters(payload)
    except UNDECODABLE as error:
        raise CorruptBatch(f"a voter change says no voters: {error}", what="voters", position=0) from error
    if not voters or len({*voters}) != len(voters):
        raise CorruptBatch(f"a voter change names nobody, or one twice: {voters}", what="voters", position=0)
    return voters


def encode_log_start(start_offset: int) -> bytes:
    return msgspec.msgpack.encode(start_offset)


def decode_log_start(payload: bytes, end_offset: int) -> int:
    """CorruptBatch if `encode_log_start` cannot have made it for a log that ended at `end_offset`."""
    try:
        start_offset = _decode_log_start(payload)
    except UNDECODABLE as error:
        raise CorruptBatch(f"a move of the log start says no offset: {error}", what="log start", position=0) from error
    if not 0 <= start_offset <= end_offset:
        raise CorruptBatch(
            f"a log that ends at {end_offset} cannot start at {start_offset}", what="log start", position=0
        )
    return start_offset


def _item(point: Point, kind: ItemKind, payload: bytes, timestamp_ms: int) -> Item:
    return Item(point, kind, zero_width(kind, point.offset, point.term, payload, timestamp_ms))
