"""What is said of partitions whose majority was lost for good, and given up."""

from __future__ import annotations

from dataclasses import dataclass

from lograft.v1 import admin_service_pb2


@dataclass(frozen=True, slots=True)
class PartitionRecovery:
    """A decision of an operator to go on with one replica's log."""

    number: int
    """From 1."""
    broker_id: int
    """Whose log went on."""
    decided_ms: int
    by: str
    kept_offset: int
    """Where that log ended."""
    lost_offset: int
    """The highest end that a replica in touch was known to have held then; between the two it is lost."""
    unknown_broker_ids: tuple[int, ...]
    """Brokers that could not be asked: what they alone held is lost too."""


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What a recovery would do."""

    refusal: str
    """Why it must not be, and what to do instead; empty if it may."""
    explanation: tuple[str, ...]
    """What is known, a sentence each, what matters first."""
    source_broker_id: int
    """Whose log would go on; -1: there is none that could."""
    kept_offset: int
    lost_offset: int
    unknown_broker_ids: tuple[int, ...]
    recovery: int
    """Its number."""


def plan_of(told: admin_service_pb2.RecoverPartitionResponse) -> RecoveryPlan:
    return RecoveryPlan(
        told.refusal,
        tuple(told.explanation),
        told.source_broker_id,
        told.kept_offset,
        told.lost_offset,
        tuple(told.unknown_broker_ids),
        told.recovery,
    )


def recovery_of(partition: admin_service_pb2.PartitionDescription) -> PartitionRecovery | None:
    if not partition.HasField("recovery"):
        return None
    told = partition.recovery
    return PartitionRecovery(
        told.number,
        told.broker_id,
        told.decided_ms,
        told.by,
        told.kept_offset,
        told.lost_offset,
        tuple(told.unknown_broker_ids),
    )
