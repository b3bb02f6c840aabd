"""Which brokers hold a new topic's partitions, and who of them leads: evenly, across racks, the same each time.

Consistent hashing with bounded loads: each broker stands on a ring at several places, and a partition takes the brokers
that follow its own place, passing over those whose share is full. The shares are worked out first, as even as what the
brokers already hold, and the racks, allow.

What always holds
    no broker holds two replicas of a partition
    a rack gets a second replica of a partition only once every rack with room has one, and so on
    with equal loads before, and racks that allow it, loads differ by at most one, and so do leaders
    the same brokers, loads and seed give the same placement, in whatever order they are named
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import NamedTuple

VIRTUAL_NODES = 32
"""Places of each broker on the ring."""


class Candidate(NamedTuple):
    """A broker that may take replicas."""

    broker_id: int
    rack: str = ""
    """Brokers of one rack fail together. Empty: with nobody."""
    replicas: int = 0
    """It holds so many already."""
    leaders: int = 0
    """It is the preferred leader of so many already."""


def place(seed: str, partitions: int, replicas: int, candidates: Iterable[Candidate]) -> list[tuple[int, ...]]:
    """Broker ids for each partition, the preferred leader first. `seed` (the topic id) varies the pattern by topic.

    Needs 1 <= replicas <= number of candidates, whose broker ids differ.
    """
    brokers = sorted(candidates)
    assert 1 <= replicas <= len(brokers), f"{replicas} replicas on {len(brokers)} brokers"
    assert len({broker.broker_id for broker in brokers}) == len(brokers), f"a broker is named twice in {brokers}"
    shares = _Shares(seed, partitions, replicas, brokers)
    ring = _Ring(brokers)
    chosen = [shares.take(ring.following(f"{seed}/{number}")) for number in range(partitions)]
    leaders = _spread_leaders(chosen, {broker.broker_id: broker.leaders for broker in brokers})
    return [
        (leader, *(broker_id for broker_id in placement if broker_id != leader))
        for leader, placement in zip(leaders, chosen, strict=True)
    ]


class _Ring:
    """Brokers on a circle of 64-bit hashes. Their places do not depend on the seed; those of partitions do."""

    def __init__(self, brokers: Sequence[Candidate]) -> None:
        self._places = sorted(
            (_hash(f"broker {broker.broker_id} {number}"), broker.broker_id)
            for broker in brokers
            for number in range(VIRTUAL_NODES)
        )
        self._count = len(brokers)

    def following(self, name: str) -> Iterator[int]:
        """Every broker once, in the order in which they follow the name's place."""
        seen: set[int] = set()
        start = bisect_right(self._places, (_hash(name), -1))
        for step in range(len(self._places)):
            _, broker_id = self._places[(start + step) % len(self._places)]
            if broker_id not in seen:
                seen.add(broker_id)
                yield broker_id
            if len(seen) == self._count:
                return


class _Shares:
    """How many replicas each broker still takes, and how many each rack takes beyond the same number everywhere.

    While m partitions are left, no share is above m and they add up to what m partitions need: whoever has a share of m
    must be taken now, and then the next partition finds the same to hold. So `take` never runs into a corner.
    """

    def __init__(self, seed: str, partitions: int, replicas: int, brokers: Sequence[Candidate]) -> None:
        self._partitions_left = partitions
        self._rack_of = {broker.broker_id: _rack_name(broker) for broker in brokers}
        members: dict[str, list[Candidate]] = {}
        for broker in brokers:
            members.setdefault(_rack_name(broker), []).append(broker)
        level = _level(replicas, [len(rack) for rack in members.values()])
        self._everywhere = {name: min(level, len(rack)) for name, rack in members.items()}
        """Replicas of each partition that the rack takes in any case."""
        self._extras = replicas - sum(self._everywhere.values())
        """Racks that take one more, for each partition."""
        self._share: Counter[int] = Counter()
        self._rack_share: Counter[str] = Counter()
        tie = {broker.broker_id: _hash(f"{seed} share {broker.broker_id}") for broker in brokers}
        for name, rack in members.items():
            self._hand_out(partitions * self._everywhere[name], rack, tie)
        with_room = [broker for broker in brokers if level < len(members[_rack_name(broker)])]
        self._hand_out(partitions * self._extras, with_room, tie, self._rack_share)

    def _hand_out(
        self, count: int, brokers: Sequence[Candidate], tie: dict[int, int], rack_share: Counter[str] | None = None
    ) -> None:
        """Raise the shares by `count` in all, always that of the least loaded broker whose share is not full."""
        heap = [(broker.replicas + self._share[broker.broker_id], tie[broker.broker_id], broker) for broker in brokers]
        heapify(heap)
        while count:
            load, tie_break, broker = heappop(heap)
            rack = self._rack_of[broker.broker_id]
            if self._share[broker.broker_id] == self._partitions_left:
                continue
            if rack_share is not None:
                if rack_share[rack] == self._partitions_left:
                    continue
                rack_share[rack] += 1
            self._share[broker.broker_id] += 1
            heappush(heap, (load + 1, tie_break, broker))
            count -= 1

    def take(self, following: Iterator[int]) -> list[int]:
        """The brokers of the next partition: those who must be taken, then those who follow it on the ring."""
        ordered = list(following)
        left = self._partitions_left
        extra_racks = [name for name, share in self._rack_share.items() if share == left]
        for broker_id in ordered:
            name = self._rack_of[broker_id]
            if len(extra_racks) < self._extras and self._rack_share[name] and name not in extra_racks:
                extra_racks.append(name)
        room = Counter(self._everywhere)
        room.update(extra_racks)
        must = [broker_id for broker_id in ordered if self._share[broker_id] == left]
        may = [broker_id for broker_id in ordered if 0 < self._share[broker_id] < left]
        taken = []
        for broker_id in (*must, *may):
            if room[self._rack_of[broker_id]]:
                room[self._rack_of[broker_id]] -= 1
                taken.append(broker_id)
        assert not room.total() and taken[: len(must)] == must, f"shares {self._share} do not fill {left} partitions"
        self._share.subtract(taken)
        self._rack_share.subtract(extra_racks)
        self._partitions_left -= 1
        return sorted(taken, key=ordered.index)


def _rack_name(broker: Candidate) -> str:
    # A broker that names no rack stands alone; the prefixes keep it apart from a rack that is called like it.
    return f"rack {broker.rack}" if broker.rack else f"broker {broker.broker_id}"


def _level(replicas: int, rack_sizes: Sequence[int]) -> int:
    """The most replicas of one partition that every rack with room for them can take."""
    level = 0
    while sum(min(size, level + 1) for size in rack_sizes) <= replicas and level < max(rack_sizes):
        level += 1
    return level


def _spread_leaders(placements: Sequence[Sequence[int]], leaders_before: dict[int, int]) -> list[int]:
    """One broker of each placement, so that the numbers each broker leads in all are as even as can be."""
    led = Counter(leaders_before)
    leaders: list[int] = []
    for placement in placements:
        leaders.append(min(placement, key=lambda broker_id: (led[broker_id], placement.index(broker_id))))
        led[leaders[-1]] += 1
    while path := _path_to_lighter(placements, leaders, led):
        for number, heir in path:
            led[leaders[number]] -= 1
            led[heir] += 1
            leaders[number] = heir
    return leaders


def _path_to_lighter(
    placements: Sequence[Sequence[int]], leaders: Sequence[int], led: Counter[int]
) -> list[tuple[int, int]]:
    """Hand-overs (partition number, new leader) that move one leadership from a broker to one that leads two fewer."""
    led_by: dict[int, list[int]] = {}
    for number, leader in enumerate(leaders):
        led_by.setdefault(leader, []).append(number)
    for source in sorted(led_by, key=lambda broker_id: (-led[broker_id], broker_id)):
        reached: dict[int, tuple[int, int] | None] = {source: None}
        """How each broker was reached: the partition handed to it, and by whom."""
        frontier = deque([source])
        while frontier:
            giver = frontier.popleft()
            if led[giver] <= led[source] - 2:
                path = []
                while (step := reached[giver]) is not None:
                    path.append((step[0], giver))
                    giver = step[1]
                return path
            for number in led_by.get(giver, ()):
                for heir in placements[number]:
                    if heir not in reached:
                        reached[heir] = (number, giver)
                        frontier.append(heir)
    return []


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
