"""Several batches appended at once stand in the log, and are answered, as if they had come one after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from lograft.partitions.replica import Replica
from lograft.proto.errors import LograftError, NotLeader, OutOfOrderSequence
from lograft.proto.record_batch import BatchHeader, decode

from .trio import a_batch, a_trio

Batches = list[tuple[bytes, BatchHeader, int | None]]


def offered(*values: bytes, producer_id: int = -1, sequence: int = -1) -> tuple[bytes, BatchHeader, int | None]:
    return (*a_batch(*values, producer_id=producer_id, sequence=sequence), None)


def a_history(chance: Random) -> Batches:
    """Of three producers: most batches in order, some sent again, some before their turn; and some of nobody."""
    next_sequences = dict.fromkeys(range(3), 0)
    history: Batches = []
    for number in range(40):
        producer = chance.choice([-1, 0, 1, 2])
        if producer < 0:
            history.append(offered(f"{number}".encode() * chance.randint(1, 40)))
            continue
        sequence = next_sequences[producer] + chance.choice([0] * 8 + [-1, -2, 1])
        if sequence == next_sequences[producer]:
            next_sequences[producer] += 1
        history.append(offered(f"{number}".encode(), producer_id=producer, sequence=max(sequence, 0)))
    return history


async def outcome_of(appending: object) -> object:
    if isinstance(appending, LograftError):
        return appending.reason, str(appending)
    appended = await appending.committed  # type: ignore[attr-defined]
    return appended.base_offset, appended.duplicate


def one_by_one(leader: Replica, history: Batches) -> list[object]:
    found: list[object] = []
    for batch in history:
        try:
            found.append(leader.append(*batch))
        except LograftError as refusal:
            found.append(refusal)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_run_ends_as_its_batches_would_one_by_one(tmp_path: Path, seed: int) -> None:
    async def go() -> None:
        chance = Random(seed)
        history = a_history(chance)
        async with a_trio(tmp_path / "one", count=1) as one, a_trio(tmp_path / "many", count=1) as many:
            single, together = await one.leader(), await many.leader()
            expected = one_by_one(single, history)
            found: list[object] = []
            at = 0
            while at < len(history):
                size = chance.randint(1, 15)
                found += together.append_run(history[at : at + size])
                at += size
            assert [await outcome_of(each) for each in found] == [await outcome_of(each) for each in expected]
            for leader in (single, together):
                leader.require_ready()
            whole = [b"".join(leader.read(0, 1 << 20).batches) for leader in (single, together)]
            assert whole[0] == whole[1]

    for directory in ("one", "many"):
        (tmp_path / directory).mkdir()
    asyncio.run(go())


def test_a_run_is_one_proposal_which_followers_get_in_one_message(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            await leader.append(*offered(b"first")).committed
            sent = []
            send = trio.network.send
            trio.network.send = lambda partition, message: (sent.append(message), send(partition, message))  # type: ignore[method-assign,func-returns-value]
            run = [offered(b"%d" % number, producer_id=9, sequence=number) for number in range(10)]
            outcomes = leader.append_run(run)
            appends = [message for message in sent if getattr(message, "items", ())]
            # One to each follower that had the first batch by then.
            assert appends and {len(message.items) for message in appends} == {10}
            assert [(await outcome.committed).base_offset for outcome in outcomes] == list(range(1, 11))  # type: ignore[union-attr]
            values = [record.value for batch in leader.read(1, 1 << 20).batches for record in decode(batch)]
            assert values == [b"%d" % number for number in range(10)]

    asyncio.run(go())


def test_a_batch_sent_twice_in_one_run_is_appended_once_and_a_gap_stops_nothing_else(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, count=1) as trio:
            leader = await trio.leader()
            first = offered(b"a", producer_id=7, sequence=0)
            gap = offered(b"c", producer_id=7, sequence=5)
            second = offered(b"b", producer_id=7, sequence=1)
            one, again, refused, other = leader.append_run([first, first, gap, second])
            assert isinstance(refused, OutOfOrderSequence)
            assert [await outcome_of(each) for each in (one, again, other)] == [(0, False), (0, True), (1, False)]

    asyncio.run(go())


def test_a_run_larger_than_a_message_goes_in_several_and_stays_in_order(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path, segment_bytes_max=1 << 20) as trio:
            leader = await trio.leader()
            run = [offered(bytes([number]) * 400_000) for number in range(7)]
            outcomes = leader.append_run(run)
            assert [(await outcome.committed).base_offset for outcome in outcomes] == list(range(7))  # type: ignore[union-attr]
            found: list[bytes | None] = []
            while len(found) < 7:
                chunk = leader.read(len(found), 1 << 20)
                found += [record.value for batch in chunk.batches for record in decode(batch)]
            assert found == [bytes([number]) * 400_000 for number in range(7)]

    asyncio.run(go())


def test_whoever_does_not_lead_refuses_all_of_a_run(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            follower = next(each for each in trio.network.replicas.values() if each is not leader)
            await trio.watch.until(lambda: follower.leader == leader.voter)
            outcomes = follower.append_run([offered(b"a"), offered(b"b")])
            assert [type(outcome) for outcome in outcomes] == [NotLeader, NotLeader]

    asyncio.run(go())
