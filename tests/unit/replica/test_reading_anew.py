"""A log that is read anew in a live process: what was known of it before, and what comes in meanwhile."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest
from lograft.partitions import repairer as repairer_module
from lograft.partitions.environment import File
from lograft.partitions.raft.events import HoleLost, LogCleaned, PeerHeard
from lograft.partitions.raft.messages import AppendRequest
from lograft.partitions.raft.points import Item, ItemKind, Point
from lograft.partitions.replica import Replica
from lograft.partitions.storage.segment import DamagedLog, Segment

from .test_losing_leadership import Deaf, a_record, until
from .trio import a_trio

MAGIC_BYTE = 16


class Failed(Exception):
    """The process would have ended."""


def mistakes_of(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    found: list[Exception] = []

    def fail(error: Exception) -> None:
        found.append(error)
        raise Failed from error

    monkeypatch.setattr(replica._environment, "fail", fail)
    return found


def last_segment(replica: Replica) -> Path:
    return Path(replica.log.stored_segments()[-1].path)


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 0x40]))


def says(deaf: Deaf, broker_id: int, term: int, prev: Point, committed: Point, *items: Item) -> None:
    sender = next(voter for voter in deaf.replica.voters if voter.broker_id == broker_id)
    end = items[-1].point if items else prev
    deaf.replica.receive(AppendRequest(sender, deaf.replica.voter, term, 1, end, prev, committed, items, 1))


def test_a_cut_that_meets_damage_commits_nothing_and_what_was_sent_after_it_ends_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            mistakes = mistakes_of(replica, monkeypatch)
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), *(a_record(first, at, b"old") for at in range(3)))
            await deaf.has_persisted(Point(first, 3, 1))
            says(deaf, 1, first, Point(first, 3, 1), Point(first, 1, 1))
            assert replica.committed == Point(first, 1, 1)
            flip(last_segment(replica), MAGIC_BYTE)
            new, start = first + 1, Point(first + 1, 2, 1)
            items = Item(start, ItemKind.TERM_START, b""), a_record(new, 2, b"new")
            says(deaf, 2, new, Point(first, 2, 1), Point(new, 3, 1), *items)
            says(deaf, 2, new, Point(new, 3, 1), Point(new, 3, 1), a_record(new, 3, b"newer"))
            await until(lambda: replica.log.hole is not None)
            assert not mistakes
            assert replica.status().damaged
            assert replica.status().word >= Point(first, 2, 1)
            assert replica._core._standing._committed_once <= Point(first, 1, 1)

    asyncio.run(go())


def test_damage_that_a_read_and_then_the_cut_itself_meet_ends_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica, mistakes = deaf.replica, mistakes_of(deaf.replica, monkeypatch)
            old = replica.term + 1
            deaf.is_told(1, old, Point(0, 0, 0), *(a_record(old, at, b"old") for at in range(3)))
            await deaf.has_persisted(Point(old, 3, 1))
            says(deaf, 1, old, Point(old, 3, 1), Point(old, 1, 1))
            path = last_segment(replica)
            flip(path, MAGIC_BYTE)
            deaf.gate.clear()
            start = Item(Point(old + 1, 2, 1), ItemKind.TERM_START, b"")
            says(deaf, 2, old + 1, Point(old, 2, 1), start.point, start)
            assert replica.is_log_in_flux
            replica.note_unreadable(DamagedLog(str(path), 0, "a read met it"))
            deaf.gate.set()
            await until(lambda: bool(mistakes) or replica.log.hole is not None)
            assert not mistakes and replica.is_damaged

    asyncio.run(go())


def test_a_disk_that_fails_while_a_log_is_read_anew_ends_the_process_and_leaves_no_replica_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            replica = await trio.leader()
            halts: list[str] = []

            def halt(reason: str) -> None:
                halts.append(reason)
                replica._stopped = True  # the process would have ended
                raise Failed(reason)

            def refuse(directory: str) -> list[str]:
                raise OSError(errno.EIO, "input/output error", directory)

            monkeypatch.setattr(replica._environment, "halt", halt)
            with monkeypatch.context() as patch:
                patch.setattr(replica._environment.disk, "list", refuse)
                replica.note_unreadable(DamagedLog(str(last_segment(replica)), 0, "a read met it"))
                await until(lambda: bool(halts))
            assert "anew" in halts[0] and "input/output" in halts[0]
            replica._cut_is_over.set()

    asyncio.run(go())


def test_the_word_covers_what_was_acknowledged_though_a_newer_promise_is_not_on_disk_yet(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"kept"))
            await deaf.has_persisted(Point(first, 1, 1))
            deaf.gate.clear()
            says(deaf, 1, first, Point(first, 1, 1), Point(0, 0, 0), a_record(first, 1, b"acknowledged"))
            replica._promised = replica._promises.note_doubt(replica.partition, False)
            await deaf.has_flushed(Point(first, 2, 1))
            assert replica.status().persisted < Point(first, 2, 1)
            replica.note_unreadable(DamagedLog(str(last_segment(replica)), 0, "a test says so"))
            assert replica.status().word == Point(first, 2, 1)
            deaf.gate.set()
            await until(lambda: not replica.status().damaged)

    asyncio.run(go())


def test_the_word_does_not_cover_what_never_was_on_disk_so_that_nobody_has_to_hold_it_before_it_votes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulation, seed 820495: the first item of a leader whose disk failed; the word had waited for it for good."""

    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"acknowledged"))
            await deaf.has_persisted(Point(first, 1, 1))
            monkeypatch.setattr(replica._flusher, "request", lambda log, done: None)
            says(deaf, 1, first, Point(first, 1, 1), Point(0, 0, 0), a_record(first, 1, b"only written"))
            assert replica.log.end == Point(first, 2, 1) and replica.status().persisted == Point(first, 1, 1)
            write_again, failed = Segment.write_again, []

            async def fail_once(segment: Segment, position: int) -> None:
                if not failed:
                    failed.append(position)
                    raise OSError(errno.EIO, "input/output error", segment.path)
                await write_again(segment, position)

            monkeypatch.setattr(Segment, "write_again", fail_once)
            replica.note_unreadable(DamagedLog(str(last_segment(replica)), 0, "a test says so"))
            await until(lambda: replica.log.hole is not None)
            assert failed and replica.status().damaged
            assert replica.status().word == Point(first, 1, 1)
            await until(lambda: not replica.status().damaged)

    asyncio.run(go())


def test_a_word_of_one_that_acknowledged_nothing_is_forgotten_once_the_log_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            monkeypatch.setattr(replica._flusher, "request", lambda log, done: None)
            deaf.is_told(1, replica.term + 1, Point(0, 0, 0), a_record(replica.term + 1, 0, b"only written"))
            replica.note_unreadable(DamagedLog(str(last_segment(replica)), 0, "a test says so"))
            assert replica.status().damaged
            await until(lambda: not replica.status().damaged)
            known = replica._promises.recall(replica.partition)
            assert known is not None and known.word is None, "all of the log would be read at each start"

    asyncio.run(go())


def test_the_word_is_on_disk_before_anything_is_cut_that_was_acknowledged_right_before_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"kept"))
            await deaf.has_persisted(Point(first, 1, 1))
            path = last_segment(replica)
            size = path.stat().st_size
            monkeypatch.setattr(replica._flusher, "request", lambda log, done: None)
            says(deaf, 1, first, Point(first, 1, 1), Point(0, 0, 0), a_record(first, 1, b"acknowledged"))
            await replica.log.sync()
            replica.note_unreadable(DamagedLog(str(path), 0, "a read met it"))
            replica.on_flushed(replica.log.ticket())  # in the same turn: the answer goes out
            with path.open("r+b") as file:  # how long its batch is decays: it seems to be cut short
                file.seek(size + 9)
                file.write(b"\x7f")
            words: list[Point | None] = []
            cut_right = Segment.cut

            async def cut(segment: Segment, position: int) -> None:
                known = replica._promises.recall(replica.partition)
                assert known is not None and replica._promises.synced >= replica._promised
                words.append(known.word)
                await cut_right(segment, position)

            monkeypatch.setattr(Segment, "cut", cut)
            await until(lambda: bool(words))
            assert words == [Point(first, 2, 1)]
            await until(lambda: not replica._cutting)

    asyncio.run(go())


def test_damage_that_is_met_while_a_lost_hole_is_cut_is_read_once_the_cut_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), *(a_record(first, at, b"old") for at in range(3)))
            await deaf.has_persisted(Point(first, 3, 1))
            path = last_segment(replica)
            flip(path, path.stat().st_size - 5)
            replica.note_unreadable(DamagedLog(str(path), 0, "a test says so"))
            await until(lambda: replica.log.hole is not None and not replica._cutting)
            is_lost: list[bool] = []

            async def fill(hole: Any) -> str:
                if not is_lost:
                    is_lost.append(True)
                    deaf.gate.clear()
                    assert replica.leader is not None
                    replica.hole_lost(HoleLost(replica.leader, replica.term))
                return "it is given up"

            monkeypatch.setattr(replica._repairer, "_fill", fill)
            await until(lambda: bool(is_lost) and replica._cutting)
            replica.note_unreadable(DamagedLog(str(path), 0, "a read met something else"))
            deaf.gate.set()
            await until(lambda: replica.log.hole is None and not replica._cutting)
            await until(lambda: not replica.status().damaged)

    asyncio.run(go())


def test_news_of_cleaning_that_comes_while_a_log_is_read_anew_ends_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            mistakes = mistakes_of(replica, monkeypatch)
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), *(a_record(first, at, b"old") for at in range(3)))
            await deaf.has_persisted(Point(first, 3, 1))
            says(deaf, 1, first, Point(first, 3, 1), Point(first, 3, 1))
            path = last_segment(replica)
            flip(path, MAGIC_BYTE)
            replica.note_unreadable(DamagedLog(str(path), 0, "a test says so"))
            await until(lambda: replica._cutting)
            replica.take(LogCleaned(2))
            await until(lambda: replica.log.hole is not None and not replica._cutting)
            assert not mistakes

    asyncio.run(go())


def test_what_lies_beyond_a_lost_hole_is_not_repaired_while_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            mistakes = mistakes_of(replica, monkeypatch)
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), *(a_record(first, at, b"old") for at in range(3)))
            await deaf.has_persisted(Point(first, 3, 1))
            path = last_segment(replica)
            flip(path, MAGIC_BYTE)
            replica.note_unreadable(DamagedLog(str(path), 0, "a test says so"))
            await until(lambda: replica.log.hole is not None and not replica._cutting)
            repairer: Any = replica._repairer
            tries: list[bool] = []
            right = repairer._fill

            async def fill(hole: Any) -> str:
                tries.append(replica.is_log_in_flux)
                if len(tries) == 1:
                    deaf.gate.clear()
                    leader = replica.leader
                    assert leader is not None
                    replica.hole_lost(HoleLost(leader, replica.term))
                    return "it is given up"
                return await right(hole)

            monkeypatch.setattr(repairer, "_fill", fill)
            await until(lambda: bool(tries))
            assert replica._cutting
            for _ in range(100):
                repairer.wake()
                await asyncio.sleep(0)
            deaf.gate.set()
            await until(lambda: replica.log.hole is None)
            assert tries == [False]
            assert not mistakes

    asyncio.run(go())


def test_a_hole_that_nobody_could_fill_is_tried_again_as_soon_as_a_peer_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            monkeypatch.setattr(repairer_module, "FIRST_RETRY_MS", 3_600_000.0)
            tries: list[Any] = []

            async def fill(hole: Any) -> str:
                tries.append(hole)
                return "nobody answers"

            monkeypatch.setattr(replica._repairer, "_fill", fill)
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"old"))
            await deaf.has_persisted(Point(first, 1, 1))
            path = last_segment(replica)
            flip(path, MAGIC_BYTE)
            replica.note_unreadable(DamagedLog(str(path), 0, "a test says so"))
            await until(lambda: len(tries) == 1)
            replica.take(PeerHeard(*replica.voters[0][:2]))
            await until(lambda: len(tries) == 2)

    asyncio.run(go())


def test_a_log_that_nobody_could_repair_is_whole_again_once_the_errors_of_its_disk_have_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may wait for it, while it waits for them."""

    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            replica = deaf.replica
            monkeypatch.setattr(repairer_module, "FIRST_RETRY_MS", 1.0)
            monkeypatch.setattr(repairer_module, "ANSWER_MS", 1.0)
            first = replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"old"))
            await deaf.has_persisted(Point(first, 1, 1))
            path, disk = last_segment(replica), replica._environment.disk
            give = disk.open

            def open_or_fail(opened: str, *, create: bool = False) -> File:
                if opened.endswith(".head"):
                    raise OSError(errno.EIO, "input/output error", opened)
                return give(opened, create=create)

            monkeypatch.setattr(disk, "open", open_or_fail)
            replica.note_unreadable(DamagedLog(str(path), 0, "a test says so"))
            await until(lambda: replica._repairer._counts.failed_tries > 3)
            assert replica.log.hole is not None and replica.log.hole.segment < 0
            monkeypatch.setattr(disk, "open", give)
            await until(lambda: not replica.is_damaged)
            assert replica.log.end == Point(first, 1, 1) and replica.status().repair == ""

    asyncio.run(go())
