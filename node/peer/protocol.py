"""Versions of the peer protocol: which ones a broker speaks, and which one a pair of brokers uses.

Always holds
    each side says in its first words the lowest and the highest version it speaks; the pair uses the highest of both
    the handshake itself belongs to no version: its frames only ever grow at their end, and whoever does not know what
    stands there passes over it
    what is sent in a session is of the session's version: a message gets another layout, a new kind of frame or a new
    kind of item only as of a version, and is sent so only where the session's version is that or a later one

A version is dropped at the earliest in the release after the one that brought its successor, so that a cluster can be
upgraded one broker at a time, from any release to the next.
"""

from __future__ import annotations

from typing import NamedTuple


class ProtocolRange(NamedTuple):
    """All versions from `lowest` to `highest`."""

    lowest: int
    highest: int

    def common(self, other: ProtocolRange) -> int | None:
        """The highest version of both; None if there is none."""
        highest = min(self.highest, other.highest)
        return highest if highest >= max(self.lowest, other.lowest) else None

    def __str__(self) -> str:
        return str(self.highest) if self.lowest == self.highest else f"{self.lowest} to {self.highest}"


SPOKEN = ProtocolRange(lowest=1, highest=2)
"""By this version of lograft.

1   the first
2   an acknowledgement can be of what is written, and tell how much of that is synced; an append can tell how much of
    what is committed is synced. To a peer of version 1 only what is synced is acknowledged.
"""


class Speaker(NamedTuple):
    """A broker, as it is named where no common version is found."""

    broker_id: int
    release: str
    """Of lograft, as the broker says."""
    spoken: ProtocolRange

    def __str__(self) -> str:
        return f"broker {self.broker_id} (lograft {self.release})"


def nothing_in_common(one: Speaker, other: Speaker) -> str:
    """What is wrong between two brokers without a common version, and what to do about it."""
    older, newer = sorted((one, other), key=lambda speaker: speaker.spoken.highest)
    return (
        f"{newer} speaks peer protocol {newer.spoken}, {older} speaks {older.spoken}, and they have none in common; "
        f"upgrade broker {older.broker_id} to a release that speaks {newer.spoken.lowest}, "
        f"or take broker {newer.broker_id} back to one that speaks {older.spoken.highest}"
    )
