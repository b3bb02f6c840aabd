from lograft.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateTopicRequest(_message.Message):
    __slots__ = ("name", "partitions", "replication", "config", "topic_id", "validate_only")
    class ConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    partitions: int
    replication: int
    config: _containers.ScalarMap[str, str]
    topic_id: str
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., partitions: _Optional[int] = ..., replication: _Optional[int] = ..., config: _Optional[_Mapping[str, str]] = ..., topic_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateTopicResponse(_message.Message):
    __slots__ = ("topic", "existed")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    topic: TopicDescription
    existed: bool
    def __init__(self, topic: _Optional[_Union[TopicDescription, _Mapping]] = ..., existed: _Optional[bool] = ...) -> None: ...

class TopicDescription(_message.Message):
    __slots__ = ("name", "topic_id", "replication", "config", "partitions", "internal")
    class ConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    topic_id: str
    replication: int
    config: _containers.ScalarMap[str, str]
    partitions: _containers.RepeatedCompositeFieldContainer[PartitionDescription]
    internal: bool
    def __init__(self, name: _Optional[str] = ..., topic_id: _Optional[str] = ..., replication: _Optional[int] = ..., config: _Optional[_Mapping[str, str]] = ..., partitions: _Optional[_Iterable[_Union[PartitionDescription, _Mapping]]] = ..., internal: _Optional[bool] = ...) -> None: ...

class PartitionDescription(_message.Message):
    __slots__ = ("number", "leader_id", "term", "replicas", "log_start_offset", "committed_offset", "size_bytes", "moving", "recovery")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MOVING_FIELD_NUMBER: _ClassVar[int]
    RECOVERY_FIELD_NUMBER: _ClassVar[int]
    number: int
    leader_id: int
    term: int
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaDescription]
    log_start_offset: int
    committed_offset: int
    size_bytes: int
    moving: bool
    recovery: PartitionRecovery
    def __init__(self, number: _Optional[int] = ..., leader_id: _Optional[int] = ..., term: _Optional[int] = ..., replicas: _Optional[_Iterable[_Union[ReplicaDescription, _Mapping]]] = ..., log_start_offset: _Optional[int] = ..., committed_offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., moving: _Optional[bool] = ..., recovery: _Optional[_Union[PartitionRecovery, _Mapping]] = ...) -> None: ...

class PartitionRecovery(_message.Message):
    __slots__ = ("number", "broker_id", "decided_ms", "by", "kept_offset", "lost_offset", "unknown_broker_ids")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    DECIDED_MS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    KEPT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LOST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_BROKER_IDS_FIELD_NUMBER: _ClassVar[int]
    number: int
    broker_id: int
    decided_ms: int
    by: str
    kept_offset: int
    lost_offset: int
    unknown_broker_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, number: _Optional[int] = ..., broker_id: _Optional[int] = ..., decided_ms: _Optional[int] = ..., by: _Optional[str] = ..., kept_offset: _Optional[int] = ..., lost_offset: _Optional[int] = ..., unknown_broker_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ReplicaDescription(_message.Message):
    __slots__ = ("broker_id", "voter", "alive", "match_offset", "state", "leaving", "copying")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    MATCH_OFFSET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    COPYING_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    voter: bool
    alive: bool
    match_offset: int
    state: str
    leaving: bool
    copying: CopyProgress
    def __init__(self, broker_id: _Optional[int] = ..., voter: _Optional[bool] = ..., alive: _Optional[bool] = ..., match_offset: _Optional[int] = ..., state: _Optional[str] = ..., leaving: _Optional[bool] = ..., copying: _Optional[_Union[CopyProgress, _Mapping]] = ...) -> None: ...

class CopyProgress(_message.Message):
    __slots__ = ("bytes_done", "bytes_total", "bytes_per_second", "time_left_ms")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    bytes_per_second: int
    time_left_ms: int
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., time_left_ms: _Optional[int] = ...) -> None: ...

class DeleteTopicRequest(_message.Message):
    __slots__ = ("name", "topic_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    topic_id: str
    def __init__(self, name: _Optional[str] = ..., topic_id: _Optional[str] = ...) -> None: ...

class DeleteTopicResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTopicsRequest(_message.Message):
    __slots__ = ("internal",)
    INTERNAL_FIELD_NUMBER: _ClassVar[int]
    internal: bool
    def __init__(self, internal: _Optional[bool] = ...) -> None: ...

class ListTopicsResponse(_message.Message):
    __slots__ = ("topics",)
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedCompositeFieldContainer[TopicDescription]
    def __init__(self, topics: _Optional[_Iterable[_Union[TopicDescription, _Mapping]]] = ...) -> None: ...

class DescribeTopicRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DescribeTopicResponse(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: TopicDescription
    def __init__(self, topic: _Optional[_Union[TopicDescription, _Mapping]] = ...) -> None: ...

class DescribeClusterRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeClusterResponse(_message.Message):
    __slots__ = ("cluster_id", "controller_id", "controller_term", "brokers", "healthy", "reasons", "losses_borne", "topics", "partitions", "leaderless_partitions", "under_replicated_partitions", "frail_partitions")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_TERM_FIELD_NUMBER: _ClassVar[int]
    BROKERS_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    LOSSES_BORNE_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    LEADERLESS_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    UNDER_REPLICATED_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    FRAIL_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    controller_id: int
    controller_term: int
    brokers: _containers.RepeatedCompositeFieldContainer[BrokerDescription]
    healthy: bool
    reasons: _containers.RepeatedScalarFieldContainer[str]
    losses_borne: int
    topics: int
    partitions: int
    leaderless_partitions: int
    under_replicated_partitions: int
    frail_partitions: int
    def __init__(self, cluster_id: _Optional[str] = ..., controller_id: _Optional[int] = ..., controller_term: _Optional[int] = ..., brokers: _Optional[_Iterable[_Union[BrokerDescription, _Mapping]]] = ..., healthy: _Optional[bool] = ..., reasons: _Optional[_Iterable[str]] = ..., losses_borne: _Optional[int] = ..., topics: _Optional[int] = ..., partitions: _Optional[int] = ..., leaderless_partitions: _Optional[int] = ..., under_replicated_partitions: _Optional[int] = ..., frail_partitions: _Optional[int] = ...) -> None: ...

class BrokerDescription(_message.Message):
    __slots__ = ("broker_id", "address", "peer_address", "http_address", "rack", "directory_id", "alive", "version", "start_number", "replicas", "leaders", "cluster_voter", "draining", "removed", "peer_protocol_lowest", "peer_protocol_highest", "gone")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HTTP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_ID_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LEADERS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_VOTER_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    PEER_PROTOCOL_LOWEST_FIELD_NUMBER: _ClassVar[int]
    PEER_PROTOCOL_HIGHEST_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
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
    draining: bool
    removed: bool
    peer_protocol_lowest: int
    peer_protocol_highest: int
    gone: bool
    def __init__(self, broker_id: _Optional[int] = ..., address: _Optional[str] = ..., peer_address: _Optional[str] = ..., http_address: _Optional[str] = ..., rack: _Optional[str] = ..., directory_id: _Optional[str] = ..., alive: _Optional[bool] = ..., version: _Optional[str] = ..., start_number: _Optional[int] = ..., replicas: _Optional[int] = ..., leaders: _Optional[int] = ..., cluster_voter: _Optional[bool] = ..., draining: _Optional[bool] = ..., removed: _Optional[bool] = ..., peer_protocol_lowest: _Optional[int] = ..., peer_protocol_highest: _Optional[int] = ..., gone: _Optional[bool] = ...) -> None: ...

class TransferLeadershipRequest(_message.Message):
    __slots__ = ("partition", "broker_id")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    partition: _common_pb2.TopicPartition
    broker_id: int
    def __init__(self, partition: _Optional[_Union[_common_pb2.TopicPartition, _Mapping]] = ..., broker_id: _Optional[int] = ...) -> None: ...

class TransferLeadershipResponse(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...

class TrimTopicRequest(_message.Message):
    __slots__ = ("name", "topic_id", "partitions", "validate_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    topic_id: str
    partitions: _containers.RepeatedCompositeFieldContainer[TrimmedPartition]
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., topic_id: _Optional[str] = ..., partitions: _Optional[_Iterable[_Union[TrimmedPartition, _Mapping]]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class TrimmedPartition(_message.Message):
    __slots__ = ("partition", "offset")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    partition: int
    offset: int
    def __init__(self, partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class TrimTopicResponse(_message.Message):
    __slots__ = ("partitions",)
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    partitions: _containers.RepeatedCompositeFieldContainer[TrimmedPartition]
    def __init__(self, partitions: _Optional[_Iterable[_Union[TrimmedPartition, _Mapping]]] = ...) -> None: ...

class MovePartitionRequest(_message.Message):
    __slots__ = ("partition", "broker_ids")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    BROKER_IDS_FIELD_NUMBER: _ClassVar[int]
    partition: _common_pb2.TopicPartition
    broker_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, partition: _Optional[_Union[_common_pb2.TopicPartition, _Mapping]] = ..., broker_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class MovePartitionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetBrokerDrainingRequest(_message.Message):
    __slots__ = ("broker_id", "draining")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    draining: bool
    def __init__(self, broker_id: _Optional[int] = ..., draining: _Optional[bool] = ...) -> None: ...

class SetBrokerDrainingResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RemoveBrokerRequest(_message.Message):
    __slots__ = ("broker_id",)
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    def __init__(self, broker_id: _Optional[int] = ...) -> None: ...

class RemoveBrokerResponse(_message.Message):
    __slots__ = ("topics",)
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, topics: _Optional[_Iterable[str]] = ...) -> None: ...

class GrowTopicRequest(_message.Message):
    __slots__ = ("name", "topic_id", "partitions", "partitions_before", "validate_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    topic_id: str
    partitions: int
    partitions_before: int
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., topic_id: _Optional[str] = ..., partitions: _Optional[int] = ..., partitions_before: _Optional[int] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class GrowTopicResponse(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: TopicDescription
    def __init__(self, topic: _Optional[_Union[TopicDescription, _Mapping]] = ...) -> None: ...

class AlterTopicRequest(_message.Message):
    __slots__ = ("name", "topic_id", "set", "unset", "validate_only")
    class SetEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    UNSET_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    topic_id: str
    set: _containers.ScalarMap[str, str]
    unset: _containers.RepeatedScalarFieldContainer[str]
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., topic_id: _Optional[str] = ..., set: _Optional[_Mapping[str, str]] = ..., unset: _Optional[_Iterable[str]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class AlterTopicResponse(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: TopicDescription
    def __init__(self, topic: _Optional[_Union[TopicDescription, _Mapping]] = ...) -> None: ...

class PlanRebalanceRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PlanRebalanceResponse(_message.Message):
    __slots__ = ("moves", "brokers", "set_aside")
    MOVES_FIELD_NUMBER: _ClassVar[int]
    BROKERS_FIELD_NUMBER: _ClassVar[int]
    SET_ASIDE_FIELD_NUMBER: _ClassVar[int]
    moves: _containers.RepeatedCompositeFieldContainer[PlannedMove]
    brokers: _containers.RepeatedCompositeFieldContainer[BrokerShare]
    set_aside: int
    def __init__(self, moves: _Optional[_Iterable[_Union[PlannedMove, _Mapping]]] = ..., brokers: _Optional[_Iterable[_Union[BrokerShare, _Mapping]]] = ..., set_aside: _Optional[int] = ...) -> None: ...

class PlannedMove(_message.Message):
    __slots__ = ("partition", "before", "after", "size_bytes")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    partition: _common_pb2.TopicPartition
    before: _containers.RepeatedScalarFieldContainer[int]
    after: _containers.RepeatedScalarFieldContainer[int]
    size_bytes: int
    def __init__(self, partition: _Optional[_Union[_common_pb2.TopicPartition, _Mapping]] = ..., before: _Optional[_Iterable[int]] = ..., after: _Optional[_Iterable[int]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class BrokerShare(_message.Message):
    __slots__ = ("broker_id", "replicas_before", "replicas_after", "leaders_before", "leaders_after")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_AFTER_FIELD_NUMBER: _ClassVar[int]
    LEADERS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LEADERS_AFTER_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    replicas_before: int
    replicas_after: int
    leaders_before: int
    leaders_after: int
    def __init__(self, broker_id: _Optional[int] = ..., replicas_before: _Optional[int] = ..., replicas_after: _Optional[int] = ..., leaders_before: _Optional[int] = ..., leaders_after: _Optional[int] = ...) -> None: ...

class ClusterSetting(_message.Message):
    __slots__ = ("name", "value", "default_value", "explanation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    default_value: str
    explanation: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., default_value: _Optional[str] = ..., explanation: _Optional[str] = ...) -> None: ...

class ListClusterSettingsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListClusterSettingsResponse(_message.Message):
    __slots__ = ("settings",)
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    settings: _containers.RepeatedCompositeFieldContainer[ClusterSetting]
    def __init__(self, settings: _Optional[_Iterable[_Union[ClusterSetting, _Mapping]]] = ...) -> None: ...

class ChangeClusterSettingRequest(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class ChangeClusterSettingResponse(_message.Message):
    __slots__ = ("setting",)
    SETTING_FIELD_NUMBER: _ClassVar[int]
    setting: ClusterSetting
    def __init__(self, setting: _Optional[_Union[ClusterSetting, _Mapping]] = ...) -> None: ...

class RecoverPartitionRequest(_message.Message):
    __slots__ = ("partition", "broker_id", "despite_repair", "accept_loss", "source_broker_id", "kept_offset", "recovery", "by")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    DESPITE_REPAIR_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_LOSS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    KEPT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    RECOVERY_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    partition: _common_pb2.TopicPartition
    broker_id: int
    despite_repair: bool
    accept_loss: bool
    source_broker_id: int
    kept_offset: int
    recovery: int
    by: str
    def __init__(self, partition: _Optional[_Union[_common_pb2.TopicPartition, _Mapping]] = ..., broker_id: _Optional[int] = ..., despite_repair: _Optional[bool] = ..., accept_loss: _Optional[bool] = ..., source_broker_id: _Optional[int] = ..., kept_offset: _Optional[int] = ..., recovery: _Optional[int] = ..., by: _Optional[str] = ...) -> None: ...

class RecoverPartitionResponse(_message.Message):
    __slots__ = ("refusal", "explanation", "source_broker_id", "kept_offset", "lost_offset", "unknown_broker_ids", "recovery")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    KEPT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LOST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_BROKER_IDS_FIELD_NUMBER: _ClassVar[int]
    RECOVERY_FIELD_NUMBER: _ClassVar[int]
    refusal: str
    explanation: _containers.RepeatedScalarFieldContainer[str]
    source_broker_id: int
    kept_offset: int
    lost_offset: int
    unknown_broker_ids: _containers.RepeatedScalarFieldContainer[int]
    recovery: int
    def __init__(self, refusal: _Optional[str] = ..., explanation: _Optional[_Iterable[str]] = ..., source_broker_id: _Optional[int] = ..., kept_offset: _Optional[int] = ..., lost_offset: _Optional[int] = ..., unknown_broker_ids: _Optional[_Iterable[int]] = ..., recovery: _Optional[int] = ...) -> None: ...
