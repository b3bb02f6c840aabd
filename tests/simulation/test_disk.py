from __future__ import annotations

from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any

import pytest

from tests.simulation.disk import PAGE_BYTES, ROOT, SECTOR_BYTES, Crashed, CrashedNow, Mount, SimulatedDisk
from tests.simulation.virtual_loop import VirtualLoop


class Machine:
    """A disk, a loop and the mount of the process that runs now."""

    def __init__(self, seed: int) -> None:
        self.loop = VirtualLoop()
        self.disk = SimulatedDisk(Random(seed))
        self.operations: list[str] = []
        self.crash_before: str | None = None
        self.boot()

    def boot(self) -> Mount:
        self.mount = Mount(self.disk, lambda ms, callback: self.loop.call_later(ms / 1000, callback), self._note)
        return self.mount

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(coroutine)

    def a_durable_file(self, content: bytes) -> str:
        path = f"{ROOT}/file"
        file = self.mount.open(path, create=True)
        file.write(0, [content])
        self.run(file.fdatasync())
        self.run(self.mount.sync_directory(ROOT))
        return path

    def _note(self, operation: str) -> None:
        self.operations.append(operation)
        if self.crash_before is not None and operation.startswith(self.crash_before):
            raise CrashedNow(operation)


@pytest.fixture(params=range(8))
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine(request.param)
    yield machine
    machine.loop.close()


def test_synced_bytes_under_a_synced_name_survive_every_power_loss(machine: Machine) -> None:
    path = machine.a_durable_file(b"promised" * 2000)
    file = machine.mount.open(path)
    file.write(16_000, [b"not promised" * 500])
    assert machine.disk.is_synced(path, 0, 16_000)
    assert not machine.disk.is_synced(path, 0, 16_001)
    machine.disk.lose_power()
    assert machine.boot().open(path).read(0, 16_000) == b"promised" * 2000


def test_a_killed_process_leaves_the_page_cache_to_the_next_one(machine: Machine) -> None:
    path = machine.a_durable_file(b"first")
    boot_id = machine.mount.boot_id
    machine.mount.open(path).write(5, [b" second"])
    machine.disk.kill()
    assert machine.boot().open(path).read(0, 100) == b"first second"
    assert machine.mount.boot_id == boot_id


def test_a_power_loss_changes_the_boot_id(machine: Machine) -> None:
    before = machine.mount.boot_id
    machine.disk.lose_power()
    assert machine.boot().boot_id != before


def test_what_is_written_while_a_sync_runs_is_not_covered_by_it(machine: Machine) -> None:
    path = machine.a_durable_file(b"")
    file = machine.mount.open(path)
    file.write(0, [b"before"])
    sync = machine.loop.create_task(file.fdatasync())
    machine.loop.call_soon(file.write, 6, [b" during"])
    machine.loop.run_until_complete(sync)
    assert machine.disk.is_synced(path, 0, 6)
    assert not machine.disk.is_synced(path, 0, 13)


def test_a_truncation_during_a_sync_is_not_undone_by_it(machine: Machine) -> None:
    path = machine.a_durable_file(b"a" * 9000)
    file = machine.mount.open(path)
    file.truncate(100)
    file.write(100, [b"b" * 400])
    sync = machine.loop.create_task(file.fdatasync())
    machine.loop.call_soon(file.truncate, 300)
    machine.loop.run_until_complete(sync)
    file.write(300, [b"c" * 100])
    machine.run(file.fdatasync())
    machine.disk.lose_power()
    assert machine.boot().open(path).read(0, 9000) == b"a" * 100 + b"b" * 200 + b"c" * 100


def test_a_name_that_was_not_synced_may_be_lost_with_its_synced_bytes() -> None:
    survived = set()
    for seed in range(30):
        machine = Machine(seed)
        file = machine.mount.open(f"{ROOT}/new", create=True)
        file.write(0, [b"x"])
        machine.run(file.fdatasync())
        machine.disk.lose_power()
        survived.add(machine.boot().exists(f"{ROOT}/new"))
        machine.loop.close()
    assert survived == {True, False}


def test_a_file_in_a_directory_that_was_not_synced_may_be_lost() -> None:
    survived = set()
    for seed in range(30):
        machine = Machine(seed)
        machine.mount.make_directory(f"{ROOT}/partitions/p")
        machine.mount.open(f"{ROOT}/partitions/p/f", create=True)
        machine.run(machine.mount.sync_directory(f"{ROOT}/partitions/p"))
        machine.disk.lose_power()
        mount = machine.boot()
        survived.add(mount.exists(f"{ROOT}/partitions/p/f"))
        assert mount.exists(f"{ROOT}/partitions/p") or not mount.exists(f"{ROOT}/partitions/p/f")
        machine.loop.close()
    assert survived == {True, False}


def test_an_unsynced_unlink_may_bring_the_file_back_and_a_synced_one_never_does() -> None:
    survived = set()
    for seed in range(30):
        machine = Machine(seed)
        path = machine.a_durable_file(b"old")
        machine.mount.unlink(path)
        machine.disk.lose_power()
        survived.add(machine.boot().exists(path))
        if machine.mount.exists(path):
            machine.mount.unlink(path)
        machine.run(machine.mount.sync_directory(ROOT))
        machine.disk.lose_power()
        assert not machine.boot().exists(path)
        machine.loop.close()
    assert survived == {True, False}


def test_a_rename_happens_whole_or_not_at_all(machine: Machine) -> None:
    path = machine.a_durable_file(b"old")
    file = machine.mount.open(f"{path}.new", create=True)
    file.write(0, [b"new"])
    machine.run(file.fdatasync())
    machine.mount.rename(f"{path}.new", path)
    machine.disk.lose_power()
    assert machine.boot().open(path).read(0, 10) in (b"old", b"new")


def test_an_unsynced_page_is_lost_kept_or_torn_at_a_sector() -> None:
    outcomes = set()
    for seed in range(200):
        machine = Machine(seed)
        path = machine.a_durable_file(b"a" * PAGE_BYTES)
        machine.mount.open(path).write(0, [b"b" * PAGE_BYTES])
        machine.disk.lose_power()
        content = machine.boot().open(path).read(0, PAGE_BYTES)
        sectors = {content[start : start + SECTOR_BYTES] for start in range(0, PAGE_BYTES, SECTOR_BYTES)}
        assert sectors <= {b"a" * SECTOR_BYTES, b"b" * SECTOR_BYTES}
        outcomes.add("torn" if len(sectors) == 2 else "lost" if content[:1] == b"a" else "kept")
        machine.loop.close()
    assert outcomes == {"lost", "kept", "torn"}


def test_a_file_may_be_longer_after_a_power_loss_than_the_bytes_that_reached_it() -> None:
    endings = set()
    for seed in range(100):
        machine = Machine(seed)
        path = machine.a_durable_file(b"a" * 700)
        machine.mount.open(path).write(700, [b"b" * 100])
        machine.disk.lose_power()
        content = machine.boot().open(path).read(0, 10_000)
        assert content[:700] == b"a" * 700
        endings.add(content[700:])
        machine.loop.close()
    assert endings >= {b"", b"b" * 100, bytes(100)}


def test_after_a_failed_sync_the_next_one_succeeds_and_saves_nothing(machine: Machine) -> None:
    path = machine.a_durable_file(b"")
    file = machine.mount.open(path)
    file.write(0, [b"lost"])
    machine.disk.sync_failures = 1
    with pytest.raises(OSError, match="input/output error"):
        machine.run(file.fdatasync())
    machine.run(file.fdatasync())
    assert not machine.disk.is_synced(path, 0, 4)
    file.write(0, [b"lost"])
    machine.run(file.fdatasync())
    assert machine.disk.is_synced(path, 0, 4)


def test_a_crash_at_a_write_leaves_at_most_a_part_of_it(machine: Machine) -> None:
    path = machine.a_durable_file(b"whole")
    machine.crash_before = "write"
    with pytest.raises(Crashed):
        machine.mount.open(path).write(5, [b"and more"])
    content = machine.boot().open(path).read(0, 100)
    assert b"wholeand more".startswith(content)
    assert content != b"wholeand more"


def test_a_full_disk_says_so(machine: Machine) -> None:
    path = machine.a_durable_file(b"12345678")
    machine.disk.capacity_bytes = 10
    with pytest.raises(OSError, match="no space left"):
        machine.mount.open(path).write(8, [b"123"])
    assert machine.mount.free_bytes() == 2


def test_names_are_listed_sorted_and_only_of_the_directory_asked(machine: Machine) -> None:
    machine.mount.make_directory(f"{ROOT}/b/c")
    machine.mount.open(f"{ROOT}/a", create=True)
    machine.mount.open(f"{ROOT}/b/d", create=True)
    assert machine.mount.list(ROOT) == ["a", "b"]
    with pytest.raises(FileNotFoundError):
        machine.mount.list(f"{ROOT}/z")


def test_a_broken_byte_fails_each_read_that_touches_it_until_it_is_written_again(machine: Machine) -> None:
    path = machine.a_durable_file(b"promised" * 2000)
    machine.disk.break_byte(path, 5000)
    file = machine.mount.open(path)
    assert file.read(0, 5000) + file.read(5001, 3) == b"promised" * 625 + b"rom"
    for position, size in ((0, 16_000), (5000, 1), (4990, 11)):
        with pytest.raises(OSError, match="input/output"):
            file.read(position, size)
    file.write(5000, [b"P"])
    assert file.read(4999, 3) == b"dPr"


def test_a_name_whose_directory_sync_failed_may_be_lost_and_the_next_sync_counts() -> None:
    kept = set()
    for seed in range(20):
        machine = Machine(seed)
        machine.mount.open(f"{ROOT}/file", create=True)
        machine.disk.directory_sync_failures = 1
        with pytest.raises(OSError, match="input/output"):
            machine.run(machine.mount.sync_directory(ROOT))
        if seed % 2:
            machine.run(machine.mount.sync_directory(ROOT))
        machine.disk.lose_power()
        kept.add((seed % 2, machine.boot().exists(f"{ROOT}/file")))
        machine.loop.close()
    assert kept == {(0, False), (0, True), (1, True)}


def test_a_write_that_fails_leaves_the_file_as_it_was(machine: Machine) -> None:
    path = machine.a_durable_file(b"promised")
    machine.disk.write_failures = 1
    file = machine.mount.open(path)
    with pytest.raises(OSError, match="input/output"):
        file.write(0, [b"lost"])
    assert file.read(0, 8) == b"promised"
    file.write(0, [b"PROM"])
    assert file.read(0, 8) == b"PROMised"


def test_a_sync_that_began_before_a_truncation_brings_nothing_back(machine: Machine) -> None:
    path = machine.a_durable_file(b"old")

    async def cut_while_a_sync_is_stuck() -> None:
        file = machine.mount.open(path)
        file.write(3, [b"er and longer"])
        stuck = machine.disk.files[path].begin_sync()
        file.truncate(0)
        await file.fdatasync()
        file.write(0, [b"new"])
        machine.disk.files[path].end_sync(stuck)
        await file.fdatasync()

    machine.run(cut_while_a_sync_is_stuck())
    assert machine.disk.is_synced(path, 0, 3)
    machine.disk.lose_power()
    assert machine.boot().open(path).read(0, 100) == b"new"


def test_a_file_that_vanishes_or_loses_its_end_stays_so(machine: Machine) -> None:
    path = machine.a_durable_file(b"0123456789")
    assert machine.disk.is_settled(path)
    machine.disk.shorten(path, 4)
    machine.disk.lose_power()
    assert machine.boot().open(path).read(0, 100) == b"0123"
    machine.disk.vanish(path)
    assert not machine.boot().exists(path)
    machine.disk.lose_power()
    assert not machine.boot().exists(path)
