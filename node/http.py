"""The broker's HTTP door: /metrics, /metrics/partitions, /healthz, /readyz. Nothing that changes anything.

What is the console's (`/`, and all below `/console/`) is handed to it, where there is one, once the head is read; it
has bounds of its own.

Invariants
    fixed routes, compared as a whole; no path of a client's ever reaches a file
    a request is at most 8 KiB of head, has 5 seconds to arrive, and its body is never read
    one answer a connection, then it is closed; who does not read it within 10 seconds is cut off
    metrics are gathered once for all who were connected when that began, a piece in each turn of the loop: a crowd of
        askers does not hold it up
    at the bound the connection that came first gives way: whoever asks in earnest is answered in milliseconds
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

import structlog

HEAD_BYTES_MAX = 8 << 10
HEAD_SECONDS_MAX = 5.0

log = structlog.get_logger("http")


class Answer(NamedTuple):
    status: str
    """Code and phrase, as on the wire."""
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Console(Protocol):
    """Who answers what is not the door's own."""

    def takes(self, method: bytes, path: bytes) -> bool: ...
    async def serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, within bounds; what it writes last is left to the door."""
        ...


class HttpDoor:
    """Serves metrics and health on one port.

    `metrics` give the Prometheus text of a page, by its path; `unready()` says why this broker does not serve yet, or
    None.
    """

    def __init__(
        self,
        metrics: Mapping[bytes, Callable[[], Awaitable[bytes]]],
        unready: Callable[[], str | None],
        *,
        connections_max: int = 64,
        console: Console | None = None,
    ) -> None:
        self._pages = {path: _Gathered(gather) for path, gather in metrics.items()}
        self._unready = unready
        self._console = console
        self._server: asyncio.Server | None = None
        self._connections_max = connections_max
        self._connections: dict[asyncio.Task[None], None] = {}
        """In the order in which they came."""

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, host: str, port: int) -> None:
        """Listen; OSError if the port is taken."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=HEAD_BYTES_MAX)

    @property
    def port(self) -> int:
        """Where it really listens. Only after `start`."""
        assert self._server is not None, "start first"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        came_at = time.monotonic()
        if len(self._connections) >= self._connections_max:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()
        self._connections[connection] = None
        try:
            async with asyncio.timeout(2 * HEAD_SECONDS_MAX) as bound:
                head = await _read_head(reader)
                if head is not None and self._console is not None and self._console.takes(*parse_request_line(head)):
                    bound.reschedule(None)
                    await self._console.serve(head, reader, writer)
                    bound.reschedule(asyncio.get_running_loop().time() + HEAD_SECONDS_MAX)
                else:
                    writer.write(await self._respond(head, came_at))
                # All of it, not only down to the low-water mark: what a transport still holds when it is closed, it
                # holds until the other side reads.
                if not writer.transport.is_closing():  # uvloop's have no limits any more
                    writer.transport.set_write_buffer_limits(high=0)
                await writer.drain()
            writer.close()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side went away, is too slow or has to give way: nothing to tell anyone
        except OSError as error:  # hardly the connection's: something could not be read while it was answered
            log.warning("http_request_failed", why=str(error), exc_info=error)
        finally:
            self._connections.pop(connection, None)
            if not writer.is_closing():
                writer.transport.abort()

    async def _respond(self, head: bytes | None, came_at: float) -> bytes:
        if head is None:
            return render(Answer("431 Request Header Fields Too Large", b"at most 8 KiB\n"))
        method, path = parse_request_line(head)
        return render(await self._answer(method, path, came_at), with_body=method != b"HEAD")

    async def _answer(self, method: bytes, path: bytes, came_at: float) -> Answer:
        if method not in (b"GET", b"HEAD"):
            return Answer("405 Method Not Allowed", b"only GET and HEAD\n")
        route = path.partition(b"?")[0]
        if route in self._pages:
            try:
                text = await self._pages[route].since(came_at)
            except OSError as error:  # not the connection's: it is as this broker's disk, or the system, has it
                log.warning("page_not_made", path=route.decode(), why=str(error))
                return Answer("500 Internal Server Error", f"could not be gathered: {error}\n".encode())
            return Answer("200 OK", text, "text/plain; version=0.0.4; charset=utf-8")
        match route:
            case b"/healthz":
                return Answer("200 OK", b"alive\n")
            case b"/readyz":
                why_not = self._unready()
                if why_not is None:
                    return Answer("200 OK", b"ready\n")
                return Answer("503 Service Unavailable", f"{why_not}\n".encode())
            case _:
                return Answer("404 Not Found", b"here are /metrics, /metrics/partitions, /healthz and /readyz\n")


class _Gathered:
    """A page that takes a while to gather: done once for all who came before that began."""

    def __init__(self, gather: Callable[[], Awaitable[bytes]]) -> None:
        self._gather = gather
        self._text = b""
        self._began_at = -1.0
        self._gathering = asyncio.Lock()

    async def since(self, came_at: float) -> bytes:
        """As it was at some moment after `came_at`."""
        async with self._gathering:
            if self._began_at < came_at:
                began_at = time.monotonic()
                self._text = await self._gather()
                self._began_at = began_at
            return self._text


async def _read_head(reader: asyncio.StreamReader) -> bytes | None:
    """All of it; None if it is too long. TimeoutError if it does not come in time."""
    try:
        async with asyncio.timeout(HEAD_SECONDS_MAX):
            return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None


def parse_request_line(head: bytes) -> tuple[bytes, bytes]:
    """Method and path of a request; two empty ones if its first line is none."""
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    return (parts[0], parts[1]) if len(parts) == 3 else (b"", b"")


def render(answer: Answer, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (answer.body if with_body else b"")
