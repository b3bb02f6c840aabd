"""When replicas that could not be opened, or made, are tried again: by themselves, and ever more rarely.

Whatever stood in the way (a permission, open files, a disk that gives errors) may be mended while the broker runs; and
to start a whole broker anew for one replica takes all others out of service. A try in the same process finds the disk
as one after a restart does: nothing was written to a log that is not open.

Invariants
    a replica is due only after it has waited; what opened, or was deleted, waits for nothing
    time passes when the caller says so
"""

from __future__ import annotations

from ..partitions.environment import PartitionId

FIRST_WAIT_MS = 5_000
WAIT_MS_MAX = 300_000


class OpenRetries:
    """Of one broker."""

    def __init__(self) -> None:
        self.failed = 0
        """Tries again that failed; `opened`: that did not."""
        self.opened = 0
        self._waiting: dict[PartitionId, tuple[float, float]] = {}
        """Of each: when it is due, and how long it waited for that."""
        self._tried: set[PartitionId] = set()
        """Those that are being tried again."""

    def __contains__(self, partition: PartitionId) -> bool:
        return partition in self._waiting

    def note_failed(self, partition: PartitionId, now_ms: float) -> float:
        """It could not be opened; returns after how many ms it is tried again."""
        waited_ms = self._waiting.get(partition, (0.0, 0.0))[1]
        wait_ms = min(2 * waited_ms, WAIT_MS_MAX) if waited_ms else FIRST_WAIT_MS
        self._waiting[partition] = now_ms + wait_ms, wait_ms
        if partition in self._tried:
            self._tried.discard(partition)
            self.failed += 1
        return wait_ms

    def note_opened(self, partition: PartitionId) -> bool:
        """True if that took another try."""
        self._waiting.pop(partition, None)
        if partition not in self._tried:
            return False
        self._tried.discard(partition)
        self.opened += 1
        return True

    def forget(self, partition: PartitionId) -> None:
        """It should not be here any more, or something else is to happen to it first."""
        self._waiting.pop(partition, None)
        self._tried.discard(partition)

    def is_any_due(self, now_ms: float) -> bool:
        return any(due_ms <= now_ms for due_ms, _ in self._waiting.values())

    def take_due(self, now_ms: float) -> list[PartitionId]:
        """Those to be tried now. Until it is told how that ended, each waits as if it had failed."""
        due = [partition for partition, (due_ms, _) in self._waiting.items() if due_ms <= now_ms]
        for partition in due:
            waited_ms = self._waiting[partition][1]
            self._waiting[partition] = now_ms + waited_ms, waited_ms
        self._tried.update(due)
        return due
