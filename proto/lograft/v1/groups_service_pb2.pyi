from lograft.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GroupState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUP_STATE_UNSPECIFIED: _ClassVar[GroupState]
    GROUP_STATE_EMPTY: _ClassVar[GroupState]
    GROUP_STATE_STABLE: _ClassVar[GroupState]
    GROUP_STATE_MOVING: _ClassVar[GroupState]
GROUP_STATE_UNSPECIFIED: GroupState
GROUP_STATE_EMPTY: GroupState
GROUP_STATE_STABLE: GroupState
GROUP_STATE_MOVING: GroupState

class FindCoordinatorRequest(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: str
    def __init__(self, group: _Optional[str] = ...) -> None: ...

class FindCoordinatorResponse(_message.Message):
    __slots__ = ("broker_id", "address", "term", "partition")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    address: str
    term: int
    partition: int
    def __init__(self, broker_id: _Optional[int] = ..., address: _Optional[str] = ..., term: _Optional[int] = ..., partition: _Optional[int] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("topic_id", "partition", "generation", "topic", "grown")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    GROWN_FIELD_NUMBER: _ClassVar[int]
    topic_id: str
    partition: int
    generation: int
    topic: str
    grown: bool
    def __init__(self, topic_id: _Optional[str] = ..., partition: _Optional[int] = ..., generation: _Optional[int] = ..., topic: _Optional[str] = ..., grown: _Optional[bool] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("group", "member_id", "join", "owned", "giving_up", "released", "leave", "leave_reason", "max_wait_ms")
    class Join(_message.Message):
        __slots__ = ("instance_id", "topics", "pattern", "session_timeout_ms", "client_id")
        INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
        TOPICS_FIELD_NUMBER: _ClassVar[int]
        PATTERN_FIELD_NUMBER: _ClassVar[int]
        SESSION_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
        CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
        instance_id: str
        topics: _containers.RepeatedScalarFieldContainer[str]
        pattern: str
        session_timeout_ms: int
        client_id: str
        def __init__(self, instance_id: _Optional[str] = ..., topics: _Optional[_Iterable[str]] = ..., pattern: _Optional[str] = ..., session_timeout_ms: _Optional[int] = ..., client_id: _Optional[str] = ...) -> None: ...
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    OWNED_FIELD_NUMBER: _ClassVar[int]
    GIVING_UP_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    LEAVE_REASON_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    group: str
    member_id: str
    join: HeartbeatRequest.Join
    owned: _containers.RepeatedCompositeFieldContainer[Grant]
    giving_up: _containers.RepeatedCompositeFieldContainer[Grant]
    released: _containers.RepeatedCompositeFieldContainer[Grant]
    leave: bool
    leave_reason: str
    max_wait_ms: int
    def __init__(self, group: _Optional[str] = ..., member_id: _Optional[str] = ..., join: _Optional[_Union[HeartbeatRequest.Join, _Mapping]] = ..., owned: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ..., giving_up: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ..., released: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ..., leave: _Optional[bool] = ..., leave_reason: _Optional[str] = ..., max_wait_ms: _Optional[int] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("generation", "grants", "revoked", "unknown_topics")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_TOPICS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    grants: _containers.RepeatedCompositeFieldContainer[Grant]
    revoked: _containers.RepeatedCompositeFieldContainer[Grant]
    unknown_topics: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation: _Optional[int] = ..., grants: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ..., revoked: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ..., unknown_topics: _Optional[_Iterable[str]] = ...) -> None: ...

class StoreOffsetsRequest(_message.Message):
    __slots__ = ("group", "member_id", "entries")
    class Entry(_message.Message):
        __slots__ = ("topic", "partition", "topic_id", "offset", "metadata", "generation")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        METADATA_FIELD_NUMBER: _ClassVar[int]
        GENERATION_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        topic_id: str
        offset: int
        metadata: str
        generation: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., topic_id: _Optional[str] = ..., offset: _Optional[int] = ..., metadata: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    group: str
    member_id: str
    entries: _containers.RepeatedCompositeFieldContainer[StoreOffsetsRequest.Entry]
    def __init__(self, group: _Optional[str] = ..., member_id: _Optional[str] = ..., entries: _Optional[_Iterable[_Union[StoreOffsetsRequest.Entry, _Mapping]]] = ...) -> None: ...

class StoreOffsetsResponse(_message.Message):
    __slots__ = ("results",)
    class Result(_message.Message):
        __slots__ = ("topic", "partition", "error")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        error: _common_pb2.PartitionError
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.PartitionError, _Mapping]] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[StoreOffsetsResponse.Result]
    def __init__(self, results: _Optional[_Iterable[_Union[StoreOffsetsResponse.Result, _Mapping]]] = ...) -> None: ...

class FetchOffsetsRequest(_message.Message):
    __slots__ = ("group", "partitions")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    group: str
    partitions: _containers.RepeatedCompositeFieldContainer[_common_pb2.TopicPartition]
    def __init__(self, group: _Optional[str] = ..., partitions: _Optional[_Iterable[_Union[_common_pb2.TopicPartition, _Mapping]]] = ...) -> None: ...

class FetchOffsetsResponse(_message.Message):
    __slots__ = ("results",)
    class Result(_message.Message):
        __slots__ = ("topic", "partition", "error", "offset", "metadata", "stored_ms", "topic_id")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        METADATA_FIELD_NUMBER: _ClassVar[int]
        STORED_MS_FIELD_NUMBER: _ClassVar[int]
        TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        error: _common_pb2.PartitionError
        offset: int
        metadata: str
        stored_ms: int
        topic_id: str
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.PartitionError, _Mapping]] = ..., offset: _Optional[int] = ..., metadata: _Optional[str] = ..., stored_ms: _Optional[int] = ..., topic_id: _Optional[str] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[FetchOffsetsResponse.Result]
    def __init__(self, results: _Optional[_Iterable[_Union[FetchOffsetsResponse.Result, _Mapping]]] = ...) -> None: ...

class ListGroupsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListGroupsResponse(_message.Message):
    __slots__ = ("groups", "coordinated", "offsets_partitions")
    class Group(_message.Message):
        __slots__ = ("group", "state", "members", "partitions", "coordinator_id", "topics")
        GROUP_FIELD_NUMBER: _ClassVar[int]
        STATE_FIELD_NUMBER: _ClassVar[int]
        MEMBERS_FIELD_NUMBER: _ClassVar[int]
        PARTITIONS_FIELD_NUMBER: _ClassVar[int]
        COORDINATOR_ID_FIELD_NUMBER: _ClassVar[int]
        TOPICS_FIELD_NUMBER: _ClassVar[int]
        group: str
        state: GroupState
        members: int
        partitions: int
        coordinator_id: int
        topics: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, group: _Optional[str] = ..., state: _Optional[_Union[GroupState, str]] = ..., members: _Optional[int] = ..., partitions: _Optional[int] = ..., coordinator_id: _Optional[int] = ..., topics: _Optional[_Iterable[str]] = ...) -> None: ...
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    COORDINATED_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[ListGroupsResponse.Group]
    coordinated: _containers.RepeatedScalarFieldContainer[int]
    offsets_partitions: int
    def __init__(self, groups: _Optional[_Iterable[_Union[ListGroupsResponse.Group, _Mapping]]] = ..., coordinated: _Optional[_Iterable[int]] = ..., offsets_partitions: _Optional[int] = ...) -> None: ...

class DescribeGroupRequest(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: str
    def __init__(self, group: _Optional[str] = ...) -> None: ...

class DescribeGroupResponse(_message.Message):
    __slots__ = ("group", "state", "generation", "coordinator_id", "members", "partitions", "lag_records", "lag_seconds")
    class Member(_message.Message):
        __slots__ = ("member_id", "instance_id", "client_id", "host", "topics", "pattern", "partitions", "session_timeout_ms", "heard_ms_ago", "joined_ms")
        MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
        INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
        CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
        HOST_FIELD_NUMBER: _ClassVar[int]
        TOPICS_FIELD_NUMBER: _ClassVar[int]
        PATTERN_FIELD_NUMBER: _ClassVar[int]
        PARTITIONS_FIELD_NUMBER: _ClassVar[int]
        SESSION_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
        HEARD_MS_AGO_FIELD_NUMBER: _ClassVar[int]
        JOINED_MS_FIELD_NUMBER: _ClassVar[int]
        member_id: str
        instance_id: str
        client_id: str
        host: str
        topics: _containers.RepeatedScalarFieldContainer[str]
        pattern: str
        partitions: int
        session_timeout_ms: int
        heard_ms_ago: int
        joined_ms: int
        def __init__(self, member_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., client_id: _Optional[str] = ..., host: _Optional[str] = ..., topics: _Optional[_Iterable[str]] = ..., pattern: _Optional[str] = ..., partitions: _Optional[int] = ..., session_timeout_ms: _Optional[int] = ..., heard_ms_ago: _Optional[int] = ..., joined_ms: _Optional[int] = ...) -> None: ...
    class Partition(_message.Message):
        __slots__ = ("topic", "partition", "topic_id", "member_id", "generation", "next_member_id", "stored_offset", "metadata", "stored_ms", "start_offset", "committed_offset", "lag_records", "lag_seconds")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
        MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
        GENERATION_FIELD_NUMBER: _ClassVar[int]
        NEXT_MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
        STORED_OFFSET_FIELD_NUMBER: _ClassVar[int]
        METADATA_FIELD_NUMBER: _ClassVar[int]
        STORED_MS_FIELD_NUMBER: _ClassVar[int]
        START_OFFSET_FIELD_NUMBER: _ClassVar[int]
        COMMITTED_OFFSET_FIELD_NUMBER: _ClassVar[int]
        LAG_RECORDS_FIELD_NUMBER: _ClassVar[int]
        LAG_SECONDS_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        topic_id: str
        member_id: str
        generation: int
        next_member_id: str
        stored_offset: int
        metadata: str
        stored_ms: int
        start_offset: int
        committed_offset: int
        lag_records: int
        lag_seconds: float
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., topic_id: _Optional[str] = ..., member_id: _Optional[str] = ..., generation: _Optional[int] = ..., next_member_id: _Optional[str] = ..., stored_offset: _Optional[int] = ..., metadata: _Optional[str] = ..., stored_ms: _Optional[int] = ..., start_offset: _Optional[int] = ..., committed_offset: _Optional[int] = ..., lag_records: _Optional[int] = ..., lag_seconds: _Optional[float] = ...) -> None: ...
    GROUP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    LAG_RECORDS_FIELD_NUMBER: _ClassVar[int]
    LAG_SECONDS_FIELD_NUMBER: _ClassVar[int]
    group: str
    state: GroupState
    generation: int
    coordinator_id: int
    members: _containers.RepeatedCompositeFieldContainer[DescribeGroupResponse.Member]
    partitions: _containers.RepeatedCompositeFieldContainer[DescribeGroupResponse.Partition]
    lag_records: int
    lag_seconds: float
    def __init__(self, group: _Optional[str] = ..., state: _Optional[_Union[GroupState, str]] = ..., generation: _Optional[int] = ..., coordinator_id: _Optional[int] = ..., members: _Optional[_Iterable[_Union[DescribeGroupResponse.Member, _Mapping]]] = ..., partitions: _Optional[_Iterable[_Union[DescribeGroupResponse.Partition, _Mapping]]] = ..., lag_records: _Optional[int] = ..., lag_seconds: _Optional[float] = ...) -> None: ...

class SeekGroupRequest(_message.Message):
    __slots__ = ("group", "targets", "validate_only")
    class Target(_message.Message):
        __slots__ = ("topic", "partition", "topic_id", "offset")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        topic_id: str
        offset: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., topic_id: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    group: str
    targets: _containers.RepeatedCompositeFieldContainer[SeekGroupRequest.Target]
    validate_only: bool
    def __init__(self, group: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[SeekGroupRequest.Target, _Mapping]]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class SeekGroupResponse(_message.Message):
    __slots__ = ("generation", "regranted")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REGRANTED_FIELD_NUMBER: _ClassVar[int]
    generation: int
    regranted: int
    def __init__(self, generation: _Optional[int] = ..., regranted: _Optional[int] = ...) -> None: ...

class DeleteGroupRequest(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: str
    def __init__(self, group: _Optional[str] = ...) -> None: ...

class DeleteGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
