"""The partitions that a consumer holds as a member of its group: from grant to first record, from last to release.

Invariants
    a record is handed out only under a grant in force, and after `on_assign` for it has returned
    a partition is given back only once the application came back for more, what it finished is stored if that is to be
        done for it, and `on_revoke` has returned
    callbacks run one after another, in a task of their own: neither heartbeats nor other partitions wait for them
    of each partition the application hears in turns: on_assign, perhaps again after a seek, then on_revoke
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ..proto.errors import (
    HandlingTooLong,
    InvalidRequest,
    LograftError,
    LostGrant,
    UnknownMember,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .connection import Connection, backoff_s
from .grants import Grant, GrantKey
from .hands import Hands
from .membership import Membership
from .places import Places
from .position import Position
from .progress import Progress
from .records import TopicPartition

Callback = Callable[[list[TopicPartition]], Awaitable[None] | None]
"""Told which partitions were assigned, or are about to be taken away. May call the consumer, but not read from it."""

_LAST_STORE_S = 5.0
_SOON_OTHERWISE = (UnknownTopic, UnknownTopicId, UnknownPartition, LostGrant, UnknownMember)
"""Refusals of what was just granted: the broker asked lags behind, or the next heartbeat tells of the grant's end."""


class Reader(Protocol):
    """What hands records out."""

    @property
    def positions(self) -> Mapping[TopicPartition, Position]:
        """Those it has."""

    def add(self, positions: Iterable[Position]) -> None:
        """They are the consumer's, but nothing is fetched of them yet."""

    def open(self, positions: Iterable[Position]) -> None:
        """Fetch them, and hand out what comes."""

    def remove(self, positions: Iterable[Position]) -> None:
        """They are not the consumer's any more."""

    def raise_later(self, error: BaseException) -> None:
        """Raise `error` from the application's next read."""


class HandOver:
    """Takes up, hands over and gives back what a Membership is granted.

    `callback_s` bounds a callback as it bounds the handling of records; None: they may take for ever.
    """

    def __init__(
        self,
        connection: Connection,
        reader: Reader,
        places: Places,
        progress: Progress,
        hands: Hands,
        *,
        reset: str,
        auto_commit: bool,
        on_assign: Callback | None,
        on_revoke: Callback | None,
        callback_s: float | None,
    ) -> None:
        self.membership: Membership | None = None
        self._chance = connection.environment.chance
        self._reader = reader
        self._places = places
        self._progress = progress
        self._hands = hands
        self._reset = reset
        self._auto_commit = auto_commit
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._callback_s = callback_s
        self._mine: dict[GrantKey, Position] = {}
        self._placing: set[asyncio.Task[None]] = set()
        self._placed: list[Position] = []
        self._giving_up: list[Position] = []  # waiting for the application to come back, or for their turn
        self._lost: dict[TopicPartition, Position] = {}  # the application is still to hear of it
        self._told: set[TopicPartition] = set()  # that it has them, as the application believes
        self._paused: set[TopicPartition] = set()  # when they were lost: a seek resumes nothing
        self._news = asyncio.Event()
        self._closing = False
        self.worker: asyncio.Task[None] = asyncio.ensure_future(self._work())

    # What the membership says --------------------------------------------------------------------------------------

    def take_up(self, grants: Sequence[Grant]) -> None:
        positions = []
        for grant in grants:
            if self._closing:
                continue
            partition = TopicPartition(grant.topic, grant.partition)
            reset = "start" if grant.grown else self._reset
            position = Position(partition, reset, grant.topic_id, grant.generation)
            self._progress.begun(position)
            if partition in self._paused:
                position.pause()
            self._lost.pop(partition, None)  # it was granted anew: the application will hear of that alone
            self._mine[grant.key] = position
            positions.append(position)
        if positions:
            placing = asyncio.ensure_future(self._place(positions))
            self._placing.add(placing)
            placing.add_done_callback(self._placing_ended)

    def give_up(self, grants: Sequence[Grant]) -> None:
        unheard = []
        for grant in grants:
            position = self._mine.get(grant.key)
            if position is not None and position.topic_partition in self._told:
                position.close()
                self._giving_up.append(position)
            else:
                unheard.append(grant.key)
        self._give_back(unheard)
        self._news.set()

    def lose(self, grants: Sequence[Grant]) -> None:
        lost = self._forget((grant.key for grant in grants), lost=True)
        for position in lost:
            if position in self._giving_up:
                self._giving_up.remove(position)
            partition = position.topic_partition
            if position.paused:
                self._paused.add(partition)
            if partition in self._told:
                self._lost[partition] = position
        self._news.set()

    def membership_ended(self) -> None:
        assert self.membership is not None and self.membership.failure is not None
        self._reader.raise_later(self.membership.failure)

    def _forget(self, keys: Iterable[GrantKey], *, lost: bool) -> list[Position]:
        """Those of `keys` that are mine are so no more. The positions that stood for them."""
        found = [self._mine.pop(key) for key in keys if key in self._mine]
        for position in found:
            position.close()
            self._progress.ended(position, lost=lost)
        there = self._reader.positions
        self._reader.remove([position for position in found if there.get(position.topic_partition) is position])
        return found

    def _give_back(self, keys: Sequence[GrantKey]) -> None:
        assert self.membership is not None
        self._forget(keys, lost=False)
        self.membership.release(keys)

    # Finding places ------------------------------------------------------------------------------------------------

    def _placing_ended(self, placing: asyncio.Task[None]) -> None:
        self._placing.discard(placing)
        if not placing.cancelled() and (mistake := placing.exception()) is not None:
            self._reader.raise_later(mistake)

    async def _place(self, positions: Sequence[Position]) -> None:
        """Find where to begin, for as long as that takes: each partition is opened as soon as its place is known."""
        waiting = list(positions)
        attempt = 0
        while waiting:
            failures = await self._places.find_each(waiting)
            for position, error in failures.items():
                if not error.retriable and not isinstance(error, _SOON_OTHERWISE) and not position.closed:
                    position.failure = error  # told to the application once it reads
            ready = [p for p in waiting if not p.closed and (p.is_placed or p.failure is not None)]
            self._placed += ready
            self._news.set()
            waiting = [p for p in waiting if not p.closed and not p.is_placed and p.failure is None]
            if waiting:
                await asyncio.sleep(backoff_s(attempt, self._chance))
                attempt += 1

    # What the application is told ----------------------------------------------------------------------------------

    def application_came_back(self) -> None:
        if self._giving_up:
            self._news.set()

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._tell_of_losses()
            await self._finish([position for position in self._giving_up if not self._hands.holds(position)])
            if self._closing:
                break
            await self._assign()
        for position in self._mine.values():
            position.close()
        await self._finish([p for p in self._mine.values() if p.topic_partition in self._told])
        await self._tell_of_losses()

    async def _tell_of_losses(self) -> None:
        lost, self._lost = self._lost, {}
        self._told -= lost.keys()
        self._paused -= lost.keys()
        if lost:
            await self._call(self._on_revoke, list(lost))

    async def _finish(self, positions: Sequence[Position]) -> None:
        """Give these to whom they go next, as far as they are not lost meanwhile."""
        if not positions:
            return
        finishing = set(positions)
        self._giving_up = [position for position in self._giving_up if position not in finishing]
        if self._auto_commit:
            await self._progress.store_finished(positions, timeout_s=_LAST_STORE_S)
        partitions = [position.topic_partition for position in positions]
        partitions = [partition for partition in partitions if partition in self._told and partition not in self._lost]
        self._told -= set(partitions)
        if partitions:
            await self._call(self._on_revoke, partitions)
        self._give_back([key for key, position in self._mine.items() if position in finishing])

    async def _assign(self) -> None:
        placed, self._placed = [position for position in self._placed if not position.closed], []
        if not placed:
            return
        partitions = [position.topic_partition for position in placed]
        self._reader.add(placed)
        self._told |= set(partitions)
        self._paused -= set(partitions)
        await self._call(self._on_assign, partitions)
        self._reader.open([position for position in placed if not position.closed])

    async def _call(self, callback: Callback | None, partitions: list[TopicPartition]) -> None:
        if callback is None:
            return
        try:
            async with asyncio.timeout(self._callback_s) as limit:
                answer: Any = callback(partitions)
                if inspect.isawaitable(answer):
                    await answer
        except (Exception, asyncio.CancelledError) as raised:  # the application's own: told to it, and to nobody else
            error: BaseException = raised
            name = "on_assign" if callback is self._on_assign else "on_revoke"
            if isinstance(error, asyncio.CancelledError):
                if self.worker.cancelling():
                    raise  # it was us whom somebody cancelled
                error = LograftError(f"{name} ended because something that it waited for was cancelled")
                error.__cause__ = raised
            elif isinstance(error, TimeoutError) and limit.expired():
                error = HandlingTooLong(
                    f"{name} took longer than {self._callback_s:g} s and was cancelled: do less in it, or raise "
                    "max_handling_s",
                    limit_s=self._callback_s,
                )
            self._reader.raise_later(error)

    # The end -------------------------------------------------------------------------------------------------------

    def refuse_from_callback(self, what: str) -> None:
        """Raises InvalidRequest if this is called from a callback, where it would wait for itself."""
        if asyncio.current_task() is self.worker:
            raise InvalidRequest(f"{what} inside on_assign or on_revoke would wait for itself: do it after they return")

    async def close(self) -> None:
        """Hand nothing out any more, store what is finished if that is to be done, and tell the application."""
        self._closing = True
        for task in self._placing:
            task.cancel()
        self._news.set()
        try:
            await asyncio.gather(self.worker)
        finally:
            self.worker.cancel()
            await asyncio.gather(self.worker, *self._placing, return_exceptions=True)
