from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.simulation.simulated_code import ROOT, simulated_code


def loaded(monkeypatch: pytest.MonkeyPatch, path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, f"{path.parent.name}_{path.stem}", module)


def test_the_replicas_and_what_surrounds_them_in_a_seed_take_part() -> None:
    assert (ROOT / "partitions" / "replica.py").is_file()
    assert simulated_code().modules > 50
    assert simulated_code() == simulated_code()


def test_a_change_of_a_loaded_module_is_another_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(monkeypatch, tmp_path / "partitions" / "a.py", "one")
    before = simulated_code(tmp_path)
    assert before.modules == 1
    loaded(monkeypatch, tmp_path / "partitions" / "a.py", "two")
    assert simulated_code(tmp_path).digest != before.digest


def test_a_change_of_what_surrounds_the_code_leaves_the_digest_of_the_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(monkeypatch, tmp_path / "partitions" / "a.py", "one")
    loaded(monkeypatch, tmp_path / "tests" / "simulation" / "invariants.py", "strict")
    before = simulated_code(tmp_path)
    loaded(monkeypatch, tmp_path / "tests" / "simulation" / "invariants.py", "right")
    after = simulated_code(tmp_path)
    assert after.product == before.product and after.digest != before.digest


def test_what_only_reports_is_not_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(monkeypatch, tmp_path / "partitions" / "a.py", "one")
    before = simulated_code(tmp_path)
    loaded(monkeypatch, tmp_path / "tests" / "simulation" / "summary.py", "sums")
    loaded(monkeypatch, tmp_path / ".venv" / "other.py", "a library")
    assert simulated_code(tmp_path) == before
