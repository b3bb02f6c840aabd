"""One broker of their own for the tests of a module: they do to it what no test beside them should feel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.bad_inputs.watch import Watch
from tests.integration.brokers import Broker, Brokers

TOPIC = "well-behaved"


@pytest.fixture(scope="module")
def lone_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    # Deadlines that tests can wait for; all other limits are the defaults.
    settings = "[peer]\nhandshake_ms_max = 2000\n[limits]\nconnect_ms_max = 2000\n"
    brokers = Brokers(tmp_path_factory.mktemp("bad-inputs"), 1, settings=settings)
    try:
        brokers.start()
        brokers.create_topic(TOPIC)
        brokers.leader_of(TOPIC)
        with Watch(brokers[0], TOPIC, growth_bytes_max=1 << 30):
            pass  # what a first client makes it allocate is no growth
        yield brokers
    finally:
        brokers.stop()


@pytest.fixture
def broker(lone_brokers: Brokers) -> Broker:
    return lone_brokers[0]


@pytest.fixture
def watch(broker: Broker) -> Watch:
    return Watch(broker, TOPIC)
