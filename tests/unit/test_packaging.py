"""What is in the folders is in the package that is installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_of_ours_is_installed() -> None:
    found = set()
    for name, folder in SETTINGS["package-dir"].items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *parts)))
    # `lograft` is client/front, and its stubs lie below proto/.
    found -= {"lograft.client.front", "lograft.proto.lograft.v1"}
    assert found == set(SETTINGS["packages"])


def test_files_that_are_no_code_are_installed_with_their_package() -> None:
    folder = ROOT / SETTINGS["package-dir"]["lograft.configs"]
    installed = {path for pattern in SETTINGS["package-data"]["lograft.configs"] for path in folder.glob(pattern)}
    wanted = {*(folder / "prometheus").iterdir(), *(folder / "grafana").iterdir()}
    assert wanted and wanted <= installed
