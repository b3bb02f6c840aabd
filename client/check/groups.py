"""Consumer groups: who owned what, what was stored, what was done.

Rows: commit-offset, fenced-store, double-owner, group-gap. What members stored is held against ends in `Bounds`.

Always
    a stored offset is a register of (group, partition); a seek of the group is a store by nobody
    a group has done what `process` told, whoever of its members it was
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from .frontier import Frontier
from .history import Event, FetchStored, History, Own, Process, Store, Subscribe
from .places import Places
from .register import Register, Write
from .rows import Row, Rows
from .sends import facts, topic_of, who

_Key = tuple[str, str]  # group, partition


@dataclass(slots=True)
class _Done:
    """Offsets of a partition that a group has processed: all below `end`, from wherever it began, and some behind."""

    end: int | None = None
    behind: set[int] = field(default_factory=set)
    lowest: int = 0

    def add(self, offset: int) -> None:
        if self.end is None:
            self.end = self.lowest = offset
        if offset < self.lowest:
            self.lowest = offset
        if offset >= self.end:
            self.behind.add(offset)
            self._close_up()

    def skip_to(self, offset: int) -> None:
        """Whatever is before `offset` need not be done any more."""
        if self.end is not None and offset > self.end:
            self.end = offset
            self.behind = {one for one in self.behind if one >= offset}
            self._close_up()

    def missing_below(self, offset: int) -> list[int]:
        if self.end is None or offset <= self.end:
            return []
        return [at for at in range(self.end, min(offset, self.end + 1000)) if at not in self.behind]

    def _close_up(self) -> None:
        assert self.end is not None
        while self.end in self.behind:
            self.behind.discard(self.end)
            self.end += 1


@dataclass(slots=True)
class _Gap:
    """A store of an offset past what had been processed. It counts once it is known to have taken effect."""

    write: Write
    begun: Store
    missing: list[int]


class Groups:
    """All groups of a history so far."""

    def __init__(self, history: History, places: Places, rows: Rows) -> None:
        self._history, self._places, self._rows = history, places, rows
        self._stored: dict[_Key, Register[int | None]] = defaultdict(Register)
        self._writes: dict[tuple[int, int], dict[str, Write]] = {}
        self._skipping: dict[int, _Gap] = {}
        """By id of the write; those that were acknowledged, or found, are told and taken out."""
        self._seeks: dict[int, Write] = {}
        self._granted: dict[_Key, Frontier] = defaultdict(Frontier)
        self._owners: dict[tuple[str, str, int], tuple[str, Event]] = {}
        self._members: dict[str, int] = {}
        self._done: dict[_Key, _Done] = {}
        self._from_start: set[str] = set()
        self._gaps: dict[str, Row] = defaultdict(lambda: Row("group-gap"))
        self._working: set[str] = set()
        self._perhaps_trimmed: list[tuple[Store, Event, str, list[int]]] = []
        """Gaps where the log start moves: who was told of it may have been told only later."""

    def subscribed(self, event: Subscribe, begun: Subscribe) -> None:
        if begun.group is not None and begun.reset == "earliest":
            self._from_start.add(begun.group)

    # Who owns what

    def owns(self, event: Own, begun: Event) -> None:
        group, member = event.group or "", event.member or ""
        number = self._members.setdefault(member, len(self._members))
        for name in event.partitions or ():
            generation = _of(event.generation, name)
            if generation is None:
                continue
            row = self._rows["double-owner"]
            row.judged += 1
            other, before = self._owners.setdefault((group, name, generation), (member, event))
            if other != member:
                row.add(
                    topic_of(name),
                    f"group {group}, {name}, generation {generation}: owned by {other}, {who(self._history, before)}, "
                    f"and by {member}, {who(self._history, event)}",
                    group=group,
                    partition=name,
                    generation=generation,
                    members=[other, member],
                    **facts(self._history, event),
                )
            self._granted[group, name].rise(event.seq, generation, number)

    # What is stored

    def storing(self, event: Store, begun: Event) -> None:
        assert event.group is not None and event.offsets is not None
        writes = self._writes[event.file, event.op] = {
            name: self._stored[event.group, name].begin(offset, event.seq) for name, offset in event.offsets.items()
        }
        for name, offset in event.offsets.items():
            done = self._done_of(event.group, name)
            if event.member is None:
                self._seeks[id(writes[name])] = writes[name]
                done.skip_to(offset)
                continue
            log = self._places.log(name)
            if log.compacted:
                continue
            if missing := done.missing_below(offset):
                self._skipping[id(writes[name])] = _Gap(writes[name], event, missing)

    def stored(self, event: Store, begun: Store) -> None:
        assert begun.group is not None and begun.offsets is not None
        writes = self._writes.pop((event.file, event.op))
        for name, write in writes.items():
            register = self._stored[begun.group, name]
            if event.type == "fail":
                register.failed(begun.offsets[name], write)
                self._skipping.pop(id(write), None)
            elif event.type == "ok":
                register.acknowledged(write, event.seq)
        if event.type != "ok" or begun.member is None:
            return
        self._gaps[begun.group].judged += len(begun.offsets)
        for name, write in writes.items():
            self._skips(name, self._skipping.pop(id(write), None), event)
            self._places.log(name).stored.rise(event.seq, begun.offsets[name], event.op)
            self._fence(begun, event, name)

    def _skips(self, name: str, gap: _Gap | None, event: Event) -> None:
        """A store took effect, by the word of `event`."""
        if gap is None:
            return
        begun = gap.begun
        assert begun.group is not None and begun.offsets is not None
        self._done_of(begun.group, name).skip_to(begun.offsets[name])
        if self._places.log(name).trimmed:
            self._perhaps_trimmed.append((begun, event, name, gap.missing))
        else:
            self._tell_gap(begun, event, name, gap.missing)

    def _tell_gap(self, begun: Store, event: Event, name: str, offsets: list[int]) -> None:
        assert begun.group is not None and begun.offsets is not None
        stored = begun.offsets[name]
        how = "stored" if isinstance(event, Store) else f"({who(self._history, begun)}) stored"
        found = "" if isinstance(event, Store) else "found by "
        self._gaps[begun.group].add(
            topic_of(name),
            f"group {begun.group}, {name}: {begun.member} {how} {stored}, {found}{who(self._history, event)}, and "
            f"nobody had processed {', '.join(map(str, offsets[:5]))}{', ...' if len(offsets) > 5 else ''}",
            group=begun.group,
            partition=name,
            offset=stored,
            missing=offsets[:20],
            **facts(self._history, event),
        )

    def _fence(self, begun: Store, event: Store, name: str) -> None:
        assert begun.group is not None and begun.member is not None and begun.offsets is not None
        generation = _of(begun.generation, name)
        if generation is None:
            return
        self._rows["fenced-store"].judged += 1
        number = self._members.get(begun.member, -1)
        for later in self._granted[begun.group, name].above(begun.seq, generation):
            if later.who != number:
                owner = next(member for member, one in self._members.items() if one == later.who)
                self._rows["fenced-store"].add(
                    topic_of(name),
                    f"group {begun.group}, {name}: a store of {begun.offsets[name]} by {begun.member} under generation "
                    f"{generation} was accepted, {who(self._history, event)}; {owner} had it by then under "
                    f"generation {later.value}",
                    group=begun.group,
                    partition=name,
                    offset=begun.offsets[name],
                    generation=generation,
                    owner=owner,
                    owner_generation=later.value,
                    **facts(self._history, event),
                )
                return

    def fetched(self, event: FetchStored, begun: FetchStored) -> None:
        if event.type != "ok":
            return
        assert begun.group is not None
        for name, offset in (event.offsets or {}).items():
            found = None if offset is None or offset < 0 else offset
            self._rows["commit-offset"].judged += 1
            wrong = self._stored[begun.group, name].read(found, begun.seq, event.seq)
            if wrong is not None:
                self._rows["commit-offset"].add(
                    topic_of(name),
                    f"group {begun.group}, {name}: {who(self._history, event)} found "
                    f"{'nothing stored' if found is None else found}, asked at {begun.t:.6f}; {wrong}",
                    group=begun.group,
                    partition=name,
                    offset=found,
                    asked_s=begun.t,
                    **facts(self._history, event),
                )
            elif found is not None:
                self._took_effect(begun.group, name, found, event, begun)

    def _took_effect(self, group: str, name: str, offset: int, event: Event, begun: Event) -> None:
        """What is found was stored, also if whoever did it was never answered."""
        writers = self._stored[group, name].writers(offset, begun.seq)
        if not writers or any(id(write) in self._seeks for write in writers):
            return
        self._places.log(name).stored.rise(event.seq, offset, event.op)
        gaps = [self._skipping.get(id(write)) for write in writers]
        if all(gaps):  # else it may have been one that was done by then
            self._gaps[group].judged += 1
            for write in writers:
                del self._skipping[id(write)]
            self._skips(name, gaps[0], event)

    # What is done

    def processed(self, event: Process, begun: Event) -> None:
        assert event.group is not None
        self._working.add(event.group)
        for name, offset in event.records or ():
            self._done_of(event.group, name).add(offset)

    def _done_of(self, group: str, name: str) -> _Done:
        done = self._done.get((group, name))
        if done is None:
            done = self._done[group, name] = _Done(0 if group in self._from_start else None)
        return done

    # The end

    def finish(self) -> None:
        """Groups that never told what they processed have no gaps."""
        for begun, event, name, offsets in self._perhaps_trimmed:
            start = self._places.log(name).highest_start
            left = [offset for offset in offsets if start is not None and offset >= start]
            if left:
                self._tell_gap(begun, event, name, left)
        row = self._rows["group-gap"]
        for group in sorted(self._working & self._gaps.keys()):
            gaps = self._gaps[group]
            row.judged += gaps.judged
            for topic in gaps.found:
                row.take(gaps, topic)


def _of(generation: int | dict[str, int] | None, name: str) -> int | None:
    return generation.get(name) if isinstance(generation, dict) else generation
