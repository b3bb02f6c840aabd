"""Bugs of whole clusters, to be planted in the real code: a simulation that does not find them proves nothing by being
green. Each says what it does to the code; the faults of the same seeds alone do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from lograft.client.fetcher import LeaderFetcher
from lograft.client.lane import Attempt, Lane
from lograft.node.groups.facts import GrantKey, OffsetKey
from lograft.node.groups.office import Office
from lograft.partitions.producers import Fresh, ProducerTable
from lograft.partitions.replica import Chunk, Replica
from lograft.proto.errors import LograftError
from msgspec.structs import replace

from tests.simulation.world.simulation import Plan


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """It must be found in one of these seeds, under this plan; those that did so far come first."""

    plant: Callable[[pytest.MonkeyPatch], None]
    plan: Plan = field(default_factory=lambda: Plan(span_ms=12_000.0, fault_count=6))
    seeds: Sequence[int] = range(10)


def partitions_are_granted_before_they_are_released(patch: pytest.MonkeyPatch) -> None:
    right = Office._share_out

    def share_out(office: Office, name: str) -> None:
        right(office, name)
        group = office.state.groups[name]
        for partition, owner in sorted(office._targets[name].items()):
            grant = group.grants.get(partition)
            if grant is not None and grant.member_id != owner:
                office._put(GrantKey(name, partition), replace(grant, member_id=owner))

    patch.setattr(Office, "_share_out", share_out)


def stored_offsets_are_forgotten_at_failover(patch: pytest.MonkeyPatch) -> None:
    right = Office.__init__

    def begin(office: Office, state: Any, *args: Any, **facts: Any) -> None:
        right(office, state, *args, **facts)
        for name, group in list(state.groups.items()):
            for partition in list(group.offsets):
                office._put(OffsetKey(name, partition), None)

    patch.setattr(Office, "__init__", begin)


def client_numbers_anew_at_a_retry(patch: pytest.MonkeyPatch) -> None:
    right = Lane.lost

    def lost(lane: Lane, attempt: Attempt, error: LograftError) -> None:
        right(lane, attempt, error)
        if lane._open and not lane.in_flight:
            lane._number_anew()

    patch.setattr(Lane, "lost", lost)


def consumer_skips_after_a_leader_change(patch: pytest.MonkeyPatch) -> None:
    right = LeaderFetcher._take_in

    def take_in(fetcher: LeaderFetcher, response: Any) -> None:
        for answer in response.partitions:
            for position in fetcher._asked:
                if tuple(position.topic_partition) == (answer.topic, answer.partition) and answer.HasField("error"):
                    position.fetch_offset = None if position.fetch_offset is None else position.fetch_offset + 1
        right(fetcher, response)

    patch.setattr(LeaderFetcher, "_take_in", take_in)


def fetch_serves_beyond_committed(patch: pytest.MonkeyPatch) -> None:
    def read(replica: Replica, offset: int, bytes_max: int) -> Chunk:
        replica.require_ready()
        committed, replica._committed = replica._committed, replica.log.end
        try:
            return replica.read_committed(offset, bytes_max)
        finally:
            replica._committed = committed

    patch.setattr(Replica, "read", read)


def duplicates_are_appended_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProducerTable, "check", lambda *_: Fresh())


_MEMBERS = Plan(faults=("pause_client", "pause_client", "crash_client"), fault_count=15, span_ms=20_000.0, brokers=3)
_CUTS = Plan(faults=("isolate", "isolate", "cut_one_way", "pause"), fault_count=12, span_ms=20_000.0, brokers=3)
_KILLS = Plan(faults=("kill", "isolate", "lose_power"), fault_count=12, span_ms=20_000.0, brokers=3)
_BREAKS = Plan(faults=("break_connections", "break_connections", "kill"), fault_count=20, span_ms=20_000.0, brokers=3)

PLANTED = {
    bug.plant.__name__.replace("_", "-"): bug
    for bug in (
        PlantedBug(partitions_are_granted_before_they_are_released, _MEMBERS),
        PlantedBug(stored_offsets_are_forgotten_at_failover, _KILLS),
        PlantedBug(client_numbers_anew_at_a_retry, _BREAKS),
        PlantedBug(consumer_skips_after_a_leader_change),
        PlantedBug(fetch_serves_beyond_committed, _CUTS),
        PlantedBug(duplicates_are_appended_again),
    )
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """With this bug in the code, while it lasts."""
    with pytest.MonkeyPatch.context() as patch:
        if name is not None:
            PLANTED[name].plant(patch)
        yield
