"""All families of a broker: their names, their documentation, and what recording does to them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lograft.node.metrics import Metrics
from lograft.node.metrics.families import Family
from lograft.node.metrics.reference import reference
from lograft.partitions.repairer import RepairCounts
from lograft.partitions.replica_counts import ReplicaCounts
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[3]


def families() -> list[Family]:
    metrics = Metrics()
    return [*metrics.page.families, *metrics.partitions_page.families]


def value_of(metrics: Metrics, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.text() + metrics.partitions_text()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def test_the_documentation_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == reference(), (
        "run `make metrics-doc` and commit what it changes"
    )


def test_names_are_unique_and_follow_prometheus_conventions() -> None:
    names = [family.name for family in families()]
    assert len(names) == len({*names})
    for family in families():
        assert re.fullmatch(r"lograft_[a-z][a-z0-9_]*[a-z0-9]", family.name), family.name
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert not re.search(r"_(ms|kb|mb|seconds_ms)(_|$)", family.name), f"{family.name}: base units only"
        assert family.help_text.endswith((".", ").")) and "\n" not in family.help_text, family.name
        assert all(re.fullmatch(r"[a-z]+", label) for label in family.labels), family.name


def test_two_brokers_in_one_process_do_not_mix() -> None:
    one, other = Metrics(), Metrics()
    one.count_produced("t", 100, 10)
    assert value_of(other, "lograft_produce_bytes_total", topic="t") is None


def test_a_batch_counts_by_topic() -> None:
    metrics = Metrics()
    metrics.count_produced("t", 100, 10)
    metrics.count_produced("t", 50, 5)
    metrics.count_fetched("t", 100, 10)
    for name, expected in {
        "produce_bytes": 150,
        "produce_batches": 2,
        "produce_records": 15,
        "fetch_bytes": 100,
        "fetch_records": 10,
    }.items():
        assert value_of(metrics, f"lograft_{name}_total", topic="t") == expected


def test_a_deleted_topics_series_end_and_a_new_ones_begin_at_zero() -> None:
    metrics = Metrics()
    metrics.count_produced("t", 100, 10)
    metrics.compaction.ended("t", "done", 1.0)
    metrics.forget_topic("t")
    assert 'topic="t"' not in metrics.text()
    metrics.count_produced("t", 1, 1)
    assert value_of(metrics, "lograft_produce_bytes_total", topic="t") == 1


def test_a_topic_that_was_counted_once_more_after_its_deletion_is_swept_out() -> None:
    metrics = Metrics()
    metrics.count_fetched("gone", 1, 1)
    metrics.count_fetched("there", 1, 1)
    metrics.forget_other_topics({"there": None})
    assert 'topic="gone"' not in metrics.text() and 'topic="there"' in metrics.text()


def test_a_corrupt_batch_of_a_client_is_a_refusal_and_a_checksum_error() -> None:
    metrics = Metrics()
    metrics.count_rejected("CORRUPT_BATCH")
    metrics.count_rejected("NOT_LEADER")
    assert value_of(metrics, "lograft_produce_rejected_total", reason="NOT_LEADER") == 1
    assert value_of(metrics, "lograft_crc_errors_total", where="client") == 1


def test_checksum_errors_of_every_kind_are_there_from_the_beginning() -> None:
    # Else the first one would be no increase, and no alert would see it.
    for where in ("client", "peer", "disk"):
        assert value_of(Metrics(), "lograft_crc_errors_total", where=where) == 0


def test_calls_count_by_code_and_are_in_flight_in_between() -> None:
    metrics = Metrics()
    fetch = metrics.requests.api("Fetch")
    fetch.in_flight.inc()
    assert value_of(metrics, "lograft_requests_in_flight", api="Fetch") == 1
    fetch.in_flight.dec()
    fetch.ended("OK", 0.2)
    assert metrics.requests.api("Fetch") is fetch
    assert value_of(metrics, "lograft_requests_total", api="Fetch", code="OK") == 1
    assert value_of(metrics, "lograft_request_duration_seconds_count", api="Fetch") == 1


def test_what_replicas_count_is_told_by_topics_that_exist() -> None:
    metrics, counts = Metrics(), ReplicaCounts()
    metrics.storage.watch_counts(counts, {"id-1": "t"}.get)
    metrics.raft.watch_counts(counts)
    counts.note("campaigning")
    counts.note("campaigning")
    counts.note("leading")
    counts.note("leadership_lost")
    counts.dropped("id-1", 100)
    counts.dropped("id-of-a-deleted-one", 100)
    counts.recovery_cut_bytes, counts.cut_bytes, counts.resets = 5, 7, 2
    counts.damage_met()
    assert value_of(metrics, "lograft_raft_elections_total", result="begun") == 2
    assert value_of(metrics, "lograft_raft_elections_total", result="won") == 1
    assert value_of(metrics, "lograft_raft_resets_total") == 2
    assert value_of(metrics, "lograft_truncated_bytes_total", where="recovery") == 5
    assert value_of(metrics, "lograft_truncated_bytes_total", where="raft") == 7
    assert value_of(metrics, "lograft_crc_errors_total", where="disk") == 1
    assert value_of(metrics, "lograft_retention_deleted_bytes_total", topic="t") == 100
    assert "id-of-a-deleted-one" not in metrics.text()


@pytest.mark.parametrize("field", ["holes_filled", "holes_lost", "bytes", "failed_tries"])
def test_repairs_are_counters(field: str) -> None:
    metrics, repairs = Metrics(), RepairCounts()
    metrics.storage.watch_repairs(repairs)
    setattr(repairs, field, 3)
    assert value_of(metrics, f"lograft_repair_{field}_total") == 3


def test_collections_count_by_generation() -> None:
    metrics = Metrics()
    metrics.broker.collected(2, 0.15)
    assert value_of(metrics, "lograft_gc_pause_seconds_count", generation="2") == 1
    assert value_of(metrics, "lograft_gc_pause_seconds_count", generation="0") == 0


def test_a_collection_that_interrupts_the_counting_of_another_does_not_wait_for_itself() -> None:
    # prometheus_client's locks are not reentrant, and a collection may interrupt whoever holds one.
    metrics = Metrics()
    with metrics.broker._pauses[2]._sum._lock:
        metrics.broker.collected(2, 0.15)
    assert value_of(metrics, "lograft_gc_pause_seconds_count", generation="2") == 1
