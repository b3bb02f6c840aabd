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
from lograft.client.messages import FetchedPartition
from lograft.client.tail import Tail
from lograft.node.groups.facts import GrantKey, OffsetKey
from lograft.node.groups.office import Office
from lograft.partitions.chunk import Chunk
from lograft.partitions.producers import Fresh, ProducerTable
from lograft.partitions.raft.points import Item
from lograft.partitions.replica import Replica
from lograft.proto.errors import LograftError
from lograft.v1.broker_service_pb2 import StreamResponse
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

    def take_in(fetcher: LeaderFetcher, fetched: list[FetchedPartition]) -> None:
        for answer, _ in fetched:
            for position in fetcher._asked:
                if tuple(position.topic_partition) == (answer.topic, answer.partition) and answer.HasField("error"):
                    position.fetch_offset = None if position.fetch_offset is None else position.fetch_offset + 1
        right(fetcher, fetched)

    patch.setattr(LeaderFetcher, "_take_in", take_in)


def what_was_pushed_for_another_place_is_taken_in(patch: pytest.MonkeyPatch) -> None:
    def hear_part(tail: Tail, part: StreamResponse) -> None:
        tail.outstanding_bytes -= len(part.batches)
        followed = tail._followed.get(part.stream_id)
        if followed is not None:
            tail._take_in(followed[0], part)

    patch.setattr(Tail, "_hear_part", hear_part)
    patch.setattr(Tail, "leave_all_but", lambda tail, positions: None)


def fetch_serves_beyond_committed(patch: pytest.MonkeyPatch) -> None:
    def read(replica: Replica, offset: int, bytes_max: int, *, only_cached: bool = False) -> Chunk:
        replica.require_ready()
        committed, replica._committed = replica._committed, replica.log.end
        try:
            return replica.read_committed(offset, bytes_max, only_cached=only_cached)
        finally:
            replica._committed = committed

    def append(replica: Replica, items: tuple[Item, ...], append_time_ms: int) -> None:
        right(replica, items, append_time_ms)
        replica._waiters.fire_below(replica.log.end.offset)

    right = Replica._append
    patch.setattr(Replica, "read", read)
    patch.setattr(Replica, "_append", append)


def duplicates_are_appended_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProducerTable, "check", lambda *_: Fresh())


_CALM = Plan(faults=("break_connections",), fault_count=2, span_ms=20_000.0, brokers=3)
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
        PlantedBug(what_was_pushed_for_another_place_is_taken_in, _CALM),
        PlantedBug(fetch_serves_beyond_committed, _CUTS, seeds=(2, 3, 4, 5, 6, 7)),
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
