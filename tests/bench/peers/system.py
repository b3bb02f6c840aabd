"""What a system under comparison is: how it comes here, how it runs, what can be asked of it."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .processes import CannotBeHad, Servers

LARGE_BYTES = 8 << 10


@dataclass(frozen=True, slots=True)
class Lane:
    """One way for one Python process to talk to a system. The last lane's records are those that are read."""

    name: str
    way: str = ""


class Cluster(ABC):
    """A system's three servers, running."""

    def __init__(self, servers: Servers, addresses: str) -> None:
        self.servers = servers
        self.addresses = addresses

    @abstractmethod
    def make_topic(self, name: str) -> None:
        """One that is kept as the system's title says, ready for use."""

    def produce_by_tool(self, tool: str, topic: str, record_bytes: int, records: int) -> dict[str, float]:
        raise NotImplementedError(tool)

    def read_by_tool(self, tool: str, topic: str, record_bytes: int, records: int) -> dict[str, float]:
        raise NotImplementedError(tool)

    def one_by_one_by_tool(self, tool: str, topic: str, record_bytes: int, records: int) -> dict[str, float]:
        raise NotImplementedError(tool)

    def requests_by_tool(self, load: str, topic: str, seconds: float, bytes_max: int) -> dict[str, float]:
        raise NotImplementedError(load)


class System(ABC):
    """A system under comparison. Its tools are its own programs, beside the Python client."""

    name: str
    keeps: str
    """What an acknowledgement means: copies and medium, a colon, and the rest."""
    client: str
    """The module in `clients`."""
    lanes: tuple[Lane, ...]
    reads_by: str
    """The Python client's name at reading and at latency."""
    produce_tools: tuple[str, ...] = ()
    read_tools: tuple[str, ...] = ()
    one_by_one_tools: tuple[str, ...] = ()
    request_loads: Mapping[str, tuple[str, int]] = {}
    """Loads of `requests_by_tool`: to each the work that it is, and bytes of a record."""
    is_read: bool = True
    """Whether reading is measured: a system that differs by how it syncs alone reads as its sibling does."""
    tool_start_seconds: float = 1.0
    start_seconds: float = 5.0
    """About how long its servers take to start and stop; for the estimate alone."""
    warm_up_factor: float = 1.0
    """How much longer than others it is warmed up in each turn, as its code is compiled while it runs."""

    def lanes_for(self, record_bytes: int) -> tuple[Lane, ...]:
        """How records are handed over matters with small ones; for large ones the last way is enough."""
        return self.lanes if record_bytes < LARGE_BYTES else self.lanes[-1:]

    def produce_tools_for(self, record_bytes: int) -> tuple[str, ...]:
        return self.produce_tools

    @abstractmethod
    def prepare(self) -> None:
        """Have it here, from the cache or installed into it.

        Raises
            CannotBeHad  and why
        """

    @abstractmethod
    def versions(self) -> dict[str, str]: ...

    @abstractmethod
    def running(self, directory: Path) -> AbstractContextManager[Cluster]: ...

    @property
    def servers_of(self) -> str:
        """Systems of which this is the same take their turns on the same servers: they differ by topics' settings."""
        return self.name

    def on(self, cluster: Cluster) -> Cluster:
        """This system on those servers."""
        return cluster


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lograft" / "peers"


@contextmanager
def installing(name: str) -> Iterator[Path]:
    """A directory that takes its name in the cache only once all of it is there."""
    target = cache_directory() / name
    fresh = target.with_name(f"{name}.unfinished")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def installed(name: str, install: Callable[[Path], None]) -> Path:
    target = cache_directory() / name
    if not target.is_dir():
        with installing(name) as fresh:
            install(fresh)
    return target


def need_program(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotBeHad(f"there is no {name} here: {remedy}")
    return found
