"""A batch that is sent again is recognised, and a gap is refused."""

from __future__ import annotations

import pytest
from lograft.partitions.producers import PRODUCERS_MAX, Duplicate, Fresh, ProducerTable
from lograft.proto.errors import OutOfOrderSequence, StaleProducer
from lograft.proto.record_batch import BatchHeader, NewRecord, emptied, encode, read_header, unpack

LAST_SEQUENCE = (1 << 31) - 1


def header(sequence: int, records: int = 1, *, producer: int = 7, epoch: int = 0) -> BatchHeader:
    return BatchHeader(0, 100, 1, 0, 0, records - 1, 0, 0, producer, epoch, sequence, records)


def table(*appended: tuple[int, int], producer: int = 7) -> ProducerTable:
    """Batches (sequence, records) appended one after the other from offset 100 on."""
    made = ProducerTable()
    offset = 100
    for sequence, records in appended:
        made.note(header(sequence, records, producer=producer), offset)
        offset += records
    return made


def test_batches_without_a_producer_are_always_fresh() -> None:
    made = ProducerTable()
    made.note(header(-1, producer=-1), 0)
    assert made.check(header(-1, producer=-1), None) == Fresh() and len(made) == 0


def test_an_unknown_producer_begins_with_its_first_open_batch_and_no_other() -> None:
    assert ProducerTable().check(header(30), 30) == Fresh()
    with pytest.raises(OutOfOrderSequence) as caught:
        ProducerTable().check(header(31), 30)
    assert caught.value.facts == {"expected": "30", "got": "31"}


def test_a_client_that_does_not_say_what_is_open_may_begin_anywhere() -> None:
    assert ProducerTable().check(header(31), None) == Fresh()


def test_of_a_client_that_does_not_say_what_is_open_nothing_before_what_is_remembered_passes_for_a_duplicate() -> None:
    # Its first batch was refused in passing, and the second was the first that was taken: sent again, the first is not
    # in the log. Told that it is, the client would count as kept what is not there.
    made = table((1, 1))
    with pytest.raises(OutOfOrderSequence):
        made.check(header(0), None)
    assert made.check(header(1), None) == Duplicate(100, 101)


def test_the_next_sequence_is_fresh_and_a_gap_is_refused() -> None:
    made = table((0, 3), (3, 2))
    assert made.check(header(5), 5) == Fresh()
    for first_open in (5, 0, None):
        with pytest.raises(OutOfOrderSequence):
            made.check(header(6), first_open)


def test_what_was_answered_for_good_and_lost_is_not_waited_for() -> None:
    made = table((0, 3), (3, 2))
    assert made.check(header(9), 9) == Fresh()
    assert made.check(header(0, 3), 0) == Duplicate(100, 103)


def test_each_of_the_last_five_batches_is_a_duplicate_with_its_own_offset() -> None:
    made = table(*((sequence, 1) for sequence in range(7)))
    for sequence in range(2, 7):
        assert made.check(header(sequence), 0) == Duplicate(100 + sequence, 101 + sequence)


def test_an_older_batch_is_a_duplicate_of_unknown_offset_that_ended_before_those_remembered() -> None:
    made = table(*((sequence, 1) for sequence in range(7)))
    assert made.check(header(1), 0) == Duplicate(None, 102)


def test_a_batch_cut_otherwise_than_the_one_remembered_is_refused() -> None:
    with pytest.raises(OutOfOrderSequence):
        table((0, 3), (3, 3)).check(header(3, 2), 3)


def test_sequences_go_on_at_0_after_the_last_one() -> None:
    made = table((LAST_SEQUENCE - 1, 3))
    assert made.check(header(1), 1) == Fresh()
    assert made.check(header(LAST_SEQUENCE - 1, 3), None) == Duplicate(100, 103)
    assert made.check(header(LAST_SEQUENCE - 5, 1), 5) == Duplicate(None, 100)


def test_a_new_epoch_begins_at_0_and_ends_the_old_one() -> None:
    made = table((0, 3))
    assert made.check(header(0, epoch=1), 0) == Fresh()
    with pytest.raises(OutOfOrderSequence):
        made.check(header(3, epoch=1), 3)
    made.note(header(0, epoch=1), 103)
    with pytest.raises(StaleProducer):
        made.check(header(3, epoch=0), 3)


def test_checking_changes_nothing() -> None:
    made = table((0, 3))
    before = made.to_bytes()
    made.check(header(3), 3)
    made.check(header(0, 3), 0)
    assert made.to_bytes() == before


def test_the_least_recently_appended_producer_is_forgotten_first() -> None:
    made = ProducerTable()
    for producer in range(PRODUCERS_MAX):
        made.note(header(0, producer=producer), producer)
    made.note(header(1, producer=0), PRODUCERS_MAX)
    made.note(header(0, producer=PRODUCERS_MAX), PRODUCERS_MAX + 1)
    assert len(made) == PRODUCERS_MAX
    assert made.check(header(1, producer=0), 1) == Duplicate(PRODUCERS_MAX, PRODUCERS_MAX + 1)
    with pytest.raises(OutOfOrderSequence):
        made.check(header(1, producer=1), 0)  # unknown now


def test_a_table_read_back_knows_the_same_and_forgets_in_the_same_order() -> None:
    made = table((0, 1), (1, 1))
    made.note(header(9, producer=8), 200)
    made.note(header(2), 300)
    again = ProducerTable.from_bytes(made.to_bytes())
    assert again.to_bytes() == made.to_bytes()
    assert again.check(header(2), 2) == Duplicate(300, 301)
    with pytest.raises(ValueError, match=r"."):
        ProducerTable.from_bytes(b"\xc1")


def test_a_batch_that_lost_records_to_compaction_still_used_all_its_sequences() -> None:
    made = ProducerTable()
    batch = encode([NewRecord(0, b"k", b"v")] * 3, producer_id=7, producer_epoch=0, base_sequence=0)
    made.note(read_header(unpack(batch).retaining([1])), 0)
    made.note(read_header(emptied(read_header(batch)))._replace(base_sequence=3), 3)
    assert made.check(header(6), 6) == Fresh()
    assert made.remembered_offsets() == {0, 3}
