"""How many calls are being carried out, in all and for each remote address.

Invariants
    each call that was counted is counted off once, however it ends
    an address of which no call is under way takes no memory
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ...proto.errors import Overloaded


class CallCounts:
    """Bounds on the calls under way."""

    def __init__(self, calls_max: int, calls_per_host_max: int) -> None:
        self.total = 0
        self._calls_max = calls_max
        self._calls_per_host_max = calls_per_host_max
        self._of_host: Counter[str] = Counter()
        self._of_connection: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """Connections of which a call is under way."""
        return len(self._of_connection)

    @contextmanager
    def counted(self, peer: str) -> Iterator[None]:
        """While one call of `peer`, as gRPC names it, is carried out. Raises Overloaded instead, at a bound."""
        host = host_of(peer)
        if self.total >= self._calls_max:
            raise Overloaded(
                f"{self._calls_max} calls are under way on this broker, its limit (limits.calls_max); try again later",
                limit=self._calls_max,
            )
        if self._of_host[host] >= self._calls_per_host_max:
            raise Overloaded(
                f"{self._calls_per_host_max} calls from {host} are under way on this broker, its limit "
                "(limits.calls_per_host_max); try again later, or with fewer calls at a time",
                limit=self._calls_per_host_max,
            )
        self.total += 1
        self._of_host[host] += 1
        self._of_connection[peer] += 1
        try:
            yield
        finally:
            self.total -= 1
            for counter, key in ((self._of_host, host), (self._of_connection, peer)):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]


def host_of(peer: str) -> str:
    """The address in `ipv4:127.0.0.1:4711` and `ipv6:%5B::1%5D:4711`; of others all of it."""
    kind, _, place = peer.partition(":")
    return place.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer
