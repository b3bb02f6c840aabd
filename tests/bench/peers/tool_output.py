"""What the others' own tools print, as values. Pure.

    kafka-producer-perf-test  the summary: its last line that names percentiles
    kafka-consumer-perf-test  one line of values separated by commas, under a line of their names
    nats bench                one line: `... stats: 52,692 msgs/sec ~ 5.0 MiB/sec ~ ... ~ P99: 20,327.16us`

Raises
    Unreadable  what should be there is not
"""

from __future__ import annotations

import re
from itertools import pairwise


class Unreadable(Exception):
    """A tool's output is not as it was when this was written."""


_KAFKA_PRODUCED = re.compile(
    r"^(\d+) (?:steady state )?records sent, ([\d.]+) records/sec \(([\d.]+) MB/sec\), .* 99th", re.MULTILINE
)
_NATS = re.compile(r"stats: ([\d,]+) msgs/sec ~ (.*)$", re.MULTILINE)
_NATS_TIME = re.compile(r"(avg|max|P50|P90|P99): ([\d.,]+)us")


def kafka_producer_performance(output: str, record_bytes: int) -> dict[str, float]:
    """Of several summaries (the tool repeats itself without the warm-up) the last. Its "MB" are MiB: counted anew."""
    found = _KAFKA_PRODUCED.findall(output)
    if not found:
        raise Unreadable(f"kafka-producer-perf-test printed no summary: {_end_of(output)}")
    records, per_second, _ = found[-1]
    return _throughput(float(per_second), record_bytes, records=float(records))


def kafka_consumer_performance(output: str, record_bytes: int) -> dict[str, float]:
    """By `fetch.nMsg.sec`: without the time in which the group shared out partitions."""
    lines = [[cell.strip() for cell in line.split(",")] for line in output.splitlines()]
    for names, cells in pairwise(lines):
        if "fetch.nMsg.sec" in names and len(cells) == len(names):
            values = dict(zip(names, cells, strict=True))
            return _throughput(
                float(values["fetch.nMsg.sec"]), record_bytes, records=float(values["data.consumed.in.nMsg"])
            )
    raise Unreadable(f"kafka-consumer-perf-test printed no table: {_end_of(output)}")


def nats_bench(output: str, record_bytes: int) -> dict[str, float]:
    per_second, _ = _nats_line(output)
    return _throughput(per_second, record_bytes)


def nats_bench_latencies(output: str) -> dict[str, float]:
    _, rest = _nats_line(output)
    times = {name.lower(): float(value.replace(",", "")) / 1000 for name, value in _NATS_TIME.findall(rest)}
    if not {"p50", "p99"} <= times.keys():
        raise Unreadable(f"nats bench printed no percentiles: {_end_of(output)}")
    return {f"{name}_ms": times[name] for name in ("p50", "p90", "p99", "max") if name in times}


def _nats_line(output: str) -> tuple[float, str]:
    found = _NATS.findall(output)
    if not found:
        raise Unreadable(f"nats bench printed no figures: {_end_of(output)}")
    per_second, rest = found[-1]
    return float(per_second.replace(",", "")), rest


def _throughput(per_second: float, record_bytes: int, **more: float) -> dict[str, float]:
    return {"records_per_s": per_second, "mb_per_s": per_second * record_bytes / 1e6, **more}


def _end_of(output: str) -> str:
    return repr(output.strip()[-200:])
