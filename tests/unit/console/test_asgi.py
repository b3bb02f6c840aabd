"""The console behind the HTTP door: one request a connection, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from lograft.node.console import asgi
from lograft.node.http import HttpDoor

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]


class Behind:
    """Stands for the console: hands what is its own to an application."""

    def __init__(self, app: asgi.App) -> None:
        self._app = app

    def takes(self, method: bytes, path: bytes) -> bool:
        return path.startswith(b"/console/")

    async def serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asgi.answer(self._app, head, reader, writer)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def a_page() -> bytes:
    return b"a_metric 1\n"


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    said = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} {body.decode()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


def asked(request: bytes, app: asgi.App = echo) -> tuple[int, bytes]:
    async def scene() -> bytes:
        door = HttpDoor({b"/metrics": a_page}, lambda: None, console=Behind(app))
        await door.start("127.0.0.1", 0)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(request)
            said = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return said
        finally:
            await door.stop()

    said = asyncio.run(scene())
    head, _, body = said.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body) if said else (0, b"")


def test_a_request_reaches_the_application_with_its_body() -> None:
    status, body = asked(b"POST /console/a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
    assert (status, body) == (200, b"POST /console/a b c=d body")
    chunked = b"POST /console/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert asked(chunked) == (200, b"POST /console/x  abc")


def test_head_gets_the_head_alone() -> None:
    ended = []

    async def noted(scope: Any, receive: Receive, send: Send) -> None:
        await echo(scope, receive, send)
        ended.append(True)

    assert asked(b"HEAD /console/x HTTP/1.1\r\nHost: x\r\n\r\n", noted) == (200, b"")
    assert ended


def test_the_doors_own_routes_are_answered_as_ever_and_the_rest_is_not_the_consoles() -> None:
    assert asked(b"GET /metrics HTTP/1.1\r\n\r\n") == (200, b"a_metric 1\n")
    assert asked(b"GET /healthz HTTP/1.1\r\n\r\n")[0] == 200
    assert asked(b"GET /consoles HTTP/1.1\r\n\r\n")[0] == 404
    assert asked(b"POST /metrics HTTP/1.1\r\n\r\n")[0] == 405


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /console/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /console/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /console/ HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /console/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /console/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /console/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /console/ HTTP/3.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /console/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /console/\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /console/ HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 2000 + b"\r\n", 431),
    ],
)
def test_what_is_no_request_gets_its_status_and_does_not_reach_the_application(head: bytes, status: int) -> None:
    async def untouched(scope: Any, receive: Receive, send: Send) -> None:
        raise AssertionError("it was called")

    assert asked(head, untouched)[0] in (status, 0)


def test_a_body_beyond_the_bound_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    status, body = asked(b"POST /console/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n")
    assert status == 413 and b"fewer records" in body
    monkeypatch.setattr(asgi, "BODY_BYTES_MAX", 2)
    chunked = b"POST /console/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n"
    assert asked(chunked)[0] == 413


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS_MAX", 0.1)
    assert asked(b"POST /console/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")[0] == 0


def test_several_tasks_of_an_answer_that_find_the_other_side_gone_are_one_end_and_no_mistake() -> None:
    async def lose(scope: Any, receive: Receive, send: Send) -> None:
        raise ExceptionGroup("two tasks", [ConnectionResetError(), ExceptionGroup("one more", [TimeoutError()])])

    async def err(scope: Any, receive: Receive, send: Send) -> None:
        raise ExceptionGroup("two tasks", [ConnectionResetError(), ValueError("ours")])

    async def scene(app: asgi.App) -> None:
        reader = asyncio.StreamReader()
        reader.feed_eof()
        left, right = socket.socketpair()
        with right:
            _, writer = await asyncio.open_connection(sock=left)
            try:
                await asgi.answer(app, b"GET /console/ HTTP/1.1\r\nHost: x\r\n\r\n", reader, writer)
            finally:
                writer.close()

    with pytest.raises(ConnectionResetError):
        asyncio.run(scene(lose))
    with pytest.raises(ExceptionGroup, match="two tasks"):
        asyncio.run(scene(err))


def test_who_does_not_read_an_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "WRITE_SECONDS_MAX", 0.1)

    async def pour(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})

    async def scene() -> None:
        door = HttpDoor({}, lambda: None, console=Behind(pour))
        await door.start("127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1024)
        writer.write(b"GET /console/ HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: bool(door._connections))
        await until(lambda: not door._connections)
        writer.transport.abort()
        await door.stop()

    asyncio.run(scene())


def test_an_application_that_streams_hears_that_nobody_listens_any_more() -> None:
    heard = []

    async def stream(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"line\n", "more_body": True})
        heard.append((await receive())["type"])

    async def scene() -> None:
        door = HttpDoor({}, lambda: None, console=Behind(stream))
        await door.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"GET /console/ HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"line\n")
        assert not heard
        writer.close()
        await until(lambda: bool(heard))
        await door.stop()

    asyncio.run(scene())
    assert heard == ["http.disconnect"]


def test_streams_give_way_like_everybody_else_when_the_door_is_full() -> None:
    async def stream(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"line\n", "more_body": True})
        await asyncio.Event().wait()

    async def scene() -> bytes:
        door = HttpDoor({}, lambda: None, connections_max=2, console=Behind(stream))
        await door.start("127.0.0.1", 0)
        streams = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(3)]
        for _, writer in streams:
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET /console/ HTTP/1.1\r\nHost: x\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 5)
        for _, stranger in (*streams, (reader, writer)):
            stranger.close()
        await door.stop()
        return said

    assert asyncio.run(scene()).endswith(b"alive\n")
