"""The time that all targets of the fuzzer share."""

from __future__ import annotations

import subprocess

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz.targets import TARGETS


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[int]:
    """Seconds that each target was given."""
    given: list[int] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        given.append(int(command[-1]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(command.subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["fuzz", *words])
    assert command.main() == 0
    return given


def test_time_too_short_for_all_targets_is_refused_with_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        asked(monkeypatch, "--minutes", "1")
    assert refused.value.code == 2
    assert f"give {command.minutes_min(len(TARGETS))} minutes" in capsys.readouterr().err


def test_all_targets_together_take_no_longer_than_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for minutes in (command.minutes_min(len(TARGETS)), 10, 60):
        given = asked(monkeypatch, "--minutes", str(minutes))
        assert len(given) == len(TARGETS) and min(given) >= command.SECONDS_MIN
        assert sum(given) + command.START_S * len(given) <= minutes * 60


def test_a_minute_is_enough_for_one_target(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "--minutes", "1", "--only", next(iter(TARGETS))) == [60 - command.START_S]
