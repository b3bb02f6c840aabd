"""cluster.json and what is found through it. No broker runs here: a process that sleeps stands for one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from lograft.client.cli import local_cluster
from lograft.client.cli.endings import Refused
from lograft.client.cli.local_cluster import LocalCluster, client_addresses, find
from lograft.client.cli.processes import ProcessIdentity, identity_of


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def process() -> Iterator[ProcessIdentity]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as sleeper:
        identity = identity_of(sleeper.pid)
        assert identity is not None
        yield identity
        sleeper.kill()


def a_cluster(directory: Path, brokers: int = 3) -> LocalCluster:
    cluster = LocalCluster.new(directory.absolute(), brokers, 9600)
    cluster.prepare()
    return cluster


def test_a_cluster_is_read_as_it_was_saved(process: ProcessIdentity) -> None:
    cluster = a_cluster(Path("lograft-data"))
    cluster.brokers[1].process = process
    cluster.brokers[2].ended_by = "lograft kill"
    cluster.save()
    assert LocalCluster.load(cluster.directory) == cluster
    assert [broker.broker_id for broker in cluster.running] == [1]


def test_a_broker_whose_pid_belongs_to_somebody_else_now_is_not_running(process: ProcessIdentity) -> None:
    cluster = a_cluster(Path("lograft-data"))
    cluster.brokers[0].process = ProcessIdentity(process.pid, "an earlier boot:1")
    cluster.save()
    reread = find(None)
    assert reread.running == []
    assert reread.stop("lograft down") == []
    with pytest.raises(Refused, match="broker 0 is not running"):
        reread.kill(reread.brokers[0])
    assert identity_of(process.pid) == process


def test_kill_notes_who_did_it_and_waits_until_the_broker_is_gone(process: ProcessIdentity) -> None:
    cluster = a_cluster(Path("lograft-data"))
    cluster.brokers[0].process = process
    cluster.kill(cluster.brokers[0])
    assert not cluster.brokers[0].is_running
    assert find(None).brokers[0].ended_by == "lograft kill"


def test_the_secret_is_readable_by_its_owner_alone_and_kept() -> None:
    cluster = a_cluster(Path("lograft-data"))
    secret = cluster.directory / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    before = secret.read_text()
    cluster.prepare()
    assert secret.read_text() == before
    assert len(before.strip()) == 64


def test_each_broker_gets_a_configuration_that_says_who_and_where_it_is() -> None:
    cluster = a_cluster(Path("lograft-data"))
    config = tomllib.loads(cluster.brokers[2].config.read_text())
    assert config["broker"] == {"id": 2, "data_directory": str(cluster.directory / "broker-2" / "data")}
    assert config["listen"] == {name: f"127.0.0.1:962{at}" for at, name in enumerate(("grpc", "peer", "http", "kafka"))}
    assert config["cluster"]["peers"] == {"0": "127.0.0.1:9601", "1": "127.0.0.1:9611", "2": "127.0.0.1:9621"}
    assert config["cluster"]["secret_file"] == str(cluster.directory / "secret")


@pytest.mark.parametrize(("brokers", "voters"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (7, 5)])
def test_a_cluster_is_formed_by_three_or_five_of_its_brokers(brokers: int, voters: int) -> None:
    cluster = a_cluster(Path("lograft-data"), brokers)
    assert len(tomllib.loads(cluster.brokers[-1].config.read_text())["cluster"]["peers"]) == voters


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"kind": "something else"}', '{"kind": "lograft local cluster", "format": 1}']
)
def test_a_description_that_cannot_be_read_is_refused_by_name(text: str) -> None:
    directory = Path("lograft-data")
    directory.mkdir()
    (directory / "cluster.json").write_text(text)
    with pytest.raises(Refused, match=r"cluster\.json cannot be read"):
        find(directory)


def test_a_description_of_a_later_format_is_refused_by_name() -> None:
    cluster = a_cluster(Path("lograft-data"))
    path = cluster.directory / "cluster.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(Refused, match="has format 2, this lograft reads 1"):
        find(None)


def test_only_the_clusters_own_files_are_deleted() -> None:
    cluster = a_cluster(Path("lograft-data"))
    kept = [cluster.directory / name for name in ("notes.txt", "broker-x", "broker-")]
    for path in kept:
        path.write_text("mine")
    cluster.delete()
    assert sorted(cluster.directory.iterdir()) == sorted(kept)


def test_deletion_does_not_follow_a_link_out_of_the_directory(tmp_path: Path) -> None:
    cluster = a_cluster(Path("lograft-data"))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    (cluster.directory / "broker-7").symlink_to(precious)
    cluster.delete()
    assert (precious / "file").exists()


def test_clients_go_where_they_are_told_first() -> None:
    assert client_addresses("a:1, b:2") == ["a:1", "b:2"]


def test_clients_find_the_running_cluster_here_and_ask_the_living_first(process: ProcessIdentity) -> None:
    cluster = a_cluster(Path("lograft-data"))
    cluster.brokers[1].process = process
    cluster.save()
    assert client_addresses(None) == ["127.0.0.1:9610", "127.0.0.1:9600", "127.0.0.1:9620"]


def test_clients_find_the_cluster_last_started_from_anywhere(process: ProcessIdentity, tmp_path: Path) -> None:
    cluster = a_cluster(tmp_path / "far away", brokers=1)
    cluster.brokers[0].process = process
    cluster.save()
    local_cluster.remember(cluster.directory)
    a_cluster(Path("lograft-data"))  # here, but stopped
    assert client_addresses(None) == ["127.0.0.1:9600"]
    assert find(None).directory == cluster.directory


def test_clients_are_told_that_the_cluster_is_stopped() -> None:
    a_cluster(Path("lograft-data"))
    with pytest.raises(Refused, match=r"in \./lograft-data is stopped; start it with `lograft up`"):
        client_addresses(None)


def test_clients_are_told_that_there_is_no_cluster() -> None:
    with pytest.raises(Refused, match="no cluster to talk to"):
        client_addresses(None)


def test_what_the_shell_says_for_brokers_does_not_make_two_of_them_one(
    monkeypatch: pytest.MonkeyPatch, process: ProcessIdentity
) -> None:
    passed: dict[str, str] = {}

    def spawn(command: object, *, environment: dict[str, str], **rest: object) -> ProcessIdentity:
        passed.update(environment)
        return process

    monkeypatch.setattr(local_cluster.processes, "spawn", spawn)
    monkeypatch.setenv("LOGRAFT_BROKER__ID", "7")
    monkeypatch.setenv("LOGRAFT_LISTEN__GRPC", "0.0.0.0:1")
    monkeypatch.setenv("LOGRAFT_LOG__LEVEL", "debug")
    cluster = a_cluster(Path("lograft-data"))
    cluster.launch(cluster.brokers[0])
    assert "LOGRAFT_LOG__LEVEL" in passed
    assert not {"LOGRAFT_BROKER__ID", "LOGRAFT_LISTEN__GRPC"} & set(passed)


def test_the_log_of_the_start_before_is_kept(monkeypatch: pytest.MonkeyPatch, process: ProcessIdentity) -> None:
    monkeypatch.setattr(local_cluster.processes, "spawn", lambda *args, **kwargs: process)
    cluster = a_cluster(Path("lograft-data"))
    broker = cluster.brokers[0]
    broker.log.write_text("why it died\n")
    cluster.launch(broker)
    assert broker.log.with_name("log.previous").read_text() == "why it died\n"
    assert broker.last_words() == []


def test_a_brokers_last_words_are_made_readable() -> None:
    cluster = a_cluster(Path("lograft-data"))
    broker = cluster.brokers[0]
    broker.log.write_text(
        '{"event": "cannot listen", "level": "error", "timestamp": "2026-01-02T03:04:05.678901Z", "port": 9600}\n'
        "Traceback, or whatever is no JSON\n[1]\n"
    )
    assert broker.last_words() == [
        "03:04:05.678 error: cannot listen port=9600",
        "Traceback, or whatever is no JSON",
        "[1]",
    ]


def test_a_state_file_that_cannot_be_written_costs_nothing_but_convenience(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a directory should be")
    local_cluster.remember(tmp_path)
    with pytest.raises(Refused):
        client_addresses(None)
    assert os.path.isfile(tmp_path / "state")


def test_a_broker_that_is_added_has_the_next_ports_and_all_are_told_of_it() -> None:
    cluster = LocalCluster.new(Path("lograft-data").absolute(), 1, 9600)
    cluster.prepare("debug", "[replica]\nelection_timeout_ms = 700\n")
    cluster.brokers[0].process = identity_of(os.getpid())
    added = cluster.add_broker()
    cluster.add_broker()
    assert (added.broker_id, added.address) == (1, "127.0.0.1:9610")
    configs = [tomllib.loads(broker.config.read_text()) for broker in cluster.brokers]
    peers = {"0": "127.0.0.1:9601", "1": "127.0.0.1:9611", "2": "127.0.0.1:9621"}
    assert [config["cluster"]["peers"] for config in configs] == [peers, peers, peers]
    assert [config["broker"]["id"] for config in configs] == [0, 1, 2]
    assert all(config["log"]["level"] == "debug" for config in configs)
    assert all(config["replica"]["election_timeout_ms"] == 700 for config in configs)
    assert LocalCluster.load(cluster.directory) == cluster


def test_a_broker_that_was_removed_stays_removed_and_its_number_is_not_used_again(process: ProcessIdentity) -> None:
    cluster = a_cluster(Path("lograft-data"), 4)
    cluster.brokers[2].process = process
    cluster.retire(cluster.brokers[2])
    assert identity_of(process.pid) != process
    reread = find(None).moved_to(9700)
    assert [broker.broker_id for broker in reread.members] == [0, 1, 3]
    assert reread.addresses == ["127.0.0.1:9700", "127.0.0.1:9710", "127.0.0.1:9730"]
    reread.prepare()
    assert set(tomllib.loads(reread.brokers[0].config.read_text())["cluster"]["peers"]) == {"0", "1", "3"}
    reread.brokers[0].process = identity_of(os.getpid())
    assert reread.add_broker().broker_id == 4
