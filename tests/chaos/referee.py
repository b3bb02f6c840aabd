"""After all faults have ended: does the cluster come back, is everything there, and do its replicas agree?"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lograft
from crc32c import crc32c
from lograft.client.check.history import Recorder
from lograft.client.offsets import OffsetLookup
from lograft.client.records import TopicPartition

from tests.bench.flips import items

from .cluster import ROOT
from .faults import Scene, restore_order
from .first_look import FirstLook

ANSWER_S_MAX = 10.0
"""After all brokers are ready, until every partition acknowledges again: a slow machine is no bug."""
WHOLE_S_MAX = 60.0
SILENCE_S_MAX = 20.0
"""Without an answer while nothing is wrong: longer than the clients' own patience."""
READ_S_MAX = 120.0


@dataclass
class Verdict:
    """What came of a run."""

    wrong: list[str] = field(default_factory=list)
    ready_s: float = 0.0
    answering_s: float = 0.0
    whole_s: float = 0.0
    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """That began, by the history: also those of scripts."""
    acknowledged: int = 0
    read: int = 0
    silence_s: float = 0.0
    idle: list[str] = field(default_factory=list)
    """What the clients tried and got done not once."""
    checker: str = ""
    """Its report."""


class Referee:
    """Of one run. `heal` and `await_answers` while clients still work; then `read_all`, `compare`, `judge`."""

    def __init__(self, scene: Scene, history: Recorder, directory: Path) -> None:
        self.verdict = Verdict()
        self._numbers = itertools.count()
        self._scene, self._cluster, self._history, self._directory = scene, scene.cluster, history, directory

    @property
    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(topic, n) for topic, count in self._scene.topics.items() for n in range(count)]

    async def heal(self) -> None:
        """Everybody runs, everybody hears everybody; then wait until the cluster answers by itself."""
        self._cluster.proxies.mend()
        for broker in self._cluster.brokers:
            broker.disk.relieve()
            broker.resume()
            if not broker.is_running:
                broker.start()
        began = time.monotonic()
        try:
            await self._cluster.await_ready()
        except TimeoutError as error:
            self.verdict.wrong.append(f"not back by itself: {error}")
            return
        self.verdict.ready_s = time.monotonic() - began
        await self._await_answers()

    async def _await_answers(self) -> None:
        began = time.monotonic()
        waiting = set(self._partitions)
        async with self._scene.client.producer() as producer:

            async def ask(partition: TopicPartition, number: int) -> None:
                value = f"probe.{partition.topic}.{partition.partition}.{number}"
                op = self._history.invoke(
                    f"probe-{partition.partition}",
                    "send",
                    topic=partition.topic,
                    partition=partition.partition,
                    producer="probe",
                    values=[value],
                )
                try:
                    told = await producer.send_and_wait(partition.topic, value.encode(), partition=partition.partition)
                except lograft.LograftError as error:
                    self._history.info(op, error=str(error)[:200])
                else:
                    self._history.ok(op, partition=told.partition, offsets=[told.offset], term=told.term)
                    waiting.discard(partition)

            for _ in range(3):
                await asyncio.gather(*(ask(partition, next(self._numbers)) for partition in list(waiting)))
        self.verdict.answering_s = time.monotonic() - began
        if waiting or self.verdict.answering_s > ANSWER_S_MAX:
            names = ", ".join(map(str, sorted(waiting))) or "all did in the end"
            self.verdict.wrong.append(
                f"no acknowledgement within {ANSWER_S_MAX:g} s after everything was healed and ready, but after "
                f"{self.verdict.answering_s:.1f} s (still without one: {names})"
            )

    async def await_whole(self) -> None:
        """Every replica votes and keeps up."""
        began = time.monotonic()
        await restore_order(self._scene)
        while failings := await self._scene.failings():
            if time.monotonic() - began > WHOLE_S_MAX:
                self.verdict.wrong.append(
                    f"not every replica is whole {WHOLE_S_MAX:g} s after everything was healed: {'; '.join(failings)}"
                )
                break
            await asyncio.sleep(0.2)
        self.verdict.whole_s = time.monotonic() - began

    async def read_all(self) -> dict[str, int]:
        """Every record of every partition, into the history. The committed ends."""
        ends: dict[str, int] = {}
        lookup = OffsetLookup(self._scene.client._connection, self._scene.client._metadata, timeout_s=20.0)
        for topic, number in self._partitions:
            name = f"{topic}/{number}"
            op = self._history.invoke("referee", "read_all", partition=name)
            values: list[tuple[int, str]] = []
            try:
                async with asyncio.timeout(READ_S_MAX):
                    (extent,) = (await lookup.extents([TopicPartition(topic, number)])).values()
                    async for record in self._scene.client.read(topic, partitions=[number]):
                        value = (record.value or b"").decode(errors="replace")
                        values.append((record.offset, value))  # a comprehension would lose them all
            except (lograft.LograftError, TimeoutError) as error:
                self._history.fail(op, error=str(error)[:200])
                self.verdict.wrong.append(f"{name} cannot be read: {error!r}")
                continue
            self._history.ok(op, partition=name, start=extent.start, end=extent.end, values=values)
            ends[name] = extent.end
        return ends

    async def compare(self, ends: dict[str, int]) -> None:
        """Stop all brokers, and note what each replica holds on its disk, batch by batch."""
        topics = {}
        try:
            topics = {topic.name: topic for topic in await self._scene.client.admin.list_topics()}
        except lograft.LograftError as error:
            self.verdict.wrong.append(f"the topics cannot be listed, so no replicas are compared: {error!r}")
        await asyncio.gather(*(asyncio.to_thread(broker.stop) for broker in self._cluster.brokers))
        for topic, number in self._partitions:
            name = f"{topic}/{number}"
            if topic not in topics or name not in ends:
                continue
            owed = {
                one.broker_id for part in topics[topic].partitions if part.number == number for one in part.replicas
            }
            for broker in self._cluster.brokers:
                directory = broker.data_directory / "partitions" / f"{topics[topic].topic_id}-{number}"
                if directory.is_dir() or broker.broker_id in owed:
                    self.note_replica(name, broker.broker_id, directory, ends[name])

    def note_replica(self, name: str, broker_id: int, directory: Path, committed: int) -> None:
        """What it holds. One that is empty, or not there, holds nothing and is noted as that."""
        sums: list[tuple[int, int]] = []
        for path in sorted(directory.glob("*.log")):
            content = path.read_bytes()
            read = 0
            for position, size in items(content):
                offset = int.from_bytes(content[position : position + 8], "big")
                sums.append((offset, crc32c(content[position : position + size])))
                read = position + size
            if read < len(content):
                self.verdict.wrong.append(f"{path}: unreadable from position {read} on, after a clean stop")
        by_offset: dict[int, int] = {}
        for offset, crc in sums:  # items without width stand at the offset of what follows them
            by_offset[offset] = crc32c(crc.to_bytes(4, "big"), by_offset.get(offset, 0))
        if not sums and committed:
            self.verdict.wrong.append(f"{directory} holds nothing, though {name} is committed to {committed}")
        op = self._history.invoke("referee", "replica", partition=name, broker=broker_id)
        # What follows the last item below the end may not be everywhere yet: nothing is compared there.
        below = [(offset, crc) for offset, crc in by_offset.items() if offset < committed]
        start = min(by_offset, default=0)
        self._history.ok(op, partition=name, broker=broker_id, start=start, committed=committed, sums=below)

    def _check_disks(self) -> None:
        """By `lograft check log`: every file by itself, and the replicas of each partition against each other."""
        done = lograft_command("check", "log", *(str(broker.data_directory) for broker in self._cluster.brokers))
        (self._directory / "disks.txt").write_text(done.stdout + done.stderr)
        if done.returncode and "no such command" not in done.stderr.lower():
            said = (done.stdout + done.stderr).strip().splitlines()[-1:]
            self.verdict.wrong.append(f"check log: {said}; see {self._directory / 'disks.txt'}")

    def judge(self, paths: list[Path]) -> Verdict:
        verdict = self.verdict
        look = FirstLook(paths)
        verdict.operations, verdict.acknowledged, verdict.read = look.operations, look.acknowledged, look.read
        verdict.faults = look.faults
        verdict.silence_s, verdict.idle = look.silence_s, look.idle
        verdict.wrong += [f"first look: {wrong}" for wrong in look.wrong[:20]]
        if len(look.wrong) > 20:
            verdict.wrong.append(f"first look: {len(look.wrong) - 20} more of the kind")
        self._look_at_logs()
        self._check_disks()
        done = lograft_command("check", "history", "--dead-after", str(SILENCE_S_MAX), *map(str, paths))
        verdict.checker = done.stdout + done.stderr
        (self._directory / "verdict.txt").write_text(verdict.checker)
        if done.returncode:
            said = verdict.checker.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            verdict.wrong.append(f"the checker: {said[0]}; see {self._directory / 'verdict.txt'}")
        return verdict

    def _look_at_logs(self) -> None:
        for broker in self._cluster.brokers:
            odd = [event for event in broker.events() if _is_odd(event)]
            if odd:
                shown = json.dumps(odd[0])[:400]
                self.verdict.wrong.append(f"{broker.name} logged {len(odd)} lines that no broker should: {shown}")


def lograft_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lograft.client.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def _is_odd(event: dict[str, Any]) -> bool:
    """A traceback, or something that the broker itself calls a mistake of ours."""
    raw = str(event.get("raw", ""))
    return raw.startswith("Traceback") or "a mistake came to light" in json.dumps(event) or "AssertionError" in raw
