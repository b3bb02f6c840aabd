"""The OFFSETS grammar: where reading begins and where it ends. Pure: parsing asks nobody.

    start | end | stored | N | +N (from start) | -N (before end) | @T        or a range A:B of two of them, B exclusive
    T = milliseconds, seconds, a date, RFC 3339, or a time ago such as -48h

A side left out of a range is the start or the end. Times without a zone are refused; a date alone begins in UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ..proto.errors import InvalidRequest

_OFFSET_MAX = (1 << 63) - 1
_SECONDS_BELOW = 100_000_000_000
"""A bare number below this is seconds (until the year 5138), else milliseconds."""

_AGO = re.compile(r"-((?:[0-9]{1,19}(?:ms|[smhdw]))+)")
_AGO_PART = re.compile(r"([0-9]+)(ms|[smhdw])")
_DIGITS_MAX = 19
"""Of the largest offset; longer numbers are none, and need not be reckoned with."""
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})")
_HELP = "use start, end, stored, N, +N, -N, @T or a range A:B (T: milliseconds, seconds, date, RFC 3339 or -48h)"

Base = Literal["start", "end", "stored", "zero", "time"]


@dataclass(frozen=True, slots=True)
class Bound:
    """A place in every partition read, still to be looked up. `number` counts from `base`.

    base start, end: that many records from there (0, or above for start, below for end); zero: the offset itself;
    time: the first record at or after that many unix milliseconds; stored: the group's stored offset.
    """

    base: Base
    number: int = 0


START, END, STORED = Bound("start"), Bound("end"), Bound("stored")


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """From `start` (inclusive) to `stop` (exclusive); without a stop, reading goes on."""

    start: Bound
    stop: Bound | None = None


def parse_bound(text: str | int, *, now_ms: int) -> Bound:
    """One place. `now_ms` is what a time ago counts back from.

    Raises
        InvalidRequest  it is no place
    """
    bound = _bound(str(text), now_ms)
    if bound is None:
        raise InvalidRequest(f"{str(text)[:80]!r} is no offset: {_HELP}", offset=str(text)[:80])
    return bound


def parse_offsets(text: str | int, *, now_ms: int) -> OffsetRange:
    """One place, or a range of two.

    Raises
        InvalidRequest  it is neither
    """
    text = str(text)
    alone = _bound(text, now_ms)
    if alone is not None:
        return OffsetRange(alone)
    # Times have colons too: the range is split where both sides make sense.
    for match in re.finditer(":", text):
        left, right = text[: match.start()], text[match.end() :]
        start = START if not left else _bound(left, now_ms)
        stop = END if not right else _bound(right, now_ms)
        if start is not None and stop is not None:
            return OffsetRange(start, stop)
    raise InvalidRequest(f"{text[:80]!r} is neither an offset nor a range: {_HELP}", offset=text[:80])


def parse_time(text: str, *, now_ms: int) -> int:
    """Unix milliseconds of a time as the grammar writes it, without the @.

    Raises
        InvalidRequest  it is no time
    """
    moment = _time(text, now_ms)
    if moment is None:
        raise InvalidRequest(
            f"{text[:80]!r} is no time: use milliseconds, seconds, a date, RFC 3339 with a zone, or -48h",
            time=text[:80],
        )
    return moment


def _bound(text: str, now_ms: int) -> Bound | None:
    match text:
        case "start":
            return START
        case "end":
            return END
        case "stored":
            return STORED
    if text.startswith("@"):
        moment = _time(text[1:], now_ms)
        return None if moment is None else Bound("time", moment)
    sign, digits = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    number = _number(digits)
    if number is None:
        return None
    if sign == "+":
        return Bound("start", number)
    return Bound("end", -number) if sign == "-" else Bound("zero", number)


def _number(digits: str) -> int | None:
    """What the digits say, unless it is more than an offset or a time in milliseconds can be."""
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _DIGITS_MAX:
        return None
    number = int(digits)
    return number if number <= _OFFSET_MAX else None


def _time(text: str, now_ms: int) -> int | None:
    number = _number(text)
    if number is not None:
        return number * 1_000 if number < _SECONDS_BELOW else number
    if _AGO.fullmatch(text):
        return max(0, now_ms - sum(int(count) * _UNIT_MS[unit] for count, unit in _AGO_PART.findall(text)))
    try:
        if _DATE.fullmatch(text):
            moment_at = datetime.fromisoformat(text).replace(tzinfo=UTC)
        elif _RFC3339.fullmatch(text):
            moment_at = datetime.fromisoformat(text.upper().replace(" ", "T").replace("Z", "+00:00"))
        else:
            return None
    except ValueError:  # such as the 31st of February
        return None
    moment = round(moment_at.timestamp() * 1_000)
    return moment if moment >= 0 else None
