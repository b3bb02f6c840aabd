"""What fuzzing keeps: inputs that once crashed a reader, in the repository; those that reach new code, beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.target import Target

CRASHES = Path(__file__).parent / "crashes"
CORPUS = Path(__file__).parents[2] / ".fuzz-corpus"
"""Not in the repository: it grows with each run, and is made from the seeds where it is missing."""


def directory_of(target: Target, where: Path) -> Path:
    return where / target.name.replace(" ", "-").replace(",", "")


def save(target: Target, data: bytes, where: Path) -> Path:
    """Keep an input under the name of its own hash."""
    directory = directory_of(target, where)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def crashes_of(targets: Iterable[Target]) -> Iterator[object]:
    for target in targets:
        for path in sorted(directory_of(target, CRASHES).glob("*")):
            yield pytest.param(target, path.read_bytes(), id=f"{path.parent.name}-{path.name}")
