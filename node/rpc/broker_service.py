"""Records in and out, and where to find them: the servicer translates, others do.

Invariants
    no method has an `except`: `interception.ErrorTranslation` turns what is raised into the call's status
    what concerns one partition of a call is told in that partition's part of the answer, and fails nothing else
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable

import grpc
from lograft.v1 import broker_service_pb2 as pb
from lograft.v1 import broker_service_pb2_grpc

from ...partitions.environment import Environment, PartitionId
from ...proto import record_batch
from ...proto.errors import InvalidRequest, LograftError, OffsetOutOfRange
from ...proto.record_batch import Compression, NewRecord
from ..appends import append_entry
from ..config import LimitsSection
from ..controller.facts import TopicFact
from ..controller.topic_rules import is_internal
from ..groups.calls import Unread
from ..groups.lag import unread_from
from ..metrics import Metrics
from ..peer.links import PeerLinks
from ..replicas import CLUSTER_PARTITION, Replicas
from ..sightings import Sightings
from ..time_search import first_at, noting_damage
from .budget import SharedBudget
from .fetch import FetchCall
from .large_messages import ProduceMessage
from .limits import CALL_SECONDS_MAX, PARTITIONS_PER_REQUEST_MAX, RECORDS_PER_REQUEST_MAX, check_count
from .produce import ProduceStream, awaited, check_acks, durability
from .push import PushStream
from .status import partition_error

STREAMS_AT_BOUND = 8
"""All produce streams together may hold as many bytes as this many of them at their bound; those of one connection a
quarter of it, those of one address a half."""
QUERIES_PER_TURN = 50
"""Looked up at a time, so that a request of thousands does not hold up the loop."""
FETCHES_AT_BOUND = 16
"""The same for answers to fetches on their way out."""


class BrokerService(broker_service_pb2_grpc.BrokerServiceServicer):
    """Any broker answers Metadata; the rest is answered where the partition is led."""

    def __init__(
        self,
        broker_id: int,
        replicas: Replicas,
        links: PeerLinks,
        sightings: Sightings,
        metrics: Metrics,
        limits: LimitsSection,
        environment: Environment,
    ) -> None:
        self.cluster_id = ""
        self._broker_id = broker_id
        self._replicas = replicas
        self._links = links
        self._sightings = sightings
        self._metrics = metrics
        self._limits = limits
        self._environment = environment
        self._produce_budget = SharedBudget(STREAMS_AT_BOUND * limits.produce_in_flight_bytes_max)
        self._fetch_budget = SharedBudget(FETCHES_AT_BOUND * limits.fetch_bytes_max)

    async def Metadata(self, request: pb.MetadataRequest, context: grpc.aio.ServicerContext) -> pb.MetadataResponse:
        self._replicas.check_caught_up()
        state = self._replicas.state
        controller_id = self._replicas.leader_of(CLUSTER_PARTITION).broker_id
        names = sorted(state.topics) if request.all_topics else list(dict.fromkeys(request.topics))
        check_count(len(names), PARTITIONS_PER_REQUEST_MAX, "topics")
        return pb.MetadataResponse(
            cluster_id=self.cluster_id,
            controller_id=-1 if controller_id is None else controller_id,
            brokers=self._brokers(),
            topics=[self._topic(topic) for name in names if (topic := state.topic(name)) is not None],
            unknown_topics=[name for name in names if state.topic(name) is None],
            broker_id=self._broker_id,
        )

    async def Produce(self, request_iterator: AsyncIterable[ProduceMessage], context: grpc.aio.ServicerContext) -> None:
        lease = self._produce_budget.lease(context.peer())
        try:
            budget = lease.within(self._limits.produce_in_flight_bytes_max)
            await ProduceStream(self._replicas, budget, self._metrics).serve(request_iterator, context)
        finally:
            lease.end()

    async def ProduceRecords(
        self, request: pb.ProduceRecordsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ProduceRecordsResponse:
        check_count(len(request.records), RECORDS_PER_REQUEST_MAX, "records")
        acks = check_acks(request.acks)
        topic = self._replicas.topic(request.topic)
        if not request.records:
            raise InvalidRequest("there are no records to produce")
        async with asyncio.timeout(CALL_SECONDS_MAX):
            results = await asyncio.gather(
                *(
                    self._produce_records(topic, number, records, acks)
                    for number, records in sorted(self._by_partition(topic, request).items())
                )
            )
        return pb.ProduceRecordsResponse(results=results)

    async def Fetch(self, request: pb.FetchRequest, context: grpc.aio.ServicerContext) -> bytes:
        # Held until the answer has left: a client that does not read holds no more than its share.
        lease = self._fetch_budget.lease(context.peer())
        context.add_done_callback(lambda _: lease.end())  # type: ignore[arg-type]
        await lease.room()
        call = FetchCall(
            request,
            self._replicas,
            self._metrics,
            bytes_max=self._limits.fetch_bytes_max,
            wait_ms_max=self._limits.fetch_wait_ms_max,
            lease=lease,
        )
        return await call.answer()

    async def Stream(
        self, request_iterator: AsyncIterable[pb.StreamRequest], context: grpc.aio.ServicerContext
    ) -> None:
        await PushStream(self._replicas, self._metrics).serve(request_iterator, context)

    async def ListOffsets(
        self, request: pb.ListOffsetsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListOffsetsResponse:
        check_count(len(request.queries), PARTITIONS_PER_REQUEST_MAX, "partitions")
        async with asyncio.timeout(CALL_SECONDS_MAX):
            results: list[pb.ListOffsetsResponse.Result] = []
            for at in range(0, len(request.queries), QUERIES_PER_TURN):
                results += await asyncio.gather(*map(self._list_offset, request.queries[at : at + QUERIES_PER_TURN]))
        return pb.ListOffsetsResponse(results=results)

    # -- parts of answers --------------------------------------------------------------------------------------------

    def _brokers(self) -> list[pb.MetadataResponse.Broker]:
        known = {*self._replicas.state.brokers, *(sighting.broker_id for sighting in self._sightings.brokers())}
        brokers = []
        for broker_id in sorted(known):
            sighting = self._sightings.broker(broker_id)
            fact = self._replicas.state.brokers.get(broker_id)
            broker = pb.MetadataResponse.Broker(
                broker_id=broker_id,
                alive=broker_id == self._broker_id or self._links.session(broker_id) is not None,
                rack=fact.rack if fact is not None else "",
                directory_id=fact.directory_id if fact is not None else "",
            )
            if sighting is not None:
                broker.address, broker.peer_address, broker.http_address = sighting.addresses
                broker.version, broker.directory_id = sighting.version, sighting.directory_id
            brokers.append(broker)
        return brokers

    def _topic(self, topic: TopicFact) -> pb.MetadataResponse.Topic:
        described = pb.MetadataResponse.Topic(
            name=topic.name, topic_id=topic.topic_id, config=topic.config, internal=is_internal(topic.name)
        )
        for number, partition in enumerate(topic.partitions):
            leader = self._replicas.leader_of(PartitionId(topic.topic_id, number))
            described.partitions.add(
                number=number,
                leader_id=-1 if leader.broker_id is None else leader.broker_id,
                term=leader.term,
                replicas=[replica.broker_id for replica in partition.placement],
            )
        return described

    def _by_partition(self, topic: TopicFact, request: pb.ProduceRecordsRequest) -> dict[int, list[NewRecord]]:
        """The records, each under its partition."""
        count = len(topic.partitions)
        drawn: int | None = None
        now_ms = self._environment.wall_ms()
        found: defaultdict[int, list[NewRecord]] = defaultdict(list)
        for record in request.records:
            key = record.key if record.HasField("key") else None
            if request.HasField("partition"):
                number = request.partition
            elif key is not None:
                number = record_batch.partition_for_key(key, count)
            else:
                drawn = number = drawn if drawn is not None else self._draw_partition(topic)
            headers = [(header.key, header.value if header.HasField("value") else None) for header in record.headers]
            value = record.value if record.HasField("value") else None
            found[number].append(NewRecord(record.timestamp_ms or now_ms, key, value, headers))
        return found

    def _draw_partition(self, topic: TopicFact) -> int:
        """One that is led here, if any: the client has no way of sending each partition's records to its leader."""
        numbers = range(len(topic.partitions))
        led_here = [
            number
            for number in numbers
            if self._replicas.leader_of(PartitionId(topic.topic_id, number)).broker_id == self._broker_id
        ]
        return self._environment.random.choice(led_here or numbers)

    async def _produce_records(
        self, topic: TopicFact, number: int, records: list[NewRecord], acks: int
    ) -> pb.ProduceRecordsResponse.Result:
        result = pb.ProduceRecordsResponse.Result(partition=number, base_offset=-1)
        try:
            batch = record_batch.encode(records, compression=Compression.NONE)
            _, appending = append_entry(self._replicas, topic.name, number, topic.topic_id, batch, None, self._metrics)
            result.record_count = len(records)
            future = awaited(appending, acks)
            if future is not None:
                appended = await asyncio.shield(future)
                result.base_offset, result.term = appended.base_offset, appended.term
                result.durability.CopyFrom(durability(appended))
        except LograftError as error:
            result.error.CopyFrom(partition_error(self._replicas.with_address(error)))
        return result

    async def _list_offset(self, query: pb.ListOffsetsRequest.Query) -> pb.ListOffsetsResponse.Result:
        result = pb.ListOffsetsResponse.Result(topic=query.topic, partition=query.partition, offset=-1, timestamp_ms=-1)
        try:
            replica = self._replicas.leading(query.topic, query.partition).replica
            result.term, result.log_start_offset = replica.term, replica.log_start
            where = query.WhichOneof("where")
            if where == "timestamp_ms":
                end = await replica.confirm_read()
                with noting_damage(replica):
                    found = first_at(replica.log, query.timestamp_ms, replica.log_start, end)
                result.offset, result.timestamp_ms = found
            elif where == "unread_from":
                unread = await unread_from(replica, query.unread_from, self._environment.wall_ms)
                check_within(query, unread)
                result.log_start_offset, result.offset, result.timestamp_ms, result.age_ms = unread
            elif query.bound == pb.ListOffsetsRequest.BOUND_START:
                replica.require_ready()  # an older leader may have moved it, and this one not know yet
                result.offset = result.log_start_offset = replica.log_start
            elif query.bound == pb.ListOffsetsRequest.BOUND_END:
                result.offset = await replica.confirm_read()
            elif query.bound == pb.ListOffsetsRequest.BOUND_APPENDED:
                result.offset = replica.log.end.offset
            else:
                raise InvalidRequest("a query names a bound (start, end, appended), a timestamp or a reader's offset")
        except LograftError as error:
            result.error.CopyFrom(partition_error(self._replicas.with_address(error)))
        return result


def check_within(query: pb.ListOffsetsRequest.Query, unread: Unread) -> None:
    """Raises OffsetOutOfRange: a reader cannot have come to where nothing was written yet."""
    if not 0 <= query.unread_from <= unread.committed_offset:
        raise OffsetOutOfRange(
            f"no reader can stand at offset {query.unread_from} of partition {query.partition} of "
            f"{query.topic[:80]!r}: it holds {unread.start_offset} up to {unread.committed_offset}",
            offset=query.unread_from,
            start=unread.start_offset,
            end=unread.committed_offset,
        )
