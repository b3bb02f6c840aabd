"""A register (a stored offset, a topic's name) that many write and read: is each reading one that it could have had?

The rule is a necessary one, in linear time: a reading is wrong if all writes of its value were surely overwritten
before it began. A write is surely overwritten by another that began after it ended, once that one is known to be in
force: it was acknowledged, or read. What was there before the history began is a value that nobody wrote; it is no more
once any write is known to be in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .frontier import Frontier

Value = TypeVar("Value")

NEVER = 1 << 62
"""The end of a write that may still happen."""

_WRITES_MAX = 64
"""Of one value are remembered apart; of older ones only when the last of them ended."""


@dataclass(slots=True, eq=False)
class Write:
    began: int
    ended: int = NEVER


@dataclass(slots=True)
class _OfValue:
    writes: list[Write] = field(default_factory=list)
    older_ended: int = -1


class Register(Generic[Value]):
    """One register. Numbers are places in the history (`Event.seq`)."""

    def __init__(self) -> None:
        self._values: dict[Value, _OfValue] = {}
        self._in_force = Frontier()  # value: when the write began that is known to be in force, or a later one is

    def begin(self, value: Value, seq: int) -> Write:
        """Somebody wants it to be `value`; from now on it may be."""
        write = Write(seq)
        of_value = self._values.setdefault(value, _OfValue())
        of_value.writes.append(write)
        if len(of_value.writes) > _WRITES_MAX:
            ended = [one for one in of_value.writes[: _WRITES_MAX // 2] if one.ended < NEVER]
            of_value.older_ended = max([of_value.older_ended, *(one.ended for one in ended)])
            gone = set(map(id, ended))
            of_value.writes = [one for one in of_value.writes if id(one) not in gone]
        return write

    def acknowledged(self, write: Write, seq: int) -> None:
        write.ended = seq
        self._in_force.rise(seq, write.began, seq)

    def failed(self, value: Value, write: Write) -> None:
        """It surely did not happen."""
        writes = self._values[value].writes
        if write in writes:
            writes.remove(write)

    def read(self, value: Value, began: int, ended: int) -> str | None:
        """A reading that began and ended there found `value`. Says what is wrong with it, if anything is."""
        in_force = self._in_force.before(began)
        since = in_force.value if in_force else -1
        of_value = self._values.get(value)
        if of_value is None or not (of_value.writes or of_value.older_ended >= 0):
            return None if in_force is None else "nobody wrote that"
        alive = [write for write in of_value.writes if write.ended >= since]
        if not alive and of_value.older_ended < since:
            return "it was overwritten before" if in_force is not None else None
        if alive and of_value.older_ended < since:
            self._in_force.rise(ended, min(write.began for write in alive), ended)
        return None

    def writers(self, value: Value, began: int) -> list[Write]:
        """Who may have written what a reading that began there found; nobody if some of them were forgotten."""
        in_force = self._in_force.before(began)
        since = in_force.value if in_force else -1
        of_value = self._values.get(value)
        if of_value is None or of_value.older_ended >= since >= 0:
            return []
        return [write for write in of_value.writes if write.ended >= since]
