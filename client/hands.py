"""What a consumer's application has in its hands: the records it was given last, until it asks for more. Pure.

Invariants
    a record counts as finished only once the application came back for more, or left its block without an error
    time spent waiting for records is no time spent handling them
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from .position import Position


class Hands:
    """Belongs to one consumer. `now` is in seconds, of a clock that never runs backwards.

    Who takes records one at a time stands at a position, and moves its `at` on; nothing is noted here per record.
    """

    __slots__ = ("_begun_at", "_held", "_is_asking", "_last_seen", "_now", "on_back")

    def __init__(self, now: Callable[[], float], on_back: Callable[[], None]) -> None:
        self.on_back = on_back
        """Called when the application came back, with something in its hands until then."""
        self._now = now
        self._held: Collection[Position] = ()
        self._is_asking = False
        self._begun_at = now()
        self._last_seen: tuple[Position | None, int] = (None, 0)

    def came_back(self) -> None:
        """The application asks for more: it has finished what it had."""
        self._is_asking = True
        if self._held:
            for position in self._held:
                position.is_stood_at = False
                position.handed_from = None
            self._held = ()
            self.on_back()

    def stand_at(self, position: Position) -> None:
        """The application takes records of `position` one by one, beginning with the next."""
        position.is_stood_at = True
        self._held = (position,)
        self.turned_away()

    def hold(self, positions: Collection[Position]) -> None:
        """The application was given records of these, whose `handed_from` says from where on."""
        self._held = positions
        self.turned_away()

    def turned_away(self) -> None:
        """The application got what there is, if only nothing, and does not wait any longer."""
        self._is_asking = False
        self._begun_at = self._now()

    def holds(self, position: Position) -> bool:
        return position in self._held

    def interrupt(self) -> None:
        """Have an application that iterates ask for more at its next step, instead of going on by itself."""
        for position in self._held:
            position.interrupt()

    def handling_s(self) -> float:
        """For how long the application has not asked for a record. Who iterates asks by taking the next; that shows
        only here, so what this says may be too short by the time since it was last called."""
        if self._is_asking:
            return 0.0
        now = self._now()
        standing = next((position for position in self._held if position.is_stood_at), None)
        seen = (standing, standing.at if standing is not None else 0)
        if seen != self._last_seen:
            if standing is self._last_seen[0] and standing is not None:
                self._begun_at = now
            self._last_seen = seen
        return now - self._begun_at
