"""Many calls through a network that breaks all the time: within a call nothing is lost or reordered, and all end."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import copy_context
from random import Random
from typing import Any
from zlib import crc32

import grpc
import pytest
from lograft.node.config import LimitsSection
from lograft.node.rpc.server import server_options

from tests.simulation.rpc import Rpc
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.wires import FAIR, HERE, Weather, Wires

MESSAGE_BYTES_MAX = 1 << 20
CLIENTS = ("a1", "a2", "a3")
SECONDS = 25.0
PAYLOAD = bytes(500_000)


class Storm:
    """One echoing server, three clients, and faults between them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.loop = VirtualLoop()
        self.wires = Wires(self.loop, Random(seed + 1), Weather(reset_chance=0.002))
        self.rpc = Rpc(self.wires)
        self.outcomes: Counter[str] = Counter()
        self.digest = 0
        self.handlers = 0
        self.failures: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))

    def run(self) -> None:
        self._start("b", self._serve())
        clients = [self._start(host, self._call_until_the_end(host)) for host in CLIENTS for _ in range(2)]
        self._start("weather", self._break_things())
        self.loop.run_until_complete(asyncio.sleep(SECONDS))
        self.wires.mend_all()
        self.wires.weather = FAIR
        self.loop.run_until_complete(asyncio.wait_for(asyncio.gather(*clients), 120))
        self.loop.run_until_complete(asyncio.sleep(150))  # for keepalive to end what a silent death left behind
        self.loop.close()

    def _start(self, host: str, work: Any) -> asyncio.Task[Any]:
        context = copy_context()
        context.run(HERE.set, host)
        return self.loop.create_task(work, context=context)

    async def _serve(self) -> None:
        async def echo(requests: Any, context: Any) -> None:
            self.handlers += 1
            try:
                async for request in requests:
                    await context.write(request)
            finally:
                self.handlers -= 1

        async def turn(request: bytes, context: Any) -> bytes:
            await asyncio.sleep(0.01)
            return request[::-1]

        server = self.rpc.server(options=server_options(LimitsSection(message_bytes_max=MESSAGE_BYTES_MAX)))
        handlers = {
            "echo": grpc.stream_stream_rpc_method_handler(echo),
            "turn": grpc.unary_unary_rpc_method_handler(turn),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
        server.add_insecure_port("b:1")
        await server.start()

    async def _call_until_the_end(self, host: str) -> None:
        channel = self.rpc.open_channel("b:1")
        while self.loop.time() < SECONDS:
            try:
                kind = "turn" if self.random.random() < 0.5 else "echo"
                await (self._turn(channel) if kind == "turn" else self._echo(channel))
                outcome = f"{kind} done"
            except grpc.aio.AioRpcError as error:
                outcome = f"{kind} {error.code().name}"
            except asyncio.InvalidStateError:
                outcome = f"{kind} ended"
            self.outcomes[outcome] += 1
            self.digest = crc32(f"{self.loop.time():.6f} {host} {outcome}".encode(), self.digest)
            await asyncio.sleep(self.random.uniform(0, 0.2))
        await channel.close()

    def _message(self, sizes: tuple[int, ...]) -> bytes:
        return self.random.randbytes(8) + PAYLOAD[: self.random.choice(sizes)]

    async def _turn(self, channel: Any) -> None:
        request = self._message((0, 10, 10_000, 500_000))
        answer = await channel.unary_unary("/t.T/turn")(request, timeout=self.random.choice((0.05, 2, 5)))
        assert answer == request[::-1]

    async def _echo(self, channel: Any) -> None:
        call = channel.stream_stream("/t.T/echo")(timeout=30)
        sent = [self._message((0, 100, 100_000)) for _ in range(self.random.randrange(20))]

        async def write() -> None:
            for message in sent:
                await call.write(message)
            await call.done_writing()

        writing = asyncio.ensure_future(write())
        try:
            got: list[bytes] = []
            while (answer := await call.read()) is not grpc.aio.EOF:
                got.append(answer)
                assert answer == sent[len(got) - 1]
                if self.random.random() < 0.01:
                    break
            else:
                assert got == sent
        finally:
            call.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _break_things(self) -> None:
        random, wires = self.random, self.wires
        while self.loop.time() < SECONDS:
            await asyncio.sleep(random.expovariate(1))
            way = [random.choice(CLIENTS), "b"]
            random.shuffle(way)
            match random.randrange(6):
                case 0 | 1:
                    wires.cut(*way)
                    self.loop.call_later(random.expovariate(0.3), wires.mend, *way)
                case 2:
                    wires.break_between(*way)
                case 3:
                    wires.break_half(*way)
                case 4:
                    for wire in wires.between(*way)[:1]:
                        wire.reset("chosen")
                case 5:
                    wires.mend_all()


@pytest.mark.parametrize("seed", range(4))
def test_calls_keep_their_order_and_all_end_whatever_breaks(seed: int) -> None:
    storm = Storm(seed)
    storm.run()
    assert not storm.failures
    assert storm.handlers == 0
    assert storm.outcomes["turn done"] > 10
    assert storm.outcomes["echo done"] > 10
    assert storm.outcomes.total() > storm.outcomes["turn done"] + storm.outcomes["echo done"]


def test_a_storm_goes_the_same_way_twice() -> None:
    storms = [Storm(77), Storm(77)]
    for storm in storms:
        storm.run()
    assert storms[0].outcomes == storms[1].outcomes
    assert storms[0].digest == storms[1].digest
    assert storms[0].wires.delivered == storms[1].wires.delivered
