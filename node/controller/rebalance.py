"""How the brokers would hold and lead equally much: which replicas go where, moving as few as that takes.

A plan is a pure function of where everything is; whoever carries it out can stop after any of its moves and plan anew.

What always holds
    every partition keeps as many replicas as it has, each on a broker of its own
    nothing goes to a broker that may not take it, and nothing leaves one: what it holds and leads is left as it is
    no partition is spread over fewer racks than before, nor more unevenly
    where all partitions may move and racks allow it, brokers hold within one replica of each other and are preferred
        as leaders within one; no fewer replicas could be moved for the first
    what the plan makes of the cluster needs no further plan
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .placement import Candidate


class Placed(NamedTuple):
    """One partition as it is placed now."""

    topic: str
    number: int
    brokers: tuple[int, ...]
    """The preferred leader first."""
    size_bytes: int = -1
    """Of one replica; -1 if not known."""
    may_move: bool = True


class Move(NamedTuple):
    """One partition's replicas as they are, and as they should be."""

    topic: str
    number: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    size_bytes: int

    @property
    def replicas_moved(self) -> int:
        return len({*self.after} - {*self.before})


def plan(partitions: Sequence[Placed], takers: Iterable[Candidate]) -> list[Move]:
    """The moves that make `takers` hold and lead equally much, those that copy records first.

    Of the takers only ids and racks are looked at; what they hold is counted from `partitions`.
    """
    layout = _Layout(partitions, {broker.broker_id: broker.rack for broker in takers})
    while layout.even_out_replicas() or layout.even_out_leaders() or layout.swap_for_leaders():
        pass  # each step lowers a sum of squares, of replicas before leaders; so this ends
    moves = [
        Move(placed.topic, placed.number, placed.brokers, after, placed.size_bytes)
        for placed, after in zip(partitions, layout.placements(), strict=True)
        if after != placed.brokers
    ]
    return sorted(moves, key=lambda move: (not move.replicas_moved, move.topic, move.number))


class _Layout:
    """Who holds and leads what, as it becomes step by step. Partitions are known by their place in the list."""

    def __init__(self, partitions: Sequence[Placed], racks: Mapping[int, str]) -> None:
        self._partitions = partitions
        self._racks = racks
        self._has_racks = any(racks.values())
        self._takers = sorted(racks)
        self._brokers = [list(placed.brokers) for placed in partitions]
        self._leader = [placed.brokers[0] for placed in partitions]
        self._held = dict.fromkeys(self._takers, 0)
        self._led = dict.fromkeys(self._takers, 0)
        self._on: dict[int, defaultdict[str, set[int]]] = {broker_id: defaultdict(set) for broker_id in self._takers}
        """Partitions that a taker holds and that may move, by topic."""
        self._of_topic: dict[int, Counter[str]] = {broker_id: Counter() for broker_id in self._takers}
        """Replicas of each topic that a taker holds."""
        self._led_by: dict[int, set[int]] = {broker_id: set() for broker_id in self._takers}
        """Partitions that a taker leads and that may move."""
        for index, placed in enumerate(partitions):
            for broker_id in placed.brokers:
                if broker_id in self._held:
                    self._held[broker_id] += 1
                    self._of_topic[broker_id][placed.topic] += 1
                    if placed.may_move:
                        self._on[broker_id][placed.topic].add(index)
            if placed.brokers[0] in self._led:
                self._led[placed.brokers[0]] += 1
                if placed.may_move:
                    self._led_by[placed.brokers[0]].add(index)

    def placements(self) -> Iterator[tuple[int, ...]]:
        for placed, brokers, leader in zip(self._partitions, self._brokers, self._leader, strict=True):
            if brokers == [*placed.brokers] and leader == placed.brokers[0]:
                yield placed.brokers
            else:
                yield leader, *(broker_id for broker_id in brokers if broker_id != leader)

    # -- replicas ------------------------------------------------------------------------------------------------------

    def even_out_replicas(self) -> bool:
        """Move replicas from who holds most to who holds least, until there are at most one apart. Did any move?"""
        moved = False
        while path := self._replica_path():
            for source, target, index in path:
                self._move(index, source, target)
            moved = True
        return moved

    def _replica_path(self) -> list[tuple[int, int, int]]:
        """Moves (from, to, partition), the shortest chain from one broker to one that holds two fewer.

        Where there are no racks that is one move: who holds more has a partition that the other has not.
        """
        for source in sorted(self._takers, key=lambda broker_id: (-self._held[broker_id], broker_id)):
            by_load = sorted(self._takers, key=lambda broker_id: (self._held[broker_id], broker_id))
            if self._held[by_load[0]] > self._held[source] - 2:
                return []
            reached: dict[int, tuple[int, int] | None] = {source: None}
            """How each broker was reached: from whom, with which partition."""
            frontier = deque([source])
            while frontier:
                giver = frontier.popleft()
                for taker in by_load:
                    if taker in reached or (index := self._movable(giver, taker, reached)) is None:
                        continue
                    reached[taker] = giver, index
                    if self._held[taker] <= self._held[source] - 2:
                        return _traced(reached, taker)
                    frontier.append(taker)
        return []

    def _movable(self, source: int, target: int, reached: Mapping[int, tuple[int, int] | None]) -> int | None:
        """The partition of which a replica goes from one to the other best; None if there is none.

        First of the topic that is most uneven between the two; then so that leaders get even too, else stay; then the
        one with the fewest bytes.
        """
        used = set(_indexes(reached, source))
        leads_more = self._led[source] - self._led[target] >= 2
        here, there = self._of_topic[source], self._of_topic[target]
        for topic in sorted(self._on[source], key=lambda topic: (there[topic] - here[topic], topic)):
            found = [
                index for index in self._on[source][topic] if index not in used and self._may_go(index, source, target)
            ]
            if found:
                return min(
                    found,
                    key=lambda index: (
                        (self._leader[index] == source) != leads_more,
                        self._partitions[index].size_bytes,
                        self._partitions[index].number,
                    ),
                )
        return None

    def _may_go(self, index: int, source: int, target: int) -> bool:
        if target in self._brokers[index]:
            return False
        if not self._has_racks:
            return True
        from_rack, to_rack = self._rack(source), self._rack(target)
        if from_rack == to_rack:
            return True
        racks = Counter(map(self._rack, self._brokers[index]))
        return racks[to_rack] < racks[from_rack]

    def _rack(self, broker_id: int) -> str:
        # Who names no rack stands alone, and so does who may take nothing: its rack does not matter here.
        rack = self._racks.get(broker_id, "")
        return f"rack {rack}" if rack else f"broker {broker_id}"

    def _move(self, index: int, source: int, target: int) -> None:
        topic = self._partitions[index].topic
        brokers = self._brokers[index]
        brokers[brokers.index(source)] = target
        for broker_id, change in ((source, -1), (target, 1)):
            self._held[broker_id] += change
            self._of_topic[broker_id][topic] += change
        self._on[source][topic].remove(index)
        self._on[target][topic].add(index)
        if self._leader[index] == source:
            self._hand_over(index, target)

    # -- leaders -------------------------------------------------------------------------------------------------------

    def even_out_leaders(self) -> bool:
        """Prefer other leaders among the replicas, until brokers lead within one of each other. Did anything change?"""
        changed = False
        while path := self._leader_path():
            for index, heir in path:
                self._hand_over(index, heir)
            changed = True
        return changed

    def _leader_path(self) -> list[tuple[int, int]]:
        """Hand-overs (partition, to whom) that take one leadership from who leads most to one who leads two fewer, and
        change the preferred leader of as few partitions as that takes."""
        if not self._takers:
            return []
        for most in sorted({*self._led.values()}, reverse=True):
            if most < min(self._led.values()) + 2:
                return []
            cost = {broker_id: 0 for broker_id in self._takers if self._led[broker_id] == most}
            came: dict[int, tuple[int, int] | None] = dict.fromkeys(cost)
            edges = {broker_id: self._hand_overs(broker_id) for broker_id in self._takers}
            for _ in self._takers:  # Bellman and Ford: taking back a change costs less than nothing
                shorter = False
                for giver in [*cost]:
                    for heir, (price, index) in edges[giver].items():
                        if heir not in cost or cost[giver] + price < cost[heir]:
                            cost[heir], came[heir], shorter = cost[giver] + price, (giver, index), True
                if not shorter:
                    break
            ends = [broker_id for broker_id in cost if self._led[broker_id] <= most - 2]
            if ends:
                end = min(ends, key=lambda broker_id: (cost[broker_id], self._led[broker_id], broker_id))
                return [(index, heir) for _, heir, index in _traced(came, end)]
        return []

    def _hand_overs(self, giver: int) -> dict[int, tuple[int, int]]:
        """Heir -> what the cheapest hand-over to it costs, and of which partition."""
        found: dict[int, tuple[int, int]] = {}
        for index in self._led_by[giver]:
            first = self._partitions[index].brokers[0]
            for heir in self._brokers[index]:
                if heir != giver and heir in self._led:
                    offer = (heir != first) - (giver != first), index
                    if heir not in found or offer < found[heir]:
                        found[heir] = offer
        return found

    def _hand_over(self, index: int, heir: int) -> None:
        giver = self._leader[index]
        self._leader[index] = heir
        for broker_id, change in ((giver, -1), (heir, 1)):
            self._led[broker_id] += change
        self._led_by[giver].remove(index)
        self._led_by[heir].add(index)

    def swap_for_leaders(self) -> bool:
        """Where no replica could lead instead: let two brokers swap replicas, so that one leadership goes over."""
        by_led = sorted(self._takers, key=lambda broker_id: (-self._led[broker_id], broker_id))
        for source in by_led:
            for target in reversed(by_led):
                if self._led[source] - self._led[target] < 2:
                    break
                given = self._cheapest(source, target, leads=True)
                taken = self._cheapest(target, source, leads=False)
                if given is not None and taken is not None:
                    self._move(given, source, target)
                    self._move(taken, target, source)
                    return True
        return False

    def _cheapest(self, source: int, target: int, *, leads: bool) -> int | None:
        """A partition that may go from one to the other and is (not) led by the first; the one with the fewest bytes,
        and rather one that goes back to where it came from."""
        found = [
            index
            for indexes in self._on[source].values()
            for index in indexes
            if (self._leader[index] == source) == leads and self._may_go(index, source, target)
        ]
        return min(
            found,
            key=lambda index: (
                source in self._partitions[index].brokers,
                target not in self._partitions[index].brokers,
                self._partitions[index].size_bytes,
                index,
            ),
            default=None,
        )


def _traced(came: Mapping[int, tuple[int, int] | None], end: int) -> list[tuple[int, int, int]]:
    """The steps (from, to, partition) that led to `end`, the last first."""
    steps = []
    while (step := came[end]) is not None:
        giver, index = step
        steps.append((giver, end, index))
        end = giver
    return steps


def _indexes(reached: Mapping[int, tuple[int, int] | None], broker_id: int) -> Iterator[int]:
    """The partitions that move on the way to a broker."""
    while (step := reached[broker_id]) is not None:
        yield step[1]
        broker_id = step[0]
