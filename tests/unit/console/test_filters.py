"""Which records a search wants."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.client.records import Record
from lograft.node.console.filters import Filter
from lograft.proto.errors import InvalidRequest
from lograft.proto.record_batch import Header


def a_record(value: object = None, key: bytes | None = None, **headers: bytes) -> Record:
    data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    pairs = tuple(Header(name, content) for name, content in headers.items())
    return Record("orders", 3, 42, 1_700_000_000_000, key, data, pairs, 1)


def test_without_text_and_conditions_everything_is_wanted() -> None:
    assert Filter().is_empty and Filter().matches(a_record())


@pytest.mark.parametrize("text", ["Refund", "rEFUND", "[refund]", "/refund-[0-9]+/"])
def test_text_is_found_in_key_value_and_headers_whatever_its_case(text: str) -> None:
    wanted = Filter(text)
    assert wanted.matches(a_record(b"a [refund] refund-7"))
    assert wanted.matches(a_record(key=b"[refund]refund-7"))
    assert wanted.matches(a_record(trace=b"x[refund]refund-7"))
    assert not wanted.matches(a_record(b"nothing", b"of it", trace=b"here"))


def test_a_pattern_has_its_case() -> None:
    assert not Filter("/Refund/").matches(a_record(b"refund"))


ORDER = {
    "status": "failed",
    "order": {"total": 100, "items": [{"sku": "a"}]},
    "paid": False,
    "big": 2**60 + 1,
    "no": None,
}


@pytest.mark.parametrize(
    "where",
    [
        "status = failed",
        'status = "failed"',
        'status="failed"',
        "status != ok",
        "order.total >= 100",
        "order.total < 100.5",
        "order.items.0.sku = a",
        "value.order.total = 100",
        "paid = false",
        "no = null",
        "exists order.items",
        "missing != 1",
        "status ~ AIL",
        "order ~ sku",
        f"big = {2**60 + 1}",
        "key = k1",
        "partition = 3",
        "offset >= 42",
        "timestamp > 1600000000000",
        "headers.trace-id = 7",
        "status = failed and order.total > 99 AND paid = false",
        'status != "a and b"',
    ],
)
def test_a_condition_that_holds(where: str) -> None:
    record = a_record(ORDER, b"k1")._replace(headers=(Header("trace-id", b"7"),))
    assert Filter(where=where).matches(record)


@pytest.mark.parametrize(
    "where",
    [
        "status = ok",
        "order.total > 100",
        "order.total = true",
        "paid = 0",
        "exists order.none",
        "order.items.1.sku = a",
        "order.items.9999999999999999999999 = a",
        f"big = {2**60}",
        "no = false",
        "status > 3",
        "status = failed and order.total > 100",
        "headers.none = 7",
    ],
)
def test_a_condition_that_does_not(where: str) -> None:
    assert not Filter(where=where).matches(a_record(ORDER, b"k1"))


@pytest.mark.parametrize(
    "where", ["status", "= 1", "status =", "exists", "a = {}", "a = [1]", "and", "a = 1 and and b = 2"]
)
def test_what_is_no_condition_is_told_with_examples(where: str) -> None:
    with pytest.raises(InvalidRequest, match=r"condition|compare with"):
        Filter(where=where)


@pytest.mark.parametrize("text", ["/(/", "/[/", "x" * 600])
def test_what_is_no_pattern_is_told(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Filter(text)


def test_a_value_too_large_to_parse_in_a_turn_has_no_fields() -> None:
    assert Filter(where="exists a").matches(a_record(b'{"a": "%s"}' % (b"x" * 1_000_000)))
    assert not Filter(where="exists a").matches(a_record(b'{"a": "%s"}' % (b"x" * 1_100_000)))


def test_no_pattern_is_slow() -> None:
    wanted, record = Filter("/(a+)+$/"), a_record(b"a" * 100_000 + b"b")
    began = time.process_time()
    assert not wanted.matches(record)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "where",
    [
        "a=" + " " * 1_900 + "x\ny",
        "a" + " " * 1_900 + "b",
        "a = 1" + " " * 990 + "and" + " " * 990 + '"',
        "exists" + " " * 1_900 + "x y",
        '" and ' * 330,
    ],
    ids=["after the operator", "before it", "around and", "after exists", "and in quotes"],
)
def test_no_condition_takes_long_to_be_understood(where: str) -> None:
    began = time.process_time()
    with contextlib.suppress(InvalidRequest):
        Filter(where=where)
    assert time.process_time() - began < 0.05


def test_a_condition_nested_too_deeply_is_the_text_that_it_is() -> None:
    deep = "[" * 1_500
    assert Filter(where=f"a = {deep}").matches(a_record({"a": deep}))


@given(value=st.binary(max_size=60), where=st.sampled_from(["a = 1", "a.0 > 2", "exists a.b", "a ~ x", "value.a != 1"]))
def test_no_value_makes_it_raise(value: bytes, where: str) -> None:
    Filter("x", where).matches(a_record(value))
    Filter(where=where).matches(a_record(b"[" * 5000 + value))


@given(st.text(max_size=60))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    for made in (lambda: Filter(text), lambda: Filter(where=text), lambda: Filter(f"/{text}/")):
        with contextlib.suppress(InvalidRequest):
            made().matches(a_record(ORDER))
