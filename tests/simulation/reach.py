"""Which lines of the product a run of the simulation has executed.

Invariants
    a line counts once, whoever reaches it; what is reached in one process can be added to what another reached
    only whole files below the given folders are looked at, and of those only what stands in functions
A function whose lines have all been seen is not followed any more, so that following costs less with every seed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
Lines = dict[tuple[str, int], set[int]]
"""File and first line of a function -> lines of it."""


class Function(NamedTuple):
    path: str
    first_line: int
    name: str
    lines: frozenset[int]


class Follower:
    """Follows what runs between `start` and `stop`, in the folders that are named below the root of the project."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._prefixes = tuple(f"{ROOT / folder}/" for folder in folders)
        self._left: dict[CodeType, set[int] | None] = {}
        """Lines of each function that were not seen yet; None: it is not looked at, or all are."""
        self._fresh: Lines = {}

    def start(self) -> None:
        sys.settrace(self._on_call)

    def stop(self) -> None:
        sys.settrace(None)

    def take_fresh(self) -> Lines:
        """What was seen since this was asked last."""
        fresh, self._fresh = self._fresh, {}
        return fresh

    def _on_call(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        try:
            left = self._left[code]
        except KeyError:
            known = code.co_filename.startswith(self._prefixes)
            left = self._left[code] = set(lines_of(code)) if known else None
        return None if left is None else self._on_line

    def _on_line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            code = frame.f_code
            left = self._left[code]
            if left is None:
                return None
            if frame.f_lineno in left:
                left.discard(frame.f_lineno)
                key = (str(Path(code.co_filename).relative_to(ROOT)), code.co_firstlineno)
                self._fresh.setdefault(key, set()).add(frame.f_lineno)
                if not left:
                    self._left[code] = None
        return self._on_line


def lines_of(code: CodeType) -> frozenset[int]:
    """The lines that a function can execute, without those of functions within it."""
    return frozenset(line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno)


def functions_in(folders: Iterable[str]) -> list[Function]:
    """All that could be reached."""
    found: list[Function] = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = compile(path.read_text(), str(path), "exec")
            name = str(path.relative_to(ROOT))
            found += [Function(name, code.co_firstlineno, code.co_qualname, lines_of(code)) for code in _within(module)]
    return [function for function in found if function.lines]


def _within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & 0x2:  # a function's own names: a class body has none
                yield constant
            yield from _within(constant)


def merge(into: Lines, fresh: Lines) -> None:
    for key, lines in fresh.items():
        into.setdefault(key, set()).update(lines)
