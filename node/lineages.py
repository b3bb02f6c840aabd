"""What recoveries ask of this broker's replicas: one goes on alone as an heir, the others are over.

Invariants
    a replica goes on as heir only on a decision that is not older than this process, so that no later one overrules it
    a replica that is over is not opened again, whatever crashes, and its files are moved aside only once the new
        lineage leads: until then another recovery may still choose it
    an heir that never came to be is over with the next recovery, and a note says nothing of a replica made after it
    what fails for want of space or the like is told and tried again; until then the replica is silent
"""

from __future__ import annotations

import msgspec

from ..partitions.environment import Environment, PartitionId, ReplicaConfig
from ..partitions.raft.messages import Voter
from ..partitions.raft.points import ORIGIN
from ..partitions.replica_status import ReplicaStatus
from ..partitions.storage.lineage import (
    LineageNote,
    carry_out,
    forget_note,
    read_note,
    set_replica_aside,
    write_note,
)
from ..partitions.storage.log import partition_path
from ..partitions.storage.promises import PARTITIONS_DIRECTORY, Promises
from .controller.facts import RecoveryFact


class Lineages:
    """The table of replicas here that recoveries ended, and how each is dealt with. One change at a time."""

    def __init__(self, environment: Environment, promises: Promises, directory: str) -> None:
        self.ended: dict[PartitionId, LineageNote] = {}
        """Replicas that are listed, but do not act any more, with what they hold."""
        self._environment = environment
        self._promises = promises
        self._directory = directory
        self._statuses: dict[PartitionId, ReplicaStatus] = {}

    def note_status(self, status: ReplicaStatus) -> None:
        """What a replica held that is stopped, for the note."""
        self._statuses[status.partition] = status

    def forget(self, partition: PartitionId) -> None:
        """It is deleted."""
        self.ended.pop(partition, None)
        self._statuses.pop(partition, None)

    def is_unfinished(self, partition: PartitionId) -> bool:
        """Is the replica here an heir that has not come to be yet?"""
        note = self.ended.get(partition)
        return note is not None and note.heir is not None

    async def admit(self, partition: PartitionId, config: ReplicaConfig) -> str | None:
        """May a listed replica be opened? Finishes what was begun. Why not, if not; tried again later."""
        try:
            note = read_note(self._environment.disk, self._directory, partition)
            known = self._promises.recall(partition)
            if note is None or known is None:
                return None
            if note.goes_on(known.replica_number):
                self.ended[partition] = note  # should it fail, it is tried again
                return await self._carry_out(note, config)
        except OSError as error:
            return str(error)
        if not note.ends(known.replica_number):
            return None
        self.ended[partition] = note = _without_heir(note)
        return _why(note)

    async def make_way(self, partition: PartitionId) -> None:
        """Before a replica is made where none is listed: a crash may have left the note of the one before.

        Raises OSError.
        """
        await forget_note(self._environment.disk, self._directory, partition)
        self.forget(partition)

    async def follow(
        self, partition: PartitionId, identity: Voter, recovery: RecoveryFact, *, may_begin: bool, is_led: bool
    ) -> str | None:
        """Deal with a stopped replica that a recovery ended. None: what is listed now, if anything, may be opened."""
        heir = recovery.heir
        note = LineageNote(partition, recovery.number, recovery.first_number, term=recovery.term)
        status = self._statuses.get(partition)
        known = self.ended.get(partition)
        if status is not None:
            note = msgspec.structs.replace(
                note,
                end=status.end,
                word=max(status.word, status.persisted),
                committed=status.committed,
                damaged=status.damaged,
                doubtful=status.doubtful,
            )
        elif known is not None:
            # Whoever an earlier recovery chose here, and never came to be, is over as well.
            note = msgspec.structs.replace(
                _without_heir(known), recovery=recovery.number, first_number=recovery.first_number, term=recovery.term
            )
        else:
            note = self._of_unopened(note)
        try:
            if identity == recovery.source and heir[:2] == identity[:2] and may_begin:
                note = msgspec.structs.replace(note, heir=heir)
                self.ended[partition] = note
                await write_note(self._environment.disk, self._directory, note)
                return None  # whoever opens it, carries that out first
            if known is None or known.recovery != recovery.number:
                await write_note(self._environment.disk, self._directory, note)
                self._environment.log(
                    "replica_ended", partition=str(partition), identity=str(identity), recovery=recovery.number
                )
            self.ended[partition] = note
            if not (may_begin and is_led):
                return _why(note)
            where = await set_replica_aside(self._environment.disk, self._directory, note)
        except OSError as error:
            self._environment.log("recovery_not_carried_out", partition=str(partition), why=str(error))
            return f"recovery {recovery.number} could not be carried out, and is tried again: {error}"
        await self._promises.sync(self._promises.note_deleted(partition))
        directory = partition_path(self._directory, partition)
        for name in self._environment.disk.list(directory):
            self._environment.disk.unlink(f"{directory}/{name}")
        self._environment.disk.remove_directory(directory)
        await self._environment.disk.sync_directory(f"{self._directory}/{PARTITIONS_DIRECTORY}")
        self.forget(partition)
        self._environment.log("replica_set_aside", partition=str(partition), identity=str(identity), directory=where)
        return None

    def _of_unopened(self, note: LineageNote) -> LineageNote:
        """With what is promised for a replica that could not be opened: what of it can be read is not known."""
        promised = self._promises.recall(note.partition)
        if promised is None:
            return note
        word = max(promised.mark, promised.word or ORIGIN)
        return msgspec.structs.replace(note, word=word, damaged=True, doubtful=promised.doubtful)

    async def _carry_out(self, note: LineageNote, config: ReplicaConfig) -> str | None:
        try:
            begun = await carry_out(self._environment, self._promises, self._directory, note, config)
        except OSError as error:
            self._environment.log("recovery_not_carried_out", partition=str(note.partition), why=str(error))
            return f"recovery {note.recovery} could not be carried out, and is tried again: {error}"
        self.forget(note.partition)
        self._environment.log(
            "lineage_begun",
            partition=str(note.partition),
            recovery=note.recovery,
            heir=str(note.heir),
            kept=str(begun.kept),
            set_aside=begun.set_aside,
        )
        return None


def _without_heir(note: LineageNote) -> LineageNote:
    """What it says of the replica that is over, alone."""
    return msgspec.structs.replace(note, heir=None, records=b"")


def _why(note: LineageNote) -> str:
    return f"recovery {note.recovery} ended it; its files stay until the replica that goes on leads"
