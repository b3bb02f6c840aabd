"""Leadership goes back to the preferred brokers, gently: each leader hands back its own partitions, a few at a time.

What always holds
    nothing is handed to a replica that has not been seen, look after look, to hold what the leader held a look before
    no more than `at_once` hand-overs of one broker are under way
    a hand-over that did not come about is tried again ever more rarely
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ...partitions.environment import PartitionId
from ...partitions.raft.messages import Voter
from ...partitions.raft.points import Point
from ...proto.errors import LograftError
from .state import Report


@dataclass(frozen=True, kw_only=True, slots=True)
class HandBackPace:
    """How eagerly leadership is handed back."""

    patience_ms: float = 5_000
    """The preferred replica is caught up for so long before it gets the leadership."""
    at_once: int = 4
    """Hand-overs under way at a time, of one broker."""
    retry_ms: float = 30_000
    """After a hand-over that did not come about; doubles with each further one."""
    retry_ms_max: float = 600_000


class LedPartition(NamedTuple):
    """One partition that this broker leads, as its replica's status and the topic's fact show it."""

    partition: PartitionId
    leader: Voter
    """This broker's replica."""
    preferred: Voter
    """The first of the placement."""
    end: Point
    """Of this broker's log."""
    preferred_match: Point | None
    """How far the preferred replica is known to hold this log; None if it does not vote or count, or is not heard."""


class HandBack(NamedTuple):
    partition: PartitionId
    broker_id: int
    """Who is to lead."""


@dataclass(slots=True)
class _Watched:
    """A partition that another broker should lead."""

    end: Point
    """Of the leader's log at the last look."""
    caught_up_since_ms: float | None = None
    tries: int = 0
    next_try_ms: float = 0.0


class LeadershipHandBack:
    """Decides, look after look, which partitions this broker hands back. Time is an argument: monotonic, in ms."""

    def __init__(self, pace: HandBackPace | None = None) -> None:
        self._pace = pace or HandBackPace()
        self._watched: dict[PartitionId, _Watched] = {}
        self._under_way: set[PartitionId] = set()

    def look(self, now_ms: float, led: Iterable[LedPartition]) -> list[HandBack]:
        """What to hand back now, of the partitions `led`: all that this broker leads, but for those it should lead.

        Those returned count as under way until `finished`.
        """
        led_now = {view.partition: view for view in led}
        self._watched = {partition: watched for partition, watched in self._watched.items() if partition in led_now}
        due: list[tuple[float, HandBack]] = []
        for partition, view in led_now.items():
            if view.leader == view.preferred:
                self._watched.pop(partition, None)
                continue
            watched = self._watched.setdefault(partition, _Watched(view.end))
            # A busy log is never matched to its end; what it held a look ago is the same as being a moment behind.
            if view.preferred_match is None or view.preferred_match < watched.end:
                watched.caught_up_since_ms = None
            elif watched.caught_up_since_ms is None:
                watched.caught_up_since_ms = now_ms
            watched.end = view.end
            since = watched.caught_up_since_ms
            if (
                since is not None
                and now_ms - since >= self._pace.patience_ms
                and now_ms >= watched.next_try_ms
                and partition not in self._under_way
            ):
                due.append((since, HandBack(partition, view.preferred.broker_id)))
        chosen = [hand_back for _, hand_back in sorted(due)][: self._pace.at_once - len(self._under_way)]
        for hand_back in chosen:
            watched = self._watched[hand_back.partition]
            watched.next_try_ms = now_ms + min(self._pace.retry_ms * 2**watched.tries, self._pace.retry_ms_max)
            watched.tries = min(watched.tries + 1, 30)
            self._under_way.add(hand_back.partition)
        return chosen

    def finished(self, partition: PartitionId) -> None:
        """The hand-over came about or did not; the next look shows which."""
        self._under_way.discard(partition)


async def hand_back_once(
    hand_backs: LeadershipHandBack,
    now_ms: float,
    led: Iterable[LedPartition],
    transfer: Callable[[PartitionId, int], Awaitable[None]],
    report: Report,
) -> None:
    """One look, about once a second: carry out what is due by `transfer(partition, broker_id)`, and wait for it."""

    async def carry_out(hand_back: HandBack) -> None:
        try:
            await transfer(hand_back.partition, hand_back.broker_id)
        except LograftError as error:
            report(
                "leadership_not_handed_back",
                partition=str(hand_back.partition),
                to=hand_back.broker_id,
                why=error.message,
            )
        finally:
            hand_backs.finished(hand_back.partition)

    await asyncio.gather(*(carry_out(hand_back) for hand_back in hand_backs.look(now_ms, led)))
