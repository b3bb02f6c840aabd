"""lograft itself: three brokers of this checkout, by `lograft up`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import lograft

from ..spine import _free_base_port
from .processes import ROOT, CannotBeHad, Servers
from .system import Cluster, Lane, System
from .work import PARTITIONS

LOGRAFT = [sys.executable, "-m", "lograft.client.cli.main"]


class Lograft(System):
    client = "lograft_client"
    reads_by = "lograft (Python)"
    lanes = (Lane("lograft send", "send"), Lane("lograft send_many", "send_many"))
    start_seconds = 6.0

    def __init__(self, name: str = "lograft", durability: str = "") -> None:
        self.name = name
        self.durability = durability
        self.keeps = (
            "R=3, page cache: written by a majority before the answer"
            if durability
            else "R=3, fsync: synced by a majority before the answer"
        )

    def prepare(self) -> None:
        if not self.durability:
            return
        with tempfile.TemporaryDirectory() as directory, self.running(Path(directory)) as cluster:
            try:
                cluster.make_topic("probe")
            except lograft.LograftError as error:
                raise CannotBeHad(f"these brokers refuse a topic with durability={self.durability}: {error}") from None

    def versions(self) -> dict[str, str]:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()
        return {"lograft": f"{version('lograft')} ({commit or 'no commit known'})"}

    @property
    def servers_of(self) -> str:
        return "lograft"

    def on(self, cluster: Cluster) -> Cluster:
        return LograftCluster(cluster.servers, cluster.addresses, self.durability)

    @contextmanager
    def running(self, directory: Path) -> Iterator[Cluster]:
        base_port = _free_base_port()
        addresses = ",".join(f"127.0.0.1:{base_port + 10 * number}" for number in range(3))
        data = directory / "lograft"
        with Servers() as servers:
            servers.start(
                "lograft up",
                [*LOGRAFT, "up", "-n", "3", "--data", str(data), "--base-port", str(base_port)],
                directory / "lograft-up.log",
            )
            servers.wait_until("lograft", lambda: _healthy(addresses), seconds=60)
            yield LograftCluster(servers, addresses, self.durability)


class LograftCluster(Cluster):
    def __init__(self, servers: Servers, addresses: str, durability: str) -> None:
        super().__init__(servers, addresses)
        self._config = {"durability": durability} if durability else None

    def make_topic(self, name: str) -> None:
        asyncio.run(self._make_topic(name))

    async def _make_topic(self, name: str) -> None:
        async with lograft.Client(self.addresses) as client:
            await client.admin.create_topic(name, partitions=PARTITIONS, replication=3, config=self._config)


def _healthy(addresses: str) -> bool:
    done = subprocess.run(
        [*LOGRAFT, "cluster", "health", "-e"],
        env={**os.environ, "LOGRAFT_BROKERS": addresses},
        capture_output=True,
        check=False,
        timeout=30,
    )
    return done.returncode == 0
