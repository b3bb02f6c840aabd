"""When a broker that came up is taken out of service, and put back."""

from __future__ import annotations

from lograft.node.readiness import BACK_MS, CUT_OFF_MS, Readiness

STEP_MS = 250.0


def noted(
    readiness: Readiness, from_ms: float, to_ms: float, *, controller: bool, heard: int, members: int = 3
) -> None:
    now_ms = from_ms
    while now_ms <= to_ms:
        readiness.note(now_ms, has_controller=controller, heard=heard, members=members)
        now_ms += STEP_MS


def cut_off_at(now_ms: float) -> Readiness:
    readiness = Readiness()
    noted(readiness, now_ms - CUT_OFF_MS, now_ms, controller=False, heard=1)
    assert readiness.why_not() is not None
    return readiness


def test_a_broker_that_just_came_up_is_ready() -> None:
    assert Readiness().why_not() is None


def test_one_that_hears_neither_a_controller_nor_most_brokers_for_long_is_not_and_says_why() -> None:
    readiness = Readiness()
    noted(readiness, 0, CUT_OFF_MS - STEP_MS, controller=False, heard=1)
    assert readiness.why_not() is None, "it may be an election, or a restart"
    noted(readiness, CUT_OFF_MS, CUT_OFF_MS, controller=False, heard=1)
    assert "1 of 3 brokers are in touch" in (readiness.why_not() or "")


def test_a_flap_begins_the_wait_anew() -> None:
    readiness = Readiness()
    noted(readiness, 0, CUT_OFF_MS - STEP_MS, controller=False, heard=1)
    noted(readiness, CUT_OFF_MS, CUT_OFF_MS, controller=True, heard=2)
    noted(readiness, CUT_OFF_MS + STEP_MS, 2 * CUT_OFF_MS, controller=False, heard=1)
    assert readiness.why_not() is None


def test_without_a_controller_but_with_most_brokers_records_flow_and_it_stays_ready() -> None:
    readiness = Readiness()
    noted(readiness, 0, 10 * CUT_OFF_MS, controller=False, heard=3, members=5)
    assert readiness.why_not() is None


def test_with_the_controller_on_its_side_it_stays_ready_though_most_brokers_are_missing() -> None:
    readiness = Readiness()
    noted(readiness, 0, 10 * CUT_OFF_MS, controller=True, heard=2, members=5)
    assert readiness.why_not() is None


def test_half_of_the_brokers_is_not_most() -> None:
    readiness = Readiness()
    noted(readiness, 0, CUT_OFF_MS, controller=False, heard=2, members=4)
    assert readiness.why_not() is not None


def test_a_broker_alone_in_its_cluster_is_never_cut_off() -> None:
    readiness = Readiness()
    noted(readiness, 0, 10 * CUT_OFF_MS, controller=False, heard=1, members=1)
    assert readiness.why_not() is None


def test_it_is_ready_again_once_others_were_there_for_a_while() -> None:
    readiness = cut_off_at(100_000)
    noted(readiness, 100_250, 100_250 + BACK_MS - STEP_MS, controller=True, heard=2)
    assert readiness.why_not() is not None, "the link may go again"
    noted(readiness, 100_250 + BACK_MS, 100_250 + BACK_MS, controller=True, heard=2)
    assert readiness.why_not() is None


def test_a_change_of_what_is_told_is_told_once() -> None:
    readiness = Readiness()
    told = [
        now_ms
        for now_ms in range(0, 2 * CUT_OFF_MS, 250)
        if readiness.note(now_ms, has_controller=False, heard=1, members=3)
    ]
    assert told == [CUT_OFF_MS]
