"""The verdict on a history: every event past everybody who judges it, once; then what they found.

    verdict = judge(["history.jsonl"])
    verdict.ok, verdict.rows, verdict.as_json()

Linear in time, but for sorting. Memory: each value, and where it stands, about 300 bytes a record sent and read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bounds import Bounds
from .groups import Groups
from .history import KINDS, NOTES, Event, History
from .liveness import DEAD_AFTER_S, Liveness
from .places import Places
from .reads import Reads
from .replicas import Replicas
from .rows import RULES, Row, Rows
from .sends import SendOrder, Sends
from .topics import Topics

_Handler = Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, row by row."""

    history: History
    rows: Rows
    liveness: Liveness
    lag_s_worst: float
    lag_of: str
    notes: list[str]

    @property
    def ok(self) -> bool:
        return not any(row.failed for row in self.rows)

    @property
    def applying(self) -> int:
        """How many rows the history could be held against. If none, `ok` says nothing."""
        return sum(1 for row in self.rows if row.judged or row.count)

    @property
    def failing(self) -> list[Row]:
        return [row for row in self.rows if row.failed]

    def as_json(self) -> dict[str, Any]:
        seen = self.liveness
        return {
            "ok": self.ok and self.applying > 0,
            "rows_applying": self.applying,
            "files": self.history.paths,
            "events": seen.events,
            "seconds": round(seen.last_t - (seen.first_t or 0.0), 6) if seen.events else 0.0,
            "records": {
                "sent": seen.records_sent,
                "acknowledged": seen.records_acknowledged,
                "read_offsets": seen.records_read,
            },
            "rows": [
                {
                    "name": row.name,
                    "rule": RULES[row.name],
                    "verdict": row.verdict,
                    "judged": row.judged,
                    "found": row.count,
                    "examples": [{"text": example.text, **example.facts} for example in row.told()],
                }
                for row in self.rows
            ],
            "counts": {f: dict(counts) for f, counts in sorted(seen.counts.items())},
            "faults": dict(sorted(seen.faults.items())),
            "recoveries": [
                {"after": one.after, "healed_s": one.healed_s, "took_s": one.took_s} for one in seen.recoveries
            ],
            "longest_silence_s": seen.longest_silence_s,
            "lag_s_worst": self.lag_s_worst,
            "lag_of": self.lag_of,
            "notes": self.notes,
        }


def judge(
    paths: Iterable[Path | str],
    *,
    dead_after_s: float = DEAD_AFTER_S,
    progress: Callable[[int], None] | None = None,
) -> Verdict:
    """Judge the history in these files. `progress` is told now and then how many events were seen.

    Raises
        BadHistory   a file cannot be judged
        OSError      a file cannot be read
    """
    history = History(paths)
    rows = Rows()
    sends = Sends(history)
    order = SendOrder(sends, rows, idempotent=history.idempotent, atomic=history.atomic_sends)
    places = Places(history, sends, order, rows)
    reads = Reads(history, places, rows)
    bounds = Bounds(history, sends, places, rows)
    groups = Groups(history, places, rows)
    topics = Topics(history, sends, places, reads, rows)
    replicas = Replicas(history, places, rows)
    liveness = Liveness(history, rows, dead_after_s)

    begins: dict[str, tuple[_Handler, ...]] = {
        "send": (places.sending,),
        "poll": (reads.polling,),
        "store": (groups.storing,),
        "read_all": (reads.reading_all,),
        "create_topic": (topics.creating,),
        "delete_topic": (topics.deleting,),
    }
    ends: dict[str, tuple[_Handler, ...]] = {
        "send": (places.sent,),
        "assign": (reads.assigned,),
        "seek": (reads.assigned,),
        "subscribe": (reads.restarted, groups.subscribed),
        "own": (reads.owns, groups.owns),
        "poll": (topics.polled, reads.polled),
        "store": (groups.stored,),
        "fetch_stored": (groups.fetched,),
        "process": (groups.processed,),
        "ends": (bounds.told,),
        "read_all": (topics.read_all, bounds.read_all, reads.read_all),
        "replica": (replicas.told,),
        "create_topic": (topics.created,),
        "delete_topic": (topics.deleted,),
        "list_topics": (topics.listed,),
        "crash": (reads.restarted,),
    }
    who_begins = {KINDS[f]: handlers for f, handlers in begins.items()}
    who_ends = {KINDS[f]: handlers for f, handlers in ends.items()}
    names = {kind: f for f, kind in KINDS.items()}
    notes = {KINDS[f] for f in NOTES}

    open_ops: dict[tuple[int, int], Event] = {}
    for event in history.events():
        kind = event.__class__
        if event.type == "invoke":
            begun = open_ops[event.file, event.op] = event
            handlers = who_begins.get(kind, ())
        else:
            begun = event if kind in notes else open_ops.pop((event.file, event.op))
            handlers = who_ends.get(kind, ())
        for handler in handlers:
            handler(event, begun)
        liveness.see(event, begun, names[kind])
        if progress is not None and not event.seq % 20_000:
            progress(event.seq)

    order.finish(places.value_at)
    places.finish()
    reads.finish()
    groups.finish()
    replicas.finish()
    liveness.finish()
    for event in open_ops.values():
        liveness.counts[names[event.__class__]]["info"] += 1
    liveness.records_read = sum(len(log.read) for log in places.logs.values())
    return Verdict(
        history, rows, liveness, places.lag_s_worst, places.lag_of, _notes(history, rows, places, topics, replicas)
    )


def _notes(history: History, rows: Rows, places: Places, topics: Topics, replicas: Replicas) -> list[str]:
    """What a reader of the verdict should know of what was not judged."""
    notes = list(history.notes)
    deleted = sorted(topics.deletions)
    for topic in deleted:
        for row in rows:
            if row.name != "metadata":
                row.forget(topic)
    if deleted:
        notes.append(f"deleted while the history ran, and so judged by `metadata` alone: {_few(deleted)}")
    compacted = sorted({log.topic for log in places.logs.values() if log.compacted})
    if compacted:
        notes.append(f"compacted, so that what is missing is not told: {_few(compacted)}")
    if rows["unseen"].judged:
        without = sorted(
            name for name, log in places.logs.items() if log.final is None and not log.finals_open and log.unread
        )
        if without:
            notes.append(f"no final read, so that an end that was lost is not seen: {_few(without)}")
    elif any(log.unread for log in places.logs.values()):
        notes.append("no final read (`read_all`): acknowledged records behind the last that was read are not judged")
    late = {name: log.unjudged for name, log in places.logs.items() if log.unjudged and log.topic not in deleted}
    if late:
        notes.append(
            f"{sum(late.values())} records were acknowledged after the final read had begun, are not in it, and are "
            f"not judged: {_few(sorted(late))}"
        )
    if replicas.lagging:
        lagging = _few(sorted(replicas.lagging))
        notes.append(f"replicas that know less committed than others, and are judged up to there only: {lagging}")
    for name, why in sorted(places.beyond.items()):
        if places.logs[name].topic not in deleted:
            notes.append(f"{why}: whether what is missing was forgotten or lost cannot be told")
    return notes


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
