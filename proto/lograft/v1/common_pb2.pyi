from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TopicPartition(_message.Message):
    __slots__ = ("topic", "partition")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ...) -> None: ...

class PartitionError(_message.Message):
    __slots__ = ("reason", "message", "retriable", "leader", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRIABLE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    retriable: bool
    leader: Leader
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., retriable: _Optional[bool] = ..., leader: _Optional[_Union[Leader, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Leader(_message.Message):
    __slots__ = ("broker_id", "address", "term")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    address: str
    term: int
    def __init__(self, broker_id: _Optional[int] = ..., address: _Optional[str] = ..., term: _Optional[int] = ...) -> None: ...

class Durability(_message.Message):
    __slots__ = ("medium", "copies", "replicas")
    class Medium(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MEDIUM_UNSPECIFIED: _ClassVar[Durability.Medium]
        MEDIUM_MEMORY: _ClassVar[Durability.Medium]
        MEDIUM_FSYNC: _ClassVar[Durability.Medium]
    MEDIUM_UNSPECIFIED: Durability.Medium
    MEDIUM_MEMORY: Durability.Medium
    MEDIUM_FSYNC: Durability.Medium
    MEDIUM_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    medium: Durability.Medium
    copies: int
    replicas: int
    def __init__(self, medium: _Optional[_Union[Durability.Medium, str]] = ..., copies: _Optional[int] = ..., replicas: _Optional[int] = ...) -> None: ...
