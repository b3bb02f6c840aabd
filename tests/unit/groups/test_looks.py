"""When many things are to be looked at: against a plain table of all that was asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lograft.node.groups.looks import Looks

NAMES = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(st.tuples(NAMES, st.integers(0, 20)), st.integers(0, 20)),
    max_size=80,
)


@given(STEPS)
def test_each_is_looked_at_when_it_was_asked_for_first_and_once(steps: list[tuple[str, int] | int]) -> None:
    looks, asked = Looks(), dict[str, int]()
    for step in steps:
        if isinstance(step, tuple):
            name, due_ms = step
            looks.by(name, due_ms)
            asked[name] = min(due_ms, asked.get(name, due_ms))
        else:
            due = sorted((when, name) for name, when in asked.items() if when <= step)
            assert looks.take(step) == [name for _, name in due]
            for _, name in due:
                del asked[name]
        assert looks.next_ms() == min(asked.values(), default=None)


def test_what_was_asked_for_again_and_again_takes_no_more_room_than_once() -> None:
    looks = Looks()
    for due_ms in range(10_000, 0, -1):
        looks.by("a", due_ms)
    assert len(looks._heap) < 100
    assert looks.take(1) == ["a"]
    assert looks.next_ms() is None
