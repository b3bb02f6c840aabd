"""A member of a group: heartbeats in a task of their own, and the session that they keep alive.

Invariants
    one heartbeat is under way at a time; only in quiet times is it parked, and then it is cancelled for news
    what is lost is taken from the holder at once, in the same step in which that is learnt
    an answer is believed for as long as the session lasts, which counts from the sending of what it answers
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from lograft.v1 import groups_service_pb2

from ..proto.errors import FencedInstance, InvalidGroup, LograftError, NotLeader, RequestTimedOut, UnknownMember
from .connection import Connection, backoff_s
from .coordinator import Coordinator
from .grants import Grant, GrantKey, Grants, Told

_log = logging.getLogger("lograft.consumer")

_ANSWER_S = 0.25
_WAIT_S_MAX = 5.0
_LEAVE_S_MAX = 5.0
_IDLE_ANSWERS_MAX = 3
"""That come at once and change nothing, before the next heartbeat waits a little: brokers are not to be hammered."""


class Holder(Protocol):
    """Who does something with what is granted. None of these may raise or wait."""

    def take_up(self, grants: Sequence[Grant]) -> None:
        """The member's from now on."""

    def give_up(self, grants: Sequence[Grant]) -> None:
        """To be finished; then `Membership.release`."""

    def lose(self, grants: Sequence[Grant]) -> None:
        """Somebody else's from now on."""

    def membership_ended(self) -> None:
        """`Membership.failure` says why."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member wants to read: topics by name, and those whose whole name matches a regular expression."""

    topics: tuple[str, ...] = ()
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class MemberTerms:
    """How a member presents itself. The same for its whole life."""

    member_id: str
    instance_id: str | None = None
    session_timeout_s: float = 10.0
    client_id: str = ""

    def check(self) -> None:
        """Raises InvalidGroup: a text that cannot be sent. All other limits are the brokers' to say."""
        try:
            (self.instance_id or "").encode()
        except UnicodeEncodeError:
            raise InvalidGroup(f"instance id {(self.instance_id or '')[:80]!a} is no text that can be sent") from None


class Membership:
    """One member, from `enter` to `leave`. Belongs to one event loop.

    `failure` is why it is no member any more, and does not try to become one until `enter_again`: fenced, sent away by
    `leave(because=...)`, or refused by the coordinator for a reason that another try would not change.
    """

    def __init__(self, connection: Connection, coordinator: Coordinator, holder: Holder, terms: MemberTerms) -> None:
        terms.check()
        self.terms = terms
        self.failure: LograftError | None = None
        self.heartbeats: asyncio.Task[None] | None = None
        self._coordinator = coordinator
        self._holder = holder
        self._environment = connection.environment
        self._now = connection.environment.now
        self._grants = Grants(terms.session_timeout_s)
        self._subscription = Subscription()
        self._join: Subscription | None = None  # to be asked for with the next heartbeat
        self._news = asyncio.Event()
        self._last_trouble: LograftError | None = None
        self._first_answer: asyncio.Future[None] | None = None
        self._was_answered = False
        self._released_before: tuple[GrantKey, ...] = ()
        self._session_timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None

    # Coming and going ----------------------------------------------------------------------------------------------

    async def enter(self, subscription: Subscription, *, timeout_s: float) -> None:
        """Join, and wait until the coordinator has answered.

        Raises
            RequestTimedOut  no coordinator answered within `timeout_s`; says why
            InvalidGroup, InvalidSession, InvalidRequest, GroupFull, NotAuthorized
        """
        self.begin(subscription)
        first = self._first_answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await first
        except TimeoutError:
            why = self._last_trouble or "no answer came"
            raise RequestTimedOut(
                f"group {self._coordinator.group[:80]!r} could not be joined within {timeout_s:g} s: {why}"
            ) from None
        finally:
            self._first_answer = None

    def begin(self, subscription: Subscription) -> None:
        """Join, in the background. Of a member already: change what it wants to read."""
        self._subscription = self._join = subscription
        self._tell()
        if self.heartbeats is None or self.heartbeats.done():
            self.failure = None
            self._last_trouble = None
            self.heartbeats = asyncio.ensure_future(self._beat_until_failure())

    def enter_again(self) -> None:
        """Become a member again, after a `failure` that the application has been told of."""
        if self.failure is not None and not isinstance(self.failure, FencedInstance):
            self.begin(self._subscription)

    async def leave(self, reason: str, *, because: LograftError | None = None, tell: bool = True) -> None:
        """Stop being a member; what is held is lost. Unless `tell` is off the coordinator hears it, if it can be
        reached within a few seconds. `because` becomes the `failure`."""
        beating, self.heartbeats = self.heartbeats, None
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        if beating is not None and because is not None:
            self._end(because)
        self._stop_session_timer()
        lost = self._grants.lose_all()
        if lost:
            self._holder.lose(lost)
        if beating is None or not tell or isinstance(self.failure, FencedInstance):
            return
        self._leaving = asyncio.ensure_future(self._tell_of_leaving(reason))
        await asyncio.shield(self._leaving)

    async def _tell_of_leaving(self, reason: str) -> None:
        request = groups_service_pb2.HeartbeatRequest(
            group=self._coordinator.group, member_id=self.terms.member_id, leave=True, leave_reason=reason
        )
        # Who never heard of being a member may still be one: worth a word, but not a wait.
        timeout_s = min(_LEAVE_S_MAX, self.terms.session_timeout_s) if self._was_answered else _ANSWER_S
        with suppress(LograftError):  # if nobody hears it, the session ends by itself
            await self._coordinator.call("Heartbeat", request, timeout_s)

    # News ----------------------------------------------------------------------------------------------------------

    def release(self, keys: Iterable[GrantKey]) -> None:
        """What was to be given up is finished."""
        self._grants.release(keys)
        if self._grants.has_released:
            self._tell()

    def holds(self, key: GrantKey) -> bool:
        """The grant is in force as far as is known here."""
        return self._grants.holds(key)

    def check_session(self) -> None:
        """Lose everything if the session is over. Its timer does so too, but late where the loop was kept busy."""
        if self._grants.is_over(self._now()):
            self._join = self._subscription
            self._lose(
                self._grants.lose_all(),
                f"no heartbeat was answered for {self.terms.session_timeout_s:g} s (were the brokers out of reach, or "
                "was this process asleep, or its event loop blocked?)",
            )
            self._tell()

    def _lose(self, lost: Sequence[Grant], why: str) -> None:
        """The session ended. It would come about silently, again and again, where the application blocks the loop."""
        if lost:
            shown = self._coordinator.group[:80]
            _log.warning("group %s: this member lost its partitions (%d), and joins again: %s", shown, len(lost), why)
        self._holder.lose(lost)

    def _tell(self) -> None:
        self._news.set()

    def _set_session_timer(self) -> None:
        self._stop_session_timer()
        if self._grants.ends_at is not None:
            left_s = max(0.0, self._grants.ends_at - self._now())
            self._session_timer = asyncio.get_running_loop().call_later(left_s, self._session_timer_rang)

    def _session_timer_rang(self) -> None:
        self.check_session()
        self._set_session_timer()  # the loop's clock may run a little ahead of ours

    def _stop_session_timer(self) -> None:
        if self._session_timer is not None:
            self._session_timer.cancel()
            self._session_timer = None

    # Heartbeats ----------------------------------------------------------------------------------------------------

    async def _beat_until_failure(self) -> None:
        if self._leaving is not None:
            await asyncio.gather(self._leaving, return_exceptions=True)  # else the leave could overtake the join
            self._leaving = None
        tries_failed = idle_answers = 0
        while True:
            begun_at = self._now()
            try:
                changed = await self._beat()
            except UnknownMember as error:
                self._lose(self._grants.forget_all(), "its coordinator had ended its session")
                self._join = self._subscription
                self._last_trouble = error
                tries_failed += 1
                if tries_failed > 1:
                    await self._pause(tries_failed)
            except LograftError as error:
                if not error.retriable:
                    self._end(error)
                    return
                self._last_trouble = error
                # A hint where the coordinator is now is followed at once; the rest gets time to settle.
                if not isinstance(error, NotLeader) or self._coordinator.address is None or tries_failed > 2:
                    await self._pause(tries_failed)
                tries_failed += 1
            else:
                tries_failed = 0
                at_once = self._now() - begun_at < self._wait_s / 2
                idle_answers = 0 if changed or not at_once else idle_answers + 1
                if idle_answers > _IDLE_ANSWERS_MAX:
                    await self._pause(idle_answers - _IDLE_ANSWERS_MAX)

    @property
    def _wait_s(self) -> float:
        """How long a heartbeat may be parked: so short that after a silent one there is time to find another way."""
        return min(_WAIT_S_MAX, self.terms.session_timeout_s / 4)

    async def _beat(self) -> bool:
        """One heartbeat. False if it brought no news, and told none."""
        self.check_session()
        self._news.clear()
        join, told = self._join, self._grants.to_tell()
        sent_at = self._now()
        # To be parked is for quiet times: after trouble, what the session needs is an answer.
        is_late = self._grants.ends_at is not None and self._grants.ends_at - sent_at < self.terms.session_timeout_s / 2
        at_once = join is not None or bool(told.released) or is_late
        request = self._request(join, told, wait_ms=1 if at_once else round(self._wait_s * 1000))
        # Time to answer beside that to be parked: a broker that hangs is to be left while the session still lasts.
        answering = self._coordinator.ask("Heartbeat", request, timeout_s=self._wait_s + max(_ANSWER_S, self._wait_s))
        answer = await (answering if at_once else self._unless_there_are_news(answering))
        if answer is None:
            return True
        told_news = join is not None or (told.released and told.released != self._released_before)
        self._released_before = told.released
        if self._join is join:
            self._join = None
        return self._take_in(answer, told, sent_at) or bool(told_news)

    async def _unless_there_are_news(self, answering: Coroutine[Any, Any, Any]) -> Any:
        """The answer; None if it was cancelled, because there is something to tell now."""
        call = asyncio.ensure_future(answering)
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({call, news}, return_when=asyncio.FIRST_COMPLETED)
            return await call if call.done() else None
        finally:
            news.cancel()
            call.cancel()

    def _take_in(self, answer: Any, told: Told, sent_at: float) -> bool:
        """True if it changes what is held."""
        self._was_answered = True
        changes = self._grants.take_in(
            map(_grant, answer.grants), list(map(_grant, answer.revoked)), told=told, sent_at=sent_at, now=self._now()
        )
        self._set_session_timer()
        if changes.lost:
            self._holder.lose(changes.lost)
        if changes.give_up:
            self._holder.give_up(changes.give_up)
        if changes.take_up:
            self._holder.take_up(changes.take_up)
        if self._first_answer is not None and not self._first_answer.done():
            self._first_answer.set_result(None)
        return any(changes)

    def _request(self, join: Subscription | None, told: Told, *, wait_ms: int) -> groups_service_pb2.HeartbeatRequest:
        request = groups_service_pb2.HeartbeatRequest(
            group=self._coordinator.group,
            member_id=self.terms.member_id,
            owned=map(_grant_message, told.owned),
            giving_up=map(_grant_message, told.giving_up),
            released=map(_grant_message, told.released),
            max_wait_ms=wait_ms,
        )
        if join is not None:
            request.join.topics.extend(join.topics)
            if join.pattern is not None:
                request.join.pattern = join.pattern
            request.join.session_timeout_ms = round(self.terms.session_timeout_s * 1000)
            request.join.instance_id = self.terms.instance_id or ""
            request.join.client_id = self.terms.client_id
        return request

    async def _pause(self, attempt: int) -> None:
        await asyncio.sleep(backoff_s(attempt, self._environment.chance))

    def _end(self, error: LograftError) -> None:
        self.failure = error
        self._stop_session_timer()
        self._holder.lose(self._grants.lose_all())
        if self._first_answer is not None and not self._first_answer.done():
            self._first_answer.set_exception(error)
        self._holder.membership_ended()


def _grant(message: Any) -> Grant:
    return Grant(message.topic_id, message.partition, message.generation, message.topic, message.grown)


def _grant_message(key: GrantKey) -> groups_service_pb2.Grant:
    return groups_service_pb2.Grant(topic_id=key.topic_id, partition=key.partition, generation=key.generation)
