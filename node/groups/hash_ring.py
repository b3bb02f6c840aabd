"""Which member of a group owns which partition: evenly, with the fewest changes, and the same on every broker.

Consistent hashing with virtual nodes and bounded loads, in which whoever owns a partition keeps it as long as its bound
allows. How many each member keeps and takes is worked out first, as a flow; the ring then decides which partitions an
owner sheds (those for which it comes last) and who takes which (the first after the partition's place that has room).

Invariants
    every partition of a topic with a subscriber has exactly one owner, who subscribes to it
    even: no other assignment that the subscriptions allow has more even loads, whether "more even" means a
        smaller largest load (then a smaller second largest, and so on) or a smaller sum of squares: these agree here
        (Harvey, Ladner, Lovász, Tamir: Semi-matchings for bipartite graphs and load balancing, 2003)
    so members of equal subscriptions have loads within one of each other, in a mixed group as well
    fewest moves: no other assignment as even takes fewer partitions from owners who are still there and subscribed,
        whether all members subscribe to the same or not; so an assignment handed back moves nothing
    the order of the members, or of a mapping, changes nothing; nor does chance

What is not promised
    in a mixed group, how one topic's partitions are spread: only the sum of what a member owns is kept even
    that fresh groups which differ by a member get similar answers: who keeps what depends on previous owners

Why both are exact. Members of equal subscriptions form a *cohort*, topics with equal subscribers a *bundle*. Making the
sum of squares least is a flow with convex costs from bundles to members. `_limits` finds its dual prices: a limit for
each cohort. By complementary slackness an assignment is even if, and only if, each member owns its limit or one less
and each partition goes to a subscriber of the lowest limit. Among those, `_Plan` finds one with the fewest moves, which
is again a flow, with cost 1 for each partition taken away. Sizes stay small, since the flows are of counts: they know
cohorts, bundles and members, but no single partitions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from heapq import heappop, heappush
from struct import Struct
from typing import NamedTuple

from ...partitions.environment import PartitionId

VIRTUAL_NODES = 32
"""Places of each member on the ring. Brokers of one cluster must agree on it; a multiple of 8."""

_EIGHT_PLACES = Struct(">8Q")
_CIRCUMFERENCE = 1 << 64


class Taker(NamedTuple):
    """A member that may own partitions."""

    member_id: str
    ring_key: str
    """Its place on the ring comes from this: the instance id of a static member, else the member id."""
    topics: frozenset[str]
    """Ids of the topics it subscribes to; some may not exist (any more)."""


def assign(
    takers: Iterable[Taker], partitions: Mapping[str, int], previous: Mapping[PartitionId, str]
) -> dict[PartitionId, str]:
    """The owner's member id for every partition of every topic that somebody subscribes to.

    `partitions` tells how many there are of each topic that exists, by topic id. `previous` has the present owners by
    member id; it may name members that are gone and topics that are gone or no longer subscribed to. Member ids differ.
    """
    group = _Subscriptions(takers, partitions)
    limits = _limits(group)
    open_to = [_of_lowest_limit(cohorts, limits) for cohorts in group.cohorts_of]
    """For each bundle, the cohorts that take of it in an even assignment."""
    free: list[list[PartitionId]] = [[] for _ in group.topics_of]
    held: dict[tuple[int, int], list[PartitionId]] = defaultdict(list)
    """By member and bundle, what the member owns and may keep."""
    for bundle, topics in enumerate(group.topics_of):
        may_own = set(open_to[bundle])
        for topic_id in topics:
            for number in range(partitions[topic_id]):
                partition = PartitionId(topic_id, number)
                owner = group.number_of.get(previous.get(partition, ""), -1)
                if owner >= 0 and group.cohort_of[owner] in may_own:
                    held[owner, bundle].append(partition)
                else:
                    free[bundle].append(partition)

    plan = _Plan(group, limits, open_to, {key: len(owned) for key, owned in held.items()})
    owners: dict[PartitionId, str] = {}
    for (member, bundle), owned in held.items():
        count = plan.keeps[member, bundle]
        if count < len(owned):
            owned = _nearest_first(owned, group.places(member))
            free[bundle] += owned[count:]
        owners.update(dict.fromkeys(owned[:count], group.members[member].member_id))
    _hand_out(group, plan, free, owners)
    return owners


class _Subscriptions:
    """Members, numbered in the order of the ring, in cohorts; and topics, in bundles.

    Topics without a partition or without a subscriber are in no bundle.
    """

    def __init__(self, takers: Iterable[Taker], partitions: Mapping[str, int]) -> None:
        self.members = sorted(takers, key=lambda taker: (_hash(f"member {taker.ring_key}"), taker))
        self.number_of = {taker.member_id: number for number, taker in enumerate(self.members)}
        assert len(self.number_of) == len(self.members), f"a member is named twice in {self.members}"
        cohorts: dict[frozenset[str], int] = {}
        self.cohort_of = [cohorts.setdefault(taker.topics, len(cohorts)) for taker in self.members]
        counted = Counter(self.cohort_of)
        self.sizes = [counted[cohort] for cohort in range(len(cohorts))]
        """Members of each cohort."""
        self._places: dict[int, list[int]] = {}
        subscribed: dict[str, list[int]] = defaultdict(list)
        for topics, cohort in cohorts.items():
            for topic_id in topics:
                if partitions.get(topic_id):
                    subscribed[topic_id].append(cohort)
        bundles: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for topic_id in sorted(subscribed):
            bundles[tuple(subscribed[topic_id])].append(topic_id)
        self.cohorts_of = list(bundles)
        """The cohorts that subscribe to each bundle."""
        self.topics_of = list(bundles.values())
        self.counts = [sum(partitions[topic_id] for topic_id in topics) for topics in self.topics_of]
        """Partitions of each bundle."""

    def places(self, member: int) -> list[int]:
        """Where it stands on the ring."""
        if member not in self._places:
            self._places[member] = _places(self.members[member].ring_key)
        return self._places[member]


def _limits(group: _Subscriptions) -> list[int]:
    """The most that a member of each cohort may own: in an even assignment it owns so many, or one less.

    Where cohorts and bundles can share evenly, that is the mean, rounded up. Where not, some bundles hold more than
    their subscribers can take of an even share. These part from the rest: their subscribers own no less than anybody
    else does, so that they take nothing of other bundles. Then each side is looked at by itself.
    """
    limits = [0] * len(group.sizes)
    parts = [(list(range(len(group.sizes))), list(range(len(group.counts))))]
    while parts:
        cohorts, bundles = parts.pop()
        members = sum(group.sizes[cohort] for cohort in cohorts)
        total = sum(group.counts[bundle] for bundle in bundles)
        if not total:
            continue
        flow = _Flow()
        node_of_cohort = {cohort: flow.node() for cohort in cohorts}
        node_of_bundle = {bundle: flow.node() for bundle in bundles}
        for bundle, node in node_of_bundle.items():
            flow.arc(flow.source, node, group.counts[bundle])
            for cohort in group.cohorts_of[bundle]:
                if cohort in node_of_cohort:
                    flow.arc(node, node_of_cohort[cohort], total)
        # Each member must be able to own the mean; then, with room for one more each, nothing may be left.
        room = 0
        for more in (mean := total // members, 1):
            for cohort, node in node_of_cohort.items():
                flow.arc(node, flow.sink, more * group.sizes[cohort])
            room += more * members
            flow.fill()
            if flow.amount < min(room, total):
                above = flow.reached()
                parts += (
                    (
                        [cohort for cohort, node in node_of_cohort.items() if (node in above) is side],
                        [bundle for bundle, node in node_of_bundle.items() if (node in above) is side],
                    )
                    for side in (True, False)
                )
                break
        else:
            for cohort in cohorts:
                limits[cohort] = mean + (total % members > 0)
    return limits


class _Plan:
    """How many partitions of each bundle every owner keeps and every cohort takes, with the fewest moves.

    `held` has, by member and bundle, what the member owns and may keep. A flow from what is in excess to where there is
    room: partitions without an owner, and what members own above their limit less one, go through cohorts to members
    that own less than that, and only then to members that own just that. Taking one from its owner costs 1.
    """

    def __init__(
        self,
        group: _Subscriptions,
        limits: Sequence[int],
        open_to: Sequence[Sequence[int]],
        held: Mapping[tuple[int, int], int],
    ) -> None:
        flow = _Flow()
        bundles = [flow.node() for _ in group.counts]
        cohorts = [flow.node() for _ in group.sizes]
        members = [flow.node() for _ in group.members]
        free = list(group.counts)
        load = [0] * len(members)
        kept: dict[tuple[int, int], int] = {}
        """Arcs from member to bundle."""
        for (member, bundle), count in sorted(held.items()):
            load[member] += count
            free[bundle] -= count
            kept[member, bundle] = flow.arc(members[member], bundles[bundle], count, cost=1)
        quotas = []
        """Arcs (cohort, arc) from each bundle to those that it is open to."""
        for bundle, node in enumerate(bundles):
            flow.arc(flow.source, node, free[bundle])
            anything = group.counts[bundle]
            quotas.append([(cohort, flow.arc(node, cohorts[cohort], anything)) for cohort in open_to[bundle]])
        rooms = []
        """Arcs from cohort to member."""
        waiting = 0
        for member, node in enumerate(members):
            limit = limits[group.cohort_of[member]]
            sure = max(limit - 1, 0)
            flow.arc(flow.source, node, max(load[member] - sure, 0))
            flow.arc(node, flow.sink, max(sure - load[member], 0))
            flow.arc(node, flow.sink, limit - sure, cost=_LAST_RESORT)
            rooms.append(flow.arc(cohorts[group.cohort_of[member]], node, limit))
            waiting += max(load[member] - sure, 0)
        flow.fill()
        assert flow.amount == sum(free) + waiting, f"{flow.amount} of {sum(free) + waiting} found room, limits {limits}"

        self.keeps = {key: flow.room(arc) for key, arc in kept.items()}
        """By member and bundle."""
        self.takes = [{cohort: count for cohort, arc in arcs if (count := flow.through(arc))} for arcs in quotas]
        """For each bundle, how many of its partitions each cohort takes."""
        self.room = [flow.through(arc) for arc in rooms]
        """How many partitions each member takes."""


_LAST_RESORT = 1 << 30
"""Costs more than any number of moves."""


class _Flow:
    """A network from source to sink, and the flow of least cost that fills it (successive shortest paths).

    Costs are integers >= 0. Of equally cheap paths the one with the fewest arcs is filled first, then the one whose
    arcs were made first: the answer depends on the order in which the network was made, and on nothing else.
    """

    _HOP_BITS = 24
    """A distance counts cost in its upper bits and arcs in the lower ones."""

    def __init__(self) -> None:
        self.amount = 0
        """What flows."""
        self._arcs: list[list[int]] = []
        """Those that leave each node. Arc n ^ 1 is arc n the other way: it has room for what flows through n."""
        self._head: list[int] = []
        self._room: list[int] = []
        self._cost: list[int] = []
        self._potential: list[int] = []
        """Cost of the way from the source, as found last: no arc with room is cheaper than the difference."""
        self._distance: list[int] = []
        self.source, self.sink = self.node(), self.node()

    def node(self) -> int:
        self._arcs.append([])
        self._potential.append(0)
        return len(self._arcs) - 1

    def arc(self, tail: int, head: int, room: int, *, cost: int = 0) -> int:
        """Make an arc and tell its number."""
        number = len(self._head)
        self._head += (head, tail)
        self._room += (room, 0)
        self._cost += (cost, -cost)
        self._arcs[tail].append(number)
        self._arcs[head].append(number + 1)
        return number

    def room(self, arc: int) -> int:
        return self._room[arc]

    def through(self, arc: int) -> int:
        return self._room[arc ^ 1]

    def fill(self) -> None:
        """Send as much as finds room, at the least cost. Arcs may be added and filled again if all cost nothing."""
        while self._measure():
            self._send()
            farthest = self._distance[self.sink] >> self._HOP_BITS
            if farthest:
                self._potential = [
                    potential + min(distance >> self._HOP_BITS, farthest)
                    for potential, distance in zip(self._potential, self._distance, strict=True)
                ]

    def reached(self) -> set[int]:
        """The nodes to which the source could send more, once the network is filled."""
        return {node for node, distance in enumerate(self._distance) if distance < _FAR}

    def _measure(self) -> bool:
        """Find distances from the source, up to the sink's; is there a way to it?"""
        arcs, heads, rooms, costs, potential = self._arcs, self._head, self._room, self._cost, self._potential
        distances = self._distance = [_FAR] * len(arcs)
        distances[self.source] = 0
        frontier = [(0, self.source)]
        while frontier:
            distance, node = heappop(frontier)
            if node == self.sink:
                return True
            if distance > distances[node]:
                continue
            here = potential[node]
            for arc in arcs[node]:
                if rooms[arc]:
                    head = heads[arc]
                    farther = distance + ((costs[arc] + here - potential[head]) << self._HOP_BITS) + 1
                    if farther < distances[head]:
                        distances[head] = farther
                        heappush(frontier, (farther, head))
        return False

    def _send(self) -> None:
        """Fill shortest paths until each has a full arc."""
        arcs, heads, rooms, costs, potential = self._arcs, self._head, self._room, self._cost, self._potential
        distances = self._distance
        tried = [0] * len(arcs)
        """How many arcs of each node lead nowhere."""
        path: list[int] = []
        node = self.source
        while True:
            if node == self.sink:
                amount = min(rooms[arc] for arc in path)
                self.amount += amount
                for arc in path:
                    rooms[arc] -= amount
                    rooms[arc ^ 1] += amount
                full = next(at for at, arc in enumerate(path) if not rooms[arc])
                node = heads[path[full] ^ 1]
                del path[full:]
            elif tried[node] < len(arcs[node]):
                arc = arcs[node][tried[node]]
                head = heads[arc]
                step = ((costs[arc] + potential[node] - potential[head]) << self._HOP_BITS) + 1
                if rooms[arc] and distances[head] == distances[node] + step:
                    path.append(arc)
                    node = head
                else:
                    tried[node] += 1
            elif path:
                node = heads[path.pop() ^ 1]
                tried[node] += 1
            else:
                return


_FAR = 1 << 80
"""Farther than any node can be."""


def _of_lowest_limit(cohorts: Sequence[int], limits: Sequence[int]) -> list[int]:
    lowest = min(limits[cohort] for cohort in cohorts)
    return [cohort for cohort in cohorts if limits[cohort] == lowest]


def _hand_out(
    group: _Subscriptions, plan: _Plan, free: Sequence[Sequence[PartitionId]], owners: dict[PartitionId, str]
) -> None:
    """Each free partition goes to the first member after its place that has room for one of its bundle."""
    room, takes = list(plan.room), [dict(cohorts) for cohorts in plan.takes]
    taking = [member for member, count in enumerate(room) if count]
    of_cohort: dict[int, list[int]] = defaultdict(list)
    for member in taking:
        of_cohort[group.cohort_of[member]].append(member)
    rings = {cohort: _Ring(group, members) for cohort, members in of_cohort.items()}
    everybody = _Ring(group, taking if len(rings) > _FEW_COHORTS else ())

    waiting = sorted((_place(partition), partition, bundle) for bundle, some in enumerate(free) for partition in some)
    for place, partition, bundle in waiting:
        wanted = takes[bundle]
        # Both ways find the same member. Where few cohorts are wanted, many others' places may lie before it.
        if len(wanted) <= _FEW_COHORTS:
            _, member = min(next(rings[cohort].following(place)) for cohort in wanted)
        else:
            member = next(member for _, member in everybody.following(place) if group.cohort_of[member] in wanted)
        owners[partition] = group.members[member].member_id
        cohort = group.cohort_of[member]
        wanted[cohort] -= 1
        if not wanted[cohort]:
            del wanted[cohort]
        room[member] -= 1
        if not room[member]:
            rings[cohort].drop(member)
            everybody.drop(member)


_FEW_COHORTS = 8
"""Up to so many, looking at each one's ring is quicker than walking past all the members that do not matter."""


class _Ring:
    """Members on a circle of 64-bit hashes, each at several places; those who are dropped are passed over fast."""

    def __init__(self, group: _Subscriptions, members: Iterable[int]) -> None:
        found = sorted((place, member) for member in members for place in group.places(member))
        self._places = [place for place, _ in found]
        self._members = [member for _, member in found]
        self._onward = list(range(len(found)))
        """For each place: itself, or if its member was dropped, one further on, with nobody but dropped between."""
        self._where: dict[int, list[int]] = defaultdict(list)
        for at, member in enumerate(self._members):
            self._where[member].append(at)

    def following(self, place: int) -> Iterator[tuple[int, int]]:
        """Members from this place on, round and round: (way to its place, member). Somebody must be left."""
        onward, count = self._onward, len(self._onward)
        at = bisect_left(self._places, place)
        while True:
            at %= count
            while onward[at] != at:
                onward[at] = onward[onward[at]]  # halves the way for those who come after
                at = onward[at]
            yield (self._places[at] - place) % _CIRCUMFERENCE, self._members[at]
            at += 1

    def drop(self, member: int) -> None:
        """Pass it over from now on, if it is here."""
        for at in self._where.pop(member, ()):
            self._onward[at] = (at + 1) % len(self._onward)


def _nearest_first(partitions: Iterable[PartitionId], places: Iterable[int]) -> list[PartitionId]:
    """Those first whose place has one of a member's places close behind it."""
    places = sorted(places)

    def distance(partition: PartitionId) -> tuple[int, PartitionId]:
        place = _place(partition)
        return (places[bisect_left(places, place) % len(places)] - place) % _CIRCUMFERENCE, partition

    return sorted(partitions, key=distance)


def _place(partition: PartitionId) -> int:
    return _hash(f"partition {partition}")


def _places(ring_key: str) -> list[int]:
    """A member's places on the ring."""
    return [
        place
        for turn in range(VIRTUAL_NODES // 8)
        for place in _EIGHT_PLACES.unpack(blake2b(f"member {turn} {ring_key}".encode()).digest())
    ]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
