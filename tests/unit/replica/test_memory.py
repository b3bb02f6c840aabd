"""What whole replicas promise where a copy counts once it is written: real disks, which take their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from lograft.partitions.raft.points import Point
from lograft.partitions.replica import Replica
from lograft.partitions.storage.segment import DamagedLog
from lograft.proto.record_batch import decode

from .test_losing_leadership import Deaf, a_record, until
from .test_reading_anew import last_segment, says
from .trio import PARTITION, Trio, a_batch, a_trio


def in_memory(trio: Trio) -> list[Replica]:
    replicas = list(trio.network.replicas.values())
    for replica in replicas:
        replica.set_durability("memory")
    return replicas


def never_flushes(replica: Replica) -> None:
    """From now on nothing that is written gets to its disk, as far as it knows."""
    replica._flusher.request = lambda log, done: None  # type: ignore[method-assign]


async def eventually(is_true: Callable[[], bool]) -> None:
    """What disks do in the background tells no observer."""
    async with asyncio.timeout(10):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def promised_boot(replica: Replica) -> str | None:
    known = replica._promises.recall(PARTITION)
    assert known is not None
    return known.memory_boot


def test_record_is_acknowledged_before_any_disk_has_it_and_the_answer_says_memory(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            assert (await leader.append(*a_batch(b"on disk"), None).committed).durability == "fsync"
            for replica in in_memory(trio):
                never_flushes(replica)
            appended = await leader.append(*a_batch(b"one", b"two"), None).committed
            assert (appended.base_offset, appended.durability, appended.copies >= 2) == (1, "memory", True)
            status = leader.status()
            assert status.persisted.offset == 1 and status.committed.offset == 3 and status.unsynced_bytes > 0

    asyncio.run(go())


def test_copy_counts_only_once_it_is_promised_that_memory_holds_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            in_memory(trio)
            never_flushes(leader)
            assert promised_boot(leader) is None
            appending = leader.append(*a_batch(b"one"), None)
            assert promised_boot(leader) == leader._environment.disk.boot_id
            assert not appending.committed.done() and not appending.persisted.done()
            await appending.committed
            assert leader._promises.synced >= (leader._copy._noted or 0) > 0
            assert leader.append(*a_batch(b"two"), None).persisted.done(), "acks=leader: it is written"

    asyncio.run(go())


def test_what_is_written_is_flushed_in_the_background_and_then_a_power_failure_costs_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            replicas = in_memory(trio)
            await leader.append(*a_batch(b"one"), None).committed
            await trio.watch.until(lambda: all(one.committed.offset == 1 for one in replicas))
            await eventually(lambda: all(one.status().persisted.offset == 1 for one in replicas))
            await eventually(lambda: all(one.synced.offset == 1 for one in leader._core.progress.values()))
            assert not any(one.unsynced_bytes for one in replicas)
            assert leader._core.committed_synced == leader._core.last
            for replica in replicas:
                replica._copy._maybe_take_back()
                assert promised_boot(replica) is None

    asyncio.run(go())


def test_topic_that_is_altered_to_fsync_acknowledges_only_what_is_on_disk_from_then_on(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            in_memory(trio)
            assert (await leader.append(*a_batch(b"one"), None).committed).durability == "memory"
            for replica in trio.network.replicas.values():
                replica.set_durability("fsync")
            appended = await leader.append(*a_batch(b"two"), None).committed
            assert appended.durability == "fsync" and leader._core.committed_synced.offset == 2
            await eventually(lambda: promised_boot(leader) is None)

    asyncio.run(go())


def test_topic_that_is_altered_to_memory_and_back_while_a_log_is_cut_counts_copies_once_they_are_synced(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica, first = deaf.replica, deaf.replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"kept"), a_record(first, 1, b"cut"))
            await deaf.has_persisted(Point(first, 2, 1))
            deaf.gate.clear()
            deaf.is_told(2, first + 1, Point(first, 1, 1), a_record(first + 1, 1, b"instead"))
            assert replica._cutting
            replica.set_durability("memory")
            replica.set_durability("fsync")
            deaf.gate.set()
            await until(lambda: not replica._cutting)
            assert replica.durability == "fsync" and not replica._core.counts_written

    asyncio.run(go())


def test_log_that_is_read_anew_is_not_flushed_meanwhile(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica, first = deaf.replica, deaf.replica.term + 1
            replica.set_durability("memory")
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"one"))
            await deaf.has_persisted(Point(first, 1, 1))
            says(deaf, 1, first, Point(first, 1, 1), Point(0, 0, 0), a_record(first, 1, b"two"))
            deaf.gate.clear()
            replica.note_unreadable(DamagedLog(str(last_segment(replica)), 0, "a test says so"))
            await until(lambda: replica._cutting)
            asked: list[object] = []
            replica._flusher.request = lambda log, done: asked.append(log)  # type: ignore[method-assign]
            replica.set_durability("fsync")
            await asyncio.sleep(2 * replica._config.memory_flush_ms / 1000)
            assert replica._cutting and not asked, "it was let go: its files are another's now"
            deaf.gate.set()
            await until(lambda: not replica.status().damaged)
            assert replica.log.end.offset == 2
            await eventually(lambda: promised_boot(replica) is None)

    asyncio.run(go())


def test_copy_waits_for_the_disk_where_too_much_is_unsynced(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            in_memory(trio)
            await leader.append(*a_batch(b"first"), None).committed
            never_flushes(leader)
            object.__setattr__(leader._config, "memory_unsynced_bytes_max", 1000)
            assert leader.append(*a_batch(b"fits"), None).committed.done()
            leader.append(*a_batch(bytes(1000)), None)
            assert not leader.append(*a_batch(b"has to wait"), None).committed.done()

    asyncio.run(go())


async def written_in_memory(root: Path) -> None:
    """A record is committed that no disk has, and the processes end as if killed."""
    async with a_trio(root) as trio:
        leader = await trio.leader()
        for replica in in_memory(trio):
            never_flushes(replica)
            replica._copy.sync_at_last = _nothing  # type: ignore[method-assign]
        await leader.append(*a_batch(b"kept"), None).committed


async def _nothing() -> None:
    """As when a process is killed."""


def test_killed_processes_keep_what_was_acknowledged_and_are_not_in_doubt(tmp_path: Path) -> None:
    async def go() -> None:
        await written_in_memory(tmp_path)
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            values = [record.value for batch in leader.read(0, 1 << 20).batches for record in decode(batch)]
            assert values == [b"kept"]
            assert not any(replica.status().doubtful for replica in trio.network.replicas.values())
            assert all(promised_boot(replica) is None for replica in trio.network.replicas.values())

    asyncio.run(go())


def test_replica_whose_machine_restarted_is_in_doubt_until_all_voters_are_there(tmp_path: Path) -> None:
    async def go() -> None:
        await written_in_memory(tmp_path)
        async with a_trio(tmp_path, boot_id="another boot") as trio:
            assert all(replica.status().doubtful for replica in trio.network.replicas.values())
            leader = await trio.leader()
            # All are there, and none holds more; it counts once the last of them has synced what it was sent.
            await eventually(lambda: not leader.status().doubtful and leader.committed.offset == 1)

    asyncio.run(go())


def test_machine_that_restarts_after_a_clean_stop_leaves_nobody_in_doubt(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            in_memory(trio)
            await leader.append(*a_batch(b"kept"), None).committed
        async with a_trio(tmp_path, boot_id="another boot") as trio:
            assert not any(replica.status().doubtful for replica in trio.network.replicas.values())
            assert (await trio.leader()).committed.offset == 1

    asyncio.run(go())
