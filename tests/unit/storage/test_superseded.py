"""Which records are superseded is found exactly, however little memory there is for keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lograft.partitions.storage.superseded import KEY_BYTES, Superseded

keys = st.lists(st.sampled_from([b"", b"a", b"b", *(b"key %d" % n for n in range(20)), b"x" * 40, b"x" * 41]))


@given(shown=keys, keys_max=st.integers(1, 8))
def test_all_but_the_newest_record_of_each_key_are_superseded_in_as_many_readings_as_it_takes(
    shown: list[bytes], keys_max: int
) -> None:
    found = Superseded(keys_max * KEY_BYTES)
    while found.begin_reading():
        for number, key in enumerate(shown):
            found.show(number, key)
    newest = {key: number for number, key in enumerate(shown)}
    expected = {number for number, key in enumerate(shown) if newest[key] != number}
    assert {number for number in range(len(shown)) if number in found} == expected
    assert found.count == len(expected)
    for begin in range(len(shown)):
        for end in range(begin, len(shown) + 1):
            assert found.any_between(begin, end) == any(begin <= number < end for number in expected)


def test_what_fits_takes_one_reading() -> None:
    found = Superseded(1000 * KEY_BYTES)
    while found.begin_reading():
        for number in range(3000):
            found.show(number, b"%d" % (number % 1000))
    assert (found.readings, found.count) == (1, 2000)


def test_a_long_key_is_not_taken_for_a_short_one_that_equals_its_digest() -> None:
    found = Superseded(1 << 20)
    while found.begin_reading():
        found.show(0, b"x" * 100)
        found.show(1, b"x" * 99)
    assert found.count == 0
