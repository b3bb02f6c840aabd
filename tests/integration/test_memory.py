"""Topics with durability=memory, on real brokers: what a kill -9 leaves, and what an answer says."""

from __future__ import annotations

from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import broker_service_pb2 as pb
from lograft.v1 import common_pb2

from tests.integration.brokers import Brokers, a_batch, eventually

FSYNC, MEMORY = common_pb2.Durability.MEDIUM_FSYNC, common_pb2.Durability.MEDIUM_MEMORY


def medium(brokers: Brokers, topic: str, value: bytes = b"probe") -> int:
    result = brokers.leader_of(topic).produce(topic, a_batch(value))
    assert not result.error.reason, result.error
    return result.durability.medium


def test_all_brokers_killed_at_once_lose_nothing_that_was_acknowledged_from_memory(brokers: Brokers) -> None:
    brokers.create_topic("killed", config={"durability": "memory"})
    assert eventually(lambda: medium(brokers, "killed") == MEMORY)
    leader = brokers.leader_of("killed")
    before = len(leader.values("killed"))
    values = [b"%d" % number for number in range(200)]
    for value in values:
        result = leader.produce("killed", a_batch(value))
        assert not result.error.reason and result.durability.medium == MEMORY and result.durability.copies >= 2
    for broker in brokers.all:
        broker.kill()
    brokers.start()
    after = brokers.leader_of("killed").values("killed")
    assert after[before:] == values
    lost = [event for broker in brokers.all for event in broker.events() if event.get("event") == "memory_lost"]
    assert not lost, "the machine has not restarted"


def test_a_living_topic_takes_another_durability_and_answers_say_which(brokers: Brokers, topic: str) -> None:
    def alter(durability: str) -> None:
        request = admin_pb.AlterTopicRequest(name=topic, set={"durability": durability})
        altered = brokers.running[0].admin.AlterTopic(request, timeout=10)
        assert altered.topic.config["durability"] == durability

    assert medium(brokers, topic) == FSYNC
    alter("memory")
    assert eventually(lambda: medium(brokers, topic) == MEMORY)
    one = brokers.leader_of(topic).produce(topic, a_batch(b"one"), acks=pb.ACKS_LEADER)
    assert one.durability.medium == MEMORY
    alter("fsync")
    assert eventually(lambda: medium(brokers, topic) == FSYNC)
    for broker in brokers.all:
        status, metrics = broker.http("/metrics")
        assert status == 200 and "lograft_unsynced_bytes" in metrics
