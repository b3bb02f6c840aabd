from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.node.controller.placement import Candidate, place

SEEDS = st.text("0123456789abcdef", min_size=32, max_size=32)


@st.composite
def any_cluster(draw: st.DrawFn) -> tuple[list[Candidate], int]:
    """Brokers in racks or not, with whatever they hold already, and a number of replicas they can take."""
    ids = draw(st.lists(st.integers(0, 200), min_size=1, max_size=9, unique=True))
    brokers = [
        Candidate(
            broker_id,
            draw(st.sampled_from(["", "r1", "r2", "r3"])),
            replicas := draw(st.integers(0, 30)),
            draw(st.integers(0, replicas)),
        )
        for broker_id in ids
    ]
    return brokers, draw(st.integers(1, len(ids)))


def loads(brokers: Sequence[Candidate], placements: Sequence[tuple[int, ...]]) -> Counter[int]:
    counted = Counter({broker.broker_id: broker.replicas for broker in brokers})
    counted.update(broker_id for placement in placements for broker_id in placement)
    return counted


def leads(brokers: Sequence[Candidate], placements: Sequence[tuple[int, ...]]) -> Counter[int]:
    counted = Counter({broker.broker_id: broker.leaders for broker in brokers})
    counted.update(placement[0] for placement in placements)
    return counted


def spread(counted: Counter[int]) -> int:
    return max(counted.values()) - min(counted.values())


@given(SEEDS, any_cluster(), st.integers(1, 40))
def test_each_partition_gets_its_replicas_on_different_brokers(
    seed: str, cluster: tuple[list[Candidate], int], partitions: int
) -> None:
    brokers, replicas = cluster
    placements = place(seed, partitions, replicas, brokers)
    assert len(placements) == partitions
    for placement in placements:
        assert len(set(placement)) == len(placement) == replicas
        assert set(placement) <= {broker.broker_id for broker in brokers}


@given(SEEDS, any_cluster(), st.integers(1, 40))
def test_no_rack_takes_a_further_replica_of_a_partition_before_every_rack_with_room_has_as_many(
    seed: str, cluster: tuple[list[Candidate], int], partitions: int
) -> None:
    brokers, replicas = cluster
    rack_of = {broker.broker_id: broker.rack or f"alone {broker.broker_id}" for broker in brokers}
    size_of = Counter(rack_of.values())
    for placement in place(seed, partitions, replicas, brokers):
        held = Counter(dict.fromkeys(size_of, 0))
        held.update(rack_of[broker_id] for broker_id in placement)
        for rack, count in held.items():
            assert all(count <= held[other] + 1 or held[other] == size_of[other] for other in size_of), (rack, held)


@given(SEEDS, st.integers(1, 9), st.integers(1, 60), st.integers(0, 9), st.data())
def test_equally_loaded_brokers_end_up_within_one_replica_and_one_leader_of_each_other(
    seed: str, count: int, partitions: int, load: int, data: st.DataObject
) -> None:
    replicas = data.draw(st.integers(1, count))
    brokers = [Candidate(broker_id * 7 + 3, "", load, load // 2) for broker_id in range(count)]
    placements = place(seed, partitions, replicas, brokers)
    assert spread(loads(brokers, placements)) <= 1
    assert spread(leads(brokers, placements)) <= 1


@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 40), st.data())
def test_racks_of_equal_size_cost_no_evenness(
    seed: str, racks: int, rack_size: int, partitions: int, data: st.DataObject
) -> None:
    brokers = [Candidate(rack * 10 + at, f"r{rack}") for rack in range(racks) for at in range(rack_size)]
    placements = place(seed, partitions, data.draw(st.integers(1, len(brokers))), brokers)
    assert spread(loads(brokers, placements)) <= 1
    assert spread(leads(brokers, placements)) <= 1


@given(SEEDS, any_cluster(), st.integers(1, 40))
def test_without_racks_a_broker_is_passed_over_only_for_less_loaded_ones(
    seed: str, cluster: tuple[list[Candidate], int], partitions: int
) -> None:
    brokers, replicas = cluster
    brokers = [broker._replace(rack="") for broker in brokers]
    placements = place(seed, partitions, replicas, brokers)
    before, after = loads(brokers, []), loads(brokers, placements)
    for taker in before:
        for other in before:
            took, other_took = after[taker] - before[taker], after[other] - before[other]
            if took and other_took < partitions:
                assert after[taker] <= after[other] + 1


@given(SEEDS, any_cluster(), st.integers(1, 40), st.integers(0, 2**32))
def test_the_order_in_which_brokers_are_named_does_not_matter(
    seed: str, cluster: tuple[list[Candidate], int], partitions: int, shuffle_seed: int
) -> None:
    brokers, replicas = cluster
    shuffled = list(brokers)
    Random(shuffle_seed).shuffle(shuffled)
    assert place(seed, partitions, replicas, shuffled) == place(seed, partitions, replicas, brokers)


def test_the_placement_is_the_same_in_every_process_and_version() -> None:
    brokers = [Candidate(broker_id) for broker_id in (1, 2, 3, 4)]
    assert place("f" * 32, 4, 2, brokers) == [(1, 4), (3, 1), (2, 3), (4, 2)]


def test_topics_with_one_partition_each_do_not_all_go_to_the_same_brokers() -> None:
    brokers = [Candidate(broker_id) for broker_id in range(5)]
    firsts = Counter(place(f"{number:032x}", 1, 1, brokers)[0][0] for number in range(200))
    assert len(firsts) == 5 and min(firsts.values()) > 15


def test_a_new_broker_takes_the_first_partitions_of_a_loaded_cluster() -> None:
    brokers = [Candidate(1, "", 10, 5), Candidate(2, "", 10, 5), Candidate(3, "", 0, 0)]
    placements = place("a" * 32, 4, 1, brokers)
    assert placements == [(3,)] * 4


def test_a_broker_that_leads_nothing_yet_leads_before_the_others() -> None:
    brokers = [Candidate(1, "", 4, 2), Candidate(2, "", 4, 2), Candidate(3, "", 4, 0)]
    assert leads(brokers, place("b" * 32, 2, 3, brokers)) == Counter({1: 2, 2: 2, 3: 2})


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_a_thousand_partitions_over_thirty_brokers_are_placed_evenly(seed: str) -> None:
    brokers = [Candidate(broker_id, f"r{broker_id % 3}") for broker_id in range(30)]
    placements = place(seed, 1000, 3, brokers)
    assert spread(loads(brokers, placements)) <= 1
    assert spread(leads(brokers, placements)) <= 1
