"""Known-wrong behaviours to plant in a broker: the tests must find each. Only `tests.chaos.broker` plants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lograft.partitions import real_environment
from lograft.partitions.chunk import Chunk
from lograft.partitions.raft.core import RaftCore
from lograft.partitions.raft.events import Effects
from lograft.partitions.raft.messages import Message
from lograft.partitions.replica import Replica

SYNC_SKIPPED_ONE_IN = 4


def acknowledges_before_the_flush() -> None:
    """Followers acknowledge what they have not synced, and the leader counts its own copy as it writes it."""
    right = RaftCore._advance_commit

    def advance_commit(core: RaftCore, effects: Effects) -> None:
        standing = core._standing
        persisted, standing.persisted = standing.persisted, standing.last
        right(core, effects)
        standing.persisted = persisted

    def send_when_persisted(replica: Replica, messages: list[Message]) -> None:
        for message in messages:
            replica._deliver(message)

    RaftCore._advance_commit = advance_commit  # type: ignore[method-assign]
    Replica._send_when_persisted = send_when_persisted  # type: ignore[method-assign]


def skips_some_syncs() -> None:
    """One in so many syncs of a file is forgotten."""
    right = real_environment.sync_file
    count = 0

    def sync_file(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count % SYNC_SKIPPED_ONE_IN:
            right(descriptor)

    real_environment.sync_file = sync_file


def never_syncs_directories() -> None:
    """Names are left to the file system."""
    real_environment._sync_directory = lambda path: None


def serves_what_is_not_committed() -> None:
    """A fetch gets all that its leader holds."""
    right = Replica.read_committed

    def read_committed(replica: Replica, offset: int, bytes_max: int, *, only_cached: bool = False) -> Chunk:
        committed, replica._committed = replica._committed, replica.log.end
        try:
            return right(replica, offset, bytes_max, only_cached=only_cached)
        finally:
            replica._committed = committed

    Replica.read_committed = read_committed  # type: ignore[method-assign]


def takes_a_batch_twice() -> None:
    """The leader does not own up to knowing a producer."""
    right = Replica.append

    class Unproduced:
        has_producer = False

        def __init__(self, header: Any) -> None:
            self._header = header

        def __getattr__(self, name: str) -> Any:
            return getattr(self._header, name)

    def append(replica: Replica, batch: Any, header: Any, first_open: int | None) -> Any:
        return right(replica, batch, Unproduced(header), first_open)  # type: ignore[arg-type]

    Replica.append = append  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        acknowledges_before_the_flush,
        skips_some_syncs,
        never_syncs_directories,
        serves_what_is_not_committed,
        takes_a_batch_twice,
    )
}
