"""Brokers are restarted while records flow: as an operator does it, on a cluster of its own that `lograft up` makes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import lograft
import pytest

from tests.integration.brokers import Brokers, a_batch, eventually
from tests.integration.test_command_line import LOGRAFT, CommandLine
from tests.ports import free_base_port

TOPIC = "orders"
PARTITIONS = 6


class Home(CommandLine):
    """A cluster of three."""

    @property
    def addresses(self) -> list[str]:
        return [broker["grpc"] for broker in self.status()["brokers"]]

    def status(self) -> dict:
        return json.loads(self.run("status", "-o", "json").stdout)

    def pids(self) -> list[int]:
        return [broker["pid"] for broker in self.status()["brokers"]]

    def events(self, number: int, name: str) -> list[dict]:
        """What a broker logged under this name, since it started and before."""
        found = []
        for file in ("log.previous", "log"):
            path = self.directory / "lograft-data" / f"broker-{number}" / file
            lines = path.read_text().splitlines() if path.exists() else []
            found += [entry for line in lines if (entry := json.loads(line)).get("event") == name]
        return found

    def heal(self) -> None:
        for broker in self.status()["brokers"]:
            if broker["pid"] is None:
                self.run("start", str(broker["broker_id"]))
        self.run("cluster", "health", "-w", "-e")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("rolling"))
    base_port = free_base_port(3)
    try:
        home.run("up", "--detach", "--base-port", str(base_port))
        home.run("topic", "create", TOPIC, "-p", str(PARTITIONS))
        yield home
    finally:
        home.run("down")


class SteadyLoad:
    """An idempotent producer in a thread of its own: records to each partition in turn until it is left."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.sent: dict[int, list[bytes]] = defaultdict(list)
        self.failed: list[str] = []
        self.acknowledged_at: dict[int, list[float]] = defaultdict(list)

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        eventually(lambda: len(self.acknowledged_at) == PARTITIONS)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def longest_pauses_s(self) -> list[float]:
        return [max(after - before for before, after in pairwise(times)) for times in self.acknowledged_at.values()]

    async def _run(self) -> None:
        async with lograft.Client(self._addresses) as client, client.producer(linger_ms=0) as producer:
            number = 0
            notes = set()
            while not self._stop.is_set():
                partition = number % PARTITIONS
                value = b"%d" % number
                delivery = await producer.send(TOPIC, value, partition=partition)
                self.sent[partition].append(value)
                note = asyncio.ensure_future(self._note(delivery, partition))
                notes.add(note)
                note.add_done_callback(notes.discard)
                number += 1
                await asyncio.sleep(0.005)
            await producer.flush()
            await asyncio.gather(*notes)

    async def _note(self, delivery: lograft.Delivery, partition: int) -> None:
        try:
            await delivery
        except lograft.LograftError as error:
            self.failed.append(str(error))
        else:
            self.acknowledged_at[partition].append(time.monotonic())


def stored(home: Home) -> dict[int, list[bytes]]:
    async def read() -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = defaultdict(list)
        async with lograft.Client(home.addresses) as client:
            async for record in client.read(TOPIC):
                found[record.partition].append(record.value)
        return found

    return asyncio.run(read())


@pytest.mark.long
def test_rolling_restart_under_load_fails_no_acknowledgement_and_hands_every_leadership_over(home: Home) -> None:
    before = home.pids()
    with SteadyLoad(home.addresses) as load:
        done = home.run("restart", "--rolling")
        assert all(pid not in before for pid in home.pids())
    assert load.failed == []
    found = stored(home)
    assert {partition: found[partition][-len(sent) :] for partition, sent in load.sent.items()} == load.sent
    assert max(load.longest_pauses_s) < 10, "nobody waited for a time-out"
    for number in range(3):
        assert f"broker {number}: hands over what it leads, and stops" in done.stderr
        assert home.events(number, "handed_over")[-1]["kept"] == []
    assert "restarted 3 brokers" in done.stderr and "every partition has all its replicas" in done.stderr


@pytest.mark.long
def test_restart_is_refused_while_a_replica_is_missing_and_nothing_is_stopped(home: Home) -> None:
    home.run("kill", "2")
    try:
        before = home.pids()
        refused = home.run("restart", "--rolling", exit_code=1)
        assert refused.stderr.startswith("lograft: the cluster is not at full redundancy: broker 2 not running; ")
        assert "nothing was restarted; `lograft start 2`" in refused.stderr
        assert home.pids() == before
    finally:
        home.heal()


@pytest.mark.long
def test_ctrl_c_ends_a_rolling_restart_after_the_broker_at_hand_and_leaves_all_running(home: Home) -> None:
    before = home.pids()
    restarting = subprocess.Popen(
        [*LOGRAFT, "restart", "--rolling"],
        cwd=home.directory,
        env=home.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert restarting.stderr is not None
    first_line = restarting.stderr.readline()
    assert first_line.startswith("broker 0: hands over")
    restarting.send_signal(signal.SIGINT)
    told = restarting.stderr.read()
    assert restarting.wait(timeout=60) == 130
    assert "interrupted after broker 0, all brokers run; not restarted: broker 1, broker 2" in told
    after = home.pids()
    assert None not in after and after[1:] == before[1:] and after[0] != before[0]
    assert all(os.path.exists(f"/proc/{pid}") for pid in after)
    home.heal()


def test_one_broker_is_restarted_by_its_number_and_the_answer_is_there_for_programs(home: Home) -> None:
    before = home.pids()
    told = json.loads(home.run("restart", "1", "-o", "json").stdout)
    assert [broker["broker_id"] for broker in told["brokers"]] == [1] and not told["brokers"][0]["killed"]
    after = home.pids()
    assert (after[0], after[2]) == (before[0], before[2]) and after[1] == told["brokers"][0]["pid"] != before[1]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        ((), 2, "name one broker, or restart all with --rolling"),
        (("1", "--rolling"), 2, "name one broker, or restart all with --rolling"),
        (("7",), 1, "there is no broker 7"),
        (("--rolling", "--timeout", "0"), 2, "should be greater than or equal to 1"),
    ],
)
def test_restart_asked_for_wrongly_says_how_to_ask(
    home: Home, arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    assert words in home.run("restart", *arguments, exit_code=exit_code).stderr


def test_drain_returns_when_the_broker_leads_nothing_and_undrain_lets_it_lead_again(home: Home) -> None:
    drained = home.run("broker", "drain", "0")
    assert "broker 0 leads nothing (" in drained.stderr and "its data stays" in drained.stderr
    described = json.loads(home.run("broker", "list", "-o", "json").stdout)[0]
    assert described["leaders"] == 0 and described["draining"] and described["replicas"] > 0
    home.run("broker", "undrain", "0")
    assert not json.loads(home.run("broker", "list", "-o", "json").stdout)[0]["draining"]


def test_stopped_leader_has_a_successor_before_its_process_ends(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    assert not leader.produce(topic, a_batch(b"kept")).error.reason
    assert leader.stop() == 0
    (told,) = [event for event in leader.events() if event["event"] == "handed_over"][-1:]
    assert told["kept"] == [] and told["led"] > 0
    stopped_at = next(event for event in reversed(leader.events()) if event["event"] == "stopped")["timestamp"]
    successor = brokers.leader_of(topic)
    terms = [event for event in successor.events() if event["event"] == "leading"]
    assert terms[-1]["timestamp"] < stopped_at, "nobody had to find out by silence"
    assert successor.values(topic) == [b"kept"]
