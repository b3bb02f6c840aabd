"""A replica whose log goes on alone: nothing readable is lost, nothing unreadable destroyed, at any crash."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from random import Random
from typing import Any

import msgspec
import pytest
from lograft.partitions.environment import ReplicaConfig
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.storage.lineage import (
    FILE_NAME,
    SET_ASIDE_DIRECTORY,
    Begun,
    LineageNote,
    carry_out,
    read_note,
    set_replica_aside,
    write_note,
)
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.reset import note_reset

from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    LOG_DIRECTORY,
    ONE_SEGMENT,
    PAGE_BYTES,
    PARTITION,
    FakeDisk,
    FakeEnvironment,
    Halted,
    PowerCut,
    items_of,
    points_of,
    recovered,
)

OLD, HEIR = 2, Voter(1, "d", 7)
MANY = ("T1", 2, 2, 2, 2, "T3", 2, 2, 2, 2)


def a_note(**fields: Any) -> LineageNote:
    return LineageNote(
        **{"partition": PARTITION, "recovery": 1, "first_number": 7, "heir": HEIR, "term": 1_004} | fields
    )


async def an_old_replica(
    disk: FakeDisk, *shapes: Any, term: int = 3, config: ReplicaConfig = CONFIG
) -> tuple[FakeEnvironment, Promises, list[Point]]:
    """Listed under its old number, with marks and votes, its log on disk and closed."""
    env = FakeEnvironment(disk)
    promises = await Promises.open(env, DATA)
    log = await PartitionLog.create(env, DATA, PARTITION, (Voter(0, "c", 1), Voter(1, "d", OLD)), config)
    promises.note_created(PARTITION, OLD)
    promises.note_vote(PARTITION, term, Voter(0, "c", 1))
    for item in items_of(log.end, *(shapes or MANY)):
        log.append([item], 5)
    await log.sync()
    promises.raise_mark(PARTITION, log.end)
    await promises.sync(promises.note_word(PARTITION, Point(3, 40, 1)))
    points = points_of(log)
    log.close()
    return env, promises, points


def test_a_note_of_which_the_disk_does_not_say_whether_it_is_there_is_not_taken_for_none() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await an_old_replica(disk)
        await write_note(disk, DATA, a_note())
        disk.lookups_that_fail = {f"{LOG_DIRECTORY}/{FILE_NAME}"}
        with pytest.raises(OSError, match="input/output error"):
            read_note(disk, DATA, PARTITION)

    asyncio.run(scenario())


def test_the_log_goes_on_as_it_is_with_one_voter_in_a_term_beyond_all_that_were_promised() -> None:
    async def scenario(term: int) -> None:
        env, promises, points = await an_old_replica(FakeDisk(), term=term)
        await write_note(env.disk, DATA, a_note())
        begun = await carry_out(env, promises, DATA, a_note(), CONFIG)
        known = promises.recall(PARTITION)
        assert known is not None and (known.replica_number, known.word, known.doubtful) == (7, None, False)
        assert known.term == max(1_004, term + 1) and known.voted_for is None
        log, verdict = await recovered(env, known.mark, same_boot=True, config=CONFIG)
        assert verdict.damage is None and points_of(log)[:-2] == points and begun.kept == points[-1]
        assert log.voters == (HEIR,) and log.end == (known.term, points[-1].offset, 2)
        assert read_note(env.disk, DATA, PARTITION) is None

    asyncio.run(scenario(3))
    asyncio.run(scenario(5_000))


def test_a_copy_that_was_about_to_begin_goes_on_cleaned_as_far_as_the_log_that_it_is_a_copy_of() -> None:
    async def scenario() -> None:
        env, promises, points = await an_old_replica(FakeDisk())
        log, _ = await recovered(env, points[-1], same_boot=True, config=CONFIG)
        head = log.first_head()
        log.close()
        base = Point(3, 20, 1)
        cleaned = msgspec.structs.replace(head, base=base, start_offset=20, rewritten_to=19, cleaned_to=17)
        await promises.sync(promises.lower_mark(PARTITION, ORIGIN))
        await note_reset(env.disk, LOG_DIRECTORY, cleaned)
        begun = await begin(env, promises, a_note())
        known = promises.recall(PARTITION)
        assert begun.kept == base
        assert known is not None and (known.rewritten_to, known.cleaned_to) == (19, 17)

    asyncio.run(scenario())


def test_what_lies_at_and_past_a_hole_is_kept_aside_and_the_log_ends_before_it() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env, promises, points = await an_old_replica(disk)
        paths = sorted(path for path in disk.names if path.endswith(".log") and "/partitions/" in path)
        assert len(paths) >= 3
        before = {path: bytes(disk.names[path].cache) for path in paths}
        disk.flip(paths[1], 70)
        torn = bytes(disk.names[paths[1]].cache)
        begun = await begin(env, promises, a_note(damaged=True))
        assert begun.kept.offset == int(paths[1][-24:-4]) and begun.kept in points
        log, verdict = await recovered(env, log_mark(promises), same_boot=True, config=CONFIG)
        assert verdict.damage is None and points_of(log)[:-2] == [point for point in points if point <= begun.kept]
        kept = {
            path.rsplit("/", 1)[1]: bytes(inode.cache) for path, inode in disk.names.items() if "/recovered/" in path
        }
        for path in paths[2:]:
            assert kept[path.rsplit("/", 1)[1]] == before[path]
        assert kept[paths[1].rsplit("/", 1)[1] + ".from-0"] == torn

    asyncio.run(scenario())


def test_damage_that_a_read_met_in_a_closed_segment_before_the_mark_is_looked_for_in_the_whole_log() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env, promises, _ = await an_old_replica(disk)
        disk.flip(sorted(path for path in disk.names if path.endswith(".log") and "/partitions/" in path)[0], 200)
        note = a_note(damaged=True)
        await write_note(disk, DATA, note)
        begun = await carry_out(env, promises, DATA, note, CONFIG)
        assert begun.set_aside and begun.kept.offset < 8

    asyncio.run(scenario())


def test_of_what_the_disk_does_not_give_zeros_are_kept_aside_and_all_that_stands_beside_it() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env, promises, points = await an_old_replica(disk, "T1", *[1] * 250, config=ONE_SEGMENT)
        path = f"{LOG_DIRECTORY}/{0:020d}.log"
        before = bytes(disk.names[path].cache)
        assert len(before) > 4 * PAGE_BYTES
        disk.blocks_that_fail.add((path, 1))
        note = a_note(damaged=True)
        await write_note(disk, DATA, note)
        begun = await carry_out(env, promises, DATA, note, ONE_SEGMENT)
        assert begun.kept in points and begun.kept < points[-1] and "set_aside_with_zeros" in env.events
        [(name, kept)] = [(name, inode.cache) for name, inode in disk.names.items() if ".log.from-" in name]
        position = int(name.rpartition("-")[2])
        assert 0 < position < PAGE_BYTES
        assert before[:position] + kept == before[:PAGE_BYTES] + bytes(PAGE_BYTES) + before[2 * PAGE_BYTES :]

    asyncio.run(scenario())


@pytest.mark.parametrize("suffix", [".log", ".head"])
@pytest.mark.parametrize("at", range(3))
def test_a_segment_that_the_disk_does_not_give_keeps_no_recovery_from_being_carried_out(at: int, suffix: str) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env, promises, points = await an_old_replica(disk)
        paths = sorted(path for path in disk.names if path.endswith(suffix) and "/partitions/" in path)
        disk.blocks_that_fail.add((paths[at], 0))
        begun = await begin(env, promises, a_note(damaged=True))
        assert begun.kept in (ORIGIN, *points)
        disk.blocks_that_fail.clear()  # what stands there now was written anew
        log, verdict = await recovered(env, log_mark(promises), same_boot=True, config=CONFIG)
        assert verdict.damage is None and log.voters == (HEIR,)

    asyncio.run(scenario())


def test_a_log_of_which_not_even_the_beginning_can_be_read_begins_empty_and_its_files_are_kept() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env, promises, _ = await an_old_replica(disk)
        first = sorted(path for path in disk.names if path.endswith(".head"))[0]
        disk.flip(first, 20)
        await write_note(disk, DATA, a_note())
        begun = await carry_out(env, promises, DATA, a_note(), CONFIG)
        assert begun.kept == ORIGIN and begun.set_aside
        assert sum(path.endswith(".log") and "/recovered/" in path for path in disk.names) >= 3
        log, verdict = await recovered(env, log_mark(promises), same_boot=True, config=CONFIG)
        assert verdict.damage is None and log.voters == (HEIR,)

    asyncio.run(scenario())


async def begin(env: FakeEnvironment, promises: Promises, note: LineageNote) -> Begun:
    await write_note(env.disk, DATA, note)
    return await carry_out(env, promises, DATA, note, CONFIG)


async def is_done(work: Coroutine[Any, Any, Any]) -> bool:
    """False if it waits for what a crash elsewhere has ended."""
    task = asyncio.get_running_loop().create_task(work)
    for _ in range(1_000):
        await asyncio.sleep(0)
        if task.done():
            await task
            return True
    task.cancel()
    return False


def log_mark(promises: Promises) -> Point:
    known = promises.recall(PARTITION)
    assert known is not None
    return known.mark


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
@pytest.mark.parametrize("is_power_cut", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("seed", range(3))
def test_a_crash_at_any_write_leaves_the_old_identity_or_what_is_carried_on_to_the_same_end(
    damaged: bool, is_power_cut: bool, seed: int
) -> None:
    async def crash_at(operation: int) -> bool:
        disk = FakeDisk()
        env, promises, points = await an_old_replica(disk)
        paths = sorted(path for path in disk.names if path.endswith(".log") and "/partitions/" in path)
        if damaged:
            disk.flip(paths[1], 70)
            points = [point for point in points if point.offset <= int(paths[1][-24:-4])]
        held = {bytes(disk.names[path].cache) for path in (paths[1:] if damaged else paths)}
        chance = Random(f"{seed} {operation}")
        crashed = True
        disk.cut_power_at = disk.operations + operation
        with contextlib.suppress(PowerCut, Halted):
            crashed = not await is_done(begin(env, promises, a_note(damaged=damaged)))
        disk.cut_power_at = None
        if is_power_cut:
            disk.lose_power(lambda path, page: chance.random() < 0.5)
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        known = promises.recall(PARTITION)
        assert known is not None
        note = read_note(disk, DATA, PARTITION)
        if note is None and known.replica_number == OLD:
            assert crashed  # nothing of it happened: it is told of the decision again
            note = a_note(damaged=damaged)
            await write_note(disk, DATA, note)
        if note is not None:
            await carry_out(env, promises, DATA, note, CONFIG)
        known = promises.recall(PARTITION)
        assert known is not None and (known.replica_number, known.term, known.word) == (7, 1_004, None)
        log, verdict = await recovered(env, known.mark, same_boot=True, config=CONFIG)
        assert (verdict.damage, verdict.doubtful) == (None, False), f"operation {operation}"
        assert points_of(log)[:-2] == points and log.voters == (HEIR,), f"operation {operation}"
        if damaged:
            aside = {bytes(inode.cache) for path, inode in disk.names.items() if f"/{SET_ASIDE_DIRECTORY}/" in path}
            assert held <= aside, f"operation {operation}: bytes are gone"
        return crashed

    operation = 1
    while asyncio.run(crash_at(operation)):
        operation += 1
    assert operation > 15


def test_a_damaged_note_lets_nobody_act() -> None:
    async def scenario() -> None:
        env, _, _ = await an_old_replica(FakeDisk())
        await write_note(env.disk, DATA, a_note(heir=None))
        env.disk.flip(f"{LOG_DIRECTORY}/{FILE_NAME}", 9)
        with pytest.raises(OSError, match="damaged"):
            read_note(env.disk, DATA, PARTITION)

    asyncio.run(scenario())


def test_a_replica_that_is_over_is_moved_aside_whole_and_its_note_stays() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await an_old_replica(disk)
        note = a_note(heir=None)
        await write_note(disk, DATA, note)
        before = {name: bytes(disk.names[f"{LOG_DIRECTORY}/{name}"].cache) for name in disk.list(LOG_DIRECTORY)}
        where = await set_replica_aside(disk, DATA, note)
        assert disk.list(LOG_DIRECTORY) == [FILE_NAME]
        del before[FILE_NAME]
        assert {name: bytes(disk.names[f"{where}/{name}"].cache) for name in disk.list(where)} == before
        assert await set_replica_aside(disk, DATA, note) == where, "it can be told twice"

    asyncio.run(scenario())


def test_what_another_recovery_of_the_same_number_set_aside_stays_and_nothing_takes_its_place() -> None:
    """`__cluster` was recovered meanwhile, and the recovery is forgotten."""

    async def scenario() -> None:
        disk = FakeDisk()
        held: list[bytes] = []
        for shapes in (MANY, ("T1", 2, 2), ("T2", 3, 3, 3, 3, 3, 3)):
            await an_old_replica(disk, *shapes)
            held += [bytes(disk.names[f"{LOG_DIRECTORY}/{name}"].cache) for name in disk.list(LOG_DIRECTORY)]
            await set_replica_aside(disk, DATA, a_note(heir=None))
        aside = [bytes(inode.cache) for path, inode in disk.names.items() if f"/{SET_ASIDE_DIRECTORY}/" in path]
        assert {*held} <= {*aside}
        for name, at in (("torn", 70), ("torn elsewhere", 75)):
            env, promises, _ = await an_old_replica(disk)
            paths = [path for path in disk.names if path.endswith(".log") and "/partitions/" in path]
            disk.flip(sorted(paths)[1], at)
            held = [bytes(disk.names[path].cache) for path in sorted(paths)[1:]]
            await begin(env, promises, a_note(damaged=True))
            kept = [bytes(inode.cache) for path, inode in disk.names.items() if f"/{SET_ASIDE_DIRECTORY}/" in path]
            assert {*held} <= {*kept}, name

    asyncio.run(scenario())


def test_what_a_crash_left_half_moved_goes_on_to_the_same_directory() -> None:
    async def scenario(operation: int) -> bool:
        disk = FakeDisk()
        await an_old_replica(disk)
        names = disk.list(LOG_DIRECTORY)
        disk.cut_power_at = disk.operations + operation
        try:
            await set_replica_aside(disk, DATA, a_note(heir=None))
        except PowerCut:
            disk.cut_power_at = None
            where = await set_replica_aside(disk, DATA, a_note(heir=None))
            assert disk.list(where) == names and disk.list(f"{DATA}/{SET_ASIDE_DIRECTORY}") == [where.rsplit("/")[-1]]
            return True
        return False

    operation = 1
    while asyncio.run(scenario(operation)):
        operation += 1
    assert operation > 20


def test_a_disk_that_does_not_sync_costs_nothing_and_it_is_done_later() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env, promises, points = await an_old_replica(disk)
        disk.syncs_that_fail = lambda path: path.endswith(".log") and "/partitions/" in path
        with pytest.raises(OSError, match="unreadable again"):
            await begin(env, promises, a_note(damaged=True))
        disk.syncs_that_fail = lambda path: False
        await carry_out(env, promises, DATA, a_note(damaged=True), CONFIG)
        log, verdict = await recovered(env, log_mark(promises), same_boot=True, config=CONFIG)
        assert verdict.damage is None and points_of(log)[:-2] == points

    asyncio.run(scenario())
