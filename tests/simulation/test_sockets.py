from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextvars import copy_context
from random import Random
from typing import Any

import pytest
from lograft.node.config import PeerSection
from lograft.node.peer.handshake import PeerIdentity
from lograft.node.peer.links import PeerLinks
from lograft.node.peer.session import PeerSession
from lograft.proto.errors import BrokerUnavailable, InvalidConfig, UnknownOutcome
from lograft.proto.peer_frames import FrameType

from tests.simulation.sockets import WINDOW_BYTES, Sockets
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.wires import HERE, Weather, Wires


class Ears(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.data = b""
        self.pieces = 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.pieces += 1

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")

    def eof_received(self) -> bool:
        self.heard.append("eof")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.heard.append(f"lost: {type(error).__name__ if error else 'closed'}")


class Town:
    """A network, on whose hosts things are run."""

    def __init__(self, seed: int = 3) -> None:
        self.loop = VirtualLoop()
        self.wires = Wires(self.loop, Random(seed), Weather(late_chance=0.1))
        self.loop.sockets = Sockets(self.wires)
        self.nodes: list[Node] = []

    def run(self, work: Any, host: str = "a") -> Any:
        context = copy_context()
        context.run(HERE.set, host)
        return self.loop.run_until_complete(self.loop.create_task(work, context=context))

    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    def end(self) -> None:
        for node in self.nodes:
            self.run(node.links.stop(), node.host)
        self.loop.close()

    def pair(self) -> tuple[Ears, Ears]:
        accepted: list[Ears] = []

        def accept() -> Ears:
            accepted.append(Ears())
            return accepted[-1]

        self.run(self.loop.create_server(accept, "b", 5), "b")
        _, near = self.run(self.loop.create_connection(Ears, "b", 5), "a")
        self.wait(1)
        return near, accepted[0]


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    yield town
    town.end()


BYTES = bytes(range(256)) * 10_000


def test_bytes_arrive_whole_and_in_order_in_other_pieces_than_they_were_written_in(town: Town) -> None:
    near, far = town.pair()
    for start in range(0, len(BYTES), 10_000):
        near.transport.writelines([BYTES[start : start + 3], BYTES[start + 3 : start + 10_000]])
    town.wait(60)
    assert far.data == BYTES
    assert far.pieces != 256
    assert far.pieces < 1000


def test_a_reader_that_pauses_holds_up_the_writer_at_a_bound(town: Town) -> None:
    near, far = town.pair()
    far.transport.pause_reading()
    near.transport.write(BYTES)
    town.wait(60)
    assert far.data == b""
    assert near.heard == ["pause"]
    assert near.transport.get_write_buffer_size() == len(BYTES) - WINDOW_BYTES
    far.transport.resume_reading()
    town.wait(60)
    assert far.data == BYTES
    assert near.heard == ["pause", "resume"]


def test_a_close_lets_what_was_written_leave_and_both_sides_hear_of_the_end(town: Town) -> None:
    near, far = town.pair()
    near.transport.write(BYTES)
    near.transport.close()
    town.wait(60)
    assert far.data == BYTES
    assert (near.heard, far.heard) == (["pause", "lost: closed"], ["eof", "lost: closed"])


def test_an_abort_lets_only_what_the_kernel_has_leave(town: Town) -> None:
    near, far = town.pair()
    near.transport.write(BYTES)
    near.transport.abort()
    town.wait(60)
    assert far.data == BYTES[:WINDOW_BYTES]
    assert near.heard == ["pause", "lost: closed"]


def test_a_reset_is_an_error_at_both_sides(town: Town) -> None:
    near, far = town.pair()
    near.transport.write(BYTES)
    town.wires.break_between("a", "b")
    town.wait(60)
    assert far.data != BYTES
    assert near.heard[-1] == far.heard[-1] == "lost: ConnectionResetError"


def test_asyncio_streams_work_over_it(town: Town) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("b", 80)
        writer.write(b"hello\n")
        return await reader.read()

    town.run(asyncio.start_server(serve, "b", 80), "b")
    assert town.run(ask()) == b"HELLO\n"


# The product's own links


class Node:
    """A broker's links on one host of the town."""

    def __init__(self, town: Town, broker_id: int, *, start_number: int = 1) -> None:
        self.town = town
        self.broker_id = broker_id
        self.host = f"b{broker_id}"
        self.address = f"{self.host}:9601"
        town.nodes.append(self)
        self.events: list[str] = []
        self.frames: list[bytes] = []
        identity = PeerIdentity(
            cluster_id="c" * 16,
            broker_id=broker_id,
            directory_id=f"{broker_id:032x}",
            start_number=start_number,
            version="1",
            peer_address=self.address,
            process_nonce=f"{broker_id:08x}{start_number:08x}",
        )
        self.links = PeerLinks(identity, "secret", self, PeerSection(), chance=Random(broker_id))

    def start(self) -> Node:
        self.town.run(self.links.start(self.address), self.host)
        return self

    def session_up(self, session: PeerSession) -> None:
        self.events.append(f"up {session.broker_id}")

    def session_down(self, broker_id: int, why: str) -> None:
        self.events.append(f"down {broker_id}")

    def frame(self, broker_id: int, frame_type: FrameType, body: memoryview) -> None:
        self.frames.append(bytes(body))

    async def call(self, broker_id: int, method: str, body: bytes) -> bytes:
        if method == "slow":
            await asyncio.sleep(1)
        return body[::-1]

    def superseded(self, why: str) -> None:
        self.events.append("superseded")


def two_brokers(town: Town) -> tuple[Node, Node]:
    one, two = Node(town, 1), Node(town, 2)
    one.links.know(2, two.address)
    two.links.know(1, one.address)
    one.start()
    two.start()
    town.wait(5)
    return one, two


def test_two_brokers_get_into_session_call_each_other_and_exchange_frames(town: Town) -> None:
    one, two = two_brokers(town)
    assert (one.events, two.events) == (["up 2"], ["up 1"])
    assert town.run(one.links.call(2, "turn", b"abc", timeout_ms=500), one.host) == b"cba"
    assert town.run(two.links.call(1, "turn", BYTES, timeout_ms=5000), two.host) == BYTES[::-1]
    for number in range(300):
        assert one.links.send_bulk(2, FrameType.RAFT, b"%d:" % number, BYTES[: number * 50])
    town.wait(5)
    assert [frame.split(b":")[0] for frame in two.frames] == [b"%d" % number for number in range(300)]


@pytest.mark.parametrize("way", [("b1", "b2"), ("b2", "b1")])
def test_a_cut_in_one_direction_ends_the_session_on_both_sides_and_it_comes_back_once_mended(
    town: Town, way: tuple[str, str]
) -> None:
    one, two = two_brokers(town)
    town.wires.cut(*way)
    town.wait(10)
    assert (one.events, two.events) == (["up 2", "down 2"], ["up 1", "down 1"])
    with pytest.raises(BrokerUnavailable):
        town.run(one.links.call(2, "turn", b"abc", timeout_ms=500), one.host)
    town.wires.mend(*way)
    town.wait(10)
    assert (one.events[-1], two.events[-1]) == ("up 2", "up 1")
    assert town.run(one.links.call(2, "turn", b"abc", timeout_ms=500), one.host) == b"cba"


def test_a_call_under_way_at_a_reset_has_an_unknown_outcome_and_the_session_is_dialled_anew(town: Town) -> None:
    one, two = two_brokers(town)

    async def call() -> None:
        town.loop.call_later(0.5, town.wires.break_between, "b1", "b2")
        with pytest.raises(UnknownOutcome):
            await one.links.call(2, "slow", b"abc", timeout_ms=5000)

    town.run(call(), one.host)
    town.wait(5)
    assert (one.events, two.events) == (["up 2", "down 2", "up 2"], ["up 1", "down 1", "up 1"])


def test_a_broker_that_died_and_is_back_gets_into_session_again(town: Town) -> None:
    one, two = two_brokers(town)
    town.wires.reset_all("b2")
    town.run(two.links.stop(), two.host)  # the test has no process to kill: it has stopped without a word to anyone
    town.wait(5)
    assert one.events == ["up 2", "down 2"]
    again = Node(town, 2, start_number=2)
    again.links.know(1, one.address)
    again.start()
    town.wait(5)
    assert (one.events[-1], again.events[-1]) == ("up 2", "up 1")


def test_an_address_that_is_taken_is_refused_in_words(town: Town) -> None:
    Node(town, 1).start()
    with pytest.raises(InvalidConfig, match="address already in use"):
        Node(town, 1).start()


def test_one_seed_gives_one_history_of_two_brokers() -> None:
    histories = []
    for _ in range(2):
        town = Town(seed=11)
        one, two = two_brokers(town)
        town.wires.break_between("b1", "b2")
        town.wait(5)
        histories.append((one.events, two.events, town.wires.delivered, town.loop.steps))
        town.end()
    assert histories[0] == histories[1]
