"""A plan makes brokers hold and lead equally much, moves as little as that takes, and keeps every promise meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.node.controller.placement import Candidate
from lograft.node.controller.rebalance import Move, Placed, plan


def takers(*broker_ids: int) -> list[Candidate]:
    return [Candidate(broker_id) for broker_id in broker_ids]


def a_topic(*placements: tuple[int, ...], topic: str = "t") -> list[Placed]:
    return [Placed(topic, number, brokers) for number, brokers in enumerate(placements)]


def carried_out(partitions: Sequence[Placed], moves: Sequence[Move]) -> list[Placed]:
    after = {(move.topic, move.number): move.after for move in moves}
    return [placed._replace(brokers=after.get((placed.topic, placed.number), placed.brokers)) for placed in partitions]


def held(partitions: Sequence[Placed], broker_ids: Sequence[int]) -> list[int]:
    count = Counter(broker_id for placed in partitions for broker_id in placed.brokers)
    return [count[broker_id] for broker_id in broker_ids]


def led(partitions: Sequence[Placed], broker_ids: Sequence[int]) -> list[int]:
    count = Counter(placed.brokers[0] for placed in partitions)
    return [count[broker_id] for broker_id in broker_ids]


def is_even(loads: Sequence[int]) -> bool:
    return max(loads) - min(loads) <= 1


def copied(moves: Sequence[Move]) -> int:
    return sum(move.replicas_moved for move in moves)


def layouts(replications: st.SearchStrategy[int], brokers_max: int, partitions_max: int) -> st.SearchStrategy[object]:
    """(brokers, partitions): anything, however uneven."""

    def partitions(count: int) -> st.SearchStrategy[list[Placed]]:
        placement = replications.flatmap(
            lambda most: st.permutations(range(count)).map(lambda order: tuple(order[: min(most, count)]))
        )
        one = st.tuples(st.sampled_from("abc"), placement, st.integers(-1, 5))
        return st.lists(one, max_size=partitions_max).map(
            lambda found: [Placed(topic, number, brokers, size) for number, (topic, brokers, size) in enumerate(found)]
        )

    return st.integers(1, brokers_max).flatmap(lambda count: st.tuples(st.just(count), partitions(count)))


ANY = layouts(st.integers(1, 4), 6, 24)


@given(ANY)
def test_brokers_hold_and_are_preferred_within_one_of_each_other(layout: tuple[int, list[Placed]]) -> None:
    count, partitions = layout
    after = carried_out(partitions, plan(partitions, takers(*range(count))))
    assert is_even(held(after, range(count)))
    assert is_even(led(after, range(count)))


@given(ANY, st.sets(st.integers(0, 5)), st.sets(st.integers(0, 23)))
def test_replication_is_kept_and_nothing_touches_brokers_that_may_not_take_or_partitions_that_may_not_move(
    layout: tuple[int, list[Placed]], not_taking: set[int], not_moving: set[int]
) -> None:
    count, partitions = layout
    partitions = [
        placed._replace(may_move=False) if index in not_moving else placed for index, placed in enumerate(partitions)
    ]
    takes = [broker_id for broker_id in range(count) if broker_id not in not_taking]
    moves = plan(partitions, takers(*takes))
    movable = {(placed.topic, placed.number): placed.brokers for placed in partitions if placed.may_move}
    for move in moves:
        assert move.before == movable[move.topic, move.number] != move.after
        assert len(move.after) == len(move.before) == len({*move.after}), "each replica on a broker of its own"
        assert {*move.before} - {*move.after} <= {*takes}, "what is held by others stays there"
        assert {*move.after} - {*move.before} <= {*takes}
        if move.after[0] != move.before[0]:
            assert {move.before[0], move.after[0]} <= {*takes}
    assert plan(carried_out(partitions, moves), takers(*takes)) == []


@given(ANY)
def test_a_second_plan_right_after_has_nothing_to_do(layout: tuple[int, list[Placed]]) -> None:
    count, partitions = layout
    moves = plan(partitions, takers(*range(count)))
    assert plan(carried_out(partitions, moves), takers(*range(count))) == []


def fewest_copied(count: int, partitions: Sequence[Placed], *, leaders_too: bool) -> int:
    """By trying everything."""
    choices = [
        [(leader, chosen) for chosen in combinations(range(count), len(placed.brokers)) for leader in chosen]
        if leaders_too
        else [(chosen[0], chosen) for chosen in combinations(range(count), len(placed.brokers))]
        for placed in partitions
    ]

    def costs() -> Iterator[int]:
        for chosen in product(*choices):
            holds = Counter(broker_id for _, brokers in chosen for broker_id in brokers)
            leads = Counter(leader for leader, _ in chosen)
            if is_even([holds[each] for each in range(count)]) and (
                not leaders_too or is_even([leads[each] for each in range(count)])
            ):
                yield sum(
                    len({*brokers} - {*placed.brokers}) for (_, brokers), placed in zip(chosen, partitions, strict=True)
                )

    return min(costs())


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3).flatmap(lambda replication: layouts(st.just(replication), 4, 4)))
def test_no_fewer_replicas_could_be_moved_where_all_topics_have_the_same_replication(
    layout: tuple[int, list[Placed]],
) -> None:
    count, partitions = layout
    assert copied(plan(partitions, takers(*range(count)))) == fewest_copied(count, partitions, leaders_too=True)


@settings(max_examples=100, deadline=None)
@given(layouts(st.integers(1, 3), 3, 5))
def test_among_different_replications_leaders_cost_at_most_a_few_swaps_more(layout: tuple[int, list[Placed]]) -> None:
    count, partitions = layout
    least = fewest_copied(count, partitions, leaders_too=True)
    assert least <= copied(plan(partitions, takers(*range(count)))) <= least + 2


def test_from_one_broker_to_three_exactly_the_surplus_moves_and_topics_are_spread() -> None:
    partitions = a_topic(*[(0,)] * 6, topic="a") + a_topic(*[(0,)] * 6, topic="b")
    moves = plan(partitions, takers(0, 1, 2))
    after = carried_out(partitions, moves)
    assert copied(moves) == 8
    for topic in "ab":
        assert held([placed for placed in after if placed.topic == topic], (0, 1, 2)) == [2, 2, 2]


def test_leaders_alone_are_evened_out_without_copying_a_byte() -> None:
    moves = plan(a_topic((0, 1, 2), (0, 1, 2), (0, 2, 1)), takers(0, 1, 2))
    assert copied(moves) == 0 and len(moves) == 2
    assert all({*move.before} == {*move.after} for move in moves)


def test_of_two_replicas_that_could_go_the_smaller_goes() -> None:
    partitions = [Placed("t", number, (0,), size) for number, size in enumerate((900, 100, 800))]
    assert [move.number for move in plan(partitions, takers(0, 1))] == [1]


def test_those_that_copy_records_come_first() -> None:
    partitions = a_topic((0, 1), (0, 1), (0, 1), (0, 1), topic="a") + a_topic((1, 0), topic="z")
    kinds = [bool(move.replicas_moved) for move in plan(partitions, takers(0, 1, 2))]
    assert True in kinds and kinds == sorted(kinds, reverse=True)


@given(ANY, st.lists(st.sampled_from(["", "x", "y", "z"]), min_size=6, max_size=6))
def test_no_partition_is_spread_more_unevenly_over_racks_than_before(
    layout: tuple[int, list[Placed]], racks: list[str]
) -> None:
    count, partitions = layout
    names = [racks[broker_id] or f"alone {broker_id}" for broker_id in range(count)]
    moves = plan(partitions, [Candidate(broker_id, racks[broker_id]) for broker_id in range(count)])

    def spread(brokers: tuple[int, ...]) -> list[int]:
        return sorted(Counter(names[broker_id] for broker_id in brokers).values(), reverse=True)

    assert all(spread(move.after) <= spread(move.before) for move in moves)


def test_replicas_move_within_racks_where_they_could_not_between_them() -> None:
    racks = {0: "x", 1: "y", 2: "x"}
    moves = plan(
        a_topic((0, 1), (0, 1), (1, 0), (1, 0)), [Candidate(broker_id, rack) for broker_id, rack in racks.items()]
    )
    assert copied(moves) == 2
    assert all({racks[broker_id] for broker_id in move.after} == {"x", "y"} for move in moves)


@pytest.mark.parametrize("broker_ids", [(), (7,)])
def test_with_nobody_to_share_with_there_is_nothing_to_do(broker_ids: tuple[int, ...]) -> None:
    assert plan(a_topic((7,), (7,)), takers(*broker_ids)) == []
