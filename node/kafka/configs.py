"""Settings of topics and brokers in Kafka's words.

Invariants
    what this broker obeys is shown with the value in force, under Kafka's name where there is one
    what it does not obey is refused, but for a setting whose one possible value is what it does anyway
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...proto.errors import InvalidConfig
from ..config import BrokerConfig
from ..controller.topic_rules import CONFIG_KEYS, TopicSettings, settings_of
from ..replicas import topic_limits

BOOLEAN, STRING, INT, LONG, LIST = 1, 2, 3, 5, 7
OF_THE_TOPIC, OF_THE_BROKER, BY_DEFAULT = 1, 4, 5


class Setting(NamedTuple):
    """One line of an answer to DescribeConfigs."""

    name: str
    value: str
    kind: int
    source: int
    is_read_only: bool
    doc: str


class _TopicKey(NamedTuple):
    ours: str
    field: str
    """Of TopicSettings."""
    kind: int


_TOPIC_KEYS: Mapping[str, _TopicKey] = {
    "cleanup.policy": _TopicKey("cleanup.policy", "cleanup_policy", LIST),
    "delete.retention.ms": _TopicKey("delete.retention.ms", "delete_retention_ms", LONG),
    "durability": _TopicKey("durability", "durability", STRING),
    "max.message.bytes": _TopicKey("batch.bytes.max", "batch_bytes_max", INT),
    "retention.bytes": _TopicKey("retention.bytes", "retention_bytes", LONG),
    "retention.follower.bytes": _TopicKey("retention.follower.bytes", "retention_follower_bytes", LONG),
    "retention.ms": _TopicKey("retention.ms", "retention_ms", LONG),
    "segment.bytes": _TopicKey("segment.bytes.max", "segment_bytes_max", INT),
    "segment.ms": _TopicKey("segment.ms", "segment_ms_max", LONG),
}
_AS_IT_IS: Mapping[str, tuple[str, int, str]] = {
    "compression.type": ("producer", STRING, "Batches are stored as their producers packed them."),
    "message.timestamp.type": ("CreateTime", STRING, "Records keep the time that their producers gave them."),
    "preallocate": ("false", BOOLEAN, "Files grow as they are written."),
    "unclean.leader.election.enable": (
        "false",
        BOOLEAN,
        "Nobody leads without what was committed, unless an operator accepts the loss.",
    ),
}
MIN_IN_SYNC = "min.insync.replicas"


def topic_settings(config: Mapping[str, str], settings: TopicSettings, replication: int) -> list[Setting]:
    """All that holds for a topic of which `config` was set."""
    found = [
        Setting(
            name,
            str(getattr(settings, key.field)),
            key.kind,
            OF_THE_TOPIC if key.ours in config else BY_DEFAULT,
            False,
            CONFIG_KEYS[key.ours].doc,
        )
        for name, key in _TOPIC_KEYS.items()
    ]
    found += [Setting(name, value, kind, BY_DEFAULT, True, doc) for name, (value, kind, doc) in _AS_IT_IS.items()]
    doc = "A majority of the replicas has a record before it is acknowledged (acks=all)."
    found.append(Setting(MIN_IN_SYNC, str(replication // 2 + 1), INT, BY_DEFAULT, True, doc))
    return sorted(found)


def broker_settings(config: BrokerConfig) -> list[Setting]:
    """What clients ask of brokers. It is for their configuration files to say."""
    limits = topic_limits(config)
    settings = settings_of({}, limits)
    told: dict[str, tuple[object, int]] = {
        "auto.create.topics.enable": (str(config.kafka.auto_create_topics).lower(), BOOLEAN),
        "broker.id": (config.broker.id, INT),
        "connections.max.idle.ms": (config.kafka.idle_ms_max, LONG),
        "default.replication.factor": (limits.replication_default, INT),
        "group.consumer.heartbeat.interval.ms": (config.kafka.consumer_heartbeat_ms, INT),
        "group.consumer.session.timeout.ms": (config.kafka.consumer_session_ms, INT),
        "group.initial.rebalance.delay.ms": (config.kafka.rebalance_delay_ms, INT),
        "group.max.session.timeout.ms": (config.groups.session_ms_max, INT),
        "group.min.session.timeout.ms": (config.groups.session_ms_min, INT),
        "log.cleanup.policy": (settings.cleanup_policy, LIST),
        "log.retention.bytes": (settings.retention_bytes, LONG),
        "log.retention.ms": (settings.retention_ms, LONG),
        "log.segment.bytes": (settings.segment_bytes_max, INT),
        "message.max.bytes": (config.limits.batch_bytes_max, INT),
        "num.partitions": (config.kafka.auto_create_partitions, INT),
        "offset.metadata.max.bytes": (config.groups.metadata_bytes_max, INT),
        "offsets.topic.num.partitions": (config.groups.offsets_partitions, INT),
        "socket.request.max.bytes": (config.limits.message_bytes_max, INT),
    }
    return [Setting(name, str(value), kind, OF_THE_BROKER, True, "") for name, (value, kind) in told.items()]


def ours(name: str, value: str | None, replication: int | None = None) -> tuple[str, str | None] | None:
    """A topic's setting under our name, with its value; None if it asks for what is so anyway.

    Raises InvalidConfig: there is no such setting here, or it has another value for good.
    """
    key = _TOPIC_KEYS.get(name)
    if key is not None:
        return key.ours, value
    if name in CONFIG_KEYS:
        return name, value
    if name in _AS_IT_IS:
        if value in (None, _AS_IT_IS[name][0]):
            return None
        raise InvalidConfig(f"{name} is {_AS_IT_IS[name][0]} here, and cannot be {value!r:.80}", key=name)
    if name == MIN_IN_SYNC:
        majority = None if replication is None else replication // 2 + 1
        if value is None or (value.isascii() and value.isdigit() and (majority is None or int(value) <= majority)):
            return None  # what is asked for is had: a majority is never too few
        raise InvalidConfig(f"{name} cannot be {value!r:.80}: a majority is waited for, {majority} here", key=name)
    raise InvalidConfig(
        f"a topic has no setting {name!r:.80} here; there are {', '.join(sorted(_TOPIC_KEYS))}", key=repr(name[:80])
    )


def all_of_ours() -> list[str]:
    return [key.ours for key in _TOPIC_KEYS.values()]
