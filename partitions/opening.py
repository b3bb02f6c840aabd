"""What a replica begins with: its log as the disk has it, and its core as the promises have it.

Invariants
    whatever of the log's state is in doubt or lost is promised before anybody hears of it
    the promised term is never below that of an item in the log
"""

from __future__ import annotations

from typing import NamedTuple

from .environment import Environment, PartitionId, ReplicaConfig
from .raft.core import RaftCore
from .raft.messages import Voter
from .raft.points import ORIGIN, Point
from .replica_counts import ReplicaCounts
from .storage.log import PartitionLog, RecoveryVerdict
from .storage.promises import Promises
from .storage.segment_head import SegmentHead


class Opened(NamedTuple):
    log: PartitionLog
    core: RaftCore


async def open_log_and_core(
    environment: Environment,
    promises: Promises,
    directory: str,
    partition: PartitionId,
    voter: Voter,
    first_voters: tuple[Voter, ...],
    config: ReplicaConfig,
    counts: ReplicaCounts,
) -> Opened:
    """Recover them if `promises` lists the replica, else create them. Raises OSError, NewerFormat."""
    known = promises.recall(partition)
    doubtful = damaged = False
    word = ORIGIN
    if known is None or known.replica_number != voter.replica_number:
        voters = first_voters if voter in first_voters else ()
        log = await PartitionLog.create(environment, directory, partition, voters, config)
        number = promises.note_created(partition, voter.replica_number)
        await promises.sync(number)
        term, voted_for = 0, None
    else:
        term, voted_for, doubtful = known.term, known.voted_for, known.doubtful
        word = known.word or ORIGIN
        if known.memory_boot not in (None, environment.disk.boot_id):
            # What it acknowledged last was in a page cache that is gone. In one round: no crash finds half of it.
            promises.note_doubt(partition, True)
            await promises.sync(promises.note_memory_boot(partition, None))
            doubtful = True
            environment.log("memory_lost", partition=str(partition), boot=known.memory_boot)
        log, verdict = await recover_log(
            environment,
            promises,
            directory,
            partition,
            config,
            mark=known.mark,
            same_boot=not promises.boot_changed,
            term_max=term,
            # With a word to keep, it was found damaged, maybe by a read in the midst of it.
            suspects=None if known.word is not None else frozenset(),
        )
        if log.end.term > term:
            # A crash came between items of a newer term and the promise to follow in it. They will be acknowledged
            # now, and recovery counts on it that nothing past the promised term ever was.
            term, voted_for = log.end.term, None
            await promises.sync(promises.note_vote(partition, term, None))
        await promise_thinned(promises, log)
        doubtful = doubtful or verdict.doubtful
        counts.recovery_cut_bytes += verdict.cut_bytes
        if verdict.damage is not None:
            counts.damage_met()
            damaged = True
            word = max(word, verdict.damage.word)
            await promises.sync(promises.note_word(partition, word))
            environment.log("replica_damaged", partition=str(partition), why=verdict.damage.why, word=str(word))
        elif known.memory_boot == environment.disk.boot_id:
            # All that it holds is on disk now.
            promises.note_memory_boot(partition, None)
        if verdict.doubtful:
            environment.log("replica_doubtful", partition=str(partition), end=str(log.end))
    listed = promises.recall(partition)
    assert listed is not None, f"{partition} was just opened"
    core = RaftCore(
        voter=voter,
        voter_sets=log.voter_sets.copy(),
        journal=log.journal.copy(),
        random=environment.random,
        term=term,
        voted_for=voted_for,
        word=word,
        doubtful=doubtful,
        damaged=damaged,
        cleaned_to=listed.cleaned_to,
        election_timeout_ms=config.election_timeout_ms,
        election_stagger_ms=config.election_stagger_ms,
        append_bytes_max=config.append_bytes_max,
        in_flight_bytes_max=config.in_flight_bytes_max,
    )
    return Opened(log, core)


async def recover_log(
    environment: Environment,
    promises: Promises,
    directory: str,
    partition: PartitionId,
    config: ReplicaConfig,
    *,
    mark: Point,
    same_boot: bool,
    term_max: int,
    suspects: frozenset[int] | None,
    base: Point = ORIGIN,
) -> tuple[PartitionLog, RecoveryVerdict]:
    """As `PartitionLog.recover`, which decides nothing that is not promised first."""

    async def remember_doubt() -> None:
        await promises.sync(promises.note_doubt(partition, True))

    async def remember_reset(head: SegmentHead) -> None:
        await promise_reset(promises, partition, head)

    return await PartitionLog.recover(
        environment,
        directory,
        partition,
        mark=mark,
        same_boot=same_boot,
        config=config,
        on_doubt=remember_doubt,
        on_reset=remember_reset,
        term_max=term_max,
        suspects=suspects,
        base=base,
    )


async def promise_reset(promises: Promises, partition: PartitionId, head: SegmentHead) -> None:
    """A log that begins anew lacks what the one lacks that it is a copy of; what its own had lost counts no more.

    Not before the reset is decided: the old log, if it stayed after a crash, would pass for such a copy. Not after its
    first item: the new log would pass for a whole one.
    """
    number = promises.note_compacted(partition, rewritten_to=head.rewritten_to, cleaned_to=head.cleaned_to)
    await promises.sync(number)


async def promise_thinned(promises: Promises, log: PartitionLog) -> None:
    """A crash may have come between items that a leader had thinned, and the promise that tells of them."""
    known = promises.recall(log.partition)
    if known is not None and log.thinned_to > known.rewritten_to:
        await promises.sync(
            promises.note_compacted(log.partition, rewritten_to=log.thinned_to, cleaned_to=known.cleaned_to)
        )
