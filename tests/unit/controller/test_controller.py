from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.node.controller.controller import Controller
from lograft.node.controller.facts import decode
from lograft.node.controller.state import ClusterState
from lograft.node.controller.topic_rules import TopicLimits
from lograft.node.decision_log import DecisionLog
from lograft.proto import record_batch
from lograft.proto.errors import (
    BrokerUnavailable,
    InvalidConfig,
    InvalidPartitions,
    InvalidReplication,
    InvalidRequest,
    InvalidTopic,
    LograftError,
    NoLeader,
    NotAuthorized,
    NotLeader,
    TopicExists,
    UnknownOutcome,
    UnknownTopic,
    UnknownTopicId,
)

from tests.unit.controller.fake_replica import (
    Alive,
    FakeClusterReplica,
    Reports,
    directory_of,
    error_of,
    run,
    turn_the_loop,
)

ID, OTHER_ID = "a" * 32, "b" * 32


class Office:
    """A controller over a replica in memory, with three live registered brokers."""

    def __init__(self, *, limits: TopicLimits | None = None) -> None:
        self.replica = FakeClusterReplica()
        self.cluster_log = DecisionLog(self.replica, ClusterState(), asyncio.get_running_loop().call_soon, Reports())
        self.cluster_log.follow()
        self.alive = Alive.of(1, 2, 3)
        self.now_ms = 1_000
        self.controller = Controller(self.replica, self.cluster_log, self.alive, lambda: self.now_ms, limits)

    @classmethod
    async def open(cls, *brokers: int, limits: TopicLimits | None = None) -> Office:
        office = cls(limits=limits)
        for broker_id in brokers or (1, 2, 3):
            await office.controller.register_broker(broker_id, directory_of(broker_id))
        return office

    @property
    def keys_written(self) -> list[list[str]]:
        """Of each batch."""
        return [
            [decode(record.key, record.value)[0] for record in record_batch.decode(batch)]
            for batch in self.replica.batches
        ]


# -- topics ----------------------------------------------------------------------------------------------------------


def test_a_created_topic_is_placed_evenly_with_a_replica_number_for_each_replica() -> None:
    async def scene() -> None:
        office = await Office.open()
        created = await office.controller.create_topic("orders", ID, 6, config={"durability": "fsync"})
        topic = created.topic
        assert not created.existed and office.cluster_log.state.topic("orders") == topic
        replicas = [replica for partition in topic.partitions for replica in partition.placement]
        assert sorted(replica.replica_number for replica in replicas) == list(range(1, 19))
        assert topic.next_replica_number == 19
        assert all(replica.directory_id == directory_of(replica.broker_id) for replica in replicas)
        assert all(partition.first_voters == partition.placement for partition in topic.partitions)
        assert Counter(partition.placement[0].broker_id for partition in topic.partitions) == {1: 2, 2: 2, 3: 2}

    run(scene())


def test_a_second_topic_evens_out_what_the_first_left_uneven() -> None:
    async def scene() -> None:
        office = await Office.open()
        await office.controller.create_topic("one", ID, 2, 1)
        await office.controller.create_topic("two", OTHER_ID, 1, 1)
        held = [len(office.cluster_log.state.replicas_of(broker_id)) for broker_id in (1, 2, 3)]
        assert held == [1, 1, 1]

    run(scene())


def test_a_create_repeated_with_the_same_name_and_id_answers_as_the_first_time() -> None:
    async def scene() -> None:
        office = await Office.open()
        first = await office.controller.create_topic("orders", ID, 3)
        again = await office.controller.create_topic("orders", ID, 3)
        assert again.topic == first.topic and again.existed
        assert office.keys_written.count(["topic/orders"]) == 1

    run(scene())


def test_a_name_or_an_id_in_use_is_refused() -> None:
    async def scene() -> None:
        office = await Office.open()
        await office.controller.create_topic("orders", ID, 3)
        assert isinstance(await error_of(office.controller.create_topic("orders", OTHER_ID, 3)), TopicExists)
        assert isinstance(await error_of(office.controller.create_topic("other", ID, 3)), InvalidRequest)
        office.replica.keep_committed((b"topic/later", b'{"of": "a later version"}'))
        office.replica.win_leadership()
        assert isinstance(await error_of(office.controller.create_topic("later", OTHER_ID, 3)), TopicExists)

    run(scene())


def test_the_id_of_a_deleted_topic_is_never_used_again() -> None:
    async def scene() -> None:
        office = await Office.open()
        await office.controller.create_topic("orders", ID, 3)
        await office.controller.delete_topic("orders")
        assert isinstance(await error_of(office.controller.create_topic("orders", ID, 3)), UnknownTopicId)
        created = await office.controller.create_topic("orders", OTHER_ID, 3)
        assert created.topic.topic_id == OTHER_ID

    run(scene())


def test_what_may_not_be_is_refused_and_nothing_is_half_made() -> None:
    async def scene() -> None:
        office = await Office.open(limits=TopicLimits(topic_partitions_max=50, cluster_partitions_max=60))
        create = office.controller.create_topic
        await create("taken.name", ID, 20)
        written = len(office.replica.batches)
        refusals = [
            (create("../etc", OTHER_ID, 1), InvalidTopic),
            (create("taken_name", OTHER_ID, 1), InvalidTopic),
            (create("__mine", OTHER_ID, 1), NotAuthorized),
            (create("t", "no id", 1), InvalidRequest),
            (create("t", OTHER_ID, 0), InvalidPartitions),
            (create("t", OTHER_ID, 10**6), InvalidPartitions),
            (create("t", OTHER_ID, 45), InvalidPartitions),
            (create("t", OTHER_ID, 1, -5), InvalidReplication),
            (create("t", OTHER_ID, 1, 4), InvalidReplication),
            (create("t", OTHER_ID, 1, config={"cleanup.policy": "1"}), InvalidConfig),
        ]
        for call, kind in refusals:
            assert isinstance(await error_of(call), kind)
        assert len(office.replica.batches) == written

    run(scene())


def test_a_broker_is_not_given_more_replicas_than_it_may_hold() -> None:
    async def scene() -> None:
        office = await Office.open(limits=TopicLimits(broker_replicas_max=10))
        await office.controller.create_topic("one", ID, 10)
        refusal = await error_of(office.controller.create_topic("two", OTHER_ID, 1))
        assert isinstance(refusal, InvalidPartitions) and refusal.facts["limit"] == "10"

    run(scene())


def test_validating_alone_says_what_would_be_and_writes_nothing() -> None:
    async def scene() -> None:
        office = await Office.open()
        written = len(office.replica.batches)
        created = await office.controller.create_topic("orders", ID, 3, validate_only=True)
        assert len(created.topic.partitions) == 3 and len(office.replica.batches) == written
        assert isinstance(await error_of(office.controller.describe_topic("orders")), UnknownTopic)

    run(scene())


def test_a_deletion_and_its_delete_record_are_one_batch() -> None:
    async def scene() -> None:
        office = await Office.open()
        await office.controller.create_topic("orders", ID, 3)
        office.now_ms = 2_000
        await office.controller.delete_topic("orders", ID)
        assert office.keys_written[-1] == [f"deleted/{ID}", "topic/orders"]
        state = office.cluster_log.state
        assert state.topic("orders") is None and state.deleted_topics[ID].deleted_ms == 2_000

    run(scene())


def test_a_delete_repeated_with_the_id_succeeds_and_never_hits_a_topic_made_since() -> None:
    async def scene() -> None:
        office = await Office.open()
        await office.controller.create_topic("orders", ID, 3)
        await office.controller.delete_topic("orders", ID)
        await office.controller.create_topic("orders", OTHER_ID, 3)
        await office.controller.delete_topic("orders", ID)
        assert (await office.controller.describe_topic("orders")).topic_id == OTHER_ID
        assert isinstance(await error_of(office.controller.delete_topic("orders", "c" * 32)), UnknownTopicId)

    run(scene())


def test_only_topics_that_are_there_and_not_internal_can_be_deleted() -> None:
    async def scene() -> None:
        office = await Office.open()
        assert isinstance(await error_of(office.controller.delete_topic("orders")), UnknownTopic)
        assert isinstance(await error_of(office.controller.delete_topic("__offsets")), NotAuthorized)

    run(scene())


def test_internal_topics_are_made_by_the_broker_and_listed_only_if_asked_for() -> None:
    async def scene() -> None:
        office = await Office.open()
        await office.controller.create_topic("__offsets", "0" * 31 + "2", 4, internal=True)
        await office.controller.create_topic("orders", ID, 1)
        assert [topic.name for topic in await office.controller.list_topics()] == ["orders"]
        assert [topic.name for topic in await office.controller.list_topics(internal=True)] == ["__offsets", "orders"]

    run(scene())


# -- brokers ---------------------------------------------------------------------------------------------------------


def test_a_broker_that_comes_up_as_it_was_is_not_written_again() -> None:
    async def scene() -> None:
        office = await Office.open(1)
        office.now_ms = 9_000
        fact = await office.controller.register_broker(1, directory_of(1))
        assert fact.joined_ms == 1_000 and office.keys_written == [["broker/1"]]
        fact = await office.controller.register_broker(1, directory_of(1, disk=2), "r1")
        assert (fact.directory_id, fact.rack, fact.joined_ms) == (directory_of(1, disk=2), "r1", 1_000)
        assert office.cluster_log.state.brokers[1] == fact
        assert isinstance(await error_of(office.controller.register_broker(-1, "d")), InvalidRequest)

    run(scene())


def test_a_topic_does_not_get_fewer_replicas_because_not_all_first_brokers_have_registered_yet() -> None:
    async def scene() -> None:
        office = await Office.open(1)
        refusal = await error_of(office.controller.create_topic("orders", ID, 1))
        assert isinstance(refusal, BrokerUnavailable) and refusal.retriable
        created = await office.controller.create_topic("single", ID, 1, 1)
        assert created.topic.replication == 1

    run(scene())


def test_live_brokers_are_chosen_before_absent_ones() -> None:
    async def scene() -> None:
        office = await Office.open(1, 2, 3, 4, 5)
        created = await office.controller.create_topic("orders", ID, 10)
        used = {replica.broker_id for partition in created.topic.partitions for replica in partition.placement}
        assert used == {1, 2, 3}

    run(scene())


def test_with_one_broker_down_a_topic_still_gets_its_three_replicas_and_live_leaders() -> None:
    async def scene() -> None:
        office = await Office.open()
        del office.alive[2]
        created = await office.controller.create_topic("orders", ID, 4)
        assert created.topic.replication == 3
        assert {partition.placement[0].broker_id for partition in created.topic.partitions} == {1, 3}
        assert {partition.placement[-1].broker_id for partition in created.topic.partitions} == {2}

    run(scene())


def test_a_topic_whose_majority_could_not_come_to_life_is_refused_for_now() -> None:
    async def scene() -> None:
        office = await Office.open()
        del office.alive[2], office.alive[3]
        assert isinstance(await error_of(office.controller.create_topic("orders", ID, 1)), BrokerUnavailable)

    run(scene())


def test_a_broker_whose_new_disk_is_not_registered_yet_counts_as_absent() -> None:
    async def scene() -> None:
        office = await Office.open()
        office.alive[2] = directory_of(2, disk=1)
        created = await office.controller.create_topic("orders", ID, 3, 1)
        assert {partition.placement[0].broker_id for partition in created.topic.partitions} == {1, 3}

    run(scene())


def test_replicas_are_placed_across_racks() -> None:
    async def scene() -> None:
        office = Office()
        for broker_id, rack in {1: "north", 2: "north", 3: "south", 4: "south"}.items():
            await office.controller.register_broker(broker_id, directory_of(broker_id), rack)
        office.alive[4] = directory_of(4)
        created = await office.controller.create_topic("orders", ID, 8, 2)
        for partition in created.topic.partitions:
            assert (
                len({office.cluster_log.state.brokers[replica.broker_id].rack for replica in partition.placement}) == 2
            )

    run(scene())


# -- being the controller --------------------------------------------------------------------------------------------


def test_a_broker_that_does_not_lead_names_the_one_that_does() -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.lose_leadership(to=2)
        refusal = await error_of(office.controller.create_topic("orders", ID, 1))
        assert isinstance(refusal, NotLeader) and refusal.facts["leader_id"] == "2"
        assert isinstance(await error_of(office.controller.list_topics()), NotLeader)
        assert not office.controller.is_active

    run(scene())


def test_a_new_controller_decides_nothing_before_its_own_term_start_is_committed() -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.lose_leadership()
        office.replica.win_leadership(ready=False)
        assert isinstance(await error_of(office.controller.create_topic("orders", ID, 1)), NoLeader)
        office.replica.become_ready()
        assert office.controller.is_active
        await office.controller.create_topic("orders", ID, 1)

    run(scene())


def test_a_new_controller_knows_what_the_old_one_committed_last() -> None:
    async def scene() -> None:
        office = await Office.open()
        await office.controller.create_topic("orders", ID, 1)
        office.replica.lose_leadership(to=2)
        value = record_batch.decode(office.replica.batches[-1])[0].value
        assert value is not None
        office.replica.keep_committed(
            (b"topic/orders2", value.replace(b'"orders"', b'"orders2"').replace(b"aaaa", b"bbbb"))
        )
        office.replica.win_leadership()
        assert isinstance(await error_of(office.controller.create_topic("orders2", "c" * 32, 1)), TopicExists)

    run(scene())


def test_a_decision_leans_on_the_unfinished_ones_before_it() -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.auto_commit = False
        calls = [
            asyncio.ensure_future(office.controller.create_topic(f"t{number}", f"{number + 1:x}" * 32, 1, 1))
            for number in range(3)
        ]
        await turn_the_loop()
        assert len(office.replica.batches) == 6 and not any(call.done() for call in calls)
        office.replica.commit()
        created = await asyncio.gather(*calls)
        assert {each.topic.partitions[0].placement[0].broker_id for each in created} == {1, 2, 3}

    run(scene())


@pytest.mark.parametrize("topic_id", [ID, OTHER_ID], ids=["repetition", "refusal"])
def test_an_answer_that_leans_on_an_unfinished_decision_waits_for_it(topic_id: str) -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.auto_commit = False
        first = asyncio.ensure_future(office.controller.create_topic("orders", ID, 1))
        second = asyncio.ensure_future(office.controller.create_topic("orders", topic_id, 1))
        await turn_the_loop()
        assert not second.done()
        office.replica.commit()
        await first
        if topic_id == ID:
            assert (await second).existed
        else:
            with pytest.raises(TopicExists):
                await second

    run(scene())


def test_losing_leadership_answers_unknown_outcome_to_all_who_lean_on_what_is_unfinished() -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.auto_commit = False
        calls = [
            asyncio.ensure_future(office.controller.create_topic("orders", ID, 1)),
            asyncio.ensure_future(office.controller.create_topic("orders", ID, 1)),
            asyncio.ensure_future(office.controller.create_topic("orders", OTHER_ID, 1)),
        ]
        await turn_the_loop()
        office.replica.lose_leadership(to=2)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnknownOutcome] * 3

    run(scene())


@pytest.mark.parametrize("survives", [True, False])
def test_the_same_create_after_an_unknown_outcome_succeeds_whatever_became_of_the_first(survives: bool) -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.auto_commit = False
        first = asyncio.ensure_future(office.controller.create_topic("orders", ID, 1))
        await turn_the_loop()
        office.replica.lose_leadership(to=2, cut=not survives)
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], UnknownOutcome)
        office.replica.auto_commit = True
        office.replica.win_leadership()
        again = await office.controller.create_topic("orders", ID, 1)
        assert again.existed is survives
        assert office.keys_written.count(["topic/orders"]) == 1

    run(scene())


def test_what_never_was_committed_is_forgotten_with_the_leadership() -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.auto_commit = False
        first = asyncio.ensure_future(office.controller.create_topic("orders", ID, 1))
        await turn_the_loop()
        office.replica.lose_leadership(to=2, cut=True)
        await asyncio.gather(first, return_exceptions=True)
        office.replica.auto_commit = True
        office.replica.win_leadership()
        assert not (await office.controller.create_topic("orders", OTHER_ID, 1)).existed

    run(scene())


def test_a_proposal_that_failed_keeps_the_controller_waiting_until_its_whole_log_is_committed() -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.auto_commit = False
        first = asyncio.ensure_future(office.controller.create_topic("orders", ID, 1))
        await turn_the_loop()
        _, future = office.replica._unfinished.pop()
        future.set_exception(UnknownOutcome("lost from sight"))
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], UnknownOutcome)
        assert isinstance(await error_of(office.controller.create_topic("orders", OTHER_ID, 1)), NoLeader)
        office.replica.commit()
        assert isinstance(await error_of(office.controller.create_topic("orders", OTHER_ID, 1)), TopicExists)

    run(scene())


def test_a_caller_who_goes_away_takes_nothing_from_the_others() -> None:
    async def scene() -> None:
        office = await Office.open()
        office.replica.auto_commit = False
        gone = asyncio.ensure_future(office.controller.create_topic("orders", ID, 1))
        stays = asyncio.ensure_future(office.controller.create_topic("orders", ID, 1))
        await turn_the_loop()
        gone.cancel()
        await turn_the_loop()
        assert gone.cancelled() and not stays.done()
        office.replica.commit()
        assert (await stays).existed

    run(scene())


def test_a_refused_append_leaves_no_trace() -> None:
    async def scene() -> None:
        office = await Office.open()
        append = office.replica.append

        def refuse(*_: object) -> None:
            raise NoLeader("leadership is being handed over")

        office.replica.append = refuse  # type: ignore[method-assign,assignment]
        assert isinstance(await error_of(office.controller.create_topic("orders", ID, 1)), NoLeader)
        office.replica.append = append  # type: ignore[method-assign]
        assert not (await office.controller.create_topic("orders", OTHER_ID, 1)).existed

    run(scene())


def test_whatever_is_refused_says_what_to_do() -> None:
    async def scene() -> None:
        office = await Office.open()
        await office.controller.create_topic("orders", ID, 1)
        calls = [
            office.controller.create_topic("orders", OTHER_ID, 1),
            office.controller.create_topic("other", ID, 1),
            office.controller.create_topic("other", OTHER_ID, 0),
            office.controller.create_topic("other", OTHER_ID, 1, 9),
            office.controller.delete_topic("nothing"),
        ]
        for call in calls:
            refusal: LograftError = await error_of(call)
            assert ";" in refusal.message and "\n" not in refusal.message

    run(scene())


# -- whatever happens ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_answers_given_hold_through_any_order_of_decisions_and_losses_of_leadership(seed: int) -> None:
    async def scene() -> None:
        random = Random(seed)
        office = await Office.open()
        replica = office.replica
        replica.auto_commit = False
        calls: list[tuple[str, str, str, asyncio.Future[object]]] = []

        def ask() -> None:
            name, topic_id = random.choice(["x", "y", "z"]), f"{random.randrange(1, 7):x}" * 32
            if random.random() < 0.6:
                call = asyncio.ensure_future(office.controller.create_topic(name, topic_id, 1))
                calls.append(("create", name, topic_id, call))
            else:
                call = asyncio.ensure_future(office.controller.delete_topic(name, topic_id))
                calls.append(("delete", name, topic_id, call))

        for _ in range(60):
            action = random.random()
            if action < 0.6:
                ask()
            elif action < 0.8:
                replica.commit()
            elif action < 0.9 and replica.is_leader:
                replica.lose_leadership(to=2, cut=random.random() < 0.5)
            elif not replica.is_leader:
                replica.win_leadership()
            if random.random() < 0.7:
                await turn_the_loop()
        await turn_the_loop()
        replica.commit()
        await turn_the_loop()

        state = office.cluster_log.state
        replayed = DecisionLog(replica, ClusterState(), asyncio.get_running_loop().call_soon, Reports())
        replayed.catch_up()
        assert replayed.state == state and state.bad_record_count == 0
        ids = [topic.topic_id for topic in state.topics.values()]
        assert len(set(ids)) == len(ids) and not set(ids) & set(state.deleted_topics)
        for what, name, topic_id, call in calls:
            if call.exception() is not None:
                assert isinstance(call.exception(), LograftError)
                continue
            gone = state.deleted_topics.get(topic_id)
            if what == "delete":
                assert gone is not None and gone.name == name
            else:
                standing = state.topic(name)
                assert (gone is not None and gone.name == name) or (
                    standing is not None and standing.topic_id == topic_id
                )

    run(scene())
