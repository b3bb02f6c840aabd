"""One broker of their own for these tests: they do to it what no test beside them should feel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.bad_inputs.watch import Watch
from tests.integration.brokers import Broker, Brokers

TOPIC = "well-behaved"


@contextmanager
def a_lone_broker(directory: Path, limits: str = "") -> Iterator[Brokers]:
    """A cluster of one broker that leads TOPIC. Its deadlines are such that tests can wait for them."""
    settings = f"[peer]\nhandshake_ms_max = 2000\n[limits]\nconnect_ms_max = 2000\n{limits}"
    brokers = Brokers(directory, 1, settings=settings, kafka=True)
    try:
        brokers.start()
        brokers.create_topic(TOPIC)
        brokers.leader_of(TOPIC)
        with Watch(brokers[0], TOPIC, growth_bytes_max=1 << 30):
            pass  # what a first client makes it allocate is no growth
        yield brokers
    finally:
        brokers.stop()


@pytest.fixture(scope="session")
def lone_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with a_lone_broker(tmp_path_factory.mktemp("bad-inputs")) as brokers:
        yield brokers


@pytest.fixture
def broker(lone_brokers: Brokers) -> Broker:
    return lone_brokers[0]


@pytest.fixture
def watch(broker: Broker) -> Watch:
    return Watch(broker, TOPIC)
