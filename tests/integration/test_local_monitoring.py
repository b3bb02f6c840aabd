"""`lograft up --monitoring`: a Prometheus that comes, follows and goes with the local cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lograft.client.cli.processes import identity_of

from tests.integration.brokers import HEARS_CTRL_C, eventually
from tests.integration.test_command_line import LOGRAFT, CommandLine
from tests.monitoring.install import CannotBeHad, install
from tests.ports import free_base_port

pytestmark = pytest.mark.long


class Home(CommandLine):
    """With a place of its own for the cluster's ports."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.base_port = free_base_port(3)


@pytest.fixture
def lograft(tmp_path: Path) -> Iterator[Home]:
    """No cluster yet; whatever is started is stopped."""
    try:
        install()
    except CannotBeHad as why:
        pytest.skip(str(why))
    home = Home(tmp_path)
    yield home
    if (tmp_path / "lograft-data").exists():
        home.run("down")


def up(lograft: Home) -> str:
    return lograft.run("up", "-n", "1", "--detach", "--base-port", str(lograft.base_port), "--monitoring").stderr


def prometheus(lograft: Home) -> Any:
    return json.loads(lograft.run("status", "-o", "json").stdout)["prometheus"]


def healthy_targets(url: str) -> int:
    with urllib.request.urlopen(f"{url}/api/v1/targets", timeout=5) as answer:
        targets = json.load(answer)["data"]["activeTargets"]
    return sum(target["health"] == "up" for target in targets)


def test_prometheus_comes_with_the_cluster_follows_its_brokers_and_goes_with_it(lograft: Home) -> None:
    assert "Prometheus: http://127.0.0.1:" in up(lograft)
    running = prometheus(lograft)
    assert running["state"] == "running" and running["firing"] == []
    assert running["url"].endswith(f":{lograft.base_port + 4}")
    eventually(lambda: healthy_targets(running["url"]) == 2, 30)
    lograft.run("broker", "add")
    eventually(lambda: healthy_targets(running["url"]) == 4, 30)
    lograft.run("down")
    assert prometheus(lograft) is None and identity_of(running["pid"]) is None


def test_one_that_died_is_told_and_comes_back_on_its_port_by_the_same_command(lograft: Home) -> None:
    up(lograft)
    first = prometheus(lograft)
    os.kill(first["pid"], signal.SIGKILL)
    eventually(lambda: prometheus(lograft)["state"] == "died")
    assert "Prometheus died" in lograft.run("status").stderr
    assert "runs already" in up(lograft)
    second = prometheus(lograft)
    assert second["state"] == "running" and second["url"] == first["url"] and second["pid"] != first["pid"]


def test_ctrl_c_stops_it_with_the_brokers(lograft: Home) -> None:
    foreground = subprocess.Popen(
        [*HEARS_CTRL_C, *LOGRAFT, "up", "-n", "1", "--base-port", str(lograft.base_port), "--monitoring"],
        cwd=lograft.directory,
        env=lograft.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert foreground.stderr is not None
    for line in foreground.stderr:
        if "Ctrl-C stops" in line:
            break
    running = prometheus(lograft)
    foreground.send_signal(signal.SIGINT)
    assert "stopped" in foreground.communicate(timeout=60)[1]
    assert foreground.returncode in (0, 130)
    assert identity_of(running["pid"]) is None


def test_without_a_prometheus_nothing_is_started_and_the_remedy_is_named(lograft: Home) -> None:
    lograft.environment |= {"XDG_CACHE_HOME": str(lograft.directory / "empty"), "PATH": str(lograft.directory)}
    ended = lograft.run("up", "--monitoring", "--detach", exit_code=1)
    assert ended.stderr.count("\n") == 1 and "apt install prometheus" in ended.stderr
    assert not (lograft.directory / "lograft-data").exists()
