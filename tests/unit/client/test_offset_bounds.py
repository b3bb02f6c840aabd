from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.client.offset_bounds import END, START, STORED, Bound, OffsetRange, parse_bound, parse_offsets, parse_time
from lograft.proto.errors import InvalidRequest

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("start", START),
        ("end", END),
        ("stored", STORED),
        ("47", Bound("zero", 47)),
        ("0", Bound("zero", 0)),
        ("+2", Bound("start", 2)),
        ("-3", Bound("end", -3)),
        ("@1700000000000", Bound("time", 1_700_000_000_000)),
        ("@1700000000", Bound("time", 1_700_000_000_000)),
        ("@2023-11-14", Bound("time", 1_699_920_000_000)),
        ("@2023-11-14T22:13:20Z", Bound("time", 1_700_000_000_000)),
        ("@2023-11-15T00:13:20.250+02:00", Bound("time", 1_700_000_000_250)),
        ("@-48h", Bound("time", NOW_MS - 48 * 3_600_000)),
        ("@-1h30m", Bound("time", NOW_MS - 5_400_000)),
        ("@-90000d", Bound("time", 0)),
    ],
)
def test_a_place_is_read_as_the_grammar_writes_it(text: str, bound: Bound) -> None:
    assert parse_bound(text, now_ms=NOW_MS) == bound
    assert parse_offsets(text, now_ms=NOW_MS) == OffsetRange(bound)


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        ("47:60", Bound("zero", 47), Bound("zero", 60)),
        ("start:+10", START, Bound("start", 10)),
        ("-5:end", Bound("end", -5), END),
        (":end", START, END),
        ("stored:", STORED, END),
        ("@2023-11-14:@2023-11-15", Bound("time", 1_699_920_000_000), Bound("time", 1_700_006_400_000)),
        ("@2023-11-14T22:13:20Z:end", Bound("time", 1_700_000_000_000), END),
        ("0:@2023-11-15T00:13:20+02:00", Bound("zero", 0), Bound("time", 1_700_000_000_000)),
        ("@-48h:@-24h", Bound("time", NOW_MS - 172_800_000), Bound("time", NOW_MS - 86_400_000)),
    ],
)
def test_a_range_is_split_where_both_sides_make_sense(text: str, start: Bound, stop: Bound) -> None:
    assert parse_offsets(text, now_ms=NOW_MS) == OffsetRange(start, stop)


@pytest.mark.parametrize(
    "text",
    ["", "beginning", "1.5", "+", "-", "@", "@soon", "@2023-02-31", "@2023-11-14T22:13:20", "@48h", "@-h", "+-3",
     "٣", "9223372036854775808", "1:2:3", "start:later", "@-1h:2h", "@-٣h"],
)  # fmt: skip
def test_what_is_no_place_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"use start, end, stored, N, \+N, -N, @T or a range A:B"):
        parse_offsets(text, now_ms=NOW_MS)


@pytest.mark.parametrize("around", ["{}", "+{}", "-{}", "@{}", "@-{}h", "5:{}"])
def test_a_number_longer_than_any_offset_is_refused_in_a_few_words(around: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_offsets(around.format("9" * 5_000), now_ms=NOW_MS)
    assert len(str(refusal.value)) < 300


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="RFC 3339 with a zone"):
        parse_time("2023-11-14T22:13:20", now_ms=NOW_MS)


@given(st.text(alphabet="startendo0123456789+-@:TZhms. ", max_size=30))
def test_no_text_is_met_with_anything_but_an_answer_or_a_refusal(text: str) -> None:
    with suppress(InvalidRequest):
        parse_offsets(text, now_ms=NOW_MS)
