"""What the replicas of a broker have done and met since it started, counted where it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


def _nobody_counts(*_: float) -> None:
    """Until somebody wants to know."""


@dataclass(slots=True)
class ReplicaCounts:
    """Of one broker. The callables are put in by whoever keeps distributions; they must be quick."""

    elections_begun: int = 0
    """Campaigns: after others had said that they would vote for this replica."""
    elections_won: int = 0
    resets: int = 0
    """Logs dropped to begin anew at the leader's first segment."""
    recovery_cut_bytes: int = 0
    """Of ends of logs that a crash left unfinished."""
    cut_bytes: int = 0
    """Of what was not committed and another leader replaced."""
    dropped_bytes: dict[str, int] = field(default_factory=dict)
    """By topic id: what fell before log starts."""
    committed_after: Callable[[float], None] = _nobody_counts
    """Called with the seconds from each batch's append here, at the leader, until a majority had it."""
    damage_met: Callable[[], None] = _nobody_counts

    def note(self, event: str) -> None:
        """What a core did, by the name under which that is logged."""
        if event == "campaigning":
            self.elections_begun += 1
        elif event == "leading":
            self.elections_won += 1

    def dropped(self, topic_id: str, size_bytes: int) -> None:
        self.dropped_bytes[topic_id] = self.dropped_bytes.get(topic_id, 0) + size_bytes
