"""What `lograft top` makes of two looks at a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from lograft.client.admin import BrokerDescription, ClusterDescription, PartitionDescription, TopicDescription
from lograft.client.cli.broker_http import Samples, parsed
from lograft.client.cli.top_frame import Frame, GroupLag, Line, Look, Order, lines, tells_groups

EXPOSITION = """\
# TYPE lograft_produce_bytes_total counter
lograft_produce_bytes_total{topic="events"} %d
lograft_produce_bytes_total{topic="orders"} %d
# TYPE lograft_produce_records_total counter
lograft_produce_records_total{topic="events"} %d
# TYPE lograft_produce_ack_seconds histogram
lograft_produce_ack_seconds_bucket{le="0.005"} %d
lograft_produce_ack_seconds_bucket{le="0.01"} %d
lograft_produce_ack_seconds_bucket{le="+Inf"} %d
# TYPE lograft_disk_free_bytes gauge
lograft_disk_free_bytes 1073741824
"""
GROUPS = """\
lograft_groups{state="stable"} 2
lograft_group_members{group="billing"} 2
lograft_group_lag_records{group="billing",topic="orders"} 1200
lograft_group_lag_seconds{group="billing",topic="orders"} 3.5
lograft_group_lag_records{group="audit",topic="orders"} 0
lograft_group_lag_seconds{group="audit",topic="orders"} 0
"""


def a_broker(broker_id: int, **facts: Any) -> BrokerDescription:
    where = {"address": "h:1", "peer_address": "h:2", "http_address": "h:3", "rack": "", "directory_id": "d"}
    standing = {"alive": True, "version": "0.1.0", "start_number": 1, "replicas": 6, "leaders": 2}
    return BrokerDescription(**{"broker_id": broker_id, **where, **standing, "cluster_voter": True, **facts})


def a_topic(name: str, *sizes: int) -> TopicDescription:
    partitions = tuple(PartitionDescription(i, 0, 1, (), 0, 10, each) for i, each in enumerate(sizes))
    return TopicDescription(name, f"id-{name}", 3, {}, partitions, False)


def a_cluster(*brokers: BrokerDescription, reasons: tuple[str, ...] = ()) -> ClusterDescription:
    return ClusterDescription("3f2a91c4d5e6f708", 0, 1, brokers, not reasons, reasons, 1, 2, 12, 0, 0)


def look(at_s: float, metrics: dict[int, Samples], **facts: Any) -> Look:
    cluster = a_cluster(a_broker(0), a_broker(1))
    topics = [a_topic("events", 100, 200), a_topic("orders", 5000)]
    return Look(**{"at_s": at_s, "cluster": cluster, "metrics": metrics, "topics": topics, **facts})


def text_of(shown: list[Line]) -> str:
    return "\n".join(line.text for line in shown)


def test_rates_are_what_counters_grew_by_over_the_time_between_two_looks() -> None:
    before = look(10.0, {0: parsed(EXPOSITION % (1000, 0, 10, 0, 0, 0)), 1: parsed(EXPOSITION % (0, 0, 0, 0, 0, 0))})
    now = look(12.0, {0: parsed(EXPOSITION % (3000, 0, 30, 0, 0, 0)), 1: parsed(EXPOSITION % (0, 800, 0, 0, 0, 0))})
    frame = Frame.of(before, now)
    assert [(line.name, line.in_bytes_per_s, line.in_records_per_s) for line in frame.topics] == [
        ("events", 1000.0, 10.0),
        ("orders", 400.0, 0.0),
    ]
    assert [line.in_bytes_per_s for line in frame.brokers] == [1000.0, 400.0]
    assert (frame.in_bytes_per_s, frame.in_records_per_s) == (1400.0, 10.0)


def test_one_look_gives_no_rates_rather_than_none_at_all() -> None:
    frame = Frame.of(None, look(10.0, {0: parsed(EXPOSITION % (1000, 0, 10, 1, 1, 1))}))
    assert frame.in_bytes_per_s is None
    assert frame.brokers[0].ack_p99_s is None
    assert "in -, - records/s" in text_of(lines(frame, width=80, height=24, clock="", hint=""))


def test_a_broker_that_was_restarted_counts_from_zero_and_not_backwards() -> None:
    before = look(10.0, {0: parsed(EXPOSITION % (9000, 0, 0, 0, 0, 0))})
    now = look(12.0, {0: parsed(EXPOSITION % (500, 0, 0, 0, 0, 0))})
    assert Frame.of(before, now).brokers[0].in_bytes_per_s == 250.0


def test_the_99th_percentile_is_of_what_came_since_the_look_before() -> None:
    before = look(10.0, {0: parsed(EXPOSITION % (0, 0, 0, 0, 500, 500))})
    now = look(12.0, {0: parsed(EXPOSITION % (0, 0, 0, 100, 600, 600))})
    assert Frame.of(before, now).brokers[0].ack_p99_s == 0.005


def test_a_broker_that_does_not_tell_its_metrics_is_shown_as_such_and_not_as_idle() -> None:
    frame = Frame.of(look(10.0, {}), look(12.0, {}))
    assert [line.state for line in frame.brokers] == ["no http", "no http"]
    assert frame.in_bytes_per_s is None


def test_groups_come_from_the_metrics_the_one_furthest_behind_first() -> None:
    metrics = {0: parsed(GROUPS)}
    assert tells_groups(metrics)
    assert list(Frame.of(None, look(10.0, metrics)).groups) == [
        GroupLag("billing", "orders", 2, 1200.0, 3.5),
        GroupLag("audit", "orders", None, 0.0, 0.0),
    ]
    assert [lag.group for lag in Frame.of(None, look(10.0, metrics), Order.name).groups] == ["audit", "billing"]


def test_a_cluster_that_does_not_answer_is_told_with_what_is_known() -> None:
    frame = Frame.of(None, Look(10.0, None, "no broker answers"))
    shown = text_of(lines(frame, width=80, height=24, clock="", hint=""))
    assert "NOT HEALTHY" in shown
    assert "! no broker answers" in shown


def test_brokers_that_still_answer_are_told_apart_where_the_cluster_does_not() -> None:
    known = a_cluster(a_broker(0), a_broker(1))
    metrics = {0: parsed(EXPOSITION % (0, 0, 0, 0, 0, 0))}
    frame = Frame.of(None, Look(10.0, None, "no broker answers", last_known=known, metrics=metrics))
    assert [(line.broker_id, line.state) for line in frame.brokers] == [(0, "alone"), (1, "silent")]


def test_a_dead_broker_and_the_reasons_stand_out() -> None:
    cluster = a_cluster(a_broker(0), a_broker(1, alive=False), reasons=("broker 1 is not in touch",))
    shown = lines(Frame.of(None, look(10.0, {}, cluster=cluster)), width=80, height=24, clock="", hint="")
    assert [line.style for line in shown if "dead" in line.text or line.text.startswith("!")] == ["red", "red"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60), (80, 8)])
def test_whatever_there_is_fits_the_terminal(width: int, height: int) -> None:
    topics = [a_topic(f"a-topic-with-a-rather-long-name-{number}", 1 << 40) for number in range(300)]
    lags = [GroupLag(f"group-{number}-of-some-department", topics[0].name, 12, 1e9, 1e6) for number in range(90)]
    brokers = [a_broker(number) for number in range(20)]
    cluster = a_cluster(*brokers, reasons=tuple(f"reason {number} " + "x" * 100 for number in range(12)))
    seen = look(10.0, {}, cluster=cluster, topics=topics, lags=lags)
    shown = lines(Frame.of(None, seen), width=width, height=height, clock="12:00:00", hint="q quit")
    assert len(shown) == height
    assert shown[-1].text == "q quit"
    assert max(len(line.text) for line in shown) <= width
    if height >= 24:
        told = text_of(shown)
        assert "BROKER" in told and "TOPIC" in told and "GROUP" in told
        assert "more" in told


def test_without_a_height_nothing_is_left_out() -> None:
    topics = [a_topic(f"t{number}", 1) for number in range(300)]
    shown = lines(Frame.of(None, look(10.0, {}, topics=topics)), width=80, height=None, clock="", hint="")
    assert sum(line.text.startswith("t") for line in shown) == 300


def test_what_is_no_exposition_is_an_empty_one() -> None:
    assert parsed("<html>not a broker</html>\n{{{") == {}
