"""Which brokers are in touch with this one.

Invariants
    a voter is in touch as that identity: on the disk that it names, not as whoever else bears its broker id
"""

from __future__ import annotations

from .messages import Voter


class Contacts:
    """As one replica has been told."""

    def __init__(self) -> None:
        self._directories: dict[int, str] = {}
        """By broker id."""

    def note(self, broker_id: int, directory_id: str) -> None:
        self._directories[broker_id] = directory_id

    def forget(self, broker_id: int) -> None:
        self._directories.pop(broker_id, None)

    def has(self, voter: Voter) -> bool:
        return self._directories.get(voter.broker_id) == voter.directory_id
