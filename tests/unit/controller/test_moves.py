"""Where replicas go after the beginning: other brokers, other disks, more of them; and who they are then."""

from __future__ import annotations

import msgspec
import pytest
from lograft.node.controller.cluster_seats import identities, seats
from lograft.node.controller.facts import BrokerFact
from lograft.partitions.raft.messages import Voter
from lograft.proto.errors import (
    InvalidConfig,
    InvalidReplication,
    InvalidRequest,
    LograftError,
    UnknownPartition,
    UnknownTopic,
)

from .fake_replica import directory_of, run, voters
from .test_controller import ID, OTHER_ID, Office, error_of

OFFSETS, OFFSETS_ID = "__offsets", "0" * 31 + "2"


def brokers_of(placement: tuple[Voter, ...]) -> list[int]:
    return [voter.broker_id for voter in placement]


async def an_office_with_topic(*brokers: int, partitions: int = 1, replication: int = 3) -> Office:
    office = await Office.open(*brokers)
    for broker_id in brokers:
        office.alive[broker_id] = directory_of(broker_id)
    await office.controller.create_topic("orders", ID, partitions, replication)
    return office


def test_what_a_removed_broker_held_goes_rather_not_to_one_that_is_being_drained() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, replication=3)
        for broker_id in (4, 5):
            office.alive[broker_id] = directory_of(broker_id)
            await office.controller.register_broker(broker_id, directory_of(broker_id))
        await office.controller.set_draining(4, True)
        await office.controller.remove_broker(1)
        (partition,) = (await office.controller.describe_topic("orders")).partitions
        assert sorted(brokers_of(partition.placement)) == [2, 3, 5]

    run(scene())


def test_who_stays_is_who_it_was_and_who_comes_gets_a_number_never_given_out() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, 4, replication=2)
        before = (await office.controller.describe_topic("orders")).partitions[0]
        stays, leaves = before.placement
        other = next(each for each in (1, 2, 3, 4) if each not in brokers_of(before.placement))
        await office.controller.move_partition("orders", 0, [other, stays.broker_id])
        await office.controller.move_partition("orders", 0, [leaves.broker_id, stays.broker_id])
        topic = await office.controller.describe_topic("orders")
        back, stayed = topic.partitions[0].placement
        assert stayed == stays
        assert back == leaves._replace(replica_number=4), "placed again, it is somebody else"
        assert topic.partitions[0].first_voters == before.first_voters, "kept for good"
        assert topic.next_replica_number == 5

    run(scene())


@pytest.mark.parametrize(
    ("name", "number", "brokers", "kind", "why"),
    [
        ("absent", 0, [1], UnknownTopic, "no topic"),
        ("orders", 7, [1], UnknownPartition, "only 0 to 0"),
        ("orders", 0, [], InvalidReplication, "at least one"),
        ("orders", 0, [1, 1], InvalidReplication, "each once"),
        ("orders", 0, [1, 9], InvalidRequest, "broker 9 is unknown"),
        ("orders", 0, [1, 3], InvalidRequest, "broker 3 is not alive"),
    ],
)
def test_a_move_that_cannot_be_is_refused(
    name: str, number: int, brokers: list[int], kind: type[LograftError], why: str
) -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        del office.alive[3]
        written = len(office.replica.batches)
        error = await error_of(office.controller.move_partition(name, number, brokers))
        assert isinstance(error, kind) and why in str(error)
        assert len(office.replica.batches) == written

    run(scene())


def test_a_move_to_where_it_is_is_refused_and_another_preferred_leader_is_not() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        present = brokers_of((await office.controller.describe_topic("orders")).partitions[0].placement)
        assert "already" in str(await error_of(office.controller.move_partition("orders", 0, present)))
        moved = await office.controller.move_partition("orders", 0, present[::-1])
        assert brokers_of(moved.partitions[0].placement) == present[::-1] and moved.next_replica_number == 4

    run(scene())


def test_of_two_moves_asked_for_at_once_the_second_is_refused() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, 4)
        seen = (await office.controller.describe_topic("orders")).partitions[0].placement
        one, another = sorted({*brokers_of(seen)})[:2], sorted({*brokers_of(seen)})[1:]
        await office.controller.move_partition("orders", 0, one, seen=seen)
        refusal = await error_of(office.controller.move_partition("orders", 0, another, seen=seen))
        assert isinstance(refusal, InvalidRequest) and "moved meanwhile" in str(refusal)
        assert brokers_of((await office.controller.describe_topic("orders")).partitions[0].placement) == one

    run(scene())


def test_a_broker_on_another_disk_and_what_was_placed_on_it_are_one_decision() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, partitions=2)
        before = (await office.controller.describe_topic("orders")).partitions
        await office.controller.register_broker(2, directory_of(2, disk=1))
        assert office.keys_written[-1] == ["broker/2", "topic/orders"]
        after = (await office.controller.describe_topic("orders")).partitions
        for old, new in zip(before, after, strict=True):
            assert brokers_of(old.placement) == brokers_of(new.placement) and old.first_voters == new.first_voters
            for was, now in zip(old.placement, new.placement, strict=True):
                assert (was == now) == (was.broker_id != 2)
        moved = [voter for partition in after for voter in partition.placement if voter.broker_id == 2]
        assert {voter.directory_id for voter in moved} == {directory_of(2, disk=1)}
        assert sorted(voter.replica_number for voter in moved) == [7, 8]

    run(scene())


def test_internal_topics_grow_to_three_replicas_as_brokers_join_and_users_topics_do_not() -> None:
    async def scene() -> None:
        office = await Office.open(1)
        office.replica.voters = voters(1)
        await office.controller.create_topic(OFFSETS, OFFSETS_ID, 2, internal=True)
        await office.controller.create_topic("orders", ID, 1, 1)
        assert await office.controller.grow_internal_topics() == []
        await office.controller.register_broker(2, directory_of(2))
        assert await office.controller.grow_internal_topics() == [OFFSETS]
        await office.controller.register_broker(3, directory_of(3))
        await office.controller.grow_internal_topics()
        topics = {topic.name: topic for topic in await office.controller.list_topics(internal=True)}
        assert [brokers_of(partition.placement) for partition in topics[OFFSETS].partitions] == [[1, 2, 3]] * 2
        assert topics["orders"].replication == 1
        written = len(office.replica.batches)
        assert await office.controller.grow_internal_topics() == [] and len(office.replica.batches) == written

    run(scene())


def test_an_internal_topic_is_moved_but_not_to_fewer_copies_than_the_cluster_would_grow_it_to_again() -> None:
    async def scene() -> None:
        office = await Office.open(1, 2, 3, 4)
        for broker_id in (1, 2, 3, 4):
            office.alive[broker_id] = directory_of(broker_id)
        await office.controller.create_topic(OFFSETS, OFFSETS_ID, 1, internal=True)
        present = brokers_of((await office.controller.describe_topic(OFFSETS)).partitions[0].placement)
        refused = await error_of(office.controller.move_partition(OFFSETS, 0, present[:1]))
        assert isinstance(refused, InvalidReplication) and "keeps 3" in str(refused)
        moved = await office.controller.move_partition(OFFSETS, 0, [4, 3, 2])
        assert brokers_of(moved.partitions[0].placement) == [4, 3, 2]

    run(scene())


def test_a_removed_broker_holds_nothing_and_what_it_held_goes_to_who_held_none_of_it() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, 4, partitions=4)
        assert await office.controller.remove_broker(2) == ["orders"]
        assert await office.controller.remove_broker(2) == [], "asked again, it is so already"
        placed = [
            brokers_of(partition.placement)
            for partition in (await office.controller.read()).topics["orders"].partitions
        ]
        assert all(sorted(brokers) == [1, 3, 4] for brokers in placed)
        refusal = await error_of(office.controller.remove_broker(3))
        assert isinstance(refusal, InvalidRequest) and "start one first" in str(refusal)
        refusal = await error_of(office.controller.move_partition("orders", 0, [1, 2]))
        assert "broker 2 was removed" in str(refusal)
        await office.controller.register_broker(2, directory_of(2, disk=1))
        assert not (await office.controller.read()).brokers[2].removed, "on another disk it begins anew"

    run(scene())


def test_a_removed_broker_leaves_its_replicas_to_the_emptiest_one_by_one() -> None:
    async def scene() -> None:
        office = await Office.open(1, 2)
        office.alive[4] = directory_of(4)
        await office.controller.create_topic("orders", ID, 6, 2)
        for broker_id in (3, 4):
            await office.controller.register_broker(broker_id, directory_of(broker_id))
        await office.controller.remove_broker(2)
        state = await office.controller.read()
        assert [len(state.replicas_of(each)) for each in (1, 2, 3, 4)] == [6, 0, 3, 3]

    run(scene())


def test_a_broker_is_not_removed_if_most_of_those_who_would_decide_then_are_dead() -> None:
    async def scene() -> None:
        office = await Office.open(1, 2, 3)
        del office.alive[1]
        written = len(office.replica.batches)
        refusal = await error_of(office.controller.remove_broker(3))
        assert isinstance(refusal, InvalidRequest) and "only 1 of the 2 brokers that would decide then" in str(refusal)
        assert len(office.replica.batches) == written
        assert await office.controller.remove_broker(1) == [], "the dead one is no loss"

    run(scene())


# -- brokers that are gone ---------------------------------------------------------------------------------------------


def test_what_a_gone_broker_held_is_placed_on_the_emptiest_and_coming_back_it_is_a_member_that_holds_nothing() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, 4, 5, partitions=5)
        del office.alive[2]
        before = await office.controller.describe_topic("orders")
        assert await office.controller.declare_gone([2]) == ["broker/2", "topic/orders"]
        state = await office.controller.read()
        assert state.brokers[2].gone and state.replicas_of(2) == []
        loads = [len(state.replicas_of(each)) for each in (1, 3, 4, 5)]
        assert sum(loads) == 15 and max(loads) - min(loads) <= 1
        for old, new in zip(before.partitions, state.topics["orders"].partitions, strict=True):
            assert len({*brokers_of(new.placement)}) == 3
            assert {voter for voter in old.placement if voter.broker_id != 2} <= {*new.placement}
            assert new.first_voters == old.first_voters
        written = len(office.replica.batches)
        assert await office.controller.declare_gone([2]) == [] and len(office.replica.batches) == written
        office.alive[2] = directory_of(2)
        back = await office.controller.register_broker(2, directory_of(2))
        assert not back.gone and (await office.controller.read()).replicas_of(2) == []
        assert await office.controller.declare_gone([2]) == [], "who is alive is not gone"

    run(scene())


def test_a_broker_is_not_removed_if_a_partition_would_have_most_of_its_replicas_on_dead_brokers() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, 4, 5)
        placed = brokers_of((await office.controller.describe_topic("orders")).partitions[0].placement)
        (dead, other, removed) = placed
        (heir, spare) = {1, 2, 3, 4, 5} - {*placed}
        del office.alive[dead]
        del office.alive[other]
        for broker_id in (heir, spare):
            office.alive[broker_id] = directory_of(broker_id)
        office.replica.voters = voters(heir, spare, removed)
        refusal = await error_of(office.controller.remove_broker(removed))
        assert isinstance(refusal, InvalidRequest) and "1 of 3 replicas on live brokers" in str(refusal)
        office.alive[other] = directory_of(other)
        assert await office.controller.remove_broker(removed) == ["orders"]

    run(scene())


def test_what_nobody_can_take_stays_until_somebody_can() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, partitions=2)
        del office.alive[2]
        assert await office.controller.declare_gone([2]) == ["broker/2"]
        assert len((await office.controller.read()).replicas_of(2)) == 2
        office.alive[4] = directory_of(4)
        await office.controller.register_broker(4, directory_of(4))
        assert await office.controller.declare_gone([2]) == ["topic/orders"]
        assert len((await office.controller.read()).replicas_of(4)) == 2

    run(scene())


def test_what_has_no_live_majority_stays_where_its_records_are() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, 4, 5, partitions=5, replication=1)
        state = await office.controller.read()
        holder = next(each for each in (1, 2, 3, 4, 5) if state.replicas_of(each))
        del office.alive[holder]
        assert await office.controller.declare_gone([holder]) == [f"broker/{holder}"]
        assert len((await office.controller.read()).replicas_of(holder)) == 1

    run(scene())


def test_a_drained_or_removed_broker_is_away_on_purpose_and_not_gone() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, 4, 5)
        await office.controller.set_draining(4, True)
        await office.controller.remove_broker(5)
        del office.alive[4], office.alive[5]
        assert await office.controller.declare_gone([4, 5, 9]) == []

    run(scene())


def test_a_replica_goes_to_a_rack_of_its_own_before_it_goes_to_an_emptier_broker() -> None:
    async def scene() -> None:
        office = Office()
        for broker_id, rack in ((1, "a"), (2, "b"), (3, "a"), (4, "c")):
            office.alive[broker_id] = directory_of(broker_id)
            await office.controller.register_broker(broker_id, directory_of(broker_id), rack)
        await office.controller.create_topic("orders", ID, 1, 1)
        await office.controller.move_partition("orders", 0, [1, 2, 4])
        await office.controller.create_topic("other", OTHER_ID, 1, 1)
        await office.controller.register_broker(5, directory_of(5), "b")
        office.alive[5] = directory_of(5)
        await office.controller.move_partition("other", 0, [5])
        del office.alive[2]
        await office.controller.declare_gone([2])
        placed = (await office.controller.describe_topic("orders")).partitions[0].placement
        assert brokers_of(placed) == [1, 4, 5], "3 is empty, and in the rack of 1"

    run(scene())


def test_a_setting_of_the_cluster_is_one_fact_and_default_undoes_it() -> None:
    async def scene() -> None:
        office = await Office.open()
        assert await office.controller.change_setting("moves.bytes_per_second", "20MB/s") == 20_000_000
        assert office.keys_written[-1] == ["setting/moves.bytes_per_second"]
        written = len(office.replica.batches)
        await office.controller.change_setting("moves.bytes_per_second", "20000000")
        assert len(office.replica.batches) == written, "it is so already"
        state = await office.controller.read()
        assert state.settings["moves.bytes_per_second"].value == 20_000_000
        assert await office.controller.change_setting("moves.bytes_per_second", "default") == 50_000_000
        assert (await office.controller.read()).settings == {}
        for name, text in (("moves.bytes_per_second", "0"), ("nonsense", "1")):
            assert isinstance(await error_of(office.controller.change_setting(name, text)), InvalidConfig)

    run(scene())


def test_an_unknown_broker_is_neither_drained_nor_removed() -> None:
    async def scene() -> None:
        office = await Office.open()
        for refused in (office.controller.set_draining(9, True), office.controller.remove_broker(9)):
            assert "no broker 9" in str(await error_of(refused))
        assert (await office.controller.set_draining(2, True)).draining
        written = len(office.replica.batches)
        await office.controller.set_draining(2, True)
        assert len(office.replica.batches) == written
        assert not (await office.controller.set_draining(2, False)).draining

    run(scene())


# -- who decides -------------------------------------------------------------------------------------------------------


def registered(*broker_ids: int) -> dict[int, BrokerFact]:
    return {
        broker_id: BrokerFact(broker_id=broker_id, directory_id=directory_of(broker_id), rack="", joined_ms=1)
        for broker_id in broker_ids
    }


@pytest.mark.parametrize(
    ("present", "brokers", "alive", "expected"),
    [
        ((1,), (1, 2), (1, 2), (1, 2)),
        ((1,), (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3)),
        ((1, 2, 3), (1, 2, 3, 4, 5), (1, 4, 5), (1, 2, 3)),
        ((1, 2, 3, 4, 5), (1, 2, 3, 4, 5), (1, 2, 3), (1, 2, 3, 4, 5)),
        ((1, 2, 3, 4), (1, 2, 3, 4), (2, 3, 4), (2, 3, 4)),
    ],
)
def test_who_votes_on_decisions_goes_on_and_free_seats_go_to_the_living(present, brokers, alive, expected) -> None:
    assert brokers_of(seats(voters(*present), registered(*brokers), alive)) == list(expected)


def test_a_wiped_voter_of_cluster_is_replaced_by_its_new_disk_and_a_removed_one_by_another_broker() -> None:
    brokers = registered(1, 2, 3, 4)
    brokers[2] = msgspec.structs.replace(brokers[2], directory_id=directory_of(2, disk=1))
    assert Voter(2, directory_of(2, disk=1), 1) in seats(voters(1, 2, 3), brokers, (1, 2, 3, 4))
    both = (*voters(1, 2, 3), Voter(2, directory_of(2, disk=1), 1))
    assert brokers_of(seats(both, brokers, (1, 2, 3, 4))) == [1, 2, 3], "while one replaces the other, as well"
    gone = {**registered(1, 2, 3, 4), 3: msgspec.structs.replace(registered(3)[3], gone=True)}
    assert brokers_of(seats(voters(1, 2, 3), gone, (1, 2, 4))) == [1, 2, 4], "who is gone gives its seat to another"
    assert brokers_of(seats(voters(1, 2, 3), gone, (1, 2))) == [1, 2, 3], "if there is another"
    brokers[3] = msgspec.structs.replace(brokers[3], removed=True)
    assert brokers_of(seats(voters(1, 2, 3), brokers, (1, 2, 3, 4))) == [1, 2, 4]


def test_a_founder_that_is_not_registered_yet_keeps_its_seat() -> None:
    founders = voters(1, 2, 3, 4, 5)
    assert seats(founders, registered(1), (1,)) == founders
    assert set(seats(founders, registered(1, 4), (1, 4))) == {*founders}


def test_a_removed_broker_has_no_seat_but_hears_of_the_decisions_as_long_as_it_is_there() -> None:
    brokers = registered(1, 2)
    brokers[2] = msgspec.structs.replace(brokers[2], removed=True)
    assert brokers_of(seats(voters(1, 2), brokers, (1, 2))) == [1]
    assert brokers_of(identities(brokers)) == [1, 2], "else it would never hear where what it holds is to go"
