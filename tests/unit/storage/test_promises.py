"""The broker's word survives what a disk does to it, or is known to be lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.partitions.environment import PartitionId
from lograft.partitions.opening import open_log_and_core
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.replica_counts import ReplicaCounts
from lograft.partitions.storage import promise_frames
from lograft.partitions.storage import promises as promises_module
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.promise_frames import (
    BootFrame,
    CreatedFrame,
    DirectoryFrame,
    MarkFrame,
    encode_round,
    read_rounds,
)
from lograft.partitions.storage.promised import ReplicaPromises
from lograft.partitions.storage.promises import Promises
from lograft.proto.errors import NewerFormat

from tests.unit.storage.fakes import (
    DATA,
    ONE_SEGMENT,
    PARTITION,
    FakeDisk,
    FakeEnvironment,
    FakeFile,
    Halted,
    PowerCut,
    items_of,
    records,
    turns,
)

PATH = f"{DATA}/promises.log"
OTHER = PartitionId("0" * 31 + "b", 0)
CANDIDATE = Voter(2, "d2", 7)


async def opened(disk: FakeDisk, seed: int = 0) -> Promises:
    return await Promises.open(FakeEnvironment(disk, seed), DATA)


async def with_a_vote(disk: FakeDisk) -> Promises:
    promises = await opened(disk)
    promises.note_created(PARTITION, 4)
    await promises.sync(promises.note_vote(PARTITION, 5, CANDIDATE))
    return promises


def recalled(promises: Promises) -> ReplicaPromises:
    held = promises.recall(PARTITION)
    assert held is not None
    return held


def test_a_new_directory_has_an_identity_that_survives_a_power_cut() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        first = await opened(disk)
        assert not first.lost_word and not first.boot_changed and first.listed() == []
        disk.lose_power()
        assert (await opened(disk, seed=1)).directory_id == first.directory_id

    asyncio.run(scenario())


def test_another_boot_is_noticed_until_the_logs_have_been_read_under_it() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await opened(disk)
        assert not (await opened(disk)).boot_changed
        disk.lose_power()
        assert (await opened(disk)).boot_changed
        again = await opened(disk)
        assert again.boot_changed
        await again.settle_boot()
        assert again.boot_changed, "what is still opened by this process may have been torn"
        assert not (await opened(disk)).boot_changed
        disk.lose_power()
        assert (await opened(disk)).boot_changed

    asyncio.run(scenario())


def test_promises_written_anew_before_the_logs_are_read_do_not_settle_the_boot() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await with_a_vote(disk)
        disk.lose_power()
        disk.flip(PATH, 30)
        again = await opened(disk)
        again._rewrite_at_bytes = 0
        await again.sync(again.note_start_number(7))
        assert (await opened(disk)).boot_changed

    asyncio.run(scenario())


@pytest.mark.parametrize("starts_that_ended", [0, 1, 2])
def test_a_start_that_ends_before_the_logs_are_read_makes_no_doubt_of_what_a_power_failure_tore(
    starts_that_ended: int,
) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        me = Voter(1, promises.directory_id, 1)
        log = await PartitionLog.create(env, DATA, PARTITION, (me, CANDIDATE), ONE_SEGMENT)
        promises.note_created(PARTITION, 1)
        log.append(items_of(log.end, "T1", 1), 5)
        await log.sync()
        promises.note_vote(PARTITION, 1, me)
        promises.raise_mark(PARTITION, log.end)
        await promises.close()
        synced = log.end
        log.append([records(log.end, size=20_000)], 5)
        disk.lose_power(lambda path, page: page == 4 and path.endswith(".log"))
        for _ in range(starts_that_ended):
            await opened(disk)
        env = FakeEnvironment(disk)
        counts = ReplicaCounts()
        found = await open_log_and_core(env, await opened(disk), DATA, PARTITION, me, (), ONE_SEGMENT, counts)
        assert found.log.end == synced and not found.core.doubtful

    asyncio.run(scenario())


def test_what_was_synced_is_recalled_after_a_power_cut() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        promises.note_word(PARTITION, Point(4, 90, 2))
        promises.note_doubt(PARTITION, True)
        promises.note_memory_boot(PARTITION, "boot 1")
        promises.note_start_number(77)
        promises.note_created(OTHER, 1)
        promises.note_deleted(OTHER)
        await promises.sync(promises.note_cluster_set(b"set"))
        disk.lose_power()
        again = await opened(disk)
        assert recalled(again) == ReplicaPromises(4, 5, CANDIDATE, ORIGIN, Point(4, 90, 2), True, "boot 1")
        assert (again.cluster_set, again.start_number, again.listed()) == (b"set", 77, [PARTITION])

    asyncio.run(scenario())


def test_nobody_hears_of_a_vote_before_it_is_on_disk() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await opened(disk)
        promises.note_created(PARTITION, 1)
        number = promises.note_vote(PARTITION, 1, CANDIDATE)
        heard: list[int] = []
        promises.when_synced(number, lambda: heard.append(len(disk.names[PATH].synced)))
        before = len(disk.names[PATH].synced)
        assert promises.synced < number and not heard
        await turns()
        assert promises.synced >= number and heard and heard[0] > before

    asyncio.run(scenario())


def test_all_that_is_noted_in_one_turn_shares_one_sync() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await opened(disk)
        disk.history.clear()
        for number in range(100):
            promises.note_created(PartitionId("0" * 32, number), 1)
        await promises.sync(promises.note_vote(PartitionId("0" * 32, 3), 1, None))
        assert disk.history == ["sync promises.log"]

    asyncio.run(scenario())


@pytest.mark.parametrize("copy", [0, 1])
def test_one_readable_copy_of_the_last_round_is_enough_and_is_made_two_again(copy: int) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        last = len(disk.names[PATH].cache) - 2 * 4096
        disk.flip(PATH, last + copy * 4096 + 30)
        assert recalled(await opened(disk)).voted_for == CANDIDATE
        disk.flip(PATH, last + (1 - copy) * 4096 + 30)
        assert recalled(await opened(disk)).voted_for == CANDIDATE
        assert promises.directory_id == (await opened(disk)).directory_id

    asyncio.run(scenario())


def test_copies_stand_in_different_blocks_even_if_long() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await opened(disk)
        long = bytes(range(256)) * 100
        await promises.sync(promises.note_cluster_set(long))
        size = len(disk.names[PATH].cache)
        for block in range(size // 4096 - 14, size // 4096 - 7):
            disk.flip(PATH, block * 4096 + 100)
        assert (await opened(disk)).cluster_set == long

    asyncio.run(scenario())


def test_an_unreadable_end_was_never_answered_and_is_cut_before_anything_follows() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await with_a_vote(disk)
        size = len(disk.names[PATH].cache)
        promises = await opened(disk)
        await promises.sync(promises.note_vote(PARTITION, 6, None))
        disk.flip(PATH, size + 40)
        disk.flip(PATH, size + 4096 + 40)
        again = await opened(disk)
        assert not again.lost_word and recalled(again).term == 5
        assert len(disk.names[PATH].synced) == size

    asyncio.run(scenario())


def test_both_copies_unreadable_before_others_is_a_lost_word_and_another_identity() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        size = len(disk.names[PATH].cache)
        await promises.sync(promises.note_vote(PARTITION, 6, CANDIDATE))
        disk.flip(PATH, size - 4096 + 40)
        disk.flip(PATH, size - 8192 + 40)
        again = await opened(disk, seed=1)
        assert again.lost_word and again.listed() == [] and again.directory_id != promises.directory_id
        calm = await opened(disk, seed=2)
        assert not calm.lost_word and calm.directory_id == again.directory_id

    asyncio.run(scenario())


@pytest.mark.parametrize("copy", [0, 1])
def test_a_copy_that_the_disk_does_not_give_is_made_good_by_the_other(copy: int) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        count = len(disk.names[PATH].cache) // 4096
        disk.blocks_that_fail = {(PATH, block + copy) for block in range(0, count, 2)}
        again = await opened(disk, seed=1)
        assert recalled(again).voted_for == CANDIDATE and again.directory_id == promises.directory_id

    asyncio.run(scenario())


@pytest.mark.parametrize("rounds_before_the_end", [0, 1])
def test_a_broker_does_not_start_while_its_disk_gives_no_copy_of_a_promise(rounds_before_the_end: int) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        before = bytes(disk.names[PATH].cache)
        count = len(before) // 4096
        last = count - 2 * rounds_before_the_end
        disk.blocks_that_fail = {(PATH, last - 2), (PATH, last - 1)}
        with pytest.raises(OSError, match="cannot be read at"):
            await opened(disk, seed=1)
        assert bytes(disk.names[PATH].cache) == before
        disk.blocks_that_fail = set()
        again = await opened(disk, seed=2)
        assert again.directory_id == promises.directory_id and recalled(again).voted_for == CANDIDATE

    asyncio.run(scenario())


def test_a_missing_file_beside_partitions_is_a_lost_word_and_the_logs_are_set_aside() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await with_a_vote(disk)
        directory = f"{DATA}/partitions/{PARTITION}"
        disk.make_directory(directory)
        disk.open(f"{directory}/{0:020d}.log", create=True)
        disk.remove(PATH)
        again = await opened(disk, seed=1)
        assert again.lost_word and again.recall(PARTITION) is None
        assert disk.list(directory) == [f"{0:020d}.log.lost-{again.directory_id[:8]}"]

    asyncio.run(scenario())


def test_promises_of_which_the_disk_does_not_say_whether_they_are_there_are_not_lost() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        directory = f"{DATA}/partitions/{PARTITION}"
        disk.make_directory(directory)
        disk.open(f"{directory}/{0:020d}.log", create=True)
        disk.lookups_that_fail = {PATH}
        with pytest.raises(OSError, match="input/output error"):
            await opened(disk, seed=1)
        disk.lookups_that_fail = set()
        again = await opened(disk, seed=2)
        assert again.directory_id == promises.directory_id and recalled(again).voted_for == CANDIDATE
        assert disk.list(directory) == [f"{0:020d}.log"]

    asyncio.run(scenario())


def test_a_later_format_is_refused_and_left_alone() -> None:
    async def scenario() -> None:
        import struct

        import crc32c

        disk = FakeDisk()
        await with_a_vote(disk)
        content = bytearray(disk.names[PATH].cache)
        content[4] = 9
        content[24:28] = struct.pack(">I", crc32c.crc32c(bytes(content[:24])))
        disk.put(PATH, bytes(content))
        with pytest.raises(NewerFormat, match="format 9"):
            await opened(disk)
        assert disk.names[PATH].cache == content

    asyncio.run(scenario())


def test_a_raised_mark_goes_out_with_the_next_round_or_when_idle() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        promises.note_created(PARTITION, 1)
        await promises.sync(promises.note_created(OTHER, 1))
        promises.raise_mark(PARTITION, Point(1, 10, 1))
        assert recalled(await opened(disk)).mark == ORIGIN
        await promises.sync(promises.note_vote(OTHER, 1, None))
        assert recalled(await opened(disk)).mark == Point(1, 10, 1)
        promises.raise_mark(PARTITION, Point(1, 20, 1))
        env.run_timers()
        await turns()
        assert recalled(await opened(disk)).mark == Point(1, 20, 1)

    asyncio.run(scenario())


def test_a_clean_stop_flushes_the_marks() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        promises.raise_mark(PARTITION, Point(1, 10, 1))
        await promises.close()
        disk.lose_power()
        assert recalled(await opened(disk)).mark == Point(1, 10, 1)

    asyncio.run(scenario())


def test_a_lowered_mark_overrides_a_raise_that_waits_and_one_that_comes_from_before_the_cut() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        promises.raise_mark(PARTITION, Point(3, 50, 1))
        number = promises.lower_mark(PARTITION, Point(2, 20, 1))
        promises.raise_mark(PARTITION, Point(3, 60, 1))
        await promises.sync(number)
        await promises.close()
        disk.lose_power()
        assert recalled(await opened(disk)).mark == Point(2, 20, 1)

    asyncio.run(scenario())


def test_lowering_never_raises_a_mark_that_lags() -> None:
    async def scenario() -> None:
        promises = await with_a_vote(FakeDisk())
        await promises.sync(promises.lower_mark(PARTITION, Point(2, 20, 1)))
        assert recalled(promises).mark == ORIGIN

    asyncio.run(scenario())


def test_a_raise_in_flight_while_the_mark_is_lowered_does_not_outlive_the_lowering() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        promises.raise_mark(PARTITION, Point(3, 50, 1))
        promises.note_start_number(2)  # its round takes the raise along
        await turns(2)
        await promises.sync(promises.lower_mark(PARTITION, Point(2, 20, 1)))
        disk.lose_power()
        assert recalled(await opened(disk)).mark == Point(2, 20, 1)

    asyncio.run(scenario())


def test_a_long_file_is_rewritten_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises_module, "REWRITE_BYTES", 40_000)

    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        promises._rewrite_at_bytes = 40_000
        for term in range(6, 40):
            await promises.sync(promises.note_vote(PARTITION, term, CANDIDATE))
        assert len(disk.names[PATH].cache) <= 48_000
        disk.lose_power()
        assert recalled(await opened(disk)).term == 39

    asyncio.run(scenario())


def test_a_failed_sync_ends_the_process() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        disk.syncs_that_fail = lambda path: True
        number = promises.note_created(PARTITION, 1)
        await turns()
        assert env.halted is not None and promises.synced < number

    asyncio.run(scenario())


_STEPS = st.lists(
    st.tuples(st.sampled_from(["vote", "raise", "lower", "word", "doubt", "rewrite"]), st.integers(0, 30)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(_STEPS, st.integers(1, 120), st.randoms(use_true_random=False))
def test_whatever_was_synced_is_recalled_wherever_the_power_is_cut(
    steps: list[tuple[str, int]], cut_at: int, chance: Any
) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        await promises.sync(promises.note_created(PARTITION, 1))
        states = [(promises.synced, recalled(promises))]
        disk.cut_power_at = disk.operations + cut_at
        try:
            for kind, number in steps:
                point = Point(1, number, 1)
                match kind:
                    case "vote":
                        noted = promises.note_vote(PARTITION, recalled(promises).term + 1, CANDIDATE)
                    case "word":
                        noted = promises.note_word(PARTITION, point)
                    case "doubt":
                        noted = promises.note_doubt(PARTITION, bool(number % 2))
                    case "lower":
                        noted = promises.lower_mark(PARTITION, point)
                    case "raise":
                        promises.raise_mark(PARTITION, point)
                        continue
                    case _:
                        promises._rewrite_at_bytes = 0
                        continue
                states.append((noted, recalled(promises)))
                if number % 3:
                    await turns()
        except (PowerCut, Halted):
            pass
        await turns()
        synced = promises.synced
        disk.lose_power(lambda path, page: chance.random() < 0.6)
        again = await opened(disk, seed=1)
        assert not again.lost_word and again.directory_id == promises.directory_id
        held = recalled(again)
        possible = [state for noted, state in states if noted >= synced] or [states[-1][1]]
        least = [state for noted, state in states if noted <= synced][-1]
        assert held.term >= least.term and held.voted_for == (CANDIDATE if held.term else None)
        assert any(
            (state.term, state.word, state.doubtful) == (held.term, held.word, held.doubtful)
            for state in [least, *possible]
        )

    asyncio.run(scenario())


_LISTINGS = st.lists(
    st.tuples(
        st.sampled_from(["create", "delete", "vote", "raise", "lower", "compacted", "rewrite", "scrub", "go on"]),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(_LISTINGS, st.integers(1, 150), st.randoms(use_true_random=False))
def test_nothing_is_ever_on_disk_that_promises_for_a_replica_that_is_not_listed(
    steps: list[tuple[str, int]], cut_at: int, chance: Any
) -> None:
    """A file that did would be taken for damaged, and its broker for a wiped one."""

    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        disk.cut_power_at = disk.operations + cut_at

        async def scrub() -> None:
            file = disk.names[PATH]
            if not promises._is_writing:
                file.cache[chance.randrange(len(file.cache))] ^= 1
            await promises.scrub()

        try:
            for kind, number in steps:
                partition, point = (PARTITION, OTHER)[number % 2], Point(1, number, 1)
                listed = promises.recall(partition) is not None
                match kind:
                    case "create":
                        promises.note_created(partition, number)
                    case "delete":
                        promises.note_deleted(partition)
                    case "vote" if listed:
                        promises.note_vote(partition, number, CANDIDATE)
                    case "raise":
                        promises.raise_mark(partition, point)
                    case "lower" if listed:
                        promises.lower_mark(partition, point)
                    case "compacted" if listed:
                        promises.note_compacted(partition, rewritten_to=number, cleaned_to=0)
                    case "rewrite":
                        promises._rewrite_at_bytes = 0
                    case "scrub":
                        env.spawn(scrub())
                    case "go on":
                        await turns(number)
                        env.run_timers()
        except (PowerCut, Halted):
            pass
        await turns()
        disk.lose_power(lambda path, page: chance.random() < 0.6)
        assert read_rounds(bytes(disk.names[PATH].cache)).lost is None

    asyncio.run(scenario())


def test_a_scrub_writes_promises_anew_of_which_a_copy_has_decayed() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await Promises.open(FakeEnvironment(disk), DATA)
        await promises.sync(promises.note_created(PARTITION, 1))
        assert not await promises.scrub()
        disk.flip(f"{DATA}/promises.log", 40)
        assert await promises.scrub()
        reading = read_rounds(bytes(disk.names[f"{DATA}/promises.log"].synced))
        assert reading.lost is None
        assert all(found.whole for found in reading.rounds)
        await promises.sync(promises.note_vote(PARTITION, 3, None))
        await promises.close()
        again = await Promises.open(FakeEnvironment(disk), DATA)
        held = again.recall(PARTITION)
        assert held is not None
        assert held.term == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("after_turns", range(9))
def test_a_scrub_that_is_cancelled_while_promises_are_written_anew_holds_up_nothing(after_turns: int) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await with_a_vote(disk)
        disk.flip(PATH, 40)
        scrubbing = asyncio.get_running_loop().create_task(promises.scrub())
        await turns(after_turns)
        scrubbing.cancel()
        await asyncio.gather(scrubbing, return_exceptions=True)
        promises.note_vote(PARTITION, 6, CANDIDATE)
        async with asyncio.timeout(5):
            await promises.close()
        disk.lose_power()
        reading = read_rounds(bytes(disk.names[PATH].synced))
        assert all(found.whole for found in reading.rounds) == (after_turns > 0)
        assert recalled(await opened(disk)).term == 6

    asyncio.run(scenario())


def test_a_mark_that_is_raised_while_a_scrub_writes_promises_anew_goes_out_too() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        await promises.sync(promises.note_created(PARTITION, 1))
        disk.flip(PATH, 40)
        reached, gate, sync = asyncio.Event(), asyncio.Event(), FakeFile.fdatasync

        async def slowly(file: FakeFile) -> None:
            reached.set()
            await gate.wait()
            await sync(file)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeFile, "fdatasync", slowly)
            scrubbing = asyncio.get_running_loop().create_task(promises.scrub())
            await reached.wait()
            promises.raise_mark(PARTITION, Point(1, 10, 1))
            gate.set()
            assert await scrubbing
        await turns()
        env.run_timers()
        await turns()
        disk.lose_power()
        assert recalled(await opened(disk)).mark == Point(1, 10, 1)

    asyncio.run(scenario())


def test_promises_that_only_a_mistake_can_have_written_are_refused_and_left_as_they_are() -> None:
    """Begun anew as other brokers, all that made the same mistake would forget their word together."""

    async def scenario() -> None:
        disk = FakeDisk()
        await with_a_vote(disk)
        file = disk.open(PATH)
        written = read_rounds(file.read(0, file.size()))
        unlisted = encode_round(len(written.rounds), [MarkFrame(OTHER, Point(5, 1, 1))])
        file.write(written.end_position, unlisted)
        file.close()
        before = bytes(disk.names[PATH].cache)
        with pytest.raises(OSError, match="not listed; that is a mistake of lograft's"):
            await opened(disk)
        assert bytes(disk.names[PATH].cache) == before

    asyncio.run(scenario())


@pytest.mark.parametrize("is_rewritten", [False, True])
def test_that_a_replica_was_once_here_outlives_it(is_rewritten: bool) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await opened(disk)
        assert promises.never_held(PARTITION) and promises.never_held(OTHER)
        promises.note_created(PARTITION, 1)
        assert not promises.never_held(PARTITION)
        number = promises.note_deleted(PARTITION)
        assert not promises.never_held(PARTITION)
        await promises.sync(number)
        if is_rewritten:
            promises._rewrite_at_bytes = 0
            await promises.sync(promises.note_start_number(1))
            assert len(disk.names[PATH].cache) == 2 * 4096
        disk.lose_power()
        again = await opened(disk)
        assert again.listed() == [] and again.departed == {PARTITION}
        assert not again.never_held(PARTITION) and again.never_held(OTHER)

    asyncio.run(scenario())


def test_that_a_replica_was_once_here_is_forgotten_for_good_once_the_file_is_rewritten() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        promises = await opened(disk)
        promises.note_created(PARTITION, 1)
        await promises.sync(promises.note_deleted(PARTITION))
        promises.forget_departed(PARTITION)
        assert promises.departed == set()
        assert (await opened(disk)).departed == {PARTITION}
        promises._rewrite_at_bytes = 0
        await promises.sync(promises.note_start_number(1))
        assert (await opened(disk)).departed == set()

    asyncio.run(scenario())


@pytest.mark.parametrize("is_rewritten", [False, True])
def test_what_a_directory_of_an_older_version_held_before_is_not_known(is_rewritten: bool) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        disk.make_directory(DATA)
        disk.open(PATH, create=True).write(0, encode_round(0, [DirectoryFrame("d1")]))
        promises = await opened(disk)
        if is_rewritten:
            promises._rewrite_at_bytes = 0
            await promises.sync(promises.note_start_number(1))
            promises = await opened(disk)
        assert promises.directory_id == "d1" and not promises.never_held(PARTITION)

    asyncio.run(scenario())


class OlderDirectoryFrame(msgspec.Struct, frozen=True, array_like=True, tag=1):
    directory_id: str


def as_written_before(boot_bytes: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[bytes], list[bytes]]:
    """The first round as an older version wrote it, and as this one does."""
    older = msgspec.msgpack.Encoder().encode
    frames = [DirectoryFrame("d1"), BootFrame("b" * boot_bytes), CreatedFrame(PARTITION, 1)]
    with monkeypatch.context() as patch:
        patch.setattr(promise_frames, "_encode", lambda frames: older([OlderDirectoryFrame("d1"), *frames[1:]]))
        before = encode_round(0, frames)
    return before, encode_round(0, frames)


@pytest.mark.parametrize("cut_at", range(12))
def test_a_round_of_an_older_version_is_never_torn_in_both_copies_by_writing_it_again(
    cut_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, now = as_written_before(5_000, monkeypatch)
    assert [*map(len, before)] == [*map(len, now)] == [8192, 8192] and before != now

    async def scenario() -> None:
        disk = FakeDisk()
        await opened(disk)
        disk.put(PATH, b"".join(before))
        disk.cut_power_at = disk.operations + cut_at
        with suppress(PowerCut, Halted):
            await opened(disk)
        disk.lose_power(lambda path, page: page in (-1, 0, 3))
        again = await opened(disk)
        assert not again.lost_word and again.listed() == [PARTITION]

    asyncio.run(scenario())


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_round_of_an_older_version_that_takes_more_room_now_is_not_written_over_by_what_follows(
    rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        sizes = (as_written_before(boot_bytes, monkeypatch) for boot_bytes in range(3_900, 4_100))
        before = next(before for before, now in sizes if len(before[0]) < len(now[0]))
        disk = FakeDisk()
        disk.make_directory(DATA)
        disk.open(PATH, create=True).write(0, before)
        promises = await opened(disk)
        for term in range(1, 1 + rounds):
            await promises.sync(promises.note_vote(PARTITION, term, CANDIDATE))
        again = await opened(disk)
        assert not again.lost_word and again.directory_id == "d1" and recalled(again).term == rounds

    asyncio.run(scenario())
