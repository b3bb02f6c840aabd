"""Known-wrong behaviours to plant in a broker: the tests must find each. Only `tests.chaos.broker` plants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lograft.partitions import real_environment
from lograft.partitions.replica import Replica

FETCHED_TOO_FAR = 1
SYNC_SKIPPED_ONE_IN = 4


def acknowledges_before_the_flush() -> None:
    """Whatever binds us leaves at once, and the own copy counts at once: nothing waits for a sync."""
    real_environment.sync_file = lambda descriptor: None


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
    bug.__name__: bug for bug in (acknowledges_before_the_flush, skips_some_syncs, takes_a_batch_twice)
}
