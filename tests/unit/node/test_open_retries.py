"""How often a replica that could not be opened is tried again."""

from __future__ import annotations

from lograft.node.open_retries import FIRST_WAIT_MS, WAIT_MS_MAX, OpenRetries
from lograft.partitions.environment import PartitionId

ONE, OTHER = PartitionId("a" * 32, 0), PartitionId("b" * 32, 1)


def test_what_could_not_be_opened_is_tried_again_after_a_while() -> None:
    retries = OpenRetries()
    assert retries.note_failed(ONE, 1_000) == FIRST_WAIT_MS
    assert not retries.is_any_due(1_000 + FIRST_WAIT_MS - 1)
    assert retries.take_due(1_000 + FIRST_WAIT_MS - 1) == []
    assert retries.is_any_due(1_000 + FIRST_WAIT_MS)
    assert retries.take_due(1_000 + FIRST_WAIT_MS) == [ONE]
    assert retries.take_due(1_000 + FIRST_WAIT_MS) == [], "one try at a time"


def test_each_failure_doubles_the_wait_up_to_a_bound() -> None:
    retries, now_ms, waits = OpenRetries(), 0.0, []
    for _ in range(9):
        waits.append(retries.note_failed(ONE, now_ms))
        now_ms += waits[-1]
        assert retries.take_due(now_ms) == [ONE]
    assert waits == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, WAIT_MS_MAX, WAIT_MS_MAX, WAIT_MS_MAX]
    assert (retries.failed, retries.opened) == (8, 0), "the first failure was no try again"


def test_what_opened_at_last_waits_no_more_and_begins_anew_if_it_fails_later() -> None:
    retries = OpenRetries()
    retries.note_failed(ONE, 0)
    retries.take_due(FIRST_WAIT_MS)
    assert retries.note_opened(ONE)
    assert (retries.failed, retries.opened) == (0, 1)
    assert not retries.is_any_due(1e12)
    assert retries.note_failed(ONE, 0) == FIRST_WAIT_MS


def test_what_opens_at_once_is_no_try_again() -> None:
    retries = OpenRetries()
    assert not retries.note_opened(ONE)
    assert retries.opened == 0


def test_what_is_deleted_meanwhile_is_not_tried() -> None:
    retries = OpenRetries()
    retries.note_failed(ONE, 0)
    retries.note_failed(OTHER, 0)
    retries.forget(ONE)
    assert ONE not in retries and OTHER in retries
    assert retries.take_due(FIRST_WAIT_MS) == [OTHER]
