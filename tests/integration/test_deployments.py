"""The files for installations against the tools and schemas of those who read them, as far as those can be had."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.brokers import Brokers

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "cluster-configs"
BIN = Path(sys.executable).parent


def run(*command: str | Path) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_systemd_understands_the_unit_and_finds_it_well_shut_in(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    unit = tmp_path / "lograft.service"
    text = (CONFIGS / "systemd" / "lograft.service").read_text()
    unit.write_text(text.replace("/opt/lograft/bin/lograft", str(BIN / "lograft")))  # it must be there
    assert run("systemd-analyze", "verify", unit).strip() == ""
    if "--offline" in run("systemd-analyze", "--help"):
        run("systemd-analyze", "security", "--offline=yes", "--threshold=20", unit)


def test_compose_and_kubernetes_files_fit_their_schemas() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", CONFIGS / "docker" / "compose.yml")
    for version in ("1.28", "1.34"):
        told = run(BIN / "kubernetes-validate", "--strict", "-k", version, CONFIGS / "kubernetes" / "lograft.yaml")
        assert told.count(" passed ") == 5, told


def test_the_image_is_made_as_images_should_be() -> None:
    run(BIN / "hadolint", "--failure-threshold", "style", CONFIGS / "docker" / "Dockerfile")


def test_a_broker_tells_systemd_when_it_listens_and_when_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"\0lograft-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path[1:])
        brokers = Brokers(tmp_path, count=1)
        try:
            brokers[0].start()
            assert manager.recv(100) == b"READY=1"
            assert brokers[0].http("/healthz")[0] == 200
            brokers.await_ready()
            assert brokers[0].stop() == 0
            assert manager.recv(100) == b"STOPPING=1"
        finally:
            brokers.stop()
