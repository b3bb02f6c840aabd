"""The simulated gRPC against the real one: the same conversations go the same way."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from random import Random
from typing import Any

import grpc
import pytest

from tests.simulation.rpc_client import SimulatedChannel
from tests.simulation.rpc_scenarios import SCENARIOS, Stage
from tests.simulation.rpc_server import SimulatedServer
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.wires import HERE, Weather, Wires

SEEDS = 5
REAL_PLAYS_MAX = 5


class RealWays:
    def server(self, options: Iterable[tuple[str, Any]]) -> Any:
        return grpc.aio.server(options=[*options, ("grpc.so_reuseport", 0)])

    def channel(self, address: str, options: Iterable[tuple[str, Any]]) -> Any:
        return grpc.aio.insecure_channel(address, options=list(options))

    def unused_address(self) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{probe.getsockname()[1]}"

    async def relay(self, address: str) -> RealRelay:
        relay = RealRelay(address)
        await relay.start(self.unused_address())
        return relay

    async def mute_address(self) -> str:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3)
            writer.close()

        address = self.unused_address()
        host, _, port = address.rpartition(":")
        await asyncio.start_server(say_nothing, host, int(port))
        return address


class RealRelay:
    """Carries bytes between a client and a server on this machine."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._is_stalled = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, address: str) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        await asyncio.start_server(self._accept, host, int(port))

    def reset(self) -> None:
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()

    def stall(self) -> None:
        self._is_stalled = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._writers += [writer, far_writer]
        self._tasks += [
            asyncio.ensure_future(self._carry(reader, far_writer)),
            asyncio.ensure_future(self._carry(far_reader, writer)),
        ]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if not self._is_stalled:
                    writer.write(data)
            if not self._is_stalled:
                writer.close()


class SimulatedWays:
    def __init__(self, wires: Wires) -> None:
        self.wires = wires

    def server(self, options: Iterable[tuple[str, Any]]) -> Any:
        server = SimulatedServer(self.wires, options=options)
        server.start = _on("server", server.start)  # type: ignore[method-assign]
        return server

    def channel(self, address: str, options: Iterable[tuple[str, Any]]) -> Any:
        return SimulatedChannel(self.wires, address, options)

    def unused_address(self) -> str:
        return self.wires.free_address("server")

    async def relay(self, address: str) -> SimulatedRelay:
        return SimulatedRelay(self.wires, address)

    async def mute_address(self) -> str:
        address = self.unused_address()
        self.wires.listen("server", address, lambda end: None)
        return address


class SimulatedRelay:
    """The network itself."""

    def __init__(self, wires: Wires, address: str) -> None:
        self.address = address
        self._wires = wires

    def reset(self) -> None:
        self._wires.break_between("client", "server")

    def stall(self) -> None:
        self._wires.cut("client", "server")
        self._wires.cut("server", "client")


def _on(host: str, work: Any) -> Any:
    async def run() -> None:
        context = copy_context()
        context.run(HERE.set, host)
        await asyncio.get_running_loop().create_task(work(), context=context)

    return run


async def play(stage: Stage, name: str) -> tuple[list[str], list[str]]:
    try:
        await SCENARIOS[name](stage)
        return list(stage.seen), list(stage.served)
    finally:
        await stage.end()


def simulated(name: str, seed: int) -> tuple[list[str], list[str]]:
    loop = VirtualLoop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    weather = Weather(late_chance=0.05, late_ms=(1, 20))
    wires = Wires(loop, Random(seed), weather)
    context = copy_context()
    context.run(HERE.set, "client")
    try:
        result = loop.run_until_complete(loop.create_task(play(Stage(SimulatedWays(wires)), name), context=context))
        loop.run_until_complete(asyncio.sleep(1))
        assert not failures
        return result
    finally:
        loop.close()


@pytest.fixture(scope="module")
def real_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_simulated_grpc_goes_as_the_real_one_does(name: str, real_loop: asyncio.AbstractEventLoop) -> None:
    """Where the real one goes now this way and now that, by the turn of its threads, it is asked a few times."""
    real: list[tuple[list[str], list[str]]] = []
    for seed in range(SEEDS):
        went = simulated(name, seed)
        while went not in real:
            assert len(real) < REAL_PLAYS_MAX, f"seed {seed}: {went}; really: {real}"
            real.append(real_loop.run_until_complete(play(Stage(RealWays()), name)))
