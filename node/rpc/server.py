"""The gRPC door: our services, health and reflection, on one port.

Invariants
    a port that is taken is an error, never shared: two brokers behind one port would answer in turns
    health says SERVING only once the broker is ready, and NOT_SERVING before it begins to stop; of one service it says
        so only while that could be of use: no client should be turned away from records because nothing can be decided
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from lograft.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    broker_service_pb2,
    broker_service_pb2_grpc,
    groups_service_pb2,
    groups_service_pb2_grpc,
)

from ...proto.errors import InvalidConfig, LograftError
from ..config import LimitsSection, host_and_port
from ..metrics import Metrics
from .admin_service import AdminService
from .broker_service import BrokerService
from .call_counts import CallCounts
from .groups_service import GroupsService
from .interception import ErrorTranslation

BROKER_SERVICE = broker_service_pb2.DESCRIPTOR.services_by_name["BrokerService"].full_name
ADMIN_SERVICE = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
GROUPS_SERVICE = groups_service_pb2.DESCRIPTOR.services_by_name["GroupsService"].full_name
SERVICES = (BROKER_SERVICE, ADMIN_SERVICE, GROUPS_SERVICE)
STREAMS_PER_CONNECTION_MAX = 1_000
PING_INTERVAL_MS_MIN = 1_000
PING_STRIKES_MAX = 30
METADATA_BYTES_MAX = 16 << 10
STOP_SECONDS_MAX = 1.0
"""What calls under way get to finish."""


def server_options(limits: LimitsSection) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes_max),
        ("grpc.max_send_message_length", limits.message_bytes_max),
        ("grpc.max_allowed_incoming_connections", limits.connections_max),
        ("grpc.server_handshake_timeout_ms", limits.connect_ms_max),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        ("grpc.so_reuseport", 0),
        # Clients ping each 30 s. The default of one in 300 s would cut them off with too_many_pings.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_INTERVAL_MS_MIN),
        ("grpc.http2.max_ping_strikes", PING_STRIKES_MAX),
        ("grpc.keepalive_permit_without_calls", 1),
        # And ours to them: a client whose machine is gone is noticed, and its streams end.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),  # gRPC's own is a minute, whatever the line above says
    ]


def check_free(address: str) -> None:
    """Raises OSError that says why one cannot listen there; gRPC itself tells only its own log."""
    host, port = host_and_port(address)
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)
        probe.listen()


class Door(Protocol):
    """Where the server comes from: `node.outside.Outside`."""

    def rpc_server(
        self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]
    ) -> grpc.aio.Server: ...

    def check_free(self, address: str) -> None: ...


class RpcServer:
    """Listens for clients. `complete` adds the address to an error that names a leader.

    Raises InvalidConfig if it cannot listen where it should.
    """

    def __init__(
        self,
        broker: BrokerService,
        admin: AdminService,
        groups: GroupsService,
        metrics: Metrics,
        complete: Callable[[LograftError], LograftError],
        door: Door,
        *,
        limits: LimitsSection,
    ) -> None:
        calls = CallCounts(limits.calls_max, limits.calls_per_host_max)
        metrics.requests.calls.watch_value(lambda: calls.total)
        self._calls = calls
        self._interception = ErrorTranslation(metrics, complete, calls)
        self._health = HealthServicer()
        self._serving: dict[str, bool] = {}
        """What health says of each service; of all together under the empty name."""
        self._door = door
        self._server = door.rpc_server([self._interception], server_options(limits))
        broker_service_pb2_grpc.add_BrokerServiceServicer_to_server(broker, self._server)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, self._server)
        groups_service_pb2_grpc.add_GroupsServiceServicer_to_server(groups, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME), self._server)

    @property
    def connections(self) -> int:
        """Of clients, with a call under way."""
        return self._calls.connections

    async def start(self, address: str) -> None:
        await self.say_ready(False)
        try:
            self._door.check_free(address)
            self._server.add_insecure_port(address)
        except (OSError, RuntimeError) as error:
            raise InvalidConfig(
                f"cannot listen for clients at {address}: {(getattr(error, 'strerror', None) or str(error)).lower()}; "
                "stop what listens there or set listen.grpc",
                key="listen.grpc",
                value=address,
            ) from None
        await self._server.start()

    def name_process(self, prefix: str) -> None:
        """Ids of requests that bring none begin so: unlike those of any other process of the cluster."""
        self._interception.ids.prefix = prefix

    async def say_ready(self, ready: bool) -> None:
        """Of the broker as a whole, and of all its services."""
        await self.say_serving(dict.fromkeys(("", *SERVICES), ready))

    async def say_serving(self, serving: Mapping[str, bool]) -> None:
        """Of each service, by its full name; the empty name is the broker as a whole. Once it stops, nothing serves."""
        for service, serves in serving.items():
            serves = serves and not self._interception.stopping
            if self._serving.get(service) is not serves:
                self._serving[service] = serves
                status = (
                    health_pb2.HealthCheckResponse.SERVING if serves else health_pb2.HealthCheckResponse.NOT_SERVING
                )
                await self._health.set(service, status)

    async def stop(self) -> None:
        """Refuse new calls, give those under way a moment, then end."""
        self._interception.stopping = True
        await self.say_ready(False)
        await self._server.stop(STOP_SECONDS_MAX)
