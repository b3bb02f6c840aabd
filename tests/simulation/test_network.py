from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest
from lograft.proto.peer_frames import FrameType

from tests.simulation.network import Letter, Network, Weather
from tests.simulation.virtual_loop import VirtualLoop


class Box:
    """A host that keeps what arrives."""

    def __init__(self, broker_id: int) -> None:
        self.broker_id = broker_id
        self.is_alive = True
        self.letters: list[bytes] = []

    def arrive(self, sender_id: int, letter: Letter) -> None:
        self.letters.append(letter.body)


class Town:
    """Three hosts on a network."""

    def __init__(self, weather: Weather) -> None:
        self.loop = VirtualLoop()
        self.network = Network(loop=self.loop, random=Random(7), weather=weather)
        self.one, self.two, self.three = (Box(number) for number in (1, 2, 3))
        for host in (self.one, self.two, self.three):
            self.network.connect(host)

    def send(self, sender: Box, receiver: Box, *bodies: bytes) -> None:
        for body in bodies:
            self.network.send(sender, receiver.broker_id, Letter(FrameType.RAFT, body))

    def wait(self, seconds: float = 10) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town(Weather(late_chance=0.3))
    yield town
    town.loop.close()


MANY = tuple(bytes([number]) for number in range(50))


def test_letters_of_one_link_arrive_in_order_even_when_some_are_late(town: Town) -> None:
    town.send(town.one, town.two, *MANY)
    town.wait()
    assert tuple(town.two.letters) == MANY


def test_in_bad_weather_letters_are_lost_doubled_and_overtaken() -> None:
    town = Town(Weather(late_chance=0.3, drop_chance=0.2, double_chance=0.2, in_order=False))
    town.send(town.one, town.two, *MANY)
    town.wait()
    assert 0 < len(set(town.two.letters)) < len(MANY)
    assert len(town.two.letters) > len(set(town.two.letters))
    assert town.two.letters != sorted(town.two.letters)
    town.loop.close()


def test_a_cut_is_one_way(town: Town) -> None:
    town.network.cut(1, 2)
    town.send(town.one, town.two, b"no")
    town.send(town.two, town.one, b"yes")
    town.wait()
    assert (town.one.letters, town.two.letters) == ([b"yes"], [])
    town.network.mend_all()
    town.send(town.one, town.two, b"now")
    town.wait()
    assert town.two.letters == [b"now"]


def test_a_cut_stops_what_is_under_way(town: Town) -> None:
    town.send(town.one, town.two, b"late")
    town.network.cut(1, 2)
    town.wait()
    assert town.two.letters == []


def test_nothing_sent_before_a_reset_arrives_after_it(town: Town) -> None:
    town.send(town.one, town.two, *MANY)
    town.send(town.two, town.one, b"back")
    town.send(town.one, town.three, b"elsewhere")
    town.network.reset(2, 1)
    town.send(town.one, town.two, b"after")
    town.wait()
    assert (town.one.letters, town.two.letters, town.three.letters) == ([], [b"after"], [b"elsewhere"])


def test_a_letter_to_an_earlier_incarnation_never_reaches_the_next(town: Town) -> None:
    town.send(town.one, town.two, b"for the old one")
    town.two.is_alive = False
    reborn = Box(2)
    town.network.connect(reborn)
    town.wait()
    assert (town.two.letters, reborn.letters) == ([], [])


def test_a_letter_of_an_earlier_incarnation_is_dropped_too(town: Town) -> None:
    town.send(town.one, town.two, b"from the old one")
    town.one.is_alive = False
    town.network.connect(Box(1))
    town.wait()
    assert town.two.letters == []
