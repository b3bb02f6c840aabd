"""Compacts one log: has the work done elsewhere, and puts what comes of it in place.

Invariants
    new segments are put in place oldest first; one that cannot be ends it, and the rest is of no use
    what is not put in place changes nothing: the next compaction finds everything as it was
    of a log that began anew, or dropped what was being read, nothing that came of the job is believed
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..proto.errors import CorruptBatch
from .environment import Environment
from .replica import Replica
from .storage.compaction import CompactionSettings
from .storage.rewriting import Job, Outcome, Rewritten, Take
from .storage.segment import DamagedLog

Work = Callable[[Job, Take], Awaitable[Outcome]]
"""Does a job, at its own pace, and hands over each segment of it once that is written, oldest first.

Raises DamagedLog, OSError, and whatever it is met with where it hands over; then it has stopped writing.
"""

TRIES = 10
TRY_AGAIN_MS = 300.0


async def compact(
    environment: Environment,
    replica: Replica,
    settings: CompactionSettings,
    work: Work,
    *,
    below: int | None = None,
) -> Outcome | None:
    """Compact the replica's log if it is time. None: it is not, or it could not be done to its end.

    `below`: an offset that whoever builds a state of the log here has passed.
    """
    job = replica.plan_compaction(settings, below=below)
    if job is None:
        return None
    resets = replica.resets

    async def take(rewritten: Rewritten) -> None:
        # After a reset, segments of the same bounds and size may stand there: another log's, and whoever builds a state
        # of it begins anew as well.
        if replica.resets != resets or not await _take(environment, replica, rewritten):
            raise _InTheWay(f"{rewritten.base} to {rewritten.end} could not be put in place")

    try:
        outcome = await work(job, take)
    except DamagedLog as damage:
        if replica.stands_as_planned(job, resets):
            replica.note_unreadable(damage)
        else:
            environment.log("compaction_given_up", partition=str(replica.partition), why=str(damage))
        replica.give_up_compaction()
        return None
    except (OSError, CorruptBatch, _InTheWay) as error:
        # An item whose CRC is good and that does not fit is for a scrub, or whoever reads it next, to find and repair.
        environment.log("compaction_given_up", partition=str(replica.partition), why=str(error))
        replica.give_up_compaction()
        return None
    replica.note_compaction(job, outcome, settings)
    environment.log(
        "compacted",
        partition=str(replica.partition),
        through=job.end.offset,
        records=outcome.records,
        dropped=outcome.records_dropped,
        readings=outcome.readings,
        bytes_before=sum(segment.bytes_before for segment in outcome.segments),
        bytes_after=sum(segment.size_bytes for segment in outcome.segments),
    )
    return outcome


class _InTheWay(Exception):
    """The log, or its followers, are not what they were when the job was planned."""


async def _take(environment: Environment, replica: Replica, rewritten: Rewritten) -> bool:
    """For a while, something may be in the way: segments are being dropped, or a follower has just come back."""
    for _ in range(TRIES):
        if await _undisturbed(environment, replica.take_compacted(rewritten)):
            return True
        if replica.is_stopped:
            break
        waited = asyncio.Event()
        environment.call_later(TRY_AGAIN_MS, waited.set)
        await waited.wait()
    return False


async def _undisturbed(environment: Environment, taking: Coroutine[Any, Any, bool]) -> bool:
    """Its outcome. Whoever waits for that may be cancelled; a replacement under way goes on to its end."""
    taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def take() -> None:
        outcome = await taking
        if not taken.done():
            taken.set_result(outcome)

    environment.spawn(take())
    return await taken
