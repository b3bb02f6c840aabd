from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from lograft.node.http import HttpDoor


def pages(gather: Callable[[], bytes]) -> dict[bytes, Callable[[], Awaitable[bytes]]]:
    """What the door serves under /metrics; a word under /metrics/partitions."""

    async def page() -> bytes:
        await asyncio.sleep(0)
        return gather()

    async def partitions() -> bytes:
        return b"partitions\n"

    return {b"/metrics": page, b"/metrics/partitions": partitions}


def asked(request: bytes, unready: str | None = None) -> tuple[int, bytes]:
    """Status and body of the answer."""

    async def scene() -> bytes:
        door = HttpDoor(pages(lambda: b"a_metric 1\n"), unready=lambda: unready)
        await door.start("127.0.0.1", 0)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(request)
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return answer
        finally:
            await door.stop()

    head, _, body = asyncio.run(scene()).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def get(path: str, **scene: str) -> tuple[int, bytes]:
    return asked(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), **scene)


def test_the_routes_answer() -> None:
    assert get("/metrics") == (200, b"a_metric 1\n")
    assert get("/metrics?name=x") == (200, b"a_metric 1\n")
    assert get("/metrics/partitions") == (200, b"partitions\n")
    assert get("/healthz") == (200, b"alive\n")
    assert get("/readyz") == (200, b"ready\n")


def test_a_broker_that_is_not_ready_says_why_and_is_alive_all_the_same() -> None:
    assert get("/readyz", unready="no cluster yet") == (503, b"no cluster yet\n")
    assert get("/healthz", unready="no cluster yet")[0] == 200


def test_head_gets_the_head_alone() -> None:
    assert asked(b"HEAD /metrics HTTP/1.1\r\n\r\n") == (200, b"")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n", 405),
        (b"\r\n\r\n", 405),
        (b"\xff\xfe\x00\r\n\r\n", 405),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
    ids=["root", "above", "post", "empty", "binary", "long"],
)
def test_anything_else_is_refused(request_bytes: bytes, status: int) -> None:
    assert asked(request_bytes)[0] == status


def test_an_answer_comes_while_silent_strangers_hold_every_place() -> None:
    async def scene() -> bytes:
        door = HttpDoor({}, unready=lambda: None, connections_max=3)
        await door.start("127.0.0.1", 0)
        silent = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(10)]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
            assert await asyncio.wait_for(silent[0][0].read(), 5) == b""  # who came first had to give way
            return answer
        finally:
            for _, stranger in (*silent, (reader, writer)):
                stranger.close()
            await door.stop()

    assert asyncio.run(scene()).endswith(b"alive\n")


def test_who_asks_and_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lograft.node.http.HEAD_SECONDS_MAX", 0.1)

    async def scene() -> None:
        door = HttpDoor(pages(lambda: b"x" * (32 << 20)), unready=lambda: None)
        await door.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1024)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(5):
            await asyncio.sleep(0.5)  # longer than it may take to read
            assert not door._connections
            got = 0
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(1 << 20):
                    got += len(piece)
        assert got < 32 << 20, "the rest was kept until somebody read it"
        writer.close()
        await door.stop()

    asyncio.run(scene())


def test_metrics_are_gathered_once_for_a_crowd_and_anew_for_who_comes_later() -> None:
    gathered = 0

    def gather() -> bytes:
        nonlocal gathered
        gathered += 1
        return b"gathered %d\n" % gathered

    async def scene() -> None:
        door = HttpDoor(pages(gather), unready=lambda: None)
        await door.start("127.0.0.1", 0)

        async def ask(began: asyncio.Event) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            await began.wait()
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer

        async def crowd(count: int) -> list[bytes]:
            began = asyncio.Event()
            asking = [asyncio.create_task(ask(began)) for _ in range(count)]
            await asyncio.sleep(0.3)
            assert len(door._connections) == count
            began.set()
            return await asyncio.gather(*asking)

        assert all(answer.endswith(b"gathered 1\n") for answer in await crowd(20))
        (later,) = await crowd(1)
        assert later.endswith(b"gathered 2\n")
        await door.stop()

    asyncio.run(scene())


def test_metrics_that_cannot_be_gathered_end_the_connection_and_are_not_taken_for_none() -> None:
    outcomes = [b"", ValueError("a gauge failed")]

    def gather() -> bytes:
        outcome = outcomes.pop()
        if isinstance(outcome, ValueError):
            raise outcome
        return b"gathered\n"

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it is told of, as it should be
        door = HttpDoor(pages(gather), unready=lambda: None)
        await door.start("127.0.0.1", 0)
        askers = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(2)]
        answers = []
        for reader, writer in askers:
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            try:
                answers.append(await asyncio.wait_for(reader.read(), 5))
            except ConnectionResetError:
                answers.append(b"")
            writer.close()
        assert answers[0] == b"" and answers[1].endswith(b"gathered\n")
        await door.stop()

    asyncio.run(scene())


def test_a_page_that_the_system_cannot_give_is_an_error_that_is_told_not_a_connection_that_ends() -> None:
    async def gather() -> bytes:
        raise OSError(5, "input/output error")

    async def scene() -> bytes:
        door = HttpDoor({b"/metrics": gather}, unready=lambda: None)
        await door.start("127.0.0.1", 0)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return answer
        finally:
            await door.stop()

    answer = asyncio.run(scene())
    assert answer.startswith(b"HTTP/1.1 500 ") and answer.endswith(b"input/output error\n")
