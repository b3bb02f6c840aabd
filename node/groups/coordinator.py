"""The coordinator of the groups in one partition of `__offsets`: what its office decides, logged and answered.

Every broker with a replica of the partition has one; only the leader's decides.

Invariants
    members, owners and generations are committed before any answer tells of them
    an answer that rests on what is stored, or on who owns what, was confirmed by a majority after the question came
    a parked heartbeat holds no task of its own: news, lost leadership or its deadline wakes it
    nobody's session ends because this broker slept
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

from ...partitions.environment import PartitionId, TimerHandle
from ...proto.errors import InvalidRequest, LograftError, NoLeader, NotLeader, UnknownGroup, UnknownOutcome
from ..controller.state import ClusterState
from ..decider import Decider
from ..decision_log import DecidedReplica, DecisionLog
from .calls import (
    Condition,
    FetchedOffset,
    GroupDescription,
    GroupListed,
    Heartbeat,
    HeartbeatAnswer,
    MemberDescription,
    OffsetToStore,
    PartitionDescription,
    Seeked,
    SeekTarget,
    Unread,
)
from .classic import ClassicGroups
from .classic_calls import ClassicDescription, Joined, JoinGroup, Leaver, Synced, SyncGroup
from .consumer_calls import LEAVING, ConsumerGroupDescription, ConsumerHeartbeat, ConsumerTold, inner_id
from .consumer_members import ConsumerMembers, check_reader
from .facts import Change, ClassicFact, Value, encode_batch
from .office import Office
from .rules import GroupsLimits, check_group, check_member_id
from .state import GroupFacts, GroupsState

Decided = TypeVar("Decided")


class GroupCounts:
    """What happened to one group, since this broker coordinates it."""

    __slots__ = ("rebalances", "refused", "stored")

    def __init__(self) -> None:
        self.rebalances = 0
        self.stored = 0
        """Offsets, one a partition."""
        self.refused = 0


TAKING_OFFICE_MS = 20.0
"""Between two looks whether a new leader is ready to decide."""
FACTS_PER_BATCH_MAX = 25_000
"""A batch must fit between brokers. More than any one call decides: only what concerns many groups is cut in pieces."""
BATCH_BYTES_MAX = 4 << 20
"""The same of what Kafka clients bring, of whom a single group may bring megabytes: about so much is in one batch."""
SETTLING_MS_MAX = 500.0
"""A Kafka client's heartbeat waits so long at most for what it leads to: others' commits may wait behind it, and
librdkafka drops a connection whose heartbeat is not answered within the interval it was told (`AWAITING_MS`)."""
ASLEEP_MS = 250.0
"""A timer that fires so late says that this broker slept."""


class CoordinatorOutside(Protocol):
    """What a coordinator asks of its broker."""

    def monotonic_ms(self) -> float: ...
    def wall_ms(self) -> int: ...
    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> TimerHandle: ...
    def call_soon(self, callback: Callable[[], None]) -> None: ...
    def log(self, event: str, **facts: Any) -> None: ...
    def new_id(self) -> str:
        """Drawn anew each time, unlike any other."""
        ...

    def topics(self) -> ClusterState:
        """The decisions known here: names, ids and partition counts."""
        ...

    def known_end(self, partition: PartitionId) -> int:
        """A lower bound of the partition's committed end, known here without asking; 0 if nothing is."""
        ...

    async def unread(self, wanted: Mapping[PartitionId, int]) -> Mapping[PartitionId, Unread]:
        """How far a reader is behind at an offset, by each partition's leader. Who could not be asked is missing."""
        ...


class Coordinator:
    """Coordinates, while `replica` leads.

    Raises, from every coroutine
        NotLeader, NoLeader, UnknownOutcome  as `Decider`
        InvalidGroup                         a name that no group, or member, may have
    """

    def __init__(
        self,
        number: int,
        replica: DecidedReplica,
        log: DecisionLog[GroupsState],
        outside: CoordinatorOutside,
        limits: GroupsLimits,
    ) -> None:
        self.number = number
        """Of the partition of `__offsets`."""
        self.replica = replica
        self._log = log
        self._outside = outside
        self._limits = limits
        self._decider: Decider[GroupsState, Change] = Decider(
            replica, log, lambda changes: encode_batch(changes, outside.wall_ms()), "the coordinator"
        )
        self._office: Office | None = None
        self._classic: ClassicGroups | None = None
        """Of the same state as the office."""
        self._consumers: ConsumerMembers | None = None
        """Of the office."""
        self._timer: TimerHandle | None = None
        self._timer_due_ms = 0.0
        self._parked: dict[str, set[asyncio.Future[None]]] = {}
        """Heartbeats that wait for news, by group."""
        self._telling: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._counts: dict[str, GroupCounts] = {}
        log.on_change(self._wake)

    # -- what members ask --------------------------------------------------------------------------------------------

    async def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        """Take in a heartbeat; answer when there is something to tell, or after `max_wait_ms`.

        Raises
            UnknownMember, FencedInstance, GroupFull, InvalidSession, InvalidRequest
        """
        check_group(beat.group)
        check_member_id(beat.member_id)
        office = self._in_office()
        now_ms = self._outside.monotonic_ms()

        def take_in() -> float:
            if self._consumers is not None and self._consumers.is_one(beat.group, beat.member_id):
                raise InvalidRequest(f"Member {beat.member_id} is a Kafka client: draw another member id, and join")
            office.heartbeat(beat, now_ms, self._outside.wall_ms())
            # Worked out now: once others have decided it may be a member no more.
            return now_ms if beat.leave else now_ms + self._longest_wait_ms(beat, office)

        deadline_ms = await self._decide(office, take_in)
        if beat.leave:
            return HeartbeatAnswer(0)
        while True:
            if self._in_office() is not office:
                raise NoLeader("The coordinator took office anew meanwhile; send the heartbeat again")
            try:
                answer = office.answer(self._log.state, beat.group, beat.member_id)
            except LograftError as error:
                await self._refuse(error)
            if _is_news(answer, beat) or self._outside.monotonic_ms() >= deadline_ms:
                break
            await self._news(beat.group, deadline_ms)
        await self._decider.confirmed()
        return answer

    async def store_offsets(
        self, group: str, member_id: str, entries: Sequence[OffsetToStore]
    ) -> list[LograftError | None]:
        """Store each offset that may be stored; for each entry None, or why it was not.

        Raises
            UnknownMember, FencedInstance, GroupNotEmpty
        """
        check_group(group)
        if member_id:
            check_member_id(member_id)
        ends = await self._ends_for(entries)
        office = self._in_office()
        wall_ms = self._outside.wall_ms()
        results = await self._decide(office, lambda: office.store(group, member_id, entries, ends, wall_ms))
        counts, refused = self._counts_of(group), sum(result is not None for result in results)
        counts.refused += refused
        counts.stored += len(results) - refused
        await self._confirm_refusals(results)
        return results

    async def _confirm_refusals(self, results: Sequence[LograftError | None]) -> None:
        """What was refused is told only by who leads still; what was stored beside it stays stored."""
        if not any(results):
            return
        try:
            await self._decider.confirmed()
        except (NotLeader, NoLeader) as error:
            if all(results):
                raise
            raise UnknownOutcome(
                "some of these offsets were stored, of the others a newer coordinator decides; store them again"
            ) from error

    async def fetch_offsets(
        self, group: str, wanted: Sequence[tuple[str, int]], reader: tuple[str, int] | None = None
    ) -> list[FetchedOffset | LograftError]:
        """What is stored for each of `wanted` (topic, partition), or without any for all; offset -1 if nothing is.

        `reader`: a Kafka client that says its member id and epoch. Raises then UnknownMember, StaleEpoch.
        """
        check_group(group)
        office = self._in_office()
        await self._decider.confirmed()
        facts = self._log.state.group(group) or GroupFacts()
        if reader is not None:
            check_reader(facts, *reader)
        results: list[FetchedOffset | LograftError] = []
        if not wanted:
            names = self._names(facts)
            results += [
                self._fetched(facts, partition, names[partition.topic_id])
                for partition in sorted(facts.offsets)
                if names[partition.topic_id]
            ]
        for topic, number in wanted:
            try:
                results.append(self._fetched(facts, office.partition(topic, number, ""), topic))
            except LograftError as error:
                results.append(error)
        return results

    # -- what measurements are made of -------------------------------------------------------------------------------

    @property
    def groups(self) -> Mapping[str, GroupFacts]:
        """As logged here."""
        return self._log.state.groups

    def condition(self, group: str) -> Condition | None:
        """None while nobody is in office here."""
        return None if self._office is None else self._office.condition(group)

    def counts(self) -> list[tuple[str, GroupCounts]]:
        """Of the groups that there are. Those of deleted ones end."""
        groups = self.groups
        for name in [name for name in self._counts if name not in groups]:
            del self._counts[name]
        return [*self._counts.items()]

    def _counts_of(self, group: str) -> GroupCounts:
        return self._counts.setdefault(group, GroupCounts())

    # -- what Kafka clients ask --------------------------------------------------------------------------------------

    async def consumer_heartbeat(self, asked: ConsumerHeartbeat) -> ConsumerTold:
        """Raises what `ConsumerMembers.heartbeat` does."""
        check_group(asked.group)
        office = self._in_office()
        consumers, now_ms = self._consumers, self._outside.monotonic_ms()
        assert consumers is not None
        await self._decide(office, lambda: consumers.heartbeat(asked, now_ms, self._outside.wall_ms()))
        if asked.epoch <= LEAVING:
            return ConsumerTold(asked.epoch)
        deadline_ms = now_ms + SETTLING_MS_MAX
        while self._in_office() is office and not office.is_worked_out(asked.group):
            if self._outside.monotonic_ms() >= deadline_ms:
                break
            await self._news(asked.group, deadline_ms)
        if self._in_office() is not office:
            raise NoLeader("The coordinator took office anew meanwhile; send the heartbeat again")
        told = await self._decide(office, lambda: consumers.tell(asked, self._outside.monotonic_ms()))
        await self._decider.confirmed()
        return told

    async def describe_consumers(self, name: str) -> ConsumerGroupDescription | None:
        """None: it is no group in which the coordinator shares out. Raises UnknownGroup."""
        check_group(name)
        self._in_office()
        await self._decider.confirmed()
        if self._log.state.group(name) is None:
            raise UnknownGroup(f"There is no group {name[:80]!r}; `group list` shows those there are")
        return None if self._consumers is None else self._consumers.describe(self._log.state, name)

    async def join_group(self, asked: JoinGroup) -> Joined:
        """Raises what `ClassicGroups.join` does."""
        check_group(asked.group)
        joined = await self._classic_answer(
            lambda classic, token: classic.join(asked, token, self._outside.monotonic_ms())
        )
        assert isinstance(joined, Joined)
        return joined

    async def sync_group(self, asked: SyncGroup) -> Synced:
        """Raises what `ClassicGroups.sync` does."""
        check_group(asked.group)
        synced = await self._classic_answer(
            lambda classic, token: classic.sync(asked, token, self._outside.monotonic_ms())
        )
        assert isinstance(synced, Synced)
        return synced

    async def classic_heartbeat(self, group: str, member_id: str, instance_id: str, generation: int) -> None:
        """Raises what `ClassicGroups.heartbeat` does."""
        check_group(group)
        self._in_office()
        assert self._classic is not None
        refusal: LograftError | None = None
        try:
            self._classic.heartbeat(group, member_id, instance_id, generation, self._outside.monotonic_ms())
        except LograftError as error:
            refusal = error
        await self._decider.confirmed()
        if refusal is not None:
            raise refusal

    async def leave_group(self, group: str, leavers: Sequence[Leaver]) -> list[str | LograftError]:
        """For each of them the id of the member that left, or why none did."""
        check_group(group)
        office = self._in_office()
        classic = self._classic
        assert classic is not None

        def leave(leaver: Leaver) -> str | LograftError:
            try:
                return classic.leave(group, leaver, self._outside.monotonic_ms(), self._outside.wall_ms())
            except LograftError as error:
                return error

        results = await self._decide(office, lambda: [leave(one) for one in leavers])
        await self._decider.confirmed()
        return results

    async def store_classic_offsets(
        self, group: str, member_id: str, instance_id: str, generation: int, entries: Sequence[OffsetToStore]
    ) -> list[LograftError | None]:
        """As `store_offsets`, by the rules of Kafka's groups. Raises what `ClassicGroups.check_store` does.

        `generation`: the epoch, of a member that the coordinator shares out to.
        """
        check_group(group)
        entries = [entry._replace(generation=generation) for entry in entries]
        ends = await self._ends_for(entries)
        office = self._in_office()
        wall_ms = self._outside.wall_ms()

        def store() -> list[LograftError | None]:
            assert self._classic is not None
            facts = office.state.group(group)
            if member_id and facts is not None and facts.members:
                return office.store(group, inner_id(member_id), entries, ends, wall_ms)
            self._classic.check_store(group, member_id, instance_id, generation, self._outside.monotonic_ms())
            return office.store(group, "", entries, ends, wall_ms, is_checked=True)

        results = await self._decide(office, store)
        await self._confirm_refusals(results)
        return results

    async def forget_offsets(self, group: str, wanted: Sequence[tuple[str, int]]) -> list[LograftError | None]:
        """Forget what is stored for partitions that no member reads. Raises UnknownGroup."""
        check_group(group)
        office = self._in_office()
        results = await self._decide(office, lambda: office.forget_offsets(group, wanted))
        await self._decider.confirmed()
        return results

    async def describe_classic(self, name: str) -> ClassicDescription | None:
        """None: it is no group of Kafka clients. Raises UnknownGroup."""
        check_group(name)
        self._in_office()
        await self._decider.confirmed()
        group = self._log.state.group(name)
        described = None if self._classic is None else self._classic.describe(name)
        if group is None and described is None:
            raise UnknownGroup(f"There is no group {name[:80]!r}; `group list` shows those there are")
        return described

    def classic_now(self, name: str) -> ClassicDescription | None:
        """As `describe_classic`, of a group that `list_groups` has just told of: no other round is needed for that."""
        return None if self._classic is None else self._classic.describe(name)

    async def _classic_answer(
        self, ask: Callable[[ClassicGroups, asyncio.Future[Joined | Synced]], None]
    ) -> Joined | Synced:
        """What the call is answered, once all that it rests on is logged."""
        office = self._in_office()
        classic = self._classic
        assert classic is not None
        answer: asyncio.Future[Joined | Synced] = asyncio.get_running_loop().create_future()
        try:
            await self._decide(office, lambda: ask(classic, answer))
            told = await answer
        finally:
            if not answer.done() or answer.cancelled():
                classic.forget(answer, self._outside.monotonic_ms())
                answer.cancel()
            elif answer.exception() is not None:
                pass  # looked at, so that asyncio does not report it as forgotten
        await self._decider.confirmed()  # it may be told of a round that was over before this one asked
        return told

    async def _tell(self, answers: Sequence[tuple[asyncio.Future[Any], Joined | Synced | LograftError]]) -> None:
        """Answer calls that wait, once what was decided by now is logged."""
        failure: LograftError | None = None
        try:
            await self._decider.settled()
        except LograftError as error:
            failure = error
        for answer, told in answers:
            if not answer.done():
                if failure is not None or isinstance(told, LograftError):
                    answer.set_exception(failure or told)  # type: ignore[arg-type]
                else:
                    answer.set_result(told)

    def _abandon_classic(self) -> None:
        classic, self._classic = self._classic, None
        for answer in () if classic is None else classic.abandon():
            if not answer.done():
                answer.set_exception(NoLeader("The coordinator took office anew, or no longer is it; ask again"))

    # -- what operators ask ------------------------------------------------------------------------------------------

    async def list_groups(self) -> list[GroupListed]:
        office = self._in_office()
        await self._decider.confirmed()
        listed = []
        for name, group in sorted(self._log.state.groups.items()):
            names = self._names(group)
            partitions = {*group.offsets, *(p for p in group.grants if group.owner(p) is not None)}
            topics = sorted({names[partition.topic_id] for partition in partitions} - {""})
            listed.append(
                GroupListed(
                    name,
                    office.condition(name),
                    group.member_count,
                    len(partitions),
                    tuple(topics),
                    group.is_shared_out_here,
                )
            )
        return listed

    async def describe(self, name: str) -> GroupDescription:
        """Raises UnknownGroup."""
        check_group(name)
        office = self._in_office()
        await self._decider.confirmed()
        group = self._log.state.group(name)
        if group is None:
            raise UnknownGroup(f"There is no group {name[:80]!r}; `group list` shows those there are")
        names = self._names(group)
        partitions = sorted(
            (partition for partition in {*group.grants, *group.offsets} if names[partition.topic_id]),
            key=lambda partition: (names[partition.topic_id], partition.number),
        )
        unread = await self._outside.unread(
            {p: group.offsets[p].offset if p in group.offsets else 0 for p in partitions}
        )
        now_ms = self._outside.monotonic_ms()
        members = [
            MemberDescription(
                member_id=member_id,
                instance_id=member.instance_id,
                client_id=member.client_id,
                host=member.host,
                topics=member.topics,
                pattern=member.pattern,
                partitions=len(group.owned.get(member_id, ())),
                session_timeout_ms=member.session_timeout_ms,
                heard_ms_ago=office.heard_ms_ago(name, member_id, now_ms),
                joined_ms=member.joined_ms,
            )
            for member_id, member in sorted(group.members.items())
        ]
        return GroupDescription(
            name,
            office.condition(name),
            group.generation,
            tuple(members),
            tuple(
                _described(group, partition, names[partition.topic_id], office.next_owner(name, partition), unread)
                for partition in partitions
            ),
        )

    async def seek(self, group: str, targets: Sequence[SeekTarget], *, validate_only: bool) -> Seeked:
        """Move the group, whether members read or not. Raises what is wrong with the first target that cannot be."""
        check_group(group)
        ends = await self._ends_for(targets)
        office = self._in_office()
        wall_ms = self._outside.wall_ms()

        def seek() -> Seeked:
            sought = office.seek(group, targets, ends, wall_ms, dry=validate_only)
            if not validate_only and self._classic is not None and self._consumers is not None:
                self._classic.sought(group, self._outside.monotonic_ms(), wall_ms)
                self._consumers.fence_owners(group, {office.checked(target, ends) for target in targets})
            return sought

        sought = await self._decide(office, seek)
        if validate_only:
            await self._decider.confirmed()
        return sought

    async def delete(self, group: str) -> None:
        """Raises UnknownGroup, GroupNotEmpty."""
        check_group(group)
        office = self._in_office()

        def delete() -> None:
            office.delete(group)
            if self._classic is not None:
                self._classic.deleted(group)

        await self._decide(office, delete)

    # -- what its broker tells it ------------------------------------------------------------------------------------

    def decisions_changed(self) -> None:
        """Topics were made, grown or deleted."""
        office = self._office
        if office is not None and self.replica.is_leader:
            office.topics_changed(self._outside.monotonic_ms())
            self._arm(0)

    def leadership_changed(self) -> None:
        """The replica leads now, or no longer."""
        self._wake([*self._parked])
        if self.replica.is_leader and not self._stopped:
            self._arm(0)
        else:
            self._office = None
            self._counts.clear()
            self._abandon_classic()
            self._disarm()

    def stop(self) -> None:
        self._stopped = True
        self._office = None
        self._abandon_classic()
        self._disarm()
        self._wake([*self._parked])

    # -- in office ---------------------------------------------------------------------------------------------------

    def _in_office(self) -> Office:
        """The office, begun now if need be."""
        if self._stopped:
            raise NoLeader("This broker is stopping; ask for the coordinator again")
        state = self._decider.ahead()
        if self._office is None or self._office.state is not state:
            self._office = Office(
                state,
                self._outside.topics,
                self._limits,
                now_ms=self._outside.monotonic_ms(),
            )
            self._abandon_classic()
            now_ms = self._outside.monotonic_ms()
            self._classic = ClassicGroups(state, self._limits, self._outside.new_id, now_ms=now_ms)
            self._consumers = ConsumerMembers(self._office, self._limits, now_ms=now_ms)
            self._wake([*self._parked])
            self._arm_next(self._office)
        return self._office

    async def _decide(self, office: Office, decision: Callable[[], Decided]) -> Decided:
        """Have the office decide, and answer once that is committed; raise what it refuses with once that is sure."""
        refusal: LograftError | None = None
        try:
            decided = decision()
        except LograftError as error:
            refusal = error
        self._propose(office)
        await self._decider.settled()
        if refusal is not None:
            await self._refuse(refusal)
        return decided

    def _propose(self, office: Office) -> None:
        """Log what the office decided, if it did, and go on at the time it names."""
        classic, consumers = self._classic, self._consumers
        changes = office.take()
        for beside in (consumers, classic):
            changes += [] if beside is None else beside.take()
        try:
            for piece in _pieces(changes):
                self._decider.propose(piece)
        except LograftError:
            # The next call begins the office anew, but there may be none, and others wait for what was decided.
            self._abandon_classic()
            raise
        notes, office.notes = office.notes, []
        for event, facts in notes:
            self._outside.log(event, **facts)
            if event == "group_shared_out":
                self._counts_of(facts["group"]).rebalances += 1
        stirred, office.stirred = office.stirred, set()
        self._wake([*stirred])
        if classic is not None and (answers := classic.take_answers()):
            telling = asyncio.get_running_loop().create_task(self._tell(answers))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        self._arm_next(office)

    def _on_timer(self) -> None:
        self._timer = None
        if self._stopped or not self.replica.is_leader:
            return
        try:
            office = self._in_office()
            now_ms = self._outside.monotonic_ms()
            if now_ms - self._timer_due_ms > ASLEEP_MS:
                office.forgive(now_ms)
                for beside in (self._classic, self._consumers):
                    if beside is not None:
                        beside.forgive(now_ms)
            # Each after what it rests on: whom the office left out, the others no longer know.
            for each in (office, self._classic, self._consumers):
                if each is not None:
                    each.advance(now_ms, self._outside.wall_ms())
            self._propose(office)
        except LograftError:
            # Not ready yet, or handing over: if it still leads then, it looks again.
            self._arm(TAKING_OFFICE_MS)

    def _arm_next(self, office: Office) -> None:
        deciding = (office, self._classic, self._consumers)
        due = [one.next_due_ms() for one in deciding if one is not None]
        due_ms = min((one for one in due if one is not None), default=None)
        if due_ms is not None:
            self._arm(max(due_ms - self._outside.monotonic_ms(), 0))

    def _arm(self, delay_ms: float) -> None:
        """Look after so long, unless that is to be sooner anyway."""
        due_ms = self._outside.monotonic_ms() + delay_ms
        if self._timer is not None:
            if self._timer_due_ms <= due_ms:
                return
            self._timer.cancel()
        self._timer_due_ms = due_ms
        self._timer = self._outside.call_later(delay_ms, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _longest_wait_ms(self, beat: Heartbeat, office: Office) -> float:
        """A third of the session's time at most: the next heartbeat is to come long before it ends."""
        member = office.state.groups[beat.group].members[beat.member_id]
        return min(max(beat.max_wait_ms, 0), member.session_timeout_ms / 3)

    async def _news(self, group: str, deadline_ms: float) -> None:
        """Return when something changed in the group, or at the deadline."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not news.done():
                news.set_result(None)

        timer = self._outside.call_later(max(deadline_ms - self._outside.monotonic_ms(), 0), wake)
        parked = self._parked.setdefault(group, set())
        parked.add(news)
        try:
            await news
        finally:
            timer.cancel()
            parked.discard(news)
            # Once woken, it is no longer the group's set: in that others may be parked anew already.
            if not parked and self._parked.get(group) is parked:
                del self._parked[group]

    def _wake(self, groups: Sequence[str]) -> None:
        for group in groups:
            for news in self._parked.pop(group, ()):
                if not news.done():
                    news.set_result(None)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _ends_for(self, places: Sequence[OffsetToStore | SeekTarget]) -> dict[PartitionId, int]:
        """The committed end of each partition named, as far as it takes to judge the offset; who is asked for nothing
        costs nothing."""
        topics = self._outside.topics()
        ends: dict[PartitionId, int] = {}
        to_ask: dict[PartitionId, int] = {}
        for place in places:
            topic = topics.topic(place.topic)
            if topic is None or not 0 <= place.number < len(topic.partitions):
                continue
            partition = PartitionId(topic.topic_id, place.number)
            known = ends[partition] = self._outside.known_end(partition)
            if place.offset > known:
                to_ask[partition] = known
        if to_ask:
            told = await self._outside.unread(to_ask)
            for partition in to_ask:
                del ends[partition]
            ends |= {partition: unread.committed_offset for partition, unread in told.items()}
        return ends

    async def _refuse(self, refusal: LograftError) -> NoReturn:
        """Refuse, once it is sure that nobody else leads: one who led until now knows no newer member or grant."""
        await self._decider.confirmed()
        raise refusal

    def _names(self, group: GroupFacts) -> dict[str, str]:
        """Topic id -> name, of all that the group has to do with; empty for a topic that is not known here."""
        ids = {partition.topic_id for partition in (*group.grants, *group.offsets)}
        topics = self._outside.topics()
        found = {topic_id: topics.topic_by_id(topic_id) for topic_id in ids}
        return {topic_id: "" if topic is None else topic.name for topic_id, topic in found.items()}

    @staticmethod
    def _fetched(group: GroupFacts, partition: PartitionId, topic: str) -> FetchedOffset:
        stored = group.offsets.get(partition)
        if stored is None:
            return FetchedOffset(topic, partition.number, partition.topic_id, -1, "", 0)
        return FetchedOffset(
            topic, partition.number, partition.topic_id, stored.offset, stored.metadata, stored.stored_ms
        )


def _pieces(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """What fits in one batch, in order. A group's facts alone always do."""
    piece: list[Change] = []
    size = 0
    for change in changes:
        weight = _weight(change[1])
        if piece and (len(piece) >= FACTS_PER_BATCH_MAX or size + weight > BATCH_BYTES_MAX):
            yield piece
            piece, size = [], 0
        piece.append(change)
        size += weight
    if piece:
        yield piece


def _weight(value: Value | None) -> int:
    """About how many bytes a fact takes, if it may take many: bytes are logged as base64."""
    if not isinstance(value, ClassicFact):
        return 0
    brought = sum(len(brought) for member in value.members for _, brought in member.protocols)
    return (brought + sum(len(member.assignment) for member in value.members)) * 4 // 3


def _is_news(answer: HeartbeatAnswer, beat: Heartbeat) -> bool:
    """Does the answer tell the member anything that it does not say itself?"""
    # What it is giving up already may have become its own again: it goes on giving it up, and gets it anew.
    if {told.granted for told in answer.grants} - beat.giving_up != beat.owned:
        return True
    return any(told.granted not in beat.giving_up for told in answer.revoked)


def _described(
    group: GroupFacts,
    partition: PartitionId,
    topic: str,
    next_owner: str | None,
    unread: Mapping[PartitionId, Unread],
) -> PartitionDescription:
    stored = group.offsets.get(partition)
    grant = group.grants.get(partition)
    owner = group.owner(partition)
    found = unread.get(partition)
    lag_records, lag_seconds = -1, -1.0
    if found is not None:
        place = max(found.start_offset, 0 if stored is None else stored.offset)
        lag_records = max(found.committed_offset - place, 0)
        lag_seconds = found.age_ms / 1000 if lag_records else 0.0
    return PartitionDescription(
        topic=topic,
        number=partition.number,
        topic_id=partition.topic_id,
        member_id=owner or "",
        generation=grant.generation if grant is not None and owner is not None else 0,
        next_member_id=next_owner if next_owner is not None and next_owner != owner else "",
        stored_offset=-1 if stored is None else stored.offset,
        metadata="" if stored is None else stored.metadata,
        stored_ms=0 if stored is None else stored.stored_ms,
        start_offset=-1 if found is None else found.start_offset,
        committed_offset=-1 if found is None else found.committed_offset,
        lag_records=lag_records,
        lag_seconds=lag_seconds,
    )
