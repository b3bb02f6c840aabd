"""A Raft group in memory: real cores, logs that are lists, and a network that delivers what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from lograft.partitions.raft.core import RaftCore, Role
from lograft.partitions.raft.events import (
    Effects,
    Event,
    LogBegan,
    PeerHeard,
    PeerSilent,
    Persisted,
    Promise,
    Propose,
    Sent,
    SetLearners,
    TellCommitted,
    TimerFired,
)
from lograft.partitions.raft.messages import AppendReply, Message, Voter
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point, TermJournal
from lograft.partitions.raft.voter_sets import VoterSets


def voter(broker_id: int, replica_number: int = 1) -> Voter:
    return Voter(broker_id, f"directory-{broker_id}", replica_number)


def heard(broker_id: int) -> PeerHeard:
    return PeerHeard(broker_id, voter(broker_id).directory_id)


def items_of_terms(*terms: int) -> tuple[Item, ...]:
    """A log in which each number is one record of that term, after the term's start: `1 1 3` as in the paper."""
    items: list[Item] = []
    last = ORIGIN
    for term in terms:
        if term != last.term:
            last = Point(term, last.offset, 1)
            items.append(Item(last, ItemKind.TERM_START, b""))
        last = Point(term, last.offset + 1, last.rank)
        items.append(Item(last, ItemKind.RECORDS, f"{last}".encode()))
    return tuple(items)


def journal_of(items: tuple[Item, ...]) -> TermJournal:
    journal = TermJournal()
    journal.extend_all(item.point for item in items)
    return journal


def a_core(
    broker_id: int = 1,
    *,
    of: int = 3,
    log: tuple[int, ...] = (),
    term: int = 0,
    voted_for: Voter | None = None,
    word: Point = ORIGIN,
    doubtful: bool = False,
    damaged: bool = False,
    learner: bool = False,
    in_flight_bytes_max: int = 1 << 20,
    in_touch: bool = True,
) -> RaftCore:
    """A core that has not been started; `in_touch`: with all other brokers."""
    core = RaftCore(
        voter=voter(broker_id),
        voter_sets=VoterSets(ORIGIN, () if learner else tuple(voter(each) for each in range(1, of + 1))),
        journal=journal_of(items_of_terms(*log)),
        random=Random(broker_id),
        term=term,
        voted_for=voted_for,
        word=word,
        doubtful=doubtful,
        damaged=damaged,
        in_flight_bytes_max=in_flight_bytes_max,
    )
    for other in range(1, of + 1):
        if in_touch and other != broker_id:
            core.step(heard(other))
    return core


@dataclass
class Member:
    """A core with the log and the promise it asked for; `disk` is what a crash would leave."""

    core: RaftCore
    log: list[Item] = field(default_factory=list)
    promise: Promise | None = None
    timer_ms: float | None = None
    waiting: list[Message] = field(default_factory=list)
    """Messages that wait for the disk."""
    reads_confirmed: list[int] = field(default_factory=list)
    reads_refused: list[int] = field(default_factory=list)
    cuts: list[Point] = field(default_factory=list)
    resets: list[Point] = field(default_factory=list)


class Group:
    """Members by broker id. Messages stay in `network` until delivered; the disk is instant but for `slow_disks`."""

    def __init__(self, *cores: RaftCore, logs: dict[int, tuple[int, ...]] | None = None) -> None:
        self.members: dict[int, Member] = {}
        self.network: list[Message] = []
        self.slow_disks: set[int] = set()
        self.tells_at_once = True
        """Do leaders say what is committed as soon as it is?"""
        for core in cores:
            terms = (logs or {}).get(core.voter.broker_id, ())
            self.members[core.voter.broker_id] = Member(core, list(items_of_terms(*terms)))
        for core in cores:
            self._carry_out(core.voter.broker_id, core.start())

    @classmethod
    def of(cls, count: int, **logs: tuple[int, ...]) -> Group:
        """`Group.of(3, n1=(1, 1))`: three members, all in touch with each other."""
        by_id = {int(name[1:]): terms for name, terms in logs.items()}
        group = cls(*(a_core(each, of=count, log=by_id.get(each, ())) for each in range(1, count + 1)), logs=by_id)
        group.connect_all()
        return group

    def connect_all(self) -> None:
        for one in self.members:
            for other in self.members:
                if one != other:
                    self.step(one, heard(other))

    def cut_off(self, broker_id: int) -> None:
        """Nobody hears this broker, and it hears nobody."""
        for other in self.members:
            if other != broker_id:
                self.step(other, PeerSilent(broker_id))
                self.step(broker_id, PeerSilent(other))
        self.drop(lambda message: broker_id in (message.sender.broker_id, message.to.broker_id))

    def core(self, broker_id: int) -> RaftCore:
        return self.members[broker_id].core

    def step(self, broker_id: int, event: Event) -> Effects:
        effects = self.core(broker_id).step(event)
        self._carry_out(broker_id, effects)
        return effects

    def _carry_out(self, broker_id: int, effects: Effects) -> None:
        member = self.members[broker_id]
        if effects.promise is not None:
            member.promise = effects.promise
        if effects.cut is not None:
            member.cuts.append(effects.cut)
            member.log = [item for item in member.log if item.point <= effects.cut]
            member.waiting = [message for message in member.waiting if not isinstance(message, AppendReply)]
        if effects.reset is not None:
            member.resets.append(effects.reset.base)
            member.log = []
            member.waiting = [message for message in member.waiting if not isinstance(message, AppendReply)]
        member.log.extend(effects.append)
        member.reads_confirmed += effects.reads_confirmed
        member.reads_refused += effects.reads_refused
        if effects.timer_ms is not None:
            member.timer_ms = effects.timer_ms or None
        self.network.extend(effects.send_now)
        for asked in effects.replicate:
            items: list[Item] = []
            size = 0
            for item in member.log:
                if asked.request.prev < item.point <= asked.upto and (not items or size < asked.bytes_max):
                    items.append(item)
                    size += len(item.data)
            self.network.append(replace(asked.request, items=tuple(items)))
            self.step(broker_id, Sent(asked.request.to, asked.request.session, items[-1].point, size))
        if effects.has_news and self.tells_at_once:
            self.step(broker_id, TellCommitted())
        for offer in effects.offers:
            self.network.append(replace(offer, voters=member.core.voters, head=b"head"))
        member.waiting.extend(effects.send_when_persisted)
        if broker_id not in self.slow_disks:
            self.flush(broker_id)

    def flush(self, broker_id: int) -> None:
        """The disk catches up: what waited for it goes."""
        member = self.members[broker_id]
        waiting, member.waiting = member.waiting, []
        for message in waiting:
            if message.to == member.core.voter:
                self.step(broker_id, message)
            else:
                self.network.append(message)
        if member.core.persisted < member.core.last:
            self.step(broker_id, Persisted(member.core.last))

    def tell_written(self, broker_id: int) -> None:
        """What waits for the disk is acknowledged as written, and once more when it is on it."""
        member = self.members[broker_id]
        for message in member.waiting:
            if isinstance(message, AppendReply):
                synced = min(message.match, member.core.persisted)
                self.network.append(replace(message, synced=synced if synced < message.match else None))

    def drop(self, which: Callable[[Message], bool]) -> None:
        self.network = [message for message in self.network if not which(message)]

    def deliver(self, which: Callable[[Message], bool] = lambda _: True) -> int:
        """Deliver what is under way now, in order; what follows from it stays under way."""
        chosen = [message for message in self.network if which(message)]
        self.network = [message for message in self.network if not which(message)]
        for message in chosen:
            self.step(message.to.broker_id, message)
        return len(chosen)

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        for _ in range(1000):
            if not self.deliver():
                return
        raise AssertionError(f"still talking: {self.network[:5]}")

    def elect(self, broker_id: int) -> None:
        self.step(broker_id, TimerFired())
        self.settle()
        assert self.core(broker_id).role is Role.LEADER, f"n{broker_id} is {self.core(broker_id).role}"

    def propose(self, broker_id: int, count: int = 1, size: int = 10) -> Point:
        core = self.core(broker_id)
        last = core.last
        items = tuple(
            Item(Point(core.term, last.offset + at + 1, last.rank), ItemKind.RECORDS, b"x" * size)
            for at in range(count)
        )
        self.step(broker_id, Propose(items))
        return items[-1].point

    def drop_before(self, broker_id: int, base: Point) -> None:
        """Its log begins at `base` from now on."""
        member = self.members[broker_id]
        member.log = [item for item in member.log if item.point > base]
        self.step(broker_id, LogBegan(base))

    def change_voters(self, broker_id: int, *voters: Voter) -> Point:
        """The leader appends a change of the voters, which it must not refuse."""
        core = self.core(broker_id)
        point = core.last._replace(rank=core.last.rank + 1)
        self.step(broker_id, Propose((Item(point, ItemKind.VOTERS, b"", voters),)))
        return point

    def add_learner(self, core: RaftCore, leader_id: int) -> None:
        """A new member, in touch with all others, that the leader sends its log."""
        new = core.voter.broker_id
        self.members[new] = Member(core)
        self._carry_out(new, core.start())
        for other in self.members:
            if other != new:
                self.step(other, heard(new))
                self.step(new, heard(other))
        self.step(leader_id, SetLearners((*self.core(leader_id).learners, core.voter)))

    def terms(self, broker_id: int) -> list[int]:
        """The log as one number a record, its term."""
        return [item.point.term for item in self.members[broker_id].log if item.kind is ItemKind.RECORDS]
