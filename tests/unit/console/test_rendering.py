from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from lograft.client.records import Record
from lograft.node.console.rendering import HEADERS_MAX, KEY_PREVIEW_BYTES, PREVIEW_BYTES, content, preview
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
