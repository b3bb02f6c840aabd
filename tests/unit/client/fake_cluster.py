"""Brokers for tests: real gRPC servers on loopback ports that keep batches in memory, and misbehave when told to.

They keep section 5's rules of idempotence as a broker must, so a client that breaks them shows in the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from lograft.proto import errors
from lograft.proto.record_batch import BatchHeader, Record, check_produced, decode, read_header, stamp
from lograft.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    broker_service_pb2,
    broker_service_pb2_grpc,
    common_pb2,
    groups_service_pb2_grpc,
)

from tests.unit.client.fake_groups import FakeGroups, FakeGroupsServicer

Fault = Callable[[int, Any, BatchHeader], str | None]
"""Given broker id, entry and header, what goes wrong with it: see FakeBroker._append."""


@dataclass
class FakePartition:
    leader_id: int
    term: int = 1
    start: int = 0
    batches: list[bytes] = field(default_factory=list)
    producers: dict[int, deque[tuple[int, int, int]]] = field(default_factory=dict)  # base sequence, end, offset
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    placement: tuple[int, ...] = ()
    looks_left: int = 0
    """Descriptions in which it is being moved."""

    @property
    def end(self) -> int:
        return read_header(self.batches[-1]).next_offset if self.batches else self.start

    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in decode(batch)]

    def append(self, batch: bytes, header: BatchHeader, first_open: int | None) -> tuple[int, bool]:
        """Base offset, and whether it is a duplicate."""
        if header.has_producer:
            remembered = self.producers.get(header.producer_id)
            expected = remembered[-1][1] if remembered else first_open
            if header.base_sequence != expected:
                for base, end, offset in remembered or ():
                    if base == header.base_sequence and end == base + header.record_count:
                        return offset, True
                if remembered and expected is not None and header.base_sequence < expected:
                    return -1, True
                raise errors.OutOfOrderSequence("gap", expected=expected, got=header.base_sequence)
            remembered = self.producers.setdefault(header.producer_id, deque(maxlen=5))
            remembered.append((header.base_sequence, header.base_sequence + header.record_count, self.end))
        base_offset = self.end
        self.batches.append(bytes(stamp(batch, base_offset, self.term)))
        self.grown.set()
        self.grown = asyncio.Event()
        return base_offset, False


@dataclass
class FakeTopic:
    name: str
    topic_id: str
    partitions: list[FakePartition]
    config: dict[str, str] = field(default_factory=dict)


class FakeCluster:
    """Some brokers with shared memory. `fault` is asked about each batch that comes."""

    def __init__(self) -> None:
        self.topics: dict[str, FakeTopic] = {}
        self.brokers: dict[int, FakeBroker] = {}
        self.fault: Fault = lambda broker_id, entry, header: None
        self.produced = asyncio.Event()
        """Set with each batch that comes."""
        self.answering = asyncio.Event()
        """While it is not set, batches are taken and their answers kept back."""
        self.answering.set()
        self.seen: list[tuple[int, int, int, int | None]] = []  # partition, producer id, base sequence, first_open
        self.fetches: list[Any] = []
        self.metadata_calls = 0
        self.hide_hints = False
        self.isolated: set[int] = set()
        self.unheard: set[int] = set()
        """Brokers whose addresses none of the others knows."""
        """Brokers that hear each other and clients, and of none of the others."""
        self.answers_max = 1 << 30
        """Fetches answered with batches, one batch each if it is set; later ones wait."""
        self.bytes_max = 12 << 20
        self.groups = FakeGroups(self)
        self.age_ms = 1_500
        """Of every record, by the brokers' clock."""
        self.planned: list[tuple[str, int, tuple[int, ...], tuple[int, ...]]] = []
        """A rebalance: topic, partition, brokers before and after."""
        self.moving_most = 0
        """Of the partitions, at one time."""
        self._next_id = 1

    @property
    def moving(self) -> int:
        return sum(partition.looks_left > 0 for topic in self.topics.values() for partition in topic.partitions)

    async def start(self, count: int = 1) -> FakeCluster:
        for broker_id in range(count):
            self.brokers[broker_id] = await FakeBroker(self, broker_id).start()
        return self

    async def stop(self) -> None:
        for broker in self.brokers.values():
            await broker.stop()

    @property
    def addresses(self) -> list[str]:
        return [broker.address for broker in self.brokers.values()]

    def topic(self, name: str = "t", partitions: int = 1) -> FakeTopic:
        """Make a topic; its partitions are led by the brokers in turn."""
        topic_id = f"{self._next_id:032x}"
        self._next_id += 1
        leaders = [FakePartition(leader_id=number % len(self.brokers)) for number in range(partitions)]
        self.topics[name] = FakeTopic(name, topic_id, leaders)
        return self.topics[name]

    def move(self, name: str, partition: int, broker_id: int) -> None:
        moved = self.topics[name].partitions[partition]
        moved.leader_id = broker_id
        moved.term += 1
        moved.grown.set()
        moved.grown = asyncio.Event()


async def abort(context: Any, error: errors.LograftError) -> None:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain="lograft", metadata=error.facts)
    detail = any_pb2.Any()
    detail.Pack(info)
    code = getattr(grpc.StatusCode, error.grpc_status)
    status = status_pb2.Status(code=code.value[0], message=error.message, details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(code, error.message)


class FakeBroker(broker_service_pb2_grpc.BrokerServiceServicer, admin_service_pb2_grpc.AdminServiceServicer):
    def __init__(self, cluster: FakeCluster, broker_id: int) -> None:
        self.cluster = cluster
        self.broker_id = broker_id
        self.address = "127.0.0.1:0"
        self.server: grpc.aio.Server | None = None
        self.admin_faults: deque[str] = deque()

    async def start(self) -> FakeBroker:
        self.server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
        )
        broker_service_pb2_grpc.add_BrokerServiceServicer_to_server(self, self.server)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(self, self.server)
        groups = FakeGroupsServicer(self.cluster.groups, self.broker_id, abort)
        groups_service_pb2_grpc.add_GroupsServiceServicer_to_server(groups, self.server)
        port = self.server.add_insecure_port(self.address)
        self.address = f"127.0.0.1:{port}"
        await self.server.start()
        return self

    async def stop(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            await server.stop(None)

    # Metadata ------------------------------------------------------------------------------------------------------

    async def Metadata(self, request: Any, context: Any) -> Any:
        self.cluster.metadata_calls += 1
        response = broker_service_pb2.MetadataResponse(cluster_id="c", controller_id=0, broker_id=self.broker_id)
        for broker in self.cluster.brokers.values():
            heard = (broker.broker_id in self.cluster.isolated) is (self.broker_id in self.cluster.isolated)
            known = broker is self or broker.broker_id not in self.cluster.unheard
            response.brokers.add(
                broker_id=broker.broker_id,
                address=broker.address if known else "",
                alive=broker.server is not None and heard,
            )
        for name in self.cluster.topics if request.all_topics else request.topics:
            topic = self.cluster.topics.get(name)
            if topic is None:
                response.unknown_topics.append(name)
                continue
            described = response.topics.add(
                name=name, topic_id=topic.topic_id, config=topic.config, internal=name.startswith("__")
            )
            for number, partition in enumerate(topic.partitions):
                leader_id, term = partition.leader_id, partition.term
                if self.broker_id in self.cluster.isolated:
                    leader_id, term = -1, term - 1
                described.partitions.add(number=number, leader_id=leader_id, term=term, replicas=[partition.leader_id])
        return response

    def _find(self, name: str, number: int, topic_id: str) -> FakePartition:
        topic = self.cluster.topics.get(name)
        if topic is None:
            raise errors.UnknownTopic(f"no topic {name}")
        if topic_id and topic_id != topic.topic_id:
            raise errors.UnknownTopicId(f"{name} has another id")
        if number >= len(topic.partitions):
            raise errors.UnknownPartition(f"no partition {number}")
        partition = topic.partitions[number]
        if self.broker_id in self.cluster.isolated:
            raise errors.NoLeader("nobody leads that I hear of")
        if partition.leader_id != self.broker_id:
            leader = self.cluster.brokers.get(partition.leader_id)
            if leader is None:
                raise errors.NoLeader("nobody leads")
            hint = {} if self.cluster.hide_hints else {"leader_id": leader.broker_id, "leader_address": leader.address}
            raise errors.NotLeader("not me", term=partition.term, **hint)
        return partition

    @staticmethod
    def _error(error: errors.LograftError) -> Any:
        told = common_pb2.PartitionError(
            reason=error.reason, message=error.message, retriable=error.retriable, metadata=error.facts
        )
        if "leader_address" in error.facts:
            told.leader.broker_id = int(error.facts["leader_id"])
            told.leader.address = error.facts["leader_address"]
            told.leader.term = int(error.facts["term"])
        return told

    # Produce -------------------------------------------------------------------------------------------------------

    async def Produce(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            response = broker_service_pb2.ProduceResponse(request_id=request.request_id)
            silent = twice = False
            for entry in request.entries:
                fate, result = self._append(entry)
                response.results.append(result)
                if fate == "drop":
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")
                silent |= fate == "silent"
                twice |= fate == "twice"
            await self.cluster.answering.wait()
            if not silent:
                yield response
            if twice:
                yield response

    def _append(self, entry: Any) -> tuple[str | None, Any]:
        result = broker_service_pb2.ProduceResponse.Result(topic=entry.topic, partition=entry.partition)
        header = check_produced(entry.batch, bytes_max=64 << 20)
        first_open = entry.first_open if entry.HasField("first_open") else None
        self.cluster.seen.append((entry.partition, header.producer_id, header.base_sequence, first_open))
        self.cluster.produced.set()
        fault = self.cluster.fault(self.broker_id, entry, header)
        try:
            if fault == "drop before":
                return "drop", result
            if fault in errors.BY_REASON:
                raise errors.BY_REASON[fault](f"told to say {fault}")
            if len(entry.batch) > self.cluster.bytes_max:
                raise errors.BatchTooLarge("too large", size=len(entry.batch), limit=self.cluster.bytes_max)
            partition = self._find(entry.topic, entry.partition, entry.topic_id)
            offset, duplicate = partition.append(entry.batch, header, first_open)
            if fault == "append, then unknown":
                raise errors.UnknownOutcome("who knows")
            result.base_offset, result.duplicate, result.term = offset, duplicate, partition.term
            result.durability.medium = common_pb2.Durability.MEDIUM_FSYNC
            result.durability.copies, result.durability.replicas = 2, 3
        except errors.LograftError as error:
            result.error.CopyFrom(self._error(error))
        return {"append, then drop": "drop", "append, then silent": "silent", "answer twice": "twice"}.get(
            fault or ""
        ), result

    # Fetch ---------------------------------------------------------------------------------------------------------

    async def Fetch(self, request: Any, context: Any) -> Any:
        self.cluster.fetches.append(request)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.max_wait_ms / 1000
        while True:
            response, waiting = self._fetch_now(request)
            if waiting is None or loop.time() >= deadline:
                return response
            waits = [asyncio.ensure_future(event.wait()) for event in waiting]
            try:
                await asyncio.wait(waits, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _fetch_now(self, request: Any) -> tuple[Any, list[asyncio.Event] | None]:
        response = broker_service_pb2.FetchResponse()
        events: list[asyncio.Event] = []
        left = request.max_bytes or 8 << 20
        there = False
        for wanted in request.partitions:
            answer = response.partitions.add(topic=wanted.topic, partition=wanted.partition)
            try:
                partition = self._find(wanted.topic, wanted.partition, wanted.topic_id)
                if not partition.start <= wanted.offset <= partition.end:
                    raise errors.OffsetOutOfRange(
                        "out of range", offset=wanted.offset, start=partition.start, end=partition.end
                    )
            except errors.LograftError as error:
                answer.error.CopyFrom(self._error(error))
                there = True
                continue
            events.append(partition.grown)
            answer.committed_offset, answer.log_start_offset = partition.end, partition.start
            answer.term, answer.next_offset = partition.term, wanted.offset
            chosen: list[bytes] = []
            size = 0
            for batch in partition.batches:
                if read_header(batch).next_offset <= wanted.offset:
                    continue
                if self.cluster.answers_max < 1 << 20 and (chosen or self.cluster.answers_max <= 0):
                    break
                if (chosen and size + len(batch) > min(left, wanted.max_bytes)) or (there and len(batch) > left):
                    break
                chosen.append(batch)
                size += len(batch)
                there = True
            left -= size
            self.cluster.answers_max -= bool(chosen)
            if chosen:
                answer.batches = b"".join(chosen)
                answer.next_offset = read_header(chosen[-1]).next_offset
        return response, None if there else events

    async def ListOffsets(self, request: Any, context: Any) -> Any:
        response = broker_service_pb2.ListOffsetsResponse()
        for query in request.queries:
            result = response.results.add(topic=query.topic, partition=query.partition, timestamp_ms=-1)
            try:
                partition = self._find(query.topic, query.partition, "")
            except errors.LograftError as error:
                result.error.CopyFrom(self._error(error))
                continue
            if query.HasField("timestamp_ms"):
                headers = [read_header(batch) for batch in partition.batches]
                late = [header for header in headers if header.max_timestamp_ms >= query.timestamp_ms]
                result.offset = late[0].base_offset if late else partition.end
            elif query.HasField("unread_from"):
                result.offset = partition.end
                result.age_ms = self.cluster.age_ms if query.unread_from < partition.end else 0
            elif query.bound == broker_service_pb2.ListOffsetsRequest.BOUND_START:
                result.offset = partition.start
            else:
                result.offset = partition.end
        return response

    # Admin ---------------------------------------------------------------------------------------------------------

    async def CreateTopic(self, request: Any, context: Any) -> Any:
        fault = self.admin_faults.popleft() if self.admin_faults else ""
        known = self.cluster.topics.get(request.name)
        if known is not None and known.topic_id != request.topic_id:
            await abort(context, errors.TopicExists(f"there is a topic {request.name!r} already"))
        if request.partitions < 1:
            await abort(context, errors.InvalidPartitions("at least one", partitions=request.partitions))
        if known is None and fault != "refuse":
            self.cluster.topic(request.name, request.partitions)
            self.cluster.topics[request.name].topic_id = request.topic_id
        if fault:
            await abort(context, errors.UnknownOutcome("the controller is gone"))
        topic = self._describe(self.cluster.topics[request.name])
        return admin_service_pb2.CreateTopicResponse(topic=topic, existed=known is not None)

    def _describe(self, topic: FakeTopic) -> Any:
        described = admin_service_pb2.TopicDescription(
            name=topic.name, topic_id=topic.topic_id, replication=1, config=topic.config
        )
        for number, partition in enumerate(topic.partitions):
            moving = partition.looks_left > 0
            partition.looks_left = max(partition.looks_left - 1, 0)
            if partition.placement and not moving:
                partition.leader_id = partition.placement[0]
            part = described.partitions.add(
                number=number, leader_id=partition.leader_id, term=partition.term, moving=moving
            )
            for broker_id in partition.placement:
                part.replicas.add(broker_id=broker_id, voter=not moving, alive=True, state="OK")
        return described

    async def DescribeTopic(self, request: Any, context: Any) -> Any:
        if request.name not in self.cluster.topics:
            await abort(context, errors.UnknownTopic(f"no topic {request.name!r}"))
        return admin_service_pb2.DescribeTopicResponse(topic=self._describe(self.cluster.topics[request.name]))

    async def ListTopics(self, request: Any, context: Any) -> Any:
        return admin_service_pb2.ListTopicsResponse(topics=map(self._describe, self.cluster.topics.values()))

    async def GrowTopic(self, request: Any, context: Any) -> Any:
        fault = self.admin_faults.popleft() if self.admin_faults else ""
        topic = self.cluster.topics[request.name]
        assert request.topic_id == topic.topic_id
        if not 0 < request.partitions_before < len(topic.partitions) == request.partitions:
            if request.partitions <= len(topic.partitions):
                await abort(context, errors.InvalidPartitions("only more", partitions=request.partitions))
            topic.partitions += [FakePartition(leader_id=0) for _ in range(len(topic.partitions), request.partitions)]
        if fault:
            await abort(context, errors.UnknownOutcome("the controller is gone"))
        return admin_service_pb2.GrowTopicResponse(topic=self._describe(topic))

    async def AlterTopic(self, request: Any, context: Any) -> Any:
        topic = self.cluster.topics[request.name]
        assert request.topic_id == topic.topic_id
        topic.config = {name: text for name, text in topic.config.items() if name not in request.unset}
        topic.config |= dict(request.set)
        return admin_service_pb2.AlterTopicResponse(topic=self._describe(topic))

    async def PlanRebalance(self, request: Any, context: Any) -> Any:
        planned = admin_service_pb2.PlanRebalanceResponse(set_aside=1)
        for topic, number, before, after in self.cluster.planned:
            partition = common_pb2.TopicPartition(topic=topic, partition=number)
            planned.moves.add(partition=partition, before=before, after=after, size_bytes=7)
        planned.brokers.add(broker_id=0, replicas_before=3, replicas_after=2, leaders_before=1, leaders_after=1)
        return planned

    async def MovePartition(self, request: Any, context: Any) -> Any:
        """Decided at once; the copy is done once it has been looked at twice."""
        fault = self.admin_faults.popleft() if self.admin_faults else ""
        if fault == "refuse":
            await abort(context, errors.InvalidRequest("broker 9 is not alive"))
        partition = self.cluster.topics[request.partition.topic].partitions[request.partition.partition]
        if partition.placement == tuple(request.broker_ids):
            await abort(context, errors.InvalidRequest("it is there already"))
        partition.looks_left = 0 if {*partition.placement} == {*request.broker_ids} else 2
        partition.placement = tuple(request.broker_ids)
        self.cluster.moving_most = max(self.cluster.moving_most, self.cluster.moving)
        if fault:
            await abort(context, errors.UnknownOutcome("the controller is gone"))
        return admin_service_pb2.MovePartitionResponse()

    async def DeleteTopic(self, request: Any, context: Any) -> Any:
        fault = self.admin_faults.popleft() if self.admin_faults else ""
        topic = self.cluster.topics.get(request.name)
        if topic is None or topic.topic_id != request.topic_id:
            await abort(context, errors.UnknownTopic(f"no topic {request.name!r}"))
        del self.cluster.topics[request.name]
        if fault:
            await abort(context, errors.UnknownOutcome("the controller is gone"))
        return admin_service_pb2.DeleteTopicResponse()

    async def DescribeCluster(self, request: Any, context: Any) -> Any:
        response = admin_service_pb2.DescribeClusterResponse(cluster_id="c", healthy=True)
        for broker in self.cluster.brokers.values():
            response.brokers.add(broker_id=broker.broker_id, address=broker.address, alive=True)
        return response

    async def TransferLeadership(self, request: Any, context: Any) -> Any:
        self.cluster.move(request.partition.topic, request.partition.partition, request.broker_id)
        partition = self.cluster.topics[request.partition.topic].partitions[request.partition.partition]
        return admin_service_pb2.TransferLeadershipResponse(term=partition.term)
