from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from lograft.client.records import Record
from lograft.node.console.rendering import (
    HEADERS_MAX,
    KEY_PREVIEW_BYTES,
    PREVIEW_BYTES,
    WHOLE_BYTES_MAX,
    content,
    preview,
    whole,
)
from lograft.proto.record_batch import Header


def test_text_is_told_as_text_and_anything_else_as_base64() -> None:
    assert content(b"caf\xc3\xa9", 100) == {"size": 5, "text": "café"}
    assert content(b"\xff\x00", 100) == {"size": 2, "b64": base64.b64encode(b"\xff\x00").decode()}
    assert content(None, 100) is None
    assert content(b"", 100) == {"size": 0, "text": ""}


def test_a_character_cut_in_two_does_not_make_text_into_bytes() -> None:
    assert content("aé".encode(), 2) == {"size": 3, "text": "a"}


@given(st.text(), st.integers(0, 50))
def test_of_text_cut_anywhere_a_beginning_is_told(text: str, most: int) -> None:
    told = content(text.encode(), most)
    assert told is not None and text.startswith(told["text"])


@given(st.binary(), st.integers(0, 50))
def test_never_more_is_told_than_allowed_and_never_anything_else(data: bytes, most: int) -> None:
    told = content(data, most)
    assert told is not None and told["size"] == len(data)
    shown = told["text"].encode() if "text" in told else base64.b64decode(told["b64"])
    assert len(shown) <= most and data.startswith(shown)


def test_a_row_in_a_list_is_bounded_whatever_the_record_holds() -> None:
    headers = tuple(Header("n" * 5_000, b"v" * 50_000) for _ in range(1_000))
    told = preview(Record("t", 0, 1, 2, b"k" * 100_000, b"v" * 1_000_000, headers, 3))
    assert len(told["value"]["text"]) == PREVIEW_BYTES and len(told["key"]["text"]) == KEY_PREVIEW_BYTES
    assert len(told["headers"]) == HEADERS_MAX and told["headers_left_out"] == 1_000 - HEADERS_MAX
    assert len(str(told)) < 50_000


def test_what_was_left_out_of_a_record_is_told_so_that_nobody_takes_it_for_a_copy() -> None:
    record = Record("t", 0, 1, 2, b"k", b"v", tuple(Header(f"h{number}", b"x") for number in range(40)), 3)
    assert preview(record)["cut"] and not whole(record)["cut"] and len(whole(record)["headers"]) == 40
    long_name = record._replace(headers=(Header("n" * 300, b""),))
    assert preview(long_name)["cut"] and whole(long_name)["headers"][0][0] == "n" * 300
    for cut in (
        record._replace(headers=record.headers * 3),
        record._replace(headers=(Header("h", b"x" * (WHOLE_BYTES_MAX + 1)),)),
        record._replace(key=b"x" * (WHOLE_BYTES_MAX + 1)),
        record._replace(value=b"x" * (WHOLE_BYTES_MAX + 1)),
    ):
        assert whole(cut)["cut"]
    assert not preview(record._replace(headers=record.headers[:32]))["cut"]


def test_a_whole_record_is_bounded_however_much_its_headers_hold() -> None:
    headers = tuple(Header(f"h{number}", bytes(WHOLE_BYTES_MAX)) for number in range(30))
    told = whole(Record("t", 0, 1, 2, None, None, headers, 3))
    assert sum(len(name) + len(value["text"]) for name, value in told["headers"]) <= WHOLE_BYTES_MAX
