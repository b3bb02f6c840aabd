"""One connection of a Kafka client: requests in, answers out in the order of the requests.

Invariants
    answers leave in the order in which the requests came, each once; a request that wants none gets none
    requests are carried out one after the other, as Kafka does; but batches are appended as they come, without waiting
        for those before them to be acknowledged, and in order
    what a request takes in memory counts until its answer was handed to the system; past a bound nothing more is read
    an answer that is not read holds up its own connection alone
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol, cast

from ...proto.record_batch import Buffer
from ..rpc.budget import ByteBudget, Lease
from .apis import PRODUCE
from .frames import FrameReader, MalformedRequest, RequestHead, framed, read_head

READ_AHEAD_BYTES = 64 << 10
"""Kept of what comes in while nothing of it can be carried out. Beyond that the connection is not read from."""
TRANSPORT_BYTES_HIGH = 64 << 10
"""Handed to the system's care without counting: what it holds of small answers."""
REQUESTS_PER_TURN = 50
REQUESTS_IN_FLIGHT_MAX = 500
"""Of one connection; clients have 5 or so."""
REQUEST_OVERHEAD_BYTES = 512
"""What a request costs besides its bytes: else a million empty ones would be free."""


class Answer:
    """The place of one answer among those of its connection. `give` is called once, whenever it is known."""

    __slots__ = ("_connection", "body", "is_flexible", "is_given", "lease", "request", "size")

    def __init__(self, connection: KafkaConnection, request: RequestHead, size: int) -> None:
        self._connection = connection
        self.request = request
        self.size = size
        """Bytes of the request, taken of the connection's budget until the answer has left."""
        self.is_given = False
        self.body: list[Buffer] | None = None
        """None: there is no answer to be sent."""
        self.is_flexible = False
        self.lease: Lease | None = None
        """To be ended once the answer has left."""

    def give(self, body: list[Buffer] | None, *, is_flexible: bool = False) -> None:
        assert not self.is_given, f"a second answer to {self.request}"
        self.is_given = True
        self.body = body
        self.is_flexible = is_flexible
        self._connection.given(self)

    def hang_up(self, why: str) -> None:
        """Instead of an answer."""
        self._connection.close(why)


class Handling(Protocol):
    """Who carries requests out."""

    def take(
        self, frame: Buffer, head: RequestHead, answer: Answer, connection: KafkaConnection
    ) -> Coroutine[Any, Any, None] | None:
        """Carry out one request, at once or by the coroutine that is returned; `answer` is given when it is done.

        Raises MalformedRequest: there is no answer, and the connection ends.
        """
        ...


class ConnectionOwner(Protocol):
    """Who is told what happens on a connection. Called in the loop."""

    handling: Handling
    request_bytes_max: int
    in_flight_bytes_max: int

    def opened(self, connection: KafkaConnection) -> None: ...
    def holds(self, connection: KafkaConnection, change: int) -> None:
        """It holds so much more, or less, of requests that have not begun; may mute it."""
        ...

    def ended(self, connection: KafkaConnection, why: str, *, is_usual: bool) -> None: ...
    def lease_for(self, peer: str) -> Lease: ...
    def failed(self, connection: KafkaConnection, request: RequestHead, error: BaseException) -> None:
        """A request was not carried out by a mistake of ours."""
        ...


class KafkaConnection(asyncio.Protocol):
    """A connection, from the first byte to the last."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self.host = ""
        self.peer = ""
        self.local_host = ""
        """The address at which the client reached this broker."""
        self.client_software = ""
        self.requests = 0
        """Whole ones that came."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.opened_at = self.heard_at = self.progress_at = self._loop.time()
        """When it began; when something came last; when the system last took some of what it is to send."""
        self.unsent_seen = -1
        """How much the system had still to send when that was last looked at."""
        self._reader = FrameReader(owner.request_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._held: Buffer | None = None
        """A whole frame whose turn has not come."""
        self._answers: deque[Answer] = deque()
        self._running: asyncio.Task[None] | None = None
        """What keeps later requests waiting."""
        self._produces = 0
        """Requests with batches that are not answered yet."""
        self._unsent: list[Answer] = []
        """Answers handed to the transport while it holds more than it should."""
        self._is_paused = False
        self._reads = True
        self._is_muted = False
        self._told_bytes = 0
        self._going_on = False
        self._waiting_for_room: asyncio.Task[None] | None = None
        self._lease: Lease | None = None
        self._budget = ByteBudget(0)
        self._ended = False
        self._amid_since: float | None = None

    # -- what the door asks --------------------------------------------------------------------------------------------

    @property
    def waiting_bytes(self) -> int:
        """Of requests that are not whole, or whose turn has not come."""
        return self._reader.waiting_bytes + (0 if self._held is None else len(self._held))

    @property
    def amid_since(self) -> float | None:
        """When the frame began that is not whole; None if there is none, or it is this broker that does not read, or
        lets others wait that came before."""
        return self._amid_since if self._reads and not self.waits_for_its_turn else None

    @property
    def waits_for_its_turn(self) -> bool:
        """Is there a whole request that was not begun yet?"""
        return self._held is not None

    @property
    def is_stuck(self) -> bool:
        """Does the client not read its answers?"""
        return self._is_paused

    @property
    def is_idle(self) -> bool:
        return not self._answers and not self._reader.is_amid

    def unsent_bytes(self) -> int:
        return 0 if self._transport is None or self._ended else self._transport.get_write_buffer_size()

    def mute(self, muted: bool) -> None:
        """Is nothing more to be read, for now?"""
        if self._is_muted != muted and not self._ended:
            self._is_muted = muted
            self._read_or_not()

    def close(self, why: str, *, is_usual: bool = False) -> None:
        """`is_usual`: nobody did anything wrong, and nobody need hear of it."""
        if not self._ended and self._transport is not None:
            self._transport.abort()
            self._end(why, is_usual=is_usual)

    # -- what the loop calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # as it is; uvloop's is no subclass
        self._transport = transport
        transport.set_write_buffer_limits(high=TRANSPORT_BYTES_HIGH)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host, self.peer = _named(transport.get_extra_info("peername"))
        self.local_host, _ = _named(transport.get_extra_info("sockname"))
        self._lease = self._owner.lease_for(self.peer)
        self._budget = self._lease.within(self._owner.in_flight_bytes_max)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self.heard_at = self._loop.time()
        self._reader.feed(data)
        self._go_on()

    def pause_writing(self) -> None:
        self._is_paused = True
        self.progress_at = self._loop.time()

    def resume_writing(self) -> None:
        self._is_paused = False
        unsent, self._unsent = self._unsent, []
        for answer in unsent:
            self._let_go(answer)
        self.flush()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"connection lost: {error}" if error else "closed by the client", is_usual=True)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Carry out what can be carried out now."""
        self._going_on = False
        if self._ended:
            return
        try:
            for _ in range(REQUESTS_PER_TURN):
                if self._held is None:
                    self._held = self._reader.next()
                if self._held is None or not self._may_begin(self._held):
                    break
                frame, self._held = self._held, None
                self._begin(frame)
                if self._ended:
                    return
            else:
                self._go_on_soon()
        except MalformedRequest as error:
            self.close(str(error))
            return
        self._amid_since = None if not self._reader.is_amid else (self._amid_since or self._loop.time())
        self._tell_held()
        self._read_or_not()

    def _tell_held(self) -> None:
        change, self._told_bytes = self.waiting_bytes - self._told_bytes, self.waiting_bytes
        if change:
            self._owner.holds(self, change)

    def _go_on_soon(self) -> None:
        if not self._going_on and not self._ended:
            self._going_on = True
            self._loop.call_soon(self._go_on)

    def _may_begin(self, frame: Buffer) -> bool:
        if self._running is not None or self._is_paused or len(self._answers) >= REQUESTS_IN_FLIGHT_MAX:
            return False
        if self._produces < len(self._answers) or (self._produces and read_head(frame).api_key != PRODUCE):
            return False  # whatever is under way is no batch, or this is none
        if self._budget.is_full:
            if self._waiting_for_room is None:
                self._waiting_for_room = self._loop.create_task(self._room())
            return False
        return True

    async def _room(self) -> None:
        await self._budget.room()
        self._waiting_for_room = None
        self._go_on()

    def _begin(self, frame: Buffer) -> None:
        head = read_head(frame)
        self.requests += 1
        self._amid_since = None
        answer = Answer(self, head, len(frame) + REQUEST_OVERHEAD_BYTES)
        self._budget.take(answer.size)
        self._answers.append(answer)
        if head.api_key == PRODUCE:
            self._produces += 1
        try:
            coroutine = self._owner.handling.take(frame, head, answer, self)
        except MalformedRequest:
            self._let_go(answer)  # nobody will ever answer it
            raise
        except Exception as error:
            self._let_go(answer)
            self._fail(head, error)
            return
        if coroutine is not None:
            self._running = self._loop.create_task(coroutine)
            self._running.add_done_callback(partial(self._on_done, head))

    def _on_done(self, head: RequestHead, task: asyncio.Task[None]) -> None:
        self._running = None
        if task.cancelled() or self._ended:
            return
        error = task.exception()
        if isinstance(error, MalformedRequest):
            self.close(str(error))
        elif error is not None:
            self._fail(head, error)
        else:
            self._go_on()

    def _fail(self, head: RequestHead, error: BaseException) -> None:
        """A mistake of ours: the client connects anew, and asks again."""
        self._owner.failed(self, head, error)
        self.close(f"a request could not be carried out: {error!r}", is_usual=True)  # it is logged already

    def _read_or_not(self) -> None:
        assert self._transport is not None
        wants = not self._is_muted and (self._held is None or self._reader.waiting_bytes < READ_AHEAD_BYTES)
        if wants != self._reads:
            self._reads = wants
            if wants:
                self._amid_since = self._loop.time() if self._reader.is_amid else None
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # -- answers -------------------------------------------------------------------------------------------------------

    def given(self, answer: Answer) -> None:
        """An answer is known."""
        if self._ended:
            self._let_go(answer)
        else:
            self.flush()

    def flush(self) -> None:
        """Send what is next to be sent, as far as it is known."""
        while self._answers and self._answers[0].is_given and not self._is_paused and not self._ended:
            answer = self._answers.popleft()
            if answer.request.api_key == PRODUCE:
                self._produces -= 1
            if answer.body is not None:
                assert self._transport is not None
                frame = framed(answer.request.correlation_id, answer.body, is_flexible=answer.is_flexible)
                answer.body = None
                if len(frame) > 1:
                    self._transport.writelines(frame)
                else:
                    self._transport.write(frame[0])
            if self._is_paused:
                self._unsent.append(answer)
            else:
                self._let_go(answer)
        if self._held is not None or self._reader.waiting_bytes:
            self._go_on_soon()

    def _let_go(self, answer: Answer) -> None:
        self._budget.give_back(answer.size)
        answer.size = 0
        if answer.lease is not None:
            answer.lease.end()

    def _end(self, why: str, *, is_usual: bool) -> None:
        if self._ended:
            return
        self._ended = True
        # Batches are carried out to the end: only then is given back what they hold, and one that has not begun would
        # never hear that it is cancelled.
        for task in (None if self._produces else self._running, self._waiting_for_room):
            if task is not None:
                task.cancel()
        for answer in (*self._unsent, *self._answers):
            # Batches that were appended go on taking memory until they are acknowledged, whoever waits for that.
            if answer.is_given or answer.request.api_key != PRODUCE:
                self._let_go(answer)
        self._unsent.clear()
        self._answers.clear()
        self._held = None
        self._reader = FrameReader(0)
        self._tell_held()
        if self._lease is not None:
            self._lease.end()
        self._owner.ended(self, why, is_usual=is_usual)


def _named(name: object) -> tuple[str, str]:
    """The host, and the whole as gRPC would call it (`rpc.call_counts.host_of`)."""
    if not isinstance(name, tuple) or len(name) < 2:
        return "?", "unix:?"
    host, port = str(name[0]), name[1]
    return host, f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
