from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.brokers import Brokers


@pytest.fixture(scope="session")
def shared_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    brokers = Brokers(tmp_path_factory.mktemp("cluster"))
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.stop()
    for broker in brokers.all:
        # Whatever the tests did to it, it met nothing that its authors had not thought of.
        odd = [event for event in broker.events() if "raw" in event or event.get("level") in ("error", "critical")]
        assert not odd, f"broker {broker.broker_id}: {odd[:5]}"


@pytest.fixture
def brokers(shared_brokers: Brokers) -> Iterator[Brokers]:
    """Three brokers, all up. A test may kill some; they are started again after it."""
    yield shared_brokers
    shared_brokers.start()


@pytest.fixture
def topic(brokers: Brokers, request: pytest.FixtureRequest) -> str:
    """A new topic of one partition on all brokers, named after the test."""
    name = request.node.name[:200].translate({ord(mark): "-" for mark in "[]. /"})
    brokers.create_topic(name)
    return name


@pytest.fixture(scope="module")
def shared_topic(shared_brokers: Brokers, request: pytest.FixtureRequest) -> str:
    """A topic of one partition that all tests of a module write to."""
    name = request.module.__name__.rpartition(".")[2]
    shared_brokers.create_topic(name)
    return name
