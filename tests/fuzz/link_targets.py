"""Readers of what comes over the links between brokers: frames, the handshake, and what the frames hold."""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import crc32c
import msgspec
from lograft.node import cluster_view, holdings, sightings_board
from lograft.node.formation import ClusterSet, MalformedSet
from lograft.node.groups import lag, lag_watch
from lograft.node.heartbeats import MalformedHeartbeat, decode_pair_message, encode_pair_message
from lograft.node.holdings import Holdings
from lograft.node.http import parse_request_line
from lograft.node.moves import Moves
from lograft.node.peer.handshake import (
    Acceptor,
    Dialler,
    Directories,
    HandshakeRefused,
    LinkKind,
    PeerIdentity,
    Refusal,
    decode_refused,
)
from lograft.node.peer.raft_codec import decode_raft_bundle, encode_raft
from lograft.node.peer.session import PeerSession
from lograft.node.rpc.admin_service import AdminService
from lograft.node.sightings import (
    Addresses,
    ExchangedSightings,
    Led,
    MalformedSighting,
    Sighting,
    decode_sighting,
    encode_sighting,
)
from lograft.partitions.environment import PartitionId
from lograft.partitions.producers import ProducerTable
from lograft.partitions.raft.messages import (
    AppendReply,
    AppendRequest,
    CampaignNow,
    HeadOffer,
    Message,
    ReadProbe,
    ReadProbeReply,
    RepairReply,
    RepairRequest,
    Serving,
    Voter,
    VoteReply,
    VoteRequest,
)
from lograft.partitions.raft.pairs import Heartbeat, HeartbeatReply, Leading, LeadingReply, PairMessage, Sum
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.storage import zero_width
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.proto import record_batch
from lograft.proto.errors import InvalidRequest, LograftError
from lograft.proto.peer_frames import FrameReader, FrameType, PeerFrameError, encode_frame
from lograft.proto.record_batch import Compression, NewRecord
from lograft.v1 import admin_service_pb2 as admin_pb

from tests.fuzz.target import Target

_SECRET = b"a secret of the fuzzer"
_PARTITION = PartitionId("0123456789abcdef" * 2, 3)
_OTHER = PartitionId("fedcba9876543210" * 2, 0)
_LEADER, _FOLLOWER = Voter(1, "a" * 32, 1), Voter(2, "b" * 32, 4)
_ENDS = {"sender": _LEADER, "to": _FOLLOWER, "term": 7}


# Frames -------------------------------------------------------------------------------------------------------------


def sealed_frame(data: bytes) -> bytes:
    """One frame with the length and the CRC that fit what is there."""
    if len(data) < 9:
        return data
    return struct.pack(">IBI", len(data) - 4, data[4], crc32c.crc32c(data[9:], crc32c.crc32c(data[4:5]))) + data[9:]


def _in_one_piece_and_in_many(data: bytes) -> object:
    """What is read must not depend on how the stream was cut."""
    try:
        whole = [(kind, bytes(body)) for kind, body in FrameReader().feed(data)]
    except PeerFrameError as error:
        whole = error
    reader, pieces = FrameReader(), []
    try:
        for start in range(0, len(data), max(1, len(data) // 50)):
            piece = data[start : start + max(1, len(data) // 50)]
            pieces += [(kind, bytes(body)) for kind, body in reader.feed(piece)]
    except PeerFrameError:
        assert isinstance(whole, PeerFrameError), "refused in pieces, taken in one"
        raise
    if isinstance(whole, PeerFrameError):
        raise whole
    assert whole == pieces
    return whole


# The handshake ------------------------------------------------------------------------------------------------------

_DIALLER = PeerIdentity(
    cluster_id=None,
    broker_id=1,
    directory_id="a" * 32,
    start_number=9,
    version="1.0",
    rack="r",
    grpc_address="h:1",
    peer_address="h:2",
    http_address="h:3",
    process_nonce="d" * 32,
)
_ACCEPTOR = msgspec.structs.replace(_DIALLER, broker_id=2, directory_id="b" * 32, process_nonce="e" * 32)


def _dialler() -> Dialler:
    return Dialler(
        _DIALLER,
        _SECRET,
        Directories(_DIALLER),
        kind=LinkKind.CONTROL,
        session=b"s" * 16,
        expected_broker_id=2,
        nonce=b"n" * 32,
    )


def _acceptor() -> Acceptor:
    return Acceptor(_ACCEPTOR, _SECRET, Directories(_ACCEPTOR), nonce=b"m" * 32)


def _body(frame: list[Any]) -> bytes:
    return b"".join(bytes(buffer) for buffer in frame[1:])


_HELLO = _body(_dialler().hello())
_CHALLENGE = _body(_acceptor().receive(FrameType.HELLO, _HELLO))


def _challenged() -> Dialler:
    dialler = _dialler()
    dialler.receive(FrameType.CHALLENGE, _CHALLENGE)
    return dialler


def _greeted() -> Acceptor:
    acceptor = _acceptor()
    acceptor.receive(FrameType.HELLO, _HELLO)
    return acceptor


def _proof() -> bytes:
    return _body(_dialler().receive(FrameType.CHALLENGE, _CHALLENGE))


def _accepted(data: bytes) -> object:
    acceptor = _greeted()
    acceptor.receive(FrameType.PROOF, data)
    # Whoever does not know the secret gets no further.
    assert not acceptor.is_over or bytes(data)[-32:] == _proof()[-32:]
    return acceptor.peer


_REFUSED = _body(_greeted().refuse(HandshakeRefused(Refusal.SELF, "for a reason", by_peer=False, proved=True)))


# Raft ---------------------------------------------------------------------------------------------------------------


def _items() -> tuple[Item, ...]:
    start = zero_width.term_start(Point(7, 10, 1), 1)
    batch = record_batch.encode([NewRecord(1, b"k", b"v" * 20), NewRecord(2, None, None)], compression=Compression.NONE)
    records = Item(Point(7, 12, 1), ItemKind.RECORDS, bytes(record_batch.stamp(batch, 10, 7)))
    voters = zero_width.voter_change(Point(7, 12, 2), [_LEADER, _FOLLOWER], 1)
    moved = zero_width.log_start_move(Point(7, 12, 3), 4, 1)
    return start, records, voters, moved


_AFTER = Point(3, 10, 2)
_HEAD = SegmentHead(_PARTITION, _AFTER, (_LEADER, _FOLLOWER), 10, ProducerTable().to_bytes(), 5)

MESSAGES: tuple[Message, ...] = (
    VoteRequest(**_ENDS, last=_AFTER, pre=True, transfer=False),
    VoteReply(**_ENDS, granted=True, pre=False, doubtful=False),
    AppendRequest(
        **_ENDS,
        session=4,
        session_end=_AFTER,
        prev=_AFTER,
        committed=_AFTER,
        items=_items(),
        append_time_ms=1_700_000_000_000,
    ),
    AppendReply(**_ENDS, session=4, accepted=True, match=_AFTER, committed=_AFTER, counts=True),
    ReadProbe(**_ENDS, round_number=3),
    ReadProbeReply(**_ENDS, round_number=3),
    CampaignNow(**_ENDS),
    HeadOffer(**_ENDS, session=4, base=_AFTER, head=_HEAD.to_bytes(), cleaned_to=2),
    RepairRequest(**_ENDS, number=1, hole=_AFTER, after=ORIGIN, claims=(_AFTER,), base_offset=-1, bytes_max=1 << 20),
    RepairReply(
        **_ENDS,
        number=1,
        serving=Serving.ITEMS,
        after=_AFTER,
        leads=True,
        conflicts=False,
        rewritten_to=0,
        items=_items(),
    ),
)


def _raft_body(*messages: Message) -> bytes:
    return b"".join(b"".join(map(bytes, encode_raft(_PARTITION, message))) for message in messages)


def _resized_raft(data: bytes) -> bytes:
    """The header's size left as it is, all that follows counted as items."""
    if len(data) < 8:
        return data
    header_size = int.from_bytes(data[:4], "big")
    return data[:4] + struct.pack(">I", max(0, len(data) - 8 - header_size) & 0xFFFFFFFF) + data[8:]


# Pairs, sightings, the board ----------------------------------------------------------------------------------------

_PAIRS: tuple[PairMessage, ...] = (
    Heartbeat(4, Sum(2, 2**64 - 5)),
    HeartbeatReply(4, True),
    Leading(((_PARTITION, 3), (_OTHER, 9))),
    LeadingReply(((_PARTITION, 3),), (_OTHER,), ()),
)


def _pair_target(message: PairMessage) -> Target:
    frame_type, body = encode_pair_message(message)
    return Target(
        name=f"frame {frame_type.name}",
        read=lambda data: decode_pair_message(frame_type, data),
        seeds=[body],
        refusals=(MalformedHeartbeat,),
        write=lambda read: encode_pair_message(cast(PairMessage, read))[1],
    )


_SIGHTING = Sighting(
    broker_id=1,
    directory_id="a" * 32,
    start_number=9,
    sequence=4,
    addresses=Addresses("h:1", "h:2", "h:3"),
    rack="r",
    version="1.0",
    leads=(Led(_PARTITION.topic_id, 3, 7),),
    left=(Led(_OTHER.topic_id, 0, 6),),
)


def _take_on_board(data: bytes) -> object:
    """A member of the board hears it from another member, and ticks on."""
    now_ms = 0.0
    board = sightings_board.SightingsBoard(
        1,
        ExchangedSightings(lambda part: None, lambda: None),
        send=lambda broker_id, body: True,
        wanted=lambda: None,
        clock_ms=lambda: now_ms,
        tick_ms=100,
        chance=Random(1),
        log=lambda event, **facts: None,
    )
    board.join((1, 2, 3))
    for other in (2, 3):
        board.session_up(other)
    board.receive(2, data)
    for _ in range(3):
        now_ms += 100
        board.tick()
    return board.counters if hasattr(board, "counters") else None


_COMMAND = sightings_board._encode_command((0, (encode_sighting(_SIGHTING),)))
_ENTRY = (b"\0" + _COMMAND, 2, 1)
_SNAPSHOT = msgspec.msgpack.encode(sightings_board._Snapshot([encode_sighting(_SIGHTING)], _ENTRY, (b"\x01", 1, 1)))
_BOARD_FRAMES = [
    msgspec.msgpack.encode(frame)
    for frame in (
        sightings_board._VoteRequest(3, 2, 1),
        sightings_board._Vote(3),
        sightings_board._Append(3, 1, 1, 0, [_ENTRY]),
        sightings_board._SnapshotPiece(3, 1, (_SNAPSHOT, True, False)),
        sightings_board._SnapshotPiece(3, 1, None),
        sightings_board._Position(3, 2, False, True),
        sightings_board._Forwarded(b"\0" + _COMMAND),
        sightings_board._Publication(encode_sighting(_SIGHTING)),
        sightings_board._News(encode_sighting(_SIGHTING)),
    )
]


# Calls --------------------------------------------------------------------------------------------------------------


class _Read(BaseException):
    """A question was understood: what comes after that is not fuzzed here."""


def _understood(*_: object) -> Any:
    raise _Read


def _asked(carry_out: Callable[[bytes], Any]) -> Callable[[bytes], object]:
    """The reading of a call's body; what would be done about it is left out."""

    def read(data: bytes) -> object:
        try:
            carry_out(data).send(None)
        except (_Read, StopIteration):
            return None
        raise AssertionError("it waits for something")

    return read


def _without_init(kind: type, **attributes: Any) -> Any:
    made = object.__new__(kind)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


_HOLDINGS = _without_init(Holdings, here=_understood)
_MOVES = _without_init(Moves, _let_go=_understood)
_LAG = _without_init(lag.Lag, _here=_understood)
_LAG_WATCH = _without_init(lag_watch.LagWatch, _here=_understood)
_ADMIN = _without_init(
    AdminService, _broker_id=1, _carried_out={"CreateTopic": (admin_pb.CreateTopicRequest, _understood)}
)


class _Links:
    """Whatever is asked, the bytes given are the answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def call(self, broker_id: int, method: str, body: bytes = b"", *, timeout_ms: float) -> bytes:
        return self._answer


def _told(ask: Callable[[_Links], Any]) -> Callable[[bytes], object]:
    """The reading of another broker's answer to a call."""

    def read(data: bytes) -> object:
        try:
            ask(_Links(data)).send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits for something")

    return read


def _session() -> PeerSession:
    link = SimpleNamespace(
        handshake=SimpleNamespace(protocol=1, peer_spoken=None), send=lambda *frame: None, waiting_bytes=0
    )
    return PeerSession(1, _ACCEPTOR, cast(Any, link), cast(Any, link), dialled=True, now_ms=0.0, calls_max=8)


def _take_call(data: bytes) -> None:
    async def carry_out(broker_id: int, method: str, body: bytes) -> bytes:
        return b"done"

    async def take() -> None:
        session = _session()
        session.take_call(memoryview(data), carry_out, lambda event, **facts: None)
        await asyncio.gather(*session._answering)

    asyncio.run(take())


_CALLS = [struct.pack(">QIH", 1, 1000, 5) + b"a.bcd" + b"body"]
_FAILURE = msgspec.msgpack.encode(("NOT_LEADER", "somebody else leads", {"leader_id": "2", "term": "x"}))
_ANSWERS = [struct.pack(">QB", 1, 1) + b"answer", struct.pack(">QB", 1, 0) + _FAILURE]


def _take_answer(data: bytes) -> object:
    session = _session()
    loop = asyncio.new_event_loop()
    try:
        waiting = session._calls[1] = loop.create_future()
        session.take_answer(memoryview(data))
        return waiting.done() and waiting.exception()
    finally:
        loop.close()


_VIEW = cluster_view.PartitionView(
    _PARTITION.topic_id, 3, 1, 7, 0, 10, 1000, (cluster_view.ReplicaView(1, True, 10, "OK", "a" * 32, 1),)
)

LINK_TARGETS = (
    Target(
        name="frames",
        read=_in_one_piece_and_in_many,
        seeds=[b"".join(map(bytes, encode_frame(kind, b"body of it" * 3))) for kind in FrameType],
        refusals=(PeerFrameError,),
        seal=sealed_frame,
    ),
    Target(
        name="handshake HELLO",
        read=lambda data: _acceptor().receive(FrameType.HELLO, data),
        seeds=[_HELLO],
        refusals=(PeerFrameError, HandshakeRefused),
    ),
    Target(
        name="handshake CHALLENGE",
        read=lambda data: _dialler().receive(FrameType.CHALLENGE, data),
        seeds=[_CHALLENGE],
        refusals=(PeerFrameError, HandshakeRefused),
    ),
    Target(
        name="handshake PROOF",
        read=_accepted,
        seeds=[_proof()],
        refusals=(PeerFrameError, HandshakeRefused),
    ),
    Target(
        name="handshake REFUSED",
        read=lambda data: _challenged().receive(FrameType.REFUSED, data),
        seeds=[_REFUSED],
        refusals=(PeerFrameError, HandshakeRefused),
        takes_seeds=False,
    ),
    Target(name="frame REFUSED", read=decode_refused, seeds=[_REFUSED], refusals=(PeerFrameError,)),
    Target(
        name="frame RAFT",
        read=decode_raft_bundle,
        seeds=[*map(_raft_body, MESSAGES), _raft_body(*MESSAGES)],
        refusals=(PeerFrameError,),
        seal=_resized_raft,
        write=lambda read: b"".join(
            b"".join(map(bytes, encode_raft(*message))) for message in cast(list[tuple[PartitionId, Message]], read)
        ),
    ),
    *map(_pair_target, _PAIRS),
    Target(
        name="frame SIGHTING",
        read=decode_sighting,
        seeds=[encode_sighting(_SIGHTING)],
        refusals=(MalformedSighting,),
        write=lambda read: encode_sighting(cast(Sighting, read)),
    ),
    Target(name="frame BOARD", read=_take_on_board, seeds=_BOARD_FRAMES),
    Target(
        name="snapshot of the board",
        read=lambda data: sightings_board._read_snapshot(io.BytesIO(data)),
        seeds=[_SNAPSHOT],
        refusals=(ValueError,),
    ),
    Target(name="command of the board", read=sightings_board._decode_command, seeds=[_COMMAND]),
    Target(name="frame CALL", read=_take_call, seeds=_CALLS, refusals=(PeerFrameError,)),
    Target(name="frame ANSWER", read=_take_answer, seeds=_ANSWERS, refusals=(PeerFrameError,)),
    Target(
        name="frame CLUSTER",
        read=ClusterSet.decode,
        seeds=[ClusterSet((_LEADER, _FOLLOWER)).encode(), ClusterSet((_LEADER, _FOLLOWER), 2).encode()],
        refusals=(MalformedSet,),
        write=lambda read: cast(ClusterSet, read).encode(),
    ),
    Target(
        name="call holding",
        read=_asked(_HOLDINGS.carry_out),
        seeds=[msgspec.msgpack.encode(_PARTITION)],
        refusals=(InvalidRequest,),
    ),
    Target(
        name="call let go",
        read=_asked(_MOVES.carry_out),
        seeds=[msgspec.msgpack.encode((_PARTITION, _LEADER))],
        refusals=(InvalidRequest,),
    ),
    Target(
        name="call unread",
        read=_asked(_LAG.carry_out),
        seeds=[msgspec.msgpack.encode([(*_PARTITION, 5)])],
        refusals=(InvalidRequest,),
    ),
    Target(
        name="call lag",
        read=_asked(lambda data: _LAG_WATCH.carry_out(2, data)),
        seeds=[msgspec.msgpack.encode([(*_PARTITION, (5, 9))])],
        refusals=(InvalidRequest,),
    ),
    Target(
        name="call of the admin service",
        read=_asked(lambda data: _ADMIN.carry_out("admin.CreateTopic", data)),
        seeds=[admin_pb.CreateTopicRequest(name="a", partitions=3, config={"a": "b"}).SerializeToString()],
        refusals=(LograftError,),
    ),
    Target(
        name="answer about partitions",
        read=_told(
            lambda links: cluster_view.ClusterView._ask(_without_init(cluster_view.ClusterView, _links=links), 2)
        ),
        seeds=[msgspec.msgpack.encode((_VIEW,))],
    ),
    Target(
        name="answer about damage",
        read=_told(
            lambda links: cluster_view.ClusterView._ask_damage(_without_init(cluster_view.ClusterView, _links=links), 2)
        ),
        seeds=[msgspec.msgpack.encode(())],
    ),
    Target(
        name="answer about holdings",
        read=_told(lambda links: Holdings._ask(_without_init(Holdings, _links=links), 2, _PARTITION)),
        seeds=[msgspec.msgpack.encode((holdings.Holding(_LEADER, _AFTER),))],
    ),
    Target(
        name="answer about what is unread",
        read=_told(lambda links: lag.Lag._ask(_without_init(lag.Lag, _links=links, _broker_id=1), 2, {_PARTITION: 4})),
        seeds=[msgspec.msgpack.encode([(*_PARTITION, (0, 9, -1, -1))])],
    ),
    Target(
        name="answer about lag",
        read=_told(
            lambda links: lag_watch.LagWatch._ask(
                _without_init(lag_watch.LagWatch, _links=links, _broker_id=1), 2, [(*_PARTITION, (4,))]
            )
        ),
        seeds=[msgspec.msgpack.encode([(*_PARTITION, 0, 9, (5,))])],
    ),
    Target(
        name="HTTP request line",
        read=parse_request_line,
        seeds=[b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"],
    ),
)
