"""How long nothing is acknowledged when a partition's leader dies, sleeps or is cut off: `make chaos MIX=failover`.

One producer sends a record every few milliseconds, whatever the answers do; the time is the longest one between two
acknowledgements. All settings of the brokers are as they come.
"""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import lograft

from .cluster import Broker
from .faults import Scene, both_ways
from .referee import Referee
from .run import tell

TOPIC = "t"
PACE_S = 0.02
BEFORE_S, AFTER_S = 1.0, 1.0
SILENCE_S_MAX = 60.0
WHOLE_LOOKS_MAX = 300
TROUBLES = ("kill", "pause", "partition")


class Stream:
    """Records sent one after the other, and when they were acknowledged."""

    def __init__(self, scene: Scene, producer: lograft.Producer) -> None:
        self.acknowledged_at: list[float] = []
        self._scene, self._producer = scene, producer
        self._number = 0
        self._sending: set[asyncio.Task[None]] = set()

    async def flow(self) -> None:
        await self._send("first")  # the topic is known then, and each send has its place at once
        while True:
            task = asyncio.create_task(self._send(f"s{self._number}"))
            self._number += 1
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            await asyncio.sleep(PACE_S)

    async def _send(self, value: str) -> None:
        history = self._scene.history
        op = history.invoke("stream", "send", topic=TOPIC, partition=0, producer="stream", values=[value])
        try:
            told = await self._producer.send_and_wait(TOPIC, value.encode(), partition=0)
        except lograft.DeliveryFailed as error:
            (history.fail if error.outcome == "failed" else history.info)(op, error=str(error)[:200])
            return
        self.acknowledged_at.append(time.monotonic())
        history.ok(op, partition=0, offsets=[told.offset if told.offset >= 0 else None], term=told.term)

    async def settle(self) -> None:
        await asyncio.gather(*self._sending)

    async def gap_since(self, began: float) -> float:
        """Once acknowledgements come again: the longest time without one, from just before `began`."""
        deadline = began + SILENCE_S_MAX
        while time.monotonic() < deadline:
            await asyncio.sleep(AFTER_S)
            late = [at for at in self.acknowledged_at if at > began - BEFORE_S]
            longest = max((later - earlier for earlier, later in pairwise(late)), default=0.0)
            # It is over once they have come for longer than the silence of an election that is still to be.
            if late and time.monotonic() - began > 2 * AFTER_S and time.monotonic() - late[-1] < AFTER_S / 2:
                return longest
        return SILENCE_S_MAX


def rounds_of(rounds: int, kinds: Sequence[str]) -> Callable[[Scene, Referee], Awaitable[None]]:
    """The script of a run."""

    async def play(scene: Scene, referee: Referee) -> None:
        async with scene.client.producer(linger_ms=0, compression="none") as producer:
            stream = Stream(scene, producer)
            flowing = asyncio.create_task(stream.flow())
            for kind in kinds:
                gaps = [await _one(scene, stream, kind) for _ in range(rounds)]
                cut = sorted(gaps)
                p99 = cut[min(math.ceil(0.99 * len(cut)), len(cut)) - 1]
                tell(
                    f"{kind} of the leader, {rounds} times: no acknowledgement for {statistics.median(gaps):.2f} s "
                    f"(p50), {p99:.2f} s (p99), {min(gaps):.2f} s at least; load average {os.getloadavg()[0]:.1f} on "
                    f"{os.cpu_count()} processors"
                )
            flowing.cancel()
            await stream.settle()

    return play


async def _one(scene: Scene, stream: Stream, kind: str) -> float:
    for _ in range(WHOLE_LOOKS_MAX):
        if await scene.is_whole():
            break
        await asyncio.sleep(0.1)
    leader = None
    while leader is None:
        leader = await scene.cluster.leader_of(TOPIC, 0, scene.client)
    await asyncio.sleep(BEFORE_S)
    scene.history.note("script", "fault", what=kind, on=[leader.name], begins=True)
    began = time.monotonic()
    _begin(scene, leader, kind)
    gap = await stream.gap_since(began)
    _end(scene, leader, kind)
    scene.history.note("script", "fault", what=kind, on=[leader.name], begins=False)
    return gap


def _begin(scene: Scene, leader: Broker, kind: str) -> None:
    if kind == "kill":
        leader.kill()
    elif kind == "pause":
        leader.pause()
    else:
        others = [broker.name for broker in scene.cluster.brokers if broker is not leader]
        for pair in both_ways([leader.name], others):
            scene.cluster.proxies.cut(*pair)


def _end(scene: Scene, leader: Broker, kind: str) -> None:
    if kind == "kill":
        leader.start()
    elif kind == "pause":
        leader.resume()
    else:
        scene.cluster.proxies.mend()
