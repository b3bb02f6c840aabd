"""`__cluster` recovered offline: who only asks changes nothing, and before the note nothing is changed either."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from lograft.node import cluster_recovery
from lograft.node.cluster_recovery import follow_recovered, recover_cluster
from lograft.node.config import BrokerConfig
from lograft.node.controller.cluster_seats import CLUSTER_REPLICA_NUMBER
from lograft.node.controller.recoveries import TERM_JUMP
from lograft.node.data_directory import DataDirectory
from lograft.node.formation import ClusterSet
from lograft.node.replicas import CLUSTER_PARTITION
from lograft.partitions.environment import PartitionId, ReplicaConfig
from lograft.partitions.opening import open_log_and_core
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.replica_counts import ReplicaCounts
from lograft.partitions.storage.log import PartitionLog, partition_path
from lograft.partitions.storage.promised import ReplicaPromises
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.reset import note_reset

from tests.unit.storage.fakes import items_of

SHAPES = ("T1", 1, 1, 1)


class Started(NamedTuple):
    """What a broker begins with."""

    end: Point
    doubtful: bool
    damaged: bool
    voters: tuple[Voter, ...]
    promised: ReplicaPromises


class Stopped:
    """A broker's data directory, with a copy of the decisions of which a part lies past the mark."""

    def __init__(self, path: Path) -> None:
        self.directory = str(path / "data")
        broker = {"id": 1, "data_directory": self.directory}
        self.config = msgspec.convert({"broker": broker, "cluster": {"secret": "x" * 32}}, BrokerConfig)
        self.log_path = Path(partition_path(self.directory, CLUSTER_PARTITION)) / f"{0:020d}.log"
        DataDirectory.claim(self.directory, 1).release()
        self.voter, self.end = asyncio.run(self._fill())

    async def _fill(self) -> tuple[Voter, Point]:
        env = RealEnvironment(self.directory)
        promises = await Promises.open(env, self.directory)
        own = Voter(1, promises.directory_id, CLUSTER_REPLICA_NUMBER)
        voters = (own, Voter(2, "b" * 32, 1), Voter(3, "c" * 32, 1))
        promises.note_cluster_set(ClusterSet(voters).encode())
        log = await PartitionLog.create(env, self.directory, CLUSTER_PARTITION, voters, ReplicaConfig())
        promises.note_created(CLUSTER_PARTITION, CLUSTER_REPLICA_NUMBER)
        promises.note_vote(CLUSTER_PARTITION, 1, own)
        first, *others = items_of(log.end, *SHAPES)
        log.append([first], 5)
        promises.raise_mark(CLUSTER_PARTITION, log.end)
        log.append(others, 5)
        await log.sync()
        log.close()
        await promises.close()
        env.stop()
        return own, log.end

    def decay(self) -> None:
        """One bit of the last but one of what was acknowledged turns."""
        content = bytearray(self.log_path.read_bytes())
        content[-100] ^= 1
        self.log_path.write_bytes(content)

    async def begin_reset(self) -> None:
        """As far as its note: what the log lacks that begins then is promised before that goes."""
        env = RealEnvironment(self.directory)
        promises = await Promises.open(env, self.directory)
        log, _ = await PartitionLog.recover(
            env, self.directory, CLUSTER_PARTITION, mark=ORIGIN, same_boot=True, config=ReplicaConfig()
        )
        log.close()
        promises.note_word(CLUSTER_PARTITION, self.end)
        await promises.sync(promises.lower_mark(CLUSTER_PARTITION, ORIGIN))
        await note_reset(env.disk, log.directory, log.first_head().compacted(3, 2))
        await promises.close()
        env.stop()

    def recover(self, *, accept_loss: bool) -> int:
        return asyncio.run(recover_cluster(self.config, accept_loss=accept_loss, is_sure=True))

    def files(self) -> dict[str, bytes]:
        """Of the copy of the decisions."""
        return {path.name: path.read_bytes() for path in self.log_path.parent.iterdir()}

    def start(self) -> Started:
        """Open the copy as a broker does."""

        async def scene() -> Started:
            env = RealEnvironment(self.directory)
            promises = await Promises.open(env, self.directory)
            counts = ReplicaCounts()
            log, core = await open_log_and_core(
                env, promises, self.directory, CLUSTER_PARTITION, self.voter, (), ReplicaConfig(), counts
            )
            log.close()
            await promises.close()
            env.stop()
            known = promises.recall(CLUSTER_PARTITION)
            assert known is not None
            return Started(log.end, core.doubtful, core.damaged, log.voters, known)

        return asyncio.run(scene())


EXPLAINED, KILLED = "explained", "accepted, and killed before the note"


def ask(stopped: Stopped, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command, in a way that must change nothing of the copy."""

    async def killed(*args: object) -> None:
        raise OSError("killed")

    before = stopped.files()
    if how == EXPLAINED:
        assert stopped.recover(accept_loss=False) == 0
    else:
        monkeypatch.setattr(cluster_recovery, "write_note", killed)
        with pytest.raises(OSError, match="killed"):
            stopped.recover(accept_loss=True)
    assert stopped.files() == before


@pytest.mark.parametrize("how", [EXPLAINED, KILLED])
def test_whoever_lacks_what_it_acknowledged_is_in_doubt_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    stopped = Stopped(tmp_path)
    stopped.decay()
    ask(stopped, how, monkeypatch)
    assert "may have acknowledged more" in capsys.readouterr().out
    started = stopped.start()
    assert started.end < stopped.end and started.doubtful and not started.damaged


@pytest.mark.parametrize("how", [EXPLAINED, KILLED])
def test_what_a_log_lacks_that_begins_anew_is_promised_when_the_broker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stopped = Stopped(tmp_path)
    asyncio.run(stopped.begin_reset())
    ask(stopped, how, monkeypatch)
    promised = stopped.start().promised
    assert (promised.rewritten_to, promised.cleaned_to) == (3, 2)


@pytest.mark.parametrize("is_decayed", [False, True], ids=["whole", "decayed"])
def test_once_it_is_accepted_the_copy_goes_on_alone_as_far_as_it_can_be_read(tmp_path: Path, is_decayed: bool) -> None:
    stopped = Stopped(tmp_path)
    if is_decayed:
        stopped.decay()
    assert stopped.recover(accept_loss=True) == 0
    started = stopped.start()
    assert started.voters == (stopped.voter,) and not started.doubtful and not started.damaged
    assert started.end == (1 + TERM_JUMP, 1 if is_decayed else stopped.end.offset, 2)
    assert started.promised.term == started.end.term


@pytest.mark.parametrize("follows", [False, True], ids=["goes on", "follows"])
def test_afterwards_nobody_knows_any_more_which_partitions_were_never_here(tmp_path: Path, follows: bool) -> None:
    """The deletion of a topic may be lost, and what was here of it was forgotten with the topic."""
    stopped = Stopped(tmp_path)
    partition = PartitionId("a" * 32, 0)

    async def never_held() -> bool:
        promises = await Promises.open(RealEnvironment(stopped.directory), stopped.directory)
        await promises.close()
        return promises.never_held(partition)

    assert asyncio.run(never_held())
    if follows:
        assert asyncio.run(follow_recovered(stopped.config, f"2:{'b' * 32}:1")) == 0
    else:
        assert stopped.recover(accept_loss=True) == 0
    assert not asyncio.run(never_held())
