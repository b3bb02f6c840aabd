"""What a comparison found, as a table to read and as JSON to keep. Pure, but for the facts of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil

from .figures import (
    END_TO_END,
    MAIN_VALUE,
    PIPE,
    PRODUCE,
    READ,
    REQUESTS,
    WORKS,
    Figure,
    Row,
    Spread,
    against,
    rows,
)
from .turn import Plan, Trouble

NOTES = (
    "One system's servers run at a time, started afresh in each turn and warmed up (Kafka four times as long, since "
    "its code is compiled while it runs). Those that differ by a topic's setting alone share servers, in changing "
    "order. Turns go A B C, A B C. Dirty pages are written back before each work, so that none pays for another's; "
    "that favours those that leave syncing to the kernel.",
    "Who syncs before it acknowledges: lograft by default, and the bare pipe. Kafka, NATS and RabbitMQ's streams by "
    "default do not: they answer from the page caches of several machines, which here are one machine. kafka-fsync "
    "and nats-fsync are told to sync, lograft-memory is told not to.",
    "Batching: lograft's client gathers up to 1 MiB or 5 ms a partition, confluent-kafka (librdkafka) up to 1 MB or "
    "5 ms, Kafka's Java client 16 KiB or 5 ms (its tool runs with 1 MiB too). NATS sends each message by itself "
    "(`pub fast` has several acknowledged at once) and stores no batches. rstream is handed up to 256 KiB at a "
    "time.",
    "In flight: 64 MiB with lograft, with both Kafka clients and the bare pipe; with NATS what its tools have by "
    "default (4,000 messages in nats-py, 500 in nats bench), and with RabbitMQ 10,000 messages (the default of its "
    "Java client).",
    "Shape: 12 partitions with lograft and Kafka, 12 files a node with the bare pipe; with NATS and RabbitMQ one "
    "stream, which is what their documentation begins with: one leader, where the others have twelve.",
    "Producers are idempotent with lograft and Kafka, not with NATS and RabbitMQ. Nothing is compressed; payloads "
    "are random (Kafka's tool: random letters; nats bench: its own).",
    "Reads are of what was just produced, so from the page cache, with all. A Python reader takes each value in hand.",
    "End to end: sender and reader are two Python processes; open loop, each latency counted from when the record "
    "was due, so that a stall counts for all that it delayed. One by one: the next once the one before is "
    "acknowledged.",
    "RabbitMQ's own tool (stream-perf-test) is not run. Of lograft there is no tool beside its Python client here.",
    "Clients, tools and all three servers share this machine's cores: what a server saves, its client has.",
)


def machine(data: Path, file_system: str) -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "data": str(data),
        "file_system": file_system,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def as_json(
    figures: Sequence[Figure],
    *,
    systems: Mapping[str, str],
    left_out: Mapping[str, str],
    troubles: Iterable[Trouble],
    facts: Mapping[str, object],
    plan: Plan,
) -> dict[str, object]:
    """`systems`: name to what its acknowledgement means, in the order of a round."""
    return {
        **facts,
        "plan": asdict(plan),
        "systems": dict(systems),
        "left_out": dict(left_out),
        "troubles": [asdict(trouble) for trouble in troubles],
        "rows": [row.as_json() for row in rows(figures, list(systems))],
        "notes": list(NOTES),
        "figures": [asdict(figure) for figure in figures],
    }


def table(
    figures: Sequence[Figure],
    *,
    systems: Mapping[str, str],
    left_out: Mapping[str, str],
    troubles: Sequence[Trouble] = (),
) -> str:
    """All works, one block each; median and, where there were several rounds, (least to most)."""
    found = rows(figures, list(systems))
    blocks = []
    for work in WORKS:
        for size in sorted({row.record_bytes for row in found if row.work == work and row.system != PIPE}):
            chosen = [row for row in found if row.work == work and belongs(row, work, size)]
            blocks.append(_block(work, size, chosen, systems))
    legend = [f"  {name:16} {keeps}" for name, keeps in systems.items()]
    out = [f"  {name:16} left out: {why}" for name, why in left_out.items()]
    failed = [f"  round {each.round}, {each.system}: {each.what}: {each.why}" for each in troubles]
    parts = [*blocks, "What an acknowledgement means\n" + "\n".join([*legend, *out])]
    if failed:
        parts.append("Not measured\n" + "\n".join(failed))
    return "\n\n".join(parts)


def ratios(figures: Sequence[Figure], one: str, other: str) -> str:
    """One system's median over another's, round by round: more is better but for times."""
    lines = [
        f"  {work + ', ' + size_of(size):24} {client:48} {MAIN_VALUE[work]:14} {_spread(spread, '{:.2f}')}"
        for work, size, client, spread in against(figures, one, other)
    ]
    return "\n".join([f"{one} over {other}, in the same round (of latencies less is better)", *lines])


def copies(keeps: str) -> str:
    """How many, and on what: what stands before the colon in what a system keeps."""
    return keeps.partition(":")[0]


def belongs(row: Row, work: str, size: int) -> bool:
    return row.record_bytes == size or (row.system == PIPE and work == PRODUCE)


def _block(work: str, size: int, chosen: Sequence[Row], systems: Mapping[str, str]) -> str:
    if work in (PRODUCE, READ, REQUESTS):
        title = f"{work}, {size_of(size)} records" + (", one each" if work == REQUESTS else "")
        heads = ("", "copies, medium", "by", "records/s", "MB/s", "of the pipe", "CPU us/record: client, servers")
        lines = [_throughput_line(row, copies(systems[row.system])) for row in chosen]
    else:
        title = f"{work}, {size_of(size)} records" + (", 1,000 a second" if work == END_TO_END else ", acknowledged")
        heads = ("", "copies, medium", "by", "p50 ms", "p99 ms", "of the pipe")
        lines = [
            (
                *(row.system, copies(systems[row.system]), row.client),
                *(_ms(row.values["p50_ms"]), _ms(row.values["p99_ms"]), _ratio(row)),
            )
            for row in chosen
        ]
    widths = [max(len(line[column]) for line in (heads, *lines)) for column in range(len(heads))]

    def line_of(cells: Sequence[str]) -> str:
        return (
            "  "
            + "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
        )

    return "\n".join([title, line_of(heads), *(line_of(line) for line in lines)])


def _throughput_line(row: Row, kept: str) -> tuple[str, ...]:
    values = row.values
    frames = row.system == PIPE
    return (
        row.system,
        kept,
        row.client,
        "" if frames else _spread(values["records_per_s"], "{:,.0f}"),
        _spread(values["mb_per_s"], "{:,.1f}"),
        _ratio(row),
        "" if frames else _cpu(values),
    )


def _cpu(values: Mapping[str, Spread]) -> str:
    """Of the medians; the client's is not known of a tool."""
    if "server_cpu_s" not in values or not values["records"].median:
        return ""
    each = [
        f"{values[name].median / values['records'].median * 1e6:.2f}" if name in values else "?"
        for name in ("client_cpu_s", "server_cpu_s")
    ]
    return ", ".join(each)


def _spread(spread: Spread, form: str) -> str:
    text = form.format(spread.median)
    return text if spread.rounds == 1 else f"{text} ({form.format(spread.least)} to {form.format(spread.most)})"


def _ms(spread: Spread) -> str:
    return _spread(spread, "{:.2f}")


def _ratio(row: Row) -> str:
    return _spread(row.of_the_pipe, "{:.2f}") if row.of_the_pipe else ""


def size_of(size: int) -> str:
    return f"{size >> 10} KiB" if size >= 1024 and size % 1024 == 0 else f"{size} B"
