"""Writes measurements out in Prometheus' text format, a few lines in each turn of the loop.

A scrape of thousands of series takes tens of milliseconds. In a thread it would take the interpreter away from the loop
for five milliseconds at a time, again and again; so it is done in the loop, a piece in each turn.
"""

from __future__ import annotations

import asyncio

from .families import Catalogue

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LINES_PER_TURN = 128
"""Half a millisecond or so."""


async def written_out(catalogue: Catalogue) -> bytes:
    """All of it. The loop turns in between: a series is as of the moment at which it was written."""
    parts: list[str] = []
    pieces: list[str] = []
    for line in catalogue.lines():
        pieces.append(line)
        if len(pieces) == LINES_PER_TURN:
            parts.append("".join(pieces))
            pieces.clear()
            await asyncio.sleep(0)
    return "".join([*parts, *pieces]).encode()


def written_out_at_once(catalogue: Catalogue) -> bytes:
    """For tests, and whoever has no loop."""
    return "".join(catalogue.lines()).encode()
