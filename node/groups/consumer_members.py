"""Members that speak Kafka's server-side protocol (KIP-848): what they say and hear, in the office's words.

They are members like native ones: the office shares out among all of them and grants. A native member names grants; one
of these names an epoch and what it has, so here stands what each was told under which epoch. Pure, with time as an
argument.

Invariants
    what a member is told is logged before it hears of it; its epoch only rises, over coordinators too
    a partition is taken back from a member only once it showed, under the epoch in which it was told to give it up,
        that it does not have it; or it is no member any more
    a partition that a member was told to give up is told to it anew only after that
    who joins anew under its id has nothing: what it had is granted anew, so nothing from before can be stored
    an epoch that is neither the last one told nor the one before is fenced, and what is fenced changes nothing
"""

from __future__ import annotations

from collections.abc import Set

from msgspec.structs import replace

from ...partitions.environment import PartitionId
from ...proto.errors import (
    FencedEpoch,
    InvalidPattern,
    InvalidRequest,
    StaleEpoch,
    UnknownMember,
    UnreleasedInstance,
    UnsupportedAssignor,
)
from .calls import Condition, Granted, Heartbeat, Join
from .consumer_calls import (
    AWAY,
    JOINING,
    LEAVING,
    ConsumerDescription,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerTold,
)
from .facts import Change, Key, MemberFact, MemberKey, ToldFact, ToldKey, Value
from .office import Office
from .rules import GroupsLimits, compile_pattern
from .state import GroupFacts, GroupsState
from .told import flat, nested

ASSIGNOR = "uniform"
"""What the office does, in Kafka's words: loads within one. `range` promises more, namely which numbers go together."""
AWAITING_MS = 1_000
"""Who waits for a partition that another member is to give back asks this often. Clients take it for the time within
which an answer must come, too: see `SETTLING_MS_MAX`."""
REBALANCE_MS_MAX = 24 * 3_600_000
_NOBODY_KNOWS = -3


class ConsumerMembers:
    """Those of all groups of one partition, beside the `Office` that they are members by."""

    def __init__(self, office: Office, limits: GroupsLimits, *, now_ms: float) -> None:
        self._office = office
        self._session_ms = min(max(limits.consumer_session_ms, limits.session_ms_min), limits.session_ms_max)
        self._heartbeat_ms = min(limits.consumer_heartbeat_ms, self._session_ms // 3)
        self._changes: dict[Key, Value | None] = {}
        self._reported: dict[MemberKey, tuple[int, Set[PartitionId]]] = {}
        """What each said last that it has, and the newest epoch under which it said so. Known to this office alone."""
        self._due_ms: dict[MemberKey, float] = {}
        """When who is to give something up is out, unless it does."""
        for name, group in office.state.groups.items():
            for member_id, told in list(group.told.items()):
                if member_id not in group.members:
                    self._put(ToldKey(name, member_id), None)  # its coordinator knew nothing of this protocol
                elif told.revoking:
                    self._due_ms[MemberKey(name, member_id)] = now_ms + told.rebalance_timeout_ms

    def take(self) -> list[Change]:
        """What was decided since this was last asked, to be logged with what the office decided."""
        gone, self._office.gone = self._office.gone, []
        for key in gone:
            self._forget(key)
        changes = list(self._changes.items())
        self._changes.clear()
        return changes

    def is_one(self, name: str, member_id: str) -> bool:
        group = self._office.state.group(name)
        return group is not None and member_id in group.told

    # -- what members ask ----------------------------------------------------------------------------------------------

    def heartbeat(self, asked: ConsumerHeartbeat, now_ms: float, wall_ms: int) -> None:
        """Take one in. What the member is to hear says `tell`, once what this leads to is worked out.

        Raises
            UnknownMember, FencedInstance            it is no member (any more)
            FencedEpoch                              it knows an older assignment than it could, or none
            UnreleasedInstance                       another member of the same instance is there still
            UnsupportedAssignor, InvalidPattern, InvalidRequest, InconsistentGroup, GroupFull
        """
        if asked.assignor not in ("", ASSIGNOR):
            raise UnsupportedAssignor(
                f"Assignor {asked.assignor!r:.80} is not known: brokers share out by one way of their own, which is "
                f"{ASSIGNOR!r}; leave the setting out"
            )
        if asked.rebalance_timeout_ms > REBALANCE_MS_MAX:
            # Not refused: "never" is said as 2^31 - 1 ms, and a client that is refused ends.
            asked = asked._replace(rebalance_timeout_ms=REBALANCE_MS_MAX)
        if asked.pattern:
            try:
                compile_pattern(asked.pattern)
            except InvalidRequest as error:
                raise InvalidPattern(error.message) from None
        if asked.epoch == JOINING:
            self._join(asked, now_ms, wall_ms)
        elif asked.epoch in (LEAVING, AWAY):
            self._leave(asked, now_ms, wall_ms)
        elif asked.epoch > 0:
            self._go_on(asked, now_ms, wall_ms)
        else:
            raise InvalidRequest(f"Epoch {asked.epoch} means nothing: 0 joins, -1 and -2 leave")

    def tell(self, asked: ConsumerHeartbeat, now_ms: float) -> ConsumerTold:
        """What the member is to hear in answer, by all that is decided now. Raises as `heartbeat` does."""
        group, told = self._known(asked)
        self._check_epoch(asked, told)
        name, member_id = asked.group, asked.member_id
        assigned, revoking = flat(told.assigned), flat(told.revoking)
        keeps: dict[PartitionId, int] = {}
        gives: dict[PartitionId, int] = {}
        new: list[PartitionId] = []
        for partition, grant in group.owned.get(member_id, {}).items():
            since, stays = assigned.get(partition), self._office.stays(name, partition, member_id)
            if partition in revoking:
                gives[partition] = revoking[partition]
            elif since is None:
                new += [partition] if stays else []
            elif stays and grant.generation <= since:
                keeps[partition] = since
            else:
                gives[partition] = since
        if new or keeps.keys() != assigned.keys():
            epoch = self._office.generation_above(name, told.epoch)
            keeps |= dict.fromkeys(new, epoch)
            told = replace(told, epoch=epoch, known=asked.epoch, assigned=nested(keeps), revoking=nested(gives))
            self._put(ToldKey(name, member_id), told)
        elif gives.keys() != revoking.keys():
            told = replace(told, revoking=nested(gives))
            self._put(ToldKey(name, member_id), told)
        self._watch(MemberKey(name, member_id), told, now_ms)
        is_news = told.epoch != asked.epoch or asked.is_full
        awaits = not self._office.is_worked_out(name) or self._office.awaits(name, member_id)
        return ConsumerTold(
            told.epoch,
            tuple(sorted(keeps)) if is_news else None,
            min(self._heartbeat_ms, AWAITING_MS) if awaits else self._heartbeat_ms,
        )

    def fence_owners(self, name: str, partitions: Set[PartitionId]) -> None:
        """The group's offsets were moved there: who reads them is to begin anew. Till it does, all is kept for it."""
        group = self._office.state.group(name)
        for member_id, told in [] if group is None else list(group.told.items()):
            if group is not None and partitions & group.owned.get(member_id, {}).keys():
                epoch = self._office.generation_above(name, told.epoch)
                self._put(ToldKey(name, member_id), _begun(epoch, _NOBODY_KNOWS, told.rebalance_timeout_ms))

    def _join(self, asked: ConsumerHeartbeat, now_ms: float, wall_ms: int) -> None:
        if asked.rebalance_timeout_ms < 0 or (asked.topics is None and not asked.pattern) or asked.owned is None:
            raise InvalidRequest("Who joins names a rebalance time-out, what it subscribes to, and that it has nothing")
        if asked.owned:
            raise InvalidRequest("Who joins has no partitions yet: give them up first")
        name, member_id = asked.group, asked.member_id
        group = self._office.state.group(name)
        self._refuse_unreleased(asked, group)
        before = group.told.get(member_id) if group is not None else None
        if before is None and group is not None and member_id in group.members:
            raise InvalidRequest(f"{member_id!r:.80} is a native client: draw another member id")
        join = self._as_join(asked, asked.topics or (), asked.pattern or None, asked.instance_id)
        self._office.heartbeat(Heartbeat(name, member_id, join), now_ms, wall_ms)
        if before is not None:
            self._office.grant_anew(name, member_id)
        epoch = self._office.generation_above(name, 0 if before is None else before.epoch)
        self._put(ToldKey(name, member_id), _begun(epoch, JOINING, asked.rebalance_timeout_ms))
        self._reported[MemberKey(name, member_id)] = (JOINING, frozenset())
        self._due_ms.pop(MemberKey(name, member_id), None)

    def _leave(self, asked: ConsumerHeartbeat, now_ms: float, wall_ms: int) -> None:
        group, told = self._known(asked)
        if asked.epoch == LEAVING:
            beat = Heartbeat(asked.group, asked.member_id, leave=True, leave_reason="it left")
            self._office.heartbeat(beat, now_ms, wall_ms)
            return
        if not group.members[asked.member_id].instance_id:
            raise InvalidRequest("Only a member with an instance id can go to come back: leave by epoch -1")
        self._office.heartbeat(Heartbeat(asked.group, asked.member_id), now_ms, wall_ms)
        self._put(ToldKey(asked.group, asked.member_id), _begun(AWAY, _NOBODY_KNOWS, told.rebalance_timeout_ms))
        self._due_ms.pop(MemberKey(asked.group, asked.member_id), None)

    def _go_on(self, asked: ConsumerHeartbeat, now_ms: float, wall_ms: int) -> None:
        group, told = self._known(asked)
        self._check_epoch(asked, told)
        for partition in asked.owned or ():
            if group.owner(partition) not in (None, asked.member_id):
                raise FencedEpoch(f"{asked.member_id!r:.80} has what is another member's: join anew", epoch=told.epoch)
        acknowledged = self._given_up(asked, told)
        held = {*flat(told.assigned), *flat(told.revoking)} - acknowledged
        released = frozenset(
            Granted(partition, grant.generation)
            for partition, grant in group.owned.get(asked.member_id, {}).items()
            # Also what it was never told of: it is known to have heard of nothing newer.
            if asked.epoch == told.epoch
            and partition not in held
            and not self._office.stays(asked.group, partition, asked.member_id)
        )
        join = self._resubscribed(asked, group.members[asked.member_id])
        self._office.heartbeat(Heartbeat(asked.group, asked.member_id, join, released=released), now_ms, wall_ms)
        left = {place: since for place, since in flat(told.revoking).items() if place not in acknowledged}
        timeout_ms = asked.rebalance_timeout_ms if asked.rebalance_timeout_ms >= 0 else told.rebalance_timeout_ms
        heard = replace(told, revoking=nested(left), rebalance_timeout_ms=timeout_ms)
        if heard != told:
            self._put(ToldKey(asked.group, asked.member_id), heard)

    def _given_up(self, asked: ConsumerHeartbeat, told: ToldFact) -> Set[PartitionId]:
        """What the member was told to give up, and shows that it has not."""
        key = MemberKey(asked.group, asked.member_id)
        epoch, owned = self._reported.get(key, (_NOBODY_KNOWS, None))
        if asked.owned is not None:
            epoch, owned = asked.epoch, asked.owned
            self._reported[key] = (epoch, owned)
        elif owned is not None and epoch != asked.epoch:
            # It says that nothing changed. When it said so it may not have looked at this epoch's assignment yet.
            self._reported[key] = (asked.epoch, owned)
            return frozenset()
        if owned is None or asked.epoch != told.epoch or not self._office.is_worked_out(asked.group):
            return frozenset()
        return flat(told.revoking).keys() - owned

    def _resubscribed(self, asked: ConsumerHeartbeat, member: MemberFact) -> Join | None:
        if asked.topics is None and asked.pattern is None and not asked.instance_id:
            return None
        topics = member.topics if asked.topics is None else asked.topics
        pattern = member.pattern if asked.pattern is None else asked.pattern or None
        return self._as_join(asked, topics, pattern, asked.instance_id or member.instance_id)

    def _as_join(self, asked: ConsumerHeartbeat, topics: tuple[str, ...], pattern: str | None, instance: str) -> Join:
        return Join(topics, pattern, self._session_ms, instance, asked.client_id, asked.host, may_be_empty=True)

    # -- what operators ask --------------------------------------------------------------------------------------------

    def describe(self, logged: GroupsState, name: str) -> ConsumerGroupDescription | None:
        """By what is `logged`. None: it is no group, or one whose members share out among themselves."""
        group = logged.group(name)
        if group is None or not group.is_shared_out_here:
            return None
        targets: dict[str, list[PartitionId]] = {}
        for partition in group.grants:
            owner = self._office.next_owner(name, partition) or group.owner(partition)
            targets.setdefault(owner or "", []).append(partition)
        words = {Condition.EMPTY: "Empty", Condition.STABLE: "Stable", Condition.MOVING: "Reconciling"}
        condition = words[self._office.condition(name)]
        if condition == "Reconciling" and not self._office.is_worked_out(name):
            condition = "Assigning"
        members = []
        for member_id, member in sorted(group.members.items()):
            told = group.told.get(member_id)
            members.append(
                ConsumerDescription(
                    member_id,
                    member.instance_id,
                    member.client_id,
                    member.host,
                    group.generation if told is None else told.epoch,
                    member.topics,
                    member.pattern,
                    self._office.named(group.owned.get(member_id, ())),
                    self._office.named(targets.get(member_id, ())),
                    told is not None,
                )
            )
        return ConsumerGroupDescription(name, group.generation, condition, tuple(members))

    # -- time ----------------------------------------------------------------------------------------------------------

    def next_due_ms(self) -> float | None:
        return min(self._due_ms.values(), default=None)

    def advance(self, now_ms: float, wall_ms: int) -> None:
        """Who did not give up in time what it was told to is out."""
        for key in [key for key, due_ms in self._due_ms.items() if due_ms <= now_ms]:
            del self._due_ms[key]
            group = self._office.state.group(key.group)
            told = None if group is None else group.told.get(key.member_id)
            if told is not None and told.revoking:
                why = "it did not give up its partitions within its rebalance time-out"
                beat = Heartbeat(key.group, key.member_id, leave=True, leave_reason=why)
                self._office.heartbeat(beat, now_ms, wall_ms)

    def forgive(self, now_ms: float) -> None:
        """This broker slept: nobody is late by that."""
        for key in self._due_ms:
            told = self._office.state.groups[key.group].told[key.member_id]
            self._due_ms[key] = max(self._due_ms[key], now_ms + min(told.rebalance_timeout_ms, 30_000))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _known(self, asked: ConsumerHeartbeat) -> tuple[GroupFacts, ToldFact]:
        """Raises UnknownMember, FencedInstance."""
        group = self._office.of_member(self._office.state, asked.group, asked.member_id)
        told = group.told.get(asked.member_id)
        if told is None:
            raise UnknownMember(f"{asked.member_id!r:.80} is a native client: draw another member id, and join")
        return group, told

    def _check_epoch(self, asked: ConsumerHeartbeat, told: ToldFact) -> None:
        if asked.epoch not in (told.epoch, told.known):
            raise FencedEpoch(
                f"{asked.member_id!r:.80} is in epoch {told.epoch}, not {asked.epoch}: give up all, and join anew",
                epoch=told.epoch,
            )

    def _refuse_unreleased(self, asked: ConsumerHeartbeat, group: GroupFacts | None) -> None:
        for member_id, member in group.members.items() if group is not None and asked.instance_id else ():
            if member.instance_id != asked.instance_id or member_id == asked.member_id:
                continue
            told = group.told.get(member_id) if group is not None else None
            if told is None or told.epoch != AWAY:
                raise UnreleasedInstance(
                    f"Instance {asked.instance_id!r:.80} is a member still: stop the other process, or wait until its "
                    f"session of {member.session_timeout_ms} ms is over"
                )

    def _watch(self, key: MemberKey, told: ToldFact, now_ms: float) -> None:
        if not told.revoking:
            self._due_ms.pop(key, None)
        elif key not in self._due_ms:
            self._due_ms[key] = now_ms + told.rebalance_timeout_ms

    def _forget(self, key: MemberKey) -> None:
        self._changes.pop(ToldKey(key.group, key.member_id), None)
        self._reported.pop(key, None)
        self._due_ms.pop(key, None)

    def _put(self, key: Key, value: Value | None) -> None:
        self._changes.pop(key, None)
        self._changes[key] = value
        self._office.state.apply((key, value))


def check_reader(group: GroupFacts, member_id: str, epoch: int) -> None:
    """May a member of this epoch read stored offsets as its own? Raises UnknownMember, StaleEpoch.

    Of a group whose members share out among themselves anybody may: franz-go names itself and its generation there too,
    and Kafka looks at neither.
    """
    if not group.is_shared_out_here:
        return
    told = group.told.get(member_id)
    if told is None:
        raise UnknownMember(f"{member_id!r:.80} is no member of the group (any more): join anew")
    if epoch not in (told.epoch, told.known):
        raise StaleEpoch(f"{member_id!r:.80} is in epoch {told.epoch}, not {epoch}", epoch=told.epoch)


def _begun(epoch: int, known: int, rebalance_timeout_ms: int) -> ToldFact:
    """Of a member that has nothing."""
    return ToldFact(epoch=epoch, known=known, rebalance_timeout_ms=rebalance_timeout_ms)
