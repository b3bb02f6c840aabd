"""What of one replica's log could not be read, and was not read since.

Invariants
    what is met again before it was read anew is counted, told and acted upon once
"""

from __future__ import annotations

from collections.abc import Iterator

from .environment import Environment, PartitionId
from .replica_counts import ReplicaCounts
from .storage.log import DamagedLog
from .storage.segment import segment_base


class Suspects:
    """Base offsets of segments in which something unreadable was met."""

    def __init__(self, environment: Environment, partition: PartitionId, counts: ReplicaCounts) -> None:
        self.beyond_repair = ""
        """What of it nobody else has, so that all the rest is served as if it were whole; empty if there is no such."""
        self._environment = environment
        self._partition = partition
        self._counts = counts
        self._bases: set[int] = set()

    def __iter__(self) -> Iterator[int]:
        return iter(self._bases)

    def note(self, damage: DamagedLog) -> bool:
        """False if it is known."""
        suspect = segment_base(damage.path)
        if suspect in self._bases:
            return False
        self._bases.add(suspect)
        self._tell("replica_damaged", damage)
        return True

    def note_beyond_repair(self, damage: DamagedLog) -> None:
        if not self.beyond_repair:
            self._tell("replica_unreadable", damage)
        self.beyond_repair = f"{damage.path} is unreadable at {damage.position}, and no other replica has it"

    def add(self, base_offset: int) -> None:
        self._bases.add(base_offset)

    def clear(self) -> None:
        """All of them were read, or are given up."""
        self._bases.clear()

    def _tell(self, event: str, damage: DamagedLog) -> None:
        self._counts.damage_met()
        self._environment.log(
            event, partition=str(self._partition), path=damage.path, position=damage.position, why=damage.why
        )
