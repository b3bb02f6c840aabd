"""What a broker remembers of the leaderships that it gained and lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lograft.node.role_changes import KEPT_MAX, RoleChange, RoleChanges, newest_first
from lograft.partitions.environment import PartitionId

P = PartitionId("a" * 32, 0)


def changes_of(*steps: tuple[int, bool, int | None], in_touch: tuple[int, ...] = (1, 2)) -> list[RoleChange]:
    """Of broker 0, after it was told (term, leads, leader)."""
    links: Any = SimpleNamespace(sessions=[])
    changes = RoleChanges(0, links, lambda broker_id: broker_id in in_touch, lambda: 1_000)
    for term, leads, leader_id in steps:
        changes.note(P, term, leads, leader_id)
    return list(changes._changes)


def whys(*steps: tuple[int, bool, int | None], **facts: Any) -> list[tuple[int, bool, int, str]]:
    return [(change.term, change.leads, change.other_id, change.why) for change in changes_of(*steps, **facts)]


def test_the_first_leader_of_a_partition_is_told_as_such() -> None:
    assert whys((1, True, 0)) == [(1, True, -1, "first")]


def test_to_follow_somebody_is_no_change_of_leadership() -> None:
    assert whys((1, False, 1), (2, False, None), (2, False, 2)) == []


def test_who_leads_after_a_leader_that_is_out_of_touch_says_so() -> None:
    assert whys((1, False, 3), (2, False, None), (2, True, 0)) == [(2, True, 3, "silent")]


def test_who_leads_after_a_leader_in_touch_was_handed_it() -> None:
    assert whys((1, False, 1), (2, True, 0)) == [(2, True, 1, "handed_over")]


def test_who_is_superseded_says_by_whom_and_who_resigns_says_that() -> None:
    assert whys((1, True, 0), (2, False, 1))[1:] == [(2, False, 1, "superseded")]
    assert whys((1, True, 0), (2, False, None), (3, True, 0))[1:] == [(2, False, -1, "resigned"), (3, True, 0, "again")]


def test_the_oldest_give_way() -> None:
    found = changes_of(*((term, term % 2 == 0, 0 if term % 2 == 0 else None) for term in range(2 * KEPT_MAX)))
    assert len(found) == KEPT_MAX and found[-1].term == 2 * KEPT_MAX - 1


def test_what_several_brokers_tell_is_put_together_newest_first_and_each_once() -> None:
    one = RoleChange(5, 0, "t", 0, 1, True, -1, "first")
    two = RoleChange(9, 1, "t", 0, 2, True, 0, "silent")
    assert newest_first([[one], [two, one]]) == [two, one]
