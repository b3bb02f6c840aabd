"""How often a leader looks for steps to take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from lograft.node.moves import LOOKS_PER_IDLE_LOOK, Moves


class Replicas:
    """Those of a broker that leads one partition; counts how often all of them are looked at."""

    def __init__(self) -> None:
        self.is_caught_up = True
        self.learning: list[Any] = []
        self.looks = 0
        self.state = SimpleNamespace(brokers={})
        self.replica = SimpleNamespace(voters=("a", "b"), is_ready=False)
        self.placed = self.replica.voters

    def set_learners(self) -> None:
        self.looks += 1

    @property
    def led(self) -> list[Any]:
        return [self.replica]

    def placed_voters(self, replica: Any) -> tuple[str, ...]:
        return self.placed


def looks_of(replicas: Replicas, ticks: int, moves: Moves) -> int:
    before = replicas.looks
    for _ in range(ticks):
        moves.take_steps()
    return replicas.looks - before


def test_partitions_are_looked_at_each_time_only_while_one_is_not_where_it_should_be() -> None:
    replicas = Replicas()
    moves = Moves(1, cast(Any, replicas), cast(Any, None), cast(Any, None))
    assert looks_of(replicas, 2 * LOOKS_PER_IDLE_LOOK, moves) == 2
    replicas.placed = ("a", "c")
    looks_of(replicas, LOOKS_PER_IDLE_LOOK, moves)  # seen within an idle look
    assert looks_of(replicas, 5, moves) == 5
    replicas.replica.voters = replicas.placed
    looks_of(replicas, 1, moves)
    assert looks_of(replicas, 2 * LOOKS_PER_IDLE_LOOK, moves) == 2


def test_a_learner_that_is_to_vote_is_looked_after_each_time() -> None:
    replicas = Replicas()
    moves = Moves(1, cast(Any, replicas), cast(Any, None), cast(Any, None))
    replicas.learning = ["a learner's partition"]
    assert looks_of(replicas, 7, moves) == 7
