"""A data directory that is not this broker's, is in use, is newer, or leads elsewhere. Row 42 of the list."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.brokers import Brokers


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Brokers:
    """A cluster of one broker that has run once, and is stopped."""
    brokers = Brokers(tmp_path_factory.mktemp("directories"), 1)
    try:
        brokers.start()
    finally:
        brokers.stop()
    return brokers


def refused(brokers: Brokers, *sets: str) -> str:
    """The one line with which the broker ends instead of starting."""
    command = [sys.executable, "-m", "lograft.node", "-c", str(brokers[0].config_path)]
    for text in sets:
        command += ["--set", text]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    lines = ended.stderr.strip().splitlines()
    assert ended.returncode == 1 and len(lines) == 1, ended.stderr[-2000:]
    return lines[0]


def snapshot(directory: Path) -> dict[str, bytes]:
    """Every file but the lock, which says who tried last."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != "lock"}


def test_directory_of_another_broker_is_refused_and_untouched(used: Brokers) -> None:
    before = snapshot(used[0].data_directory)
    said = refused(used, "broker.id=5", f"cluster.peers=5=127.0.0.1:{used[0].peer_port}")
    assert "broker 0" in said and str(used[0].data_directory) in said
    assert snapshot(used[0].data_directory) == before


def test_directory_in_use_is_refused_and_the_one_who_uses_it_goes_on(used: Brokers) -> None:
    used.start()
    try:
        assert "in use" in refused(used) or "lock" in refused(used)
        assert used[0].is_ready()
    finally:
        used.stop()


def test_directory_of_a_newer_format_is_refused_and_untouched(used: Brokers) -> None:
    path = used[0].data_directory / "format"
    old = path.read_bytes()
    path.write_text(json.dumps({**json.loads(old), "format": 99}))
    before = snapshot(used[0].data_directory)
    try:
        assert "format 99" in refused(used)
        assert snapshot(used[0].data_directory) == before
    finally:
        path.write_bytes(old)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{}"], ids=["nested", "empty"])
def test_format_file_that_cannot_be_read_is_named(used: Brokers, content: bytes) -> None:
    path = used[0].data_directory / "format"
    old = path.read_bytes()
    path.write_bytes(content)
    try:
        assert str(path) in refused(used)
    finally:
        path.write_bytes(old)


@pytest.mark.parametrize("name", ["promises.log", "partitions"])
def test_symbolic_link_in_it_is_refused(used: Brokers, name: str, tmp_path: Path) -> None:
    inside = used[0].data_directory / name
    outside = tmp_path / name
    inside.rename(outside)
    inside.symlink_to(outside)
    try:
        assert "symbolic link" in refused(used) and str(inside)
    finally:
        inside.unlink()
        outside.rename(inside)


def test_file_in_place_of_the_directory_is_refused(used: Brokers, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert str(path) in refused(used, f"broker.data_directory={path}")


def test_after_all_of_that_it_starts_as_ever(used: Brokers) -> None:
    used.start()
    used.stop()
