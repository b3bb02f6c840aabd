"""What a command lists: columns under capital letters for people, JSON for programs.

Always
    a table is never cut to the width of a terminal, so that it can be piped
    JSON is one document, with the names of the API
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum


class OutputFormat(StrEnum):
    text = "text"
    json = "json"


def columns(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """`rows` under `titles`, numbers to the right, the last column open at its end."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    to_the_right = [_is_numeric([row[i] for row in rows]) for i in range(len(titles))]
    lines = []
    for row in [list(titles), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, to_the_right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _is_numeric(cells: Sequence[object]) -> bool:
    """Numbers, or what stands for one that is not there."""
    numbers = [cell for cell in cells if cell not in ("-", "?")]
    return bool(numbers) and all(isinstance(cell, int | float) for cell in numbers)


def show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_json(value: object) -> None:
    show(json.dumps(value, indent=2, ensure_ascii=False))


def count(number: int, noun: str) -> str:
    """`1 record`, `2 records`, `12,345 records`."""
    plural = noun if number == 1 else noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {plural}"


def size(bytes_count: float) -> str:
    """Bytes for people, in powers of 1024 with their proper names."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if bytes_count < 1024 or unit == "GiB":
            break
        bytes_count /= 1024
    return f"{bytes_count:.0f} {unit}" if unit == "B" else f"{bytes_count:.1f} {unit}"


def age(seconds: float) -> str:
    """A duration for people: `12 s`, `3 min`, `2 h`, `5 d`."""
    for unit, length, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def span(seconds: float) -> str:
    """A duration for people where tenths count while it is short: `3.2 s`, `48 s`, `5 min`."""
    return f"{seconds:.1f} s" if 0 < seconds < 9.95 else age(seconds)
