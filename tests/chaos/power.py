"""Power fails for all brokers at once, under load, again and again: `make chaos MIX=power ROUNDS=20`.

Whatever any of them had not synced is gone, wholly or page by page. Each time the cluster has to come back by itself
and acknowledge in every partition; in the end nothing that was ever acknowledged may be missing.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from .faults import Scene, cut_power
from .referee import Referee
from .run import tell

LOAD_S = (2.0, 6.0)
DOWN_S_MAX = 1.0
SLOW_ROUNDS = 0.7
SLOW_SYNCS_S = (0.1, 0.3, 0.7)
SLOW_S = 1.0
"""How long syncs take longer, before power fails."""


def rounds_of(rounds: int) -> Callable[[Scene, Referee], Awaitable[None]]:
    """The script of a run."""

    async def play(scene: Scene, referee: Referee) -> None:
        brokers, chance = scene.cluster.brokers, scene.chance
        names = [broker.name for broker in brokers]
        back_s = []
        pages_lost = 0
        for number in range(1, rounds + 1):
            await asyncio.sleep(chance.uniform(*LOAD_S))
            if chance.random() < SLOW_ROUNDS:  # the more there is that was not synced
                sync_s = chance.choice(SLOW_SYNCS_S)
                for broker in brokers:
                    broker.disk.slow_down(sync_s)
                await asyncio.sleep(SLOW_S)
            scene.history.note("script", "fault", what="power failure", on=names, begins=True)
            lost = await cut_power(brokers, chance)
            await asyncio.sleep(chance.uniform(0, DOWN_S_MAX))
            for broker in brokers:
                broker.start()
            scene.history.note("script", "fault", what="power failure", on=names, begins=False)
            began = time.monotonic()
            await referee.heal()
            back_s.append(time.monotonic() - began)
            pages_lost += sum(told["pages"] - told["pages_kept"] for told in lost)
            unsynced = [f"{told['pages'] - told['pages_kept']} of {told['pages']}" for told in lost]
            tell(
                f"power failure {number} of {rounds}: back in {back_s[-1]:.1f} s; lost {', '.join(unsynced)} unsynced "
                f"pages; {len(referee.verdict.wrong) or 'nothing'} wrong"
            )
            if referee.verdict.wrong:
                return
        if not pages_lost:
            referee.verdict.wrong.append("no page was lost in any power failure: this run shows nothing")
        tell(f"{pages_lost} pages lost in all")
        tell(f"back in {statistics.median(back_s):.1f} s in the middle, {max(back_s):.1f} s at most")

    return play
