"""No figure without what it was measured with."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
from lograft.client.bench.histogram import Histogram
from lograft.client.bench.machine import Machine, this_machine
from lograft.client.bench.merging import Bought, Figures
from lograft.client.bench.order import Order
from lograft.client.bench.report import Result, TopicFacts, as_json, as_text, progress_line
from lograft.client.bench.timeline import Amount

MACHINE = Machine(2, "AMD EPYC", "Linux 6.1", "CPython 3.11.7", 0.1, 8 << 30, "0.1.0")
TOPIC = TopicFacts("lograft-bench-1", True, False, 12, 3, "fsync", 3, True)


def latencies(*seconds: float) -> Histogram:
    histogram = Histogram()
    for one in seconds:
        histogram.record(one)
    return histogram


def figures(produced: Amount | None = None, consumed: Amount | None = None) -> Figures:
    return Figures(
        produced, consumed, latencies(0.001, 0.002), Histogram(), Histogram(), 0, 0, Bought("fsync", 2, 3), 1.5
    )


def a_result(order: Order | None = None, *, interrupted: bool = False, measured: Figures | None = None) -> Result:
    return Result(
        order or Order(kind="produce", seconds=10.0),
        TOPIC,
        MACHINE,
        measured or figures(Amount(1000, 1_024_000, 2.0)),
        interrupted,
    )


def test_json_has_rates_latencies_and_every_setting() -> None:
    told = json.loads(json.dumps(as_json(a_result())))
    assert (told["records_per_s"], told["mb_per_s"], told["seconds"]) == (500.0, 0.512, 2.0)
    assert told["latency_ms"]["acknowledged"] == {
        "p50": 1.0, "p90": 2.0, "p99": 2.0, "p99_9": 2.0, "max": 2.0, "count": 2,
    }  # fmt: skip
    assert told["latency_ms"]["end_to_end"] is None
    assert told["durability_seen"] == {"medium": "fsync", "copies": 2, "replicas": 3}
    assert told["machine"]["model"] == "AMD EPYC"
    assert told["lograft_version"] == "0.1.0"
    assert told["settings"]["size_bytes"] == 1024
    assert told["settings"]["acks"] == "quorum"


def test_every_setting_of_an_order_is_told_in_json() -> None:
    settings = as_json(a_result())["settings"]
    told_otherwise = {"kind", "keep", "payload_file", "rate", "size"}
    missing = set(Order.__struct_fields__) - set(settings) - told_otherwise
    assert not missing


def test_of_consume_the_figures_on_top_are_what_was_read() -> None:
    order = Order(kind="consume")
    told = as_json(a_result(order, measured=figures(consumed=Amount(10, 1000, 1.0))))
    assert (told["records_per_s"], told["produced"]) == (10.0, None)


def test_the_table_says_machine_durability_replicas_and_sizes_beside_the_figures() -> None:
    text = as_text(a_result())
    for said in (
        "500", "0.5", "AMD EPYC", "Linux 6.1", "CPython 3.11.7", "3 brokers on this machine", "lograft 0.1.0",
        "12 partitions, 3 replicas, durability fsync", "1 KiB, random, compression none", "linger 5 ms",
        "up to 1 MiB", "every acknowledgement said fsync x 2 of 3 or more", "1 producing process",
        "10 s, after 2 s of warm-up",
    ):  # fmt: skip
        assert said in text


def test_a_result_that_was_interrupted_says_so_first() -> None:
    result = a_result(interrupted=True)
    assert as_text(result).startswith("interrupted: this is what was measured so far")
    assert as_json(result)["interrupted"] is True


def test_a_run_that_ended_within_its_warm_up_has_no_rate() -> None:
    nothing = replace(figures(), acknowledged=Histogram())
    assert "nothing was measured" in as_text(a_result(interrupted=True, measured=nothing))
    assert as_json(a_result(interrupted=True, measured=nothing))["records_per_s"] is None


def test_what_makes_a_figure_doubtful_is_noted() -> None:
    def notes(result: Result) -> str:
        return " ".join(result.all_notes)

    order = Order(kind="latency", seconds=1.0, rate=1000.0)
    assert notes(a_result(order)) == ""
    behind = replace(figures(Amount(1, 1, 1.0)), not_sent=5, unanswered=3)
    assert "5 records were due and could not be handed over" in notes(a_result(order, measured=behind))
    assert "3 records had no answer yet" in notes(a_result(order, measured=behind))
    late = replace(figures(Amount(1, 1, 1.0)), late=latencies(0.05))
    assert "handed over late by the clients themselves (p99 50.0 ms" in notes(a_result(order, measured=late))
    busy = replace(a_result(order), machine=replace(MACHINE, load=3.0))
    assert "the machine was busy before the run (load 3.0)" in notes(busy)
    assert "closed loop" in notes(a_result())
    many = msgspec.structs.replace(order, clients=2)
    assert "2 clients and the brokers share 2 CPUs" in notes(a_result(many))
    assert "nothing was acknowledged" in notes(a_result(msgspec.structs.replace(order, acks="none")))


def test_what_was_read_and_how_clients_worked_is_told_for_each_kind() -> None:
    mixed = Order(kind="mixed", seconds=1.0, clients=2, consumers=3, groups=2)
    assert "2 producing processes, up to 64 MiB in flight each, 3 consuming processes in each of 2 groups" in as_text(
        a_result(mixed)
    )
    assert "all there was, from the start of the log" in as_text(a_result(Order(kind="consume", warmup_s=0.0)))
    one = Order(kind="latency", records=10, one_at_a_time=True, warmup_s=0.0)
    assert "10 records, as fast as they were taken" in as_text(a_result(one))


def test_how_many_processes_an_order_takes() -> None:
    assert Order(kind="mixed", clients=2, consumers=3, groups=2).workers == 8
    assert Order(kind="mixed", clients=2, consumers=3).workers == 5
    assert Order(kind="latency", clients=2, apart=True).workers == 4
    assert Order(kind="latency", clients=2).workers == 2


def test_a_line_of_progress_has_both_rates_and_the_p99_of_that_second() -> None:
    line = progress_line(3, Amount(1500, 1_500_000, 1.0), latencies(0.002), warm=True, what="acknowledged")
    assert line.split() == ["3", "s", "1,500", "records/s", "1.5", "MB/s", "acknowledged", "p99", "2.0", "ms"]
    assert "(warm-up)" in progress_line(1, Amount(0, 0, 1.0), Histogram(), warm=False, what="read")


def test_this_machine_is_known() -> None:
    machine = this_machine()
    assert machine.cpus >= 1
    assert all((machine.model, machine.system, machine.python, machine.lograft, machine.memory_bytes))
