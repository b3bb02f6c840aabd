"""Links over real sockets on this machine, under both event loops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
import uvloop
from lograft.node.config import PeerSection
from lograft.node.peer.handshake import HANDSHAKE_BYTES_MAX, PeerIdentity
from lograft.node.peer.protocol import ProtocolRange
from lograft.node.peer.session import PeerSession
from lograft.proto.errors import (
    BrokerUnavailable,
    InvalidConfig,
    InvalidRequest,
    LograftError,
    Overloaded,
    RequestTimedOut,
    UnknownOutcome,
)
from lograft.proto.peer_frames import FrameType, PeerFrameError, encode_frame

from tests.unit.peer.brokers import PATIENCE_S, QUICK, Broker, Brokers

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a conversation to its end, on one of the loops that a broker may have."""

    def within_bounds(conversation: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(4 * PATIENCE_S):
                await conversation

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return within_bounds


async def say(address: str, words: bytes) -> bytes:
    """Connect like anybody could, say `words`, and return all that is answered until the other side closes."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(words)
    try:
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
        return b""
    finally:
        writer.close()


def test_brokers_that_know_each_other_are_in_session_once_and_say_so_on_both_sides(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            # On a busy machine a handshake can outlast QUICK's patience, and then the smaller broker id dials as well.
            patient = msgspec.structs.replace(QUICK, reconnect_ms_max=4000)
            three = [await brokers.start(broker_id, rack=f"r{broker_id}", config=patient) for broker_id in (1, 2, 3)]
            for one in three:
                for other in three:
                    one.links.know(other.broker_id, other.address)
            for one in three:
                await one.until(lambda one=one: len(one.up) >= 2)
                assert [session.broker_id for session in one.links.sessions] == [
                    other.broker_id for other in three if other is not one
                ]
            session = three[0].links.session(2)
            assert session is not None
            assert (session.peer.rack, session.peer.directory_id) == ("r2", f"{2:032x}")
            assert not session.dialled, "the larger broker id dials"
            assert not any(one.down for one in three)

    run(conversation())


def test_frames_arrive_whole_in_order_and_on_both_links(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            large = bytes(range(256)) * (1 << 12)
            for number in range(50):
                assert first.links.send_bulk(2, FrameType.RAFT, b"%02d" % number, memoryview(large))
                assert first.links.send_control(2, FrameType.HEARTBEAT, b"%02d" % number)
            await second.until(lambda: len(second.frames) == 100)
            bulk = [body for _, frame_type, body in second.frames if frame_type is FrameType.RAFT]
            control = [body for _, frame_type, body in second.frames if frame_type is FrameType.HEARTBEAT]
            assert bulk == [b"%02d" % number + large for number in range(50)]
            assert control == [b"%02d" % number for number in range(50)]
            assert {broker_id for broker_id, _, _ in second.frames} == {1}

    run(conversation())


def test_frame_sent_in_session_up_reaches_the_other_side_after_its_own_session_up(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.start(1), await brokers.start(2)
            for broker, other in ((first, 2), (second, 1)):
                told = broker.links._handlers.session_up

                def greet(session: Any, broker: Any = broker, other: int = other, told: Any = told) -> None:
                    told(session)
                    assert broker.links.send_bulk(other, FrameType.RAFT, b"first word")
                    assert broker.links.send_control(other, FrameType.BOARD, b"first word")

                broker.session_up = greet
            second.links.know(1, first.address)
            await first.until(lambda: len(first.frames) == 2)
            await second.until(lambda: len(second.frames) == 2)

    run(conversation())


def test_lost_process_is_noticed_at_once_and_dialled_until_it_is_back(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            address = first.address
            # What the system does for a killed process: its sockets are closed without a word.
            await first.links.stop()
            await second.until(lambda: second.down)
            assert second.down[0][0] == 1 and second.links.session(1) is None
            assert not second.links.send_bulk(1, FrameType.RAFT, b"too late")
            again = await brokers.start(1, start_number=2)
            second.links.know(1, again.address)
            assert address != again.address
            await second.until(lambda: len(second.up) == 2)
            assert second.up[1].peer.start_number == 2
            assert second.up[1].number > second.up[0].number

    run(conversation())


@pytest.mark.parametrize("kind", ["control", "bulk"])
def test_session_ends_on_both_sides_when_either_link_is_lost_and_another_begins(run: Run, kind: str) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            getattr(first.up[0], kind)._transport.abort()
            await first.until(lambda: first.down and len(first.up) == 2)
            await second.until(lambda: second.down and len(second.up) == 2)
            assert len(first.down) == len(second.down) == 1
            assert not first.up[0].is_live and first.up[1].is_live

    run(conversation())


@pytest.mark.parametrize("kind", ["control", "bulk"])
def test_pair_is_not_heard_while_one_link_is_silent_and_its_session_ends(run: Run, kind: str) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            patient = PeerSection(heartbeat_interval_ms=20, silence_ms_max=60_000)
            impatient = PeerSection(heartbeat_interval_ms=20, silence_ms_max=300)
            first, second = await brokers.start(1, config=patient), await brokers.start(2, config=impatient)
            second.links.know(1, first.address)
            await second.until(lambda: second.up)
            await first.until(lambda: first.up)
            session = second.up[0]
            silent = getattr(first.up[0], kind)
            silent._transport.pause_reading()  # the other side hears nothing, and nothing is closed
            await second.until(lambda: second.down)
            assert f"the {kind} link has not answered" in second.down[0][1]
            other = session.bulk if kind == "control" else session.control
            assert session.heard_ms < other.answered_ms, "heard means that both links answered"

    run(conversation())


def test_links_full_of_records_still_answer_pings(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            session = first.up[0]
            began = session.bulk.answered_ms
            block = bytes(1 << 20)
            while first.links.send_bulk(2, FrameType.RAFT, block):
                pass
            waiting = session.bulk.waiting_bytes
            assert waiting > QUICK.bulk_bytes_max - (2 << 20), "the bound is there to be used"
            pong_before_the_end = asyncio.Event()
            take = first.links._take_frame

            def watch(session: Any, connection: Any, frame_type: FrameType, body: memoryview) -> None:
                take(session, connection, frame_type, body)
                if frame_type is FrameType.PONG and connection is session.bulk and connection.waiting_bytes:
                    pong_before_the_end.set()

            first.links._take_frame = watch
            await second.until(lambda: len(second.frames) >= waiting >> 20)
            assert pong_before_the_end.is_set() or session.bulk.answered_ms > began
            assert not first.down and not second.down

    run(conversation())


def test_bulk_beyond_its_bound_is_dropped_while_control_goes_through(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            second.up[0].bulk._transport.pause_reading()
            sent = 0
            while first.links.send_bulk(2, FrameType.RAFT, bytes(1 << 20)):
                sent += 1
            assert sent << 20 <= QUICK.bulk_bytes_max
            assert first.links.send_control(2, FrameType.HEARTBEAT, b"still here")
            await second.until(lambda: (1, FrameType.HEARTBEAT, b"still here") in second.frames)

    run(conversation())


def test_session_ends_when_its_control_link_cannot_be_written(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            second.up[0].control._transport.pause_reading()
            while first.links.send_control(2, FrameType.BOARD, bytes(1 << 20)):
                pass
            assert "wait on the control link" in first.down[0][1]

    run(conversation())


def test_call_brings_back_the_answer_or_the_very_error_that_the_other_side_raised(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            assert await first.links.call(2, "greet", b"hello", timeout_ms=1000) == b"1 greet hello"
            large = bytes(1 << 20)
            assert await second.links.call(1, "large", large, timeout_ms=1000) == b"2 large " + large
            with pytest.raises(InvalidRequest, match="not like this") as refused:
                await first.links.call(2, "refuse", timeout_ms=1000)
            assert refused.value.facts == {"limit": "7"}
            with pytest.raises(LograftError, match="ZeroDivisionError") as broken:
                await first.links.call(2, "break", timeout_ms=1000)
            assert "a mistake of ours" not in str(broken.value)
            assert any(event == "peer.call_failed" for event, _ in second.logged)
            answers = await asyncio.gather(*(first.links.call(2, str(n), timeout_ms=1000) for n in range(100)))
            assert answers == [f"1 {n} ".encode() for n in range(100)]

    run(conversation())


def test_call_fails_with_what_is_known_of_its_outcome(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            with pytest.raises(BrokerUnavailable, match="no link to broker 9"):
                await first.links.call(9, "greet", timeout_ms=1000)
            second.may_answer.clear()
            with pytest.raises(RequestTimedOut, match="did not answer greet"):
                await first.links.call(2, "greet", timeout_ms=30)
            call = asyncio.ensure_future(first.links.call(2, "greet", timeout_ms=10_000))
            await asyncio.sleep(0)  # it is on its way
            await second.links.stop()
            with pytest.raises(UnknownOutcome, match="link to broker 2 was lost"):
                await call

    run(conversation())


def test_calls_of_one_broker_are_bounded(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first = await brokers.start(1, config=PeerSection(calls_in_flight_max=3))
            second = await brokers.start(2)
            second.links.know(1, first.address)
            await second.until(lambda: second.up)
            first.may_answer.clear()
            calls = [asyncio.ensure_future(second.links.call(1, str(n), timeout_ms=2000)) for n in range(4)]
            with pytest.raises(Overloaded):
                await calls[3]
            first.may_answer.set()
            assert len(await asyncio.gather(*calls[:3])) == 3

    run(conversation())


def test_broker_whose_address_nobody_knows_joins_by_dialling(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            member, joiner = await brokers.start(7), await brokers.start(3, peer_address="127.0.0.1:1")
            joiner.links.know(7, member.address)  # the smaller id: by the rule it would wait to be dialled
            await member.until(lambda: member.up)
            assert member.links.session(3) is not None and not member.up[0].dialled
            assert member.links._addresses[3] == "127.0.0.1:1", "from now on it is known where the joiner is"

    run(conversation())


def test_brokers_that_dial_each_other_at_once_settle_on_one_session(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.start(1), await brokers.start(2)
            both = (first.links._dial(2, second.address), second.links._dial(1, first.address))
            await asyncio.gather(*both, return_exceptions=True)
            first.links.know(2, second.address)
            second.links.know(1, first.address)
            # Both may have come up for a moment; the one that the larger id dialled stays.
            await second.until(lambda: (session := second.links.session(1)) is not None and session.dialled)
            await first.until(lambda: (session := first.links.session(2)) is not None and not session.dialled)
            assert first.links.send_control(2, FrameType.BOARD, b"one")
            assert second.links.send_control(1, FrameType.BOARD, b"two")
            await first.until(lambda: (2, FrameType.BOARD, b"two") in first.frames)
            await second.until(lambda: (1, FrameType.BOARD, b"one") in second.frames)

    run(conversation())


def test_another_cluster_is_refused_and_both_are_named(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.start(1, cluster_id="aaaa"), await brokers.start(2, cluster_id="bbbb")
            second.links.know(1, first.address)
            await second.until(second.complaints)
            await first.until(first.complaints)
            for complaint in (first.complaints()[0], second.complaints()[0]):
                assert "aaaa" in complaint and "bbbb" in complaint
            assert not first.up and not second.up

    run(conversation())


def test_broker_without_a_cluster_meets_one_with_and_leaves_it_when_it_adopts_another(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.start(1), await brokers.start(2, cluster_id="bbbb")
            second.links.know(1, first.address)
            await first.until(lambda: first.up)
            first.links.set_cluster_id("bbbb")
            assert first.links.session(2) is not None
            first.links.set_cluster_id("cccc")
            assert first.down == [(2, "broker 2 belongs to cluster bbbb, we to cccc")]

    run(conversation())


def test_brokers_without_a_common_version_both_keep_why_until_one_of_them_was_upgraded(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            older = await brokers.start(1, spoken=ProtocolRange(1, 2), version="0.1.0")
            newer = await brokers.start(2, spoken=ProtocolRange(3, 4), version="0.9.0")
            newer.links.know(1, older.address)
            await newer.until(lambda: 1 in newer.links.incompatible)
            await older.until(lambda: 2 in older.links.incompatible)
            for broker, other in ((older, 2), (newer, 1)):
                why = broker.links.incompatible[other]
                assert "broker 2 (lograft 0.9.0) speaks peer protocol 3 to 4" in why and "upgrade broker 1" in why
                assert any(why in complaint for complaint in broker.complaints()), "the log says so too"
            await older.links.stop()
            upgraded = await brokers.start(1, spoken=ProtocolRange(2, 3), version="0.5.0", start_number=2)
            newer.links.know(1, upgraded.address)
            await newer.until(lambda: newer.up)
            await upgraded.until(lambda: upgraded.up)
            assert not newer.links.incompatible
            assert newer.up[0].protocol == upgraded.up[0].protocol == 3
            assert newer.up[0].peer_spoken == (2, 3)

    run(conversation())


def test_refused_version_is_forgotten_once_nobody_answers_there_any_more(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            older = await brokers.start(1, spoken=ProtocolRange(1, 2))
            newer = await brokers.start(2, spoken=ProtocolRange(3, 4))
            newer.links.know(1, older.address)
            await newer.until(lambda: 1 in newer.links.incompatible)
            await older.links.stop()
            refused = len(newer.logged)
            await newer.until(lambda: len(newer.logged) > refused and not newer.links.incompatible)

    run(conversation())


def test_process_that_knows_another_secret_or_none_never_comes_into_session(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first = await brokers.start(1)
            for broker_id, secret in ((2, "another secret, but as long"), (3, "")):
                stranger = await brokers.start(broker_id, secret=secret)
                stranger.links.know(1, first.address)
                await stranger.until(lambda stranger=stranger: any("secret" in why for why in stranger.complaints()))
                assert not stranger.up
            closed = await brokers.start(4, secret="")
            late = await brokers.start(5)
            late.links.know(4, closed.address)
            await late.until(lambda: any("no cluster secret" in why for why in late.complaints()))
            assert not first.up and not first.ends

    run(conversation())


def test_wrong_broker_at_an_address_is_refused_and_named(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.start(1), await brokers.start(2)
            second.links.know(9, first.address)
            await second.until(second.complaints)
            assert second.complaints() == ["dialled broker 9, but broker 1 answered there"]
            assert not second.up and not first.up

    run(conversation())


def test_broker_id_that_runs_twice_is_refused(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first = await brokers.start(1)
            twin = await brokers.start(1, directory_id="f" * 32)
            with pytest.raises(LograftError, match="broker id 1 runs twice"):
                await twin.links._dial(1, first.address)
            with pytest.raises(LograftError, match="dialled itself"):
                await first.links._dial(1, first.address)
            assert not first.ends and not twin.ends

    run(conversation())


def test_newer_process_of_a_directory_takes_over_and_the_older_is_told_to_end(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, older = await brokers.pair()
            newer = await brokers.start(2, start_number=2)
            newer.links.know(1, first.address)
            await older.until(lambda: older.ends)
            assert "this data directory runs twice" in older.ends[0]
            await first.until(lambda: len(first.up) == 2)
            assert first.up[1].peer.start_number == 2 and first.links.session(2) is first.up[1]
            assert not newer.ends

    run(conversation())


def test_superseded_process_that_comes_back_is_told_to_end_whoever_dials(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first = await brokers.start(5)
            newer = await brokers.start(7, start_number=2)
            newer.links.know(5, first.address)
            await first.until(lambda: first.up)
            for older_dials in (True, False):
                older = await brokers.start(7, start_number=1)
                if older_dials:
                    older.links.know(5, first.address)
                else:
                    with pytest.raises(LograftError, match="runs twice"):
                        await first.links._dial(7, older.address)
                await older.until(lambda older=older: older.ends)
            assert first.links.session(7) is first.up[0] and first.up[0].peer.start_number == 2
            assert not newer.ends and not first.ends

    run(conversation())


def test_second_process_with_the_same_start_number_is_told_to_end(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            copy = await brokers.start(2)
            copy.links.know(1, first.address)
            await copy.until(lambda: copy.ends)
            assert "a second process of the same start number" in copy.ends[0]
            assert not second.ends and first.links.session(2) is first.up[0]

    run(conversation())


def test_another_directory_waits_while_the_broker_id_is_in_session(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            wiped = await brokers.start(2, directory_id="e" * 32)
            wiped.links.know(1, first.address)
            await wiped.until(wiped.complaints)
            assert "in session from data directory" in wiped.complaints()[0]
            await second.links.stop()
            await wiped.until(lambda: wiped.up)
            assert not wiped.ends

    run(conversation())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", "looks like HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), "looks like TLS"),
        (b"\xff" * 64, "claims"),
        (b"\x00" * 64, "claims"),
        (b"\x7f\xff\xff\xff\x01", "claims"),
        (b"".join(encode_frame(FrameType.RAFT, b"no hello")), "no place here"),
        (b"".join(encode_frame(FrameType.PROOF, b"")), "no place here"),
        (b"".join(encode_frame(FrameType.HELLO, b"\x93\x01\xc0\xc0")), "handshake is wrong"),
        (b"".join(encode_frame(FrameType.HELLO, b"\x92\x03\x04")), "speaks 3 to 4"),
        (b"".join(encode_frame(FrameType.HELLO, bytes(HANDSHAKE_BYTES_MAX))), "before the handshake was over"),
        ((1 << 20).to_bytes(4, "big") + b"\x01" + bytes(HANDSHAKE_BYTES_MAX), "before the handshake was over"),
    ],
)
def test_garbage_is_refused_and_logged_once_with_its_sender_while_the_listener_lives_on(
    run: Run, words: bytes, hint: str
) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.start(1), await brokers.start(2)
            for _ in range(3):
                await say(first.address, words)
            await first.until(first.complaints)
            assert len(first.complaints()) == 1
            assert hint in first.complaints()[0] and first.logged[0][1]["address"].startswith("127.0.0.1:")
            second.links.know(1, first.address)
            await first.until(lambda: first.up)
            assert not first.links._unproved and not first.links._forming

    run(conversation())


def test_connections_that_do_not_say_who_they_are_are_few_and_short(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            config = PeerSection(handshake_ms_max=150, handshakes_max=6, handshakes_per_host_max=6)
            first, second = await brokers.start(1, config=config), await brokers.start(2)
            host, port = first.address.split(":")
            silent = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
            async with asyncio.timeout(PATIENCE_S):
                for reader, writer in silent:
                    with contextlib.suppress(ConnectionError):
                        assert await reader.read() == b""
                    writer.close()
            assert any("too many connections" in why for why in first.complaints())
            assert not first.links._unproved and not first.links._unproved_per_host
            second.links.know(1, first.address)
            await first.until(lambda: first.up)

    run(conversation())


def test_broker_gets_in_while_silent_strangers_hold_every_place(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            config = PeerSection(handshake_ms_max=600_000, handshakes_max=6, handshakes_per_host_max=6)
            first, second = await brokers.start(1, config=config), await brokers.start(2)
            host, port = first.address.split(":")
            silent = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
            second.links.know(1, first.address)
            await first.until(lambda: first.up)
            assert first.links.refused_connections >= 14 and len(first.links._unproved) <= 6
            for _, writer in silent:
                writer.close()

    run(conversation())


def test_frame_that_its_reader_refuses_ends_the_session(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            first.refuse_frames_with = PeerFrameError("nonsense")
            second.links.send_bulk(1, FrameType.RAFT, b"?")
            await first.until(lambda: first.down)
            assert first.down[0] == (2, "bulk link: nonsense")
            await second.until(lambda: second.down)

    run(conversation())


def test_session_that_ends_as_soon_as_it_began_is_not_dialled_in_a_frenzy(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.start(1), await brokers.start(2)
            first.refuse_frames_with = PeerFrameError("nonsense")
            told = second.session_up

            def offend(session: PeerSession) -> None:
                told(session)
                second.links.send_control(1, FrameType.BOARD, b"?")

            second.session_up = offend  # type: ignore[method-assign]
            second.links.know(1, first.address)
            await second.until(lambda: len(second.up) == 4)
            waited_ms = second.up[3].began_ms - second.up[0].began_ms
            assert waited_ms >= QUICK.reconnect_ms_min * (1 + 2 + 4) / 2 - 2

    run(conversation())


def test_pair_that_is_not_in_session_is_not_silent_but_absent(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, _ = await brokers.pair()
            silent_ms = first.links.silent_ms(2)
            assert silent_ms is not None and silent_ms < PATIENCE_S * 1000
            assert first.links.silent_ms(9) is None

    run(conversation())


def test_forgotten_broker_is_no_longer_dialled(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first, second = await brokers.pair()
            second.links.forget(1)
            first.links.forget(2)
            assert second.down[0][0] == 1 and not second.links._diallers
            assert second.links.session(1) is None

    run(conversation())


def test_port_in_use_is_one_clear_line(run: Run) -> None:
    async def conversation() -> None:
        async with Brokers() as brokers:
            first = await brokers.start(1)
            with pytest.raises(
                InvalidConfig, match=r"cannot listen for other brokers at 127.*in use.*set listen\.peer"
            ):
                await Broker(2).links.start(first.address)

    run(conversation())


def test_identity_of_a_process_is_its_own() -> None:
    facts: dict[str, Any] = {"cluster_id": None, "broker_id": 1, "directory_id": "d", "start_number": 1, "version": "v"}
    assert PeerIdentity(**facts).process_nonce != PeerIdentity(**facts).process_nonce
