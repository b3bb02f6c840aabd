"""For each row a history that holds just that anomaly, and a clean twin that differs from it in nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from lograft.client.check.rows import RULES

from tests.unit.check.stories import Story, flagged, sent_and_unread, verdict_of


class Case(NamedTuple):
    tell: Callable[[Story, bool], None]
    """Tells the story; with the anomaly if the second argument says so."""
    facts: dict[str, object]


CASES: dict[str, list[Case]] = {}


def case(row: str, **facts: object) -> Callable[[Callable[[Story, bool], None]], Callable[[Story, bool], None]]:
    def keep(tell: Callable[[Story, bool], None]) -> Callable[[Story, bool], None]:
        CASES.setdefault(row, []).append(Case(tell, facts))
        return tell

    return keep


@case("inconsistent-offsets")
def two_readers_get_two_values(story: Story, wrong: bool) -> None:
    story.sending("p", "a")
    story.sending("q", "b")
    story.polled("c", (0, "a"))
    story.polled("d", (0, "b") if wrong else (0, "a"))


@case("inconsistent-offsets")
def two_sends_are_acknowledged_at_one_offset(story: Story, wrong: bool) -> None:
    first, second = story.sending("p", "a"), story.sending("q", "b")
    story.acked(first, 0)
    story.acked(second, 0 if wrong else 1)


@case("duplicate")
def a_retry_is_appended_again(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.sent("p", "b", at=1)
    story.polled("c", (0, "a"), (1, "b"), (2, "a")) if wrong else story.polled("c", (0, "a"), (1, "b"))


@case("duplicate")
def a_value_stands_in_two_partitions(story: Story, wrong: bool) -> None:
    story.sending("p", "a", partition=None)
    story.polled("c", ("t/0", 0, "a"))
    story.polled("d", ("t/1" if wrong else "t/0", 0, "a"))


@case("lost-write")
def an_acknowledged_value_is_missing_in_the_midst(story: Story, wrong: bool) -> None:
    for offset, value in enumerate("abc"):
        story.sent("p", value, at=offset)
    story.read_all((0, "a"), (2, "c")) if wrong else story.read_all((0, "a"), (1, "b"), (2, "c"))


@case("lost-write")
def a_group_reads_past_an_acknowledged_value(story: Story, wrong: bool) -> None:
    for offset, value in enumerate("abc"):
        story.sent("p", value, at=offset)
    story.owns("m", 1, "t/0")
    story.assigned("c", t0=0)
    story.polled("c", (0, "a"))
    if not wrong:
        story.polled("c", (1, "b"))
    story.read_all((0, "a"), *([] if wrong else [(1, "b")]), (2, "c"))


@case("unseen")
def the_tail_of_a_log_is_gone(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.sent("p", "b", at=1)
    story.read_all((0, "a")) if wrong else story.read_all((0, "a"), (1, "b"))


@case("unseen")
def the_final_read_never_ends(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    op = story.begin("reader", "read_all", partition="t/0")
    if wrong:
        story.end(op, "info")
    else:
        story.end(op, partition="t/0", start=0, end=1, values=[[0, "a"]])


@case("vanished-read")
def what_a_poll_saw_is_not_there_in_the_end(story: Story, wrong: bool) -> None:
    for value in "abc":
        story.sending("p-" + value, value)
    story.polled("c", (0, "a"), (1, "b"), (2, "c"))
    story.read_all((0, "a"), (2, "c")) if wrong else story.read_all((0, "a"), (1, "b"), (2, "c"))


@case("vanished-read")
def what_a_poll_saw_at_the_end_is_cut(story: Story, wrong: bool) -> None:
    story.sending("p", "a")
    story.sending("q", "b")
    story.polled("c", (0, "a"), (1, "b"))
    story.read_all((0, "a")) if wrong else story.read_all((0, "a"), (1, "b"))


@case("log-hole")
def nothing_stands_at_an_offset(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.sent("p", "c", at=2 if wrong else 1)
    story.read_all((0, "a"), (2, "c")) if wrong else story.read_all((0, "a"), (1, "c"))


@case("aborted-read")
def a_failed_send_is_read(story: Story, wrong: bool) -> None:
    first, second = story.sending("p", "a"), story.sending("p", "b")
    story.end(first, "fail")
    story.acked(second, 0) if not wrong else story.end(second, "info")
    story.polled("c", (0, "a" if wrong else "b"))


@case("garbage-read")
def a_value_is_read_that_nobody_sent(story: Story, wrong: bool) -> None:
    story.sending("p", "a")
    story.polled("c", (0, "x" if wrong else "a"))


@case("garbage-read")
def a_value_is_read_from_a_partition_it_was_not_sent_to(story: Story, wrong: bool) -> None:
    story.sending("p", "a", partition=0)
    story.polled("c", ("t/1" if wrong else "t/0", 0, "a"))


@case("garbage-read")
def a_value_is_read_before_it_is_sent(story: Story, wrong: bool) -> None:
    if not wrong:
        story.sending("p", "b")
    story.sending("p", "a")
    story.polled("c", (0, "b"))
    if wrong:
        story.sending("p", "b")


@case("poll-skip")
def an_assigned_consumer_leaves_a_record_out(story: Story, wrong: bool) -> None:
    sent_and_unread(story, "abc")
    story.assigned("c", t0=0)
    story.polled("c", (0, "a"))
    story.polled("c", (2, "c") if wrong else (1, "b"))


@case("poll-skip")
def the_first_poll_does_not_begin_where_it_was_told_to(story: Story, wrong: bool) -> None:
    sent_and_unread(story, "abc")
    story.assigned("c", t0=0)
    story.polled("c", (1, "b") if wrong else (0, "a"))


@case("nonmonotonic-poll")
def an_assigned_consumer_goes_back(story: Story, wrong: bool) -> None:
    sent_and_unread(story, "abc")
    story.assigned("c", t0=0)
    story.polled("c", (0, "a"), (1, "b"))
    story.polled("c", (1, "b") if wrong else (2, "c"))


@case("int-poll-skip")
def a_poll_leaves_a_record_out(story: Story, wrong: bool) -> None:
    sent_and_unread(story, "abc")
    story.assigned("c", t0=0)
    story.polled("c", (0, "a"), *([] if wrong else [(1, "b")]), (2, "c"))


@case("int-nonmonotonic-poll")
def a_poll_hands_out_records_in_the_wrong_order(story: Story, wrong: bool) -> None:
    sent_and_unread(story, "ab")
    story.assigned("c", t0=0)
    story.polled("c", (0, "a"), (1, "b"), *([(0, "a"), (1, "b")] if wrong else []))


@case("nonmonotonic-send")
def a_producers_later_send_stands_earlier(story: Story, wrong: bool) -> None:
    first, second = (story.sending("p", value, producer="p/1") for value in "ab")
    story.acked(first, 1 if wrong else 0)
    story.acked(second, 0 if wrong else 1)


@case("nonmonotonic-send")
def a_later_send_of_one_process_stands_earlier(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=1 if wrong else 0)
    story.sent("p", "b", at=0 if wrong else 1)


@case("int-nonmonotonic-send")
def the_values_of_a_send_change_places(story: Story, wrong: bool) -> None:
    story.sent("p", "a", "b", at=[1, 0] if wrong else [0, 1])


@case("g0", atomic_sends=True)
def two_sends_are_interleaved(story: Story, wrong: bool) -> None:
    first, second = story.sending("p", "a", "b"), story.sending("q", "x")
    story.acked(first, 0, 2 if wrong else 1)
    story.acked(second, 1 if wrong else 2)


@case("g0", atomic_sends=True)
def of_a_send_that_nobody_answered_only_a_half_is_there(story: Story, wrong: bool) -> None:
    story.end(story.sending("p", "a", "b", "c"), "info")
    story.sent("q", "x", at=2 if wrong else 3)
    story.read_all(*enumerate(["a", "b", "x"] if wrong else ["a", "b", "c", "x"]))


@case("g0", atomic_sends=True)
def of_a_send_that_nobody_answered_the_first_half_is_missing(story: Story, wrong: bool) -> None:
    story.sending("p", "a", "b")  # never ended
    story.read_all(*enumerate(["b"] if wrong else ["a", "b"]))


@case("g0", atomic_sends=True)
def of_a_send_that_nobody_answered_the_second_half_is_missing_at_the_end(story: Story, wrong: bool) -> None:
    story.end(story.sending("p", "a", "b"), "info")
    story.read_all(*enumerate(["a"] if wrong else ["a", "b"]))


@case("g0", atomic_sends=True)
def a_send_that_nobody_answered_is_interleaved_with_another(story: Story, wrong: bool) -> None:
    story.end(story.sending("p", "a", "b"), "info")
    story.sending("q", "x")
    story.polled("c", *enumerate(["a", "x", "b"] if wrong else ["a", "b", "x"]))


@case("int-nonmonotonic-send", atomic_sends=True)
def the_values_of_a_send_that_nobody_answered_change_places(story: Story, wrong: bool) -> None:
    story.end(story.sending("p", "a", "b"), "info")
    story.polled("c", *enumerate("ba" if wrong else "ab"))


@case("g1c")
def what_is_sent_after_a_reading_stands_before_it(story: Story, wrong: bool) -> None:
    story.sending("p", "a")
    story.sending("q", "b")
    story.polled("c", (1, "b"))
    story.sent("r", "x", at=0 if wrong else 2)


@case("realtime-order")
def a_later_send_of_another_process_stands_earlier(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=1 if wrong else 0)
    story.sent("q", "b", at=0 if wrong else 1)


@case("realtime-order")
def a_send_that_nobody_answered_is_found_before_what_was_acknowledged_before_it(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=1 if wrong else 0)
    story.end(story.sending("q", "b"), "info")
    story.polled("c", *([(0, "b"), (1, "a")] if wrong else [(0, "a"), (1, "b")]))


@case("stale-end")
def an_end_lies_before_what_was_acknowledged(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.ends("c", 0, 0 if wrong else 1)


@case("stale-end")
def an_end_lies_before_what_was_read(story: Story, wrong: bool) -> None:
    story.sending("p", "a")
    story.polled("c", (0, "a"))
    story.ends("d", 0, 0 if wrong else 1)


@case("end-regress")
def an_end_goes_back(story: Story, wrong: bool) -> None:
    story.ends("c", 0, 5)
    story.ends("d", 0, 4 if wrong else 5)


@case("start-regress", trimmed=["t"])
def a_start_goes_back(story: Story, wrong: bool) -> None:
    story.ends("c", 3, 5)
    story.ends("d", 2 if wrong else 3, 5)


@case("epoch-regress")
def a_term_falls_along_offsets(story: Story, wrong: bool) -> None:
    story.sending("p", "a")
    story.sending("q", "b")
    story.polled("c", (0, "a", 3), (1, "b", 2 if wrong else 3))


@case("epoch-fork")
def one_term_has_two_values_at_an_offset(story: Story, wrong: bool) -> None:
    story.sending("p", "a")
    story.sending("q", "b")
    story.polled("c", (0, "a", 3))
    story.polled("d", (0, "b" if wrong else "a", 3))


@case("epoch-fork")
def a_record_changes_its_term(story: Story, wrong: bool) -> None:
    story.sending("p", "a")
    story.polled("c", (0, "a", 3))
    story.polled("d", (0, "a", 4 if wrong else 3))


@case("epoch-fork")
def an_acknowledgement_names_another_term_than_the_record_is_read_with(story: Story, wrong: bool) -> None:
    story.acked(story.sending("p", "a"), 0, term=2 if wrong else 3)
    story.polled("c", (0, "a", 3))


@case("epoch-fork")
def an_acknowledgement_names_another_term_than_the_record_was_read_with_before(story: Story, wrong: bool) -> None:
    op = story.sending("p", "a")
    story.polled("c", (0, "a", 3))
    story.acked(op, 0, term=4 if wrong else 3)


@case("epoch-fork")
def a_record_that_a_final_read_had_first_has_another_term_than_its_acknowledgement(story: Story, wrong: bool) -> None:
    story.acked(story.sending("p", "a"), 0, term=2 if wrong else 3)
    story.read_all((0, "a"))
    story.polled("c", (0, "a", 3))


@case("epoch-regress")
def an_acknowledgement_names_a_lower_term_than_one_before_it(story: Story, wrong: bool) -> None:
    story.acked(story.sending("p", "a"), 0, term=3)
    story.acked(story.sending("p", "b"), 1, term=2 if wrong else 4)
    story.read_all((0, "a"), (1, "b"))


@case("dedup-window")
def a_retry_is_answered_with_another_offset(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.sent("p", "b", at=3 if wrong else 1)
    story.polled("c", (0, "a"), (1, "b"))


@case("commit-offset")
def an_older_stored_offset_comes_back(story: Story, wrong: bool) -> None:
    story.stored("m", 5)
    story.stored("m", 9)
    story.fetched(5 if wrong else 9)


@case("commit-offset")
def a_stored_offset_is_forgotten(story: Story, wrong: bool) -> None:
    story.stored("m", 5)
    story.fetched(None if wrong else 5)


@case("commit-offset")
def two_readings_see_two_stores_in_the_wrong_order(story: Story, wrong: bool) -> None:
    story.stored("m", 5)
    story.end(story.storing("m", 9), "info")
    story.fetched(9)
    story.fetched(5 if wrong else 9)


@case("commit-offset")
def an_offset_is_found_that_nobody_stored(story: Story, wrong: bool) -> None:
    story.stored("m", 5)
    story.end(story.storing("m", 9), "fail")
    story.fetched(9 if wrong else 5)


@case("fenced-store")
def a_store_under_an_old_grant_is_accepted(story: Story, wrong: bool) -> None:
    story.owns("m", 1, "t/0")
    story.owns("n", 2, "t/0")
    op = story.storing("m", 5, generation=1)
    story.end(op, "ok" if wrong else "fail")
    story.stored("n", 4, generation=2)


@case("double-owner")
def two_members_own_a_partition_in_one_generation(story: Story, wrong: bool) -> None:
    story.owns("m", 4, "t/0", "t/1")
    story.owns("n", 4 if wrong else 5, "t/1")


@case("group-gap")
def an_offset_is_stored_past_what_was_processed(story: Story, wrong: bool) -> None:
    story.processed("m", 0, 1)
    story.processed("n", *([] if wrong else [2]), 3)
    story.stored("n", 4)


@case("group-gap")
def an_offset_past_what_was_processed_is_stored_without_an_answer_and_found_later(story: Story, wrong: bool) -> None:
    story.processed("m", 0, 1)
    story.stored("m", 2)
    if not wrong:
        story.processed("m", 2, 3)
    story.end(story.storing("m", 4), "info")
    story.fetched(4)


@case("store-past-end")
def an_offset_is_stored_past_the_end(story: Story, wrong: bool) -> None:
    story.stored("m", 2)
    story.ends("c", 0, 1 if wrong else 2)


@case("store-past-end")
def an_offset_is_stored_past_the_end_of_the_final_read(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.stored("m", 2 if wrong else 1)
    story.read_all((0, "a"))


@case("store-past-end")
def an_offset_past_the_end_is_stored_without_an_answer_and_found_later(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.stored("m", 0)
    story.end(story.storing("m", 2 if wrong else 1), "info")
    story.fetched(2 if wrong else 1)
    story.read_all((0, "a"))


@case("start-past-end", trimmed=["t"])
def a_log_begins_behind_its_end(story: Story, wrong: bool) -> None:
    story.ends("c", 6 if wrong else 5, 5)


@case("start-past-end", trimmed=["t"])
def a_final_read_begins_behind_its_end(story: Story, wrong: bool) -> None:
    story.read_all(start=6 if wrong else 5, end=5)


@case("start-past-end", trimmed=["t"])
def a_log_begins_behind_all_that_was_ever_sent(story: Story, wrong: bool) -> None:
    for offset, value in enumerate("abc"):
        story.sent("p", value, at=offset)
    story.end(story.sending("p", "d"), "info")
    story.read_all(start=5 if wrong else 4, end=5 if wrong else 4)


@case("metadata")
def a_deleted_topic_comes_back(story: Story, wrong: bool) -> None:
    story.did("a", "create_topic", {"topic": "t"}, topic_id="id-1")
    story.did("a", "delete_topic", {"topic": "t"})
    story.did("b", "list_topics", topics={"t": "id-1"} if wrong else {})


@case("metadata")
def a_created_topic_is_not_found(story: Story, wrong: bool) -> None:
    story.did("a", "create_topic", {"topic": "t"}, topic_id="id-1")
    story.did("b", "list_topics", topics={} if wrong else {"t": "id-1"})


@case("metadata")
def a_topic_is_found_under_an_id_that_nobody_gave_it(story: Story, wrong: bool) -> None:
    story.did("a", "create_topic", {"topic": "t"}, topic_id="id-1")
    story.did("b", "list_topics", topics={"t": "id-2" if wrong else "id-1"})


@case("metadata")
def records_of_a_deleted_topic_come_back_under_its_name(story: Story, wrong: bool) -> None:
    story.did("a", "create_topic", {"topic": "t"}, topic_id="id-1")
    story.sent("p", "a", at=0)
    story.did("a", "delete_topic", {"topic": "t"})
    story.did("a", "create_topic", {"topic": "t"}, topic_id="id-2")
    story.sent("p", "b", at=0)
    story.assigned("c", t0=0)
    story.polled("c", (0, "a" if wrong else "b"))


@case("replica-divergence")
def two_replicas_differ(story: Story, wrong: bool) -> None:
    for broker, crc in (("b0", 11), ("b1", 99 if wrong else 11)):
        told = {"start": 0, "committed": 4, "sums": [[0, 7], [2, crc]]}
        story.did("reader", "replica", None, partition="t/0", broker=broker, **told)


@case("replica-divergence")
def a_replica_lacks_what_is_committed(story: Story, wrong: bool) -> None:
    for broker, sums in (("b0", [[0, 7], [2, 8]]), ("b1", [[0, 7]] if wrong else [[0, 7], [2, 8]])):
        story.did("reader", "replica", None, partition="t/0", broker=broker, start=0, committed=4, sums=sums)


@case("replica-divergence")
def two_replicas_differ_and_a_third_that_says_nothing_is_committed_hides_it_not(story: Story, wrong: bool) -> None:
    for broker, committed, sums in (("b0", 0, []), ("b1", 2, [[0, 7]]), ("b2", 2, [[0, 8 if wrong else 7]])):
        story.did("reader", "replica", None, partition="t/0", broker=broker, start=0, committed=committed, sums=sums)


@case("dead-window")
def nobody_is_answered_though_all_is_well(story: Story, wrong: bool) -> None:
    story.fault("partition", "b1", True)
    story.fault("partition", "b1", False)
    story.pass_s(1)
    op = story.sending("p", "a")
    story.pass_s(12 if wrong else 8)
    story.acked(op, 0)


@case("dead-window", brokers=3)
def nobody_is_answered_though_a_majority_is_well(story: Story, wrong: bool) -> None:
    story.fault("kill", "b1", True)
    if not wrong:
        story.fault("pause", "b2", True)
    for turn in range(30):
        op = story.sending("p", f"v{turn}")
        story.pass_s(0.5)
        story.end(op, "info")
    story.acked(story.sending("p", "a"), 0)
    story.fault("kill", "b1", False)
    story.end(story.begin("p", "ends"), ends={"t/0": [0, 1]})


@case("dead-window")
def every_six_seconds_somebody_asks_and_nobody_knows_what_became_of_it(story: Story, wrong: bool) -> None:
    story.fault("partition", "b1", True)
    story.fault("partition", "b1", False)
    for turn in range(5):
        op = story.sending("p", f"v{turn}")
        story.end(op, "info") if wrong or turn % 2 else story.acked(op, turn)
        story.pass_s(6)


@case("dead-window", brokers=3)
def sends_end_without_an_answer_every_six_seconds_while_a_majority_is_well(story: Story, wrong: bool) -> None:
    story.fault("kill", "b1", True)
    for turn in range(4):
        op = story.sending("p", f"v{turn}")
        story.pass_s(0.2)
        story.end(op, "info") if wrong or turn % 2 else story.acked(op, turn)
        story.pass_s(5.8)
    story.fault("kill", "b1", False)


@case("dead-window")
def who_asked_is_not_answered_for_long_unless_it_crashed(story: Story, wrong: bool) -> None:
    story.fault("kill", "b1", True)
    story.fault("kill", "b1", False)
    story.begin("p", "fetch_stored", group="g")
    story.pass_s(1)
    if not wrong:
        story.note("p", "crash")
    story.pass_s(30)
    story.fault("kill", "b1", True)


@case("int-nonmonotonic-poll")
def the_final_read_hands_out_a_record_before_an_earlier_one(story: Story, wrong: bool) -> None:
    story.sent("p", "a", "b", at=0)
    story.read_all(*([(1, "b"), (0, "a")] if wrong else [(0, "a"), (1, "b")]))


@case("int-nonmonotonic-poll")
def the_final_read_hands_out_a_record_twice(story: Story, wrong: bool) -> None:
    story.sent("p", "a", "b", at=0)
    story.read_all((0, "a"), *([(0, "a")] if wrong else []), (1, "b"))


@case("unseen", compacted=["t"])
def the_end_of_a_compacted_log_is_lost(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.sent("p", "b", at=1)
    story.sent("p", "c", at=2)
    story.read_all((0, "a"), end=1 if wrong else 3)


@case("vanished-read", compacted=["t"])
def the_end_of_a_compacted_log_that_was_read_is_lost(story: Story, wrong: bool) -> None:
    story.sending("p", "a", "b", "c")
    story.polled("c", (0, "a"), (1, "b"), (2, "c"))
    story.read_all((0, "a"), end=2 if wrong else 3)


@case("unseen")
def a_record_is_lost_and_a_deletion_that_failed_excuses_nothing(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0)
    story.read_all(*([] if wrong else [(0, "a")]))
    story.end(story.begin("a", "delete_topic", topic="t"), "fail")


@case("realtime-order")
def an_acknowledgement_names_no_offset_and_the_record_stands_too_early(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=0 if not wrong else 1)
    story.sent("q", "b", at=[None])
    story.read_all(*([(0, "b"), (1, "a")] if wrong else [(0, "a"), (1, "b")]))


@case("realtime-order")
def what_is_sent_after_an_acknowledgement_without_an_offset_stands_before_it(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=[None])
    story.sent("q", "b", at=0 if wrong else 1)
    story.read_all(*([(0, "b"), (1, "a")] if wrong else [(0, "a"), (1, "b")]))


@case("nonmonotonic-send")
def one_producer_is_told_no_offsets_and_its_records_change_places(story: Story, wrong: bool) -> None:
    story.sent("p", "a", at=[None], producer="p/1")
    story.sent("p", "b", at=[None], producer="p/1")
    story.read_all(*([(0, "b"), (1, "a")] if wrong else [(0, "a"), (1, "b")]))


@case("int-nonmonotonic-send")
def no_offsets_are_told_and_the_values_of_a_send_change_places(story: Story, wrong: bool) -> None:
    story.sent("p", "a", "b", at=[None, None])
    story.read_all(*([(0, "b"), (1, "a")] if wrong else [(0, "a"), (1, "b")]))


ALL = [pytest.param(row, one, id=f"{row}-{one.tell.__name__}") for row, cases in CASES.items() for one in cases]


@pytest.mark.parametrize(("row", "one"), ALL)
def test_an_anomaly_is_found_by_its_own_row_alone(row: str, one: Case) -> None:
    story = Story(**one.facts)
    one.tell(story, True)
    verdict = verdict_of(story)
    assert {failing.name for failing in verdict.failing} == {row}, [
        example.text for failing in verdict.failing for example in failing.told()
    ]
    example = verdict.rows[row].told()[0]
    assert example.text and not verdict.ok


@pytest.mark.parametrize(("row", "one"), ALL)
def test_its_clean_twin_is_judged_by_that_row_and_found_well(row: str, one: Case) -> None:
    story = Story(**one.facts)
    one.tell(story, False)
    verdict = verdict_of(story)
    assert flagged(story) == set(), [example.text for failing in verdict.failing for example in failing.told()]
    assert verdict.rows[row].verdict == "ok"


def test_every_row_is_proved() -> None:
    assert set(CASES) == set(RULES)
