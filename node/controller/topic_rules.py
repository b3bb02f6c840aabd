"""What a topic may be called, how large it may be, and what can be set for it.

Every refusal names the thing, the limit and the remedy, and comes before anything is decided.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import NamedTuple

from ...proto.errors import (
    InvalidConfig,
    InvalidPartitions,
    InvalidReplication,
    InvalidRequest,
    InvalidTopic,
    NotAuthorized,
)
from .facts import is_topic_id

NAME_LENGTH_MAX = 249
"""Kafka's bound: the name with a partition number still fits a file name."""
INTERNAL_PREFIX = "__"
INTERNAL_SEGMENT_BYTES_MAX = 1 << 20
"""Only closed segments are compacted, and a broker that starts applies all of the last one: of stored offsets,
which are compressed by the batch, some 90,000."""
RESERVED_ID_PREFIX = "0" * 24
"""Topic ids that begin so are for internal topics; a client never draws one by chance."""

_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicLimits:
    """How much may be asked for. The same on every broker."""

    topic_partitions_max: int = 1_000
    """Of one topic."""
    cluster_partitions_max: int = 10_000
    """Of all topics together."""
    broker_replicas_max: int = 4_000
    """On one broker, over all topics."""
    replication_default: int = 3
    """Where the creator does not say; fewer if the cluster has fewer brokers."""
    batch_bytes_max: int = 1 << 20
    """What the brokers take from any producer; a topic may set less."""
    segment_bytes_max: int = 128 << 20
    """What a topic's segments may grow to if it sets nothing."""
    segment_ms_max: int = 7 * 24 * 3_600_000
    """How old they may get then."""
    retention_ms: int = -1
    """How long records are kept if the topic does not say; -1: for good."""
    retention_bytes: int = -1
    """How many bytes of a partition are kept then; -1: all."""
    retention_follower_bytes: int = 1 << 30
    """How many bytes more, for a follower that lags."""
    delete_retention_ms: int = 24 * 3_600_000
    """How long a tombstone is kept in a topic that is compacted."""


DELETE, COMPACT, COMPACT_AND_DELETE = CLEANUP_POLICIES = ("delete", "compact", "compact,delete")
"""What becomes of old records, in Kafka's words: whole segments go, or those superseded by a later one of their key."""


FSYNC, MEMORY = DURABILITIES = ("fsync", "memory")
"""From when on a replica's copy counts: once it is on the disk, or once it is written, which a disk follows soon."""


class ConfigKey(NamedTuple):
    """One thing that can be set for a topic."""

    name: str
    default: str
    """In words, where it is for the brokers' own configuration to say."""
    type: str
    """What a value looks like, in words."""
    doc: str
    parse: Callable[[str], str | int]
    """Raises ValueError, saying what the value must be."""


class TopicSettings(NamedTuple):
    """A topic's config with the defaults added, ready for use."""

    durability: str
    """Of DURABILITIES."""
    batch_bytes_max: int
    segment_bytes_max: int
    segment_ms_max: int
    retention_ms: int
    """-1: without limit."""
    retention_bytes: int
    """-1: without limit."""
    retention_follower_bytes: int
    cleanup_policy: str
    """Of CLEANUP_POLICIES."""
    delete_retention_ms: int

    @property
    def is_compacted(self) -> bool:
        return self.cleanup_policy != DELETE

    @property
    def forgets_segments(self) -> bool:
        """By age and size."""
        return self.cleanup_policy != COMPACT


def is_internal(name: str) -> bool:
    return name.startswith(INTERNAL_PREFIX)


def check_name(name: str, existing: Iterable[str] = (), *, internal: bool = False) -> None:
    """Refuse what no topic may be called, and what metrics could not tell from an `existing` topic.

    Raises
        InvalidTopic, NotAuthorized (an internal name, unless `internal`)
    """
    shown = name if len(name) <= 80 else f"{name[:80]}... ({len(name)} characters)"
    if not name:
        raise InvalidTopic("A topic needs a name; give one of 1 to 249 of the characters A-Z a-z 0-9 . _ -")
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidTopic(
            f"Topic name {shown!r} is longer than {NAME_LENGTH_MAX} characters; choose a shorter one", topic=shown
        )
    if not _NAME.fullmatch(name):
        raise InvalidTopic(
            f"Topic name {shown!r} has characters other than A-Z a-z 0-9 . _ -; leave them out", topic=repr(shown)
        )
    if name in (".", ".."):
        raise InvalidTopic(f"A topic cannot be called {name!r}, as directories are; choose another name", topic=name)
    if is_internal(name) and not internal:
        raise NotAuthorized(
            f"Topic name {name!r} begins with {INTERNAL_PREFIX!r}, which is kept for internal topics; "
            "choose a name that does not",
            topic=name,
        )
    in_metrics = name.replace(".", "_")
    for other in existing:
        if other != name and other.replace(".", "_") == in_metrics:
            raise InvalidTopic(
                f"Topic name {name!r} differs from the existing {other!r} only in '.' and '_', which metrics cannot "
                "tell apart; choose another name",
                topic=name,
                existing=other,
            )


def check_topic_id(topic_id: str, *, internal: bool = False) -> None:
    if not is_topic_id(topic_id) or (topic_id.startswith(RESERVED_ID_PREFIX) and not internal):
        raise InvalidRequest(
            f"Topic id {topic_id[:80]!r} is not one that a client may give: draw 32 hexadecimal digits (0-9a-f) at "
            "random, and use them again when repeating the request"
        )


def check_partitions(name: str, partitions: int, in_cluster: int, limits: TopicLimits) -> None:
    """Refuse a number of partitions that the topic, or the cluster with its `in_cluster` others, may not have."""
    if not 1 <= partitions <= limits.topic_partitions_max:
        raise InvalidPartitions(
            f"Topic {name!r} cannot have {partitions} partitions; ask for 1 to {limits.topic_partitions_max}",
            partitions=partitions,
            limit=limits.topic_partitions_max,
        )
    if in_cluster + partitions > limits.cluster_partitions_max:
        raise InvalidPartitions(
            f"With {partitions} partitions of {name!r} the cluster would have {in_cluster + partitions}, above its "
            f"limit of {limits.cluster_partitions_max}; ask for fewer, or delete topics that are no longer used",
            partitions=partitions,
            in_cluster=in_cluster,
            limit=limits.cluster_partitions_max,
        )


def check_growth(name: str, present: int, partitions: int, in_cluster: int, limits: TopicLimits) -> None:
    """Refuse what is no growth of a topic that has `present` partitions, or makes it or the cluster too large."""
    if partitions <= present:
        raise InvalidPartitions(
            f"Topic {name!r} has {present} partitions and cannot have {partitions}: partitions only become more, lest "
            f"records are lost; ask for {present + 1} to {limits.topic_partitions_max}, or create another topic",
            partitions=partitions,
            present=present,
        )
    check_partitions(name, partitions, in_cluster - present, limits)


def check_replication(name: str, replication: int, brokers: int, limits: TopicLimits) -> int:
    """How many replicas each partition gets in a cluster of so many brokers; 0 asks for the default."""
    if replication == 0:
        return min(limits.replication_default, brokers)
    if not 1 <= replication <= brokers:
        raise InvalidReplication(
            f"Topic {name!r} cannot have {replication} replicas of each partition, each on a broker of its own: the "
            f"cluster has {brokers}; ask for 1 to {brokers}, or 0 for the default",
            replication=replication,
            brokers=brokers,
        )
    return replication


def check_config(config: Mapping[str, str], limits: TopicLimits) -> dict[str, str]:
    """The config as it is kept: keys in order, values in their one spelling.

    Raises
        InvalidConfig  an unknown key, or a value that its key cannot have
    """
    kept = {name: str(_parsed(name, config[name])) for name in sorted(config)}
    batch_bytes_max = int(kept.get("batch.bytes.max", limits.batch_bytes_max))
    if batch_bytes_max > limits.batch_bytes_max:
        raise InvalidConfig(
            f"batch.bytes.max cannot be {batch_bytes_max}: the brokers take batches of at most "
            f"{limits.batch_bytes_max} bytes; set no more, or raise limits.batch_bytes_max of every broker first",
            key="batch.bytes.max",
            limit=limits.batch_bytes_max,
        )
    if int(kept.get("segment.bytes.max", batch_bytes_max)) < batch_bytes_max:
        raise InvalidConfig(
            f"segment.bytes.max cannot be {kept['segment.bytes.max']}: a batch of {batch_bytes_max} bytes would not "
            "fit; raise it, or set batch.bytes.max as low",
            key="segment.bytes.max",
            limit=batch_bytes_max,
        )
    return kept


def altered_config(
    config: Mapping[str, str], changes: Mapping[str, str], unset: Iterable[str], limits: TopicLimits
) -> dict[str, str]:
    """A topic's config with some of it set anew, and some back at its default. What a later version set is kept.

    Raises
        InvalidConfig   an unknown key, or a value that its key cannot have beside the others
        InvalidRequest  a key to be set and unset at once, or none at all
    """
    dropped = {*unset}
    for name in (*changes, *sorted(dropped)):
        _known_key(name)
    if both := sorted(dropped & {*changes}):
        raise InvalidRequest(f"{both[0]} cannot be set and unset at once; name it once", key=both[0])
    if not changes and not dropped:
        raise InvalidRequest(f"nothing is to be changed; name settings to set or unset: {', '.join(CONFIG_KEYS)}")
    left = {name: value for name, value in config.items() if name not in dropped}
    foreign = {name: value for name, value in left.items() if name not in CONFIG_KEYS}
    ours = {name: value for name, value in left.items() if name in CONFIG_KEYS}
    return dict(sorted((foreign | check_config({**ours, **changes}, limits)).items()))


def settings_of(config: Mapping[str, str], limits: TopicLimits) -> TopicSettings:
    """What the broker goes by. Total: what this version cannot read counts as not set."""

    def number_or(name: str, default: int) -> int:
        try:
            return int(CONFIG_KEYS[name].parse(config[name]))
        except (KeyError, ValueError):
            return default

    return TopicSettings(
        # Also of a topic that a later version made otherwise: more than it asks for does no harm.
        durability=MEMORY if config.get("durability") == MEMORY else FSYNC,
        batch_bytes_max=min(number_or("batch.bytes.max", limits.batch_bytes_max), limits.batch_bytes_max),
        segment_bytes_max=number_or("segment.bytes.max", limits.segment_bytes_max),
        segment_ms_max=number_or("segment.ms", limits.segment_ms_max),
        retention_ms=number_or("retention.ms", limits.retention_ms),
        retention_bytes=number_or("retention.bytes", limits.retention_bytes),
        retention_follower_bytes=number_or("retention.follower.bytes", limits.retention_follower_bytes),
        cleanup_policy=_cleanup_policy_or_default(config),
        delete_retention_ms=number_or("delete.retention.ms", limits.delete_retention_ms),
    )


def internal_settings(settings: TopicSettings) -> TopicSettings:
    """What holds for internal topics, whatever was set: on disk before it counts, compacted, and in small segments."""
    return settings._replace(
        durability=FSYNC,
        cleanup_policy=COMPACT,
        segment_bytes_max=min(settings.segment_bytes_max, INTERNAL_SEGMENT_BYTES_MAX),
    )


def _cleanup_policy_or_default(config: Mapping[str, str]) -> str:
    try:
        return _cleanup_policy(config.get("cleanup.policy", DELETE))
    except ValueError:
        return DELETE


def _known_key(name: str) -> ConfigKey:
    key = CONFIG_KEYS.get(name)
    if key is None:
        near = get_close_matches(name[:80], CONFIG_KEYS, n=1, cutoff=0.0)[0]
        raise InvalidConfig(
            f"A topic has no setting {name[:80]!r}; the nearest is {near!r}, and all are: {', '.join(CONFIG_KEYS)}",
            key=repr(name[:80]),
            nearest=near,
        )
    return key


def _parsed(name: str, value: str) -> str | int:
    key = _known_key(name)
    try:
        return key.parse(value)
    except ValueError as error:
        raise InvalidConfig(f"{name} cannot be {value[:80]!r}: {error}", key=name, value=repr(value[:80])) from None


def _durability(value: str) -> str:
    if value not in DURABILITIES:
        raise ValueError(f"it must be one of: {'; '.join(DURABILITIES)}")
    return value


def _cleanup_policy(value: str) -> str:
    policies = {part.strip() for part in value.split(",")}
    for known in CLEANUP_POLICIES:
        if policies == set(known.split(",")):
            return known
    raise ValueError(f"it must be one of: {'; '.join(CLEANUP_POLICIES)}")


def _bytes(least: int, most: int) -> Callable[[str], int]:
    return _whole_number("bytes", least, most)


def _whole_number(unit: str, least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value) if _WHOLE_NUMBER.fullmatch(value) else None
        if number is None or not least <= number <= most:
            raise ValueError(f"it must be a whole number of {unit} from {least} to {most}")
        return number

    return parse


def _limit(unit: str) -> Callable[[str], int]:
    """A bound that can be left open."""

    def parse(value: str) -> int:
        number = int(value) if _WHOLE_NUMBER.fullmatch(value) else None
        if number is None or not (number == -1 or 1 <= number <= INT64_MAX):
            raise ValueError(f"it must be a whole number of {unit} from 1 to {INT64_MAX}, or -1 for no limit")
        return number

    return parse


CONFIG_KEYS: Mapping[str, ConfigKey] = MappingProxyType(
    {
        key.name: key
        for key in (
            ConfigKey(
                "durability",
                FSYNC,
                "fsync; memory",
                "When a replica's copy counts. fsync: once it is on its disk. memory: once it is written, and the disk "
                "follows: killed brokers lose nothing, but a power failure of a majority can take the newest records.",
                _durability,
            ),
            ConfigKey(
                "batch.bytes.max",
                "limits.batch_bytes_max of the brokers",
                "bytes, 1 KiB to 8 MiB",
                "The largest record batch that a producer may send, compressed as it is.",
                _bytes(1 << 10, 8 << 20),
            ),
            ConfigKey(
                "segment.bytes.max",
                "replica.segment_bytes_max of the brokers",
                "bytes, 64 KiB to 1 GiB",
                "A log's file that would grow past this is closed and another begun.",
                _bytes(64 << 10, 1 << 30),
            ),
            ConfigKey(
                "segment.ms",
                "replica.segment_ms_max of the brokers",
                "milliseconds, a second or more",
                "A log's file whose first record is older than this gets no more, however small it is.",
                _whole_number("milliseconds", 1000, INT64_MAX),
            ),
            ConfigKey(
                "cleanup.policy",
                DELETE,
                "delete; compact; compact,delete",
                "delete: whole segments go by retention.ms and retention.bytes. compact: of each key the newest record "
                "stays, and one without a value deletes its key; records without a key stay. compact,delete: both.",
                _cleanup_policy,
            ),
            ConfigKey(
                "delete.retention.ms",
                "24 hours",
                "milliseconds, 0 or more",
                "Where records are compacted, one that deletes its key is kept at least this long, for readers to see.",
                _whole_number("milliseconds", 0, INT64_MAX),
            ),
            ConfigKey(
                "retention.ms",
                "retention.ms of the brokers",
                "milliseconds, or -1 for no limit",
                "Records are kept at least this long after their leader appended them; then whole segments go.",
                _limit("milliseconds"),
            ),
            ConfigKey(
                "retention.bytes",
                "retention.bytes of the brokers",
                "bytes of each partition, or -1 for no limit",
                "At least so many of the newest bytes are kept; beyond them whole segments go, the oldest first.",
                _limit("bytes"),
            ),
            ConfigKey(
                "retention.follower.bytes",
                "retention.follower_bytes of the brokers",
                "bytes of each partition, 0 or more",
                "So much more is kept for a replica that lags; one further behind begins anew where the log starts.",
                _whole_number("bytes", 0, INT64_MAX),
            ),
        )
    }
)
"""All that can be set for a topic, and that the broker obeys today."""
