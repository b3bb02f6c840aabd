"""What standard output took is what may be stored: to the record, whoever reads it and however slowly."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from lograft.client.cli.consume_in_group import CountedOutput
from lograft.client.records import TopicPartition

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def with_pipe(test: Callable[[CountedOutput, int, int], Coroutine[Any, Any, None]]) -> None:
    """Runs a test with an output, the pipe's reading end and its writing end."""

    async def whole() -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        try:
            await asyncio.wait_for(test(CountedOutput(writer), reader, writer), 10)
        finally:
            os.close(writer)

    asyncio.run(whole())


def read_all(reader: int) -> bytes:
    found = b""
    while True:
        try:
            found += os.read(reader, 1 << 20)
        except BlockingIOError:
            return found


def test_records_count_once_they_are_out() -> None:
    async def test(output: CountedOutput, reader: int, writer: int) -> None:
        output.take(b"one\n", T0, 1)
        output.take(b"two\n", T1, 8)
        output.take(b"", T0, 2)
        assert output.reached == {}
        await output.drain()
        assert output.reached == {T0: 2, T1: 8}
        assert read_all(reader) == b"one\ntwo\n"

    with_pipe(test)


def test_a_reader_that_is_slow_holds_up_nothing_else_and_gets_every_byte() -> None:
    async def test(output: CountedOutput, reader: int, writer: int) -> None:
        piece = bytes(range(256)) * 40
        for number in range(40):
            output.take(piece, T0, number + 1)
        draining = asyncio.ensure_future(output.drain())
        await asyncio.sleep(0.05)
        assert not draining.done()
        assert 0 < output.reached[T0] < 40
        found = b""
        while not draining.done():
            found += read_all(reader)
            await asyncio.sleep(0)
        assert found + read_all(reader) == piece * 40
        assert output.reached == {T0: 40}

    with_pipe(test)


def test_interrupted_the_record_begun_is_ended_and_those_after_it_are_dropped_and_not_counted() -> None:
    async def test(output: CountedOutput, reader: int, writer: int) -> None:
        piece = b"x" * 9_999 + b"\n"
        for number in range(20):
            output.take(piece, T0, number + 1)
        draining = asyncio.ensure_future(output.drain())
        await asyncio.sleep(0.05)  # the pipe is full
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        begun = output.reached[T0] + 1
        ending = asyncio.ensure_future(output.end_record())
        found = b""
        while not ending.done():
            found += read_all(reader)
            await asyncio.sleep(0)
        found += read_all(reader)
        await ending
        assert found == piece * (len(found) // len(piece))
        assert output.reached == {T0: len(found) // len(piece)}
        assert output.reached[T0] in (begun - 1, begun)

    with_pipe(test)


def test_nothing_more_is_counted_once_nobody_reads() -> None:
    async def test(output: CountedOutput, reader: int, writer: int) -> None:
        output.take(b"one\n", T0, 1)
        await output.drain()
        output.check_reader()
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            output.check_reader()
        output.take(b"two\n", T0, 2)
        with pytest.raises(BrokenPipeError):
            await output.drain()
        assert output.reached == {T0: 1}

    with_pipe(test)


def test_files_and_devices_are_written_without_waiting(tmp_path: Path) -> None:
    async def test(path: Path) -> CountedOutput:
        with path.open("wb") as file:
            output = CountedOutput(file.fileno())
            output.take(b"one\n" * 100_000, T0, 1)
            await output.drain()
            output.check_reader()
        return output

    for path in (tmp_path / "out", Path("/dev/null")):
        assert asyncio.run(test(path)).reached == {T0: 1}
    assert (tmp_path / "out").read_bytes() == b"one\n" * 100_000


def test_what_is_out_of_a_partition_that_came_anew_is_not_ours_to_store() -> None:
    async def test(output: CountedOutput, reader: int, writer: int) -> None:
        output.take(b"one\n", T0, 1)
        output.take(b"two\n", T1, 1)
        await output.drain()
        output.forget([T0])
        assert output.reached == {T1: 1}

    with_pipe(test)
