"""The bare pipe: what this machine can do with the same shape of work and nothing in the way.

Three node processes; each leads a third of the files and follows the rest. A client sends frames to the leaders over
bare sockets; a leader writes a frame to its file, passes it to both followers, and answers once two of three copies are
fdatasynced. No Raft, no CRC, no index, no gRPC, no records: an upper bound to compare with, not a log.

    python -m tests.bench.bare_pipe [--frame-kib 64] [--files 12] [--mib 1024] [--in-flight-mib 64]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from tests.ports import free_ports

FRAME = struct.Struct(">IBIQ")  # bytes of payload, kind, file, frame number
HELLO, PRODUCE, REPLICATE, ACK, DONE = range(5)
SYNC_THREADS = 4


class Pipe(asyncio.Protocol):
    """Frames over one socket; writes of one turn of the loop leave together."""

    def __init__(self, take) -> None:
        self._take = take
        self._received = bytearray()
        self._out: list[bytes] = []

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=256 << 20)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._received += data
        position = 0
        whole = memoryview(self._received)
        while len(whole) - position >= FRAME.size:
            size, kind, file, number = FRAME.unpack_from(whole, position)
            end = position + FRAME.size + size
            if end > len(whole):
                break
            self._take(self, kind, file, number, bytes(whole[position + FRAME.size : end]))
            position = end
        whole.release()
        if position:
            del self._received[:position]

    def send(self, kind: int, file: int, number: int, payload: bytes = b"") -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(FRAME.pack(len(payload), kind, file, number))
        if payload:
            self._out.append(payload)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not self.transport.is_closing():
            self.transport.writelines(out)


class SyncedFile:
    """A file with one fdatasync in flight; what is written meanwhile shares the next."""

    def __init__(self, path: str, threads: ThreadPoolExecutor) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._position = 0
        self._threads = threads
        self._waiting: list = []
        self._busy = False

    def write(self, payload: bytes, done) -> None:
        self._position += os.pwrite(self._descriptor, payload, self._position)
        self._waiting.append(done)
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().create_task(self._sync())

    async def _sync(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            covered, self._waiting = self._waiting, []
            await loop.run_in_executor(self._threads, os.fdatasync, self._descriptor)
            for done in covered:
                done()
        self._busy = False


class Node:
    def __init__(self, number: int, ports: list[int], directory: str, files: int) -> None:
        self.number, self.ports = number, ports
        threads = ThreadPoolExecutor(SYNC_THREADS)
        self.files = [SyncedFile(f"{directory}/{number}-{file}", threads) for file in range(files)]
        self.peers: list[Pipe] = []
        self.copies: dict[tuple[int, int], tuple[Pipe, int]] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(lambda: Pipe(self.take), "127.0.0.1", self.ports[self.number])
        for other, port in enumerate(self.ports):
            if other != self.number:
                self.peers.append((await connect(port, self.take))[1])
        print("ready", flush=True)
        await loop.create_future()

    def take(self, pipe: Pipe, kind: int, file: int, number: int, payload: bytes) -> None:
        if kind == PRODUCE:
            self.copies[(file, number)] = (pipe, 0)
            for peer in self.peers:
                peer.send(REPLICATE, file, number, payload)
            self.files[file].write(payload, lambda: self.count(file, number))
        elif kind == REPLICATE:
            self.files[file].write(payload, lambda: pipe.send(ACK, file, number))
        elif kind == ACK:
            self.count(file, number)

    def count(self, file: int, number: int) -> None:
        found = self.copies.get((file, number))
        if found is None:
            return
        client, copies = found
        if copies + 1 == 2:
            client.send(DONE, file, number)
            del self.copies[(file, number)]
        else:
            self.copies[(file, number)] = (client, copies + 1)


async def connect(port: int, take):
    loop = asyncio.get_running_loop()
    while True:
        try:
            return await loop.create_connection(lambda: Pipe(take), "127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)


async def drive(ports: list[int], files: int, frame_bytes: int, total_bytes: int, in_flight_bytes: int) -> float:
    """Seconds to get `total_bytes` acknowledged."""
    loop = asyncio.get_running_loop()
    frames = total_bytes // frame_bytes
    window = max(1, in_flight_bytes // frame_bytes)
    payloads = deque(os.urandom(frame_bytes) for _ in range(16))
    finished = loop.create_future()
    sent = answered = 0
    pipes: list[Pipe] = []

    def send_some() -> None:
        nonlocal sent
        while sent < frames and sent - answered < window:
            file = sent % files
            pipes[file % len(pipes)].send(PRODUCE, file, sent, payloads[0])
            payloads.rotate()
            sent += 1

    def take(pipe: Pipe, kind: int, file: int, number: int, payload: bytes) -> None:
        nonlocal answered
        answered += 1
        if answered == frames:
            finished.set_result(None)
        send_some()

    pipes.extend([(await connect(port, take))[1] for port in ports])
    began = time.monotonic()
    send_some()
    await finished
    return time.monotonic() - began


def measure(
    *, frame_bytes: int, files: int, total_bytes: int, in_flight_bytes: int, directory: str | None = None
) -> float:
    """Acknowledged bytes a second through three nodes here, each byte written and fdatasynced three times."""
    with tempfile.TemporaryDirectory(dir=directory) as data:
        ports = free_ports(3)
        nodes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.bench.bare_pipe", "--node", str(number), "--files", str(files)),
                    *("--ports", ",".join(map(str, ports)), "--directory", data),
                ],
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            for number in range(3)
        ]
        try:
            for node in nodes:
                assert node.stdout is not None and node.stdout.readline() == b"ready\n", "a node did not start"
            seconds = uvloop.run(drive(ports, files, frame_bytes, total_bytes, in_flight_bytes))
        finally:
            for node in nodes:
                node.kill()
                node.wait()
    return total_bytes / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frame-kib", type=int, default=64)
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--in-flight-mib", type=int, default=64)
    parser.add_argument("--node", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ports", help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.node is not None:
        uvloop.run(Node(given.node, [int(port) for port in given.ports.split(",")], given.directory, given.files).run())
        return
    rate = measure(
        frame_bytes=given.frame_kib << 10,
        files=given.files,
        total_bytes=given.mib << 20,
        in_flight_bytes=given.in_flight_mib << 20,
    )
    print(
        json.dumps({"mb_per_s": round(rate / 1e6, 1), "frame_kib": given.frame_kib, "files": given.files, "copies": 3})
    )


if __name__ == "__main__":
    main()
