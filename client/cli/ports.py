"""The ports of a local cluster, and who else has them.

Broker i listens on base + 10 i: gRPC there, peers + 1, HTTP + 2, Kafka + 3.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import NamedTuple

HOST = "127.0.0.1"
PORTS_BETWEEN_BROKERS = 10
PORT_MAX = 65535


class BrokerPorts(NamedTuple):
    grpc: int
    peer: int
    http: int
    kafka: int

    @classmethod
    def of(cls, base_port: int, broker_id: int) -> BrokerPorts:
        first = base_port + PORTS_BETWEEN_BROKERS * broker_id
        return cls(first, first + 1, first + 2, first + 3)

    @property
    def used(self) -> tuple[int, ...]:
        """Those that a broker listens on."""
        return self.grpc, self.peer, self.http, self.kafka


class TakenPort(NamedTuple):
    port: int
    holder: str
    """Who listens there, as far as this user may know."""


def is_free(port: int) -> bool:
    """Could a broker listen here now? Connections that are only waiting to be forgotten do not matter."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
            trial.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def holder_of(port: int) -> str:
    """The process that listens on `port`, by name and pid where this user may see it."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    break
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return "another process"


def taken(wanted: Iterable[int]) -> list[TakenPort]:
    """Those of the ports on which somebody listens already, and who."""
    return [TakenPort(port, holder_of(port)) for port in wanted if not is_free(port)]


def free_base_port(brokers: int, start: int) -> int | None:
    """The first base port from `start` on, in steps of 100, at which the whole cluster has room."""
    for base_port in range(start, PORT_MAX - PORTS_BETWEEN_BROKERS * brokers, 100):
        wanted = (port for broker_id in range(brokers) for port in BrokerPorts.of(base_port, broker_id).used)
        if all(map(is_free, wanted)):
            return base_port
    return None
