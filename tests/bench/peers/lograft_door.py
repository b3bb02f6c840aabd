"""lograft by its door for Kafka clients: the same clients, tools and settings as for Kafka itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..spine import _free_base_port
from .kafka import Kafka, KafkaCluster
from .lograft_system import LOGRAFT, Lograft, _healthy
from .processes import Servers
from .system import Cluster

DOOR = 3
"""Where `lograft up` opens it, from a broker's base port on."""


class LograftDoor(Kafka):
    start_seconds = 6.0
    warm_up_factor = 1.0

    def __init__(self, name: str = "lograft-door") -> None:
        super().__init__(name)
        self.keeps = "R=3, fsync: acks=all, synced by a majority before the answer"

    def versions(self) -> dict[str, str]:
        return {**super().versions(), **Lograft().versions()}

    @property
    def servers_of(self) -> str:
        return self.name

    @contextmanager
    def running(self, directory: Path) -> Iterator[Cluster]:
        base_port = _free_base_port()
        bases = [base_port + 10 * number for number in range(3)]
        with Servers() as servers:
            servers.start(
                "lograft up",
                [*LOGRAFT, "up", "-n", "3", "--data", str(directory / "lograft"), "--base-port", str(base_port)],
                directory / "lograft-up.log",
            )
            native = ",".join(f"127.0.0.1:{base}" for base in bases)
            servers.wait_until("lograft", lambda: _healthy(native), seconds=60)
            cluster = KafkaCluster(servers, ",".join(f"127.0.0.1:{base + DOOR}" for base in bases), self)
            servers.wait_until("lograft's door", cluster.is_whole, seconds=60)
            yield cluster
