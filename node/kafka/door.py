"""The door for Kafka clients: one port, beside gRPC's, to the same topics and groups.

Invariants
    of a peer of whom nothing is known no more is held than a frame that is on its way, for a bounded time
    what all connections hold of requests and answers is bounded, and one of them can take a part of that at most
    a client that is silent, drips or does not read is cut off; the others do not notice
    a port that is taken is an error
"""

from __future__ import annotations

import asyncio
import secrets

import structlog

from ...proto.errors import InvalidConfig
from ..config import KafkaSection, LimitsSection, host_and_port
from ..rpc.budget import Lease, SharedBudget
from .connection import Handling, KafkaConnection
from .frames import RequestHead
from .requests import Requests

SWEEP_S = 1.0
"""Between two looks for connections to be cut off."""
UNSENT_S_MAX = 60.0
"""An answer of which the client takes nothing for so long is one too many."""
FRAME_S_MAX = 60.0
"""From the first byte of a request to its last."""
CONNECTIONS_AT_BOUND = 8
"""All connections together may hold as many bytes of requests as so many at their bound."""
AMID_BYTES_AT_BOUND = 4
"""The same for requests that are not whole, or whose turn has not come."""
STOP_SECONDS_MAX = 1.0
CUT_OFF_TOLD_S = 60.0
"""A client that errs comes back at once, and there may be thousands: one line a minute tells of them."""
IDLE = "idle"

log = structlog.get_logger("kafka")


class KafkaDoor:
    """Accepts connections and bounds what they take. Raises InvalidConfig if it cannot listen where it should."""

    def __init__(self, requests: Requests, limits: LimitsSection, section: KafkaSection) -> None:
        self.handling: Handling = requests
        self.request_bytes_max = limits.message_bytes_max
        self.in_flight_bytes_max = limits.produce_in_flight_bytes_max
        self._limits = limits
        self._section = section
        self._budget = SharedBudget(CONNECTIONS_AT_BOUND * limits.produce_in_flight_bytes_max)
        self._connections: dict[KafkaConnection, None] = {}
        """In the order in which they came."""
        self._held_bytes = 0
        """Of requests that have not begun, on all connections."""
        self._held_bytes_max = AMID_BYTES_AT_BOUND * limits.message_bytes_max
        self._muted: dict[KafkaConnection, None] = {}
        """Not read from, until there is room."""
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._stopping = False
        self._cut_off = 0
        """Connections that this broker ended since it last said so."""
        self._told_at = float("-inf")

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, address: str) -> None:
        host, port = host_and_port(address)
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: KafkaConnection(self), host, port)
        except OSError as error:
            raise InvalidConfig(
                f"cannot listen for Kafka clients at {address}: {(error.strerror or str(error)).lower()}; stop what "
                "listens there or set listen.kafka",
                key="listen.kafka",
                value=address,
            ) from None
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def stop(self) -> None:
        """Accept no more, give what is under way a moment, then end."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        if any(not one.is_idle for one in self._connections):
            await asyncio.sleep(STOP_SECONDS_MAX)
        for connection in list(self._connections):
            connection.close("the broker is stopping", is_usual=True)

    # -- what connections tell -----------------------------------------------------------------------------------------

    def opened(self, connection: KafkaConnection) -> None:
        if self._stopping:
            connection.close("the broker is stopping", is_usual=True)
            return
        if len(self._connections) >= self._limits.connections_max:
            silent = next((one for one in self._connections if not one.requests), None)
            if silent is None:
                connection.close(f"{self._limits.connections_max} connections are the most (limits.connections_max)")
                return
            silent.close("others want to connect, and it has said nothing yet")
        self._connections[connection] = None

    def holds(self, connection: KafkaConnection, change: int) -> None:
        self._held_bytes += change
        if self._held_bytes > self._held_bytes_max:
            # Those that began before it come to their end, or to that of their time; then it is read from again.
            if connection not in self._muted and connection is not self._first_amid():
                self._muted[connection] = None
                connection.mute(True)
        elif self._muted and change < 0:
            self._unmute()

    def _first_amid(self) -> KafkaConnection | None:
        # Whoever has a whole request here waits for this broker: that it is read from brings nothing on.
        amid = (one for one in self._connections if one.waiting_bytes and not one.waits_for_its_turn)
        return min(amid, key=lambda one: one.amid_since or 0.0, default=None)

    def _unmute(self) -> None:
        while self._muted and self._held_bytes <= self._held_bytes_max:
            connection = next(iter(self._muted))
            del self._muted[connection]
            connection.mute(False)
            if self._muted:
                asyncio.get_running_loop().call_soon(self._unmute)
                return

    def ended(self, connection: KafkaConnection, why: str, *, is_usual: bool) -> None:
        self._connections.pop(connection, None)
        self._muted.pop(connection, None)
        facts = {"peer": connection.peer, "requests": connection.requests, "why": why[:300]}
        if is_usual:
            log.debug("kafka_connection_ended", **facts)
            return
        self._cut_off += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= CUT_OFF_TOLD_S:
            log.warning("kafka_client_cut_off", **facts, cut_off_since_last_told=self._cut_off)
            self._told_at, self._cut_off = now, 0

    def lease_for(self, peer: str) -> Lease:
        return self._budget.lease(peer)

    def failed(self, connection: KafkaConnection, request: RequestHead, error: BaseException) -> None:
        log.error(
            "kafka_request_failed",
            id=secrets.token_hex(4),
            api=request.api_key,
            version=request.api_version,
            peer=connection.peer,
            exc_info=error,
        )

    # -- again and again -----------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = asyncio.get_running_loop().time()
            if self._muted and (first := self._first_amid()) in self._muted:
                # All that hold something wait for each other: one goes on.
                del self._muted[first]
                first.mute(False)
            for connection in list(self._connections):
                if why := self._overdue(connection, now):
                    connection.close(why, is_usual=why == IDLE)

    def _overdue(self, connection: KafkaConnection, now: float) -> str | None:
        if not connection.requests and now - connection.opened_at > self._limits.connect_ms_max / 1000:
            return "no request came"
        if connection.amid_since is not None and now - connection.amid_since > FRAME_S_MAX:
            return "a request did not become whole in time"
        if connection.is_stuck:
            unsent = connection.unsent_bytes()
            if unsent != connection.unsent_seen:
                connection.unsent_seen, connection.progress_at = unsent, now
            elif now - connection.progress_at > UNSENT_S_MAX:
                return "the client does not read its answers"
        elif connection.is_idle and now - connection.heard_at > self._section.idle_ms_max / 1000:
            return IDLE
        return None
