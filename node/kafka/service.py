"""All that the door is made of, put together. Importing this imports kio: `node.py` does so only if the door opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..rpc.plain_admin import PlainAdmin
from .apis import APIS
from .cluster_requests import ClusterRequests
from .consumer_group_requests import ConsumerGroupRequests
from .door import KafkaDoor
from .fetch_requests import FetchRequests
from .group_requests import GroupRequests
from .offset_requests import OffsetRequests
from .produce_requests import ProduceRequests
from .replica_requests import ReplicaRequests
from .requests import Requests
from .topic_requests import TopicRequests

if TYPE_CHECKING:
    from ...partitions.environment import Environment
    from ..groups.coordinators import Coordinators
    from ..metrics import Metrics
    from ..node import Node
    from ..replicas import Replicas
    from ..rpc.admin_service import AdminService

__all__ = ["Handlers", "kafka_door"]


class Handlers:
    """The methods of its parts, by the names of the APIs. An API that nobody handles is told to no client."""

    def __init__(self, *parts: object) -> None:
        for api in APIS.values():
            (method,) = (getattr(part, api.method) for part in parts if hasattr(part, api.method))
            setattr(self, api.method, method)


def kafka_door(
    node: Node,
    replicas: Replicas,
    coordinators: Coordinators,
    admin: AdminService,
    metrics: Metrics,
    environment: Environment,
) -> KafkaDoor:
    """A door, ready to be started."""
    config = node.config
    plain_admin = PlainAdmin(admin)
    cluster = ClusterRequests(replicas, node, config.kafka, plain_admin)
    handlers = Handlers(
        cluster,
        GroupRequests(coordinators, cluster),
        ConsumerGroupRequests(coordinators),
        ProduceRequests(replicas, metrics, environment.random),
        FetchRequests(replicas, metrics, config.limits),
        OffsetRequests(replicas),
        TopicRequests(replicas, plain_admin, config),
        ReplicaRequests(replicas, plain_admin, config, environment.disk),
    )
    return KafkaDoor(Requests(handlers, metrics), config.limits, config.kafka)
