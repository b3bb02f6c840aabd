"""`lograft consume -g`: a member of a group whose records go to standard output.

Always
    what is stored is what standard output took, to the record, however the command ends
    whoever reads the output slowly, or not at all, holds up nothing else: heartbeats go on
    the last record written is whole, unless nobody takes the rest of it
"""

from __future__ import annotations

import asyncio
import os
import select
import shlex
import signal
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...proto.errors import HandlingTooLong, InvalidRequest, LograftError, LostGrant, UnknownGroup
from ..client import Client
from ..consumer import Consumer, Reset
from ..offset_bounds import Bound
from ..records import Record, TopicPartition
from .endings import Ended, Refused, one_line, say
from .formats import RecordShown

_RECORDS_AT_ONCE = 2_000
_POLL_MS = 200
_STORE_EVERY_S = 1.0
_LOOK_EVERY_S = 0.3
_LAST_WORDS_S = 5.0
"""How long an interrupted command waits for the cluster to take its last store."""
_REST_OF_RECORD_S = 1.0
_PIPE_BYTES = 4096
"""A pipe that is writable at all takes so many without blocking (PIPE_BUF)."""


@dataclass(frozen=True, slots=True)
class MemberOrder:
    """What `lograft consume -g` was asked to do. With `stop`, it ends once the group has come so far."""

    topic: str
    group: str
    stop: Bound | None
    reset: Reset
    count: int | None
    show: Callable[[RecordShown], bytes]


class CountedOutput:
    """A file descriptor that knows which records are out. Waits in the event loop, where the descriptor can wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._can_wait = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._rest = memoryview(b"")
        self._pieces: list[bytes] = []
        self._accepted = self._written = self._whole = 0
        """Bytes taken, bytes out, and bytes out up to the end of the last whole record."""
        self._ends: deque[tuple[int, TopicPartition, int]] = deque()
        self.reached: dict[TopicPartition, int] = {}
        """Of each partition the offset after its last record that is out and not yet stored."""

    def take(self, piece: bytes, partition: TopicPartition, next_offset: int) -> None:
        """Accept a record as it is to be shown."""
        self._pieces.append(piece)
        self._accepted += len(piece)
        self._ends.append((self._accepted, partition, next_offset))

    async def drain(self) -> None:
        """Write all that was taken. Raises OSError if nobody reads any more, or the disk is full."""
        self._rest = memoryview(bytes(self._rest) + b"".join(self._pieces))
        self._pieces.clear()
        while self._rest:
            await self._write_some(len(self._rest))
        self._note()  # records that show as nothing are out as soon as all before them are

    async def end_record(self) -> None:
        """Write the rest of the record that is partly out, and drop what comes after it."""
        pending = bytes(self._rest) + b"".join(self._pieces)
        upto = self._ends[0][0] if self._written > self._whole and self._ends else self._written
        self._rest = memoryview(pending[: upto - self._written])
        self._pieces.clear()
        while self._rest:
            await self._write_some(len(self._rest))
        self._ends.clear()

    async def _write_some(self, bytes_max: int) -> None:
        if self._can_wait:
            await self._writable()
            bytes_max = min(bytes_max, _PIPE_BYTES)
        try:
            count = os.write(self._descriptor, self._rest[:bytes_max])
        except BlockingIOError:  # whoever made the pipe made it so
            return
        self._rest = self._rest[count:]
        self._written += count
        self._note()

    def _note(self) -> None:
        while self._ends and self._ends[0][0] <= self._written:
            self._whole, partition, next_offset = self._ends.popleft()
            self.reached[partition] = next_offset

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        try:
            self._loop.add_writer(self._descriptor, _set, ready)
        except PermissionError:  # a device that is always ready
            self._can_wait = False
            return
        try:
            await ready
        finally:
            self._loop.remove_writer(self._descriptor)

    def check_reader(self) -> None:
        """Raises BrokenPipeError if nobody reads any more, also while there is nothing to write."""
        watched = select.poll()
        watched.register(self._descriptor, 0)
        if any(events & select.POLLERR for _, events in watched.poll(0)):
            raise BrokenPipeError("nobody reads the output any more")

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """What is out of these is not ours to store any more."""
        for partition in partitions:
            self.reached.pop(partition, None)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class _Member:
    """The command's consumer, its output, and what of it is stored."""

    def __init__(self, client: Client, order: MemberOrder, output: CountedOutput) -> None:
        self._client = client
        self._order = order
        self._output = output
        self._stops: dict[TopicPartition, int] = {}
        self._now = asyncio.get_running_loop().time
        self._store_at = self._look_at = 0.0
        self.consumer: Consumer = client.consumer(
            order.topic,
            group_id=order.group,
            auto_offset_reset=order.reset,
            auto_commit=False,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
        )

    async def run(self) -> None:
        """Until the count or the stop is reached."""
        order, output = self._order, self._output
        if order.stop is not None:
            self._stops = await self._client.groups.resolve(order.topic, order.stop)
        left = order.count
        async with self.consumer:
            try:
                while left != 0 and not await self._has_reached_stops():
                    count_max = _RECORDS_AT_ONCE if left is None else min(left, _RECORDS_AT_ONCE)
                    for partition, records in (await self._read(count_max)).items():
                        stop = self._stops.get(partition)
                        if stop is not None:
                            records = [record for record in records if record.offset < stop]
                        for record in records:
                            output.take(order.show(record), partition, record.offset + 1)
                        left = None if left is None else left - len(records)
                    await output.drain()
                    output.check_reader()
                    if self._now() >= self._store_at:
                        await self._store(output.reached)
                        self._store_at = self._now() + _STORE_EVERY_S
                await self._store(output.reached, is_last=True)
            except (asyncio.CancelledError, OSError, LograftError):
                await self._store_last_words()
                raise

    async def _read(self, count_max: int) -> dict[TopicPartition, list[Record]]:
        try:
            return await self.consumer.getmany(_POLL_MS, count_max)
        except HandlingTooLong as error:  # such as a pager that nobody touched for minutes
            say(f"lograft: {one_line(str(error))}")
            return {}

    async def _has_reached_stops(self) -> bool:
        """The group, whoever reads for it, has come to all stops."""
        if self._order.stop is None:
            return False
        ours = set(self.consumer.assignment())
        missing = set()
        for partition, stop in self._stops.items():
            if partition in ours and await self._position(partition) >= stop:
                self.consumer.pause(partition)
            else:
                missing.add(partition)
        if missing and self._now() >= self._look_at and not missing & ours:
            self._look_at = self._now() + _LOOK_EVERY_S
            missing -= await self._reached_by_others()
        return not missing

    async def _position(self, partition: TopicPartition) -> int:
        try:
            return await self.consumer.position(partition)
        except InvalidRequest:
            return -1  # it was taken from us just now

    async def _reached_by_others(self) -> set[TopicPartition]:
        try:
            described = await self._client.groups.describe(self._order.group)
        except UnknownGroup:
            return set()
        reached = set()
        for one in described.partitions:
            stop = self._stops.get(one.partition)
            if stop is None:
                continue
            stands_at = one.start_offset if one.stored_offset is None else one.stored_offset
            if stands_at is not None and stands_at >= stop:
                reached.add(one.partition)
        return reached

    async def _store(self, offsets: dict[TopicPartition, int], *, is_last: bool = False) -> None:
        """Store what is out; what is not ours any more is left to its new owner. While the cluster cannot take it, it
        is kept for the next time, unless this is the last one."""
        storing = dict(offsets)
        if not storing:
            return
        try:
            await self.consumer.commit(storing)
        except LostGrant:
            pass  # all else is stored nevertheless
        except LograftError as error:
            if is_last or not error.retriable:
                raise
            say(f"lograft: not stored for now: {one_line(str(error))}")
            return
        for partition, offset in storing.items():
            if self._output.reached.get(partition) == offset:
                del self._output.reached[partition]

    async def _store_last_words(self) -> None:
        """Interrupted, or nobody reads: end the record begun, and store exactly what is out."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            task.uncancel()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_REST_OF_RECORD_S):
                await self._output.end_record()
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._store(self._output.reached, is_last=True)
        except (LograftError, TimeoutError) as error:
            why = one_line(str(error)) or f"no answer within {_LAST_WORDS_S:g} s"
            say(f"lograft: what was written last is not stored: {why}; the group will read it again")

    async def _on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """A partition may come anew after a seek: what was written before it is not to be stored over that.

        Where the group begins at the start that place is stored at once, as it is by itself where it begins at the end:
        the same command without --reset must go on with it, and not pass over what was not read yet.
        """
        self._output.forget(partitions)
        with suppress(InvalidRequest):  # taken from us meanwhile
            if self._order.stop is not None:
                self.consumer.resume(*partitions)
            if self._order.reset == "earliest":
                stored = await asyncio.gather(*map(self.consumer.committed, partitions))
                begun = [one for one, offset in zip(partitions, stored, strict=True) if offset is None]
                await self._store({partition: await self.consumer.position(partition) for partition in begun})

    async def _on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        reached = {
            partition: self._output.reached[partition] for partition in partitions if partition in self._output.reached
        }
        await self._store(reached)


async def consume_in_group(addresses: Sequence[str], order: MemberOrder) -> None:
    """Read as a member of a group. Raises BrokenPipeError if nobody reads the output."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    ended: list[int] = []

    def terminate() -> None:
        ended.append(128 + signal.SIGTERM)
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        async with Client(addresses, client_id="lograft-cli") as client:
            await _Member(client, order, CountedOutput(sys.stdout.fileno())).run()
    except InvalidRequest as error:
        if order.reset != "error":
            raise
        raise Refused(  # the client's remedies are in the words of its own settings
            str(error).partition(":")[0],
            f"say where to begin: --reset start or end, or lograft group seek {shlex.quote(order.group)} --to PLACE",
        ) from None
    except asyncio.CancelledError:
        if ended:
            raise Ended(ended[0]) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
