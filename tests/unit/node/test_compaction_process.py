"""Compaction in a process of its own: a job goes there and an outcome comes back, or an error."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest
from lograft.node.compaction_process import CompactionProcess
from lograft.partitions.environment import PartitionId, ReplicaConfig
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.storage.compaction import CompactionSettings, CompactionState, plan_compaction
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.rewriting import Job, Rewritten
from lograft.partitions.storage.segment import DamagedLog
from lograft.proto.record_batch import decode

from tests.unit.storage.fakes import VOTERS
from tests.unit.storage.histories import History, random_history

PARTITION = PartitionId("c" * 32, 0)
SETTINGS = CompactionSettings(tombstones_ms=0, segment_bytes_max=4000, dirty_bytes_max=0)


async def a_log(root: Path, history: History) -> tuple[PartitionLog, Job]:
    environment = RealEnvironment(str(root))
    config = ReplicaConfig(segment_bytes_max=4000)
    log = await PartitionLog.create(environment, str(root), PARTITION, VOTERS, config)
    for item in history.items:
        log.append([item], 1)
    await log.sync()
    job = plan_compaction(
        log.directory, log.base, log.closed_segments(), log.end, CompactionState(0), SETTINGS, 1_000_000
    )
    assert job is not None
    return log, job


async def leave(_: Rewritten) -> None:
    return


def test_a_job_is_done_elsewhere_and_its_outcome_put_in_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        history = random_history(1, batches=300)
        log, job = await a_log(tmp_path, history)
        process = CompactionProcess(1 << 30)

        async def take(rewritten: Rewritten) -> None:
            assert await log.replace(rewritten)

        outcome = await process.work(job, take)
        assert outcome.records_dropped > 0
        again = await process.work(job_of(log), take)  # the same process
        await process.stop()
        assert again.records_dropped == 0
        newest = {}
        for batch in log.read_records(0, log.end.offset, 1 << 30):
            newest |= {record.key: record for record in decode(batch)}
        assert {key: one for key, one in newest.items() if key is not None and one.value is not None} == {
            key: one for key, one in history.newest().items() if one.value is not None
        }

    asyncio.run(scenario())


def job_of(log: PartitionLog) -> Job:
    job = plan_compaction(log.directory, log.base, log.closed_segments(), log.end, CompactionState(0), SETTINGS, 10**6)
    assert job is not None
    return job


def test_damage_met_there_is_told_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, job = await a_log(tmp_path, random_history(1, batches=100))
        file = log._env.disk.open(f"{log.directory}/{job.groups[1].base.offset:020d}.log")
        file.write(100, [bytes(20)])
        process = CompactionProcess(1 << 30)
        with pytest.raises(DamagedLog) as damage:
            await process.work(job, leave)
        await process.stop()
        assert damage.value.path == file.path

    asyncio.run(scenario())


def test_a_process_that_ends_is_an_error_and_the_next_job_gets_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, job = await a_log(tmp_path, random_history(1, batches=300))
        process = CompactionProcess(1 << 30)
        await process.start()
        assert process._process is not None
        process._process.kill()
        with pytest.raises(OSError):
            await process.work(job, leave)
        assert (await process.work(job, leave)).records_dropped > 0
        await process.stop()

    asyncio.run(scenario())


def test_who_stops_waiting_ends_the_process_and_what_it_wrote_is_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, job = await a_log(tmp_path, random_history(1, batches=300))
        process = CompactionProcess(1 << 30)
        await process.start()
        child = process._process
        assert child is not None
        working = asyncio.ensure_future(process.work(job, leave))
        await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert child.returncode is not None
        repairing = f"{7:020d}.head.new"
        for name in ("0.log.new", "7.log.0a1b2c3d.new", "7.index.0a1b2c3d.new", "7.head.new"):
            number, _, suffix = name.partition(".")
            log._env.disk.open(f"{log.directory}/{int(number):020d}.{suffix}", create=True).close()
        log.remove_rewritten()
        assert [name for name in log._env.disk.list(log.directory) if name.endswith(".new")] == [repairing]

    asyncio.run(scenario())


def pid_of(process: CompactionProcess) -> int:
    assert process._process is not None
    return process._process.pid


def test_a_process_that_hangs_is_ended_and_the_next_job_gets_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, job = await a_log(tmp_path, random_history(1, batches=300))
        process = CompactionProcess(1 << 30, silence_s=0.2)
        await process.start()
        os.kill(pid_of(process), signal.SIGSTOP)
        with pytest.raises(OSError, match=r"said nothing for 0\.2 s"):
            await process.work(job, leave)
        process = CompactionProcess(1 << 30)
        assert (await process.work(job, leave)).records_dropped > 0
        await process.stop()

    asyncio.run(scenario())


def test_whoever_cannot_take_a_segment_has_the_process_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, job = await a_log(tmp_path, random_history(1, batches=300))
        process = CompactionProcess(1 << 30)
        await process.start()
        child = process._process

        async def refuse(_: Rewritten) -> None:
            raise KeyError("in the way")

        with pytest.raises(KeyError):
            await process.work(job, refuse)
        assert child is not None and child.returncode is not None

    asyncio.run(scenario())


def test_a_process_that_outlives_its_broker_writes_into_nobody_elses_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, job = await a_log(tmp_path, random_history(1, batches=300))
        tokens = set()
        for _ in range(2):
            process = CompactionProcess(1 << 30)
            tokens |= {segment.token for segment in (await process.work(job, leave)).segments}
            await process.stop()
        assert len(tokens) == 2 and "" not in tokens

    asyncio.run(scenario())


def test_it_leaves_the_disk_its_reserve(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, job = await a_log(tmp_path, random_history(1, batches=300))
        process = CompactionProcess(1 << 30)
        with pytest.raises(OSError, match="bytes of disk are left"):
            await process.work(msgspec.structs.replace(job, free_bytes_min=1 << 60), leave)
        await process.stop()
        log.remove_rewritten()
        assert not [name for name in log._env.disk.list(log.directory) if name.endswith(".new")]

    asyncio.run(scenario())
