"""Errors as Kafka's clients hear them: codes come from the one table, `proto/errors.py`."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ...proto.errors import (
    BrokerUnavailable,
    LograftError,
    NoLeader,
    NotLeader,
    Overloaded,
    RequestTimedOut,
    UnknownOutcome,
)

NONE = 0
LEADER_NOT_AVAILABLE = 5
NOT_LEADER_OR_FOLLOWER = 6
COORDINATOR_LOAD_IN_PROGRESS = 14
COORDINATOR_NOT_AVAILABLE = 15
NOT_COORDINATOR = 16
INVALID_REQUIRED_ACKS = 21
INVALID_REQUEST = 42
TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
FETCH_SESSION_ID_NOT_FOUND = 70
MESSAGE_CHARACTERS_MAX = 500
_RETRIED_BY_FETCHERS = frozenset((NOT_LEADER_OR_FOLLOWER, 56, 74, 75))


def code_of(error: LograftError) -> int:
    return error.kafka_code


def partition_code(error: LograftError) -> int:
    """For a partition of Produce, Fetch and ListOffsets: clients take BROKER_NOT_AVAILABLE for the end there."""
    return NOT_LEADER_OR_FOLLOWER if isinstance(error, BrokerUnavailable | NoLeader) else code_of(error)


def fetch_code(error: LograftError) -> int:
    """For a partition of Fetch: Java's consumer ends at any code that Kafka's brokers never give there."""
    code = partition_code(error)
    return NOT_LEADER_OR_FOLLOWER if error.retriable and code not in _RETRIED_BY_FETCHERS else code


def coordinator_code(error: LograftError) -> int:
    """As clients of a group take it: whatever may pass, or be better elsewhere, has them look for the coordinator."""
    if isinstance(error, NotLeader | NoLeader | UnknownOutcome | BrokerUnavailable | RequestTimedOut | Overloaded):
        return NOT_COORDINATOR
    return code_of(error)


def stored_code(refusal: LograftError | None) -> int:
    """For one partition of OffsetCommit: Java's consumer ends at any code that Kafka's coordinators never give there,
    and asks the same coordinator again at this one."""
    if refusal is None:
        return NONE
    return COORDINATOR_LOAD_IN_PROGRESS if refusal.retriable else code_of(refusal)


def name_of(code: int) -> str:
    """As Kafka's documentation calls it; OK if it is no error."""
    return "OK" if code == NONE else ErrorCode(code).name.upper()


def message_of(error: LograftError) -> str:
    """For a field that is there to be read by people."""
    return error.message[:MESSAGE_CHARACTERS_MAX].encode("utf-8", "replace").decode()
