"""The processes of clients of one run, and the histories they leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from lograft.client.check.history import Recorder

from .cluster import ROOT

STOP_S_MAX = 40.0


class Worker:
    """One process; killed and started anew it is another one, with workloads of other names."""

    def __init__(self, name: str, works: list[dict[str, Any]], *, directory: Path, brokers: str, seed: int) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._works, self._directory, self._brokers, self._seed = works, directory, brokers, seed
        self._life = -1

    @property
    def processes(self) -> list[str]:
        """As they are called in the history."""
        return [str(work["name"]) for work in self._named()]

    def _named(self) -> list[dict[str, Any]]:
        return [
            {**work, "name": f"{work['name']}@{self._life}" if self._life else work["name"]} for work in self._works
        ]

    def start(self) -> None:
        self._life += 1
        path = self._directory / f"{self.name}-{self._life}.jsonl"
        with (self._directory / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.chaos.worker"),
                    *(str(path), self._brokers, str(self._seed + self._life), json.dumps(self._named())),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, "GRPC_VERBOSITY": "NONE"},
            )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self, history: Recorder) -> None:
        if self.process is None or not self.is_running:
            return
        self.process.kill()
        self.process.wait()
        for process in self.processes:
            history.note(process, "crash")

    async def stop(self) -> int:
        """Have it end what is under way. Its exit code."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(self.process.wait, STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return await asyncio.to_thread(self.process.wait)


class Workers:
    """All of them."""

    def __init__(self, directory: Path, brokers: str, chance: random.Random) -> None:
        self._directory, self._brokers, self._chance = directory, brokers, chance
        self.all: list[Worker] = []

    def add(self, name: str, *works: dict[str, Any]) -> Worker:
        seed = self._chance.randrange(1 << 30)
        worker = Worker(name, list(works), directory=self._directory, brokers=self._brokers, seed=seed)
        self.all.append(worker)
        return worker

    def start(self) -> None:
        for worker in self.all:
            worker.start()

    def ended_by_themselves(self) -> list[Worker]:
        return [worker for worker in self.all if worker.process is not None and not worker.is_running]

    async def stop(self) -> list[str]:
        """What went wrong while they stopped."""
        codes = await asyncio.gather(*(worker.stop() for worker in self.all))
        return [
            f"client process {worker.name} ended with code {code}; see {worker.name}.log"
            for worker, code in zip(self.all, codes, strict=True)
            if code
        ]

    def close(self) -> None:
        for worker in self.all:
            if worker.is_running:
                assert worker.process is not None
                worker.process.kill()
                worker.process.wait()
