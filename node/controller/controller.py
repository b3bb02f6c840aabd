"""The controller: the leader of `__cluster`, which alone decides about topics and brokers.

What always holds
    it decides as `node/decider.py` says: as the one writer, against all that was decided before
    brokers are chosen by who is alive, but nothing that is decided rests on that
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from ...partitions.raft.messages import Voter
from ...proto.errors import (
    BrokerUnavailable,
    InvalidPartitions,
    InvalidRequest,
    LograftError,
    NotAuthorized,
    TopicExists,
    UnknownTopic,
    UnknownTopicId,
)
from ..decider import Decider
from ..decision_log import DecidedReplica, DecisionLog
from . import topic_rules
from .facts import (
    BrokerFact,
    Change,
    DeletedTopicFact,
    PartitionFact,
    TopicFact,
    delete,
    encode_batch,
    put,
)
from .placement import Candidate, place
from .state import ClusterState
from .topic_rules import TopicLimits

_FIRST_REPLICA_NUMBER = 1
_RACK_LENGTH_MAX = 249


class LiveBrokers(Protocol):
    """Which brokers are in touch just now: a sighting, on which nothing but the choice of brokers rests."""

    def alive_brokers(self) -> Mapping[int, str]:
        """Broker id -> directory id of its running process, this broker's own included."""
        ...


class CreatedTopic(NamedTuple):
    topic: TopicFact
    existed: bool
    """It was there already, under the same name and id."""


class Controller:
    """Decides, while the local replica of `__cluster` leads. Every broker has one.

    Raises, from every coroutine
        NotLeader       another broker is the controller; facts: leader_id, term
        NoLeader        this one is about to be
        UnknownOutcome  leadership went while the decision was under way; ask again, with the same topic id
    """

    def __init__(
        self,
        replica: DecidedReplica,
        cluster_log: DecisionLog[ClusterState],
        live_brokers: LiveBrokers,
        wall_ms: Callable[[], int],
        limits: TopicLimits | None = None,
    ) -> None:
        self._replica = replica
        self._cluster_log = cluster_log
        self._live_brokers = live_brokers
        self._wall_ms = wall_ms
        self._limits = limits or TopicLimits()
        self._decider: Decider[ClusterState, Change] = Decider(
            replica, cluster_log, lambda changes: encode_batch(changes, wall_ms()), "the controller"
        )

    @property
    def is_active(self) -> bool:
        """May it decide? Asking makes it ready if it can be."""
        try:
            self._decider.ahead()
        except LograftError:
            return False
        return True

    async def create_topic(
        self,
        name: str,
        topic_id: str,
        partitions: int,
        replication: int = 0,
        config: Mapping[str, str] | None = None,
        *,
        validate_only: bool = False,
        internal: bool = False,
    ) -> CreatedTopic:
        """Decide a topic and where its replicas are. Repeated with the same name and id it answers as the first time.

        `replication` 0 takes the default. `internal` is for this broker's own topics, never for what a client asks.

        Raises
            InvalidTopic, NotAuthorized, InvalidRequest, InvalidConfig, InvalidPartitions, InvalidReplication
            TopicExists        under another id
            UnknownTopicId     a topic of this id was there, and was deleted
            BrokerUnavailable  too few brokers are known, or alive, as yet
        """
        topic_rules.check_topic_id(topic_id, internal=internal)
        topic_rules.check_name(name, internal=internal)
        kept_config = topic_rules.check_config(config or {}, self._limits)

        def decide(state: ClusterState) -> tuple[Sequence[Change], CreatedTopic]:
            existing = state.topic(name)
            if existing is not None and existing.topic_id == topic_id:
                return (), CreatedTopic(existing, existed=True)
            self._refuse_conflict(state, name, topic_id)
            topic_rules.check_name(name, state.topics, internal=internal)
            topic_rules.check_partitions(name, partitions, state.partition_count, self._limits)
            topic = TopicFact(
                name=name,
                topic_id=topic_id,
                config=kept_config,
                partitions=self._placed(state, name, topic_id, partitions, replication),
                next_replica_number=0,
                created_ms=self._wall_ms(),
            )
            used = sum(len(partition.placement) for partition in topic.partitions)
            topic = msgspec.structs.replace(topic, next_replica_number=_FIRST_REPLICA_NUMBER + used)
            return (() if validate_only else (put(topic),)), CreatedTopic(topic, existed=False)

        return await self._decider.decide(decide)

    async def delete_topic(self, name: str, topic_id: str = "") -> None:
        """Delete the topic, and let the brokers delete its replicas: one batch says both.

        With `topic_id` only if that is still its id; then a repeated request succeeds too.

        Raises
            NotAuthorized  an internal topic
            UnknownTopic, UnknownTopicId
        """
        if topic_rules.is_internal(name):
            raise NotAuthorized(f"Topic {name[:80]!r} is internal and cannot be deleted", topic=name[:80])

        def decide(state: ClusterState) -> tuple[Sequence[Change], None]:
            deleted = state.deleted_topics.get(topic_id)
            if deleted is not None and deleted.name == name:
                return (), None
            topic = _known(state, name)
            if topic_id and topic.topic_id != topic_id:
                raise UnknownTopicId(
                    f"Topic {name!r} now has the id {topic.topic_id}, not {topic_id[:80]}; describe it, and name that "
                    "id if it is the one to delete",
                    topic=name,
                    topic_id=topic.topic_id,
                )
            gone = DeletedTopicFact(topic_id=topic.topic_id, name=name, deleted_ms=self._wall_ms())
            return (put(gone), delete(topic)), None

        await self._decider.decide(decide)

    async def register_broker(self, broker_id: int, directory_id: str, rack: str = "") -> BrokerFact:
        """Note a broker that came up. Nothing is written if it is known as it is."""
        if broker_id < 0 or not directory_id or len(rack) > _RACK_LENGTH_MAX:
            raise InvalidRequest(
                f"Broker {broker_id} with directory {directory_id[:80]!r} and rack {rack[:80]!r} cannot be registered: "
                f"it needs an id from 0, a directory id, and a rack of at most {_RACK_LENGTH_MAX} characters"
            )

        def decide(state: ClusterState) -> tuple[Sequence[Change], BrokerFact]:
            known = state.brokers.get(broker_id)
            if known is None:
                fact = BrokerFact(broker_id=broker_id, directory_id=directory_id, rack=rack, joined_ms=self._wall_ms())
                if why := state.unreadable.get(fact.key):
                    raise InvalidRequest(f"Broker {broker_id} is registered in a way this version cannot read: {why}")
            else:
                fact = msgspec.structs.replace(known, directory_id=directory_id, rack=rack)
            return (() if fact == known else (put(fact),)), fact

        return await self._decider.decide(decide)

    async def read(self) -> ClusterState:
        """The decisions in force, with everything that was decided before this was asked. To be read at once."""
        await self._decider.confirmed()
        return self._cluster_log.state

    async def describe_topic(self, name: str) -> TopicFact:
        """Raises UnknownTopic."""
        return _known(await self.read(), name)

    async def list_topics(self, *, internal: bool = False) -> list[TopicFact]:
        """By name; `internal` ones too, if asked for."""
        state = await self.read()
        return [topic for name, topic in sorted(state.topics.items()) if internal or not topic_rules.is_internal(name)]

    def _refuse_conflict(self, state: ClusterState, name: str, topic_id: str) -> None:
        """The name and the id must both be free."""
        if (existing := state.topic(name)) is not None:
            raise TopicExists(
                f"Topic {name!r} exists, with the id {existing.topic_id}; choose another name, or delete it first",
                topic=name,
                topic_id=existing.topic_id,
            )
        if why := state.unreadable.get(TopicFact.prefix + name):
            raise TopicExists(
                f"Topic {name!r} exists in a form that the controller's version cannot read ({why}); choose another "
                "name, or upgrade the brokers",
                topic=name,
            )
        if state.is_deleted(topic_id) or DeletedTopicFact.prefix + topic_id in state.unreadable:
            raise UnknownTopicId(
                f"A topic with the id {topic_id} was deleted, and ids are not used twice; draw another",
                topic_id=topic_id,
            )
        if (other := state.topic_by_id(topic_id)) is not None:
            raise InvalidRequest(
                f"Topic {other.name!r} has the id {topic_id}; draw another for {name!r}", topic_id=topic_id
            )

    def _placed(
        self, state: ClusterState, name: str, topic_id: str, partitions: int, replication: int
    ) -> tuple[PartitionFact, ...]:
        """Choose brokers. The live ones first; others only where the live alone are too few, yet a majority."""
        expected = {*state.brokers} | {voter.broker_id for voter in self._replica.voters}
        replicas = topic_rules.check_replication(name, replication, len(expected), self._limits)
        if replicas > len(state.brokers):
            raise BrokerUnavailable(
                f"Topic {name!r} needs {replicas} brokers, of which {len(state.brokers)} have registered yet; try "
                "again in a moment, or ask for fewer replicas",
                registered=len(state.brokers),
            )
        directories = self._live_brokers.alive_brokers()
        candidates = _candidates(state)
        alive = [
            broker
            for broker in candidates
            if directories.get(broker.broker_id) == state.brokers[broker.broker_id].directory_id
        ]
        absent = [broker for broker in candidates if broker not in alive]
        if len(alive) <= replicas // 2:
            raise BrokerUnavailable(
                f"Topic {name!r} with {replicas} replicas needs {replicas // 2 + 1} live brokers, and {len(alive)} are "
                "alive; start the others, or ask for fewer replicas",
                alive=len(alive),
            )
        if replicas <= len(alive):
            placements = place(topic_id, partitions, replicas, alive)
        else:
            waiting = place(topic_id, partitions, replicas - len(alive), absent)
            present = place(topic_id, partitions, len(alive), alive)
            placements = [now + later for now, later in zip(present, waiting, strict=True)]
        self._refuse_overfull(name, candidates, placements)
        number = _FIRST_REPLICA_NUMBER
        facts = []
        for placement in placements:
            voters = tuple(
                Voter(broker_id, state.brokers[broker_id].directory_id, number + position)
                for position, broker_id in enumerate(placement)
            )
            number += len(voters)
            facts.append(PartitionFact(placement=voters, first_voters=voters))
        return tuple(facts)

    def _refuse_overfull(
        self, name: str, candidates: Sequence[Candidate], placements: Sequence[tuple[int, ...]]
    ) -> None:
        added = Counter(broker_id for placement in placements for broker_id in placement)
        for broker in candidates:
            total = broker.replicas + added[broker.broker_id]
            if total > self._limits.broker_replicas_max and added[broker.broker_id]:
                raise InvalidPartitions(
                    f"With topic {name!r} broker {broker.broker_id} would hold {total} replicas, above its limit of "
                    f"{self._limits.broker_replicas_max}; ask for fewer partitions or replicas, or add brokers",
                    broker_id=broker.broker_id,
                    limit=self._limits.broker_replicas_max,
                )


def _candidates(state: ClusterState) -> list[Candidate]:
    """The registered brokers with what they hold by decision, by broker id."""
    placements = [partition.placement for topic in state.topics.values() for partition in topic.partitions]
    replicas = Counter(replica.broker_id for placement in placements for replica in placement)
    leaders = Counter(placement[0].broker_id for placement in placements)
    return [
        Candidate(broker_id, broker.rack, replicas[broker_id], leaders[broker_id])
        for broker_id, broker in sorted(state.brokers.items())
    ]


def _known(state: ClusterState, name: str) -> TopicFact:
    topic = state.topic(name)
    if topic is None:
        raise UnknownTopic(f"There is no topic {name[:80]!r}; create it first", topic=name[:80])
    return topic
