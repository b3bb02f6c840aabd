"""How an operator sees a cluster and finds it: health by exit code, `top`, the debug bundle, profiles, completion."""

from __future__ import annotations

import json
import os
import pty
import select
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

import pytest

from tests.ports import free_base_port, free_ports

from .brokers import eventually
from .command_line import LOGRAFT, CommandLine

SECRET_WORDS = "the-words-of-a-record"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    command_line = CommandLine(tmp_path_factory.mktemp("seeing"))
    base_port = free_base_port(3)
    try:
        command_line.run("up", "--detach", "--base-port", str(base_port))
        command_line.run("topic", "create", "orders", "-p", "3")
        command_line.run("produce", "orders", "-f", "%k %v\\n", given=f"key {SECRET_WORDS}\n" * 200)
        command_line.run("consume", "orders", "-g", "billing", "--reset", "start", "-n", "50")
        yield command_line
    finally:
        command_line.run("down")


@pytest.fixture
def lograft(home: CommandLine) -> CommandLine:
    """With a cluster that runs and is whole, whatever the test before did to it."""
    for broker in json.loads(home.run("status", "-o", "json").stdout)["brokers"]:
        if broker["state"] == "killed":
            home.run("start", str(broker["broker_id"]))
    home.run("cluster", "health", "-e", "--timeout", "30")
    return home


@pytest.mark.long
def test_health_says_by_its_exit_code_how_the_cluster_is_and_waits_until_it_is_whole(lograft: CommandLine) -> None:
    assert json.loads(lograft.run("cluster", "health", "-o", "json").stdout)["condition"] == "healthy"
    lograft.run("kill", "1")
    told = lograft.run("cluster", "health", "-w", "-e", "--timeout", "6", exit_code=3).stdout
    assert "not healthy: degraded" in told
    assert "broker 1" in told
    lograft.run("kill", "2")  # no majority: after a moment the one that is left leads nothing
    told = lograft.run("cluster", "health", "-e", "--timeout", "6", "-o", "json", exit_code=5).stdout
    worse = json.loads(told.splitlines()[-1])
    assert worse["condition"] == "leaderless"
    lograft.run("start", "1")
    lograft.run("start", "2")
    lograft.run("cluster", "health", "-w", "-e")


def test_top_prints_one_frame_that_fits_80_columns(lograft: CommandLine) -> None:
    lograft.environment["COLUMNS"] = "80"
    # Brokers work out lag in the background, so that a group shows up a moment after it came, or its coordinator did.
    told = eventually(lambda: shown if "billing" in (shown := lograft.run("top", "--once").stdout) else None, 30)
    assert "healthy" in told.splitlines()[0]
    assert max(map(len, told.splitlines())) <= 80
    rows = {words[0]: words for words in map(str.split, told.splitlines()) if words}
    assert rows["0"][1] == "alive"
    assert rows["orders"][1] == "3"
    assert rows["billing"][1] == "orders"


def test_top_tells_programs_how_much_went_in_and_how_far_groups_are_behind(lograft: CommandLine) -> None:
    flowing = subprocess.Popen(
        ["sh", "-c", f"while echo {SECRET_WORDS}; do sleep 0.01; done | {' '.join(LOGRAFT)} produce orders"],
        cwd=lograft.directory,
        env=lograft.environment,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:

        def flows() -> dict[str, Any] | None:
            seen: dict[str, Any] = json.loads(lograft.run("top", "--once", "-o", "json").stdout)
            return seen if seen["in_bytes_per_s"] and seen["groups"] else None

        frame = eventually(flows, 30)
    finally:
        os.killpg(flowing.pid, 15)
        flowing.wait()
    assert frame["healthy"] is True
    assert frame["in_bytes_per_s"] > 0
    assert sum(broker["in_bytes_per_s"] for broker in frame["brokers"]) == pytest.approx(frame["in_bytes_per_s"])
    (lag,) = frame["groups"]
    assert (lag["group"], lag["topic"]) == ("billing", "orders")


def test_top_lives_in_a_terminal_of_80_by_24_until_q_and_leaves_it_as_it_was(lograft: CommandLine) -> None:
    master, terminal = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**lograft.environment, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(
        [*LOGRAFT, "top", "-i", "0.5"],
        cwd=lograft.directory,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as watching:
        os.close(terminal)
        try:
            first = until(master, "orders")
            os.write(master, b"s")
            first += until(master, "by largest")
            os.write(master, b"q")
            first += until(master, "\x1b[?1049l")  # back from the alternate screen
            assert watching.wait(10) == 0
        finally:
            watching.kill()
            os.close(master)
    assert "\x1b[?1049h" in first
    assert "Traceback" not in first


def until(master: int, wanted: str, seconds: float = 30.0) -> str:
    """What the terminal was told, up to `wanted`."""
    told, deadline = b"", time.monotonic() + seconds
    while wanted.encode() not in told:
        readable, _, _ = select.select([master], [], [], max(deadline - time.monotonic(), 0))
        assert readable, f"{wanted!r} did not come: {told[-2000:]!r}"
        told += os.read(master, 65536)
    return told.decode(errors="replace")


def test_top_without_a_terminal_says_what_to_add(lograft: CommandLine) -> None:
    assert "--once" in lograft.run("top", exit_code=1).stderr


def unpacked(archive: Path, into: Path) -> dict[str, str]:
    with tarfile.open(archive) as packed:
        packed.extractall(into, filter="data")
    files = [path for path in into.rglob("*") if path.is_file()]
    return {str(path.relative_to(into)).partition("/")[2]: path.read_text(errors="replace") for path in files}


def test_a_bundle_tells_how_the_cluster_is_and_holds_no_record_and_no_secret(
    lograft: CommandLine, tmp_path: Path
) -> None:
    said = lograft.run("debug", "bundle", "-O", str(tmp_path / "for-support.tar.gz"))
    assert "look before you send it" in said.stderr
    assert (tmp_path / "for-support.tar.gz").stat().st_mode & 0o077 == 0
    files = unpacked(tmp_path / "for-support.tar.gz", tmp_path / "out")
    secret = (lograft.directory / "lograft-data" / "secret").read_text().strip()
    for name, text in files.items():
        assert SECRET_WORDS not in text, name
        assert secret not in text, name
    assert json.loads(files["cluster/cluster.json"])["condition"] == "healthy"
    assert "orders" in {topic["name"] for topic in json.loads(files["cluster/topics.json"])}
    assert [group["group"] for group in json.loads(files["cluster/groups.json"])] == ["billing"]
    for broker in range(3):
        assert "lograft_produce_bytes_total" in files[f"brokers/{broker}/metrics.txt"]
        assert "secret_file" in files[f"local/broker-{broker}/broker.toml"]
        assert "promises.log" in files[f"local/broker-{broker}/files.txt"]
        assert ".log" in files[f"local/broker-{broker}/files.txt"]
        assert files[f"local/broker-{broker}/log.txt"]
    for name in files:
        assert name in files["README.txt"] or name == "README.txt"


def test_a_bundle_of_a_cluster_in_trouble_names_what_could_not_be_had(lograft: CommandLine, tmp_path: Path) -> None:
    lograft.run("kill", "1")
    said = lograft.run("debug", "bundle", "-O", str(tmp_path / "b.tgz"))
    assert "could not be had: brokers/1/metrics.txt" in said.stderr
    files = unpacked(tmp_path / "b.tgz", tmp_path / "out")
    assert json.loads(files["cluster/cluster.json"])["condition"] == "degraded"
    assert "brokers/1/metrics.txt" in files["README.txt"]
    assert files["local/broker-1/log.txt"]
    again = lograft.run("debug", "bundle", "-O", str(tmp_path / "b.tgz"), exit_code=1)
    assert "is there already" in again.stderr


def test_a_bundle_is_written_although_no_broker_answers(lograft: CommandLine, tmp_path: Path) -> None:
    elsewhere = CommandLine(tmp_path)
    config = lograft.directory / "lograft-data" / "broker-0" / "broker.toml"
    said = elsewhere.run("debug", "bundle", "--brokers", "127.0.0.1:1", "-c", str(config), "-O", "b.tgz")
    assert "could not be had: what the cluster tells of itself: no broker answered" in said.stderr
    files = unpacked(tmp_path / "b.tgz", tmp_path / "out")
    assert "promises.log" in files["configured/0-broker/files.txt"]
    assert json.loads(files["machine.json"])["packages"]["lograft"]


def test_a_shell_completes_topics_and_groups_from_the_cluster(lograft: CommandLine) -> None:
    wanted = [("lograft topic describe ord", "orders"), ("lograft group describe b", "billing")]
    script = lograft.run("completion", "bash").stdout
    for words, completed in wanted:
        asking = (
            f"{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
            '_lograft_completion lograft; echo "${COMPREPLY[*]}"'
        )
        environment = {**lograft.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        told = subprocess.run(
            ["bash", "-c", asking], cwd=lograft.directory, env=environment, capture_output=True, text=True
        )
        assert told.stdout.split() == [completed], told


def test_a_profile_is_checked_at_its_own_addresses_and_finds_the_cluster_from_anywhere(
    lograft: CommandLine, tmp_path: Path
) -> None:
    lograft.run("profile", "create", "here", "--use")
    assert "broker 1" not in lograft.run("profile", "check", "here").stderr
    elsewhere = CommandLine(tmp_path)
    elsewhere.environment["XDG_CONFIG_HOME"] = lograft.environment["XDG_CONFIG_HOME"]
    assert "orders" in elsewhere.run("topic", "list").stdout
    lograft.run("kill", "1")
    assert "does not answer" in lograft.run("profile", "check", "here", exit_code=1).stderr
    lograft.run("profile", "delete", "here")


def test_an_address_that_brokers_advertise_and_clients_cannot_reach_is_named(tmp_path: Path) -> None:
    grpc_port, peer_port, http_port, nobodys = free_ports(4)
    (tmp_path / "broker.toml").write_text(
        f'[broker]\nid = 0\ndata_directory = "{tmp_path}/data"\n'
        f'[listen]\ngrpc = "127.0.0.1:{grpc_port}"\npeer = "127.0.0.1:{peer_port}"\nhttp = "127.0.0.1:{http_port}"\n'
        f'[advertise]\ngrpc = "127.0.0.1:{nobodys}"\n'
    )
    home = CommandLine(tmp_path)
    with subprocess.Popen(
        [*LOGRAFT, "broker", "-c", "broker.toml"], cwd=tmp_path, env=home.environment, stderr=subprocess.DEVNULL
    ) as broker:
        try:
            home.run("profile", "create", "alone", "--brokers", f"127.0.0.1:{grpc_port}")
            deadline = time.monotonic() + 30
            while True:
                told = home.run("profile", "check", "alone", exit_code=1).stderr
                if "tells clients to use it" in told or time.monotonic() > deadline:
                    break
                time.sleep(0.3)
        finally:
            broker.terminate()
    assert f"127.0.0.1:{nobodys} does not answer, and broker 0 tells clients to use it; set advertise.grpc" in told
