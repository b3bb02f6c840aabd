"""A coordinator's office with topics made by hand, and members that follow the protocol: for tests."""

from __future__ import annotations

from collections.abc import Callable

from lograft.node.controller.facts import DeletedTopicFact, PartitionFact, TopicFact
from lograft.node.controller.state import ClusterState
from lograft.node.groups.calls import Granted, Heartbeat, HeartbeatAnswer, Join, OffsetToStore
from lograft.node.groups.office import Office
from lograft.node.groups.rules import GroupsLimits
from lograft.node.groups.state import GroupsState
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.proto.errors import LograftError

SESSION_MS = 10_000
LIMITS = GroupsLimits(settle_ms=50)
VOTER = Voter(1, "d" * 32, 1)


def topic_id(name: str) -> str:
    return name.encode().hex().rjust(32, "a")


def a_topic(name: str, partitions: int) -> TopicFact:
    fact = PartitionFact(placement=(VOTER,), first_voters=(VOTER,))
    return TopicFact(
        name=name,
        topic_id=topic_id(name),
        config={},
        partitions=(fact,) * partitions,
        next_replica_number=2,
        created_ms=0,
    )


def put_topic(topics: ClusterState, name: str, partitions: int) -> None:
    topic = a_topic(name, partitions)
    topics.apply((topic.key, topic))


def delete_topic(topics: ClusterState, name: str) -> None:
    topic = topics.topics[name]
    gone = DeletedTopicFact(topic_id=topic.topic_id, name=name, deleted_ms=0)
    topics.apply((gone.key, gone))
    topics.apply((topic.key, None))


def partition(name: str, number: int) -> PartitionId:
    return PartitionId(topic_id(name), number)


def a_join(*topics: str, instance_id: str = "", session_ms: int = SESSION_MS, pattern: str | None = None) -> Join:
    return Join(topics or (() if pattern else ("t",)), pattern, session_ms, instance_id)


class World:
    """Time, topics, and an office whose decisions are logged when the test says so (by default at once)."""

    def __init__(self, partitions: int = 6, limits: GroupsLimits = LIMITS) -> None:
        self.now_ms = 1_000.0
        self.wall_ms = 1_700_000_000_000
        self.topics = ClusterState()
        self.limits = limits
        put_topic(self.topics, "t", partitions)
        self.logged = GroupsState()
        self.ends: dict[PartitionId, int] = {}
        self.office = self._new_office()

    def _new_office(self) -> Office:
        return Office(self.logged.copy(), lambda: self.topics, self.limits, now_ms=self.now_ms)

    def change_office(self) -> None:
        """Another broker leads now: it knows what is logged."""
        self.office = self._new_office()

    def log(self) -> int:
        """Log what was decided. Returns the number of facts."""
        changes = self.office.take()
        for change in changes:
            self.logged.apply(change)
        return len(changes)

    def pass_ms(self, duration_ms: float) -> None:
        """Let time pass in the steps that the office asks for."""
        end_ms = self.now_ms + duration_ms
        while (due_ms := self.office.next_due_ms()) is not None and due_ms <= end_ms:
            self._move_to(max(due_ms, self.now_ms))
            self.office.advance(self.now_ms, self.wall_ms)
            self.log()
        self._move_to(end_ms)

    def _move_to(self, now_ms: float) -> None:
        self.wall_ms += round(now_ms - self.now_ms)
        self.now_ms = now_ms

    def settle(self) -> None:
        self.pass_ms(self.limits.settle_ms)

    def beat(self, beat: Heartbeat) -> HeartbeatAnswer:
        """One heartbeat, logged and answered at once. Raises what it is refused with."""
        self.office.heartbeat(beat, self.now_ms, self.wall_ms)
        self.log()
        if beat.leave:
            return HeartbeatAnswer(0)
        return self.office.answer(self.logged, beat.group, beat.member_id)

    def store(self, member_id: str, *entries: OffsetToStore, group: str = "g") -> list[LograftError | None]:
        results = self.office.store(group, member_id, entries, AnyEnd(self.ends), self.wall_ms)
        self.log()
        return results

    def stored(self, number: int, *, group: str = "g", topic: str = "t") -> int | None:
        found = self.logged.group(group)
        fact = None if found is None else found.offsets.get(partition(topic, number))
        return None if fact is None else fact.offset


class AnyEnd(dict[PartitionId, int]):
    """Committed ends; a partition that is not named holds a million records."""

    def __init__(self, ends: dict[PartitionId, int]) -> None:
        super().__init__(ends)

    def get(self, key: PartitionId, default: object = None) -> int:  # type: ignore[override]
        return super().get(key, 1_000_000)


def to_store(granted: Granted | tuple[int, int], offset: int, metadata: str = "", topic: str = "t") -> OffsetToStore:
    """An entry for a grant, or for (number, generation)."""
    if isinstance(granted, Granted):
        number, generation = granted.partition.number, granted.generation
    else:
        number, generation = granted
    return OffsetToStore(topic, number, "", offset, metadata, generation)


class Member:
    """A member that keeps the protocol. `held` is what it reads; it trusts its own session only."""

    def __init__(self, world: World, member_id: str, join: Join | None = None, group: str = "g") -> None:
        self.world = world
        self.member_id = member_id
        self.join = join or a_join()
        self.group = group
        self.held: set[Granted] = set()
        self.giving_up: set[Granted] = set()
        self.released: set[Granted] = set()
        self.used_up: set[Granted] = set()
        """Grants given back: never to be taken up again."""
        self.heard_ms = world.now_ms
        self.is_joined = False
        self.never_tells: Callable[[], bool] = lambda: False
        """Does the answer to this heartbeat get lost?"""

    @property
    def holds(self) -> set[PartitionId]:
        """What it reads just now: nothing once its own session is over."""
        if self.world.now_ms - self.heard_ms >= self.join.session_timeout_ms:
            return set()
        return {granted.partition for granted in self.held | self.giving_up}

    def beat(self) -> HeartbeatAnswer | None:
        """One heartbeat. None if the answer was lost."""
        sent_ms = self.world.now_ms
        answer = self.world.beat(self.request())
        if self.never_tells():
            return None
        self.take_in(answer, sent_ms)
        return answer

    def request(self, **changes: object) -> Heartbeat:
        return Heartbeat(
            self.group,
            self.member_id,
            None if self.is_joined else self.join,
            frozenset(self.held),
            frozenset(self.giving_up),
            frozenset(self.released),
        )._replace(**changes)  # type: ignore[arg-type]

    def take_in(self, answer: HeartbeatAnswer, sent_ms: float) -> None:
        self.is_joined = True
        if self.world.now_ms - self.heard_ms >= self.join.session_timeout_ms:
            self.lose_all()
        self.heard_ms = sent_ms
        self.released.clear()
        grants = {told.granted for told in answer.grants}
        revoked = {told.granted for told in answer.revoked}
        self.held &= grants | revoked
        self.giving_up &= revoked | grants
        self.giving_up |= revoked & self.held
        self.held -= revoked
        self.released |= revoked - self.giving_up
        self.held |= grants - self.giving_up - self.used_up

    def give_back(self) -> None:
        """All that it was told to give up is handled to the end."""
        self.released |= self.giving_up
        self.used_up |= self.giving_up
        self.giving_up.clear()

    def lose_all(self) -> None:
        self.held.clear()
        self.giving_up.clear()
        self.released.clear()

    def leave(self) -> None:
        self.world.beat(self.request(leave=True, join=None))
        self.lose_all()
        self.is_joined = False
