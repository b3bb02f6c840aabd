"""A run's result: as JSON for programs, as a table for people. Pure.

Always
    no figure stands without the settings it was measured with
    bytes are those of users' values, before compression; a MB is 10^6 of them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .histogram import PERCENTILES, Histogram
from .machine import Machine
from .merging import Figures
from .order import Order
from .timeline import Amount
from .units import shown_size


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """The topic of a run, as it is."""

    name: str
    made: bool
    """By this run."""
    kept: bool
    partitions: int
    replicas: int
    durability: str
    brokers: int
    brokers_here: bool
    """All of them on this machine."""


@dataclass(frozen=True, slots=True)
class Result:
    """All that a run has to say."""

    order: Order
    topic: TopicFacts
    machine: Machine
    figures: Figures
    interrupted: bool
    notes: tuple[str, ...] = ()

    @property
    def all_notes(self) -> list[str]:
        return [*self.notes, *self.figures.notes, *_notes(self)]


def _notes(result: Result) -> list[str]:
    figures, order = result.figures, result.order
    notes = []
    if result.machine.load > result.machine.cpus / 2:
        notes.append(
            f"the machine was busy before the run (load {result.machine.load}): figures are lower than they could be"
        )
    if result.topic.brokers_here and order.workers > 1 and order.workers >= result.machine.cpus:
        notes.append(f"{order.workers} clients and the brokers share {result.machine.cpus} CPUs")
    if figures.not_sent:
        notes.append(
            f"{figures.not_sent:,} records were due and could not be handed over in time: the rate asked for was not "
            "reached, and latencies are at least as told"
        )
    if figures.unanswered:
        notes.append(f"{figures.unanswered:,} records had no answer yet; their latency is at least as told")
    if order.rate is not None and figures.late.count and figures.late.percentile_us(99) > 5_000:
        late_ms = figures.late.percentile_us(99) / 1000
        notes.append(
            f"records were handed over late by the clients themselves (p99 {late_ms:.1f} ms, part of the latencies): "
            "use more clients, or a machine that is not busy"
        )
    if order.acks == "none":
        notes.append("acks=none: nothing was acknowledged; what counts is what was handed to the connection")
    if order.kind != "consume" and order.rate is None and figures.acknowledged.count:
        what = (
            "each record waits for the one before" if order.one_at_a_time else "latencies hold the queue at full load"
        )
        notes.append(f"closed loop: {what}; `--rate`, or `lograft bench latency`, measures at a steady rate")
    return notes


# For programs --------------------------------------------------------------------------------------------------------


def as_json(result: Result) -> dict[str, Any]:
    """One document. `records_per_s` and `mb_per_s` are of what the run is named after; of mixed, what was produced."""
    figures, order, topic = result.figures, result.order, result.topic
    main = figures.consumed if order.kind == "consume" else figures.produced
    return {
        "bench": order.kind,
        "interrupted": result.interrupted,
        "records_per_s": round(main.records_per_s, 1) if main else None,
        "mb_per_s": round(main.mb_per_s, 3) if main else None,
        "seconds": round(main.seconds, 3) if main else None,
        "records": main.records if main else 0,
        "produced": _amount(figures.produced),
        "consumed": _amount(figures.consumed),
        "latency_ms": {
            "acknowledged": _latency(figures.acknowledged),
            "end_to_end": _latency(figures.end_to_end),
            "handed_over_late": _latency(figures.late),
        },
        "not_sent": figures.not_sent,
        "unanswered": figures.unanswered,
        "durability_seen": asdict(figures.weakest) if figures.weakest else None,
        "client_cpu_s": round(figures.cpu_s, 3),
        "settings": {
            "topic": topic.name,
            "topic_made": topic.made,
            "topic_kept": topic.kept,
            "partitions": topic.partitions,
            "replicas": topic.replicas,
            "durability": topic.durability,
            "acks": order.acks,
            "idempotent": order.idempotent,
            "size_bytes": order.size,
            "payload": order.payload_file if order.payload == "file" else order.payload,
            "compression": order.compression,
            "batch_bytes": order.batch_bytes,
            "linger_ms": order.linger_ms,
            "in_flight_bytes": order.in_flight_bytes,
            "one_by_one": order.one_by_one,
            "one_at_a_time": order.one_at_a_time,
            "rate_per_s": order.rate,
            "clients": order.clients,
            "consumers": order.consumers if order.kind == "mixed" else None,
            "groups": order.groups if order.kind == "mixed" else None,
            "apart": order.apart if order.kind == "latency" else None,
            "warmup_s": order.warmup_s,
            "seconds": order.seconds,
            "records": order.records,
        },
        "cluster": {"brokers": topic.brokers, "on_this_machine": topic.brokers_here},
        "machine": {name: value for name, value in asdict(result.machine).items() if name != "lograft"},
        "lograft_version": result.machine.lograft,
        "notes": result.all_notes,
    }


def _amount(amount: Amount | None) -> dict[str, float | int] | None:
    if amount is None:
        return None
    return {
        "records_per_s": round(amount.records_per_s, 1),
        "mb_per_s": round(amount.mb_per_s, 3),
        "seconds": round(amount.seconds, 3),
        "records": amount.records,
        "bytes": amount.bytes,
    }


def _latency(histogram: Histogram) -> dict[str, float | int] | None:
    return histogram.summary_ms() if histogram.count else None


# For people ----------------------------------------------------------------------------------------------------------


def as_text(result: Result) -> str:
    """The figures, then what they were measured with, then what has to be known about them."""
    figures, order = result.figures, result.order
    parts = []
    if result.interrupted:
        parts.append("interrupted: this is what was measured so far")
    rates = [
        (
            name,
            f"{amount.records_per_s:,.0f}",
            f"{amount.mb_per_s:,.1f}",
            f"{amount.seconds:.2f}",
            f"{amount.records:,}",
        )
        for name, amount in (("produced", figures.produced), ("consumed", figures.consumed))
        if amount is not None and (name == "consumed" or order.kind != "consume")
    ]
    if rates:
        parts.append(_figures(("", "RECORDS/S", "MB/S", "SECONDS", "RECORDS"), rates))
    else:
        parts.append("nothing was measured: it ended within the warm-up")
    latencies = [
        (name, *(f"{summary[key]:.2f}" for key in (*PERCENTILES, "max")), f"{summary['count']:,}")
        for name, summary in (
            ("acknowledged", figures.acknowledged.summary_ms()),
            ("end to end", figures.end_to_end.summary_ms()),
        )
        if summary["count"]
    ]
    if latencies:
        parts.append(_figures(("LATENCY, MS", "P50", "P90", "P99", "P99.9", "MAX", "RECORDS"), latencies))
    parts.append("\n".join(f"{name:<11}{text}" for name, text in _settings(result)))
    if notes := result.all_notes:
        parts.append("\n".join(f"note: {note}" for note in notes))
    return "\n\n".join(parts)


def _figures(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Figures, to the right under their titles, after a name."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))])
        for name, *cells in (titles, *rows)
    ]
    return "\n".join(lines)


def _settings(result: Result) -> list[tuple[str, str]]:
    order, topic, machine = result.order, result.topic, result.machine
    where = "on this machine" if topic.brokers_here else "elsewhere"
    fate = "" if not topic.made else ", made for this run and kept" if topic.kept else ", made for this run and deleted"
    lines = [
        ("cluster", f"{_count(topic.brokers, 'broker')} {where}, lograft {machine.lograft}"),
        (
            "topic",
            f"{topic.name}{fate}: {_count(topic.partitions, 'partition')}, {_count(topic.replicas, 'replica')}, "
            f"durability {topic.durability}",
        ),
    ]
    payload = order.payload_file if order.payload == "file" else order.payload
    if order.kind != "consume":
        bought = f"; every acknowledgement said {result.figures.weakest} or more" if result.figures.weakest else ""
        lines += [
            ("records", f"{shown_size(order.size)}, {payload}, compression {order.compression}"),
            ("batches", f"up to {shown_size(order.batch_bytes)}, linger {order.linger_ms:g} ms"),
            ("acks", f"{order.acks}{bought if order.acks != 'none' else ''}"),
        ]
    elif topic.made:
        lines.append(("records", f"{shown_size(order.size)}, {payload}, compression {order.compression}"))
    lines += [("clients", _clients(order)), ("measured", _measured(order))]
    lines.append(
        ("machine", f"{machine.cpus} x {machine.model}, {machine.system}, {machine.python}, load {machine.load} before")
    )
    return lines


def _clients(order: Order) -> str:
    match order.kind:
        case "consume":
            return _count(order.clients, "process")
        case "mixed":
            how = f"in each of {_count(order.groups, 'group')}" if order.groups else "without a group"
            readers = f", {_count(order.consumers, 'consuming process')} {how}"
        case "latency":
            readers = ", as many consuming processes" if order.apart else ", which consume as well"
        case "produce":
            readers = ""
    how_sent = ", one at a time" if order.one_at_a_time else ", a call for each record" if order.one_by_one else ""
    return (
        f"{_count(order.clients, 'producing process')}{how_sent}, up to {shown_size(order.in_flight_bytes)} in flight "
        f"each{readers}"
    )


def _measured(order: Order) -> str:
    what = []
    if order.records is not None:
        what.append(_count(order.records, "record"))
    if order.seconds is not None:
        what.append(f"{order.seconds:g} s")
    warm = f", after {order.warmup_s:g} s of warm-up" if order.warmup_s else ""
    if order.kind == "consume":
        return f"{' or '.join(what) or 'all there was'}{warm}, from the start of the log"
    pace = (
        f"{order.rate:,.12g} records/s, whatever the answers do"
        if order.rate is not None
        else "as fast as they were taken"
    )
    return f"{' or '.join(what)}{warm}, {pace}"


def _count(number: int, noun: str) -> str:
    plural = noun if number == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {plural}"


def progress_line(elapsed_s: float, amount: Amount, latency: Histogram, *, warm: bool, what: str) -> str:
    """The line of one second, for a terminal."""
    p99 = f"   p99 {latency.percentile_us(99) / 1000:,.1f} ms" if latency.count else ""
    rates = f"{amount.records_per_s:>12,.0f} records/s {amount.mb_per_s:>9,.1f} MB/s"
    return f"{elapsed_s:5.0f} s  {rates} {what}{p99}{'' if warm else '   (warm-up)'}"
