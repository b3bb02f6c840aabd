"""Every reader of bytes that others wrote gives a value or one of its own errors, soon and in bounded memory.

`make fuzz` goes on from here for as long as one likes, led by coverage; what it finds is kept in `tests/fuzz/crashes`
and read again here.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import crashes_of
from tests.fuzz.mutations import each_place, mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@every_target
def test_what_was_written_is_read_and_written_again_as_it_was(target: Target) -> None:
    for seed in target.seeds:
        assert target.attempt(seed) or not target.takes_seeds, seed
        if target.write is not None:
            assert target.write(target.read(seed)) == seed


@every_target
def test_a_byte_changed_or_missing_anywhere_is_taken_or_refused(target: Target) -> None:
    for seed in target.seeds:
        for data in each_place(seed, places_max=40 // len(target.seeds) + 10):
            target.attempt(data)
            target.attempt(target.seal(data))


@every_target
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 2**32 - 1), sealed=st.booleans())
def test_bytes_altered_at_random_are_taken_or_refused(target: Target, number: int, sealed: bool) -> None:
    chance = Random(number)
    data = mutated(chance.choice(target.seeds), target.seeds, chance)
    target.attempt(target.seal(data) if sealed else data)


@every_target
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300))
def test_any_bytes_at_all_are_taken_or_refused(target: Target, data: bytes) -> None:
    target.attempt(data)


@pytest.mark.parametrize(("target", "data"), list(crashes_of(TARGETS.values())))
def test_what_once_crashed_is_taken_or_refused(target: Target, data: bytes) -> None:
    target.attempt(data)
