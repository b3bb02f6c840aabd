"""What is unwell, in numbers: looked at in the background, a few partitions in each turn of the loop, for whoever asks.

Each broker judges two things: of the whole cluster, which partitions have no leader that it could send a client to; and
of the partitions it leads, which lack replicas. The first needs no leader, and no controller: where a majority is lost,
those that are left say so.

Invariants
    a figure is as of one look; while the next one is under way, that of the last one is told
    nothing here decides anything
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ..partitions.environment import PartitionId
from ..partitions.replica import Replica
from .peer.links import PeerLinks
from .replicas import CLUSTER_PARTITION, Replicas

PER_TURN = 50
"""Partitions; each takes up to twenty microseconds."""
LOOK_S_MIN = 1.0
LOOK_S_PER_PARTITION = 0.0004
LOOK_S_PER_LED = 0.002
"""So that looking takes about a hundredth of a core, however many there are."""
CLUSTER_TOPIC = "__cluster"

Thing = TypeVar("Thing")


class LedSigns(NamedTuple):
    """Of a partition that is led here."""

    replicas: int
    """By decision."""
    in_sync: int
    """Voters that keep up, the leader included."""
    quorum: int
    lacks: tuple[tuple[int, int], ...]
    """Of each follower its broker, and the records it lacks."""


@dataclass(slots=True)
class Signs:
    """The figures of one look."""

    leaderless: int = 0
    under_replicated: int = 0
    at_min_quorum: int = 0
    moves_active: int = 0
    damaged: int = 0
    doubtful: int = 0
    unsynced_bytes: int = 0
    lag_max: dict[int, int] = field(default_factory=dict)
    """By broker: what the follower there lacks, where it lacks most."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By topic name: bytes and segments of the replicas here."""
    led: dict[PartitionId, LedSigns] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Topic id -> name, of the replicas here."""


class VitalSigns:
    """One a broker. `look` is called again and again, `due_s` apart."""

    def __init__(
        self,
        broker_id: int,
        replicas: Replicas,
        links: PeerLinks,
        committed_before: Callable[[PartitionId], int],
        monotonic_ms: Callable[[], float],
    ) -> None:
        self.signs = Signs()
        self._broker_id = broker_id
        self._replicas = replicas
        self._links = links
        self._committed_before = committed_before
        self._monotonic_ms = monotonic_ms
        self._heard_ms: dict[int, float] = {}
        """When brokers were last heard."""

    @property
    def due_s(self) -> float:
        """From one look to the next."""
        led, all_of_them = len(self._replicas.led), self._replicas.state.partition_count
        return max(LOOK_S_MIN, LOOK_S_PER_LED * led + LOOK_S_PER_PARTITION * all_of_them)

    async def look(self) -> None:
        self._note_who_is_heard()
        signs = Signs()
        signs.leaderless = await self._count_leaderless()
        await self._look_at_replicas(signs)
        await self._look_at_led(signs)
        self.signs = signs

    # -- the cluster as this broker sees it --------------------------------------------------------------------------

    def registered(self) -> list[int]:
        """The members of the cluster."""
        return [broker_id for broker_id, fact in self._replicas.state.brokers.items() if not fact.removed]

    def up(self) -> int:
        """How many of them are in touch, this one included."""
        return sum(
            broker_id == self._broker_id or self._links.session(broker_id) is not None
            for broker_id in self.registered()
        )

    def silences_s(self) -> Iterator[tuple[int, float]]:
        """Since when each other member was not heard, if it ever was."""
        now_ms = self._monotonic_ms()
        for broker_id in self.registered():
            silent_ms = self._links.silent_ms(broker_id)
            if silent_ms is not None:
                yield broker_id, silent_ms / 1000
            elif broker_id in self._heard_ms:
                yield broker_id, max(now_ms - self._heard_ms[broker_id], 0.0) / 1000

    def _note_who_is_heard(self) -> None:
        now_ms = self._monotonic_ms()
        for session in self._links.sessions:
            self._heard_ms[session.broker_id] = now_ms - (self._links.silent_ms(session.broker_id) or 0.0)

    async def _count_leaderless(self) -> int:
        state = self._replicas.state
        count = 0 if CLUSTER_PARTITION not in self._replicas.table or self.has_leader(CLUSTER_PARTITION) else 1
        async for partition in in_turns(
            [
                PartitionId(topic.topic_id, number)
                for topic in state.topics.values()
                for number in range(len(topic.partitions))
            ]
        ):
            # A topic that was deleted meanwhile misses no leader.
            if not self.has_leader(partition) and not state.is_deleted(partition.topic_id):
                count += 1
        return count

    def has_leader(self, partition: PartitionId) -> bool:
        """One that is in touch."""
        leader = self._replicas.leader_of(partition).broker_id
        return leader is not None and (leader == self._broker_id or self._replicas.heartbeats.is_heard(leader))

    # -- the replicas here -------------------------------------------------------------------------------------------

    async def _look_at_replicas(self, signs: Signs) -> None:
        state = self._replicas.state
        async for partition, replica in in_turns(list(self._replicas.table.items())):
            signs.damaged += replica.is_damaged
            signs.doubtful += replica.is_doubtful
            signs.unsynced_bytes += replica.unsynced_bytes
            name = signs.names.get(partition.topic_id)
            if name is None:
                topic = state.topic_by_id(partition.topic_id)
                name = CLUSTER_TOPIC if partition == CLUSTER_PARTITION else None if topic is None else topic.name
                if name is None:
                    continue  # deleted, and about to go
                signs.names[partition.topic_id] = name
            size, segments = signs.sizes.get(name, (0, 0))
            signs.sizes[name] = size + replica.log.size_bytes, segments + replica.log.segment_count

    async def _look_at_led(self, signs: Signs) -> None:
        is_caught_up = self._replicas.is_caught_up
        async for replica in in_turns(self._replicas.led):
            if not replica.is_leader:
                continue
            found = self._signs_of(replica)
            signs.led[replica.partition] = found
            if found.in_sync < found.replicas:
                signs.under_replicated += 1
                signs.at_min_quorum += found.in_sync <= found.quorum
            for broker_id, lacks in found.lacks:
                signs.lag_max[broker_id] = max(signs.lag_max.get(broker_id, 0), lacks)
            if is_caught_up and set(replica.voters) != set(self._replicas.placed_voters(replica)):
                signs.moves_active += 1

    def _signs_of(self, replica: Replica) -> LedSigns:
        partition, voters, end = replica.partition, replica.committed_voters, replica.log_end
        fact = self._replicas.state.partition(partition)
        committed_before = self._committed_before(partition)
        followers = replica.followers(with_bytes=False)
        in_sync = int(replica.voter in voters) + sum(
            follower.voter in voters
            and follower.heard
            and follower.counts
            and follower.match.offset >= committed_before
            for follower in followers
        )
        return LedSigns(
            # Of `__cluster` every broker holds a replica: those count that vote.
            len(voters) if fact is None else len(fact.placement),
            in_sync,
            len(voters) // 2 + 1,
            # Without a match nothing is known of the follower in this session.
            tuple(
                (follower.voter.broker_id, max(end - follower.match.offset, 0))
                for follower in followers
                if follower.match.term
            ),
        )


async def in_turns(things: Iterable[Thing], per_turn: int = PER_TURN) -> AsyncIterator[Thing]:
    """Each of them, with a turn of the loop after every few."""
    for count, thing in enumerate(things, start=1):
        yield thing
        if count % per_turn == 0:
            await asyncio.sleep(0)
