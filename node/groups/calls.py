"""What is asked of a coordinator and what it answers, as plain values: the servicer translates, nothing else does."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ...partitions.environment import PartitionId


class Granted(NamedTuple):
    """A partition as it was granted: taken up once, given back once."""

    partition: PartitionId
    generation: int


class Join(NamedTuple):
    """What a member subscribes to, and how long it may be silent."""

    topics: tuple[str, ...]
    pattern: str | None
    """Regular expression that whole names match; internal topics never do."""
    session_timeout_ms: int
    instance_id: str = ""
    client_id: str = ""
    host: str = ""
    may_be_empty: bool = False
    """May it subscribe to nothing? Kafka clients do that until a topic that they look for is there."""


class Heartbeat(NamedTuple):
    """One heartbeat of a member; see HeartbeatRequest."""

    group: str
    member_id: str
    join: Join | None = None
    owned: frozenset[Granted] = frozenset()
    giving_up: frozenset[Granted] = frozenset()
    released: frozenset[Granted] = frozenset()
    leave: bool = False
    leave_reason: str = ""
    max_wait_ms: int = 0


class GrantTold(NamedTuple):
    """A grant, with what its owner needs to begin."""

    granted: Granted
    topic: str
    """Name; empty if the topic is gone."""
    grown: bool
    """The partition came to a topic that the group was reading already, and nothing is stored: begin at its start."""


class HeartbeatAnswer(NamedTuple):
    """See HeartbeatResponse."""

    generation: int
    grants: tuple[GrantTold, ...] = ()
    revoked: tuple[GrantTold, ...] = ()
    unknown_topics: tuple[str, ...] = ()


class OffsetToStore(NamedTuple):
    """One entry of a store; see StoreOffsetsRequest.Entry."""

    topic: str
    number: int
    topic_id: str
    offset: int
    metadata: str
    generation: int


class FetchedOffset(NamedTuple):
    """What is stored for a partition; offset -1 if nothing is."""

    topic: str
    number: int
    topic_id: str
    offset: int
    metadata: str
    stored_ms: int


class SeekTarget(NamedTuple):
    """Where a group is to go on in one partition."""

    topic: str
    number: int
    topic_id: str
    offset: int


class Seeked(NamedTuple):
    """What became of a seek: the generation of the grants made anew (0 if none was), and their number."""

    generation: int
    regranted: int


class Unread(NamedTuple):
    """How far a reader is behind in one partition, by its leader."""

    start_offset: int
    committed_offset: int
    timestamp_ms: int
    """Of the next record to read; -1 if there is none."""
    age_ms: int
    """Of that record, by the leader's clock; 0 if there is none."""


class Condition(Enum):
    """In which state a group is."""

    EMPTY = "empty"
    """No members; only stored offsets."""
    STABLE = "stable"
    """Every partition is where it should be."""
    MOVING = "moving"
    """Some partitions are on their way from one member to another."""


class GroupListed(NamedTuple):
    group: str
    condition: Condition
    members: int
    partitions: int
    topics: tuple[str, ...]
    is_shared_out_here: bool = False
    """By the coordinator, and not by its members among themselves."""


class MemberDescription(NamedTuple):
    member_id: str
    instance_id: str
    client_id: str
    host: str
    topics: tuple[str, ...]
    pattern: str | None
    partitions: int
    session_timeout_ms: int
    heard_ms_ago: int
    """-1: not yet, by this coordinator."""
    joined_ms: int


class PartitionDescription(NamedTuple):
    """One partition of a group. Lag is between the stored offset (without one: the start) and the committed end."""

    topic: str
    number: int
    topic_id: str
    member_id: str
    """Empty: nobody owns it."""
    generation: int
    next_member_id: str
    """Who gets it once the owner has given it up; empty if it stays."""
    stored_offset: int
    metadata: str
    stored_ms: int
    start_offset: int
    committed_offset: int
    """-1, as the start: the leader could not be asked."""
    lag_records: int
    """-1: not known."""
    lag_seconds: float
    """Age of the next unread record; 0 if there is none, -1 if not known."""


class GroupDescription(NamedTuple):
    group: str
    condition: Condition
    generation: int
    members: tuple[MemberDescription, ...]
    partitions: tuple[PartitionDescription, ...]
