from __future__ import annotations

import asyncio

from lograft.node.rpc.budget import ByteBudget, SharedBudget


def test_at_the_bound_one_waits_until_bytes_are_given_back() -> None:
    async def scene() -> None:
        budget = ByteBudget(10)
        budget.take(10)
        waiting = asyncio.create_task(budget.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.give_back(1)
        await waiting

    asyncio.run(scene())


def test_the_bound_of_all_holds_back_one_who_is_below_its_own() -> None:
    async def scene() -> None:
        every = ByteBudget(10)
        greedy, modest = ByteBudget(100, every), ByteBudget(100, every)
        greedy.take(10)
        waiting = asyncio.create_task(modest.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        greedy.give_back(10)
        await waiting
        assert (every.taken, greedy.taken, modest.taken) == (0, 0, 0)

    asyncio.run(scene())


def test_all_that_fit_are_woken_and_the_others_wait_on() -> None:
    async def scene() -> None:
        budget = ByteBudget(2)
        budget.take(2)
        served: list[int] = []

        async def client(number: int) -> None:
            await budget.room()
            budget.take(1)
            served.append(number)

        clients = [asyncio.create_task(client(number)) for number in range(4)]
        await asyncio.sleep(0)
        budget.give_back(2)
        for _ in range(10):
            await asyncio.sleep(0)
        assert (served, budget.taken) == ([0, 1], 2)
        budget.give_back(2)
        await asyncio.gather(*clients)
        assert sorted(served) == [0, 1, 2, 3]

    asyncio.run(scene())


def test_one_who_goes_away_while_it_is_his_turn_does_not_take_the_turn_along() -> None:
    async def scene() -> None:
        budget = ByteBudget(1)
        budget.take(1)
        gone, next_one = asyncio.create_task(budget.room()), asyncio.create_task(budget.room())
        await asyncio.sleep(0)
        budget.give_back(1)
        gone.cancel()
        await asyncio.wait_for(next_one, 1)

    asyncio.run(scene())


def test_one_who_goes_away_while_he_waits_for_room_further_up_does_not_take_the_turn_along() -> None:
    async def scene() -> None:
        shared = ByteBudget(1)
        own = ByteBudget(1, shared)
        own.take(1)
        gone, next_one = asyncio.create_task(own.room()), asyncio.create_task(own.room())
        await asyncio.sleep(0)
        shared.take(1)
        own.give_back(1)
        for _ in range(3):
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        shared.give_back(1)
        await asyncio.wait_for(next_one, 1)

    asyncio.run(scene())


def test_a_connection_that_gives_nothing_back_leaves_room_for_others_and_its_address_for_other_addresses() -> None:
    async def scene() -> None:
        budget = SharedBudget(16)
        greedy = [budget.lease(f"ipv4:10.0.0.1:{port}") for port in (1, 2)]
        for lease in greedy:
            await lease.room()
            lease.take(4)
        again = asyncio.create_task(budget.lease("ipv4:10.0.0.1:1").room())
        same_address = asyncio.create_task(budget.lease("ipv4:10.0.0.1:3").room())
        await asyncio.wait_for(budget.lease("ipv4:10.0.0.2:1").room(), 1)
        assert not again.done() and not same_address.done()
        greedy[0].end()
        await asyncio.wait_for(asyncio.gather(again, same_address), 1)
        greedy[1].end()
        assert budget.taken == 0

    asyncio.run(scene())


def test_a_call_that_ended_while_it_gathered_takes_nothing_and_leaves_nothing_behind() -> None:
    budget = SharedBudget(16)
    for peer in ("ipv4:10.0.0.1:1", "unix:"):
        lease = budget.lease(peer)
        lease.end()
        lease.take(4)
        lease.end()
    assert budget.taken == 0 and not budget._shares and not budget._users
