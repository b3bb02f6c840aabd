"""Who is at the other end of a connection: the first frames of a peer link. Sans-I/O: frames in, frames out.

    dialler                                        acceptor
    HELLO      versions, identity, link, nonce  ->
                                           <-      CHALLENGE  versions, identity, nonce, proof
    PROOF      proof                       ->
                                           <-      WELCOME
    REFUSED instead of any of them         <- or ->

Always holds
    a proof is an HMAC-SHA256 with the cluster's secret over the role of who gives it and both sides' identities and
    nonces; hence it serves no other connection, no other role, and says that both saw the same words
    no process ends itself because of a refusal that is not proved: only who knows the secret can say `superseded`
    who has no secret speaks to nobody
    the frames only ever grow at their end, also within the identity; what a later version says there is passed over,
    and is under the proof all the same
    which version of the protocol the pair uses follows from what both said under the proof: nobody in between lowers it
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ...partitions.environment import Buffer
from ...proto.errors import UNDECODABLE, LograftError
from ...proto.peer_frames import FrameType, PeerFrameError, encode_frame
from .protocol import SPOKEN, ProtocolRange, Speaker, nothing_in_common

HANDSHAKE_BYTES_MAX = 16 << 10
"""Received by one side before the handshake is over."""
NONCE_BYTES = 32
WHY_CHARACTERS_MAX = 2000

_Words = TypeVar("_Words")
_Name = Annotated[str, Meta(max_length=64)]
_Text = Annotated[str, Meta(max_length=300)]
_Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_Proof = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Version = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class LinkKind(IntEnum):
    """Each pair of brokers has one connection of each kind: what is short and urgent is never behind what is long."""

    CONTROL = 0
    BULK = 1


class PeerIdentity(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who a broker process is, and where it can be reached: the first sighting of it."""

    cluster_id: _Name | None
    """None before the cluster is formed or adopted."""
    broker_id: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    directory_id: Annotated[str, Meta(min_length=1, max_length=64)]
    start_number: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    """Raised in the data directory, durably, before this process said its first word."""
    version: _Name
    rack: _Text = ""
    grpc_address: _Text = ""
    peer_address: _Text = ""
    http_address: _Text = ""
    process_nonce: Annotated[str, Meta(min_length=8, max_length=64)] = msgspec.field(
        default_factory=lambda: secrets.token_hex(16)
    )
    """Drawn by each process: two processes on copies of one directory may have the same start number."""
    kafka_address: _Text = ""
    """Last, as what a handshake says only ever grows at its end; empty where there is no such door."""

    def __str__(self) -> str:
        return f"broker {self.broker_id} (directory {self.directory_id[:8]}, start {self.start_number})"


class Refusal(IntEnum):
    """Why one side will not talk to the other."""

    PROTOCOL = 1
    """No version of the peer protocol is spoken by both."""
    CLUSTER = 2
    BROKER = 3
    """Not the broker that was dialled."""
    SELF = 4
    """The broker itself, or one that goes by its number."""
    PROOF = 5
    """Not the same secret."""
    SUPERSEDED = 6
    """The same data directory runs in a newer process, or in a second one: the process told so must end."""
    TAKEN = 7
    """Another data directory is in session under this broker id."""
    CONNECTED = 8
    """There is a session already, dialled from the other side."""
    MALFORMED = 9


class HandshakeRefused(LograftError):
    """The handshake ended in a refusal, of ours or of theirs. `proved`: the other side knows the secret."""

    reason, grpc_status, kafka_code, retriable = "PEER_REFUSED", "PERMISSION_DENIED", 29, False

    def __init__(self, refusal: Refusal, why: str, *, by_peer: bool, proved: bool) -> None:
        super().__init__(why, refusal=refusal.name)
        self.refusal, self.by_peer, self.proved = refusal, by_peer, proved

    @property
    def supersedes_us(self) -> bool:
        """Must this process end? Its data directory runs in another one."""
        return self.by_peer and self.proved and self.refusal is Refusal.SUPERSEDED


class _Versions(msgspec.Struct, frozen=True, array_like=True):
    """What the words of both sides begin with, in every release to come."""

    lowest: _Version
    highest: _Version

    @property
    def spoken(self) -> ProtocolRange:
        return ProtocolRange(self.lowest, self.highest)


class _Hello(_Versions, frozen=True, array_like=True):
    identity: PeerIdentity
    kind: LinkKind
    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    """Drawn by the dialler; the two links of one session carry the same."""
    expected_broker_id: Annotated[int, Meta(ge=-1, le=2**31 - 1)]
    """Whom the dialler means to reach."""
    nonce: _Nonce


class _Challenge(_Versions, frozen=True, array_like=True):
    identity: PeerIdentity
    nonce: _Nonce


class _Proved(msgspec.Struct, frozen=True, array_like=True):
    words: Annotated[bytes, Meta(max_length=8 << 10)]
    """An encoded _Challenge; empty in PROOF."""
    proof: _Proof


class _Refused(msgspec.Struct, frozen=True, array_like=True):
    refusal: int
    why: Annotated[str, Meta(max_length=WHY_CHARACTERS_MAX)]
    proof: bytes
    """Empty where there was nothing yet to prove it by."""


class Directories:
    """The newest process seen of each data directory. Lives as long as this process.

    Raises HandshakeRefused(SUPERSEDED) for one that is no longer, or cannot be, the only one.
    """

    def __init__(self, own: PeerIdentity) -> None:
        self._newest: dict[str, tuple[int, str]] = {own.directory_id: (own.start_number, own.process_nonce)}

    def check(self, peer: PeerIdentity) -> None:
        newest = self._newest.get(peer.directory_id)
        if newest is None:
            return
        start_number, process_nonce = newest
        if peer.start_number < start_number:
            raise _refusal(
                Refusal.SUPERSEDED,
                f"this data directory runs twice: {peer} was superseded by its start {start_number}",
            )
        if peer.start_number == start_number and peer.process_nonce != process_nonce:
            raise _refusal(
                Refusal.SUPERSEDED,
                f"this data directory runs twice: {peer} is a second process of the same start number",
            )

    def note(self, peer: PeerIdentity) -> None:
        """Remember a peer that proved who it is. Whoever it supersedes is refused from now on."""
        self._newest[peer.directory_id] = (peer.start_number, peer.process_nonce)


class _Side(ABC):
    """What both sides of a handshake share. `receive` returns what to send; `peer` is set once all is proved."""

    _role: bytes
    _peer_role: bytes

    def __init__(self, identity: PeerIdentity, secret: bytes, directories: Directories, spoken: ProtocolRange) -> None:
        self.identity = identity
        self.spoken = spoken
        self.peer: PeerIdentity | None = None
        """The other side, once it has proved who it is."""
        self.peer_spoken: ProtocolRange | None = None
        """What the other side says it speaks."""
        self._secret = secret
        self._directories = directories
        self._hello = b""
        self._challenge = b""

    @property
    def is_over(self) -> bool:
        return self.peer is not None

    @property
    def protocol(self) -> int:
        """The version that both sides use, once the handshake is over."""
        assert self.peer is not None and self.peer_spoken is not None, "agreed before the handshake was over"
        common = self.spoken.common(self.peer_spoken)
        assert common is not None, f"admitted {self.peer}, which speaks {self.peer_spoken}, not {self.spoken}"
        return common

    @property
    @abstractmethod
    def claimed_broker_id(self) -> int | None:
        """Who the other side says it is, proved or not."""

    def refuse(self, refused: HandshakeRefused) -> list[Buffer]:
        """The frame that tells the other side, proved if the words for a proof are there and it proved itself too.

        To one who has not proved that it knows the secret, no proof is given: it could be used to tell another one.
        """
        proof = b""
        why = refused.message[:WHY_CHARACTERS_MAX]
        if refused.proved and self._secret:
            proof = self._proof_of(self._role + b" refuses", bytes([refused.refusal]) + why.encode())
        return encode_frame(FrameType.REFUSED, msgspec.msgpack.encode(_Refused(refused.refusal, why, proof)))

    def _proof_of(self, role: bytes, more: bytes = b"") -> bytes:
        code = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in (b"lograft peer link", role, self._hello, self._challenge, more):
            code.update(len(part).to_bytes(4, "big"))
            code.update(part)
        return code.digest()

    def _check_proof(self, proof: bytes) -> None:
        if not self._secret:
            raise _refusal(
                Refusal.PROOF, f"broker {self.identity.broker_id} has no cluster secret, and speaks to no other"
            )
        if not hmac.compare_digest(proof, self._proof_of(self._peer_role)):
            raise _refusal(Refusal.PROOF, "the cluster secret is not the same on both sides")

    def _check_identity(self, peer: PeerIdentity) -> None:
        """After the proof: whether we want to talk to this one."""
        own = self.identity
        if own.cluster_id and peer.cluster_id and own.cluster_id != peer.cluster_id:
            raise _refusal(
                Refusal.CLUSTER,
                f"broker {own.broker_id} belongs to cluster {own.cluster_id}, "
                f"broker {peer.broker_id} to cluster {peer.cluster_id}",
                proved=True,
            )
        if peer.process_nonce == own.process_nonce:
            raise _refusal(Refusal.SELF, f"broker {own.broker_id} has dialled itself", proved=True)
        try:
            self._directories.check(peer)
        except HandshakeRefused as refused:
            refused.proved = True
            raise
        if peer.broker_id == own.broker_id and peer.directory_id != own.directory_id:
            raise _refusal(
                Refusal.SELF,
                f"broker id {own.broker_id} runs twice: "
                f"in data directory {own.directory_id[:8]} and in {peer.directory_id[:8]}",
                proved=True,
            )

    def _check_spoken(self, peer: PeerIdentity, spoken: ProtocolRange) -> None:
        """After all else: a process that is superseded, or in the wrong cluster, is told so whatever it speaks."""
        if self.spoken.common(spoken) is None:
            one = Speaker(self.identity.broker_id, self.identity.version, self.spoken)
            other = Speaker(peer.broker_id, peer.version, spoken)
            raise _refusal(Refusal.PROTOCOL, nothing_in_common(one, other), proved=True)

    def _refused_by_peer(self, body: Buffer) -> HandshakeRefused:
        refused = _decode(body, _Refused)
        try:
            refusal = Refusal(refused.refusal)
        except ValueError:
            refusal = Refusal.MALFORMED
        expected = self._proof_of(self._peer_role + b" refuses", bytes([refused.refusal & 0xFF]) + refused.why.encode())
        proved = bool(self._secret) and hmac.compare_digest(refused.proof, expected)
        return HandshakeRefused(refusal, refused.why, by_peer=True, proved=proved)


class Dialler(_Side):
    """The side that made the connection. Send `hello` first."""

    _role, _peer_role = b"dialler", b"acceptor"

    def __init__(
        self,
        identity: PeerIdentity,
        secret: bytes,
        directories: Directories,
        *,
        kind: LinkKind,
        session: bytes,
        expected_broker_id: int,
        nonce: bytes | None = None,
        spoken: ProtocolRange = SPOKEN,
    ) -> None:
        super().__init__(identity, secret, directories, spoken)
        self.kind, self.session = kind, session
        self._expected = expected_broker_id
        nonce = nonce or secrets.token_bytes(NONCE_BYTES)
        self._hello = msgspec.msgpack.encode(_Hello(*spoken, identity, kind, session, expected_broker_id, nonce))
        self._claimed: PeerIdentity | None = None

    @property
    def claimed_broker_id(self) -> int | None:
        return self._expected if self._expected >= 0 else None if self._claimed is None else self._claimed.broker_id

    def hello(self) -> list[Buffer]:
        return encode_frame(FrameType.HELLO, self._hello)

    def receive(self, frame_type: FrameType, body: Buffer) -> list[Buffer]:
        """Take one frame. Raises PeerFrameError, HandshakeRefused (`refuse` tells the other side, unless `by_peer`)."""
        if frame_type is FrameType.REFUSED:
            raise self._refused_by_peer(body)
        if frame_type is FrameType.CHALLENGE and self._claimed is None:
            return self._answer(body)
        if frame_type is FrameType.WELCOME and self._claimed is not None:
            assert self.peer_spoken is not None, "what is spoken is said in the words that say who speaks"
            self._check_spoken(self._claimed, self.peer_spoken)
            self._directories.note(self._claimed)
            self.peer = self._claimed
            return []
        raise PeerFrameError(f"a frame of type {frame_type.name} has no place here in the handshake")

    def _answer(self, body: Buffer) -> list[Buffer]:
        proved = _decode(body, _Proved)
        challenge = _decode(proved.words, _Challenge)
        self._challenge = proved.words
        self._check_proof(proved.proof)
        peer = challenge.identity
        self._check_identity(peer)
        self.peer_spoken = challenge.spoken
        if self._expected not in (-1, peer.broker_id):
            raise _refusal(
                Refusal.BROKER,
                f"dialled broker {self._expected}, but broker {peer.broker_id} answered there",
                proved=True,
            )
        self._claimed = peer
        return encode_frame(FrameType.PROOF, msgspec.msgpack.encode(_Proved(b"", self._proof_of(self._role))))


class Acceptor(_Side):
    """The side that was connected to. Nothing that the other one says is believed before its PROOF."""

    _role, _peer_role = b"acceptor", b"dialler"

    def __init__(
        self,
        identity: PeerIdentity,
        secret: bytes,
        directories: Directories,
        *,
        nonce: bytes | None = None,
        spoken: ProtocolRange = SPOKEN,
    ) -> None:
        super().__init__(identity, secret, directories, spoken)
        self._nonce = nonce or secrets.token_bytes(NONCE_BYTES)
        self._claimed: _Hello | None = None

    @property
    def claimed_broker_id(self) -> int | None:
        return None if self._claimed is None else self._claimed.identity.broker_id

    @property
    def kind(self) -> LinkKind:
        assert self._claimed is not None, "the kind of a link is known with its HELLO"
        return self._claimed.kind

    @property
    def session(self) -> bytes:
        assert self._claimed is not None, "the session of a link is known with its HELLO"
        return self._claimed.session

    def receive(self, frame_type: FrameType, body: Buffer) -> list[Buffer]:
        """Take one frame. Raises PeerFrameError, HandshakeRefused (`refuse` tells the other side, unless `by_peer`).

        When `is_over`, the caller says `welcome` or refuses: whether there is room for the session is for it to know.
        """
        if frame_type is FrameType.REFUSED:
            raise self._refused_by_peer(body)
        if frame_type is FrameType.HELLO and self._claimed is None:
            return self._challenge_with(body)
        if frame_type is FrameType.PROOF and self._claimed is not None:
            self._believe(self._claimed, body)
            return []
        raise PeerFrameError(f"a frame of type {frame_type.name} has no place here in the handshake")

    def welcome(self) -> list[Buffer]:
        return encode_frame(FrameType.WELCOME)

    def _challenge_with(self, body: Buffer) -> list[Buffer]:
        try:
            hello = _decode(body, _Hello)
        except PeerFrameError:
            spoken = _decode(body, _Versions).spoken
            if self.spoken.common(spoken) is not None:
                raise
            raise _refusal(
                Refusal.PROTOCOL,
                f"broker {self.identity.broker_id} (lograft {self.identity.version}) speaks peer protocol "
                f"{self.spoken}, the other side speaks {spoken}: upgrade whichever is older",
            ) from None
        if not self._secret:
            raise _refusal(
                Refusal.PROOF, f"broker {self.identity.broker_id} has no cluster secret, and speaks to no other"
            )
        self._hello = bytes(body)
        self._challenge = msgspec.msgpack.encode(_Challenge(*self.spoken, self.identity, self._nonce))
        self._claimed = hello
        words = _Proved(self._challenge, self._proof_of(self._role))
        return encode_frame(FrameType.CHALLENGE, msgspec.msgpack.encode(words))

    def _believe(self, hello: _Hello, body: Buffer) -> None:
        self._check_proof(_decode(body, _Proved).proof)
        if hello.expected_broker_id not in (-1, self.identity.broker_id):
            raise _refusal(
                Refusal.BROKER,
                f"dialled broker {hello.expected_broker_id}, but this is broker {self.identity.broker_id}",
                proved=True,
            )
        self._check_identity(hello.identity)
        self._check_spoken(hello.identity, hello.spoken)
        self.peer_spoken = hello.spoken
        self._directories.note(hello.identity)
        self.peer = hello.identity


def superseded(old: PeerIdentity, new: PeerIdentity) -> HandshakeRefused:
    """What the old process is told when a newer one of its data directory has come."""
    return _refusal(
        Refusal.SUPERSEDED,
        f"this data directory runs twice: {old} was superseded by its start {new.start_number}",
        proved=True,
    )


def decode_refused(body: Buffer) -> tuple[int, str]:
    """Refusal number and words of a REFUSED frame on a link whose handshake is over. Raises PeerFrameError."""
    refused = _decode(body, _Refused)
    return refused.refusal, refused.why


def _refusal(refusal: Refusal, why: str, *, proved: bool = False) -> HandshakeRefused:
    return HandshakeRefused(refusal, why, by_peer=False, proved=proved)


def _decode(body: Buffer, kind: type[_Words]) -> _Words:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except UNDECODABLE as error:
        raise PeerFrameError(f"a frame of the handshake is wrong: {error}") from None
