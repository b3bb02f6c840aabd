"""Bits turned in a broker's files, of each kind, where the other brokers' copies are good."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from lograft.partitions.storage.promise_frames import read_rounds

from tests.bench.flips import KINDS, is_whole, items


def flip_some(data: Path, others: Sequence[Path], chance: random.Random, *, count: int) -> list[str]:
    """Turn up to `count` bits below the data directory `data`. Which kinds of file they were in."""
    turned = []
    for _ in range(40 * count):
        if len(turned) == count:
            break
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        try:
            flipped = _promises(data, chance) if kind == "promises" else _of_partition(data, others, kind, chance)
        except OSError:  # a file that went meanwhile
            continue
        if flipped:
            turned.append(kind)
    return turned


def _promises(data: Path, chance: random.Random) -> bool:
    path = data / "promises.log"
    content = path.read_bytes()
    written = [at for at in range(0, len(content), 97) if content[at]]
    if not written:
        return False
    position, bit = chance.choice(written), chance.randrange(8)
    altered = bytearray(content)
    altered[position] ^= 1 << bit
    reading = read_rounds(bytes(altered))
    # One that the file hides (between two rounds) costs nothing and is never seen; one too many costs the word.
    if not is_whole(content) or reading.lost is not None or is_whole(bytes(altered)):
        return False
    if len(reading.rounds) < len(read_rounds(content).rounds):
        return False
    _turn(path, position, bit)
    return True


def _of_partition(data: Path, others: Sequence[Path], kind: str, chance: random.Random) -> bool:
    paths = sorted((data / "partitions").glob(f"*/*.{kind}"))
    if not paths:
        return False
    path = chance.choice(paths)
    content = path.read_bytes()
    if not content:
        return False
    position = chance.randrange(len(content))
    if kind == "log":
        found = list(items(content))
        if not found:
            return False
        begin, size = chance.choice(found)
        position, good = begin + chance.randrange(size), content[begin : begin + size]
        copies = (copy for other in others for copy in (other / "partitions" / path.parent.name).glob("*.log"))
        if not any(good in copy.read_bytes() for copy in copies):
            return False
    _turn(path, position, chance.randrange(8))
    return True


def _turn(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        found = file.read(1)
        if not found:
            raise OSError(f"{path} was written anew meanwhile, and ends before {position}")
        file.seek(position)
        file.write(bytes([found[0] ^ 1 << bit]))
