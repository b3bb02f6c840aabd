"""Decisions about the cluster: topics, and who leads. Any broker takes these calls and forwards them.

Invariants
    a call that may have been carried out is repeated only where repeating changes nothing
    the client draws the id of a topic that it creates, so a creation whose answer was lost is recognised
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lograft.v1 import admin_service_pb2, common_pb2

from ..proto.errors import (
    BrokerUnavailable,
    InvalidPartitions,
    InvalidReplication,
    InvalidRequest,
    LograftError,
    RequestTimedOut,
    TopicExists,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .connection import Connection, backoff_s
from .metadata import Metadata
from .offset_bounds import Bound, parse_bound
from .offsets import OffsetLookup
from .rebalance import AT_ONCE, BrokerShare, PlannedMove, RebalancePlan, RebalanceProgress, carry_out
from .records import TopicPartition
from .recoveries import PartitionRecovery, RecoveryPlan, plan_of, recovery_of

_ASK_TIMEOUT_S = 10.0
_LEADERS_AWAITED_S = 5.0


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far the log has been copied to a replica, as its partition's leader knows it."""

    bytes_done: int
    bytes_total: int
    """Of the leader's log now; it grows while records come in."""
    bytes_per_second: int | None
    """Of the last few seconds; None: not known yet."""
    time_left_s: float | None
    """None: not known yet, or the rest does not shrink."""


@dataclass(frozen=True, slots=True)
class ReplicaDescription:
    """One copy of a partition. match_offset is -1 where the leader does not know it."""

    broker_id: int
    voter: bool
    alive: bool
    match_offset: int
    state: str
    leaving: bool = False
    """It votes still, but is placed there no more."""
    copying: CopyProgress | None = None
    """While the log is copied to it; else None."""


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """A partition. leader_id is -1 if none is known; offsets and size are -1 if the leader could not be asked."""

    number: int
    leader_id: int
    term: int
    replicas: tuple[ReplicaDescription, ...]
    log_start_offset: int
    committed_offset: int
    size_bytes: int
    moving: bool = False
    """Not just those vote yet who are placed, or no leader answers that could tell. While it is true, no broker that
    held the partition can be done without."""
    recovery: PartitionRecovery | None = None
    """The newest time at which an operator gave up what its majority held; None: never."""


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic."""

    name: str
    topic_id: str
    replication: int
    config: Mapping[str, str]
    partitions: tuple[PartitionDescription, ...]
    internal: bool


@dataclass(frozen=True, slots=True)
class BrokerDescription:
    """A broker, as the controller knows it."""

    broker_id: int
    address: str
    peer_address: str
    http_address: str
    rack: str
    directory_id: str
    alive: bool
    version: str
    start_number: int
    replicas: int
    leaders: int
    cluster_voter: bool
    draining: bool = False
    """It is to lead nothing."""
    removed: bool = False
    """It is to hold nothing."""
    peer_protocol: tuple[int, int] | None = None
    """Lowest and highest version of the protocol between brokers that it speaks; None if it is not in touch."""
    gone: bool = False
    """Unseen for longer than `brokers.gone_after_ms`: what it held is placed elsewhere, as far as others took it."""


@dataclass(frozen=True, slots=True)
class ClusterSetting:
    """A setting of the whole cluster; values are written with their units, as `change_cluster_setting` takes them."""

    name: str
    value: str
    default: str
    explanation: str


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """The cluster and its health. `reasons` say why it is not healthy, worst first."""

    cluster_id: str
    controller_id: int
    controller_term: int
    brokers: tuple[BrokerDescription, ...]
    healthy: bool
    reasons: tuple[str, ...]
    losses_borne: int
    topics: int
    partitions: int
    leaderless_partitions: int
    under_replicated_partitions: int
    frail_partitions: int = 0
    """With so few copies that the loss of one broker stops them."""


class Admin:
    """Administration of a cluster; `Client.admin`.

    Raises, from every call
        RequestTimedOut, BrokerUnavailable  not carried out as far as is known, within the client's timeout
        NotAuthorized                       not for this user
    """

    def __init__(self, connection: Connection, metadata: Metadata, *, timeout_s: float) -> None:
        self._connection = connection
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._now = connection.environment.now

    async def _call(self, method: str, request: Any, *, first: str | None = None) -> Any:
        """Ask one broker after the other until one answers with something that trying again cannot mend."""
        deadline = self._now() + self._timeout_s
        attempt = 0
        reasons: dict[str, str] = {}
        """By address: what each broker said last. A call that found no time to be answered says less than that."""
        while True:
            failures: list[LograftError] = []
            addresses = self._metadata.addresses()
            if first in addresses:
                addresses = [first, *(address for address in addresses if address != first)]
            for address in addresses:
                left_s = deadline - self._now()
                if left_s <= 0:
                    break
                try:
                    stub = self._connection.admin(address)
                    return await self._connection.call(
                        address, getattr(stub, method), request, timeout_s=min(_ASK_TIMEOUT_S, left_s)
                    )
                except LograftError as error:
                    if not error.retriable:
                        raise
                    failures.append(error)
                    if address not in reasons or not isinstance(error, RequestTimedOut):
                        reasons[address] = str(error)
            wait_s = backoff_s(attempt, self._connection.environment.chance)
            if self._now() + wait_s >= deadline:
                raise self._gave_up(method, failures, reasons.values())
            attempt += 1
            await asyncio.sleep(wait_s)

    def _gave_up(self, method: str, failures: Sequence[LograftError], reasons: Iterable[str]) -> LograftError:
        text = "; ".join(dict.fromkeys(reasons)) or "no broker answered in time"
        message = f"{method} was not carried out within {self._timeout_s:g} s: {text}"
        if failures and all(isinstance(failure, BrokerUnavailable) for failure in failures):
            return BrokerUnavailable(message)
        return RequestTimedOut(message)

    # Topics --------------------------------------------------------------------------------------------------------

    async def create_topic(
        self,
        name: str,
        partitions: int = 3,
        replication: int | None = None,
        config: Mapping[str, str] | None = None,
        exist_ok: bool = False,
        validate_only: bool = False,
    ) -> TopicDescription:
        """Create a topic, and wait (a few seconds at most) until its partitions have leaders.

        Without `replication`: three, or as many as there are brokers if fewer.

        Raises
            TopicExists                            unless `exist_ok`; the topic is then described as it is
            InvalidTopic, InvalidPartitions,
            InvalidReplication, InvalidConfig      it cannot be made like this
        """
        # What the wire cannot say is refused here; all else by the broker, which knows the limits.
        if abs(partitions) >= 2**31:
            raise InvalidPartitions(f"topic {name[:80]!r} cannot have {partitions} partitions", partitions=partitions)
        if replication is not None and (replication == 0 or abs(replication) >= 2**31):
            raise InvalidReplication(
                f"topic {name[:80]!r} cannot have {replication} copies: ask for 1 or more", replication=replication
            )
        request = admin_service_pb2.CreateTopicRequest(
            name=name,
            partitions=partitions,
            replication=0 if replication is None else replication,
            config={key: str(setting) for key, setting in (config or {}).items()},
            topic_id=f"{self._connection.environment.chance.getrandbits(128):032x}",
            validate_only=validate_only,
        )
        try:
            answer = await self._call("CreateTopic", request)
        except TopicExists:
            if not exist_ok:
                raise
            return await self.describe_topic(name)
        if not validate_only:
            await self._wait_for_leaders(name)
        return _topic(answer.topic)

    async def _wait_for_leaders(self, name: str) -> None:
        """Leaders are elected in the blink of an eye; whoever sends at once should not have to retry."""
        deadline = self._now() + min(_LEADERS_AWAITED_S, self._timeout_s)
        attempt = 0
        while self._now() < deadline:
            try:
                view = await self._metadata.topic(name, timeout_s=deadline - self._now(), fresh=True)
            except LograftError:
                return  # the topic is made; that no broker tells of it yet is for its first user to find out
            if all(partition.leader_id >= 0 for partition in view.partitions):
                return
            await asyncio.sleep(backoff_s(attempt, self._connection.environment.chance))
            attempt += 1

    async def grow_topic(self, name: str, partitions: int, *, validate_only: bool = False) -> TopicDescription:
        """Give a topic more partitions: `partitions` in all. Waits (a few seconds at most) until the new ones are led.

        They never become fewer again. Records with keys may go to other partitions from then on: order holds for each
        key within one partition, so between before and after for no key that moves. Running producers and consumers
        learn of it within half a minute.

        Raises
            UnknownTopic       there is none
            InvalidPartitions  not more than it has, or above a limit
            NotAuthorized      an internal topic
        """
        if abs(partitions) >= 2**31:
            raise InvalidPartitions(f"topic {name[:80]!r} cannot have {partitions} partitions", partitions=partitions)
        topic = await self.describe_topic(name)
        request = admin_service_pb2.GrowTopicRequest(
            name=name,
            topic_id=topic.topic_id,
            partitions=partitions,
            partitions_before=len(topic.partitions),
            validate_only=validate_only,
        )
        answer = await self._call("GrowTopic", request)
        if not validate_only:
            await self._wait_for_leaders(name)
        return _topic(answer.topic)

    async def alter_topic(
        self,
        name: str,
        config: Mapping[str, str] | None = None,
        *,
        unset: Iterable[str] = (),
        validate_only: bool = False,
    ) -> TopicDescription:
        """Change a topic's settings: those in `config` are set, those in `unset` go back to the brokers' default, the
        others stay. The brokers go by it within moments.

        Raises
            UnknownTopic    there is none
            InvalidConfig   an unknown setting, or a value it cannot have
            InvalidRequest  nothing named, or one setting twice
            NotAuthorized   an internal topic
        """
        topic = await self.describe_topic(name)
        request = admin_service_pb2.AlterTopicRequest(
            name=name,
            topic_id=topic.topic_id,
            set={key: str(setting) for key, setting in (config or {}).items()},
            unset=list(unset),
            validate_only=validate_only,
        )
        return _topic((await self._call("AlterTopic", request)).topic)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic and all its records, for good. The one that has the name now, not one made meanwhile.

        Raises
            UnknownTopic  there is none
        """
        topic = await self.describe_topic(name)
        request = admin_service_pb2.DeleteTopicRequest(name=name, topic_id=topic.topic_id)
        # It was there just now: if it is not any more, an earlier try was carried out, or somebody else was faster.
        with suppress(UnknownTopic, UnknownTopicId):
            await self._call("DeleteTopic", request)
        self._metadata.topics.pop(name, None)

    async def list_topics(self, *, internal: bool = False) -> list[TopicDescription]:
        """All topics by name; with `internal` also those that the cluster keeps for itself."""
        answer = await self._call("ListTopics", admin_service_pb2.ListTopicsRequest(internal=internal))
        return sorted((_topic(topic) for topic in answer.topics), key=lambda topic: topic.name)

    async def describe_topic(self, name: str) -> TopicDescription:
        """One topic, with what its leaders say of each partition.

        Raises
            UnknownTopic  there is none
        """
        answer = await self._call("DescribeTopic", admin_service_pb2.DescribeTopicRequest(name=name))
        return _topic(answer.topic)

    async def trim_topic(
        self, name: str, to: Bound | str | int, partitions: Iterable[int] | None = None
    ) -> dict[int, int]:
        """Let a topic's partitions start at a place of the OFFSETS grammar, and forget the records before it, for good.

        Returns where each starts now: later than asked for if it did already. It is committed by then; the space is
        freed a little later, as whole segments. Without `partitions`, all of them.

        Raises
            UnknownTopic, UnknownPartition  there is no such partition; nothing was trimmed
            OffsetOutOfRange                an offset beyond the committed end; nothing was trimmed
            InvalidRequest                  `to` is no place, or a stored offset
        """
        now_ms = self._connection.environment.unix_ms()
        bound = to if isinstance(to, Bound) else parse_bound(to, now_ms=now_ms)
        topic = await self.describe_topic(name)
        numbers = range(len(topic.partitions)) if partitions is None else sorted(set(partitions))
        for number in numbers:
            if not 0 <= number < len(topic.partitions):
                raise UnknownPartition(
                    f"topic {name!r} has no partition {number}, only 0 to {len(topic.partitions) - 1}",
                    partitions=len(topic.partitions),
                )
        if bound.base == "zero":
            offsets = dict.fromkeys(numbers, bound.number)  # below the start it is nothing to do, and no mistake
        else:
            lookup = OffsetLookup(self._connection, self._metadata, timeout_s=self._timeout_s)
            found = await lookup.resolve(bound, (TopicPartition(name, number) for number in numbers))
            offsets = {partition.partition: offset for partition, offset in found.items()}
        request = admin_service_pb2.TrimTopicRequest(
            name=name,
            topic_id=topic.topic_id,
            partitions=[
                admin_service_pb2.TrimmedPartition(partition=number, offset=offset)
                for number, offset in sorted(offsets.items())
            ],
        )
        answer = await self._call("TrimTopic", request)
        return {trimmed.partition: trimmed.offset for trimmed in answer.partitions}

    # Cluster -------------------------------------------------------------------------------------------------------

    async def describe_cluster(self) -> ClusterDescription:
        """Brokers, controller and health."""
        told = await self._call("DescribeCluster", admin_service_pb2.DescribeClusterRequest())
        brokers = tuple(
            BrokerDescription(
                broker.broker_id,
                broker.address,
                broker.peer_address,
                broker.http_address,
                broker.rack,
                broker.directory_id,
                broker.alive,
                broker.version,
                broker.start_number,
                broker.replicas,
                broker.leaders,
                broker.cluster_voter,
                broker.draining,
                broker.removed,
                (broker.peer_protocol_lowest, broker.peer_protocol_highest) if broker.peer_protocol_highest else None,
                broker.gone,
            )
            for broker in sorted(told.brokers, key=lambda broker: broker.broker_id)
        )
        return ClusterDescription(
            told.cluster_id,
            told.controller_id,
            told.controller_term,
            brokers,
            told.healthy,
            tuple(told.reasons),
            told.losses_borne,
            told.topics,
            told.partitions,
            told.leaderless_partitions,
            told.under_replicated_partitions,
            told.frail_partitions,
        )

    async def move_partition(self, topic: str, partition: int, broker_ids: Sequence[int]) -> None:
        """Place a partition's replicas on these brokers, the preferred leader first. Decided when this returns; then
        the records are copied, and `describe_topic` shows how far that has come.

        Raises
            UnknownTopic, UnknownPartition  there is no such partition
            InvalidReplication              no brokers, or one named twice
            InvalidRequest                  a broker that is unknown, dead or removed; it is there already; or an
                                            earlier move is still under way
        """
        request = admin_service_pb2.MovePartitionRequest(
            partition=common_pb2.TopicPartition(topic=topic, partition=partition), broker_ids=broker_ids
        )
        await self._call("MovePartition", request)

    async def plan_rebalance(self) -> RebalancePlan:
        """What it takes to have the brokers hold and lead equally much, moving the least. Nothing is decided by it."""
        told = await self._call("PlanRebalance", admin_service_pb2.PlanRebalanceRequest())
        moves = tuple(
            PlannedMove(
                move.partition.topic,
                move.partition.partition,
                tuple(move.before),
                tuple(move.after),
                move.size_bytes,
            )
            for move in told.moves
        )
        shares = tuple(
            BrokerShare(
                share.broker_id,
                share.replicas_before,
                share.replicas_after,
                share.leaders_before,
                share.leaders_after,
            )
            for share in told.brokers
        )
        return RebalancePlan(moves, shares, told.set_aside)

    async def rebalance(
        self,
        plan: RebalancePlan | None = None,
        *,
        at_once: int = AT_ONCE,
        on_progress: Callable[[RebalanceProgress], None] | None = None,
    ) -> RebalanceProgress:
        """Carry out a plan (without one, that of `plan_rebalance` now), `at_once` partitions at a time, and wait.

        What was begun when this is cancelled goes on by itself; plan anew for the rest.
        """
        if at_once < 1:
            raise InvalidRequest(f"{at_once} moves at once is too few: it must be 1 or more")
        plan = plan or await self.plan_rebalance()
        return await carry_out(self, plan, at_once=at_once, report=on_progress or (lambda _: None))

    async def plan_recovery(
        self, topic: str, partition: int, broker_id: int | None = None, *, despite_repair: bool = False
    ) -> RecoveryPlan:
        """What could be lost if a partition whose majority is lost for good went on with one replica's log.

        `broker_id`: whose; None: the one that reaches furthest. `despite_repair`: repair of what is damaged has failed.
        Nothing is changed.

        Raises
            UnknownTopic, UnknownPartition  there is no such partition
        """
        request = self._recovery_request(topic, partition, broker_id, despite_repair)
        return plan_of(await self._call("RecoverPartition", request))

    async def recover_partition(
        self,
        topic: str,
        partition: int,
        accepted: RecoveryPlan,
        broker_id: int | None = None,
        *,
        by: str = "",
        despite_repair: bool = False,
    ) -> None:
        """Have a partition go on with one replica's log, and give up for good what the others held: as `accepted` says,
        asked for with the same arguments. Decided when this returns; then it is carried out, and replicas are copied.

        Raises
            UnknownTopic, UnknownPartition  there is no such partition
            InvalidRequest                  it must not be, or is not as in `accepted` any more
        """
        request = self._recovery_request(topic, partition, broker_id, despite_repair)
        request.accept_loss, request.by = True, by
        request.source_broker_id, request.kept_offset = accepted.source_broker_id, accepted.kept_offset
        request.recovery = accepted.recovery
        await self._call("RecoverPartition", request)

    @staticmethod
    def _recovery_request(
        topic: str, partition: int, broker_id: int | None, despite_repair: bool
    ) -> admin_service_pb2.RecoverPartitionRequest:
        return admin_service_pb2.RecoverPartitionRequest(
            partition=common_pb2.TopicPartition(topic=topic, partition=partition),
            broker_id=broker_id,
            despite_repair=despite_repair,
        )

    async def drain_broker(self, broker_id: int) -> None:
        """Have a broker lead nothing, until `undrain_broker`, so that it can be stopped unnoticed.

        Raises
            InvalidRequest  it is unknown, or some partition would have no majority without it
        """
        await self._call(
            "SetBrokerDraining", admin_service_pb2.SetBrokerDrainingRequest(broker_id=broker_id, draining=True)
        )

    async def undrain_broker(self, broker_id: int) -> None:
        """Let a drained broker lead again.

        Raises
            InvalidRequest  it is unknown
        """
        await self._call(
            "SetBrokerDraining", admin_service_pb2.SetBrokerDrainingRequest(broker_id=broker_id, draining=False)
        )

    async def remove_broker(self, broker_id: int) -> list[str]:
        """Place elsewhere what a broker holds; it may be dead already. The topics of which something moves.

        Raises
            InvalidRequest  it is unknown, nobody could take its place, or it holds what nobody else could give
        """
        answer = await self._call("RemoveBroker", admin_service_pb2.RemoveBrokerRequest(broker_id=broker_id))
        return list(answer.topics)

    async def cluster_settings(self) -> list[ClusterSetting]:
        """The settings of the whole cluster, by name, as they are in force."""
        answer = await self._call("ListClusterSettings", admin_service_pb2.ListClusterSettingsRequest())
        return [_setting(setting) for setting in answer.settings]

    async def change_cluster_setting(self, name: str, value: str) -> ClusterSetting:
        """Decide a setting for all brokers: `("moves.bytes_per_second", "20MB/s")`; `"default"` undoes that. It is in
        force a moment later.

        Raises
            InvalidConfig  there is no such setting, or it cannot have that value
        """
        request = admin_service_pb2.ChangeClusterSettingRequest(name=name, value=value)
        return _setting((await self._call("ChangeClusterSetting", request)).setting)

    async def transfer_leadership(self, topic: str, partition: int, broker_id: int) -> int:
        """Have another of a partition's replicas lead it; the term in which it does.

        Raises
            UnknownTopic, UnknownPartition  there is no such partition
            InvalidRequest                  that broker cannot lead it
        """
        request = admin_service_pb2.TransferLeadershipRequest(
            partition=common_pb2.TopicPartition(topic=topic, partition=partition), broker_id=broker_id
        )
        answer = await self._call("TransferLeadership", request, first=self._metadata.leader_address(topic, partition))
        return int(answer.term)


def _copying(told: admin_service_pb2.CopyProgress) -> CopyProgress:
    return CopyProgress(
        told.bytes_done,
        told.bytes_total,
        told.bytes_per_second if told.bytes_per_second >= 0 else None,
        told.time_left_ms / 1000 if told.time_left_ms >= 0 else None,
    )


def _setting(told: admin_service_pb2.ClusterSetting) -> ClusterSetting:
    return ClusterSetting(told.name, told.value, told.default_value, told.explanation)


def _topic(topic: admin_service_pb2.TopicDescription) -> TopicDescription:
    partitions = tuple(
        PartitionDescription(
            partition.number,
            partition.leader_id,
            partition.term,
            tuple(
                ReplicaDescription(
                    replica.broker_id,
                    replica.voter,
                    replica.alive,
                    replica.match_offset,
                    replica.state,
                    replica.leaving,
                    _copying(replica.copying) if replica.HasField("copying") else None,
                )
                for replica in partition.replicas
            ),
            partition.log_start_offset,
            partition.committed_offset,
            partition.size_bytes,
            partition.moving,
            recovery_of(partition),
        )
        for partition in sorted(topic.partitions, key=lambda partition: partition.number)
    )
    return TopicDescription(
        topic.name, topic.topic_id, topic.replication, dict(topic.config), partitions, topic.internal
    )
