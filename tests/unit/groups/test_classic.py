"""Groups of Kafka clients, as the protocol has it; time is a number here, and a call that waits a word."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from lograft.node.groups.classic import MEMBERS_BYTES_MAX, METADATA_BYTES_MAX, PROTOCOL_BYTES, ClassicGroups
from lograft.node.groups.classic_calls import Joined, JoinGroup, Leaver, Synced, SyncGroup
from lograft.node.groups.facts import ClassicKey, MemberFact, MemberKey, decode, encode_key, encode_value
from lograft.node.groups.rules import GroupsLimits
from lograft.node.groups.state import GroupsState
from lograft.proto.errors import (
    FencedInstance,
    GroupFull,
    IllegalGeneration,
    InconsistentGroup,
    InvalidGroup,
    InvalidRequest,
    InvalidSession,
    LograftError,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMember,
)

SESSION_MS, REBALANCE_MS, DELAY_MS = 10_000, 60_000, 1_000
LIMITS = GroupsLimits(rebalance_delay_ms=DELAY_MS, members_max=5)


class Groups:
    """The state machine, a clock, and what each call was answered."""

    def __init__(self, state: GroupsState | None = None, limits: GroupsLimits = LIMITS) -> None:
        self.state = state or GroupsState()
        self.now_ms = 0.0
        ids = count(1)
        self.classic = ClassicGroups(self.state, limits, lambda: str(next(ids)), now_ms=0)
        self.answers: dict[Any, Joined | Synced | LograftError] = {}
        self._calls = count(1)

    def pass_ms(self, ms: float) -> None:
        """Look at each moment at which something is due, as the coordinator's timer does."""
        end = self.now_ms + ms
        while (due := self.classic.next_due_ms()) is not None and due <= end:
            self.now_ms = max(due, self.now_ms)
            self.classic.advance(self.now_ms, 1_700_000_000_000)
            self._collect()
            if self.classic.next_due_ms() == due:
                break
        self.now_ms = end

    def _collect(self) -> None:
        self.answers |= dict(self.classic.take_answers())

    def join(self, member_id: str = "", *, protocols: str = "range", v: int = 5, **more: Any) -> int:
        call = next(self._calls)
        asked = JoinGroup(
            group="g",
            member_id=member_id,
            instance_id=more.pop("instance_id", ""),
            client_id=more.pop("client_id", "c"),
            host="h",
            session_timeout_ms=more.pop("session_timeout_ms", SESSION_MS),
            rebalance_timeout_ms=REBALANCE_MS,
            protocol_type=more.pop("protocol_type", "consumer"),
            protocols=tuple((name, more.get("metadata", b"of " + name.encode())) for name in protocols.split()),
            needs_known_id=v >= 4,
            can_skip_assignment=v >= 9,
        )
        self.classic.join(asked, call, self.now_ms)
        self._collect()
        return call

    def newcomer(self, **more: Any) -> tuple[str, int]:
        """A member that was told its id and came back with it."""
        with pytest.raises(MemberIdRequired) as told:
            self.join(**more)
        return told.value.facts["member_id"], self.join(told.value.facts["member_id"], **more)

    def sync(self, member_id: str, generation: int, **assignments: bytes) -> int:
        call = next(self._calls)
        asked = SyncGroup("g", member_id, "", generation, None, None, tuple(assignments.items()))
        self.classic.sync(asked, call, self.now_ms)
        self._collect()
        return call

    def joined(self, call: int) -> Joined:
        answer = self.answers[call]
        assert isinstance(answer, Joined), answer
        return answer

    def assignment(self, call: int) -> bytes:
        answer = self.answers[call]
        assert isinstance(answer, Synced), answer
        return answer.assignment

    def stable(self, members: int = 2) -> list[str]:
        """A group in which all know what they have."""
        calls = [self.newcomer() for _ in range(members)]
        self.pass_ms(2 * DELAY_MS)
        leader = self.joined(calls[0][1]).leader
        generation = self.joined(calls[0][1]).generation
        syncs = [self.sync(one, generation) for one, _ in calls if one != leader]
        self.classic.sync(
            SyncGroup(
                "g", leader, "", generation, None, None, tuple((one, b"has " + one.encode()) for one, _ in calls)
            ),
            "leader",
            self.now_ms,
        )
        self._collect()
        assert [self.assignment(call) for call in syncs] == [
            b"has " + one.encode() for one, _ in calls if one != leader
        ]
        return [leader, *(one for one, _ in calls if one != leader)]

    @property
    def generation(self) -> int:
        fact = self.state.groups["g"].classic
        assert fact is not None
        return fact.generation

    def beat(self, member_id: str, generation: int | None = None) -> None:
        self.classic.heartbeat("g", member_id, "", self.generation if generation is None else generation, self.now_ms)


def test_a_first_member_waits_for_others_and_all_are_told_one_generation() -> None:
    groups = Groups()
    one, first = groups.newcomer()
    groups.pass_ms(DELAY_MS / 2)
    two, second = groups.newcomer()
    assert groups.answers == {}
    groups.pass_ms(2 * DELAY_MS)
    joined = [groups.joined(first), groups.joined(second)]
    assert [told.generation for told in joined] == [1, 1] and {told.leader for told in joined} == {one}
    assert [told.members for told in joined] == [((one, "", b"of range"), (two, "", b"of range")), ()]
    waiting = groups.sync(two, 1)
    assert waiting not in groups.answers
    leading = groups.sync(one, 1, **{one: b"a", two: b"b"})
    assert (groups.assignment(leading), groups.assignment(waiting)) == (b"a", b"b")


def test_members_and_assignments_are_among_the_changes_before_they_are_told() -> None:
    groups = Groups()
    _, call = groups.newcomer()
    groups.classic.take()
    groups.now_ms = DELAY_MS
    groups.classic.advance(groups.now_ms, 0)
    changes = groups.classic.take()
    assert [key for key, _ in changes] == [ClassicKey("g")]
    assert [token for token, _ in groups.classic.take_answers()] == [call]
    for key, value in changes:
        assert value is not None and decode(encode_key(key), encode_value(value)) == (key, value)


def test_a_newcomer_has_all_join_anew() -> None:
    groups = Groups()
    leader, other = groups.stable()
    three, third = groups.newcomer()
    with pytest.raises(RebalanceInProgress):
        groups.beat(other)
    calls = [groups.join(leader), groups.join(other)]
    assert {groups.joined(call).generation for call in (third, *calls)} == {2}
    assert len(groups.joined(calls[0]).members) == 3 and three


def test_who_does_not_join_in_time_is_left_out() -> None:
    groups = Groups()
    leader, other = groups.stable()
    groups.newcomer()
    call = groups.join(leader)
    for _ in range(12):  # it is alive, and does not come
        with pytest.raises(RebalanceInProgress):
            groups.beat(other)
        groups.pass_ms(REBALANCE_MS / 12)
    assert len(groups.joined(call).members) == 2
    with pytest.raises(UnknownMember):
        groups.beat(other)


def test_a_member_that_falls_silent_is_gone_and_the_others_are_to_join() -> None:
    groups = Groups()
    leader, other = groups.stable()
    groups.pass_ms(SESSION_MS * 0.7)
    groups.beat(leader)
    groups.pass_ms(SESSION_MS * 0.5)
    with pytest.raises(RebalanceInProgress):
        groups.beat(leader)
    with pytest.raises(UnknownMember):
        groups.beat(other)


def test_a_leader_that_shares_nothing_out_is_left_out() -> None:
    groups = Groups()
    one, first = groups.newcomer()
    two, _ = groups.newcomer()
    groups.pass_ms(2 * DELAY_MS)
    groups.sync(two, 1)
    for _ in range(12):
        groups.beat(one)
        groups.pass_ms(REBALANCE_MS / 12)
    with pytest.raises(UnknownMember):
        groups.beat(one)
    assert groups.joined(first).leader == one


def test_newcomers_that_all_come_back_at_once_make_no_group_larger_than_it_may_be() -> None:
    groups = Groups()
    ids = []
    for _ in range(LIMITS.members_max + 1):
        with pytest.raises(MemberIdRequired) as told:
            groups.join()
        ids.append(told.value.facts["member_id"])
    for member_id in ids[:-1]:
        groups.join(member_id)
    with pytest.raises(GroupFull):
        groups.join(ids[-1])


def test_who_waited_for_a_leader_that_is_gone_has_a_whole_session_to_join_anew() -> None:
    groups = Groups()
    (first, joining), (second, _) = groups.newcomer(), groups.newcomer()
    groups.pass_ms(DELAY_MS)
    joined = groups.joined(joining)
    (follower,) = {first, second} - {joined.leader}
    waiting = groups.sync(follower, joined.generation)
    groups.pass_ms(SESSION_MS)
    assert isinstance(groups.answers[waiting], RebalanceInProgress)
    groups.pass_ms(SESSION_MS - 1)
    assert groups.joined(groups.join(follower)).member_id == follower


def test_a_join_sent_again_is_answered_as_before_and_of_two_waiting_ones_the_newer() -> None:
    groups = Groups()
    one, first = groups.newcomer()
    again = groups.join(one)
    assert isinstance(groups.answers[first], RebalanceInProgress)
    groups.pass_ms(2 * DELAY_MS)
    assert groups.joined(groups.join(one)) == groups.joined(again)


def test_another_metadata_or_the_leader_who_joins_again_begins_a_round() -> None:
    groups = Groups()
    leader, other = groups.stable()
    assert groups.joined(groups.join(other)).generation == 1
    groups.join(other, metadata=b"other topics")
    groups.join(leader)
    assert groups.generation == 2
    with pytest.raises(IllegalGeneration):
        groups.beat(other, 1)


def test_who_leaves_is_gone_at_once_and_the_last_one_leaves_the_group_empty() -> None:
    groups = Groups()
    leader, other = groups.stable()
    assert groups.classic.leave("g", Leaver(other, ""), 0, 1) == other
    with pytest.raises(UnknownMember):
        groups.classic.leave("g", Leaver(other, ""), 0, 1)
    groups.classic.leave("g", Leaver(leader, ""), 0, 5)
    described = groups.classic.describe("g")
    assert described is not None and (described.state, described.members) == ("Empty", ())
    fact = groups.state.groups["g"].classic
    assert fact is not None and (fact.members, fact.emptied_ms, fact.generation) == ((), 5, 2)


def test_only_members_of_the_generation_store_offsets_and_not_before_they_know_what_they_have() -> None:
    groups = Groups()
    groups.classic.check_store("g", "", "", -1, 0)
    one, _ = groups.newcomer()
    groups.pass_ms(2 * DELAY_MS)
    with pytest.raises(RebalanceInProgress):
        groups.classic.check_store("g", one, "", 1, groups.now_ms)
    groups.sync(one, 1, **{one: b"all"})
    groups.classic.check_store("g", one, "", 1, groups.now_ms)
    for member_id, generation, error in (
        (one, 0, IllegalGeneration),
        ("else", 1, UnknownMember),
        ("", -1, UnknownMember),
    ):
        with pytest.raises(error):
            groups.classic.check_store("g", member_id, "", generation, groups.now_ms)
    groups.newcomer()  # a round begins: what was read before it may still be stored
    groups.classic.check_store("g", one, "", 1, groups.now_ms)


def test_the_newest_process_of_an_instance_takes_its_place_without_a_round() -> None:
    groups = Groups()
    first = groups.join(instance_id="i")
    groups.pass_ms(2 * DELAY_MS)
    one = groups.joined(first).member_id
    groups.sync(one, 1, **{one: b"all"})
    second = groups.joined(groups.join(instance_id="i", v=5))
    assert (second.generation, second.leader, second.members) == (1, one, ())  # it believes that another one leads
    assert groups.assignment(groups.sync(second.member_id, 1)) == b"all"
    with pytest.raises(FencedInstance):
        groups.classic.heartbeat("g", one, "i", 1, groups.now_ms)
    third = groups.joined(groups.join(instance_id="i", v=9))
    assert third.skip_assignment and third.leader == third.member_id
    assert groups.classic.leave("g", Leaver("", "i"), 0, 1) == third.member_id


def test_a_coordinator_that_takes_over_knows_who_has_what_and_gives_whole_sessions() -> None:
    before = Groups()
    leader, other = before.stable()
    groups = Groups(before.state.copy())
    groups.pass_ms(SESSION_MS * 0.9)
    groups.beat(leader)
    groups.beat(other)
    assert groups.assignment(groups.sync(other, 1)) == b"has " + other.encode()
    groups.classic.check_store("g", other, "", 1, groups.now_ms)


def test_a_round_that_was_logged_goes_on_with_the_next_coordinator() -> None:
    before = Groups()
    one, _ = before.newcomer()
    before.pass_ms(2 * DELAY_MS)
    groups = Groups(before.state.copy())
    assert groups.assignment(groups.sync(one, 1, **{one: b"all"})) == b"all"


def test_generations_rise_whatever_happens_between() -> None:
    groups = Groups()
    (one,) = groups.stable(1)
    groups.classic.leave("g", Leaver(one, ""), groups.now_ms, 1)
    groups = Groups(groups.state.copy())
    groups.stable(1)
    assert groups.generation == 3


def test_a_seek_leaves_nobody_in_the_group() -> None:
    groups = Groups()
    leader, other = groups.stable()
    groups.newcomer()
    waiting = groups.join(other)
    assert groups.classic.sought("g", groups.now_ms, 7)
    groups._collect()
    assert isinstance(groups.answers[waiting], UnknownMember)
    with pytest.raises(UnknownMember):
        groups.classic.check_store("g", leader, "", 1, groups.now_ms)
    assert not groups.classic.sought("g", groups.now_ms, 7)


def test_members_of_another_kind_or_without_a_common_protocol_are_refused() -> None:
    groups = Groups()
    groups.stable(1)
    for other in ({"protocols": "sticky"}, {"protocol_type": "connect"}, {"protocols": ""}):
        with pytest.raises(InconsistentGroup):
            groups.join(**other)
    native = GroupsState()
    native.apply((MemberKey("g", "m"), MemberFact(topics=("t",), session_timeout_ms=1000, joined_ms=0)))
    with pytest.raises(InconsistentGroup):
        Groups(native).join()


def test_the_protocol_is_the_one_that_most_members_prefer_of_those_that_all_know() -> None:
    groups = Groups()
    calls = [groups.newcomer(protocols=names)[1] for names in ("a b", "b a c", "b a")]
    groups.pass_ms(3 * DELAY_MS)
    assert {groups.joined(call).protocol for call in calls} == {"b"}


@pytest.mark.parametrize("session_timeout_ms", [0, 999, 1_800_001])
def test_a_session_out_of_bounds_is_refused(session_timeout_ms: int) -> None:
    with pytest.raises(InvalidSession):
        Groups().join(session_timeout_ms=session_timeout_ms)


def test_who_stopped_waiting_stays_a_member_for_a_session() -> None:
    groups = Groups()
    leader, other = groups.stable()
    _, third = groups.newcomer()
    call = groups.join(other)
    groups.classic.forget(call, groups.now_ms)
    groups.classic.forget(call, groups.now_ms)
    groups.join(leader)
    assert third not in groups.answers
    groups.pass_ms(SESSION_MS + 1)
    assert groups.joined(third).generation == 2


def test_calls_that_wait_are_given_up_together() -> None:
    groups = Groups()
    _, call = groups.newcomer()
    assert groups.classic.abandon() == [call] and groups.classic.abandon() == []


def test_a_member_id_that_nobody_was_told_is_unknown() -> None:
    groups = Groups()
    with pytest.raises(UnknownMember):
        groups.join("made-up")
    for ask in (lambda: groups.sync("x", 1), lambda: groups.beat("x", 1)):
        with pytest.raises(UnknownMember):
            ask()


def test_what_the_members_bring_together_is_bounded_whenever_they_bring_it() -> None:
    groups = Groups(limits=GroupsLimits(rebalance_delay_ms=0))
    large = bytes(METADATA_BYTES_MAX - len("range") - PROTOCOL_BYTES)
    fit = MEMBERS_BYTES_MAX // len(large)
    members = [groups.newcomer(metadata=large)[0] for _ in range(fit)]
    for more in ({}, {"member_id": members[0], "protocols": "range other"}):
        with pytest.raises((GroupFull, InvalidRequest)):
            groups.join(metadata=large, **more)
    groups.join(members[0], metadata=b"less")


def test_a_native_client_that_came_while_the_first_members_waited_keeps_the_group_and_they_are_refused() -> None:
    groups = Groups()
    _, first = groups.newcomer()
    groups.state.apply((MemberKey("g", "native"), MemberFact(topics=("t",), session_timeout_ms=1, joined_ms=0)))
    groups.pass_ms(2 * DELAY_MS)
    assert isinstance(groups.answers[first], InconsistentGroup)
    assert groups.state.groups["g"].classic is None
    assert groups.classic.next_due_ms() is None


def test_newcomers_that_never_come_back_make_no_more_groups_than_there_may_be() -> None:
    groups = Groups(limits=GroupsLimits(groups_max=3))
    asked = JoinGroup("g", "", "", "c", "h", SESSION_MS, REBALANCE_MS, "consumer", (("range", b""),), True, True)
    for number in range(3):
        with pytest.raises(MemberIdRequired):
            groups.classic.join(asked._replace(group=f"g{number}"), None, 0)
    with pytest.raises(GroupFull):
        groups.classic.join(asked._replace(group="one-more"), None, 0)
    with pytest.raises(MemberIdRequired):
        groups.classic.join(asked._replace(group="g1"), None, 0)


@pytest.mark.parametrize(
    "more",
    [
        {"protocols": " ".join(f"{number:0>60000}" for number in range(4)), "metadata": b""},
        {"instance_id": "i" * 250},
        {"instance_id": "i\n"},
        {"protocol_type": "t" * 250},
    ],
)
def test_what_a_member_is_logged_with_is_bounded_whatever_it_is_called(more: dict[str, Any]) -> None:
    groups = Groups(limits=GroupsLimits(members_max=1_000, rebalance_delay_ms=DELAY_MS))
    size = 0
    with pytest.raises((GroupFull, InvalidRequest, InvalidGroup)):
        for _ in range(20):
            groups.join(v=3, **more)
            size += 240_000
    assert size <= MEMBERS_BYTES_MAX


def test_protocols_without_names_and_without_anything_to_say_count_too() -> None:
    groups = Groups(limits=GroupsLimits(members_max=1_000, rebalance_delay_ms=DELAY_MS))
    asked = JoinGroup("g", "", "", "c", "h", SESSION_MS, REBALANCE_MS, "consumer", (("", b""),) * 50_000, False, True)
    with pytest.raises(InvalidRequest):
        groups.classic.join(asked, "call", 0)
