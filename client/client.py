"""A client of one cluster: the way to its producers, consumers and administration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TypeVar

from ..proto.errors import InvalidConfig
from .admin import Admin
from .connection import Connection, parse_addresses
from .consumer import Consumer, Reset
from .delivery import DeliveryErrors
from .environment import Environment
from .group_reading import GroupTerms
from .groups import Groups
from .handover import Callback
from .metadata import Metadata
from .offset_bounds import Bound
from .producer import Acks, Codec, Producer
from .reading import read
from .records import Record

_Opened = TypeVar("_Opened", Producer, Consumer)

DEFAULT_ADDRESS = "127.0.0.1:9600"


class Client:
    """A client of the cluster found at `bootstrap` (host:port, several by commas or as a list).

    `timeout` bounds, in seconds, every single thing asked of the cluster: a call, a lookup, a record's delivery.
    Use it as `async with`; entering asks one broker, so that a wrong address is told at once. All of it belongs to
    one event loop, and gRPC allows one such loop a process: blocking programs use `lograft.sync.Client` instead.

    Raises
        InvalidConfig      an address that is not host:port, or a timeout that is not above 0
        BrokerUnavailable  on entering: no broker answered; the message names every address tried and why
    """

    def __init__(
        self,
        bootstrap: str | Iterable[str] = DEFAULT_ADDRESS,
        *,
        client_id: str | None = None,
        timeout: float = 30.0,
        environment: Environment | None = None,
    ) -> None:
        if not timeout > 0:
            raise InvalidConfig(f"timeout={timeout!r}: it is a number of seconds above 0", key="timeout")
        self.client_id = client_id
        self.timeout = timeout
        self._connection = Connection(parse_addresses(bootstrap), environment or Environment(), client_id)
        self._metadata = Metadata(self._connection)
        self._open: list[Producer | Consumer] = []
        self.admin = Admin(self._connection, self._metadata, timeout_s=timeout)
        self.groups = Groups(self._connection, self._metadata, timeout_s=timeout)

    async def __aenter__(self) -> Client:
        try:
            await self._metadata.bootstrap()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"closing the client failed as well: {failure!r}")
            for note in getattr(failure, "__notes__", ()):
                error.add_note(note)

    async def close(self) -> None:
        """Close what is still open of this client's producers (after a flush) and consumers, then all channels.

        Raises
            DeliveryErrors  names what any of the producers could not deliver
            what `on_revoke` of a consumer raised; of several errors the others are notes of the one that is raised
        """
        for one in self._open:
            if isinstance(one, Consumer):
                one.refuse_from_callback("closing the client")
        still_open, self._open = self._open, []
        try:
            results = await asyncio.gather(*(one.close() for one in still_open), return_exceptions=True)
        finally:
            await self._metadata.close()
            await self._connection.close()
        _raise_all([result for result in results if result is not None])

    def producer(
        self,
        *,
        acks: Acks = "quorum",
        linger_ms: float = 5,
        max_batch_bytes: int = 1 << 20,
        compression: Codec | None = "lz4",
        idempotent: bool = True,
        max_in_flight_bytes: int = 64 << 20,
    ) -> Producer:
        """A producer for any topics. See Producer; InvalidConfig names a setting it cannot have."""
        producer = Producer(
            self._connection,
            self._metadata,
            acks=acks,
            linger_ms=linger_ms,
            max_batch_bytes=max_batch_bytes,
            compression=compression,
            idempotent=idempotent,
            max_in_flight_bytes=max_in_flight_bytes,
            timeout_s=self.timeout,
        )
        return self._opened(producer)

    def consumer(
        self,
        *topics: str,
        group_id: str | None = None,
        pattern: str | None = None,
        auto_offset_reset: Reset = "latest",
        auto_commit: bool = False,
        auto_commit_interval_s: float = 5.0,
        instance_id: str | None = None,
        session_timeout_s: float = 10.0,
        max_handling_s: float | None = 300.0,
        max_poll_records: int = 500,
        prefetch_bytes: int = 8 << 20,
        on_assign: Callback | None = None,
        on_revoke: Callback | None = None,
    ) -> Consumer:
        """A consumer of `topics` (and of those whose name matches `pattern`), or of what it is then assigned. Without
        a `group_id` it reads all their partitions; with one it shares them with the group's other members.

        In a group:
        `auto_commit` stores what the application has finished with, every `auto_commit_interval_s`, whenever partitions
        are given up, and at the end. A record counts as finished once the application asks for more.
        `instance_id` names a static member: a process that starts again within the session gets its partitions back.
        `session_timeout_s` is how long the group waits for a member that is not heard. Heartbeats are sent in the
        background; the event loop must not be blocked for so long.
        `max_handling_s` bounds the time between two reads, and a callback's; who takes longer leaves the group, and its
        next read raises HandlingTooLong. None: no bound.
        `on_assign(partitions)`, `on_revoke(partitions)` are awaited: the first before records of these are handed out,
        the second while the grant still stands, so that it can store offsets. Partitions that were lost, such as to a
        session that ended, are told to `on_revoke` too; a commit may then be refused with LostGrant. After a seek of
        the group `on_assign` is called again. What they raise is raised from the application's next read.

        See Consumer; InvalidConfig names a setting it cannot have."""
        consumer = Consumer(
            self._connection,
            self._metadata,
            topics=topics,
            group_id=group_id,
            pattern=pattern,
            auto_offset_reset=auto_offset_reset,
            max_poll_records=max_poll_records,
            prefetch_bytes=prefetch_bytes,
            group_terms=GroupTerms(
                auto_commit=auto_commit,
                auto_commit_interval_s=auto_commit_interval_s,
                instance_id=instance_id,
                session_timeout_s=session_timeout_s,
                max_handling_s=max_handling_s,
                on_assign=on_assign,
                on_revoke=on_revoke,
            ),
            timeout_s=self.timeout,
        )
        return self._opened(consumer)

    def _opened(self, one: _Opened) -> _Opened:
        self._open = [*(other for other in self._open if not other.is_closed), one]
        return one

    def read(
        self,
        topic: str,
        start: Bound | str | int = "start",
        stop: Bound | str | int = "end",
        partitions: Iterable[int] | None = None,
        *,
        group_id: str | None = None,
    ) -> AsyncIterator[Record]:
        """Replay a topic between two bounds of the OFFSETS grammar; both are pinned when the reading begins.

        Records come in order within each partition. Ends by itself. With a `group_id` the bound `stored` is where that
        group has come to (without a stored offset: the start); the group itself is left as it is.
        """
        return read(self._connection, self._metadata, topic, start, stop, partitions, group_id, timeout_s=self.timeout)


def _raise_all(errors: list[BaseException]) -> None:
    """One error that tells of all."""
    undelivered = [failed for error in errors if isinstance(error, DeliveryErrors) for failed in error.failures]
    if undelivered:
        others = [error for error in errors if not isinstance(error, DeliveryErrors)]
        errors = [DeliveryErrors(undelivered), *others]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"closing failed otherwise as well: {other!r}")
        raise errors[0]
