"""A live session with another broker: both its links, the calls under way on it, and when it was last heard.

Always holds
    both links lead to the same process: same directory id, start number and process nonce
    a session that has ended does not come back; the next one has a higher number
    a call ends with its session: its outcome is then unknown
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

import msgspec

from ...partitions.environment import Buffer
from ...proto.errors import (
    UNDECODABLE,
    InvalidRequest,
    LograftError,
    Overloaded,
    RequestTimedOut,
    UnknownOutcome,
    raised_from,
)
from ...proto.peer_frames import FRAME_BYTES_MAX, FrameType, PeerFrameError, encode_frame
from .connection import PeerConnection
from .handshake import PeerIdentity

LARGE_CALL_BYTES = 64 << 10
"""A call or answer larger than this takes the bulk link, so that heartbeats are never behind it."""
CALL_BYTES_MAX = FRAME_BYTES_MAX - 4096
METHOD_BYTES_MAX = 200

_CALL = struct.Struct(">QIH")  # call number, time left in milliseconds, bytes of the method's name
_ANSWER = struct.Struct(">QB")  # call number, whether it went well


class _Failure(msgspec.Struct, frozen=True, array_like=True):
    reason: str
    message: str
    facts: dict[str, str]


_decode_failure = msgspec.msgpack.Decoder(_Failure).decode


class PeerSession:
    """What lasts from the moment both links are up until either is lost."""

    def __init__(
        self,
        number: int,
        peer: PeerIdentity,
        control: PeerConnection,
        bulk: PeerConnection,
        *,
        dialled: bool,
        now_ms: float,
        calls_max: int,
    ) -> None:
        self.number = number
        """Rises with each session of this process, with whomever."""
        self.protocol = control.handshake.protocol
        """Version of the peer protocol that both sides use: what is sent is of this version."""
        self.peer_spoken = control.handshake.peer_spoken
        """The versions that the peer could speak."""
        self.peer = peer
        self.control = control
        self.bulk = bulk
        self.dialled = dialled
        """Did this side make the connections?"""
        self.began_ms = now_ms
        """On the loop's clock."""
        self.is_live = True
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._last_call = 0
        self._calls_max = calls_max
        self._answering: set[asyncio.Task[None]] = set()
        control.answered_ms = bulk.answered_ms = now_ms

    @property
    def broker_id(self) -> int:
        return self.peer.broker_id

    @property
    def heard_ms(self) -> float:
        """When this pair was last heard: both its links have answered since (the loop's clock)."""
        return min(self.control.answered_ms, self.bulk.answered_ms)

    @property
    def received_bytes(self) -> int:
        return self.control.received_bytes + self.bulk.received_bytes

    @property
    def sent_bytes(self) -> int:
        """But for pings, which overtake all else."""
        return self.control.sent_bytes + self.bulk.sent_bytes

    def same_process(self, peer: PeerIdentity) -> bool:
        mine = self.peer
        return (mine.directory_id, mine.start_number, mine.process_nonce) == (
            peer.directory_id,
            peer.start_number,
            peer.process_nonce,
        )

    def ended(self, why: str) -> None:
        """Fail what waits for an answer. What this side is answering runs to its end: it may have begun to act."""
        self.is_live = False
        calls, self._calls = self._calls, {}
        for answer in calls.values():
            if not answer.done():
                answer.set_exception(UnknownOutcome(f"the link to broker {self.broker_id} was lost: {why}"))

    async def call(self, method: str, body: Buffer, timeout_ms: float) -> bytes:
        """Ask the peer to carry out `method`.

        Raises what the peer raised; UnknownOutcome if the session ends first, RequestTimedOut, Overloaded,
        InvalidRequest.
        """
        name = method.encode()
        if len(body) > CALL_BYTES_MAX or len(name) > METHOD_BYTES_MAX:
            raise InvalidRequest(
                f"a call of {len(body)} bytes passes the limit of {CALL_BYTES_MAX}", limit=CALL_BYTES_MAX
            )
        self._last_call += 1
        number = self._last_call
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        head = _CALL.pack(number, min(int(timeout_ms), 2**32 - 1), len(name)) + name
        self._calls[number] = answer
        try:
            if not self._send(FrameType.CALL, head, body):
                raise Overloaded(f"too much waits to be sent to broker {self.broker_id}; {method} was not sent")
            async with asyncio.timeout(timeout_ms / 1000):
                return await answer
        except TimeoutError:
            raise RequestTimedOut(
                f"broker {self.broker_id} did not answer {method} within {timeout_ms:.0f} ms"
            ) from None
        finally:
            self._calls.pop(number, None)

    def take_answer(self, body: memoryview) -> None:
        """Raises PeerFrameError."""
        if len(body) < _ANSWER.size:
            raise PeerFrameError("an answer is cut short")
        number, good = _ANSWER.unpack_from(body)
        answer = self._calls.get(number)
        rest = bytes(body[_ANSWER.size :])
        failure: LograftError | None = None
        if not good:
            try:
                told = _decode_failure(rest)
            except UNDECODABLE as error:
                raise PeerFrameError(f"an answer's error is wrong: {error}") from None
            facts = {name: fact for name, fact in told.facts.items() if name not in ("self", "message")}
            failure = raised_from(told.reason, told.message, facts)
        if answer is None or answer.done():
            return  # given up on
        if failure is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(rest)

    def take_call(
        self, body: memoryview, carry_out: Callable[[int, str, bytes], Awaitable[bytes]], log: Callable[..., None]
    ) -> None:
        """Carry out a call in a task of its own, and answer it. Raises PeerFrameError."""
        if len(body) < _CALL.size:
            raise PeerFrameError("a call is cut short")
        number, timeout_ms, name_size = _CALL.unpack_from(body)
        start = _CALL.size + name_size
        if name_size > METHOD_BYTES_MAX or start > len(body):
            raise PeerFrameError("a call names no method")
        try:
            method = str(body[_CALL.size : start], "utf-8")
        except UnicodeDecodeError:
            raise PeerFrameError("a call names no method") from None
        if len(self._answering) >= self._calls_max:
            self._answer_failure(number, Overloaded(f"{self._calls_max} calls of one broker are under way here"))
            return
        task = asyncio.get_running_loop().create_task(
            self._answer(number, method, bytes(body[start:]), timeout_ms, carry_out, log)
        )
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def cancel_answering(self) -> None:
        """This process stops."""
        for task in self._answering:
            task.cancel()

    async def _answer(
        self,
        number: int,
        method: str,
        body: bytes,
        timeout_ms: int,
        carry_out: Callable[[int, str, bytes], Awaitable[bytes]],
        log: Callable[..., None],
    ) -> None:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                answer = await carry_out(self.broker_id, method, body)
        except LograftError as error:
            self._answer_failure(number, error)
        except TimeoutError:
            self._answer_failure(number, RequestTimedOut(f"{method} was not done within {timeout_ms} ms"))
        except Exception as error:
            # A mistake of ours, about which the caller can do nothing: it learns that it happened, the log learns why.
            log("peer.call_failed", broker=self.broker_id, method=method, error=repr(error))
            self._answer_failure(number, LograftError(f"{method} failed with {type(error).__name__}"))
        else:
            if len(answer) > CALL_BYTES_MAX or not self._send(FrameType.ANSWER, _ANSWER.pack(number, 1), answer):
                self._answer_failure(number, Overloaded(f"an answer of {len(answer)} bytes could not be sent"))

    def _answer_failure(self, number: int, error: LograftError) -> None:
        told = _Failure(error.reason, error.message, error.facts)
        self._send(FrameType.ANSWER, _ANSWER.pack(number, 0), msgspec.msgpack.encode(told))

    def _send(self, frame_type: FrameType, head: bytes, body: Buffer) -> bool:
        buffers = encode_frame(frame_type, head, body)
        size = sum(map(len, buffers))
        if size > LARGE_CALL_BYTES:
            return self.send_bulk(buffers, size)
        return self.send_control(buffers, size)

    # Bounds are checked where a frame is handed in: what was taken in is sent, or the session ends.

    def send_control(self, buffers: list[Buffer], size: int) -> bool:
        if not self.is_live:
            return False
        self.control.send(buffers, size)
        return True

    def send_bulk(self, buffers: list[Buffer], size: int) -> bool:
        if not self.is_live or self.bulk.waiting_bytes + size > self.bulk.waiting_bytes_max:
            return False
        self.bulk.send(buffers, size)
        return True
