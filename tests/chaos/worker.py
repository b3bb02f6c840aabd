"""A process of clients: `python -m tests.chaos.worker HISTORY BROKERS SEED '[{"kind": "produce", "name": ..., ...}]'`.

Ends on SIGTERM, once all that is under way has been answered. What it saw is in its history however it ends.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lograft
from lograft.client.check.history import Recorder

from .tools import die_with_parent
from .workloads import KINDS

CALL_TIMEOUT_S = 15.0


async def work(history: Recorder, brokers: str, seed: int, wanted: list[dict[str, Any]]) -> None:
    chance = random.Random(seed)
    while True:
        try:
            client = await lograft.Client(brokers, timeout=CALL_TIMEOUT_S).__aenter__()
            break
        except lograft.LograftError:
            await asyncio.sleep(0.3)
    workloads = []
    for facts in wanted:
        kind, name = facts.pop("kind"), facts.pop("name")
        workloads.append(KINDS[kind](name, client, history, random.Random(chance.random()), **facts))

    def stop() -> None:
        for workload in workloads:
            workload.stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    async with asyncio.TaskGroup() as group:
        for workload in workloads:
            group.create_task(workload.run(), name=workload.name)
    await client.close()


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us says when to stop
    path, brokers, seed, wanted = sys.argv[1:]
    with Path(path).open("w") as file:
        asyncio.run(work(Recorder(file, time.monotonic, idempotent=True), brokers, int(seed), json.loads(wanted)))


if __name__ == "__main__":
    main()
