"""The history of one run: what `client.check.history.Recorder` writes to a file, kept as a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]


class History:
    """As the Recorder; `note` is told of every event, for the trace."""

    def __init__(self, now: Callable[[], float], note: Callable[[str, str], None]) -> None:
        self.events: list[Event] = []
        self._now = now
        self._note = note
        self._open: dict[int, Event] = {}
        self._last = 0

    def invoke(self, process: str, f: str, **facts: Any) -> int:
        self._last += 1
        self._open[self._last] = self._add(process, self._last, f, "invoke", facts)
        return self._last

    def ok(self, op: int, **facts: Any) -> None:
        self._end(op, "ok", facts)

    def fail(self, op: int, **facts: Any) -> None:
        self._end(op, "fail", facts)

    def info(self, op: int, **facts: Any) -> None:
        self._end(op, "info", facts)

    def note(self, process: str, f: str, **facts: Any) -> None:
        self._last += 1
        self._add(process, self._last, f, "ok", facts)

    def _end(self, op: int, kind: str, facts: dict[str, Any]) -> None:
        begun = self._open.pop(op)
        self._add(begun["process"], op, begun["f"], kind, facts)

    def _add(self, process: str, op: int, f: str, kind: str, facts: dict[str, Any]) -> Event:
        event = {"t": round(self._now(), 6), "process": process, "op": op, "f": f, "type": kind, **facts}
        self.events.append(event)
        self._note("history", f"{process} {op} {f} {kind} {facts}")
        return event
