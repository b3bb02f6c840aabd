"""Random histories of a group: members come, die, stall, return; coordinators change; calls and answers get lost, late.

Each is made from its seed alone. What may never happen is checked after every step; at the end the faults stop, and the
group must come to rest with every partition read by exactly one member.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from random import Random

import pytest
from lograft.node.groups.calls import Granted, Heartbeat, SeekTarget
from lograft.partitions.environment import PartitionId
from lograft.proto.errors import FencedInstance, LograftError, UnknownMember

from tests.unit.groups.world import Member, World, a_join, partition, put_topic, to_store

STEPS = 120


class History:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.world = World(partitions=self.random.choice((1, 3, 8, 12)))
        self.members: dict[str, Member] = {}
        self.dead: list[Member] = []
        """Processes that stopped speaking, or were fenced; they may wake and store."""
        self.late: list[Heartbeat] = []
        """Requests that are still in the network."""
        self.count = 0
        self.granted: dict[PartitionId, Granted] = {}
        self.stored: dict[PartitionId, int] = {}
        """Generation under which each partition's offset was stored last."""
        self.acted: Counter[str] = Counter()

    def run(self) -> None:
        acts = [
            (self.beat, 40),
            (self.finish_handling, 20),
            (self.pass_time, 25),
            (self.join, 8),
            (self.leave, 3),
            (self.die, 3),
            (self.start_again, 3),
            (self.store, 15),
            (self.zombie_stores, 4),
            (self.deliver_late, 4),
            (self.change_office, 4),
            (self.lose_decision, 3),
            (self.seek, 3),
            (self.grow, 1),
            (self.wake, 2),
        ]
        doing, weights = zip(*acts, strict=True)
        for _ in range(STEPS):
            act = self.random.choices(doing, weights)[0]
            act()
            self.acted[act.__name__] += 1
            self.check()
        self.come_to_rest()

    # -- what happens ------------------------------------------------------------------------------------------------

    def some(self) -> Member | None:
        return self.members[self.random.choice(sorted(self.members))] if self.members else None

    def join(self) -> None:
        if len(self.members) < 6:
            self.count += 1
            instance = f"i{self.random.randrange(3)}" if self.random.random() < 0.3 else ""
            session_ms = self.random.choice((1_000, 3_000, 10_000))
            name = f"m{self.count}"
            if instance:
                for other in [one for one in self.members.values() if one.join.instance_id == instance]:
                    self.retire(other)
            join = a_join(instance_id=instance, session_ms=session_ms, pattern=self.random.choice((None, None, "t.*")))
            self.members[name] = Member(self.world, name, join)
            self.beat_of(self.members[name])

    def beat(self) -> None:
        member = self.some()
        if member is not None:
            self.beat_of(member)

    def beat_of(self, member: Member) -> None:
        if self.random.random() < 0.1:
            self.late.append(member.request())
        lost = self.random.random() < 0.15
        member.never_tells = lambda: lost
        try:
            member.beat()
        except UnknownMember:
            member.lose_all()
            member.is_joined = False
        except FencedInstance:
            self.retire(member)

    def retire(self, member: Member) -> None:
        self.members.pop(member.member_id, None)
        self.dead.append(member)

    def finish_handling(self) -> None:
        member = self.some()
        if member is not None:
            member.give_back()

    def pass_time(self) -> None:
        self.world.pass_ms(self.random.choice((10, 60, 300, 1_000, 2_500)))

    def leave(self) -> None:
        member = self.some()
        if member is not None:
            member.leave()
            del self.members[member.member_id]

    def die(self) -> None:
        member = self.some()
        if member is not None:
            self.retire(member)

    def start_again(self) -> None:
        """A static member's process dies, and another of the same instance starts."""
        static = [member for member in self.members.values() if member.join.instance_id]
        if static:
            member = self.random.choice(static)
            self.retire(member)
            self.count += 1
            again = Member(self.world, f"m{self.count}", member.join)
            self.members[again.member_id] = again
            self.beat_of(again)

    def wake(self) -> None:
        """A process that was stopped for a while goes on as if nothing had been."""
        stalled = [member for member in self.dead if not member.join.instance_id]
        if stalled:
            member = self.random.choice(stalled)
            self.dead.remove(member)
            self.members[member.member_id] = member
            self.beat_of(member)

    def store(self) -> None:
        member = self.some()
        if member is not None and (member.held or member.giving_up):
            self.store_of(member, self.random.choice(sorted(member.held | member.giving_up)))

    def zombie_stores(self) -> None:
        zombies = [member for member in self.dead if member.held]
        if zombies:
            zombie = self.random.choice(zombies)
            self.store_of(zombie, self.random.choice(sorted(zombie.held)))

    def store_of(self, member: Member, granted: Granted) -> None:
        try:
            (refused,) = self.world.store(member.member_id, to_store(granted, self.random.randrange(1_000)))
        except LograftError:
            return
        if refused is None:
            before = self.stored.get(granted.partition, 0)
            assert granted.generation >= before, f"{granted} stored after something was stored under {before}"
            self.stored[granted.partition] = granted.generation

    def deliver_late(self) -> None:
        if self.late:
            late = self.late.pop(self.random.randrange(len(self.late)))
            try:
                self.world.beat(late)
            except LograftError:
                return

    def change_office(self) -> None:
        self.world.change_office()

    def lose_decision(self) -> None:
        """A coordinator decides, and dies before that is logged."""
        member = self.some()
        if member is not None:
            with contextlib.suppress(LograftError):
                self.world.office.heartbeat(member.request(), self.world.now_ms, self.world.wall_ms)
        self.world.change_office()

    def seek(self) -> None:
        numbers = range(len(self.world.topics.topics["t"].partitions))
        chosen = self.random.sample(numbers, self.random.randint(1, len(numbers)))
        targets = [SeekTarget("t", number, "", self.random.randrange(1_000)) for number in chosen]
        ends = {partition("t", number): 1_000_000 for number in numbers}
        sought = self.world.office.seek("g", targets, ends, self.world.wall_ms, dry=False)
        self.world.log()
        for number in chosen:
            self.stored[partition("t", number)] = sought.generation if sought.regranted else 0

    def grow(self) -> None:
        count = len(self.world.topics.topics["t"].partitions)
        if count < 16:
            put_topic(self.world.topics, "t", count + self.random.randint(1, 3))
            self.world.office.topics_changed(self.world.now_ms)
            self.world.log()

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        readers: dict[PartitionId, str] = {}
        stalled = [member for member in self.dead if not member.join.instance_id]
        for member in (*self.members.values(), *stalled):
            for held in member.holds:
                assert held not in readers, f"{held} is read by {readers[held]} and {member.member_id}"
                readers[held] = member.member_id
        group = self.world.logged.group("g")
        for place, grant in group.grants.items() if group is not None else ():
            before = self.granted.get(place)
            now = Granted(place, grant.generation)
            assert before is None or now.generation >= before.generation, f"{before} was followed by {now}"
            self.granted[place] = now

    def come_to_rest(self) -> None:
        self.world.pass_ms(11_000)  # whoever is dead by now is gone
        self.join()
        for _ in range(12):
            for member in list(self.members.values()):
                member.never_tells = lambda: False
                member.give_back()
                try:
                    member.beat()
                except UnknownMember:
                    member.lose_all()
                    member.is_joined = False
                except FencedInstance:
                    self.retire(member)
            self.world.settle()
            self.check()
        if self.members:
            held = Counter(place for member in self.members.values() for place in member.holds)
            count = len(self.world.topics.topics["t"].partitions)
            assert held == Counter({partition("t", number): 1 for number in range(count)})
            loads = [len(member.holds) for member in self.members.values()]
            assert max(loads) - min(loads) <= 1, loads


@pytest.mark.parametrize("block", range(8))
def test_a_group_survives_whatever_happens_to_it(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        history = History(seed)
        try:
            history.run()
        except AssertionError as error:
            raise AssertionError(f"history {seed}: {error}") from error


def test_the_histories_are_worth_something() -> None:
    acted: Counter[str] = Counter()
    for seed in range(50):
        history = History(seed)
        history.run()
        acted += history.acted
        acted["stored"] += len(history.stored)
        acted["moved"] += sum(granted.generation > 3 for granted in history.granted.values())
    assert all(acted[what] >= 50 for what in ("change_office", "lose_decision", "zombie_stores", "seek", "wake", "die"))
    assert acted["stored"] >= 50 and acted["moved"] >= 50
