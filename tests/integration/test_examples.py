"""The programs of examples/, as users run them, on a cluster that `lograft up` makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_base_port, free_ports

from .command_line import CommandLine

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def lograft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """With the topics that examples/README.md has one make."""
    home = CommandLine(tmp_path_factory.mktemp("examples"))
    base_port = free_base_port(3)
    try:
        home.run("up", "--detach", "--base-port", str(base_port))
        for line in (EXAMPLES / "README.md").read_text().splitlines():
            if line.startswith("lograft topic create"):
                home.run(*line.split()[1:])
        home.environment["LOGRAFT_BROKERS"] = f"127.0.0.1:{base_port}"
        yield home
    finally:
        home.run("down")


@contextmanager
def started(home: CommandLine, *command: str, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    with output.open("wb") as file, subprocess.Popen(
        [sys.executable, *command], cwd=EXAMPLES, env=home.environment, stdout=file, stderr=subprocess.STDOUT
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def eventually(what: Callable[[], bool], told: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)


def test_the_web_service_answers_once_an_order_is_safe(lograft: CommandLine, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    output = tmp_path / "web.log"
    with started(lograft, "-m", "uvicorn", "web_producer:app", "--port", str(port), output=output) as service:
        eventually(lambda: "Uvicorn running" in output.read_text(), output.read_text)
        answers = []
        for item in ("tea", "milk"):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/customers/ann/orders",
                data=json.dumps({"item": item, "count": 2}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 201
                answers.append(json.load(answer))
        service.send_signal(signal.SIGINT)
        service.wait(20)
    assert answers[0]["safe"].startswith("fsync x ")
    partition = answers[0]["partition"]
    assert answers[1]["partition"] == partition
    told = lograft.run("consume", "orders", "-o", "start", "-e", "-p", str(partition), "-f", "%k %v\\n").stdout
    assert [json.loads(line.partition(" ")[2])["item"] for line in told.splitlines()] == ["tea", "milk"]


def test_workers_share_the_orders_and_take_over_from_one_that_stops(lograft: CommandLine, tmp_path: Path) -> None:
    outputs = [tmp_path / "one.log", tmp_path / "two.log"]

    def handled() -> Counter[str]:
        lines = "".join(output.read_text() for output in outputs if output.exists()).splitlines()
        return Counter(line.split()[-1] for line in lines if line.startswith("handled"))

    def told() -> object:
        return [output.read_text() for output in outputs]

    def lag() -> object:
        return json.loads(lograft.run("group", "describe", "workers", "-o", "json").stdout)["lag_records"]

    with started(lograft, "worker.py", output=outputs[0]), started(lograft, "worker.py", output=outputs[1]) as second:
        eventually(lambda: all("mine now: " in output.read_text() for output in outputs), told)
        lograft.run("produce", "orders", "-f", "%k %v\\n", given="".join(f"{n} first-{n}\n" for n in range(200)))
        eventually(lambda: sum(value.startswith("first-") for value in handled()) == 200, told)
        assert all("handled" in output.read_text() for output in outputs)
        # What is handled is stored a little later: one that is stopped in between leaves it to be handled again.
        eventually(lambda: lag() == 0, told)
        second.send_signal(signal.SIGTERM)
        assert second.wait(20) == 0
        lograft.run("produce", "orders", "-f", "%k %v\\n", given="".join(f"{n} second-{n}\n" for n in range(200)))
        eventually(lambda: sum(value.startswith("second-") for value in handled()) == 200, told)
    assert max(count for value, count in handled().items() if "-" in value) == 1
    assert "Traceback" not in str(told())


def test_a_range_is_replayed_with_its_keys_partitions_and_times(lograft: CommandLine) -> None:
    lograft.run("topic", "create", "history", "-p", "2")
    lograft.run("produce", "history", "-f", "%k %v\\n", given="".join(f"k{n % 5} v{n}\n" for n in range(100)))
    command = [sys.executable, "replay.py", "history", "history-again", "--start", "@-1h"]
    told = subprocess.run(command, cwd=EXAMPLES, env=lograft.environment, capture_output=True, text=True, timeout=60)
    assert told.stdout == "replayed 100 records\n", told
    one, other = (
        lograft.run("consume", topic, "-o", "start", "-e", "-f", "%p %o %d %k %v\\n").stdout.splitlines()
        for topic in ("history", "history-again")
    )
    assert sorted(one) == sorted(other)
    assert len(one) == 100


@pytest.mark.long
def test_words_are_counted_exactly_although_the_counter_is_killed(lograft: CommandLine, tmp_path: Path) -> None:
    def counts() -> dict[str, int]:
        told = lograft.run("consume", "word-counts", "-o", "start", "-e", "-f", "%k %v\\n").stdout.splitlines()
        return {word: json.loads(value)["count"] for word, _, value in (line.partition(" ") for line in told)}

    output = tmp_path / "count.log"
    lines = "to be or not to be\nthat is the question\n" * 50
    for turn in (1, 2, 3):
        with started(lograft, "word_count.py", output=output) as counting:
            lograft.run("produce", "lines", given=lines)
            if turn < 3:
                time.sleep(0.5)  # in the midst of something, or not: the counts must be right in any case
                os.kill(counting.pid, signal.SIGKILL)
            else:
                eventually(lambda: counts().get("be", 0) >= 300 and counts().get("question", 0) >= 150, counts)
    assert counts() == {
        "to": 300,
        "be": 300,
        "or": 150,
        "not": 150,
        "that": 150,
        "is": 150,
        "the": 150,
        "question": 150,
    }
