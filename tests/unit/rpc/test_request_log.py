"""Which calls are logged, in which words, and by which id they can be followed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import structlog
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from lograft.node.metrics import Metrics
from lograft.node.rpc.interception import ErrorTranslation
from lograft.node.rpc.request_log import CHANGING, RequestIds, given_id, id_in, what_is_asked, with_id
from lograft.proto.errors import UnknownTopic
from lograft.v1 import admin_service_pb2, admin_service_pb2_grpc, broker_service_pb2, groups_service_pb2
from lograft.v1 import admin_service_pb2 as pb

HEADER = "x-request-id"


@pytest.fixture(autouse=True)
def no_id() -> Iterator[None]:
    with structlog.contextvars.bound_contextvars():
        yield
    structlog.contextvars.unbind_contextvars("request_id")


class Servicer(admin_service_pb2_grpc.AdminServiceServicer):
    async def CreateTopic(self, request: Any, context: Any) -> pb.CreateTopicResponse:
        if request.name == "refused":
            raise UnknownTopic("no")
        return pb.CreateTopicResponse()

    async def ListTopics(self, request: Any, context: Any) -> pb.ListTopicsResponse:
        return pb.ListTopicsResponse()


def logged_by(*calls: tuple[str, Any, tuple[tuple[str, str], ...]]) -> tuple[list[dict[str, Any]], list[str]]:
    """What calls (method, request, metadata) of a real server put into the log; and request ids in their errors."""
    lines: list[dict[str, Any]] = []
    ids: list[str] = []

    async def scene() -> None:
        translation = ErrorTranslation(Metrics())
        translation.ids.prefix = "7-2a"
        server = grpc.aio.server(interceptors=[translation])
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(Servicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            for method, request, metadata in calls:
                try:
                    await getattr(stub, method)(request, timeout=5, metadata=metadata)
                except grpc.aio.AioRpcError as error:
                    status, info = rpc_status.from_call(error), ErrorInfo()  # type: ignore[arg-type]
                    assert status is not None and status.details[0].Unpack(info)
                    ids.append(info.metadata["request_id"])
        await server.stop(1)

    def keep(_: Any, __: str, event: dict[str, Any]) -> Any:
        lines.append(event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep], cache_logger_on_first_use=False)
    try:
        asyncio.run(scene())
    finally:
        structlog.configure(**before)
    return lines, ids


def test_a_call_that_changes_something_is_logged_in_one_line_with_an_id() -> None:
    (line,), _ = logged_by(("CreateTopic", pb.CreateTopicRequest(name="t", partitions=3), ()))
    assert line.pop("peer").startswith("ipv4:127.0.0.1:") and line.pop("seconds") >= 0
    assert line == {"event": "call", "api": "CreateTopic", "code": "OK", "name": "t", "request_id": "7-2a-1"}


def test_one_that_fails_is_logged_with_its_reason_and_the_client_is_told_its_id() -> None:
    (line,), ids = logged_by(("CreateTopic", pb.CreateTopicRequest(name="refused"), ((HEADER, "mine-1"),)))
    assert (line["code"], line["reason"], line["request_id"]) == ("NOT_FOUND", "UNKNOWN_TOPIC", "mine-1")
    assert ids == ["mine-1"]


def test_calls_that_only_ask_are_not_logged() -> None:
    assert logged_by(("ListTopics", pb.ListTopicsRequest(), ((HEADER, "mine"),))) == ([], [])


def test_every_call_there_is_either_changes_something_or_is_known_to_come_by_the_thousand_or_to_ask() -> None:
    # A new call has to be put on one side.
    quiet = {"Metadata", "Produce", "ProduceRecords", "Fetch", "Stream", "ListOffsets", "FindCoordinator", "Heartbeat"}
    quiet |= {"StoreOffsets", "FetchOffsets", "ListGroups", "DescribeGroup", "ListTopics", "DescribeTopic"}
    quiet |= {"DescribeCluster", "PlanRebalance", "ListClusterSettings"}
    modules = (admin_service_pb2, broker_service_pb2, groups_service_pb2)
    methods = {
        method.name
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == CHANGING | quiet and not CHANGING & quiet


@pytest.mark.parametrize("odd", ["", " ", "a b", "x" * 65, 'a"} 1\n', "\x1b[31m"])
def test_an_odd_id_of_a_client_counts_as_none(odd: str) -> None:
    assert given_id([(HEADER, odd)]) == ""
    assert RequestIds().given_or_drawn([(HEADER, odd)]) == "0-1"


def test_ids_that_are_drawn_differ() -> None:
    ids = RequestIds()
    assert len({ids.given_or_drawn(None) for _ in range(100)}) == 100


def test_what_a_client_sent_is_shown_without_control_characters() -> None:
    asked = what_is_asked(pb.DeleteTopicRequest(name="evil\x1b[31m\n" + "x" * 1000))
    shown = asked["name"]
    assert isinstance(shown, str) and shown.startswith("evil?[31m?") and len(shown) < 300


def test_a_forwarded_message_brings_the_id_and_who_knows_of_none_passes_over_it() -> None:
    body = pb.CreateTopicRequest(name="t", partitions=3).SerializeToString()
    assert with_id(body) == body and id_in(body) == ""
    structlog.contextvars.bind_contextvars(request_id="mine-1")
    sent = with_id(body)
    assert id_in(sent) == "mine-1"
    read = pb.CreateTopicRequest.FromString(sent)
    assert (read.name, read.partitions) == ("t", 3)


@pytest.mark.parametrize("body", [b"", b"\x82\xf9+", b"\x82\xf9+\x05ab", b"\x82\xf9+\x02a\n", b"\x82\xf9+\x00"])
def test_bytes_that_are_no_id_give_none(body: bytes) -> None:
    assert id_in(body) == ""
