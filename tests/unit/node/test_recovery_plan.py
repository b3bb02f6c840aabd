"""When a partition's majority may be given up, whose log goes on, and what is said to be lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from lograft.node.controller.facts import PartitionFact, RecoveryFact
from lograft.node.recovery_plan import Holding, Plan, plan
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN, Point

A, B, C = (Voter(broker_id, f"disk {broker_id}", broker_id) for broker_id in (1, 2, 3))
FACT = PartitionFact(placement=(A, B, C), first_voters=(A, B, C))
ALIVE = {voter.broker_id: voter.directory_id for voter in (A, B, C)}


def holding(voter: Voter, offset: int, term: int = 3, **fields: Any) -> Holding:
    return Holding(**{"voter": voter, "end": Point(term, offset, 1), "voters": (A, B, C), "term": term} | fields)


def judged(*holdings: Holding, alive: tuple[int, ...] = (1, 2, 3), fact: PartitionFact = FACT, **more: Any) -> Plan:
    in_touch = {broker_id: ALIVE[broker_id] for broker_id in alive}
    return plan("partition 0 of 'events'", fact, holdings, **{"alive": in_touch, "unanswered": ()} | more)


def test_a_partition_with_a_leader_that_commits_has_nothing_to_recover() -> None:
    assert "is led by broker 1" in judged(holding(A, 9, leads=True), holding(B, 9)).refusal


def test_while_somebody_in_touch_has_not_answered_nothing_is_judged() -> None:
    found = judged(holding(A, 9), alive=(1, 2), unanswered=(2,))
    assert "brokers 2" in found.refusal and "again" in found.refusal


def test_a_majority_in_touch_and_whole_elects_a_leader_by_itself() -> None:
    assert "elect a leader by themselves" in judged(holding(A, 9), holding(B, 4), alive=(1, 2)).refusal


def test_all_voters_in_touch_and_in_doubt_elect_together_unless_a_word_stands_in_the_way() -> None:
    doubtful = [holding(voter, 9, doubtful=True) for voter in (A, B, C)]
    assert "all voters" in judged(*doubtful).refusal
    stuck = [*doubtful[:2], holding(C, 2, doubtful=True, word=Point(3, 20, 1))]
    found = judged(*stuck)
    assert not found.refusal and (found.kept_offset, found.lost_offset) == (9, 20)


D, E, F = (Voter(broker_id, f"disk {broker_id}", broker_id) for broker_id in (4, 5, 6))
MOVED = PartitionFact(placement=(B, C, D), first_voters=(A, B, C))


LATE = holding(A, 0, term=0)
"""A first voter that was made late, after the others had put D in its place: nobody can let it go while none leads."""


def test_a_set_of_voters_that_others_have_left_elects_nobody_who_holds_less_than_they() -> None:
    left = holding(C, 9, voters=(B, C, D))
    found = judged(LATE, left, alive=(1, 3), fact=MOVED)
    assert not found.refusal and found.source == left and found.unknown_brokers == (2, 4)
    ahead = holding(B, 12, voters=(A, B, C))
    assert "elect a leader by themselves" in judged(LATE, ahead, left, fact=MOVED).refusal


def test_nor_do_all_of_them_in_doubt() -> None:
    doubtful = [holding(B, 4, doubtful=True), holding(C, 9, voters=(B, C, D), doubtful=True)]
    found = judged(LATE, *doubtful, fact=MOVED)
    assert not found.refusal and found.source == doubtful[1]
    assert "all voters" in judged(LATE, doubtful[0], holding(C, 9, doubtful=True), fact=MOVED).refusal


def test_who_was_just_let_go_may_have_to_lead_and_is_elected_by_those_who_stay() -> None:
    """Of A to D, D removed A, told A alone, and is lost: A holds most, and campaigns among B to D."""
    removed = holding(A, 9, voters=(B, C, D))
    staying = [holding(voter, 8, voters=(A, B, C, D)) for voter in (B, C)]
    assert "elect a leader by themselves" in judged(removed, *staying, fact=MOVED).refusal
    learner = holding(Voter(1, "disk 1", 9), 9, voters=(B, C, D))
    others = [holding(voter, 8, voters=(B, C, D, E, F)) for voter in (B, C)]
    assert not judged(learner, *others, fact=MOVED).refusal, "who never voted elects nobody"


def test_who_holds_most_is_elected_by_a_majority_that_is_sure_though_it_is_in_doubt_itself() -> None:
    doubtful = holding(A, 9, voters=(A, B, C, D, E), doubtful=True)
    sure = [holding(voter, 8, voters=(A, B, C, D, E, F)) for voter in (B, C, D)]
    alive = {voter.broker_id: voter.directory_id for voter in (A, B, C, D)}
    fact = PartitionFact(placement=(A, B, C, D, E), first_voters=(A, B, C, D, E, F))
    found = plan("it", fact, [doubtful, *sure], alive=alive, unanswered=())
    assert "elect a leader by themselves" in found.refusal


def test_a_broker_that_was_to_hold_it_twice_is_named_once() -> None:
    again = Voter(3, "disk 3", 7)
    found = judged(holding(A, 9), alive=(1,), fact=PartitionFact(placement=(A, B, again), first_voters=(A, B, C)))
    assert any(line.startswith("not in touch: broker 2, 3.") for line in found.lines), found.lines


def test_what_placed_replicas_out_of_touch_held_is_unknown_also_if_no_log_in_touch_names_them() -> None:
    found = judged(holding(A, 0, term=0), alive=(1,), fact=MOVED)
    assert not found.refusal and found.unknown_brokers == (2, 3, 4)


def test_two_lost_brokers_are_told_first_and_what_they_held_is_said_to_be_unknown() -> None:
    found = judged(holding(A, 9, committed=Point(3, 7, 1)), alive=(1,))
    assert not found.refusal and found.source is not None and found.source.voter == A
    assert "nothing need be lost: try that first" in found.lines[1]
    assert (found.kept_offset, found.lost_offset, found.unknown_brokers) == (9, 9, (2, 3))
    assert any("unknown is what broker 2, 3 held" in line for line in found.lines)


def test_a_broker_on_another_disk_is_told_from_one_that_may_come_back() -> None:
    found = plan("it", FACT, [holding(A, 9)], alive={1: "disk 1", 2: "another"}, unanswered=())
    assert any("broker 2 has another disk now" in line for line in found.lines)
    assert any("not in touch: broker 3" in line for line in found.lines)


def test_the_log_that_reaches_furthest_goes_on_and_of_equal_ones_the_whole_one() -> None:
    longer = judged(holding(A, 9, damaged=True), holding(B, 5, doubtful=True), alive=(1, 2))
    assert longer.source is not None and longer.source.voter == A
    later = judged(
        holding(A, 9, damaged=True, word=Point(3, 30, 1)), holding(B, 5, term=4, doubtful=True), alive=(1, 2)
    )
    assert later.source is not None and later.source.voter == B and later.lost_offset == 30
    equal = judged(holding(A, 9, damaged=True), holding(B, 9, doubtful=True), alive=(1, 2), despite_repair=True)
    assert equal.source is not None and equal.source.voter == B


def test_what_another_replica_holds_whole_is_left_to_repair_unless_that_has_failed() -> None:
    spoiled = holding(B, 2, damaged=True, word=Point(3, 8, 1))
    found = judged(holding(A, 9), spoiled, alive=(1, 2))
    assert "can be repaired" in found.refusal
    found = judged(holding(A, 9), spoiled, alive=(1, 2), despite_repair=True)
    assert not found.refusal and found.source is not None and found.source.voter == A
    beyond = judged(holding(A, 9), spoiled._replace(word=Point(3, 12, 1)), alive=(1, 2))
    assert not beyond.refusal and beyond.lost_offset == 12


def test_a_broker_that_holds_nothing_cannot_be_chosen_and_with_nobody_there_is_nothing_to_go_on_with() -> None:
    found = judged(holding(A, 9), alive=(1, 3), from_broker=3)
    assert "broker 3 holds no replica" in found.refusal and "1 does" in found.refusal
    assert "nothing to go on with" in judged(alive=(1,)).refusal


def a_recovered_fact() -> PartitionFact:
    heir = A._replace(replica_number=4)
    recovery = RecoveryFact(
        number=1,
        source=A,
        heir=heir,
        first_number=4,
        term=1_003,
        kept_offset=9,
        lost_offset=9,
        decided_ms=1,
        by="",
    )
    placement = (heir, B._replace(replica_number=5), C._replace(replica_number=6))
    return msgspec.structs.replace(FACT, placement=placement, recovery=recovery)


def test_a_second_recovery_waits_for_the_first_while_its_heir_can_come_to_be() -> None:
    ended = [holding(voter, 9, ended=True, why="no room", voters=()) for voter in (A, B)]
    found = judged(*ended, alive=(1, 2), fact=a_recovered_fact())
    assert "recovery 1" in found.refusal and "no room" in found.refusal
    found = judged(ended[1], alive=(2,), fact=a_recovered_fact())
    assert not found.refusal and found.source is not None and found.source.voter == B


def test_a_new_lineage_is_judged_by_its_own_voters() -> None:
    heir = a_recovered_fact().recovery
    assert heir is not None
    alone = holding(heir.heir, 12, term=1_004, voters=(heir.heir,), committed=ORIGIN)
    found = judged(alone, holding(B, 9, ended=True), alive=(1, 2), fact=a_recovered_fact())
    assert "elect a leader by themselves" in found.refusal


@pytest.mark.parametrize("lost", [9, 15])
def test_what_is_given_out_again_is_always_said(lost: int) -> None:
    found = judged(holding(A, 9, damaged=True, word=Point(3, lost, 1)), alive=(1,))
    assert found.lines[-1].startswith("offsets from 9 on are given out again")
    assert any(f"9 to {lost - 1}" in line for line in found.lines) == (lost > 9)


def test_what_another_replica_said_that_it_cannot_prove_is_not_waited_for() -> None:
    spoiled = holding(B, 3, damaged=True, word=Point(3, 8, 1))
    assert "can be repaired" in judged(holding(A, 9), spoiled, alive=(1, 2)).refusal
    found = judged(holding(A, 9), spoiled._replace(refused_by=(1,)), alive=(1, 2))
    assert not found.refusal
    assert any("broker 1 could not prove what it lost" in line for line in found.lines)
