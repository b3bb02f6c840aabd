from __future__ import annotations

from lograft.node.controller.absences import LOOK_MS_MAX, Absences

ALL = (1, 2, 3, 4, 5)


def looks(absences: Absences, seconds: int, *alive: int, term: int = 1, from_ms: float = 0.0) -> dict[int, float]:
    found: dict[int, float] = {}
    for second in range(seconds + 1):
        found = absences.look(from_ms + second * 1000, term, ALL, alive)
    return found


def test_a_broker_is_unseen_for_as_long_as_the_controller_looked_in_vain() -> None:
    absences = Absences()
    assert looks(absences, 60, 1, 2, 3, 4) == {5: 60_000}
    assert looks(absences, 1, *ALL, from_ms=61_000) == {}
    assert looks(absences, 10, 1, 2, 3, 4, from_ms=62_000) == {5: 10_000}, "seen for a moment, it counts anew"


def test_a_clock_that_jumps_or_a_loop_that_slept_makes_nobody_gone() -> None:
    absences = Absences()
    looks(absences, 10, 1, 2, 3, 4)
    assert absences.look(40_000_000, 1, ALL, (1, 2, 3, 4)) == {5: 10_000 + LOOK_MS_MAX}
    assert absences.look(0, 1, ALL, (1, 2, 3, 4)) == {5: 10_000 + LOOK_MS_MAX}


def test_a_new_controller_counts_anew_also_one_that_was_it_before() -> None:
    absences = Absences()
    looks(absences, 60, 1, 2, 3, 4)
    assert looks(absences, 5, 1, 2, 3, 4, term=2, from_ms=61_000) == {5: 5_000}


def test_while_half_of_the_brokers_or_more_are_unseen_nobody_is_gone_and_no_time_passes() -> None:
    absences = Absences()
    looks(absences, 60, 1, 2, 3, 4)
    assert looks(absences, 600, 1, 2, from_ms=61_000) == {}
    assert looks(absences, 0, 1, 2, 3, 4, from_ms=662_000) == {5: 61_000}
    assert Absences().look(0, 1, (1, 2), (1,)) == {}, "one of two is no majority"
