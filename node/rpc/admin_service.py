"""Decisions and descriptions, asked of any broker: those for the controller are forwarded to it, over the peer link.

Invariants
    a call that came by the peer link is never forwarded again: it is carried out here or refused
    what is forwarded and refused with NOT_LEADER or NO_LEADER changed nothing, and is tried again while there is time
    `__cluster` is asked by a read-index round before a description is given; only DescribeCluster answers without
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from lograft.v1 import admin_service_pb2 as pb
from lograft.v1 import admin_service_pb2_grpc, common_pb2

from ...partitions.environment import PartitionId
from ...proto.errors import (
    BrokerUnavailable,
    InvalidRequest,
    LograftError,
    NoLeader,
    NotAuthorized,
    NotLeader,
    OffsetOutOfRange,
)
from ..cluster_view import ClusterView, DamagedReplica, PartitionView
from ..controller.controller import Controller
from ..controller.facts import CLUSTER_TOPIC, OFFSETS_TOPIC, PartitionFact, TopicFact
from ..controller.rebalance import Placed, plan
from ..controller.settings import GONE_AFTER_MS, OFF, SETTINGS, ClusterSetting, value_of
from ..controller.state import ClusterState
from ..controller.topic_rules import is_internal
from ..holdings import Holdings
from ..peer.links import PeerLinks
from ..replicas import CLUSTER_PARTITION, Replicas, partition_of
from .limits import CALL_SECONDS_MAX
from .partition_description import described_partition, is_moving
from .recoveries import recover_partition
from .request_log import CHANGING, id_in, what_is_asked, with_id

if TYPE_CHECKING:
    from ..sightings import Sightings

CALL_PREFIX = "admin."
RETRY_MS = 50
SEEN_SECONDS_MAX = 2.0
"""How long an answer waits for its decision to show at the broker that gives it."""
DAMAGED_TOLD_MAX = 10
"""Damaged replicas named in the health of a cluster."""
COPIES_TO_BEAR_A_LOSS = 3
"""Two of them are a majority."""

log = structlog.get_logger("rpc")


class AdminService(admin_service_pb2_grpc.AdminServiceServicer):
    """The servicer, and the far end of forwarded calls (`carry_out`).

    `controller` is None until this broker holds a replica of `__cluster`.
    """

    def __init__(
        self,
        broker_id: int,
        replicas: Replicas,
        links: PeerLinks,
        sightings: Sightings,
        view: ClusterView,
        holdings: Holdings,
    ) -> None:
        self.controller: Controller | None = None
        self.cluster_id = ""
        self._broker_id = broker_id
        self._replicas = replicas
        self._links = links
        self._sightings = sightings
        self._view = view
        self._holdings = holdings
        self._carried_out: dict[str, tuple[type[Message], Callable[[Any], Awaitable[Message]]]] = {
            "CreateTopic": (pb.CreateTopicRequest, self._create_topic),
            "DeleteTopic": (pb.DeleteTopicRequest, self._delete_topic),
            "ListTopics": (pb.ListTopicsRequest, self._list_topics),
            "DescribeTopic": (pb.DescribeTopicRequest, self._describe_topic),
            "TransferLeadership": (pb.TransferLeadershipRequest, self._transfer_leadership),
            "MovePartition": (pb.MovePartitionRequest, self._move_partition),
            "RecoverPartition": (pb.RecoverPartitionRequest, self._recover_partition),
            "SetBrokerDraining": (pb.SetBrokerDrainingRequest, self._set_broker_draining),
            "RemoveBroker": (pb.RemoveBrokerRequest, self._remove_broker),
            "TrimTopic": (pb.TrimTopicRequest, self._trim_topic),
            "GrowTopic": (pb.GrowTopicRequest, self._grow_topic),
            "AlterTopic": (pb.AlterTopicRequest, self._alter_topic),
            "PlanRebalance": (pb.PlanRebalanceRequest, self._plan_rebalance),
            "ListClusterSettings": (pb.ListClusterSettingsRequest, self._list_cluster_settings),
            "ChangeClusterSetting": (pb.ChangeClusterSettingRequest, self._change_cluster_setting),
        }

    # -- what clients call -------------------------------------------------------------------------------------------

    async def CreateTopic(
        self, request: pb.CreateTopicRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreateTopicResponse:
        if not request.topic_id:
            # A client that draws none (grpcurl) cannot repeat the call, but this broker can while it forwards it.
            request.topic_id = secrets.token_hex(16)
        created: pb.CreateTopicResponse = await self._ask_controller("CreateTopic", request, pb.CreateTopicResponse)
        if not request.validate_only:
            await self._seen(lambda: self._is_led(created.topic.topic_id, len(created.topic.partitions)))
            created.topic.CopyFrom(await self._described_here(created.topic))
        return created

    async def DeleteTopic(
        self, request: pb.DeleteTopicRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteTopicResponse:
        before = self._replicas.state.topic(request.name)
        deleted: pb.DeleteTopicResponse = await self._ask_controller("DeleteTopic", request, pb.DeleteTopicResponse)
        if before is not None:
            await self._seen(lambda: self._replicas.state.topic(request.name) != before)
        return deleted

    async def GrowTopic(self, request: pb.GrowTopicRequest, context: grpc.aio.ServicerContext) -> pb.GrowTopicResponse:
        grown: pb.GrowTopicResponse = await self._ask_controller("GrowTopic", request, pb.GrowTopicResponse)
        if not request.validate_only:
            await self._seen(lambda: self._is_led(grown.topic.topic_id, len(grown.topic.partitions)))
            grown.topic.CopyFrom(await self._described_here(grown.topic))
        return grown

    async def AlterTopic(
        self, request: pb.AlterTopicRequest, context: grpc.aio.ServicerContext
    ) -> pb.AlterTopicResponse:
        altered: pb.AlterTopicResponse = await self._ask_controller("AlterTopic", request, pb.AlterTopicResponse)
        if not request.validate_only:
            config = dict(altered.topic.config)
            await self._seen(
                lambda: (topic := self._replicas.state.topic(request.name)) is None or topic.config == config
            )
        return altered

    async def PlanRebalance(
        self, request: pb.PlanRebalanceRequest, context: grpc.aio.ServicerContext
    ) -> pb.PlanRebalanceResponse:
        planned: pb.PlanRebalanceResponse = await self._ask_controller(
            "PlanRebalance", request, pb.PlanRebalanceResponse
        )
        return planned

    async def ListTopics(
        self, request: pb.ListTopicsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListTopicsResponse:
        listed: pb.ListTopicsResponse = await self._ask_controller("ListTopics", request, pb.ListTopicsResponse)
        return listed

    async def DescribeTopic(
        self, request: pb.DescribeTopicRequest, context: grpc.aio.ServicerContext
    ) -> pb.DescribeTopicResponse:
        described: pb.DescribeTopicResponse = await self._ask_controller(
            "DescribeTopic", request, pb.DescribeTopicResponse
        )
        return described

    async def DescribeCluster(
        self, request: pb.DescribeClusterRequest, context: grpc.aio.ServicerContext
    ) -> pb.DescribeClusterResponse:
        views = await self._view.of_all()
        return self._cluster(views, await self._view.damage())

    async def TransferLeadership(
        self, request: pb.TransferLeadershipRequest, context: grpc.aio.ServicerContext
    ) -> pb.TransferLeadershipResponse:
        topic = self._replicas.topic(request.partition.topic)
        partition = partition_of(topic, request.partition.partition)

        def leader() -> int | None:
            return self._replicas.leader_of(partition).broker_id

        moved: pb.TransferLeadershipResponse = await self._ask(
            leader, "TransferLeadership", request, pb.TransferLeadershipResponse
        )
        return moved

    async def TrimTopic(self, request: pb.TrimTopicRequest, context: grpc.aio.ServicerContext) -> pb.TrimTopicResponse:
        topic = self._replicas.topic(request.name, request.topic_id)
        if is_internal(topic.name):
            raise NotAuthorized(f"topic {topic.name} is internal; the cluster itself decides what it keeps")
        numbers = [point.partition for point in request.partitions]
        if not numbers or len(set(numbers)) < len(numbers):
            raise InvalidRequest(f"a trim of {topic.name!r} must name each partition once, and at least one: {numbers}")
        for number in numbers:
            partition_of(topic, number)
        # The offsets first: ends only grow, so what is allowed now is allowed in a moment.
        await self._trim(topic, request, validate_only=True)
        trimmed = list(request.partitions) if request.validate_only else await self._trim(topic, request)
        return pb.TrimTopicResponse(partitions=trimmed)

    async def _trim(
        self, topic: TopicFact, request: pb.TrimTopicRequest, *, validate_only: bool = False
    ) -> list[pb.TrimmedPartition]:
        """Have each partition's leader trim it."""

        async def trim(point: pb.TrimmedPartition) -> pb.TrimmedPartition:
            partition = PartitionId(topic.topic_id, point.partition)
            alone = pb.TrimTopicRequest(
                name=topic.name, topic_id=topic.topic_id, partitions=[point], validate_only=validate_only
            )
            answer: pb.TrimTopicResponse = await self._ask(
                lambda: self._replicas.leader_of(partition).broker_id, "TrimTopic", alone, pb.TrimTopicResponse
            )
            return answer.partitions[0]

        # All are awaited, whatever becomes of one: none goes on after the answer.
        outcomes = await asyncio.gather(*(trim(point) for point in request.partitions), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, pb.TrimmedPartition)]

    async def MovePartition(
        self, request: pb.MovePartitionRequest, context: grpc.aio.ServicerContext
    ) -> pb.MovePartitionResponse:
        moved: pb.MovePartitionResponse = await self._ask_controller("MovePartition", request, pb.MovePartitionResponse)
        return moved

    async def SetBrokerDraining(
        self, request: pb.SetBrokerDrainingRequest, context: grpc.aio.ServicerContext
    ) -> pb.SetBrokerDrainingResponse:
        done: pb.SetBrokerDrainingResponse = await self._ask_controller(
            "SetBrokerDraining", request, pb.SetBrokerDrainingResponse
        )
        return done

    async def RemoveBroker(
        self, request: pb.RemoveBrokerRequest, context: grpc.aio.ServicerContext
    ) -> pb.RemoveBrokerResponse:
        removed: pb.RemoveBrokerResponse = await self._ask_controller("RemoveBroker", request, pb.RemoveBrokerResponse)
        return removed

    async def ListClusterSettings(
        self, request: pb.ListClusterSettingsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListClusterSettingsResponse:
        listed: pb.ListClusterSettingsResponse = await self._ask_controller(
            "ListClusterSettings", request, pb.ListClusterSettingsResponse
        )
        return listed

    async def ChangeClusterSetting(
        self, request: pb.ChangeClusterSettingRequest, context: grpc.aio.ServicerContext
    ) -> pb.ChangeClusterSettingResponse:
        changed: pb.ChangeClusterSettingResponse = await self._ask_controller(
            "ChangeClusterSetting", request, pb.ChangeClusterSettingResponse
        )
        return changed

    async def RecoverPartition(
        self, request: pb.RecoverPartitionRequest, context: grpc.aio.ServicerContext
    ) -> pb.RecoverPartitionResponse:
        recovered: pb.RecoverPartitionResponse = await self._ask_controller(
            "RecoverPartition", request, pb.RecoverPartitionResponse
        )
        return recovered

    # -- forwarding --------------------------------------------------------------------------------------------------

    async def carry_out(self, method: str, body: bytes) -> bytes:
        """A call that another broker forwarded. Raises LograftError."""
        known = self._carried_out.get(method.removeprefix(CALL_PREFIX))
        if known is None:
            raise InvalidRequest(f"broker {self._broker_id} knows no call {method[:80]!r}")
        kind, carry_out = known
        request = kind()
        try:
            request.ParseFromString(body)
        except DecodeError as error:
            raise InvalidRequest(f"a forwarded {method} could not be read: {error}") from None
        # The line about its end is logged where it came from; this one says that it came here.
        if (request_id := id_in(body)) and (api := method.removeprefix(CALL_PREFIX)) in CHANGING:
            log.info("call_forwarded_here", api=api, request_id=request_id, **what_is_asked(request))
        return (await carry_out(request)).SerializeToString()

    async def _ask_controller(self, method: str, request: Message, response_kind: type[Message]) -> Any:
        return await self._ask(
            lambda: self._replicas.leader_of(CLUSTER_PARTITION).broker_id, method, request, response_kind
        )

    async def _ask(
        self, whom: Callable[[], int | None], method: str, request: Message, response_kind: type[Message]
    ) -> Any:
        """Carry the call out at the broker that `whom` names, trying again while nobody does or it is the wrong one."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CALL_SECONDS_MAX / 2
        why: LograftError = NoLeader(f"broker {self._broker_id} knows no controller; a majority of brokers must be up")
        while True:
            broker_id = whom()
            try:
                if broker_id == self._broker_id:
                    return await self._carried_out[method][1](request)
                if broker_id is not None:
                    response = response_kind()
                    left_ms = max(deadline - loop.time(), 0.1) * 1000 + CALL_SECONDS_MAX * 500
                    body = with_id(request.SerializeToString())
                    response.ParseFromString(
                        await self._links.call(broker_id, CALL_PREFIX + method, body, timeout_ms=left_ms)
                    )
                    return response
            except (NotLeader, NoLeader, BrokerUnavailable) as error:
                why = error
            if loop.time() >= deadline:
                raise self._replicas.with_address(why)
            await asyncio.sleep(RETRY_MS / 1000)

    def _controller(self) -> Controller:
        if self.controller is None:
            raise NoLeader(f"broker {self._broker_id} has not joined the cluster yet; try again")
        return self.controller

    async def _seen(self, holds: Callable[[], bool]) -> None:
        """Wait a moment until a decision shows here, so that the client's next call finds it. It stands in any case."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SEEN_SECONDS_MAX
        while loop.time() < deadline:
            if holds():
                return
            await asyncio.sleep(0.01)

    async def _described_here(self, told: pb.TopicDescription) -> pb.TopicDescription:
        """The topic as this broker knows it by now; as it was told, if it does not."""
        topic = self._replicas.state.topic_by_id(told.topic_id)
        known = topic is not None and len(topic.partitions) >= len(told.partitions)
        return self._description(topic, await self._view.of_all()) if topic is not None and known else told

    def _is_led(self, topic_id: str, partitions: int) -> bool:
        topic = self._replicas.state.topic_by_id(topic_id)
        leaders = (self._replicas.leader_of(PartitionId(topic_id, number)).broker_id for number in range(partitions))
        return (
            topic is not None and len(topic.partitions) >= partitions and all(leader is not None for leader in leaders)
        )

    # -- carried out here --------------------------------------------------------------------------------------------

    async def _create_topic(self, request: pb.CreateTopicRequest) -> pb.CreateTopicResponse:
        created = await self._controller().create_topic(
            request.name,
            request.topic_id,
            request.partitions,
            request.replication,
            dict(request.config),
            validate_only=request.validate_only,
        )
        return pb.CreateTopicResponse(topic=self._description(created.topic, {}), existed=created.existed)

    async def _grow_topic(self, request: pb.GrowTopicRequest) -> pb.GrowTopicResponse:
        grown = await self._controller().grow_topic(
            request.name,
            request.partitions,
            request.topic_id,
            request.partitions_before,
            validate_only=request.validate_only,
        )
        return pb.GrowTopicResponse(topic=self._description(grown, {}))

    async def _alter_topic(self, request: pb.AlterTopicRequest) -> pb.AlterTopicResponse:
        altered = await self._controller().alter_topic(
            request.name,
            dict(request.set),
            list(request.unset),
            request.topic_id,
            validate_only=request.validate_only,
        )
        return pb.AlterTopicResponse(topic=self._description(altered, await self._view.of_all()))

    async def _delete_topic(self, request: pb.DeleteTopicRequest) -> pb.DeleteTopicResponse:
        await self._controller().delete_topic(request.name, request.topic_id)
        return pb.DeleteTopicResponse()

    async def _list_topics(self, request: pb.ListTopicsRequest) -> pb.ListTopicsResponse:
        topics = await self._controller().list_topics(internal=request.internal)
        views = await self._view.of_all()
        return pb.ListTopicsResponse(topics=[self._description(topic, views) for topic in topics])

    async def _describe_topic(self, request: pb.DescribeTopicRequest) -> pb.DescribeTopicResponse:
        topic = await self._controller().describe_topic(request.name)
        return pb.DescribeTopicResponse(topic=self._description(topic, await self._view.of_all()))

    async def _transfer_leadership(self, request: pb.TransferLeadershipRequest) -> pb.TransferLeadershipResponse:
        name, number = request.partition.topic, request.partition.partition
        led = self._replicas.leading(name, number)
        voters = [voter.broker_id for voter in led.replica.voters]
        if request.broker_id not in voters:
            raise InvalidRequest(
                f"broker {request.broker_id} holds no voting replica of partition {number} of {name!r}; "
                f"choose one of {voters}",
                voters=voters,
            )
        await led.replica.transfer_leadership(request.broker_id)
        return pb.TransferLeadershipResponse(term=led.replica.term)

    async def _move_partition(self, request: pb.MovePartitionRequest) -> pb.MovePartitionResponse:
        name, number = request.partition.topic, request.partition.partition
        topic = await self._controller().describe_topic(name)
        partition = partition_of(topic, number)
        view = (await self._view.of_all()).get(partition)
        if view is None:
            raise NoLeader(
                f"partition {number} of {name!r} has no leader that answers, so nobody could move it; try again"
            )
        voting = {voter.broker_id for voter in view.voters}
        is_taken_back = voting.issuperset(request.broker_ids)
        may_never_be_done = self._may_never_be_done(topic.partitions[number], view)
        if is_moving(topic.partitions[number], view) and not is_taken_back and not may_never_be_done:
            raise InvalidRequest(
                f"partition {number} of {name!r} is being moved already; wait until `lograft partition list` shows the "
                f"move done, or take it back by a move to brokers that vote now ({', '.join(map(str, sorted(voting)))})"
            )
        seen = topic.partitions[number].placement
        await self._controller().move_partition(name, number, list(request.broker_ids), seen=seen)
        return pb.MovePartitionResponse()

    def _may_never_be_done(self, fact: PartitionFact, view: PartitionView) -> bool:
        """Is the partition to have a replica on a broker that is not there?"""
        return any(placed not in view.voters and not self._is_alive(placed.broker_id) for placed in fact.placement)

    async def _recover_partition(self, request: pb.RecoverPartitionRequest) -> pb.RecoverPartitionResponse:
        topic = await self._controller().describe_topic(request.partition.topic)
        return await recover_partition(self._controller(), self._holdings, topic, request)

    async def _set_broker_draining(self, request: pb.SetBrokerDrainingRequest) -> pb.SetBrokerDrainingResponse:
        if request.draining:
            await self._refuse_needed(request.broker_id)
        await self._controller().set_draining(request.broker_id, request.draining)
        return pb.SetBrokerDrainingResponse()

    async def _remove_broker(self, request: pb.RemoveBrokerRequest) -> pb.RemoveBrokerResponse:
        views = await self._view.of_all()
        state = await self._controller().read()
        for placed in state.replicas_of(request.broker_id):
            if placed.partition not in views:
                raise InvalidRequest(
                    f"broker {request.broker_id} cannot be removed: partition {placed.partition.number} of "
                    f"{placed.topic.name!r} has no leader, so its records could not be copied from it; start the "
                    "brokers that hold it first",
                    broker_id=request.broker_id,
                )
        return pb.RemoveBrokerResponse(topics=await self._controller().remove_broker(request.broker_id))

    async def _plan_rebalance(self, request: pb.PlanRebalanceRequest) -> pb.PlanRebalanceResponse:
        views = await self._view.of_all()
        state = await self._controller().read()
        usable = self._controller().takers(state)
        takers = [broker for broker in usable if not state.brokers[broker.broker_id].draining]
        placed = _placed_partitions(state, views, {broker.broker_id for broker in usable})
        moves = await asyncio.to_thread(plan, placed, takers)  # thousands of partitions take it seconds
        after = {(move.topic, move.number): move.after for move in moves}
        planned = pb.PlanRebalanceResponse(set_aside=sum(not one.may_move for one in placed))
        for move in moves:
            partition = common_pb2.TopicPartition(topic=move.topic, partition=move.number)
            planned.moves.add(partition=partition, before=move.before, after=move.after, size_bytes=move.size_bytes)
        now = [one.brokers for one in placed]
        then = [after.get((one.topic, one.number), one.brokers) for one in placed]
        for broker_id in sorted(broker.broker_id for broker in takers):
            planned.brokers.add(
                broker_id=broker_id,
                replicas_before=sum(broker_id in brokers for brokers in now),
                replicas_after=sum(broker_id in brokers for brokers in then),
                leaders_before=sum(broker_id == brokers[0] for brokers in now),
                leaders_after=sum(broker_id == brokers[0] for brokers in then),
            )
        return planned

    async def _list_cluster_settings(self, request: pb.ListClusterSettingsRequest) -> pb.ListClusterSettingsResponse:
        decided = (await self._controller().read()).settings
        return pb.ListClusterSettingsResponse(
            settings=[_setting(setting, value_of(decided, name)) for name, setting in sorted(SETTINGS.items())]
        )

    async def _change_cluster_setting(self, request: pb.ChangeClusterSettingRequest) -> pb.ChangeClusterSettingResponse:
        value = await self._controller().change_setting(request.name, request.value)
        return pb.ChangeClusterSettingResponse(setting=_setting(SETTINGS[request.name], value))

    async def _refuse_needed(self, broker_id: int) -> None:
        """Refuse to drain a broker without which some partition would have no majority."""
        state = await self._controller().read()
        for partition, view in sorted((await self._view.of_all()).items()):
            voters = [replica for replica in view.replicas if replica.votes]
            others = sum(replica.broker_id != broker_id and replica.state == "OK" for replica in voters)
            if others > len(voters) // 2 or all(replica.broker_id != broker_id for replica in voters):
                continue
            topic = state.topic_by_id(partition.topic_id)
            name = topic.name if topic is not None else CLUSTER_TOPIC
            raise InvalidRequest(
                f"broker {broker_id} cannot be drained: without it partition {partition.number} of {name!r} would have "
                f"{others} of {len(voters)} voters that keep up, which is no majority; start the others, or move it "
                "(`lograft broker remove` moves all that a broker holds)",
                broker_id=broker_id,
                topic=name,
            )

    async def _trim_topic(self, request: pb.TrimTopicRequest) -> pb.TrimTopicResponse:
        """Of partitions led here."""
        response = pb.TrimTopicResponse()
        for point in request.partitions:
            led = self._replicas.leading(request.name, point.partition, request.topic_id)
            try:
                led.replica.check_log_start(point.offset)
            except OffsetOutOfRange as error:
                raise OffsetOutOfRange(
                    f"partition {point.partition} of {request.name!r} cannot start at {point.offset}: it is committed "
                    f"up to {error.facts['end']}; name an offset from 0 to that, or `end`",
                    **error.facts,
                ) from None
            start = point.offset if request.validate_only else await led.replica.move_log_start(point.offset)
            response.partitions.add(partition=point.partition, offset=start)
        return response

    # -- descriptions ------------------------------------------------------------------------------------------------

    def _description(self, topic: TopicFact, views: dict[PartitionId, PartitionView]) -> pb.TopicDescription:
        return pb.TopicDescription(
            name=topic.name,
            topic_id=topic.topic_id,
            replication=topic.replication,
            config=topic.config,
            internal=is_internal(topic.name),
            partitions=[
                described_partition(
                    number,
                    fact,
                    views.get(PartitionId(topic.topic_id, number)),
                    self._replicas.leader_of(PartitionId(topic.topic_id, number)),
                    self._is_alive,
                )
                for number, fact in enumerate(topic.partitions)
            ],
        )

    def _cluster_voters(self, views: dict[PartitionId, PartitionView]) -> set[int]:
        """Who decides: by the controller's word, else by this broker's own log, which may not name anybody."""
        view = views.get(CLUSTER_PARTITION)
        if view is not None:
            return {replica.broker_id for replica in view.replicas if replica.votes}
        cluster = self._replicas.table.get(CLUSTER_PARTITION)
        return {voter.broker_id for voter in cluster.voters} if cluster is not None else set()

    def _is_alive(self, broker_id: int) -> bool:
        return broker_id == self._broker_id or self._links.session(broker_id) is not None

    def _cluster(
        self, views: dict[PartitionId, PartitionView], damaged: Sequence[DamagedReplica]
    ) -> pb.DescribeClusterResponse:
        state = self._replicas.state
        controller = self._replicas.leader_of(CLUSTER_PARTITION)
        cluster_voters = self._cluster_voters(views)
        sound_voters = self._sound_voters(cluster_voters, views)
        replication = {
            PartitionId(topic.topic_id, number): len(partition.placement)
            for topic in state.topics.values()
            for number, partition in enumerate(topic.partitions)
        }
        leaderless = sum(partition not in views for partition in replication)
        under_replicated = sum(
            partition not in views or not views[partition].is_whole(count) for partition, count in replication.items()
        )
        described = pb.DescribeClusterResponse(
            cluster_id=self.cluster_id,
            controller_id=-1 if controller.broker_id is None else controller.broker_id,
            controller_term=controller.term,
            losses_borne=max(len(sound_voters) - (len(cluster_voters) // 2 + 1), 0),
            topics=sum(not is_internal(name) for name in state.topics),
            partitions=sum(len(topic.partitions) for topic in state.topics.values() if not is_internal(topic.name)),
            leaderless_partitions=leaderless,
            under_replicated_partitions=under_replicated,
            frail_partitions=sum(
                len(partition.placement) < COPIES_TO_BEAR_A_LOSS
                for topic in state.topics.values()
                if not is_internal(topic.name)
                for partition in topic.partitions
            ),
        )
        for broker_id in sorted({*state.brokers, *cluster_voters}):
            described.brokers.append(self._broker(broker_id, views, broker_id in cluster_voters))
        reasons = []
        if controller.broker_id is None:
            reasons.append("no controller is known: a majority of the cluster's voters must be up and in touch")
        if leaderless:
            has = "1 partition has" if leaderless == 1 else f"{leaderless} partitions have"
            reasons.append(f"{has} no leader that answers: no records go in or out there now")
        if state.topic(OFFSETS_TOPIC) is None:
            reasons.append(f"{OFFSETS_TOPIC} is not made yet: there are no consumer groups until more brokers are up")
        reasons += self._absences(described.brokers)
        reasons += [
            f"broker {broker_id} does not keep up with the cluster's decisions"
            for broker_id in sorted(cluster_voters - sound_voters)
            if self._is_alive(broker_id)
        ]
        if (lacking := under_replicated - leaderless) > 0:
            partitions = "1 partition lacks" if lacking == 1 else f"{lacking} partitions lack"
            reasons.append(f"{partitions} a replica that keeps up")
        reasons += [self._said_of(one) for one in damaged[:DAMAGED_TOLD_MAX]]
        if len(damaged) > DAMAGED_TOLD_MAX:
            reasons.append(f"{len(damaged) - DAMAGED_TOLD_MAX} more replicas are damaged")
        described.reasons.extend(reasons)
        described.healthy = not reasons
        return described

    def _absences(self, members: Iterable[pb.BrokerDescription]) -> list[str]:
        """Who is not in touch, and why where that is known."""
        incompatible = dict(self._links.incompatible)
        reasons = []
        for broker in members:
            why = incompatible.pop(broker.broker_id, "")
            is_missed = not broker.removed or broker.cluster_voter
            if not broker.alive and is_missed:
                reasons.append(self._absence(broker) + (f": {why}" if why else ""))
        return reasons + [f"broker {broker_id} cannot join: {why}" for broker_id, why in sorted(incompatible.items())]

    def _absence(self, broker: pb.BrokerDescription) -> str:
        """Why a broker that is not in touch is missed, and what comes of it."""
        if not broker.gone:
            return f"broker {broker.broker_id} is not in touch"
        after = value_of(self._replicas.state.settings, GONE_AFTER_MS)
        unseen = "" if after is None else f", unseen for more than {SETTINGS[GONE_AFTER_MS].shown(after)}"
        if broker.replicas:
            left = "1 replica that" if broker.replicas == 1 else f"{broker.replicas} replicas that"
            what = f"it holds {left} no other live broker can take; start it again, or another broker"
        else:
            what = "what it held is placed on others; start it again, or remove it"
        return f"broker {broker.broker_id} is gone{unseen}: {what}"

    def _said_of(self, damaged: DamagedReplica) -> str:
        topic = self._replicas.state.topic_by_id(damaged.topic_id)
        name = CLUSTER_TOPIC if damaged.partition == CLUSTER_PARTITION else (topic.name if topic else damaged.topic_id)
        remedy = ""
        if "no replica" in damaged.repair or "no other replica" in damaged.repair:
            remedy = f"; start the brokers that have it, or see `lograft partition recover {name} {damaged.number}`"
        return (
            f"broker {damaged.broker_id}: partition {damaged.number} of {name!r} is damaged: {damaged.repair}{remedy}"
        )

    def _sound_voters(self, voters: set[int], views: dict[PartitionId, PartitionView]) -> set[int]:
        """Brokers whose replica of `__cluster` votes and keeps up, as its leader says; without one, all in touch."""
        alive = {broker_id for broker_id in voters if self._is_alive(broker_id)}
        view = views.get(CLUSTER_PARTITION)
        if view is None:
            return alive
        return alive & {replica.broker_id for replica in view.replicas if replica.votes and replica.state == "OK"}

    def _broker(self, broker_id: int, views: dict[PartitionId, PartitionView], votes: bool) -> pb.BrokerDescription:
        fact = self._replicas.state.brokers.get(broker_id)
        described = pb.BrokerDescription(
            broker_id=broker_id,
            alive=self._is_alive(broker_id),
            cluster_voter=votes,
            replicas=len(self._replicas.state.replicas_of(broker_id)),
            leaders=sum(
                view.leader_id == broker_id for partition, view in views.items() if partition != CLUSTER_PARTITION
            ),
        )
        if fact is not None:
            described.rack, described.directory_id = fact.rack, fact.directory_id
            described.draining, described.removed, described.gone = fact.draining, fact.removed, fact.gone
        sighting = self._sightings.broker(broker_id)
        if sighting is not None:
            described.address, described.peer_address, described.http_address = sighting.addresses
            described.version, described.start_number = sighting.version, sighting.start_number
        session = self._links.session(broker_id)
        spoken = self._links.spoken if broker_id == self._broker_id else session and session.peer_spoken
        if spoken:
            described.peer_protocol_lowest, described.peer_protocol_highest = spoken
        return described


def _placed_partitions(state: ClusterState, views: dict[PartitionId, PartitionView], usable: set[int]) -> list[Placed]:
    """Every partition as a rebalance sees it: it may move if it is led, not moving yet, and all on `usable` brokers."""
    found = []
    for name, topic in sorted(state.topics.items()):
        for number, fact in enumerate(topic.partitions):
            view = views.get(PartitionId(topic.topic_id, number))
            brokers = tuple(voter.broker_id for voter in fact.placement)
            may_move = view is not None and not is_moving(fact, view) and usable.issuperset(brokers)
            found.append(Placed(name, number, brokers, -1 if view is None else view.size_bytes, may_move))
    return found


def _setting(setting: ClusterSetting, value: int | None) -> pb.ClusterSetting:
    return pb.ClusterSetting(
        name=setting.name,
        value=setting.shown(OFF if value is None else value),
        default_value=setting.shown(setting.default),
        explanation=setting.explained,
    )
