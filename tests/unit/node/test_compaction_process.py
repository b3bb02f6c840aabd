"""Compaction in a process of its own: a job goes there and an outcome comes back, or an error."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from lograft.node.compaction_process import CompactionProcess
from lograft.partitions.environment import PartitionId, ReplicaConfig
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.storage.compaction import CompactionSettings, CompactionState, plan_compaction
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.rewriting import Job
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


def test_a_job_is_done_elsewhere_and_its_outcome_put_in_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        history = random_history(1, batches=300)
        log, job = await a_log(tmp_path, history)
        process = CompactionProcess(1 << 30)
        outcome = await process.work(job)
        assert outcome.records_dropped > 0
        for rewritten in outcome.segments:
            assert await log.replace(rewritten)
        again = await process.work(job_of(log))  # the same process
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
            await process.work(job)
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
            await process.work(job)
        assert (await process.work(job)).records_dropped > 0
        await process.stop()

    asyncio.run(scenario())


def test_who_stops_waiting_ends_the_process_and_what_it_wrote_is_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, job = await a_log(tmp_path, random_history(1, batches=300))
        process = CompactionProcess(1 << 30)
        await process.start()
        child = process._process
        assert child is not None
        working = asyncio.ensure_future(process.work(job))
        await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert child.returncode is not None
        left = log._env.disk.open(f"{log.directory}/{0:020d}.log.new", create=not log._env.disk.exists(_first_new(log)))
        left.close()
        log.remove_rewritten()
        assert not [name for name in log._env.disk.list(log.directory) if name.endswith(".new")]

    asyncio.run(scenario())


def _first_new(log: PartitionLog) -> str:
    return f"{log.directory}/{0:020d}.log.new"
