"""What real brokers measure: every documented name is there after some work, no other is, and the figures are true."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lograft.node.metrics import Metrics
from lograft.node.metrics.families import Family
from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import groups_service_pb2 as pb
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.brokers import Broker, Brokers, a_batch, eventually

FOREIGN = ("process_", "python_")
Series = dict[str, float]
"""Name with labels in the order of their names -> value."""

RARE = {
    # Compactions and retention, of which there is nothing in a few seconds of ordinary work.
    "lograft_compaction_seconds",
    "lograft_retention_deleted_bytes_total",
}


def scraped(broker: Broker, page: str = "/metrics") -> tuple[set[str], Series]:
    """Names of families, and all series."""
    status, text = broker.http(page)
    assert status == 200
    names, series = set(), {}
    for family in text_string_to_metric_families(text):
        names.add(family.name + ("_total" if family.type == "counter" else ""))
        for sample in family.samples:
            labels = ",".join(f"{label}={value}" for label, value in sorted(sample.labels.items()))
            series[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return names, series


def values(broker: Broker, name: str, page: str = "/metrics") -> Series:
    """Of one family: its series, without the name."""
    found = scraped(broker, page)[1]
    return {key.removeprefix(name): value for key, value in found.items() if key.split("{")[0] == name}


def with_series(pages: list[Series]) -> set[str]:
    return {key.split("{")[0] for page in pages for key in page}


def has_series(family: Family, names: set[str]) -> bool:
    return (family.name + "_count" if family.kind == "histogram" else family.name) in names


@pytest.fixture
def _coordinators_stay(brokers: Brokers) -> None:
    """A coordinator counts from when it took office, and earlier tests of this cluster may have killed brokers: a few
    seconds after these are back, leadership is handed back to them, in the midst of what is counted here."""

    def are_led_by_the_first() -> bool:
        described = brokers[0].admin.DescribeTopic(admin_pb.DescribeTopicRequest(name="__offsets"), timeout=10).topic
        return all(partition.leader_id == partition.replicas[0].broker_id for partition in described.partitions)

    eventually(are_led_by_the_first, seconds=90)


def store(brokers: Brokers, group: str, topic: admin_pb.TopicDescription, offsets: dict[int, int]) -> Broker:
    """Store offsets without being a member. Returns the coordinator."""

    def coordinator() -> Broker:
        found = brokers.running[0].groups.FindCoordinator(pb.FindCoordinatorRequest(group=group), timeout=5)
        return brokers[found.broker_id]

    entries = [
        pb.StoreOffsetsRequest.Entry(topic=topic.name, partition=partition, offset=offset)
        for partition, offset in offsets.items()
    ]
    broker: Broker = eventually(coordinator)
    results = broker.groups.StoreOffsets(pb.StoreOffsetsRequest(group=group, entries=entries), timeout=10).results
    assert not any(result.error.reason for result in results), results
    return broker


@pytest.mark.usefixtures("_coordinators_stay")
def test_every_documented_name_is_there_after_some_work_and_no_other(brokers: Brokers) -> None:
    topic = brokers.create_topic("measured", partitions=3)
    for partition in range(3):
        leader = brokers.leader_of("measured", partition)
        leader.produce("measured", a_batch(b"one", b"two"), partition=partition)
        assert leader.values("measured", partition) == [b"one", b"two"]
        refused = leader.produce("measured", a_batch(b"one")[:-1] + b"?", partition=partition)
        assert refused.error.reason == "CORRUPT_BATCH"
    coordinator = store(brokers, "measuring", topic, {0: 1, 1: 2})
    coordinator.groups.Heartbeat(
        pb.HeartbeatRequest(
            group="measuring",
            member_id="m",
            join=pb.HeartbeatRequest.Join(topics=["measured"], session_timeout_ms=6000),
        ),
        timeout=10,
    )
    documented = Metrics()
    for page, families in (
        ("/metrics", documented.page.families),
        ("/metrics/partitions", documented.partitions_page.families),
    ):
        for broker in brokers.all:
            names = {name for name in scraped(broker, page)[0] if not name.startswith(FOREIGN)}
            assert names == {family.name for family in families}, broker.broker_id

        def missing(page: str = page, families: list[Family] = families) -> set[str]:
            told = with_series([scraped(broker, page)[1] for broker in brokers.all])
            return {family.name for family in families if not has_series(family, told)} - RARE

        with contextlib.suppress(AssertionError):
            eventually(lambda: not missing(), 20)
        assert not missing()


def test_what_happened_is_counted_where_it_happened(brokers: Brokers) -> None:
    topic = brokers.create_topic("counted", config={"segment.bytes.max": "65536", "batch.bytes.max": "65536"})
    leader = brokers.leader_of("counted")
    before = scraped(leader)[1]
    sent = a_batch(b"x", producer_id=5, producer_epoch=0, base_sequence=0)
    for _ in range(2):
        assert not leader.produce("counted", sent, first_open=0).error.reason
    for number in range(12):
        leader.produce("counted", a_batch(bytes([number]) * 20_000))
    trimmed = admin_pb.TrimmedPartition(partition=0, offset=10)
    leader.admin.TrimTopic(
        admin_pb.TrimTopicRequest(name="counted", topic_id=topic.topic_id, partitions=[trimmed]), timeout=15
    )
    leader.produce("nowhere", a_batch(b"x"))

    def risen(series: str) -> float:
        return scraped(leader)[1].get(series, 0.0) - before.get(series, 0.0)

    assert risen("lograft_produce_batches_total{topic=counted}") == 13
    assert risen("lograft_duplicate_batches_total") == 1
    assert risen("lograft_replication_ack_seconds_count") >= 13, "batches of internal topics count too"
    assert risen("lograft_produce_rejected_total{reason=UNKNOWN_TOPIC}") == 1
    assert risen("lograft_fsync_seconds_count") > 0
    assert risen("lograft_event_loop_lag_seconds_count") > 0
    assert sum(values(leader, "lograft_gc_pause_seconds_count").values()) > 0
    assert sum(values(leader, "lograft_peer_received_bytes_total").values()) > 0
    dropped = "lograft_retention_deleted_bytes_total{topic=counted}"
    for broker in brokers.all:
        assert eventually(lambda at=broker: scraped(at)[1].get(dropped, 0) > 100_000)  # type: ignore[misc]


@pytest.mark.usefixtures("_coordinators_stay")
def test_a_group_is_behind_by_records_and_by_the_age_of_the_next_one(brokers: Brokers) -> None:
    topic = brokers.create_topic("lagging", partitions=2)
    now_ms = int(time.time() * 1000)
    brokers.leader_of("lagging", 0).produce(
        "lagging", a_batch(b"a", b"b", b"c", timestamp_ms=now_ms - 60_000), partition=0
    )
    brokers.leader_of("lagging", 1).produce("lagging", a_batch(b"a", timestamp_ms=now_ms - 600_000), partition=1)
    coordinator = store(brokers, "late", topic, {0: 1, 1: 1})
    mine = "{group=late,topic=lagging}"

    def lag(name: str) -> float | None:
        return values(coordinator, name).get(mine)

    assert eventually(lambda: lag("lograft_group_lag_records") == 2)
    assert lag("lograft_group_lag_max_records") == 2
    age = lag("lograft_group_lag_seconds")
    assert age is not None and 60 <= age < 120, "of the partition that is read to its end nothing is told"
    assert lag("lograft_group_expired_records") == 0
    single = values(coordinator, "lograft_group_partition_lag_records", "/metrics/partitions")
    assert (
        single["{group=late,partition=0,topic=lagging}"] == 2 and single["{group=late,partition=1,topic=lagging}"] == 0
    )
    tellers = [b for b in brokers.all if mine in values(b, "lograft_group_lag_records")]
    assert tellers == [coordinator], "nobody else tells of it"

    store(brokers, "late", topic, {0: 3})
    assert eventually(lambda: lag("lograft_group_lag_records") == 0)
    assert lag("lograft_group_lag_seconds") == 0
    stores = values(coordinator, "lograft_group_offset_stores_total")
    assert stores["{group=late,result=stored}"] == 3

    coordinator.groups.DeleteGroup(pb.DeleteGroupRequest(group="late"), timeout=10)
    assert eventually(lambda: "group=late" not in " ".join(scraped(coordinator)[1])), "a deleted group's series end"


def test_the_series_of_a_deleted_topic_end(brokers: Brokers) -> None:
    brokers.create_topic("short-lived")
    leader = brokers.leader_of("short-lived")
    leader.produce("short-lived", a_batch(b"x"))
    assert eventually(lambda: values(leader, "lograft_log_size_bytes").get("{topic=short-lived}", 0) > 0)
    leader.admin.DeleteTopic(admin_pb.DeleteTopicRequest(name="short-lived"), timeout=10)

    def tellers() -> list[int]:
        pages = ("/metrics", "/metrics/partitions")
        return [b.broker_id for b in brokers.all if any("short-lived" in b.http(page)[1] for page in pages)]

    assert eventually(lambda: not tellers()), tellers()


def test_a_dead_broker_and_a_lost_majority_show_at_those_that_are_left(brokers: Brokers) -> None:
    brokers.create_topic("endangered")
    health = (
        "lograft_brokers_up",
        "lograft_brokers_registered",
        "lograft_leaderless_partitions",
    )

    def seen(broker: Broker) -> tuple[float, ...]:
        series = scraped(broker)[1]
        return tuple(series[name] for name in health)

    def in_sum(name: str) -> float:
        return sum(scraped(broker)[1][name] for broker in brokers.running)

    for broker in brokers.all:
        assert eventually(lambda at=broker: seen(at) == (3, 3, 0), 30)  # type: ignore[misc]
    assert in_sum("lograft_controller_active") == 1
    assert eventually(lambda: in_sum("lograft_under_replicated_partitions") == 0, 30)

    brokers[0].kill()
    for broker in brokers.running:
        assert eventually(lambda at=broker: seen(at) == (2, 3, 0), 30)  # type: ignore[misc]
    assert eventually(lambda: in_sum("lograft_under_replicated_partitions") > 0)
    assert eventually(lambda: in_sum("lograft_at_min_quorum_partitions") > 0), "of three replicas two are left"
    assert eventually(lambda: in_sum("lograft_controller_active") == 1)

    brokers[1].kill()
    assert eventually(lambda: scraped(brokers[2])[1]["lograft_leaderless_partitions"] > 0, 30)
    assert eventually(lambda: seen(brokers[2])[:2] == (1, 3), 30)
    assert eventually(lambda: in_sum("lograft_controller_active") == 0, 30)
    # Nothing can be decided and no group coordinated, but what this broker leads alone it would still serve.
    assert eventually(lambda: serving(brokers[2]) == {"": True, "Broker": True, "Admin": False, "Groups": False}, 30)
    brokers.start()
    for broker in brokers.all:
        assert eventually(lambda at=broker: seen(at) == (3, 3, 0), 60)  # type: ignore[misc]
        assert eventually(lambda at=broker: all(serving(at).values()), 30)  # type: ignore[misc]


def serving(broker: Broker) -> dict[str, bool]:
    """What gRPC's health service says of the broker as a whole, and of each of its services."""
    stub = health_pb2_grpc.HealthStub(broker.channel)
    names = {"": "", **{name: f"lograft.v1.{name}Service" for name in ("Broker", "Admin", "Groups")}}
    return {
        short: stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status
        == health_pb2.HealthCheckResponse.SERVING
        for short, name in names.items()
    }


def test_a_call_is_followed_by_its_id_to_the_broker_that_decides(brokers: Brokers) -> None:
    def controller() -> Broker | None:
        found = [b for b in brokers.all if scraped(b)[1]["lograft_controller_active"] == 1]
        return found[0] if len(found) == 1 else None

    decides = eventually(controller)
    front = next(broker for broker in brokers.all if broker is not decides)
    request = admin_pb.CreateTopicRequest(name="followed", partitions=1, topic_id=os.urandom(16).hex())
    front.admin.CreateTopic(request, timeout=20, metadata=[("x-request-id", "ticket-4711")])

    def lines(broker: Broker) -> list[dict[str, Any]]:
        return [event for event in broker.events() if event.get("request_id") == "ticket-4711"]

    assert eventually(lambda: [line["event"] for line in lines(decides)] == ["call_forwarded_here"])
    (line,) = eventually(lambda: lines(front))
    assert (line["event"], line["api"], line["name"], line["code"]) == ("call", "CreateTopic", "followed", "OK")
    assert (
        line["peer"].startswith("ipv4:127.0.0.1") and line["level"] == "info" and line["broker_id"] == front.broker_id
    )

    def leads() -> bool:
        events = [event for broker in brokers.all for event in broker.events()]
        return any(event.get("event") == "leading" and event.get("topic") == "followed" for event in events)

    assert eventually(leads), "what happens to a partition is told with the name of its topic"
