"""Groups of Kafka clients, and offsets that are stored: `node.groups` decides, this translates.

Invariants
    offsets are the same that native clients store and see
    who asks the wrong broker is told so by NOT_COORDINATOR, and changed nothing
    what one partition, or one group, of a request is refused for is told there, and fails nothing else
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from ...proto.errors import GroupNotEmpty, LograftError, UnknownGroup
from ..groups.calls import Condition, FetchedOffset, OffsetToStore
from ..groups.classic_calls import ClassicDescription, JoinGroup, Leaver, SyncGroup
from ..groups.consumer_calls import inner_id
from ..groups.coordinator import Coordinator
from ..groups.coordinators import Coordinators
from ..rpc.limits import CALL_SECONDS_MAX, PARTITIONS_PER_REQUEST_MAX, check_count
from .cluster_requests import ClusterRequests
from .codec import milliseconds
from .consumer_group_requests import in_classic_words
from .errors import (
    COORDINATOR_NOT_AVAILABLE,
    INVALID_REQUEST,
    NONE,
    NOT_COORDINATOR,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    code_of,
    coordinator_code,
    message_of,
    stored_code,
)
from .requests import Call

Told = Mapping[str, Any]
Got = TypeVar("Got")

GROUP_KEY_TYPE = 0
GROUPS_MAX = 1_000
"""That one request may name."""
LEAVERS_MAX = 1_000
"""Of one request: each is looked for among all members."""
GROUPS_PER_TURN = 50
"""Of a list of thousands, in one turn of the loop: a broker that is held up gives up its leads."""
_NO_GROUP_IS_AN_ERROR_FROM = 6
_KNOWN_ID_FROM, _SKIP_FROM, _BATCHED_LEAVE_FROM = 4, 9, 3
_BATCHED_FIND_FROM, _BATCHED_FETCH_FROM = 4, 8
_KINDS_FROM = 5


class GroupRequests:
    def __init__(self, coordinators: Coordinators, cluster: ClusterRequests) -> None:
        self._coordinators = coordinators
        self._cluster = cluster

    # -- where -------------------------------------------------------------------------------------------------------

    async def find_coordinator(self, request: Any, call: Call) -> Told:
        kind = getattr(request, "key_type", GROUP_KEY_TYPE)
        if call.version < _BATCHED_FIND_FROM:
            return self._place(request.key, kind)
        return {
            "coordinators": [self._place(key, kind) for key in request.coordinator_keys[:PARTITIONS_PER_REQUEST_MAX]]
        }

    def _place(self, key: str, kind: int) -> dict[str, Any]:
        told: dict[str, Any] = {"key": key, "node_id": -1, "host": "", "port": -1, "error_message": None}
        if kind != GROUP_KEY_TYPE:
            code = TRANSACTIONAL_ID_AUTHORIZATION_FAILED if kind == 1 else INVALID_REQUEST
            return told | {"error_code": code, "error_message": "there are no transactions here"}
        try:
            place = self._coordinators.place(key)
        except LograftError as error:
            code = COORDINATOR_NOT_AVAILABLE if error.retriable else code_of(error)
            return told | {"error_code": code, "error_message": message_of(error)}
        endpoint = self._cluster.endpoint(place.leader_id)
        if endpoint is None:
            return told | {
                "error_code": COORDINATOR_NOT_AVAILABLE,
                "error_message": f"broker {place.leader_id} has no door for Kafka clients that is known here",
            }
        return told | {"error_code": NONE, "node_id": place.leader_id, "host": endpoint[0], "port": endpoint[1]}

    # -- members -----------------------------------------------------------------------------------------------------

    async def join_group(self, request: Any, call: Call) -> Told:
        session_timeout_ms = milliseconds(request.session_timeout)
        rebalance_timeout = getattr(request, "rebalance_timeout", None)
        rebalance_timeout_ms = session_timeout_ms if rebalance_timeout is None else milliseconds(rebalance_timeout)
        asked = JoinGroup(
            group=request.group_id,
            member_id=request.member_id,
            instance_id=getattr(request, "group_instance_id", None) or "",
            client_id=call.client_id,
            host=call.host,
            session_timeout_ms=session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms if rebalance_timeout_ms > 0 else session_timeout_ms,
            protocol_type=request.protocol_type,
            protocols=tuple((one.name, bytes(one.metadata)) for one in request.protocols),
            needs_known_id=call.version >= _KNOWN_ID_FROM,
            can_skip_assignment=call.version >= _SKIP_FROM,
        )
        refused = {
            "generation_id": -1,
            "protocol_type": None,
            "protocol_name": None if call.version >= 7 else "",
            "leader": "",
            "member_id": request.member_id,
            "members": (),
        }
        try:
            joined = await self._coordinator(asked.group).join_group(asked)
        except LograftError as error:
            member_id = error.facts.get("member_id", request.member_id)
            return refused | {"error_code": coordinator_code(error), "member_id": member_id}
        return {
            "error_code": NONE,
            "generation_id": joined.generation,
            "protocol_type": joined.protocol_type,
            "protocol_name": joined.protocol,
            "leader": joined.leader,
            "skip_assignment": joined.skip_assignment,
            "member_id": joined.member_id,
            "members": [
                {"member_id": member_id, "group_instance_id": instance_id or None, "metadata": metadata}
                for member_id, instance_id, metadata in joined.members
            ],
        }

    async def sync_group(self, request: Any, call: Call) -> Told:
        asked = SyncGroup(
            group=request.group_id,
            member_id=request.member_id,
            instance_id=getattr(request, "group_instance_id", None) or "",
            generation=request.generation_id,
            protocol_type=getattr(request, "protocol_type", None),
            protocol=getattr(request, "protocol_name", None),
            assignments=tuple((one.member_id, bytes(one.assignment)) for one in request.assignments),
        )
        try:
            synced = await self._coordinator(asked.group).sync_group(asked)
        except LograftError as error:
            return {"error_code": coordinator_code(error), "assignment": b""}
        return {
            "error_code": NONE,
            "protocol_type": synced.protocol_type,
            "protocol_name": synced.protocol,
            "assignment": synced.assignment,
        }

    async def heartbeat(self, request: Any, call: Call) -> Told:
        instance_id = getattr(request, "group_instance_id", None) or ""
        try:
            await self._coordinator(request.group_id).classic_heartbeat(
                request.group_id, request.member_id, instance_id, request.generation_id
            )
        except LograftError as error:
            return {"error_code": coordinator_code(error)}
        return {"error_code": NONE}

    async def leave_group(self, request: Any, call: Call) -> Told:
        if call.version < _BATCHED_LEAVE_FROM:
            leavers = [Leaver(request.member_id, "")]
        else:
            leavers = [Leaver(one.member_id, one.group_instance_id or "") for one in request.members]
        try:
            check_count(len(leavers), LEAVERS_MAX, "members")
            results = await self._coordinator(request.group_id).leave_group(request.group_id, leavers)
        except LograftError as error:
            return {"error_code": coordinator_code(error), "members": ()}
        codes = [coordinator_code(one) if isinstance(one, LograftError) else NONE for one in results]
        if call.version < _BATCHED_LEAVE_FROM:
            return {"error_code": codes[0]}
        members = [
            {"member_id": leaver.member_id, "group_instance_id": leaver.instance_id or None, "error_code": code}
            for leaver, code in zip(leavers, codes, strict=True)
        ]
        return {"error_code": NONE, "members": members}

    # -- offsets -----------------------------------------------------------------------------------------------------

    async def offset_commit(self, request: Any, call: Call) -> Told:
        entries = [
            OffsetToStore(topic.name, one.partition_index, "", one.committed_offset, one.committed_metadata or "", 0)
            for topic in request.topics
            for one in topic.partitions
        ]
        generation = getattr(request, "generation_id_or_member_epoch", getattr(request, "generation_id", -1))
        member_id = getattr(request, "member_id", "") or ""
        try:
            check_count(len(entries), PARTITIONS_PER_REQUEST_MAX, "partitions")
            async with asyncio.timeout(CALL_SECONDS_MAX):
                refusals = await self._coordinator(request.group_id).store_classic_offsets(
                    request.group_id,
                    member_id,
                    getattr(request, "group_instance_id", None) or "",
                    generation,
                    entries,
                )
            codes = [stored_code(refusal) for refusal in refusals]
        except TimeoutError:
            codes = [NOT_COORDINATOR] * len(entries)
        except LograftError as error:
            codes = [coordinator_code(error)] * len(entries)
        left = iter(codes)
        return {
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [
                        {"partition_index": one.partition_index, "error_code": next(left)} for one in topic.partitions
                    ],
                }
                for topic in request.topics
            ]
        }

    async def offset_fetch(self, request: Any, call: Call) -> Told:
        if call.version >= _BATCHED_FETCH_FROM:
            groups = []
            told: set[str] = set()
            for one in request.groups:
                if one.group_id in told or len(told) >= GROUPS_MAX:
                    # A request of a few bytes for each time would be answered with all that is stored each time.
                    groups.append({"group_id": one.group_id, "topics": (), "error_code": INVALID_REQUEST})
                    continue
                told.add(one.group_id)
                member_id, epoch = getattr(one, "member_id", None), getattr(one, "member_epoch", -1)
                reader = (inner_id(member_id), epoch) if member_id and epoch >= 0 else None
                groups.append(await self._fetched(one.group_id, one.topics, reader))
            return {"groups": groups}
        return await self._fetched(request.group_id, request.topics)

    async def _fetched(self, group: str, topics: Any, reader: tuple[str, int] | None = None) -> dict[str, Any]:
        """What is stored of a group, for all its partitions if `topics` is None."""
        wanted = [(topic.name, number) for topic in topics or () for number in topic.partition_indexes]
        found: list[FetchedOffset | LograftError] = []
        code = NONE
        try:
            check_count(len(wanted), PARTITIONS_PER_REQUEST_MAX, "partitions")
            if topics is None or wanted:
                async with asyncio.timeout(CALL_SECONDS_MAX):
                    found = await self._coordinator(group).fetch_offsets(group, wanted, reader)
        except TimeoutError:
            code = NOT_COORDINATOR
        except LograftError as error:
            code = coordinator_code(error)
        if topics is None:
            places = [(one.topic, one.number) for one in found if isinstance(one, FetchedOffset)]
        else:
            places = wanted
        told: dict[str, list[dict[str, Any]]] = {}
        for at, (topic, number) in enumerate(places):
            one = found[at] if code == NONE else None
            # Nothing is stored for what is not there: as Kafka answers, without an error.
            stored = one if isinstance(one, FetchedOffset) else FetchedOffset(topic, number, "", -1, "", 0)
            told.setdefault(topic, []).append(
                {
                    "partition_index": number,
                    "committed_offset": stored.offset,
                    "committed_leader_epoch": -1,
                    "metadata": stored.metadata,
                    "error_code": code,
                }
            )
        listed = [{"name": topic, "partitions": partitions} for topic, partitions in told.items()]
        return {"group_id": group, "topics": listed, "error_code": code}

    async def offset_delete(self, request: Any, call: Call) -> Told:
        wanted = [(topic.name, one.partition_index) for topic in request.topics for one in topic.partitions]
        try:
            check_count(len(wanted), PARTITIONS_PER_REQUEST_MAX, "partitions")
            refusals = await self._coordinator(request.group_id).forget_offsets(request.group_id, wanted)
        except LograftError as error:
            return {"error_code": coordinator_code(error), "topics": ()}
        left = iter(NONE if refusal is None else code_of(refusal) for refusal in refusals)
        return {
            "error_code": NONE,
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [
                        {"partition_index": one.partition_index, "error_code": next(left)} for one in topic.partitions
                    ],
                }
                for topic in request.topics
            ],
        }

    # -- operators ---------------------------------------------------------------------------------------------------

    async def list_groups(self, request: Any, call: Call) -> Told:
        wanted = {state.lower() for state in getattr(request, "states_filter", ()) or ()}
        kinds = {kind.lower() for kind in getattr(request, "types_filter", ()) or ()}
        groups = []
        for coordinator in self._coordinators.led():
            try:
                async with asyncio.timeout(CALL_SECONDS_MAX):
                    listed = await coordinator.list_groups()
                for number, one in enumerate(listed, start=1):
                    if number % GROUPS_PER_TURN == 0:
                        await asyncio.sleep(0)
                    classic = coordinator.classic_now(one.group)
                    state = _state_of(one.condition, classic, tells_kinds=call.version >= _KINDS_FROM)
                    kind = "consumer" if one.is_shared_out_here else "classic"
                    if (wanted and state.lower() not in wanted) or (kinds and kind not in kinds):
                        continue
                    groups.append(
                        {
                            "group_id": one.group,
                            "protocol_type": "consumer" if classic is None else classic.protocol_type or "consumer",
                            "group_state": state,
                            "group_type": kind,
                        }
                    )
            except (LograftError, TimeoutError):
                continue  # it coordinates no longer: then it is for its successor to tell of them
        return {"error_code": NONE, "groups": groups}

    async def describe_groups(self, request: Any, call: Call) -> Told:
        # Each once: what its members tell each other may be a million times as long as its name.
        names = [*dict.fromkeys(request.groups)][:GROUPS_MAX]
        return {"groups": [await self._described(name, call) for name in names]}

    async def _described(self, name: str, call: Call) -> dict[str, Any]:
        told: dict[str, Any] = {
            "error_code": NONE,
            "error_message": None,
            "group_id": name,
            "group_state": "Dead",
            "protocol_type": "",
            "protocol_data": "",
            "members": (),
        }
        try:
            coordinator = self._coordinator(name)
            classic = await coordinator.describe_classic(name)
            if classic is None or not classic.members:
                described = await coordinator.describe_consumers(name)
                if described is None:
                    return told | {"group_state": "Empty", "protocol_type": "consumer"}
                return told | in_classic_words(described)
        except UnknownGroup as error:
            if call.version >= _NO_GROUP_IS_AN_ERROR_FROM:
                return told | {"error_code": code_of(error), "error_message": message_of(error)}
            return told
        except LograftError as error:
            return told | {"error_code": coordinator_code(error), "error_message": message_of(error), "group_state": ""}
        return told | {
            "group_state": classic.state,
            "protocol_type": classic.protocol_type,
            "protocol_data": classic.protocol,
            "members": [
                {
                    "member_id": one.member_id,
                    "group_instance_id": one.instance_id or None,
                    "client_id": one.client_id,
                    "client_host": one.host,
                    "member_metadata": one.metadata,
                    "member_assignment": one.assignment,
                }
                for one in classic.members
            ],
        }

    async def delete_groups(self, request: Any, call: Call) -> Told:
        results = []
        for name in request.groups_names[:GROUPS_MAX]:
            code = NONE
            try:
                await self._coordinator(name).delete(name)
            except GroupNotEmpty as error:
                code = code_of(error)
            except LograftError as error:
                code = coordinator_code(error)
            results.append({"group_id": name, "error_code": code})
        return {"results": results}

    def _coordinator(self, group: str) -> Coordinator:
        return self._coordinators.of(group)


def _state_of(condition: Condition, classic: ClassicDescription | None, *, tells_kinds: bool = False) -> str:
    """State of a group, in Kafka's words. Who asks for kinds knows those for groups in which brokers share out."""
    if classic is not None and classic.members:
        return classic.state
    moving = "Reconciling" if tells_kinds else "PreparingRebalance"
    return {Condition.EMPTY: "Empty", Condition.STABLE: "Stable", Condition.MOVING: moving}[condition]
