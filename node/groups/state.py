"""All groups of one partition of `__offsets`: what comes of applying its records in order.

What always holds
    applying never raises: a record that cannot be read is counted and reported, and the next one is applied
    the state depends on the last record of each key alone, so a compacted log gives the same state as the whole one
    a group is there as long as one fact of it is
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...partitions.environment import PartitionId
from ..decision_log import Report
from .facts import (
    Change,
    ClassicFact,
    ClassicKey,
    GrantFact,
    GrantKey,
    GroupFact,
    GroupKey,
    MemberFact,
    MemberKey,
    OffsetFact,
    OffsetKey,
    ToldFact,
    ToldKey,
    UnreadableFact,
    Value,
    decode,
)


class GroupFacts:
    """The facts of one group in force. Others read; only `GroupsState.apply` changes them."""

    __slots__ = ("classic", "fact", "grants", "members", "offsets", "owned", "told")

    def __init__(self) -> None:
        self.fact: GroupFact | None = None
        self.classic: ClassicFact | None = None
        """What is logged of it as a group of Kafka clients."""
        self.members: dict[str, MemberFact] = {}
        self.grants: dict[PartitionId, GrantFact] = {}
        """Also those whose owner is gone: nobody holds these."""
        self.offsets: dict[PartitionId, OffsetFact] = {}
        self.owned: dict[str, dict[PartitionId, GrantFact]] = {}
        """The grants again, by owner."""
        self.told: dict[str, ToldFact] = {}
        """By member, of those that speak Kafka's server-side protocol."""

    @property
    def generation(self) -> int:
        return 0 if self.fact is None else self.fact.generation

    @property
    def is_gone(self) -> bool:
        facts = self.members or self.grants or self.offsets or self.told
        return self.fact is None and self.classic is None and not facts

    @property
    def has_members(self) -> bool:
        """Of either kind."""
        return bool(self.members) or (self.classic is not None and bool(self.classic.members))

    @property
    def member_count(self) -> int:
        return len(self.members) + (0 if self.classic is None else len(self.classic.members))

    @property
    def is_shared_out_here(self) -> bool:
        """Does the coordinator share its partitions out, or did it for the last members?"""
        if self.fact is None or self.members:
            return self.fact is not None
        classic = self.classic
        return classic is None or (not classic.members and classic.emptied_ms < self.fact.emptied_ms)

    def owner(self, partition: PartitionId) -> str | None:
        """The member that owns the partition now."""
        grant = self.grants.get(partition)
        return grant.member_id if grant is not None and grant.member_id in self.members else None

    def copy(self) -> GroupFacts:
        twin = GroupFacts()
        twin.fact = self.fact
        twin.classic = self.classic
        twin.members = dict(self.members)
        twin.grants = dict(self.grants)
        twin.offsets = dict(self.offsets)
        twin.owned = {member_id: dict(grants) for member_id, grants in self.owned.items()}
        twin.told = dict(self.told)
        return twin

    def put(self, change: Change) -> bool:
        """Take one fact. True if that changed anything."""
        key, value = change
        old: Value | None
        match key:
            case GroupKey():
                old, self.fact = self.fact, value if isinstance(value, GroupFact) else None
            case ClassicKey():
                old, self.classic = self.classic, value if isinstance(value, ClassicFact) else None
            case MemberKey(_, member_id):
                old = _put(self.members, member_id, value)
            case GrantKey(_, partition):
                old = _put(self.grants, partition, value)
                if isinstance(old, GrantFact):
                    held = self.owned[old.member_id]
                    del held[partition]
                    if not held:
                        del self.owned[old.member_id]
                if isinstance(value, GrantFact):
                    self.owned.setdefault(value.member_id, {})[partition] = value
            case OffsetKey(_, partition):
                old = _put(self.offsets, partition, value)
            case ToldKey(_, member_id):
                old = _put(self.told, member_id, value)
        return old != value


def _put(table: dict[Any, Any], key: object, value: Value | None) -> Value | None:
    old: Value | None = table.pop(key, None) if value is None else table.get(key)
    if value is not None:
        table[key] = value
    return old


class GroupsState:
    """Groups by name. What `apply_record` says changed is the group's name."""

    def __init__(self, report: Report | None = None) -> None:
        self.groups: dict[str, GroupFacts] = {}
        self.bad_record_count = 0
        self._report = report

    def group(self, name: str) -> GroupFacts | None:
        return self.groups.get(name)

    def apply_record(self, key: bytes | None, value: bytes | None) -> str | None:
        try:
            change = decode(key, value)
        except UnreadableFact as error:
            # A later version's: this one goes on without it, and never writes under such a key.
            self.bad_record_count += 1
            if self._report is not None:
                self._report("group_fact_unreadable", why=str(error))
            return None
        return self.apply(change)

    def apply(self, change: Change) -> str | None:
        """Put or delete one fact. Returns the group's name if that changed anything."""
        name = change[0].group
        group = self.groups.get(name)
        if group is None:
            if change[1] is None:
                return None
            group = self.groups[name] = GroupFacts()
        changed = group.put(change)
        if group.is_gone:
            del self.groups[name]
        return name if changed else None

    def facts(self) -> Iterator[Change]:
        """Every fact in force."""
        for name, group in sorted(self.groups.items()):
            if group.fact is not None:
                yield GroupKey(name), group.fact
            if group.classic is not None:
                yield ClassicKey(name), group.classic
            for member_id, member in sorted(group.members.items()):
                yield MemberKey(name, member_id), member
            for member_id, told in sorted(group.told.items()):
                yield ToldKey(name, member_id), told
            for partition, grant in sorted(group.grants.items()):
                yield GrantKey(name, partition), grant
            for partition, offset in sorted(group.offsets.items()):
                yield OffsetKey(name, partition), offset

    def begin_anew(self) -> GroupsState:
        """Another one without any group, which reports to the same."""
        return GroupsState(self._report)

    def become(self, other: GroupsState) -> list[str]:
        """Take over the groups of `other`, which is used up. Returns the names of those that are not what they were."""
        before, after = self._facts_by_group(), other._facts_by_group()
        self.groups = other.groups
        self.bad_record_count += other.bad_record_count
        return [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]

    def _facts_by_group(self) -> dict[str, list[Change]]:
        found: dict[str, list[Change]] = {}
        for key, value in self.facts():
            found.setdefault(key.group, []).append((key, value))
        return found

    def copy(self) -> GroupsState:
        twin = GroupsState()
        twin.groups = {name: group.copy() for name, group in self.groups.items()}
        return twin

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, GroupsState) and list(self.facts()) == list(other.facts())

    __hash__ = None  # type: ignore[assignment]
