"""What the demo's consumers did, written down by each as it did it, and put together once all is over.

A ledger is a file of frames, each written in one piece: whoever is killed leaves whole frames, and at most one cut
short, which counts for nothing.

Always
    a record counts as handled once its frame is in a ledger; its offset is stored only after that
    an offset that nobody handled is lost; one handled again is a duplicate
    a duplicate is explained if the member that handled it again had taken the partition over before it, at a place no
        earlier than what was stored there until then with an acknowledgement
"""

from __future__ import annotations

import hashlib
import marshal
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..records import Record

_LENGTH = struct.Struct("<I")


class Taken(NamedTuple):
    """A member took partitions over: `places` says where it began in each. `at` is seconds of the machine's clock."""

    at: float
    places: dict[int, int]


class Stored(NamedTuple):
    """A store of offsets was acknowledged."""

    at: float
    offsets: dict[int, int]


class Handled(NamedTuple):
    """Records of one partition were handled, in this order."""

    partition: int
    offsets: tuple[int, ...]
    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]


class LedgerWriter:
    """Appends to one member's ledger."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def handled(self, partition: int, records: Sequence[Record]) -> None:
        offsets = tuple(record.offset for record in records)
        keys = tuple(record.key or b"" for record in records)
        values = tuple(record.value or b"" for record in records)
        self._write("handled", (partition, offsets, keys, values))

    def taken(self, places: Mapping[int, int]) -> None:
        self._write("taken", (time.monotonic(), dict(places)))

    def stored(self, offsets: Mapping[int, int]) -> None:
        self._write("stored", (time.monotonic(), dict(offsets)))

    def _write(self, kind: str, facts: Any) -> None:
        frame = marshal.dumps((kind, facts))
        os.write(self._descriptor, _LENGTH.pack(len(frame)) + frame)


def read_ledger(path: Path) -> Iterator[Taken | Stored | Handled]:
    """The whole frames of a ledger, in order."""
    kinds = {"taken": Taken, "stored": Stored, "handled": Handled}
    with path.open("rb") as file:
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            if len(frame := file.read(length)) < length:
                return
            kind, facts = marshal.loads(frame)
            yield kinds[kind](*facts)


@dataclass(slots=True)
class Account:
    """What all ledgers come to."""

    records: int = 0
    """Handled, each counted once."""
    lost: int = 0
    duplicates: int = 0
    unexplained: int = 0
    """Records that a member handled without having come to them from its place, and places before what was stored."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file, put together from records that are its lines."""


def settle(ledgers: Iterable[Iterable[Taken | Stored | Handled]], ends: Mapping[int, int]) -> Account:
    """Compare what members did with the log, which ends at `ends`. Pure."""
    account = Account()
    handled: dict[int, list[Handled]] = {partition: [] for partition in ends}
    takings: list[tuple[float, int, int]] = []
    stores: dict[int, list[tuple[float, int]]] = {partition: [] for partition in ends}
    for ledger in ledgers:
        expected: dict[int, int] = {}  # where this member goes on
        for entry in ledger:
            match entry:
                case Handled(partition, offsets):
                    handled[partition].append(entry)
                    begins = expected.get(partition)
                    account.unexplained += sum(begins is None or offset < begins for offset in offsets)
                    expected[partition] = offsets[-1] + 1
                case Taken(at, places):
                    expected |= places
                    takings += [(at, partition, place) for partition, place in places.items()]
                case Stored(at, offsets_stored):
                    for partition, offset in offsets_stored.items():
                        stores[partition].append((at, offset))
    for at, partition, place in takings:
        stored = max((offset for stored_at, offset in stores[partition] if stored_at < at), default=0)
        account.unexplained += place < stored
    files: dict[bytes, hashlib._Hash] = {}
    for partition, end in ends.items():
        _put_together(handled[partition], end, account, files)
    account.files = {key.decode(): digest.hexdigest() for key, digest in files.items()}
    return account


def _put_together(runs: list[Handled], end: int, account: Account, files: dict[bytes, hashlib._Hash]) -> None:
    """One partition: each offset once and in order, the others counted."""
    expected = 0
    for run in sorted(runs, key=lambda run: run.offsets[0]):
        for offset, key, value in zip(run.offsets, run.keys, run.values, strict=True):
            if offset < expected:
                account.duplicates += 1
                continue
            account.lost += offset - expected
            expected = offset + 1
            account.records += 1
            file = files.get(key)
            if file is None:
                file = files[key] = hashlib.sha256()
            file.update(value)
    account.lost += max(0, end - expected)
