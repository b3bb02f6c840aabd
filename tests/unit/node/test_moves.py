"""How often a leader looks for steps to take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from lograft.node.moves import LOOKS_PER_IDLE_LOOK, Moves
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.proto.errors import VotersUnchanged

PARTITION = PartitionId("ab" * 16, 0)


class Replicas:
    """Those of a broker that leads one partition; counts how often all of them are looked at."""

    def __init__(self) -> None:
        self.is_caught_up = True
        self.learning: list[Any] = []
        self.looks = 0
        self.state = SimpleNamespace(brokers={})
        self.replica = SimpleNamespace(partition=PARTITION, voters=("a", "b"), is_ready=False)
        self.placed = self.replica.voters
        self.leads = True

    def set_learners(self) -> None:
        self.looks += 1

    @property
    def led(self) -> list[Any]:
        return [self.replica] if self.leads else []

    def placed_voters(self, replica: Any) -> tuple[str, ...]:
        return self.placed


def refuse(voters: object) -> None:
    raise VotersUnchanged("another change is not committed yet")


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


def test_a_step_that_was_refused_is_forgotten_with_the_leadership() -> None:
    replicas = Replicas()
    told: list[str] = []
    moves = Moves(1, cast(Any, replicas), cast(Any, None), lambda event, **facts: told.append(event))
    one, two, three = (Voter(number, f"disk-{number}", 1) for number in (1, 2, 3))
    replicas.replica = SimpleNamespace(
        partition=PARTITION,
        voter=one,
        voters=(one, two),
        is_ready=True,
        keeps_up=lambda voter: True,
        change_voters=refuse,
    )
    replicas.placed = (one, three)
    looks_of(replicas, LOOKS_PER_IDLE_LOOK, moves)
    assert told == ["voters_unchanged"]
    replicas.leads = False
    looks_of(replicas, 1, moves)
    assert looks_of(replicas, 2 * LOOKS_PER_IDLE_LOOK, moves) == 2
