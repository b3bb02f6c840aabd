"""A broker that lost the others is taken out of service, but not for a flap, and comes back by itself."""

from __future__ import annotations

import time

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lograft.node.readiness import CUT_OFF_MS

from tests.integration.brokers import Broker, Brokers, eventually


def serves(broker: Broker) -> bool:
    """As gRPC's health service says of the broker as a whole."""
    answer = health_pb2_grpc.HealthStub(broker.channel).Check(health_pb2.HealthCheckRequest(service=""), timeout=5)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.long
def test_a_broker_cut_off_for_long_is_not_ready_until_the_others_are_back(brokers: Brokers) -> None:
    left = brokers[2]
    for gone in (brokers[0], brokers[1]):
        gone.kill()
    began = time.monotonic()
    time.sleep(CUT_OFF_MS / 1000 - 15)
    assert left.is_ready() and serves(left), "it may be a flap: nobody is to take all brokers out of service for one"

    _, why_not = eventually(lambda: answer if (answer := left.http("/readyz"))[0] == 503 else None, 60)
    assert time.monotonic() - began > CUT_OFF_MS / 1000 - 1
    assert why_not.startswith("cut off: 1 of 3 brokers are in touch here"), why_not
    assert not serves(left)
    assert left.http("/healthz")[0] == 200, "it is not to be restarted: it waits"
    assert "lograft_ready 0.0" in left.http("/metrics")[1]

    brokers[0].start()
    eventually(left.is_ready, 40)
    assert serves(left)
    assert [event["event"] for event in left.events() if event["event"] in ("unready", "ready_again")] == [
        "unready",
        "ready_again",
    ]


@pytest.mark.long
def test_a_broker_that_misses_one_other_stays_ready(brokers: Brokers) -> None:
    brokers[0].kill()
    time.sleep(CUT_OFF_MS / 1000 + 5)
    assert brokers[1].is_ready() and brokers[2].is_ready()
