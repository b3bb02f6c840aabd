"""Ports for what tests start: nobody else's now, and nobody else's while this process lives.

A port that the system picks is one of those from which connections go out: whoever is connected to anything may hold it
by the time a server listens there, or listens there again. So these lie below that range, and a locked file for each
keeps other processes that run tests away from it.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from lograft.client.cli.ports import PORTS_BETWEEN_BROKERS

_FIRST, _END = 10_000, 32_000
"""Linux connects from 32768 on (net.ipv4.ip_local_port_range)."""
_held: list[int] = []
"""File descriptors, locked until this process ends."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different."""
    chance = random.Random(os.urandom(8))
    found: list[int] = []
    for port in chance.sample(range(_FIRST, _END), _END - _FIRST):
        if len(found) == count:
            return found
        if _lock(port) and _is_free(port):
            found.append(port)
    raise RuntimeError(f"no {count} ports of {_FIRST} to {_END} are free")


def free_base_port(brokers: int) -> int:
    """One for `lograft up --base-port`: nobody listens on any port of that cluster, Prometheus' among them."""
    bases = range(_FIRST, _END, 100)
    for base in random.Random(os.urandom(8)).sample(bases, len(bases)):
        wanted = range(base, base + PORTS_BETWEEN_BROKERS * brokers)
        if all(_lock(port) and _is_free(port) for port in wanted):
            return base
    raise RuntimeError(f"no {brokers} brokers have room at the ports {_FIRST} to {_END}")


def _lock(port: int) -> bool:
    directory = Path(tempfile.gettempdir()) / f"lograft-test-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    file = os.open(directory / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _held.append(file)
        return True
    os.close(file)
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
