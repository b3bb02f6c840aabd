"""Wrong bytes made from right ones: one thing changed at every place, or several at places drawn by chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
PIECES = (
    b"",
    b"\xff\xfe",  # no UTF-8
    b"\xc1",  # no MessagePack
    b"\x91" * 20_000,  # arrays within arrays
    b"\x81\xa1a" * 10_000,  # maps within maps
    b"[" * 20_000,
    b'{"a":' * 20_000,
    b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
    b"\xc6\xff\xff\xff\xff",  # as many bytes
    b"1" * 5_000,
    b"\x80" * 20,  # a varint without end
    b"\n\x1b[2J\0",
)


def each_place(data: bytes, places_max: int = 400) -> Iterator[bytes]:
    """`data` with one byte changed, and cut, at each position: of long data at some, evenly spread."""
    step = max(1, len(data) // places_max)
    for position in range(0, len(data), step):
        yield data[:position]
        for mask in (0x01, 0x80, 0xFF):
            yield data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


def mutated(data: bytes, seeds: Sequence[bytes], chance: Random) -> bytes:
    """`data` with one to six things done to it."""
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        match chance.randrange(8):
            case 0 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
            case 1:
                data = data[:at]
            case 2:
                data = data[:at] + data[at + chance.randint(1, 20) :]
            case 3:
                data = data[:at] + chance.randbytes(chance.randint(1, 20)) + data[at:]
            case 4:
                width = chance.choice((1, 2, 4, 8))
                number = chance.choice(NUMBERS) & ((1 << 8 * width) - 1)
                data = data[:at] + number.to_bytes(width, chance.choice(("big", "little"))) + data[at + width :]
            case 5:
                other = chance.choice(seeds)
                data = data[:at] + other[chance.randint(0, len(other)) :]
            case 6:
                data = data[:at] + chance.choice(PIECES) + data[at:]
            case _:
                end = chance.randint(at, len(data))
                data = data[:end] + data[at:end] + data[end:]
    return data[: 1 << 20]
