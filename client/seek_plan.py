"""A plan for moving a group: from where to where it goes in each partition. Pure: planning asks nobody.

    start | end | @T | OFFSET | +N (from start) | -N (before end) | shift:+N | shift:-N | group:H

Invariants
    no move leads out of what a partition holds: a place beyond it is brought back to the nearest it does hold, and the
    move says so; only an offset named as such is refused instead
    a partition in which the goal names no place is left out, and the plan says why
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..proto.errors import InvalidRequest, OffsetOutOfRange
from .offset_bounds import Bound, parse_bound
from .records import TopicPartition

_FUTURE_TOLERATED_MS = 60_000
"""Clocks differ a little; what lies further ahead is a mistake."""
_SHIFT = re.compile(r"shift:([+-][0-9]{1,18})")
_GROUP_PREFIX = "group:"


@dataclass(frozen=True, slots=True)
class Shift:
    """So many records on from the stored offset; back if below 0."""

    by: int


@dataclass(frozen=True, slots=True)
class SameAs:
    """Where another group stands."""

    group: str


SeekGoal = Bound | Shift | SameAs


def parse_goal(text: str | int, *, now_ms: int) -> SeekGoal:
    """Where a group is to go. `now_ms` is what a time ago counts back from.

    Raises
        InvalidRequest  it is no place, or a time that is still to come
    """
    text = str(text)
    if match := _SHIFT.fullmatch(text):
        return Shift(int(match[1]))
    if text.startswith(_GROUP_PREFIX) and len(text) > len(_GROUP_PREFIX):
        return SameAs(text.removeprefix(_GROUP_PREFIX))
    try:
        bound = parse_bound(text, now_ms=now_ms)
    except InvalidRequest:
        bound = None
    if bound is None or bound.base == "stored":
        raise InvalidRequest(
            f"{text[:80]!r} is no place to move a group to: use start, end, @T, an offset, +N (from start), -N (before "
            "end), shift:+N, shift:-N or group:NAME (T: milliseconds, seconds, date, RFC 3339 or -48h)",
            to=text[:80],
        )
    check_not_to_come(bound, now_ms=now_ms)
    return bound


def check_not_to_come(bound: Bound, *, now_ms: int) -> None:
    """Nothing is known yet of a time more than a minute ahead.

    Raises
        InvalidRequest  that is what `bound` asks for
    """
    if bound.base == "time" and bound.number > now_ms + _FUTURE_TOLERATED_MS:
        raise InvalidRequest(
            f"the time @{bound.number} (ms) is still to come, and no record can be there yet: use end",
            time=bound.number,
        )


class Standing(NamedTuple):
    """Where a group stands in one partition, and what the partition holds."""

    owner: str
    """Member id; empty if nobody owns it."""
    stored_offset: int | None
    start_offset: int
    end_offset: int
    topic_id: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """What a plan does in one partition."""

    partition: TopicPartition
    topic_id: str
    owner: str
    """Member id of who reads it now; empty if nobody does."""
    stored_offset: int | None
    """Where the group stands; None if nothing is stored."""
    to_offset: int
    asked_offset: int
    """What the goal says; `to_offset` is the nearest to it that the partition holds."""

    @property
    def change(self) -> int | None:
        """Records forward, or back if below 0; None if nothing was stored."""
        return None if self.stored_offset is None else self.to_offset - self.stored_offset

    @property
    def is_cut_short(self) -> bool:
        return self.to_offset != self.asked_offset


class LeftOut(NamedTuple):
    """A partition that a plan does not touch."""

    partition: TopicPartition
    why: str


@dataclass(frozen=True, slots=True)
class SeekPlan:
    """What moving a group would do, by topic and partition. `generation` is the group's when the plan was made."""

    group: str
    generation: int
    moves: tuple[Move, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def offsets(self) -> dict[TopicPartition, int]:
        return {move.partition: move.to_offset for move in self.moves}

    @property
    def owners(self) -> tuple[str, ...]:
        """Members that read something of it now, and will be told."""
        return tuple(dict.fromkeys(move.owner for move in self.moves if move.owner))

    @property
    def records_back(self) -> int:
        """How many records will be read again."""
        return -sum(move.change for move in self.moves if move.change is not None and move.change < 0)

    @property
    def records_forward(self) -> int:
        """How many records will be passed over."""
        return sum(move.change for move in self.moves if move.change is not None and move.change > 0)


def plan_moves(
    goal: SeekGoal, standings: Mapping[TopicPartition, Standing], found: Mapping[TopicPartition, int]
) -> tuple[tuple[Move, ...], tuple[LeftOut, ...]]:
    """The moves to `goal`, and what it leaves out. `found` holds offsets that had to be asked for: where a time is
    reached, or where the other group stands.

    Raises
        OffsetOutOfRange  an offset named as such that a partition does not hold
    """
    moves, left_out = [], []
    for partition, standing in sorted(standings.items()):
        asked = _asked(goal, partition, standing, found)
        if isinstance(asked, str):
            left_out.append(LeftOut(partition, asked))
            continue
        to_offset = min(max(asked, standing.start_offset), standing.end_offset)
        moves.append(Move(partition, standing.topic_id, standing.owner, standing.stored_offset, to_offset, asked))
    return tuple(moves), tuple(left_out)


def _asked(
    goal: SeekGoal, partition: TopicPartition, standing: Standing, found: Mapping[TopicPartition, int]
) -> int | str:
    """The offset that the goal names in one partition, or why it names none."""
    match goal:
        case Shift(by):
            return "nothing is stored to shift" if standing.stored_offset is None else standing.stored_offset + by
        case SameAs(group):
            return found.get(partition, f"{group} has nothing stored there")
        case Bound("start", number):
            return standing.start_offset + number
        case Bound("end", number):
            return standing.end_offset + number
        case Bound("time"):
            return found[partition]
    if not standing.start_offset <= goal.number <= standing.end_offset:
        raise OffsetOutOfRange(
            f"{partition} holds offsets from {standing.start_offset} up to {standing.end_offset}; {goal.number} is none"
            " of them: name the partitions it is meant for, or use start, end, -N or @T",
            offset=goal.number,
            start=standing.start_offset,
            end=standing.end_offset,
        )
    return goal.number
