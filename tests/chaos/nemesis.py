"""Draws trouble from a seed: windows of quiet and of trouble, until time is up.

Invariants
    what was drawn depends on the seed alone, who was struck also on who led: the history says whom
    every fault that began has ended when `run` returns
    what hurts a disk for good begins only when every replica is whole, and nothing else hurts one until it is again
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from .faults import Fault, Scene

QUIET_S = (1.0, 5.0)
TROUBLE_S = (3.0, 10.0)
QUIET_WINDOWS = 0.2
"""How many of the windows begin no fault at all."""
WHOLE_S_MAX = 45.0
SCRUBBED_S = 9.0
"""In so long every log was read twice: what is damaged on a disk is known."""


class Nemesis:
    """One run's trouble."""

    def __init__(
        self, scene: Scene, kinds: Sequence[type[Fault]], chance: random.Random, tell: Callable[[str], None]
    ) -> None:
        self.begun: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}
        """Kinds of faults, and why."""
        self.passed_over: Counter[str] = Counter()
        """Drawn when they could not begin."""
        self.revived = 0
        """Brokers that had ended under a fault, as they should, and were started again."""
        self.mistakes: list[str] = []
        self._scene, self._chance, self._tell = scene, chance, tell
        self._kinds = []
        self.is_hurt = False
        """A disk was hurt, and it is not known yet that all of it is whole again."""
        for kind in kinds:
            if (why := kind.why_not()) is not None:
                self.left_out[kind.name()] = why
            else:
                self._kinds.append(kind)

    async def run(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        deck: list[type[Fault]] = []
        while time.monotonic() < ends_at:
            await asyncio.sleep(self._chance.uniform(*QUIET_S))
            if self._chance.random() < QUIET_WINDOWS:
                continue
            count = self._chance.choices([1, 2, 3], [6, 3, 1])[0]
            drawn: list[type[Fault]] = []
            for _ in range(count):
                if not deck:  # every kind comes, as often as its weight says, in an order of its own
                    deck = [kind for kind in self._kinds for _ in range(kind.weight)]
                    self._chance.shuffle(deck)
                drawn.append(deck.pop())
            await self._trouble(drawn, self._chance.uniform(*TROUBLE_S))

    async def _trouble(self, kinds: Sequence[type[Fault]], seconds: float) -> None:
        lasting: list[Fault] = []
        try:
            # Whoever may only begin when all is whole begins first, and alone of its kind.
            for kind in sorted(kinds, key=lambda kind: not kind.hurts_disk):
                fault = kind(self._scene)
                is_hurting = any(other.hurts_disk for other in lasting)
                if (
                    not fault.may_begin()
                    or (is_hurting and (kind.hurts_disk or kind.thins))
                    or (kind.hurts_disk and not await self._may_hurt())
                ):
                    self.passed_over[kind.name()] += 1
                    continue
                self.is_hurt |= kind.hurts_disk
                self.begun[kind.name()] += 1
                await fault.begin()
                lasting.append(fault)
                self._tell(f"{kind.name()}: {', '.join(fault.on)}")
                self._note(fault, begins=True)
            if lasting:
                await asyncio.sleep(seconds)
        finally:
            # What needs the cluster's answers in order to end waits for the others.
            for fault in sorted(self._chance.sample(lasting, len(lasting)), key=lambda fault: fault.asks_to_end):
                try:
                    await fault.end()
                finally:
                    self._note(fault, begins=False)
            self._look_after(lasting)

    def _note(self, fault: Fault, *, begins: bool) -> None:
        self._scene.history.note("nemesis", "fault", what=fault.name(), on=fault.on, begins=begins)

    def _look_after(self, ended: Sequence[Fault]) -> None:
        """Start again who ended by itself. That is a mistake, unless a fault was such that it had to."""
        for broker in self._scene.cluster.note_ends():
            if any(fault.ends_brokers for fault in ended):
                self.revived += 1
            else:
                assert broker.process is not None
                self.mistakes.append(f"{broker.name} ended by itself, with code {broker.process.returncode}")
            broker.start()

    async def _may_hurt(self) -> bool:
        """Wait until all is whole, also what only a scrub would find."""
        if self.is_hurt:
            await asyncio.sleep(SCRUBBED_S)
        deadline = time.monotonic() + WHOLE_S_MAX
        while not await self._scene.is_whole():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.5)
        self.is_hurt = False
        return True
