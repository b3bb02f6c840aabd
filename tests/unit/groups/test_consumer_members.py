from __future__ import annotations

import random
from collections.abc import Callable, Set
from typing import Any

import pytest
from lograft.node.groups.calls import SeekTarget
from lograft.node.groups.consumer_calls import AWAY, JOINING, LEAVING, ConsumerHeartbeat, ConsumerTold
from lograft.node.groups.consumer_members import AWAITING_MS, REBALANCE_MS_MAX, ConsumerMembers, check_reader
from lograft.node.groups.coordinator import SETTLING_MS_MAX
from lograft.node.groups.facts import (
    ClassicFact,
    ClassicKey,
    ClassicMember,
    ToldKey,
    decode,
    encode_key,
    encode_value,
)
from lograft.node.groups.rules import GroupsLimits
from lograft.partitions.environment import PartitionId
from lograft.proto.errors import (
    FencedEpoch,
    FencedInstance,
    InconsistentGroup,
    InvalidPattern,
    InvalidRequest,
    LograftError,
    StaleEpoch,
    StillSubscribed,
    UnknownMember,
    UnreleasedInstance,
    UnsupportedAssignor,
)

from tests.unit.groups.world import LIMITS, Member, World, partition, put_topic, to_store

REVOKE_MS = 30_000
SESSION_MS = LIMITS.consumer_session_ms


def numbers(partitions: Set[PartitionId] | tuple[PartitionId, ...] | None) -> set[int]:
    return {one.number for one in partitions or ()}


class KafkaWorld(World):
    """A world whose office has Kafka clients as members."""

    def __init__(self, partitions: int = 4, limits: GroupsLimits = LIMITS) -> None:
        super().__init__(partitions, limits)
        self.consumers = self._new_consumers()

    def _new_consumers(self) -> ConsumerMembers:
        return ConsumerMembers(self.office, self.limits, now_ms=self.now_ms)

    def change_office(self) -> None:
        super().change_office()
        self.consumers = self._new_consumers()

    def log(self) -> int:
        changes = [*self.office.take(), *self.consumers.take()]
        for key, value in changes:
            # As they are read back.
            self.logged.apply(decode(encode_key(key), None if value is None else encode_value(value)))
        assert self.logged == self.office.state
        return len(changes)

    def pass_ms(self, duration_ms: float) -> None:
        end_ms = self.now_ms + duration_ms
        while True:
            due = [one for one in (self.office.next_due_ms(), self.consumers.next_due_ms()) if one is not None]
            if not due or min(due) > end_ms:
                break
            self._move_to(max(min(due), self.now_ms))
            self.office.advance(self.now_ms, self.wall_ms)
            self.consumers.advance(self.now_ms, self.wall_ms)
            self.log()
        self._move_to(end_ms)

    def ask(self, asked: ConsumerHeartbeat) -> ConsumerTold:
        """One heartbeat, as the coordinator takes it in: told once partitions are shared out."""
        try:
            self.consumers.heartbeat(asked, self.now_ms, self.wall_ms)
        finally:
            self.log()
        if asked.epoch < 0:
            return ConsumerTold(asked.epoch)
        if not self.office.is_worked_out(asked.group):
            self.settle()
        told = self.consumers.tell(asked, self.now_ms)
        self.log()
        return told

    def commit(self, member_id: str, number: int, epoch: int, offset: int) -> LograftError | None:
        (result,) = self.store(member_id, to_store((number, epoch), offset))
        return result

    def owners(self) -> dict[int, str]:
        group = self.logged.groups["g"]
        return {one.number: owner for one in group.grants if (owner := group.owner(one)) is not None}


class Client:
    """A Kafka client that keeps the protocol: it takes up and gives up at once, unless told to be slow."""

    def __init__(self, world: KafkaWorld, member_id: str, **facts: Any) -> None:
        self.world, self.member_id = world, member_id
        self.facts: dict[str, Any] = {"topics": ("t",)} | facts
        self.epoch = JOINING
        self.has: set[PartitionId] = set()
        self.target: set[PartitionId] = set()
        self.said: set[PartitionId] | None = None
        self.is_slow = False
        self.answers_are_lost: Callable[[], bool] = lambda: False
        self.sends_all = True
        self.heard_ms = world.now_ms

    def request(self) -> ConsumerHeartbeat:
        full = self.epoch == JOINING or self.sends_all
        owned = frozenset(self.has) if full or self.said != self.has else None
        more = self.facts | {"rebalance_timeout_ms": REVOKE_MS} if full else {}
        return ConsumerHeartbeat("g", self.member_id, self.epoch, owned=owned, **more)

    def beat(self) -> ConsumerTold | None:
        """None: the answer was lost."""
        asked = self.request()
        try:
            told = self.world.ask(asked)
        except (FencedEpoch, UnknownMember):
            self.lose_all()
            raise
        if self.answers_are_lost():
            self.sends_all = True
            return None
        self.heard_ms = self.world.now_ms
        self.sends_all, self.epoch = False, told.epoch
        if asked.owned is not None:
            self.said = set(asked.owned)
        if told.assigned is not None:
            self.target = set(told.assigned)
        if not self.is_slow:
            self.reconcile()
        return told

    def reconcile(self) -> None:
        self.has = set(self.target)

    def lose_all(self) -> None:
        self.epoch, self.sends_all = JOINING, True
        self.has.clear()
        self.target.clear()

    def leave(self, epoch: int = LEAVING) -> None:
        self.world.ask(ConsumerHeartbeat("g", self.member_id, epoch))
        self.lose_all()


def settled(*clients: Client) -> None:
    for _ in range(4):
        for client in clients:
            client.beat()


def test_who_joins_alone_is_told_of_everything_in_the_answer() -> None:
    world = KafkaWorld()
    told = Client(world, "a").beat()
    assert told is not None and told.epoch > 0
    assert numbers(told.assigned) == {0, 1, 2, 3}
    assert told.heartbeat_ms == LIMITS.consumer_heartbeat_ms


def test_nothing_is_logged_and_no_assignment_told_while_nothing_changes() -> None:
    world = KafkaWorld()
    one = Client(world, "a")
    settled(one)
    world.log = lambda: pytest.fail("logged") if world.office.take() or world.consumers.take() else 0  # type: ignore[method-assign]
    epoch = one.epoch
    told = one.beat()
    assert told is not None and (told.epoch, told.assigned) == (epoch, None)


def test_a_newcomer_gets_its_share_only_once_others_show_that_they_gave_it_up() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one)
    one.is_slow = True
    told = two.beat()
    assert told is not None and told.assigned == () and told.heartbeat_ms < LIMITS.consumer_heartbeat_ms
    told = one.beat()
    assert told is not None and len(told.assigned or ()) == 2
    for _ in range(3):
        one.beat()
        two.beat()
    assert two.has == set() and set(world.owners().values()) == {"a"}
    one.reconcile()
    one.beat()
    two.beat()
    assert len(one.has) == len(two.has) == 2 and one.has.isdisjoint(two.has)


def test_an_epoch_only_rises_over_coordinators_too() -> None:
    world = KafkaWorld()
    one = Client(world, "a")
    settled(one)
    epochs = [one.epoch]
    others = []
    for number in range(3):
        others.append(Client(world, f"b{number}"))
        settled(one, *others)
        world.change_office()
        settled(one, *others)
        epochs.append(one.epoch)
    assert epochs == sorted(epochs) and len({*epochs}) > 1


def test_a_new_coordinator_goes_on_with_what_members_were_told_and_moves_nothing() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    before = (set(one.has), set(two.has), one.epoch, two.epoch)
    world.change_office()
    settled(one, two)
    assert (one.has, two.has, one.epoch, two.epoch) == before
    assert world.commit("a", min(numbers(one.has)), one.epoch, 7) is None


def test_who_did_not_hear_its_answer_asks_under_the_epoch_before_and_hears_it_again() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one)
    two.beat()
    one.answers_are_lost = lambda: True
    assert one.beat() is None
    one.answers_are_lost = lambda: False
    told = one.beat()
    assert told is not None and len(told.assigned or ()) == 2


@pytest.mark.parametrize("epoch", [1_000, 1])
def test_an_epoch_that_nobody_was_told_just_now_is_fenced_and_changes_nothing(epoch: int) -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    before = world.logged.copy()
    with pytest.raises(FencedEpoch):
        world.ask(ConsumerHeartbeat("g", "a", epoch, owned=frozenset()))
    assert world.logged == before


def test_a_member_that_claims_what_is_anothers_is_fenced() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    with pytest.raises(FencedEpoch):
        world.ask(ConsumerHeartbeat("g", "a", one.epoch, owned=frozenset(two.has)))


def test_who_is_silent_for_a_session_is_no_member_and_may_store_nothing() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    number = min(numbers(two.has))
    assert world.commit("b", number, two.epoch, 5) is None
    for _ in range(4):
        world.pass_ms(SESSION_MS / 3)
        one.beat()
    assert numbers(one.has) == {0, 1, 2, 3}
    with pytest.raises(UnknownMember):
        world.commit("b", number, two.epoch, 9)
    with pytest.raises(UnknownMember):
        two.beat()
    assert world.stored(number) == 5
    settled(two, one)
    assert len(two.has) == 2, "it joins anew under its id"


def test_who_does_not_give_up_within_its_time_is_out() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one)
    two.beat()
    one.is_slow = True
    one.beat()
    for _ in range(4):
        world.pass_ms(REVOKE_MS / 3)
        two.beat()
        if "a" in world.logged.groups["g"].members:
            one.beat()
    assert numbers(two.has) == {0, 1, 2, 3}
    assert "a" not in world.logged.groups["g"].told


def test_a_null_list_means_what_was_said_before_and_counts_once_the_epoch_was_surely_looked_at() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    one.is_slow = True  # it never takes up what it is told of, and has nothing to give up
    one.beat()
    two.beat()
    one.beat()
    told = one.beat()
    assert told is not None and told.assigned is None
    two.beat()
    assert two.has == set()
    one.beat()
    two.beat()
    assert len(two.has) == 2


def test_what_a_member_was_never_told_of_goes_on_without_it() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    one.leave()
    world.settle()  # all is granted to b, which does not know
    three = Client(world, "c")
    three.beat()
    for _ in range(3):
        two.beat()
        three.beat()
    assert len(two.has) == len(three.has) == 2


def test_offsets_are_stored_under_the_epoch_in_which_the_partition_was_had_and_until_it_is_given_up() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one)
    old_epoch = one.epoch
    two.beat()
    one.is_slow = True
    one.beat()
    (going, *_) = numbers(one.has - one.target)
    (staying, *_) = numbers(one.target)
    for number in (going, staying):
        assert world.commit("a", number, old_epoch, 1) is None
        assert world.commit("a", number, one.epoch, 2) is None
        assert type(world.commit("a", number, one.epoch + 1, 3)) is StaleEpoch
        assert type(world.commit("a", number, -1, 3)) is StaleEpoch
        assert type(world.commit("b", number, two.epoch, 3)) is StaleEpoch
    one.reconcile()
    one.beat()
    assert type(world.commit("a", going, one.epoch, 3)) is StaleEpoch
    two.beat()
    assert world.commit("b", going, two.epoch, 3) is None
    assert world.commit("a", staying, one.epoch, 3) is None


def test_what_comes_back_to_a_member_is_not_stored_under_an_epoch_from_before() -> None:
    world = KafkaWorld(partitions=1)
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    first, second = (one, two) if one.has else (two, one)
    old_epoch = first.epoch
    first.leave()
    settled(second)
    settled(first, second)
    second.leave()
    settled(first)
    assert numbers(first.has) == {0}
    assert type(world.commit(first.member_id, 0, old_epoch, 3)) is StaleEpoch
    assert world.commit(first.member_id, 0, first.epoch, 3) is None


def test_who_joins_anew_under_its_id_stores_nothing_under_its_old_epoch_and_keeps_its_share() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    had, old_epoch = set(one.has), one.epoch
    one.lose_all()
    told = one.beat()
    assert told is not None and set(told.assigned or ()) == had and told.epoch > old_epoch
    assert type(world.commit("a", min(numbers(had)), old_epoch, 3)) is StaleEpoch
    with pytest.raises(FencedEpoch):
        world.ask(ConsumerHeartbeat("g", "a", old_epoch))


def test_a_seek_fences_who_reads_there_and_nothing_from_before_it_is_stored() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    number, old_epoch = min(numbers(one.has)), one.epoch
    world.office.seek("g", [SeekTarget("t", number, "", 5)], {partition("t", number): 100}, world.wall_ms, dry=False)
    world.consumers.fence_owners("g", {partition("t", number)})
    world.log()
    for epoch in range(old_epoch, world.logged.groups["g"].generation + 2):
        assert type(world.commit("a", number, epoch, 50)) is StaleEpoch
    two.beat()
    had = set(one.has)
    with pytest.raises(FencedEpoch):
        one.beat()
    world.change_office()
    settled(one, two)
    assert one.has == had and world.stored(number) == 5


def test_a_static_member_that_goes_to_come_back_finds_all_as_it_was() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a", instance_id="one"), Client(world, "b", instance_id="two")
    settled(one, two)
    had, others, epoch = set(one.has), set(two.has), one.epoch
    with pytest.raises(UnreleasedInstance):
        Client(world, "c", instance_id="one").beat()
    one.leave(AWAY)
    two.beat()
    assert type(world.commit("a", min(numbers(had)), epoch, 3)) is StaleEpoch
    again = Client(world, "c", instance_id="one")
    again.beat()
    settled(again, two)
    assert (again.has, two.has) == (had, others)
    with pytest.raises(FencedInstance):
        world.ask(ConsumerHeartbeat("g", "a", epoch, instance_id="one"))


def test_who_went_to_come_back_and_does_not_is_out_when_its_session_is_over() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a", instance_id="one"), Client(world, "b")
    settled(one, two)
    one.leave(AWAY)
    for _ in range(4):
        world.pass_ms(SESSION_MS / 3)
        two.beat()
    assert numbers(two.has) == {0, 1, 2, 3}


def test_subscriptions_change_by_name_and_by_pattern() -> None:
    world = KafkaWorld(partitions=1)
    put_topic(world.topics, "orders-1", 1)
    put_topic(world.topics, "orders-2", 1)
    one = Client(world, "a", topics=())
    one.beat()
    assert one.has == set(), "it subscribes to nothing yet"
    for change, expected in (
        ({"topics": (), "pattern": "orders-.*"}, {partition("orders-1", 0), partition("orders-2", 0)}),
        ({"topics": ("t",), "pattern": ""}, {partition("t", 0)}),
    ):
        one.facts, one.sends_all = dict(change), True
        settled(one)
        assert one.has == expected
    with pytest.raises(InvalidPattern):
        world.ask(ConsumerHeartbeat("g", "a", one.epoch, pattern="(?=no look-around)"))


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"assignor": "range"}, UnsupportedAssignor),
        ({"owned": None}, InvalidRequest),
        ({"owned": frozenset({partition("t", 0)})}, InvalidRequest),
        ({"rebalance_timeout_ms": -1}, InvalidRequest),
        ({"topics": None}, InvalidRequest),
        ({"epoch": -3}, InvalidRequest),
        ({"epoch": 3}, UnknownMember),
        ({"epoch": -1}, UnknownMember),
        ({"epoch": -2}, UnknownMember),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_changes_nothing(more: dict[str, Any], kind: type[LograftError]) -> None:
    world = KafkaWorld()
    joins: dict[str, Any] = {"epoch": 0, "rebalance_timeout_ms": 1, "topics": ("t",), "owned": frozenset()}
    with pytest.raises(kind):
        world.ask(ConsumerHeartbeat("g", "a", **(joins | more)))
    assert world.logged.groups == {}


def test_native_members_share_a_group_with_them() -> None:
    world = KafkaWorld()
    one, native = Client(world, "a"), Member(world, "n")
    settled(one)
    native.beat()
    world.settle()
    for _ in range(3):
        one.beat()
        native.beat()
        native.give_back()
        native.beat()
    assert len(one.has) == len(native.holds) == 2 and one.has.isdisjoint(native.holds)
    with pytest.raises(InvalidRequest):
        Client(world, "n").beat()
    with pytest.raises(UnknownMember):
        world.ask(ConsumerHeartbeat("g", "n", 3))


def test_nothing_is_left_of_members_that_are_gone() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one, two)
    one.leave()
    two.leave()
    assert world.logged.groups["g"].told == {} and world.consumers.next_due_ms() is None
    world.office.delete("g")
    world.log()
    assert world.logged.groups == {}


def test_what_a_coordinator_that_knew_no_such_members_left_is_cleared_away() -> None:
    world = KafkaWorld()
    one = Client(world, "a")
    settled(one)
    told = world.logged.groups["g"].told["a"]
    one.leave()
    world.logged.apply((ToldKey("g", "a"), told))
    world.change_office()
    world.log()
    assert world.logged.groups["g"].told == {}


def test_stored_offsets_are_read_by_members_of_the_present_alone() -> None:
    world = KafkaWorld()
    one = Client(world, "a")
    settled(one)
    group = world.logged.groups["g"]
    check_reader(group, "a", one.epoch)
    with pytest.raises(StaleEpoch):
        check_reader(group, "a", one.epoch + 1)
    with pytest.raises(UnknownMember):
        check_reader(group, "b", one.epoch)


@pytest.mark.parametrize("seed", range(60))
def test_no_partition_is_had_by_two_and_no_offset_goes_back_whatever_is_lost_slow_or_changes(seed: int) -> None:
    chance = random.Random(seed)
    world = KafkaWorld(partitions=chance.choice([1, 5, 8]))
    clients = [Client(world, f"m{number}") for number in range(chance.choice([2, 3, 5]))]
    for client in clients:
        client.answers_are_lost = lambda: chance.random() < 0.2
    here: set[str] = set()
    epochs: dict[str, int] = {}
    progress: dict[int, int] = {}
    for _ in range(250):
        client = chance.choice(clients)
        client.is_slow = chance.random() < 0.3
        match chance.random():
            case luck if luck < 0.03 and client.member_id in here and client.epoch > 0:
                client.leave()
                here.discard(client.member_id)
            case luck if luck < 0.06:
                world.change_office()
            case luck if luck < 0.1:
                world.pass_ms(chance.random() * SESSION_MS / 2)
            case luck if luck < 0.3:
                client.reconcile()
            case luck if luck < 0.45 and client.has:
                number = chance.choice(sorted(numbers(client.has)))
                try:
                    refused = world.commit(client.member_id, number, client.epoch, progress.get(number, 0) + 1)
                except (UnknownMember, FencedInstance):
                    refused = UnknownMember("")
                if refused is None:
                    progress[number] = progress.get(number, 0) + 1
                    assert world.owners()[number] == client.member_id
                else:
                    # Only who is out without knowing it yet is refused.
                    assert client.member_id not in world.logged.groups["g"].told or client.epoch == JOINING
            case _:
                try:
                    client.beat()
                    here.add(client.member_id)
                except (FencedEpoch, UnknownMember):
                    here.discard(client.member_id)
        told = {} if "g" not in world.logged.groups else world.logged.groups["g"].told
        for member_id, fact in told.items():
            assert fact.epoch >= epochs.get(member_id, 0)
            epochs[member_id] = fact.epoch
        held: dict[PartitionId, str] = {}
        for one in clients:
            if world.now_ms - one.heard_ms >= SESSION_MS or one.member_id not in told:
                continue  # it is out, and will hear so
            for place in one.has:
                assert place not in held, f"{place} is had by {held[place]} and {one.member_id}"
                held[place] = one.member_id
                assert world.owners()[place.number] == one.member_id
    for client in clients:
        client.is_slow, client.answers_are_lost = False, lambda: False
    for _ in range(12):
        for client in clients:
            try:
                client.beat()
            except (FencedEpoch, UnknownMember):
                continue
    have = [client.has for client in clients]
    assert set.union(*have) == {partition("t", number) for number in range(len(world.topics.topics["t"].partitions))}
    assert max(map(len, have)) - min(map(len, have)) <= 1


def test_groups_of_classic_members_take_none_of_these() -> None:
    world = KafkaWorld()
    member = ClassicMember(member_id="m", session_timeout_ms=1, rebalance_timeout_ms=1, protocols=())
    world.logged.apply((ClassicKey("g"), ClassicFact(generation=1, protocol_type="consumer", members=(member,))))
    world.change_office()
    with pytest.raises(InconsistentGroup):
        Client(world, "a").beat()


def test_offsets_are_forgotten_of_topics_that_no_member_reads() -> None:
    world = KafkaWorld(partitions=1)
    put_topic(world.topics, "other", 1)
    one = Client(world, "a")
    settled(one)
    one.facts, one.sends_all = {"topics": ("other",)}, True
    settled(one)
    world.store("a", to_store((0, one.epoch), 3, topic="other"))
    read, free = world.office.forget_offsets("g", [("other", 0), ("t", 0)])
    assert type(read) is StillSubscribed and free is None


def test_a_member_that_wants_to_be_waited_for_for_ever_is_waited_for_as_long_as_may_be() -> None:
    """As Java's clients ask for with max.poll.interval.ms=2147483647."""
    world = KafkaWorld()
    world.ask(ConsumerHeartbeat("g", "a", 0, rebalance_timeout_ms=2**31 - 1, topics=("t",), owned=frozenset()))
    assert world.logged.groups["g"].told["a"].rebalance_timeout_ms == REBALANCE_MS_MAX


def test_a_session_set_outside_the_bounds_is_brought_within_them() -> None:
    world = KafkaWorld(limits=GroupsLimits(settle_ms=50, session_ms_max=6_000))
    told = Client(world, "a").beat()
    assert told is not None and told.heartbeat_ms == 2_000
    assert world.logged.groups["g"].members["a"].session_timeout_ms == 6_000


def test_who_was_fenced_by_a_seek_while_it_was_to_give_up_is_not_late_by_that() -> None:
    world = KafkaWorld()
    one, two = Client(world, "a"), Client(world, "b")
    settled(one)
    two.beat()
    one.is_slow = True
    one.beat()
    world.consumers.fence_owners("g", {partition("t", 0), partition("t", 1), partition("t", 2), partition("t", 3)})
    world.log()
    world.pass_ms(REVOKE_MS + 1)
    assert "a" in world.logged.groups["g"].members


def test_a_heartbeat_is_answered_well_within_the_shortest_interval_that_a_member_is_told() -> None:
    assert SETTLING_MS_MAX <= AWAITING_MS / 2
