from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
from lograft.node.peer.protocol import ProtocolRange
from lograft.proto.errors import LograftError
from lograft.proto.peer_frames import FrameReader, FrameType, PeerFrameError

SECRET = b"correct horse battery staple"
SESSION = bytes(range(16))


def an_identity(broker_id: int, **changes: Any) -> PeerIdentity:
    facts = {"cluster_id": None, "directory_id": f"{broker_id:032x}", "start_number": 5, "version": "0.1.0"} | changes
    return PeerIdentity(broker_id=broker_id, **facts)


def a_dialler(identity: PeerIdentity, *, expected: int = 1, secret: bytes = SECRET, **more: Any) -> Dialler:
    return Dialler(
        identity,
        secret,
        more.pop("directories", Directories(identity)),
        kind=LinkKind.BULK,
        session=SESSION,
        expected_broker_id=expected,
        **more,
    )


def an_acceptor(identity: PeerIdentity, *, secret: bytes = SECRET, **more: Any) -> Acceptor:
    return Acceptor(identity, secret, more.pop("directories", Directories(identity)), **more)


def frames(buffers: Sequence[Any]) -> list[tuple[FrameType, bytes]]:
    return [(kind, bytes(body)) for kind, body in FrameReader().feed(b"".join(buffers))]


def converse(dialler: Dialler, acceptor: Acceptor) -> None:
    """Let both talk until it is over. Raises what one of them raises, once the other has been told."""
    to_acceptor = frames(dialler.hello())
    while True:
        to_dialler = hand_over(to_acceptor, acceptor, dialler)
        if acceptor.is_over:
            to_dialler = frames(acceptor.welcome())
        to_acceptor = hand_over(to_dialler, dialler, acceptor)
        if dialler.is_over:
            return


def hand_over(
    arrived: list[tuple[FrameType, bytes]], receiver: Dialler | Acceptor, sender: Dialler | Acceptor
) -> list[tuple[FrameType, bytes]]:
    try:
        return [frame for kind, body in arrived for frame in frames(receiver.receive(kind, body))]
    except HandshakeRefused as refused:
        if refused.by_peer:
            raise
        with pytest.raises(HandshakeRefused) as told:
            for kind, body in frames(receiver.refuse(refused)):
                sender.receive(kind, body)
        assert told.value.by_peer and told.value.refusal is refused.refusal
        assert str(told.value) == str(refused)
        refused.told = told.value  # type: ignore[attr-defined]
        raise


def refusal_between(dialler: Dialler, acceptor: Acceptor) -> tuple[HandshakeRefused, HandshakeRefused]:
    """The refusal as the refusing side and as the refused side sees it."""
    with pytest.raises(HandshakeRefused) as refused:
        converse(dialler, acceptor)
    assert not dialler.is_over, "nobody is in session after a refusal"
    return refused.value, refused.value.told  # type: ignore[attr-defined]


def test_both_sides_learn_who_the_other_is() -> None:
    first, second = an_identity(1, cluster_id="c", rack="a"), an_identity(2, grpc_address="host:9600")
    dialler, acceptor = a_dialler(second), an_acceptor(first)
    converse(dialler, acceptor)
    assert (dialler.peer, acceptor.peer) == (first, second)
    assert (acceptor.kind, acceptor.session) == (LinkKind.BULK, SESSION)


@pytest.mark.parametrize(
    ("dialler", "acceptor", "refusal", "words"),
    [
        (
            a_dialler(an_identity(2, cluster_id="x")),
            an_acceptor(an_identity(1, cluster_id="y")),
            Refusal.CLUSTER,
            "cluster",
        ),
        (a_dialler(an_identity(2), expected=3), an_acceptor(an_identity(1)), Refusal.BROKER, "dialled broker 3"),
        (
            a_dialler(an_identity(1)),
            an_acceptor(an_identity(1, directory_id="f")),
            Refusal.SELF,
            "broker id 1 runs twice",
        ),
        (a_dialler(an_identity(2), secret=b"another"), an_acceptor(an_identity(1)), Refusal.PROOF, "secret"),
        (a_dialler(an_identity(2), secret=b""), an_acceptor(an_identity(1)), Refusal.PROOF, "no cluster secret"),
        (a_dialler(an_identity(2)), an_acceptor(an_identity(1), secret=b""), Refusal.PROOF, "no cluster secret"),
        (
            a_dialler(an_identity(2), secret=b""),
            an_acceptor(an_identity(1), secret=b""),
            Refusal.PROOF,
            "no cluster secret",
        ),
        (a_dialler(same := an_identity(1)), an_acceptor(same), Refusal.SELF, "dialled itself"),
    ],
)
def test_who_does_not_belong_is_refused_and_told_why(
    dialler: Dialler, acceptor: Acceptor, refusal: Refusal, words: str
) -> None:
    refused, told = refusal_between(dialler, acceptor)
    assert refused.refusal is refusal and words in str(refused)
    assert not told.supersedes_us


def test_both_clusters_are_named() -> None:
    refused, _ = refusal_between(
        a_dialler(an_identity(2, cluster_id="their-cluster")), an_acceptor(an_identity(1, cluster_id="our-cluster"))
    )
    assert "their-cluster" in str(refused) and "our-cluster" in str(refused)


@pytest.mark.parametrize("seen", [an_identity(2, start_number=6), an_identity(2, start_number=5)])
def test_superseded_dialler_is_told_so_in_a_way_that_it_can_believe(seen: PeerIdentity) -> None:
    own = an_identity(1)
    directories = Directories(own)
    directories.note(seen)
    refused, told = refusal_between(a_dialler(an_identity(2)), an_acceptor(own, directories=directories))
    assert refused.refusal is Refusal.SUPERSEDED and "this data directory runs twice" in str(refused)
    assert told.supersedes_us


def test_superseded_acceptor_is_told_so_in_a_way_that_it_can_believe() -> None:
    own = an_identity(2)
    directories = Directories(own)
    directories.note(an_identity(1, start_number=6))
    _, told = refusal_between(a_dialler(own, directories=directories), an_acceptor(an_identity(1)))
    assert told.supersedes_us


def test_older_process_of_our_own_directory_ends_and_we_do_not() -> None:
    older, newer = an_identity(1, start_number=5), an_identity(1, start_number=6)
    refused, told = refusal_between(a_dialler(older), an_acceptor(newer))
    assert refused.refusal is Refusal.SUPERSEDED and told.supersedes_us and not refused.supersedes_us


def test_newer_start_of_a_directory_is_welcome_and_so_is_the_same_process_again() -> None:
    own = an_identity(1)
    directories = Directories(own)
    for peer in (an_identity(2, start_number=5), again := an_identity(2, start_number=6), again):
        converse(a_dialler(peer), an_acceptor(own, directories=directories))
    with pytest.raises(HandshakeRefused):
        directories.check(an_identity(2, start_number=5))


def test_superseded_said_by_one_who_does_not_know_the_secret_ends_nobody() -> None:
    dialler = a_dialler(an_identity(2))
    stranger = an_acceptor(an_identity(1), secret=b"a guess")
    frames(dialler.hello())
    lie = HandshakeRefused(Refusal.SUPERSEDED, "end yourself", by_peer=False, proved=True)
    for kind, body in frames(stranger.refuse(lie)):
        with pytest.raises(HandshakeRefused) as told:
            dialler.receive(kind, body)
        assert not told.value.supersedes_us


def test_proof_of_another_conversation_is_worth_nothing() -> None:
    second = an_identity(2)
    dialler, acceptor = a_dialler(second), an_acceptor(an_identity(1))
    challenge = [frame for kind, body in frames(dialler.hello()) for frame in frames(acceptor.receive(kind, body))]
    ((_, overheard),) = [frame for kind, body in challenge for frame in frames(dialler.receive(kind, body))]
    again, other = a_dialler(second), an_acceptor(an_identity(1))
    for kind, body in frames(again.hello()):
        other.receive(kind, body)
    with pytest.raises(HandshakeRefused, match="not the same"):
        other.receive(FrameType.PROOF, overheard)
    assert other.peer is None


def test_acceptors_own_proof_sent_back_to_it_is_worth_nothing() -> None:
    dialler, acceptor = a_dialler(an_identity(2)), an_acceptor(an_identity(1))
    challenge = [frame for kind, body in frames(dialler.hello()) for frame in frames(acceptor.receive(kind, body))]
    with pytest.raises(HandshakeRefused):
        acceptor.receive(FrameType.PROOF, challenge[0][1])
    assert acceptor.peer is None


def test_another_protocol_is_named_whatever_else_its_hello_holds() -> None:
    acceptor = an_acceptor(an_identity(1))
    with pytest.raises(HandshakeRefused, match="the other side speaks 7 to 9") as refused:
        acceptor.receive(FrameType.HELLO, msgspec.msgpack.encode([7, 9, "what"]))
    assert not refused.value.proved
    ((kind, body),) = frames(acceptor.refuse(refused.value))
    assert kind is FrameType.REFUSED and decode_refused(body)[0] == Refusal.PROTOCOL


@pytest.mark.parametrize(
    ("dialler", "acceptor", "protocol"),
    [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((4, 4), (1, 4), 4), ((1, 9), (3, 4), 4)],
)
def test_both_sides_use_the_highest_version_that_both_speak(
    dialler: tuple[int, int], acceptor: tuple[int, int], protocol: int
) -> None:
    one = a_dialler(an_identity(2), spoken=ProtocolRange(*dialler))
    other = an_acceptor(an_identity(1), spoken=ProtocolRange(*acceptor))
    converse(one, other)
    assert one.protocol == other.protocol == protocol
    assert (one.peer_spoken, other.peer_spoken) == (acceptor, dialler)


@pytest.mark.parametrize(("older", "newer"), [((1, 2), (3, 4)), ((1, 1), (2, 9))])
@pytest.mark.parametrize("newer_dials", [True, False])
def test_without_a_common_version_both_sides_say_which_ones_each_speaks_and_what_to_do(
    older: tuple[int, int], newer: tuple[int, int], newer_dials: bool
) -> None:
    new, old = an_identity(2, version="0.9.0"), an_identity(1, version="0.1.0")
    if newer_dials:
        dialler = a_dialler(new, spoken=ProtocolRange(*newer))
        acceptor = an_acceptor(old, spoken=ProtocolRange(*older))
    else:
        dialler = a_dialler(old, spoken=ProtocolRange(*older), expected=2)
        acceptor = an_acceptor(new, spoken=ProtocolRange(*newer))
    refused, told = refusal_between(dialler, acceptor)
    assert refused.refusal is told.refusal is Refusal.PROTOCOL
    assert refused.proved and told.proved, "who does not know the secret could say it, and health would repeat it"
    for words in (
        f"broker 2 (lograft 0.9.0) speaks peer protocol {ProtocolRange(*newer)}",
        f"broker 1 (lograft 0.1.0) speaks {ProtocolRange(*older)}",
        f"upgrade broker 1 to a release that speaks {newer[0]}",
    ):
        assert words in str(refused)


def test_superseded_process_is_told_so_whatever_version_it_speaks() -> None:
    own = an_identity(1)
    directories = Directories(own)
    directories.note(an_identity(2, start_number=6))
    _, told = refusal_between(
        a_dialler(an_identity(2), spoken=ProtocolRange(7, 7)), an_acceptor(own, directories=directories)
    )
    assert told.supersedes_us


def longer(words: bytes, *, identity_at: int | None = None) -> bytes:
    """The same words as a later version might say them: with more at the end, of the identity in them too."""
    fields = msgspec.msgpack.decode(words)
    if identity_at is not None:
        fields[identity_at] += ["a field of the identity", {"to": "come"}]
    return msgspec.msgpack.encode([*fields, "more", {"of": "it"}])


def test_what_a_later_version_adds_at_the_end_of_its_words_is_passed_over_and_proved_with_the_rest() -> None:
    dialler, acceptor = a_dialler(an_identity(2)), an_acceptor(an_identity(1))
    dialler._hello = longer(dialler._hello, identity_at=2)
    ((kind, body),) = frames(dialler.hello())
    ((kind, _),) = frames(acceptor.receive(kind, body))
    acceptor._challenge = longer(acceptor._challenge, identity_at=2)
    proof = acceptor._proof_of(acceptor._role)
    ((kind, body),) = frames(dialler.receive(kind, longer(msgspec.msgpack.encode([acceptor._challenge, proof]))))
    acceptor.receive(kind, longer(body))
    dialler.receive(FrameType.WELCOME, b"more")
    assert acceptor.peer == dialler.identity and dialler.peer == acceptor.identity


def test_nobody_in_between_can_have_an_older_version_used() -> None:
    both = ProtocolRange(1, 2)
    dialler, acceptor = a_dialler(an_identity(2), spoken=both), an_acceptor(an_identity(1), spoken=both)
    ((kind, body),) = frames(dialler.hello())
    lowered = msgspec.msgpack.encode([1, 1, *msgspec.msgpack.decode(body)[2:]])
    ((kind, challenge),) = frames(acceptor.receive(kind, lowered))
    with pytest.raises(HandshakeRefused, match="not the same"):
        dialler.receive(kind, challenge)


@pytest.mark.parametrize("kind", [kind for kind in FrameType if kind is not FrameType.HELLO])
def test_nothing_but_a_hello_opens_a_conversation(kind: FrameType) -> None:
    with pytest.raises(PeerFrameError):
        an_acceptor(an_identity(1)).receive(kind, b"")
    with pytest.raises(PeerFrameError):
        a_dialler(an_identity(2)).receive(kind, b"")


@settings(deadline=None)  # a busy machine is no mistake
@given(st.data(), st.binary(max_size=200))
def test_garbage_and_flipped_bits_are_refused_and_never_believed(data: st.DataObject, garbage: bytes) -> None:
    nonce = bytes(32)
    dialler = a_dialler(an_identity(2, process_nonce="n" * 16), nonce=nonce)
    acceptor = an_acceptor(an_identity(1, process_nonce="m" * 16), nonce=nonce)
    changed = data.draw(st.integers(0, 2))

    def spoil(number: int, body: bytes) -> bytes:
        if number != changed:
            return body
        if data.draw(st.booleans()):
            return garbage
        spoiled = bytearray(body)
        spoiled[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        return bytes(spoiled)

    try:
        ((kind, hello),) = frames(dialler.hello())
        ((kind, challenge),) = frames(acceptor.receive(kind, spoil(0, hello)))
        ((kind, proof),) = frames(dialler.receive(kind, spoil(1, challenge)))
        acceptor.receive(kind, spoil(2, proof))
    except LograftError:
        assert not acceptor.is_over and not dialler.is_over
    else:
        # Only bytes that say the same in another way can get here: a proof is over the words as they were sent.
        assert changed == 2 and acceptor.peer == dialler.identity


def test_identity_shows_who_it_is_without_its_nonce() -> None:
    assert str(an_identity(2)) == "broker 2 (directory 00000000, start 5)"
