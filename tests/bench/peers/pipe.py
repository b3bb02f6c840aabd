"""The bare pipe: what this machine can do with the same shape of work and nothing in the way."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from tests.ports import free_ports

from .. import bare_pipe
from ..bare_pipe import PRODUCE, Pipe, connect, drive
from .figures import throughput
from .processes import Servers, last_line
from .work import IN_FLIGHT_BYTES, PARTITIONS, Sampled

FRAME_BYTES = 64 << 10
KEEPS = "3 copies, fsync: synced by two of three before the answer; no log, no records, no reader"


@contextmanager
def _nodes(directory: Path) -> Iterator[tuple[Servers, list[int]]]:
    """As `bare_pipe.measure` starts them, but stopped by us whatever happens."""
    ports = free_ports(3)
    with Servers() as servers:
        logs = [directory / f"pipe-{number}.log" for number in range(3)]
        for number, log in enumerate(logs):
            log.unlink(missing_ok=True)  # who was ready before is not: a frame that comes too soon is copied to nobody
            servers.start(
                f"pipe {number}",
                [
                    *(sys.executable, "-m", bare_pipe.__name__, "--node", str(number), "--files", str(PARTITIONS)),
                    *("--ports", ",".join(map(str, ports)), "--directory", str(directory)),
                ],
                log,
            )
        servers.wait_until("the bare pipe", lambda: all(last_line(log) == "ready" for log in logs), seconds=30)
        yield servers, ports


def produce(directory: Path, total_bytes: int) -> dict[str, float]:
    with _nodes(directory) as (servers, ports):
        before = servers.cpu_seconds()
        seconds = uvloop.run(drive(ports, PARTITIONS, FRAME_BYTES, total_bytes, IN_FLIGHT_BYTES))
        cpu = servers.cpu_seconds() - before
    return {**throughput(total_bytes // FRAME_BYTES, FRAME_BYTES, seconds), "server_cpu_s": cpu}


def one_by_one(directory: Path, frame_bytes: int, seconds: float) -> dict[str, float]:
    """A frame is sent once the one before is answered."""
    with _nodes(directory) as (_, ports):
        return uvloop.run(_one_by_one(ports, frame_bytes, seconds))


async def _one_by_one(ports: list[int], frame_bytes: int, seconds: float) -> dict[str, float]:
    answered = asyncio.Event()

    def take(pipe: Pipe, kind: int, file: int, number: int, payload: bytes) -> None:
        answered.set()

    pipes = [(await connect(port, take))[1] for port in ports]
    payload = os.urandom(frame_bytes)
    sampled = Sampled(seconds)
    number = 0
    while sampled.goes_on():
        file = number % PARTITIONS
        began = time.monotonic()
        pipes[file % len(pipes)].send(PRODUCE, file, number, payload)
        await answered.wait()
        answered.clear()
        sampled.add(began)
        number += 1
    return sampled.result()
