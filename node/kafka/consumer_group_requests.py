"""Groups in which the broker shares out (KIP-848): what their members ask, and what operators are told of them.

Invariants
    partitions go by topic id here; the name is looked up only to be told to people
    a member id may be any text of a client's: the coordinator knows it by its `inner_id`
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid4

from ...partitions.environment import PartitionId
from ...proto.errors import InvalidRequest, LograftError, UnknownGroup
from ..groups.consumer_calls import (
    MEMBER_ID_LENGTH_MAX,
    ConsumerDescription,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    inner_id,
)
from ..groups.consumer_members import ASSIGNOR
from ..groups.coordinators import Coordinators
from ..rpc.limits import PARTITIONS_PER_REQUEST_MAX, check_count
from .codec import milliseconds
from .errors import NONE, coordinator_code, message_of
from .requests import Call

Told = Mapping[str, Any]

GROUPS_MAX = 1_000
"""That one request may name."""
_OWN_ID_FROM = 1
_UNKNOWN_KIND, _OF_THIS_PROTOCOL = -1, 1


class ConsumerGroupRequests:
    def __init__(self, coordinators: Coordinators) -> None:
        self._coordinators = coordinators

    async def consumer_group_heartbeat(self, request: Any, call: Call) -> Told:
        member_id = request.member_id
        told: dict[str, Any] = {
            "error_code": NONE,
            "error_message": None,
            "member_id": member_id,
            "member_epoch": request.member_epoch,
            "heartbeat_interval": 0,
            "assignment": None,
        }
        try:
            if not member_id and call.version < _OWN_ID_FROM and request.member_epoch == 0:
                member_id = told["member_id"] = str(uuid4())
            answer = await self._coordinators.of(request.group_id).consumer_heartbeat(_asked(request, member_id, call))
        except LograftError as error:
            return told | {"error_code": coordinator_code(error), "error_message": message_of(error)}
        assignment = None if answer.assigned is None else {"topic_partitions": _by_topic(answer.assigned)}
        return told | {
            "member_epoch": answer.epoch,
            "heartbeat_interval": answer.heartbeat_ms,
            "assignment": assignment,
        }

    async def consumer_group_describe(self, request: Any, call: Call) -> Told:
        names = [*dict.fromkeys(request.group_ids)][:GROUPS_MAX]  # each once, as its answer may be a long one
        return {"groups": [await self._described(name) for name in names]}

    async def _described(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = {
            "error_code": NONE,
            "error_message": None,
            "group_id": name,
            "group_state": "",
            "group_epoch": -1,
            "assignment_epoch": -1,
            "assignor_name": "",
            "members": (),
        }
        try:
            described = await self._coordinators.of(name).describe_consumers(name)
            if described is None:
                # Then clients ask by DescribeGroups.
                raise UnknownGroup(f"group {name!r:.80} is one whose members share out among themselves")
        except LograftError as error:
            return told | {"error_code": coordinator_code(error), "error_message": message_of(error)}
        return told | {
            "group_state": described.condition,
            "group_epoch": described.generation,
            "assignment_epoch": described.generation,
            "assignor_name": ASSIGNOR,
            "members": [_member(one) for one in described.members],
        }


def in_classic_words(described: ConsumerGroupDescription) -> dict[str, Any]:
    """For clients that ask by DescribeGroups: what members have, as classic ones would tell each other."""
    state = described.condition
    return {
        "group_state": "PreparingRebalance" if state in ("Assigning", "Reconciling") else state,
        "protocol_type": "consumer",
        "protocol_data": ASSIGNOR,
        "members": [
            {
                "member_id": unquote(one.member_id),
                "group_instance_id": one.instance_id or None,
                "client_id": one.client_id,
                "client_host": one.host,
                "member_metadata": _classic_subscription(one.topics),
                "member_assignment": _classic_assignment(one.assigned),
            }
            for one in described.members
        ],
    }


def _classic_subscription(topics: tuple[str, ...]) -> bytes:
    """ConsumerProtocolSubscription, version 0: topics, and no user data."""
    return b"".join((struct.pack(">hi", 0, len(topics)), *map(_text, topics), b"\xff\xff\xff\xff"))


def _classic_assignment(partitions: Iterable[tuple[PartitionId, str]]) -> bytes:
    """ConsumerProtocolAssignment, version 0: topics with numbers, and no user data."""
    numbers: dict[str, list[int]] = {}
    for partition, name in partitions:
        numbers.setdefault(name, []).append(partition.number)
    topics = (_text(name) + struct.pack(f">i{len(some)}i", len(some), *some) for name, some in numbers.items())
    return b"".join((struct.pack(">hi", 0, len(numbers)), *topics, b"\xff\xff\xff\xff"))


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


def _asked(request: Any, member_id: str, call: Call) -> ConsumerHeartbeat:
    """Raises InvalidRequest."""
    if not 0 < len(member_id) <= MEMBER_ID_LENGTH_MAX:
        raise InvalidRequest(f"A member draws an id of 1 to {MEMBER_ID_LENGTH_MAX} characters; this one has none such")
    owned = None
    if request.topic_partitions is not None:
        check_count(
            sum(len(one.partitions) for one in request.topic_partitions), PARTITIONS_PER_REQUEST_MAX, "partitions"
        )
        owned = frozenset(
            PartitionId(one.topic_id.hex, number)
            for one in request.topic_partitions
            if one.topic_id is not None
            for number in one.partitions
        )
    names = request.subscribed_topic_names
    return ConsumerHeartbeat(
        group=request.group_id,
        member_id=inner_id(member_id),
        epoch=request.member_epoch,
        instance_id=request.instance_id or "",
        rebalance_timeout_ms=milliseconds(request.rebalance_timeout),
        topics=None if names is None else tuple(names),
        pattern=getattr(request, "subscribed_topic_regex", None),
        assignor=request.server_assignor or "",
        owned=owned,
        client_id=call.client_id,
        host=call.host,
    )


def _by_topic(partitions: Iterable[PartitionId]) -> list[dict[str, Any]]:
    numbers: dict[str, list[int]] = {}
    for partition in partitions:
        numbers.setdefault(partition.topic_id, []).append(partition.number)
    return [{"topic_id": UUID(hex=topic_id), "partitions": found} for topic_id, found in numbers.items()]


def _named(partitions: Iterable[tuple[PartitionId, str]]) -> dict[str, Any]:
    partitions = tuple(partitions)
    names = {partition.topic_id: name for partition, name in partitions}
    by_topic = _by_topic(partition for partition, _ in partitions)
    return {"topic_partitions": [one | {"topic_name": names[one["topic_id"].hex]} for one in by_topic]}


def _member(one: ConsumerDescription) -> dict[str, Any]:
    return {
        "member_id": unquote(one.member_id),
        "instance_id": one.instance_id or None,
        "rack_id": None,
        "member_epoch": one.epoch,
        "client_id": one.client_id,
        "client_host": one.host,
        "subscribed_topic_names": one.topics,
        "subscribed_topic_regex": one.pattern,
        "assignment": _named(one.assigned),
        "target_assignment": _named(one.target),
        "member_type": _OF_THIS_PROTOCOL if one.speaks_kafka else _UNKNOWN_KIND,
    }
