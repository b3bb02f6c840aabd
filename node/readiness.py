"""Whether a broker that came up is still of use to clients: /readyz of one that lost the others.

A broker is cut off when it hears neither a leader of the cluster's decisions nor more than half of the brokers: nearly
all that clients ask of it, it would have to refuse. Without a controller but with most of the others it stays of use,
as records flow.

Invariants
    only what lasts counts, both ways: an election, a restart or a flapping link takes no broker out of a load balancer,
        let alone all of them at once
    time passes when the caller says so
"""

from __future__ import annotations

CUT_OFF_MS = 30_000
"""Longer than any election, or restart of one broker, takes."""
BACK_MS = 5_000


class Readiness:
    """Of one broker, from when it came up. `note` is called again and again."""

    def __init__(self) -> None:
        self._is_cut_off = False
        self._changed_ms: float | None = None
        """Since when it has been otherwise than told."""
        self._heard = self._members = 0

    def note(self, now_ms: float, *, has_controller: bool, heard: int, members: int) -> bool:
        """How things are: of `members` brokers so many are heard, this one included. True if what is told changes."""
        self._heard, self._members = heard, members
        cut_off_now = not has_controller and 2 * heard <= members
        if cut_off_now == self._is_cut_off:
            self._changed_ms = None
            return False
        if self._changed_ms is None:
            self._changed_ms = now_ms
        if now_ms - self._changed_ms < (CUT_OFF_MS if cut_off_now else BACK_MS):
            return False
        self._is_cut_off, self._changed_ms = cut_off_now, None
        return True

    def why_not(self) -> str | None:
        """Why clients should use another broker, or None."""
        if not self._is_cut_off:
            return None
        return (
            f"cut off: {self._heard} of {self._members} brokers are in touch here, itself included, and none that "
            "leads the cluster's decisions; start the missing ones, or mend the network"
        )
