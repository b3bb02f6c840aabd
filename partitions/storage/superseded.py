"""Which records of a log are superseded by a later record of their key: found in bounded memory, by reading again.

Invariants
    a record is called superseded only if a later one with the very same key was shown: keys are compared whole, or by
        a digest of 128 bits where they are longer than that
    a key that found no room is not forgotten: its share of all keys waits for another reading
    memory is bounded by the keys held at once, and by a bit for each record

A record is known by its *number*: how many records were shown before it. So every reading must show the same records.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

KEY_BYTES = 200
"""What a key in the table costs, at most."""
_DIGEST_BYTES = 16


class _Share(NamedTuple):
    """The keys whose hash ends in these bits."""

    bits: int = 0
    value: int = 0

    def holds(self, key: bytes) -> bool:
        # Not a plain checksum: whoever chose the keys could have chosen them to share one.
        hashed = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
        return hashed & ((1 << self.bits) - 1) == self.value

    def halves(self) -> tuple[_Share, _Share]:
        return _Share(self.bits + 1, self.value), _Share(self.bits + 1, self.value | 1 << self.bits)


class Superseded:
    """Shown every key of a log in order, once for each reading that `begin_reading` asks for, it knows."""

    def __init__(self, bytes_max: int) -> None:
        self._keys_max = max(bytes_max // KEY_BYTES, 1)
        self._shares = [_Share()]
        """Those that still need a reading; the last one has it now."""
        self._share = _Share()
        self._newest: dict[bytes, int] = {}
        self._bits = bytearray()
        self.readings = 0
        self.count = 0
        """Records found to be superseded."""

    def begin_reading(self) -> bool:
        """Must the log be read (again)? Then show it all, from its first record on."""
        self._newest.clear()
        if not self._shares:
            return False
        self._share = self._shares.pop()
        self.readings += 1
        return True

    def show(self, number: int, key: bytes) -> None:
        """The record `number` has this key."""
        short = key if len(key) < _DIGEST_BYTES else blake2b(key, digest_size=_DIGEST_BYTES).digest()
        if self._share.bits and not self._share.holds(short):
            return
        older = self._newest.get(short)
        if older is not None:
            self._mark(older)
        elif len(self._newest) >= self._keys_max and not self._make_room(short):
            return
        self._newest[short] = number

    def __contains__(self, number: int) -> bool:
        at = number >> 3
        return at < len(self._bits) and bool(self._bits[at] & (1 << (number & 7)))

    def any_between(self, begin: int, end: int) -> bool:
        """Is any of the records from `begin` up to `end` superseded?"""
        first, last = -(-begin // 8), end // 8
        if first > last:
            return any(number in self for number in range(begin, end))
        edges = any(number in self for number in (*range(begin, first * 8), *range(last * 8, end)))
        return edges or any(self._bits[first:last])

    def _mark(self, number: int) -> None:
        at = number >> 3
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1 - len(self._bits) + (1 << 12)))
        if number not in self:
            self._bits[at] |= 1 << (number & 7)
            self.count += 1

    def _make_room(self, key: bytes) -> bool:
        """Leave half of the keys to another reading, as often as it takes. True if `key` is of those that stay."""
        while len(self._newest) >= self._keys_max:
            kept, left = self._share.halves()
            self._share = kept
            self._shares.append(left)
            self._newest = {held: number for held, number in self._newest.items() if kept.holds(held)}
        return self._share.holds(key)
