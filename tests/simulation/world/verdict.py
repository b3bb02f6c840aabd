"""What the checker of histories says of a run's."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from lograft.client.check.verdict import judge as judge_files

from tests.simulation.world.history import Event

DEAD_AFTER_S = 60.0
"""That progress comes back sooner is demanded of each run itself."""


class Judgement(NamedTuple):
    complaints: list[str]
    """What is wrong, a line each."""
    judged: Counter[str]
    """Row -> facts that it was held against."""


def write(events: Sequence[Event], path: Path, *, brokers: int, trimmed: Sequence[str]) -> None:
    """As a file that `lograft check history` reads."""
    header = {"lograft_history": 1, "idempotent": True, "trimmed": [*trimmed], "brokers": brokers}
    path.write_bytes(b"\n".join(map(msgspec.json.encode, (header, *events))) + b"\n")


def judge(events: Sequence[Event], *, brokers: int, trimmed: Sequence[str]) -> Judgement:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.jsonl"
        write(events, path, brokers=brokers, trimmed=trimmed)
        verdict = judge_files([path], dead_after_s=DEAD_AFTER_S)
        complaints = [
            f"{row.name}, {row.count} times: {'; '.join(example.text for example in row.told()[:2])}"
            for row in verdict.failing
        ]
        return Judgement(complaints, Counter({row.name: row.judged for row in verdict.rows}))
