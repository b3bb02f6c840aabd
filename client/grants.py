"""What a member of a group holds, by what its coordinator told it. Pure: answers and time come in, changes come out.

Invariants
    of a partition at most one grant is held or being given up
    a grant that was given back is never taken up again, whatever comes in whatever order
    nothing is held once the session is over: `session_s` after the sending of the last heartbeat that was answered
    what was given back is told in each heartbeat until one that told it was answered
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class GrantKey(NamedTuple):
    """What makes a grant that grant: the same partition granted again has a higher generation."""

    topic_id: str
    partition: int
    generation: int


class Grant(NamedTuple):
    """A partition as it was granted."""

    topic_id: str
    partition: int
    generation: int
    topic: str = ""
    """Its name; empty if the topic is gone."""
    grown: bool = False
    """New in a topic that the group was reading already, and nothing is stored: to be read from its start."""

    @property
    def key(self) -> GrantKey:
        return GrantKey(self.topic_id, self.partition, self.generation)


class Told(NamedTuple):
    """What a heartbeat says of grants."""

    owned: tuple[GrantKey, ...]
    giving_up: tuple[GrantKey, ...]
    released: tuple[GrantKey, ...]


class Changes(NamedTuple):
    """What an answer asks of a member, to be done in this order."""

    lost: list[Grant]
    """Not its own any more, from now on."""
    give_up: list[Grant]
    """To be finished, then given back by `release`."""
    take_up: list[Grant]
    """Its own from now on."""


class Grants:
    """The grants of one member. Seconds throughout, of one clock."""

    def __init__(self, session_s: float) -> None:
        self.session_s = session_s
        self.ends_at: float | None = None
        """When the session is over unless it is renewed; None before it began."""
        self._held: dict[GrantKey, Grant] = {}
        self._giving_up: dict[GrantKey, Grant] = {}
        self._released: dict[GrantKey, None] = {}  # to be told still
        self._given_back: dict[tuple[str, int], int] = {}  # highest generation ever given back

    def to_tell(self) -> Told:
        return Told(tuple(self._held), tuple(self._giving_up), tuple(self._released))

    @property
    def has_released(self) -> bool:
        """Something given back is still to be told."""
        return bool(self._released)

    def holds(self, key: GrantKey) -> bool:
        """It is the member's, be it that it is giving it up."""
        return key in self._held or key in self._giving_up

    def is_over(self, now: float) -> bool:
        return self.ends_at is not None and now >= self.ends_at

    def take_in(
        self, granted: Iterable[Grant], revoked: Sequence[Grant], *, told: Told, sent_at: float, now: float
    ) -> Changes:
        """An answer to the heartbeat that said `told`. One that comes after the session it began is over is void."""
        if now >= sent_at + self.session_s:
            return Changes(self.lose_all() if self.is_over(now) else [], [], [])
        self.ends_at = max(self.ends_at or 0.0, sent_at + self.session_s)
        for key in told.released:
            self._released.pop(key, None)
        mine = {grant.key: grant for grant in granted}
        back = {grant.key: grant for grant in revoked}
        lost = [grant for key, grant in self._everything() if key not in mine and key not in back]
        for grant in lost:
            self._held.pop(grant.key, None)
            self._giving_up.pop(grant.key, None)
        give_up = []
        for key in back:
            if key in self._held:
                self._giving_up[key] = grant = self._held.pop(key)
                give_up.append(grant)
            elif key not in self._giving_up:
                self._give_back(key)  # never taken up, or given back already
        take_up = []
        for key, grant in mine.items():
            # Without a name nobody could read it: the coordinator has not heard of the topic yet, or not of its end.
            if self.holds(key) or not grant.topic:
                continue
            if self._given_back.get((key.topic_id, key.partition), -1) >= key.generation:
                self._give_back(key)
                continue
            self._held[key] = grant
            take_up.append(grant)
        return Changes(lost, give_up, take_up)

    def release(self, keys: Iterable[GrantKey]) -> None:
        """Given up to the end. What was lost meanwhile is left out: it is not the member's to give."""
        for key in keys:
            if self._giving_up.pop(key, None) is not None:
                self._give_back(key)

    def lose_all(self) -> list[Grant]:
        """The session is over, as far as is known here. What was held is given back, and that is told still: to be held
        again it must be granted anew, for stores under the old grant may be under way."""
        lost = [grant for _, grant in self._everything()]
        for grant in lost:
            self._give_back(grant.key)
        self._held.clear()
        self._giving_up.clear()
        self.ends_at = None
        return lost

    def forget_all(self) -> list[Grant]:
        """The coordinator does not know the member: nothing that it was ever granted is in force, or will be."""
        lost = self.lose_all()
        self._released.clear()
        self._given_back.clear()
        return lost

    def _give_back(self, key: GrantKey) -> None:
        self._released[key] = None
        place = (key.topic_id, key.partition)
        self._given_back[place] = max(key.generation, self._given_back.get(place, -1))

    def _everything(self) -> list[tuple[GrantKey, Grant]]:
        return [*self._held.items(), *self._giving_up.items()]
