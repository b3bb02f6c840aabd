"""Topics as a map from names to ids that many create, delete and list. Row: metadata.

Always
    a name is a register of topic ids; a delete writes that there is none
    what is deleted stays so: neither its id nor what was sent to it comes back
    a log whose topic was deleted, or may have been, is judged by nothing else: its offsets begin anew
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from .history import CreateTopic, DeleteTopic, Event, History, ListTopics, Poll, ReadAll
from .places import Places
from .reads import Reads
from .register import Register, Write
from .rows import Rows
from .sends import OPEN, Sends, facts, topic_of, who


@dataclass(slots=True)
class _Deletion:
    began: int
    ended: int | None = None
    created_again: int | None = None


class Topics:
    """All topics that were created, deleted and listed so far."""

    def __init__(self, history: History, sends: Sends, places: Places, reads: Reads, rows: Rows) -> None:
        self._history, self._sends, self._places, self._reads = history, sends, places, reads
        self._row = rows["metadata"]
        self._named: dict[str, Register[str | None]] = defaultdict(Register)
        self._creating: dict[tuple[int, int], tuple[str, Write]] = {}
        self._deleting: dict[tuple[int, int], tuple[Write, str | None]] = {}
        self._before: dict[tuple[int, int], _Deletion | None] = {}
        self._newest: dict[str, tuple[int, int]] = {}
        self._ids: dict[str, str] = {}
        self._gone: dict[str, tuple[int, str]] = {}  # by id: since when, by whose word
        self.deletions: dict[str, _Deletion] = {}
        """The newest of each topic, whether it happened or may have."""

    def creating(self, event: CreateTopic, begun: Event) -> None:
        assert event.topic is not None
        if event.topic_id is not None:
            write = self._named[event.topic].begin(event.topic_id, event.seq)
            self._creating[event.file, event.op] = event.topic_id, write

    def created(self, event: CreateTopic, begun: CreateTopic) -> None:
        assert begun.topic is not None
        register = self._named[begun.topic]
        found = self._creating.pop((event.file, event.op), None)
        topic_id = event.topic_id or begun.topic_id
        if event.type == "fail":
            if found is not None:
                register.failed(*found)
            return
        if event.type != "ok" or topic_id is None:
            return
        write = found[1] if found is not None and found[0] == topic_id else register.begin(topic_id, begun.seq)
        register.acknowledged(write, event.seq)
        self._row.judged += 1
        self._ids[begun.topic] = topic_id
        deletion = self.deletions.get(begun.topic)
        if deletion is not None and deletion.ended is not None and begun.seq > deletion.ended:
            deletion.created_again = event.seq
        if topic_id in self._gone and self._gone[topic_id][0] < begun.seq:
            self._came_back(begun.topic, topic_id, event, begun)

    def deleting(self, event: DeleteTopic, begun: Event) -> None:
        assert event.topic is not None
        write = self._named[event.topic].begin(None, event.seq)
        self._deleting[event.file, event.op] = write, self._ids.get(event.topic)
        self._before[event.file, event.op] = self.deletions.get(event.topic)
        self._newest[event.topic] = event.file, event.op
        self.deletions[event.topic] = _Deletion(event.seq)

    def deleted(self, event: DeleteTopic, begun: DeleteTopic) -> None:
        assert begun.topic is not None
        write, topic_id = self._deleting.pop((event.file, event.op))
        register = self._named[begun.topic]
        if event.type == "fail":
            register.failed(None, write)
            self._forget(begun.topic, (event.file, event.op))
        elif event.type == "ok":
            register.acknowledged(write, event.seq)
            self._row.judged += 1
            self.deletions[begun.topic].ended = event.seq
            if topic_id is not None:
                self._gone.setdefault(topic_id, (event.seq, who(self._history, event)))

    def _forget(self, topic: str, op: tuple[int, int]) -> None:
        """The deletion surely did not happen: it excuses nothing."""
        if self._newest[topic] != op:
            return
        before = self._before[op]
        if before is None:
            del self.deletions[topic]
        else:
            self.deletions[topic] = before

    def listed(self, event: ListTopics, begun: ListTopics) -> None:
        if event.type != "ok" or event.topics is None:
            return
        for name in self._named.keys() | event.topics.keys():
            topic_id = event.topics.get(name)
            self._row.judged += 1
            if topic_id in self._gone and self._gone[topic_id][0] < begun.seq:
                self._came_back(name, topic_id, event, begun)
                continue
            wrong = self._named[name].read(topic_id, begun.seq, event.seq)
            if wrong is not None:
                found = f"{name} under id {topic_id}" if topic_id is not None else f"no topic {name}"
                why = wrong if topic_id is not None else f"there is one: {wrong}"
                self._row.add(
                    name,
                    f"{who(self._history, event)} found {found}, asked at {begun.t:.6f}; {why}",
                    name=name,
                    topic_id=topic_id,
                    asked_s=begun.t,
                    **facts(self._history, event),
                )

    def _came_back(self, name: str, topic_id: str, event: Event, begun: Event) -> None:
        self._row.add(
            name,
            f"{name} under id {topic_id} is back to {who(self._history, event)}, asked at {begun.t:.6f}, after it was "
            f"deleted by {self._gone[topic_id][1]}",
            name=name,
            topic_id=topic_id,
            asked_s=begun.t,
            **facts(self._history, event),
        )

    # Records of deleted topics

    def polled(self, event: Poll, begun: Event) -> None:
        if event.type == "ok" and self.deletions:
            started = self._reads.started.get(event.process)
            if started is not None:  # what was fetched in advance may be older
                for record in event.records or ():
                    self._old_record(record.partition, record.offset, record.value, started, event)

    def read_all(self, event: ReadAll, begun: Event) -> None:
        if event.type == "ok" and self.deletions:
            for offset, value in event.values or ():
                self._old_record(event.partition or "", offset, value, begun.seq, event)

    def _old_record(self, name: str, offset: int, value: str, since: int, event: Event) -> None:
        """A reader that began at `since` was handed this."""
        deletion = self.deletions.get(topic_of(name))
        if deletion is None or deletion.created_again is None or since < deletion.created_again:
            return
        number = self._sends.of_value.get(value)
        if number is None or self._sends.status[number] == OPEN or self._sends.ended_seq[number] > deletion.began:
            return
        self._row.add(
            topic_of(name),
            f"{name}, offset {offset}: {value!r} of {self._sends.who(number)} was read by {who(self._history, event)}, "
            "though its topic was deleted and another created under its name since",
            partition=name,
            offset=offset,
            values=[value],
            **facts(self._history, event),
        )
