"""The real disk does what the protocols say."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lograft.node.read_only_disk import ReadOnlyDisk
from lograft.partitions import real_environment
from lograft.partitions.environment import Disk, File
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.storage.promises import Promises


def test_files_are_written_read_cut_and_listed(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk: Disk = RealEnvironment(str(tmp_path)).disk
        path = f"{tmp_path}/a/b"
        disk.make_directory(path)
        disk.make_directory(path)
        file: File = disk.open(f"{path}/one", create=True)
        with pytest.raises(FileExistsError):
            disk.open(f"{path}/one", create=True)
        file.write(0, [b"abc", bytearray(b"def"), memoryview(b"ghi")])
        file.write(9, [b"%d" % (n % 10) for n in range(3000)])
        await file.fdatasync()
        assert file.size() == 3009 and file.read(3, 7) == b"defghi0" and file.read(3000, 100) == b"123456789"
        file.truncate(4)
        assert file.read(0, 100) == b"abcd"
        disk.rename(f"{path}/one", f"{path}/two")
        await disk.sync_directory(path)
        assert disk.list(path) == ["two"] and disk.exists(f"{path}/two")
        disk.unlink(f"{path}/two")
        disk.remove_directory(path)
        assert not disk.exists(path) and disk.free_bytes() > 0

    asyncio.run(scenario())


@pytest.mark.parametrize("lookup", ["stat", "lstat"])
def test_a_disk_that_does_not_say_whether_a_file_is_there_is_not_taken_to_say_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lookup: str
) -> None:
    def fail(path: str) -> None:
        raise OSError(5, "input/output error", path)

    async def scenario() -> None:
        disk: Disk = RealEnvironment(str(tmp_path)).disk if lookup == "stat" else ReadOnlyDisk()
        (tmp_path / "one").touch()
        assert disk.exists(f"{tmp_path}/one")
        assert not disk.exists(f"{tmp_path}/two") and not disk.exists(f"{tmp_path}/one/below")
        with monkeypatch.context() as patch:
            patch.setattr(os, lookup, fail)
            with pytest.raises(OSError, match="input/output"):
                disk.exists(f"{tmp_path}/one")

    asyncio.run(scenario())


def test_a_short_write_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    def short(descriptor: int, buffers: Sequence[bytes], position: int) -> int:
        return whole(descriptor, [bytes(buffers[0])[:2]], position)

    async def scenario() -> None:
        file = RealEnvironment(str(tmp_path)).disk.open(f"{tmp_path}/one", create=True)
        file.write(0, [b"abc", b"def"])
        assert file.read(0, 10) == b"abcdef"

    monkeypatch.setattr(os, "pwritev", short)
    asyncio.run(scenario())


def test_a_file_closed_during_its_sync_keeps_its_descriptor_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    valid: list[bool] = []

    def slow(descriptor: int) -> None:
        gate.wait(10)
        valid.append(os.fstat(descriptor).st_size == 3)

    monkeypatch.setattr(real_environment, "sync_file", slow)

    async def scenario() -> None:
        file = RealEnvironment(str(tmp_path)).disk.open(f"{tmp_path}/one", create=True)
        file.write(0, [b"abc"])
        syncing = asyncio.ensure_future(file.fdatasync())
        await asyncio.sleep(0)
        file.close()
        gate.set()
        await syncing
        assert valid == [True]

    asyncio.run(scenario())


def test_a_sync_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(real_environment, "sync_file", fail)

    async def scenario() -> None:
        file = RealEnvironment(str(tmp_path)).disk.open(f"{tmp_path}/one", create=True)
        with pytest.raises(OSError, match="input/output"):
            await file.fdatasync()

    asyncio.run(scenario())


def test_syncs_of_many_files_run_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)
    monkeypatch.setattr(real_environment, "sync_file", lambda descriptor: together.wait(10))

    async def scenario() -> None:
        disk = RealEnvironment(str(tmp_path), sync_threads=4).disk
        files = [disk.open(f"{tmp_path}/{name}", create=True) for name in range(4)]
        await asyncio.gather(*(file.fdatasync() for file in files))

    asyncio.run(scenario())


def test_what_a_task_or_callback_lets_out_halts_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)

    async def fails() -> None:
        raise ValueError("a mistake")

    def also_fails() -> Any:
        raise ValueError("another")

    async def scenario() -> None:
        env = RealEnvironment(str(tmp_path))
        env.spawn(fails())
        env.call_soon(also_fails)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert codes == [70, 70]

    asyncio.run(scenario())


def test_promises_are_kept_on_a_real_disk(tmp_path: Path) -> None:
    async def scenario() -> None:
        env = RealEnvironment(str(tmp_path))
        promises = await Promises.open(env, str(tmp_path / "data"))
        await promises.sync(promises.note_start_number(7))
        await promises.close()
        again = await Promises.open(env, str(tmp_path / "data"))
        assert (again.directory_id, again.start_number) == (promises.directory_id, 7)
        assert not again.boot_changed and not again.lost_word
        env.stop()

    asyncio.run(scenario())
