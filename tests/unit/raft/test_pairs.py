"""Heartbeats between two brokers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lograft.partitions.raft.pairs import (
    GroupView,
    Heartbeat,
    HeartbeatReply,
    Leading,
    LeadingReply,
    Pair,
    PairEffects,
    TermSet,
)


class Side:
    """One broker with a pair and the views of its replicas."""

    def __init__(self) -> None:
        self.pair = Pair(silence_ms=500)
        self.views: dict[str, GroupView] = {}
        self.log: list[PairEffects] = []

    def receive(self, message, now_ms: float) -> PairEffects:
        effects = self.pair.receive(message, now_ms, self.views.get)
        self.log.append(effects)
        return effects


def exchange(one: Side, other: Side, now_ms: float) -> list[PairEffects]:
    """`one` ticks, and everything is delivered; what each side was told to do, in order."""
    under_way = [(other, message) for message in one.pair.tick(now_ms).send]
    found = []
    while under_way:
        side, message = under_way.pop(0)
        effects = side.receive(message, now_ms)
        found.append(effects)
        under_way += [(one if side is other else other, reply) for reply in effects.send]
    return found


def two_sides() -> tuple[Side, Side]:
    leader, follower = Side(), Side()
    leader.pair.begin_session(0)
    follower.pair.begin_session(0)
    return leader, follower


def follow(leader: Side, follower: Side, group: str, term: int) -> None:
    leader.pair.set_leading(group, term)
    follower.pair.set_following(group, term)
    follower.views[group] = GroupView(term, follows=True)


def test_thousand_groups_that_agree_cost_one_small_message_each_way() -> None:
    leader, follower = two_sides()
    for number in range(1000):
        follow(leader, follower, f"g{number}", 3)
    found = exchange(leader, follower, 100)
    assert [type(message) for effects in found for message in effects.send] == [HeartbeatReply]
    assert found[0].send[0].agrees


def test_group_that_the_follower_does_not_follow_yet_is_named_and_its_leader_woken() -> None:
    leader, follower = two_sides()
    follow(leader, follower, "a", 1)
    leader.pair.set_leading("b", 2)
    follower.views["b"] = GroupView(1, follows=False)
    found = exchange(leader, follower, 100)
    assert found[-1].wake == ["b"]


def test_newer_term_is_named_so_that_the_old_leader_resigns() -> None:
    leader, follower = two_sides()
    leader.pair.set_leading("a", 1)
    follower.views["a"] = GroupView(4, follows=False)
    assert exchange(leader, follower, 100)[-1].newer == [("a", 4)]


def test_unknown_replica_is_silent_and_left_out_until_it_is_tried_again() -> None:
    leader, follower = two_sides()
    leader.pair.set_leading("a", 1)
    assert exchange(leader, follower, 100)[-1].silent == ["a"]
    found = exchange(leader, follower, 200)
    assert found[0].send[0].agrees, "left out"
    follower.views["a"] = GroupView(1, follows=False)
    assert exchange(leader, follower, 700)[-1].wake == ["a"]


def test_a_group_that_was_told_of_silence_is_told_that_it_has_ended_where_the_other_side_follows_already() -> None:
    leader, follower = two_sides()
    leader.pair.set_leading("a", 1)
    assert exchange(leader, follower, 100)[-1].silent == ["a"]
    # Its replica is made now, and hears of its leader by a question that every voter is asked, not by the lists.
    follower.pair.set_following("a", 1)
    follower.views["a"] = GroupView(1, follows=True)
    exchange(leader, follower, 200)
    found = exchange(leader, follower, 700)
    assert found[0].send[0].agrees and found[-1].wake == ["a"]
    assert exchange(leader, follower, 800)[-1].wake == [], "told once"


def test_agreement_about_an_older_heartbeat_ends_no_silence() -> None:
    leader, _ = two_sides()
    leader.pair.set_leading("a", 1)
    leader.receive(LeadingReply((), ("a",), ()), 150)
    without = leader.pair.tick(200).send[0]
    leader.pair.tick(700)
    assert isinstance(without, Heartbeat) and leader.pair.leading.get("a") == 1, "tried again"
    assert leader.receive(HeartbeatReply(without.number, agrees=True), 710).wake == []


def test_resignation_is_told_again_until_it_is_noted() -> None:
    leader, follower = two_sides()
    follow(leader, follower, "a", 1)
    leader.pair.set_leading("a", None)
    first = exchange(leader, follower, 100)
    again = exchange(leader, follower, 200)
    assert [effects.resigned for effects in first if effects.resigned] == [[("a", 1)]]
    assert [effects.resigned for effects in again if effects.resigned] == [[("a", 1)]]
    follower.pair.set_following("a", None)
    assert not [effects for effects in exchange(leader, follower, 300) if effects.resigned]


def test_pair_is_silent_when_its_heartbeats_are_not_answered_though_the_other_side_is_heard() -> None:
    leader, follower = two_sides()
    for now_ms in (100, 200, 300, 400, 500):
        leader.receive(follower.pair.tick(now_ms).send[0], now_ms)
    assert leader.pair.tick(501).went_silent
    assert not leader.pair.tick(600).went_silent, "told once"
    assert leader.receive(HeartbeatReply(99, agrees=True), 700).was_heard_again


def test_closed_link_is_silence_at_once() -> None:
    leader, _ = two_sides()
    assert leader.pair.end_session().went_silent and not leader.pair.end_session().went_silent


def test_disagreement_about_an_older_heartbeat_asks_for_no_lists() -> None:
    leader, _ = two_sides()
    leader.pair.set_leading("a", 1)
    old = leader.pair.tick(100).send[0]
    leader.pair.set_leading("b", 1)
    leader.pair.tick(200)
    assert isinstance(old, Heartbeat)
    assert leader.receive(HeartbeatReply(old.number, agrees=False), 250).send == []


def test_disagreement_is_heard_though_every_answer_comes_after_the_next_heartbeat() -> None:
    leader, _ = two_sides()
    leader.pair.set_leading("a", 1)
    first = leader.pair.tick(100).send[0]
    second = leader.pair.tick(200).send[0]
    assert [type(sent) for sent in leader.receive(HeartbeatReply(first.number, agrees=False), 250).send] == [Leading]
    assert leader.receive(HeartbeatReply(second.number, agrees=False), 260).send == [], "the lists are under way"
    third = leader.pair.tick(300).send[0]
    leader.pair.tick(400)
    assert leader.receive(HeartbeatReply(third.number, agrees=False), 450).send, "and sent again if they did not help"


def test_refusal_of_a_group_that_is_not_led_any_more_says_nothing() -> None:
    leader, _ = two_sides()
    effects = leader.receive(LeadingReply((("a", 9),), ("b",), ("c",)), 100)
    assert effects == PairEffects()


def test_lists_name_what_is_missing_on_either_side() -> None:
    _, follower = two_sides()
    follow(Side(), follower, "gone", 1)
    effects = follower.receive(Leading((("new", 1),)), 100)
    assert effects.resigned == [("gone", 1)]
    assert effects.send == [LeadingReply((), ("new",), ())]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(1, 4)))))
def test_sum_depends_on_what_is_there_and_not_on_how_it_came(changes) -> None:
    walked = TermSet()
    for group, term in changes:
        walked.set(group, term)
    built = TermSet()
    for group, term in sorted(walked.items()):
        built.set(group, term)
    assert walked.sum == built.sum
