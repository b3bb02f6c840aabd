"""Protobuf messages around large `bytes` fields: their contents are copied once going out and not at all coming in.

protobuf itself copies such a field each time it is set, written, read and looked at: four times a megabyte between a
producer and a log. Here the rest of a message stays protobuf's; only the large field is put in and cut out by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


def field(number: int, contents: Sequence[Buffer]) -> list[Buffer]:
    """A length-delimited field that holds `contents` one after the other: to be joined into a message."""
    return [_varint(number << 3 | _DELIMITED) + _varint(sum(map(len, contents))), *contents]


def cut_out(message: Buffer, number: int, *, fields_max: int) -> tuple[bytes, list[memoryview]]:
    """The message without its length-delimited fields of that number, and views of what those hold, in their order.

    Raises
        ValueError  not a message; or one of more fields than `fields_max`, each of which takes us microseconds; or one
                    with a group, which nobody writes any more. protobuf has the last word on all of them
    """
    view = memoryview(message)
    end = len(view)
    rest: list[memoryview] = []
    found: list[memoryview] = []
    begin = position = 0  # of what is to be kept; of the next field
    fields = 0
    while position < end:
        start = position
        fields += 1
        if fields > fields_max:
            raise ValueError(f"more than {fields_max} fields")
        tag, position = _read_varint(view, position)
        kind = tag & 7
        if not tag >> 3:
            raise ValueError(f"field 0 at {start}")
        if kind == _DELIMITED:
            size, position = _read_varint(view, position)
            if tag >> 3 == number:
                found.append(view[position : position + size])
                rest.append(view[begin:start])
                begin = position + size
            position += size
        elif kind == _VARINT:
            _, position = _read_varint(view, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            position += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind} at {start}")
    if position > end:
        raise ValueError(f"the last field ends at {position} of {end} bytes")
    rest.append(view[begin:])
    return b"".join(rest), found


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    for byte in view[position : position + _VARINT_BYTES_MAX]:
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError(f"a number at {position} does not end")
