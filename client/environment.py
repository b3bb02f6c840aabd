"""All that a client asks of the outside: clocks, chance and channels to brokers. A test or a simulation gives its own.

Timers are the running event loop's; under simulation that loop's time is virtual.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random, SystemRandom

import grpc

MESSAGE_BYTES_MAX = 16 << 20
"""The largest gRPC message either side takes."""

# glibc gives a freed block of this size back to the system at once, and from then on keeps those up to its size for the
# next one. Else each message would be written into pages that the system has to make and clear first, which costs as
# much as carrying it. Elsewhere this does nothing, and nowhere does it take memory: the block is not written to.
bytearray(MESSAGE_BYTES_MAX)

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),  # brokers allow one a second; a flood of them is answered by GOAWAY
    ("grpc.keepalive_timeout_ms", 10_000),  # for TCP to acknowledge what was sent, and no more than that;
    ("grpc.http2.ping_timeout_ms", 10_000),  # for a broker to answer, which it does not while its process stands still
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),  # a blind retry of the channel would not know of sequences or leaders
    ("grpc.use_local_subchannel_pool", 1),  # clients share no connection, so none inherits another's back-off
)


def open_channel(address: str, client_id: str | None = None) -> grpc.aio.Channel:
    """A channel to the broker at `address` (host:port). It connects at the first call, in the running loop."""
    options: list[tuple[str, int | str]] = [*_CHANNEL_OPTIONS]
    if client_id:
        options.append(("grpc.primary_user_agent", client_id))
    return grpc.aio.insecure_channel(address, options=options)


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a client's time, chance and connections come from."""

    now: Callable[[], float] = time.monotonic
    """Seconds that never run backwards, from an arbitrary zero."""
    unix_ms: Callable[[], int] = _unix_ms
    """Wall clock, for record timestamps and relative times."""
    chance: Random = field(default_factory=SystemRandom)
    """Draws producer and topic ids, which must never repeat; also the jitter of back-offs."""
    open_channel: Callable[[str, str | None], grpc.aio.Channel] = open_channel
    """Takes host:port and the client id, which brokers see as the user agent."""
