"""`promises.log`, checked: every copy of every round, and what they say together."""

from __future__ import annotations

from typing import NamedTuple

from ....proto.errors import NewerFormat
from ...environment import Disk
from ..promise_frames import copies_agree, read_rounds
from ..promised import Promised
from ..promises import FILE_NAME, PARTITIONS_DIRECTORY
from .findings import Finding, Level


class WordCheck(NamedTuple):
    promised: Promised | None
    """None: the word is lost, or cannot be judged."""
    findings: list[Finding]


def check_word(disk: Disk, directory: str) -> WordCheck:
    """Check the promises of a data directory. OSError: it does not let itself be read."""
    path = f"{directory}/{FILE_NAME}"
    findings: list[Finding] = []
    if disk.exists(f"{path}.new"):
        findings.append(
            Finding(Level.NOTE, f"{path}.new", "left over from a rewriting that did not end", "the broker removes it")
        )
    if not disk.exists(path):
        partitions = f"{directory}/{PARTITIONS_DIRECTORY}"
        if disk.exists(partitions) and disk.list(partitions):
            findings.append(_lost(path, "it is missing beside partitions"))
        else:
            findings.append(Finding(Level.NOTE, path, "no broker has promised anything here yet", ""))
        return WordCheck(None, findings)
    file = disk.open(path)
    try:
        content = file.read(0, file.size())
    finally:
        file.close()
    try:
        reading = read_rounds(content, path)
    except NewerFormat as error:
        what = f"it has format {error.facts['found']}, and this lograft reads up to {error.facts['known']}"
        findings.append(Finding(Level.UNJUDGED, path, what, "check it with the lograft that wrote it"))
        return WordCheck(None, findings)
    if reading.lost is not None:
        findings.append(_lost(path, reading.lost))
        return WordCheck(None, findings)
    for found in reading.rounds:
        if found.whole and not copies_agree(content, found):
            findings.append(
                Finding(
                    Level.NOTE, path, f"what fills up round {found.number} is not what was written", "", found.position
                )
            )
        if found.whole:
            continue
        if found is reading.rounds[-1]:
            findings.append(
                Finding(
                    Level.NOTE,
                    path,
                    f"one copy of its last round, {found.number}, is unreadable: its write was cut short",
                    "the broker writes it again when it starts",
                    found.position,
                )
            )
        else:
            findings.append(
                Finding(
                    Level.DAMAGE,
                    path,
                    f"one of the two copies of round {found.number} is unreadable; the other one is good",
                    "nothing is lost: the broker writes the file anew when it starts. The disk decays",
                    found.position,
                )
            )
    if reading.end_position < len(content):
        findings.append(
            Finding(
                Level.NOTE,
                path,
                f"{len(content) - reading.end_position} bytes at its end are no round: a write that nobody was told of",
                "the broker cuts them",
                reading.end_position,
            )
        )
    promised = Promised()
    try:
        for found in reading.rounds:
            for frame in found.frames:
                promised.apply(frame)
    except AssertionError as error:
        findings.append(_lost(path, f"its frames contradict each other: {error}"))
        return WordCheck(None, findings)
    return WordCheck(promised, findings)


def _lost(path: str, why: str) -> Finding:
    return Finding(
        Level.DAMAGE,
        path,
        f"the broker's word is lost: {why}",
        "once started, the broker counts as a new, empty one and gets its replicas from the others; its logs are set "
        "aside. Put the file back only if it is this directory's own and newest",
    )
