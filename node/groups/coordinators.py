"""The coordinators of this broker: one for each replica of `__offsets` here, of which those coordinate that lead.

Invariants
    every replica of `__offsets` is followed, whoever leads it, so that a new leader knows its groups at once
    whoever serves a client asks `of` or `led`, which name no coordinator after the loop slept past an election timeout
    a coordinator hears of a change of role after the replica's step in which it came, never within it
    however many logs are read at start, the loop turns after each piece of one: heartbeats between brokers go on
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...partitions.environment import Environment, PartitionId, TimerHandle
from ...partitions.replica import Replica
from ...proto.errors import LograftError, NoLeader
from ...proto.record_batch import partition_for_key
from ..controller.facts import OFFSETS_TOPIC, OFFSETS_TOPIC_ID, DeletedTopicFact
from ..controller.state import ClusterState
from ..decision_log import DecisionLog
from ..replicas import Replicas
from .calls import Unread
from .coordinator import Coordinator
from .lag import Lag
from .lag_watch import LagWatch
from .rules import GroupsLimits, check_group
from .state import GroupsState


class GroupPlace(NamedTuple):
    """Where a group is kept."""

    partition: PartitionId
    """Of `__offsets`."""
    leader_id: int
    term: int


class Coordinators:
    """All of them, by partition number. Watches the replicas (`replicas.ReplicasWatcher`)."""

    def __init__(self, replicas: Replicas, lag: Lag, environment: Environment, limits: GroupsLimits) -> None:
        self._replicas = replicas
        self._lag = lag
        self._environment = environment
        self._limits = limits
        self._outside = _Outside(environment, replicas, lag)
        self._hosted: dict[int, _Hosted] = {}
        self._turns = _Turns(environment.call_soon)
        self._stopped = False
        self.lag_watch: LagWatch | None = None
        """To be told of deletions too; the node puts it in."""

    # -- what clients ask for ----------------------------------------------------------------------------------------

    def of(self, group: str) -> Coordinator:
        """The coordinator of a group.

        Raises
            InvalidGroup
            NotLeader          another broker's is it; facts: leader_id, leader_address, term
            NoLeader           nobody's is it just now, or `__offsets` is not made yet
            BrokerUnavailable  not all earlier decisions are read here yet
        """
        number = self._number(group)
        replica = self._replicas.leading(OFFSETS_TOPIC, number).replica
        hosted = self._hosted.get(number)
        if hosted is None or hosted.replica is not replica:
            raise NoLeader(f"the coordinator of group {group[:80]!r} is not at work here; try again", term=replica.term)
        return hosted.coordinator

    def place(self, group: str) -> GroupPlace:
        """Which broker coordinates a group, as far as this one knows.

        Raises InvalidGroup, NoLeader, BrokerUnavailable, as `of` does.
        """
        number = self._number(group)
        partition = PartitionId(OFFSETS_TOPIC_ID, number)
        leader = self._replicas.leader_of(partition)
        if leader.broker_id is None:
            raise NoLeader(
                f"group {group[:80]!r} has no coordinator just now: no leader of partition {number} of {OFFSETS_TOPIC} "
                "is known; try again",
                term=leader.term,
            )
        return GroupPlace(partition, leader.broker_id, leader.term)

    def led(self) -> list[Coordinator]:
        """Those that coordinate just now, by partition number."""
        return [hosted.coordinator for number, hosted in sorted(self._hosted.items()) if self._leads(number, hosted)]

    @property
    def partition_count(self) -> int:
        """Of `__offsets`, by decision; 0 until it is made."""
        topic = self._replicas.state.topic(OFFSETS_TOPIC)
        return 0 if topic is None else len(topic.partitions)

    # -- what the broker tells ---------------------------------------------------------------------------------------

    def opened(self, replica: Replica) -> None:
        partition = replica.partition
        if partition.topic_id != OFFSETS_TOPIC_ID or self._stopped:
            return
        environment = self._environment
        log = DecisionLog(replica, GroupsState(environment.log), self._turns.call_soon, environment.log)
        coordinator = Coordinator(partition.number, replica, log, self._outside, self._limits)
        hosted = self._hosted[partition.number] = _Hosted(replica, log, coordinator)

        def follow() -> None:
            if self._hosted.get(partition.number) is hosted:
                log.follow()

        self._turns.call_soon(follow)
        environment.call_soon(coordinator.leadership_changed)

    def role_changed(self, replica: Replica) -> None:
        hosted = self._hosted.get(replica.partition.number)
        if hosted is not None and hosted.replica is replica:
            self._environment.call_soon(hosted.coordinator.leadership_changed)

    def closed(self, partition: PartitionId) -> None:
        if partition.topic_id == OFFSETS_TOPIC_ID and partition.number in self._hosted:
            self._hosted.pop(partition.number).stop()

    def decisions_changed(self, keys: Sequence[str]) -> None:
        """A listener of the log of `__cluster`."""
        if any(key.startswith(DeletedTopicFact.prefix) for key in keys):
            self._lag.forget_deleted()
            if self.lag_watch is not None:
                self.lag_watch.forget_deleted()
        for hosted in self._hosted.values():
            hosted.coordinator.decisions_changed()

    def seen_offset(self, partition: PartitionId) -> int:
        """How far the state here has seen the log of a partition of `__offsets`, as it is."""
        hosted = self._hosted.get(partition.number)
        return 0 if hosted is None else hosted.log.seen_offset

    def stop(self) -> None:
        """End all calls that wait, and coordinate no longer."""
        self._stopped = True
        for hosted in self._hosted.values():
            hosted.stop()
        self._hosted.clear()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _number(self, group: str) -> int:
        check_group(group)  # first: a name of a megabyte is not worth its hash
        if not (count := self.partition_count):
            self._replicas.check_caught_up()
            raise NoLeader(f"group {group[:80]!r} has no coordinator: {OFFSETS_TOPIC} is not made yet; try again")
        return partition_for_key(group.encode(), count)

    def _leads(self, number: int, hosted: _Hosted) -> bool:
        try:
            leading = self._replicas.leading(OFFSETS_TOPIC, number).replica
        except LograftError:
            return False
        return leading is hosted.replica and leading.is_ready


class _Hosted(NamedTuple):
    """A coordinator, with what it rests on."""

    replica: Replica
    log: DecisionLog[GroupsState]
    coordinator: Coordinator

    def stop(self) -> None:
        self.coordinator.stop()
        self.log.stop()


class _Turns:
    """Calls back one after the other, one in each turn of the loop."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._call_soon = call_soon
        self._waiting: deque[Callable[[], None]] = deque()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._waiting.append(callback)
        if len(self._waiting) == 1:
            self._call_soon(self._turn)

    def _turn(self) -> None:
        callback = self._waiting[0]
        try:
            callback()
        finally:
            self._waiting.popleft()
            if self._waiting:
                self._call_soon(self._turn)


class _Outside:
    """What a coordinator asks of the broker around it (`coordinator.CoordinatorOutside`)."""

    def __init__(self, environment: Environment, replicas: Replicas, lag: Lag) -> None:
        self._environment = environment
        self._replicas = replicas
        self._lag = lag

    def monotonic_ms(self) -> float:
        return self._environment.monotonic_ms()

    def wall_ms(self) -> int:
        return self._environment.wall_ms()

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> TimerHandle:
        return self._environment.call_later(delay_ms, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._environment.call_soon(callback)

    def log(self, event: str, **facts: Any) -> None:
        self._environment.log(event, **facts)

    def new_id(self) -> str:
        return f"{self._environment.random.getrandbits(128):032x}"

    def topics(self) -> ClusterState:
        return self._replicas.state

    def known_end(self, partition: PartitionId) -> int:
        return self._lag.known_end(partition)

    async def unread(self, wanted: Mapping[PartitionId, int]) -> Mapping[PartitionId, Unread]:
        return await self._lag.unread(wanted)
