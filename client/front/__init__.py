"""Talk to a cluster: produce records, read them, and administer topics.

    async with lograft.Client("127.0.0.1:9600") as client: ...      # in a blocking program: lograft.sync.Client

Names are looked up when they are first used, so that importing this costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lograft.sync as sync
    from lograft.client.admin import (
        BrokerDescription,
        ClusterDescription,
        ClusterSetting,
        CopyProgress,
        PartitionDescription,
        ReplicaDescription,
        TopicDescription,
    )
    from lograft.client.client import Client
    from lograft.client.consumer import Consumer
    from lograft.client.delivery import (
        DeliveredRange,
        Deliveries,
        Delivery,
        DeliveryErrors,
        DeliveryFailed,
        Durability,
        FailedRecords,
        RecordMetadata,
    )
    from lograft.client.groups import GroupDescription, GroupListing, GroupMember, GroupPartition, Groups, Seeked
    from lograft.client.offsets import Lag
    from lograft.client.producer import Producer
    from lograft.client.rebalance import BrokerShare, PlannedMove, RebalancePlan, RebalanceProgress
    from lograft.client.records import NewRecord, Record, TopicPartition
    from lograft.client.seek_plan import SeekPlan
    from lograft.proto import errors as errors
    from lograft.proto.errors import LograftError
    from lograft.proto.record_batch import Header

_HOME = {
    "BrokerDescription": "lograft.client.admin",
    "BrokerShare": "lograft.client.rebalance",
    "Client": "lograft.client.client",
    "ClusterDescription": "lograft.client.admin",
    "ClusterSetting": "lograft.client.admin",
    "Consumer": "lograft.client.consumer",
    "CopyProgress": "lograft.client.admin",
    "DeliveredRange": "lograft.client.delivery",
    "Deliveries": "lograft.client.delivery",
    "Delivery": "lograft.client.delivery",
    "DeliveryErrors": "lograft.client.delivery",
    "DeliveryFailed": "lograft.client.delivery",
    "Durability": "lograft.client.delivery",
    "FailedRecords": "lograft.client.delivery",
    "GroupDescription": "lograft.client.groups",
    "GroupListing": "lograft.client.groups",
    "GroupMember": "lograft.client.groups",
    "GroupPartition": "lograft.client.groups",
    "Groups": "lograft.client.groups",
    "Header": "lograft.proto.record_batch",
    "Lag": "lograft.client.offsets",
    "LograftError": "lograft.proto.errors",
    "NewRecord": "lograft.client.records",
    "PartitionDescription": "lograft.client.admin",
    "PlannedMove": "lograft.client.rebalance",
    "Producer": "lograft.client.producer",
    "RebalancePlan": "lograft.client.rebalance",
    "RebalanceProgress": "lograft.client.rebalance",
    "Record": "lograft.client.records",
    "RecordMetadata": "lograft.client.delivery",
    "ReplicaDescription": "lograft.client.admin",
    "SeekPlan": "lograft.client.seek_plan",
    "Seeked": "lograft.client.groups",
    "TopicDescription": "lograft.client.admin",
    "TopicPartition": "lograft.client.records",
}
_MODULES = {"errors": "lograft.proto.errors", "sync": "lograft.sync"}

__all__ = [
    "BrokerDescription",
    "BrokerShare",
    "Client",
    "ClusterDescription",
    "ClusterSetting",
    "Consumer",
    "CopyProgress",
    "DeliveredRange",
    "Deliveries",
    "Delivery",
    "DeliveryErrors",
    "DeliveryFailed",
    "Durability",
    "FailedRecords",
    "GroupDescription",
    "GroupListing",
    "GroupMember",
    "GroupPartition",
    "Groups",
    "Header",
    "Lag",
    "LograftError",
    "NewRecord",
    "PartitionDescription",
    "PlannedMove",
    "Producer",
    "RebalancePlan",
    "RebalanceProgress",
    "Record",
    "RecordMetadata",
    "ReplicaDescription",
    "SeekPlan",
    "Seeked",
    "TopicDescription",
    "TopicPartition",
    "errors",
    "sync",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found: Any = import_module(_MODULES[name])
    elif name in _HOME:
        found = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'lograft' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
