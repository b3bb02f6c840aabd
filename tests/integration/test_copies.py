"""Copies of a data directory: whoever is not the newest one of them never counts for what the newest acknowledged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_ports

from .brokers import Broker, Brokers, a_batch, eventually
from .test_moves import described, is_whole, lograft


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    cluster = Brokers(tmp_path)
    cluster.start()
    yield cluster
    cluster.stop()


def exit_code_of(broker: Broker) -> int:
    assert broker.process is not None
    return broker.process.wait(timeout=20)


def restored_from_an_older_copy(brokers: Brokers, broker: Broker) -> None:
    """The broker is down, with a data directory that has been in use since it was copied."""
    broker.stop()
    copy = broker.directory / "copy"
    shutil.copytree(broker.data_directory, copy)
    broker.start()
    brokers.await_ready()
    values = [f"after the copy {count}".encode() for count in range(20)]
    for value in values:
        acknowledged = eventually(lambda value=value: brokers.leader_of("kept").produce("kept", a_batch(value)))
        assert not acknowledged.error.reason
    broker.stop()
    shutil.rmtree(broker.data_directory)
    shutil.move(copy, broker.data_directory)


def test_a_directory_restored_from_an_older_copy_is_refused_however_often_it_is_started(brokers: Brokers) -> None:
    brokers.create_topic("kept", replication=3)
    restored = brokers[1]
    restored_from_an_older_copy(brokers, restored)
    restored.start()
    assert exit_code_of(restored) == 3
    # Each start has a higher number, so the others would believe the third: the directory itself must say no.
    for _ in range(3):
        restored.start()
        assert exit_code_of(restored) == 1
    last_line = restored.log_path.read_text().splitlines()[-1]
    assert "older copy" in last_line and str(restored.data_directory) in last_line, last_line
    shutil.rmtree(restored.data_directory)
    restored.start()
    brokers.await_ready()


def test_of_two_copies_that_run_at_once_one_ends_and_does_not_come_back(brokers: Brokers, tmp_path: Path) -> None:
    brokers.create_topic("kept", replication=3)
    first = brokers[1]
    shutil.copytree(first.data_directory, tmp_path / "copied")
    ports = free_ports(3)
    peers = {broker.broker_id: broker.peer_port for broker in brokers.all} | {1: ports[1]}
    (tmp_path / "elsewhere").mkdir()
    copy = Broker(1, tmp_path / "elsewhere", (ports[0], ports[1], ports[2]), peers)
    shutil.move(tmp_path / "copied", copy.data_directory)
    copy.start()
    try:
        ended = eventually(lambda: next((one for one in (first, copy) if not one.is_running), None), seconds=20)
        assert exit_code_of(ended) == 3
        ended.start()
        assert exit_code_of(ended) == 1
        assert "older copy" in ended.log_path.read_text().splitlines()[-1]
    finally:
        copy.kill()


def test_a_disk_that_was_not_mounted_at_one_start_comes_back_with_all_it_held(brokers: Brokers, tmp_path: Path) -> None:
    away = brokers[1]
    brokers.create_topic("kept", replication=3)
    brokers.create_topic("single", partitions=6, replication=1)
    parts = described(brokers[0], "single").partitions
    number = next(part.number for part in parts if part.replicas[0].broker_id == 1)
    values = [f"value {count}".encode() for count in range(20)]
    assert not eventually(lambda: away.produce("single", a_batch(*values), partition=number)).error.reason
    assert not eventually(lambda: brokers.leader_of("kept").produce("kept", a_batch(*values))).error.reason
    away.stop()
    shutil.move(away.data_directory, tmp_path / "unmounted")
    away.start()
    brokers.await_ready()
    eventually(lambda: described(brokers[0], "single").partitions[number].moving or is_whole(brokers[0], "kept"))
    away.stop()
    shutil.rmtree(away.data_directory)
    shutil.move(tmp_path / "unmounted", away.data_directory)
    away.start()
    brokers.await_ready()
    eventually(lambda: is_whole(brokers[0], "kept"), seconds=40)
    assert brokers.leader_of("kept").values("kept") == values
    assert brokers.leader_of("single", number).values("single", number) == values
    # It is placed on that very disk as somebody else, for whom the only one that votes would have to go.
    moved = lograft(brokers, "partition", "move", "single", str(number), "--to", "0")
    assert moved.returncode == 0, moved.stderr

    def is_elsewhere() -> bool:
        part = described(brokers[0], "single").partitions[number]
        return part.leader_id == 0 and not part.moving

    eventually(is_elsewhere, seconds=30)
    away.kill()
    assert brokers.leader_of("single", number).values("single", number) == values
