"""The links to the other brokers: who is in session with this one, and what they say to each other.

Always holds
    at most one session with each broker, and none with a process whose directory runs in a newer one
    a session is both links, control and bulk, to one process; either lost ends it, at once
    for each broker `session_up` and `session_down` alternate, and frames are handed over only in between
    of two sessions dialled at the same time from both sides, the one dialled by the larger broker id stays
The larger broker id dials. The smaller one dials too if nobody came for a while: it may not be known where it is.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec

from ...partitions.environment import Buffer
from ...proto.errors import BrokerUnavailable, InvalidConfig, LograftError
from ...proto.peer_frames import FrameType, PeerFrameError, encode_frame
from ..config import PeerSection, host_and_port
from .connection import PeerConnection
from .handshake import (
    Acceptor,
    Dialler,
    Directories,
    HandshakeRefused,
    LinkKind,
    PeerIdentity,
    Refusal,
    decode_refused,
    superseded,
)
from .protocol import SPOKEN, ProtocolRange
from .session import PeerSession

LOG_AGAIN_MS = 60_000
"""The same complaint about the same remote host is logged once in so long."""
LOGGED_MAX = 1000
_HANDSHAKE_TYPES = frozenset((FrameType.HELLO, FrameType.CHALLENGE, FrameType.PROOF, FrameType.WELCOME))


class PeerHandlers(Protocol):
    """Who is told what the links bring. Called in the loop; none of them may block."""

    def session_up(self, session: PeerSession) -> None: ...
    def session_down(self, broker_id: int, why: str) -> None: ...
    def frame(self, broker_id: int, frame_type: FrameType, body: memoryview) -> None:
        """A LograftError raised here (a body that does not decode) ends the session.

        `body` is a view of what was received with it: copy what is small and kept for long.
        """
        ...

    async def call(self, broker_id: int, method: str, body: bytes) -> bytes:
        """The answer. A LograftError travels to the caller as it is."""
        ...

    def superseded(self, why: str) -> None:
        """Another process runs this data directory: this one must end. Called once."""
        ...


class PeerLinks:
    """One broker's links to all others.

    Times on the loop's clock, in milliseconds. `chance` shortens waits before dialling; nothing secret comes from it.

    Raises
        InvalidConfig      `start` cannot listen where it should
        BrokerUnavailable  `call` without a session
    """

    def __init__(
        self,
        identity: PeerIdentity,
        secret: str,
        handlers: PeerHandlers,
        config: PeerSection | None = None,
        *,
        log: Callable[..., None] = lambda event, **facts: None,
        chance: random.Random | None = None,
        spoken: ProtocolRange = SPOKEN,
    ) -> None:
        self.identity = identity
        self.spoken = spoken
        self.incompatible: dict[int, str] = {}
        """Broker id -> why there is no session: the two speak no common version. As of the last try."""
        self.refused_connections = 0
        """Accepted, and ended before they had proved who they are or got to a session."""
        self.crc_errors = 0
        """Frames of brokers in session that were altered on their way."""
        self._ended_traffic: dict[int, tuple[int, int]] = {}
        """Bytes received from and sent to brokers, in sessions that are over."""
        self._secret = secret.encode()
        self._handlers = handlers
        self._config = config or PeerSection()
        self._log = log
        self._chance = chance or random.Random()
        self._directories = Directories(identity)
        self._sessions: dict[int, PeerSession] = {}
        self._session_count = 0
        self._by_connection: dict[PeerConnection, PeerSession] = {}
        self._forming: dict[bytes, _Forming] = {}
        self._unproved: dict[PeerConnection, asyncio.TimerHandle] = {}
        self._unproved_per_host: Counter[str] = Counter()
        self._dialling: dict[PeerConnection, asyncio.Future[None]] = {}
        self._addresses: dict[int, str] = {}
        self._diallers: dict[int, asyncio.Task[None]] = {}
        self._news: dict[int, asyncio.Event] = {}
        self._logged: dict[tuple[str, str], float] = {}
        self._server: asyncio.Server | None = None
        self._pinger: asyncio.TimerHandle | None = None
        self._stopped = False
        self._is_superseded = False

    # What the node asks for

    async def start(self, listen_address: str) -> None:
        """Listen at `host:port` (port 0: any), and dial whom `know` named. Raises InvalidConfig."""
        host, _, port = listen_address.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accepted, host.strip("[]"), int(port))
        except (OSError, OverflowError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InvalidConfig(
                f"cannot listen for other brokers at {listen_address}: {why.lower()}; "
                "stop what listens there or set listen.peer",
                key="listen.peer",
                value=listen_address,
            ) from None
        self._ping_at = loop.time() * 1000
        self._ping()
        for broker_id in self._addresses:
            self._dial_soon(broker_id)

    @property
    def listen_address(self) -> str:
        """Where it really listens. Only after `start`."""
        assert self._server is not None, "start first"
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def know(self, broker_id: int, peer_address: str) -> None:
        """Dial this broker there from now on. A session that is up is left alone."""
        if broker_id == self.identity.broker_id or self._addresses.get(broker_id) == peer_address:
            return
        self._addresses[broker_id] = peer_address
        if self._server is not None:
            self._dial_soon(broker_id)

    def forget(self, broker_id: int) -> None:
        """Dial this broker no more, and end its session: it has left the cluster."""
        self._addresses.pop(broker_id, None)
        self.incompatible.pop(broker_id, None)
        task = self._diallers.pop(broker_id, None)
        if task is not None:
            task.cancel()
        session = self._sessions.get(broker_id)
        if session is not None:
            self._end(session, f"broker {broker_id} has left the cluster")

    def set_cluster_id(self, cluster_id: str) -> None:
        """The cluster was formed or adopted. Sessions with brokers of another one end."""
        self.identity = msgspec.structs.replace(self.identity, cluster_id=cluster_id)
        for session in list(self._sessions.values()):
            if session.peer.cluster_id not in (None, cluster_id):
                self._end(
                    session,
                    f"broker {session.broker_id} belongs to cluster {session.peer.cluster_id}, we to {cluster_id}",
                )

    def session(self, broker_id: int) -> PeerSession | None:
        """The live session with this broker."""
        return self._sessions.get(broker_id)

    def silent_ms(self, broker_id: int) -> float | None:
        """How long it is since both links to this broker had answered; None without a session."""
        session = self._sessions.get(broker_id)
        if session is None:
            return None
        return asyncio.get_running_loop().time() * 1000 - session.heard_ms

    @property
    def sessions(self) -> list[PeerSession]:
        """All live sessions, by broker id."""
        return [self._sessions[broker_id] for broker_id in sorted(self._sessions)]

    def traffic(self) -> dict[int, tuple[int, int]]:
        """Bytes received from and sent to each broker, since this process began."""
        found = dict(self._ended_traffic)
        for broker_id, session in self._sessions.items():
            received, sent = found.get(broker_id, (0, 0))
            found[broker_id] = received + session.received_bytes, sent + session.sent_bytes
        return found

    def send_control(self, broker_id: int, frame_type: FrameType, *buffers: Buffer) -> bool:
        """Send what is short and urgent. False: there is no session."""
        session = self._sessions.get(broker_id)
        if session is None:
            return False
        frame = encode_frame(frame_type, *buffers)
        size = sum(map(len, frame))
        if session.control.waiting_bytes + size > session.control.waiting_bytes_max:
            self._end(session, f"{session.control.waiting_bytes} bytes wait on the control link")
            return False
        return session.send_control(frame, size)

    def send_bulk(self, broker_id: int, frame_type: FrameType, *buffers: Buffer) -> bool:
        """Send what may be long. False: there is no session or no room, and it was dropped.

        The buffers must not change any more. Raises PeerFrameError for more than any frame holds.
        """
        session = self._sessions.get(broker_id)
        if session is None:
            return False
        size = sum(map(len, buffers))
        if session.bulk.waiting_bytes + size > session.bulk.waiting_bytes_max:
            return False  # before the frame's CRC is worked out over all of it
        frame = encode_frame(frame_type, *buffers)
        return session.send_bulk(frame, sum(map(len, frame)))

    async def call(self, broker_id: int, method: str, body: Buffer = b"", *, timeout_ms: float) -> bytes:
        """Have another broker carry out `method`, and return its answer.

        Raises what the other broker raised; BrokerUnavailable without a session (nothing was sent), UnknownOutcome if
        the session ends before the answer, RequestTimedOut (it may still happen), Overloaded (nothing was sent).
        """
        session = self._sessions.get(broker_id)
        if session is None:
            raise BrokerUnavailable(f"there is no link to broker {broker_id} at present", broker=broker_id)
        return await session.call(method, body, timeout_ms)

    async def stop(self) -> None:
        """Close everything. Sessions end (`session_down`); nothing is handed over afterwards."""
        self._stopped = True
        if self._pinger is not None:
            self._pinger.cancel()
        if self._server is not None:
            self._server.close()
        tasks = list(self._diallers.values())
        self._diallers.clear()
        for task in tasks:
            task.cancel()
        for session in list(self._sessions.values()):
            self._end(session, "this broker stops")
            session.cancel_answering()
        for connection in (*self._unproved, *self._dialling):
            connection.close("this broker stops")
        await asyncio.gather(*tasks, return_exceptions=True)

    # What the connections tell

    def _accepted(self) -> PeerConnection:
        return PeerConnection(self, Acceptor(self.identity, self._secret, self._directories, spoken=self.spoken))

    def connection_opened(self, connection: PeerConnection) -> None:
        config = self._config
        if isinstance(connection.handshake, Dialler):
            return
        host = connection.remote_host
        if self._stopped:
            connection.close("this broker stops")
            return
        # The oldest gives way, not the one that comes: a broker proves itself in milliseconds.
        of_host_alone = self._unproved_per_host[host] >= config.handshakes_per_host_max
        if of_host_alone or len(self._unproved) >= config.handshakes_max:
            strangers = (other for other in self._unproved if not other.is_trusted)
            oldest = next((other for other in strangers if other.remote_host == host or not of_host_alone), connection)
            self._log_once(oldest.remote_host, "too many connections that have not proved who they are", oldest)
            oldest.close("too many handshakes")
            if oldest is connection:
                return
        self._unproved_per_host[host] += 1
        self._unproved[connection] = asyncio.get_running_loop().call_later(
            config.handshake_ms_max / 1000, connection.close, f"no session within {config.handshake_ms_max} ms"
        )

    def frame_received(self, connection: PeerConnection, frame_type: FrameType, body: memoryview) -> None:
        session = self._by_connection.get(connection)
        if session is not None:
            self._take_frame(session, connection, frame_type, body)
        elif not connection.is_trusted:
            self._take_handshake(connection, frame_type, body)
        elif frame_type is FrameType.PING and isinstance(connection.handshake, Acceptor):
            # The dialler's first word on a link: it has both up, and so have we.
            self._begin_accepted(connection)
            session = self._by_connection.get(connection)
            if session is not None:
                self._take_frame(session, connection, frame_type, body)
        elif frame_type is FrameType.REFUSED:
            raise PeerFrameError(f"refused: {decode_refused(body)[1]}")
        else:
            raise PeerFrameError(f"a frame of type {frame_type.name} before the session began")

    def connection_ended(self, connection: PeerConnection, why: str) -> None:
        self._no_longer_unproved(connection)
        # Of strangers anything can be expected.
        self.crc_errors += connection.failed_crc and connection.is_trusted
        waiting = self._dialling.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(ConnectionError(why))
        session = self._by_connection.pop(connection, None)
        if session is not None:
            self._end(session, f"{connection.kind.name.lower()} link: {why}")
            return
        if connection.is_trusted:
            forming = self._forming.pop(connection.handshake.session, None)
            if forming is not None:
                forming.close("its other link was lost")
        elif isinstance(connection.handshake, Acceptor) and not self._stopped:
            self.refused_connections += 1
            if connection.received_bytes:
                self._log_once(connection.remote_host, why, connection)

    # Handshakes

    def _take_handshake(self, connection: PeerConnection, frame_type: FrameType, body: memoryview) -> None:
        handshake = connection.handshake
        try:
            for_peer = handshake.receive(frame_type, body)
            if handshake.is_over:
                for_peer = self._admit(connection)
        except HandshakeRefused as refused:
            self._refused(connection, refused)
            return
        if for_peer:
            connection.send(for_peer, sum(map(len, for_peer)))

    def _refused(self, connection: PeerConnection, refused: HandshakeRefused) -> None:
        if refused.supersedes_us:
            self._superseded(refused.message)
        broker_id = connection.handshake.claimed_broker_id
        # Only who knows the secret can say so: nobody else may put words into the cluster's health.
        if refused.refusal is Refusal.PROTOCOL and refused.proved and broker_id is not None:
            self.incompatible[broker_id] = refused.message
        waiting = self._dialling.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(refused)
        last_words = [] if refused.by_peer else connection.handshake.refuse(refused)
        connection.close(f"{'refused by the peer' if refused.by_peer else 'refused'}: {refused.message}", last_words)

    def _admit(self, connection: PeerConnection) -> list[Buffer]:
        """The other side proved who it is. Returns the welcome, if any is due. Raises HandshakeRefused."""
        handshake = connection.handshake
        peer = handshake.peer
        assert peer is not None, "admitted before the handshake was over"
        self._end_superseded(peer)
        if isinstance(handshake, Dialler):
            connection.is_trusted = True
            waiting = self._dialling.pop(connection, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            return []
        self._refuse_if_connected(peer, dialled=False)
        forming = self._forming.setdefault(handshake.session, _Forming(peer))
        if not forming.take(connection, peer):
            raise HandshakeRefused(
                Refusal.MALFORMED, "the two links of a session are not of one process", by_peer=False, proved=True
            )
        connection.is_trusted = True
        return handshake.welcome()

    def _refuse_if_connected(self, peer: PeerIdentity, *, dialled: bool) -> None:
        """Raises HandshakeRefused if the session that is up is to stay, and no other to be begun beside it."""
        session = self._sessions.get(peer.broker_id)
        if session is None:
            return
        if not session.same_process(peer):
            # A newer process of the same directory has ended the session before this is asked.
            raise HandshakeRefused(
                Refusal.TAKEN,
                f"broker id {peer.broker_id} is in session from data directory {session.peer.directory_id[:8]}",
                by_peer=False,
                proved=True,
            )
        if session.dialled == dialled:
            return  # whoever dialled it dials anew: it is lost there
        if session.dialled == (self.identity.broker_id > peer.broker_id):
            raise HandshakeRefused(Refusal.CONNECTED, "there is a session already", by_peer=False, proved=True)

    def _end_superseded(self, peer: PeerIdentity) -> None:
        for session in list(self._sessions.values()):
            if session.peer.directory_id == peer.directory_id and not session.same_process(peer):
                refused = superseded(session.peer, peer)
                self._end(session, refused.message, session.control.handshake.refuse(refused))
        for forming in list(self._forming.values()):
            if forming.peer.directory_id == peer.directory_id and forming.peer.process_nonce != peer.process_nonce:
                forming.close(superseded(forming.peer, peer).message)

    def _superseded(self, why: str) -> None:
        if self._is_superseded:
            return
        self._is_superseded = True
        self._handlers.superseded(why)

    def _no_longer_unproved(self, connection: PeerConnection) -> None:
        deadline = self._unproved.pop(connection, None)
        if deadline is None:
            return
        deadline.cancel()
        host = connection.remote_host
        self._unproved_per_host[host] -= 1
        if not self._unproved_per_host[host]:
            del self._unproved_per_host[host]

    # Sessions

    def _begin_accepted(self, connection: PeerConnection) -> None:
        forming = self._forming.get(connection.handshake.session)
        if forming is None or forming.control is None or forming.bulk is None:
            raise PeerFrameError("a ping before both links were up")
        del self._forming[connection.handshake.session]
        try:
            self._directories.check(forming.peer)
            self._refuse_if_connected(forming.peer, dialled=False)
        except HandshakeRefused as refused:
            for link in (forming.control, forming.bulk):
                link.close(refused.message, link.handshake.refuse(refused))
            return
        self._begin(forming.peer, forming.control, forming.bulk, dialled=False)
        if forming.peer.peer_address:
            self.know(forming.peer.broker_id, forming.peer.peer_address)

    def _begin(
        self, peer: PeerIdentity, control: PeerConnection, bulk: PeerConnection, *, dialled: bool
    ) -> PeerSession:
        earlier = self._sessions.get(peer.broker_id)
        if earlier is not None:
            self._end(earlier, "dialled anew")
        now_ms = asyncio.get_running_loop().time() * 1000
        self._session_count += 1
        session = PeerSession(
            self._session_count,
            peer,
            control,
            bulk,
            dialled=dialled,
            now_ms=now_ms,
            calls_max=self._config.calls_in_flight_max,
        )
        control.waiting_bytes_max = self._config.control_bytes_max
        bulk.waiting_bytes_max = self._config.bulk_bytes_max
        for connection in (control, bulk):
            self._no_longer_unproved(connection)
            self._by_connection[connection] = session
        self._sessions[peer.broker_id] = session
        self.incompatible.pop(peer.broker_id, None)
        self._ping_session(session, now_ms)
        self._log(
            "peer.session_up",
            broker=peer.broker_id,
            address=control.remote,
            directory=peer.directory_id,
            start=peer.start_number,
            version=peer.version,
            protocol=session.protocol,
        )
        self._handlers.session_up(session)
        return session

    def _end(self, session: PeerSession, why: str, last_words: list[Buffer] | None = None) -> None:
        """End a session, once, and say so before anything else can happen with that broker."""
        if not session.is_live:
            return
        session.ended(why)
        received, sent = self._ended_traffic.get(session.broker_id, (0, 0))
        self._ended_traffic[session.broker_id] = received + session.received_bytes, sent + session.sent_bytes
        self._by_connection.pop(session.control, None)
        self._by_connection.pop(session.bulk, None)
        if self._sessions.get(session.broker_id) is session:
            del self._sessions[session.broker_id]
        session.control.close(why, last_words or ())
        session.bulk.close(why)
        self._log("peer.session_down", broker=session.broker_id, address=session.control.remote, why=why)
        self._handlers.session_down(session.broker_id, why)
        news = self._news.get(session.broker_id)
        if news is not None:
            news.set()

    def _take_frame(
        self, session: PeerSession, connection: PeerConnection, frame_type: FrameType, body: memoryview
    ) -> None:
        if frame_type is FrameType.PING:
            connection.send_urgent(encode_frame(FrameType.PONG, bytes(body[:8])))
        elif frame_type is FrameType.PONG:
            now_ms = asyncio.get_running_loop().time() * 1000
            connection.answered_ms = now_ms
            if len(body) == 8:
                connection.round_trip_ms = now_ms - int.from_bytes(body, "big") / 1000
        elif frame_type is FrameType.CALL:
            session.take_call(body, self._handlers.call, self._log)
        elif frame_type is FrameType.ANSWER:
            session.take_answer(body)
        elif frame_type is FrameType.REFUSED:
            refusal, why = decode_refused(body)
            if refusal == Refusal.SUPERSEDED:
                self._superseded(why)
            raise PeerFrameError(f"refused by the peer: {why}")
        elif frame_type in _HANDSHAKE_TYPES:
            raise PeerFrameError(f"a frame of type {frame_type.name} after the handshake")
        else:
            self._handlers.frame(session.broker_id, frame_type, body)

    def _ping(self) -> None:
        """Ask both links of every session whether they are there, and end those that were not for too long."""
        loop = asyncio.get_running_loop()
        now_ms = loop.time() * 1000
        interval_ms = self._config.heartbeat_interval_ms
        # A loop that slept has pongs unread: the silence is its own.
        slept = now_ms - self._ping_at > 2 * interval_ms
        self._ping_at = now_ms + interval_ms
        self._pinger = loop.call_later(interval_ms / 1000, self._ping)
        for session in list(self._sessions.values()):
            silent_ms = now_ms - session.heard_ms
            if silent_ms > self._config.silence_ms_max and not slept:
                kind = "control" if session.control.answered_ms == session.heard_ms else "bulk"
                self._end(session, f"the {kind} link has not answered for {silent_ms:.0f} ms")
            else:
                self._ping_session(session, now_ms)

    def _ping_session(self, session: PeerSession, now_ms: float) -> None:
        ping = encode_frame(FrameType.PING, int(now_ms * 1000).to_bytes(8, "big"))
        session.control.send_urgent(ping)
        session.bulk.send_urgent(ping)

    # Dialling

    def _dial_soon(self, broker_id: int) -> None:
        self._news.setdefault(broker_id, asyncio.Event()).set()
        if broker_id not in self._diallers and not self._stopped:
            self._diallers[broker_id] = asyncio.get_running_loop().create_task(self._keep_dialling(broker_id))

    async def _keep_dialling(self, broker_id: int) -> None:
        """Dial whenever there is no session. Ends by being cancelled."""
        config = self._config
        news = self._news[broker_id]
        loop = asyncio.get_running_loop()
        wait_ms = float(config.reconnect_ms_min)
        complaint = ""
        # The larger id's turn comes first; it needs less than this, or does not know where we are.
        grace_ms = config.reconnect_ms_max if self.identity.broker_id < broker_id else 0
        await asyncio.sleep(grace_ms / 1000)
        while not self._is_superseded:
            news.clear()
            session = self._sessions.get(broker_id)
            try:
                if session is None:
                    session = await self._dial(broker_id, self._addresses[broker_id])
                while session.is_live:
                    news.clear()
                    await news.wait()
                # One that ends as soon as it began would end so again: it counts as a failed try.
                if loop.time() * 1000 - session.began_ms > config.reconnect_ms_max:
                    wait_ms, complaint = float(config.reconnect_ms_min), ""
                    await asyncio.sleep(grace_ms / 1000)
                    continue
            except (OSError, TimeoutError, ValueError, LograftError) as error:
                why = str(error) or type(error).__name__
                if isinstance(error, OSError):
                    self.incompatible.pop(broker_id, None)  # whoever was refused there is gone
                settled = isinstance(error, HandshakeRefused) and error.refusal is Refusal.CONNECTED
                if why != complaint and not settled:
                    self._log("peer.dial_failed", broker=broker_id, address=self._addresses[broker_id], why=why)
                    complaint = why
            news.clear()
            try:
                async with asyncio.timeout(max(wait_ms, grace_ms) / 1000 * (1 - self._chance.random() / 2)):
                    await news.wait()
            except TimeoutError:
                wait_ms = min(wait_ms * 2, config.reconnect_ms_max)

    async def _dial(self, broker_id: int, address: str) -> PeerSession:
        """Bring both links up, one after the other, and begin the session. Raises what stood in the way."""
        session = secrets.token_bytes(16)
        opened: list[PeerConnection] = []
        try:
            async with asyncio.timeout(self._config.handshake_ms_max / 1000):
                control = await self._connect(broker_id, address, LinkKind.CONTROL, session)
                opened.append(control)
                bulk = await self._connect(broker_id, address, LinkKind.BULK, session)
                opened.append(bulk)
            peer, twin = control.handshake.peer, bulk.handshake.peer
            assert peer is not None and twin is not None, "connected before the handshake was over"
            if not control.is_open or not bulk.is_open:
                raise ConnectionError("a link was lost before the session began")
            if peer.process_nonce != twin.process_nonce or peer.directory_id != twin.directory_id:
                raise ConnectionError("another process answered the second link")
            self._directories.check(peer)
            self._refuse_if_connected(peer, dialled=True)
            opened.clear()
        finally:
            for connection in opened:
                connection.close("the session was not begun")
        return self._begin(peer, control, bulk, dialled=True)

    async def _connect(self, broker_id: int, address: str, kind: LinkKind, session: bytes) -> PeerConnection:
        host, port = host_and_port(address)
        loop = asyncio.get_running_loop()
        welcomed: asyncio.Future[None] = loop.create_future()
        handshake = Dialler(
            self.identity,
            self._secret,
            self._directories,
            kind=kind,
            session=session,
            expected_broker_id=broker_id,
            spoken=self.spoken,
        )
        _, connection = await loop.create_connection(lambda: PeerConnection(self, handshake), host, port)
        if not connection.is_open or self._stopped:
            connection.close("this broker stops")
            raise ConnectionError("closed by the other side at once")
        self._dialling[connection] = welcomed
        try:
            hello = handshake.hello()
            connection.send(hello, sum(map(len, hello)))
            await welcomed
        except BaseException:
            connection.close("the handshake was not finished")
            raise
        return connection

    def _log_once(self, host: str, why: str, connection: PeerConnection) -> None:
        now_ms = asyncio.get_running_loop().time() * 1000
        if now_ms - self._logged.get((host, why), -LOG_AGAIN_MS) < LOG_AGAIN_MS:
            return
        if len(self._logged) >= LOGGED_MAX:
            del self._logged[next(iter(self._logged))]
        self._logged.pop((host, why), None)
        self._logged[host, why] = now_ms
        self._log("peer.connection_refused", address=connection.remote, why=why)


class _Forming:
    """Accepted links that will be one session once both are up and the dialler says so."""

    def __init__(self, peer: PeerIdentity) -> None:
        self.peer = peer
        self.control: PeerConnection | None = None
        self.bulk: PeerConnection | None = None

    def take(self, connection: PeerConnection, peer: PeerIdentity) -> bool:
        """Add a link. False if it is of another process, or one too many."""
        if (peer.process_nonce, peer.directory_id, peer.start_number, peer.broker_id) != (
            self.peer.process_nonce,
            self.peer.directory_id,
            self.peer.start_number,
            self.peer.broker_id,
        ):
            return False
        if connection.kind is LinkKind.CONTROL and self.control is None:
            self.control = connection
            return True
        if connection.kind is LinkKind.BULK and self.bulk is None:
            self.bulk = connection
            return True
        return False

    def close(self, why: str) -> None:
        for connection in (self.control, self.bulk):
            if connection is not None:
                connection.close(why)
