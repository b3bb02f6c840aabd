"""The door's handlers over parts that are only values, and requests as kio writes them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import timedelta
from random import Random
from types import NoneType, SimpleNamespace
from typing import Any, get_args, get_origin
from uuid import UUID

from kio.index import load_request_schema
from kio.serial import entity_writer
from kio.serial.readers import tz_aware_from_i64
from lograft.node.config import BrokerConfig, load_config
from lograft.node.controller.facts import PartitionFact, TopicFact
from lograft.node.controller.state import ClusterState
from lograft.node.controller.topic_rules import settings_of
from lograft.node.groups.calls import Condition, FetchedOffset, GroupDescription, GroupListed
from lograft.node.groups.classic_calls import Joined, Synced
from lograft.node.groups.consumer_calls import (
    ConsumerDescription,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerTold,
)
from lograft.node.groups.coordinators import GroupPlace
from lograft.node.kafka.cluster_requests import ClusterRequests
from lograft.node.kafka.connection import Answer
from lograft.node.kafka.consumer_group_requests import ConsumerGroupRequests
from lograft.node.kafka.fetch_requests import FetchRequests
from lograft.node.kafka.frames import RequestHead, read_head
from lograft.node.kafka.group_requests import GroupRequests
from lograft.node.kafka.offset_requests import OffsetRequests
from lograft.node.kafka.produce_requests import ProduceRequests
from lograft.node.kafka.replica_requests import ReplicaRequests
from lograft.node.kafka.requests import Requests
from lograft.node.kafka.service import Handlers
from lograft.node.kafka.topic_requests import TopicRequests
from lograft.node.metrics import Metrics
from lograft.node.replicas import topic_limits
from lograft.node.rpc.plain_admin import Moving, PlainTopic
from lograft.node.sightings import Leading
from lograft.partitions.appendings import Appended
from lograft.partitions.chunk import Chunk
from lograft.partitions.commit_waiters import CommitWaiter
from lograft.partitions.environment import PartitionId
from lograft.partitions.producers import ProducerTable
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import Point, TermJournal
from lograft.partitions.storage.segment import DamagedLog
from lograft.proto.errors import NoLeader, OffsetOutOfRange, UnknownPartition, UnknownTopic
from lograft.proto.record_batch import BatchHeader, NewRecord, encode
from msgspec.structs import replace

TOPIC, TOPIC_ID = "t", "0123456789abcdef0123456789abcdef"
BATCH = encode([NewRecord(1_700_000_000_000, b"key", b"value")])
NUMBER = 0
TEXT = "t"


class FakeReplica:
    """One batch, committed in term 3."""

    def __init__(self) -> None:
        self.term, self.log_start, self.partition = 3, 0, PartitionId(TOPIC_ID, 0)
        self.log = SimpleNamespace(
            journal=TermJournal(),
            size_bytes=len(BATCH),
            producers=ProducerTable(),
            end=Point(3, 1, 1),
            offset_for_time=lambda timestamp, start, end: None,
        )
        self.committed, self.is_leader = self.log.end, True
        self.appended: list[bytes] = []
        self.unreadable: list[str] = []

    def append_run(self, run: list[tuple[bytes, BatchHeader, int | None]]) -> list[Any]:
        return [self._append(batch) for batch, _, _ in run]

    def _append(self, batch: bytes) -> Any:
        loop = asyncio.get_running_loop()
        appending = SimpleNamespace(committed=loop.create_future(), persisted=loop.create_future(), is_duplicate=False)
        self.appended.append(bytes(batch))
        for future in (appending.committed, appending.persisted):
            future.set_result(Appended(len(self.appended), 3, False, 2, 3))
        return appending

    def read(self, offset: int, bytes_max: int, *, only_cached: bool = False) -> Chunk:
        if not 0 <= offset <= 1:
            raise OffsetOutOfRange("beyond", offset=offset, start=0, end=1)
        return Chunk([memoryview(BATCH)] if offset == 0 else [], 1, 1, 0, 3)

    def on_commit_past(self, offset: int, callback: Callable[[], None]) -> CommitWaiter:
        return CommitWaiter(callback)

    async def confirm_read(self) -> int:
        return 1

    def require_ready(self) -> None:
        if not self.is_leader:
            raise NoLeader("lost")

    def note_unreadable(self, damage: DamagedLog) -> None:
        self.unreadable.append(damage.path)

    async def move_log_start(self, offset: int) -> int:
        if not 0 <= offset <= 1:
            raise OffsetOutOfRange("beyond", offset=offset)
        return offset


class FakeReplicas:
    def __init__(self, config: BrokerConfig) -> None:
        voters = (Voter(0, "d", 1),)
        self.fact = TopicFact(
            name=TOPIC,
            topic_id=TOPIC_ID,
            config={},
            partitions=(PartitionFact(placement=voters, first_voters=voters),),
            next_replica_number=2,
            created_ms=0,
        )
        self.state = ClusterState()
        self.state.apply((self.fact.key, self.fact))
        self.replica = FakeReplica()
        self.table = {PartitionId(TOPIC_ID, 0): self.replica}
        self._config = config

    def topic(self, name: str, topic_id: str = "") -> TopicFact:
        topic = self.state.topic(name)
        if topic is None:
            raise UnknownTopic("none")
        return topic

    def leading(self, name: str, number: int, topic_id: str = "") -> Any:
        topic = self.topic(name)
        if number:
            raise UnknownPartition("none")
        return SimpleNamespace(topic=topic, settings=self.settings(topic), replica=self.replica)

    def settings(self, topic: TopicFact) -> Any:
        return settings_of(topic.config, topic_limits(self._config))

    def leader_of(self, partition: PartitionId) -> Leading:
        return Leading(0, 3)

    def check_caught_up(self) -> None: ...
    def check_writable(self, led: Any) -> None: ...
    def with_address(self, error: Any) -> Any:
        return error


class FakeCoordinator:
    async def join_group(self, asked: Any) -> Joined:
        return Joined(1, "consumer", "range", "m", "m", (("m", "", b"meta"),))

    async def sync_group(self, asked: Any) -> Synced:
        return Synced("consumer", "range", b"all")

    async def classic_heartbeat(self, *_: Any) -> None: ...

    async def leave_group(self, group: str, leavers: Any) -> list[Any]:
        return [leaver.member_id for leaver in leavers]

    async def store_classic_offsets(self, group: str, member: str, instance: str, generation: int, entries: Any) -> Any:
        return [None for _ in entries]

    async def consumer_heartbeat(self, asked: ConsumerHeartbeat) -> ConsumerTold:
        return ConsumerTold(7, (PartitionId(TOPIC_ID, 0),), 5_000)

    async def describe_consumers(self, group: str) -> ConsumerGroupDescription:
        named = ((PartitionId(TOPIC_ID, 0), TOPIC),)
        member = ConsumerDescription("m%2Fx", "", "c", "h", 7, (TOPIC,), None, named, named, True)
        return ConsumerGroupDescription(group, 7, "Stable", (member,))

    async def fetch_offsets(self, group: str, wanted: Any, reader: Any = None) -> Any:
        return [FetchedOffset(topic, number, TOPIC_ID, 5, "", 0) for topic, number in wanted or [(TOPIC, 0)]]

    async def forget_offsets(self, group: str, wanted: Any) -> Any:
        return [None for _ in wanted]

    async def list_groups(self) -> list[GroupListed]:
        return [GroupListed("g", Condition.STABLE, 1, 1, (TOPIC,))]

    async def describe_classic(self, group: str) -> None:
        return None

    def classic_now(self, group: str) -> None:
        return None

    async def describe(self, group: str) -> GroupDescription:
        return GroupDescription(group, Condition.EMPTY, 1, (), ())

    async def delete(self, group: str) -> None: ...


class FakeCoordinators:
    def of(self, group: str) -> Any:
        if not group.isprintable():
            raise NoLeader("none")
        return FakeCoordinator()

    def place(self, group: str) -> GroupPlace:
        return GroupPlace(PartitionId("0" * 32, 0), 0, 3)

    def led(self) -> list[Any]:
        return [FakeCoordinator()]


class FakeAdmin:
    def __init__(self, state: ClusterState) -> None:
        self._state = state

    async def create_topic(self, name: str, partitions: int, replication: int, config: Any, **_: Any) -> PlainTopic:
        made = replace(self._state.topics[TOPIC], name=name, topic_id="f" * 32)
        self._state.apply((made.key, made))
        return PlainTopic(name, TOPIC_ID, 1, 1)

    async def delete_topic(self, name: str, topic_id: str = "") -> None: ...
    async def grow_topic(self, name: str, partitions: int, **_: Any) -> None: ...
    async def alter_topic(self, name: str, changes: Mapping[str, str], unset: Any, **_: Any) -> None: ...
    async def transfer_leadership(self, topic: str, number: int, broker_id: int) -> None: ...
    async def move_partition(self, topic: str, number: int, brokers: Any) -> None: ...
    async def moving(self) -> list[Moving]:
        return [Moving(TOPIC, 0, (0, 1), (1,), (0,))]


class FakeBrokers:
    broker_id = 0

    def kafka_addresses(self) -> dict[int, str]:
        return {0: "here:9603", 1: "there:9613"}

    def is_alive(self, broker_id: int) -> bool:
        return True

    def cluster_id(self) -> str:
        return "cluster"


class FakeConnection:
    """Keeps what is answered."""

    host, peer = "127.0.0.1", "ipv4:127.0.0.1:4711"

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.closed = ""

    def given(self, answer: Answer) -> None:
        self.answers.append(answer)

    def close(self, why: str) -> None:
        self.closed = why


class Door:
    """All handlers, asked without a socket."""

    def __init__(self, *sets: str) -> None:
        always = "broker.id=0 broker.data_directory=d listen.kafka=127.0.0.1:9603 limits.fetch_wait_ms_max=1"
        config = load_config(None, {}, [*always.split(), *sets])
        self.replicas: Any = FakeReplicas(config)
        parts: Any = FakeCoordinators(), FakeAdmin(self.replicas.state)
        metrics = Metrics()
        cluster = ClusterRequests(self.replicas, FakeBrokers(), config.kafka, parts[1])
        self.requests = Requests(
            Handlers(
                cluster,
                GroupRequests(parts[0], cluster),
                ConsumerGroupRequests(parts[0]),
                ProduceRequests(self.replicas, metrics, Random(1)),
                FetchRequests(self.replicas, metrics, config.limits),
                OffsetRequests(self.replicas),
                TopicRequests(self.replicas, parts[1], config),
                ReplicaRequests(self.replicas, parts[1], config, SimpleNamespace(free_bytes=lambda: 1 << 40)),
            ),
            metrics,
        )

    async def ask(self, frame: bytes) -> Answer | None:
        """The answer; None if there is none, as with acks=0. Raises MalformedRequest."""
        connection: Any = FakeConnection()
        head: RequestHead = read_head(frame)
        answer = Answer(connection, head, len(frame))
        coroutine = self.requests.take(frame, head, answer, connection)
        if coroutine is not None:
            await coroutine
        for _ in range(3):
            await asyncio.sleep(0)  # for what was appended
        return answer if answer.is_given else None


# Requests as kio writes them ----------------------------------------------------------------------------------------


def a_request(key: int, version: int) -> bytes:
    """A frame without its length: one of everything."""
    schema: Any = load_request_schema(key, version)
    written = io.BytesIO()
    header = schema.__header_schema__
    entity_writer(header)(
        written,
        header(request_api_key=key, request_api_version=version, correlation_id=5, client_id="me"),
    )
    entity_writer(schema)(written, _sample(schema))
    return written.getvalue()


def _sample(schema: Any) -> Any:
    return schema(**{field.name: _value(field) for field in fields(schema) if "tag" not in field.metadata})


def _value(field: Any) -> Any:
    kind = field.metadata.get("kafka_type")
    array = next((one for one in (field.type, *get_args(field.type)) if get_origin(one) is tuple), None)
    if array is not None:
        item = next(one for one in get_args(array) if one not in (Ellipsis, NoneType))
        return (_sample(item) if hasattr(item, "__version__") else _primitive(kind, field.name),)
    if kind is None:
        return field.default if field.default is not MISSING else _sample(field.type)
    return _primitive(kind, field.name)


def _primitive(kind: str, name: str) -> Any:
    match kind:
        case "string":
            return None if name == "transactional_id" else TEXT
        case "bytes" | "records":
            return BATCH
        case "bool":
            return False
        case "uuid":
            return UUID(hex=TOPIC_ID)
        case "timedelta_i32" | "timedelta_i64":
            return timedelta(seconds=10)
        case "datetime_i64":
            return tz_aware_from_i64(0)  # type: ignore[arg-type]
    return {"current_leader_epoch": 3, "acks": -1, "partition_max_bytes": 1 << 20, "max_bytes": 1 << 20}.get(
        name, NUMBER
    )
