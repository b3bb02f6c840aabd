"""Which records a search wants: text or a pattern in them, and conditions on fields of JSON. Pure.

    text     refund                 in key, value or a header's value, whatever the case
             /refund-[0-9]+/        a regular expression (RE2: no input makes it slow)
    where    status = "failed"      a field of the value, one of = != < <= > >= ~, and what to compare with
             order.total >= 100     a path leads through objects and, by number, lists: items.0.sku
             user.name ~ ann        ~ contains, whatever the case
             exists error.code      the field is there
             key = 42               `key`, `offset`, `partition`, `timestamp`, `headers.NAME` are the record's own
             a = 1 and b != 2       all of several

Invariants
    whatever a record holds, matching never raises; what is no JSON has no fields
    nothing of an expression is ever run as code
    understanding an expression takes time by its length, whatever it holds
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import re2

from ...client.records import Record
from ...proto.errors import InvalidRequest

TEXT_BYTES_MAX = 500
JSON_BYTES_MAX = 1 << 20
"""Of a value that is parsed, which holds the loop for up to a tenth of a second: a larger one has no fields."""
CONDITIONS_MAX = 10
EXAMPLES = 'status = "failed", order.total >= 100, user.name ~ ann, exists error.code, headers.trace-id = 7'

# Where two repetitions could share out the same blanks, a few lines would hold the loop for minutes: none of these do.
_EXISTS = re.compile(r"exists\s+(\S+)")
_COMPARED = re.compile(r"([^\s=!<>~]+)\s*(!=|<=|>=|=|<|>|~)")
_AND = re.compile(r"(?<=\s)and(?=\s)", re.IGNORECASE)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSING = object()
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Condition:
    path: tuple[str, ...]
    compare: str
    """One of the operators, or `exists`."""
    wanted: Any = None

    def holds(self, fields: _Fields) -> bool:
        found = fields.at(self.path)
        if self.compare == "exists":
            return found is not _MISSING
        if self.compare == "!=":
            return found is _MISSING or not _equal(found, self.wanted)
        if found is _MISSING:
            return False
        if self.compare == "=":
            return _equal(found, self.wanted)
        if self.compare == "~":
            return str(self.wanted).lower() in (found if isinstance(found, str) else _as_json(found)).lower()
        left, right = _number(found), _number(self.wanted)
        if left is not None and right is not None:
            return _COMPARISONS[self.compare](left, right)
        both_text = isinstance(found, str) and isinstance(self.wanted, str)
        return both_text and _COMPARISONS[self.compare](found, self.wanted)


class Filter:
    """What a search wants. Without text and conditions, everything.

    Raises
        InvalidRequest  the text or a condition is none; says which, and shows examples
    """

    def __init__(self, text: str = "", where: str = "") -> None:
        self._pattern = _pattern(text)
        self._conditions = _conditions(where)

    @property
    def is_empty(self) -> bool:
        return self._pattern is None and not self._conditions

    def matches(self, record: Record) -> bool:
        if self._pattern is not None and not self._has_text(record):
            return False
        fields = _Fields(record)
        return all(condition.holds(fields) for condition in self._conditions)

    def _has_text(self, record: Record) -> bool:
        search = self._pattern.search
        return (
            (record.value is not None and search(record.value) is not None)
            or (record.key is not None and search(record.key) is not None)
            or any(value is not None and search(value) is not None for _, value in record.headers)
        )


class _Fields:
    """The fields of one record; its value is parsed once, and only if it is asked for."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._parsed: Any = None
        self._is_parsed = False

    def at(self, path: tuple[str, ...]) -> Any:
        record = self._record
        match path:
            case ("key",):
                return _MISSING if record.key is None else _text(record.key)
            case ("offset",):
                return record.offset
            case ("partition",):
                return record.partition
            case ("timestamp",):
                return record.timestamp_ms
            case ("headers", *name):
                wanted = ".".join(name)
                return next((_text(value or b"") for key, value in record.headers if key == wanted), _MISSING)
        if not self._is_parsed:
            self._is_parsed = True
            try:
                value = record.value
                self._parsed = _MISSING if value is None or len(value) > JSON_BYTES_MAX else _decode(value)
            except (ValueError, RecursionError):
                self._parsed = _MISSING
        return _down(self._parsed, path[1:] if path[0] == "value" else path)


def _down(found: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif (
            isinstance(found, list) and step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(found)
        ):
            found = found[int(step)]
        else:
            return _MISSING
    return found


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool) or found is None or wanted is None:
        return found is wanted
    if isinstance(found, str) and isinstance(wanted, str):
        return found == wanted
    left, right = _number(found), _number(wanted)
    return left is not None and left == right


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    try:
        return int(value) if isinstance(value, str) and len(value) < 30 else None
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode("utf-8", "replace")


def _pattern(text: str) -> Any:
    if not text:
        return None
    if len(text.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
        raise InvalidRequest(f"the text to search for has more than {TEXT_BYTES_MAX} bytes: use a part of it")
    is_pattern = len(text) > 2 and text.startswith("/") and text.endswith("/")
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = is_pattern
    options.encoding = re2.Options.Encoding.UTF8
    options.max_mem = 8 << 20
    try:
        source = text[1:-1] if is_pattern else re2.escape(text)
        return re2.compile(source.encode(), options)
    except (re2.error, UnicodeError):
        raise InvalidRequest(
            f"{text[:80]!r} is no regular expression of RE2; without the slashes it is plain text"
        ) from None


def _conditions(where: str) -> tuple[Condition, ...]:
    if not where.strip():
        return ()
    if len(where) > 2000:
        raise InvalidRequest("the conditions have more than 2000 characters: use fewer")
    parts = _parts(where)
    if len(parts) > CONDITIONS_MAX:
        raise InvalidRequest(f"{len(parts)} conditions are more than {CONDITIONS_MAX}: use fewer")
    return tuple(_condition(part) for part in parts)


def _parts(where: str) -> list[str]:
    """Between each `and`, but for those in quotes."""
    parts, begin = [], 0
    for found in _AND.finditer(where):
        if where.count('"', found.end()) % 2 == 0:
            parts.append(where[begin : found.start()])
            begin = found.end()
    return [*parts, where[begin:]]


def _condition(part: str) -> Condition:
    part = part.strip()
    if there := _EXISTS.fullmatch(part):
        return Condition(tuple(there[1].split(".")), "exists")
    compared = _COMPARED.match(part)
    value = part[compared.end() :].lstrip() if compared else ""
    if compared is None or not value:
        raise InvalidRequest(f"{part[:80]!r} is no condition: write it like {EXAMPLES}")
    try:
        wanted = _decode(value)
    except (ValueError, RecursionError):
        wanted = value  # a bare word is the text that it is
    if isinstance(wanted, dict | list):
        raise InvalidRequest(f"{part[:80]!r}: compare with a text, a number, true, false or null")
    return Condition(tuple(compared[1].split(".")), compared[2], wanted)
