"""Does a broker serve, and is the cluster whole: asked of the brokers themselves, each on its own.

Always
    every question has a deadline; a broker that does not answer is an answer
    channels are this probe's own, so one that was refused a moment ago is tried again at once
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lograft.v1 import admin_service_pb2, admin_service_pb2_grpc

_CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),  # local brokers are not behind the proxy that the rest of the world may be
)


class BrokerHealth(NamedTuple):
    answers: bool
    serves: bool
    why: str
    """Why it does not serve; empty if it does."""


class ClusterHealth(NamedTuple):
    """What all brokers said, and what one that serves knows of the cluster."""

    brokers: tuple[BrokerHealth, ...]
    described: admin_service_pb2.DescribeClusterResponse | None
    whole: bool
    """Every broker asked serves, is seen alive by the others, and nothing is wrong."""

    @property
    def reason(self) -> str:
        """The first thing that is wrong, for people; empty if nothing is."""
        for number, broker in enumerate(self.brokers):
            if not broker.serves:
                return f"broker {number} {broker.why}"
        if self.described is None:
            return "no broker describes the cluster"
        if self.whole:
            return ""
        if self.described.reasons:
            return str(self.described.reasons[0])
        alive = sum(broker.alive for broker in self.described.brokers)
        return f"{alive} of {len(self.brokers)} brokers know of each other"


class HealthProbe:
    """Asks the brokers at `addresses`, over connections that it keeps until it is closed."""

    def __init__(self, addresses: Sequence[str], timeout_s: float = 1.0) -> None:
        self._timeout_s = timeout_s
        self._channels = [grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) for address in addresses]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(channel.close(None) for channel in self._channels))

    async def ask(self) -> ClusterHealth:
        """Ask every broker once, all at the same time."""
        brokers = await asyncio.gather(*(self._ask_broker(channel) for channel in self._channels))
        described = None
        for channel, broker in zip(self._channels, brokers, strict=True):
            if broker.serves and described is None:
                described = await self._describe(channel)
        whole = (
            described is not None
            and described.healthy
            and all(broker.serves for broker in brokers)
            and sum(broker.alive for broker in described.brokers) >= len(brokers)
        )
        return ClusterHealth(tuple(brokers), described, whole)

    async def _ask_broker(self, channel: grpc.aio.Channel) -> BrokerHealth:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            reply: Any = await check(health_pb2.HealthCheckRequest(), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return BrokerHealth(False, False, "does not answer")
            return BrokerHealth(True, False, f"answers {error.code().name}: {error.details()}")
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            return BrokerHealth(True, False, "is up, but does not serve yet")
        return BrokerHealth(True, True, "")

    async def _describe(self, channel: grpc.aio.Channel) -> admin_service_pb2.DescribeClusterResponse | None:
        describe = admin_service_pb2_grpc.AdminServiceStub(channel).DescribeCluster
        try:
            reply: admin_service_pb2.DescribeClusterResponse = await describe(
                admin_service_pb2.DescribeClusterRequest(), timeout=self._timeout_s
            )
        except grpc.aio.AioRpcError:
            return None
        return reply


async def wait_until(
    addresses: Sequence[str],
    enough: Callable[[ClusterHealth], bool],
    *,
    timeout_s: float,
    give_up: Callable[[], bool] = lambda: False,
) -> ClusterHealth:
    """Ask until the answer is `enough`, time is over or `give_up` says so. Returns the last answer."""
    deadline = time.monotonic() + timeout_s
    async with HealthProbe(addresses) as probe:
        while True:
            health = await probe.ask()
            if enough(health) or give_up() or time.monotonic() > deadline:
                return health
            await asyncio.sleep(0.1)
