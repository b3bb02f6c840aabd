from __future__ import annotations

import pytest
from lograft.partitions.raft.points import ORIGIN, ItemKind, Point
from lograft.partitions.storage.chain import place
from lograft.partitions.storage.zero_width import term_start
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import read_header, verify

TERM_BYTES = range(12, 16)


def test_a_flipped_bit_in_the_term_of_a_term_start_is_seen_though_it_lies_outside_the_crc() -> None:
    whole = bytes(term_start(Point(1, 0, 1)).data)
    assert place(ORIGIN, read_header(whole), whole).kind is ItemKind.TERM_START
    for position in TERM_BYTES:
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            header = verify(flipped)
            with pytest.raises(CorruptBatch, match="cannot follow"):
                place(ORIGIN, header, flipped)
