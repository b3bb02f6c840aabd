"""One Fetch call over replicas that are only lists of batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lograft.node.fetches import BYTES_PER_TURN, Fetching, Share
from lograft.node.metrics import Metrics
from lograft.node.rpc.budget import Lease, SharedBudget
from lograft.node.rpc.fetch import ANSWER_BYTES_MAX, SHARES_PER_TURN, FetchCall
from lograft.partitions.chunk import Chunk
from lograft.partitions.commit_waiters import CommitWaiter
from lograft.proto.errors import InvalidRequest, LograftError, NotLeader, OffsetOutOfRange
from lograft.v1 import broker_service_pb2 as pb


class FakeReplica:
    """Holds batches of one record each; all of them are committed."""

    def __init__(self, *batches: bytes) -> None:
        self.batches = list(batches)
        self.reads = 0
        self.waiters: list[CommitWaiter] = []
        self.log_start, self.term = 0, 3

    @property
    def committed(self) -> Any:
        return SimpleNamespace(offset=len(self.batches))

    @property
    def log(self) -> Any:
        return SimpleNamespace(end=self.committed)

    def require_ready(self) -> None: ...

    def read(self, offset: int, bytes_max: int, *, only_cached: bool = False) -> Chunk:
        self.reads += 1
        if offset > len(self.batches):
            raise OffsetOutOfRange("beyond", offset=offset, start=0, end=len(self.batches))
        found: list[memoryview] = []
        for batch in self.batches[offset:]:
            if found and sum(map(len, found)) + len(batch) > bytes_max:
                break
            found.append(memoryview(batch))
        return Chunk(found, offset + len(found), len(self.batches), 0, 3)

    def on_commit_past(self, offset: int, callback: Callable[[], None]) -> CommitWaiter:
        waiter = CommitWaiter(callback)
        if len(self.batches) > offset:
            asyncio.get_running_loop().call_soon(waiter.fire)
        self.waiters.append(waiter)
        return waiter

    def commit(self, batch: bytes) -> None:
        self.batches.append(batch)
        for waiter in self.waiters:
            waiter.fire()


class FakeReplicas:
    def __init__(self, **replicas: FakeReplica) -> None:
        self.replicas = replicas

    def leading(self, name: str, number: int, topic_id: str) -> Any:
        if name not in self.replicas:
            raise NotLeader("elsewhere", leader_id=2)
        return SimpleNamespace(replica=self.replicas[name])

    def with_address(self, error: LograftError) -> LograftError:
        error.facts["leader_address"] = "h:1"
        return error


def a_call(
    replicas: FakeReplicas, *topics: str, bytes_max: int = 1 << 20, lease: Lease | None = None, **request: int
) -> FetchCall:
    asked = [pb.FetchRequest.Partition(topic=topic) for topic in topics]
    return FetchCall(
        pb.FetchRequest(partitions=asked, **request),
        replicas,  # type: ignore[arg-type]
        Metrics(),
        bytes_max=bytes_max,
        wait_ms_max=60_000,
        lease=lease,
    )


def partitions_of(answer: bytes) -> list[pb.FetchResponse.Partition]:
    return list(pb.FetchResponse.FromString(answer).partitions)


def answered(call: FetchCall) -> list[pb.FetchResponse.Partition]:
    async def scene() -> bytes:
        return await asyncio.wait_for(call.answer(), 5)

    return partitions_of(asyncio.run(scene()))


def test_the_first_batch_leaves_however_small_the_bound_and_no_other_passes_it() -> None:
    replicas = FakeReplicas(a=FakeReplica(b"x" * 100, b"x" * 100), b=FakeReplica(b"y" * 100))
    first, second = answered(a_call(replicas, "a", "b", max_bytes=1))
    assert (len(first.batches), first.next_offset) == (100, 1)
    assert (len(second.batches), second.next_offset) == (0, 0)


def test_the_bound_is_for_all_partitions_together() -> None:
    replicas = FakeReplicas(a=FakeReplica(b"x" * 100), b=FakeReplica(b"y" * 100), c=FakeReplica(b"z" * 100))
    sizes = [len(answer.batches) for answer in answered(a_call(replicas, "a", "b", "c", max_bytes=250))]
    assert sizes == [100, 100, 0]


def test_the_brokers_own_bound_holds_whatever_is_asked() -> None:
    replicas = FakeReplicas(a=FakeReplica(*[b"x" * 100] * 10))
    (answer,) = answered(a_call(replicas, "a", bytes_max=300, max_bytes=2**31 - 1))
    assert len(answer.batches) == 300


def test_a_batch_that_does_not_fit_ends_the_wait_instead_of_being_read_again_and_again() -> None:
    replica = FakeReplica(b"x" * 100, b"x" * 1000)
    replicas = FakeReplicas(a=replica)
    (answer,) = answered(a_call(replicas, "a", max_bytes=500, min_bytes=500, max_wait_ms=60_000))
    assert (len(answer.batches), replica.reads) == (100, 2)


def test_what_has_no_room_is_not_read_in_vain() -> None:
    behind = [FakeReplica(b"y" * 100), FakeReplica(b"z" * 100)]
    replicas = FakeReplicas(a=FakeReplica(*[b"x" * 100] * 9), b=FakeReplica(b"w" * 200), c=behind[0], d=behind[1])
    sizes = [len(answer.batches) for answer in answered(a_call(replicas, "a", "b", "c", "d", max_bytes=1000))]
    assert sizes == [900, 0, 0, 0]
    assert [replica.reads for replica in behind] == [0, 0]


def test_where_a_partition_ends_is_told_also_where_there_was_no_room_for_it() -> None:
    replicas = FakeReplicas(a=FakeReplica(b"x" * 100), b=FakeReplica(b"y" * 100), c=FakeReplica(b"z" * 100, b"z"))
    answers = answered(a_call(replicas, "a", "b", "c", "nowhere", max_bytes=100))
    assert [answer.committed_offset for answer in answers[:3]] == [1, 1, 2]
    assert [answer.next_offset for answer in answers[:3]] == [1, 0, 0]
    assert [answer.term for answer in answers[:3]] == [3, 3, 3]
    assert answers[3].error.reason == "NOT_LEADER"


def test_a_long_read_lets_others_have_a_turn_in_between() -> None:
    async def scene() -> int:
        replicas = FakeReplicas(a=FakeReplica(*[bytes(BYTES_PER_TURN // 2)] * 12))
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        loop = asyncio.get_running_loop()
        loop.call_soon(turn)
        share = Share(pb.FetchRequest.Partition(topic="a"), 1 << 30)
        everything: dict[str, int] = {"bytes_max": 1 << 30, "bytes_min": 1, "wait_ms": 0}
        await Fetching([share], replicas, Metrics(), **everything).gather()  # type: ignore[arg-type]
        assert share.size == 6 * BYTES_PER_TURN
        return turns

    assert asyncio.run(scene()) >= 5


def test_an_answer_ends_where_it_would_hold_up_the_loop_but_not_within_a_batch() -> None:
    many, large = FakeReplica(*[bytes(ANSWER_BYTES_MAX // 4)] * 8), FakeReplica(bytes(2 * ANSWER_BYTES_MAX))
    for replica, size in ((many, ANSWER_BYTES_MAX), (large, 2 * ANSWER_BYTES_MAX)):
        call = a_call(FakeReplicas(a=replica), "a", bytes_max=1 << 30, max_bytes=1 << 30)
        (answer,) = answered(call)
        assert len(answer.batches) == size


def test_an_error_of_one_partition_is_told_at_once_beside_the_others_records() -> None:
    replicas = FakeReplicas(a=FakeReplica(b"x"), b=FakeReplica())
    good, elsewhere, empty = answered(a_call(replicas, "a", "nowhere", "b", min_bytes=1000, max_wait_ms=60_000))
    assert (good.batches, empty.batches) == (b"x", b"")
    assert (elsewhere.error.reason, elsewhere.error.leader.address) == ("NOT_LEADER", "h:1")


def test_a_parked_call_wakes_with_the_first_commit_and_leaves_nothing_behind() -> None:
    async def scene() -> None:
        idle, busy = FakeReplica(), FakeReplica()
        call = a_call(FakeReplicas(a=idle, b=busy), "a", "b", max_wait_ms=60_000)
        answer = asyncio.create_task(call.answer())
        await asyncio.sleep(0)
        assert idle.waiters and busy.waiters
        busy.commit(b"news")
        first, second = partitions_of(await asyncio.wait_for(answer, 5))
        assert (first.batches, second.batches) == (b"", b"news")
        assert all(waiter.callback is None for waiter in idle.waiters + busy.waiters)

    asyncio.run(scene())


def test_min_bytes_gathers_what_several_commits_bring() -> None:
    async def scene() -> None:
        replica = FakeReplica()
        call = a_call(FakeReplicas(a=replica), "a", min_bytes=6, max_wait_ms=60_000)
        answer = asyncio.create_task(call.answer())
        for batch in (b"one", b"two"):
            await asyncio.sleep(0)
            replica.commit(batch)
        (partition,) = partitions_of(await asyncio.wait_for(answer, 5))
        assert (partition.batches, partition.next_offset) == (b"onetwo", 2)

    asyncio.run(scene())


def test_a_call_that_its_client_gave_up_leaves_nothing_behind() -> None:
    async def scene() -> None:
        replica = FakeReplica()
        answer = asyncio.create_task(a_call(FakeReplicas(a=replica), "a", max_wait_ms=60_000).answer())
        await asyncio.sleep(0)
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
        assert [waiter.callback for waiter in replica.waiters] == [None]

    asyncio.run(scene())


def test_too_many_partitions_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        a_call(FakeReplicas(), *["a"] * 10_001)


def test_a_call_for_nothing_is_answered_at_once() -> None:
    assert answered(a_call(FakeReplicas(), max_wait_ms=60_000)) == []


def test_parked_calls_that_wake_together_take_no_more_than_their_connections_share_and_one_answer() -> None:
    """Else one that reads none of its answers holds what all others need."""

    async def scene() -> None:
        replica, budget = FakeReplica(), SharedBudget(400)
        leases = [budget.lease("ipv4:10.0.0.1:1") for _ in range(8)]
        calls = [a_call(FakeReplicas(a=replica), "a", lease=lease, max_wait_ms=60_000) for lease in leases]
        answers = [asyncio.create_task(call.answer()) for call in calls]
        await asyncio.sleep(0)
        replica.commit(b"x" * 100)
        for _ in range(10):
            await asyncio.sleep(0)
        assert budget.taken == 100 and [answer.done() for answer in answers].count(True) == 1
        await asyncio.wait_for(budget.lease("ipv4:10.0.0.2:1").room(), 1)
        for lease, answer in zip(leases, answers, strict=True):
            assert len(partitions_of(await asyncio.wait_for(answer, 1))[0].batches) == 100
            lease.end()
        assert budget.taken == 0

    asyncio.run(scene())


def test_calls_of_many_partitions_gather_no_more_together_than_their_connections_share_and_a_turn_of_each() -> None:
    async def scene() -> None:
        budget = SharedBudget(400)
        replicas = FakeReplicas(a=FakeReplica(), b=FakeReplica(b"x" * 100))
        leases = [budget.lease("ipv4:10.0.0.1:1") for _ in range(8)]
        topics = ["a"] * SHARES_PER_TURN + ["b"] * SHARES_PER_TURN
        answers = [
            asyncio.create_task(a_call(replicas, *topics, lease=lease, max_bytes=100).answer()) for lease in leases
        ]
        for _ in range(10):
            await asyncio.sleep(0)
        assert budget.taken == 100
        for answer in answers:
            answer.cancel()

    asyncio.run(scene())


def test_a_call_that_holds_something_does_not_wait_for_room() -> None:
    async def scene() -> None:
        first, second, budget = FakeReplica(b"x" * 100), FakeReplica(), SharedBudget(400)
        replicas, lease = FakeReplicas(a=first, b=second), budget.lease("ipv4:10.0.0.1:1")
        call = a_call(replicas, "a", "b", lease=lease, min_bytes=200, max_wait_ms=60_000)
        answer = asyncio.create_task(call.answer())
        await asyncio.sleep(0)
        second.commit(b"y" * 100)
        assert [len(share.batches) for share in partitions_of(await asyncio.wait_for(answer, 1))] == [100, 0]

    asyncio.run(scene())


def test_a_leader_that_is_lost_while_a_call_of_many_partitions_gathers_ends_the_wait() -> None:
    async def scene() -> None:
        replicas = FakeReplicas(a=FakeReplica(), b=FakeReplica())
        topics = ["a", *["b"] * SHARES_PER_TURN]
        answer = asyncio.create_task(a_call(replicas, *topics, max_wait_ms=60_000).answer())
        await asyncio.sleep(0)
        del replicas.replicas["a"]
        assert partitions_of(await asyncio.wait_for(answer, 1))[0].error.reason == "NOT_LEADER"

    asyncio.run(scene())
