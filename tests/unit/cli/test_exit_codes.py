"""What a user types wrong, and what is not there: exit code, one line, never a traceback."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from lograft.client.cli.local_cluster import LocalCluster
from lograft.client.cli.main import main
from lograft.client.cli.ports import BrokerPorts

from tests.ports import free_base_port

LOGRAFT = [sys.executable, "-m", "lograft.client.cli.main"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("LOGRAFT_BROKERS", raising=False)
    return tmp_path / "here"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str, exit_code: int = 1) -> str:
    """Run a command that must be refused; its one line."""
    assert main(arguments) == exit_code
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("lograft")
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nosuch"], "no such command 'nosuch'"),
        (["up", "-n", "0"], "greater than or equal to 1"),
        (["up", "-n", "three"], "valid integer"),
        (["up", "--log-level", "loud"], "'loud' is none of"),
        (["produce"], "missing argument 'topic'"),
        (["produce", "t", "--acks", "two"], "'two'"),
        (["produce", "t", "-H", "novalue"], "'novalue' is not NAME=VALUE"),
        (["produce", "t", "-f", "%q"], "%q is no verb here"),
        (["produce", "t", "-f", "%k %v", "-k", "x"], "-k has nothing to say"),
        (["produce", "t", "-f", "%p %v", "-p", "0"], "-p has nothing to say"),
        (["consume", "t", "-f", "%q"], "%q is no verb here"),
        (["consume", "t", "-p", "0,x"], "'0,x' is no list of numbers"),
        (["consume", "t", "--json", "-f", "%v"], "keep one"),
        (["consume", "t", "-o", "yesterday"], "'yesterday' is neither an offset nor a range"),
        (["consume", "t", "-n", "0"], "greater than or equal to 1"),
        (["consume", "t", "--reset", "start"], "there is no -g"),
        (["consume", "t", "-g", "g", "--reset", "begin"], "'begin' is not one of"),
        (["consume", "t", "-g", "g", "-p", "0"], "leave -p or -g out"),
        (["topic", "create", "t", "-c", "durability"], "'durability' is not KEY=VALUE"),
        (["topic", "alter", "t", "-c", "=1"], "'=1' is not KEY=VALUE"),
        (["topic", "alter", "t"], "name settings to change"),
        (["topic", "grow", "t"], "missing option"),
        (["topic", "grow", "t", "-p", "99999999999"], "less than or equal to"),
        (["cluster", "rebalance", "--at-once", "0"], "greater than or equal to 1"),
        (["partition", "move", "t", "0", "--to", "one"], "'one' is no list of broker ids"),
        (["partition", "move", "t", "0"], "missing option '--to'"),
        (["cluster", "set", "moves.bytes_per_second"], "missing argument 'value'"),
        (["kill"], "missing argument"),
        (["kill", "one"], "valid integer"),
        (["broker"], "name the broker's configuration"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_what_is_wrong(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    line = refusal(capsys, *arguments, exit_code=2)
    assert says in line
    assert "--help" in line


@pytest.mark.parametrize(
    "arguments",
    [
        *(["consume", "t"], ["consume", "t", "-g", "g"], ["topic", "list"], ["topic", "delete", "t"]),
        *(["cluster", "info"], ["cluster", "health"], ["group", "list"], ["group", "describe", "g"]),
        *(["cluster", "settings"], ["cluster", "set", "brokers.gone_after_ms", "1h"]),
        *(["partition", "list"], ["partition", "move", "t", "0", "--to", "1", "--wait"]),
        *(["group", "seek", "g", "--to", "start", "-y"], ["group", "delete", "g", "-y"]),
        *(["topic", "grow", "t", "-p", "3", "-y"], ["topic", "alter", "t", "-c", "segment.ms=5000"]),
        *(["cluster", "rebalance", "-y"], ["broker", "remove", "1", "--wait"]),
    ],
)
def test_without_a_cluster_every_client_command_says_how_to_get_one(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    line = refusal(capsys, *arguments)
    assert line == (
        "lograft: no cluster to talk to; start one with `lograft up`, or name brokers with --brokers or LOGRAFT_BROKERS"
    )


@pytest.mark.parametrize("arguments", [["status"], ["down"], ["kill", "0"], ["start", "0"], ["broker", "add"]])
def test_without_a_local_cluster_its_commands_say_how_to_make_one(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert refusal(capsys, *arguments) == (
        "lograft: there is no local cluster; `lograft up` makes one, --data DIR names one"
    )


def test_a_broker_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        assert address in refusal(capsys, "topic", "list", "--brokers", address)


@pytest.mark.parametrize("brokers", ["nohost", "host:", ":9600", "host:0", "host:65536", "host:x"])
def test_an_address_that_is_none_is_refused_before_anybody_is_asked(
    capsys: pytest.CaptureFixture[str], brokers: str
) -> None:
    assert repr(brokers) in refusal(capsys, "topic", "list", "--brokers", brokers)


@pytest.mark.parametrize("offsets", ["end", "@-1h", "-10", "5:end", "start:stored", "stored:stored", ":end"])
def test_a_member_begins_where_its_group_stands_and_other_places_are_refused_with_the_way_there(
    capsys: pytest.CaptureFixture[str], offsets: str
) -> None:
    line = refusal(capsys, "consume", "my topic", "-g", "billing", "-o", offsets)
    assert "so -o is stored, or stored:B; move the group first: lograft group seek billing --to" in line
    assert line.endswith("--topic 'my topic'")


def test_stored_offsets_are_refused_without_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a stored offset belongs to a group, and there is no -g" in refusal(
        capsys, "consume", "t", "-o", "stored:end"
    )


@pytest.mark.parametrize("arguments", [[], ["-g", "billing"]])
def test_reading_from_a_time_to_come_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert "still to come" in refusal(capsys, "consume", "t", "-o", "@2199-01-01", *arguments)


def test_up_leaves_a_directory_alone_that_is_not_its_own(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "cat.jpg").write_text("mine")
    for arguments in (["up", "--data", "photos"], ["up", "--data", "photos", "--fresh"]):
        line = refusal(capsys, *arguments)
        assert "photos holds 'cat.jpg', but no cluster of `lograft up`" in line
    assert [path.name for path in (here / "photos").iterdir()] == ["cat.jpg"]


def test_up_refuses_a_file_in_place_of_a_directory(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "file").write_text("")
    assert "file is no directory" in refusal(capsys, "up", "--data", "file")


def test_up_names_a_taken_port_its_holder_and_a_way_out_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    base_port = free_base_port(3)
    peer_port = BrokerPorts.of(base_port, 1).peer
    with socket.create_server(("127.0.0.1", peer_port)):
        line = refusal(capsys, "up", "--base-port", str(base_port))
    assert f"port {peer_port} is taken by" in line
    assert f"(pid {os.getpid()})" in line
    assert "--base-port" in line.partition(";")[2]
    assert list(here.iterdir()) == []


def test_up_does_not_change_the_number_of_brokers_of_a_cluster(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    LocalCluster.new(here / "lograft-data", 3, 9600).prepare()
    line = refusal(capsys, "up", "-n", "5")
    assert "has 3 brokers, not 5; leave -n out" in line


def test_down_and_status_of_a_stopped_cluster_are_done_and_say_so(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    LocalCluster.new(here / "lograft-data", 3, 9600).prepare()
    assert main(["down"]) == 0
    assert "no broker of ./lograft-data is running" in capsys.readouterr().err
    assert main(["status", "-o", "json"]) == 0
    assert '"running": 0' in capsys.readouterr().out


def test_a_broker_that_cannot_start_is_shown_with_its_last_words_and_all_are_stopped(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = [sys.executable, "-c", "import sys; sys.exit('lograft: this data directory belongs to another cluster')"]
    monkeypatch.setattr("lograft.client.cli.processes.broker_command", lambda arguments: dies)
    base_port = free_base_port(1)
    assert main(["up", "-n", "1", "--base-port", str(base_port)]) == 1
    *words, line = capsys.readouterr().err.splitlines()
    assert any("this data directory belongs to another cluster" in word for word in words)
    assert line.startswith("lograft: broker 0 did not start; its log is ")
    cluster = LocalCluster.load(here / "lograft-data")
    assert cluster is not None
    assert cluster.running == []


def test_fresh_deletes_the_cluster_that_was_there(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lograft.client.cli.processes.broker_command", lambda arguments: [sys.executable, "-c", "raise SystemExit(1)"]
    )
    cluster = LocalCluster.new(here / "lograft-data", 3, 9600)
    cluster.prepare()
    (cluster.brokers[2].directory / "data").mkdir()
    before = (here / "lograft-data" / "secret").read_text()
    base_port = free_base_port(1)
    main(["up", "--fresh", "-n", "1", "--base-port", str(base_port)])
    capsys.readouterr()
    assert not cluster.brokers[2].directory.exists()
    secret = here / "lograft-data" / "secret"
    assert secret.read_text() != before
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_help_is_by_example_and_imports_no_grpc() -> None:
    code = "import sys; from lograft.client.cli.main import main; main(['--help']); print('grpc' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "lograft topic create events" in told
    assert told.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    "command",
    ["up", "down", "status", "kill", "start", "broker", "produce", "consume", "topic create", "topic list",
     "topic describe", "topic delete", "group list", "group describe", "group seek", "group delete",
     "partition list", "partition move", "broker list", "broker drain", "broker undrain", "broker remove",
     "cluster info", "cluster health", "bench produce", "bench consume", "bench latency", "bench mixed"],
)  # fmt: skip
def test_every_command_shows_how_it_is_used(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert f"\n    lograft {command}" in capsys.readouterr().out


def test_a_group_of_commands_alone_shows_its_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topic"]) == 2
    assert "create" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        ended = subprocess.run([*LOGRAFT, "--help"], stdout=closed, stderr=subprocess.PIPE, check=False)
    assert ended.stderr == b""
    assert ended.returncode == 141


def test_the_version_is_told() -> None:
    told = subprocess.run([*LOGRAFT, "--version"], capture_output=True, text=True, check=True).stdout
    assert told.startswith("lograft 0.")


def test_what_would_move_or_grow_asks_first_and_where_nobody_can_be_asked_says_which_option_to_add(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert "add --yes to move, or --dry-run to see the plan" in refusal(capsys, "cluster", "rebalance")
    assert "add --yes" in refusal(capsys, "topic", "grow", "t", "-p", "9")


def test_no_broker_is_added_to_a_cluster_that_is_stopped_and_one_that_was_removed_is_not_started(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    cluster = LocalCluster.new(here / "lograft-data", 3, 9600)
    cluster.prepare()
    assert "is stopped" in refusal(capsys, "broker", "add")
    cluster.retire(cluster.brokers[2])
    assert "broker 2 was removed from the cluster; `lograft broker add` adds another" in refusal(capsys, "start", "2")


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (["partition", "recover", "__cluster", "0"], "--recover-cluster"),
        (["partition", "move", "__cluster", "0", "--to", "1"], "`lograft broker add` and `remove`"),
    ],
)
def test_the_decisions_themselves_are_not_treated_as_a_topic(
    capsys: pytest.CaptureFixture[str], arguments: list[str], instead: str
) -> None:
    assert main(arguments) == 1
    assert instead in capsys.readouterr().err
