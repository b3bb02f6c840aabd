from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import count
from random import Random
from typing import Any

import pytest
from lograft.node.controller.state import ClusterState
from lograft.node.decision_log import DecisionLog
from lograft.node.groups.calls import (
    Condition,
    FetchedOffset,
    Granted,
    Heartbeat,
    HeartbeatAnswer,
    OffsetToStore,
    SeekTarget,
    Unread,
)
from lograft.node.groups.classic_calls import JoinGroup, Leaver, SyncGroup
from lograft.node.groups.consumer_calls import ConsumerHeartbeat, ConsumerTold
from lograft.node.groups.coordinator import BATCH_BYTES_MAX, Coordinator
from lograft.node.groups.state import GroupsState
from lograft.partitions.environment import PartitionId
from lograft.proto.errors import (
    FencedEpoch,
    FencedInstance,
    GroupNotEmpty,
    InconsistentGroup,
    InvalidGroup,
    InvalidRequest,
    LograftError,
    LostGrant,
    NoLeader,
    NotLeader,
    OffsetOutOfRange,
    StaleEpoch,
    UnknownGroup,
    UnknownMember,
    UnknownOutcome,
    UnknownTopic,
)

from tests.unit.controller.fake_replica import FakeClusterReplica, Reports, error_of, run, turn_the_loop
from tests.unit.groups.world import LIMITS, SESSION_MS, a_join, partition, put_topic, to_store


class Timer:
    def __init__(self, due_ms: float, callback: Callable[[], None]) -> None:
        self.due_ms, self.callback = due_ms, callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Outside:
    """Time that the test moves, and ends of partitions as it sets them."""

    def __init__(self) -> None:
        self.now_ms = 1_000.0
        self.state = ClusterState()
        self.known: dict[PartitionId, int] = {}
        self.told: dict[PartitionId, Unread] = {}
        self.asked: list[Mapping[PartitionId, int]] = []
        self.ids = count(1)
        self.log = Reports()
        self._timers: list[Timer] = []

    def monotonic_ms(self) -> float:
        return self.now_ms

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + round(self.now_ms)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now_ms + delay_ms, callback)
        self._timers.append(timer)
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def topics(self) -> ClusterState:
        return self.state

    def new_id(self) -> str:
        return f"{next(self.ids)}"

    def known_end(self, place: PartitionId) -> int:
        return self.known.get(place, 0)

    async def unread(self, wanted: Mapping[PartitionId, int]) -> Mapping[PartitionId, Unread]:
        self.asked.append(dict(wanted))
        return {place: self.told[place] for place in wanted if place in self.told}

    async def pass_ms(self, duration_ms: float) -> None:
        """Let time pass, timer by timer."""
        await turn_the_loop()
        end_ms = self.now_ms + duration_ms
        while due := [timer for timer in self._timers if not timer.is_cancelled and timer.due_ms <= end_ms]:
            timer = min(due, key=lambda one: one.due_ms)
            self._timers.remove(timer)
            self.now_ms = max(self.now_ms, timer.due_ms)
            timer.callback()
            await turn_the_loop()
        self.now_ms = end_ms


class Place:
    """A coordinator over a replica in memory."""

    def __init__(self, *, partitions: int = 2, auto_commit: bool = True) -> None:
        self.outside = Outside()
        put_topic(self.outside.state, "t", partitions)
        self.replica = FakeClusterReplica(auto_commit=auto_commit)
        self.log = DecisionLog(self.replica, GroupsState(), self.outside.call_soon, self.outside.log)
        self.log.follow()
        self.coordinator = Coordinator(0, self.replica, self.log, self.outside, LIMITS)
        self.coordinator.leadership_changed()

    def partitions(self) -> list[PartitionId]:
        topic = self.outside.state.topics["t"]
        return [PartitionId(topic.topic_id, number) for number in range(len(topic.partitions))]

    def beat(self, member_id: str = "m1", **facts: Any) -> asyncio.Task[HeartbeatAnswer]:
        return asyncio.ensure_future(self.coordinator.heartbeat(Heartbeat("g", member_id, **facts)))

    async def joined(self, member_id: str = "m1") -> frozenset[Granted]:
        """What a new member is granted."""
        first = self.beat(member_id, join=a_join(), max_wait_ms=3_000)
        await self.outside.pass_ms(100)
        return granted(await first)


def granted(answer: HeartbeatAnswer) -> frozenset[Granted]:
    return frozenset(told.granted for told in answer.grants)


def test_a_heartbeat_is_parked_until_there_is_something_to_tell() -> None:
    async def scene() -> None:
        place = Place()
        first = place.beat(join=a_join(), max_wait_ms=3_000)
        await turn_the_loop()
        assert not first.done()
        await place.outside.pass_ms(LIMITS.settle_ms)
        assert first.done()
        owned = granted(await first)
        assert len(owned) == 2
        parked = place.beat(owned=owned, max_wait_ms=3_000)
        await place.outside.pass_ms(1_000)
        assert not parked.done()
        other = place.beat("m2", join=a_join(), max_wait_ms=3_000)
        await place.outside.pass_ms(100)
        answer = await parked
        assert len(answer.grants) == 1 and len(answer.revoked) == 1
        giving_up = frozenset(told.granted for told in answer.revoked)
        silent = place.beat(owned=owned - giving_up, giving_up=giving_up, max_wait_ms=3_000)
        await place.outside.pass_ms(100)
        assert not silent.done() and not other.done(), "it has heard of that; the other gets nothing yet"
        silent.cancel()
        back = place.beat(owned=owned - giving_up, released=giving_up, max_wait_ms=3_000)
        await place.outside.pass_ms(1)
        assert not back.done() and len(granted(await other)) == 1
        back.cancel()

    run(scene())


def test_a_heartbeat_is_answered_at_its_deadline_which_is_at_most_a_third_of_the_session() -> None:
    async def scene() -> None:
        place = Place()
        owned = await place.joined()
        parked = place.beat(owned=owned, max_wait_ms=60_000)
        await place.outside.pass_ms(SESSION_MS / 3 - 1)
        assert not parked.done()
        await place.outside.pass_ms(2)
        assert granted(await parked) == owned

    run(scene())


def test_an_answer_waits_until_what_it_tells_is_committed() -> None:
    async def scene() -> None:
        place = Place(auto_commit=False)
        first = place.beat(join=a_join(), max_wait_ms=0)
        await turn_the_loop()
        assert not first.done()
        place.replica.commit()
        await turn_the_loop()
        assert not granted(await first)
        await place.outside.pass_ms(100)
        again = place.beat(max_wait_ms=0)
        await turn_the_loop()
        assert not again.done(), "granted, and not committed"
        place.replica.commit()
        assert len(granted(await again)) == 2

    run(scene())


def test_lost_leadership_ends_parked_heartbeats_with_who_leads_now() -> None:
    async def scene() -> None:
        place = Place()
        owned = await place.joined()
        parked = place.beat(owned=owned, max_wait_ms=3_000)
        await turn_the_loop()
        place.replica.lose_leadership(to=2)
        place.coordinator.leadership_changed()
        error = await error_of(_awaited(parked))
        assert type(error) is NotLeader and error.facts["leader_id"] == "2"

    run(scene())


def test_a_decision_of_unknown_outcome_is_told_as_such_and_the_next_office_goes_by_the_log() -> None:
    async def scene() -> None:
        place = Place(auto_commit=False)
        first = place.beat(join=a_join())
        await turn_the_loop()
        place.replica.lose_leadership(to=2)
        place.coordinator.leadership_changed()
        assert type(await error_of(_awaited(first))) is UnknownOutcome
        place.replica.auto_commit = True
        place.replica.win_leadership()
        place.coordinator.leadership_changed()
        await place.outside.pass_ms(100)
        owned = granted(await place.beat(join=a_join(), max_wait_ms=0))
        await place.outside.pass_ms(100)
        assert len(owned | granted(await place.beat(max_wait_ms=0))) == 2

    run(scene())


def test_a_new_leader_ends_the_sessions_of_members_that_never_come_back() -> None:
    async def scene() -> None:
        place = Place()
        await place.joined()
        place.replica.lose_leadership(to=2)
        place.coordinator.leadership_changed()
        await place.outside.pass_ms(SESSION_MS * 2)
        assert "m1" in place.log.state.groups["g"].members, "not ours to judge"
        place.replica.win_leadership(ready=False)
        place.coordinator.leadership_changed()
        await place.outside.pass_ms(300)
        place.replica.become_ready()
        await place.outside.pass_ms(SESSION_MS - 1)
        assert "m1" in place.log.state.groups["g"].members
        await place.outside.pass_ms(100)
        assert "m1" not in place.log.state.groups["g"].members

    run(scene())


def test_without_groups_a_coordinator_has_nothing_to_do() -> None:
    async def scene() -> None:
        place = Place()
        await place.outside.pass_ms(100)
        assert not [timer for timer in place.outside._timers if not timer.is_cancelled]

    run(scene())


def test_a_cancelled_heartbeat_leaves_nobody_waiting() -> None:
    async def scene() -> None:
        place = Place()
        owned = await place.joined()
        parked = place.beat(owned=owned, max_wait_ms=3_000)
        await turn_the_loop()
        parked.cancel()
        await turn_the_loop()
        assert not place.coordinator._parked

    run(scene())


def test_a_heartbeat_whose_member_goes_while_it_is_logged_hears_so() -> None:
    async def scene() -> None:
        place = Place(auto_commit=False)
        first = place.beat("m1", join=a_join(instance_id="i"))
        await turn_the_loop()
        second = place.beat("m2", join=a_join(instance_id="i"))
        await turn_the_loop()
        place.replica.commit()
        assert type(await error_of(_awaited(first))) is FencedInstance
        left = place.beat("m2", leave=True)
        beating = place.beat("m3", join=a_join())
        gone = place.beat("m3", leave=True)
        await turn_the_loop()
        place.replica.commit()
        assert await left == await gone
        assert type(await error_of(_awaited(beating))) is UnknownMember
        second.cancel()

    run(scene())


def test_who_led_until_now_refuses_nobody_for_what_it_has_not_heard_of() -> None:
    async def scene() -> None:
        place = Place()
        owned = await place.joined()
        (one, _) = sorted(owned)

        async def nobody_confirms() -> int:
            raise NoLeader("others have elected another")

        place.replica.confirm_read = nobody_confirms  # type: ignore[method-assign]
        store = place.coordinator.store_offsets
        newer = one._replace(generation=one.generation + 1)
        for asked in (
            place.coordinator.heartbeat(Heartbeat("g", "newer")),
            store("g", "newer", [to_store(one, 0)]),
            store("g", "m1", [to_store(newer, 0)]),
            store("g", "", [to_store(one, 0)]),
            place.coordinator.seek("g", [SeekTarget("newer", 0, "", 0)], validate_only=False),
            place.coordinator.seek("g", [SeekTarget("t", 0, "", 0)], validate_only=True),
            place.coordinator.delete("newer"),
        ):
            assert type(await error_of(asked)) is NoLeader
        assert await store("g", "m1", [to_store(one, 0)]) == [None], "a majority has committed this"

    run(scene())


def test_leaving_is_answered_at_once_and_frees_the_partitions() -> None:
    async def scene() -> None:
        place = Place()
        owned = await place.joined()
        await place.beat(owned=owned, leave=True)
        assert type(await error_of(place.coordinator.heartbeat(Heartbeat("g", "m1")))) is UnknownMember
        assert len(await place.joined("m2")) == 2

    run(scene())


def test_stored_offsets_come_back_with_metadata_and_time_from_whoever_leads() -> None:
    async def scene() -> None:
        place = Place()
        owned = sorted(await place.joined())
        place.outside.known[owned[0].partition] = 10
        assert await place.coordinator.store_offsets("g", "m1", [to_store(owned[0], 7, "note")]) == [None]
        (found,) = await place.coordinator.fetch_offsets("g", [])
        assert not isinstance(found, LograftError)
        assert (found.topic, found.number, found.offset, found.metadata) == ("t", owned[0].partition.number, 7, "note")
        assert found.stored_ms == place.outside.wall_ms() and not place.outside.asked
        none, unknown = await place.coordinator.fetch_offsets("g", [("t", owned[1].partition.number), ("nowhere", 0)])
        assert not isinstance(none, LograftError) and none.offset == -1 and type(unknown) is UnknownTopic
        (nothing,) = await place.coordinator.fetch_offsets("another group", [("t", 0)])
        assert not isinstance(nothing, LograftError) and nothing.offset == -1
        place.replica.lose_leadership(to=2)
        assert type(await error_of(place.coordinator.fetch_offsets("g", []))) is NotLeader

    run(scene())


def test_only_an_offset_beyond_the_known_end_costs_a_question() -> None:
    async def scene() -> None:
        place = Place()
        first, second = sorted(await place.joined())
        place.outside.known = {first.partition: 10, second.partition: 10}
        place.outside.told[first.partition] = Unread(0, 20, -1, 0)
        store = place.coordinator.store_offsets
        results = await store("g", "m1", [to_store(first, 20), to_store(second, 10)])
        assert results == [None, None] and place.outside.asked == [{first.partition: 10}]
        past, unasked = await store("g", "m1", [to_store(first, 21), to_store(second, 11)])
        assert type(past) is OffsetOutOfRange and past.facts["end"] == "20"
        assert type(unasked) is NoLeader and unasked.retriable

    run(scene())


def test_a_store_is_acknowledged_once_it_is_committed() -> None:
    async def scene() -> None:
        place = Place()
        (first, _) = sorted(await place.joined())
        place.outside.known[first.partition] = 10
        place.replica.auto_commit = False
        storing = asyncio.ensure_future(place.coordinator.store_offsets("g", "m1", [to_store(first, 7)]))
        await turn_the_loop()
        assert not storing.done()
        place.replica.commit()
        assert await storing == [None]

    run(scene())


def test_a_seek_reaches_parked_members_at_once_and_outdates_what_they_hold() -> None:
    async def scene() -> None:
        place = Place()
        owned = await place.joined()
        first, second = sorted(owned)
        place.outside.known = dict.fromkeys((first.partition, second.partition), 100)
        parked = place.beat(owned=owned, max_wait_ms=3_000)
        await turn_the_loop()
        number = first.partition.number
        dry = await place.coordinator.seek("g", [SeekTarget("t", number, "", 5)], validate_only=True)
        assert not parked.done()
        sought = await place.coordinator.seek("g", [SeekTarget("t", number, "", 5)], validate_only=False)
        assert sought == dry and sought.regranted == 1
        assert granted(await parked) == {first._replace(generation=sought.generation), second}
        (refused,) = await place.coordinator.store_offsets("g", "m1", [to_store(first, 50)])
        assert type(refused) is LostGrant
        (found, _) = await place.coordinator.fetch_offsets("g", [("t", number), ("t", 1)])
        assert not isinstance(found, LograftError) and found.offset == 5

    run(scene())


def test_a_description_tells_owners_places_and_lag() -> None:
    async def scene() -> None:
        place = Place(partitions=3)
        owned = sorted(await place.joined())
        ends = {granted.partition: Unread(4, 20, 1, 2_500) for granted in owned[:2]}
        place.outside.told = ends
        place.outside.known = {granted.partition: 20 for granted in owned}
        await place.coordinator.store_offsets("g", "m1", [to_store(owned[0], 20, "x"), to_store(owned[2], 3)])
        described = await place.coordinator.describe("g")
        assert described.condition is Condition.STABLE and described.generation > 0
        (member,) = described.members
        assert (member.member_id, member.partitions, member.topics) == ("m1", 3, ("t",)) and member.heard_ms_ago >= 0
        done, unread, unasked = described.partitions
        assert (done.stored_offset, done.metadata, done.lag_records, done.lag_seconds) == (20, "x", 0, 0.0)
        assert (unread.stored_offset, unread.lag_records, unread.lag_seconds) == (-1, 16, 2.5)
        assert (unasked.stored_offset, unasked.committed_offset, unasked.lag_records) == (3, -1, -1)
        (listed,) = await place.coordinator.list_groups()
        assert listed == ("g", Condition.STABLE, 1, 3, ("t",), True)
        assert type(await error_of(place.coordinator.describe("nobody"))) is UnknownGroup

    run(scene())


def test_topics_that_change_are_shared_out_without_anyone_asking() -> None:
    async def scene() -> None:
        place = Place()
        owned = await place.joined()
        parked = place.beat(owned=owned, max_wait_ms=3_000)
        put_topic(place.outside.state, "t", 4)
        place.coordinator.decisions_changed()
        await place.outside.pass_ms(100)
        answer = await parked
        assert [told.grown for told in answer.grants] == [False, False, True, True]

    run(scene())


@pytest.mark.parametrize("name", ["", "a\nb", "x" * (1 << 20), "\x1b[31m"])
def test_a_name_that_no_group_may_have_is_refused_everywhere_in_one_short_sentence(name: str) -> None:
    async def scene() -> None:
        coordinator = Place().coordinator
        for call in (
            coordinator.heartbeat(Heartbeat(name, "m1", join=a_join())),
            coordinator.store_offsets(name, "", [to_store((0, 0), 0)]),
            coordinator.fetch_offsets(name, []),
            coordinator.describe(name),
            coordinator.seek(name, [], validate_only=True),
            coordinator.delete(name),
        ):
            error = await error_of(call)
            assert type(error) is InvalidGroup and len(str(error)) < 400

    run(scene())


@pytest.mark.parametrize("member_id", ["", "a b", "m" * 65, "m\n", "m/1"])
def test_a_member_id_that_none_may_have_is_refused(member_id: str) -> None:
    async def scene() -> None:
        error = await error_of(Place().coordinator.heartbeat(Heartbeat("g", member_id, join=a_join())))
        assert type(error) is InvalidGroup

    run(scene())


def test_a_follower_decides_nothing_and_knows_everything() -> None:
    async def scene() -> None:
        place = Place()
        await place.joined()
        place.replica.lose_leadership(to=2)
        place.coordinator.leadership_changed()
        error = await error_of(place.coordinator.heartbeat(Heartbeat("g", "m1")))
        assert type(error) is NotLeader
        assert len(place.log.state.groups["g"].owned["m1"]) == 2
        assert partition("t", 0) in place.log.state.groups["g"].grants

    run(scene())


async def _awaited(task: asyncio.Task[HeartbeatAnswer]) -> HeartbeatAnswer:
    return await task


# Kafka clients --------------------------------------------------------------------------------------------------------


def a_classic_join(member_id: str = "") -> JoinGroup:
    return JoinGroup("g", member_id, "", "c", "h", SESSION_MS, 60_000, "consumer", (("range", b""),), False, False)


def a_classic_sync(member_id: str) -> SyncGroup:
    return SyncGroup("g", member_id, "", 1, None, None, ((member_id, b"all"),))


def test_a_kafka_client_hears_of_its_generation_and_of_what_it_has_once_they_are_committed() -> None:
    async def scene() -> None:
        place = Place(auto_commit=False)
        joining = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        assert not joining.done()
        place.replica.commit()
        await turn_the_loop()
        joined = await joining
        assert joined.generation == 1
        syncing = asyncio.ensure_future(place.coordinator.sync_group(a_classic_sync(joined.member_id)))
        await turn_the_loop()
        assert not syncing.done()
        place.replica.commit()
        assert (await syncing).assignment == b"all"

    run(scene())


def test_what_many_groups_come_to_at_once_is_logged_in_pieces_that_fit_between_brokers() -> None:
    async def scene() -> None:
        place = Place()
        sizes: list[int] = []
        append = place.replica.append

        def measured(batch: bytes, *more: Any) -> Any:
            sizes.append(len(batch))
            return append(batch, *more)

        place.replica.append = measured  # type: ignore[method-assign]
        brought = (("range", Random(1).randbytes(250_000)),)
        joins = [a_classic_join()._replace(group=f"g{number}", protocols=brought) for number in range(40)]
        joining = [asyncio.ensure_future(place.coordinator.join_group(one)) for one in joins]
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        assert {(await one).generation for one in joining} == {1}
        assert sum(sizes) > 2 * BATCH_BYTES_MAX and max(sizes) <= BATCH_BYTES_MAX * 3 // 2

    run(scene())


def test_lost_leadership_ends_joins_that_wait() -> None:
    async def scene() -> None:
        place = Place()
        joining = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        await turn_the_loop()
        place.replica.lose_leadership(to=2)
        place.coordinator.leadership_changed()
        assert type(await error_of(_awaited(joining))) is NoLeader

    run(scene())


def test_a_round_that_cannot_be_logged_ends_all_joins_that_waited_for_it() -> None:
    async def scene() -> None:
        place = Place()
        first = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        second = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        await turn_the_loop()
        append = place.replica.append

        def hand_over(*_: Any) -> Any:
            raise NoLeader("leadership is being handed over")

        place.replica.append = hand_over  # type: ignore[method-assign]
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        place.replica.append = append  # type: ignore[method-assign]
        await place.outside.pass_ms(60_000)
        assert first.done() and second.done()
        assert type(await error_of(_awaited(first))) is type(await error_of(_awaited(second))) is NoLeader

    run(scene())


def test_a_leader_that_cannot_have_its_assignment_logged_leaves_no_other_member_waiting() -> None:
    async def scene() -> None:
        place = Place()
        joins = [asyncio.ensure_future(place.coordinator.join_group(a_classic_join())) for _ in range(2)]
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        ids = [(await one).member_id for one in joins]
        leader = (await joins[0]).leader
        (follower,) = {*ids} - {leader}
        waiting = asyncio.ensure_future(place.coordinator.sync_group(a_classic_sync(follower)._replace(assignments=())))
        await turn_the_loop()
        append = place.replica.append

        def hand_over(*_: Any) -> Any:
            raise NoLeader("leadership is being handed over")

        place.replica.append = hand_over  # type: ignore[method-assign]
        refused = await error_of(place.coordinator.sync_group(a_classic_sync(leader)))
        place.replica.append = append  # type: ignore[method-assign]
        await turn_the_loop()
        assert type(refused) is NoLeader and waiting.done()
        assert type(await error_of(_awaited(waiting))) is NoLeader

    run(scene())


def test_who_led_until_now_tells_no_kafka_client_what_it_had() -> None:
    async def scene() -> None:
        place = Place()
        joining = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        sync = a_classic_sync((await joining).member_id)
        assert (await place.coordinator.sync_group(sync)).assignment == b"all"

        async def nobody_confirms() -> int:
            raise NoLeader("others have elected another")

        place.replica.confirm_read = nobody_confirms  # type: ignore[method-assign]
        assert type(await error_of(place.coordinator.sync_group(sync))) is NoLeader

    run(scene())


def test_a_join_that_nobody_waits_for_any_more_holds_nothing_up() -> None:
    async def scene() -> None:
        place = Place()
        first = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        second = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        await turn_the_loop()
        first.cancel()
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        assert len((await second).members) == 1

    run(scene())


def test_offsets_stored_by_a_kafka_client_are_those_that_native_clients_see() -> None:
    async def scene() -> None:
        place = Place()
        place.outside.known = dict.fromkeys(place.partitions(), 10)
        joining = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        member_id = (await joining).member_id
        await place.coordinator.sync_group(a_classic_sync(member_id))
        entry = OffsetToStore("t", 0, "", 7, "", 0)
        assert await place.coordinator.store_classic_offsets("g", member_id, "", 1, [entry]) == [None]
        (found,) = await place.coordinator.fetch_offsets("g", [("t", 0)])
        assert isinstance(found, FetchedOffset) and found.offset == 7
        error = await error_of(place.coordinator.store_offsets("g", "", [entry]))
        assert type(error) is GroupNotEmpty
        error = await error_of(place.coordinator.store_classic_offsets("g", "", "", -1, [entry]))
        assert type(error) is UnknownMember
        error = await error_of(_awaited(place.beat(join=a_join())))
        assert type(error) is InconsistentGroup

    run(scene())


def test_a_member_that_shares_out_itself_reads_offsets_whatever_generation_it_names() -> None:
    """franz-go names its id and generation where members to whom the broker shares out name their epoch."""

    async def scene() -> None:
        place = Place()
        place.outside.known = dict.fromkeys(place.partitions(), 10)
        joining = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        member_id = (await joining).member_id
        await place.coordinator.sync_group(a_classic_sync(member_id))
        entry = OffsetToStore("t", 0, "", 7, "", 0)
        assert await place.coordinator.store_classic_offsets("g", member_id, "", 1, [entry]) == [None]
        for reader in ((member_id, 1), (member_id, 0), ("gone", 1)):
            (found,) = await place.coordinator.fetch_offsets("g", [("t", 0)], reader)
            assert isinstance(found, FetchedOffset) and found.offset == 7

    run(scene())


def a_consumer_join(member_id: str = "a%2Fb", **more: Any) -> ConsumerHeartbeat:
    facts: dict[str, Any] = {"topics": ("t",), "rebalance_timeout_ms": 60_000, "owned": frozenset()}
    return ConsumerHeartbeat("g", member_id, 0, **(facts | more))


async def consumer_told(place: Place, beat: ConsumerHeartbeat) -> ConsumerTold:
    asking = asyncio.ensure_future(place.coordinator.consumer_heartbeat(beat))
    await place.outside.pass_ms(LIMITS.settle_ms + 1)
    return await asking


async def consumer_joined(place: Place, member_id: str = "a%2Fb") -> ConsumerTold:
    return await consumer_told(place, a_consumer_join(member_id))


def test_a_member_that_the_broker_shares_out_to_hears_of_its_epoch_once_it_is_committed() -> None:
    async def scene() -> None:
        place = Place(auto_commit=False)
        joining = asyncio.ensure_future(place.coordinator.consumer_heartbeat(a_consumer_join()))
        while not joining.done():
            logged = place.log.state.groups.get("g")
            assert logged is None or not logged.told or not logged.told["a%2Fb"].assigned, (
                "told of before it was committed"
            )
            place.replica.commit()
            await place.outside.pass_ms(LIMITS.settle_ms + 1)
        told = await joining
        assert told.assigned == tuple(place.partitions())
        assert place.log.state.groups["g"].told["a%2Fb"].epoch == told.epoch

    run(scene())


def test_a_member_that_the_broker_shares_out_to_stores_and_reads_offsets_under_its_epoch() -> None:
    async def scene() -> None:
        place = Place()
        place.outside.known = dict.fromkeys(place.partitions(), 10)
        told = await consumer_joined(place)
        entry = OffsetToStore("t", 0, "", 7, "", 0)
        store, fetch = place.coordinator.store_classic_offsets, place.coordinator.fetch_offsets
        assert await store("g", "a/b", "", told.epoch, [entry]) == [None], "by its own id"
        (refused,) = await store("g", "a/b", "", told.epoch + 1, [entry])
        assert type(refused) is StaleEpoch
        assert type(await error_of(store("g", "c", "", told.epoch, [entry]))) is UnknownMember
        assert type(await error_of(store("g", "", "", -1, [entry]))) is UnknownMember
        (found,) = await fetch("g", [("t", 0)], ("a%2Fb", told.epoch))
        assert isinstance(found, FetchedOffset) and found.offset == 7
        assert type(await error_of(fetch("g", [("t", 0)], ("a%2Fb", told.epoch + 1)))) is StaleEpoch
        assert type(await error_of(fetch("g", [("t", 0)], ("c", 1)))) is UnknownMember
        await place.coordinator.consumer_heartbeat(ConsumerHeartbeat("g", "a%2Fb", -1))
        assert type(await error_of(store("g", "a/b", "", told.epoch, [entry]))) is UnknownMember

    run(scene())


def test_a_native_client_cannot_speak_for_a_kafka_client() -> None:
    async def scene() -> None:
        place = Place()
        await consumer_joined(place, "m1")
        error = await error_of(_awaited(place.beat("m1", join=a_join())))
        assert type(error) is InvalidRequest

    run(scene())


def test_a_seek_makes_members_begin_anew_that_read_there() -> None:
    async def scene() -> None:
        place = Place()
        place.outside.known = dict.fromkeys(place.partitions(), 10)
        told = await consumer_joined(place)
        await place.coordinator.seek("g", [SeekTarget("t", 0, "", 3)], validate_only=True)
        beat = ConsumerHeartbeat("g", "a%2Fb", told.epoch)
        assert (await place.coordinator.consumer_heartbeat(beat)).epoch == told.epoch
        await place.coordinator.seek("g", [SeekTarget("t", 0, "", 3)], validate_only=False)
        assert type(await error_of(place.coordinator.consumer_heartbeat(beat))) is FencedEpoch
        again = await consumer_joined(place)
        assert again.assigned == told.assigned and again.epoch > told.epoch

    run(scene())


def test_who_does_not_give_up_in_time_is_out_by_the_coordinators_own_clock() -> None:
    async def scene() -> None:
        place = Place()
        first = await consumer_joined(place, "a")
        await consumer_joined(place, "b")
        told = await consumer_told(place, ConsumerHeartbeat("g", "a", first.epoch))
        assert len(told.assigned or ()) == 1
        for _ in range(7):
            await place.outside.pass_ms(10_000)
            if "a" in place.log.state.groups["g"].members:
                keeps_all = ConsumerHeartbeat("g", "a", told.epoch, owned=frozenset(place.partitions()))
                await consumer_told(place, keeps_all)
            b = place.log.state.groups["g"].told["b"]
            await consumer_told(place, ConsumerHeartbeat("g", "b", b.epoch))
        described = await place.coordinator.describe_consumers("g")
        assert described is not None and [one.member_id for one in described.members] == ["b"]
        assert len(described.members[0].assigned) == 2 and described.condition == "Stable"

    run(scene())


def test_a_deleted_group_of_kafka_clients_is_unknown_at_once() -> None:
    async def scene() -> None:
        place = Place()
        joining = asyncio.ensure_future(place.coordinator.join_group(a_classic_join()))
        await place.outside.pass_ms(LIMITS.rebalance_delay_ms + 1)
        await place.coordinator.leave_group("g", [Leaver((await joining).member_id, "")])
        described = await place.coordinator.describe_classic("g")
        assert described is not None and described.state == "Empty"
        await place.coordinator.delete("g")
        assert type(await error_of(place.coordinator.describe_classic("g"))) is UnknownGroup

    run(scene())


def test_a_store_of_which_a_part_was_committed_is_not_answered_as_if_nothing_was() -> None:
    async def scene() -> None:
        place = Place()
        one, other = sorted(await place.joined())

        async def nobody_confirms() -> int:
            raise NotLeader("others have elected another")

        place.replica.confirm_read = nobody_confirms  # type: ignore[method-assign]
        stale = other._replace(generation=other.generation + 1)
        entries = [to_store(one, 0, "kept"), to_store(stale, 0)]
        error = await error_of(place.coordinator.store_offsets("g", "m1", entries))
        assert place.log.state.groups["g"].offsets[one.partition].metadata == "kept"
        assert isinstance(error, UnknownOutcome)
        error = await error_of(place.coordinator.store_offsets("g", "m1", entries[1:]))
        assert isinstance(error, NotLeader), "nothing of it was stored"

    run(scene())
