"""A replica that gave up what lies beyond a hole keeps its word: it elects nobody who lacks what it acknowledged.

Real core, promises and log on a real disk; the two other voters are told by hand. n1 committed three records with n0
alone, n2 has two of them, n0 loses the second one to its disk, and n1 cannot give it any more. Then n1 dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.core import RaftCore
from lograft.partitions.raft.events import Effects, HoleLost
from lograft.partitions.raft.messages import (
    AppendReply,
    Message,
    RepairReply,
    RepairRequest,
    Serving,
    VoteReply,
    VoteRequest,
)
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.replica import Replica
from lograft.partitions.storage.promises import Promises
from lograft.proto.record_batch import read_header

from tests.unit.replica.test_losing_leadership import Deaf, a_record, until
from tests.unit.replica.trio import Trio, a_trio

MAGIC_BYTE = 16


async def granted(trio: Trio, replica: Replica, sent: list[Message], last: Point) -> bool:
    """Would it help n2 to lead, whose log ends there?"""
    candidate = next(each.voter for each in trio.network.replicas.values() if each.voter.broker_id == 2)
    sent.clear()
    replica.receive(VoteRequest(candidate, replica.voter, replica.term + 1, last, transfer=True))
    await until(lambda: any(isinstance(message, VoteReply) and message.to == candidate for message in sent))
    return any(isinstance(message, VoteReply) and message.granted for message in sent)


def spoil_second_record(path: Path) -> None:
    content = bytearray(path.read_bytes())
    second = read_header(content).size
    second += read_header(content, second).size
    content[second + MAGIC_BYTE] ^= 0x40
    path.write_bytes(content)


async def votes_for_less_than_it_acknowledged(root: Path) -> tuple[bool, bool]:
    """Before and after a restart of its broker."""
    sent: list[Message] = []

    def hears(message: Message) -> bool:
        if message.sender.broker_id == 0:
            sent.append(message)
            if isinstance(message, RepairRequest):
                leads = message.to.broker_id == 1
                serving = Serving.CLEANED if leads else Serving.BUSY
                reply = RepairReply(
                    message.to, message.sender, message.term, message.number, serving, message.after, leads=leads
                )
                deaf.replica.receive(reply)
        return True

    async with a_trio(root) as trio:
        deaf = Deaf(trio)
        replica = deaf.replica
        trio.network.is_cut = hears
        term = replica.term + 1
        deaf.is_told(1, term, ORIGIN, *(a_record(term, at, b"acknowledged") for at in range(3)))
        acknowledged, kept, held_by_n2 = Point(term, 3, 1), Point(term, 1, 1), Point(term, 2, 1)
        await until(lambda: any(isinstance(one, AppendReply) and one.match == acknowledged for one in sent))
        spoil_second_record(Path(replica.log.stored_segments()[-1].path))
        await replica.scrub(_no_pace)
        await until(lambda: not replica.status().damaged and not replica.is_log_in_flux and replica.log.end == kept)
        before = await granted(trio, replica, sent, held_by_n2)
    trio = Trio(root, 3, 1 << 20)
    trio.network.is_cut = hears
    await trio.start()
    try:
        after = await granted(trio, trio.network.replicas[0], sent, held_by_n2)
    finally:
        await trio.stop()
    return before, after


async def _no_pace(size: int) -> None:
    return


def forgets_its_word_at_a_cut(patch: pytest.MonkeyPatch) -> None:
    right = RaftCore._on_hole_lost

    def on_hole_lost(core: RaftCore, event: HoleLost, effects: Effects) -> None:
        right(core, event, effects)
        core.word, effects.word_reached = ORIGIN, True

    patch.setattr(RaftCore, "_on_hole_lost", on_hole_lost)


def keeps_its_word_in_memory_alone(patch: pytest.MonkeyPatch) -> None:
    right = Promises.note_word

    def note_word(promises: Promises, partition: PartitionId, word: Point | None) -> int:
        return right(promises, partition, None)

    patch.setattr(Promises, "note_word", note_word)


def test_who_cut_its_log_at_a_hole_elects_nobody_who_lacks_what_it_acknowledged(tmp_path: Path) -> None:
    assert asyncio.run(votes_for_less_than_it_acknowledged(tmp_path)) == (False, False)


@pytest.mark.parametrize(
    ("plant", "elects"),
    [(forgets_its_word_at_a_cut, (True, True)), (keeps_its_word_in_memory_alone, (False, True))],
    ids=["forgets its word at a cut", "keeps its word in memory alone"],
)
def test_a_replica_that_forgets_its_word_at_a_cut_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    elects: tuple[bool, bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    assert asyncio.run(votes_for_less_than_it_acknowledged(tmp_path)) == elects
