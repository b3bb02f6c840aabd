from __future__ import annotations

from collections import Counter

import pytest
from lograft.node.groups.calls import Condition, Granted, Join, SeekTarget
from lograft.node.groups.rules import GroupsLimits
from lograft.proto.errors import (
    FencedInstance,
    GroupFull,
    GroupNotEmpty,
    InvalidGroup,
    InvalidRequest,
    InvalidSession,
    LograftError,
    LostGrant,
    NoLeader,
    OffsetMetadataTooLarge,
    OffsetOutOfRange,
    UnknownGroup,
    UnknownMember,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)

from tests.unit.groups.world import (
    SESSION_MS,
    Member,
    World,
    a_join,
    delete_topic,
    partition,
    put_topic,
    to_store,
    topic_id,
)


def joined(world: World, *member_ids: str, **join: object) -> list[Member]:
    """Members that joined together and took up what they were granted."""
    members = [Member(world, member_id, a_join(**join)) for member_id in member_ids]  # type: ignore[arg-type]
    for member in members:
        member.beat()
    world.settle()
    for member in members:
        member.beat()
    return members


def numbers(member: Member) -> list[int]:
    return sorted(granted.partition.number for granted in member.held)


def hand_over(world: World, *members: Member) -> None:
    """Rounds of heartbeats in which everything that is to move, moves."""
    for _ in range(4):
        for member in members:
            member.beat()
            member.give_back()
        world.settle()


# -- who owns what ---------------------------------------------------------------------------------------------------


def test_the_first_member_gets_everything_and_is_told_only_once_it_is_logged() -> None:
    world = World(partitions=6)
    member = Member(world, "m1")
    assert member.beat() is not None and not member.held
    world.pass_ms(world.limits.settle_ms - 1)
    member.beat()
    assert not member.held
    world.office.advance(world.now_ms + 1, world.wall_ms)
    assert not world.office.answer(world.logged, "g", "m1").grants, "decided, and not logged yet"
    world.log()
    member.beat()
    assert numbers(member) == [0, 1, 2, 3, 4, 5]


def test_members_that_come_together_get_their_shares_at_once_without_any_hand_over() -> None:
    world = World(partitions=6)
    members = joined(world, "m1", "m2", "m3")
    assert [len(member.held) for member in members] == [2, 2, 2]
    assert len({granted for member in members for granted in member.held}) == 6
    assert world.office.condition("g") is Condition.STABLE


def test_a_partition_reaches_its_new_owner_only_after_the_old_one_gave_it_back() -> None:
    world = World(partitions=6)
    (old,) = joined(world, "m1")
    new = Member(world, "m2")
    new.beat()
    world.settle()
    old.beat()
    new.beat()
    assert len(old.giving_up) == 3 and len(old.held) == 3 and not new.held
    assert world.office.condition("g") is Condition.MOVING
    world.pass_ms(SESSION_MS / 2)
    old.beat()
    new.beat()
    assert not new.held, "still being handled"
    old.give_back()
    old.beat()
    new.beat()
    assert len(new.held) == 3 and not old.holds & new.holds
    assert world.office.condition("g") is Condition.STABLE


def test_partitions_that_do_not_move_keep_their_grants() -> None:
    world = World(partitions=12)
    members = joined(world, "m1", "m2", "m3")
    before = {member.member_id: set(member.held) for member in members}
    new = Member(world, "m4")
    hand_over(world, new, *members)
    assert [len(member.held) for member in (*members, new)] == [3, 3, 3, 3]
    for member in members:
        assert member.held < before[member.member_id]


def test_a_member_that_leaves_is_replaced_without_waiting_for_its_session() -> None:
    world = World(partitions=6)
    one, other = joined(world, "m1", "m2")
    one.leave()
    world.settle()
    other.beat()
    assert numbers(other) == [0, 1, 2, 3, 4, 5]


def test_a_silent_member_keeps_its_partitions_until_its_session_ends_and_no_longer() -> None:
    world = World(partitions=6)
    _silent, other = joined(world, "m1", "m2")
    world.pass_ms(SESSION_MS - 1)
    other.beat()
    assert len(other.held) == 3
    world.pass_ms(1)
    world.settle()
    other.beat()
    assert numbers(other) == [0, 1, 2, 3, 4, 5]


def test_a_member_whose_session_ended_is_told_so_and_comes_back_as_a_newcomer() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    before = set(member.held)
    world.pass_ms(SESSION_MS)
    with pytest.raises(UnknownMember):
        member.beat()
    member.lose_all()
    member.is_joined = False
    member.beat()
    world.settle()
    member.beat()
    assert {granted.partition for granted in member.held} == {granted.partition for granted in before}
    assert not member.held & before, "under new grants"


def test_each_member_is_judged_by_its_own_session_time() -> None:
    world = World(partitions=2)
    patient = Member(world, "m1", a_join(session_ms=60_000))
    hasty = Member(world, "m2", a_join(session_ms=1_000))
    hand_over(world, patient, hasty)
    world.pass_ms(1_000)
    assert world.logged.groups["g"].members.keys() == {"m1"}


def test_a_grant_that_nobody_took_up_is_given_back_by_who_never_held_it() -> None:
    world = World(partitions=2)
    one, other = Member(world, "m1"), Member(world, "m2")
    one.beat()
    world.settle()  # all is granted to m1, who has not heard of it
    other.beat()
    world.settle()
    hand_over(world, one, other)
    assert len(one.held) == len(other.held) == 1


def test_a_late_heartbeat_from_before_a_grant_gives_nothing_back() -> None:
    world = World(partitions=2)
    (one,) = joined(world, "m1")
    late = one.request(owned=frozenset())
    other = Member(world, "m2")
    other.beat()
    world.settle()
    one.beat()
    world.beat(late)
    other.beat()
    assert not other.held and len(one.giving_up) == 1


def test_what_was_released_to_a_coordinator_that_died_before_logging_it_comes_back_under_a_new_grant() -> None:
    world = World(partitions=2)
    one, other = joined(world, "m1", "m2")
    (granted,) = one.held
    one.held.clear()
    one.released.add(granted)
    one.used_up.add(granted)
    world.office.heartbeat(one.request(), world.now_ms, world.wall_ms)
    world.change_office()  # what was decided is lost
    hand_over(world, one, other)
    (anew,) = one.held
    assert anew.partition == granted.partition and anew.generation > granted.generation


def test_a_member_that_changes_its_subscription_gives_back_what_it_no_longer_wants() -> None:
    world = World(partitions=2)
    put_topic(world.topics, "u", 2)
    (member,) = joined(world, "m1")
    member.join, member.is_joined = a_join("u"), False
    hand_over(world, member)
    assert {granted.partition for granted in member.held} == {partition("u", 0), partition("u", 1)}
    assert world.logged.groups["g"].grants.keys() == {partition("u", 0), partition("u", 1)}


# -- topics ----------------------------------------------------------------------------------------------------------


def test_a_topic_that_is_made_later_is_picked_up() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    other = Member(world, "m2", a_join("t", "later"))
    answer = other.beat()
    assert answer is not None and answer.unknown_topics == ("later",)
    hand_over(world, member, other)
    put_topic(world.topics, "later", 4)
    world.office.topics_changed(world.now_ms)
    world.settle()
    hand_over(world, member, other)
    assert Counter(granted.partition.topic_id for granted in other.held)[partition("later", 0).topic_id] == 4


def test_a_pattern_takes_whole_names_and_never_internal_topics() -> None:
    world = World(partitions=1)
    for name in ("orders", "orders.eu", "xorders", "__orders"):
        put_topic(world.topics, name, 1)
    (member,) = joined(world, "m1", pattern=r"_*orders(\..*)?")
    held = {granted.partition for granted in member.held}
    assert held == {partition("orders", 0), partition("orders.eu", 0)}


def test_an_internal_topic_is_nobodys_to_consume() -> None:
    world = World(partitions=1)
    put_topic(world.topics, "__orders", 1)
    member = Member(world, "m1", a_join("__orders"))
    answer = member.beat()
    assert answer is not None and answer.unknown_topics == ("__orders",)


def test_partitions_that_a_topic_grew_by_are_marked_new_until_something_is_stored() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    put_topic(world.topics, "t", 4)
    world.office.topics_changed(world.now_ms)
    world.settle()
    answer = member.beat()
    assert answer is not None
    assert [told.grown for told in answer.grants] == [False, False, True, True]
    new = answer.grants[2].granted
    assert world.store("m1", to_store(new, 5)) == [None]
    answer = member.beat()
    assert answer is not None
    assert [told.grown for told in answer.grants] == [False, False, False, True]


def test_new_partitions_stay_marked_while_their_owners_come_and_go() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    put_topic(world.topics, "t", 3)
    world.office.topics_changed(world.now_ms)
    world.settle()
    member.leave()
    world.change_office()
    (next_member,) = joined(world, "m2")
    answer = next_member.beat()
    assert answer is not None and [told.grown for told in answer.grants] == [False, False, True]


def test_a_deleted_topic_takes_its_grants_and_stored_offsets_with_it() -> None:
    world = World(partitions=2)
    put_topic(world.topics, "u", 1)
    member = Member(world, "m1", a_join("t", "u"))
    hand_over(world, member)
    (granted,) = [granted for granted in member.held if granted.partition == partition("u", 0)]
    assert world.store("m1", to_store(granted, 3, topic="u")) == [None]
    delete_topic(world.topics, "u")
    world.office.topics_changed(world.now_ms)
    world.log()
    world.settle()
    member.beat()
    assert partition("u", 0) not in {granted.partition for granted in member.held}
    assert partition("u", 0) not in world.logged.groups["g"].offsets


def test_topics_that_come_and_go_leave_nothing_with_the_groups_that_read_them() -> None:
    world = World(partitions=1)
    member = Member(world, "m1", a_join(pattern=".*"))
    hand_over(world, member)
    for count in range(20):
        put_topic(world.topics, f"day-{count}", 1)
        world.office.topics_changed(world.now_ms)
        world.settle()
        delete_topic(world.topics, f"day-{count}")
        world.office.topics_changed(world.now_ms)
        world.settle()
    fact = world.logged.groups["g"].fact
    assert fact is not None and set(fact.seen) == {topic_id("t")}


def test_a_coordinator_that_lags_behind_forgets_no_mark_of_a_new_partition() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    put_topic(world.topics, "t", 3)
    world.office.topics_changed(world.now_ms)
    world.settle()
    member.leave()
    put_topic(world.topics, "t", 2)
    world.change_office()
    (next_member,) = joined(world, "m2")
    put_topic(world.topics, "t", 3)
    world.office.topics_changed(world.now_ms)
    world.settle()
    answer = next_member.beat()
    assert answer is not None and [told.grown for told in answer.grants] == [False, False, True]


def test_what_an_earlier_coordinator_granted_of_a_topic_not_heard_of_here_stays_where_it_is() -> None:
    world = World(partitions=4)
    members = joined(world, "m1", "m2")
    before = [set(member.held) for member in members]
    topic = world.topics.topics["t"]
    world.topics.apply((topic.key, None))  # this broker lags behind: it is not deleted, it is not known yet
    world.change_office()
    world.settle()
    for member in members:
        member.beat()
    assert [member.held for member in members] == before


def test_a_coordinator_that_lags_behind_has_stores_of_what_was_granted_tried_again() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    granted = next(iter(sorted(member.held)))
    entry = to_store(granted, 3)._replace(topic_id=granted.partition.topic_id)
    topic = world.topics.topics["t"]
    world.topics.apply((topic.key, None))
    world.change_office()
    (refused,) = world.store("m1", entry)
    assert isinstance(refused, NoLeader)
    put_topic(world.topics, "t", 2)
    assert world.store("m1", entry) == [None]
    delete_topic(world.topics, "t")
    (refused,) = world.store("m1", entry)
    assert isinstance(refused, UnknownTopic)


# -- a new coordinator -----------------------------------------------------------------------------------------------


def test_a_new_coordinator_goes_on_with_the_same_grants_and_gives_every_member_a_whole_session() -> None:
    world = World(partitions=6)
    members = joined(world, "m1", "m2")
    before = [set(member.held) for member in members]
    world.pass_ms(SESSION_MS - 1)
    world.change_office()
    world.pass_ms(SESSION_MS - 1)
    for member in members:
        member.beat()
    assert [member.held for member in members] == before and world.logged.groups["g"].members.keys() == {"m1", "m2"}


def test_a_new_coordinator_goes_on_with_a_hand_over_under_way() -> None:
    world = World(partitions=6)
    (old,) = joined(world, "m1")
    new = Member(world, "m2")
    new.beat()
    world.settle()
    old.beat()
    wanted = set(old.giving_up)
    world.change_office()
    world.settle()
    old.beat()
    assert old.giving_up == wanted
    hand_over(world, old, new)
    assert {granted.partition for granted in new.held} == {granted.partition for granted in wanted}


def test_a_coordinator_that_slept_ends_nobodys_session_for_it() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    world.now_ms += SESSION_MS * 2
    world.office.forgive(world.now_ms)
    world.office.advance(world.now_ms, world.wall_ms)
    member.beat()
    assert len(member.held) == 2


def test_a_coordinator_that_sleeps_time_and_again_gives_nobody_more_than_one_session_for_it() -> None:
    world = World(partitions=2)
    (silent,) = joined(world, "m1")
    other = Member(world, "m2")
    hand_over(world, silent, other)
    for _ in range(5):
        world.now_ms += SESSION_MS / 2
        world.office.forgive(world.now_ms)
        world.office.advance(world.now_ms, world.wall_ms)
        world.log()
        other.beat()
    assert set(world.logged.groups["g"].members) == {"m2"}


def test_a_member_that_changes_its_mind_for_ever_costs_no_memory() -> None:
    world = World(partitions=2)
    member = Member(world, "m1", a_join("t", session_ms=SESSION_MS))
    for count in range(200):
        member.join = a_join("t", session_ms=SESSION_MS if count % 2 else SESSION_MS // 2)
        member.is_joined = False
        member.beat()
        world.pass_ms(SESSION_MS // 4)
    assert len(world.office._ends) < 10


# -- static members --------------------------------------------------------------------------------------------------


def test_a_static_member_that_starts_again_takes_over_its_partitions_and_nobody_elses_move() -> None:
    world = World(partitions=6)
    static = Member(world, "m1", a_join(instance_id="i1"))
    other = Member(world, "m2")
    hand_over(world, static, other)
    others, had = set(other.held), {granted.partition for granted in static.held}
    again = Member(world, "m1-again", a_join(instance_id="i1"))
    again.beat()
    assert {granted.partition for granted in again.held} == had, "at once"
    assert not again.held & static.held, "under new grants"
    world.settle()
    other.beat()
    again.beat()
    assert other.held == others and {granted.partition for granted in again.held} == had


def test_the_fenced_process_of_an_instance_is_out_for_good() -> None:
    world = World(partitions=2)
    static = Member(world, "m1", a_join(instance_id="i1"))
    hand_over(world, static)
    (granted, _) = sorted(static.held)
    Member(world, "m2", a_join(instance_id="i1")).beat()
    Member(world, "m3", a_join(instance_id="i1")).beat()
    for attempt in (static.request(), static.request(join=a_join(instance_id="i1"))):
        with pytest.raises(FencedInstance):
            world.beat(attempt)
    with pytest.raises(FencedInstance):
        world.store("m1", to_store(granted, 1))
    world.change_office()
    with pytest.raises(FencedInstance):
        static.beat()


def test_a_member_cannot_change_its_instance_id() -> None:
    world = World()
    (member,) = joined(world, "m1")
    with pytest.raises(InvalidRequest):
        world.beat(member.request(join=a_join(instance_id="i1")))


# -- stored offsets --------------------------------------------------------------------------------------------------


def test_an_owner_stores_with_metadata_and_time() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    first, second = sorted(member.held)
    assert world.store("m1", to_store(first, 7, "note"), to_store(second, 0)) == [None, None]
    stored = world.logged.groups["g"].offsets[first.partition]
    assert (stored.offset, stored.metadata, stored.stored_ms) == (7, "note", world.wall_ms)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (to_store((0, 1), -1), OffsetOutOfRange),
        (to_store((0, 1), 11), OffsetOutOfRange),
        (to_store((0, 1), 1 << 63), OffsetOutOfRange),
        (to_store((9, 1), 1), UnknownPartition),
        (to_store((-1, 1), 1), UnknownPartition),
        (to_store((0, 1), 1, topic="nowhere"), UnknownTopic),
        (to_store((0, 1), 1)._replace(topic_id="f" * 32), UnknownTopicId),
        (to_store((0, 1), 1, "x" * (1 << 20)), OffsetMetadataTooLarge),
        (to_store((0, 1), 1, "é" * 2049), OffsetMetadataTooLarge),
    ],
)
def test_an_offset_that_cannot_be_stored_is_refused_and_the_others_beside_it_are_stored(
    entry: object, why: type[LograftError]
) -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    first, second = sorted(member.held)
    world.ends[first.partition] = 10
    assert entry._replace(generation=first.generation) if hasattr(entry, "_replace") else None
    refused, stored = world.store("m1", entry._replace(generation=first.generation), to_store(second, 4))  # type: ignore[attr-defined]
    assert type(refused) is why and stored is None
    assert world.stored(0) is None and world.stored(1) == 4


def test_the_end_itself_can_be_stored_and_an_end_that_is_not_known_is_asked_for_again() -> None:
    world = World(partitions=1)
    (member,) = joined(world, "m1")
    (granted,) = member.held
    world.ends[granted.partition] = 10
    assert world.store("m1", to_store(granted, 10)) == [None]
    (refused,) = world.office.store("g", "m1", [to_store(granted, 10)], {}, world.wall_ms)
    assert type(refused) is NoLeader and refused.retriable


def test_what_belongs_to_another_cannot_be_stored() -> None:
    world = World(partitions=2)
    one, other = joined(world, "m1", "m2")
    (others,) = other.held
    (refused,) = world.store("m1", to_store(others, 3))
    assert type(refused) is LostGrant and world.stored(others.partition.number) is None
    assert len(one.held) == 1


def test_a_zombie_stores_nothing_once_its_session_ended() -> None:
    world = World(partitions=2)
    zombie, other = joined(world, "m1", "m2")
    (granted,) = zombie.held
    world.pass_ms(SESSION_MS / 2)
    other.beat()
    world.pass_ms(SESSION_MS / 2)
    with pytest.raises(UnknownMember):
        world.store("m1", to_store(granted, 3))
    world.settle()
    zombie.lose_all()
    zombie.is_joined = False
    hand_over(world, zombie, other)
    (refused,) = world.store("m1", to_store(granted, 3))
    assert type(refused) is LostGrant and world.stored(granted.partition.number) is None


def test_an_owner_stores_while_its_partition_is_asked_back_and_not_after_it_gave_it_back() -> None:
    world = World(partitions=2)
    (old,) = joined(world, "m1")
    new = Member(world, "m2")
    new.beat()
    world.settle()
    old.beat()
    (moving,) = old.giving_up
    assert world.store("m1", to_store(moving, 3)) == [None]
    old.give_back()
    old.beat()
    (refused,) = world.store("m1", to_store(moving, 4))
    assert type(refused) is LostGrant and world.stored(moving.partition.number) == 3


def test_others_joining_disturbs_no_store_of_what_stays() -> None:
    world = World(partitions=4)
    (old,) = joined(world, "m1")
    before = set(old.held)
    new = Member(world, "m2")
    hand_over(world, new, old)
    for granted in old.held & before:
        assert world.store("m1", to_store(granted, 3)) == [None]


def test_without_membership_offsets_are_stored_only_while_the_group_has_no_members() -> None:
    world = World(partitions=2)
    assert world.store("", to_store((0, 0), 3)) == [None] and world.stored(0) == 3
    joined(world, "m1")
    with pytest.raises(GroupNotEmpty):
        world.store("", to_store((0, 0), 4))
    assert world.stored(0) == 3


# -- seek ------------------------------------------------------------------------------------------------------------


def to_seek(number: int, offset: int, topic: str = "t") -> SeekTarget:
    return SeekTarget(topic, number, "", offset)


def seek(world: World, *targets: SeekTarget, dry: bool = False) -> tuple[int, int]:
    sought = world.office.seek("g", targets, {partition("t", n): 100 for n in range(9)}, world.wall_ms, dry=dry)
    world.log()
    return sought


def test_a_seek_of_a_living_group_moves_all_positions_in_one_generation() -> None:
    world = World(partitions=4)
    one, other = joined(world, "m1", "m2")
    before = {granted.partition: granted for member in (one, other) for granted in member.held}
    generation, regranted = seek(world, *(to_seek(number, 10 + number) for number in range(4)))
    assert regranted == 4 and [world.stored(number) for number in range(4)] == [10, 11, 12, 13]
    one.beat()
    other.beat()
    held = {granted.partition: granted.generation for member in (one, other) for granted in member.held}
    assert held == dict.fromkeys(before, generation)
    assert len(one.held) == len(other.held) == 2, "nobody lost anything"


def test_nothing_fetched_before_a_seek_can_overwrite_it() -> None:
    world = World(partitions=1)
    (member,) = joined(world, "m1")
    (before,) = member.held
    seek(world, to_seek(0, 10))
    (refused,) = world.store("m1", to_store(before, 50))
    assert type(refused) is LostGrant and world.stored(0) == 10
    member.beat()
    (after,) = member.held
    assert world.store("m1", to_store(after, 11)) == [None]


def test_a_seek_during_a_hand_over_is_not_overwritten_by_the_old_owner() -> None:
    world = World(partitions=2)
    (old,) = joined(world, "m1")
    new = Member(world, "m2")
    new.beat()
    world.settle()
    old.beat()
    (moving,) = old.giving_up
    seek(world, to_seek(moving.partition.number, 10))
    (refused,) = world.store("m1", to_store(moving, 50))
    assert type(refused) is LostGrant
    hand_over(world, old, new)
    assert len(new.held) == 1 and world.stored(moving.partition.number) == 10


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (to_seek(0, -1), OffsetOutOfRange),
        (to_seek(0, 101), OffsetOutOfRange),
        (to_seek(8, 1), UnknownPartition),
        (to_seek(0, 1, "nowhere"), UnknownTopic),
        (to_seek(1, 1), InvalidRequest),
    ],
)
def test_a_seek_with_one_impossible_target_moves_nothing(target: SeekTarget, why: type[LograftError]) -> None:
    world = World(partitions=2)
    joined(world, "m1")
    with pytest.raises(why):
        seek(world, to_seek(1, 5), target)
    assert world.stored(0) is None and world.stored(1) is None


def test_a_seek_that_is_only_checked_changes_nothing_and_one_without_members_stores() -> None:
    world = World(partitions=1)
    assert seek(world, to_seek(0, 5), dry=True) == (0, 0) and world.stored(0) is None
    assert seek(world, to_seek(0, 5)) == (0, 0) and world.stored(0) == 5
    (member,) = joined(world, "m1")
    (granted,) = member.held
    generation, regranted = seek(world, to_seek(0, 6), dry=True)
    assert (generation, regranted) == (world.logged.groups["g"].generation + 1, 1) and world.stored(0) == 5
    assert member.beat() is not None and member.held == {granted}


# -- limits and ends -------------------------------------------------------------------------------------------------


def test_a_full_group_takes_no_more_members_but_its_own_instances() -> None:
    world = World(limits=GroupsLimits(members_max=2))
    Member(world, "m1", a_join(instance_id="i1")).beat()
    Member(world, "m2").beat()
    with pytest.raises(GroupFull, match="2 members"):
        Member(world, "m3").beat()
    Member(world, "m1-again", a_join(instance_id="i1")).beat()
    assert world.logged.groups["g"].members.keys() == {"m2", "m1-again"}


def test_too_many_groups_are_refused_however_they_come() -> None:
    world = World(partitions=1, limits=GroupsLimits(groups_max=1))
    Member(world, "m1").beat()
    with pytest.raises(GroupFull, match="delete groups"):
        Member(world, "m1", group="another").beat()
    with pytest.raises(GroupFull):
        world.store("", to_store((0, 0), 1), group="another")
    assert world.logged.groups.keys() == {"g"}


@pytest.mark.parametrize(
    ("join", "why"),
    [
        (a_join(session_ms=0), InvalidSession),
        (a_join(session_ms=999), InvalidSession),
        (a_join(session_ms=86_400_000), InvalidSession),
        (a_join(session_ms=-5), InvalidSession),
        (Join((), None, 10_000), InvalidRequest),
        (a_join(pattern="("), InvalidRequest),
        (a_join(pattern=r"(a)\1"), InvalidRequest),
        (a_join(pattern="x" * 2_000), InvalidRequest),
        (Join(("t",) * 2_000, None, 10_000), InvalidRequest),
        (a_join(instance_id="i\n1"), InvalidGroup),
        (a_join(instance_id="i" * (1 << 20)), InvalidGroup),
    ],
)
def test_a_member_that_asks_for_the_impossible_does_not_get_in(join: Join, why: type[LograftError]) -> None:
    world = World()
    with pytest.raises(why) as refused:
        Member(world, "m1", join).beat()
    assert len(str(refused.value)) < 500 and not world.logged.groups


def test_an_unknown_member_without_a_wish_to_join_is_refused() -> None:
    world = World()
    member = Member(world, "m1")
    with pytest.raises(UnknownMember):
        world.beat(member.request(join=None))
    world.beat(member.request(leave=True))
    assert not world.logged.groups


def test_a_group_with_members_cannot_be_deleted_and_one_without_leaves_nothing() -> None:
    world = World(partitions=2)
    (member,) = joined(world, "m1")
    world.store("m1", to_store(sorted(member.held)[0], 3))
    with pytest.raises(GroupNotEmpty):
        world.office.delete("g")
    member.leave()
    world.office.delete("g")
    world.log()
    assert not world.logged.groups
    with pytest.raises(UnknownGroup):
        world.office.delete("g")


def test_a_dead_group_is_forgotten_after_the_retention_and_a_living_one_never() -> None:
    limits = GroupsLimits(offsets_retention_ms=3_600_000, session_ms_max=10**9)
    world = World(partitions=2, limits=limits)
    (member,) = joined(world, "m1")
    world.store("m1", to_store(sorted(member.held)[0], 3))
    living = Member(world, "m9", a_join(session_ms=10**8), group="living")
    living.beat()
    member.leave()
    world.pass_ms(3_500_000)
    assert "g" in world.logged.groups
    world.pass_ms(260_000)
    assert world.logged.groups.keys() == {"living"}


def test_a_clock_that_is_set_forward_makes_no_group_older() -> None:
    world = World(partitions=1, limits=GroupsLimits(offsets_retention_ms=3_600_000))
    world.store("", to_store((0, 0), 3))
    world.wall_ms += 10**9
    world.pass_ms(3_500_000)
    assert "g" in world.logged.groups


@pytest.mark.parametrize("stored_behind_ms, led_ahead_ms", [(0, 10**9), (10**12, 0)])
def test_no_group_is_forgotten_because_the_clocks_of_two_leaders_are_far_apart(
    stored_behind_ms: int, led_ahead_ms: int
) -> None:
    world = World(partitions=1, limits=GroupsLimits(offsets_retention_ms=3_600_000))
    right_ms, world.wall_ms = world.wall_ms, world.wall_ms - stored_behind_ms
    world.change_office()
    world.store("", to_store((0, 0), 3))
    world.wall_ms = right_ms + led_ahead_ms
    world.change_office()
    world.pass_ms(3_500_000)
    assert world.stored(0) == 3
    world.pass_ms(200_000)
    assert "g" not in world.logged.groups


def test_a_group_that_stores_now_and_then_is_kept_though_the_clock_stands_still() -> None:
    world = World(partitions=1, limits=GroupsLimits(offsets_retention_ms=3_600_000))
    for offset in range(3):
        stands_ms = world.wall_ms
        world.store("", to_store((0, 0), offset))
        world.pass_ms(3_000_000)
        world.wall_ms = stands_ms
    assert world.stored(0) == 2


def test_groups_of_one_coordinator_do_not_touch_each_other() -> None:
    world = World(partitions=2)
    one = Member(world, "m1", group="one")
    other = Member(world, "m1", group="other")
    hand_over(world, one, other)
    assert len(one.held) == len(other.held) == 2
    (granted, _) = sorted(one.held)
    assert world.store("m1", to_store(granted, 3), group="one") == [None]
    assert world.stored(0, group="other") is None


def test_a_member_that_is_told_the_same_again_changes_nothing() -> None:
    world = World(partitions=4)
    (member,) = joined(world, "m1")
    world.office.heartbeat(member.request(), world.now_ms, world.wall_ms)
    assert world.office.take() == []
    world.office.heartbeat(member.request(join=member.join), world.now_ms, world.wall_ms)
    assert world.office.take() == []
    assert member.held == {Granted(place, fact.generation) for place, fact in world.logged.groups["g"].grants.items()}
