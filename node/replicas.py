"""All replicas of this broker: which there are, which of them leads, and what of the outside each is told.

Invariants
    a replica is opened again only if the promises list it, and created only where a decision places it here, or did at
        first if it surely never was, once every decision from before this process began is applied: else a deleted one
        would come back, its votes forgotten
    an identity is created only where the decisions name it whole: broker, disk and replica number
    an identity that a recovery ended is silent from the moment at which that is known here
    a replica is deleted only on a topic's deletion fact, or once its partition's leader has let it go, never because
        something is absent somewhere
    whoever serves a client asks `leading` first, which names no replica after the loop slept past an election timeout
    creating and deleting is done by one task, one change after the other
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from ..partitions.campaigns import Campaigns
from ..partitions.commit_news import CommitNews
from ..partitions.environment import Environment, PartitionId, ReplicaConfig
from ..partitions.flusher import Flusher
from ..partitions.raft.messages import AppendRequest, Message, Voter
from ..partitions.raft.points import ItemKind
from ..partitions.repairer import RepairCounts
from ..partitions.replica import Replica
from ..partitions.replica_counts import ReplicaCounts
from ..partitions.storage.log import DamagedLog
from ..partitions.storage.promises import Promises
from ..proto.errors import (
    BrokerUnavailable,
    DiskFull,
    LograftError,
    NoLeader,
    NotAuthorized,
    NotLeader,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .config import BrokerConfig
from .controller.cluster_seats import CLUSTER_REPLICA_NUMBER, identities, seats
from .controller.facts import CLUSTER_TOPIC_ID, OFFSETS_TOPIC_ID, RecoveryFact, TopicFact
from .controller.settings import BYTES_PER_SECOND, value_of
from .controller.state import ClusterState, PlacedReplica
from .controller.topic_rules import (
    INTERNAL_SEGMENT_BYTES_MAX,
    TopicLimits,
    TopicSettings,
    internal_settings,
    is_internal,
    settings_of,
)
from .decision_log import DecisionLog
from .heartbeats import Heartbeats
from .lineages import Lineages
from .metrics import Metrics
from .open_retries import OpenRetries
from .peer.raft_transport import RaftTransport
from .sightings import Leading, Sightings
from .voter_steps import filled_places, who_should_vote

CLUSTER_PARTITION = PartitionId(CLUSTER_TOPIC_ID, 0)
FILES_PER_REPLICA = 4
"""Log, two indexes, and one being rolled or synced."""
FILES_FOR_THE_REST = 256
OPENED_AT_ONCE = 8
REMOVAL_TRIES = 100
"""Of a directory in which another process may still make files."""


class Led(NamedTuple):
    """A partition that this broker leads."""

    topic: TopicFact
    settings: TopicSettings
    replica: Replica


class ReplicasWatcher(Protocol):
    """Told of the replicas here, in the loop, maybe in the midst of a replica's step: note it, and act later."""

    def opened(self, replica: Replica) -> None: ...
    def role_changed(self, replica: Replica) -> None:
        """It follows, leads, or has come to know what is committed (`is_ready`)."""
        ...

    def closed(self, partition: PartitionId) -> None: ...


class Replicas:
    """The table of this broker's replicas, kept in step with the decisions.

    `heartbeats` and `transport` are set by the node before anything is opened; `changed` is called after each change of
    leadership.
    """

    heartbeats: Heartbeats
    transport: RaftTransport

    def __init__(
        self,
        environment: Environment,
        promises: Promises,
        flusher: Flusher,
        news: CommitNews,
        config: BrokerConfig,
        sightings: Sightings,
        metrics: Metrics,
        *,
        open_files_max: int,
    ) -> None:
        self.table: dict[PartitionId, Replica] = {}
        self.unopened: dict[PartitionId, str] = {}
        """Replicas that should be here and are not, and why."""
        self.retries = OpenRetries()
        """Of those, the ones that are tried again by themselves."""
        self.state = ClusterState()
        """The decisions; `follow` replaces it by the living one."""
        self.changed = _nothing
        self.watchers: list[ReplicasWatcher] = []
        self.repairs = RepairCounts()
        self.counts = ReplicaCounts()
        self.disk_free_bytes: int | None = None
        """At the last look."""
        self._campaigns = Campaigns(environment)
        self.is_silent: Callable[[PartitionId], bool] = lambda _: False
        """Must messages for a replica be dropped, because it may be about to be deleted?"""
        self.config = config
        self._environment = environment
        self._promises = promises
        self._flusher = flusher
        self._news = news
        self._broker_id = config.broker.id
        self._sightings = sightings
        self._metrics = metrics
        self._replicas_max = min(
            config.limits.partitions_max, max((open_files_max - FILES_FOR_THE_REST) // FILES_PER_REPLICA, 1)
        )
        self._settings: dict[str, tuple[TopicFact, TopicSettings]] = {}
        self._reconciling: asyncio.Task[None] | None = None
        self._dirty = False
        self._learners_are_due = False
        self.learning: list[Replica] = []
        """The replicas that led, when that was last looked at, and gave their logs to others than voters."""
        self.lineages = Lineages(environment, promises, config.broker.data_directory)
        self._let_go: dict[PartitionId, Voter] = {}
        """Replicas to be deleted, with the identity that their leaders let go."""
        self._may_create = False
        self._stopping = False
        self._awake_ms = environment.monotonic_ms()
        self._led: dict[PartitionId, None] = {}
        self._produce_stopped = False
        self._replication_stopped = False
        self.counts.committed_after = metrics.traffic.replication_ack_seconds.observe

    # -- what clients ask for ----------------------------------------------------------------------------------------

    def topic(self, name: str, topic_id: str = "") -> TopicFact:
        """The topic as decided.

        Raises UnknownTopic; UnknownTopicId if `topic_id` is given and not the topic's; BrokerUnavailable, see below.
        """
        topic = self.state.topic(name)
        if topic is None:
            self.check_caught_up()
            if topic_id and self.state.is_deleted(topic_id):
                raise UnknownTopicId(f"topic {name[:80]!r} was deleted", topic_id=topic_id)
            raise UnknownTopic(f"there is no topic {name[:80]!r}; create it first", topic=name[:80])
        if topic_id and topic.topic_id != topic_id:
            raise UnknownTopicId(
                f"topic {name!r} has the id {topic.topic_id}, not {topic_id[:80]!r}: the one asked for was deleted",
                topic_id=topic.topic_id,
            )
        return topic

    def leading(self, name: str, number: int, topic_id: str = "") -> Led:
        """The replica here that leads a partition.

        Raises UnknownTopic, UnknownTopicId, UnknownPartition, NoLeader; NotLeader, which names who leads if known.
        """
        topic = self.topic(name, topic_id)
        partition = partition_of(topic, number)
        replica = self.table.get(partition)
        if replica is None or not replica.is_leader or not self._is_awake():
            raise self._not_leading(name, partition)
        return Led(topic, self.settings(topic), replica)

    def check_caught_up(self) -> None:
        """Raises BrokerUnavailable until all earlier decisions are read here: before, nobody can say what is not."""
        if not self._may_create:
            raise BrokerUnavailable(
                f"broker {self._broker_id} has not read all decisions yet; try again, or ask another"
            )

    def settings(self, topic: TopicFact) -> TopicSettings:
        known = self._settings.get(topic.topic_id)
        if known is None or known[0] is not topic:
            settings = settings_of(topic.config, topic_limits(self.config))
            known = topic, internal_settings(settings) if is_internal(topic.name) else settings
            self._settings[topic.topic_id] = known
        return known[1]

    def check_writable(self, led: Led) -> None:
        """Raises NotAuthorized for internal topics, DiskFull while too little space is left."""
        if is_internal(led.topic.name):
            raise NotAuthorized(f"topic {led.topic.name} is internal; clients do not write to it")
        if self._produce_stopped:
            raise DiskFull(
                f"broker {self._broker_id} has less than {self.config.disk.produce_stop_free_bytes} bytes of disk "
                "left; free some space or delete topics"
            )

    def leader_of(self, partition: PartitionId) -> Leading:
        """Who leads, by what the replica here and the board know; the higher term is right."""
        replica = self.table.get(partition)
        seen = self._sightings.leading(partition) or Leading(None, 0)
        if replica is not None and replica.term >= seen.term:
            leader = replica.leader
            if leader is not None or replica.term > seen.term:
                return Leading(None if leader is None else leader.broker_id, replica.term)
        if seen.broker_id is not None and not self.heartbeats.is_heard(seen.broker_id):
            return Leading(None, seen.term)  # a client sent there would find nobody
        return seen

    def with_address(self, error: LograftError) -> LograftError:
        """The same error; if it names a leader, with that broker's address."""
        if "leader_id" in error.facts and "leader_address" not in error.facts:
            sighting = self._sightings.broker(int(error.facts["leader_id"]))
            if sighting is not None:
                error.facts["leader_address"] = sighting.addresses.grpc
        return error

    def _not_leading(self, name: str, partition: PartitionId) -> LograftError:
        leader = self.leader_of(partition)
        if leader.broker_id is None or leader.broker_id == self._broker_id:
            return NoLeader(
                f"partition {partition.number} of {name!r} has no leader known to broker {self._broker_id}; try again",
                term=leader.term,
            )
        return self.with_address(
            NotLeader(
                f"partition {partition.number} of {name!r} is led by broker {leader.broker_id}",
                leader_id=leader.broker_id,
                term=leader.term,
            )
        )

    # -- a broker's life ---------------------------------------------------------------------------------------------

    async def open_listed(self) -> None:
        """Recover every replica that the promises list, `__cluster` first."""
        listed = sorted(self._promises.listed(), key=lambda partition: (partition != CLUSTER_PARTITION, partition))
        for partition in listed[:1]:
            await self._recover(partition)
        turns = asyncio.Semaphore(OPENED_AT_ONCE)

        async def recover(partition: PartitionId) -> None:
            async with turns:
                await self._recover(partition)

        await asyncio.gather(*(recover(partition) for partition in listed[1:]))

    async def open_cluster(self, first_voters: tuple[Voter, ...]) -> Replica | None:
        """The replica of `__cluster`, opened or created; None if it is damaged beyond opening."""
        if CLUSTER_PARTITION not in self.table and CLUSTER_PARTITION not in self.unopened:
            await self._open(CLUSTER_PARTITION, CLUSTER_REPLICA_NUMBER, first_voters, self._internal_config())
        if CLUSTER_PARTITION in self.table:
            self.table[CLUSTER_PARTITION].placed = first_voters
        return self.table.get(CLUSTER_PARTITION)

    def follow(self, cluster_log: DecisionLog[ClusterState]) -> None:
        """Keep in step with the decisions from now on."""
        self.state = cluster_log.state
        cluster_log.on_change(self._on_decisions)
        self._on_decisions(())

    def create_from_now_on(self) -> None:
        """Every decision from before this process began is applied: what is to be here and is not listed is new."""
        self._may_create = True
        self.set_willing(True)
        self._on_decisions(())

    def set_willing(self, willing: bool) -> None:
        """May the replicas here lead? Leaders that may not any more step down."""
        for replica in list(self.table.values()):
            replica.set_willing(willing)

    async def stop(self) -> None:
        """Stop all replicas; leaders resign, so that others take over at once."""
        self._stopping = True
        if self._reconciling is not None:
            self._reconciling.cancel()
            await asyncio.gather(self._reconciling, return_exceptions=True)
        for replica in list(self.table.values()):
            await replica.stop()

    # -- peers -------------------------------------------------------------------------------------------------------

    def receive(self, broker_id: int, partition: PartitionId, message: Message) -> None:
        """Take a Raft message that came by the session with `broker_id`."""
        if message.sender.broker_id != broker_id:
            self._environment.log("raft_message_of_another_sender", broker=broker_id, sender=str(message.sender))
            return
        replica = self.table.get(partition)
        if replica is None or self.is_silent(partition):
            return
        # Decisions are small, and without them this broker would never hear which topics were deleted to make room.
        stopped = self._replication_stopped and partition != CLUSTER_PARTITION
        if stopped and isinstance(message, AppendRequest) and not _is_small(message):
            return
        replica.receive(message)

    def session_up(self, broker_id: int, directory_id: str) -> None:
        self.heartbeats.session_up(broker_id, directory_id, self._environment.monotonic_ms())

    def session_down(self, broker_id: int) -> None:
        self.heartbeats.session_down(broker_id)

    def tick(self) -> None:
        """Once a heartbeat interval."""
        self._is_awake()
        self._awake_ms = self._environment.monotonic_ms()
        self.heartbeats.tick(self._awake_ms)
        for broker_id, partition in self.transport.take_cut_off():
            replica = self.table.get(partition)
            if replica is not None and self.heartbeats.is_heard(broker_id):
                replica.take(self.heartbeats.heard(broker_id))

    def look_at_disk(self) -> None:
        """Once a second: is there room for clients, and for replication?"""
        free, disk = self._environment.disk.free_bytes(), self.config.disk
        self.disk_free_bytes = free
        stopped = free < disk.produce_stop_free_bytes, free < disk.replication_stop_free_bytes
        if stopped != (self._produce_stopped, self._replication_stopped):
            self._environment.log(
                "disk_space", free_bytes=free, produce_stopped=stopped[0], replication_stopped=stopped[1]
            )
        self._produce_stopped, self._replication_stopped = stopped

    @property
    def is_produce_stopped(self) -> bool:
        """For lack of space, as is the next one."""
        return self._produce_stopped

    @property
    def is_replication_stopped(self) -> bool:
        return self._replication_stopped

    def _set_learners(self) -> None:
        self._learners_are_due = False
        self.set_learners()

    def set_learners(self) -> None:
        """Tell each leader here who gets its log without a vote: those placed under identities that do not vote.

        First of all whether they are throttled: else what is sent at once would be as much as there is room for.
        """
        is_limited = self.copy_bytes_per_second is not None
        for replica in self.led:
            is_cluster = replica.partition == CLUSTER_PARTITION
            # Decisions are few, and a broker that lacks them can do nothing.
            replica.set_throttled(is_limited and not is_cluster)
            holders = identities(self.state.brokers) if is_cluster else self.placed_voters(replica)
            voters = replica.voters
            # Nearly always they are the same: what is done for each partition several times a second must be little.
            learners = () if holders == voters else tuple(member for member in holders if member not in voters)
            if learners != replica.learners:
                replica.set_learners(learners)
                self.heartbeats.role_changed(replica)
        self.learning = [replica for replica in self.led if replica.learners]

    # -- where replicas should be --------------------------------------------------------------------------------------

    @property
    def copy_bytes_per_second(self) -> int | None:
        """What this broker sends at most to replicas that are being copied; None: no limit."""
        return value_of(self.state.settings, BYTES_PER_SECOND)

    @property
    def is_caught_up(self) -> bool:
        """Is every decision applied from before this process began?"""
        return self._may_create

    def placed_voters(self, replica: Replica) -> tuple[Voter, ...]:
        """Who should vote in a partition that this broker leads, as far as the decisions here say."""
        if replica.partition == CLUSTER_PARTITION:
            alive = [broker_id for broker_id in self.state.brokers if self.heartbeats.is_heard(broker_id)]
            return seats(replica.voters, self.state.brokers, alive) or replica.voters
        fact = self.state.partition(replica.partition)
        voters = replica.voters
        # Nearly always they are the same, and this is asked for thousands of partitions, again and again.
        if fact is None or fact.placement == voters:
            return voters
        return who_should_vote(fact, voters)

    def filled_places(self, replica: Replica) -> dict[Voter, Voter]:
        """Whoever is placed -> who votes in its place, in a partition that this broker leads."""
        fact = self.state.partition(replica.partition)
        if fact is None or fact.placement == replica.voters:
            return {}
        return filled_places(fact, replica.voters)

    def departing(self, *, all_: bool) -> list[tuple[PartitionId, Voter]]:
        """The replicas here that the decisions once placed and do not place any more; their topics are still there.

        Those that vote where another is placed, by their own logs, only if `all_` are asked for: they stay, unless a
        leader that did not know yet of the other removed them.
        """
        if not self._may_create:
            return []
        found = []
        for partition in self._promises.listed():
            identity = self._departing(partition)
            if identity is not None and (all_ or not self._keeps_its_place(partition, identity)):
                found.append((partition, identity))
        return found

    def _keeps_its_place(self, partition: PartitionId, identity: Voter) -> bool:
        fact, replica = self.state.partition(partition), self.table.get(partition)
        if fact is None or replica is None or identity not in replica.voters:
            return False
        return any(placed[:2] == identity[:2] for placed in fact.placement)

    def _departing(self, partition: PartitionId) -> Voter | None:
        topic, fact = self.state.topic_by_id(partition.topic_id), self.state.partition(partition)
        known = self._promises.recall(partition)
        if topic is None or fact is None or known is None or self.state.is_deleted(partition.topic_id):
            return None
        identity = Voter(self._broker_id, self._promises.directory_id, known.replica_number)
        was_placed = identity.replica_number < topic.next_replica_number
        # What a recovery ended is not deleted but set aside.
        return identity if was_placed and identity not in fact.placement and not fact.ended(identity) else None

    async def delete_departed(self, partition: PartitionId, identity: Voter) -> None:
        """Delete a replica that its partition's leader has let go; returns once it is gone."""
        self._let_go[partition] = identity
        while partition in self._let_go and not self._stopping:
            self._on_decisions(())
            assert self._reconciling is not None
            await asyncio.wait({self._reconciling})

    # -- what replicas tell (ReplicaObserver) ------------------------------------------------------------------------

    def role_changed(self, replica: Replica) -> None:
        partition = replica.partition
        if replica.is_leader != (partition in self._led):
            self._metrics.raft.leader_changes.inc()
            if replica.is_leader:
                self._led[partition] = None
            else:
                self._led.pop(partition, None)
            if replica.is_leader and not self._learners_are_due:
                self._learners_are_due = True
                self._environment.call_soon(self._set_learners)
        if partition in self.table:
            self.heartbeats.role_changed(replica)
            for watcher in self.watchers:
                watcher.role_changed(replica)
        self.changed()

    def committed(self, replica: Replica) -> None:
        """Nothing to do: whoever waits for a commit asked the replica itself."""

    @property
    def led(self) -> list[Replica]:
        """The replicas that lead, in no particular order."""
        return [self.table[partition] for partition in self._led if partition in self.table]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _is_awake(self) -> bool:
        """False, and every leadership dropped, if the loop slept past an election timeout: others may lead by now."""
        slept_ms = self._environment.monotonic_ms() - self._awake_ms
        if slept_ms <= self.config.replica.election_timeout_ms:
            return True
        self._awake_ms += slept_ms
        if self._led:
            self._environment.log("loop_slept", slept_ms=round(slept_ms), leaderships_dropped=len(self._led))
        for replica in self.led:
            replica.step_down(f"the loop slept for {slept_ms:.0f} ms")
        return False

    def look_after_recoveries(self) -> None:
        """Once a second: what recoveries ask of this broker may have become possible."""
        if self.lineages.ended:
            self._on_decisions(())

    def look_after_unopened(self) -> None:
        """Once a second: what could not be opened is tried again now and then."""
        if self.retries.is_any_due(self._environment.monotonic_ms()):
            self._on_decisions(())

    def _silence_ended(self, keys: Sequence[str]) -> None:
        """At once, before anybody here acts on who was placed instead."""
        for key in keys:
            topic = self.state.topic(key.removeprefix(TopicFact.prefix)) if key.startswith(TopicFact.prefix) else None
            for number, fact in enumerate(topic.partitions if topic is not None else ()):
                replica = self.table.get(PartitionId(topic.topic_id, number)) if topic is not None else None
                if replica is not None and fact.ended(replica.voter):
                    replica.fall_silent("a recovery ended it")

    def _on_decisions(self, keys: Sequence[str]) -> None:
        self._silence_ended(keys)
        self._dirty = True
        if (self._reconciling is None or self._reconciling.done()) and not self._stopping:
            self._reconciling = asyncio.get_running_loop().create_task(self._reconcile())
            self._reconciling.add_done_callback(self._on_reconciled)

    def _on_reconciled(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._environment.halt(f"creating or deleting replicas failed: {task.exception()!r}")

    async def _reconcile(self) -> None:
        """Delete what was deleted, create what is to be here; again, until nothing was decided meanwhile."""
        while self._dirty:
            self._dirty = False
            for partition in [*self._promises.listed()]:
                if self.state.is_deleted(partition.topic_id):
                    await self._delete(partition)
            for partition in [*self._promises.departed]:
                if self.state.is_deleted(partition.topic_id):
                    self._promises.forget_departed(partition)
            for partition, identity in list(self._let_go.items()):
                if self._departing(partition) == identity:
                    await self._delete(partition)
                del self._let_go[partition]
            for partition in [*self._promises.listed()]:
                fact = self.state.partition(partition)
                if fact is not None and fact.recovery is not None:
                    await self._follow_recovery(partition, fact.recovery)
            turns = asyncio.Semaphore(OPENED_AT_ONCE)
            await self._try_again(turns)
            if self._may_create:
                await asyncio.gather(*(self._create(wanted, turns) for wanted in self._replicas_to_make()))
            for partition, replica in self.table.items():
                topic = self.state.topic_by_id(partition.topic_id)
                if topic is not None:
                    settings = self.settings(topic)
                    replica.log.set_segment_limits(settings.segment_bytes_max, settings.segment_ms_max)
                    replica.set_durability(settings.durability)
            self._tell_where_replicas_are()
            self.set_learners()

    async def _try_again(self, turns: asyncio.Semaphore) -> None:
        """What could not be opened: a listed replica at once; one that is placed here is then created as any other."""

        async def recover(partition: PartitionId) -> None:
            async with turns:
                await self._recover(partition)

        due = self.retries.take_due(self._environment.monotonic_ms())
        for partition in due:
            if partition not in self.unopened:
                self.retries.forget(partition)  # it should not be here any more
            elif self._is_ended(partition):
                continue  # whose end could not be noted: that is tried again each time before this
            elif self._promises.recall(partition) is not None or self._may_open_more():
                del self.unopened[partition]
        listed = [
            one
            for one in due
            if one in self.retries and one not in self.unopened and self._promises.recall(one) is not None
        ]
        await asyncio.gather(*map(recover, listed))

    def _is_ended(self, partition: PartitionId) -> bool:
        """Did a recovery end what is listed here of the partition?"""
        known, fact = self._promises.recall(partition), self.state.partition(partition)
        if known is None or fact is None:
            return False
        return fact.ended(Voter(self._broker_id, self._promises.directory_id, known.replica_number))

    def _may_open_more(self) -> bool:
        return len(self.table) < self._replicas_max

    def _tell_where_replicas_are(self) -> None:
        """Who could repair each replica here, if its own log does not say."""
        for partition, replica in self.table.items():
            fact = self.state.partition(partition)
            if partition == CLUSTER_PARTITION:
                replica.placed = identities(self.state.brokers) or replica.placed
            elif fact is not None:
                replica.placed = self.placed_voters(replica)

    def _replicas_to_make(self) -> list[PlacedReplica]:
        """What is to be here, and is not listed: an older identity keeps its place until it is let go."""
        promises, found = self._promises, []
        for _, topic in sorted(self.state.topics.items()):
            for number, fact in enumerate(topic.partitions):
                partition = PartitionId(topic.topic_id, number)
                if promises.recall(partition) is not None or partition in self.unopened:
                    continue
                identity = fact.replica_to_make(
                    self._broker_id, promises.directory_id, never_held=promises.never_held(partition)
                )
                if identity is not None and not self.state.is_deleted(topic.topic_id):
                    found.append(PlacedReplica(partition, identity, fact.first_voters, topic))
        return found

    async def _create(self, placed: PlacedReplica, turns: asyncio.Semaphore) -> None:
        async with turns:
            if not self._may_open_more():
                why = f"broker {self._broker_id} holds {len(self.table)} replicas and may open no more files"
                self.unopened[placed.partition] = why
                self.retries.note_failed(placed.partition, self._environment.monotonic_ms())
                self._environment.log("replica_refused", partition=str(placed.partition), why=why)
                return
            settings = self.settings(placed.topic)
            config = replace(
                self.config.replica,
                segment_bytes_max=settings.segment_bytes_max,
                segment_ms_max=settings.segment_ms_max,
            )
            await self._open(placed.partition, placed.replica.replica_number, placed.first_voters, config)

    async def _follow_recovery(self, partition: PartitionId, recovery: RecoveryFact) -> None:
        """Carry out what a recovery asks of the replica here: go on as the heir, or be over and make room."""
        known = self._promises.recall(partition)
        assert known is not None, f"{partition} is listed, and not recalled"
        identity = Voter(self._broker_id, self._promises.directory_id, known.replica_number)
        if not recovery.ended(identity):
            if self.lineages.is_unfinished(partition):
                await self._recover(partition)
            return
        replica = self.table.get(partition)
        if replica is not None:
            replica.fall_silent("a recovery ended it")
            status = replica.status()
            await self._close(partition)
            self.lineages.note_status(status)
        leader = self.leader_of(partition)
        is_led = leader.broker_id is not None and leader.term >= recovery.term
        why = await self.lineages.follow(partition, identity, recovery, may_begin=self._may_create, is_led=is_led)
        if why is not None:
            self.unopened[partition] = why
            return
        self.unopened.pop(partition, None)
        if self._promises.recall(partition) is not None:
            await self._recover(partition)

    async def _recover(self, partition: PartitionId) -> None:
        why = await self.lineages.admit(partition, self._internal_config())
        if why is not None:
            self.unopened[partition] = why
            self.retries.forget(partition)  # whoever carries out recoveries tries again
            self._environment.log("replica_unopened", partition=str(partition), why=why)
            return
        self.unopened.pop(partition, None)
        known = self._promises.recall(partition)
        assert known is not None, f"{partition} is listed, and not recalled"
        config = self._internal_config() if partition == CLUSTER_PARTITION else self.config.replica
        await self._open(partition, known.replica_number, (), config)

    def _internal_config(self) -> ReplicaConfig:
        config = self.config.replica
        return replace(config, segment_bytes_max=min(config.segment_bytes_max, INTERNAL_SEGMENT_BYTES_MAX))

    async def _open(
        self, partition: PartitionId, replica_number: int, first_voters: tuple[Voter, ...], config: ReplicaConfig
    ) -> None:
        try:
            if self._promises.recall(partition) is None:
                await self.lineages.make_way(partition)
            replica = await Replica.open(
                environment=self._environment,
                promises=self._promises,
                flusher=self._flusher,
                directory=self.config.broker.data_directory,
                partition=partition,
                # A broker whose disk was wiped is somebody else: it begins as a learner of whatever is placed on it.
                voter=Voter(self._broker_id, self._promises.directory_id, replica_number),
                first_voters=first_voters,
                config=config,
                observer=self,
                # Every broker acts on the cluster's decisions as soon as it hears of them.
                news=None if partition == CLUSTER_PARTITION else self._news,
                repair_counts=self.repairs,
                # Decisions and stored offsets are few partitions, and much waits for each.
                campaigns=None if partition.topic_id in (CLUSTER_TOPIC_ID, OFFSETS_TOPIC_ID) else self._campaigns,
                counts=self.counts,
            )
        except (DamagedLog, OSError) as error:
            self.unopened[partition] = str(error)
            wait_ms = self.retries.note_failed(partition, self._environment.monotonic_ms())
            self._environment.log(
                "replica_unopened", partition=str(partition), why=str(error), again_in_s=round(wait_ms / 1000)
            )
            return
        if self.retries.note_opened(partition):
            self._environment.log("replica_opened_at_last", partition=str(partition))
        # Until the decisions are read, clients would only hear that they are not: let another replica lead meanwhile.
        replica.set_willing(self._may_create or partition == CLUSTER_PARTITION)
        replica.placed = first_voters
        self.table[partition] = replica
        self.heartbeats.opened(replica)
        for watcher in self.watchers:
            watcher.opened(replica)

    async def _delete(self, partition: PartitionId) -> None:
        """The listing goes first: a crash in between leaves files that nobody lists, never a listing without files."""
        self.unopened.pop(partition, None)
        self.retries.forget(partition)
        self.lineages.forget(partition)
        deleted = self.state.deleted_topics.get(partition.topic_id)
        if deleted is not None and self._settings.pop(partition.topic_id, None) is not None:
            self._metrics.forget_topic(deleted.name)
            self.counts.dropped_bytes.pop(partition.topic_id, None)
        await self._close(partition)
        await self._promises.sync(self._promises.note_deleted(partition))
        await remove_tree(self._environment, self._directory_of(partition))
        self._environment.log("replica_deleted", partition=str(partition))

    async def _close(self, partition: PartitionId) -> None:
        replica = self.table.pop(partition, None)
        self._led.pop(partition, None)
        self.heartbeats.closed(partition)
        if replica is not None:
            for watcher in self.watchers:
                watcher.closed(partition)
            await replica.stop()

    def _directory_of(self, partition: PartitionId) -> str:
        return os.path.join(self.config.broker.data_directory, "partitions", str(partition))


def _is_small(message: AppendRequest) -> bool:
    """Does it bring no records? All else takes a few bytes of the reserve: without it nobody could lead, and no log
    could start later, where space has run out."""
    return all(item.kind is not ItemKind.RECORDS for item in message.items)


def topic_limits(config: BrokerConfig) -> TopicLimits:
    """What a topic may have here, and what it has if it says nothing."""
    return TopicLimits(
        broker_replicas_max=config.limits.partitions_max,
        batch_bytes_max=config.limits.batch_bytes_max,
        segment_bytes_max=config.replica.segment_bytes_max,
        segment_ms_max=config.replica.segment_ms_max,
        retention_ms=config.retention.ms,
        retention_bytes=config.retention.bytes,
        retention_follower_bytes=config.retention.follower_bytes,
    )


def partition_of(topic: TopicFact, number: int) -> PartitionId:
    """Raises UnknownPartition."""
    if not 0 <= number < len(topic.partitions):
        raise UnknownPartition(
            f"topic {topic.name!r} has no partition {number}, only 0 to {len(topic.partitions) - 1}",
            partitions=len(topic.partitions),
        )
    return PartitionId(topic.topic_id, number)


async def remove_tree(environment: Environment, directory: str) -> None:
    """Remove a directory of files, durably; nothing happens if it is not there."""
    disk = environment.disk
    if not disk.exists(directory):
        return
    for _ in range(REMOVAL_TRIES):
        for name in disk.list(directory):
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(os.path.join(directory, name))
        try:
            disk.remove_directory(directory)
            break
        except OSError as error:
            # The process that compacts may have begun another file meanwhile. It soon finds nothing to read.
            if error.errno != errno.ENOTEMPTY:
                raise
    else:
        raise OSError(errno.ENOTEMPTY, "new files appear while it is removed", directory)
    await disk.sync_directory(os.path.dirname(directory))


def _nothing(*_: Any) -> None:
    """Until the node has something to be told."""
