"""All that a replica asks of the outside: time, chance, disk and the way to its peers.

The real ones are in `real_environment.py`; the simulation brings its own. Whatever is not named here (wall time,
threads, hash order, the network) must not be reached from `partitions/`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple, NoReturn, Protocol

from .raft.messages import Message

Buffer = bytes | bytearray | memoryview


class PartitionId(NamedTuple):
    """Which log: a topic may be deleted and made again under its name, but never under its id."""

    topic_id: str
    """32 hexadecimal digits."""
    number: int

    def __str__(self) -> str:
        return f"{self.topic_id}-{self.number}"


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class File(Protocol):
    """An open file. Everything but `bring_in` and `fdatasync` acts on the page cache, at once.

    At once is what `read` is not where the page cache lacks the bytes: whoever can wait asks for `read_cached` first.

    Raises OSError, as the system's calls do.
    """

    @property
    def path(self) -> str: ...
    def size(self) -> int: ...
    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes at `position`; fewer only at the end of the file."""
        ...

    def read_cached(self, position: int, size: int) -> Buffer | None:
        """As `read`; None if that would wait for the medium."""
        ...

    def write(self, position: int, buffers: Sequence[Buffer]) -> None:
        """Write all of `buffers`, one after the other, at `position`."""
        ...

    def truncate(self, size: int) -> None: ...
    async def bring_in(self, position: int, size: int) -> None:
        """Return once these bytes, or those that could be had of them, are in the page cache.

        A few files are read at a time, in threads of their own: whoever reads what is old and cold waits for its turn,
        and keeps nobody else waiting, neither the loop nor a sync.
        """
        ...

    async def fdatasync(self) -> None:
        """Return once all that was written before the call is on disk."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A file system. A created, renamed or unlinked name is durable only after `sync_directory` of its directory."""

    boot_id: str
    """Changes when the machine restarts, that is when its page cache was lost."""

    def open(self, path: str, *, create: bool = False) -> File:
        """`create` makes the file, and fails if it is there (FileExistsError)."""
        ...

    def exists(self, path: str) -> bool:
        """OSError: the disk does not say, which is not to say that nothing is there."""
        ...

    def list(self, directory: str) -> list[str]:
        """Names in a directory, sorted; FileNotFoundError if it is not there."""
        ...

    def make_directory(self, path: str) -> None:
        """Make the directory and its parents; no error if it is there."""
        ...

    def remove_directory(self, path: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def link(self, old: str, new: str) -> None:
        """Give a file a second name, in whatever directory; fails if that is taken (FileExistsError)."""
        ...

    def unlink(self, path: str) -> None: ...
    def free_bytes(self) -> int: ...
    def total_bytes(self) -> int: ...
    async def sync_directory(self, path: str) -> None: ...


class Transport(Protocol):
    """The way to the other brokers. Messages may be lost, delayed, doubled or overtake each other."""

    def send(self, partition: PartitionId, message: Message) -> None:
        """Never blocks, never raises; what cannot be sent is dropped."""
        ...


class Environment(Protocol):
    """One broker's outside."""

    random: Random
    disk: Disk
    transport: Transport

    def monotonic_ms(self) -> float: ...
    def wall_ms(self) -> int:
        """Unix time. It may jump; nothing that safety rests on asks for it."""
        ...

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> TimerHandle: ...
    def call_soon(self, callback: Callable[[], None]) -> None: ...
    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it; an exception that it lets out halts the process."""
        ...

    def halt(self, reason: str) -> NoReturn:
        """End this process, now: going on could break a promise. Nothing is flushed, no handler runs."""
        ...

    def fail(self, error: Exception) -> NoReturn:
        """A mistake of ours came to light, and something is half done: tell all of it and end this process."""
        ...

    def log(self, event: str, **facts: Any) -> None:
        """An event an operator should see."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaConfig:
    """Timing and sizes of replicas; the same on every broker."""

    election_timeout_ms: int = 500
    """Base of every election timer."""
    election_stagger_ms: int = 150
    """The k-th remaining voter waits k times this long after its leader fell silent."""
    segment_bytes_max: int = 128 << 20
    segment_ms_max: int = 7 * 24 * 3600 * 1000
    """A segment whose first item is older than this gets no more, so that retention by time can drop it."""
    index_interval_bytes: int = 64 << 10
    """At most this many bytes lie between two entries of a sparse index."""
    append_bytes_max: int = 1 << 20
    """Of items in one message to a follower; a single larger item goes alone."""
    in_flight_bytes_max: int = 16 << 20
    """Sent to a follower and not yet acknowledged, per partition."""
    memory_flush_ms: int = 100
    """Of a topic with durability=memory: a written record is on its way to the disk at most this long after."""
    memory_flush_bytes: int = 8 << 20
    """The same, once so many bytes of a partition are written."""
    memory_unsynced_bytes_max: int = 64 << 20
    """Beyond this many bytes of a partition that are not on the disk yet, a copy counts only once it is synced."""
    mark_interval_ms: int = 100
    """A raised mark is on disk at most this long after it could be."""
