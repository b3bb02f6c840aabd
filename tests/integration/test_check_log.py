"""`lograft check log` on the directories of real brokers that were stopped, killed, damaged, or run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.brokers import Brokers, a_batch, eventually

LOGRAFT = [sys.executable, "-m", "lograft.client.cli.main"]
SMALL = {"segment.bytes.max": "65536", "batch.bytes.max": "65536"}
COUNT = 40


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Three brokers with a topic of several segments."""
    settings = "[scrub]\ninterval_ms = 500\nbytes_per_s = 100000000\n"
    brokers = Brokers(tmp_path_factory.mktemp("checked"), settings=settings)
    try:
        brokers.start()
        brokers.create_topic("events", partitions=2, config=SMALL)
        for partition in range(2):
            leader = brokers.leader_of("events", partition)
            for number in range(COUNT):
                batch = a_batch(f"{number}:".encode().ljust(10_000, b"."))
                assert not leader.produce("events", batch, partition=partition).error.reason
        yield brokers
    finally:
        brokers.stop()


def check(brokers: Brokers, *options: str, exit_code: int) -> dict[str, Any]:
    directories = [str(broker.data_directory) for broker in brokers.all]
    ended = subprocess.run(
        [*LOGRAFT, "check", "log", "-o", "json", *options, *directories], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == exit_code, (ended.stdout[-4000:], ended.stderr)
    assert "Traceback" not in ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout) if ended.stdout else {"refused": ended.stderr}
    return found


def findings(told: dict[str, Any]) -> list[dict[str, Any]]:
    replicas = [replica for partition in told["partitions"] for replica in partition["replicas"]]
    return [finding for one in (*told["directories"], *told["partitions"], *replicas) for finding in one["findings"]]


def events(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [partition for partition in told["partitions"] if partition["topic"] == "events"]


def test_brokers_that_were_stopped_left_whole_and_equal_replicas(brokers: Brokers) -> None:
    brokers.start()
    brokers.stop()
    told = check(brokers, exit_code=0)
    assert findings(told) == []
    assert [partition["compared_offsets"] for partition in events(told)] == [[0, COUNT]] * 2
    assert all(replica["records"] == COUNT for partition in events(told) for replica in partition["replicas"])
    assert {"__cluster", "__offsets", "events"} == {partition["topic"] for partition in told["partitions"]}


def test_brokers_that_were_killed_left_nothing_worse_than_notes(brokers: Brokers) -> None:
    brokers.start()
    leader = brokers.leader_of("events")
    for _ in range(5):
        leader.produce("events", a_batch(b"x" * 1000))
    for broker in brokers.all:
        broker.kill()
    check(brokers, exit_code=0)


def test_running_brokers_are_left_alone_unless_they_are_to_be_read_live(brokers: Brokers) -> None:
    brokers.start()
    assert "--live" in check(brokers, exit_code=2)["refused"]
    told = check(brokers, "--live", exit_code=0)
    assert all(one["running"] for one in told["directories"])
    assert all(broker.is_running for broker in brokers.all)


def damaged_file(brokers: Brokers, suffix: str) -> Path:
    directory = brokers[1].data_directory
    if suffix == "promises.log":
        return directory / suffix
    largest = max(directory.glob("partitions/*"), key=lambda path: len(list(path.glob("*.log"))))
    return sorted(largest.glob(f"*{suffix}"))[1]


@pytest.mark.parametrize(
    "suffix", [".log", ".index", *(pytest.param(one, marks=pytest.mark.long) for one in (".head", "promises.log"))]
)
def test_a_flip_is_found_where_it_is_and_is_gone_once_the_broker_has_repaired_it(brokers: Brokers, suffix: str) -> None:
    brokers.start()
    brokers.stop()
    known = findings(check(brokers, exit_code=0))
    path = damaged_file(brokers, suffix)
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)
    before = {one: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}
    told = findings(check(brokers, exit_code=0 if suffix == ".index" else 1))
    # Whoever stopped first may lack the last item: then the damage leaves one whole copy of it, which is a danger too.
    new = [one for one in told if one not in known and one["level"] != "danger"]
    assert len(new) == 1, new
    (finding,) = new
    assert finding["path"] == str(path)
    assert finding["level"] == ("note" if suffix == ".index" else "damage")
    assert {one: one.read_bytes() for one in path.parent.iterdir() if one.is_file()} == before

    brokers.start()
    eventually(lambda: not path.exists() or path.read_bytes() != bytes(content), 30)
    brokers.stop()
    assert not [one for one in findings(check(brokers, exit_code=0)) if one["level"] != "note"]
