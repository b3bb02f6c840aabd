"""What each broker holds of one partition: each one's own word, asked of all that are in touch.

Invariants
    whoever is in touch and does not answer is named as such, never taken for one that holds nothing
    a replica without a leader is read first, all of it: should it go on alone, nobody could repair what decayed unseen
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from ..partitions.environment import Disk, PartitionId, ReplicaConfig
from ..partitions.raft.messages import Voter
from ..partitions.raft.points import ORIGIN, Point
from ..partitions.replica import Replica
from ..partitions.storage.log import PartitionLog
from ..partitions.storage.promises import Promises
from ..partitions.storage.scan import scan_log
from ..proto.errors import UNDECODABLE, InvalidRequest, LograftError
from .peer.links import PeerLinks
from .recovery_plan import Holding
from .replicas import Replicas

HOLDING_CALL = "partition.holding"
ANSWER_MS_MAX = 3_000
CONFIRM_S_MAX = 2.0


class Found(NamedTuple):
    """What was answered."""

    holdings: tuple[Holding, ...]
    alive: dict[int, str]
    """Broker id -> directory id of those in touch."""
    unanswered: tuple[int, ...]


class Holdings:
    def __init__(self, broker_id: int, replicas: Replicas, promises: Promises, links: PeerLinks, disk: Disk) -> None:
        self._broker_id = broker_id
        self._replicas = replicas
        self._promises = promises
        self._links = links
        self._disk = disk
        self._readings: dict[PartitionId, tuple[PartitionLog, Point, asyncio.Task[None]]] = {}
        self._scans: dict[PartitionId, tuple[PartitionLog, asyncio.Task[tuple[Point, str]]]] = {}

    async def of_all(self, partition: PartitionId) -> Found:
        """Ask every broker in session, this one included."""
        alive = {session.broker_id: session.peer.directory_id for session in self._links.sessions}
        alive.pop(self._broker_id, None)
        others = sorted(alive)
        answers = await asyncio.gather(self._soon_here(partition), *(self._ask(other, partition) for other in others))
        found: list[Holding] = []
        unanswered = []
        for broker_id, answer in zip((self._broker_id, *others), answers, strict=True):
            if answer is None:
                unanswered.append(broker_id)
            else:
                found += answer
        alive[self._broker_id] = self._promises.directory_id
        return Found(tuple(found), alive, tuple(unanswered))

    async def _soon_here(self, partition: PartitionId) -> tuple[Holding, ...] | None:
        try:
            async with asyncio.timeout(ANSWER_MS_MAX / 1000):
                return await self.here(partition)
        except TimeoutError:
            return None

    async def carry_out(self, body: bytes) -> bytes:
        """The answer to HOLDING_CALL. Raises InvalidRequest."""
        try:
            partition = msgspec.msgpack.decode(body, type=PartitionId)
        except UNDECODABLE as error:
            raise InvalidRequest(f"a question about a partition could not be read: {error}") from None
        return msgspec.msgpack.encode(await self.here(partition))

    async def here(self, partition: PartitionId) -> tuple[Holding, ...]:
        """None or one."""
        known = self._promises.recall(partition)
        if known is None:
            return ()
        voter = Voter(self._broker_id, self._promises.directory_id, known.replica_number)
        replica = self._replicas.table.get(partition)
        if replica is not None:
            return (await self._of_replica(replica),)
        note = self._replicas.lineages.ended.get(partition)
        why = self._replicas.unopened.get(partition, "it is not open")
        if note is not None:
            return (
                Holding(
                    voter,
                    note.end,
                    word=note.word,
                    committed=note.committed,
                    term=known.term,
                    damaged=note.damaged,
                    doubtful=note.doubtful,
                    ended=True,
                    why=why,
                ),
            )
        return (Holding(voter, ORIGIN, word=max(known.mark, known.word or ORIGIN), damaged=True, why=why),)

    async def _of_replica(self, replica: Replica) -> Holding:
        leads = False
        if replica.is_leader:
            try:
                async with asyncio.timeout(CONFIRM_S_MAX):
                    await replica.confirm_read()
                    leads = True
            except (TimeoutError, LograftError):
                pass
        if replica.leader is None and not replica.is_damaged:
            await asyncio.shield(self._read(replica))
        status = replica.status()
        end, why = status.end, ""
        if status.damaged:
            end, why = await asyncio.shield(self._scan(replica))
        return Holding(
            status.voter,
            end,
            word=max(status.word, status.persisted) if status.damaged else status.word,
            committed=status.committed,
            term=status.term,
            start_offset=status.start_offset,
            voters=status.voters,
            leads=leads,
            damaged=status.damaged,
            doubtful=status.doubtful,
            why=why,
            refused_by=replica.repair_refused_by,
        )

    def _read(self, replica: Replica) -> asyncio.Task[None]:
        """Read what it holds, so that it finds what cannot be read of it; once for all that it holds now.

        It may take longer than whoever asks waits: asked again, the answer comes once it is done.
        """
        partition, log, end = replica.partition, replica.log, replica.status().end
        known = self._readings.get(partition)
        if known is not None and known[:2] == (log, end):
            return known[2]

        async def breathe(size: int) -> None:
            await asyncio.sleep(0)

        async def read() -> None:
            await replica.scrub(breathe)

        task = asyncio.get_running_loop().create_task(read())
        self._readings[partition] = log, end, task
        return task

    def _scan(self, replica: Replica) -> asyncio.Task[tuple[Point, str]]:
        """Where the hole is: a read may have met it behind much that is readable. Once for a log that was read anew.

        Beside the loop: nobody writes to a damaged log, and it may be long.
        """
        partition, log = replica.partition, replica.log
        known = self._scans.get(partition)
        if known is not None and known[0] is log:
            return known[1]

        async def scan() -> tuple[Point, str]:
            try:
                return await asyncio.to_thread(self._readable_to, partition, log.directory)
            except OSError as error:
                return ORIGIN, str(error)

        task = asyncio.get_running_loop().create_task(scan())
        self._scans[partition] = log, task
        return task

    def _readable_to(self, partition: PartitionId, directory: str) -> tuple[Point, str]:
        found = scan_log(self._disk, directory, partition, ORIGIN, ReplicaConfig())
        for segment in found.segments:
            segment.close()
        end = found.contents.end if found.contents is not None else ORIGIN
        return end, found.unreadable.why if found.unreadable is not None else ""

    async def _ask(self, broker_id: int, partition: PartitionId) -> tuple[Holding, ...] | None:
        try:
            body = msgspec.msgpack.encode(partition)
            answer = await self._links.call(broker_id, HOLDING_CALL, body, timeout_ms=ANSWER_MS_MAX)
            return msgspec.msgpack.decode(answer, type=tuple[Holding, ...])
        except (LograftError, *UNDECODABLE):
            return None
