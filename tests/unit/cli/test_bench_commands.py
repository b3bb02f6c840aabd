"""What a bench is not asked to do: one line, exit code 2, and nobody was connected to."""

from __future__ import annotations

from pathlib import Path

import pytest
from lograft.client.bench import order, payload
from lograft.client.cli import bench_commands
from lograft.client.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("LOGRAFT_BROKERS", raising=False)
    (tmp_path / "empty").touch()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("produce --size 0", "--size: 0: it must be 1 or more"),
        ("produce --size many", "'many' is no size; write it as 100, 1KiB, 64KiB or 1MB"),
        ("produce --size 2MiB", "do not fit a batch of 1,048,576; raise --batch"),
        ("produce --size 13MiB", "12,582,812 is the most"),
        ("produce --batch 20MiB", "--batch: a batch of 20,971,520 B: it has 1,024 to 12,582,912"),
        ("produce --rate -1", "--rate: -1: it must be above 0"),
        ("produce --rate nan", "--rate: nan: it must be above 0"),
        ("produce --seconds 0", "--seconds: 0: it must be above 0"),
        ("produce --seconds inf", "--seconds: inf: it must be above 0"),
        ("produce --warmup -1", "--warmup: -1: it must be 0 or more"),
        ("produce --linger 60001", "--linger: 60001: it is 0 to 60,000 ms"),
        ("produce --records 0", "--records: 0: it must be 1 or more"),
        ("produce --partitions 0", "--partitions: 0: it must be 1 or more"),
        ("produce --replicas -1", "--replicas: -1: it must be 1 or more"),
        ("produce --records 2 --clients 3", "--records: 2 cannot be shared by 3 clients"),
        ("produce --records 5 --seconds 5", "each say when to end; keep one"),
        ("produce --clients 0", "--clients: 0: it must be 1 or more"),
        ("produce --clients 65", "that takes 65 processes, and 64 is the most; ask for fewer"),
        ("mixed --clients 2 --consumers 9 --groups 7", "that takes 65 processes"),
        ("mixed --groups -1", "--groups: -1: it must be 0 or more"),
        ("produce -z snappy", "'snappy' is not one of"),
        ("produce --acks all", "'all' is not one of"),
        ("produce --durability disk", "'disk' is not one of"),
        ("produce --payload nowhere", "is none of random, zeros and text, and cannot be read as a file: No such file"),
        ("produce --payload empty", "empty is empty"),
        ("latency --size 15", "15 B have no room for the time a record was due; 16 or more"),
        ("latency --one-at-a-time --rate 5", "leave --rate out"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_option_and_what_is_right(
    capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    assert main(["bench", *arguments.split()]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert says in line
    assert line.endswith(f"see `lograft bench {arguments.split()[0]} --help`")


@pytest.mark.parametrize("command", ["produce", "consume", "latency", "mixed"])
def test_without_a_cluster_it_says_how_to_start_one(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["bench", command]) == 1
    assert "start one with `lograft up`" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["produce", "consume", "latency", "mixed"])
def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["bench", command, "--help"]) == 0
    assert f"\n    lograft bench {command}" in capsys.readouterr().out


def test_limits_that_the_command_line_knows_are_those_of_the_modules_it_does_not_import() -> None:
    assert bench_commands.STAMP_BYTES == payload.STAMP_BYTES
    assert bench_commands.WORKERS_MAX == order.WORKERS_MAX
