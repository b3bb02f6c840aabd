"""What docs/kafka.md shows is what works: each quick start is run as it stands there."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import pytest
from lograft.v1 import groups_service_pb2 as groups_pb

from tests.integration.brokers import Brokers
from tests.integration.kafka import go_clients, kafkajs
from tests.integration.kafka.clients import until

DOCS = Path(__file__).parents[3] / "docs" / "kafka.md"
STARTS = re.findall(r"\*\*([a-z-]+)\*\*[^\n]*\n```(python|go|javascript)\n(.*?)```", DOCS.read_text(), re.S)
IN_PYTHON, IN_GO = (
    pytest.mark.parametrize(
        ("client", "code"),
        [(client, code) for client, found, code in STARTS if found == language],
        ids=[client for client, found, _ in STARTS if found == language],
    )
    for language in ("python", "go")
)
(IN_JAVASCRIPT,) = (code for _, found, code in STARTS if found == "javascript")
KCAT = shutil.which("kcat")


def placed(shown: str, bootstrap: str, topic: str, group: str) -> str:
    """The same for a cluster of the tests, with a topic and a group of its own."""
    shown = shown.replace("127.0.0.1:9603", bootstrap).replace('"events"', f'"{topic}"')
    return shown.replace('"team"', f'"{group}"')


@IN_PYTHON
def test_each_quick_start_works_as_it_is_shown(brokers: Brokers, bootstrap: str, client: str, code: str) -> None:
    topic = f"events-of-{client}"
    brokers.create_topic(topic, partitions=3)
    code = placed(code, bootstrap, topic, client)
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    assert topic in shown.stdout and "hello" in shown.stdout


@pytest.mark.long
@pytest.mark.skipif(bool(go_clients.what_is_missing()), reason=go_clients.what_is_missing() or "they are here")
@IN_GO
def test_each_quick_start_in_go_works_as_it_is_shown(
    brokers: Brokers, bootstrap: str, client: str, code: str, tmp_path: Path
) -> None:
    topic = f"events-of-{client}"
    brokers.create_topic(topic, partitions=3)
    for name in go_clients.MODULES:
        shutil.copy(go_clients.SOURCES / name, tmp_path)
    one_broker = bootstrap.partition(",")[0]  # as it is shown: a name of a list in Go
    (tmp_path / "main.go").write_text(placed(code, one_broker, topic, client))
    assert not (trouble := go_clients.build(tmp_path, tmp_path / "start")), trouble
    shown = subprocess.run([tmp_path / "start"], capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    assert topic in shown.stdout and "hello" in shown.stdout


@pytest.mark.skipif(bool(kafkajs.what_is_missing()), reason=kafkajs.what_is_missing() or "it is here")
def test_the_quick_start_of_kafkajs_works_as_it_is_shown(brokers: Brokers, bootstrap: str, tmp_path: Path) -> None:
    brokers.create_topic("events-of-kafkajs", partitions=3)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "kafkajs").symlink_to(kafkajs.directory())
    one_broker = bootstrap.partition(",")[0]  # as it is shown: a name of a list
    (tmp_path / "start.js").write_text(placed(IN_JAVASCRIPT, one_broker, "events-of-kafkajs", "of-kafkajs-start"))
    started = subprocess.Popen(["node", "start.js"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    late = threading.Timer(60, started.kill)
    late.start()
    try:
        assert started.stdout is not None
        shown = next((line for line in started.stdout if "hello" in line), "")
        assert shown.startswith("events-of-kafkajs "), shown
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == 0
    finally:
        late.cancel()
        started.kill()
        started.wait(30)


@pytest.mark.skipif(KCAT is None, reason="kcat is not installed: apt-get install kcat")
def test_what_is_shown_of_kcat_works(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("events-of-kcat", partitions=3)
    told = DOCS.read_text().partition("\n**kcat**")[2].partition("\n\n")[0].replace("\n", " ")
    shown = [one for one in re.findall(r"`([^`]+)`", told) if "kcat -b" in one]
    words = [one.replace("127.0.0.1:9603", bootstrap).replace("events", "events-of-kcat") for one in shown]
    write, read_all, in_a_group = words
    ran = [subprocess.run(["sh", "-c", one], capture_output=True, text=True, timeout=60) for one in (write, read_all)]
    assert [one.returncode for one in ran] == [0, 0], ran
    assert sorted(map(int, ran[1].stdout.split())) == list(range(1, 101))
    member = subprocess.Popen(["sh", "-c", f"exec {in_a_group}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        request = groups_pb.ListGroupsRequest()
        until(
            lambda: any(
                one.group == "team"
                for broker in brokers.all
                for one in broker.groups.ListGroups(request, timeout=5).groups
            )
        )
    finally:
        member.terminate()
        member.communicate(timeout=30)


def test_there_is_one_for_each_client() -> None:
    clients = ["confluent-kafka", "kafka-python", "aiokafka", "franz-go", "sarama", "kafkajs"]
    assert [client for client, _, _ in STARTS] == clients


def test_the_versions_that_are_told_are_those_that_run() -> None:
    told = dict(re.findall(r"^\| ([a-z-]+)[^|]*\| ([\d.]+) \|", DOCS.read_text(), re.M))
    in_go = {module.removeprefix("github.com/"): found[1:] for module, found in go_clients.versions().items()}
    run = {client: version(client) for client in ("confluent-kafka", "kafka-python", "aiokafka")}
    run |= {"franz-go": in_go["twmb/franz-go"], "sarama": in_go["IBM/sarama"], "kafkajs": kafkajs.VERSION}
    assert {client: told.get(client) for client in run} == run
