"""One HTTP/1.1 request on one connection, answered by an ASGI application; the framing is h11's.

Invariants
    one request a connection; `Connection: close` on every answer
    a body has at most `BODY_BYTES_MAX` bytes, `BODY_SECONDS_MAX` to arrive, and is whole before the app is called
    who does not read what is written within `WRITE_SECONDS_MAX` is cut off; at most some 64 KiB wait for it
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

import h11

HEAD_BYTES_MAX = 8 << 10
BODY_BYTES_MAX = 2 << 20
TOO_LONG = f"a request has at most {BODY_BYTES_MAX} bytes: send fewer records at a time"
BODY_SECONDS_MAX = 10.0
WRITE_SECONDS_MAX = 10.0
WRITE_WAITING_BYTES = 64 << 10

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class Refused(Exception):
    """The request is answered without the application: by `status`, and `reason` as its body."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


async def answer(app: App, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Have `app` answer the request whose head was read already.

    Raises
        TimeoutError, OSError  the other side is too slow or went away
    """
    exchange = _Exchange(reader, writer)
    if writer.transport.is_closing():
        return  # whoever asked is gone again
    writer.transport.set_write_buffer_limits(high=WRITE_WAITING_BYTES)
    try:
        scope = await exchange.request(head)
    except Refused as refused:
        body = f"{refused.reason}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await exchange.send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})
        return
    try:
        await app(scope, exchange.receive, exchange.send)
    except ExceptionGroup as group:
        # Several tasks of one answer may find the other side gone at the same moment.
        gone, others = group.split((TimeoutError, OSError))
        if gone is None or others is not None:
            raise
        raise ConnectionResetError("whoever asked went away in the midst of the answer") from group


class _Exchange:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._body: bytes | None = None
        self._is_head = False
        self._closed = False

    async def request(self, head: bytes) -> dict[str, Any]:
        """The request as ASGI has it, its body read."""
        try:
            self._http.receive_data(head)
            event = self._http.next_event()
            if not isinstance(event, h11.Request):
                raise Refused(400, "no request")
            announced = next((value for name, value in event.headers if name == b"content-length"), b"0")
            if int(announced) > BODY_BYTES_MAX:
                raise Refused(413, TOO_LONG)
            async with asyncio.timeout(BODY_SECONDS_MAX):
                self._body = await self._read_body()
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, f"no valid request: {error}") from None
        self._is_head = event.method == b"HEAD"
        raw_path, _, query = event.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": event.http_version.decode(),
            "method": event.method.decode(),
            "scheme": "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in event.headers],
            "client": _address(self._writer.get_extra_info("peername")),
            "server": _address(self._writer.get_extra_info("sockname")),
        }

    async def _read_body(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                    await self._write(self._http.send(go_on) or b"")
                self._http.receive_data(await self._reader.read(1 << 16))
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > BODY_BYTES_MAX:
                    raise Refused(413, TOO_LONG)
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return b"".join(pieces)
            else:
                raise Refused(400, "the request ended early")

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        while not self._closed and await self._reader.read(1 << 12):
            pass  # there is to be nothing more: it is not looked at
        self._closed = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if name != b"connection"]
            start = h11.Response(status_code=message["status"], headers=[*headers, (b"connection", b"close")])
            await self._write(self._http.send(start) or b"")
        elif message["type"] == "http.response.body":
            if (body := message.get("body", b"")) and not self._is_head:
                await self._write(self._http.send(h11.Data(data=body)) or b"")
            if not message.get("more_body", False):
                await self._write(self._http.send(h11.EndOfMessage()) or b"")

    async def _write(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await self._writer.drain()


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
