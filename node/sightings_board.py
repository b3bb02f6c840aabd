"""The sightings board: sightings replicated in memory by pysyncobj, among the brokers that formed the cluster.

Always holds
    nothing depends on it. What it brings is merged as hints (`sightings.py`), and merging never goes back: a board that
        is lost, rolled back or split changes nothing but how soon one broker hears of another
    whatever goes wrong in here ends in here: the board is built anew, the broker goes on
    no pickle is read or written: pysyncobj's codec is replaced by one of plain types for commands and snapshots, and
        its messages travel as the typed frames below, over the peer link alone
    a frame is taken only if it is small and well formed, and as said by whom the peer link proved the sender to be
    queues, log, frames and snapshots are bounded; time and chance are arguments
The *members* keep a log in memory, so one that starts again has forgotten what it voted for and what it held. pysyncobj
does not bear that for ever: two of them can lead one term, and a member can be left behind for good. Hence each broker
looks for its own publications on the board, and builds its part of it anew if they stop coming back. Any other broker
publishes through a member, which then tells it what the board takes in.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Annotated, Any, Literal

import msgspec
import pysyncobj.journal
import pysyncobj.pickle
import pysyncobj.syncobj
from msgspec import Meta
from pysyncobj import SyncObj, SyncObjConf, SyncObjConsumer, replicated
from pysyncobj.node import Node as SyncObjNode
from pysyncobj.transport import Transport

from ..proto.errors import UNDECODABLE
from .sightings import SIGHTING_BYTES_MAX, ExchangedSightings, MalformedSighting, decode_sighting

APPEND_PERIOD_S = 0.05
"""How often a leader speaks at most; it does so in a tick."""
TIMEOUT_TICKS = 10
TIMEOUT_S_MIN = 1.0
"""Wider than pysyncobj's own: one event loop does everything here, and nothing waits for the board."""
FRAME_BYTES_MAX = 64 << 10
ROOM_BYTES = 256 << 10
"""To one member within one tick: a member that has to catch up must not fill the link that heartbeats take."""
FRAME_BYTES_COUNTED_MIN = 4 << 10
"""A small frame takes as much of that room: pysyncobj bounds a tick by time, which stands still here."""
ECHO_MS_MAX = 25_000
"""Every broker publishes each 10 s; with none of its publications back for so long, this board does not work."""
PATIENCE_MS_MAX = 600_000
REBUILD_DELAY_MS = 2000
"""Members that rebuild do not do it all at once."""
FOLLOWED_MS = 30_000
"""A broker that is no member is told of news for so long after it published last."""
FOLLOWER_QUEUE_MAX = 1000
FOLLOWER_FRAMES_PER_TICK = 8
COMPLAINT_INTERVAL_MS = 60_000

BATCH_BYTES = 32 << 10
"""More than any command has, so that pysyncobj never cuts one in pieces (which jams its receiver)."""
SNAPSHOT_BYTES_MAX = 4 << 20
LOG_ENTRIES_MAX = 2000
COMMANDS_MAX = 256

_NO_OP = b"\x01"
_REGULAR = b"\x00"
_Count = Annotated[int, Meta(ge=0, le=2**62)]
_Part = Annotated[bytes, Meta(max_length=SIGHTING_BYTES_MAX)]
_CommandBytes = Annotated[bytes, Meta(min_length=1, max_length=SIGHTING_BYTES_MAX + 16)]
_Entry = tuple[_CommandBytes, _Count, _Count]
"""Command, index, term."""


# What goes over the link. pysyncobj's other messages (transfers, answers to commands, pieces of a command, utility
# messages) are not needed, so there is no frame for them.


class _VoteRequest(msgspec.Struct, frozen=True, array_like=True, tag=1):
    term: _Count
    last_index: _Count
    last_term: _Count


class _Vote(msgspec.Struct, frozen=True, array_like=True, tag=2):
    term: _Count


class _Append(msgspec.Struct, frozen=True, array_like=True, tag=3):
    term: _Count
    commit_index: _Count
    previous_index: _Count
    previous_term: _Count
    entries: list[_Entry]


class _SnapshotPiece(msgspec.Struct, frozen=True, array_like=True, tag=4):
    term: _Count
    commit_index: _Count
    piece: tuple[bytes, bool, bool] | None
    """Bytes, is it the first, is it the (empty) last."""


class _Position(msgspec.Struct, frozen=True, array_like=True, tag=5):
    term: _Count
    """The sender's. pysyncobj leaves it out, and takes answers meant for an earlier leader."""
    next_index: _Count
    reset: bool
    success: bool


class _Forwarded(msgspec.Struct, frozen=True, array_like=True, tag=6):
    command: _CommandBytes


class _Publication(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """From a broker that is no member: its own sighting."""

    part: _Part


class _News(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """To a broker that is no member: what the board took in, of whomever."""

    part: _Part


_RaftFrame = _VoteRequest | _Vote | _Append | _SnapshotPiece | _Position | _Forwarded
_frames = msgspec.msgpack.Decoder(_RaftFrame | _Publication | _News)


# pysyncobj's codec. It is reached by everything in there as `pysyncobj.pickle`, but for the journal on disk.


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    parts: list[_Part]
    last: _Entry
    before_last: _Entry


_commands = msgspec.msgpack.Decoder(tuple[Literal[0], tuple[_Part]])
_snapshots = msgspec.msgpack.Decoder(_Snapshot)


def _encode_command(command: Any, protocol: None = None) -> bytes:
    method, (part,) = command
    return msgspec.msgpack.encode((method, (bytes(part),)))


def _decode_command(body: bytes) -> tuple[int, tuple[bytes]]:
    """Total, since applying must be: what cannot be read is a publication of nothing."""
    try:
        return _commands.decode(body)
    except UNDECODABLE:
        return 0, (b"",)


def _write_snapshot(state: Any, file: Any, protocol: None = None) -> None:
    (_, content), last, before_last, _ = state
    file.write(msgspec.msgpack.encode(_Snapshot(content["parts"], last, before_last)))


def _read_snapshot(file: Any) -> Any:
    """Raises ValueError; pysyncobj then goes on without the snapshot. It would set any attribute that one names."""
    body = file.read(SNAPSHOT_BYTES_MAX + 1)
    if len(body) > SNAPSHOT_BYTES_MAX:
        raise ValueError(f"a snapshot of more than {SNAPSHOT_BYTES_MAX} bytes")
    snapshot = _snapshots.decode(body)
    if not all(_is_command(entry[0]) for entry in (snapshot.last, snapshot.before_last)):
        raise ValueError("a snapshot with an entry that is no command of ours")
    return [{}, {"parts": snapshot.parts}], snapshot.last, snapshot.before_last, ()


def _is_command(command: bytes) -> bool:
    """One of ours, or a new leader's no-op. Any other would stop pysyncobj from applying, on every member for good."""
    if command == _NO_OP:
        return True
    try:
        _commands.decode(memoryview(command)[1:])
    except UNDECODABLE:
        return False
    return command[:1] == _REGULAR


class _Clock:
    """What pysyncobj takes for the time: that of the board which is at work. It stands still meanwhile, so that how
    much is done in one tick follows from bounds on what there is, not from how long it takes."""

    now_s = 0.0


def _now_s() -> float:
    return _Clock.now_s


# Importing pysyncobj puts Windows' stand-ins in the place of these two on every system, and breaks them for all others.
socket.inet_ntop = socket._socket.inet_ntop  # type: ignore[attr-defined]
socket.inet_pton = socket._socket.inet_pton  # type: ignore[attr-defined]

pysyncobj.pickle.dumps = _encode_command
pysyncobj.pickle.loads = _decode_command
pysyncobj.pickle.dump = _write_snapshot
pysyncobj.pickle.load = _read_snapshot
pysyncobj.pickle.pickle = None
pysyncobj.journal.dumps = pysyncobj.journal.loads = None
pysyncobj.syncobj.monotonicTime = _now_s
# It raises the alarm for what is harmless to hints (an applied entry cut away); what is not, the board sees and tells.
logging.getLogger("pysyncobj").setLevel(logging.CRITICAL + 1)


class Member(SyncObjNode):
    """One of the brokers that keep the log. pysyncobj sends to them in the order of a set, which is the same everywhere
    only if their hashes are."""

    def __hash__(self) -> int:
        return int(self.id)


class _Link(Transport):
    """pysyncobj's way to the other members: its messages as frames, sent and taken one by one.

    `send(broker_id, body)` says whether it was sent.
    """

    def __init__(self, members: dict[int, Any], send: Callable[[int, bytes], bool]) -> None:
        super().__init__(None, None, members.values())
        self.log: _Log
        """Set once it is made."""
        self._members = members
        self._send = send
        self._up: set[int] = set()
        self._room = dict.fromkeys(members, ROOM_BYTES)
        self._voted: dict[int, int] = {}
        """The term of the last vote that each member gave us."""
        self._snapshot_bytes = 0

    def setOnUtilityMessageCallback(self, message: str, callback: Any) -> None:
        """Status, membership and version are asked of nobody here."""

    def session_up(self, broker_id: int) -> None:
        self._up.add(broker_id)
        self._onNodeConnected(self._members[broker_id])

    def session_down(self, broker_id: int) -> None:
        self._up.discard(broker_id)
        self._onNodeDisconnected(self._members[broker_id])

    def begin_tick(self) -> None:
        for broker_id in self._up:
            if self._room[broker_id] <= 0:
                self._onNodeConnected(self._members[broker_id])
            self._room[broker_id] = ROOM_BYTES

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        broker_id = int(node.id)
        frame = self._framed(message)
        if frame is None or broker_id not in self._up or self._room[broker_id] <= 0:
            return False
        body = msgspec.msgpack.encode(frame)
        self._room[broker_id] -= max(len(body), FRAME_BYTES_COUNTED_MIN)
        if isinstance(frame, _SnapshotPiece) and frame.piece is None:
            self._room[broker_id] = 0  # the snapshot is being made; pysyncobj would say so over and over
        if self._room[broker_id] <= 0:
            self._onNodeDisconnected(node)  # the one thing on which pysyncobj stops sending; until the next tick
        return self._send(broker_id, body)

    def _framed(self, message: dict[str, Any]) -> _RaftFrame | None:
        match message["type"]:
            case "request_vote":
                return _VoteRequest(message["term"], message["last_log_index"], message["last_log_term"])
            case "response_vote":
                return _Vote(message["term"])
            case "append_entries" if "serialized" in message:
                return _SnapshotPiece(message["term"], message["commit_index"], message["serialized"])
            case "append_entries" if "entries" in message and message["prevLogIdx"] is not None:
                previous = message["prevLogIdx"], message["prevLogTerm"]
                return _Append(message["term"], message["commit_index"], *previous, message["entries"])
            case "next_node_idx":
                position = message["next_node_idx"], message["reset"], message["success"]
                return _Position(self.log.raftCurrentTerm, *position)
            case "apply_command":
                return _Forwarded(message["command"])
        return None

    def receive(self, broker_id: int, frame: _RaftFrame) -> bool:
        """Hand a member's frame to pysyncobj. False: there is something wrong with it, and it was dropped."""
        message = self._checked(broker_id, frame)
        if message is None:
            return False
        if message:
            self._onMessageReceived(self._members[broker_id], message)
        return True

    def _checked(self, broker_id: int, frame: _RaftFrame) -> dict[str, Any] | None:
        """The message as pysyncobj knows it; empty for one that came too late, None for one that is wrong."""
        match frame:
            case _VoteRequest(term, last_index, last_term):
                vote = {"term": term, "last_log_index": last_index, "last_log_term": last_term}
                return {"type": "request_vote", **vote}
            case _Vote(term):
                # pysyncobj counts votes, not voters.
                if term != self.log.raftCurrentTerm or term <= self._voted.get(broker_id, 0):
                    return {}
                self._voted[broker_id] = term
                return {"type": "response_vote", "term": term}
            case _Append():
                return self._checked_append(frame)
            case _SnapshotPiece(term, commit_index, piece):
                if piece is not None:
                    self._snapshot_bytes = len(piece[0]) + (0 if piece[1] else self._snapshot_bytes)
                    if self._snapshot_bytes > SNAPSHOT_BYTES_MAX:
                        return None
                return {"type": "append_entries", "term": term, "commit_index": commit_index, "serialized": piece}
            case _Position(term, next_index, reset, success):
                after_end = self.log.end_index() + 1
                if term != self.log.raftCurrentTerm:
                    return {}
                if success and next_index > after_end:
                    return None  # it cannot hold what we never sent
                next_index = max(2, min(next_index, after_end))
                return {"type": "next_node_idx", "next_node_idx": next_index, "reset": reset, "success": success}
            case _Forwarded(command):
                if not _is_command(command):
                    return None
                # Not to be forwarded again: two members that take each other for the leader would never stop.
                return {"type": "apply_command", "command": command} if self.log._isLeader() else {}

    def _checked_append(self, frame: _Append) -> dict[str, Any] | None:
        index, term = frame.previous_index, frame.previous_term
        for command, entry_index, entry_term in frame.entries:
            index += 1
            if entry_index != index or not term <= entry_term <= frame.term or not _is_command(command):
                return None
            term = entry_term
        return {
            "type": "append_entries",
            "term": frame.term,
            "commit_index": frame.commit_index,
            "prevLogIdx": frame.previous_index,
            "prevLogTerm": frame.previous_term,
            "entries": frame.entries,
        }


class _Content(SyncObjConsumer):
    """What a snapshot of the board holds: all that this broker has seen."""

    def __init__(self, all_parts: Callable[[], list[bytes]], take: Callable[[bytes], None]) -> None:
        super().__init__()
        self._all_parts = all_parts
        self._take = take

    def _serialize(self) -> dict[str, list[bytes]]:
        return {"parts": self._all_parts()}

    def _deserialize(self, content: dict[str, list[bytes]]) -> None:
        for part in content["parts"]:
            self._take(part)


class _Log(SyncObj):
    """The replicated log. Its state is what `take` merges; it keeps none itself."""

    def __init__(
        self,
        own: Any,
        members: dict[int, Any],
        link: _Link,
        content: _Content,
        take: Callable[[bytes], None],
        chance: Random,
        timeout_s: float,
    ) -> None:
        self._take = take
        self._chance = chance
        self._timeout_s = timeout_s
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesPeriod=APPEND_PERIOD_S,
            raftMinTimeout=timeout_s,
            raftMaxTimeout=2 * timeout_s,
            connectionTimeout=2 * timeout_s,
            leaderFallbackTimeout=1.5 * timeout_s,
            commandsWaitLeader=False,
            commandsQueueSize=COMMANDS_MAX,
            appendEntriesBatchSizeBytes=BATCH_BYTES,
            logCompactionBatchSize=BATCH_BYTES,
            logCompactionMinEntries=LOG_ENTRIES_MAX,
            journalFile=None,
            fullDumpFile=None,
            dynamicMembershipChange=False,
        )
        super().__init__(own, members.values(), conf, consumers=[content], nodeClass=Member, transport=link)

    @replicated
    def note(self, part: bytes) -> None:
        self._take(part)

    # Two of pysyncobj's private methods, as they are called in the one version that we run.

    def _SyncObj__generateRaftTimeout(self) -> float:
        return self._timeout_s * (1 + self._chance.random())

    def end_index(self) -> int:
        return int(self._SyncObj__getCurrentLogIndex())


class _Follower:
    """A broker that is no member, as a member sees it."""

    def __init__(self) -> None:
        self.until_ms = 0.0
        self.untold: deque[bytes] = deque(maxlen=FOLLOWER_QUEUE_MAX)


class SightingsBoard:
    """One broker's part in the board. Does nothing before `join`; never raises.

    `send(broker_id, body)` sends a BOARD frame and says whether it could; `wanted()` asks for the own sighting to be
    published whole, because there are new ears for it; `clock_ms` never goes back; `tick_ms` apart `tick` is called.
    """

    def __init__(
        self,
        broker_id: int,
        sightings: ExchangedSightings,
        *,
        send: Callable[[int, bytes], bool],
        wanted: Callable[[], None],
        clock_ms: Callable[[], float],
        tick_ms: float,
        chance: Random,
        log: Callable[..., None] = lambda event, **facts: None,
    ) -> None:
        self.has_quorum = False
        """Does what is published reach a majority of the members, as far as this member knows?"""
        self._broker_id = broker_id
        self._sightings = sightings
        self._send = send
        self._wanted = wanted
        self._clock_ms = clock_ms
        self._timeout_s = max(TIMEOUT_S_MIN, TIMEOUT_TICKS * tick_ms / 1000)
        self._chance = chance
        self._tell = log
        self._members: frozenset[int] = frozenset()
        self._up: set[int] = set()
        self._log: _Log | None = None
        self._link: _Link | None = None
        self._build_at_ms: float | None = None
        self._followers: dict[int, _Follower] = {}
        self._through: int | None = None
        """The member through which a broker that is none publishes."""
        self._echoed_ms = 0.0
        self._patience_ms = float(ECHO_MS_MAX)
        self._complained_ms: dict[int, float] = {}

    @property
    def is_member(self) -> bool:
        return self._broker_id in self._members

    def join(self, members: tuple[int, ...]) -> None:
        """Take part. `members`: broker ids of the cluster's initial voters. Called once."""
        assert not self._members, "joined already"
        self._members = frozenset(members)
        self._echoed_ms = self._clock_ms()
        if self.is_member:
            self._build()
        else:
            self._choose_member()

    def session_up(self, broker_id: int) -> None:
        self._up.add(broker_id)
        if self._link is not None and broker_id in self._members:
            self._link.session_up(broker_id)
        elif not self.is_member and self._through is None:
            self._choose_member()

    def session_down(self, broker_id: int) -> None:
        self._up.discard(broker_id)
        self._followers.pop(broker_id, None)
        if self._link is not None and broker_id in self._members:
            self._link.session_down(broker_id)
        elif self._through == broker_id:
            self._choose_member()

    def publish(self, part: bytes) -> None:
        """Put a part of the own sighting on the board, if that works just now; it is published again anyway."""
        if self.is_member:
            self._note(part)
        elif self._through is not None:
            self._send(self._through, msgspec.msgpack.encode(_Publication(part)))

    def receive(self, broker_id: int, body: bytes | memoryview) -> None:
        """Take what the broker in session as `broker_id` sent. What is wrong is dropped: a hint less."""
        if not self._members:
            return  # formed elsewhere a moment earlier, or switched off here
        if len(body) > FRAME_BYTES_MAX:
            self._complain(broker_id, f"a frame of {len(body)} bytes is over the limit of {FRAME_BYTES_MAX}")
            return
        try:
            frame = _frames.decode(body)
        except UNDECODABLE as error:
            self._complain(broker_id, f"a frame could not be read: {error}")
            return
        if isinstance(frame, _Publication):
            if self.is_member and broker_id not in self._members:
                self._take_publication(broker_id, frame.part)
        elif isinstance(frame, _News):
            if not self.is_member and broker_id in self._members:
                self._take(frame.part)
        elif broker_id not in self._members:
            self._complain(broker_id, "only members speak of the log")
        elif self._link is not None:
            try:
                self._begin()
                if not self._link.receive(broker_id, frame):
                    self._complain(broker_id, f"a {type(frame).__name__[1:]} that cannot be true")
            except Exception as error:  # pysyncobj's; whatever it is, the broker goes on
                self._rebuild(f"a message failed: {error!r}")

    def tick(self) -> None:
        """Called every `tick_ms`."""
        now_ms = self._clock_ms()
        if not self._members:
            return
        if not self.is_member:
            if self._through is not None and now_ms - self._echoed_ms > self._patience_ms:
                self._be_patient()
                self._choose_member()
            return
        if self._log is None and self._build_at_ms is not None and now_ms >= self._build_at_ms:
            self._build()
        if self._log is not None and self._link is not None:
            try:
                self._begin()
                self._link.begin_tick()
                self._log.doTick(0.0)
            except Exception as error:  # as above
                self._rebuild(f"a tick failed: {error!r}")
        self._watch(now_ms)
        self._tell_followers(now_ms)

    def stop(self) -> None:
        self._members = frozenset()
        self._destroy()

    # -- the log -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        _Clock.now_s = self._clock_ms() / 1000

    def _build(self) -> None:
        self._begin()
        self._build_at_ms = None
        self._echoed_ms = self._clock_ms()
        members = {broker_id: Member(str(broker_id)) for broker_id in sorted(self._members)}
        own = members.pop(self._broker_id)
        link = _Link(members, self._send)
        content = _Content(self._sightings.all_parts, self._take)
        try:
            link.log = self._log = _Log(own, members, link, content, self._take, self._chance, self._timeout_s)
        except Exception as error:  # as above
            self._rebuild(f"it could not be built: {error!r}")
            return
        self._link = link
        for broker_id in sorted(self._up & self._members):
            link.session_up(broker_id)

    def _rebuild(self, why: str) -> None:
        delay_ms = REBUILD_DELAY_MS * (0.5 + self._chance.random())
        self._tell("board.rebuilt", why=why, after_ms=round(delay_ms))
        self._destroy()
        self._build_at_ms = self._clock_ms() + delay_ms

    def _destroy(self) -> None:
        if self._log is not None:
            self._log.destroy()
        self._log = self._link = None

    def _note(self, part: bytes) -> None:
        if len(part) <= SIGHTING_BYTES_MAX and self._log is not None:
            self._log.note(part)

    def _take(self, part: bytes) -> None:
        """Merge what the board brings. Total: whatever raised here would stop the log for good."""
        try:
            sighting = decode_sighting(part)
            if sighting.broker_id == self._broker_id:
                self._echoed_ms = self._clock_ms()
                self._patience_ms = float(ECHO_MS_MAX)
            self._sightings.see(sighting)
        except MalformedSighting as error:
            self._complain(self._broker_id, error.message)
        except Exception as error:
            self._complain(self._broker_id, f"a sighting could not be merged: {error!r}")
        else:
            for follower in self._followers.values():
                follower.untold.append(part)

    def _watch(self, now_ms: float) -> None:
        """Say when quorum is gained or lost, and build anew what has stopped to work though it should."""
        majority_up = 2 * (len(self._up & self._members) + 1) > len(self._members)
        leader = None if self._log is None else self._log._getLeader()
        has_quorum = leader is not None and majority_up
        if has_quorum != self.has_quorum:
            self.has_quorum = has_quorum
            if leader is not None and majority_up:
                self._tell("board.quorum_gained", leader=int(leader.id), members=sorted(self._members))
                self._wanted()
            else:
                self._tell("board.quorum_lost", members=sorted(self._members), in_session=sorted(self._up))
        if not majority_up or self._log is None:
            self._echoed_ms = now_ms
        elif now_ms - self._echoed_ms > self._patience_ms:
            self._rebuild(f"nothing published here came back for {(now_ms - self._echoed_ms) / 1000:.0f} s")
            self._be_patient()

    def _be_patient(self) -> None:
        """It did not help the last time: wait longer for the next one."""
        self._patience_ms = min(2 * self._patience_ms, PATIENCE_MS_MAX)

    # -- brokers that are no members ---------------------------------------------------------------------------------

    def _choose_member(self) -> None:
        """The next member in session, in the order of broker ids, from the one used before."""
        present = sorted(self._up & self._members)
        before = -1 if self._through is None else self._through
        self._through = next((one for one in present if one > before), present[0] if present else None)
        self._echoed_ms = self._clock_ms()
        if self._through is not None:
            self._wanted()

    def _take_publication(self, broker_id: int, part: bytes) -> None:
        try:
            told_of = decode_sighting(part).broker_id
        except MalformedSighting as error:
            self._complain(broker_id, error.message)
            return
        if told_of != broker_id:
            self._complain(broker_id, f"it speaks for broker {told_of}")
            return
        follower = self._followers.get(broker_id)
        if follower is None:
            follower = self._followers[broker_id] = _Follower()
            follower.untold.extend(self._sightings.all_parts())
        follower.until_ms = self._clock_ms() + FOLLOWED_MS
        self._note(part)

    def _tell_followers(self, now_ms: float) -> None:
        for broker_id, follower in list(self._followers.items()):
            if now_ms > follower.until_ms:
                del self._followers[broker_id]
                continue
            for _ in range(min(FOLLOWER_FRAMES_PER_TICK, len(follower.untold))):
                if not self._send(broker_id, msgspec.msgpack.encode(_News(follower.untold[0]))):
                    break
                follower.untold.popleft()

    def _complain(self, broker_id: int, why: str) -> None:
        now_ms = self._clock_ms()
        if now_ms - self._complained_ms.get(broker_id, -COMPLAINT_INTERVAL_MS) >= COMPLAINT_INTERVAL_MS:
            self._complained_ms[broker_id] = now_ms
            self._tell("board.dropped", broker=broker_id, why=why)
