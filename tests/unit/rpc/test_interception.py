"""What becomes of an exception in a servicer, seen by a client of a real server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from lograft.node.metrics import Metrics
from lograft.node.rpc.call_counts import CallCounts
from lograft.node.rpc.interception import ErrorTranslation
from lograft.proto.errors import LograftError, NotLeader, UnknownTopic
from lograft.v1 import admin_service_pb2 as pb
from lograft.v1 import admin_service_pb2_grpc, broker_service_pb2_grpc
from lograft.v1 import broker_service_pb2 as broker_pb
from structlog.testing import capture_logs


class Servicer(admin_service_pb2_grpc.AdminServiceServicer):
    def __init__(self, raised: Exception) -> None:
        self._raised = raised

    async def ListTopics(
        self, request: pb.ListTopicsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListTopicsResponse:
        raise self._raised


def called(
    raised: Exception,
    before: Callable[[ErrorTranslation], None] = lambda _: None,
    complete: Callable[[LograftError], LograftError] = lambda error: error,
) -> tuple[str, ErrorInfo, str]:
    """Code, ErrorInfo and the metrics after a call whose servicer raises."""
    metrics = Metrics()

    async def scene() -> tuple[str, ErrorInfo]:
        translation = ErrorTranslation(metrics, complete)
        server = grpc.aio.server(interceptors=[translation])
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(Servicer(raised), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        before(translation)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = admin_service_pb2_grpc.AdminServiceStub(channel)
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await _typed(stub.ListTopics(pb.ListTopicsRequest(), timeout=5))
            status = rpc_status.from_call(failure.value)
            assert status is not None
            info = ErrorInfo()
            assert status.details[0].Unpack(info)
            return failure.value.code().name, info
        finally:
            await server.stop(None)

    code, info = asyncio.run(scene())
    return code, info, metrics.text()


async def _typed(call: Awaitable[pb.ListTopicsResponse]) -> pb.ListTopicsResponse:
    return await call


def test_a_lograft_error_ends_the_call_with_its_status_and_is_counted() -> None:
    code, info, metrics = called(UnknownTopic("no such topic", topic="t"))
    assert (code, info.reason, dict(info.metadata)) == ("NOT_FOUND", "UNKNOWN_TOPIC", {"topic": "t"})
    assert 'lograft_requests_total{api="ListTopics",code="NOT_FOUND"} 1.0' in metrics


def test_an_unexpected_exception_tells_the_client_an_id_and_nothing_else() -> None:
    code, info, metrics = called(ValueError("a secret of the implementation"))
    assert (code, info.reason) == ("INTERNAL", "INTERNAL")
    assert len(info.metadata["error_id"]) == 8
    assert "secret" not in str(info)
    assert 'code="INTERNAL"} 1.0' in metrics


def test_a_call_that_took_too_long_is_told_so() -> None:
    assert called(TimeoutError())[1].reason == "TIMED_OUT"


def test_a_broker_that_stops_sends_new_calls_elsewhere() -> None:
    def stop(translation: ErrorTranslation) -> None:
        translation.stopping = True

    code, info, _ = called(LograftError("never reached"), stop)
    assert (code, info.reason) == ("UNAVAILABLE", "UNAVAILABLE")


def test_an_error_that_names_a_leader_is_completed_with_what_the_broker_knows_of_it() -> None:
    def with_address(error: LograftError) -> LograftError:
        error.facts["leader_address"] = "host:2"
        return error

    _, info, _ = called(NotLeader("elsewhere", leader_id=2), complete=with_address)
    assert dict(info.metadata) == {"leader_id": "2", "leader_address": "host:2"}


class Talker(broker_service_pb2_grpc.BrokerServiceServicer):
    """Writes more than any client reads."""

    async def Stream(self, requests: AsyncIterator[broker_pb.StreamRequest], context: grpc.aio.ServicerContext) -> None:
        while True:
            await context.write(broker_pb.StreamResponse(batches=bytes(1 << 20)))


def test_a_client_that_goes_away_while_it_is_written_to_is_no_failure_of_ours() -> None:
    metrics = Metrics()

    async def scene() -> None:
        server = grpc.aio.server(interceptors=[ErrorTranslation(metrics)])
        broker_service_pb2_grpc.add_BrokerServiceServicer_to_server(Talker(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        for _ in range(10):  # gRPC says it by a failed write or by a cancellation, as it happens
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = broker_service_pb2_grpc.BrokerServiceStub(channel).Stream()
                await call.read()
                call.cancel()
        await server.stop(5)

    with capture_logs() as logged:
        asyncio.run(scene())
    assert logged == []
    assert 'lograft_requests_total{api="Stream",code="CANCELLED"} 10.0' in metrics.text()


def test_a_call_past_the_bound_is_refused_before_its_servicer_hears_of_it() -> None:
    def full(translation: ErrorTranslation) -> None:
        translation._calls = CallCounts(0, 0)

    code, info, metrics = called(AssertionError("it was called"), before=full)
    assert (code, info.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert 'lograft_requests_total{api="ListTopics",code="RESOURCE_EXHAUSTED"} 1.0' in metrics
