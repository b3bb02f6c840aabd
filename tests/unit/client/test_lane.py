from __future__ import annotations

from collections.abc import Iterator

import pytest
from lograft.client import lane as lane_module
from lograft.client.delivery import Durability, Failures
from lograft.client.lane import Batch, Lane
from lograft.client.records import TopicPartition
from lograft.proto import errors
from lograft.proto.record_batch import BatchBuilder, Compression, read_header

TP = TopicPartition("t", 0)
FSYNC = Durability("fsync", 2, 3)


class Fixture:
    """A lane whose producer ids are 1, 2, 3 and so on."""

    def __init__(self, *, idempotent: bool = True) -> None:
        self.failures = Failures()
        self.settled: list[Batch] = []
        ids: Iterator[int] = iter(range(1, 100))
        self.lane = Lane(
            TP,
            "id",
            compression=Compression.NONE,
            draw_producer_id=(lambda: next(ids)) if idempotent else None,
            failures=self.failures,
            on_settled=self.settled.append,
        )

    def fill(self, batches: int, records: int = 1) -> list[Batch]:
        filled = []
        for _ in range(batches):
            batch = Batch(TP, BatchBuilder(), begun_at=0.0)
            assert batch.builder is not None
            for _ in range(records):
                batch.builder.append(1, None, b"value")
            self.lane.building = batch
            self.lane.close_building()
            filled.append(batch)
        return filled

    def send(self, count: int = 99) -> list[lane_module.Attempt]:
        attempts = []
        while len(attempts) < count and (attempt := self.lane.take()) is not None:
            attempts.append(attempt)
        return attempts

    def numbers(self, attempts: list[lane_module.Attempt]) -> list[tuple[int, int, int | None]]:
        headers = [read_header(attempt.batch.encoded) for attempt in attempts]
        return [(h.producer_id, h.base_sequence, a.first_open) for h, a in zip(headers, attempts, strict=True)]


def test_at_most_five_batches_are_in_flight_and_sequences_count_records() -> None:
    it = Fixture()
    it.fill(7, records=3)
    sent = it.send()
    assert it.numbers(sent) == [(1, 0, 0), (1, 3, 0), (1, 6, 0), (1, 9, 0), (1, 12, 0)]
    it.lane.acknowledged(sent[0], 0, 1, FSYNC)
    assert it.numbers(it.send()) == [(1, 15, 3)]


def test_an_answered_batch_behind_an_open_one_still_counts_so_that_a_duplicate_is_remembered() -> None:
    it = Fixture()
    it.fill(7)
    sent = it.send()
    for attempt in sent[1:]:
        it.lane.acknowledged(attempt, 1, 1, FSYNC)
    assert it.send() == []
    it.lane.acknowledged(sent[0], 0, 1, FSYNC)
    assert it.numbers(it.send()) == [(1, 5, 5), (1, 6, 5)]


def test_after_a_failure_nothing_goes_until_all_has_landed_and_then_all_from_the_oldest() -> None:
    it = Fixture()
    it.fill(6)
    sent = it.send()
    it.lane.refused(sent[1], errors.NotLeader("moved"))
    it.lane.acknowledged(sent[0], 0, 1, FSYNC)
    it.lane.lost(sent[2], errors.BrokerUnavailable("gone"))
    it.lane.refused(sent[3], errors.OutOfOrderSequence("gap"))
    assert it.send() == []
    it.lane.refused(sent[4], errors.OutOfOrderSequence("gap"))
    assert it.numbers(it.send()) == [(1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 4, 1), (1, 5, 1)]


def test_answers_to_an_abandoned_attempt_are_not_listened_to() -> None:
    it = Fixture()
    (batch,) = it.fill(1)
    (first,) = it.send()
    it.lane.abandon()
    it.lane.refused(first, errors.CorruptBatch("?"))
    (second,) = it.send()
    it.lane.acknowledged(first, 5, 1, FSYNC)
    assert batch.settlement is None
    it.lane.acknowledged(second, 7, 1, FSYNC)
    assert batch.settlement is not None
    assert batch.settlement.base_offset == 7


def test_a_batch_given_up_that_may_be_in_the_log_takes_all_later_ones_with_it() -> None:
    it = Fixture()
    batches = it.fill(7)
    sent = it.send()
    it.lane.lost(sent[0], errors.BrokerUnavailable("gone"))
    it.lane.fail(batches[0], errors.RequestTimedOut("too late"))
    outcomes = [batch.settlement.failure.outcome for batch in batches if batch.settlement and batch.settlement.failure]
    assert outcomes == ["unknown"] * 5 + ["failed"] * 2  # the last two were never sent
    assert it.settled == batches
    it.fill(1)
    assert it.numbers(it.send()) == [(2, 0, 0)]


def test_a_batch_surely_not_appended_fails_alone_and_the_others_are_numbered_anew() -> None:
    it = Fixture()
    batches = it.fill(3)
    sent = it.send()
    it.lane.refused(sent[0], errors.BatchTooLarge("too large"))
    assert [batch.settlement is not None for batch in batches] == [True, False, False]
    it.lane.refused(sent[1], errors.OutOfOrderSequence("gap"))  # late; nobody listens
    again = it.send()
    assert [attempt.batch for attempt in again] == batches[1:]
    assert it.numbers(again) == [(2, 0, 0), (2, 1, 0)]


def test_a_refusal_in_the_middle_lets_the_older_finish_under_the_old_id_before_the_new_one_begins() -> None:
    it = Fixture()
    batches = it.fill(3)
    sent = it.send()
    it.lane.refused(sent[1], errors.InvalidRecord("no"))
    assert it.send() == []
    it.lane.lost(sent[0], errors.BrokerUnavailable("gone"))
    (again,) = it.send()
    assert it.numbers([again]) == [(1, 0, 0)]
    it.lane.acknowledged(again, 0, 1, FSYNC)
    (last,) = it.send()
    assert (last.batch, it.numbers([last])) == (batches[2], [(2, 0, 0)])


def test_an_error_after_an_attempt_without_answer_leaves_the_outcome_unknown() -> None:
    it = Fixture()
    (batch,) = it.fill(1)
    it.lane.lost(it.send()[0], errors.BrokerUnavailable("gone"))
    it.lane.refused(it.send()[0], errors.UnknownTopicId("deleted"))
    assert batch.settlement is not None
    assert batch.settlement.failure is not None
    assert batch.settlement.failure.outcome == "unknown"


def test_an_error_nobody_knows_leaves_the_outcome_unknown() -> None:
    it = Fixture()
    (batch,) = it.fill(1)
    it.lane.refused(it.send()[0], errors.LograftError("internal"))
    assert batch.settlement is not None
    assert batch.settlement.failure is not None
    assert batch.settlement.failure.outcome == "unknown"


def test_a_gap_before_the_oldest_open_batch_begins_a_new_producer() -> None:
    it = Fixture()
    it.fill(2)
    sent = it.send()
    it.lane.acknowledged(sent[0], 0, 1, FSYNC)  # by acks=leader, and the leader died with it
    it.lane.refused(sent[1], errors.OutOfOrderSequence("0 expected"))
    assert it.numbers(it.send()) == [(2, 0, 0)]


def test_a_producer_id_ends_before_its_sequence_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "SEQUENCE_MAX", 5)
    it = Fixture()
    it.fill(4, records=2)
    sent = it.send()
    assert it.numbers(sent) == [(1, 0, 0), (1, 2, 0)]
    it.lane.acknowledged(sent[1], 2, 1, FSYNC)
    assert it.send() == []
    it.lane.acknowledged(sent[0], 0, 1, FSYNC)
    assert it.numbers(it.send()) == [(2, 0, 0), (2, 2, 0)]


def test_without_idempotence_one_batch_goes_at_a_time_and_carries_no_producer() -> None:
    it = Fixture(idempotent=False)
    it.fill(2)
    sent = it.send()
    assert it.numbers(sent) == [(-1, -1, None)]
    it.lane.refused(sent[0], errors.NoLeader("none"))
    again = it.send()
    assert again[0].batch is sent[0].batch
    it.lane.acknowledged(again[0], 0, 1, FSYNC)
    assert len(it.send()) == 1
