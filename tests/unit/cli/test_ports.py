"""Ports of a local cluster: what is taken is named before anything is started."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from lograft.client.cli.ports import BrokerPorts, free_base_port, is_free, taken

from tests.ports import free_base_port as a_base_port


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_broker_i_listens_ten_ports_above_the_one_before() -> None:
    assert BrokerPorts.of(9600, 2) == (9620, 9621, 9622, 9623)


def test_a_port_with_a_listener_is_named_with_the_process_that_has_it(listener: int) -> None:
    (found,) = taken([listener])
    assert found.port == listener
    assert f"(pid {os.getpid()})" in found.holder


def test_a_listener_on_every_interface_is_seen_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_a_listener_that_shares_its_port_is_seen_too() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as server:  # as gRPC servers do
        assert not is_free(server.getsockname()[1])


def test_a_port_is_free_again_as_soon_as_its_listener_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # first, so that our side waits to be forgotten
            client.recv(1)
    assert is_free(port)


def test_the_base_port_proposed_has_room_for_every_broker(listener: int) -> None:
    base_port = free_base_port(3, start=a_base_port(3))
    assert base_port is not None
    assert all(is_free(port) for broker_id in range(3) for port in BrokerPorts.of(base_port, broker_id).used)
    nearby = listener - 12  # broker 1's HTTP port
    assert free_base_port(3, start=nearby) != nearby


def test_no_base_port_is_proposed_past_the_last_port() -> None:
    assert free_base_port(3, start=65_530) is None
