"""gRPC for brokers and clients that are simulated: the same objects as `grpc.aio` gives, on wires.

    client   real `grpc.aio` call objects (read, write, await, cancel, AioRpcError), on a core of ours: `rpc_client`
    server   written anew after the compiled one: tasks, interceptors, ServicerContext, stop: `rpc_server`
    between  calls with windows, deadlines, resets, limits (`rpc_stream`) on connections with keepalive, back-off and
             GOAWAY (`rpc_link`)

Not as in the real one: HTTP/2 is not spoken byte by byte; metadata have no size limit and connections no limit of
calls; there is no compression, no TLS, no client interceptor, no retry; a call that is dropped without being ended is
not cancelled by garbage collection, whose moment does not follow from the seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from lograft.client.environment import _CHANNEL_OPTIONS

from tests.simulation.rpc_client import SimulatedChannel
from tests.simulation.rpc_server import SimulatedServer
from tests.simulation.wires import Wires

__all__ = ["Rpc", "SimulatedChannel", "SimulatedServer"]


class Rpc:
    """What makes servers and channels, on the host on which the code runs that asks."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires

    def server(self, *, interceptors: Sequence[Any] = (), options: Iterable[tuple[str, Any]] = ()) -> SimulatedServer:
        """As `grpc.aio.server`."""
        return SimulatedServer(self._wires, interceptors=interceptors, options=options)

    def channel(self, address: str, options: Iterable[tuple[str, Any]] = ()) -> grpc.aio.Channel:
        """As `grpc.aio.insecure_channel`."""
        return SimulatedChannel(self._wires, address, options)

    def open_channel(self, address: str, client_id: str | None = None) -> grpc.aio.Channel:
        """`Environment.open_channel` of a client, with the channel arguments that real clients have."""
        named = (("grpc.primary_user_agent", client_id),) if client_id else ()
        return self.channel(address, (*_CHANNEL_OPTIONS, *named))
