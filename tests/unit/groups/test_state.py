from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.node.groups.facts import (
    Change,
    GrantFact,
    GrantKey,
    GroupFact,
    GroupKey,
    MemberFact,
    MemberKey,
    OffsetFact,
    OffsetKey,
    UnreadableFact,
    decode,
    encode_batch,
    encode_key,
    encode_value,
)
from lograft.node.groups.state import GroupsState
from lograft.partitions.environment import PartitionId
from lograft.proto import record_batch

GROUPS = st.sampled_from(["g", "a/b", "grüße", "offset/x/1/g"])
PLACES = st.builds(PartitionId, st.sampled_from(["a" * 32, "b" * 32]), st.integers(0, 3))
MEMBERS = st.sampled_from(["m1", "m2", "m3"])
MEMBER = MemberFact(topics=("t",), session_timeout_ms=10_000, joined_ms=1, instance_id="i", replaced=("m0",))


def changes() -> st.SearchStrategy[Change]:
    number = st.integers(0, 5)
    grant = st.builds(GrantFact, member_id=MEMBERS, generation=number, grown=st.booleans())
    offset = st.builds(OffsetFact, offset=number, stored_ms=number, metadata=st.text(max_size=3))
    group = st.builds(GroupFact, generation=number, seen=st.just({"a" * 32: 3}))
    nothing = st.none()
    return st.one_of(
        st.tuples(st.builds(GroupKey, GROUPS), st.one_of(nothing, group)),
        st.tuples(st.builds(MemberKey, GROUPS, MEMBERS), st.one_of(nothing, st.just(MEMBER))),
        st.tuples(st.builds(GrantKey, GROUPS, PLACES), st.one_of(nothing, grant)),
        st.tuples(st.builds(OffsetKey, GROUPS, PLACES), st.one_of(nothing, offset)),
    )


@given(changes())
def test_a_fact_is_read_as_it_was_written(change: Change) -> None:
    key, value = change
    assert decode(encode_key(key), None if value is None else encode_value(value)) == change


@settings(max_examples=200)
@given(st.lists(changes(), max_size=40))
def test_a_compacted_log_gives_the_same_groups_as_the_whole_one(log: list[Change]) -> None:
    whole, compacted = GroupsState(), GroupsState()
    for change in log:
        whole.apply(change)
    last = dict(log)
    for change in last.items():
        compacted.apply(change)
    assert whole == compacted
    for group in whole.groups.values():
        by_owner = {place: owner for owner, grants in group.owned.items() for place in grants}
        assert by_owner == {place: grant.member_id for place, grant in group.grants.items()} and not group.is_gone


@settings(max_examples=50)
@given(st.lists(changes(), max_size=20), st.lists(changes(), max_size=20))
def test_a_copy_goes_its_own_way(log: list[Change], later: list[Change]) -> None:
    state, untouched = GroupsState(), GroupsState()
    for change in log:
        state.apply(change)
        untouched.apply(change)
    twin = state.copy()
    for change in later:
        twin.apply(change)
    assert state == untouched


def test_facts_of_different_kinds_about_one_partition_have_different_keys() -> None:
    place = PartitionId("a" * 32, 0)
    assert GrantKey("g", place) != OffsetKey("g", place) and len({GrantKey("g", place), OffsetKey("g", place)}) == 2


def test_a_batch_holds_all_changes_in_their_order() -> None:
    place = PartitionId("a" * 32, 0)
    wanted: list[Change] = [
        (OffsetKey("g", place), OffsetFact(offset=5, stored_ms=7)),
        (GrantKey("g", place), None),
    ]
    records = record_batch.decode(encode_batch(wanted, 99))
    assert [decode(record.key, record.value) for record in records] == wanted


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"", b"{}"),
        (b"\xff", b"{}"),
        (b"later/g", b"{}"),
        (b"grant/aa", b"{}"),
        (b"grant/aa/x/g", b"{}"),
        (b"group/g", b"not json"),
        (b"group/g", b"[]"),
        (b"offset/aa/0/g", b'{"offset": "5"}'),
        (b"group/g", b"[" * 100_000),
    ],
)
def test_a_record_that_cannot_be_read_is_counted_reported_and_passed_over(key: bytes | None, value: bytes) -> None:
    with pytest.raises(UnreadableFact):
        decode(key, value)
    told: list[str] = []
    state = GroupsState(lambda event, **facts: told.append(event))
    assert state.apply_record(key, value) is None
    assert state.bad_record_count == 1 and told == ["group_fact_unreadable"] and not state.groups
