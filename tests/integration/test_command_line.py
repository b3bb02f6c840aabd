"""The command line as users type it, on a cluster of its own that `lograft up` makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_base_port

from .brokers import HEARS_CTRL_C
from .command_line import LOGRAFT, CommandLine


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    command_line = CommandLine(tmp_path_factory.mktemp("command-line"))
    base_port = free_base_port(3)
    try:
        command_line.run("up", "--detach", "--base-port", str(base_port))
        yield command_line
    finally:
        command_line.run("down")


@pytest.fixture
def lograft(home: CommandLine) -> CommandLine:
    """With a cluster that runs, whatever the test before did to it."""
    home.run("up", "--detach")
    return home


@pytest.mark.long
def test_what_was_produced_outlives_a_killed_broker_and_a_restart_of_all(lograft: CommandLine) -> None:
    lograft.run("topic", "create", "events", "-p", "3")
    lines = "".join(f"key-{number % 7} line {number}\n" for number in range(2000))
    produced = lograft.run("produce", "events", "-f", "%k %v\\n", given=lines)
    assert "2,000 records" in produced.stderr
    assert "durability fsync x " in produced.stderr

    lograft.run("kill", "1")
    assert "broker 1 is not running" in lograft.run("kill", "1", exit_code=1).stderr
    states = [broker["state"] for broker in json.loads(lograft.run("status", "-o", "json").stdout)["brokers"]]
    assert states == ["serving", "killed", "serving"]
    lograft.run("produce", "events", "-k", "late", given="while one is away\n")
    lograft.run("start", "1")
    lograft.run("cluster", "health", "-w", "-e")

    lograft.run("down")
    lograft.run("up", "--detach")
    consumed = lograft.run("consume", "events", "-o", "start", "-e", "-f", "%k %v\\n").stdout
    assert sorted(consumed.splitlines()) == sorted([*lines.splitlines(), "late while one is away"])
    last = lograft.run("consume", "events", "-o", "-1", "-n", "1", "--json").stdout
    assert json.loads(last)["topic"] == "events"
    lograft.run("topic", "delete", "events")
    assert "no topic 'events'" in lograft.run("topic", "describe", "events", exit_code=1).stderr


def test_up_again_says_that_it_runs_and_starts_nothing(lograft: CommandLine) -> None:
    before = lograft.broker_pids()
    assert "runs already" in lograft.run("up", "--detach").stderr
    assert "runs already, with 3 brokers" in lograft.run("up", "--detach", "-n", "5", exit_code=1).stderr
    assert lograft.broker_pids() == before


def test_lines_that_were_not_delivered_are_counted_and_the_exit_code_says_so(lograft: CommandLine) -> None:
    lograft.run("topic", "create", "orders", "-p", "1")
    too_large = "x" * (1 << 21)
    ended = lograft.run("produce", "orders", given=f"one\n{too_large}\nthree\n", exit_code=1)
    assert "1 record," in ended.stderr
    assert "2 of 3 records read were not delivered" in ended.stderr
    assert lograft.run("consume", "orders", "-o", "start", "-e").stdout == "one\n"


@pytest.mark.long
def test_members_share_a_topic_store_what_they_showed_and_are_sought_while_they_read(lograft: CommandLine) -> None:
    lines = [f"order {number}" for number in range(100)]
    lograft.run("topic", "create", "shared", "-p", "2")
    lograft.run("produce", "shared", "-f", "%k %v\\n", given="".join(f"{line[6:]} {line}\n" for line in lines))
    shown = lograft.run("consume", "shared", "-g", "team", "--reset", "start", "-n", "30").stdout
    shown += lograft.run("consume", "shared", "-g", "team", "-e").stdout
    assert sorted(shown.splitlines()) == sorted(lines)

    def standing() -> dict[str, Any]:
        described: dict[str, Any] = json.loads(lograft.run("group", "describe", "team", "-o", "json").stdout)
        return described

    log = lograft.directory / "shared.log"
    with log.open("wb") as output:
        member = subprocess.Popen(
            [*HEARS_CTRL_C, *LOGRAFT, "consume", "shared", "-g", "team"],
            cwd=lograft.directory,
            env=lograft.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
    try:
        _until(lambda: [one["member_id"] is not None for one in standing()["partitions"]] == [True, True])
        told = lograft.run("group", "delete", "team", "-y", exit_code=1).stderr
        assert "has members (1)" in told and told.startswith("lograft: ")
        told = lograft.run("group", "seek", "team", "--to", "start", exit_code=1).stderr
        assert "add --yes to move it, or --dry-run" in told
        planned = lograft.run("group", "seek", "team", "--to", "start", "--dry-run").stdout
        assert "100 records to be read again" in planned and log.read_bytes() == b""
        moved = json.loads(lograft.run("group", "seek", "team", "--to", "start", "-y", "-o", "json").stdout)
        assert (moved["moved"], moved["regranted"]) == (True, 2)
        _until(lambda: len(log.read_text().splitlines()) == 100)
        member.send_signal(signal.SIGINT)
        assert member.wait(20) == 130
    finally:
        member.kill()
        member.wait()
    assert (standing()["state"], standing()["lag_records"]) == ("empty", 0)
    lograft.run("group", "delete", "team")
    assert "no group 'team'" in lograft.run("group", "describe", "team", exit_code=1).stderr
    assert "no group shares it" in lograft.run("consume", "__offsets", "-g", "team", exit_code=1).stderr


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("command", "closed"),
    [
        ("produce closed", "<&-"),
        ("consume closed -o start -e", ">&-"),
        ("topic list", ">&-"),
        ("topic list", ">&- 2>&-"),
    ],
)
def test_a_closed_standard_stream_is_refused_like_any_that_cannot_be_used(
    lograft: CommandLine, command: str, closed: str
) -> None:
    if "closed" not in lograft.run("topic", "list").stdout:
        lograft.run("topic", "create", "closed", "-p", "1")
        lograft.run("produce", "closed", given="a line\n")
    ended = subprocess.run(
        ["sh", "-c", f'"$@" {command} {closed}', "sh", *LOGRAFT],
        cwd=lograft.directory,
        env=lograft.environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Traceback" not in ended.stderr
    assert "defect" not in ended.stderr
    assert ("ad file descriptor" in ended.stderr) is ("2>&-" not in closed)


@pytest.mark.long
def test_ctrl_c_in_the_foreground_stops_every_broker_and_tells_of_those_that_died(lograft: CommandLine) -> None:
    lograft.run("down")
    told = lograft.directory / "told"
    with told.open("wb") as output:
        up = subprocess.Popen(
            [*HEARS_CTRL_C, *LOGRAFT, "up"],
            cwd=lograft.directory,
            env=lograft.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_told(told, "Ctrl-C stops the cluster")
        pid = lograft.broker_pids()[2]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until_told(told, "broker 2 died (killed by SIGKILL)")
        lograft.run("start", "2")
        wait_until_told(told, "broker 2 is back")
        up.send_signal(signal.SIGINT)
        assert up.wait(20) == 0
    finally:
        up.kill()
    assert "stopped 3 brokers" in told.read_text()
    assert json.loads(lograft.run("status", "-o", "json").stdout)["running"] == 0


def wait_until_told(told: Path, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in told.read_text():
        assert time.monotonic() < deadline, told.read_text()
        time.sleep(0.05)


@pytest.mark.long
def test_trim_forgets_the_oldest_records_and_says_where_each_partition_starts(lograft: CommandLine) -> None:
    lograft.run("topic", "create", "trimmed", "-p", "2", "-c", "retention.bytes=1000000", "-c", "retention.ms=-1")
    lograft.run("produce", "trimmed", "-p", "0", given="".join(f"{number}\n" for number in range(10)))
    lograft.run("produce", "trimmed", "-p", "1", given="x\ny\n")
    told = lograft.run("topic", "trim", "trimmed", "--to", "4", "-p", "0").stderr
    assert told == "trimmed partition 0 starts at 4\n"
    assert lograft.run("consume", "trimmed", "-o", "start", "-e", "-p", "0").stdout.split() == list("456789")
    assert lograft.run("topic", "trim", "trimmed", "--to", "1", "-p", "0").stderr == told  # nothing to do
    told = lograft.run("topic", "trim", "trimmed", "--to", "-1").stderr
    assert told == "trimmed partition 0 starts at 9\ntrimmed partition 1 starts at 1\n"
    described = json.loads(lograft.run("topic", "describe", "trimmed", "-o", "json").stdout)
    assert [partition["log_start_offset"] for partition in described["partitions"]] == [9, 1]
    lograft.run("topic", "trim", "trimmed", "--to", "end")
    assert lograft.run("consume", "trimmed", "-o", "start", "-e").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "11", "-p", "0"), "committed up to 10; name an offset from 0 to that"),
        (("--to", "0", "-p", "7"), "no partition 7"),
        (("--to", "soon"), "is no offset"),
        (("--to", "stored"), "belongs to a group"),
    ],
)
def test_a_trim_that_cannot_be_says_why(lograft: CommandLine, arguments: tuple[str, ...], says: str) -> None:
    name = f"untrimmed-{says.split()[0]}"
    lograft.run("topic", "create", name, "-p", "1")
    lograft.run("produce", name, given="".join(f"{number}\n" for number in range(10)))
    assert says in lograft.run("topic", "trim", name, *arguments, exit_code=1).stderr
    assert lograft.run("consume", name, "-o", "start", "-e").stdout.split() == list("0123456789")


@pytest.mark.parametrize("setting", ["retention.ms=0", "retention.bytes=-2", "retention.ms=9223372036854775808"])
def test_a_limit_of_retention_that_cannot_be_is_refused(lograft: CommandLine, setting: str) -> None:
    told = lograft.run("topic", "create", "unmade", "-c", setting, exit_code=1).stderr
    assert "from 1 to 9223372036854775807, or -1 for no limit" in told
