"""What a member asks by Kafka's server-side protocol (KIP-848), and is answered, as plain values."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple
from urllib.parse import quote

from ...partitions.environment import PartitionId

JOINING, LEAVING, AWAY = 0, -1, -2
"""Epochs with a meaning of their own. AWAY: a static member goes, and will be back."""
MEMBER_ID_LENGTH_MAX = 64


def inner_id(member_id: str) -> str:
    """The id under which the office knows the member: librdkafka draws base64, slashes and all. Native ids stay as they
    are, as they hold nothing that is to be quoted."""
    return quote(member_id[: MEMBER_ID_LENGTH_MAX + 1], safe="")


class ConsumerHeartbeat(NamedTuple):
    """One heartbeat. What is None, or -1, is as it was."""

    group: str
    member_id: str
    epoch: int
    instance_id: str = ""
    rebalance_timeout_ms: int = -1
    topics: tuple[str, ...] | None = None
    pattern: str | None = None
    """A regular expression that whole names match; empty: none (any more)."""
    assignor: str = ""
    owned: Set[PartitionId] | None = None
    client_id: str = ""
    host: str = ""

    @property
    def is_full(self) -> bool:
        """Does it say everything, as after an answer that was lost?"""
        subscribes = self.topics is not None or self.pattern is not None
        return self.rebalance_timeout_ms >= 0 and subscribes and self.owned is not None


class ConsumerTold(NamedTuple):
    epoch: int
    assigned: tuple[PartitionId, ...] | None = None
    """None: as it was told before."""
    heartbeat_ms: int = 0
    """When it is to be heard next."""


class ConsumerDescription(NamedTuple):
    """A member of a group in which the broker shares out."""

    member_id: str
    instance_id: str
    client_id: str
    host: str
    epoch: int
    topics: tuple[str, ...]
    pattern: str | None
    assigned: tuple[tuple[PartitionId, str], ...]
    """With the topic's name."""
    target: tuple[tuple[PartitionId, str], ...]
    speaks_kafka: bool


class ConsumerGroupDescription(NamedTuple):
    group: str
    generation: int
    condition: str
    """In Kafka's words: Empty, Assigning, Reconciling, Stable."""
    members: tuple[ConsumerDescription, ...]
