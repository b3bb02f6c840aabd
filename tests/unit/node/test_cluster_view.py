"""What a leader tells of a partition."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lograft.node.cluster_view import view_of
from lograft.node.copying import Copying
from lograft.partitions.raft.messages import Voter
from lograft.partitions.replica import Replica

from ..replica.trio import a_trio


def voting(leader: Replica) -> set[Voter]:
    return {replica.voter for replica in view_of(leader.status(), Copying(), 0, {}).replicas if replica.votes}


def test_a_change_of_voters_is_told_once_it_is_committed_and_not_before(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            leaving = next(voter for voter in leader.voters if voter != leader.voter)
            before = {*leader.voters}
            async with asyncio.timeout(10):
                while not all(map(leader.keeps_up, leader.voters)):  # noqa: ASYNC110  nobody is told of that
                    await asyncio.sleep(0)
            trio.network.is_cut = lambda _: True
            leader.change_voters(tuple(voter for voter in leader.voters if voter != leaving))
            leader.set_learners(())
            assert leaving not in leader.voters
            assert voting(leader) == before
            trio.join()
            await trio.watch.until(lambda: voting(leader) == before - {leaving})

    asyncio.run(go())


def test_who_fills_anothers_place_is_told_as_that_one(tmp_path: Path) -> None:
    async def go() -> None:
        async with a_trio(tmp_path) as trio:
            leader = await trio.leader()
            for voter in leader.voters:
                placed = voter._replace(replica_number=9)
                told = view_of(leader.status(), Copying(), 0, {voter: placed})
                assert {*told.voters} == {*leader.voters} - {voter} | {placed}

    asyncio.run(go())
