"""Disks that decay: real brokers find what has become unreadable, and heal by themselves from one another."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.brokers import Broker, Brokers, a_batch, eventually

SMALL = {"segment.bytes.max": "65536", "batch.bytes.max": "65536"}
VALUE_BYTES = 10_000
"""Six batches of one record fill a segment."""
COUNT = 20


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Three brokers that scrub each log twice a second."""
    directory = tmp_path_factory.mktemp("decaying")
    brokers = Brokers(directory, settings="[scrub]\ninterval_ms = 500\nbytes_per_s = 100000000\n")
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.stop()
    for broker in brokers.all:
        odd = [event for event in broker.events() if "raw" in event or event.get("level") in ("error", "critical")]
        assert not odd, f"broker {broker.broker_id}: {odd[:5]}"


def value_of(number: int) -> bytes:
    return f"{number}:".encode().ljust(VALUE_BYTES, b".")


def filled(brokers: Brokers, topic: str) -> str:
    topic_id = brokers.create_topic(topic, config=SMALL).topic_id
    leader = brokers.leader_of(topic)
    for number in range(COUNT):
        result = leader.produce(topic, a_batch(value_of(number)))
        assert (result.error.reason, result.base_offset) == ("", number)
    eventually(lambda: len({content_of(broker, topic_id) for broker in brokers.all}) == 1)
    return topic_id


def directory_of(broker: Broker, topic_id: str) -> Path:
    return broker.data_directory / "partitions" / f"{topic_id}-0"


def content_of(broker: Broker, topic_id: str) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory_of(broker, topic_id).glob("*.log")))


def flip(path: Path, position: int, bit: int = 3) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


def is_healed(brokers: Brokers, topic_id: str, content: bytes) -> bool:
    whole = all(content_of(broker, topic_id).startswith(content) for broker in brokers.all)
    return whole and not any(damaged(broker) for broker in brokers.all)


def damaged(broker: Broker) -> bool:
    found = [line for line in broker.http("/metrics")[1].splitlines() if line.startswith("lograft_damaged_replicas")]
    return found != ["lograft_damaged_replicas 0.0"]


def follower_of(brokers: Brokers, topic: str) -> Broker:
    leader = brokers.leader_of(topic)
    return next(broker for broker in brokers.all if broker is not leader)


@pytest.mark.parametrize(
    ("which", "segment", "suffix"),
    [
        ("first-log", 0, ".log"),
        ("middle-log", 1, ".log"),
        ("active-log", -1, ".log"),
        ("first-head", 0, ".head"),
        ("middle-head", 1, ".head"),
        ("active-head", -1, ".head"),
        ("index", 0, ".index"),
        ("timeindex", 1, ".timeindex"),
    ],
)
def test_a_broker_that_finds_decay_when_it_starts_heals_by_itself(
    brokers: Brokers, which: str, segment: int, suffix: str
) -> None:
    topic = f"stopped-{which}"
    topic_id = filled(brokers, topic)
    broker = follower_of(brokers, topic)
    content = content_of(brokers.leader_of(topic), topic_id)
    broker.stop()
    base = sorted(directory_of(broker, topic_id).glob("*.log"))[segment]
    path = base.with_suffix(suffix)
    flip(path, random.Random(which).randrange(path.stat().st_size))
    broker.start()
    brokers.await_ready()
    eventually(lambda: is_healed(brokers, topic_id, content), 30)
    assert brokers.leader_of(topic).values(topic) == [value_of(number) for number in range(COUNT)]


def test_a_replica_whose_directory_is_gone_comes_back(brokers: Brokers) -> None:
    topic_id = filled(brokers, "gone")
    broker = follower_of(brokers, "gone")
    content = content_of(brokers.leader_of("gone"), topic_id)
    broker.stop()
    shutil.rmtree(directory_of(broker, topic_id))
    broker.start()
    brokers.await_ready()
    eventually(lambda: is_healed(brokers, topic_id, content), 30)


def test_promises_of_which_one_copy_is_left_are_kept_and_written_anew(brokers: Brokers) -> None:
    filled(brokers, "promised")
    broker = follower_of(brokers, "promised")
    broker.stop()
    path = broker.data_directory / "promises.log"
    before = path.read_bytes()[:4096]
    flip(path, 100)
    broker.start()
    brokers.await_ready()
    assert path.read_bytes()[:8] == before[:8]
    assert not [event for event in broker.events() if "word is lost" in str(event.get("event", ""))]


def test_a_leader_that_reads_decay_hands_over_and_heals_while_consumers_read_on(brokers: Brokers) -> None:
    topic_id = filled(brokers, "running")
    leader = brokers.leader_of("running")
    content = content_of(leader, topic_id)
    path = sorted(directory_of(leader, topic_id).glob("*.log"))[0]
    flip(path, path.stat().st_size // 2)
    wanted = [value_of(number) for number in range(COUNT)]

    def read() -> bool:
        answer = brokers.leader_of("running").fetch("running", 0, max_bytes=1 << 20)
        return not answer.error.reason and bool(answer.batches)

    eventually(read, 30)
    eventually(lambda: is_healed(brokers, topic_id, content), 30)
    assert brokers.leader_of("running").values("running") == wanted


@pytest.mark.long
def test_replicas_that_decayed_each_at_another_place_heal_without_any_leader(brokers: Brokers) -> None:
    topic_id = filled(brokers, "helical")
    content = content_of(brokers[1], topic_id)
    for broker in brokers.all:
        broker.stop()
    for at, broker in enumerate(brokers.all):
        path = sorted(directory_of(broker, topic_id).glob("*.log"))[at]
        flip(path, 15_000 + 100 * at)
    for broker in brokers.all:
        broker.start()
    brokers.await_ready()
    eventually(lambda: is_healed(brokers, topic_id, content), 60)
    assert brokers.leader_of("helical").values("helical") == [value_of(number) for number in range(COUNT)]
