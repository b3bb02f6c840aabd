from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextvars import copy_context
from random import Random
from typing import Any, TypeVar

import pytest

from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.wires import CONNECT_SECONDS_MAX, HERE, End, Weather, Wires

T = TypeVar("T")
MANY = tuple(range(50))


class Side:
    """One end of a wire, and what it was told."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.heard: list[Any] = []
        self.hosts: set[str | None] = set()
        end.on_closed = lambda: self.hear("closed")
        end.on_lost = lambda why: self.hear("lost")

    def hear(self, what: Any) -> None:
        self.heard.append(what)
        self.hosts.add(HERE.get(None))

    def send(self, *things: Any) -> None:
        for thing in things:
            self.end.send(10, lambda thing=thing: OTHER[self].hear(thing))


OTHER: dict[Side, Side] = {}


class Town:
    """Hosts a and b; b listens at b:1."""

    def __init__(self, weather: Weather | None = None, seed: int = 7) -> None:
        self.loop = VirtualLoop()
        self.wires = Wires(self.loop, Random(seed), weather or Weather(late_chance=0.3))
        self.accepted: list[Side] = []
        self.listen()

    def listen(self) -> None:
        def listen() -> None:
            HERE.set("b")
            self.wires.listen("b", "b:1", lambda end: self.accepted.append(Side(end)))

        copy_context().run(listen)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def wait(self, seconds: float = 30) -> None:
        self.run(asyncio.sleep(seconds))

    async def dial(self) -> Side:
        HERE.set("a")
        return Side(await self.wires.connect("a", "b:1"))

    def connect(self) -> tuple[Side, Side]:
        near = self.run(self.dial())
        self.wait(1)
        far = self.accepted[-1]
        OTHER[near], OTHER[far] = far, near
        return near, far


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    yield town
    OTHER.clear()
    town.loop.close()


def test_parcels_arrive_whole_and_in_order_both_ways_even_when_some_are_late(town: Town) -> None:
    near, far = town.connect()
    near.send(*MANY)
    far.send(*MANY)
    assert near.end.under_way_bytes == 500
    town.wait()
    assert (tuple(near.heard), tuple(far.heard)) == (MANY, MANY)
    assert near.end.under_way_bytes == 0


def test_what_an_end_is_told_runs_in_the_context_of_its_own_process(town: Town) -> None:
    near, far = town.connect()
    near.send("to b")
    far.send("to a")
    town.wait()
    assert (near.hosts, far.hosts) == ({"a"}, {"b"})


def test_a_cut_is_one_way_and_what_it_held_up_arrives_in_order_once_it_is_mended(town: Town) -> None:
    near, far = town.connect()
    near.send(*MANY[:10])
    town.wires.cut("a", "b")
    near.send(*MANY[10:])
    far.send("back")
    town.wait()
    assert (near.heard, far.heard) == (["back"], [])
    town.wires.mend("a", "b")
    town.wait()
    assert tuple(far.heard) == MANY


def test_what_a_reset_catches_under_way_is_gone_and_both_ends_are_told_once(town: Town) -> None:
    near, far = town.connect()
    near.send(*MANY)
    far.send(*MANY)
    town.wires.break_between("b", "a")
    town.wires.break_between("b", "a")
    near.send("into nothing")
    town.wait()
    assert (near.heard, far.heard) == (["lost"], ["lost"])


def test_of_a_wire_that_breaks_at_one_end_the_other_learns_once_it_sends(town: Town) -> None:
    near, far = town.connect()
    far.send(*MANY)
    town.wires.break_half("a", "b")
    town.wait()
    assert (near.heard, far.heard) == (["lost"], [])
    far.send("anyone?")
    town.wait()
    assert (near.heard, far.heard) == (["lost"], ["lost"])


def test_a_close_comes_after_what_was_sent(town: Town) -> None:
    near, far = town.connect()
    near.send(*MANY)
    near.end.close()
    near.send("too late")
    town.wait()
    assert far.heard == [*MANY, "closed"]
    assert near.heard == []


def test_who_sends_to_a_closed_end_is_told_that_the_wire_is_lost(town: Town) -> None:
    near, far = town.connect()
    near.end.close()
    town.wait()
    far.send("anyone?")
    town.wait()
    assert far.heard == ["closed", "lost"]
    assert near.heard == []


def test_last_words_arrive_although_the_other_side_still_sends(town: Town) -> None:
    near, far = town.connect()
    near.send("last words")
    near.end.close()
    far.send(*MANY)
    town.wait()
    assert far.heard == ["last words", "closed", "lost"]


def test_after_a_reset_by_one_side_the_other_hears_the_first_of_what_was_sent_and_then_that_it_is_lost() -> None:
    heard_counts = set()
    for seed in range(30):
        town = Town(seed=seed)
        near, far = town.connect()
        near.send(*MANY)
        near.end.reset()
        town.wait()
        count = len(far.heard) - 1
        assert far.heard == [*MANY[:count], "lost"]
        assert near.heard == []
        heard_counts.add(count)
        town.loop.close()
    assert len(heard_counts) > 5


def test_where_nobody_listens_a_connection_is_refused(town: Town) -> None:
    with pytest.raises(ConnectionRefusedError):
        town.run(town.wires.connect("a", "b:2"))


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_who_connects_waits_while_the_way_there_or_back_is_cut(town: Town, way: tuple[str, str]) -> None:
    town.wires.cut(*way)
    dialling = town.loop.create_task(town.dial())
    town.wait(20)
    assert not dialling.done()
    town.wires.mend(*way)
    town.run(dialling)
    assert 20 < town.loop.time() < 21


def test_who_connects_through_a_cut_that_stays_gives_up_after_minutes(town: Town) -> None:
    town.wires.cut("a", "b")
    with pytest.raises(TimeoutError):
        town.run(town.dial())
    assert town.loop.time() == pytest.approx(CONNECT_SECONDS_MAX)


def test_an_accepted_connection_that_the_caller_no_longer_waits_for_is_lost(town: Town) -> None:
    town.wires.cut("b", "a")

    async def dial_in_haste() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await town.dial()

    town.run(dial_in_haste())
    town.wait()
    assert [side.heard for side in town.accepted] == [["lost"]]


def test_when_a_host_dies_its_wires_are_lost_at_the_other_side_and_nobody_listens_there(town: Town) -> None:
    near, far = town.connect()
    town.wires.reset_all("b")
    town.wait()
    assert near.heard == ["lost"]
    assert far.heard == []
    with pytest.raises(ConnectionRefusedError):
        town.run(town.dial())
    town.listen()
    town.connect()


def test_a_host_that_dies_without_a_word_is_missed_only_when_it_is_back_and_asked(town: Town) -> None:
    near, far = town.connect()
    far.send("last words")
    town.wires.reset_all("b", silently=True)
    near.send("anyone?")
    town.wait(100)
    assert near.heard == []
    town.listen()
    town.wait()
    assert near.heard == ["lost"]
    assert far.heard == []


def test_what_comes_at_once_with_the_acceptance_waits_until_the_caller_has_its_end() -> None:
    town = Town(Weather(late_chance=0.0, delay_ms=(1, 1)))
    heard: list[str] = []

    async def dial() -> None:
        end = await town.wires.connect("a", "b:9")
        end.on_closed = lambda: heard.append("closed")

    def greet_and_go(end: End) -> None:
        end.send(5, lambda: heard.append("hello"))
        end.close()

    town.wires.listen("b", "b:9", greet_and_go)
    town.run(dial())
    town.wait()
    assert heard == ["hello", "closed"]
    town.loop.close()


def test_in_bad_weather_wires_break_by_chance(town: Town) -> None:
    near, far = town.connect()
    town.wires.weather = Weather(reset_chance=0.1)
    near.send(*MANY)
    town.wait()
    assert far.heard[-1] == near.heard[-1] == "lost"
    assert town.wires.resets > 0


def test_two_cannot_listen_at_one_address(town: Town) -> None:
    with pytest.raises(OSError, match="in use"):
        town.listen()
    town.wires.stop_listening("b:1")
    town.listen()


def test_one_seed_gives_one_history() -> None:
    histories = []
    for _ in range(2):
        town = Town()
        near, far = town.connect()
        near.send(*MANY)
        far.send(*MANY)
        town.wait(0.2)
        town.wires.break_between("a", "b")
        town.wait()
        histories.append((near.heard, far.heard, town.wires.delivered, town.loop.steps))
        town.loop.close()
    assert histories[0] == histories[1]
