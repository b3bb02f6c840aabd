"""What a Kafka client asks of the coordinator of its group, and is answered, as plain values."""

from __future__ import annotations

from typing import NamedTuple


class JoinGroup(NamedTuple):
    group: str
    member_id: str
    """Empty: a newcomer."""
    instance_id: str
    client_id: str
    host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    """Name and what goes with it, the preferred one first. The coordinator does not look into them."""
    needs_known_id: bool
    """Can the client be told its member id first (JoinGroup 4)?"""
    can_skip_assignment: bool
    """Can a leader be told that nothing is to be shared out (JoinGroup 9)?"""


class Joined(NamedTuple):
    """The answer to a member that is in."""

    generation: int
    protocol_type: str
    protocol: str
    leader: str
    member_id: str
    members: tuple[tuple[str, str, bytes], ...]
    """Member id, instance id and what goes with the protocol; for the leader alone."""
    skip_assignment: bool = False


class SyncGroup(NamedTuple):
    group: str
    member_id: str
    instance_id: str
    generation: int
    protocol_type: str | None
    protocol: str | None
    assignments: tuple[tuple[str, bytes], ...]
    """Member id and what it is to have; from the leader alone."""


class Synced(NamedTuple):
    protocol_type: str
    protocol: str
    assignment: bytes


class Leaver(NamedTuple):
    member_id: str
    instance_id: str


class ClassicMemberDescription(NamedTuple):
    member_id: str
    instance_id: str
    client_id: str
    host: str
    metadata: bytes
    assignment: bytes
    session_timeout_ms: int


class ClassicDescription(NamedTuple):
    state: str
    """In Kafka's words: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead."""
    protocol_type: str
    protocol: str
    members: tuple[ClassicMemberDescription, ...]
