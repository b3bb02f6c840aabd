"""Replicas go where the decisions place them: leaders bring their voters there step by step; what is left over goes.

Invariants
    every step is taken by a partition's leader, from what its log and the decisions say at that moment: whoever leads
        next, here or elsewhere, goes on where the last one stopped
    a backlog is copied no faster than the cluster's setting allows this broker, all its learners together
    a replica is deleted only as `departures` has it: let go by its partition's leader, asked in silence
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from ..partitions.environment import PartitionId
from ..partitions.raft.messages import Voter
from ..partitions.replica import Replica
from ..proto.errors import UNDECODABLE, InvalidRequest, LograftError, NoLeader
from .decision_log import Report
from .departures import Departures, Placed, lets_go
from .peer.links import PeerLinks
from .replicas import Replicas
from .throttle import Throttle
from .voter_steps import HandOver, next_step

LET_GO_CALL = "replica.let_go"
ANSWER_MS_MAX = 2_000
LOOKS_PER_IDLE_LOOK = 4
"""While nothing was to be done, every so many looks are enough."""
LOOKS_PER_WHOLE_LOOK = 30
"""Of those for departures: one of so many asks also about replicas for which it is most likely in vain."""


class _Question(NamedTuple):
    partition: PartitionId
    identity: Voter


class Moves:
    """Ticked by the node. `report` takes what an operator should see."""

    def __init__(self, broker_id: int, replicas: Replicas, links: PeerLinks, report: Report) -> None:
        self._broker_id = broker_id
        self._replicas = replicas
        self._links = links
        self._report = report
        self._departures = Departures(self._ask)
        self._throttle = Throttle()
        self._handing_over: dict[PartitionId, asyncio.Task[None]] = {}
        self._refused: dict[PartitionId, str] = {}
        """Why the next step could not be taken, as last reported."""
        self._looks = self._departure_looks = 0
        self._is_under_way = False
        """The last look found something to do."""
        replicas.is_silent = self._departures.is_silent

    def take_steps(self) -> None:
        """A few times a second: one step for each partition led here that is not yet where it should be."""
        if not self._replicas.is_caught_up:
            return  # the decisions that are known here may be old ones
        self._looks += 1
        if not self._is_under_way and not self._replicas.learning and self._looks % LOOKS_PER_IDLE_LOOK:
            return  # thousands of partitions that are where they should be: to see that takes time, too
        self._replicas.set_learners()
        own = self._replicas.state.brokers.get(self._broker_id)
        may_stay = own is None or not own.draining
        if self._refused:  # what is led no more is another broker's to move
            led = {replica.partition for replica in self._replicas.led}
            self._refused = {partition: why for partition, why in self._refused.items() if partition in led}
        self._is_under_way = not may_stay or bool(self._refused)
        for replica in self._replicas.led:
            # Nearly all of them are where they should be: what is done for each, again and again, must be little.
            if may_stay and not self._refused and replica.voters == self._replicas.placed_voters(replica):
                continue
            self._is_under_way = True
            if replica.is_ready:
                self._take_step(replica)

    def allow_copying(self, now_ms: float) -> None:
        """Many times a second: let the learners that catch up have their share of what may be sent."""
        bytes_per_second = self._replicas.copy_bytes_per_second
        if bytes_per_second is None or not self._replicas.learning:
            return
        waiting = [
            (replica, learner)
            for replica in self._replicas.learning
            if not replica.is_stopped
            for learner in replica.waiting_for_allowance()
        ]
        for (replica, learner), size_bytes in self._throttle.share(now_ms, bytes_per_second, waiting).items():
            replica.allow(learner, size_bytes)

    def _take_step(self, replica: Replica) -> None:
        partition = replica.partition
        step = next_step(replica.voter, replica.voters, self._replicas.placed_voters(replica), replica.keeps_up)
        step = step or self._lead_elsewhere(replica)
        if step is None:
            self._refused.pop(partition, None)
        elif isinstance(step, HandOver):
            if partition not in self._handing_over:
                task = asyncio.get_running_loop().create_task(self._hand_over(replica, step.broker_id))
                self._handing_over[partition] = task
                task.add_done_callback(lambda _: self._handing_over.pop(partition, None))
        else:
            try:
                replica.change_voters(step.voters)
            except LograftError as refusal:
                self._note_refusal(partition, refusal.message)
            else:
                self._refused.pop(partition, None)

    def _lead_elsewhere(self, replica: Replica) -> HandOver | None:
        """A broker that is being drained leads only what nobody else could."""
        brokers = self._replicas.state.brokers
        if self._broker_id not in brokers or not brokers[self._broker_id].draining:
            return None
        for voter in self._replicas.placed_voters(replica):
            known = brokers.get(voter.broker_id)
            is_free = voter != replica.voter and known is not None and not known.draining
            if is_free and voter in replica.voters and replica.keeps_up(voter):
                return HandOver(voter.broker_id)
        return None

    async def _hand_over(self, replica: Replica, broker_id: int) -> None:
        try:
            await replica.transfer_leadership(broker_id)
        except LograftError as refusal:
            self._note_refusal(replica.partition, refusal.message)

    def _note_refusal(self, partition: PartitionId, why: str) -> None:
        if self._refused.get(partition) != why:
            self._refused[partition] = why
            self._report("voters_unchanged", partition=str(partition), why=why)

    async def look_for_departures(self) -> None:
        """About once a second: ask whether the replicas here that are placed here no more may be deleted."""
        self._departure_looks += 1
        all_ = self._departure_looks % LOOKS_PER_WHOLE_LOOK == 0
        for partition, identity in self._replicas.departing(all_=all_):
            if not self._departures.is_silent(partition) and await self._departures.may_delete(partition, identity):
                self._report("replica_let_go", partition=str(partition), identity=str(identity))
                await self._replicas.delete_departed(partition, identity)
                self._departures.deleted(partition)

    async def _ask(self, partition: PartitionId, identity: Voter) -> bool:
        leader_id = self._replicas.leader_of(partition).broker_id
        if leader_id is None:
            raise NoLeader(f"{partition} has no leader known to broker {self._broker_id}; asked again later")
        if leader_id == self._broker_id:
            return await self._let_go(partition, identity)
        body = msgspec.msgpack.encode(_Question(partition, identity))
        return await self._links.call(leader_id, LET_GO_CALL, body, timeout_ms=ANSWER_MS_MAX) == b"\x01"

    async def carry_out(self, body: bytes) -> bytes:
        """The answer to LET_GO_CALL. Raises InvalidRequest, NotLeader, NoLeader."""
        try:
            question = msgspec.msgpack.decode(body, type=_Question)
        except UNDECODABLE as error:
            raise InvalidRequest(f"a question about a replica could not be read: {error}") from None
        return b"\x01" if await self._let_go(*question) else b"\x00"

    async def _let_go(self, partition: PartitionId, identity: Voter) -> bool:
        replica, state = self._replicas.table.get(partition), self._replicas.state
        if replica is None or not self._replicas.is_caught_up:
            raise NoLeader(f"broker {self._broker_id} does not lead {partition}, or does not know the decisions yet")

        def placed() -> Placed:
            topic, fact = state.topic_by_id(partition.topic_id), state.partition(partition)
            return Placed((), 0) if topic is None or fact is None else Placed(fact.placement, topic.next_replica_number)

        return await lets_go(replica, identity, placed)
