"""What records hold, and the stamps that tell when they were due."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from lograft.client.bench.payload import STAMP_BYTES, Values, block_of, due_of, stamp
from lograft.client.bench.units import parse_size, shown_size

OURS, OTHERS = b"12345678", b"87654321"


def test_a_stamp_tells_when_its_record_was_due_to_the_microsecond() -> None:
    value = stamp(OURS, 1234567.123456) + b"rest"
    assert len(stamp(OURS, 0.0)) == STAMP_BYTES
    due = due_of(value, OURS)
    assert due is not None
    assert abs(due - 1234567.123456) < 1e-6


@pytest.mark.parametrize("value", [None, b"", b"12345678", stamp(OTHERS, 1.0), b"x" * 100])
def test_records_of_others_are_not_taken_for_ours(value: bytes | None) -> None:
    assert due_of(value, OURS) is None


@pytest.mark.parametrize(("kind", "least", "most"), [("random", 0.99, 1.1), ("text", 0.05, 0.6), ("zeros", 0.0, 0.05)])
def test_values_compress_as_their_kind_suggests(kind: str, least: float, most: float) -> None:
    chance = Random(1)
    values = Values(block_of(kind, b"", 1000, chance), 1000, 20, chance).next(20)
    assert [len(value) for value in values] == [1000] * 20
    joined = b"".join(values)
    assert least <= len(zlib.compress(joined)) / len(joined) <= most


def test_values_are_cut_from_a_file_however_short_it_is() -> None:
    values = Values(block_of("file", b"abc", 10, Random(1)), 10, 5, Random(1)).next(3)
    assert len(values) == 3
    assert all(len(value) == 10 and set(value) <= set(b"abc") for value in values)


def test_the_same_chance_gives_the_same_values() -> None:
    first, second = (Values(block_of("text", b"", 64, Random(5)), 64, 4, Random(6)).next(4) for _ in range(2))
    assert first == second


def test_sizes_are_read_as_people_write_them() -> None:
    assert [parse_size(text) for text in ("100", "1KiB", "1kb", "64 KiB", "1.5MB", "1M", "100B")] == [
        100, 1024, 1000, 65536, 1_500_000, 1 << 20, 100,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "-1", "1KiBB", "KiB", "1e3", "0.5", "nan", "1,000"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it as 100, 1KiB|whole number"):
        parse_size(text)


def test_sizes_are_shown_without_rounding() -> None:
    assert [shown_size(size) for size in (100, 1024, 1000, 1 << 20, 3 << 30, 1536)] == [
        "100 B", "1 KiB", "1,000 B", "1 MiB", "3 GiB", "1,536 B",
    ]  # fmt: skip
