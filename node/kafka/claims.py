"""Is what a request claims of its lists, strings and tags there? Looked at before kio believes it.

kio (0.6.5) makes room for as many entries as a list claims before it reads the first: a request of 80 bytes that claims
four billion makes the process end for want of memory.

Invariants
    no list claims more entries than the bytes that are left could hold, nor all of a request's more than ENTRIES_MAX
    nothing claims to reach past the end of what it stands in

What follows a request is not looked at, as with Kafka: librdkafka leaves three bytes behind when it asks for the
metadata of all topics, in version 9 and later.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin

from kio.index import load_request_schema

from ...proto.record_batch import Buffer
from .frames import MalformedRequest, read_tag_count, read_unsigned_varint

ENTRIES_MAX = 50_000
"""In all lists of a request together: what is read in one turn of the loop must not take long."""

_SHORT, _INT = struct.Struct(">h"), struct.Struct(">i")
_WIDTHS = {
    **dict.fromkeys(("bool", "int8", "uint8"), 1),
    **dict.fromkeys(("int16", "uint16", "error_code"), 2),
    **dict.fromkeys(("int32", "uint32", "timedelta_i32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "timedelta_i64", "datetime_i64"), 8),
    "uuid": 16,
}

Step = Callable[["_Frame", int, int], int]
"""Walks over one field that begins at a position, within an end; the position after it."""


class _Frame:
    """What is walked over, and how many entries it may still claim."""

    __slots__ = ("buffer", "entries_left")

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.entries_left = ENTRIES_MAX


def check_claims(key: int, version: int, frame: Buffer, position: int) -> None:
    """Of the request whose body begins at `position`. Raises MalformedRequest."""
    try:
        _request(key, version)(_Frame(frame), position, len(frame))
    except (struct.error, IndexError) as error:
        raise MalformedRequest(f"a request {key} of version {version} ends too early: {error}") from None


@cache
def _request(key: int, version: int) -> Step:
    return _entity(load_request_schema(key, version))[0]


def _entity(schema: Any) -> tuple[Step, int]:
    """How to walk over one, and how many bytes it has at least."""
    is_flexible = schema.__flexible__
    steps: list[Step] = []
    fixed = least = 0
    tagged: dict[int, Step] = {}
    for field in fields(schema):
        walk = _field(field, is_flexible)
        if "tag" in field.metadata:
            tagged[field.metadata["tag"]] = _skip(walk) if isinstance(walk, int) else walk[0]
        elif isinstance(walk, int):
            fixed += walk
            least += walk
        else:
            if fixed:
                steps.append(_skip(fixed))
                fixed = 0
            steps.append(walk[0])
            least += walk[1]
    if fixed:
        steps.append(_skip(fixed))
    if is_flexible:
        steps.append(_tags(tagged))
        least += 1
    return (steps[0] if len(steps) == 1 else _all(steps)), least


def _field(field: Any, is_flexible: bool) -> int | tuple[Step, int]:
    """The width of one that always has the same, else how to walk over it, and its bytes at least."""
    kind = field.metadata.get("kafka_type")
    arms = (field.type, *get_args(field.type))
    array = next((one for one in arms if get_origin(one) is tuple), None)
    if array is not None:
        (item,) = (one for one in get_args(array) if one not in (Ellipsis, NoneType))
        each = _entity(item) if hasattr(item, "__version__") else _primitive(kind, is_flexible)
        return _list(each, is_flexible), (1 if is_flexible else 4)
    if kind is not None:
        return _primitive(kind, is_flexible)
    (schema,) = (one for one in arms if hasattr(one, "__version__"))
    walk, least = _entity(schema)
    return (_nullable(walk), 1) if NoneType in arms else (walk, least)


def _primitive(kind: str, is_flexible: bool) -> int | tuple[Step, int]:
    if kind in _WIDTHS:
        return _WIDTHS[kind]
    if kind not in ("string", "bytes", "records"):
        raise NotImplementedError(f"a field of type {kind}")
    if is_flexible:
        return _sized(lambda buffer, at: _less_one(read_unsigned_varint(buffer, at))), 1
    length = _SHORT if kind == "string" else _INT
    return _sized(lambda buffer, at: (length.unpack_from(buffer, at)[0], at + length.size)), length.size


def _less_one(found: tuple[int, int]) -> tuple[int, int]:
    return found[0] - 1, found[1]


def _within(at: int, end: int) -> int:
    if at > end:
        raise MalformedRequest(f"a field claims {at - end} bytes more than there are")
    return at


def _skip(width: int) -> Step:
    return lambda frame, at, end: _within(at + width, end)


def _sized(read: Callable[[Buffer, int], tuple[int, int]]) -> Step:
    def walk(frame: _Frame, at: int, end: int) -> int:
        size, at = read(frame.buffer, at)
        if size < -1:
            raise MalformedRequest(f"a field of {size} bytes")
        return _within(at + max(size, 0), end)

    return walk


def _list(each: int | tuple[Step, int], is_flexible: bool) -> Step:
    step, least = (None, each) if isinstance(each, int) else each

    def walk(frame: _Frame, at: int, end: int) -> int:
        if is_flexible:
            count, at = _less_one(read_unsigned_varint(frame.buffer, at))
        else:
            (count,) = _INT.unpack_from(frame.buffer, at)
            at += _INT.size
        if count < -1 or count * max(least, 1) > end - at:
            raise MalformedRequest(f"a list of {count} in the {end - at} bytes that are left")
        frame.entries_left -= max(count, 0)
        if frame.entries_left < 0:
            raise MalformedRequest(f"more than {ENTRIES_MAX} entries in the lists of a request")
        if step is None:
            return _within(at + max(count, 0) * least, end)
        for _ in range(count):
            at = step(frame, at, end)
        return at

    return walk


def _nullable(walk: Step) -> Step:
    """A byte says whether it is there."""

    def maybe(frame: _Frame, at: int, end: int) -> int:
        is_there = frame.buffer[at] < 0x80
        return walk(frame, _within(at + 1, end), end) if is_there else _within(at + 1, end)

    return maybe


def _all(steps: Sequence[Step]) -> Step:
    def walk(frame: _Frame, at: int, end: int) -> int:
        for step in steps:
            at = step(frame, at, end)
        return at

    return walk


def _tags(known: dict[int, Step]) -> Step:
    def walk(frame: _Frame, at: int, end: int) -> int:
        if frame.buffer[at] == 0:
            return _within(at + 1, end)
        count, at = read_tag_count(frame.buffer, at)
        for _ in range(count):
            tag, at = read_unsigned_varint(frame.buffer, at)
            size, at = read_unsigned_varint(frame.buffer, at)
            stop = _within(at + size, end)
            if tag not in known:
                raise MalformedRequest(f"a tagged field {tag} that is not known here")
            if known[tag](frame, at, stop) != stop:
                raise MalformedRequest(f"tagged field {tag} is not as long as it claims")
            at = stop
        return _within(at, end)

    return walk
