"""Groups of Kafka clients, who share partitions out among themselves: the coordinator only brings them together.

Pure, with time as an argument, like `office.py`. One round: all members join, are told the generation and who leads
them; the leader shares out; all are told by `sync` what they have. What they tell each other is bytes here.

Invariants
    a generation, its members and who has what are logged before any answer tells of them; a generation only rises
    an offset is stored by a member of the present generation alone, once it has been told what it has; or by anybody
        while the group has no members
    a group has members that speak this protocol, or the native one, never both: whoever is logged first
    a coordinator that takes over knows generation, members and assignments, and gives each member a whole session
    a seek makes the group empty: each member finds itself unknown, gives up what it has, and joins anew from the
        offsets that were stored by then
    what is refused changes nothing
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from msgspec.structs import replace

from ...proto.errors import (
    FencedInstance,
    GroupFull,
    IllegalGeneration,
    InconsistentGroup,
    InvalidRequest,
    InvalidSession,
    LograftError,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMember,
)
from .classic_calls import (
    ClassicDescription,
    ClassicMemberDescription,
    Joined,
    JoinGroup,
    Leaver,
    Synced,
    SyncGroup,
)
from .facts import Change, ClassicFact, ClassicKey, ClassicMember, Key, Value
from .looks import Looks
from .rules import GroupsLimits, check_text, for_people
from .state import GroupsState

Token = Any
"""Stands for one call that waits for its answer."""

MEMBERS_BYTES_MAX = 2 << 20
"""What the members of one group may bring together: it is logged as one record, which must fit between brokers."""
METADATA_BYTES_MAX = 256 << 10
PROTOCOL_BYTES = 16
"""What a protocol takes beside its name and what goes with it."""
PENDING_MAX = 1_000
"""Newcomers of one group that were told their id and have not come back with it."""


class Phase(Enum):
    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    """Members are waited for."""
    COMPLETING = "CompletingRebalance"
    """The leader is waited for."""
    STABLE = "Stable"


class _Member:
    __slots__ = ("deadline_ms", "fact", "is_synced", "joining", "syncing")

    def __init__(self, fact: ClassicMember, deadline_ms: float) -> None:
        self.fact = fact
        self.deadline_ms = deadline_ms
        """When its session ends, unless it waits for an answer."""
        self.joining: Token | None = None
        self.syncing: Token | None = None
        self.is_synced = False
        """It asked for what it has in this generation."""

    def waits(self) -> bool:
        return self.joining is not None or self.syncing is not None


class _Group:
    __slots__ = (
        "due_ms",
        "generation",
        "leader",
        "members",
        "pending",
        "phase",
        "protocol",
        "protocol_type",
        "round_end_ms",
    )

    def __init__(self) -> None:
        self.phase = Phase.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol = ""
        self.leader = ""
        self.members: dict[str, _Member] = {}
        self.pending: dict[str, float] = {}
        """Ids given out and not used yet, until when."""
        self.due_ms = 0.0
        """While PREPARING: when those who have not joined are left out. While COMPLETING: those who have not synced."""
        self.round_end_ms: float | None = None
        """Of the first round of a group: it is not put off beyond this."""


class ClassicGroups:
    """Decides about all groups of one partition, beside the `Office`. `state` is run ahead by what is decided."""

    def __init__(self, state: GroupsState, limits: GroupsLimits, new_id: Callable[[], str], *, now_ms: float) -> None:
        self.state = state
        self._limits = limits
        self._new_id = new_id
        self._changes: dict[Key, Value | None] = {}
        self._answers: list[tuple[Token, Joined | Synced | LograftError]] = []
        self._groups: dict[str, _Group] = {}
        self._tokens: dict[Token, tuple[str, str]] = {}
        """Group and member id of each call that waits."""
        self._looks = Looks()
        self._touched: set[str] = set()
        """Groups in which something may be due sooner than it was."""
        for name, facts in state.groups.items():
            if facts.classic is not None:
                self._groups[name] = _restored(facts.classic, now_ms)
                self._touched.add(name)

    def take(self) -> list[Change]:
        """What was decided since this was last asked, to be logged as one."""
        changes = list(self._changes.items())
        self._changes.clear()
        return changes

    def take_answers(self) -> list[tuple[Token, Joined | Synced | LograftError]]:
        """To be given once what was decided is logged."""
        answers, self._answers = self._answers, []
        return answers

    def abandon(self) -> list[Token]:
        """All calls that wait, also for what was decided and never logged: somebody else decides now."""
        tokens = [*self._tokens, *(token for token, _ in self.take_answers())]
        self._tokens.clear()
        return tokens

    # -- what members ask ----------------------------------------------------------------------------------------------

    def join(self, asked: JoinGroup, token: Token, now_ms: float) -> None:
        """The answer comes with `take_answers`, maybe much later.

        Raises
            MemberIdRequired    come again with the id among the facts
            UnknownMember, FencedInstance, InconsistentGroup, InvalidSession, InvalidRequest, GroupFull
        """
        self._check_join(asked)
        self._touched.add(asked.group)
        group = self._groups.get(asked.group)
        if group is None:
            if asked.member_id:
                raise _unknown(asked.group, asked.member_id)
            group = _Group()
            group.generation = self._logged_generation(asked.group)
        self._check_protocols(asked, group)
        known_id = self._same_instance(group, asked.instance_id)
        if asked.member_id:
            self._check_fenced(group, asked.member_id, asked.instance_id)
            if asked.member_id not in group.members and asked.member_id not in group.pending:
                raise _unknown(asked.group, asked.member_id)
        elif known_id is None:
            self._refuse_full(asked.group, group)
            new_id = f"{asked.client_id[:80]}-{self._new_id()}"
            if asked.needs_known_id and not asked.instance_id:
                if len(group.pending) >= PENDING_MAX:
                    raise GroupFull(f"{PENDING_MAX} newcomers of group {asked.group!r:.80} were told their ids already")
                self._groups[asked.group] = group
                group.pending[new_id] = now_ms + asked.session_timeout_ms
                raise MemberIdRequired("join again with the member id that was given", member_id=new_id)
            self._groups[asked.group] = group
            self._add(asked, group, new_id, token, now_ms)
            return
        self._groups[asked.group] = group
        if asked.member_id in group.pending:
            self._refuse_full(asked.group, group)  # others may have come since it was told its id
            del group.pending[asked.member_id]
            self._add(asked, group, asked.member_id, token, now_ms)
        elif not asked.member_id:
            assert known_id is not None
            self._replace(asked, group, known_id, token, now_ms)
        else:
            self._rejoin(asked, group, asked.member_id, token, now_ms)

    def sync(self, asked: SyncGroup, token: Token, now_ms: float) -> None:
        """Raises UnknownMember, FencedInstance, IllegalGeneration, InconsistentGroup, RebalanceInProgress."""
        group, member = self._member(asked.group, asked.member_id, asked.instance_id, asked.generation)
        self._touched.add(asked.group)
        if asked.protocol_type not in (None, group.protocol_type) or asked.protocol not in (None, group.protocol):
            raise InconsistentGroup(
                f"group {asked.group!r:.80} goes by {group.protocol_type}/{group.protocol} in this generation"
            )
        if group.phase is Phase.PREPARING:
            raise _rebalancing(asked.group)
        member.deadline_ms = now_ms + member.fact.session_timeout_ms
        member.is_synced = True
        if group.phase is Phase.COMPLETING:
            self._wait(member, asked.group, token, joining=False)
            if asked.member_id == group.leader:
                self._share_out(asked.group, group, dict(asked.assignments), now_ms)
            return
        self._answers.append((token, Synced(group.protocol_type, group.protocol, member.fact.assignment)))

    def heartbeat(self, name: str, member_id: str, instance_id: str, generation: int, now_ms: float) -> None:
        """Raises UnknownMember, FencedInstance, IllegalGeneration, RebalanceInProgress (the member is alive still)."""
        group, member = self._member(name, member_id, instance_id, generation)
        member.deadline_ms = now_ms + member.fact.session_timeout_ms
        if group.phase is Phase.PREPARING:
            raise _rebalancing(name)

    def leave(self, name: str, leaver: Leaver, now_ms: float, wall_ms: int) -> str:
        """Returns the id of the member that left. Raises UnknownMember, FencedInstance."""
        group = self._groups.get(name)
        if group is None:
            raise _unknown(name, leaver.member_id)
        self._touched.add(name)
        if leaver.member_id in group.pending:
            del group.pending[leaver.member_id]
            self._maybe_complete(name, group, now_ms, wall_ms)
            return leaver.member_id
        member_id = leaver.member_id
        if leaver.instance_id:
            known_id = self._same_instance(group, leaver.instance_id)
            if known_id is None:
                raise _unknown(name, leaver.instance_id)
            if member_id and member_id != known_id:
                raise _fenced(leaver.instance_id)
            member_id = known_id
        if member_id not in group.members:
            raise _unknown(name, member_id)
        self._remove(name, group, [member_id], now_ms, wall_ms)
        return member_id

    def check_store(self, name: str, member_id: str, instance_id: str, generation: int, now_ms: float) -> None:
        """May this sender store offsets?

        Raises UnknownMember, FencedInstance, IllegalGeneration, RebalanceInProgress.
        """
        facts = self.state.group(name)
        if not member_id and generation < 0:
            if facts is not None and facts.has_members:
                raise UnknownMember(f"group {name!r:.80} has members, who store its offsets: join it, or use another")
            return
        if facts is not None and facts.members:
            raise UnknownMember(f"group {name!r:.80} is one of native clients; use another for Kafka clients")
        group, member = self._member(name, member_id, instance_id, generation)
        if group.phase is Phase.COMPLETING:
            raise _rebalancing(name)
        member.deadline_ms = now_ms + member.fact.session_timeout_ms

    # -- what others decide --------------------------------------------------------------------------------------------

    def sought(self, name: str, now_ms: float, wall_ms: int) -> bool:
        """The group's offsets were moved: whoever reads it begins anew. True if anybody did."""
        group = self._groups.get(name)
        if group is None or not group.members:
            return False
        for member_id in group.members:
            self._fail(group.members[member_id], _unknown(name, member_id))
        group.members.clear()
        self._empty(name, group, wall_ms)
        return True

    def deleted(self, name: str) -> None:
        """All of the group that was logged is gone. Who waits for its next round makes it anew."""
        group = self._groups.get(name)
        if group is not None and not group.members:
            del self._groups[name]

    def describe(self, name: str) -> ClassicDescription | None:
        """None: no Kafka client ever was a member."""
        group = self._groups.get(name)
        if group is None:
            return None
        members = tuple(
            ClassicMemberDescription(
                member_id,
                one.fact.instance_id,
                one.fact.client_id,
                one.fact.host,
                dict(one.fact.protocols).get(group.protocol, b""),
                one.fact.assignment if group.phase is Phase.STABLE else b"",
                one.fact.session_timeout_ms,
            )
            for member_id, one in sorted(group.members.items())
        )
        protocol = group.protocol if group.phase is Phase.STABLE else ""
        return ClassicDescription(group.phase.value, group.protocol_type, protocol, members)

    def forget(self, token: Token, now_ms: float) -> None:
        """Nobody waits for this answer any more. Its member stays, for as long as its session lasts."""
        name, member_id = self._tokens.pop(token, ("", ""))
        group = self._groups.get(name)
        member = group.members.get(member_id) if group is not None else None
        if member is None:
            return
        self._touched.add(name)
        member.deadline_ms = now_ms + member.fact.session_timeout_ms
        if member.joining is token:
            member.joining = None
        if member.syncing is token:
            member.syncing = None

    # -- time ----------------------------------------------------------------------------------------------------------

    def next_due_ms(self) -> float | None:
        """Not later than when `advance` has something to do; None if nothing is to be expected."""
        for name in self._touched:
            group = self._groups.get(name)
            due_ms = None if group is None else self._next_due_ms(group)
            if due_ms is not None:
                self._looks.by(name, due_ms)
        self._touched.clear()
        return self._looks.next_ms()

    def advance(self, now_ms: float, wall_ms: int) -> None:
        self.next_due_ms()
        for name in self._looks.take(now_ms):
            group = self._groups.get(name)
            if group is not None:
                self._touched.add(name)
                self._advance(name, group, now_ms, wall_ms)
        idle = [name for name, group in self._groups.items() if not group.members and not group.pending]
        for name in idle:
            if name not in self.state.groups:
                del self._groups[name]

    def _advance(self, name: str, group: _Group, now_ms: float, wall_ms: int) -> None:
        group.pending = {one: until for one, until in group.pending.items() if until > now_ms}
        over = [one for one, member in group.members.items() if not member.waits() and member.deadline_ms <= now_ms]
        if over:
            self._remove(name, group, over, now_ms, wall_ms)
        if group.phase is Phase.PREPARING:
            self._maybe_complete(name, group, now_ms, wall_ms)
        elif group.phase is Phase.COMPLETING and group.due_ms <= now_ms:
            late = [one for one, member in group.members.items() if not member.is_synced]
            self._remove(name, group, late or [group.leader], now_ms, wall_ms)

    def forgive(self, now_ms: float) -> None:
        """This broker slept: nobody's session ends because of that."""
        for group in self._groups.values():
            for member in group.members.values():
                member.deadline_ms = max(member.deadline_ms, now_ms + member.fact.session_timeout_ms)

    @staticmethod
    def _next_due_ms(group: _Group) -> float | None:
        due = [member.deadline_ms for member in group.members.values() if not member.waits()]
        due += group.pending.values()
        if group.phase in (Phase.PREPARING, Phase.COMPLETING):
            due.append(group.due_ms)
        return min(due, default=None)

    # -- rounds --------------------------------------------------------------------------------------------------------

    def _add(self, asked: JoinGroup, group: _Group, member_id: str, token: Token, now_ms: float) -> None:
        member = _Member(_fact(asked, member_id), now_ms + asked.session_timeout_ms)
        group.members[member_id] = member
        group.protocol_type = asked.protocol_type
        self._wait(member, asked.group, token, joining=True)
        self._begin_round(asked.group, group, now_ms, is_newcomer=True)

    def _rejoin(self, asked: JoinGroup, group: _Group, member_id: str, token: Token, now_ms: float) -> None:
        member = group.members[member_id]
        is_same = member.fact.protocols == asked.protocols
        settled = group.phase is Phase.STABLE and member_id != group.leader
        member.deadline_ms = now_ms + asked.session_timeout_ms
        if is_same and (settled or group.phase is Phase.COMPLETING):
            # It did not hear the answer, or is told of nothing new.
            self._answers.append((token, self._joined(group, member_id)))
            return
        member.fact = _fact(asked, member_id, member.fact.assignment)
        self._wait(member, asked.group, token, joining=True)
        self._begin_round(asked.group, group, now_ms)

    def _replace(self, asked: JoinGroup, group: _Group, known_id: str, token: Token, now_ms: float) -> None:
        """The newest process of an instance takes the place of the one before, with all that it had."""
        new_id = f"{asked.instance_id[:80]}-{self._new_id()}"
        old = group.members.pop(known_id)
        self._fail(old, _fenced(asked.instance_id))
        member = group.members[new_id] = _Member(
            _fact(asked, new_id, old.fact.assignment), now_ms + asked.session_timeout_ms
        )
        led_before = group.leader
        if led_before == known_id:
            group.leader = new_id
        if group.phase is Phase.STABLE and old.fact.protocols == asked.protocols:
            joined = self._joined(group, new_id)
            if led_before == known_id:
                # It is to share out nothing: a client that cannot be told so believes that another one leads.
                joined = (
                    joined._replace(skip_assignment=True)
                    if asked.can_skip_assignment
                    else joined._replace(leader=led_before, members=())
                )
            self._log(asked.group, group, is_assigned=True)
            self._answers.append((token, joined))
            return
        self._wait(member, asked.group, token, joining=True)
        self._begin_round(asked.group, group, now_ms)

    def _begin_round(self, name: str, group: _Group, now_ms: float, *, is_newcomer: bool = False) -> None:
        """All are to join anew, unless that is waited for already."""
        longest_ms = max(member.fact.rebalance_timeout_ms for member in group.members.values())
        if group.phase is Phase.EMPTY:
            group.round_end_ms = now_ms + longest_ms
            group.due_ms = now_ms + min(self._limits.rebalance_delay_ms, longest_ms)
        elif group.phase is Phase.PREPARING:
            if group.round_end_ms is not None and is_newcomer:
                group.due_ms = min(now_ms + self._limits.rebalance_delay_ms, group.round_end_ms)
        else:
            for member in group.members.values():
                if member.syncing is not None:
                    # It may have waited for longer than its session.
                    member.deadline_ms = now_ms + member.fact.session_timeout_ms
                    self._answer(member, _rebalancing(name), joining=False)
            group.round_end_ms = None
            group.due_ms = now_ms + longest_ms
        group.phase = Phase.PREPARING
        if group.round_end_ms is None or self._limits.rebalance_delay_ms == 0:
            self._maybe_complete(name, group, now_ms, 0)

    def _maybe_complete(self, name: str, group: _Group, now_ms: float, wall_ms: int) -> None:
        if group.phase is not Phase.PREPARING:
            return
        all_joined = all(member.joining is not None for member in group.members.values()) and not group.pending
        is_first = group.round_end_ms is not None and self._limits.rebalance_delay_ms > 0
        if now_ms < group.due_ms and (is_first or not all_joined):
            return
        if self._yields(name, group, wall_ms):
            return
        late = [
            member_id
            for member_id, member in group.members.items()
            # A static member keeps its place until its session ends.
            if member.joining is None and not member.fact.instance_id
        ]
        for member_id in late:
            del group.members[member_id]
        joined = [member_id for member_id, member in group.members.items() if member.joining is not None]
        if not group.members:
            self._empty(name, group, wall_ms)
            return
        if not joined:
            group.due_ms = now_ms + max(member.fact.rebalance_timeout_ms for member in group.members.values())
            return
        group.generation += 1
        group.round_end_ms = None
        group.protocol = _elected([member.fact for member in group.members.values()])
        if group.leader not in joined:
            group.leader = joined[0]
        group.phase = Phase.COMPLETING
        group.due_ms = now_ms + max(member.fact.rebalance_timeout_ms for member in group.members.values())
        for member in group.members.values():
            member.is_synced = False
            member.deadline_ms = now_ms + member.fact.session_timeout_ms
        self._log(name, group, is_assigned=False)
        for member_id in joined:
            self._answer(group.members[member_id], self._joined(group, member_id), joining=True)

    def _yields(self, name: str, group: _Group, wall_ms: int) -> bool:
        """While its first members waited for others, native ones may have come: these have the partitions by now."""
        facts = self.state.group(name)
        if facts is None or not facts.members:
            return False
        for member in group.members.values():
            self._fail(member, _of_natives(name, len(facts.members)))
        group.members.clear()
        group.phase = Phase.EMPTY
        if facts.classic is not None:
            self._empty(name, group, wall_ms)
        elif not group.pending:
            self._groups.pop(name, None)
        return True

    def _share_out(self, name: str, group: _Group, assignments: dict[str, bytes], now_ms: float) -> None:
        for member_id, member in group.members.items():
            member.fact = _with_assignment(member.fact, assignments.get(member_id, b""))
        group.phase = Phase.STABLE
        self._log(name, group, is_assigned=True)
        for member in group.members.values():
            if member.syncing is not None:
                member.deadline_ms = now_ms + member.fact.session_timeout_ms
                told = Synced(group.protocol_type, group.protocol, member.fact.assignment)
                self._answer(member, told, joining=False)

    def _remove(self, name: str, group: _Group, gone: Iterable[str], now_ms: float, wall_ms: int) -> None:
        for member_id in gone:
            member = group.members.pop(member_id, None)
            if member is not None:
                self._fail(member, _unknown(name, member_id))
        if not group.members:
            self._empty(name, group, wall_ms)
        elif group.phase is Phase.PREPARING:
            self._maybe_complete(name, group, now_ms, wall_ms)
        else:
            self._begin_round(name, group, now_ms)

    def _empty(self, name: str, group: _Group, wall_ms: int) -> None:
        group.phase = Phase.EMPTY
        group.generation += 1
        group.leader = group.protocol = ""
        self._log(name, group, is_assigned=False, emptied_ms=wall_ms)

    def _joined(self, group: _Group, member_id: str) -> Joined:
        members: tuple[tuple[str, str, bytes], ...] = ()
        if member_id == group.leader:
            members = tuple(
                (one_id, one.fact.instance_id, dict(one.fact.protocols).get(group.protocol, b""))
                for one_id, one in group.members.items()
            )
        return Joined(group.generation, group.protocol_type, group.protocol, group.leader, member_id, members)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check_join(self, asked: JoinGroup) -> None:
        limits = self._limits
        if not limits.session_ms_min <= asked.session_timeout_ms <= limits.session_ms_max:
            raise InvalidSession(
                f"a session of {asked.session_timeout_ms} ms is not possible: ask for {limits.session_ms_min} to "
                f"{limits.session_ms_max} ms",
                limit_min=limits.session_ms_min,
                limit_max=limits.session_ms_max,
            )
        if not asked.protocol_type or not asked.protocols:
            raise InconsistentGroup("a member names a protocol type, and at least one protocol")
        if _bytes_of(asked.protocols) > METADATA_BYTES_MAX:
            raise InvalidRequest(f"what a member brings has {METADATA_BYTES_MAX} bytes at most")
        check_text("instance id", asked.instance_id)
        check_text("protocol type", asked.protocol_type)
        for name, _ in asked.protocols:
            check_text("protocol", name)
        facts = self.state.group(asked.group)
        if facts is not None and facts.members:
            raise _of_natives(asked.group, len(facts.members))

    def _check_protocols(self, asked: JoinGroup, group: _Group) -> None:
        others = [one for member_id, one in group.members.items() if member_id != asked.member_id]
        if not others:
            return
        brought = [asked.protocols, *(one.fact.protocols for one in others)]
        held = sum(map(_bytes_of, brought))
        if held > MEMBERS_BYTES_MAX:
            raise GroupFull(
                f"the members of group {asked.group!r:.80} would bring {held} bytes together, {MEMBERS_BYTES_MAX} are "
                "the most; subscribe to fewer topics, or use more groups",
                limit=MEMBERS_BYTES_MAX,
            )
        common = {name for name, _ in asked.protocols}
        for one in others:
            common &= {name for name, _ in one.fact.protocols}
        if asked.protocol_type != group.protocol_type or not common:
            raise InconsistentGroup(
                f"the members of group {asked.group!r:.80} speak {group.protocol_type}, and have no protocol in common "
                f"with {[name for name, _ in asked.protocols]!r:.200}"
            )

    def _refuse_full(self, name: str, group: _Group) -> None:
        if len(group.members) >= self._limits.members_max:
            raise GroupFull(
                f"group {name!r:.80} has {len(group.members)} members, the most it may have",
                members=len(group.members),
                limit=self._limits.members_max,
            )
        # Those of newcomers alone are not logged yet, and take memory all the same.
        groups = max(len(self.state.groups), len(self._groups))
        if name not in self._groups and groups >= self._limits.groups_max:
            raise GroupFull(
                f"{self._limits.groups_max} groups are the most there may be", limit=self._limits.groups_max
            )

    def _member(self, name: str, member_id: str, instance_id: str, generation: int) -> tuple[_Group, _Member]:
        group = self._groups.get(name)
        if group is None:
            raise _unknown(name, member_id)
        self._check_fenced(group, member_id, instance_id)
        member = group.members.get(member_id)
        if member is None:
            raise _unknown(name, member_id)
        if generation != group.generation:
            raise IllegalGeneration(
                f"group {name!r:.80} is in generation {group.generation}, not {generation}: join again",
                generation=group.generation,
            )
        return group, member

    def _same_instance(self, group: _Group, instance_id: str) -> str | None:
        if not instance_id:
            return None
        return next((one for one, member in group.members.items() if member.fact.instance_id == instance_id), None)

    def _check_fenced(self, group: _Group, member_id: str, instance_id: str) -> None:
        known_id = self._same_instance(group, instance_id)
        if known_id is not None and known_id != member_id:
            raise _fenced(instance_id)

    def _logged_generation(self, name: str) -> int:
        facts = self.state.group(name)
        return 0 if facts is None or facts.classic is None else facts.classic.generation

    def _wait(self, member: _Member, name: str, token: Token, *, joining: bool) -> None:
        """Of two calls of one member the newer one is answered."""
        earlier = member.joining if joining else member.syncing
        if earlier is not None:
            self._answer(member, _rebalancing(name), joining=joining)
        self._tokens[token] = (name, member.fact.member_id)
        if joining:
            member.joining = token
        else:
            member.syncing = token

    def _answer(self, member: _Member, told: Joined | Synced | LograftError, *, joining: bool) -> None:
        token = member.joining if joining else member.syncing
        if joining:
            member.joining = None
        else:
            member.syncing = None
        self._tokens.pop(token, None)
        self._answers.append((token, told))

    def _fail(self, member: _Member, why: LograftError) -> None:
        if member.joining is not None:
            self._answer(member, why, joining=True)
        if member.syncing is not None:
            self._answer(member, why, joining=False)

    def _log(self, name: str, group: _Group, *, is_assigned: bool, emptied_ms: int = 0) -> None:
        fact = ClassicFact(
            generation=group.generation,
            protocol_type=group.protocol_type,
            protocol=group.protocol,
            leader=group.leader,
            members=tuple(member.fact for member in group.members.values()),
            is_assigned=is_assigned,
            emptied_ms=emptied_ms,
        )
        key = ClassicKey(name)
        self._changes.pop(key, None)
        self._changes[key] = fact
        self.state.apply((key, fact))


def _restored(fact: ClassicFact, now_ms: float) -> _Group:
    group = _Group()
    group.generation, group.protocol_type, group.protocol = fact.generation, fact.protocol_type, fact.protocol
    group.leader = fact.leader
    for member in fact.members:
        group.members[member.member_id] = _Member(member, now_ms + member.session_timeout_ms)
    if group.members:
        group.phase = Phase.STABLE if fact.is_assigned else Phase.COMPLETING
        group.due_ms = now_ms + max(member.rebalance_timeout_ms for member in fact.members)
    return group


def _fact(asked: JoinGroup, member_id: str, assignment: bytes = b"") -> ClassicMember:
    return ClassicMember(
        member_id=member_id,
        instance_id=asked.instance_id,
        client_id=for_people(asked.client_id),
        host=for_people(asked.host),
        session_timeout_ms=asked.session_timeout_ms,
        rebalance_timeout_ms=max(asked.rebalance_timeout_ms, 1),
        protocols=asked.protocols,
        assignment=assignment,
    )


def _with_assignment(member: ClassicMember, assignment: bytes) -> ClassicMember:
    return replace(member, assignment=assignment)


def _elected(members: list[ClassicMember]) -> str:
    """The protocol that most members prefer, of those that all of them know."""
    common = {name for name, _ in members[0].protocols}
    for member in members[1:]:
        common &= {name for name, _ in member.protocols}
    votes = Counter(next(name for name, _ in member.protocols if name in common) for member in members)
    return max(votes.items(), key=lambda vote: (vote[1], vote[0]))[0]


def _bytes_of(protocols: tuple[tuple[str, bytes], ...]) -> int:
    return sum(len(name.encode()) + len(metadata) + PROTOCOL_BYTES for name, metadata in protocols)


def _of_natives(name: str, members: int) -> InconsistentGroup:
    return InconsistentGroup(
        f"group {name!r:.80} has {members} members that are native clients; Kafka clients cannot share partitions with "
        "them: use another group, or stop those first"
    )


def _unknown(name: str, member_id: str) -> UnknownMember:
    return UnknownMember(f"{member_id!r:.80} is no member of group {name!r:.80}; join again")


def _fenced(instance_id: str) -> FencedInstance:
    return FencedInstance(f"a newer process has taken over instance {instance_id!r:.80}", instance_id=instance_id[:80])


def _rebalancing(name: str) -> RebalanceInProgress:
    return RebalanceInProgress(f"group {name!r:.80} shares its partitions out anew: join again")
