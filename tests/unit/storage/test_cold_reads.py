"""What is not in memory is brought in by threads meant for it, and the loop reads only what is there."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from lograft.partitions import real_environment
from lograft.partitions.cold_reads import TRIES, CachedFile, NotInMemory, read_when_cached
from lograft.partitions.environment import Buffer
from lograft.partitions.real_environment import RealDisk


class ColdFile:
    """Nothing of it is in memory until it was brought in `needed` times."""

    path = "cold"

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.brought_in: list[tuple[int, int]] = []

    def read(self, position: int, size: int) -> bytes:
        return b"waited"

    def read_cached(self, position: int, size: int) -> Buffer | None:
        return None if len(self.brought_in) < self.needed else b"cached"

    async def bring_in(self, position: int, size: int) -> None:
        self.brought_in.append((position, size))


def read_by_offset(file: ColdFile) -> bytes:
    def read(only_cached: bool) -> bytes:
        return bytes((CachedFile(file) if only_cached else file).read(7, 6))  # type: ignore[arg-type]

    return asyncio.run(read_when_cached(read))


def test_what_is_in_memory_is_read_at_once() -> None:
    file = ColdFile(needed=0)
    assert read_by_offset(file) == b"cached" and not file.brought_in


def test_what_is_not_in_memory_is_brought_in_and_read_then() -> None:
    file = ColdFile(needed=2)
    assert read_by_offset(file) == b"cached" and file.brought_in == [(7, 6), (7, 6)]


def test_what_never_stays_in_memory_is_read_all_the_same() -> None:
    file = ColdFile(needed=100)
    assert read_by_offset(file) == b"waited" and len(file.brought_in) == TRIES


def test_a_real_file_gives_the_same_bytes_whether_cached_or_brought_in(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    path = tmp_path / "file"
    path.write_bytes(content)

    async def scenario() -> None:
        disk = RealDisk(asyncio.get_running_loop())
        file = disk.open(str(path))
        os.sync()
        descriptor = os.open(path, os.O_RDONLY)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)

        def read(only_cached: bool) -> bytes:
            return bytes((CachedFile(file) if only_cached else file).read(1000, 250_000))

        assert await read_when_cached(read) == content[1000:251_000]
        assert bytes(CachedFile(file).read(290_000, 50_000)) == content[290_000:]
        assert bytes(CachedFile(file).read(300_000, 10)) == b""
        file.close()
        await file.bring_in(0, 10)
        disk.stop()

    asyncio.run(scenario())


def test_a_file_closed_while_it_is_brought_in_stays_open_until_then(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)

    async def scenario() -> None:
        disk = RealDisk(asyncio.get_running_loop())
        file = disk.open(str(tmp_path / "file"))
        bringing = asyncio.create_task(file.bring_in(0, 100))
        await asyncio.sleep(0)
        file.close()
        await bringing
        disk.stop()

    asyncio.run(scenario())


def test_not_in_memory_says_where() -> None:
    with pytest.raises(NotInMemory, match="cold is not in memory at 5"):
        CachedFile(ColdFile(needed=1)).read(5, 1)  # type: ignore[arg-type]


def test_a_file_stays_open_until_its_thread_is_done_though_nobody_waits_for_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    may_end = threading.Event()
    found: list[int] = []

    def sync(descriptor: int) -> None:
        may_end.wait(5)
        found.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(real_environment, "sync_file", sync)

    async def scenario() -> None:
        disk = RealDisk(asyncio.get_running_loop())
        file = disk.open(str(tmp_path / "file"))
        syncing = asyncio.create_task(file.fdatasync())
        await asyncio.sleep(0)
        syncing.cancel()
        await asyncio.gather(syncing, return_exceptions=True)
        file.close()
        may_end.set()
        disk.stop()
        await asyncio.sleep(0)
        assert found == [1]
        with pytest.raises(OSError):
            file.size()  # closed by now

    asyncio.run(scenario())
