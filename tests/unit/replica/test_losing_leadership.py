"""Leadership lost in the midst of something: nothing is answered or read that is not so, and no process ends of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from lograft.partitions.raft.events import PeerHeard, PeerSilent
from lograft.partitions.raft.messages import AppendRequest
from lograft.partitions.raft.points import Item, ItemKind, Point
from lograft.partitions.replica import Replica
from lograft.proto.errors import UnknownOutcome
from lograft.proto.record_batch import decode, stamp

from .trio import Trio, a_batch, a_trio


def others_of(trio: Trio, one: Replica) -> list[Replica]:
    return [each for each in trio.network.replicas.values() if each is not one]


def lose_unnoticed(trio: Trio, old: Replica) -> None:
    """Nothing goes to or from it and the others have noticed; it has not."""
    gone = old.voter.broker_id
    trio.network.is_cut = lambda message: gone in (message.to.broker_id, message.sender.broker_id)
    for other in others_of(trio, old):
        other.take(PeerSilent(gone))


def values_of(replica: Replica) -> list[bytes]:
    return [record.value for batch in replica.read_committed(0, 1 << 20).batches for record in decode(batch)]


async def until(is_true: Callable[[], bool]) -> None:
    """Of what no observer is told."""
    async with asyncio.timeout(10):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0)


def a_record(term: int, offset: int, value: bytes) -> Item:
    batch, header = a_batch(value)
    return Item(Point(term, offset + header.width, 1), ItemKind.RECORDS, bytes(stamp(batch, offset, term)))


def test_batch_of_a_deposed_leader_is_not_answered_by_what_its_successor_committed_at_that_offset(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            old = await trio.leader()
            await old.append(*a_batch(b"kept"), None).committed
            lose_unnoticed(trio, old)
            doomed = old.append(*a_batch(b"doomed"), None)
            await doomed.persisted
            await trio.watch.until(lambda: any(one.is_ready for one in others_of(trio, old)))
            new = next(one for one in others_of(trio, old) if one.is_ready)
            await new.append(*a_batch(b"instead"), None).committed
            assert old.is_leader, "it hears of its successor, of the conflict and of the commit in one message"
            trio.network.is_cut = lambda _: False
            new.take(PeerHeard(*old.voter[:2]))
            with pytest.raises(UnknownOutcome):
                await asyncio.wait_for(doomed.committed, 10)
            assert values_of(old) == [b"kept"], "the tail is not cut yet, and none of it is taken for committed"
            await trio.watch.until(lambda: old.committed == new.committed)
            assert values_of(old) == [b"kept", b"instead"]

    asyncio.run(go())


def test_batch_that_a_successor_commits_is_of_unknown_outcome_to_whoever_sent_it_to_the_old_leader(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            old = await trio.leader()
            await old.append(*a_batch(b"kept"), None).committed
            for follower in others_of(trio, old):
                await trio.watch.until(lambda: follower.committed == old.committed)  # noqa: B023
            # The batch reaches the others, but their answers do not come back.
            trio.network.is_cut = lambda message: message.to == old.voter
            inherited = old.append(*a_batch(b"inherited"), None)
            end = old.status().end
            await until(lambda: all(one.status().persisted == end for one in others_of(trio, old)))
            lose_unnoticed(trio, old)
            await trio.watch.until(lambda: any(one.is_ready for one in others_of(trio, old)))
            new = next(one for one in others_of(trio, old) if one.is_ready)
            assert old.is_leader
            trio.network.is_cut = lambda _: False
            new.take(PeerHeard(*old.voter[:2]))
            with pytest.raises(UnknownOutcome):
                await asyncio.wait_for(inherited.committed, 10)
            await trio.watch.until(lambda: old.committed == new.committed)
            assert values_of(old) == [b"kept", b"inherited"]

    asyncio.run(go())


class Deaf:
    """Replica 0 of a trio, which hears nobody but what a test gives it, and whose promises wait for a gate."""

    def __init__(self, trio: Trio) -> None:
        trio.network.is_cut = lambda _: True
        self.replica = trio.network.replicas[0]
        self.gate = asyncio.Event()
        self.gate.set()
        promises_file = self.replica._promises._file
        assert promises_file is not None
        sync = promises_file.fdatasync

        async def gated() -> None:
            await self.gate.wait()
            await sync()

        promises_file.fdatasync = gated  # type: ignore[method-assign]

    def is_told(self, broker_id: int, term: int, prev: Point, *items: Item) -> None:
        """The leader of `term`, on that broker, sends items: the term's start, at `prev`, and these."""
        sender = next(voter for voter in self.replica.voters if voter.broker_id == broker_id)
        start = Item(Point(term, prev.offset, 1), ItemKind.TERM_START, b"")
        request = AppendRequest(sender, self.replica.voter, term, 1, prev, prev, Point(0, 0, 0), (start, *items), 1)
        self.replica.receive(request)

    async def has_flushed(self, end: Point) -> None:
        await until(lambda: self.replica._flushed.end == end)

    async def has_persisted(self, end: Point) -> None:
        await until(lambda: self.replica.status().persisted == end)


def test_flush_that_becomes_known_between_two_cuts_says_nothing_after_the_second(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            first = deaf.replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"kept"))
            await deaf.has_persisted(Point(first, 1, 1))
            deaf.gate.clear()
            tail = a_record(first + 1, 1, b"cut second"), a_record(first + 1, 2, b"cut first")
            deaf.is_told(2, first + 1, Point(first, 1, 1), *tail)
            await deaf.has_flushed(Point(first + 1, 3, 1))
            deaf.is_told(1, first + 2, Point(first + 1, 2, 1), a_record(first + 2, 2, b"cut second too"))
            deaf.is_told(2, first + 3, Point(first, 1, 1), a_record(first + 3, 1, b"last"))
            deaf.gate.set()
            await deaf.has_persisted(Point(first + 3, 2, 1))
            assert deaf.replica.log.end == Point(first + 3, 2, 1)

    asyncio.run(go())


def test_replica_that_is_stopped_in_the_midst_of_a_cut_ends_it_first(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            deaf = Deaf(trio)
            first = deaf.replica.term + 1
            deaf.is_told(1, first, Point(0, 0, 0), a_record(first, 0, b"kept"), a_record(first, 1, b"cut"))
            await deaf.has_persisted(Point(first, 2, 1))
            deaf.gate.clear()
            deaf.is_told(2, first + 1, Point(first, 1, 1), a_record(first + 1, 1, b"instead"))
            stopping = asyncio.create_task(deaf.replica.stop())
            await asyncio.sleep(0)
            assert deaf.replica.is_stopped and not stopping.done()
            deaf.gate.set()
            await asyncio.wait_for(stopping, 10)
            # Whoever deletes the replica takes it off the list and its files away next.
            await deaf.replica._promises.sync(deaf.replica._promises.note_deleted(deaf.replica.partition))

    asyncio.run(go())
