"""Of a thousand replicas whose timers go off together, a few campaign at a time, and each gets its turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lograft.partitions.campaigns import Campaigns


@dataclass(eq=False)
class Timer:
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Outside:
    """Runs what was asked for when the test says so."""

    soon: list[Callable[[], None]] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(callback))
        return self.timers[-1]

    def one_turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()

    def time_passes(self) -> None:
        due, self.timers = self.timers, []
        for timer in due:
            if not timer.cancelled:
                timer.callback()


def a_queue(count: int, at_once: int = 2) -> tuple[Outside, Campaigns, list[int]]:
    """Replicas 0 to `count` - 1 have asked, in that order."""
    outside = Outside()
    campaigns = Campaigns(outside, at_once=at_once)  # type: ignore[arg-type]
    begun: list[int] = []
    for number in range(count):
        campaigns.ask(number, lambda number=number: begun.append(number))  # type: ignore[misc]
    return outside, campaigns, begun


def test_no_more_campaign_at_once_than_are_allowed_and_the_next_begins_when_one_is_over() -> None:
    outside, campaigns, begun = a_queue(5)
    outside.one_turn()
    outside.one_turn()
    assert begun == [0, 1]
    campaigns.over(1)
    outside.one_turn()
    assert begun == [0, 1, 2]


def test_who_gets_no_answer_keeps_the_others_waiting_for_a_while_only() -> None:
    outside, _, begun = a_queue(5)
    outside.one_turn()
    outside.time_passes()
    outside.one_turn()
    assert begun == [0, 1, 2, 3]


def test_who_has_withdrawn_gets_no_turn_and_takes_none_from_others() -> None:
    outside, campaigns, begun = a_queue(4)
    campaigns.withdraw(0)
    campaigns.withdraw(1)
    outside.one_turn()
    assert begun == [2, 3]
    assert not campaigns.waiting


def test_asking_twice_is_asking_once() -> None:
    outside, campaigns, begun = a_queue(2, at_once=5)
    campaigns.ask(0, lambda: begun.append(0))
    outside.one_turn()
    outside.one_turn()
    assert begun == [0, 1]


def test_campaigns_that_are_over_at_once_do_not_hold_up_the_queue() -> None:
    outside = Outside()
    campaigns = Campaigns(outside, at_once=2)  # type: ignore[arg-type]
    begun: list[int] = []

    def begin(number: int) -> None:
        begun.append(number)
        campaigns.over(number)

    for number in range(5):
        campaigns.ask(number, lambda number=number: begin(number))  # type: ignore[misc]
    for _ in range(3):
        assert len(outside.soon) == 1
        outside.one_turn()
    assert begun == [0, 1, 2, 3, 4]


def test_what_is_over_twice_or_never_began_frees_no_second_place() -> None:
    outside, campaigns, begun = a_queue(5)
    outside.one_turn()
    campaigns.over(0)
    campaigns.over(0)
    campaigns.over(4)
    outside.one_turn()
    assert begun == [0, 1, 2]


def test_the_deadline_of_an_earlier_turn_does_not_end_a_later_one() -> None:
    outside, campaigns, begun = a_queue(1, at_once=1)
    outside.one_turn()
    campaigns.over(0)
    campaigns.ask(0, lambda: begun.append(0))
    outside.one_turn()
    first, second = outside.timers
    assert first.cancelled and not second.cancelled and campaigns.running == 1
