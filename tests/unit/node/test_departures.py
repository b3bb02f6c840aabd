"""A replica that is not placed any more is deleted only when its partition's leader has let it go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from lograft.node.departures import Departures, Placed, lets_go
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.proto.errors import NoLeader, NotLeader

PARTITION = PartitionId("a" * 32, 0)
LEADER, LEAVING = Voter(1, "d1", 1), Voter(2, "d2", 2)


class Asked:
    """Answers in turn, and notes whether the replica was silent at the time."""

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers = list(answers)
        self.departures = Departures(self._ask)
        self.silent_when_asked: list[bool] = []

    async def _ask(self, partition: PartitionId, identity: Voter) -> bool:
        self.silent_when_asked.append(self.departures.is_silent(partition))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def may_delete(asked: Asked) -> bool:
    return asyncio.run(asked.departures.may_delete(PARTITION, LEAVING))


def test_the_answer_that_counts_is_to_a_question_asked_in_silence() -> None:
    asked = Asked(True, True)
    assert may_delete(asked) and asked.silent_when_asked == [False, True]
    assert asked.departures.is_silent(PARTITION), "until it is deleted"
    asked.departures.deleted(PARTITION)
    assert not asked.departures.is_silent(PARTITION)


def test_a_replica_that_is_needed_does_not_fall_silent_for_being_asked_about() -> None:
    asked = Asked(False)
    assert not may_delete(asked) and asked.silent_when_asked == [False]


def test_a_replica_that_is_needed_after_all_speaks_again() -> None:
    for second in (False, NotLeader("somebody else leads")):
        asked = Asked(True, second)
        assert not may_delete(asked) and not asked.departures.is_silent(PARTITION)


class FakeLeader:
    def __init__(self, voters: tuple[Voter, ...], committed: tuple[Voter, ...], confirm: Callable[[], Awaitable[int]]):
        self.voters = voters
        self.committed_voters = committed
        self.confirm_read = confirm


async def confirmed() -> int:
    return 7


async def deposed() -> int:
    raise NotLeader("somebody else leads")


def answer(leader: FakeLeader, *placed: Voter, next_number: int = 3) -> bool:
    return asyncio.run(lets_go(leader, LEAVING, lambda: Placed(placed, next_number)))


def test_a_leader_lets_go_of_whom_nothing_names() -> None:
    assert answer(FakeLeader((LEADER,), (LEADER,), confirmed), LEADER)


def test_a_leader_that_has_not_heard_yet_of_the_decision_that_made_it_does_not_let_go() -> None:
    """Once it hears of that, it might make a voter of what is deleted by then."""
    with pytest.raises(NoLeader, match="not heard yet"):
        answer(FakeLeader((LEADER,), (LEADER,), confirmed), LEADER, next_number=LEAVING.replica_number)


def test_a_leader_keeps_a_voter_and_one_whose_removal_or_addition_could_still_be_cut() -> None:
    both = (LEADER, LEAVING)
    assert not answer(FakeLeader(both, both, confirmed), LEADER)
    assert not answer(FakeLeader((LEADER,), both, confirmed), LEADER)
    assert not answer(FakeLeader(both, (LEADER,), confirmed), LEADER)


def test_a_leader_keeps_a_replica_that_its_own_decisions_still_place() -> None:
    assert not answer(FakeLeader((LEADER,), (LEADER,), confirmed), LEADER, LEAVING)


def test_a_leader_that_cannot_confirm_that_it_leads_lets_nobody_go() -> None:
    leader = FakeLeader((LEADER,), (LEADER,), deposed)
    try:
        answer(leader, LEADER)
    except NotLeader:
        return
    raise AssertionError("it answered")
