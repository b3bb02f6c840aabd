"""The comparison with others: what their tools print is understood, and what follows from figures is right."""

from __future__ import annotations

import time

import pytest

from tests.bench.peers.figures import (
    END_TO_END,
    ONE_BY_ONE,
    PIPE,
    PRODUCE,
    READ,
    REQUESTS,
    Figure,
    Spread,
    against,
    latencies,
    percentile,
    rows,
    throughput,
)
from tests.bench.peers.report import NOTES, as_json, copies, table
from tests.bench.peers.tool_output import (
    Unreadable,
    kafka_consumer_performance,
    kafka_producer_performance,
    nats_bench,
    nats_bench_latencies,
)
from tests.bench.peers.turn import Plan, Trouble
from tests.bench.peers.work import Order, Supply

KAFKA_PRODUCED = """\
13560 records sent, 2710.9 records/sec (2.65 MB/sec), 11538.2 ms avg latency, 14597.0 ms max latency.
60000 records sent, 2153.007033 records/sec (2.10 MB/sec), 7789.99 ms avg latency, 14597.00 ms max latency, \
8925 ms 50th, 13393 ms 95th, 14200 ms 99th, 14466 ms 99.9th.
"""
STEADY = """\
40000 steady state records sent, 1802.451334 records/sec (1.76 MB/sec), 10109.87 ms avg latency, \
14597.00 ms max latency, 10181 ms 50th, 13765 ms 95th, 14256 ms 99th, 14513 ms 99.9th.
"""
KAFKA_CONSUMED = """\
start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, \
fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
2026-11-22 16:10:03:573, 2026-11-22 16:10:11:271, 59.0762, 7.6742, 60494, 7858.4048, 5503, 2195, 26.9140, 27559.9089
"""
NATS = """\
15:44:58 [1] Starting JetStream asynchronous publisher, publishing 50,000 messages

NATS JetStream asynchronous publisher stats: 52,692 msgs/sec ~ 5.0 MiB/sec ~ min: 4,532.57us ~ avg: 9,481.43us ~ \
max: 31,967.27us ~ P50: 8,481.72us ~ P90: 13,470.48us ~ P99: 20,327.16us ~ P99.9: 31,967.27us
"""


def test_kafkas_producer_tool_is_read_by_its_summary_and_mb_are_counted_anew() -> None:
    found = kafka_producer_performance(KAFKA_PRODUCED, 1024)
    assert found == {"records_per_s": 2153.007033, "mb_per_s": 2153.007033 * 1024 / 1e6, "records": 60000}


def test_kafkas_producer_tool_with_a_warm_up_is_read_by_what_came_after_it() -> None:
    assert kafka_producer_performance(KAFKA_PRODUCED + STEADY, 1024)["records_per_s"] == 1802.451334


def test_kafkas_consumer_tool_is_read_without_the_time_in_which_its_group_formed() -> None:
    found = kafka_consumer_performance(KAFKA_CONSUMED, 1024)
    assert found["records_per_s"] == 27559.9089 and found["records"] == 60494


def test_nats_bench_is_read_in_messages_and_its_latencies_in_milliseconds() -> None:
    assert nats_bench(NATS, 100) == {"records_per_s": 52692.0, "mb_per_s": pytest.approx(5.2692)}
    assert nats_bench_latencies(NATS) == {
        "p50_ms": pytest.approx(8.48172),
        "p90_ms": pytest.approx(13.47048),
        "p99_ms": pytest.approx(20.32716),
        "max_ms": pytest.approx(31.96727),
    }


@pytest.mark.parametrize(
    "read",
    [
        lambda text: kafka_producer_performance(text, 100),
        lambda text: kafka_consumer_performance(text, 100),
        lambda text: nats_bench(text, 100),
        nats_bench_latencies,
    ],
)
@pytest.mark.parametrize("text", ["", "nats: error: no servers available", "start.time, fetch.nMsg.sec\n"])
def test_output_without_figures_is_said_to_be_unreadable(read, text: str) -> None:
    with pytest.raises(Unreadable):
        read(text)


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.01, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0
    assert latencies([3.0, 1.0, 2.0])["p50_ms"] == 2.0


def produced(number: int, system: str, mb_per_s: float, *, size: int = 1024, client: str = "its client") -> Figure:
    values = throughput(int(mb_per_s * 1e6) // size, size, 1.0)
    return Figure(number, system, client, PRODUCE, size, {**values, "mb_per_s": mb_per_s})


def test_ratios_are_taken_within_a_round_and_then_their_median() -> None:
    figures = [
        produced(1, PIPE, 100.0, size=65536),
        produced(1, "ours", 50.0),
        produced(2, PIPE, 200.0, size=65536),
        produced(2, "ours", 50.0),
        produced(3, PIPE, 100.0, size=65536),
        produced(3, "ours", 90.0),
    ]
    _, ours = rows(figures, [PIPE, "ours"])
    assert ours.values["mb_per_s"] == Spread(median=50.0, least=50.0, most=90.0, rounds=3)
    assert ours.of_the_pipe == Spread(median=0.5, least=0.25, most=0.9, rounds=3)


def test_a_round_without_a_pipe_has_no_ratio_and_reading_never_has_one() -> None:
    read = Figure(1, "ours", "its client", READ, 100, throughput(10, 100, 1.0))
    figures = [produced(1, "ours", 50.0), produced(2, PIPE, 100.0, size=65536), produced(2, "ours", 80.0), read]
    of_pipe = {row.work: row.of_the_pipe for row in rows(figures, [PIPE, "ours"]) if row.system == "ours"}
    assert of_pipe[PRODUCE] == Spread(median=0.8, least=0.8, most=0.8, rounds=1)
    assert of_pipe[READ] is None


def test_one_record_at_a_time_is_compared_with_one_frame_of_the_same_size_at_a_time() -> None:
    figures = [
        Figure(1, PIPE, "one frame at a time", ONE_BY_ONE, 1024, latencies([1.0])),
        produced(1, PIPE, 100.0, size=65536),
        Figure(1, "ours", "its client", ONE_BY_ONE, 1024, latencies([2.5])),
    ]
    (ours,) = [row for row in rows(figures, [PIPE, "ours"]) if row.system == "ours"]
    assert ours.of_the_pipe is not None and ours.of_the_pipe.median == 2.5


def test_rows_stand_in_the_order_of_the_works_with_the_pipe_first() -> None:
    figures = [
        Figure(1, "ours", "its client", END_TO_END, 1024, latencies([2.5])),
        produced(1, "theirs", 10.0),
        produced(1, "ours", 50.0, client="the second way"),
        produced(1, "ours", 50.0, client="a later name"),
        produced(1, PIPE, 100.0, size=65536),
    ]
    assert [(row.work, row.system, row.client) for row in rows(figures, [PIPE, "ours", "theirs"])] == [
        (PRODUCE, PIPE, "its client"),
        (PRODUCE, "ours", "the second way"),
        (PRODUCE, "ours", "a later name"),
        (PRODUCE, "theirs", "its client"),
        (END_TO_END, "ours", "its client"),
    ]


KEEPS = {PIPE: "3 copies, fsync: no log", "ours": "R=3, fsync: by a majority", "theirs": "R=3, page cache: all"}


def test_the_table_names_medium_spread_ratio_what_was_left_out_and_what_failed() -> None:
    figures = [produced(1, PIPE, 100.0, size=65536), produced(1, "ours", 50.0), produced(2, "ours", 70.0)]
    figures.append(Figure(1, "theirs", "its client", END_TO_END, 1024, latencies([1.0, 2.0])))
    text = table(
        figures,
        systems=KEEPS,
        left_out={"another": "there is no java here"},
        troubles=[Trouble(2, "theirs", "read, 100 B", "not done within 180 s")],
    )
    (ours,) = [line for line in text.splitlines() if line.startswith("  ours") and "its client" in line]
    assert "R=3, fsync" in ours and "60.0 (50.0 to 70.0)" in ours and ours.rstrip().endswith("0.50")
    assert "end to end, 1 KiB records, 1,000 a second" in text
    assert "another          left out: there is no java here" in text
    assert "round 2, theirs: read, 100 B: not done within 180 s" in text


def test_the_json_holds_every_figure_and_the_notes_that_qualify_them() -> None:
    figures = [produced(1, PIPE, 100.0, size=65536), produced(1, "ours", 50.0)]
    found = as_json(
        figures, systems=KEEPS, left_out={"another": "why"}, troubles=[], facts={"machine": {"cores": 2}}, plan=Plan()
    )
    assert found["left_out"] == {"another": "why"} and found["machine"] == {"cores": 2}
    assert len(found["figures"]) == 2 and found["notes"] == list(NOTES)  # type: ignore[arg-type]


def test_what_a_system_keeps_begins_with_copies_and_medium() -> None:
    from tests.bench.peers.__main__ import SYSTEMS

    for system in SYSTEMS.values():
        assert copies(system.keeps) in ("R=3, fsync", "R=3, page cache"), system.name


def test_supply_ends_at_its_bytes_and_counts_what_it_gave() -> None:
    supply = Supply(Order(servers="", topic="t", record_bytes=1024, seconds=600.0, bytes_max=3 << 20))
    supply.start()
    given = 0
    while (chunk := supply.next()) is not None:
        given += len(chunk)
        assert {len(value) for value in chunk} == {1024}
    assert given == 3072 and supply.produced()["in_topic"] == 3073


def test_supply_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    supply = Supply(Order(servers="", topic="t", seconds=2.0))
    supply.start()
    assert supply.next() is not None
    now = 102.0
    assert supply.next() is None
    assert supply.produced()["seconds"] == 2.0


def test_two_systems_are_compared_within_a_round_by_the_same_client_at_the_same_work() -> None:
    def made(number: int, system: str, client: str, mb_per_s: float) -> Figure:
        return Figure(number, system, client, PRODUCE, 1024, {"mb_per_s": mb_per_s})

    figures = [
        *(made(1, "ours", "tool", 30.0), made(1, "theirs", "tool", 10.0)),
        *(made(2, "ours", "tool", 20.0), made(2, "theirs", "tool", 20.0)),
        *(made(3, "ours", "tool", 99.0), made(1, "ours", "its own client", 99.0)),
        Figure(1, "ours", "tool", REQUESTS, 100, {"records_per_s": 50.0}),
        Figure(1, "theirs", "tool", REQUESTS, 100, {"records_per_s": 100.0}),
    ]
    assert against(figures, "ours", "theirs") == [
        (PRODUCE, 1024, "tool", Spread(2.0, 1.0, 3.0, 2)),
        (REQUESTS, 100, "tool", Spread(0.5, 0.5, 0.5, 1)),
    ]
