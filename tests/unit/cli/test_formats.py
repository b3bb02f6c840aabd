"""FMT: what users type to see records and to cut them out of their input."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.client.cli.formats import InputFormat, InputRecord, WrongFormat, WrongInput, as_json, printer


class AHeader(NamedTuple):
    key: str
    value: bytes | None


class ARecord(NamedTuple):
    topic: str = "t"
    partition: int = 3
    offset: int = 47
    timestamp_ms: int = 1_700_000_000_000
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    headers: tuple[AHeader, ...] = (AHeader("a", b"1"), AHeader("b", None))


def cut(fmt: str, *chunks: bytes) -> list[InputRecord]:
    format_ = InputFormat(fmt)
    found = [record for chunk in chunks for record in format_.feed(chunk)]
    return [*found, *format_.finish()]


def test_every_verb_shows_its_part_of_the_record() -> None:
    assert printer("%t %p %o %k %v %d %h\\n")(ARecord()) == b"t 3 47 k v 1700000000000 a=1,b=\n"


def test_escapes_and_percent_signs_become_single_bytes() -> None:
    assert printer("%%\\t\\x00\\xff\\\\%v\\n")(ARecord()) == b"%\t\x00\xff\\v\n"


def test_letters_outside_ascii_pass_as_utf8() -> None:
    assert printer("→ %v")(ARecord()) == "→ v".encode()


def test_bytes_that_are_no_text_pass_unchanged() -> None:
    assert printer("%v\\n")(ARecord(value=bytes(range(256)))) == bytes(range(256)) + b"\n"


def test_a_key_and_a_value_that_are_not_there_show_as_nothing() -> None:
    assert printer("[%k][%v]")(ARecord(key=None, value=None)) == b"[][]"


@pytest.mark.parametrize("fmt", ["%z", "%", "\\q", "\\x", "\\xg1", "\\x1", "ends in \\"])
def test_a_format_that_makes_no_sense_is_refused_and_quoted(fmt: str) -> None:
    with pytest.raises(WrongFormat) as refusal:
        printer(fmt)
    assert repr(fmt) in str(refusal.value)


def test_json_is_one_line_with_the_names_of_the_api() -> None:
    line = as_json(ARecord(value=b"two\nlines"))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "topic": "t",
        "partition": 3,
        "offset": 47,
        "timestamp_ms": 1_700_000_000_000,
        "key": "k",
        "value": "two\nlines",
        "headers": [{"key": "a", "value": "1"}, {"key": "b", "value": None}],
    }


def test_json_marks_bytes_that_are_no_text_as_base64() -> None:
    shown = json.loads(as_json(ARecord(key=None, value=b"\xff\x00")))
    assert shown["value"] == {"base64": "/wA="}
    assert shown["key"] is None


def test_each_line_is_a_value_and_keeps_all_but_its_newline() -> None:
    values = [record.value for record in cut("%v\\n", b"a\r\n\n b ")]
    assert values == [b"a\r", b"", b" b "]


def test_no_record_is_made_up_at_the_end_of_the_input() -> None:
    assert [record.value for record in cut("%v\\n", b"a\n")] == [b"a"]
    assert cut("%v\\n", b"") == []


def test_keys_end_at_the_first_separator_and_values_take_the_rest() -> None:
    assert cut("%k %v\\n", b"k1 v 1\nk2 \n") == [
        InputRecord(b"k1", b"v 1", None, None),
        InputRecord(b"k2", b"", None, None),
    ]


def test_a_format_without_a_last_separator_means_lines() -> None:
    assert cut("%k=%v", b"a=1\nb=2") == cut("%k=%v\\n", b"a=1\nb=2\n")


def test_partition_and_time_are_read_as_numbers() -> None:
    assert cut("%p:%d:%v\\x00", b"2:17:x\0") == [InputRecord(None, b"x", 2, 17)]


def test_a_line_that_does_not_fit_is_refused_by_number_and_swallows_no_other() -> None:
    format_ = InputFormat("%k %v\\n")
    records = format_.feed(b"a 1\nnothing\nb 2\n")
    assert next(records).key == b"a"
    with pytest.raises(WrongInput, match="input record 2 does not fit") as refusal:
        next(records)
    assert refusal.value.number == 2


@pytest.mark.parametrize("line", [b"x a", b"<a", b"<a>b"])
def test_what_stands_before_between_and_after_the_verbs_must_be_there(line: bytes) -> None:
    with pytest.raises(WrongInput):
        cut("<%v>\\n", line + b"\n")


def test_a_record_without_end_is_refused_instead_of_filling_the_memory() -> None:
    format_ = InputFormat("%v\\x00")
    with pytest.raises(WrongInput, match="has no end within 16 MiB"):
        for _ in range(20):
            list(format_.feed(b"x" * (1 << 20)))


@pytest.mark.parametrize("fmt", ["%k%v\\n", "%k\\n", "%v %v\\n", "%o %v\\n", "\\n", ""])
def test_an_input_format_that_cannot_be_cut_is_refused(fmt: str) -> None:
    with pytest.raises(WrongFormat):
        InputFormat(fmt)


@given(st.lists(st.binary(max_size=5).filter(lambda value: b"\n" not in value)), st.integers(1, 7))
def test_input_is_cut_the_same_however_it_arrives(values: list[bytes], chunk_bytes: int) -> None:
    data = b"".join(value + b"\n" for value in values)
    chunks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    assert [record.value for record in cut("%v\\n", *chunks)] == values


@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5))))
def test_what_a_format_prints_it_also_reads(pairs: list[tuple[bytes, bytes]]) -> None:
    fmt = "%k\\x01\\x02%v\\x03\\x04"
    plain = [(k, v) for k, v in pairs if not {1, 2, 3, 4} & {*k, *v}]
    show = printer(fmt)
    printed = b"".join(show(ARecord(key=k, value=v)) for k, v in plain)
    assert [(record.key, record.value) for record in cut(fmt, printed)] == plain
