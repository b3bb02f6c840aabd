"""What a whole replica promises to those who append and read: real disks, three of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from lograft.partitions.raft.core import Role
from lograft.proto.errors import NoLeader, NotLeader, OffsetOutOfRange, OutOfOrderSequence, UnknownOutcome
from lograft.proto.record_batch import decode

from .trio import a_batch, a_trio


def values_of(chunk) -> list[bytes]:
    return [record.value for batch in chunk.batches for record in decode(batch)]


def test_what_is_committed_is_read_back_and_says_how_many_copies_it_has(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            appended = await leader.append(*a_batch(b"one", b"two"), None).committed
            assert (appended.base_offset, appended.duplicate, appended.replicas) == (0, False, 3)
            assert appended.copies >= 2
            chunk = leader.read(0, 1 << 20)
            assert values_of(chunk) == [b"one", b"two"]
            assert (chunk.next_offset, chunk.committed_offset) == (2, 2)

    asyncio.run(go())


def test_single_replica_is_a_cluster_too_and_keeps_its_records_over_a_restart(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            await (await trio.leader()).append(*a_batch(b"kept"), None).committed
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            assert values_of(leader.read(0, 1 << 20)) == [b"kept"]
            assert leader.term == 2

    asyncio.run(go())


def test_follower_refuses_clients_and_names_the_leader(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            follower = next(each for each in trio.network.replicas.values() if each is not leader)
            await trio.watch.until(lambda: follower.leader == leader.voter)
            for refused in (lambda: follower.append(*a_batch(b"x"), None), lambda: follower.read(0, 100)):
                with pytest.raises(NotLeader) as error:
                    refused()
                assert error.value.facts["leader_id"] == str(leader.voter.broker_id)

    asyncio.run(go())


def test_leader_cut_off_answers_unknown_outcome_and_the_rest_lead_on(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            old = await trio.leader()
            await old.append(*a_batch(b"kept"), None).committed
            trio.network.is_cut = lambda message: (
                old.voter.broker_id
                in (
                    message.to.broker_id,
                    message.sender.broker_id,
                )
            )
            lost = old.append(*a_batch(b"maybe"), None)
            trio.cut_off(old)
            with pytest.raises(UnknownOutcome):
                await lost.committed
            assert old.role is not Role.LEADER
            with pytest.raises((NoLeader, NotLeader)):
                await old.confirm_read()
            new = await trio.leader()
            await new.append(*a_batch(b"after"), None).committed
            assert values_of(new.read(0, 1 << 20)) == [b"kept", b"after"]

    asyncio.run(go())


def test_batch_sent_twice_is_appended_once_and_answered_with_its_offset(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            first = a_batch(b"a", b"b", producer_id=7, sequence=0)
            one, again = leader.append(*first, 0), leader.append(*first, 0)
            assert (await one.committed).duplicate is False
            answered = await again.committed
            assert (answered.duplicate, answered.base_offset) == (True, 0)
            later = await leader.append(*first, 0).committed
            assert (later.duplicate, later.base_offset) == (True, 0)
            assert values_of(leader.read(0, 1 << 20)) == [b"a", b"b"]

    asyncio.run(go())


def test_batch_sent_again_under_a_later_leader_is_answered_with_the_term_it_was_written_in(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            first = a_batch(b"a", producer_id=7, sequence=0)
            written = await (await trio.leader()).append(*first, 0).committed
            old = await trio.leader()
            follower = next(one for one in trio.network.replicas.values() if one is not old)
            await trio.watch.until(lambda: follower.committed == old.committed)
            await old.transfer_leadership(follower.voter.broker_id)
            await trio.watch.until(lambda: follower.is_leader)
            again = await follower.append(*first, 0).committed
            assert follower.term > written.term
            assert (again.duplicate, again.base_offset, again.term) == (True, 0, written.term)

    asyncio.run(go())


def test_gap_in_a_sequence_is_refused_and_nothing_is_appended(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            with pytest.raises(OutOfOrderSequence):
                leader.append(*a_batch(b"later", producer_id=7, sequence=5), 0)
            await leader.append(*a_batch(b"first", producer_id=7, sequence=0), 0).committed
            with pytest.raises(OutOfOrderSequence):
                leader.append(*a_batch(b"gap", producer_id=7, sequence=3), 1)
            assert values_of(leader.read(0, 1 << 20)) == [b"first"]

    asyncio.run(go())


@pytest.mark.parametrize("offset", [-1, 2, 10**12])
def test_read_outside_the_log_names_what_it_holds(tmp_path: Path, offset: int) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            await leader.append(*a_batch(b"only"), None).committed
            with pytest.raises(OffsetOutOfRange) as error:
                leader.read(offset, 100)
            assert (error.value.facts["start"], error.value.facts["end"]) == ("0", "1")

    asyncio.run(go())


def test_who_waits_for_a_commit_is_called_once_and_who_gave_up_is_forgotten(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            called: list[int] = []
            for _ in range(1000):
                leader.on_commit_past(0, lambda: called.append(-1)).cancel()
            assert len(leader._waiters) < 200, "an idle partition must not collect those who gave up"
            leader.on_commit_past(0, lambda: called.append(0))
            leader.on_commit_past(5, lambda: called.append(5))
            await leader.append(*a_batch(b"x"), None).committed
            assert called == [0]

    asyncio.run(go())


def test_confirmed_read_covers_what_was_acknowledged_before_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            await leader.append(*a_batch(b"x", b"y"), None).committed
            assert await leader.confirm_read() == 2

    asyncio.run(go())


def test_leadership_is_handed_over_and_nothing_is_lost(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            old = await trio.leader()
            await old.append(*a_batch(b"before"), None).committed
            target = (old.voter.broker_id + 1) % 3
            await old.transfer_leadership(target)
            new = trio.network.replicas[target]
            await trio.watch.until(lambda: new.is_ready)
            await new.append(*a_batch(b"after"), None).committed
            assert values_of(new.read(0, 1 << 20)) == [b"before", b"after"]

    asyncio.run(go())


def test_tail_that_was_never_committed_is_cut_when_its_writer_comes_back(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            old = await trio.leader()
            await old.append(*a_batch(b"kept"), None).committed
            trio.network.is_cut = lambda message: (
                old.voter.broker_id
                in (
                    message.to.broker_id,
                    message.sender.broker_id,
                )
            )
            doomed = old.append(*a_batch(b"doomed"), None)
            await doomed.persisted
            trio.cut_off(old)
            with pytest.raises(UnknownOutcome):
                await doomed.committed
            new = await trio.leader()
            await new.append(*a_batch(b"instead"), None).committed
            from lograft.partitions.raft.events import PeerHeard

            trio.network.is_cut = lambda _: False
            for one in trio.network.replicas.values():
                for other in trio.network.replicas.values():
                    if one is not other:
                        one.take(PeerHeard(*other.voter[:2]))
            await trio.watch.until(lambda: old.committed == new.committed)
            assert values_of(old.read_committed(0, 1 << 20)) == [b"kept", b"instead"]

    asyncio.run(go())


def test_a_record_is_committed_though_another_promise_was_made_while_it_waited_for_one(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            promises, write_round = leader._promises, leader._promises._write_round
            gates = [asyncio.Event(), asyncio.Event()]
            waiting = iter(gates)

            async def write_once_let(frames) -> None:
                await next(waiting).wait()
                await write_round(frames)

            def promise_as_a_compaction_does() -> None:
                leader._promised = promises.note_compacted(leader.partition, rewritten_to=0, cleaned_to=0)

            promises._write_round = write_once_let
            promise_as_a_compaction_does()
            appending = leader.append(*a_batch(b"one"), None)
            await leader._flusher.drain()
            promise_as_a_compaction_does()
            for gate in gates:
                gate.set()
            async with asyncio.timeout(5):
                await appending.committed
            promises._write_round = write_round

    asyncio.run(go())
