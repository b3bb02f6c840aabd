"""What a coordinator decides while it is in office: pure, with time as an argument.

An office lasts as long as its broker leads the partition of `__offsets` without a doubt; the next one begins with what
is logged. Sessions, and which partition is to go where, are known to the office alone: every logged member begins with
a whole session, and the same members, partitions and owners always give the same assignment.

Invariants
    a partition has at most one owner at a time, and an owner is a member
    a partition passes to another owner only once its owner gave it back, or is no member any more
    a grant is never used twice: whatever is granted anew has a generation that is higher than any before
    an offset is stored by the partition's owner under the very grant by which the record was fetched, or by anybody
        while the group has no members; a seek makes the grant anew, so that nothing from before it can be stored
    what is refused changes nothing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from msgspec.structs import replace

from ...partitions.environment import PartitionId
from ...proto.errors import (
    FencedInstance,
    GroupFull,
    GroupNotEmpty,
    InconsistentGroup,
    InvalidRequest,
    LograftError,
    LostGrant,
    NoLeader,
    OffsetOutOfRange,
    StillSubscribed,
    UnknownGroup,
    UnknownMember,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from ..controller.facts import TopicFact
from ..controller.state import ClusterState
from ..controller.topic_rules import is_internal
from .calls import (
    Condition,
    Granted,
    GrantTold,
    Heartbeat,
    HeartbeatAnswer,
    Join,
    OffsetToStore,
    Seeked,
    SeekTarget,
)
from .facts import (
    Change,
    ClassicKey,
    GrantFact,
    GrantKey,
    GroupFact,
    GroupKey,
    Key,
    MemberFact,
    MemberKey,
    OffsetFact,
    OffsetKey,
    ToldKey,
    Value,
)
from .hash_ring import Taker, assign
from .rules import GroupsLimits, check_join, check_metadata, compile_pattern, for_people
from .state import GroupFacts, GroupsState
from .told import refuse_stale

REPLACED_REMEMBERED = 16
"""Earlier processes of one instance id that are told apart from newcomers."""
EXPIRY_INTERVAL_MS = 60_000.0
OFFSET_MAX = (1 << 63) - 1


class _Session(NamedTuple):
    heard_ms: float
    """When the last heartbeat came, or the office began."""
    was_heard: bool
    deadline_ms: float
    look_ms: float
    """When the heap of ends has it looked at; what the heap says of it beside that is outdated."""
    is_forgiven: bool = False
    """It was given more time, and the member has not been heard since."""


class Office:
    """Decides about all groups of one partition. `state` is run ahead by what is decided; `take` gives it to be logged.

    `now_ms` is monotonic and the office's own; `wall_ms` is unix time.
    """

    def __init__(
        self,
        state: GroupsState,
        topics: Callable[[], ClusterState],
        limits: GroupsLimits,
        *,
        now_ms: float,
    ) -> None:
        self.state = state
        self.notes: list[tuple[str, dict[str, Any]]] = []
        """Events for the operator since they were last taken away."""
        self.stirred: set[str] = set()
        """Groups in which somebody may be to hear something that is not logged."""
        self.gone: list[MemberKey] = []
        """Members that were removed since they were last taken away."""
        self._topics = topics
        self._limits = limits
        self._changes: dict[Key, Value | None] = {}
        self._generations: dict[str, int] = {}
        """Of the groups in this decision: what is decided together has one generation."""
        self._targets: dict[str, dict[PartitionId, str]] = {}
        """Who is to own what; of a group that is not here all stays as it is, for now."""
        self._quiet: dict[str, tuple[int, int]] = {}
        """Generation and target of groups in which all was where it is to be."""
        self._due_ms: dict[str, float] = {}
        """When the partitions of a group that changed are to be shared out anew."""
        self._sessions: dict[MemberKey, _Session] = {}
        self._ends: list[tuple[float, MemberKey]] = []
        """When sessions might end: a heap; a session that was renewed since is put back in its turn."""
        self._expiry_due_ms = now_ms + EXPIRY_INTERVAL_MS
        self._used_ms: dict[str, float] = dict.fromkeys(state.groups, now_ms)
        """When each group was last seen to be used, since the office began. No wall clock says it: any may be wrong."""
        self._touched: set[str] = set()
        """Groups of which something was decided since that was last looked at."""
        for name, group in state.groups.items():
            for member_id, member in group.members.items():
                key = MemberKey(name, member_id)
                deadline_ms = now_ms + member.session_timeout_ms
                self._sessions[key] = _Session(now_ms, False, deadline_ms, deadline_ms)
                self._ends.append((deadline_ms, key))
            if group.members:
                self._mark(name, now_ms)
        heapify(self._ends)

    def take(self) -> list[Change]:
        """What was decided since this was last asked, to be logged as one."""
        changes = list(self._changes.items())
        self._changes.clear()
        self._generations.clear()
        return changes

    # -- members -----------------------------------------------------------------------------------------------------

    def heartbeat(self, beat: Heartbeat, now_ms: float, wall_ms: int) -> None:
        """Take in one heartbeat, whose names are checked.

        Raises
            UnknownMember    it is no member, and does not ask to join
            FencedInstance   a newer process of its instance has taken over
            GroupFull, InvalidGroup, InvalidSession, InvalidRequest
        """
        group = self.state.group(beat.group)
        member = group.members.get(beat.member_id) if group is not None else None
        if beat.leave:
            if member is not None:
                self._remove(MemberKey(beat.group, beat.member_id), now_ms, wall_ms, for_people(beat.leave_reason))
            return
        if member is None:
            self._refuse_fenced(group, beat.member_id)
            if group is not None and group.classic is not None and group.classic.members:
                raise InconsistentGroup(
                    f"Group {_shown(beat.group)} has {len(group.classic.members)} members that are Kafka clients, "
                    "which cannot share partitions with others: use another group, or stop those first"
                )
            if beat.join is None:
                raise _unknown_member(beat.group, beat.member_id)
            check_join(beat.join, self._limits)
            self._join(beat, beat.join, now_ms, wall_ms)
        elif beat.join is not None:
            check_join(beat.join, self._limits)
            self._resubscribe(beat, beat.join, member, now_ms)
        self._renew(MemberKey(beat.group, beat.member_id), now_ms)
        self._give_back(beat)

    def answer(self, logged: GroupsState, name: str, member_id: str) -> HeartbeatAnswer:
        """What a member is to hear, by what is `logged`. Raises UnknownMember, FencedInstance."""
        group = self.of_member(logged, name, member_id)
        target = self._targets.get(name)
        grants: list[GrantTold] = []
        revoked: list[GrantTold] = []
        for partition, grant in sorted(group.owned.get(member_id, {}).items()):
            topic = self._topics().topic_by_id(partition.topic_id)
            told = GrantTold(
                Granted(partition, grant.generation),
                "" if topic is None else topic.name,
                grant.grown and partition not in group.offsets,
            )
            stays = target is None or target.get(partition) == member_id
            (grants if stays else revoked).append(told)
        unknown = tuple(topic for topic in group.members[member_id].topics if self._named(topic) is None)
        return HeartbeatAnswer(group.generation, tuple(grants), tuple(revoked), unknown)

    def of_member(self, state: GroupsState, name: str, member_id: str) -> GroupFacts:
        """The group of a member. Raises UnknownMember, FencedInstance."""
        group = state.group(name)
        if group is None or member_id not in group.members:
            self._refuse_fenced(group, member_id)
            raise _unknown_member(name, member_id)
        return group

    def heard_ms_ago(self, name: str, member_id: str, now_ms: float) -> int:
        """Since the member's last heartbeat; -1 if none came in this office."""
        session = self._sessions.get(MemberKey(name, member_id))
        return -1 if session is None or not session.was_heard else round(now_ms - session.heard_ms)

    def condition(self, name: str) -> Condition:
        group = self.state.group(name)
        if group is not None and group.classic is not None and group.classic.members:
            return Condition.STABLE if group.classic.is_assigned else Condition.MOVING
        if group is None or not group.members:
            return Condition.EMPTY
        target = self._targets.get(name)
        if target is None or name in self._due_ms:
            return Condition.MOVING
        owned = sum(map(len, group.owned.values()))
        settled = owned == len(target) and all(group.owner(partition) == owner for partition, owner in target.items())
        return Condition.STABLE if settled else Condition.MOVING

    def next_owner(self, name: str, partition: PartitionId) -> str | None:
        """Who is to own the partition; None if nobody is, or that is not worked out yet."""
        return self._targets.get(name, {}).get(partition)

    def stays(self, name: str, partition: PartitionId, member_id: str) -> bool:
        """Is its owner to keep the partition, as far as that is worked out?"""
        target = self._targets.get(name)
        return target is None or target.get(partition) == member_id

    def is_worked_out(self, name: str) -> bool:
        """Is it known who is to own what, and is that not about to change?"""
        return name in self._targets and name not in self._due_ms

    def awaits(self, name: str, member_id: str) -> bool:
        """Is the member to get what others have not given back yet?"""
        group = self.state.groups[name]
        target = self._targets.get(name, {})
        if self._quiet.get(name) == (group.generation, id(target)):
            return False
        if self.condition(name) is Condition.STABLE:
            self._quiet[name] = (group.generation, id(target))
            return False
        owned = group.owned.get(member_id, {})
        return any(owner == member_id and partition not in owned for partition, owner in target.items())

    def named(self, partitions: Iterable[PartitionId]) -> tuple[tuple[PartitionId, str], ...]:
        """With the names of their topics, as far as these are known here."""
        known = ((partition, self._topics().topic_by_id(partition.topic_id)) for partition in sorted(partitions))
        return tuple((partition, topic.name) for partition, topic in known if topic is not None)

    def generation_above(self, name: str, generation: int) -> int:
        """The group's generation, raised if it is not above the one given."""
        group = self.state.group(name)
        now = 0 if group is None else group.generation
        while now <= generation:
            self._generations.pop(name, None)
            now = self._next_generation(name)
        return now

    def grant_anew(self, name: str, member_id: str) -> None:
        """What the member had is lost to it, and becomes its own under new grants."""
        for partition, grant in list(self.state.groups[name].owned.get(member_id, {}).items()):
            self._put(GrantKey(name, partition), replace(grant, generation=self._next_generation(name)))

    def _join(self, beat: Heartbeat, join: Join, now_ms: float, wall_ms: int) -> None:
        group = self.state.group(beat.group)
        members = group.members if group is not None else {}
        same = [one for one, known in members.items() if join.instance_id and known.instance_id == join.instance_id]
        old_id = same[0] if same else ""
        if group is None:
            self._refuse_group_too_many(beat.group)
        if not old_id and len(members) >= self._limits.members_max:
            raise GroupFull(
                f"Group {_shown(beat.group)} has {len(members)} members, the most it may have; use fewer, larger "
                "consumers, or another group",
                members=len(members),
                limit=self._limits.members_max,
            )
        replaced = (*members[old_id].replaced, old_id)[-REPLACED_REMEMBERED:] if old_id else ()
        self._next_generation(beat.group)
        for partition, grant in list(group.owned.get(beat.member_id, {}).items()) if group is not None else ():
            # It was a member before. What it had then is lost to it, and may come back under a new grant alone.
            self._put(GrantKey(beat.group, partition), replace(grant, member_id=""))
        self._put(MemberKey(beat.group, beat.member_id), _member(join, wall_ms, replaced))
        if old_id:
            self._take_over(beat.group, old_id, beat.member_id)
            self._note("member_taken_over", group=beat.group, member=beat.member_id, instance=join.instance_id)
        else:
            self._note("member_joined", group=beat.group, member=beat.member_id, client=for_people(join.client_id))
        self._mark(beat.group, now_ms)

    def _take_over(self, name: str, old_id: str, new_id: str) -> None:
        """The newest process of an instance gets all that the earlier one had, under new grants."""
        group = self.state.groups[name]
        generation = self._next_generation(name)
        self._drop(MemberKey(name, old_id))
        for partition, grant in list(group.owned.get(old_id, {}).items()):
            self._put(GrantKey(name, partition), replace(grant, member_id=new_id, generation=generation))
        target = self._targets.get(name, {})
        target.update({partition: new_id for partition, owner in target.items() if owner == old_id})

    def _resubscribe(self, beat: Heartbeat, join: Join, member: MemberFact, now_ms: float) -> None:
        if join.instance_id != member.instance_id:
            raise InvalidRequest(
                f"Member {beat.member_id} cannot change its instance id from {_shown(member.instance_id)} to "
                f"{_shown(join.instance_id)}; join as another member"
            )
        wanted = _member(join, member.joined_ms, member.replaced)
        if wanted != member:
            self._put(MemberKey(beat.group, beat.member_id), wanted)
            self._mark(beat.group, now_ms)

    def _remove(self, key: MemberKey, now_ms: float, wall_ms: int, why: str) -> None:
        generation = self._next_generation(key.group)
        self._drop(key)
        self._note("member_gone", group=key.group, member=key.member_id, why=why)
        group = self.state.groups[key.group]
        if group.members:
            self._mark(key.group, now_ms)
            return
        # Its grants stay logged, held by nobody: they tell which partitions were new to the group.
        self._put(GroupKey(key.group), replace(_fact(group), generation=generation, emptied_ms=wall_ms))
        self._targets.pop(key.group, None)
        self._due_ms.pop(key.group, None)

    def _drop(self, key: MemberKey) -> None:
        self._put(key, None)
        self._sessions.pop(key, None)
        if key.member_id in self.state.groups[key.group].told:
            self._put(ToldKey(key.group, key.member_id), None)
        self.gone.append(key)

    def _give_back(self, beat: Heartbeat) -> None:
        """Take back what the member has released, and pass it on."""
        group = self.state.groups[beat.group]
        held = group.owned.get(beat.member_id, {})
        back = [
            released.partition
            for released in sorted(beat.released)
            if (grant := held.get(released.partition)) is not None and grant.generation == released.generation
        ]
        if not back:
            return
        if beat.group in self._due_ms or beat.group not in self._targets:
            self._share_out(beat.group)
        generation = self._next_generation(beat.group)
        for partition in back:
            new_owner = self._targets[beat.group].get(partition)
            if new_owner is None:
                self._put(GrantKey(beat.group, partition), None)
            else:
                grant = group.grants[partition]
                self._put(GrantKey(beat.group, partition), replace(grant, member_id=new_owner, generation=generation))

    def _renew(self, key: MemberKey, now_ms: float) -> None:
        deadline_ms = now_ms + self.state.groups[key.group].members[key.member_id].session_timeout_ms
        known = self._sessions.get(key)
        look_ms = deadline_ms if known is None else min(known.look_ms, deadline_ms)
        if known is None or look_ms < known.look_ms:
            heappush(self._ends, (look_ms, key))
        self._sessions[key] = _Session(now_ms, True, deadline_ms, look_ms)

    def _refuse_fenced(self, group: GroupFacts | None, member_id: str) -> None:
        for member in group.members.values() if group is not None else ():
            if member_id in member.replaced:
                raise FencedInstance(
                    f"A newer process has taken over instance {_shown(member.instance_id)}; this one ({member_id}) is "
                    "out: stop it, or give each process an instance id of its own",
                    instance_id=member.instance_id[:80],
                )

    def _refuse_group_too_many(self, name: str) -> None:
        if len(self.state.groups) >= self._limits.groups_max:
            raise GroupFull(
                f"Group {_shown(name)} cannot be made: its partition of __offsets holds {len(self.state.groups)} "
                "groups, the most it may; delete groups that are no longer used",
                limit=self._limits.groups_max,
            )

    # -- time --------------------------------------------------------------------------------------------------------

    def next_due_ms(self) -> float | None:
        """When `advance` has something to do; None if nothing is to be expected."""
        if not self.state.groups:
            return None
        ends = self._ends[:1]
        return min([self._expiry_due_ms, *self._due_ms.values(), *(end for end, _ in ends)])

    def advance(self, now_ms: float, wall_ms: int) -> None:
        """End sessions, share partitions out anew, and forget groups, as far as that is due."""
        while self._ends and self._ends[0][0] <= now_ms:
            look_ms, key = heappop(self._ends)
            session = self._sessions.get(key)
            if session is None or session.look_ms != look_ms:
                continue
            if session.deadline_ms > now_ms:
                heappush(self._ends, (session.deadline_ms, key))
                self._sessions[key] = session._replace(look_ms=session.deadline_ms)
                continue
            silent_ms = round(now_ms - session.heard_ms)
            self._remove(key, now_ms, wall_ms, f"no heartbeat for {silent_ms} ms")
        for name in [name for name, due_ms in self._due_ms.items() if due_ms <= now_ms]:
            self._share_out(name)
        if now_ms >= self._expiry_due_ms:
            self._expiry_due_ms = now_ms + EXPIRY_INTERVAL_MS
            self._forget_dead(now_ms)

    def forgive(self, now_ms: float) -> None:
        """This broker itself was asleep: nobody's session ends by that. Where it is so time and again, a member that is
        silent for a whole session more is gone nevertheless."""
        for key, session in self._sessions.items():
            if session.is_forgiven:
                continue
            member = self.state.groups[key.group].members[key.member_id]
            deadline_ms = max(session.deadline_ms, now_ms + member.session_timeout_ms)
            self._sessions[key] = session._replace(deadline_ms=deadline_ms, is_forgiven=True)

    def topics_changed(self, now_ms: float) -> None:
        """Topics were made, grown or deleted."""
        for name, group in list(self.state.groups.items()):
            self._forget_deleted_topics(name, group)
            if group.members and self._targets.get(name) is not None and self._wants_more_or_less(group, name):
                self._mark(name, now_ms)

    def _mark(self, name: str, now_ms: float) -> None:
        self._due_ms.setdefault(name, now_ms + self._limits.settle_ms)

    def _forget_dead(self, now_ms: float) -> None:
        used_ms: dict[str, float] = {}
        for name, group in list(self.state.groups.items()):
            is_used = group.has_members or name in self._touched
            used_ms[name] = now_ms if is_used else self._used_ms.get(name, now_ms)
            if now_ms - used_ms[name] > self._limits.offsets_retention_ms:
                self._note("group_expired", group=name, offsets=len(group.offsets))
                self._delete(name)
                del used_ms[name]
        self._used_ms = used_ms
        self._touched.clear()

    def _forget_deleted_topics(self, name: str, group: GroupFacts) -> None:
        topics = self._topics()
        for partition in [*group.grants]:
            if topics.is_deleted(partition.topic_id):
                self._put(GrantKey(name, partition), None)
        for partition in [*group.offsets]:
            if topics.is_deleted(partition.topic_id):
                self._put(OffsetKey(name, partition), None)

    # -- who owns what -----------------------------------------------------------------------------------------------

    def _share_out(self, name: str) -> None:
        """Work out who is to own what, and grant what is free. What is owned by somebody else goes when it is given
        back."""
        self._due_ms.pop(name, None)
        group = self.state.groups[name]
        self._forget_deleted_topics(name, group)
        takers = self._takers(group)
        counts = self._counts(takers)
        owned = {
            partition: owner for owner, grants in group.owned.items() if owner in group.members for partition in grants
        }
        target = assign(takers, counts, owned)
        target.update((partition, owner) for partition, owner in owned.items() if self._is_news_to_us(partition))
        seen = {} if group.fact is None else group.fact.seen
        granted = 0
        for partition, owner in sorted(target.items()):
            if group.owner(partition) is not None:
                continue
            old = group.grants.get(partition)
            is_new = partition.number >= seen.get(partition.topic_id, partition.number + 1)
            grown = old.grown if old is not None else is_new
            grant = GrantFact(member_id=owner, generation=self._next_generation(name), grown=grown)
            self._put(GrantKey(name, partition), grant)
            granted += 1
        for partition in [partition for partition in group.grants if partition not in target]:
            # What this broker has not heard of yet is kept: it may be marked as new to the group.
            if group.owner(partition) is None and not self._is_news_to_us(partition):
                self._put(GrantKey(name, partition), None)
        seen_now = {topic_id: count for topic_id, count in seen.items() if not self._topics().is_deleted(topic_id)}
        seen_now |= {topic_id: max(count, seen.get(topic_id, 0)) for topic_id, count in counts.items()}
        if seen_now != seen or _fact(group).emptied_ms:
            self._put(GroupKey(name), replace(_fact(group), seen=seen_now, emptied_ms=0))
        self._targets[name] = target
        self.stirred.add(name)
        moving = sum(target.get(partition) != owner for partition, owner in owned.items())
        if granted or moving:
            self._note("group_shared_out", group=name, members=len(takers), granted=granted, moving=moving)

    def _takers(self, group: GroupFacts) -> list[Taker]:
        named = self._topics().topics
        takers = []
        for member_id, member in group.members.items():
            wanted = {topic.topic_id for name in member.topics if (topic := self._named(name)) is not None}
            if member.pattern is not None:
                pattern = compile_pattern(member.pattern)
                wanted |= {
                    topic.topic_id
                    for name, topic in named.items()
                    if not is_internal(name) and pattern.fullmatch(name) is not None
                }
            takers.append(Taker(member_id, member.instance_id or member_id, frozenset(wanted)))
        return takers

    def _counts(self, takers: Iterable[Taker]) -> dict[str, int]:
        """Partitions of each topic that somebody wants."""
        wanted = sorted({topic_id for taker in takers for topic_id in taker.topics})
        topics = self._topics()
        return {
            topic_id: len(topic.partitions)
            for topic_id in wanted
            if (topic := topics.topic_by_id(topic_id)) is not None
        }

    def _wants_more_or_less(self, group: GroupFacts, name: str) -> bool:
        counts = self._counts(self._takers(group))
        return {
            PartitionId(topic_id, number) for topic_id, count in counts.items() for number in range(count)
        } != self._targets[name].keys()

    def _is_news_to_us(self, partition: PartitionId) -> bool:
        """An earlier coordinator granted what this broker has not heard of yet: not a reason to take it away."""
        topic = self._topics().topic_by_id(partition.topic_id)
        if topic is None:
            return not self._topics().is_deleted(partition.topic_id)
        return partition.number >= len(topic.partitions)

    def _named(self, name: str) -> TopicFact | None:
        return None if is_internal(name) else self._topics().topic(name)

    # -- stored offsets ----------------------------------------------------------------------------------------------

    def store(
        self,
        name: str,
        member_id: str,
        entries: Sequence[OffsetToStore],
        ends: Mapping[PartitionId, int],
        wall_ms: int,
        *,
        is_checked: bool = False,
    ) -> list[LograftError | None]:
        """Store what may be stored; for each entry why it was not. `ends`: the committed ends that are known.

        `is_checked`: that the sender may store was found by the rules of Kafka's groups (`classic.py`).

        Raises, for all of them
            UnknownMember, FencedInstance  the sender is no member (any more)
            GroupNotEmpty                  it does not claim to be one, and others are
        """
        group = self.state.group(name)
        if member_id:
            self.of_member(self.state, name, member_id)
        elif group is not None and group.has_members and not is_checked:
            raise GroupNotEmpty(
                f"Group {_shown(name)} has members ({group.member_count}), who store its offsets: join it, or use "
                "`group seek`, or another group",
                members=group.member_count,
            )
        elif group is None:
            self._refuse_group_too_many(name)
        results: list[LograftError | None] = []
        stored: dict[PartitionId, OffsetFact] = {}
        for entry in entries:
            try:
                if group is not None:
                    self._refuse_for_now(group, member_id, entry)
                partition = self.checked(entry, ends)
                check_metadata(entry.metadata, self._limits)
                if member_id and group is not None:
                    if (told := group.told.get(member_id)) is not None:
                        refuse_stale(told, group.grants.get(partition), partition, member_id, entry)
                    else:
                        _refuse_lost(group, partition, member_id, entry)
                stored[partition] = OffsetFact(offset=entry.offset, stored_ms=wall_ms, metadata=entry.metadata)
                results.append(None)
            except LograftError as error:
                results.append(error)
        for partition, offset in stored.items():
            self._put(OffsetKey(name, partition), offset)
        return results

    def _refuse_for_now(self, group: GroupFacts, member_id: str, entry: OffsetToStore) -> None:
        partition = PartitionId(entry.topic_id, entry.number)
        if partition in group.owned.get(member_id, {}) and self._is_news_to_us(partition):
            raise NoLeader(f"{entry.topic}-{entry.number} is not known to this coordinator yet; try again")

    def seek(
        self, name: str, targets: Sequence[SeekTarget], ends: Mapping[PartitionId, int], wall_ms: int, *, dry: bool
    ) -> Seeked:
        """Store where the group is to go on, and make the grants of what is held anew: all at once, or nothing.

        Raises what is wrong with the first target that cannot be.
        """
        places = {self.checked(target, ends): target.offset for target in targets}
        if len(places) < len(targets):
            raise InvalidRequest("A seek names each partition once; one is named twice here")
        group = self.state.group(name)
        if group is None:
            self._refuse_group_too_many(name)
        held = [partition for partition in places if group is not None and group.owner(partition) is not None]
        if dry:
            return Seeked(group.generation + 1 if group is not None and held else 0, len(held))
        for partition, offset in places.items():
            self._put(OffsetKey(name, partition), OffsetFact(offset=offset, stored_ms=wall_ms))
        if not held or group is None:
            return Seeked(0, 0)
        generation = self._next_generation(name)
        for partition in held:
            self._put(GrantKey(name, partition), replace(group.grants[partition], generation=generation))
        self._note("group_sought", group=name, partitions=len(places), regranted=len(held), generation=generation)
        return Seeked(generation, len(held))

    def forget_offsets(self, name: str, wanted: Sequence[tuple[str, int]]) -> list[LograftError | None]:
        """Forget what is stored for partitions that no member reads; for each of them why not.

        Raises UnknownGroup, and GroupNotEmpty if members share out among themselves: what they read they alone know.
        """
        group = self.state.group(name)
        if group is None:
            raise UnknownGroup(f"There is no group {_shown(name)}; `group list` shows those there are")
        if group.classic is not None and group.classic.members:
            raise GroupNotEmpty(
                f"Group {_shown(name)} has members ({group.member_count}): stop them first", members=group.member_count
            )
        read = {topic_id for taker in self._takers(group) for topic_id in taker.topics}
        results: list[LograftError | None] = []
        for topic, number in wanted:
            try:
                partition = self.partition(topic, number, "")
                if partition.topic_id in read or group.owner(partition) is not None:
                    raise StillSubscribed(
                        f"Members of group {_shown(name)} read {_shown(topic)}: stop them first, or have them "
                        "subscribe to other topics"
                    )
            except LograftError as error:
                results.append(error)
                continue
            if partition in group.offsets:
                self._put(OffsetKey(name, partition), None)
            results.append(None)
        return results

    def delete(self, name: str) -> None:
        """Forget a group. Raises UnknownGroup, GroupNotEmpty."""
        group = self.state.group(name)
        if group is None:
            raise UnknownGroup(f"There is no group {_shown(name)}; `group list` shows those there are")
        if group.has_members:
            raise GroupNotEmpty(
                f"Group {_shown(name)} has members ({group.member_count}): stop them first", members=group.member_count
            )
        self._note("group_deleted", group=name, offsets=len(group.offsets))
        self._delete(name)

    def partition(self, topic_name: str, number: int, topic_id: str) -> PartitionId:
        """Raises UnknownTopic, UnknownTopicId, UnknownPartition."""
        topic = self._topics().topic(topic_name)
        if topic is None:
            raise UnknownTopic(f"There is no topic {_shown(topic_name)}; create it first", topic=topic_name[:80])
        if topic_id and topic.topic_id != topic_id:
            raise UnknownTopicId(
                f"Topic {_shown(topic_name)} has the id {topic.topic_id}, not {topic_id[:80]!r}: the one meant was "
                "deleted",
                topic_id=topic.topic_id,
            )
        if not 0 <= number < len(topic.partitions):
            raise UnknownPartition(
                f"Topic {_shown(topic_name)} has no partition {number}, only 0 to {len(topic.partitions) - 1}",
                partitions=len(topic.partitions),
            )
        return PartitionId(topic.topic_id, number)

    def checked(self, place: OffsetToStore | SeekTarget, ends: Mapping[PartitionId, int]) -> PartitionId:
        """The partition, if one can go on at the offset. Raises OffsetOutOfRange, NoLeader, and as `partition` does."""
        partition = self.partition(place.topic, place.number, place.topic_id)
        if not 0 <= place.offset <= OFFSET_MAX:
            raise OffsetOutOfRange(
                f"Offset {place.offset} of {place.topic}-{place.number} is negative: the next record to read has 0 or "
                "more",
                offset=place.offset,
            )
        end = ends.get(partition)
        if end is None:
            raise NoLeader(f"The end of {place.topic}-{place.number} could not be asked just now; try again")
        if place.offset > end:
            raise OffsetOutOfRange(
                f"Offset {place.offset} of {place.topic}-{place.number} is past its end: {end} is the next to be "
                "written, and the most that can be stored",
                offset=place.offset,
                end=end,
            )
        return partition

    # -- inside ------------------------------------------------------------------------------------------------------

    def _delete(self, name: str) -> None:
        group = self.state.groups[name]
        keys: list[Key] = [GroupKey(name)] if group.fact is not None else []
        keys += [ClassicKey(name)] if group.classic is not None else []
        keys += [GrantKey(name, partition) for partition in group.grants]
        keys += [OffsetKey(name, partition) for partition in group.offsets]
        keys += [ToldKey(name, member_id) for member_id in group.told]
        for key in keys:
            self._put(key, None)
        self._targets.pop(name, None)
        self._quiet.pop(name, None)

    def _next_generation(self, name: str) -> int:
        """The generation of what is decided now."""
        generation = self._generations.get(name)
        if generation is None:
            group = self.state.group(name)
            fact = GroupFact(generation=0) if group is None else _fact(group)
            generation = self._generations[name] = fact.generation + 1
            self._put(GroupKey(name), replace(fact, generation=generation))
        return generation

    def _put(self, key: Key, value: Value | None) -> None:
        self._changes.pop(key, None)
        self._changes[key] = value
        self._touched.add(key.group)
        self.state.apply((key, value))

    def _note(self, event: str, **facts: Any) -> None:
        self.notes.append((event, facts))


def _fact(group: GroupFacts) -> GroupFact:
    return GroupFact(generation=0) if group.fact is None else group.fact


def _member(join: Join, joined_ms: int, replaced: tuple[str, ...]) -> MemberFact:
    return MemberFact(
        topics=tuple(dict.fromkeys(join.topics)),
        pattern=join.pattern,
        session_timeout_ms=join.session_timeout_ms,
        joined_ms=joined_ms,
        instance_id=join.instance_id,
        client_id=for_people(join.client_id),
        host=for_people(join.host),
        replaced=replaced,
    )


def _refuse_lost(group: GroupFacts, partition: PartitionId, member_id: str, entry: OffsetToStore) -> None:
    grant = group.grants.get(partition)
    if grant is None or grant.member_id != member_id:
        raise LostGrant(
            f"{entry.topic}-{entry.number} is not this member's: what it read there is another's to store; read on "
            "with what it owns",
            generation=None if grant is None else grant.generation,
        )
    if grant.generation != entry.generation:
        raise LostGrant(
            f"{entry.topic}-{entry.number} was granted anew (a seek, or it had been given away) since this record was "
            "fetched; read on from where the group stands now",
            generation=grant.generation,
            stored_under=entry.generation,
        )


def _unknown_member(group: str, member_id: str) -> UnknownMember:
    return UnknownMember(
        f"{member_id!r:.80} is no member of group {_shown(group)}: it never joined, it left, or its session ended; "
        "join again"
    )


def _shown(name: str) -> str:
    return repr(name) if len(name) <= 80 else f"{name[:80]!r}..."
