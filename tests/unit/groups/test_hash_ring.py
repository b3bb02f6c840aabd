from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.node.groups.hash_ring import Taker, assign
from lograft.partitions.environment import PartitionId

Owners = dict[PartitionId, str]


def taker(member_id: str, *topics: str) -> Taker:
    return Taker(member_id, member_id, frozenset(topics))


def contended(takers: Sequence[Taker], partitions: Mapping[str, int]) -> dict[PartitionId, list[str]]:
    """Who may own each partition that has a subscriber."""
    subscribers = {topic: [each.member_id for each in takers if topic in each.topics] for topic in partitions}
    return {
        PartitionId(topic, number): subscribers[topic]
        for topic, count in partitions.items()
        for number in range(count)
        if subscribers[topic]
    }


def loads(takers: Sequence[Taker], owners: Mapping[PartitionId, str]) -> list[int]:
    """Largest first."""
    counted = Counter(owners.values())
    return sorted((counted[each.member_id] for each in takers), reverse=True)


def kept_at_best(takers: Sequence[Taker], partitions: Mapping[str, int], previous: Owners) -> Owners:
    """What of the previous assignment is still allowed."""
    allowed = contended(takers, partitions)
    return {partition: owner for partition, owner in previous.items() if owner in allowed.get(partition, ())}


def moved(takers: Sequence[Taker], partitions: Mapping[str, int], previous: Owners, owners: Owners) -> int:
    """Partitions taken from an owner who might have kept them."""
    before = kept_at_best(takers, partitions, previous)
    return sum(owners[partition] != owner for partition, owner in before.items())


def least_moves_of_equals(takers: Sequence[Taker], partitions: Mapping[str, int], previous: Owners) -> int:
    """By the rule for equal subscriptions: bounds q + 1 for the most loaded r, q for the others."""
    each, rest = divmod(len(contended(takers, partitions)), len(takers))
    present = loads(takers, kept_at_best(takers, partitions, previous))
    return sum(max(0, load - each - (place < rest)) for place, load in enumerate(present))


def best_of_all(takers: Sequence[Taker], partitions: Mapping[str, int], previous: Owners) -> tuple[list[int], int]:
    """The most even loads and, with those, the fewest moves, by looking at every assignment there is."""
    allowed = contended(takers, partitions)
    before = [previous.get(partition) for partition in allowed]
    movable = [owner in some for owner, some in zip(before, allowed.values(), strict=True)]
    best = ([len(allowed) + 1], 0)
    for owners in product(*allowed.values()):
        counted = Counter(owners)
        even = sorted((counted[each.member_id] for each in takers), reverse=True)
        if even <= best[0]:
            moves = sum(m and owner != old for m, owner, old in zip(movable, owners, before, strict=True))
            best = min(best, (even, moves))
    return best


def can_be_bettered(takers: Sequence[Taker], partitions: Mapping[str, int], previous: Owners, owners: Owners) -> bool:
    """Is there a round of exchanges that makes loads more even, or spares a move and leaves them as even?

    Such a round is a cycle of negative cost (Bellman, Ford) among topics, members and one node that stands for load;
    with convex costs, where there is none, nothing at all is better. Partitions of a topic count as alike.
    """
    before = Counter((owner, p.topic_id) for p, owner in kept_at_best(takers, partitions, previous).items())
    now = Counter((owner, p.topic_id) for p, owner in owners.items())
    load = Counter(owners.values())
    steps: list[tuple[str, str, int]] = []
    for each in takers:
        member = f"member {each.member_id}"
        steps.append((member, "load", 10_000 * (load[each.member_id] + 1)))
        if load[each.member_id]:
            steps.append(("load", member, -10_000 * load[each.member_id]))
        for topic in each.topics:
            mine, mine_before = now[each.member_id, topic], before[each.member_id, topic]
            if mine:
                steps.append((member, topic, 1 if mine <= mine_before else 0))
            if topic in partitions:
                steps.append((topic, member, -1 if mine < mine_before else 0))
    distance: defaultdict[str, int] = defaultdict(int)
    for _ in range(2 * len(takers) + len(partitions) + 2):
        shorter = False
        for tail, head, cost in steps:
            if distance[tail] + cost < distance[head]:
                distance[head] = distance[tail] + cost
                shorter = True
        if not shorter:
            return False
    return True


@st.composite
def any_group(
    draw: st.DrawFn, *, mixed: bool, members_max: int, partitions_max: int
) -> tuple[list[Taker], dict[str, int], Owners]:
    """Members, topics, and owners before: some of them gone, some partitions free, some topics deleted or not read."""
    topic_of_each = draw(st.lists(st.sampled_from("abcdef"), max_size=partitions_max))
    partitions = {"empty": 0, **Counter(topic_of_each)}
    everything = frozenset(partitions)
    member_ids = draw(st.lists(st.text("0123456789", min_size=2, max_size=4), max_size=members_max, unique=True))
    subscriptions = st.frozensets(st.sampled_from([*sorted(partitions), "unknown"])) if mixed else st.just(everything)
    takers = [Taker(member_id, f"instance {member_id}", draw(subscriptions)) for member_id in member_ids]
    known = [PartitionId(topic, number) for topic, count in partitions.items() for number in range(count + 1)]
    owners = st.sampled_from([None, "gone", *member_ids, *member_ids])
    before = draw(st.lists(owners, min_size=len(known), max_size=len(known)))
    previous = {partition: owner for partition, owner in zip(known, before, strict=True) if owner is not None}
    return takers, partitions, {**previous, PartitionId("deleted", 0): "gone"}


SMALL = any_group(mixed=True, members_max=4, partitions_max=6)
LARGE = any_group(mixed=True, members_max=12, partitions_max=40)
EQUAL = any_group(mixed=False, members_max=12, partitions_max=40)

Group = tuple[list[Taker], dict[str, int], Owners]


@given(st.one_of(LARGE, EQUAL))
def test_each_partition_with_a_subscriber_has_one_owner_and_that_one_subscribes_to_it(group: Group) -> None:
    takers, partitions, previous = group
    owners = assign(takers, partitions, previous)
    allowed = contended(takers, partitions)
    assert owners.keys() == allowed.keys()
    assert all(owner in allowed[partition] for partition, owner in owners.items())


@settings(max_examples=300, deadline=None)
@given(SMALL)
def test_of_all_possible_assignments_none_is_more_even_and_none_as_even_has_fewer_moves(group: Group) -> None:
    takers, partitions, previous = group
    owners = assign(takers, partitions, previous)
    assert (loads(takers, owners), moved(takers, partitions, previous, owners)) == best_of_all(
        takers, partitions, previous
    )


@settings(max_examples=200, deadline=None)
@given(any_group(mixed=False, members_max=4, partitions_max=6))
def test_the_rule_for_equal_subscriptions_is_the_least_that_any_balanced_assignment_moves(group: Group) -> None:
    takers, partitions, previous = group
    if not takers:
        return
    owners = assign(takers, partitions, previous)
    even, fewest = best_of_all(takers, partitions, previous)
    assert loads(takers, owners) == even
    assert moved(takers, partitions, previous, owners) == fewest == least_moves_of_equals(takers, partitions, previous)


@given(EQUAL)
def test_equal_subscriptions_give_loads_within_one_and_move_exactly_the_least(group: Group) -> None:
    takers, partitions, previous = group
    owners = assign(takers, partitions, previous)
    if takers:
        assert loads(takers, owners)[0] - loads(takers, owners)[-1] <= 1
        assert moved(takers, partitions, previous, owners) == least_moves_of_equals(takers, partitions, previous)


@settings(deadline=None)
@given(LARGE)
def test_no_round_of_exchanges_betters_a_mixed_group(group: Group) -> None:
    takers, partitions, previous = group
    assert not can_be_bettered(takers, partitions, previous, assign(takers, partitions, previous))


@given(LARGE)
def test_members_of_equal_subscriptions_are_within_one_of_each_other_in_a_mixed_group_too(group: Group) -> None:
    takers, partitions, previous = group
    load = Counter(assign(takers, partitions, previous).values())
    for topics in {each.topics for each in takers}:
        alike = [load[each.member_id] for each in takers if each.topics == topics]
        assert max(alike) - min(alike) <= 1


@given(st.one_of(LARGE, EQUAL), st.integers(0, 2**32))
def test_the_order_in_which_anything_is_named_does_not_matter(group: Group, seed: int) -> None:
    takers, partitions, previous = group
    random = Random(seed)
    shuffled = random.sample(takers, len(takers))
    topics = random.sample(sorted(partitions.items()), len(partitions))
    before = random.sample(sorted(previous.items()), len(previous))
    assert assign(shuffled, dict(topics), dict(before)) == assign(takers, partitions, previous)


@given(st.one_of(LARGE, EQUAL))
def test_an_assignment_handed_back_moves_nothing(group: Group) -> None:
    takers, partitions, previous = group
    owners = assign(takers, partitions, previous)
    assert assign(takers, partitions, owners) == owners


@given(EQUAL)
def test_nobody_is_left_out_while_there_are_partitions_enough(group: Group) -> None:
    takers, partitions, _ = group
    if takers and sum(partitions.values()) >= len(takers):
        assert set(assign(takers, partitions, {}).values()) == {each.member_id for each in takers}


class History:
    """A group as it changes at random, with the rule asked after each change."""

    def __init__(self, seed: int, *, mixed: bool, members_max: int = 12) -> None:
        self.random = Random(seed)
        self.mixed, self.members_max = mixed, members_max
        self.partitions: dict[str, int] = {"t0": 12}
        self.topics: dict[str, frozenset[str]] = {}
        self.owners: Owners = {}
        self._made = 1

    def step(self) -> tuple[list[Taker], Owners]:
        """Change something; the members now, and the owners before."""
        random = self.random
        changes = ["join", "join", "join", "leave", "leave", "crash", "topic", "topic", "grow", "delete", "subscribe"]
        match random.choice(changes):
            case "join" if len(self.topics) < self.members_max:
                self.topics[f"m{random.getrandbits(40):010x}"] = self._subscription()
            case "leave" if self.topics:
                del self.topics[random.choice(sorted(self.topics))]
            case "crash" if random.random() < 0.2:
                self.topics = {member_id: some for member_id, some in self.topics.items() if random.random() < 0.5}
            case "topic" if len(self.partitions) < 8:
                self.partitions[f"t{self._made}"] = random.randrange(1, 9)
                self._made += 1
            case "grow" if self.partitions:
                self.partitions[random.choice(sorted(self.partitions))] += random.randrange(1, 3)
            case "delete" if self.partitions:
                del self.partitions[random.choice(sorted(self.partitions))]
            case "subscribe" if self.topics and self.mixed:
                self.topics[random.choice(sorted(self.topics))] = self._subscription()
        if not self.mixed:
            self.topics = dict.fromkeys(self.topics, frozenset(self.partitions))
        takers = [taker(member_id, *some) for member_id, some in self.topics.items()]
        before, self.owners = self.owners, assign(takers, self.partitions, self.owners)
        return takers, before

    def _subscription(self) -> frozenset[str]:
        return frozenset(topic for topic in sorted(self.partitions) if self.random.random() < 0.6)


@pytest.mark.parametrize("seed", range(4))
def test_through_a_history_of_equals_each_change_moves_the_least_and_loads_stay_within_one(seed: int) -> None:
    history = History(seed, mixed=False, members_max=20)
    for _ in range(1000):
        takers, before = history.step()
        assert history.owners.keys() == contended(takers, history.partitions).keys()
        if takers:
            load = loads(takers, history.owners)
            assert load[0] - load[-1] <= 1
            assert moved(takers, history.partitions, before, history.owners) == least_moves_of_equals(
                takers, history.partitions, before
            )


@pytest.mark.parametrize("seed", range(8))
def test_through_a_history_of_differing_subscriptions_nothing_could_be_more_even_or_move_less(seed: int) -> None:
    history = History(seed, mixed=True)
    for _ in range(500):
        takers, before = history.step()
        allowed = contended(takers, history.partitions)
        assert history.owners.keys() == allowed.keys()
        assert all(owner in allowed[partition] for partition, owner in history.owners.items())
        assert not can_be_bettered(takers, history.partitions, before, history.owners)


def test_a_better_assignment_is_seen_as_better() -> None:
    # What the two tests above are worth: one load to even out through a third member; one move to spare.
    chain = [taker("x", "a"), taker("y", "a", "b"), taker("z", "b")]
    lopsided = {PartitionId("a", 0): "x", PartitionId("a", 1): "x", PartitionId("b", 0): "y"}
    assert can_be_bettered(chain, {"a": 2, "b": 1}, {}, lopsided)
    equals = [taker("x", "a", "b"), taker("y", "a", "b")]
    before, swapped = ({PartitionId("a", 0): a, PartitionId("b", 0): b} for a, b in ("xy", "yx"))
    assert can_be_bettered(equals, {"a": 1, "b": 1}, before, swapped)
    assert not can_be_bettered(equals, {"a": 1, "b": 1}, before, before)


def test_two_members_that_share_a_ring_key_both_get_their_part() -> None:
    twins = [Taker("old", "one instance", frozenset("t")), Taker("new", "one instance", frozenset("t"))]
    assert loads(twins, assign(twins, {"t": 5}, {})) == [3, 2]


def test_a_chain_of_subscriptions_longer_than_the_stack_is_deep_is_evened_out_end_to_end() -> None:
    # The first member owns both its topics, the others the second of theirs; the last one's second does not exist.
    members = [taker(f"m{at}", f"t{at}", f"t{at + 1}") for at in range(600)]
    partitions = {f"t{at}": 1 for at in range(600)}
    previous = {PartitionId(f"t{at}", 0): f"m{max(at - 1, 0)}" for at in range(600)}
    owners = assign(members, partitions, previous)
    assert loads(members, owners) == [1] * 600
    assert moved(members, partitions, previous, owners) == 599


def test_the_answer_is_the_same_in_every_process_and_version() -> None:
    members = [Taker(f"member-{name}", f"instance-{name}", frozenset("t")) for name in "abc"]
    fresh = assign(members, {"t": 8}, {})
    assert "".join(fresh[PartitionId("t", number)][-1] for number in range(8)) == "bbaccaab"
    joined = [*members, Taker("member-d", "instance-d", frozenset("t"))]
    assert "".join(assign(joined, {"t": 8}, fresh)[PartitionId("t", number)][-1] for number in range(8)) == "dbdccaab"


def test_the_answer_for_a_mixed_group_is_the_same_in_every_process_and_version() -> None:
    members = [taker("x", "a", "b"), taker("y", "b", "c"), taker("z", "a", "b", "c"), taker("w", "c")]
    owners = assign(members, {"a": 3, "b": 4, "c": 5}, {})
    assert " ".join(f"{topic}{number}{owner}" for (topic, number), owner in sorted(owners.items())) == (
        "a0x a1z a2x b0y b1x b2z b3y c0y c1w c2z c3w c4w"
    )


def test_free_partitions_are_spread_over_the_ring_and_not_dealt_out_in_a_row() -> None:
    members = [taker(f"m{at}", "t") for at in range(10)]
    owners = assign(members, {"t": 200}, {})
    neighbours = sum(owners[PartitionId("t", at)] == owners[PartitionId("t", at + 1)] for at in range(199))
    assert 5 < neighbours < 45


def test_two_hundred_members_and_a_thousand_partitions_are_shared_evenly_and_a_leaver_moves_only_its_own() -> None:
    members = [taker(f"m{at}", "t") for at in range(200)]
    owners = assign(members, {"t": 1000}, {})
    assert loads(members, owners) == [5] * 200
    after = assign(members[1:], {"t": 1000}, owners)
    assert {partition for partition in owners if owners[partition] != after[partition]} == {
        partition for partition, owner in owners.items() if owner == "m0"
    }
