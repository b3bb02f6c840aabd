"""`AdminService.RecoverPartition`, at the controller: judge, explain, and decide what an operator has accepted.

Invariants
    what is decided is what was explained: it is judged anew, and refused if the answer is another one
"""

from __future__ import annotations

from lograft.v1 import admin_service_pb2 as pb

from ...partitions.environment import PartitionId
from ...proto.errors import InvalidRequest
from ..controller.controller import Controller
from ..controller.facts import RecoveryFact, TopicFact
from ..holdings import Holdings
from ..recovery_plan import plan
from ..replicas import partition_of

BY_LENGTH_MAX = 200


async def recover_partition(
    controller: Controller, holdings: Holdings, topic: TopicFact, request: pb.RecoverPartitionRequest
) -> pb.RecoverPartitionResponse:
    """Raises UnknownPartition; InvalidRequest with the reason, if it is accepted and must not be."""
    partition: PartitionId = partition_of(topic, request.partition.partition)
    what = f"partition {partition.number} of {topic.name!r}"
    if len(request.by) > BY_LENGTH_MAX:
        raise InvalidRequest(f"who accepts the loss is told in {len(request.by)} characters, above {BY_LENGTH_MAX}")
    fact = topic.partitions[partition.number]
    number = 1 if fact.recovery is None else fact.recovery.number + 1
    if request.accept_loss and fact.recovery is not None:
        known = fact.recovery
        decided = (known.number, known.by, known.source.broker_id)
        if decided == (request.recovery, request.by, request.source_broker_id):
            return pb.RecoverPartitionResponse(  # asked again, as the answer was lost
                source_broker_id=request.source_broker_id,
                kept_offset=known.kept_offset,
                lost_offset=known.lost_offset,
                recovery=known.number,
            )
    found = await holdings.of_all(partition)
    judged = plan(
        what,
        fact,
        found.holdings,
        alive=found.alive,
        unanswered=found.unanswered,
        from_broker=request.broker_id if request.HasField("broker_id") else None,
        despite_repair=request.despite_repair,
    )
    response = pb.RecoverPartitionResponse(
        refusal=judged.refusal,
        explanation=judged.lines,
        source_broker_id=-1 if judged.source is None else judged.source.voter.broker_id,
        kept_offset=judged.kept_offset,
        lost_offset=judged.lost_offset,
        unknown_broker_ids=judged.unknown_brokers,
        recovery=number,
    )
    if not request.accept_loss:
        return response
    if judged.refusal or judged.source is None:
        raise InvalidRequest(judged.refusal)
    accepted = (request.source_broker_id, request.kept_offset, request.recovery)
    if accepted != (response.source_broker_id, response.kept_offset, number):
        raise InvalidRequest(
            f"{what} is not as it was when the loss was accepted: the log of broker {response.source_broker_id} would "
            f"go on now, up to {response.kept_offset}; look at it again"
        )
    await controller.recover_partition(
        topic.name,
        partition.number,
        fact,
        judged.source.voter,
        term_seen=max(holding.term for holding in found.holdings),
        kept_offset=judged.kept_offset,
        lost_offset=judged.lost_offset,
        unknown_brokers=judged.unknown_brokers,
        by=request.by,
    )
    return response


def described_recovery(recovery: RecoveryFact) -> pb.PartitionRecovery:
    return pb.PartitionRecovery(
        number=recovery.number,
        broker_id=recovery.source.broker_id,
        decided_ms=recovery.decided_ms,
        by=recovery.by,
        kept_offset=recovery.kept_offset,
        lost_offset=recovery.lost_offset,
        unknown_broker_ids=recovery.unknown_brokers,
    )
