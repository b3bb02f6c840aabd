"""Which code took part in a seed, as one short digest: seeds of two runs add up as long as it is the same.

What is loaded beside it, but only counts and prints, is not part of it.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from tests.simulation import simulation

ROOT = Path(simulation.__file__).resolve().parents[2]
ONLY_REPORTS = frozenset({"__main__.py", "campaign.py", "reach.py", "simulated_code.py", "summary.py"})
"""Of this folder."""


class SimulatedCode(NamedTuple):
    digest: str
    """Twelve hexadecimal digits over paths and contents of the modules."""
    product: str
    """The same without what surrounds the code in a seed: a question that is mended leaves this as it is."""
    modules: int


def simulated_code(root: Path = ROOT) -> SimulatedCode:
    """That of all modules below `root` that are loaded now."""
    files = {
        Path(file).resolve() for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))
    }
    paths = sorted(
        path.relative_to(root).as_posix()
        for path in files
        if path.suffix == ".py"
        and path.is_relative_to(root)
        and not path.relative_to(root).parts[0].startswith(".")
        and not (path.parent == root / "tests" / "simulation" and path.name in ONLY_REPORTS)
    )
    product = [path for path in paths if not path.startswith("tests/")]
    return SimulatedCode(_digest(root, paths), _digest(root, product), len(paths))


def _digest(root: Path, paths: list[str]) -> str:
    digest = blake2b(digest_size=6)
    for path in paths:
        content = (root / path).read_bytes()
        digest.update(f"{path} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
