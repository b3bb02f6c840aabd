"""What is recorded, and how it is written out."""

from __future__ import annotations

import asyncio

import pytest
from lograft.node.metrics import Metrics
from lograft.node.metrics.exposition import SERIES_PER_TURN, written_out, written_out_at_once
from lograft.node.metrics.families import Catalogue
from prometheus_client.parser import text_string_to_metric_families


def samples(catalogue: Catalogue) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and label values, as Prometheus reads it."""
    text = written_out_at_once(catalogue).decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_counter_has_a_series_for_each_combination_of_labels_that_was_met() -> None:
    catalogue = Catalogue()
    counter = catalogue.counter("calls", "Calls.", "api", "code")
    counter.labels("Fetch", "OK").inc()
    counter.labels("Fetch", "OK").inc(2)
    counter.labels("Fetch", "CANCELLED").inc()
    assert samples(catalogue) == {
        ("lograft_calls_total", ("Fetch", "OK")): 3,
        ("lograft_calls_total", ("Fetch", "CANCELLED")): 1,
    }


def test_a_counter_without_labels_is_there_from_the_beginning() -> None:
    catalogue = Catalogue()
    catalogue.counter("duplicates", "Duplicates.")
    assert samples(catalogue) == {("lograft_duplicates_total", ()): 0}


def test_what_is_forgotten_ends_and_begins_at_zero() -> None:
    catalogue = Catalogue()
    counter, histogram = catalogue.counter("bytes", "Bytes.", "topic"), catalogue.histogram("time", "Time.", "topic")
    counter.labels("t").inc(7)
    histogram.labels("t").observe(1)
    counter.remove("t")
    histogram.remove("t")
    counter.remove("never met")
    assert not samples(catalogue)
    counter.labels("t").inc()
    assert samples(catalogue) == {("lograft_bytes_total", ("t",)): 1}


def test_a_histogram_counts_a_value_in_its_bucket_and_in_all_above() -> None:
    catalogue = Catalogue()
    histogram = catalogue.histogram("seconds", "Seconds.", bounds=(0.1, 1.0))
    for value in (0.1, 0.5, 2.0):  # a bound belongs to its bucket
        histogram.observe(value)
    assert samples(catalogue) == {
        ("lograft_seconds_bucket", ("0.1",)): 1,
        ("lograft_seconds_bucket", ("1.0",)): 2,
        ("lograft_seconds_bucket", ("+Inf",)): 3,
        ("lograft_seconds_sum", ()): pytest.approx(2.6),
        ("lograft_seconds_count", ()): 3,
    }


def test_a_histogram_with_labels_names_them_before_the_bound() -> None:
    catalogue = Catalogue()
    catalogue.histogram("pause", "Pauses.", "generation", bounds=(1.0,)).labels("2").observe(0.5)
    assert samples(catalogue)["lograft_pause_bucket", ("2", "1.0")] == 1


def test_a_reading_is_asked_when_it_is_written_and_has_no_series_before_it_is_watched() -> None:
    catalogue = Catalogue()
    reading = catalogue.reading("free_bytes", "Free.")
    assert not samples(catalogue)
    free = [10.0]
    reading.watch_value(lambda: free[0])
    free[0] = 20.0
    assert samples(catalogue) == {("lograft_free_bytes", ()): 20}
    reading.watch_value(lambda: None)
    assert not samples(catalogue)


def test_a_reading_whose_name_ends_in_total_is_a_counter() -> None:
    assert (Catalogue().reading("x_total", "X.").kind, Catalogue().reading("x", "X.").kind) == ("counter", "gauge")


def test_what_clients_call_a_group_stays_between_its_quotes() -> None:
    catalogue = Catalogue()
    odd = 'a"} 1\nlograft_evil 1\\'
    catalogue.gauge("members", "Members.", "group").labels(odd).set(3)
    assert samples(catalogue) == {("lograft_members", (odd,)): 3}


def test_a_histogram_for_each_of_many_values_is_as_one_with_a_label() -> None:
    catalogue, other = Catalogue(), Catalogue()
    many = catalogue.histograms("time", "Time.", "topic", bounds=(0.1, 1.0))
    one = other.histogram("time", "Time.", "topic", bounds=(0.1, 1.0))
    assert samples(catalogue) == samples(other) == {}
    for topic, value in (("t", 0.5), ("u", 2.0), ("t", 0.05)):
        many.labels(topic).observe(value)
        one.labels(topic).observe(value)
    assert written_out_at_once(catalogue) == written_out_at_once(other)


@pytest.mark.parametrize("count", [0, 1, SERIES_PER_TURN, SERIES_PER_TURN + 1, 2 * SERIES_PER_TURN, 1000])
def test_a_family_in_pieces_has_one_head_and_each_of_its_series_once(count: int) -> None:
    catalogue = Catalogue()
    catalogue.reading("read", "Read.", "number").watch(lambda: [((str(number),), number) for number in range(count)])
    counted = catalogue.gauge("set", "Set.", "number")
    for number in range(count):
        counted.labels(str(number)).set(number)
    text = written_out_at_once(catalogue).decode()
    assert text.count("# HELP") == text.count("# TYPE") == 2
    assert len(samples(catalogue)) == text.count("\n") - 4 == 2 * count


def test_what_is_told_by_topic_is_collected_a_few_series_at_a_time() -> None:
    # A labelled family of prometheus_client collects all its series in one turn of the loop: milliseconds.
    metrics = Metrics()
    for number in range(1000):
        metrics.count_produced(f"t{number}", 1, 1)
        metrics.compaction.ended(f"t{number}", "done", 1.0)
    for collector in metrics.page.collectors():
        for metric in collector.collect():
            assert len(metric.samples) <= SERIES_PER_TURN, metric.name


def test_series_may_come_and_go_while_a_page_is_written() -> None:
    catalogue = Catalogue()
    there = {f"t{number}": 1.0 for number in range(3 * SERIES_PER_TURN)}
    catalogue.reading("bytes", "Bytes.", "topic").watch(lambda: [((name,), value) for name, value in there.items()])

    async def scene() -> bytes:
        writing = asyncio.create_task(written_out(catalogue))
        turns = 0
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
            there[f"new{turns}"] = 1.0
            del there[f"t{turns}"]
        assert turns >= 3, "the loop turned while it was written"
        return await writing

    text = asyncio.run(scene()).decode()
    assert len(next(iter(text_string_to_metric_families(text))).samples) == 3 * SERIES_PER_TURN
