"""A consumer as a member of its group: joins, is watched for how long it handles what it got, and leaves.

Invariants
    heartbeats go on whatever the application does, until it has not asked for records for `max_handling_s`
    why a consumer is no member any more is raised once from its next read; the read after that joins again, unless a
        newer process of the same instance has taken over
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from ..proto.errors import FencedInstance, HandlingTooLong, InvalidConfig, InvalidSession
from .connection import Connection
from .coordinator import Coordinator
from .handover import Callback, HandOver, Reader
from .hands import Hands
from .membership import Membership, MemberTerms, Subscription
from .places import Places
from .position import Position
from .progress import Progress
from .records import TopicPartition

_SESSION_MS_MAX = (1 << 31) - 1
_LAST_STORE_S = 2.0
_LOOKS_PER_LIMIT = 10
"""How often the handling limit is looked after: it is kept to a tenth of itself, and never enforced too early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupTerms:
    """How a consumer takes part in its group."""

    auto_commit: bool = False
    auto_commit_interval_s: float = 5.0
    instance_id: str | None = None
    session_timeout_s: float = 10.0
    max_handling_s: float | None = 300.0
    on_assign: Callback | None = None
    on_revoke: Callback | None = None

    def check(self, group_id: str | None) -> None:
        """Raises InvalidConfig, InvalidSession."""
        if group_id is None:
            for key in ("auto_commit", "instance_id", "on_assign", "on_revoke"):
                if getattr(self, key):
                    raise InvalidConfig(f"{key} belongs to a group: give a group_id as well, or leave it out", key=key)
        for key in ("auto_commit_interval_s", "max_handling_s"):
            limit = getattr(self, key)
            if limit is not None and not limit > 0:
                raise InvalidConfig(f"{key}={limit!r}: it is a number of seconds above 0", key=key)
        if not 0 <= self.session_timeout_s * 1000 <= _SESSION_MS_MAX:
            raise InvalidSession(
                f"session_timeout_s={self.session_timeout_s!r} is not possible: the brokers allow 1 s to half an hour"
            )


class GroupReading:
    """Belongs to one consumer, from its first subscription to its end."""

    def __init__(
        self,
        connection: Connection,
        coordinator: Coordinator,
        reader: Reader,
        places: Places,
        progress: Progress,
        hands: Hands,
        terms: GroupTerms,
        *,
        reset: str,
    ) -> None:
        self._terms = terms
        self._progress = progress
        self._hands = hands
        self._reader = reader
        self._hand_over = HandOver(
            connection,
            reader,
            places,
            progress,
            hands,
            reset=reset,
            auto_commit=terms.auto_commit,
            on_assign=terms.on_assign,
            on_revoke=terms.on_revoke,
            callback_s=terms.max_handling_s,
        )
        # Drawn once: whoever joins again after its session ended is known to the coordinator as the same.
        member_id = f"{connection.environment.chance.getrandbits(96):024x}"
        client_id = (connection.client_id or "").encode(errors="replace").decode()
        self.membership = Membership(
            connection,
            coordinator,
            self._hand_over,
            MemberTerms(member_id, terms.instance_id, terms.session_timeout_s, client_id),
        )
        self._hand_over.membership = self.membership
        progress.member_id = member_id
        self._watch = asyncio.ensure_future(self._watch_handling())

    async def enter(self, subscription: Subscription, *, timeout_s: float) -> None:
        """Join, and wait until the coordinator has answered. Raises what Membership.enter does."""
        self._hands.came_back()  # who waits to join handles nothing
        try:
            await self.membership.enter(subscription, timeout_s=timeout_s)
        finally:
            self._hands.turned_away()

    def subscribe(self, subscription: Subscription) -> None:
        """Join with this subscription, or go over to it, in the background."""
        self.membership.begin(subscription)

    def attend(self) -> None:
        """The application asks for records, and there are none at hand. Raises FencedInstance."""
        self._hand_over.refuse_from_callback("reading")
        self.membership.check_session()
        if isinstance(self.membership.failure, FencedInstance):
            raise self.membership.failure
        self.membership.enter_again()

    def application_came_back(self) -> None:
        self._hand_over.application_came_back()

    @property
    def tasks(self) -> tuple[asyncio.Task[None] | None, ...]:
        """That run until this is closed, unless we have made a mistake."""
        return (self.membership.heartbeats, self._hand_over.worker, self._watch)

    def refuse_from_callback(self, what: str) -> None:
        """Raises InvalidRequest in a callback, where `what` would wait for itself."""
        self._hand_over.refuse_from_callback(what)

    async def _watch_handling(self) -> None:
        limit_s = self._terms.max_handling_s
        if limit_s is None:
            return
        while True:
            await asyncio.sleep(limit_s / _LOOKS_PER_LIMIT)
            if self._hands.handling_s() < limit_s or self.membership.failure is not None:
                continue
            error = HandlingTooLong(
                f"no records were asked for within {limit_s:g} s, so this consumer left its group and others go on: "
                "handle fewer records at a time (max_poll_records), or raise max_handling_s; the next read joins again",
                limit_s=limit_s,
            )
            if self._terms.auto_commit:
                await self._progress.store_finished(list(self._positions.values()), timeout_s=_LAST_STORE_S)
            await self.membership.leave(f"handling took longer than {limit_s:g} s", because=error)

    @property
    def _positions(self) -> Mapping[TopicPartition, Position]:
        return self._reader.positions

    async def close(self) -> None:
        """Finish with the partitions, then leave. A static member only falls silent: its instance may start again."""
        self._watch.cancel()
        try:
            await self._hand_over.close()
        finally:
            await self.membership.leave("closed", tell=self._terms.instance_id is None)
            await asyncio.gather(self._watch, return_exceptions=True)
