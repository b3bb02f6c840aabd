"""FMT: how records look on standard output, and how they are cut out of standard input.

    %t topic  %p partition  %o offset  %k key  %v value  %d timestamp (unix ms)  %h headers (a=1,b=2)  %% a percent sign
    \\n \\t \\r \\\\ \\xNN   bytes that are awkward to type

Always
    keys and values are bytes and pass through unchanged, whatever they hold
    input is cut at the format's last separator first, so that a record which does not fit cannot swallow its neighbours
    a record of the input is either given back whole or refused by its number; none is left out
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

OUTPUT_VERBS = "tpokvdh"
INPUT_VERBS = "kvpd"
INPUT_RECORD_BYTES_MAX = 16 << 20
_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "\\": b"\\", "0": b"\0"}


class WrongFormat(Exception):
    """A FMT that makes no sense; the message quotes it and says why."""


class WrongInput(Exception):
    """Input that does not look as the FMT says. `number` counts the records of the input from 1."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"input record {number:,} {why}")
        self.number = number


class HeaderShown(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def value(self) -> bytes | None: ...


class RecordShown(Protocol):
    """What a format can show of a record that was read."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[HeaderShown]: ...


class Verb(NamedTuple):
    letter: str


def parse(fmt: str, verbs: str = OUTPUT_VERBS) -> list[bytes | Verb]:
    """The literals and verbs of a FMT in order, neighbouring literals joined. Raises WrongFormat."""
    parts: list[bytes | Verb] = []

    def literal(more: bytes) -> None:
        if parts and isinstance(parts[-1], bytes):
            parts[-1] += more
        else:
            parts.append(more)

    position = 0
    while position < len(fmt):
        char, following = fmt[position], fmt[position + 1 : position + 2]
        position += 2
        if char == "%" and following == "%":
            literal(b"%")
        elif char == "%":
            if not following or following not in verbs:
                known = " ".join(f"%{letter}" for letter in verbs)
                raise WrongFormat(f"{fmt!r}: %{following} is no verb here; there are {known} and %%")
            parts.append(Verb(following))
        elif char == "\\" and following == "x":
            digits = fmt[position : position + 2]
            try:
                literal(bytes.fromhex(digits) if len(digits) == 2 else bytes.fromhex("?"))
            except ValueError:
                raise WrongFormat(f"{fmt!r}: \\x needs two hexadecimal digits, as in \\x1f") from None
            position += 2
        elif char == "\\":
            if following not in _ESCAPES:
                raise WrongFormat(f"{fmt!r}: \\{following} is no escape; there are \\n \\t \\r \\0 \\\\ \\xNN")
            literal(_ESCAPES[following])
        else:
            literal(char.encode("utf-8", "surrogateescape"))
            position -= 1
    return parts


def _headers(record: RecordShown) -> bytes:
    return b",".join(header.key.encode() + b"=" + (header.value or b"") for header in record.headers)


_SHOWN: dict[str, Callable[[RecordShown], bytes]] = {
    "t": lambda record: record.topic.encode(),
    "p": lambda record: b"%d" % record.partition,
    "o": lambda record: b"%d" % record.offset,
    "k": lambda record: record.key or b"",
    "v": lambda record: record.value or b"",
    "d": lambda record: b"%d" % record.timestamp_ms,
    "h": _headers,
}


def printer(fmt: str) -> Callable[[RecordShown], bytes]:
    """A function that shows a record as FMT says. Raises WrongFormat."""
    parts = parse(fmt)
    match parts:
        case [Verb("v"), bytes(end)]:  # by far the most used, and half the time of the general way
            return lambda record: (record.value or b"") + end
    steps = [_SHOWN[part.letter] if isinstance(part, Verb) else _constant(part) for part in parts]
    return lambda record: b"".join([step(record) for step in steps])


def _constant(literal: bytes) -> Callable[[RecordShown], bytes]:
    return lambda _: literal


def as_json(record: RecordShown) -> bytes:
    """One line of JSON. Bytes that are not UTF-8 stand as {"base64": "..."}, so that nothing is lost or guessed."""
    shown = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _text_or_base64(record.key),
        "value": _text_or_base64(record.value),
        "headers": [{"key": header.key, "value": _text_or_base64(header.value)} for header in record.headers],
    }
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _text_or_base64(content: bytes | None) -> str | dict[str, str] | None:
    if content is None:
        return None
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


class InputRecord(NamedTuple):
    key: bytes | None
    value: bytes
    partition: int | None
    timestamp_ms: int | None


class InputFormat:
    """Cuts records out of bytes as they come. The default takes each line for a value.

    Raises
        WrongFormat  two verbs side by side, a verb twice, no %v, or a verb that input does not have
    """

    def __init__(self, fmt: str = "%v\\n") -> None:
        parts = parse(fmt, INPUT_VERBS)
        if not parts or isinstance(parts[-1], Verb):
            parts.append(b"\n")
        terminator = parts.pop()
        assert isinstance(terminator, bytes)
        if terminator.endswith(b"\n") and len(terminator) > 1:  # lines end where they end, whatever else is missing
            parts.append(terminator[:-1])
            terminator = b"\n"
        letters = [part.letter for part in parts if isinstance(part, Verb)]
        if letters.count("v") != 1 or len(set(letters)) != len(letters):
            raise WrongFormat(f"{fmt!r}: input needs %v once, and no verb twice")
        if any(isinstance(one, Verb) and isinstance(next_, Verb) for one, next_ in itertools.pairwise(parts)):
            raise WrongFormat(f"{fmt!r}: two verbs side by side have nothing that parts them")
        self.fmt = fmt
        self.terminator = terminator
        self._parts: list[bytes | Verb] = parts
        self._value_alone = parts == [Verb("v")]
        self._rest = b""
        self._count = 0

    @property
    def is_value_alone(self) -> bool:
        return self._value_alone

    @property
    def has_key(self) -> bool:
        return Verb("k") in self._parts

    @property
    def has_partition(self) -> bool:
        return Verb("p") in self._parts

    @property
    def number(self) -> int:
        """How many records were cut so far, the one that a WrongInput refuses included."""
        return self._count

    def feed(self, data: bytes) -> Iterator[InputRecord]:
        """The records that are complete now. Raises WrongInput at the first that does not fit."""
        *whole, rest = (self._rest + data).split(self.terminator) if self._rest else data.split(self.terminator)
        if len(rest) > INPUT_RECORD_BYTES_MAX:
            self._rest = b""
            yield from self._records(whole)
            self._count += 1
            raise WrongInput(self._count, f"has no end within {INPUT_RECORD_BYTES_MAX >> 20} MiB")
        self._rest = rest
        yield from self._records(whole)

    def finish(self) -> Iterator[InputRecord]:
        """The last record, if the input ended without its separator, as a file's last line may. Raises WrongInput."""
        rest, self._rest = self._rest, b""
        if rest and len(self.terminator) > 1:
            self._count += 1
            raise WrongInput(self._count, f"does not fit {self.fmt!r}: no {self.terminator!r} at its end")
        if rest:
            yield from self._records([rest])

    def _records(self, pieces: Iterable[bytes]) -> Iterator[InputRecord]:
        if self._value_alone:
            for piece in pieces:
                self._count += 1
                yield InputRecord(None, piece, None, None)
            return
        for piece in pieces:
            self._count += 1
            yield self._record(piece)

    def _record(self, piece: bytes) -> InputRecord:
        *parts, last = self._parts
        ending = b"" if isinstance(last, Verb) else last
        if isinstance(last, Verb):
            parts.append(last)
        if not piece.endswith(ending):
            raise WrongInput(self._count, f"does not fit {self.fmt!r}: no {ending!r} at its end")
        end = len(piece) - len(ending)
        found: dict[str, bytes] = {}
        position = 0
        open_verb: str | None = None
        for part in parts:
            if isinstance(part, Verb):
                open_verb = part.letter
                continue
            at = piece.find(part, position, end) if open_verb else position
            if at < 0 or not piece.startswith(part, at, end):
                raise WrongInput(self._count, f"does not fit {self.fmt!r}: no {part!r} where it belongs")
            if open_verb:
                found[open_verb], open_verb = piece[position:at], None
            position = at + len(part)
        if open_verb:
            found[open_verb] = piece[position:end]
        return InputRecord(found.get("k"), found["v"], self._number(found.get("p")), self._number(found.get("d")))

    def _number(self, digits: bytes | None) -> int | None:
        if digits is None:
            return None
        try:
            return int(digits)
        except ValueError:
            raise WrongInput(self._count, f"does not fit {self.fmt!r}: {digits[:20]!r} is no number") from None
