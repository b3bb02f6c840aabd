"""The plainest of all checks, apart from the checker: what was acknowledged is there, once, at its offset; and what
anybody read was read by all alike. It reads the lines as they are, so that a mistake of the checker's is not shared.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

REFEREE = "referee.jsonl"
"""What the referee and the script asked: their probes are nobody's work."""


class FirstLook:
    """Of the histories of one run."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.wrong: list[str] = []
        self.operations: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.acknowledged = 0
        self.silence_s = 0.0
        """The longest time without an acknowledgement."""
        self.read = 0
        self.idle: list[str] = []
        """What no client at work got done even once, of what all of them try: without it a run shows little."""
        done: Counter[str] = Counter()
        sent: dict[tuple[str, int], list[str]] = {}
        places: dict[str, set[tuple[str, int]]] = defaultdict(set)
        held: dict[tuple[str, int], set[str]] = defaultdict(set)
        promised: dict[tuple[str, int], str] = {}
        failed: set[str] = set()
        final: dict[str, dict[int, str]] = {}
        acks: list[float] = []
        for path in paths:
            for event in _events(path):
                f, kind = event["f"], event["type"]
                if kind != "invoke":
                    self.operations[f"{f} {kind}"] += 1
                if kind == "ok" and f != "poll":
                    done[f] += path.name != REFEREE
                if f == "fault" and event["begins"]:
                    self.faults[event["what"]] += 1
                if f == "send" and kind == "invoke":
                    sent[path.name, event["op"]] = [event["topic"], *event["values"]]
                elif f == "send" and kind == "ok":
                    topic, *values = sent[path.name, event["op"]]
                    acks.append(event["t"])
                    for value, offset in zip(values, event["offsets"], strict=True):
                        self.acknowledged += 1
                        if offset is not None:
                            promised[f"{topic}/{event['partition']}", offset] = value
                elif f == "send" and kind == "fail":
                    failed.update(sent[path.name, event["op"]][1:])
                elif f == "poll" and kind == "ok":
                    done["poll"] += len(event["records"])
                    for partition, offset, value, _ in event["records"]:
                        held[partition, offset].add(value)
                elif f == "read_all" and kind == "ok":
                    final[event["partition"]] = dict(map(tuple, event["values"]))
                    self.read += len(event["values"])
        for partition, values_at in final.items():
            for offset, value in values_at.items():
                places[value].add((partition, offset))
                held[partition, offset].add(value)
        for (partition, offset), value in sorted(promised.items()):
            found = final.get(partition, {}).get(offset)
            if final and found != value:
                self.wrong.append(f"{value} was acknowledged at {partition} offset {offset}, where now {found} is")
        for (partition, offset), values in held.items():
            if len(values) > 1:
                self.wrong.append(f"{partition} offset {offset} was read as {sorted(values)}")
            if final and final.get(partition) is not None and offset not in final[partition]:
                self.wrong.append(f"{partition} offset {offset} was read as {sorted(values)} and is there no more")
        for value, at in places.items():
            if len(at) > 1:
                self.wrong.append(f"{value} is there more than once: {sorted(at)}")
            if value in failed:
                self.wrong.append(f"{value} is there, and was said to have failed")
        self.idle = [f for f in ("send", "poll", "own", "store") if not done[f]]
        acks.sort()
        self.silence_s = max((later - earlier for earlier, later in pairwise(acks)), default=0.0)


def _events(path: Path) -> Iterable[dict[str, Any]]:
    with path.open() as file:
        file.readline()
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
