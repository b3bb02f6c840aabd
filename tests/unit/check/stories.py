"""Small histories, told in a few words a line, and what the checker says of them."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from lograft.client.check.history import Recorder
from lograft.client.check.verdict import Verdict, judge


class Story:
    """A history in the making. A millisecond passes with each event."""

    def __init__(self, **facts: Any) -> None:
        self.t = 0.0
        self.file = io.StringIO()
        self.recorder = Recorder(self.file, self._now, **facts)

    def _now(self) -> float:
        self.t += 0.001
        return self.t

    def pass_s(self, seconds: float) -> None:
        self.t += seconds

    def begin(self, process: str, f: str, **facts: Any) -> int:
        return self.recorder.invoke(process, f, **facts)

    def end(self, op: int, kind: str = "ok", **facts: Any) -> None:
        getattr(self.recorder, kind)(op, **facts)

    def note(self, process: str, f: str, **facts: Any) -> None:
        self.recorder.note(process, f, **facts)

    def did(self, process: str, f: str, asked: dict[str, Any] | None = None, **told: Any) -> None:
        self.end(self.begin(process, f, **(asked or {})), **told)

    # Sending

    def sending(self, process: str, *values: str, topic: str = "t", partition: int | None = 0, **facts: Any) -> int:
        return self.begin(process, "send", topic=topic, partition=partition, values=list(values), **facts)

    def acked(self, op: int, *offsets: int | None, partition: int = 0, term: int | None = None) -> None:
        self.end(op, partition=partition, offsets=list(offsets), term=term)

    def sent(self, process: str, *values: str, at: int | list[int | None], partition: int = 0, **facts: Any) -> None:
        offsets = at if isinstance(at, list) else list(range(at, at + len(values)))
        self.acked(self.sending(process, *values, partition=partition, **facts), *offsets, partition=partition)

    # Reading

    def assigned(self, process: str, **positions: int) -> None:
        """`t0=5`: partition t/0 from offset 5."""
        asked = {f"{name[:-1]}/{name[-1]}": position for name, position in positions.items()}
        self.did(process, "assign", {"positions": asked}, positions=asked)

    def polled(self, process: str, *records: tuple[Any, ...], partition: str = "t/0") -> None:
        self.did(process, "poll", records=[_record(record, partition) for record in records])

    def read_all(
        self, *values: tuple[int, str], start: int = 0, end: int | None = None, partition: str = "t/0"
    ) -> None:
        end = end if end is not None else max((offset for offset, _ in values), default=-1) + 1
        asked = {"partition": partition}
        self.did("reader", "read_all", asked, partition=partition, start=start, end=end, values=list(values))

    def ends(self, process: str, start: int, end: int) -> None:
        self.did(process, "ends", ends={"t/0": [start, end]})

    # Groups

    def owns(self, member: str, generation: int, *partitions: str) -> None:
        self.note(member, "own", group="g", member=member, generation=generation, partitions=list(partitions))

    def stored(self, member: str | None, offset: int, generation: int | None = None) -> None:
        self.did(member or "admin", "store", _store(member, offset, generation))

    def storing(self, member: str | None, offset: int, generation: int | None = None) -> int:
        return self.begin(member or "admin", "store", **_store(member, offset, generation))

    def fetched(self, offset: int | None, process: str = "f") -> None:
        self.did(process, "fetch_stored", {"group": "g"}, offsets={"t/0": offset})

    def processed(self, member: str, *offsets: int) -> None:
        self.note(member, "process", group="g", records=[["t/0", offset] for offset in offsets])

    # Faults

    def fault(self, what: str, on: str, begins: bool) -> None:
        self.note("nemesis", "fault", what=what, on=on, begins=begins)


def _record(record: tuple[Any, ...], partition: str) -> list[Any]:
    """(offset, value), (offset, value, term), or the same with a partition before it."""
    named = record if isinstance(record[0], str) else (partition, *record)
    return [*named, *([None] if len(named) == 3 else [])]


def _store(member: str | None, offset: int, generation: int | None) -> dict[str, Any]:
    return {"group": "g", "member": member, "generation": generation, "offsets": {"t/0": offset}}


def verdict_of(*stories: Story, **options: Any) -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, story in enumerate(stories):
            paths.append(Path(folder) / f"{number}.jsonl")
            paths[-1].write_text(story.file.getvalue())
        return judge(paths, **options)


def sent_and_unread(story: Story, values: str) -> None:
    """All of them are in the log, and somebody else reads them."""
    for offset, value in enumerate(values):
        story.sent("p", value, at=offset)
    story.polled("other", *enumerate(values))


def flagged(*stories: Story) -> set[str]:
    """Names of the rows that fail."""
    return {row.name for row in verdict_of(*stories).failing}
