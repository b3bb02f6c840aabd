"""All that a broker asks of the outside beside what `partitions/environment.py` names: one object, given to `Node`.

The real one is `Outside` itself; the simulation of whole clusters gives another. Connections of peers and of the HTTP
door are made by the running event loop, which is the simulation's own there.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import NoReturn, Protocol

import grpc

from ..partitions.environment import Environment
from ..partitions.real_environment import RealEnvironment
from .compaction_process import CompactionProcess
from .compactions import Worker
from .data_directory import DataDirectory, raise_open_files_limit
from .rpc.server import check_free


class Directory(Protocol):
    """A claimed data directory, as `DataDirectory`."""

    def check_not_superseded(self, directory_id: str, start_number: int) -> None: ...
    def note_superseded(self, directory_id: str, start_number: int, why: str) -> None: ...
    def release(self) -> None: ...


class BrokerEnvironment(Environment, Protocol):
    """The environment of one broker process."""

    def stop(self) -> None:
        """The last that is asked of it: wait for the syncs in flight."""
        ...


class Outside:
    """The machine that this process runs on."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def chance(self) -> Random:
        """For what need not be secret. A generator of its own for whoever asks."""
        return Random()

    def open_files_max(self) -> int:
        """How many files this process may hold open, from now on."""
        return raise_open_files_limit()

    def claim(self, directory: str, broker_id: int) -> Directory:
        """Raises InvalidConfig, as `DataDirectory.claim` does."""
        return DataDirectory.claim(directory, broker_id)

    def environment(
        self, directory: str, *, log: Callable[..., None], on_sync: Callable[[float], None]
    ) -> BrokerEnvironment:
        """`on_sync` is told the seconds of each sync that went well, in whatever thread."""
        return RealEnvironment(directory, log=log, on_sync=on_sync)

    def settle_memory(self, *, thoroughly: bool) -> None:
        """What is in memory now stays for long: the collector of cycles need not look at it again and again.

        Else it stops the loop for longer than an election timeout, now and then, where a broker holds a thousand
        replicas and gets a part of a core. `thoroughly`: first look once more at what was settled before.
        """
        if thoroughly:
            gc.unfreeze()
            gc.collect()
        gc.freeze()

    def watch_collections(self, on_pause: Callable[[int, float], None]) -> Callable[[], None]:
        """From now on, until what is returned is called, `on_pause` gets generation and seconds of each collection."""
        began = 0.0

        def note(phase: str, facts: dict[str, int]) -> None:
            nonlocal began
            if phase == "start":
                began = time.perf_counter()
            else:
                on_pause(facts["generation"], time.perf_counter() - began)

        gc.callbacks.append(note)
        return lambda: gc.callbacks.remove(note)

    def compaction_worker(self, bytes_per_s: int, environment: Environment) -> Worker:
        """Who rewrites segments."""
        return CompactionProcess(bytes_per_s)

    def rpc_server(
        self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]
    ) -> grpc.aio.Server:
        return grpc.aio.server(interceptors=interceptors, options=options)

    def check_free(self, address: str) -> None:
        """Raises OSError that says why the RPC server could not listen there."""
        check_free(address)

    def end_process(self, code: int) -> NoReturn:
        """At once: nothing is flushed, no handler runs."""
        os._exit(code)
