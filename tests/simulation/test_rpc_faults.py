"""A service and clients of ours on simulated gRPC, with what only a simulation can do to the wires between them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextvars import copy_context
from itertools import pairwise
from random import Random
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from lograft.client.connection import Connection
from lograft.client.environment import MESSAGE_BYTES_MAX, Environment
from lograft.node.config import LimitsSection
from lograft.node.metrics import Metrics
from lograft.node.rpc.budget import ByteBudget
from lograft.node.rpc.interception import ErrorTranslation
from lograft.node.rpc.produce import ProduceStream
from lograft.node.rpc.server import server_options
from lograft.proto.errors import BrokerUnavailable, NotLeader, RequestTimedOut
from lograft.v1 import broker_service_pb2 as pb
from lograft.v1 import broker_service_pb2_grpc
from structlog.testing import capture_logs

from tests.simulation import rpc_link, rpc_stream
from tests.simulation.rpc import Rpc, SimulatedServer
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.wires import HERE, Weather, Wires

BROKER = "b:9600"


class Broker(broker_service_pb2_grpc.BrokerServiceServicer):
    """Answers at once, after a while, with a refusal, or with every request of a stream."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def Metadata(self, request: pb.MetadataRequest, context: grpc.aio.ServicerContext) -> pb.MetadataResponse:
        return pb.MetadataResponse(cluster_id=context.peer())

    async def Fetch(self, request: pb.FetchRequest, context: grpc.aio.ServicerContext) -> pb.FetchResponse:
        try:
            await asyncio.sleep(request.max_wait_ms / 1000)
        except asyncio.CancelledError:
            self.heard.append("fetch cancelled")
            raise
        return pb.FetchResponse()

    async def ListOffsets(self, request: pb.ListOffsetsRequest, context: grpc.aio.ServicerContext) -> Any:
        raise NotLeader("t/0 is led elsewhere")

    async def Produce(self, requests: AsyncIterator[pb.ProduceRequest], context: grpc.aio.ServicerContext) -> None:
        try:
            async for request in requests:
                self.heard.append(f"request {request.request_id}")
                await context.write(pb.ProduceResponse(request_id=request.request_id))
            self.heard.append("no more requests")
        except asyncio.CancelledError:
            self.heard.append("produce cancelled")
            raise


class Town:
    """A broker at host b, and clients anywhere."""

    def __init__(self, seed: int = 5) -> None:
        self.loop = VirtualLoop()
        self.wires = Wires(self.loop, Random(seed), Weather(late_chance=0.05))
        self.rpc = Rpc(self.wires)
        self.broker = Broker()
        self.server: SimulatedServer | None = None
        self.failures: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))

    def run(self, work: Coroutine[Any, Any, Any], host: str = "a") -> Any:
        context = copy_context()
        context.run(HERE.set, host)
        return self.loop.run_until_complete(self.loop.create_task(work, context=context))

    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    def start_broker(self) -> None:
        async def start() -> SimulatedServer:
            options = server_options(LimitsSection(message_bytes_max=MESSAGE_BYTES_MAX))
            server = self.rpc.server(interceptors=[ErrorTranslation(Metrics())], options=options)
            broker_service_pb2_grpc.add_BrokerServiceServicer_to_server(self.broker, server)
            server.add_insecure_port(BROKER)
            await server.start()
            return server

        self.server = self.run(start(), "b")

    def client(self) -> Connection:
        async def make() -> Connection:
            connection = Connection([BROKER], Environment(chance=Random(1), open_channel=self.rpc.open_channel), "me")
            connection.broker(BROKER)
            return connection

        connection: Connection = self.run(make())
        return connection


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    town.start_broker()
    yield town
    assert not town.failures
    town.loop.close()


async def metadata(client: Connection, *, within_s: float = 1.5) -> Any:
    method = client.broker(BROKER).Metadata
    return await client.call(BROKER, method, pb.MetadataRequest(), timeout_s=within_s)


async def fetch(client: Connection, *, wait_s: float, within_s: float) -> Any:
    request = pb.FetchRequest(max_wait_ms=int(wait_s * 1000))
    return await client.call(BROKER, client.broker(BROKER).Fetch, request, timeout_s=within_s)


async def seconds_until_it_fails(awaitable: Any) -> float:
    began = asyncio.get_running_loop().time()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await awaitable
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    return asyncio.get_running_loop().time() - began


def test_a_client_calls_a_broker_and_errors_arrive_as_they_were_raised(town: Town) -> None:
    client = town.client()
    assert town.run(metadata(client)).cluster_id.startswith("ipv4:a:")
    with pytest.raises(NotLeader, match="led elsewhere"):
        town.run(client.call(BROKER, client.broker(BROKER).ListOffsets, pb.ListOffsetsRequest(), timeout_s=1))


def test_while_it_is_cut_off_a_call_times_out_and_later_ones_go_through_once_mended(town: Town) -> None:
    client = town.client()
    town.run(metadata(client))
    town.wires.cut("b", "a")
    with pytest.raises(RequestTimedOut):
        town.run(metadata(client))
    town.wires.mend("b", "a")
    town.run(metadata(client))
    assert town.wires.opened == 1


def test_a_reset_fails_the_calls_on_the_wire_cancels_their_handlers_and_the_next_call_connects_anew(town: Town) -> None:
    client = town.client()
    town.run(metadata(client))
    town.loop.call_later(1, town.wires.break_between, "a", "b")
    with pytest.raises(BrokerUnavailable):
        town.run(fetch(client, wait_s=5, within_s=10))
    assert town.loop.time() < 2
    town.run(metadata(client))
    assert town.broker.heard == ["fetch cancelled"]
    assert town.wires.opened == 2


async def an_open_stream(client: Connection) -> Any:
    stream = client.broker(BROKER).Produce()
    await stream.write(pb.ProduceRequest(request_id=1))
    assert (await stream.read()).request_id == 1
    return stream


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_a_stream_that_waits_on_a_cut_wire_fails_by_keepalive(town: Town, way: tuple[str, str]) -> None:
    client = town.client()
    stream = town.run(an_open_stream(client))
    town.wait(20)
    town.wires.cut(*way)
    assert 30 - 21 < town.run(seconds_until_it_fails(stream.read())) < 30 + 10 + 1


def test_a_stream_that_writes_into_a_cut_wire_fails_by_tcp_which_is_sooner(town: Town) -> None:
    client = town.client()
    stream = town.run(an_open_stream(client))
    town.wires.cut("a", "b")

    async def write_and_read() -> None:
        await stream.write(pb.ProduceRequest(request_id=2))
        await stream.read()

    assert 10 <= town.run(seconds_until_it_fails(write_and_read())) < 11


def stop_in_its_tracks(link: Any) -> None:
    """As SIGSTOP does: its kernel still acknowledges, but nobody reads or says anything."""
    link.arrived = lambda frames: None
    link._pinger.cancel()


def test_a_stream_to_a_broker_that_stands_still_fails_when_a_ping_stays_unanswered(town: Town) -> None:
    client = town.client()
    stream = town.run(an_open_stream(client))
    assert town.server is not None
    for link in town.server._links:
        stop_in_its_tracks(link)
    assert 39 < town.run(seconds_until_it_fails(stream.read())) < 42


def test_a_broker_notices_that_a_client_stands_still(town: Town) -> None:
    client = town.client()
    town.run(an_open_stream(client))
    for link in client._channels[BROKER]._core._links:  # type: ignore[attr-defined]
        stop_in_its_tracks(link)
    town.wait(82)
    assert town.broker.heard[1] in ("no more requests", "produce cancelled")


def test_a_broker_notices_a_client_whose_machine_is_gone(town: Town) -> None:
    client = town.client()
    town.run(an_open_stream(client))
    town.wires.reset_all("a", silently=True)
    town.wait(100)
    assert town.broker.heard[0] == "request 1"
    assert town.broker.heard[1] in ("no more requests", "produce cancelled")


def test_a_broker_whose_process_dies_is_unavailable_at_once_and_found_again_when_it_is_back(town: Town) -> None:
    client = town.client()
    town.run(metadata(client))
    town.wires.reset_all("b")
    town.wait(1)
    with pytest.raises(BrokerUnavailable):
        town.run(metadata(client))
    assert town.loop.time() < 3
    town.start_broker()
    town.wait(2)
    town.run(metadata(client))


def test_a_channel_to_nobody_tries_again_with_growing_pauses_of_at_most_about_a_second(town: Town) -> None:
    town.wires.reset_all("b")
    client = town.client()
    before = town.wires.loop.time()
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            town.run(metadata(client))
    assert town.loop.time() - before < 0.1
    knocks: list[float] = []
    town.wires.note = lambda kind, what: knocks.append(town.loop.time()) if kind == "refused" else None
    town.wait(20)
    pauses = [later - sooner for sooner, later in pairwise(knocks)]
    assert pauses[0] < 0.3
    assert 0.7 < pauses[-1] < 1.3


def test_a_broker_that_takes_a_connection_and_says_nothing_is_unavailable_after_a_second(town: Town) -> None:
    town.wires.reset_all("b")
    town.wires.listen("b", BROKER, lambda end: None)
    client = town.client()
    with pytest.raises(BrokerUnavailable):
        town.run(metadata(client, within_s=5))
    assert 1 <= town.loop.time() < 1.5


def test_health_and_reflection_are_served_as_by_the_real_server(town: Town) -> None:
    async def serve() -> None:
        server = town.rpc.server()
        health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection(("grpc.health.v1.Health", reflection.SERVICE_NAME), server)
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        server.add_insecure_port("b:1")
        await server.start()

    async def ask() -> tuple[int, list[str]]:
        channel = town.rpc.channel("b:1")
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
        services = (await call.read()).list_services_response.service
        await channel.close()
        return answer.status, sorted(service.name for service in services)

    town.run(serve(), "b")
    assert town.run(ask()) == (
        health_pb2.HealthCheckResponse.SERVING,
        ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"],
    )


def test_one_seed_gives_one_history_and_others_give_others() -> None:
    def history(seed: int) -> tuple[Any, ...]:
        town = Town(seed)
        town.wires.weather.reset_chance = 0.02
        town.start_broker()
        client = town.client()
        seen: list[str] = []

        async def work() -> None:
            for number in range(100):
                try:
                    await fetch(client, wait_s=0.01, within_s=1)
                    stream = await an_open_stream(client)
                    await stream.done_writing()
                    seen.append(f"{number} done")
                except (BrokerUnavailable, grpc.aio.AioRpcError) as error:
                    seen.append(f"{number} {type(error).__name__} {town.loop.time():.6f}")

        town.run(work())
        facts = (tuple(seen), tuple(town.broker.heard), town.loop.time(), town.wires.delivered, town.loop.steps)
        assert not town.failures
        town.loop.close()
        return facts

    assert history(3) == history(3)
    assert len({history(seed) for seed in range(3)}) == 3


@pytest.mark.parametrize("is_held_up", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_a_producer_that_goes_away_with_answers_unread_leaves_no_trace_of_a_failure(
    seed: int, is_held_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_link, "WINDOWS_BYTES", (200,))
    monkeypatch.setattr(rpc_stream, "WRITE_BUFFER_BYTES", 0)
    town = Town(seed)
    budget = ByteBudget(1 << 20)

    async def produce(requests: Any, context: Any) -> None:
        await ProduceStream(Any, budget, Metrics()).serve(requests, context)  # type: ignore[arg-type]

    town.broker.Produce = produce  # type: ignore[method-assign]
    town.start_broker()
    client = town.client()

    async def write_and_go() -> None:
        stream = client.broker(BROKER).Produce()
        for number in range(60):
            await stream.write(pb.ProduceRequest(request_id=number))
        await asyncio.sleep(1)
        if is_held_up:
            budget.take(1 << 20)
        await stream.write(pb.ProduceRequest(request_id=60))
        await asyncio.sleep(1)
        stream.cancel()

    with capture_logs() as logged:
        town.run(write_and_go())
        town.wait(5)
    gc.collect()
    assert logged == []
    assert [failure["message"] for failure in town.failures] == []
    town.loop.close()
