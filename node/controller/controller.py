"""The controller: the leader of `__cluster`, which alone decides about topics and brokers.

What always holds
    it decides as `node/decider.py` says: as the one writer, against all that was decided before
    brokers are chosen by who is alive, but nothing that is decided rests on that
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from ...partitions.raft.messages import Voter
from ...partitions.raft.progress import majority
from ...proto.errors import (
    BrokerUnavailable,
    InvalidPartitions,
    InvalidReplication,
    InvalidRequest,
    LograftError,
    NotAuthorized,
    TopicExists,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from ..decider import Decider
from ..decision_log import DecidedReplica, DecisionLog
from . import topic_rules
from .cluster_seats import seats
from .evacuation import Heirs, evacuated
from .facts import (
    BrokerFact,
    Change,
    DeletedTopicFact,
    PartitionFact,
    SettingFact,
    TopicFact,
    delete,
    encode_batch,
    put,
)
from .moves import placed_on, rehomed
from .placement import Candidate, place
from .recoveries import recovered
from .settings import DEFAULT, known_setting
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

    async def grow_topic(
        self, name: str, partitions: int, topic_id: str = "", partitions_before: int = 0, *, validate_only: bool = False
    ) -> TopicFact:
        """Decide that a topic has `partitions` of them in all; the new ones are placed as at its creation.

        `partitions_before`: how many it had when the caller looked, by which a repeated call is told.

        Raises
            NotAuthorized        an internal topic
            UnknownTopic, UnknownTopicId
            InvalidPartitions    not more than there are, or above a limit
            BrokerUnavailable    too few brokers are alive just now
        """
        _refuse_internal(name, "cannot be grown")

        def decide(state: ClusterState) -> tuple[Sequence[Change], TopicFact]:
            topic = _known(state, name, topic_id)
            present = len(topic.partitions)
            if 0 < partitions_before < present == partitions:
                return (), topic
            topic_rules.check_growth(name, present, partitions, state.partition_count, self._limits)
            added = self._placed(
                state,
                name,
                f"{topic.topic_id} from {present}",
                partitions - present,
                topic.replication,
                topic.next_replica_number,
            )
            grown = msgspec.structs.replace(
                topic,
                partitions=(*topic.partitions, *added),
                next_replica_number=topic.next_replica_number + sum(len(partition.placement) for partition in added),
            )
            return (() if validate_only else (put(grown),)), grown

        return await self._decider.decide(decide)

    async def alter_topic(
        self,
        name: str,
        changes: Mapping[str, str],
        unset: Sequence[str] = (),
        topic_id: str = "",
        *,
        validate_only: bool = False,
    ) -> TopicFact:
        """Decide a topic's settings anew; those that are not named stay. Repeated, it changes nothing.

        Raises
            NotAuthorized   an internal topic
            UnknownTopic, UnknownTopicId
            InvalidConfig, InvalidRequest
        """
        _refuse_internal(name, "keeps its settings")

        def decide(state: ClusterState) -> tuple[Sequence[Change], TopicFact]:
            topic = _known(state, name, topic_id)
            altered = msgspec.structs.replace(
                topic, config=topic_rules.altered_config(topic.config, changes, unset, self._limits)
            )
            return (() if validate_only or altered == topic else (put(altered),)), altered

        return await self._decider.decide(decide)

    async def delete_topic(self, name: str, topic_id: str = "") -> None:
        """Delete the topic, and let the brokers delete its replicas: one batch says both.

        With `topic_id` only if that is still its id; then a repeated request succeeds too.

        Raises
            NotAuthorized  an internal topic
            UnknownTopic, UnknownTopicId
        """
        _refuse_internal(name, "cannot be deleted")

        def decide(state: ClusterState) -> tuple[Sequence[Change], None]:
            deleted = state.deleted_topics.get(topic_id)
            if deleted is not None and deleted.name == name:
                return (), None
            topic = _known(state, name, topic_id)
            gone = DeletedTopicFact(topic_id=topic.topic_id, name=name, deleted_ms=self._wall_ms())
            return (put(gone), delete(topic)), None

        await self._decider.decide(decide)

    async def register_broker(self, broker_id: int, directory_id: str, rack: str = "") -> BrokerFact:
        """Note a broker that came up. Nothing is written if it is known as it is.

        If it came up on another disk, its replicas are placed on that one, as somebody else: one batch says both.
        """
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
            elif known.directory_id != directory_id:
                # Another disk is another beginning: what stood on the old one is placed here anew, under new numbers.
                fact = msgspec.structs.replace(known, directory_id=directory_id, rack=rack, removed=False, gone=False)
            else:
                fact = msgspec.structs.replace(known, rack=rack, gone=False)
            if fact == known:
                return (), fact
            directories = {**_directories(state), broker_id: directory_id}
            moved = [
                after
                for _, topic in sorted(state.topics.items())
                if (after := rehomed(topic, broker_id, directories)) != topic
            ]
            return (put(fact), *map(put, moved)), fact

        return await self._decider.decide(decide)

    async def grow_internal_topics(self) -> list[str]:
        """Place internal topics' partitions on more brokers, as far as there are more, up to the default replication.

        Returns the names of those that grew.
        """

        def decide(state: ClusterState) -> tuple[Sequence[Change], list[str]]:
            changes = []
            for name, topic in sorted(state.topics.items()):
                if topic_rules.is_internal(name) and (grown := self._grown(state, topic)) != topic:
                    changes.append(put(grown))
                    state = state.copy()
                    state.apply(changes[-1])
            return changes, [key.partition("/")[2] for key, _ in changes]

        return await self._decider.decide(decide)

    async def move_partition(
        self, name: str, number: int, brokers: Sequence[int], *, seen: tuple[Voter, ...] | None = None
    ) -> TopicFact:
        """Decide that a partition's replicas are to be on `brokers`, the preferred leader first.

        The caller has seen that no earlier move of the partition is under way, while it was placed as `seen`.

        Raises
            UnknownTopic, UnknownPartition
            InvalidReplication  no brokers, or one named twice; of an internal topic fewer than the cluster keeps
            InvalidRequest      one that is not registered, not alive, or removed; or just those where they are; or it
                                is not placed as `seen` any more
        """

        def decide(state: ClusterState) -> tuple[Sequence[Change], TopicFact]:
            topic = _known(state, name)
            if not 0 <= number < len(topic.partitions):
                raise UnknownPartition(
                    f"Topic {name!r} has no partition {number}, only 0 to {len(topic.partitions) - 1}",
                    partitions=len(topic.partitions),
                )
            if not brokers or len({*brokers}) != len(brokers):
                raise InvalidReplication(
                    f"Partition {number} of {name!r} cannot be on brokers {_listed(brokers)}: name at least one, and "
                    "each once"
                )
            if seen is not None and seen != topic.partitions[number].placement:
                raise InvalidRequest(
                    f"Partition {number} of {name!r} was moved meanwhile; wait until `lograft partition list` shows "
                    "that move done"
                )
            self._refuse_unusable(state, f"Partition {number} of {name!r} cannot move", brokers)
            present = [voter.broker_id for voter in topic.partitions[number].placement]
            if present == list(brokers):
                raise InvalidRequest(
                    f"Partition {number} of {name!r} is on brokers {_listed(present)} already; name others, or another "
                    "order to prefer another leader"
                )
            fewest = min(self._limits.replication_default, len(present))
            if topic_rules.is_internal(name) and len(brokers) < fewest:
                raise InvalidReplication(
                    f"Partition {number} of {name!r} cannot have {len(brokers)} of its {len(present)} copies: the "
                    f"cluster keeps {fewest} of what is its own; name so many brokers"
                )
            moved = placed_on(topic, number, brokers, _directories(state))
            return (put(moved),), moved

        return await self._decider.decide(decide)

    async def recover_partition(
        self,
        name: str,
        number: int,
        seen: PartitionFact,
        source: Voter,
        *,
        term_seen: int,
        kept_offset: int,
        lost_offset: int,
        unknown_brokers: Sequence[int],
        by: str,
    ) -> TopicFact:
        """Decide that a partition goes on with the log of `source` alone; all its other replicas are over.

        `seen` is the partition as it was when it was judged that this may be. The replicas are placed on that broker
        and on live ones, those that have one now first; on dead ones only where the live are too few.

        Raises
            UnknownTopic, UnknownPartition
            InvalidRequest  it is not as it was seen any more, or the source's broker is not alive on that disk
        """

        def decide(state: ClusterState) -> tuple[Sequence[Change], TopicFact]:
            topic = _known(state, name)
            if number >= len(topic.partitions) or topic.partitions[number] != seen:
                raise InvalidRequest(
                    f"Partition {number} of {name!r} was decided about meanwhile; look at it again", topic=name
                )
            directories = _directories(state)
            usable = [broker.broker_id for broker in self._usable(state)]
            if source.broker_id not in usable or directories[source.broker_id] != source.directory_id:
                raise InvalidRequest(
                    f"Broker {source.broker_id} is not alive on the disk that holds partition {number} of {name!r}; "
                    "start it, or choose another",
                    broker_id=source.broker_id,
                )
            present = [voter.broker_id for voter in seen.placement]
            ranked = [
                source.broker_id,
                *(broker_id for broker_id in present if broker_id in usable),
                *usable,
                *(broker_id for broker_id in present if broker_id in directories),
            ]
            recovered_topic = recovered(
                topic,
                number,
                source,
                [*dict.fromkeys(ranked)][: len(present)],
                directories,
                term_seen=term_seen,
                kept_offset=kept_offset,
                lost_offset=lost_offset,
                unknown_brokers=unknown_brokers,
                decided_ms=self._wall_ms(),
                by=by,
            )
            return (put(recovered_topic),), recovered_topic

        return await self._decider.decide(decide)

    async def set_draining(self, broker_id: int, draining: bool) -> BrokerFact:
        """Decide whether a broker is to lead anything. Raises InvalidRequest if it is unknown or removed."""

        def decide(state: ClusterState) -> tuple[Sequence[Change], BrokerFact]:
            known = self._known_broker(state, broker_id)
            fact = msgspec.structs.replace(known, draining=draining)
            return (() if fact == known else (put(fact),)), fact

        return await self._decider.decide(decide)

    async def remove_broker(self, broker_id: int) -> list[str]:
        """Decide that a broker is to hold nothing any more, and where its replicas go instead.

        Returns the topics of which something moves. Repeated, it changes nothing.

        Raises InvalidRequest: it is unknown, or too few others are alive to take its place, or to be a majority then.
        """

        def decide(state: ClusterState) -> tuple[Sequence[Change], list[str]]:
            known = state.brokers.get(broker_id)
            if known is not None and known.removed:
                return (), []
            known = self._known_broker(state, broker_id)
            removed = msgspec.structs.replace(known, removed=True, draining=False)
            before, state = state, state.copy()
            changes: list[Change] = [put(removed)]
            state.apply(changes[0])
            if not any(not broker.removed for broker in state.brokers.values()):
                raise InvalidRequest(f"Broker {broker_id} is the only one; start another before it is removed")
            self._refuse_dead_majority(state, broker_id)
            found = evacuated(state, broker_id, self._heirs(state))
            for topic, number in found.stuck:
                replicas = len(topic.partitions[number].placement)
                if not topic_rules.is_internal(topic.name) or replicas == 1:
                    raise InvalidRequest(
                        f"Broker {broker_id} cannot be removed: it holds one of the {replicas} replicas of partition "
                        f"{number} of {topic.name!r}, and no other live broker can take it; start one first",
                        broker_id=broker_id,
                        topic=topic.name,
                    )
            for topic in found.topics:
                state.apply(put(topic))
            # Internal topics do with fewer, until there are brokers enough again.
            shrunk = [_without(state.topics[topic.name], broker_id, state) for topic, _ in found.stuck]
            for topic in shrunk:
                state.apply(put(topic))
            moved = {topic.name: topic for topic in (*found.topics, *shrunk)}
            self._refuse_dead_partitions(before, broker_id, moved.values())
            return [*changes, *map(put, moved.values())], list(moved)

        return await self._decider.decide(decide)

    async def declare_gone(self, broker_ids: Collection[int]) -> list[str]:
        """Decide that brokers unseen for too long are gone, and place what they hold on others, as far as those can
        take it. Asked again, it places what can be placed only now.

        What has no live majority stays: nobody could copy it. A broker that is back, removed, or drained (so away on
        purpose) is not gone. Returns the keys of the facts that changed.
        """

        def decide(state: ClusterState) -> tuple[Sequence[Change], list[str]]:
            alive, state, changes = self._live_brokers.alive_brokers(), state.copy(), dict[str, Change]()
            for broker_id in sorted(broker_ids):
                known = state.brokers.get(broker_id)
                if known is None or known.removed or known.draining or broker_id in alive:
                    continue
                found = evacuated(
                    state,
                    broker_id,
                    self._heirs(state),
                    lambda partition: (
                        2 * sum(voter.broker_id in alive for voter in partition.placement) > len(partition.placement)
                    ),
                )
                for change in (put(msgspec.structs.replace(known, gone=True)), *map(put, found.topics)):
                    if state.apply(change) is not None:
                        changes[change[0]] = change
            return list(changes.values()), list(changes)

        return await self._decider.decide(decide)

    async def change_setting(self, name: str, text: str) -> int:
        """Decide a setting of the whole cluster; `default` undoes earlier decisions. Raises InvalidConfig."""
        setting = known_setting(name)
        fact = SettingFact(name=name, value=setting.parse(text))

        def decide(state: ClusterState) -> tuple[Sequence[Change], int]:
            known = state.settings.get(name)
            if text.strip() == DEFAULT:
                return (() if known is None else (delete(known),)), fact.value
            changed = fact if known is None else msgspec.structs.replace(known, value=fact.value)
            return (() if changed == known else (put(changed),)), fact.value

        return await self._decider.decide(decide)

    def takers(self, state: ClusterState) -> list[Candidate]:
        """The brokers on which something can be placed now, those that are being drained too."""
        return self._usable(state)

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

    def _usable(self, state: ClusterState) -> list[Candidate]:
        """Brokers on which something can be placed now: alive, on the disk they are registered with, and not removed;
        the emptiest first."""
        alive = self._live_brokers.alive_brokers()
        usable = [
            broker
            for broker in _candidates(state)
            if alive.get(broker.broker_id) == state.brokers[broker.broker_id].directory_id
        ]
        return sorted(usable, key=lambda broker: (broker.replicas, broker.broker_id))

    def _heirs(self, state: ClusterState) -> Heirs:
        racks = {broker_id: broker.rack for broker_id, broker in state.brokers.items()}
        draining = {broker_id for broker_id, broker in state.brokers.items() if broker.draining}
        return Heirs(self._usable(state), racks, draining)

    def _refuse_unusable(self, state: ClusterState, what: str, brokers: Sequence[int]) -> None:
        usable = [broker.broker_id for broker in self._usable(state)]
        for broker_id in brokers:
            known = state.brokers.get(broker_id)
            if known is None or known.removed:
                why = "was removed" if known is not None else "is unknown"
            elif broker_id not in usable:
                why = "is not alive"
            else:
                continue
            raise InvalidRequest(
                f"{what}: broker {broker_id} {why}; choose among {_listed(sorted(usable))}", broker_id=broker_id
            )

    def _known_broker(self, state: ClusterState, broker_id: int) -> BrokerFact:
        known = state.brokers.get(broker_id)
        if known is None or known.removed:
            present = sorted(known_id for known_id, fact in state.brokers.items() if not fact.removed)
            raise InvalidRequest(
                f"The cluster has no broker {broker_id}; it has {_listed(present)}", broker_id=broker_id
            )
        return known

    def _grown(self, state: ClusterState, topic: TopicFact) -> TopicFact:
        if all(len(partition.placement) >= self._limits.replication_default for partition in topic.partitions):
            return topic
        directories, usable = _directories(state), self._usable(state)
        for number in range(len(topic.partitions)):
            present = [voter.broker_id for voter in topic.partitions[number].placement]
            held = Counter(voter.broker_id for partition in topic.partitions for voter in partition.placement)
            free = [broker for broker in usable if broker.broker_id not in present]
            free.sort(key=lambda broker: (held[broker.broker_id], broker.broker_id))
            added = [broker.broker_id for broker in free[: max(self._limits.replication_default - len(present), 0)]]
            if added:
                topic = placed_on(topic, number, [*present, *added], directories)
        return topic

    def _refuse_dead_majority(self, state: ClusterState, broker_id: int) -> None:
        """Refuse to remove `broker_id`, as `state` has it already, if those who decide then could not."""
        usable = [broker.broker_id for broker in self._usable(state)]
        deciding = [voter.broker_id for voter in seats(self._replica.voters, state.brokers, usable)]
        alive = sum(other in usable for other in deciding)
        if alive < majority(len(deciding)):
            raise InvalidRequest(
                f"Broker {broker_id} cannot be removed: only {alive} of the {len(deciding)} brokers that would decide "
                f"then ({_listed(sorted(deciding))}) is alive, which is no majority; start the others first",
                broker_id=broker_id,
            )

    def _refuse_dead_partitions(self, before: ClusterState, broker_id: int, moved: Iterable[TopicFact]) -> None:
        """Refuse to remove `broker_id` if a partition that it leaves had most of its replicas on dead brokers then."""
        usable = [broker.broker_id for broker in self._usable(before)]
        for topic in moved:
            held = before.topics[topic.name].partitions
            for number, (partition, old) in enumerate(zip(topic.partitions, held, strict=True)):
                if partition == old:
                    continue
                brokers = [voter.broker_id for voter in partition.placement]
                alive = sum(other in usable and other != broker_id for other in brokers)
                if alive < majority(len(brokers)):
                    raise InvalidRequest(
                        f"Broker {broker_id} cannot be removed: partition {number} of {topic.name!r} would have only "
                        f"{alive} of {len(brokers)} replicas on live brokers, which is no majority; start the others "
                        "first",
                        broker_id=broker_id,
                        topic=topic.name,
                    )

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
        self,
        state: ClusterState,
        name: str,
        seed: str,
        partitions: int,
        replication: int,
        first_number: int = _FIRST_REPLICA_NUMBER,
    ) -> tuple[PartitionFact, ...]:
        """Choose brokers, and give out replica numbers from `first_number` on. The live brokers first; others only
        where the live alone are too few, yet a majority."""
        gone = {broker_id for broker_id, broker in state.brokers.items() if broker.removed}
        expected = ({*state.brokers} | {voter.broker_id for voter in self._replica.voters}) - gone
        replicas = topic_rules.check_replication(name, replication, len(expected), self._limits)
        registered = len({*state.brokers} - gone)
        if replicas > registered:
            raise BrokerUnavailable(
                f"Topic {name!r} needs {replicas} brokers, of which {registered} have registered yet; try "
                "again in a moment, or ask for fewer replicas",
                registered=registered,
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
            placements = place(seed, partitions, replicas, alive)
        else:
            waiting = place(seed, partitions, replicas - len(alive), absent)
            present = place(seed, partitions, len(alive), alive)
            placements = [now + later for now, later in zip(present, waiting, strict=True)]
        self._refuse_overfull(name, candidates, placements)
        number = first_number
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
        if not broker.removed
    ]


def _without(topic: TopicFact, broker_id: int, state: ClusterState) -> TopicFact:
    """The topic with one replica fewer of each partition that has one on this broker."""
    for number, partition in enumerate(topic.partitions):
        present = [voter.broker_id for voter in partition.placement]
        if broker_id in present:
            left = [other for other in present if other != broker_id]
            topic = placed_on(topic, number, left, _directories(state))
    return topic


def _directories(state: ClusterState) -> dict[int, str]:
    return {broker_id: broker.directory_id for broker_id, broker in state.brokers.items()}


def _listed(brokers: Sequence[int]) -> str:
    return ", ".join(map(str, brokers)) or "none"


def _known(state: ClusterState, name: str, topic_id: str = "") -> TopicFact:
    """The topic called `name`; with `topic_id` only if that is its id."""
    topic = state.topic(name)
    if topic is None:
        raise UnknownTopic(f"There is no topic {name[:80]!r}; create it first", topic=name[:80])
    if topic_id and topic.topic_id != topic_id:
        raise UnknownTopicId(
            f"Topic {name!r} now has the id {topic.topic_id}, not {topic_id[:80]}; describe it, and name that id if it "
            "is the one meant",
            topic=name,
            topic_id=topic.topic_id,
        )
    return topic


def _refuse_internal(name: str, why: str) -> None:
    if topic_rules.is_internal(name):
        raise NotAuthorized(f"Topic {name[:80]!r} is internal and {why}", topic=name[:80])
