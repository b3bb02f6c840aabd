from __future__ import annotations

from lograft.node.throttle import BURST_MS, Throttle


def given(
    throttle: Throttle, seconds: float, rate: int, *waiting: str, step_ms: float = 100, at_ms: float = 0
) -> dict[str, int]:
    total = dict.fromkeys(waiting, 0)
    throttle.share(at_ms, rate, [])
    for step in range(1, int(seconds * 1000 / step_ms) + 1):
        for name, size in throttle.share(at_ms + step * step_ms, rate, waiting).items():
            total[name] += size
    return total


def test_what_is_given_out_in_a_while_is_the_rate_times_the_while() -> None:
    assert given(Throttle(), 10, 20_000_000, "a") == {"a": 200_000_000}


def test_those_who_wait_get_the_same_each() -> None:
    total = given(Throttle(), 10, 3_000_000, "a", "b", "c")
    assert total == dict.fromkeys("abc", 10_000_000)


def test_a_rate_too_small_for_all_at_once_is_saved_up_until_it_is_enough() -> None:
    total = given(Throttle(), 100, 20, "a", "b", "c")
    assert min(total.values()) == max(total.values()) and 1900 <= sum(total.values()) <= 2000


def test_what_nobody_asked_for_is_kept_as_a_burst_and_no_longer() -> None:
    throttle = Throttle()
    throttle.share(0, 1_000_000, [])
    assert throttle.share(60_000, 1_000_000, ["a"]) == {"a": int(1_000_000 * BURST_MS / 1000)}


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    throttle = Throttle()
    throttle.share(5_000, 1_000_000, [])
    assert throttle.share(1_000, 1_000_000, ["a"]) == {}
    assert throttle.share(1_100, 1_000_000, ["a"]) == {"a": 100_000}


def test_another_rate_holds_from_then_on() -> None:
    throttle = Throttle()
    assert given(throttle, 1, 1_000_000, "a") == {"a": 1_000_000}
    assert given(throttle, 1, 100_000, "a", at_ms=1_000) == {"a": 100_000}
