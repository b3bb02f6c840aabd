"""Sizes as people write them: 100, 1KiB, 1.5MB. Pure."""

from __future__ import annotations

import re

_UNITS = {
    "": 1, "b": 1,
    "k": 1 << 10, "kib": 1 << 10, "kb": 1000,
    "m": 1 << 20, "mib": 1 << 20, "mb": 1000**2,
    "g": 1 << 30, "gib": 1 << 30, "gb": 1000**3,
}  # fmt: skip
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([a-zA-Z]{0,3})")


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError that says how a size is written."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].lower() not in _UNITS:
        raise ValueError(f"{text[:40]!r} is no size; write it as 100, 1KiB, 64KiB or 1MB")
    size = float(found[1]) * _UNITS[found[2].lower()]
    if size != int(size):
        raise ValueError(f"{text[:40]!r} is no whole number of bytes")
    return int(size)


def shown_size(size: int) -> str:
    """A size as one would type it, without rounding: 1 KiB, 64 KiB, 1,000 B."""
    for unit, bytes_count in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= bytes_count and size % bytes_count == 0:
            return f"{size // bytes_count:,} {unit}"
    return f"{size:,} B"
