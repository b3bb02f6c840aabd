"""The simulated gRPC against the real one: the same conversations go the same way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator
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


class RealWays:
    def server(self, options: Iterable[tuple[str, Any]]) -> Any:
        return grpc.aio.server(options=[*options, ("grpc.so_reuseport", 0)])

    def channel(self, address: str, options: Iterable[tuple[str, Any]]) -> Any:
        return grpc.aio.insecure_channel(address, options=list(options))

    def unused_address(self) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{probe.getsockname()[1]}"


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
    real = real_loop.run_until_complete(play(Stage(RealWays()), name))
    for seed in range(SEEDS):
        assert simulated(name, seed) == real, f"seed {seed}"
