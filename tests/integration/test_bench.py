"""`lograft bench` on a real cluster, in short runs: that it counts rightly, and leaves nothing behind. Not how fast."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from .brokers import HEARS_CTRL_C, Brokers, a_batch, eventually

LOGRAFT = [sys.executable, "-P", "-m", "lograft.client.cli.main"]


class Bench:
    """Runs `lograft bench` against these brokers."""

    def __init__(self, brokers: Brokers, directory: Path) -> None:
        self.brokers = brokers
        self.directory = directory
        addresses = ",".join(broker.address for broker in brokers.all)
        self.environment = {**os.environ, "LOGRAFT_BROKERS": addresses, "XDG_STATE_HOME": str(directory / "state")}

    def run(self, *words: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [*LOGRAFT, *words], cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == exit_code, ended
        assert "Traceback" not in ended.stderr, ended
        return ended

    def figures(self, *words: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.run("bench", *words, "-o", "json").stdout)
        return told

    def topics(self) -> set[str]:
        return {topic["name"] for topic in json.loads(self.run("topic", "list", "-o", "json").stdout)}

    def held(self, topic: str) -> int:
        described = json.loads(self.run("topic", "describe", topic, "-o", "json").stdout)
        return sum(one["committed_offset"] - one["log_start_offset"] for one in described["partitions"])


@pytest.fixture
def bench(brokers: Brokers, tmp_path: Path) -> Bench:
    return Bench(brokers, tmp_path)


def test_so_many_records_are_produced_as_were_asked_for_and_the_temporary_topic_is_gone(bench: Bench) -> None:
    before = bench.topics()
    told = bench.figures("produce", "--records", "3000", "--size", "100", "--warmup", "0", "--partitions", "3")
    assert (told["bench"], told["interrupted"], told["records"]) == ("produce", False, 3000)
    assert told["produced"]["bytes"] == 300_000
    assert told["mb_per_s"] == pytest.approx(told["records_per_s"] * 100 / 1e6, rel=0.01)
    assert told["latency_ms"]["acknowledged"]["count"] == 3000
    assert told["durability_seen"]["medium"] == "fsync"
    assert told["durability_seen"]["copies"] >= 2
    assert told["settings"]["partitions"] == 3
    assert told["cluster"] == {"brokers": 3, "on_this_machine": True}
    assert bench.topics() == before


def test_without_a_terminal_there_is_nothing_but_the_result(bench: Bench) -> None:
    ended = bench.run("bench", "produce", "--seconds", "1", "--warmup", "0.2", "--partitions", "2")
    assert ended.stderr == ""
    assert "produced" in ended.stdout
    assert "every acknowledgement said fsync x" in ended.stdout


@pytest.mark.long
def test_a_topic_that_was_kept_is_read_to_the_record_by_several_clients(bench: Bench) -> None:
    asked = ("--topic", "bench-kept", "--keep", "--partitions", "4", "--payload", "text", "-z", "lz4", "--warmup", "0")
    bench.figures("produce", "--records", "5000", "--size", "200", "--clients", "2", "--batch", "16KiB", *asked)
    assert bench.held("bench-kept") == 5000
    told = bench.figures("consume", "--topic", "bench-kept")
    assert (told["records"], told["consumed"]["bytes"]) == (5000, 1_000_000)
    shared = bench.figures("consume", "--topic", "bench-kept", "--clients", "2")
    assert 0 < shared["records"] <= 5000  # what was read while both did
    assert "bench-kept" in bench.topics()


@pytest.mark.long
def test_consume_without_a_topic_makes_one_says_so_and_reads_all_of_it(bench: Bench) -> None:
    before = bench.topics()
    ended = bench.run("bench", "consume", "--records", "2000", "--size", "100", "-o", "json")
    assert "with 2,000 records of 100 B, to be read then" in ended.stderr
    assert json.loads(ended.stdout)["records"] == 2000
    assert bench.topics() == before


def test_each_record_of_the_schedule_has_a_latency_to_its_answer_and_one_to_its_reader(bench: Bench) -> None:
    told = bench.figures("latency", "--rate", "200", "--records", "300", "--warmup", "0.5", "--partitions", "3")
    assert told["latency_ms"]["acknowledged"]["count"] == 300
    assert told["latency_ms"]["end_to_end"]["count"] == 300
    assert told["not_sent"] == told["unanswered"] == 0
    assert told["settings"]["linger_ms"] == 0


@pytest.mark.long
def test_with_consumers_apart_each_record_is_still_measured_once(bench: Bench) -> None:
    asked = ("--rate", "200", "--records", "301", "--warmup", "0.5", "--partitions", "3", "--clients", "2", "--apart")
    told = bench.figures("latency", *asked)
    assert told["latency_ms"]["acknowledged"]["count"] == 301
    assert told["latency_ms"]["end_to_end"]["count"] == 301


@pytest.mark.long
def test_one_at_a_time_sends_one_after_the_other(bench: Bench) -> None:
    told = bench.figures("latency", "--one-at-a-time", "--records", "30", "--warmup", "0", "--size", "16")
    assert told["latency_ms"]["acknowledged"]["count"] == 30
    assert told["settings"]["rate_per_s"] is None


@pytest.mark.long
def test_mixed_reads_what_is_produced_with_groups_and_without_and_leaves_no_group_behind(bench: Bench) -> None:
    for groups in ("0", "2"):
        asked = ("--rate", "500", "--seconds", "2", "--warmup", "1", "--groups", groups, "--consumers", "2")
        told = bench.figures("mixed", *asked, "--partitions", "4")
        assert told["produced"]["records"] > 0
        assert told["consumed"]["records"] > 0
        assert told["latency_ms"]["end_to_end"]["count"] > 0
        assert not [note for note in told["notes"] if "not read" in note]
    listed = json.loads(bench.run("group", "list", "-o", "json").stdout)
    assert not [group for group in listed if "lograft-bench" in json.dumps(group)]


@pytest.mark.long
def test_a_rate_that_cannot_be_reached_is_said_and_what_was_not_sent_counts_as_waiting(bench: Bench) -> None:
    told = bench.figures("produce", "--rate", "100000", "--size", "64KiB", "--seconds", "1", "--warmup", "0")
    assert told["not_sent"] > 0
    assert told["not_sent"] + told["records"] <= 100_000
    assert told["latency_ms"]["acknowledged"]["count"] <= 100_000
    assert any("the rate asked for was not reached" in note for note in told["notes"])


@pytest.mark.long
def test_every_way_of_sending_ends_with_all_of_it_acknowledged(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("some words to send, again and again\n")
    for options in (
        ("--one-by-one",),
        ("--acks", "leader", "--no-idempotent"),
        ("--payload", "words", "-z", "zstd"),
        ("--payload", "zeros", "-z", "gzip", "--linger", "0", "--in-flight", "64KiB"),
        ("--rate", "20000"),
    ):
        told = bench.figures("produce", "--records", "1001", "--size", "100", "--warmup", "0.2", *options)
        assert told["latency_ms"]["acknowledged"]["count"] == 1001, options


def test_a_topic_that_holds_records_is_appended_to_only_by_those_who_say_so(bench: Bench, topic: str) -> None:
    bench.brokers.leader_of(topic).produce(topic, a_batch(b"precious"))
    for command in ("produce", "latency", "mixed"):
        refused = bench.run("bench", command, "--topic", topic, exit_code=1)
        assert f"topic {topic} holds 1 record" in refused.stderr
        assert "add --yes" in refused.stderr
    assert bench.held(topic) == 1
    bench.run("bench", "produce", "--topic", topic, "--yes", "--records", "10", "--warmup", "0")
    assert bench.held(topic) == 11


def test_what_cannot_be_is_refused_in_one_line(bench: Bench, topic: str) -> None:
    for words, says in (
        (("produce", "--topic", topic, "--partitions", "7"), "exists with partitions 1, not 7; leave --partitions out"),
        (("produce", "--topic", topic, "--replicas", "1"), "exists with replicas 3, not 1; leave --replicas out"),
        (("consume", "--topic", topic), "holds no records to read; leave --topic out"),
        (("produce", "--replicas", "9"), "9 replicas"),
        (("produce", "--topic", "no good"), "no good"),
    ):
        (line,) = bench.run("bench", *words, exit_code=1).stderr.splitlines()
        assert line.startswith("lograft: ")
        assert says in line


class OnATerminal:
    """A bench whose standard error is a terminal, until it ends."""

    def __init__(self, bench: Bench, *words: str) -> None:
        self.seen = ""
        self._reader, writer = pty.openpty()
        self.process = subprocess.Popen(
            [*HEARS_CTRL_C, *LOGRAFT, "bench", *words], cwd=bench.directory, env=bench.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=writer, text=True,
        )  # fmt: skip
        os.close(writer)

    def wait_for(self, holds: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds(self.seen):
            assert time.monotonic() < deadline, self.seen
            if select.select([self._reader], [], [], 0.2)[0]:
                self.seen += os.read(self._reader, 4096).decode()
            else:
                assert self.process.poll() is None, self.seen

    def end(self) -> str:
        """Its standard output, once it has ended."""
        out, _ = self.process.communicate(timeout=60)
        while select.select([self._reader], [], [], 0)[0]:
            try:
                self.seen += os.read(self._reader, 4096).decode()
            except OSError:
                break
        os.close(self._reader)
        return out


def test_on_a_terminal_each_second_has_a_line_and_ctrl_c_tells_what_was_measured_and_cleans_up(bench: Bench) -> None:
    before = bench.topics()
    on_terminal = OnATerminal(bench, "latency", "--rate", "100", "--seconds", "600", "--warmup", "1", "-o", "json")
    on_terminal.wait_for(lambda seen: seen.count("records/s") >= 3)
    assert "(warm-up)" in on_terminal.seen.splitlines()[0]
    workers = psutil.Process(on_terminal.process.pid).children(recursive=True)
    on_terminal.process.send_signal(signal.SIGINT)
    told = json.loads(on_terminal.end())
    assert on_terminal.process.returncode == 130
    assert told["interrupted"] is True
    assert 0 < told["seconds"] < 600
    assert told["latency_ms"]["acknowledged"]["count"] > 0
    assert "p99" in on_terminal.seen
    assert "Traceback" not in on_terminal.seen
    assert bench.topics() == before
    assert workers
    assert not [worker for worker in workers if worker.is_running()]


@pytest.mark.long
def test_a_second_ctrl_c_ends_it_at_once_and_the_topic_is_still_deleted(bench: Bench) -> None:
    before = bench.topics()
    on_terminal = OnATerminal(bench, "produce", "--seconds", "600", "--warmup", "0")
    on_terminal.wait_for(lambda seen: "records/s" in seen)
    on_terminal.process.send_signal(signal.SIGINT)
    on_terminal.process.send_signal(signal.SIGINT)
    on_terminal.end()
    assert on_terminal.process.returncode == 130
    assert "Traceback" not in on_terminal.seen
    assert bench.topics() == before


@pytest.mark.long
def test_a_client_process_that_dies_ends_the_run_with_one_line(bench: Bench) -> None:
    before = bench.topics()
    on_terminal = OnATerminal(bench, "produce", "--seconds", "600", "--warmup", "0", "--clients", "2", "--rate", "100")
    on_terminal.wait_for(lambda seen: "records/s" in seen)
    psutil.Process(on_terminal.process.pid).children()[0].kill()
    assert on_terminal.end() == ""
    assert on_terminal.process.returncode == 1
    assert on_terminal.seen.splitlines()[-1].startswith("lograft: a client process ended early, with exit code -9")
    assert bench.topics() == before


@pytest.mark.long
def test_client_processes_end_when_whoever_started_them_is_killed(bench: Bench) -> None:
    on_terminal = OnATerminal(bench, "latency", "--seconds", "600", "--topic", "bench-orphan", "--keep")
    on_terminal.wait_for(lambda seen: "records/s" in seen)
    workers = psutil.Process(on_terminal.process.pid).children(recursive=True)
    on_terminal.process.kill()
    on_terminal.end()
    eventually(lambda: not [one for one in workers if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])
