from __future__ import annotations

import gzip
import heapq
import io
import itertools
import pickle
import socket
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pysyncobj.journal
import pysyncobj.pickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.node import sightings_board
from lograft.node.sightings import (
    SIGHTING_BYTES_MAX,
    Addresses,
    ExchangedSightings,
    Leading,
    Led,
    Sighting,
    encode_sighting,
)
from lograft.node.sightings_board import FRAME_BYTES_MAX, SightingsBoard
from lograft.partitions.environment import PartitionId

TOPIC = "a" * 32
MEMBERS = (1, 2, 3)
TICK_MS = 100
PUBLISH_MS = 10_000


class World:
    """Brokers with nothing but the board between them: no handshake tells a sighting here, nor does a direct one."""

    def __init__(self, *broker_ids: int, seed: int = 1, publishes: bool = True) -> None:
        self.now_ms = 0
        self.chance = Random(seed)
        self.publishes = publishes
        self.brokers: dict[int, Broker] = {}
        self.cut: set[frozenset[int]] = set()
        self.drop: Callable[[int, int, Any], bool] = lambda sender, to, frame: False
        self.frames: list[tuple[int, int, Any]] = []
        self._flying: list[tuple[int, int, int, int, bytes, int]] = []
        self._sent = itertools.count()
        for broker_id in broker_ids or MEMBERS:
            self.start(broker_id)

    def start(self, broker_id: int) -> Broker:
        """A new process, that knows nothing; the one before, if any, is gone with all it knew."""
        before = self.brokers.pop(broker_id, None)
        if before is not None:
            for other in self.brokers.values():
                other.session(broker_id, up=False)
        broker = self.brokers[broker_id] = Broker(self, broker_id, 1 if before is None else before.start_number + 1)
        broker.board.join(MEMBERS)
        for other in list(self.brokers.values()):
            self._meet(broker, other)
        return broker

    def cut_off(self, one: int, other: int) -> None:
        self.cut.add(frozenset((one, other)))
        self.brokers[one].session(other, up=False)
        self.brokers[other].session(one, up=False)

    def heal(self) -> None:
        for one, other in map(sorted, tuple(self.cut)):
            self.cut.discard(frozenset((one, other)))
            self._meet(self.brokers[one], self.brokers[other])

    def send(self, sender: Broker, to: int, body: bytes) -> bool:
        there = self.brokers.get(to)
        if there is None or to not in sender.sessions:
            return False
        frame = sightings_board._frames.decode(body)
        self.frames.append((sender.broker_id, to, frame))
        if not self.drop(sender.broker_id, to, frame):
            due = self.now_ms + self.chance.randrange(3)
            # Links are FIFO, and what flies is lost with the session.
            due = max([due, *(one[0] for one in self._flying if one[2:4] == (sender.broker_id, to))])
            heapq.heappush(self._flying, (due, next(self._sent), sender.broker_id, to, body, id(sender) ^ id(there)))
        return True

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 1000)):
            self.now_ms += 1
            while self._flying and self._flying[0][0] <= self.now_ms:
                _, _, sender, to, body, pair = heapq.heappop(self._flying)
                one, other = self.brokers.get(sender), self.brokers.get(to)
                if one is not None and other is not None and id(one) ^ id(other) == pair and to in one.sessions:
                    other.board.receive(sender, body)
            for broker in self.brokers.values():
                if (self.now_ms + broker.phase_ms) % TICK_MS == 0:
                    broker.board.tick()
                wanted = broker.whole_due_ms is not None and self.now_ms >= broker.whole_due_ms
                if wanted or (self.publishes and (self.now_ms + broker.phase_ms) % PUBLISH_MS == 0):
                    broker.publish()

    def knows(self, broker_id: int) -> dict[int, tuple[int, int]]:
        """The start number of every broker that this one has seen, and the term in which it saw it lead."""
        sightings = self.brokers[broker_id].sightings
        found = {}
        for seen in sightings.brokers():
            leading = sightings.leading(PartitionId(TOPIC, seen.broker_id)) or Leading(None, 0)
            found[seen.broker_id] = seen.start_number, leading.term if leading.broker_id == seen.broker_id else 0
        return found

    @property
    def truth(self) -> dict[int, tuple[int, int]]:
        return {broker_id: (broker.start_number, broker.term) for broker_id, broker in sorted(self.brokers.items())}

    def all_know(self) -> bool:
        return all(self.knows(broker_id) == self.truth for broker_id in self.brokers)

    def run_until(self, what: Callable[[], bool], seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            if what():
                return
            self.run(0.1)
        assert what(), {broker_id: self.knows(broker_id) for broker_id in self.brokers}

    def _meet(self, one: Broker, other: Broker) -> None:
        if one is not other and frozenset((one.broker_id, other.broker_id)) not in self.cut:
            one.session(other.broker_id, up=True)
            other.session(one.broker_id, up=True)


class Broker:
    """What the board sees of one. Broker n leads partition n."""

    def __init__(self, world: World, broker_id: int, start_number: int) -> None:
        self.broker_id = broker_id
        self.start_number = start_number
        self.term = start_number
        self.sequence = 0
        self.sessions: set[int] = set()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.phase_ms = world.chance.randrange(PUBLISH_MS)
        self.whole_due_ms: int | None = None
        self.world = world
        self.sightings = ExchangedSightings(lambda part: self.board.publish(part))
        self.board = SightingsBoard(
            broker_id,
            self.sightings,
            send=lambda to, body: world.send(self, to, body),
            wanted=self._wanted,
            clock_ms=lambda: float(world.now_ms),
            tick_ms=TICK_MS,
            chance=Random(world.chance.random()),
            log=lambda event, **facts: self.events.append((event, facts)),
        )

    def publish(self) -> None:
        self.whole_due_ms = None
        self.sequence += 1
        leads = (Led(TOPIC, self.broker_id, self.term),)
        self.sightings.publish(a_sighting(self.broker_id, self.start_number, self.sequence)._replace(leads=leads))

    def session(self, broker_id: int, *, up: bool) -> None:
        if up and broker_id not in self.sessions:
            self.sessions.add(broker_id)
            self.board.session_up(broker_id)
        elif not up and broker_id in self.sessions:
            self.sessions.discard(broker_id)
            self.board.session_down(broker_id)

    def told(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.events if name == event]

    def receive(self, sender: int, frame: Any) -> None:
        self.board.receive(sender, msgspec.msgpack.encode(frame))

    def _wanted(self) -> None:
        self.whole_due_ms = self.world.now_ms + 20


def a_sighting(broker_id: int, start: int = 1, sequence: int = 1) -> Sighting:
    addresses = Addresses(f"h:{broker_id}", f"h:1{broker_id}", f"h:2{broker_id}")
    return Sighting(broker_id, "d" * 32, start, sequence, addresses, "", "1", ())


def a_settled_world(*broker_ids: int, **options: Any) -> World:
    world = World(*broker_ids, **options)
    world.run_until(world.all_know, 15)
    return world


def leader(world: World) -> Broker:
    (found,) = [broker for broker in world.brokers.values() if is_leader(broker)]
    return found


def is_leader(broker: Broker) -> bool:
    return broker.board._log is not None and bool(broker.board._log._isLeader())


def test_members_learn_of_each_other_by_the_board_alone() -> None:
    world = World(publishes=False)
    world.run_until(world.all_know, 8)
    assert all(broker.board.has_quorum for broker in world.brokers.values())


def test_a_board_of_one_works() -> None:
    world = World(1)
    world.brokers[1].board.stop()
    alone = Broker(world, 1, 1)
    world.brokers[1] = alone
    alone.board.join((1,))
    world.run(30)
    assert alone.board.has_quorum and not alone.told("board.rebuilt")


def test_a_change_is_seen_within_a_second() -> None:
    world = a_settled_world()
    for broker in world.brokers.values():
        broker.term += 10
        broker.publish()
    world.run(1)
    assert world.all_know()


def test_quorum_gained_and_lost_is_told_once_each() -> None:
    world = a_settled_world()
    world.run(60)
    one = world.brokers[1]
    assert [event for event, _ in one.events] == ["board.quorum_gained"]
    world.cut_off(1, 2)
    world.cut_off(1, 3)
    world.run(60)
    assert [event for event, _ in one.events] == ["board.quorum_gained", "board.quorum_lost"]
    world.heal()
    world.run(10)
    assert [event for event, _ in one.events] == ["board.quorum_gained", "board.quorum_lost", "board.quorum_gained"]


def test_without_a_quorum_nothing_waits_and_what_was_seen_is_not_lost() -> None:
    world = a_settled_world()
    truth = world.truth
    world.cut_off(1, 2)
    world.cut_off(1, 3)
    for _ in range(3000):
        world.brokers[1].publish()
    world.run(60)
    assert not world.brokers[1].board.has_quorum and world.knows(1) == truth
    world.brokers[2].term += 1
    world.heal()
    world.run_until(world.all_know, 15)


def test_a_member_that_starts_again_learns_all_from_the_others_memory() -> None:
    world = a_settled_world()
    world.run(120)
    world.publishes = False
    world.start(3)
    world.run_until(world.all_know, 5)


def test_a_member_that_starts_again_learns_all_from_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings_board, "LOG_ENTRIES_MAX", 5)
    world = a_settled_world()
    world.run(120)
    assert leader(world).board._log._getRaftLogSize() <= 10  # type: ignore[union-attr]
    world.publishes = False
    world.start(3)
    world.run_until(world.all_know, 5)
    assert any(isinstance(frame, sightings_board._SnapshotPiece) and frame.piece for _, _, frame in world.frames)


@pytest.mark.parametrize("log_entries_max", [5, 2000])
@pytest.mark.parametrize("seed", range(12))
def test_members_that_forget_votes_and_logs_in_any_order_find_together_again(
    seed: int, log_entries_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings_board, "LOG_ENTRIES_MAX", log_entries_max)
    world = a_settled_world(seed=seed)
    world.run(world.chance.choice([1, 20, 100]))
    for _ in range(4):
        for broker_id in world.chance.sample(MEMBERS, world.chance.choice([1, 2, 2, 3])):
            world.start(broker_id)
            world.run(world.chance.choice([0, 0, 0.3, 2, 15]))
    for broker in world.brokers.values():
        broker.term += 1
    world.run_until(world.all_know, 75)
    for broker in world.brokers.values():
        broker.term += 1
    world.run_until(world.all_know, 45)


def test_a_member_that_the_leader_left_behind_for_good_builds_its_part_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings_board, "LOG_ENTRIES_MAX", 5)
    world = a_settled_world()
    world.run(200)
    # Its log begins after the end of what the two others, who lost theirs, agree on from now on.
    world.cut_off(1, 2)
    world.cut_off(1, 3)
    monkeypatch.undo()  # nor will they have a snapshot for it soon
    world.start(2)
    world.start(3)
    world.run(5)
    world.heal()
    world.run(60)
    assert world.brokers[1].told("board.rebuilt")
    assert world.all_know()
    world.run(120)
    assert len(world.brokers[1].told("board.rebuilt")) == 1 and world.brokers[1].board.has_quorum


def test_a_board_that_does_not_work_is_rebuilt_ever_more_seldom() -> None:
    world = a_settled_world()
    world.drop = lambda sender, to, frame: True
    world.run(600)
    times = len(world.brokers[1].told("board.rebuilt"))
    assert 2 <= times <= 5
    world.drop = lambda sender, to, frame: False
    for broker in world.brokers.values():
        broker.term += 1
    world.run_until(world.all_know, 15)


# Brokers that are no members


def test_a_broker_that_is_no_member_sees_and_is_seen_through_one() -> None:
    world = a_settled_world(1, 2, 3, 4, 5)
    for broker in world.brokers.values():
        broker.term += 1
        broker.publish()
    world.run(1.5)
    assert world.all_know()
    raft = [frame for sender, to, frame in world.frames if 4 in (sender, to)]
    assert {type(frame).__name__ for frame in raft} == {"_Publication", "_News"}


def test_a_broker_whose_member_is_gone_goes_through_another() -> None:
    world = a_settled_world(1, 2, 3, 4)
    world.cut_off(1, 4)
    world.brokers[4].term += 1
    world.run_until(world.all_know, 2)


def test_a_broker_whose_member_is_deaf_goes_through_another() -> None:
    world = a_settled_world(1, 2, 3, 4)
    world.drop = lambda sender, to, frame: 1 in (sender, to)
    world.brokers[4].term += 1
    world.run_until(lambda: world.knows(2) == world.truth and world.knows(3) == world.truth, 45)


def test_a_broker_that_is_told_nothing_any_more_is_not_remembered() -> None:
    world = a_settled_world(1, 2, 3, 4)
    through = world.brokers[1].board
    assert 4 in through._followers
    world.drop = lambda sender, to, frame: sender == 4
    world.run(40)
    assert 4 not in through._followers


def test_nobody_speaks_for_another_broker() -> None:
    world = a_settled_world(1, 2, 3, 4)
    world.publishes = False
    frame = sightings_board._Publication(encode_sighting(a_sighting(2, start=9)))
    leader(world).receive(4, frame)
    world.run(2)
    assert all(world.knows(broker_id)[2][0] == 1 for broker_id in MEMBERS)
    assert leader(world).told("board.dropped") == [{"broker": 4, "why": "it speaks for broker 2"}]


# What is refused


class Bomb:
    went_off = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Bomb.go_off, ()

    @staticmethod
    def go_off() -> None:
        Bomb.went_off = True


PICKLED = pickle.dumps(Bomb(), protocol=2)


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads or writes a pickle, by whatever door, fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was touched")

    for name in ("loads", "load", "dumps", "dump", "_loads", "_load", "_dumps", "_dump", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)


def test_no_pickle_is_read_or_written(no_pickle: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings_board, "LOG_ENTRIES_MAX", 5)
    world = a_settled_world(1, 2, 3, 4)
    world.run(100)
    world.start(3)  # catches up by a snapshot
    world.run_until(world.all_know, 5)
    assert all(not broker.told("board.rebuilt") for broker in world.brokers.values())


def test_every_door_to_pickle_in_pysyncobj_is_shut() -> None:
    for name in ("loads", "load", "dumps", "dump"):
        assert getattr(pysyncobj.pickle, name).__module__ == sightings_board.__name__
    assert pysyncobj.pickle.pickle is None
    assert pysyncobj.journal.loads is pysyncobj.journal.dumps is None


def test_pickled_input_is_refused_wherever_it_comes(no_pickle: None) -> None:
    world = a_settled_world()
    chosen = leader(world)
    follower = next(broker for broker in world.brokers.values() if broker is not chosen)
    log = follower.board._log
    assert log is not None
    term, end = log.raftCurrentTerm, log.end_index()
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        file.write(PICKLED)
    command = b"\x00" + PICKLED
    follower.board.receive(chosen.broker_id, PICKLED)
    follower.receive(chosen.broker_id, sightings_board._Append(term, end, end, term, [(command, end + 1, term)]))
    for kind in (b"\x02", b"\x03"):  # membership and version
        entry = (kind + PICKLED, end + 1, term)
        follower.receive(chosen.broker_id, sightings_board._Append(term, end, end, term, [entry]))
    chosen.receive(follower.broker_id, sightings_board._Forwarded(command))
    chosen.receive(follower.broker_id, sightings_board._Forwarded(b"\x02" + PICKLED))
    follower.receive(chosen.broker_id, sightings_board._SnapshotPiece(term, end, (packed.getvalue(), True, False)))
    follower.receive(chosen.broker_id, sightings_board._SnapshotPiece(term, end, (b"", False, True)))
    world.run(2)
    assert not Bomb.went_off
    for broker in world.brokers.values():
        broker.term += 1
    world.run_until(world.all_know, 60)


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00" * (FRAME_BYTES_MAX + 1), b"\x92\xcd\x30\x39\x01", msgspec.msgpack.encode({"type": "append_entries"})],
    ids=["empty", "oversized", "unknown", "as pysyncobj writes it"],
)
def test_a_frame_that_is_none_of_ours_is_dropped_and_told_of_once_a_minute(body: bytes) -> None:
    world = a_settled_world()
    for _ in range(100):
        world.brokers[1].board.receive(2, body)
    assert len(world.brokers[1].told("board.dropped")) == 1
    world.run(61)
    world.brokers[1].board.receive(2, body)
    assert len(world.brokers[1].told("board.dropped")) == 2
    assert not world.brokers[1].told("board.rebuilt") and world.all_know()


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([1, 2, 4]))
def test_no_bytes_of_a_peer_raise(body: bytes, sender: int) -> None:
    board = Broker(World(), 3, 1).board
    board.receive(sender, body)  # before it takes part, too
    board.join(MEMBERS)
    board.receive(sender, body)


numbers = st.integers(min_value=0, max_value=40)
commands = st.sampled_from([b"\x01", b"\x00" + sightings_board._encode_command((0, (b"part",))), b"\x02x", b"x"])


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.builds(sightings_board._VoteRequest, numbers, numbers, numbers),
            st.builds(sightings_board._Vote, numbers),
            st.builds(
                sightings_board._Append,
                numbers,
                numbers,
                numbers,
                numbers,
                st.lists(st.tuples(commands, numbers, numbers), max_size=3),
            ),
            st.builds(
                sightings_board._SnapshotPiece,
                numbers,
                numbers,
                st.none() | st.tuples(st.binary(max_size=20), st.booleans(), st.booleans()),
            ),
            st.builds(sightings_board._Position, numbers, numbers, st.booleans(), st.booleans()),
            st.builds(sightings_board._Forwarded, commands),
        ),
        max_size=6,
    )
)
def test_no_frames_of_a_member_raise_or_stop_it_for_long(frames: list[Any]) -> None:
    world = World()
    world.run(3)
    for frame in frames:
        world.brokers[1].receive(2, frame)
        world.run(0.1)
    for broker in world.brokers.values():
        broker.term += 1
    world.run_until(world.all_know, 75)


def test_only_members_speak_of_the_log() -> None:
    world = a_settled_world(1, 2, 3, 4)
    member = world.brokers[1]
    log = member.board._log
    assert log is not None
    term = log.raftCurrentTerm
    member.receive(4, sightings_board._VoteRequest(term + 1000, 1000, term + 1000))
    member.receive(4, sightings_board._Append(term + 1000, 0, 1, 0, []))
    assert log.raftCurrentTerm == term
    assert member.told("board.dropped") == [{"broker": 4, "why": "only members speak of the log"}]


def test_a_member_votes_once_however_often_it_says_so() -> None:
    world = World()
    candidate = Broker(world, 1, 1)
    candidate.board.join((1, 2, 3, 4, 5))
    candidate.session(2, up=True)
    world.now_ms += 5000
    candidate.board.tick()
    log = candidate.board._log
    assert log is not None and log.raftCurrentTerm == 1
    for _ in range(5):
        candidate.receive(2, sightings_board._Vote(1))
    assert not log._isLeader()
    candidate.receive(3, sightings_board._Vote(1))
    assert log._isLeader()


def test_a_position_counts_only_in_its_term_and_within_the_log() -> None:
    world = a_settled_world()
    chosen = leader(world)
    log = chosen.board._log
    assert log is not None
    other = next(broker_id for broker_id in MEMBERS if broker_id != chosen.broker_id)
    before = log.getStatus()
    chosen.receive(other, sightings_board._Position(log.raftCurrentTerm - 1, 2, True, False))
    chosen.receive(other, sightings_board._Position(log.raftCurrentTerm, 10**9, False, True))
    after = log.getStatus()
    key = f"next_node_idx_server_{other}"
    assert (after[key], after[f"match_idx_server_{other}"]) == (before[key], before[f"match_idx_server_{other}"])
    chosen.receive(other, sightings_board._Position(log.raftCurrentTerm, 10**9, True, False))
    assert log.getStatus()[key] == log.end_index() + 1


def test_a_part_that_is_too_large_is_not_put_on_the_board() -> None:
    world = a_settled_world()
    world.publishes = False
    world.run(2)
    ends = [broker.board._log.end_index() for broker in world.brokers.values()]  # type: ignore[union-attr]
    leader(world).board.publish(b"\x00" * (SIGHTING_BYTES_MAX + 1))
    world.run(2)
    assert [broker.board._log.end_index() for broker in world.brokers.values()] == ends  # type: ignore[union-attr]


def test_nothing_that_is_applied_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_settled_world()
    world.publishes = False
    chosen = leader(world)
    chosen.board.publish(b"no sighting")
    world.run(2)
    for broker in world.brokers.values():
        assert len(broker.told("board.dropped")) == 1 and not broker.told("board.rebuilt")
        monkeypatch.setattr(broker.sightings, "see", lambda sighting: 1 / 0)
    chosen.board.publish(encode_sighting(a_sighting(7)))
    world.run(2)
    monkeypatch.undo()
    for broker in world.brokers.values():
        broker.term += 1
        broker.publish()
    world.run(2)
    assert world.all_know() and all(not broker.told("board.rebuilt") for broker in world.brokers.values())


def test_a_failure_inside_ends_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_settled_world()
    for method in ("doTick", "_onMessageReceived"):
        broker = world.brokers[2]
        owner: Any = broker.board._log if method == "doTick" else broker.board._link
        monkeypatch.setattr(owner, method, lambda *_: 1 / 0)
        world.run(15)
        broker.term += 1
        broker.publish()
        world.run_until(world.all_know, 15)
    assert [facts["why"] for facts in world.brokers[2].told("board.rebuilt")] == [
        "a tick failed: ZeroDivisionError('division by zero')",
        "a message failed: ZeroDivisionError('division by zero')",
    ]


def test_pysyncobj_is_given_no_utility_messages_no_file_and_no_thread() -> None:
    board = World().brokers[1].board
    log, link = board._log, board._link
    assert log is not None and link is not None
    assert not link._onUtilityMessageCallbacks
    assert (log.conf.journalFile, log.conf.fullDumpFile, log.conf.autoTick) == (None, None, False)
    assert not log.conf.dynamicMembershipChange and not log.tick_thread_alive()


def test_a_member_that_has_much_to_catch_up_gets_it_in_bounded_bursts() -> None:
    world = a_settled_world()
    world.publishes = False
    world.cut_off(1, 2)
    world.cut_off(1, 3)
    world.run(4)
    leads = tuple(Led(TOPIC, number, 7) for number in range(1000, 1300))
    full = encode_sighting(a_sighting(9, sequence=5)._replace(leads=leads))
    for _ in range(400):
        leader(world).board.publish(full)
        world.run(0.02)
    world.heal()
    world.frames.clear()
    most = 0
    for _ in range(100):
        world.run(0.1)
        most = max(most, sum(len(msgspec.msgpack.encode(frame)) for _, to, frame in world.frames if to == 1))
        world.frames.clear()
    assert 0 < most < 2 * (sightings_board.ROOM_BYTES + FRAME_BYTES_MAX)
    assert world.knows(1)[9] == (1, 0) and not world.brokers[1].told("board.rebuilt")


def test_importing_the_board_leaves_the_systems_address_functions_alone() -> None:
    assert socket.inet_ntop(socket.AF_INET, b"\x7f\0\0\1") == "127.0.0.1"
    assert socket.inet_pton(socket.AF_INET6, "::1")[-1] == 1
