"""One run: a cluster, clients that work, trouble, and a verdict.

disks and brokers come up -> topics -> clients begin -> the nemesis troubles them -> all is healed -> the cluster
answers, by itself -> clients end what is under way -> all is read back -> brokers stop, replicas are compared ->
the checker judges the histories
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import lograft
from lograft.client.check.history import Recorder

from . import disks, faults
from .cluster import ROOT, SETTINGS, Cluster
from .faults import Fault, Scene
from .nemesis import SCRUBBED_S, Nemesis
from .referee import Referee, Verdict
from .workers import Workers

RESULTS = ROOT / ".chaos"
CALL_TIMEOUT_S = 15.0
SHOWN_LINES_MAX = 30
KEPT_RUNS_MAX = 30


@dataclass(frozen=True)
class Plan:
    """What a run is made of."""

    name: str
    seed: int
    seconds: float = 180.0
    brokers: int = 3
    faults: Sequence[type[Fault]] = faults.ALL
    disk: disks.Kind | None = None
    """None: the best that can be had here."""
    topics: dict[str, int] = field(default_factory=lambda: {"t": 4})
    producers: int = 3
    per_s: float = 12.0
    """Sends of each producer."""
    members: int = 3
    """Of a group, each in a process of its own."""
    hires: bool = True
    """False: no clients but those of the script."""
    settings: str = SETTINGS
    bug: str = ""
    script: Callable[[Scene, Referee], Awaitable[None]] | None = None
    """Instead of what a nemesis would draw."""
    again: str = ""
    """What to say to `make chaos` for the same once more; empty: it follows from the rest."""


def tell(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


@asynccontextmanager
async def a_cluster(plan: Plan, chance: random.Random, directory: Path) -> AsyncIterator[Cluster]:
    """Brokers on disks of their own, up and ready; all gone again afterwards, whatever happened."""
    kind = plan.disk or disks.best_kind()
    mounted = [disks.Disk(directory, f"b{number}", kind) for number in range(plan.brokers)]
    cluster = None
    try:
        for disk in mounted:
            await asyncio.to_thread(disk.mount)
        cluster = Cluster(directory, mounted, chance, settings=plan.settings)
        for broker in cluster.brokers:
            broker.bug = plan.bug
        await cluster.start()
        yield cluster
    finally:
        if cluster is not None:
            await cluster.close()
        for disk in mounted:
            await disk.unmount()


@asynccontextmanager
async def a_directory(plan: Plan) -> AsyncIterator[tuple[Path, Path]]:
    """Where brokers live while it lasts, and where what they leave behind is kept."""
    kept = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{plan.name}-{plan.seed}-{os.getpid()}"
    kept.mkdir(parents=True)
    forget_old_runs()
    with tempfile.TemporaryDirectory(prefix="lograft-chaos-", ignore_cleanup_errors=True) as temporary:
        try:
            yield Path(temporary), kept
        finally:
            keep(Path(temporary), kept)


def keep(directory: Path, kept: Path) -> None:
    """Histories, logs and configurations."""
    for path in directory.iterdir():
        if path.is_file() and path.suffix in (".log", ".jsonl", ".toml"):
            shutil.copy(path, kept)


def keep_data(cluster: Cluster, kept: Path) -> None:
    """What stands on the disks."""
    for broker in cluster.brokers:
        if broker.data_directory.is_dir():
            shutil.copytree(broker.data_directory, kept / f"{broker.name}.data", dirs_exist_ok=True)


def forget_old_runs() -> None:
    for path in sorted(RESULTS.iterdir())[:-KEPT_RUNS_MAX]:
        shutil.rmtree(path, ignore_errors=True)


async def a_client(cluster: Cluster) -> lograft.Client:
    return await lograft.Client(cluster.addresses, timeout=CALL_TIMEOUT_S, client_id="referee").__aenter__()


def hire(workers: Workers, plan: Plan) -> list[str]:
    """The clients of a mixed run. Names of the processes that may be killed."""
    (topic, partitions), *_ = plan.topics.items()
    workers.add(
        "producers",
        *(
            {"kind": "produce", "name": f"p{n}", "topic": topic, "partitions": partitions, "per_s": plan.per_s}
            for n in range(plan.producers)
        ),
    )
    workers.add(
        "readers",
        {"kind": "follow", "name": "follower", "topic": topic, "partitions": partitions},
        {"kind": "follow", "name": "seeker", "topic": topic, "partitions": partitions, "seeks": True},
        {"kind": "ends", "name": "ends", "topic": topic, "partitions": partitions},
        {"kind": "topics", "name": "maker"},
    )
    members = [f"member-{n}" for n in range(plan.members)]
    for member in members:
        workers.add(member, {"kind": "belong", "name": member, "topics": [topic], "group": "g"})
    return members


async def run(plan: Plan) -> Verdict:
    """A mixed run. What it found is printed, and kept below RESULTS."""
    chance = random.Random(plan.seed)
    async with a_directory(plan) as (directory, kept), a_cluster(plan, chance, directory) as cluster:
        with (directory / "referee.jsonl").open("w") as file:
            history = Recorder(file, time.monotonic, brokers=plan.brokers)
            client = await a_client(cluster)
            workers = Workers(directory, cluster.addresses, chance)
            try:
                for topic, partitions in plan.topics.items():
                    await client.admin.create_topic(topic, partitions=partitions, replication=min(3, plan.brokers))
                scene = Scene(cluster, workers, client, chance, plan.topics, history)
                members = hire(workers, plan) if plan.hires else []
                scene.members = [worker for worker in workers.all if worker.name in members]
                workers.start()
                tell(f"{plan.name}: {plan.brokers} brokers on {cluster.brokers[0].disk.kind} disks, seed {plan.seed}")
                nemesis = Nemesis(scene, plan.faults, random.Random(chance.random()), tell)
                referee = Referee(scene, history, kept)
                if plan.script is not None:
                    await plan.script(scene, referee)
                else:
                    await nemesis.run(plan.seconds)
                await end(referee, nemesis, workers)
            finally:
                workers.close()
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(5.0):
                        await client.close()
        verdict = await asyncio.to_thread(referee.judge, sorted(directory.glob("*.jsonl")))
        if plan.hires and verdict.idle:
            verdict.wrong.append(f"the clients got nothing done of: {', '.join(verdict.idle)}; the run shows nothing")
        if verdict.wrong:
            await asyncio.to_thread(keep_data, cluster, kept)
    report(plan, nemesis, verdict, kept)
    return verdict


async def end(referee: Referee, nemesis: Nemesis, workers: Workers) -> None:
    """Heal, and read all back. A cluster that does not come back is not asked for more."""
    if not referee.verdict.wrong:
        tell("healed; waiting until the cluster answers")
        await referee.heal()
    is_back = not referee.verdict.wrong
    if is_back:
        if nemesis.is_hurt:
            await asyncio.sleep(SCRUBBED_S)
        await referee.await_whole()
    referee.verdict.wrong += nemesis.mistakes
    referee.verdict.wrong += await workers.stop()
    if is_back:
        await referee.compare(await referee.read_all())


def report(plan: Plan, nemesis: Nemesis, verdict: Verdict, kept: Path) -> None:
    begun = ", ".join(f"{name} {count}" for name, count in sorted((nemesis.begun or verdict.faults).items()))
    print(f"\nfaults        {begun or 'none'}")
    if nemesis.passed_over:
        print("passed over   " + ", ".join(f"{name} {count}" for name, count in sorted(nemesis.passed_over.items())))
    for name, why in nemesis.left_out.items():
        print(f"left out      {name}: {why}")
    print("operations    " + ", ".join(f"{name} {count}" for name, count in sorted(verdict.operations.items())))
    print(
        f"records       {verdict.acknowledged} acknowledged, {verdict.read} read back; longest time without an "
        f"acknowledgement {verdict.silence_s:.1f} s"
    )
    print(
        f"healed        ready after {verdict.ready_s:.1f} s, acknowledging {verdict.answering_s:.1f} s later, whole "
        f"{verdict.whole_s:.1f} s later; {nemesis.revived} brokers had ended themselves, as they should"
    )
    said = verdict.checker.strip().splitlines()
    shown = (
        [line for line in said if "FAIL" in line or line.startswith(("  ", "ok:", "longest"))]
        if verdict.wrong
        else said[-1:]
    )
    for line in shown[:SHOWN_LINES_MAX]:
        print(f"checker       {line[:200]}")
    for wrong in verdict.wrong:
        print(f"WRONG         {wrong}")
    print(f"kept          {kept}")
    again = (
        plan.again
        or f"make chaos MIX={plan.name} MINUTES={plan.seconds / 60:g} SEED={plan.seed} BROKERS={plan.brokers}"
    )
    print(f"{'FAILED' if verdict.wrong else 'passed'}        seed {plan.seed}; once more: {again}", flush=True)
