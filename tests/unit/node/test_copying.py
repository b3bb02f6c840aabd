from __future__ import annotations

from lograft.node.copying import UNKNOWN, Copying, CopyView
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter

P, V = PartitionId("a" * 32, 0), Voter(4, "disk", 7)


def looked(*held: tuple[int, int]) -> Copying:
    copying = Copying()
    for second, figures in enumerate(held):
        copying.look(second * 1000.0, {(P, V): figures})
    return copying


def test_nothing_is_said_of_the_rate_before_there_were_two_looks() -> None:
    assert looked().view(P, V, 5, 100) == CopyView(5, 100, UNKNOWN, UNKNOWN)
    assert looked((5, 100)).view(P, V, 5, 100) == CopyView(5, 100, UNKNOWN, UNKNOWN)


def test_rate_and_time_left_of_a_log_to_which_nothing_is_added() -> None:
    assert looked((0, 1000), (100, 1000), (200, 1000)).view(P, V, 200, 1000) == CopyView(200, 1000, 100, 8000)


def test_what_is_left_is_counted_of_those_that_lack_something() -> None:
    other = Voter(5, "another", 8)
    copying = Copying()
    copying.look(0.0, {(P, V): (400, 1000), (P, other): (1000, 1000)})
    assert copying.left_bytes() == [600]


def test_what_comes_in_meanwhile_makes_it_take_longer() -> None:
    assert looked((0, 1000), (100, 1050), (200, 1100)).view(P, V, 200, 1100) == CopyView(200, 1100, 100, 18_000)


def test_while_the_rest_does_not_shrink_the_time_left_is_not_known() -> None:
    assert looked((0, 1000), (10, 1010)).view(P, V, 10, 1010).time_left_ms == UNKNOWN


def test_a_replica_that_begins_anew_has_no_negative_rate() -> None:
    assert looked((500, 1000), (0, 1000)).view(P, V, 0, 1000) == CopyView(0, 1000, 0, UNKNOWN)


def test_the_rate_is_that_of_the_last_seconds_and_who_is_copied_no_more_is_forgotten() -> None:
    copying = looked(*((1000 * second, 50_000) for second in range(10)), *((10_000, 50_000) for _ in range(10)))
    assert copying.view(P, V, 10_000, 50_000).bytes_per_second == 0
    copying.look(30_000.0, {})
    assert copying.view(P, V, 10_000, 50_000).bytes_per_second == UNKNOWN
