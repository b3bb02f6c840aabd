"""`__cluster` itself where its majority is lost for good: one stopped broker's copy goes on, as another cluster.

Invariants
    what has no controller cannot decide: this is done offline, on the data directory of a stopped broker
    the log is read as recovery would leave it, but on a disk that keeps to itself what is written: until the note of an
        accepted loss is there nothing of the log is changed, and whoever only asks may start the broker as before
    the cluster id changes first, durably: those of the old cluster, should they come back, are refused at the
        handshake, so the two lineages never exchange a message, whatever their identities
    decisions that are lost may have given out replica numbers: every topic's next number is moved far beyond them
    a broker that follows gives up its own copy of the decisions and learns them anew; its other replicas it keeps
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from ..partitions.environment import ReplicaConfig
from ..partitions.raft.messages import Voter
from ..partitions.real_environment import RealEnvironment
from ..partitions.storage.checks.dry_disk import DryDisk, DryEnvironment
from ..partitions.storage.lineage import LineageNote, carry_out, read_note, set_replica_aside, write_note
from ..partitions.storage.log import PartitionLog, RecoveryVerdict
from ..partitions.storage.promised import ReplicaPromises
from ..partitions.storage.promises import Promises
from ..proto import record_batch
from ..proto.errors import InvalidConfig
from .config import BrokerConfig
from .controller.cluster_seats import CLUSTER_REPLICA_NUMBER
from .controller.facts import encode_batch, put
from .controller.recoveries import TERM_JUMP
from .controller.state import ClusterState
from .data_directory import DataDirectory
from .formation import ClusterSet
from .replicas import CLUSTER_PARTITION

NUMBERS_JUMP = 1_000_000
"""Far more replicas than the lost decisions can have placed."""

_TOKEN = re.compile(r"(\d{1,9}):([0-9a-f]{32}):(\d{1,6})", re.ASCII)


class _Stopped(NamedTuple):
    """A stopped broker's data directory, claimed."""

    environment: RealEnvironment
    promises: Promises
    held: ClusterSet
    directory: str


@asynccontextmanager
async def _claimed(config: BrokerConfig) -> AsyncIterator[_Stopped]:
    """Raises InvalidConfig: it runs, or belongs to no cluster."""
    directory = config.broker.data_directory
    claimed = DataDirectory.claim(directory, config.broker.id)
    try:
        environment = RealEnvironment(directory)
        promises = await Promises.open(environment, directory)
        if promises.cluster_set is None or promises.lost_word:
            raise InvalidConfig(
                f"data directory {directory} belongs to no cluster: there is nothing in it to recover",
                key="broker.data_directory",
            )
        yield _Stopped(environment, promises, ClusterSet.decode(promises.cluster_set), directory)
        await promises.close()
        environment.stop()
    finally:
        claimed.release()


async def recover_cluster(config: BrokerConfig, *, accept_loss: bool, is_sure: bool) -> int:
    """Explain, and if it is accepted, go on with this broker's copy alone. Returns the exit code.

    Raises InvalidConfig; OSError: it was not done, and can be tried again.
    """
    async with _claimed(config) as stopped:
        environment, promises, held, directory = stopped
        known = promises.recall(CLUSTER_PARTITION)
        if known is None:
            raise InvalidConfig(
                f"data directory {directory} holds no copy of the decisions; choose another broker's",
                key="broker.data_directory",
            )
        own = Voter(config.broker.id, promises.directory_id, CLUSTER_REPLICA_NUMBER)
        log, verdict = await _as_found(stopped, known)
        state = ClusterState()
        for batch in log.read_records(log.base.offset, log.end.offset, 1 << 30):
            for record in record_batch.decode(batch):
                state.apply_record(record.key, record.value)
        word = max(known.mark, known.word or known.mark, verdict.damage.word if verdict.damage else known.mark)
        _tell(config.broker.id, held, log, state, word.offset, own, doubtful=known.doubtful or verdict.doubtful)
        log.close()
        unfinished = read_note(environment.disk, directory, CLUSTER_PARTITION)
        if unfinished is None:
            if not accept_loss:
                print("nothing was changed; the same with --accept-loss does it", file=sys.stderr)
                return 0
            if not is_sure and not _is_accepted(held.cluster_id):
                return 2
        after = ClusterSet((own,), held.recovery + 1)
        if unfinished is None:
            renumbered = [
                put(msgspec.structs.replace(topic, next_replica_number=topic.next_replica_number + NUMBERS_JUMP))
                for _, topic in sorted(state.topics.items())
            ]
            unfinished = LineageNote(
                CLUSTER_PARTITION,
                after.recovery,
                0,
                heir=own,
                term=max(known.term, log.end.term) + TERM_JUMP,
                damaged=verdict.damage is not None,
                records=encode_batch(renumbered, environment.wall_ms()) if renumbered else b"",
            )
            promises.note_decisions_lost()
            await promises.sync(promises.note_cluster_set(after.encode()))
            await write_note(environment.disk, directory, unfinished)
        else:
            after = held
        begun = await carry_out(environment, promises, directory, unfinished, ReplicaConfig())
        if begun.set_aside:
            print(f"what could not be read is kept in {begun.set_aside}", file=sys.stderr)
        token = f"{own.broker_id}:{own.directory_id}:{after.recovery}"
        print(
            f"done: cluster {after.cluster_id} goes on with broker {own.broker_id}. Start it; brokers with empty data "
            "directories join by themselves. On each other one that still holds data, stopped, run once: "
            f"lograft broker -c FILE --follow-recovered {token}",
            file=sys.stderr,
        )
        return 0


async def follow_recovered(config: BrokerConfig, token: str) -> int:
    """Belong to the cluster that another broker's copy went on as. Returns the exit code.

    Raises InvalidConfig, OSError.
    """
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InvalidConfig(
            f"{token[:80]!r} is no token such as --recover-cluster tells, BROKER:DIRECTORY:NUMBER", key="token"
        )
    voter = Voter(int(found[1]), found[2], CLUSTER_REPLICA_NUMBER)
    after = ClusterSet((voter,), int(found[3]))
    async with _claimed(config) as stopped:
        environment, promises, held, directory = stopped
        if voter[:2] == (config.broker.id, promises.directory_id):
            raise InvalidConfig(f"broker {config.broker.id} is the one whose copy goes on; start it", key="token")
        if held == after:
            print(f"broker {config.broker.id} belongs to cluster {after.cluster_id} already", file=sys.stderr)
            return 0
        if promises.recall(CLUSTER_PARTITION) is not None:
            note = LineageNote(CLUSTER_PARTITION, after.recovery, 0)
            where = await set_replica_aside(environment.disk, directory, note)
            print(f"its copy of the decisions is kept in {where}", file=sys.stderr)
            # One round of promises with the rest: never a member of the old cluster that has forgotten its votes.
            promises.note_deleted(CLUSTER_PARTITION)
        promises.note_decisions_lost()
        await promises.sync(promises.note_cluster_set(after.encode()))
        print(f"broker {config.broker.id} belongs to cluster {after.cluster_id} now; start it", file=sys.stderr)
        return 0


async def _as_found(stopped: _Stopped, known: ReplicaPromises) -> tuple[PartitionLog, RecoveryVerdict]:
    """The decisions as far as they can be read, all of them. Nothing is changed."""
    return await PartitionLog.recover(
        DryEnvironment(DryDisk(stopped.environment.disk)),
        stopped.directory,
        CLUSTER_PARTITION,
        mark=known.mark,
        same_boot=not stopped.promises.boot_changed,
        config=ReplicaConfig(),
        term_max=known.term,
        suspects=None,
    )


def _tell(
    broker_id: int, held: ClusterSet, log: PartitionLog, state: ClusterState, word: int, own: Voter, *, doubtful: bool
) -> None:
    voters = ", ".join(str(voter.broker_id) for voter in log.voters) or "nobody that it knows"
    lines = [
        f"cluster {held.cluster_id}: its decisions are voted on by brokers {voters}",
        "if a majority of those can come back with their disks, start them instead: nothing is lost then",
        f"the copy of broker {broker_id} holds {log.end.offset} decisions: {len(state.topics)} topics, "
        f"{len(state.brokers)} brokers",
    ]
    if word > log.end.offset:
        lines.append(f"it once held {word}; what lies between is lost")
    if doubtful:
        lines.append("it may have acknowledged more than it holds; prefer the copy of a broker that lacks nothing")
    if own not in log.voters:
        lines.append("it had no vote: what it holds may be old; prefer the copy of a broker that voted")
    lines += [
        "what others decided beyond that is lost, however much it was: topics may be missing, or be back",
        "stop all brokers of the cluster first. The cluster gets another id, and refuses those of the old one",
    ]
    print("\n".join(lines))


def _is_accepted(cluster_id: str) -> bool:
    if not sys.stdin.isatty():
        print("lograft: this loses decisions, so it asks at a terminal; say --yes to do it without", file=sys.stderr)
        return False
    print(f"to accept that loss, type the cluster's id ({cluster_id}): ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() == cluster_id:
        return True
    print("lograft: that is not its id; nothing was changed", file=sys.stderr)
    return False
