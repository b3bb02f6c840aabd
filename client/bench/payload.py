"""What records hold: values cut from one block, so that making them costs next to nothing, and stamps that tell when
a record was due. Pure; chance is an argument.

Always
    random values hardly compress: those of one batch are different, and overlap by a few percent at most
    a stamp of another run, or no stamp, is never taken for ours
"""

from __future__ import annotations

import struct
from random import Random

STAMP_BYTES = 16
RUN_ID_BYTES = 8
_BLOCK_BYTES = 16 << 20
_NS = 1_000_000_000
_DUE = struct.Struct(">Q")

_WORDS = (
    b"GET POST PUT /orders /customers /invoices /health 200 201 204 304 404 500 level=info level=warn msg=accepted "
    b"msg=rejected user= session= region=eu-west region=us-east latency_ms= bytes= retry=0 retry=1 cache=hit cache=miss"
).split()


def zeros(size: int) -> bytes:
    return bytes(size)


def text(size: int, chance: Random) -> bytes:
    """Lines such as services log: words that come again, and numbers that do not."""
    words: list[bytes] = []
    length = 0
    while length < size:
        word = chance.choice(_WORDS)
        if word.endswith(b"="):
            word += b"%d" % chance.getrandbits(20)
        if not chance.randrange(12):
            word += b"\n"
        words.append(word)
        length += len(word) + 1
    return b" ".join(words)[:size]


class Values:
    """Values of `size` bytes, in lists of `count`: windows on a block, at places drawn by `chance`."""

    def __init__(self, block: bytes, size: int, count: int, chance: Random, *, lists: int = 16) -> None:
        assert block, "values of nothing"
        if len(block) < 2 * size:  # a short file comes again and again
            block = block * (2 * size // len(block) + 1)
        last = len(block) - size
        self._lists = [
            [block[at : at + size] for at in (chance.randrange(last + 1) for _ in range(count))] for _ in range(lists)
        ]
        self._turn = 0

    def next(self, count: int) -> list[bytes]:
        """The next `count` values, or as many as a list has."""
        self._turn = (self._turn + 1) % len(self._lists)
        values = self._lists[self._turn]
        return values if count >= len(values) else values[:count]


def block_of(kind: str, content: bytes, size: int, chance: Random) -> bytes:
    """The bytes that values are cut from; `content` is a file's, for kind `file`."""
    wanted = max(_BLOCK_BYTES, 4 * size)
    match kind:
        case "random":
            return chance.randbytes(wanted)
        case "zeros":
            return zeros(2 * size)
        case "text":
            return text(max(1 << 20, 2 * size), chance)
        case "file":
            return content
    raise AssertionError(f"payload {kind!r}")


def stamp(run_id: bytes, due: float) -> bytes:
    """The first bytes of a value whose record was due then."""
    return run_id + _DUE.pack(round(due * _NS))


def due_of(value: bytes | None, run_id: bytes) -> float | None:
    """When the record with this value was due, if it is one of this run."""
    if value is None or len(value) < STAMP_BYTES or value[:RUN_ID_BYTES] != run_id:
        return None
    due_ns: int = _DUE.unpack_from(value, RUN_ID_BYTES)[0]
    return due_ns / _NS
