"""The one table of errors: exception, gRPC status, Kafka code, and whether trying again can help.

Raised where the fact is known, translated once at the edge, never parsed from text. `reason` is the word on the wire
(`ErrorInfo.reason`, `PartitionError.reason`); `facts` travel beside it, and `raised_from` makes the exception of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises at bytes that others wrote: no such value, text that is no UTF-8, nesting without end."""


class LograftError(Exception):
    """Anything lograft refuses or fails at. `str()` is one sentence: the thing, the limit, the remedy."""

    reason: ClassVar[str] = "INTERNAL"
    grpc_status: ClassVar[str] = "INTERNAL"
    kafka_code: ClassVar[int] = -1
    retriable: ClassVar[bool] = False

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, str] = {name: str(fact) for name, fact in facts.items() if fact is not None}


class NotLeader(LograftError):
    """Another broker leads this partition. Facts: leader_id, leader_address, term, as far as they are known."""

    reason, grpc_status, kafka_code, retriable = "NOT_LEADER", "FAILED_PRECONDITION", 6, True


class NoLeader(LograftError):
    """No broker leads this partition as far as the answering one knows; an election takes well under a second."""

    reason, grpc_status, kafka_code, retriable = "NO_LEADER", "UNAVAILABLE", 5, True


class FencedTerm(LograftError):
    """The client knows an older leader than this one, and is to ask who leads now. Facts: term."""

    reason, grpc_status, kafka_code, retriable = "FENCED_TERM", "FAILED_PRECONDITION", 74, True


class UnknownTerm(LograftError):
    """The client knows a newer leader than this one. Facts: term."""

    reason, grpc_status, kafka_code, retriable = "UNKNOWN_TERM", "FAILED_PRECONDITION", 75, True


class UnknownOutcome(LograftError):
    """Leadership or contact was lost while the request was under way: it may have been carried out, or may yet be."""

    reason, grpc_status, kafka_code, retriable = "UNKNOWN_OUTCOME", "UNAVAILABLE", 7, True


class RequestTimedOut(LograftError):
    """The deadline passed. What was asked may still happen."""

    reason, grpc_status, kafka_code, retriable = "TIMED_OUT", "DEADLINE_EXCEEDED", 7, True


class Overloaded(LograftError):
    """The broker holds as many bytes in flight as it may; wait and send again."""

    reason, grpc_status, kafka_code, retriable = "OVERLOADED", "RESOURCE_EXHAUSTED", 89, True


class DiskFull(LograftError):
    """Produce is refused before the disk is full, so that replication and deletion still have room."""

    reason, grpc_status, kafka_code, retriable = "DISK_FULL", "RESOURCE_EXHAUSTED", 56, True


class ReplicaDamaged(LograftError):
    """This replica's stored bytes are unreadable; it does not lead until it is repaired."""

    reason, grpc_status, kafka_code, retriable = "REPLICA_DAMAGED", "UNAVAILABLE", 56, True


class BrokerUnavailable(LograftError):
    """No broker could be reached, or the one asked is stopping."""

    reason, grpc_status, kafka_code, retriable = "UNAVAILABLE", "UNAVAILABLE", 8, True


class UnknownTopic(LograftError):
    reason, grpc_status, kafka_code, retriable = "UNKNOWN_TOPIC", "NOT_FOUND", 3, False


class UnknownTopicId(LograftError):
    """The topic was deleted, and another may have taken its name."""

    reason, grpc_status, kafka_code, retriable = "UNKNOWN_TOPIC_ID", "NOT_FOUND", 100, False


class UnknownPartition(LograftError):
    reason, grpc_status, kafka_code, retriable = "UNKNOWN_PARTITION", "NOT_FOUND", 3, False


class TopicExists(LograftError):
    reason, grpc_status, kafka_code, retriable = "TOPIC_EXISTS", "ALREADY_EXISTS", 36, False


class InvalidTopic(LograftError):
    """A name that no topic may have."""

    reason, grpc_status, kafka_code, retriable = "INVALID_TOPIC", "INVALID_ARGUMENT", 17, False


class InvalidPartitions(LograftError):
    reason, grpc_status, kafka_code, retriable = "INVALID_PARTITIONS", "INVALID_ARGUMENT", 37, False


class InvalidReplication(LograftError):
    reason, grpc_status, kafka_code, retriable = "INVALID_REPLICATION", "INVALID_ARGUMENT", 38, False


class InvalidConfig(LograftError):
    """A setting that does not exist, or a value it cannot have."""

    reason, grpc_status, kafka_code, retriable = "INVALID_CONFIG", "INVALID_ARGUMENT", 40, False


class InvalidRequest(LograftError):
    reason, grpc_status, kafka_code, retriable = "INVALID_REQUEST", "INVALID_ARGUMENT", 42, False


class VotersUnchanged(LograftError):
    """The voters of a partition cannot be changed so just now; nothing was done."""

    reason, grpc_status, kafka_code, retriable = "VOTERS_UNCHANGED", "FAILED_PRECONDITION", 7, True


class CorruptBatch(LograftError):
    """Bytes that are no whole RecordBatch v2, or do not match their CRC. Facts: what, position."""

    reason, grpc_status, kafka_code, retriable = "CORRUPT_BATCH", "INVALID_ARGUMENT", 2, False


class InvalidRecord(LograftError):
    """A whole batch whose contents contradict each other: counts, offsets, flags a client may not set."""

    reason, grpc_status, kafka_code, retriable = "INVALID_RECORD", "INVALID_ARGUMENT", 87, False


class StaleProducer(LograftError):
    """A producer's batch in an epoch that it has left behind. Nothing was appended. Facts: producer_id, epoch, got."""

    reason, grpc_status, kafka_code, retriable = "STALE_PRODUCER", "FAILED_PRECONDITION", 47, False


class UnsupportedCompression(LograftError):
    reason, grpc_status, kafka_code, retriable = "UNSUPPORTED_COMPRESSION", "INVALID_ARGUMENT", 76, False


class BatchTooLarge(LograftError):
    """Facts: size, limit (bytes)."""

    reason, grpc_status, kafka_code, retriable = "BATCH_TOO_LARGE", "INVALID_ARGUMENT", 10, False


class OffsetOutOfRange(LograftError):
    """Facts: offset, start, end."""

    reason, grpc_status, kafka_code, retriable = "OFFSET_OUT_OF_RANGE", "OUT_OF_RANGE", 1, False


class OutOfOrderSequence(LograftError):
    """A gap in a producer's sequence: an earlier batch has not arrived. Nothing was appended. Facts: expected, got."""

    reason, grpc_status, kafka_code, retriable = "OUT_OF_ORDER_SEQUENCE", "FAILED_PRECONDITION", 45, True


class InvalidGroup(LograftError):
    """A name that no group, member or instance may have."""

    reason, grpc_status, kafka_code, retriable = "INVALID_GROUP", "INVALID_ARGUMENT", 24, False


class InvalidSession(LograftError):
    """A session time-out outside the bounds. Facts: limit_min, limit_max (ms)."""

    reason, grpc_status, kafka_code, retriable = "INVALID_SESSION", "INVALID_ARGUMENT", 26, False


class UnknownGroup(LograftError):
    """The group has neither members nor stored offsets."""

    reason, grpc_status, kafka_code, retriable = "UNKNOWN_GROUP", "NOT_FOUND", 69, False


class UnknownMember(LograftError):
    """Not a member of the group, or no longer: its session ended, or it left. It may join again."""

    reason, grpc_status, kafka_code, retriable = "UNKNOWN_MEMBER", "FAILED_PRECONDITION", 25, False


class FencedInstance(LograftError):
    """A newer process of the same instance id has taken over; this one is out for good."""

    reason, grpc_status, kafka_code, retriable = "FENCED_INSTANCE", "FAILED_PRECONDITION", 82, False


class LostGrant(LograftError):
    """The partition is not the sender's, or was granted anew (another owner, a seek) since the record was fetched.

    Facts: generation (of the grant in force, if there is one); outcome=unknown if an earlier try got no answer, and may
    have stored what it was to store.
    """

    reason, grpc_status, kafka_code, retriable = "LOST_GRANT", "FAILED_PRECONDITION", 22, False


class InconsistentGroup(LograftError):
    """The group's members are clients of another kind, or share partitions out in another way."""

    reason, grpc_status, kafka_code, retriable = "INCONSISTENT_GROUP", "FAILED_PRECONDITION", 23, False


class IllegalGeneration(LograftError):
    """Partitions were shared out anew since; join again. Facts: generation."""

    reason, grpc_status, kafka_code, retriable = "ILLEGAL_GENERATION", "FAILED_PRECONDITION", 22, False


class RebalanceInProgress(LograftError):
    """Partitions are being shared out anew; join again."""

    reason, grpc_status, kafka_code, retriable = "REBALANCE_IN_PROGRESS", "FAILED_PRECONDITION", 27, False


class FencedEpoch(LograftError):
    """The member's epoch is not the one that it was told last: it is to give up all that it has, and join anew.

    Facts: epoch.
    """

    reason, grpc_status, kafka_code, retriable = "FENCED_EPOCH", "FAILED_PRECONDITION", 110, False


class UnreleasedInstance(LograftError):
    """A member of the same instance id is there still."""

    reason, grpc_status, kafka_code, retriable = "UNRELEASED_INSTANCE", "FAILED_PRECONDITION", 111, False


class UnsupportedAssignor(LograftError):
    reason, grpc_status, kafka_code, retriable = "UNSUPPORTED_ASSIGNOR", "INVALID_ARGUMENT", 112, False


class StaleEpoch(LograftError):
    """The member did not have the partition in that epoch, or does no longer; nothing was stored. Facts: epoch."""

    reason, grpc_status, kafka_code, retriable = "STALE_EPOCH", "FAILED_PRECONDITION", 113, False


class InvalidPattern(LograftError):
    """No regular expression that brokers match."""

    reason, grpc_status, kafka_code, retriable = "INVALID_PATTERN", "INVALID_ARGUMENT", 128, False


class MemberIdRequired(LograftError):
    """Join again, under the id that is given. Facts: member_id."""

    reason, grpc_status, kafka_code, retriable = "MEMBER_ID_REQUIRED", "FAILED_PRECONDITION", 79, False


class GroupNotEmpty(LograftError):
    """Only a group without members can be deleted, or have offsets stored by who is no member. Facts: members."""

    reason, grpc_status, kafka_code, retriable = "GROUP_NOT_EMPTY", "FAILED_PRECONDITION", 68, False


class StillSubscribed(LograftError):
    """Members of the group subscribe to the topic, or have partitions of it still: their offsets are in use."""

    reason, grpc_status, kafka_code, retriable = "STILL_SUBSCRIBED", "FAILED_PRECONDITION", 86, False


class GroupFull(LograftError):
    """Facts: members, limit."""

    reason, grpc_status, kafka_code, retriable = "GROUP_FULL", "RESOURCE_EXHAUSTED", 81, False


class OffsetMetadataTooLarge(LograftError):
    """Facts: size, limit (bytes)."""

    reason, grpc_status, kafka_code, retriable = "OFFSET_METADATA_TOO_LARGE", "INVALID_ARGUMENT", 12, False


class HandlingTooLong(LograftError):
    """Raised by a consumer that did not ask for records within `max_handling_s`: its partitions went to others.

    Facts: limit_s.
    """

    reason, grpc_status, kafka_code, retriable = "HANDLING_TOO_LONG", "DEADLINE_EXCEEDED", -1, False


class NewerFormat(LograftError):
    """A file was written by a later version, and is left untouched. Facts: file, found, known (format versions)."""

    reason, grpc_status, kafka_code, retriable = "NEWER_FORMAT", "FAILED_PRECONDITION", -1, False


class NotAuthorized(LograftError):
    reason, grpc_status, kafka_code, retriable = "NOT_AUTHORIZED", "PERMISSION_DENIED", 29, False


def _all_below(kind: type[LograftError]) -> list[type[LograftError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in _all_below(below))]


BY_REASON: dict[str, type[LograftError]] = {kind.reason: kind for kind in _all_below(LograftError)}


def raised_from(reason: str, message: str, facts: Mapping[str, str]) -> LograftError:
    """The exception that stands for an error received. An unknown reason gives a plain LograftError that names it."""
    kind = BY_REASON.get(reason)
    if kind is None:
        return LograftError(f"{reason}: {message}", **facts)
    return kind(message, **facts)
