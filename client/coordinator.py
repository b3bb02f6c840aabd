"""The way to a group's coordinator: found at any broker, followed when it moves, asked until a deadline.

Invariants
    a call is made again only after an error of which another try may be rid, and never past its deadline
    an address that did not serve is not believed any longer: the next try looks for the coordinator anew
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lograft.v1 import common_pb2, groups_service_pb2

from ..proto.errors import (
    BrokerUnavailable,
    InvalidGroup,
    LograftError,
    NoLeader,
    NotLeader,
    RequestTimedOut,
    UnknownOutcome,
)
from .connection import Connection, backoff_s, error_of_partition
from .metadata import Metadata
from .records import TopicPartition

_FIND_TIMEOUT_S = 1.5
"""For one broker to say who coordinates a group."""
_TRY_TIMEOUT_S = 5.0
_HINTS_FOLLOWED_MAX = 3
"""In a row: brokers that point at each other have to be let settle."""


class OffsetToStore(NamedTuple):
    """How far a group has come in one partition: `offset` is the next to read."""

    topic: str
    partition: int
    offset: int
    metadata: str = ""
    topic_id: str = ""
    """If set, the topic must still have this id."""
    generation: int = 0
    """Of the grant under which the newest record handed to the application was fetched."""


class StoredOffset(NamedTuple):
    """What a group has stored for a partition: the next to read, a text of the application's, when, for which topic."""

    offset: int
    metadata: str
    stored_ms: int
    """Unix milliseconds, by the coordinator's clock."""
    topic_id: str


class Tried:
    """What is known of the tries of one call that were in vain."""

    def __init__(self) -> None:
        self.may_be_done = False
        """One of them got no answer, or one that leaves open whether it was carried out."""

    def note(self, error: LograftError) -> None:
        if isinstance(error, BrokerUnavailable | RequestTimedOut | UnknownOutcome):
            self.may_be_done = True

    def mark(self, error: LograftError) -> None:
        """A refusal speaks of the last try alone."""
        if self.may_be_done:
            error.facts["outcome"] = "unknown"


class Coordinator:
    """Calls to the coordinator of `group`, wherever it is.

    Raises, from every call
        RequestTimedOut   not done within the time given; says what was asked, and why the last try failed
        InvalidGroup      a name that no group may have
        any LograftError  with which the coordinator refuses, and which would be the same at another try
    """

    def __init__(self, connection: Connection, metadata: Metadata, group: str, timeout_s: float) -> None:
        if not isinstance(group, str):
            raise InvalidGroup(f"{str(group)[:80]} is no group's name: give a text of 1 to 249 characters")
        try:
            group.encode()
        except UnicodeEncodeError:
            raise InvalidGroup(f"the group's name {group[:80]!a} is no Unicode text: give it in UTF-8") from None
        self.group = group
        self._connection = connection
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._now = connection.environment.now
        self._address: str | None = None
        self._hints_followed = 0

    @property
    def address(self) -> str | None:
        """host:port where the coordinator is believed to be; None: to be looked for."""
        return self._address

    async def ask(self, method: str, request: Any, *, timeout_s: float) -> Any:
        """One try: look for the coordinator if need be, and give it `timeout_s` to answer.

        Raises
            any LograftError  a retriable one has been learnt from: the next try goes elsewhere if that may help
        """
        address = self._address or await self._find(self._now() + max(timeout_s, _FIND_TIMEOUT_S))
        try:
            answer = await self._connection.call(
                address, getattr(self._connection.groups(address), method), request, timeout_s=timeout_s
            )
        except LograftError as error:
            self._learn(address, error)
            raise
        self._hints_followed = 0
        return answer

    async def call(
        self, method: str, request: Any, timeout_s: float | None = None, *, tried: Tried | None = None
    ) -> Any:
        """The coordinator's answer, through moves and elections, within `timeout_s` (default: the client's).

        `tried` is told of tries of which nobody knows what became.
        """
        given_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = self._now() + given_s
        attempt = 0
        why: LograftError | str = "no answer came"
        while True:
            try:
                async with asyncio.timeout(max(0.001, deadline - self._now())):
                    return await self.ask(method, request, timeout_s=min(_TRY_TIMEOUT_S, given_s))
            except TimeoutError:
                raise self._timed_out(method, given_s, why) from None
            except LograftError as error:
                if not error.retriable:
                    raise
                if tried is not None:
                    tried.note(error)
                why = error
                hinted = isinstance(error, NotLeader) and self._address is not None
                wait_s = 0.0 if hinted else backoff_s(attempt, self._connection.environment.chance)
                if self._now() + wait_s >= deadline:
                    raise self._timed_out(method, given_s, error) from error
            attempt += 1
            await asyncio.sleep(wait_s)

    def _timed_out(self, method: str, given_s: float, why: LograftError | str) -> RequestTimedOut:
        return RequestTimedOut(
            f"{method} of group {_shown(self.group)} was not done within {given_s:g} s: {why}", group=self.group[:80]
        )

    async def _find(self, deadline: float) -> str:
        request = groups_service_pb2.FindCoordinatorRequest(group=self.group)
        failures: list[str] = []
        for address in self._metadata.addresses():
            timeout_s = min(_FIND_TIMEOUT_S, deadline - self._now())
            try:
                method = self._connection.groups(address).FindCoordinator
                answer = await self._connection.call(address, method, request, timeout_s=timeout_s)
            except LograftError as error:
                if not error.retriable:
                    raise
                failures.append(f"{address}: {error}")
                continue
            self._address = answer.address
            return self._address
        raise BrokerUnavailable(
            f"no broker could say who coordinates group {_shown(self.group)}; tried {'; '.join(failures)}"
        )

    def _learn(self, asked: str, error: LograftError) -> None:
        if isinstance(error, NotLeader):
            hint = error.facts.get("leader_address", "")
            if hint and hint != asked and self._hints_followed < _HINTS_FOLLOWED_MAX:
                self._hints_followed += 1
                self._address = hint
                return
        if isinstance(error, BrokerUnavailable | RequestTimedOut):
            self._metadata.doubt(asked)
        elif not isinstance(error, NotLeader | NoLeader | UnknownOutcome):
            return
        self._hints_followed = 0
        if self._address == asked:
            self._address = None

    # Offsets -------------------------------------------------------------------------------------------------------

    async def store(
        self, entries: Sequence[OffsetToStore], *, member_id: str = "", timeout_s: float | None = None
    ) -> list[LograftError | None]:
        """Store all entries that can be. For each, in order: None once it is stored, else why it is not.

        A refusal has the fact outcome=unknown if an earlier try may have stored the entry.
        """
        given_s = self._timeout_s if timeout_s is None else timeout_s
        deadline, left_s = self._now() + given_s, given_s
        results: list[LograftError | None] = [None] * len(entries)
        left = list(range(len(entries)))
        attempt = 0
        tried = Tried()
        while left:
            request = groups_service_pb2.StoreOffsetsRequest(
                group=self.group,
                member_id=member_id,
                entries=[groups_service_pb2.StoreOffsetsRequest.Entry(**entries[at]._asdict()) for at in left],
            )
            try:
                answer = await self.call("StoreOffsets", request, left_s, tried=tried)
            except LograftError as error:
                if attempt and isinstance(error, RequestTimedOut):
                    break  # what is left was refused for a reason, which says more than that the rest of the time is up
                tried.mark(error)
                raise
            self._check_count(answer.results, left, "StoreOffsets")
            errors = _errors(left, answer.results)
            for at in left:
                results[at] = errors.get(at)
            for refusal in errors.values():
                tried.mark(refusal)
            for refusal in errors.values():
                tried.note(refusal)
            left = [at for at, error in errors.items() if error.retriable]
            if not left or (left_s := await self._wait(attempt, deadline)) <= 0:
                break
            attempt += 1
        for at in left:
            which, why = TopicPartition(*entries[at][:2]), results[at]
            results[at] = RequestTimedOut(f"the offset of {which} was not stored within {given_s:g} s: {why}")
        return results

    async def fetch(
        self, partitions: Iterable[TopicPartition] = (), *, timeout_s: float | None = None
    ) -> dict[TopicPartition, StoredOffset]:
        """What is stored for `partitions`, without those for which nothing is; for none named: all that is stored.

        Raises
            UnknownTopic, UnknownPartition  there is no such partition
        """
        given_s = self._timeout_s if timeout_s is None else timeout_s
        deadline, left_s = self._now() + given_s, given_s
        wanted = list(partitions)
        stored: dict[TopicPartition, StoredOffset] = {}
        again: dict[TopicPartition, LograftError] = {}
        attempt = 0
        while True:
            request = groups_service_pb2.FetchOffsetsRequest(
                group=self.group, partitions=[common_pb2.TopicPartition(topic=t, partition=p) for t, p in wanted]
            )
            try:
                answer = await self.call("FetchOffsets", request, left_s)
            except RequestTimedOut as error:
                if not attempt:
                    raise
                raise self._not_learnt(again, given_s) from error
            again = {}
            for result in answer.results:
                which = TopicPartition(result.topic, result.partition)
                if result.HasField("error"):
                    refusal = error_of_partition(result.error)
                    if not refusal.retriable:
                        raise refusal
                    again[which] = refusal
                elif result.offset >= 0:
                    stored[which] = StoredOffset(result.offset, result.metadata, result.stored_ms, result.topic_id)
            if not again:
                return stored
            if (left_s := await self._wait(attempt, deadline)) <= 0:
                raise self._not_learnt(again, given_s)
            attempt += 1
            wanted = list(again)

    def _not_learnt(self, refused: Mapping[TopicPartition, LograftError], given_s: float) -> RequestTimedOut:
        which, why = next(iter(refused.items()))
        return RequestTimedOut(f"the stored offset of {which} was not learnt within {given_s:g} s: {why}")

    async def _wait(self, attempt: int, deadline: float) -> float:
        """Wait before another try. Returns the seconds left for it; zero or less if there is no time for one."""
        wait_s = backoff_s(attempt, self._connection.environment.chance)
        if self._now() + wait_s >= deadline:
            return 0.0
        await asyncio.sleep(wait_s)
        return deadline - self._now()  # a busy machine may have slept past it

    def _check_count(self, results: Sequence[Any], asked: Sequence[int], method: str) -> None:
        if len(results) != len(asked):
            raise LograftError(
                f"{method} of group {_shown(self.group)}: {len(results)} of {len(asked)} entries were answered; client "
                "and broker do not fit each other"
            )


def _errors(places: Sequence[int], results: Sequence[Any]) -> dict[int, LograftError]:
    return {
        at: error_of_partition(result.error)
        for at, result in zip(places, results, strict=True)
        if result.HasField("error")
    }


def _shown(name: str) -> str:
    return repr(name) if len(name) <= 80 else f"{name[:80]!r}..."
