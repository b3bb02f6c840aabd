"""What a leader commits, pushed as it comes: one Stream call, for partitions that were read to their end.

A record that is fetched costs a request and an answer, on both sides; one that is pushed costs an answer, and several
that were committed together share it.

Invariants
    the broker may send what it was granted and no more, but for one batch that is larger; what it sent is spent
    what comes for a partition that was left, sought elsewhere or closed since is dropped, and from then on all that
        comes for it: nothing is taken in behind a gap
    nothing is followed before the broker has agreed to our terms: an older one refuses the call instead
    a broker that was to say something and is silent for SILENCE_S is taken for gone
    once it has ended, for whatever reason, nothing is followed; whoever made it asks by other means
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from lograft.v1 import broker_service_pb2 as pb

from .position import Position

HEARTBEAT_MS = 500
SILENCE_S = 2.0
REQUESTS_PER_MESSAGE = 500

_END_OF_STREAM: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it


class Tail:
    """One Stream call, made by `open_call`, from now until it ends or is closed.

    `take_in` gets each response that belongs to a position followed here, `changed` is called when the broker agreed
    and once when the call has ended, after each message `arrived`. None of them may close the tail's own task; `close`
    is safe.
    """

    def __init__(
        self,
        open_call: Callable[[], Any],
        *,
        take_in: Callable[[Position, pb.StreamResponse], None],
        arrived: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.is_open = False
        """The broker has agreed, and the call goes on."""
        self.has_ended = False
        self.was_agreed = False
        self.is_silent = False
        """It ended because nothing was heard."""
        self.outstanding_bytes = 0
        """Granted, and not yet come."""
        self._open_call = open_call
        self._take_in = take_in
        self._arrived = arrived
        self._changed = changed
        self._followed: dict[int, tuple[Position, int]] = {}  # by stream id, with the position's version
        self._ids: dict[Position, int] = {}
        self._last_id = 0
        self._outbox: deque[pb.StreamRequest] = deque()
        self._to_send = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._looked_at = self._loop.time()
        self._look = self._loop.call_later(SILENCE_S / 2, self._look_for_silence)
        self._call: Any = None
        self._writer: asyncio.Task[None] | None = None
        self.task = asyncio.ensure_future(self._run())

    # What is followed ----------------------------------------------------------------------------------------------

    def follows(self, position: Position) -> bool:
        return position in self._ids

    @property
    def followed(self) -> Iterable[Position]:
        return self._ids

    def follow(self, position: Position) -> None:
        """Have what comes from its next offset on pushed."""
        assert self.is_open and position not in self._ids, f"{position.topic_partition} is not to be followed"
        self._last_id += 1
        self._followed[self._last_id] = (position, position.version)
        self._ids[position] = self._last_id
        topic, partition = position.topic_partition
        start = pb.StreamRequest.Start(
            topic=topic,
            partition=partition,
            topic_id=position.topic_id,
            offset=position.fetch_offset or 0,
            stream_id=self._last_id,
        )
        self._send(pb.StreamRequest(start=start))

    def leave(self, position: Position) -> None:
        """Have it pushed no more."""
        stream_id = self._ids.pop(position, None)
        if stream_id is not None:
            del self._followed[stream_id]
            self._send(pb.StreamRequest(stop=pb.StreamRequest.Stop(stream_id=stream_id)))

    def leave_all_but(self, positions: Iterable[Position]) -> None:
        """Leave what is not among these, and what has been sought elsewhere since it was followed."""
        wanted = set(positions)
        for position, stream_id in list(self._ids.items()):
            if position not in wanted or position.version != self._followed[stream_id][1]:
                self.leave(position)

    def grant(self, credit_bytes: int) -> None:
        self.outstanding_bytes += credit_bytes
        self._send(pb.StreamRequest(credit_bytes=credit_bytes))

    def close(self) -> None:
        """Nothing is told any more."""
        self._end()
        self.task.cancel()

    # Running -------------------------------------------------------------------------------------------------------

    def _send(self, request: pb.StreamRequest) -> None:
        if not self.has_ended:
            self._outbox.append(request)
            self._to_send.set()

    async def _run(self) -> None:
        try:
            call = self._call = self._open_call()
            terms = pb.StreamRequest.Terms(heartbeat_ms=HEARTBEAT_MS, together=True)
            await call.write(pb.StreamRequest(terms=terms))
            while (message := await call.read()) is not _END_OF_STREAM and not self.has_ended:
                self._hear(message)
        except grpc.aio.AioRpcError:
            pass  # of what ails the broker, whatever is asked next will tell
        except (asyncio.CancelledError, asyncio.InvalidStateError):
            # Of the call, or ours; to write to a call that has ended is an invalid state.
            if self._is_cancelled():
                raise
        finally:
            told = self.has_ended
            self._end()
            if not told:
                self._changed()

    @staticmethod
    def _is_cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _hear(self, message: pb.StreamResponse) -> None:
        self._heard_at = self._loop.time()
        if not self.was_agreed:
            self.was_agreed = self.is_open = True
            self._writer = asyncio.ensure_future(self._write())
            self._changed()
        if not message.stream_id:
            return
        self._hear_part(message)
        for part in message.others:
            self._hear_part(part)
        self._arrived()

    def _hear_part(self, part: pb.StreamResponse) -> None:
        self.outstanding_bytes -= len(part.batches)
        followed = self._followed.get(part.stream_id)
        if followed is None:
            return
        position, version = followed
        if part.HasField("error"):
            del self._followed[part.stream_id], self._ids[position]  # the broker has left it by itself
        if position.version == version and position.is_fetchable:
            self._take_in(position, part)
        else:
            self.leave(position)

    async def _write(self) -> None:
        try:
            while not self.has_ended:
                self._to_send.clear()
                while self._outbox:
                    request = self._outbox.popleft()
                    while self._outbox and len(request.others) < REQUESTS_PER_MESSAGE:
                        request.others.append(self._outbox.popleft())
                    await self._call.write(request)
                await self._to_send.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # who reads learns of it

    def _look_for_silence(self) -> None:
        now = self._loop.time()
        # A loop that was held up has answers unread: the silence is its own.
        was_held_up = now - self._looked_at > SILENCE_S
        self._looked_at = now
        if now - self._heard_at > SILENCE_S and not was_held_up:
            self.is_silent = True
            if self._call is not None:
                self._call.cancel()
            self._end()
            self._changed()
            return
        self._look = self._loop.call_later(SILENCE_S / 2, self._look_for_silence)

    def _end(self) -> None:
        self.has_ended = True
        self.is_open = False
        self.outstanding_bytes = 0
        self._look.cancel()
        if self._call is not None:
            self._call.cancel()
        if self._writer is not None:
            self._writer.cancel()
        self._outbox.clear()
        self._followed.clear()
        self._ids.clear()
