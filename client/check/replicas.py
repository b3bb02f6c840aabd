"""Are the replicas of a partition the same, once all is quiet? Row: replica-divergence."""

from __future__ import annotations

from .history import Event, History, Replica
from .places import Places
from .rows import Rows
from .sends import who


class Replicas:
    """What each broker last said of its replicas."""

    def __init__(self, history: History, places: Places, rows: Rows) -> None:
        self._history, self._places, self._row = history, places, rows["replica-divergence"]
        self._told: dict[str, dict[int | str, Replica]] = {}
        self.lagging: list[str] = []
        """Replicas whose committed end lies before that of others; what they lack behind it is not judged."""

    def told(self, event: Replica, begun: Event) -> None:
        if event.type == "ok":
            assert event.partition is not None and event.broker is not None
            self._told.setdefault(event.partition, {})[event.broker] = event

    def finish(self) -> None:
        """Compare each replica with the furthest, where both have to hold something."""
        for name, replicas in self._told.items():
            if len(replicas) < 2:
                continue
            # Each with the one that knows most committed: one that lags, or is empty, hides nothing of the others.
            first = max(replicas.values(), key=lambda one: one.committed or 0)
            compacted = self._places.log(name).compacted
            for other in replicas.values():
                if other is first:
                    continue
                from_offset = max(first.start or 0, other.start or 0)
                to_offset = min(first.committed or 0, other.committed or 0)
                if to_offset < (first.committed or 0):
                    self.lagging.append(f"broker {other.broker} of {name} ({to_offset} of {first.committed})")
                expected = {at: crc for at, crc in first.sums or () if from_offset <= at < to_offset}
                held = {at: crc for at, crc in other.sums or () if from_offset <= at < to_offset}
                self._row.judged += 1
                common = expected.keys() & held.keys()
                different = [at for at in common if expected[at] != held[at]]
                if not compacted:
                    different += expected.keys() ^ held.keys()
                if different:
                    self._tell(name, first, other, min(different), len(different), expected, held)

    def _tell(
        self,
        name: str,
        first: Replica,
        other: Replica,
        offset: int,
        count: int,
        expected: dict[int, int | str],
        held: dict[int, int | str],
    ) -> None:
        self._row.add(
            self._places.log(name).topic,
            f"{name}: brokers {first.broker} and {other.broker} differ at {count} offsets, first at {offset}: "
            f"{expected.get(offset, 'nothing')} and {held.get(offset, 'nothing')}; told by {who(self._history, other)}",
            partition=name,
            offset=offset,
            brokers=[first.broker, other.broker],
            sums=[expected.get(offset), held.get(offset)],
            differences=count,
            op=other.op,
            process=other.process,
            t=other.t,
        )
