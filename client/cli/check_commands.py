"""`check history`: did a log keep its word, by what applications saw?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .endings import FAILED, WRONG_USAGE, Ended, say
from .local_commands import OutputOption
from .tables import OutputFormat

if TYPE_CHECKING:
    from ..check.verdict import Verdict


def history(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="One, or one for each process that wrote.")],
    dead_after: Annotated[
        float,
        typer.Option("--dead-after", metavar="SECONDS", help="Silence for longer, with nothing wrong, fails.", min=0.1),
    ] = 10.0,
    output: OutputOption = OutputFormat.text,
) -> None:
    """Judge a history: what applications sent, read, stored and were told, against what a log promises.

    \b
      lograft check history run.jsonl
      lograft check history producers.jsonl consumers.jsonl      merged by their times
      lograft check history run.jsonl -o json

    A history is JSON lines, a header and then an event a line:

    \b
      {"lograft_history": 1, "idempotent": true}
      {"t": 0.10, "process": "p", "op": 1, "f": "send", "type": "invoke", "topic": "t", "values": ["v1"]}
      {"t": 0.12, "process": "p", "op": 1, "f": "send", "type": "ok", "partition": 0, "offsets": [0]}
      {"t": 0.13, "process": "c", "op": 2, "f": "poll", "type": "invoke"}
      {"t": 0.15, "process": "c", "op": 2, "f": "poll", "type": "ok", "records": [["t/0", 0, "v1", 1]]}

    An end is `ok`, `fail` (it surely did not happen) or `info` (nobody knows); a time-out is never `fail`. Each row of
    the verdict is a promise: ok, FAIL with examples, or not applicable where the history says nothing of it. See
    docs/history.md for all events and rows; `lograft.client.check.history.Recorder` writes such files.

    Exit code: 0 nothing found, 1 a row fails, 2 a file that cannot be judged, or holds nothing to judge.
    """
    from ..check.history import BadHistory
    from ..check.verdict import judge
    from .tables import show, show_json

    bar = _Progress()
    try:
        verdict = judge(files, dead_after_s=dead_after, progress=bar.show if sys.stderr.isatty() else None)
    except BadHistory as error:
        bar.clear()
        say(f"lograft: {error}")
        raise Ended(WRONG_USAGE) from None
    except OSError as error:
        bar.clear()
        say(f"lograft: {error.filename}: {error.strerror}; name the files that a Recorder wrote")
        raise Ended(WRONG_USAGE) from None
    bar.clear()
    if output is OutputFormat.json:
        show_json(verdict.as_json())
    else:
        show(told(verdict))
    if not verdict.ok:
        raise Ended(FAILED)
    if not verdict.applying:
        say("lograft: nothing in this history can be judged; record sends and a final read (docs/history.md)")
        raise Ended(WRONG_USAGE)


def told(verdict: Verdict) -> str:
    """A verdict for people."""
    from ..check.rows import RULES
    from .tables import columns, count

    seen = verdict.liveness
    duration_s = seen.last_t - (seen.first_t or 0.0) if seen.events else 0.0
    rows = [(row.name, row.verdict, row.judged, row.count or "-", RULES[row.name]) for row in verdict.rows]
    lines = [columns(("ROW", "VERDICT", "JUDGED", "FOUND", "WHAT MUST HOLD"), rows), ""]
    for row in verdict.rows:
        if row.count:
            lines.append(f"{row.name}: {row.count:,} found")
            lines += [f"  {example.text}" for example in row.told()]
            lines.append("")
    counts = [
        (f, counts["invoke"] or "-", counts["ok"], counts["fail"], counts["info"])
        for f, counts in sorted(seen.counts.items())
    ]
    lines += [columns(("WHAT", "ASKED", "OK", "FAIL", "INFO"), counts), ""]
    lines.append(
        f"{count(seen.events, 'event')} in {duration_s:.1f} s; {count(seen.records_sent, 'record')} sent, "
        f"{seen.records_acknowledged:,} acknowledged, {seen.records_read:,} read"
    )
    if verdict.lag_of:
        lines.append(f"longest from acknowledgement to a poll: {verdict.lag_s_worst:.3f} s, {verdict.lag_of}")
    if seen.longest_silence_s:
        lines.append(f"longest without an acknowledged send: {seen.longest_silence_s:.3f} s")
    if seen.faults:
        lines.append("faults: " + ", ".join(f"{what} {times}" for what, times in sorted(seen.faults.items())))
    if seen.recoveries:
        worst = max(seen.recoveries, key=lambda one: one.took_s)
        lines.append(
            f"{count(len(seen.recoveries), 'recovery')}, the longest {worst.took_s:.3f} s, after {worst.after} ended "
            f"at {worst.healed_s:.3f}"
        )
    lines += [f"note: {note}" for note in verdict.notes]
    failing = [row.name for row in verdict.failing]
    lines.append("")
    if failing:
        lines.append(f"FAIL: {', '.join(failing)}")
    elif verdict.applying:
        lines.append(f"ok: {verdict.applying} of {len(rows)} rows apply, and nothing was found")
    else:
        lines.append(f"nothing was judged: none of {len(rows)} rows applies")
    return "\n".join(lines)


class _Progress:
    """One line on a terminal that is written anew."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, events: int) -> None:
        sys.stderr.write(f"\r{events:,} events ")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
