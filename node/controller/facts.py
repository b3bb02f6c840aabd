"""Decisions are facts: key -> whole value, put or deleted. What the records of `__cluster` say, and nothing more.

What always holds
    a fact's key is found in its value again, so a value is never taken for something else
    a value says all that is known under its key; none builds on an earlier one, so compaction loses nothing
    a topic id names one topic for good; its deletion is a fact of its own, and what alone lets brokers delete replicas
    fields that this version does not know are kept as they came, and written back with the rest
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Any, ClassVar

import msgspec

from ...partitions.raft.messages import Voter
from ...proto import record_batch

CLUSTER_TOPIC = "__cluster"
CLUSTER_TOPIC_ID = "0" * 31 + "1"
OFFSETS_TOPIC = "__offsets"
OFFSETS_TOPIC_ID = "0" * 31 + "2"

_TOPIC_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class UnreadableFact(ValueError):
    """A record that this version cannot take for a fact. `key` is its key, or None if not even that could be read."""

    def __init__(self, key: str | None, why: str) -> None:
        super().__init__(f"record {key!r} of {CLUSTER_TOPIC} is no fact that this version knows: {why}")
        self.key, self.why = key, why


class RecoveryFact(msgspec.Struct, frozen=True, kw_only=True):
    """That an operator gave up what a partition's majority held: one replica's log goes on as `heir`, alone at first.

    Stays for good. An identity with a replica number below `first_number` is dead: it neither votes, leads nor counts.
    """

    number: int
    """Of the partition's recoveries, from 1."""
    source: Voter
    """Whose log goes on."""
    heir: Voter
    """As whom it does so, on the same disk."""
    first_number: int
    """Lowest replica number of the new lineage."""
    term: int
    """The new lineage begins in this term or a later one."""
    kept_offset: int
    """Where the source's readable log ended."""
    lost_offset: int
    """The highest end that any replica in touch was known to have held, then: what lay between is lost."""
    unknown_brokers: tuple[int, ...] = ()
    """Brokers whose replicas could not be asked: what they alone held is lost as well, however much it was."""
    decided_ms: int
    by: str
    """Who accepted it, in their own words."""

    def facts(self) -> dict[str, Any]:
        """For a broker's log."""
        return {
            "recovery": self.number,
            "source": str(self.source),
            "heir": str(self.heir),
            "kept_offset": self.kept_offset,
            "lost_offset": self.lost_offset,
            "unknown_brokers": list(self.unknown_brokers),
            "by": self.by,
        }

    def ended(self, identity: Voter) -> bool:
        """Is this identity of the partition dead?"""
        return identity.replica_number < self.first_number


class PartitionFact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one partition's replicas should be. Who votes is for the partition's own log to say."""

    placement: tuple[Voter, ...]
    """The preferred leader first; the others in the order in which they take over."""
    first_voters: tuple[Voter, ...]
    """The placement at creation, kept for good: only an identity among these may begin as a voter."""
    recovery: RecoveryFact | None = None
    """The newest one; None: nothing was ever given up."""

    def ended(self, identity: Voter) -> bool:
        """Did a recovery end this identity?"""
        return self.recovery is not None and self.recovery.ended(identity)

    def replica_to_make(self, broker_id: int, directory_id: str, *, never_held: bool) -> Voter | None:
        """Which replica to make on a disk that holds none of this partition; None: none.

        `never_held`: nor did it ever, surely. Then a first voter comes before whatever is placed there by now, and is
        made even if nothing is: others may need its vote, and having neither voted nor acknowledged anything, it is as
        one that was only slow. It goes like any other that is placed no more.
        """
        disk = broker_id, directory_id
        first = (voter for voter in self.first_voters if never_held and voter[:2] == disk and not self.ended(voter))
        placed = (voter for voter in self.placement if voter[:2] == disk)
        return next(chain(first, placed), None)


class TopicFact(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it was decided."""

    prefix: ClassVar[str] = "topic/"

    name: str
    topic_id: str
    """32 hexadecimal digits, drawn by the client that created the topic."""
    config: dict[str, str]
    """Only what was set; `topic_rules.TopicSettings` adds the defaults."""
    partitions: tuple[PartitionFact, ...]
    """By partition number."""
    next_replica_number: int
    """What the next replica placed gets, whichever partition it is of; it only rises."""
    created_ms: int
    """Unix time, by the controller's clock."""
    unknown: dict[str, Any] = {}
    """Fields of later versions."""

    @property
    def key(self) -> str:
        return self.prefix + self.name

    @property
    def replication(self) -> int:
        """Replicas of the partition that has most of them."""
        return max(len(partition.placement) for partition in self.partitions)


class BrokerFact(msgspec.Struct, frozen=True, kw_only=True):
    """A broker that belongs to the cluster. Whether it is alive, and at which addresses, are sightings."""

    prefix: ClassVar[str] = "broker/"

    broker_id: int
    directory_id: str
    """Of the disk it had when it last came up; a wiped one brings another."""
    rack: str
    """Empty: in no rack that it shares with another broker."""
    joined_ms: int
    """Unix time at which this broker id was first seen."""
    draining: bool = False
    """It is to lead nothing, as far as others can."""
    removed: bool = False
    """It is to hold nothing: what was placed on it is placed elsewhere. Coming up on another disk, it begins anew."""
    gone: bool = False
    """Unseen for so long that what it holds is placed elsewhere, as far as others can take it; until it is back."""
    unknown: dict[str, Any] = {}
    """Fields of later versions."""

    @property
    def key(self) -> str:
        return f"{self.prefix}{self.broker_id}"


class DeletedTopicFact(msgspec.Struct, frozen=True, kw_only=True):
    """A topic id that is gone for good: whoever holds a replica of it deletes it."""

    prefix: ClassVar[str] = "deleted/"

    topic_id: str
    name: str
    """What the topic was called."""
    deleted_ms: int
    unknown: dict[str, Any] = {}
    """Fields of later versions."""

    @property
    def key(self) -> str:
        return self.prefix + self.topic_id


class SettingFact(msgspec.Struct, frozen=True, kw_only=True):
    """A setting of the whole cluster. `settings.py` says which there are and what holds where none was decided."""

    prefix: ClassVar[str] = "setting/"

    name: str
    value: int
    unknown: dict[str, Any] = {}
    """Fields of later versions."""

    @property
    def key(self) -> str:
        return self.prefix + self.name


Fact = TopicFact | BrokerFact | DeletedTopicFact | SettingFact
Change = tuple[str, Fact | None]
"""A key and its whole new value; None deletes it."""

_KINDS: tuple[type[Fact], ...] = (TopicFact, BrokerFact, DeletedTopicFact, SettingFact)


def put(fact: Fact) -> Change:
    return fact.key, fact


def delete(fact: Fact) -> Change:
    return fact.key, None


def is_topic_id(text: str) -> bool:
    return _TOPIC_ID.fullmatch(text) is not None


def encode_value(fact: Fact) -> bytes:
    """The fact as JSON; the same fact gives the same bytes."""
    fields = {field: value for field, value in msgspec.structs.asdict(fact).items() if field != "unknown"}
    return msgspec.json.encode(fact.unknown | fields, order="sorted")


def decode(key: bytes | None, value: bytes | None) -> Change:
    """What one record says.

    Raises
        UnreadableFact  a key of an unknown kind, or a value that is not what its key promises
    """
    if key is None:
        raise UnreadableFact(None, "it has no key")
    try:
        name = key.decode()
    except UnicodeDecodeError:
        raise UnreadableFact(None, f"its key {key[:80]!r} is no UTF-8") from None
    kind = next((kind for kind in _KINDS if name.startswith(kind.prefix)), None)
    if kind is None:
        raise UnreadableFact(None, f"keys like {name[:80]!r} are not known")
    if value is None:
        return name, None
    try:
        raw = msgspec.json.decode(value, type=dict[str, Any])
        unknown = {field: raw.pop(field) for field in raw.keys() - _known_fields(kind)}
        fact = msgspec.structs.replace(msgspec.convert(raw, kind), unknown=unknown)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise UnreadableFact(name, str(error)) from None
    if fact.key != name:
        raise UnreadableFact(name, f"its value is that of {fact.key!r}")
    if why := _contradiction(fact):
        raise UnreadableFact(name, why)
    return name, fact


def encode_batch(changes: Iterable[Change], timestamp_ms: int) -> bytes:
    """The changes as one RecordBatch v2: they are committed, and applied, together."""
    records = [
        record_batch.NewRecord(
            timestamp_ms=timestamp_ms,
            key=key.encode(),
            value=None if fact is None else encode_value(fact),
            headers=(),
        )
        for key, fact in changes
    ]
    return record_batch.encode(records, compression=record_batch.Compression.LZ4)


def _known_fields(kind: type[Fact]) -> set[str]:
    return {*kind.__struct_fields__} - {"unknown"}


def _contradiction(fact: Fact) -> str | None:
    """Why the fact cannot be acted on, or None if it can."""
    if isinstance(fact, BrokerFact | SettingFact):
        return None
    if not is_topic_id(fact.topic_id):
        return f"{fact.topic_id!r} is no topic id"
    if isinstance(fact, DeletedTopicFact):
        return None
    if not fact.partitions:
        return "a topic without partitions"
    for number, partition in enumerate(fact.partitions):
        for replicas in (partition.placement, partition.first_voters):
            if not replicas or len({replica.broker_id for replica in replicas}) != len(replicas):
                return f"partition {number} has no replica, or two on one broker"
            if any(replica.replica_number >= fact.next_replica_number for replica in replicas):
                return f"partition {number} has a replica number that was never given out"
        if partition.recovery is not None and any(map(partition.ended, partition.placement)):
            return f"partition {number} is placed on a replica that a recovery ended"
    return None
