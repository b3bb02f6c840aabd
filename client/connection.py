"""The way to the brokers: one channel for each address, and calls that end in an answer or a LograftError.

Invariants
    every call has a deadline, and no gRPC error leaves this module untranslated
    channels are made in the running event loop and used in no other
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from lograft.v1 import (
    admin_service_pb2_grpc,
    broker_service_pb2,
    broker_service_pb2_grpc,
    common_pb2,
    groups_service_pb2_grpc,
)

from ..proto.errors import (
    BrokerUnavailable,
    InvalidConfig,
    InvalidRequest,
    LograftError,
    NotAuthorized,
    Overloaded,
    RequestTimedOut,
    raised_from,
)
from .environment import Environment
from .messages import read_fetch_response

ERROR_DOMAIN = "lograft"
_FETCH = "/lograft.v1.BrokerService/Fetch"
_PRODUCE = "/lograft.v1.BrokerService/Produce"
_STATUS_KEY = "grpc-status-details-bin"


def parse_addresses(bootstrap: str | Iterable[str]) -> tuple[str, ...]:
    """The host:port pairs of a comma-separated text or of a list, each once, in order.

    Raises
        InvalidConfig  none at all, or one that is not host:port
    """
    texts = bootstrap.split(",") if isinstance(bootstrap, str) else list(bootstrap)
    addresses = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    for address in addresses:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise InvalidConfig(f"broker address {address!r} is not host:port, such as 127.0.0.1:9600", value=address)
    if not addresses:
        raise InvalidConfig("no broker address given: name at least one, such as 127.0.0.1:9600")
    return addresses


def backoff_s(attempt: int, chance: Random, *, first_s: float = 0.02, longest_s: float = 0.5) -> float:
    """Seconds to wait before try number `attempt` (from 0): doubling, between half and all of its bound."""
    bound_s = min(longest_s, first_s * (1 << min(attempt, 16)))
    return bound_s * (0.5 + chance.random() / 2)


def error_of_partition(error: common_pb2.PartitionError) -> LograftError:
    """The exception for one partition's part of an answer. A leader that it names is in the facts."""
    facts = dict(error.metadata)
    if error.HasField("leader"):
        facts["leader_id"] = str(error.leader.broker_id)
        facts["leader_address"] = error.leader.address
        facts["term"] = str(error.leader.term)
    return raised_from(error.reason, error.message or error.reason, facts)


def error_of_call(error: grpc.aio.AioRpcError, address: str) -> LograftError:
    """The exception for a call that failed as a whole."""
    trailing: Any = error.trailing_metadata() or ()  # pairs, whatever the stubs say
    for key, value in trailing:
        if key == _STATUS_KEY:
            status = status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode("latin-1"))
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                    return raised_from(info.reason, status.message, dict(info.metadata))
    code, details = error.code(), error.details() or "no reason given"
    text = f"broker at {address}: {details}"
    match code:
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return BrokerUnavailable(text, address=address)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return RequestTimedOut(f"broker at {address} did not answer in time", address=address)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
            return InvalidRequest(f"{text}: send or ask for less at a time", address=address)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(text, address=address)
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return NotAuthorized(text, address=address)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequest(text, address=address)
        case _:
            return LograftError(f"{text} ({code.name})", address=address)


class Connection:
    """Channels to brokers by address. Owned by one Client; its calls belong to the event loop that made it.

    Raises, from every call
        BrokerUnavailable  not reached, or it broke off
        RequestTimedOut    no answer within `timeout_s`
        any LograftError that the broker answered with
    """

    def __init__(self, bootstrap: Sequence[str], environment: Environment, client_id: str | None = None) -> None:
        self.bootstrap = tuple(bootstrap)
        self.environment = environment
        self.client_id = client_id
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._brokers: dict[str, broker_service_pb2_grpc.BrokerServiceStub] = {}
        self._fetches: dict[str, Any] = {}
        self._produces: dict[str, Any] = {}
        self._admins: dict[str, admin_service_pb2_grpc.AdminServiceStub] = {}
        self._groups: dict[str, groups_service_pb2_grpc.GroupsServiceStub] = {}
        self._closed = False

    def _channel(self, address: str) -> grpc.aio.Channel:
        if self._closed:
            raise InvalidRequest("this client is closed")
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self.environment.open_channel(address, self.client_id)
        return channel

    def broker(self, address: str) -> Any:
        """The BrokerService stub of the broker at `address`."""
        stub = self._brokers.get(address)
        if stub is None:
            stub = self._brokers[address] = broker_service_pb2_grpc.BrokerServiceStub(self._channel(address))
        return stub

    def fetch(self, address: str) -> Any:
        """The method Fetch of the broker at `address`: of a FetchRequest, answers a list of FetchedPartition."""
        method = self._fetches.get(address)
        if method is None:
            method = self._fetches[address] = self._channel(address).unary_unary(
                _FETCH,
                request_serializer=broker_service_pb2.FetchRequest.SerializeToString,
                response_deserializer=read_fetch_response,
            )
        return method

    def produce(self, address: str) -> Any:
        """A Produce stream to the broker at `address`: takes what `produce_request` gives, answers with responses."""
        method = self._produces.get(address)
        if method is None:
            channel: Any = self._channel(address)
            method = self._produces[address] = channel.stream_stream(
                _PRODUCE, request_serializer=None, response_deserializer=broker_service_pb2.ProduceResponse.FromString
            )
        return method()

    def stream(self, address: str) -> Any:
        """A Stream call to the broker at `address`."""
        return self.broker(address).Stream()

    def admin(self, address: str) -> Any:
        """The AdminService stub of the broker at `address`."""
        stub = self._admins.get(address)
        if stub is None:
            stub = self._admins[address] = admin_service_pb2_grpc.AdminServiceStub(self._channel(address))
        return stub

    def groups(self, address: str) -> Any:
        """The GroupsService stub of the broker at `address`."""
        stub = self._groups.get(address)
        if stub is None:
            stub = self._groups[address] = groups_service_pb2_grpc.GroupsServiceStub(self._channel(address))
        return stub

    async def call(self, address: str, method: Any, request: Any, *, timeout_s: float) -> Any:
        """Make one unary call of a stub made for `address`."""
        if timeout_s <= 0:
            raise RequestTimedOut(f"no time left to ask the broker at {address}", address=address)
        try:
            return await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, address) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise InvalidRequest("this client is closed") from None
            raise

    async def forget(self, address: str) -> None:
        """Close the channel to `address`; a later call opens a new one."""
        self._brokers.pop(address, None)
        self._fetches.pop(address, None)
        self._produces.pop(address, None)
        self._admins.pop(address, None)
        self._groups.pop(address, None)
        channel = self._channels.pop(address, None)
        if channel is not None:
            await channel.close(None)

    async def close(self) -> None:
        self._closed = True
        for address in list(self._channels):
            await self.forget(address)
