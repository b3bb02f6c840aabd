"""What is no anomaly: histories of which the checker must not complain, and what it says of them otherwise."""

from __future__ import annotations

import pytest

from tests.unit.check.stories import Story, flagged, sent_and_unread, verdict_of


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


def test_half_of_a_send_may_be_there_where_sends_are_not_atomic_or_nobody_read_on() -> None:
    split = Story()
    split.end(split.sending("p", "a", "b"), "info")
    split.read_all((0, "a"))
    assert flagged(split) == set()
    unread = Story(atomic_sends=True)
    unread.end(unread.sending("p", "a", "b"), "info")
    unread.polled("c", (0, "a"))
    assert flagged(unread) == set()


def test_what_was_trimmed_or_compacted_of_a_send_is_no_half_done_send() -> None:
    trimmed = Story(atomic_sends=True, trimmed=["t"])
    trimmed.end(trimmed.sending("p", "a", "b"), "info")
    trimmed.read_all((1, "b"), start=1)
    assert flagged(trimmed) == set()
    compacted = Story(atomic_sends=True, compacted=["t"])
    compacted.end(compacted.sending("p", "a", "b", "c"), "info")
    compacted.read_all((1, "b"), end=3)
    assert flagged(compacted) == set()


def test_that_records_acknowledged_after_the_final_read_began_are_not_judged_is_said() -> None:
    for late in (False, True):
        story = Story()
        story.sent("p", "a", at=0)
        op = story.begin("reader", "read_all", partition="t/0")
        if late:
            story.sent("p", "b", at=1)
        story.end(op, partition="t/0", start=0, end=1, values=[[0, "a"]])
        if late:
            story.sent("p", "c", at=[None])
        verdict = verdict_of(story)
        notes = [note for note in verdict.notes if "after the final read" in note]
        assert verdict.ok and len(notes) == late
        assert not late or ("2 records" in notes[0] and "t/0" in notes[0])


def test_an_offset_past_what_was_processed_is_no_gap_if_nobody_found_it_or_another_stored_it_too() -> None:
    for how in ("never found", "stored by another", "group seek"):
        story = Story()
        story.processed("m", 0, 1)
        story.stored("m", 2)
        story.end(story.storing("m", 4), "info")
        if how == "stored by another":
            story.processed("n", 2, 3)
            story.end(story.storing("n", 4), "info")
        elif how == "group seek":
            story.end(story.storing(None, 4), "info")
        story.fetched(2 if how == "never found" else 4)
        assert flagged(story) == set(), how


def test_an_operator_may_have_a_group_go_on_anywhere_and_a_store_may_be_younger_than_an_end() -> None:
    story = Story()
    op = story.begin("c", "ends")
    story.stored(None, 9)
    story.fetched(9)
    story.stored("m", 2)
    story.end(op, ends={"t/0": [0, 1]})  # asked before the store
    assert flagged(story) == set()


def test_a_start_behind_all_that_is_known_is_told_where_more_may_have_been_sent() -> None:
    story = Story(trimmed=["t"])
    story.sent("p", "a", at=0)
    story.end(story.sending("p", "b"), "info")
    story.read_all(start=2, end=2)
    verdict = verdict_of(story)
    assert verdict.ok and any("begins at 2" in note for note in verdict.notes)
    known = Story(trimmed=["t"])
    known.sent("p", "a", at=0)
    known.read_all(start=1, end=1)
    assert not any("begins at" in note for note in verdict_of(known).notes)


def test_a_start_says_nothing_of_a_topic_to_which_more_may_have_been_sent_than_is_known() -> None:
    for facts, sends in (({"idempotent": False}, True), ({}, False)):
        story = Story(trimmed=["t"], **facts)
        if sends:
            story.sent("p", "a", at=0)  # its retries may all have been appended
        story.ends("c", 7, 7)
        assert flagged(story) == set()


def test_who_asks_once_in_a_while_and_is_refused_does_not_wait_in_between() -> None:
    story = Story()
    story.fault("kill", "b0", True)
    story.fault("kill", "b0", False)
    for turn in range(4):
        story.end(story.sending("p", f"v{turn}", topic="unknown"), "fail")
        story.pass_s(6)
    for turn in range(4):
        story.end(story.sending("p", f"w{turn}"), "info")
        story.pass_s(30)
    assert flagged(story) == set()


def test_time_without_a_success_is_told_also_before_the_first_and_after_the_last() -> None:
    def longest(*ends: str) -> float:
        story = Story()
        for turn, kind in enumerate(ends):
            op = story.sending("p", f"v{turn}")
            story.pass_s(6)
            story.acked(op, turn) if kind == "ok" else story.end(op, kind)
        return round(verdict_of(story).liveness.longest_silence_s)

    assert longest("info", "info", "info") == 18
    assert longest("ok", "info", "info") == 12
    assert longest("info", "ok", "fail", "ok") == 12
    assert longest("ok", "ok") == 6
    waiting = Story()
    waiting.sent("p", "a", at=0)
    waiting.sending("p", "b")
    waiting.pass_s(60)
    waiting.note("p", "crash")
    assert round(verdict_of(waiting).liveness.longest_silence_s) == 60


def test_a_replica_that_knows_less_committed_than_others_is_named() -> None:
    for committed in (0, 2):
        story = Story()
        for broker, end in (("b0", committed), ("b1", 2)):
            told = {"committed": end, "sums": [[0, 7]][:end]}
            story.did("reader", "replica", None, partition="t/0", broker=broker, start=0, **told)
        verdict = verdict_of(story)
        notes = [note for note in verdict.notes if "know less" in note]
        assert verdict.ok and len(notes) == (committed == 0)
        assert not notes or "broker b0 of t/0 (0 of 2)" in notes[0]
