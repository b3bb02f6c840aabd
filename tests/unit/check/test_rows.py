"""For each row a history that holds just that anomaly, and a clean twin that differs from it in nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from lograft.client.check.rows import RULES

from tests.unit.check.stories import Story, flagged, verdict_of


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


def sent_and_unread(story: Story, values: str) -> None:
    """All of them are in the log, and somebody else reads them."""
    for offset, value in enumerate(values):
        story.sent("p", value, at=offset)
    story.polled("other", *enumerate(values))


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


# What is no anomaly


def test_an_empty_history_is_well_and_says_that_nothing_applies() -> None:
    verdict = verdict_of(Story())
    assert verdict.ok and {row.verdict for row in verdict.rows} == {"not applicable"}


def test_a_send_of_which_nobody_knows_may_be_there_or_not() -> None:
    for there in (False, True):
        story = Story()
        story.end(story.sending("p", "a"), "info")
        story.sending("q", "b")  # never ended
        story.sent("r", "c", at=1 if there else 0)
        story.read_all(*([(0, "b"), (1, "c")] if there else [(0, "c")]))
        assert flagged(story) == set()


def test_without_idempotence_duplicates_are_told_and_fail_nothing() -> None:
    story = Story(idempotent=False)
    story.sent("p", "a", at=0)
    story.polled("c", (0, "a"), (1, "a"))
    verdict = verdict_of(story)
    assert verdict.ok and verdict.rows["duplicate"].verdict == "told" and verdict.rows["duplicate"].count == 1


def test_an_acknowledgement_of_the_leader_alone_promises_nothing() -> None:
    story = Story()
    story.sent("p", "a", at=0, acks="leader")
    story.sent("p", "b", at=0)
    story.read_all((0, "b"))
    assert flagged(story) == set()


def test_across_a_rebalance_or_a_seek_a_consumer_may_go_on_anywhere() -> None:
    story = Story()
    sent_and_unread(story, "abcdef")
    story.owns("c", 1, "t/0")
    story.polled("c", (0, "a"))
    story.owns("c", 2, "t/0")
    story.polled("c", (4, "e"))
    op = story.begin("c", "poll")
    story.owns("c", 3, "t/0")  # in the midst of a poll: what it hands out is from before and after
    story.end(op, records=[["t/0", 5, "f", None], ["t/0", 1, "b", None]])
    story.assigned("c", t0=3)
    story.polled("c", (3, "d"))
    story.did("c", "seek", {"positions": {"t/0": 0}}, positions={"t/0": 0})
    story.polled("c", (0, "a"))
    story.note("c", "crash")
    story.polled("c", (5, "f"))
    assert flagged(story) == set()


def test_a_poll_of_which_nobody_knows_leaves_the_position_open_and_a_failed_one_does_not() -> None:
    for kind, expected in (("info", set()), ("fail", {"poll-skip"})):
        story = Story()
        sent_and_unread(story, "abc")
        story.assigned("c", t0=0)
        story.end(story.begin("c", "poll"), kind)
        story.polled("c", (2, "c"))
        assert flagged(story) == expected


def test_what_was_trimmed_is_not_missed_and_what_was_not_is() -> None:
    def story(start: int) -> Story:
        told = Story(trimmed=["t"])
        for offset, value in enumerate("abcd"):
            told.sent("p", value, at=offset)
        told.assigned("c", t0=0)
        told.polled("c", (0, "a"))
        told.ends("c", start, 4)
        told.polled("c", (2, "c"))
        told.read_all((2, "c"), (3, "d"), start=start, end=4)
        return told

    assert flagged(story(start=2)) == set()
    assert flagged(story(start=1)) == {"poll-skip", "lost-write"}


def test_a_start_excuses_nothing_where_nobody_trims() -> None:
    story = Story()
    story.sent("p", "a", at=0)
    story.sent("p", "b", at=1)
    story.read_all((1, "b"), start=1)
    assert flagged(story) == {"lost-write"}


def test_of_a_compacted_topic_nothing_is_missed_but_two_values_at_an_offset_are_told() -> None:
    story = Story(compacted=["t"])
    for offset, value in enumerate("abcd"):
        story.sent("p", value, at=offset)
    story.assigned("c", t0=0)
    story.polled("c", (0, "a"), (1, "b"))
    story.polled("c", (3, "d"))
    story.read_all((2, "c"), (3, "d"), start=0, end=4)
    assert flagged(story) == set()
    story.polled("d", (3, "x"))
    assert "inconsistent-offsets" in flagged(story)


def test_an_end_asked_for_before_an_acknowledgement_may_be_the_old_one() -> None:
    story = Story()
    op = story.begin("c", "ends")
    story.sent("p", "a", at=0)
    story.end(op, ends={"t/0": [0, 0]})
    assert flagged(story) == set()


@pytest.mark.parametrize(("end", "rows"), [(1, {"end-regress"}), (3, set())])
def test_a_final_read_does_not_end_before_an_end_that_was_told(end: int, rows: set[str]) -> None:
    story = Story()
    for value in "abc":
        story.sending("p", value)  # of which nobody knows what became
    story.end(story.begin("c", "ends"), ends={"t/0": [0, 3]})
    op = story.begin("d", "read_all", partition="t/0")
    values = [[offset, value] for offset, value in enumerate("abc")]
    story.end(op, partition="t/0", start=0, end=end, values=values[:end])
    assert flagged(story) == rows


def test_stores_that_were_open_together_may_be_found_in_any_order_but_only_one() -> None:
    story = Story()
    one, other = story.storing("m", 5), story.storing("n", 7)
    story.end(one)
    story.end(other)
    story.fetched(5)
    assert flagged(story) == set()


def test_a_seek_of_a_group_moves_its_offsets_without_work_done() -> None:
    story = Story()
    story.processed("m", 0)
    story.stored("m", 1)
    story.stored(None, 10)
    story.processed("m", 10)
    story.stored("m", 11)
    story.fetched(11)
    assert flagged(story) == set()


def test_a_group_that_begins_at_the_start_owes_the_first_offset_too() -> None:
    story = Story()
    story.did("m", "subscribe", {"group": "g", "topics": ["t"], "member": "m", "reset": "earliest"})
    story.processed("m", 1)
    story.stored("m", 2)
    assert flagged(story) == {"group-gap"}


def test_a_group_that_tells_nothing_of_its_work_has_no_gaps() -> None:
    story = Story()
    story.did("m", "subscribe", {"group": "g", "topics": ["t"], "member": "m", "reset": "earliest"})
    story.stored("m", 2)
    verdict = verdict_of(story)
    assert verdict.ok and verdict.rows["group-gap"].verdict == "not applicable"


def test_a_deleted_topic_is_judged_by_its_metadata_alone_and_that_is_said() -> None:
    story = Story()
    story.sent("p", "a", at=0)
    story.did("a", "delete_topic", {"topic": "t"})
    story.did("a", "create_topic", {"topic": "t"}, topic_id="id-2")
    story.sent("p", "b", at=0)
    story.read_all((0, "b"))
    verdict = verdict_of(story)
    assert verdict.ok and any("deleted" in note for note in verdict.notes)


def test_records_fetched_before_a_topic_was_deleted_may_be_handed_out_after() -> None:
    story = Story()
    story.did("a", "create_topic", {"topic": "t"}, topic_id="id-1")
    story.sent("p", "a", at=0)
    story.assigned("c", t0=0)
    story.did("a", "delete_topic", {"topic": "t"})
    story.did("a", "create_topic", {"topic": "t"}, topic_id="id-2")
    story.polled("c", (0, "a"))
    assert flagged(story) == set()


def test_where_nobody_recorded_sends_what_is_read_is_no_garbage() -> None:
    story = Story()
    story.sent("p", "a", at=0)
    story.polled("c", ("u/0", 0, "of another application"))
    assert flagged(story) == set()


def test_pipelined_sends_of_two_producers_may_stand_in_any_order() -> None:
    story = Story()
    first, second = story.sending("p", "a", producer="p/1"), story.sending("p", "b", producer="p/2")
    story.acked(first, 1)
    story.acked(second, 0)
    assert flagged(story) == set()


def test_silence_is_excused_by_faults_and_by_nobody_asking() -> None:
    story = Story()
    story.fault("kill", "b0", True)
    op = story.sending("p", "a")
    story.pass_s(60)
    story.fault("kill", "b0", False)
    story.acked(op, 0)
    story.pass_s(60)
    story.sent("p", "b", at=1)
    story.end(story.sending("p", "x", topic="unknown"), "fail")
    story.pass_s(60)
    story.end(story.sending("p", "y", topic="unknown"), "fail")
    verdict = verdict_of(story)
    assert verdict.ok
    assert [round(one.took_s, 3) for one in verdict.liveness.recoveries] == [0.001]


def test_counts_tell_how_often_each_thing_was_asked_and_how_it_ended() -> None:
    story = Story()
    story.sent("p", "a", "b", at=0)
    story.end(story.sending("p", "c"), "info")
    story.end(story.sending("p", "d"), "fail")
    story.sending("p", "e")
    seen = verdict_of(story).liveness
    assert dict(seen.counts["send"]) == {"invoke": 4, "ok": 1, "info": 2, "fail": 1}
    assert (seen.records_sent, seen.records_acknowledged) == (5, 2)


def test_files_of_two_processes_are_judged_as_one_history() -> None:
    producer, consumer = Story(), Story()
    producer.sent("p", "a", at=0)
    consumer.pass_s(1)
    consumer.polled("c", (0, "a"))
    assert flagged(producer, consumer) == set()
    assert "garbage-read" not in flagged(consumer)  # alone nothing is known of sends


def test_a_consumer_that_comes_back_with_a_file_of_its_own_begins_anew() -> None:
    killed, again = Story(), Story()
    sent_and_unread(killed, "abc")
    killed.assigned("c", t0=0)
    killed.polled("c", (0, "a"))
    killed.begin("c", "poll")
    again.pass_s(1)
    again.assigned("c", t0=0)
    again.polled("c", (0, "a"))
    again.polled("c", (2, "c"))
    assert flagged(killed, again) == {"poll-skip"}


def test_of_a_member_that_never_tells_what_it_owns_no_position_is_certain() -> None:
    story = Story()
    sent_and_unread(story, "abcd")
    story.did("c", "subscribe", {"group": "g", "topics": ["t"], "member": "c"})
    story.polled("c", (0, "a"))
    story.polled("c", (3, "d"), (1, "b"))
    assert flagged(story) == set()
    story.owns("c", 1, "t/0")
    story.polled("c", (0, "a"))
    story.polled("c", (2, "c"))
    assert flagged(story) == {"poll-skip"}
