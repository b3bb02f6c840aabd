"""What one broker holds, placed on others: the emptiest, and in racks of their own if that can be.

What always holds
    no partition gets two replicas on one broker, and none has fewer than before
    what nobody can take stays where it is, and is named
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .facts import PartitionFact, TopicFact
from .moves import placed_on
from .placement import Candidate
from .state import ClusterState


class Heirs:
    """Brokers that can take replicas. What they take counts at once, so that the next goes to another."""

    def __init__(self, candidates: Iterable[Candidate], racks: Mapping[int, str], draining: Collection[int]) -> None:
        self._racks = racks
        self._draining = draining
        """They are to go themselves: so they come last."""
        self._load = {candidate.broker_id: candidate.replicas for candidate in candidates}

    def take(self, left: Sequence[int], present: Sequence[int]) -> int | None:
        """Who takes a replica of a partition that is on `present`, of which `left` keep theirs; None: nobody can."""
        shared = {self._racks[broker_id] for broker_id in left if self._racks.get(broker_id)}
        free = [broker_id for broker_id in self._load if broker_id not in present]
        if not free:
            return None
        heir = min(free, key=lambda each: self._rank(each, shared))
        self._load[heir] += 1
        return heir

    def _rank(self, broker_id: int, shared_racks: Collection[str]) -> tuple[Any, ...]:
        is_last = broker_id in self._draining, self._racks.get(broker_id) in shared_racks
        return *is_last, self._load[broker_id], broker_id


@dataclass(slots=True)
class Evacuated:
    """What becomes of it."""

    topics: list[TopicFact] = field(default_factory=list)
    """Those that change, as they are then."""
    stuck: list[tuple[TopicFact, int]] = field(default_factory=list)
    """Topics and numbers of the partitions that stay where they are."""


def evacuated(
    state: ClusterState,
    broker_id: int,
    heirs: Heirs,
    may_move: Callable[[PartitionFact], bool] = lambda _: True,
) -> Evacuated:
    """Place what is on `broker_id` elsewhere, as far as `heirs` can take it."""
    found = Evacuated()
    directories = {known_id: broker.directory_id for known_id, broker in state.brokers.items()}
    for _, topic in sorted(state.topics.items()):
        moved = topic
        for number, partition in enumerate(topic.partitions):
            present = [voter.broker_id for voter in partition.placement]
            if broker_id not in present:
                continue
            left = [other for other in present if other != broker_id]
            heir = heirs.take(left, present) if may_move(partition) else None
            if heir is None:
                found.stuck.append((topic, number))
            else:
                moved = placed_on(moved, number, [*left, heir], directories)
        if moved != topic:
            found.topics.append(moved)
    return found
