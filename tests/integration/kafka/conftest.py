from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.brokers import Brokers

SETTINGS = """
[kafka]
rebalance_delay_ms = 100
consumer_session_ms = 6000
consumer_heartbeat_ms = 500
"""


@pytest.fixture(scope="session")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    brokers = Brokers(tmp_path_factory.mktemp("kafka"), settings=SETTINGS, kafka=True)
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.stop()
    for broker in brokers.all:
        odd = [event for event in broker.events() if "raw" in event or event.get("level") in ("error", "critical")]
        assert not odd, f"broker {broker.broker_id}: {odd[:5]}"


@pytest.fixture
def brokers(shared_kafka: Brokers) -> Iterator[Brokers]:
    """Three brokers with a door for Kafka clients, all up. A test may kill some; they are started again after it."""
    yield shared_kafka
    shared_kafka.start()


@pytest.fixture
def bootstrap(brokers: Brokers) -> str:
    return ",".join(broker.kafka_address for broker in brokers.all)
