"""Calls under way are bounded, in all and for each address."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from lograft.node.rpc.call_counts import CallCounts, host_of
from lograft.proto.errors import Overloaded


def test_a_call_past_the_bound_of_all_is_refused_until_another_one_ends() -> None:
    counts = CallCounts(2, 2)
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        first.enter_context(counts.counted("ipv4:10.0.0.1:4711"))
        stack.enter_context(counts.counted("ipv4:10.0.0.2:4711"))
        with pytest.raises(Overloaded, match=r"limits\.calls_max"), counts.counted("ipv4:10.0.0.3:1"):
            pass
        first.close()
        with counts.counted("ipv4:10.0.0.3:1"):
            assert counts.total == 2
    assert counts.total == 0 and not counts._of_host


def test_one_address_leaves_room_for_others() -> None:
    counts = CallCounts(10, 1)
    with counts.counted("ipv4:10.0.0.1:4711"):
        refused = pytest.raises(Overloaded, match=r"10\.0\.0\.1 .*limits\.calls_per_host_max")
        with refused, counts.counted("ipv4:10.0.0.1:4712"):
            pass
        with counts.counted("ipv4:10.0.0.2:4711"):
            assert counts.total == 2


def test_a_call_that_fails_is_counted_off() -> None:
    counts = CallCounts(10, 1)
    with pytest.raises(ZeroDivisionError), counts.counted("unix:"):
        raise ZeroDivisionError
    assert counts.total == 0 and not counts._of_host


def test_an_address_is_told_from_its_port() -> None:
    assert host_of("ipv4:127.0.0.1:4711") == "127.0.0.1"
    assert host_of("ipv6:%5B::1%5D:4711") == "%5B::1%5D"
    assert host_of("unix:/tmp/socket") == "unix:/tmp/socket"


def test_connections_count_once_however_many_of_their_calls_are_under_way() -> None:
    counts = CallCounts(10, 10)
    with counts.counted("ipv4:10.0.0.1:1"), counts.counted("ipv4:10.0.0.1:1"), counts.counted("ipv4:10.0.0.1:2"):
        assert counts.connections == 2
    assert counts.connections == 0
