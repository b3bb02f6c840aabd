from lograft.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Acks(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACKS_UNSPECIFIED: _ClassVar[Acks]
    ACKS_QUORUM: _ClassVar[Acks]
    ACKS_LEADER: _ClassVar[Acks]
    ACKS_NONE: _ClassVar[Acks]
ACKS_UNSPECIFIED: Acks
ACKS_QUORUM: Acks
ACKS_LEADER: Acks
ACKS_NONE: Acks

class MetadataRequest(_message.Message):
    __slots__ = ("topics", "all_topics")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    ALL_TOPICS_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedScalarFieldContainer[str]
    all_topics: bool
    def __init__(self, topics: _Optional[_Iterable[str]] = ..., all_topics: _Optional[bool] = ...) -> None: ...

class MetadataResponse(_message.Message):
    __slots__ = ("cluster_id", "controller_id", "brokers", "topics", "unknown_topics", "broker_id")
    class Broker(_message.Message):
        __slots__ = ("broker_id", "address", "rack", "alive", "peer_address", "http_address", "directory_id", "version")
        BROKER_ID_FIELD_NUMBER: _ClassVar[int]
        ADDRESS_FIELD_NUMBER: _ClassVar[int]
        RACK_FIELD_NUMBER: _ClassVar[int]
        ALIVE_FIELD_NUMBER: _ClassVar[int]
        PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
        HTTP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
        DIRECTORY_ID_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        broker_id: int
        address: str
        rack: str
        alive: bool
        peer_address: str
        http_address: str
        directory_id: str
        version: str
        def __init__(self, broker_id: _Optional[int] = ..., address: _Optional[str] = ..., rack: _Optional[str] = ..., alive: _Optional[bool] = ..., peer_address: _Optional[str] = ..., http_address: _Optional[str] = ..., directory_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...
    class Topic(_message.Message):
        __slots__ = ("name", "topic_id", "partitions", "config", "internal")
        class ConfigEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        NAME_FIELD_NUMBER: _ClassVar[int]
        TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
        PARTITIONS_FIELD_NUMBER: _ClassVar[int]
        CONFIG_FIELD_NUMBER: _ClassVar[int]
        INTERNAL_FIELD_NUMBER: _ClassVar[int]
        name: str
        topic_id: str
        partitions: _containers.RepeatedCompositeFieldContainer[MetadataResponse.Partition]
        config: _containers.ScalarMap[str, str]
        internal: bool
        def __init__(self, name: _Optional[str] = ..., topic_id: _Optional[str] = ..., partitions: _Optional[_Iterable[_Union[MetadataResponse.Partition, _Mapping]]] = ..., config: _Optional[_Mapping[str, str]] = ..., internal: _Optional[bool] = ...) -> None: ...
    class Partition(_message.Message):
        __slots__ = ("number", "leader_id", "term", "replicas")
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        LEADER_ID_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        REPLICAS_FIELD_NUMBER: _ClassVar[int]
        number: int
        leader_id: int
        term: int
        replicas: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, number: _Optional[int] = ..., leader_id: _Optional[int] = ..., term: _Optional[int] = ..., replicas: _Optional[_Iterable[int]] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_ID_FIELD_NUMBER: _ClassVar[int]
    BROKERS_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_TOPICS_FIELD_NUMBER: _ClassVar[int]
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    controller_id: int
    brokers: _containers.RepeatedCompositeFieldContainer[MetadataResponse.Broker]
    topics: _containers.RepeatedCompositeFieldContainer[MetadataResponse.Topic]
    unknown_topics: _containers.RepeatedScalarFieldContainer[str]
    broker_id: int
    def __init__(self, cluster_id: _Optional[str] = ..., controller_id: _Optional[int] = ..., brokers: _Optional[_Iterable[_Union[MetadataResponse.Broker, _Mapping]]] = ..., topics: _Optional[_Iterable[_Union[MetadataResponse.Topic, _Mapping]]] = ..., unknown_topics: _Optional[_Iterable[str]] = ..., broker_id: _Optional[int] = ...) -> None: ...

class ProduceRequest(_message.Message):
    __slots__ = ("request_id", "acks", "entries")
    class Entry(_message.Message):
        __slots__ = ("topic", "partition", "topic_id", "batch", "first_open")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
        BATCH_FIELD_NUMBER: _ClassVar[int]
        FIRST_OPEN_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        topic_id: str
        batch: bytes
        first_open: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., topic_id: _Optional[str] = ..., batch: _Optional[bytes] = ..., first_open: _Optional[int] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    acks: Acks
    entries: _containers.RepeatedCompositeFieldContainer[ProduceRequest.Entry]
    def __init__(self, request_id: _Optional[int] = ..., acks: _Optional[_Union[Acks, str]] = ..., entries: _Optional[_Iterable[_Union[ProduceRequest.Entry, _Mapping]]] = ...) -> None: ...

class ProduceResponse(_message.Message):
    __slots__ = ("request_id", "results")
    class Result(_message.Message):
        __slots__ = ("topic", "partition", "error", "base_offset", "term", "durability", "duplicate", "log_start_offset")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        DURABILITY_FIELD_NUMBER: _ClassVar[int]
        DUPLICATE_FIELD_NUMBER: _ClassVar[int]
        LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        error: _common_pb2.PartitionError
        base_offset: int
        term: int
        durability: _common_pb2.Durability
        duplicate: bool
        log_start_offset: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.PartitionError, _Mapping]] = ..., base_offset: _Optional[int] = ..., term: _Optional[int] = ..., durability: _Optional[_Union[_common_pb2.Durability, _Mapping]] = ..., duplicate: _Optional[bool] = ..., log_start_offset: _Optional[int] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    results: _containers.RepeatedCompositeFieldContainer[ProduceResponse.Result]
    def __init__(self, request_id: _Optional[int] = ..., results: _Optional[_Iterable[_Union[ProduceResponse.Result, _Mapping]]] = ...) -> None: ...

class ProduceRecordsRequest(_message.Message):
    __slots__ = ("topic", "partition", "records", "acks")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    records: _containers.RepeatedCompositeFieldContainer[Record]
    acks: Acks
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., acks: _Optional[_Union[Acks, str]] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("key", "value", "headers", "timestamp_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    timestamp_ms: int
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., timestamp_ms: _Optional[int] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class ProduceRecordsResponse(_message.Message):
    __slots__ = ("results",)
    class Result(_message.Message):
        __slots__ = ("partition", "error", "base_offset", "record_count", "term", "durability")
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
        RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        DURABILITY_FIELD_NUMBER: _ClassVar[int]
        partition: int
        error: _common_pb2.PartitionError
        base_offset: int
        record_count: int
        term: int
        durability: _common_pb2.Durability
        def __init__(self, partition: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.PartitionError, _Mapping]] = ..., base_offset: _Optional[int] = ..., record_count: _Optional[int] = ..., term: _Optional[int] = ..., durability: _Optional[_Union[_common_pb2.Durability, _Mapping]] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ProduceRecordsResponse.Result]
    def __init__(self, results: _Optional[_Iterable[_Union[ProduceRecordsResponse.Result, _Mapping]]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("partitions", "max_wait_ms", "min_bytes", "max_bytes")
    class Partition(_message.Message):
        __slots__ = ("topic", "partition", "topic_id", "offset", "max_bytes")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        topic_id: str
        offset: int
        max_bytes: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., topic_id: _Optional[str] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    partitions: _containers.RepeatedCompositeFieldContainer[FetchRequest.Partition]
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    def __init__(self, partitions: _Optional[_Iterable[_Union[FetchRequest.Partition, _Mapping]]] = ..., max_wait_ms: _Optional[int] = ..., min_bytes: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("partitions",)
    class Partition(_message.Message):
        __slots__ = ("topic", "partition", "error", "batches", "next_offset", "committed_offset", "log_start_offset", "term")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        BATCHES_FIELD_NUMBER: _ClassVar[int]
        NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
        COMMITTED_OFFSET_FIELD_NUMBER: _ClassVar[int]
        LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        error: _common_pb2.PartitionError
        batches: bytes
        next_offset: int
        committed_offset: int
        log_start_offset: int
        term: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.PartitionError, _Mapping]] = ..., batches: _Optional[bytes] = ..., next_offset: _Optional[int] = ..., committed_offset: _Optional[int] = ..., log_start_offset: _Optional[int] = ..., term: _Optional[int] = ...) -> None: ...
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    partitions: _containers.RepeatedCompositeFieldContainer[FetchResponse.Partition]
    def __init__(self, partitions: _Optional[_Iterable[_Union[FetchResponse.Partition, _Mapping]]] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("start", "stop", "credit_bytes", "terms", "others")
    class Start(_message.Message):
        __slots__ = ("topic", "partition", "topic_id", "offset", "stream_id")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        STREAM_ID_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        topic_id: str
        offset: int
        stream_id: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., topic_id: _Optional[str] = ..., offset: _Optional[int] = ..., stream_id: _Optional[int] = ...) -> None: ...
    class Stop(_message.Message):
        __slots__ = ("stream_id",)
        STREAM_ID_FIELD_NUMBER: _ClassVar[int]
        stream_id: int
        def __init__(self, stream_id: _Optional[int] = ...) -> None: ...
    class Terms(_message.Message):
        __slots__ = ("heartbeat_ms", "together")
        HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
        TOGETHER_FIELD_NUMBER: _ClassVar[int]
        heartbeat_ms: int
        together: bool
        def __init__(self, heartbeat_ms: _Optional[int] = ..., together: _Optional[bool] = ...) -> None: ...
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    start: StreamRequest.Start
    stop: StreamRequest.Stop
    credit_bytes: int
    terms: StreamRequest.Terms
    others: _containers.RepeatedCompositeFieldContainer[StreamRequest]
    def __init__(self, start: _Optional[_Union[StreamRequest.Start, _Mapping]] = ..., stop: _Optional[_Union[StreamRequest.Stop, _Mapping]] = ..., credit_bytes: _Optional[int] = ..., terms: _Optional[_Union[StreamRequest.Terms, _Mapping]] = ..., others: _Optional[_Iterable[_Union[StreamRequest, _Mapping]]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("stream_id", "error", "batches", "next_offset", "committed_offset", "log_start_offset", "term", "others")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    error: _common_pb2.PartitionError
    batches: bytes
    next_offset: int
    committed_offset: int
    log_start_offset: int
    term: int
    others: _containers.RepeatedCompositeFieldContainer[StreamResponse]
    def __init__(self, stream_id: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.PartitionError, _Mapping]] = ..., batches: _Optional[bytes] = ..., next_offset: _Optional[int] = ..., committed_offset: _Optional[int] = ..., log_start_offset: _Optional[int] = ..., term: _Optional[int] = ..., others: _Optional[_Iterable[_Union[StreamResponse, _Mapping]]] = ...) -> None: ...

class ListOffsetsRequest(_message.Message):
    __slots__ = ("queries",)
    class Bound(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        BOUND_UNSPECIFIED: _ClassVar[ListOffsetsRequest.Bound]
        BOUND_START: _ClassVar[ListOffsetsRequest.Bound]
        BOUND_END: _ClassVar[ListOffsetsRequest.Bound]
        BOUND_APPENDED: _ClassVar[ListOffsetsRequest.Bound]
    BOUND_UNSPECIFIED: ListOffsetsRequest.Bound
    BOUND_START: ListOffsetsRequest.Bound
    BOUND_END: ListOffsetsRequest.Bound
    BOUND_APPENDED: ListOffsetsRequest.Bound
    class Query(_message.Message):
        __slots__ = ("topic", "partition", "bound", "timestamp_ms", "unread_from")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        BOUND_FIELD_NUMBER: _ClassVar[int]
        TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
        UNREAD_FROM_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        bound: ListOffsetsRequest.Bound
        timestamp_ms: int
        unread_from: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., bound: _Optional[_Union[ListOffsetsRequest.Bound, str]] = ..., timestamp_ms: _Optional[int] = ..., unread_from: _Optional[int] = ...) -> None: ...
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[ListOffsetsRequest.Query]
    def __init__(self, queries: _Optional[_Iterable[_Union[ListOffsetsRequest.Query, _Mapping]]] = ...) -> None: ...

class ListOffsetsResponse(_message.Message):
    __slots__ = ("results",)
    class Result(_message.Message):
        __slots__ = ("topic", "partition", "error", "offset", "timestamp_ms", "term", "age_ms", "log_start_offset")
        TOPIC_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        AGE_MS_FIELD_NUMBER: _ClassVar[int]
        LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
        topic: str
        partition: int
        error: _common_pb2.PartitionError
        offset: int
        timestamp_ms: int
        term: int
        age_ms: int
        log_start_offset: int
        def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.PartitionError, _Mapping]] = ..., offset: _Optional[int] = ..., timestamp_ms: _Optional[int] = ..., term: _Optional[int] = ..., age_ms: _Optional[int] = ..., log_start_offset: _Optional[int] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ListOffsetsResponse.Result]
    def __init__(self, results: _Optional[_Iterable[_Union[ListOffsetsResponse.Result, _Mapping]]] = ...) -> None: ...
