"""What the records of `__offsets` say: facts of groups, key -> whole value, put or deleted.

What always holds
    a value says all that is known under its key; none builds on an earlier one, so compaction loses nothing
    keys name topics by id: what was stored for a deleted topic never counts for another of its name
    the group's name stands last in a key, where it needs no escaping
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...partitions.environment import PartitionId
from ...proto import record_batch
from ...proto.errors import UNDECODABLE


class UnreadableFact(ValueError):
    """A record that this version cannot take for a fact of a group."""


class GroupKey(msgspec.Struct, frozen=True, order=True):
    group: str


class MemberKey(msgspec.Struct, frozen=True, order=True):
    group: str
    member_id: str


class GrantKey(msgspec.Struct, frozen=True, order=True):
    group: str
    partition: PartitionId


class OffsetKey(msgspec.Struct, frozen=True, order=True):
    group: str
    partition: PartitionId


class ClassicKey(msgspec.Struct, frozen=True, order=True):
    group: str


class ToldKey(msgspec.Struct, frozen=True, order=True):
    group: str
    member_id: str


Key = GroupKey | MemberKey | GrantKey | OffsetKey | ClassicKey | ToldKey


class GroupFact(msgspec.Struct, frozen=True, kw_only=True):
    """A group, whoever its members are."""

    generation: int
    """Rises with each change of members or owners."""
    emptied_ms: int = 0
    """Unix time at which the last member went; 0 while there are members."""
    seen: dict[str, int] = {}
    """Topic id -> partitions it had when they were last shared out: those beyond are new to the group."""


class MemberFact(msgspec.Struct, frozen=True, kw_only=True):
    """A member, with the subscription it joined with."""

    topics: tuple[str, ...]
    pattern: str | None = None
    session_timeout_ms: int
    joined_ms: int
    instance_id: str = ""
    client_id: str = ""
    host: str = ""
    replaced: tuple[str, ...] = ()
    """Member ids of earlier processes of this instance, newest last: they are out for good."""


class GrantFact(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns a partition, and since which generation. The owner may be gone: then it is free."""

    member_id: str
    generation: int
    grown: bool = False
    """The partition was new in a topic that the group was reading already, and nothing has been stored for it."""


class OffsetFact(msgspec.Struct, frozen=True, kw_only=True):
    """How far the group has come in a partition: the next offset to read."""

    offset: int
    stored_ms: int
    metadata: str = ""


class ClassicMember(msgspec.Struct, frozen=True, kw_only=True):
    """A Kafka client that is a member of a group."""

    member_id: str
    instance_id: str = ""
    client_id: str = ""
    host: str = ""
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    """Name and what the member tells the others by it."""
    assignment: bytes = b""
    """What it has, as the leader of its group said."""


class ClassicFact(msgspec.Struct, frozen=True, kw_only=True):
    """A group of Kafka clients, in its present generation."""

    generation: int
    protocol_type: str
    protocol: str = ""
    leader: str = ""
    members: tuple[ClassicMember, ...] = ()
    is_assigned: bool = False
    """Did the leader say who has what?"""
    emptied_ms: int = 0
    """Unix time at which the last member went; 0 while there are members."""


Places = dict[str, dict[str, int]]
"""Topic id -> partition's number, as text -> the epoch under which the member was told of it."""


class ToldFact(msgspec.Struct, frozen=True, kw_only=True):
    """What a member was told that speaks Kafka's server-side protocol. Only such members have one."""

    epoch: int
    """A generation of the group: with each thing that the member is told anew it is a higher one."""
    known: int
    """An earlier epoch that the member has shown to know: it may not have heard of `epoch` yet."""
    rebalance_timeout_ms: int
    assigned: Places = {}
    """What it is to have, in the epoch told last."""
    revoking: Places = {}
    """What it was told to give up, and may have still."""


Value = GroupFact | MemberFact | GrantFact | OffsetFact | ClassicFact | ToldFact
Change = tuple[Key, Value | None]
"""A key and its whole new value; None deletes it."""

_KINDS: dict[str, tuple[type[Key], type[Value]]] = {
    "group": (GroupKey, GroupFact),
    "member": (MemberKey, MemberFact),
    "grant": (GrantKey, GrantFact),
    "offset": (OffsetKey, OffsetFact),
    "classic": (ClassicKey, ClassicFact),
    "told": (ToldKey, ToldFact),
}
_DECODERS = {kind: msgspec.json.Decoder(value) for kind, (_, value) in _KINDS.items()}
_encode = msgspec.json.Encoder(order="deterministic").encode


def encode_key(key: Key) -> bytes:
    match key:
        case GroupKey(group):
            text = f"group/{group}"
        case MemberKey(group, member_id):
            text = f"member/{member_id}/{group}"
        case GrantKey(group, partition):
            text = f"grant/{partition.topic_id}/{partition.number}/{group}"
        case OffsetKey(group, partition):
            text = f"offset/{partition.topic_id}/{partition.number}/{group}"
        case ClassicKey(group):
            text = f"classic/{group}"
        case ToldKey(group, member_id):
            text = f"told/{member_id}/{group}"
    return text.encode()


def encode_value(value: Value) -> bytes:
    """As JSON; the same fact gives the same bytes."""
    return _encode(value)


def decode(key: bytes | None, value: bytes | None) -> Change:
    """What one record says.

    Raises
        UnreadableFact  a key of an unknown kind, or a value that is not what its key promises
    """
    try:
        kind, _, rest = (key or b"").decode().partition("/")
        match kind:
            case "group":
                found: Key = GroupKey(rest)
            case "classic":
                found = ClassicKey(rest)
            case "member" | "told":
                member_id, _, group = rest.partition("/")
                found = MemberKey(group, member_id) if kind == "member" else ToldKey(group, member_id)
            case "grant" | "offset":
                topic_id, number, group = rest.split("/", 2)
                partition = PartitionId(topic_id, int(number))
                found = GrantKey(group, partition) if kind == "grant" else OffsetKey(group, partition)
            case _:
                raise UnreadableFact(f"keys like {key!r:.80} are not known")
        return found, None if value is None else _DECODERS[kind].decode(value)
    except (ValueError, *UNDECODABLE) as error:
        raise UnreadableFact(f"record {key!r:.80}: {error}") from None


def encode_batch(changes: Iterable[Change], timestamp_ms: int) -> bytes:
    """The changes as one RecordBatch v2: they are committed, and applied, together."""
    records = [
        record_batch.NewRecord(
            timestamp_ms=timestamp_ms,
            key=encode_key(key),
            value=None if value is None else encode_value(value),
            headers=(),
        )
        for key, value in changes
    ]
    return record_batch.encode(records, compression=record_batch.Compression.LZ4)
