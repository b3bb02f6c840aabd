"""Broker processes of one cluster, whose connections all lead through proxies.

A broker listens on ports that nobody is told of; what it advertises, to the others and to clients, is its proxies'.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lograft

from tests.ports import free_ports

from .disks import Disk
from .proxy import Proxies

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a secret of the chaos tests"
READY_S_MAX = 60.0
# On a small machine a broker may wait half a second for the processor: its leadership should survive that. Segments are
# short, so that they end often.
SETTINGS = """
[replica]
election_timeout_ms = 1500
segment_bytes_max = 262144
[limits]
batch_bytes_max = 65536
[disk]
produce_stop_free_bytes = 8388608
replication_stop_free_bytes = 4194304
[scrub]
interval_ms = 4000
[log]
format = "json"
"""


class Broker:
    """One broker: its process, its disk, its clock."""

    def __init__(self, broker_id: int, directory: Path, disk: Disk, ports: Sequence[int]) -> None:
        self.broker_id = broker_id
        self.name = f"b{broker_id}"
        self.disk = disk
        self.grpc_port, self.peer_port, self.http_port, self.outer_grpc_port, self.outer_peer_port = ports
        self.address = f"127.0.0.1:{self.outer_grpc_port}"
        self.peer_address = f"127.0.0.1:{self.outer_peer_port}"
        self.directory = directory
        self.config_path = directory / f"{self.name}.toml"
        self.log_path = directory / f"{self.name}.log"
        self.clock_path = directory / f"{self.name}.clock"
        self.bug = ""
        """Of `bugs.py`, planted at each start."""
        self.process: subprocess.Popen[bytes] | None = None
        self.is_paused = False
        self.is_held = False
        """Its disk is being tampered with: nobody starts it now."""
        self.is_wanted = False
        """It is meant to run: an end that nobody asked for is found out by the referee."""
        self.ends: list[tuple[float, int]] = []
        """When, and with which code, its processes ended by themselves."""

    @property
    def data_directory(self) -> Path:
        return self.disk.path / "data"

    def configure(self, peers: dict[int, str], settings: str) -> None:
        peer_lines = "\n".join(f'{other} = "{address}"' for other, address in peers.items())
        self.config_path.write_text(
            f"""
[broker]
id = {self.broker_id}
data_directory = "{self.data_directory}"
[listen]
grpc = "127.0.0.1:{self.grpc_port}"
peer = "127.0.0.1:{self.peer_port}"
http = "127.0.0.1:{self.http_port}"
[advertise]
grpc = "{self.address}"
peer = "{self.peer_address}"
[cluster]
secret = "{SECRET}"
[cluster.peers]
{peer_lines}
{settings}"""
        )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Unless it runs, or its power is off."""
        if self.is_running or self.is_held:
            return
        environment = {
            **os.environ,
            "CHAOS_BOOT_ID": str(self.disk.boot_id_path),
            "CHAOS_SLOW": str(self.disk.slow_path),
            "CHAOS_CLOCK": str(self.clock_path),
            "CHAOS_BUG": self.bug,
        }
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.broker", "-c", str(self.config_path)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )
        self.is_paused, self.is_wanted = False, True

    def set_clock(self, offset_s: float) -> None:
        """Its wall clock, by so much off the machine's."""
        fresh = self.clock_path.with_suffix(".new")
        fresh.write_text(f"{offset_s}")
        fresh.rename(self.clock_path)

    def kill(self) -> None:
        """As a crash of the process would: nothing is flushed, nobody is told."""
        self._end(signal.SIGKILL)

    def cut_power(self, seed: int) -> dict[str, int]:
        """It and its helpers die, and what its disk had not synced is gone. What became of that."""
        with self.held():
            return self.disk.lose_power(seed)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """It and its helpers are dead, and stay so."""
        self.is_held = True
        try:
            if self.is_running:
                os.killpg(self.pid, signal.SIGKILL)
            self.kill()
            yield
        finally:
            self.is_held = False

    def stop(self, seconds_max: float = 30.0) -> None:
        """Cleanly; by force if that takes too long."""
        self.resume()
        try:
            self._end(signal.SIGTERM, seconds_max)
        except subprocess.TimeoutExpired:
            self.kill()

    def _end(self, number: signal.Signals, seconds_max: float = 20.0) -> None:
        self.is_wanted = False
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=seconds_max)
        self.is_paused = False

    def tell_stacks(self) -> None:
        """Have it write into its log what it waits for."""
        if self.is_running and not self.is_paused:
            self.process.send_signal(signal.SIGUSR1)  # type: ignore[union-attr]
            time.sleep(0.5)  # whoever asked is about to kill it

    def pause(self) -> None:
        if self.is_running:
            self.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
            self.is_paused = True

    def resume(self) -> None:
        if self.is_running:
            self.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
        self.is_paused = False

    async def is_ready(self) -> bool:
        writer = None
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.http_port)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return b" 200 " in await reader.readline()
        except (OSError, TimeoutError):
            return False
        finally:
            if writer is not None:
                writer.close()

    def events(self) -> list[dict[str, Any]]:
        """What it logged, line by line; a line that is none of its own under the key `raw`."""
        found = []
        if not self.log_path.exists():
            return []
        for line in self.log_path.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": "", "raw": line})
        return found


class Cluster:
    """Brokers, the proxies between them, and a client of ours that goes by the clients' proxies."""

    def __init__(
        self, directory: Path, disks: Sequence[Disk], chance: random.Random, *, settings: str = SETTINGS
    ) -> None:
        self.directory = directory
        self.proxies = Proxies(chance)
        ports = free_ports(5 * len(disks))
        self.brokers = [
            Broker(broker_id, directory, disk, ports[5 * broker_id : 5 * broker_id + 5])
            for broker_id, disk in enumerate(disks)
        ]
        peers = {broker.broker_id: broker.peer_address for broker in self.brokers}
        for broker in self.brokers:
            broker.configure(peers, settings)

    @property
    def addresses(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    @property
    def majority(self) -> int:
        return len(self.brokers) // 2 + 1

    @property
    def running(self) -> list[Broker]:
        return [broker for broker in self.brokers if broker.is_running and not broker.is_paused]

    async def start(self) -> None:
        for broker in self.brokers:
            await self.proxies.lead(broker.outer_peer_port, broker.peer_port, broker.name, is_peer=True)
            await self.proxies.lead(broker.outer_grpc_port, broker.grpc_port, broker.name, is_peer=False)
        for broker in self.brokers:
            broker.start()
        await self.await_ready()

    async def await_ready(self, brokers: Iterable[Broker] | None = None, seconds_max: float = READY_S_MAX) -> None:
        """Raises TimeoutError that names who is not ready."""
        waiting = list(self.brokers if brokers is None else brokers)
        deadline = time.monotonic() + seconds_max
        while waiting := [broker for broker in waiting if not await broker.is_ready()]:
            if time.monotonic() > deadline:
                names = ", ".join(broker.name for broker in waiting)
                for broker in waiting:
                    broker.tell_stacks()
                raise TimeoutError(f"not ready {seconds_max:g} s after: {names}; see {self.directory}/*.log")
            await asyncio.sleep(0.1)

    async def leader_of(self, topic: str, partition: int, client: lograft.Client) -> Broker | None:
        """By the cluster's own word, where somebody says one."""
        with contextlib.suppress(lograft.LograftError):
            found = (await client.admin.describe_topic(topic)).partitions[partition].leader_id
            if found >= 0:
                return self.brokers[found]
        return None

    def note_ends(self) -> list[Broker]:
        """Brokers that ended though nobody asked them to, told once each."""
        found = []
        for broker in self.brokers:
            if broker.is_wanted and not broker.is_running:
                assert broker.process is not None
                broker.is_wanted = False
                broker.ends.append((time.monotonic(), broker.process.returncode))
                found.append(broker)
        return found

    async def close(self) -> None:
        for broker in self.brokers:
            with contextlib.suppress(Exception):
                broker.kill()
        await self.proxies.close()
