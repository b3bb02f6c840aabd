"""A running broker: what it is made of, the order in which that starts and stops, and who tells whom.

Invariants
    the start number is raised, durably, before the first handshake
    every replica that the promises list is recovered, and the boot settled, before a peer or a client can ask for it
    it says that it is ready once it belongs to a cluster, all decisions are applied, and it is among them
    a clean stop hands over what it leads before the doors close, answers what it can, and leaves its marks on disk
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from ..partitions.commit_news import CommitNews
from ..partitions.environment import PartitionId
from ..partitions.flusher import Flusher
from ..partitions.raft.messages import Message, Voter
from ..partitions.raft.points import Point
from ..partitions.replica import Replica
from ..partitions.storage.promises import Promises
from ..proto.errors import BrokerUnavailable, InvalidConfig, InvalidRequest, LograftError, NoLeader
from ..proto.peer_frames import FrameType
from .cluster_view import DAMAGE_CALL, STATUS_CALL, ClusterView
from .compactions import Compactions
from .config import BrokerConfig, GroupsSection, KafkaSection, host_and_port
from .console.door import ConsoleDoor
from .controller.absences import Absences
from .controller.balance import LeadershipHandBack, LedPartition, hand_back_once
from .controller.cluster_seats import CLUSTER_REPLICA_NUMBER
from .controller.controller import Controller
from .controller.facts import OFFSETS_TOPIC, OFFSETS_TOPIC_ID
from .controller.recoveries import KnownRecoveries
from .controller.settings import GONE_AFTER_MS, value_of
from .controller.state import ClusterState
from .decision_log import DecisionLog
from .formation import ClusterSet, Formation
from .groups.coordinators import Coordinators
from .groups.lag import UNREAD_CALL, Lag
from .groups.lag_watch import LAG_CALL, LagWatch
from .groups.rules import GroupsLimits
from .hand_over import ANSWER_MS_MAX, TAKE_OVER_CALL, hand_over
from .heartbeats import FRAME_TYPES, Heartbeats
from .holdings import HOLDING_CALL, Holdings
from .http import HttpDoor
from .logs import level_of
from .measuring import Measuring
from .metrics import Metrics
from .metrics.requests import connection_rows
from .moves import LET_GO_CALL, Moves
from .outside import Outside
from .peer.handshake import PeerIdentity
from .peer.links import PeerLinks
from .peer.raft_codec import decode_raft_bundle
from .peer.raft_transport import RaftTransport
from .peer.session import PeerSession
from .readiness import Readiness
from .replicas import CLUSTER_PARTITION, Replicas, topic_limits
from .retention import CLOCK_CALL, Retention
from .role_changes import ROLES_CALL, RoleChanges
from .rpc.admin_service import CALL_PREFIX, AdminService
from .rpc.broker_service import BrokerService
from .rpc.groups_service import GroupsService
from .rpc.server import ADMIN_SERVICE, BROKER_SERVICE, GROUPS_SERVICE, RpcServer
from .scrubber import Scrubber
from .sightings import Addresses, ExchangedSightings, Led, Sighting, decode_sighting
from .sightings_board import ROOM_BYTES, SightingsBoard
from .turns import Turns
from .vital_signs import VitalSigns

if TYPE_CHECKING:
    from .kafka.door import KafkaDoor

SIGHTING_INTERVAL_S = 10.0
SIGHTING_DELAY_S = 0.02
"""Changes that come together are told together."""
SIGHTING_DELAY_S_PER_REPLICA = 0.0001
"""Where hundreds change hands, one after the other, all brokers would be busy with being told."""
TEND_INTERVAL_S = 0.25
CATCH_UP_INTERVAL_S = 0.02
END_CALL = "cluster.end"
END_ANSWER_MS_MAX = 1_000
LOOK_INTERVAL_S = 1.0
HAND_OVER_S_MAX = 5.0
"""What a clean stop spends on handing over leaderships."""
ALLOW_INTERVAL_S = 0.05
SETTLED_AFTER_OPENING = 32
SETTLED_AFTER_CLOSING = 256
"""Replicas: memory is settled anew after so many. What was closed is freed only then, at the price of a pause."""
EXIT_SUPERSEDED = 3

log = structlog.get_logger("broker")


class Node:
    """One broker. `start`, then `stop`; in between it runs by itself.

    Raises, from `start`
        InvalidConfig  the configuration, the data directory or a port stands in the way; one line says how
    """

    def __init__(self, config: BrokerConfig, *, loop_kind: str = "asyncio", outside: Outside | None = None) -> None:
        self.config = config
        self._outside = outside or Outside()
        self.metrics = Metrics(loop_kind)
        self._broker_id = config.broker.id
        self._ready = False
        self._readiness = Readiness()
        self._caught_up = False
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._sequence = 0
        self._sighting_is_due = False
        self._whole_is_due = False
        self._cluster_log: DecisionLog[ClusterState] | None = None
        self._controller: Controller | None = None
        self._hand_back = LeadershipHandBack()
        self._settled_replicas = 0
        """How many there were when memory was settled last."""
        self._absences = Absences()
        self._kafka: KafkaDoor | None = None
        self._recoveries = KnownRecoveries()
        self._offsets_topic_missing = ""
        """Why `__offsets` could not be made so far, as last logged."""

    # -- start and stop ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        config = self.config
        began = self._outside.monotonic_s()
        self._began_s = began
        self._console = ConsoleDoor(config, lambda: self._role_changes.of_all(), self.not_up)
        self._http = HttpDoor(
            {b"/metrics": self.metrics.exposition, b"/metrics/partitions": self.metrics.partitions_exposition},
            self.unready,
            connections_max=config.limits.http_connections_max,
            console=self._console if self._console.is_enabled else None,
        )
        open_files_max = self._outside.open_files_max()
        self._directory = self._outside.claim(config.broker.data_directory, self._broker_id)
        self._environment = self._outside.environment(
            config.broker.data_directory, log=self._log_event, on_sync=self.metrics.storage.fsync_seconds.observe
        )
        self._promises = await Promises.open(
            self._environment, config.broker.data_directory, mark_interval_ms=config.replica.mark_interval_ms
        )
        self._directory.check_not_superseded(self._promises.directory_id, self._promises.start_number)
        start_number = await self._raise_start_number()
        held = None if self._promises.cluster_set is None else ClusterSet.decode(self._promises.cluster_set)
        self._own = Voter(self._broker_id, self._promises.directory_id, CLUSTER_REPLICA_NUMBER)
        self._flusher = Flusher(self._environment)
        self._news = CommitNews(self._environment)
        self._addresses = Addresses(config.advertise.grpc, config.advertise.peer, config.advertise.http)
        self._identity = PeerIdentity(
            cluster_id=None if held is None else held.cluster_id,
            broker_id=self._broker_id,
            directory_id=self._promises.directory_id,
            start_number=start_number,
            version=version("lograft"),
            rack=config.broker.rack,
            grpc_address=self._addresses.grpc,
            peer_address=self._addresses.peer,
            http_address=self._addresses.http,
            kafka_address=config.advertise.kafka,
        )
        self._kafka_addresses = {self._broker_id: config.advertise.kafka}
        self._links = PeerLinks(
            self._identity, config.cluster.secret, self, config.peer, log=_log_event, chance=self._outside.chance()
        )
        self._sightings = ExchangedSightings(self._send_sighting, self._on_sightings)
        self._board = SightingsBoard(
            self._broker_id,
            self._sightings,
            send=self._send_board,
            wanted=self._publish_whole_soon,
            clock_ms=self._environment.monotonic_ms,
            tick_ms=config.peer.heartbeat_interval_ms,
            chance=self._outside.chance(),
            log=_log_event,
        )
        self._wire_replicas(open_files_max)
        self._formation = Formation(self._own, tuple(config.cluster.peers), held, self._settle, self._tell_set)
        self._wire_services()

        await self._listen_http()
        opening = self._outside.monotonic_s()
        await self._replicas.open_listed()
        await self._promises.settle_boot()
        self.metrics.storage.recovery_seconds.set(self._outside.monotonic_s() - opening)
        self._unwatch_collections = self._outside.watch_collections(self.metrics.broker.collected)
        self._settle_memory()
        if held is not None:
            await self._join(held)
        await self._rpc.start(config.listen.grpc)
        await self._open_kafka_door()
        await self._links.start(config.listen.peer)
        for broker_id, address in config.cluster.peers.items():
            self._links.know(broker_id, address)
        self._formation.start()
        self._every(config.peer.heartbeat_interval_ms / 1000, self._tick, self.metrics.broker.loop_lag.observe)
        self._every(SIGHTING_INTERVAL_S, self._publish)
        self._every(TEND_INTERVAL_S, self._tend)
        self._every(LOOK_INTERVAL_S, self._look)
        self._every(TEND_INTERVAL_S, self._moves.take_steps)
        self._every(ALLOW_INTERVAL_S, lambda: self._moves.allow_copying(self._environment.monotonic_ms()))
        self._every(LOOK_INTERVAL_S, self._moves.look_for_departures)
        self._every(LOOK_INTERVAL_S, self._look_for_absences)
        self._every(config.retention.check_interval_ms / 1000, self._retention.enforce)
        self._every(config.compaction.check_interval_ms / 1000, self._compactions.tend)
        self._every(self._scrubber.look_s, self._scrubber.scrub_what_is_due)
        self._every(lambda: self._signs.due_s, self._measuring.look)
        self._every(lambda: self._lag_watch.due_s, self._measuring.look_at_lag)
        self._publish()
        log.info(
            "started",
            grpc=config.listen.grpc,
            peer=config.listen.peer,
            http=config.listen.http,
            directory_id=self._promises.directory_id,
            start_number=start_number,
            cluster_id=self._identity.cluster_id,
            replicas=len(self._replicas.table),
            seconds=round(self._outside.monotonic_s() - began, 3),
        )

    async def stop(self) -> None:
        """Stop cleanly: nothing that was acknowledged depends on it, but the next start is quicker."""
        if self._stopping:
            return
        self._stopping = True
        log.info("stopping")
        await self._rpc.say_ready(False)
        await self._hand_over()
        # Before the door closes: heartbeats that wait for news would hold it open.
        self._coordinators.stop()
        await self._console.stop()
        await asyncio.gather(self._rpc.stop(), *(() if self._kafka is None else (self._kafka.stop(),)))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._compactions.stop()
        if self._cluster_log is not None:
            self._cluster_log.stop()
        await self._replicas.stop()
        await self._flusher.drain()
        self._board.stop()
        await self._links.stop()
        await self._promises.close()
        await self._http.stop()
        self._environment.stop()
        self._unwatch_collections()
        self._directory.release()
        log.info("stopped")

    async def _hand_over(self) -> None:
        """Lead nothing any more. While the doors are still open, clients are told who does."""
        began = self._outside.monotonic_s()
        led = len(self._replicas.led)
        try:
            async with asyncio.timeout(HAND_OVER_S_MAX):
                await hand_over(self._replicas.led, self._replicas.placed_voters, self._takes_over)
        except TimeoutError:
            pass
        kept = [str(replica.partition) for replica in self._replicas.led]
        # The rest resigns now: the sooner the others hear of it, the shorter they are without a leader.
        self._replicas.set_willing(False)
        log.info("handed_over", led=led, kept=kept, seconds=round(self._outside.monotonic_s() - began, 3))

    async def _takes_over(self, broker_id: int) -> bool:
        """Would this broker lead what it is handed? One that stops as well would not."""
        try:
            return await self._links.call(broker_id, TAKE_OVER_CALL, timeout_ms=ANSWER_MS_MAX) == b"\x01"
        except LograftError:
            return False

    def _may_lead_more(self) -> bool:
        fact = self._replicas.state.brokers.get(self._broker_id)
        return self._ready and not self._stopping and fact is not None and not (fact.draining or fact.removed)

    def unready(self) -> str | None:
        """Why this broker is of no use to clients, or None."""
        return self.not_up() or self._readiness.why_not()

    def not_up(self) -> str | None:
        """Why this broker has not come up, or goes down; None of one that is up, also if it is cut off since."""
        if self._stopping:
            return "stopping"
        return None if self._ready else self._missing() or "about to be"

    def _missing(self) -> str | None:
        """What it takes until this broker is ready for the first time."""
        if self._formation.held is None:
            missing = self._formation.missing()
            return f"the cluster is not formed: waiting for brokers {missing}" if missing else "joining the cluster"
        if not self._caught_up or self._broker_id not in self._replicas.state.brokers:
            return "the cluster's decisions are not read yet"
        return None

    async def _raise_start_number(self) -> int:
        earlier = self._promises.start_number
        number = earlier + 1 if earlier else self._environment.wall_ms()
        await self._promises.sync(self._promises.note_start_number(number))
        return number

    def _wire_replicas(self, open_files_max: int) -> None:
        config = self.config
        self._replicas = Replicas(
            self._environment,
            self._promises,
            self._flusher,
            self._news,
            config,
            self._sightings,
            self.metrics,
            open_files_max=open_files_max,
        )
        self._transport = RaftTransport(self._links)
        self._environment.transport = self._transport
        self._replicas.transport = self._transport
        self._replicas.heartbeats = Heartbeats(
            self._broker_id,
            self._replicas.table,
            self._links.send_control,
            silence_ms=config.replica.election_timeout_ms,
            call_soon=self._environment.call_soon,
        )
        self._messages = Turns[tuple[int, PartitionId, Message]](
            self._environment.call_soon, lambda message: self._replicas.receive(*message)
        )
        self._replicas.changed = self._publish_soon
        self._moves = Moves(self._broker_id, self._replicas, self._links, _log_event)
        self._retention = Retention(self._broker_id, self._replicas, self._links, self._environment.wall_ms)
        self._compactions = Compactions(
            self._replicas,
            self._environment,
            config.compaction,
            self._outside.compaction_worker(config.compaction.bytes_per_s, self._environment),
            self._seen_offset,
            self._retention.clocks_apart,
            self.metrics,
        )
        self._scrubber = Scrubber(
            self._replicas, self._promises, config.scrub, self._environment.monotonic_ms, self._environment.random
        )
        self._lag = Lag(self._broker_id, self._replicas, self._links, self._environment.wall_ms)
        self._coordinators = Coordinators(
            self._replicas, self._lag, self._environment, groups_limits(config.groups, config.kafka)
        )
        self._replicas.watchers.append(self._coordinators)
        self._role_changes = RoleChanges(
            self._broker_id,
            self._links,
            lambda broker_id: self._links.session(broker_id) is not None,
            self._environment.wall_ms,
        )
        self._replicas.watchers.append(self._role_changes)

    def _wire_services(self) -> None:
        config, links, replicas, sightings = self.config, self._links, self._replicas, self._sightings
        self._view = ClusterView(self._broker_id, replicas, links, self._environment.monotonic_ms)
        self._holdings = Holdings(self._broker_id, replicas, self._promises, links, self._environment.disk)
        self._admin = AdminService(self._broker_id, replicas, links, sightings, self._view, self._holdings)
        self._broker = BrokerService(
            self._broker_id, replicas, links, sightings, self.metrics, config.limits, self._environment
        )
        self._rpc = RpcServer(
            self._broker,
            self._admin,
            GroupsService(self._broker_id, self._coordinators, sightings),
            self.metrics,
            replicas.with_address,
            self._outside,
            limits=config.limits,
        )
        self._rpc.name_process(f"{self._broker_id}-{self._identity.start_number:x}")
        self._wire_measuring()

    def _wire_measuring(self) -> None:
        replicas, links, environment = self._replicas, self._links, self._environment
        self._signs = VitalSigns(
            self._broker_id, replicas, links, self._view.committed_before, environment.monotonic_ms
        )
        self._lag_watch = LagWatch(
            self._broker_id,
            replicas,
            links,
            self._coordinators.led,
            environment.wall_ms,
            environment.monotonic_ms,
        )
        self._coordinators.lag_watch = self._lag_watch
        self._measuring = Measuring(
            self.config,
            self.metrics,
            replicas,
            links,
            self._coordinators,
            self._signs,
            self._lag_watch,
            self._view,
        )
        self._measuring.watch_process(
            is_ready=lambda: self.unready() is None,
            is_controller=lambda: self._controller is not None and self._controller.is_active,
            uptime_s=lambda: self._outside.monotonic_s() - self._began_s,
            connections=lambda: connection_rows(
                grpc=self._rpc.connections,
                peer=2 * len(links.sessions),
                http=self._http.connections,
                **({} if self._kafka is None else {"kafka": self._kafka.connections}),
            ),
            disk=environment.disk,
        )

    async def _listen_http(self) -> None:
        address = self.config.listen.http
        try:
            await self._http.start(*host_and_port(address))
        except OSError as error:
            raise InvalidConfig(
                f"cannot listen for HTTP at {address}: {(error.strerror or str(error)).lower()}; "
                "stop what listens there or set listen.http",
                key="listen.http",
                value=address,
            ) from None

    async def _open_kafka_door(self) -> None:
        if not self.config.listen.kafka:
            return
        from .kafka.service import kafka_door  # late: whoever has no such door does not pay for its schemas

        self._kafka = kafka_door(self, self._replicas, self._coordinators, self._admin, self.metrics, self._environment)
        await self._kafka.start(self.config.listen.kafka)

    @property
    def broker_id(self) -> int:
        return self._broker_id

    def kafka_addresses(self) -> dict[int, str]:
        """Broker id -> host:port of its door for Kafka clients, as it said last; empty if it has none."""
        return self._kafka_addresses

    def is_alive(self, broker_id: int) -> bool:
        return broker_id == self._broker_id or self._links.session(broker_id) is not None

    def cluster_id(self) -> str:
        return self._admin.cluster_id

    def _every(
        self,
        seconds: float | Callable[[], float],
        what: Callable[[], Awaitable[None] | None],
        on_late: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Call `what` again and again; an exception that it lets out ends the process.

        `on_late` is told each time by how much later than it was due, in seconds.
        """

        async def repeat() -> None:
            loop = asyncio.get_running_loop()
            while True:
                due = loop.time() + (seconds if isinstance(seconds, float | int) else seconds())
                outcome = what()
                if outcome is not None:
                    await outcome
                await asyncio.sleep(max(due - loop.time(), 0))
                on_late(max(loop.time() - due, 0.0))

        task = asyncio.get_running_loop().create_task(repeat())
        task.add_done_callback(self._on_task_end)
        self._tasks.append(task)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the broker failed", exc_info=error)
            self._environment.halt(f"a task of the broker failed: {error!r}")

    # -- belonging to a cluster --------------------------------------------------------------------------------------

    def _settle(self, chosen: ClusterSet) -> None:
        self._environment.spawn(self._settle_durably(chosen))

    async def _settle_durably(self, chosen: ClusterSet) -> None:
        await self._promises.sync(self._promises.note_cluster_set(chosen.encode()))
        log.info(
            "cluster_settled",
            cluster_id=chosen.cluster_id,
            voters=[str(voter) for voter in chosen.voters],
            votes=self._own in chosen.voters,
        )
        self._links.set_cluster_id(chosen.cluster_id)
        await self._join(chosen)
        self._formation.settled(chosen)

    async def _join(self, held: ClusterSet) -> None:
        """Open the replica of `__cluster`, and follow what it decides."""
        if self.config.board.enabled:
            self._board.join(tuple(voter.broker_id for voter in held.voters))
        replica = await self._replicas.open_cluster(held.voters)
        self._broker.cluster_id = self._admin.cluster_id = held.cluster_id
        if replica is not None:  # else it could not be opened: told already, and tried again; the others carry on
            self._follow_decisions(replica)

    async def _look_after_unopened(self) -> None:
        """What could not be opened is tried again now and then; all that waits for decisions, once they are there."""
        self._replicas.look_after_unopened()
        held = self._formation.held
        if held is None or self._controller is not None:
            return
        replica = self._replicas.table.get(CLUSTER_PARTITION)
        if replica is None and self._promises.recall(CLUSTER_PARTITION) is None:  # it could not be made
            replica = await self._replicas.open_cluster(held.voters)
        if replica is not None:
            replica.placed = held.voters
            self._follow_decisions(replica)

    def _follow_decisions(self, replica: Replica) -> None:
        self._cluster_log = DecisionLog(replica, ClusterState(_log_event), self._environment.call_soon, _log_event)
        self._controller = self._admin.controller = Controller(
            replica,
            self._cluster_log,
            self,
            self._environment.wall_ms,
            topic_limits(self.config),
        )
        self._replicas.follow(self._cluster_log)
        self._cluster_log.on_change(self._coordinators.decisions_changed)
        self._cluster_log.on_change(self._tell_of_recoveries)
        self._cluster_log.follow()
        self._environment.spawn(self._catch_up(self._cluster_log))

    def _tell_of_recoveries(self, keys: Sequence[str]) -> None:
        """Records were given up: who reads this broker's log is to know. What was before its start is passed over."""
        for name, number, recovery in self._recoveries.new_in(self._replicas.state, keys):
            if self._caught_up:
                log.warning("partition_recovered", topic=name, partition=number, **recovery.facts())

    async def _catch_up(self, cluster_log: DecisionLog[ClusterState]) -> None:
        """Apply every decision from before this process began; before that, nothing placed here counts as new."""
        end: int | None = None
        while not self._stopping and (end is None or cluster_log.applied_offset < end):
            if end is None:
                end = await self._confirmed_end()
            await asyncio.sleep(CATCH_UP_INTERVAL_S)
        if not self._stopping:
            self._caught_up = True
            self._replicas.create_from_now_on()

    async def _confirmed_end(self) -> int | None:
        """Where `__cluster` ended after this was asked, by its leader's word; None if there is none to ask."""
        leader_id = self._replicas.leader_of(CLUSTER_PARTITION).broker_id
        if leader_id is None:
            return None
        try:
            if leader_id == self._broker_id:
                return await self._end_of_decisions()
            answer = await self._links.call(leader_id, END_CALL, timeout_ms=END_ANSWER_MS_MAX)
            return int.from_bytes(answer, "big")
        except LograftError:
            return None

    async def _end_of_decisions(self) -> int:
        replica = self._replicas.table.get(CLUSTER_PARTITION)
        if replica is None:
            raise NoLeader(f"broker {self._broker_id} does not lead the decisions")
        return await replica.confirm_read()

    def _tell_set(self, broker_id: int, body: bytes) -> None:
        self._links.send_control(broker_id, FrameType.CLUSTER, body)

    def alive_brokers(self) -> dict[int, str]:
        """Broker id -> directory id of those in touch (`controller.LiveBrokers`)."""
        alive = {session.broker_id: session.peer.directory_id for session in self._links.sessions}
        return alive | {self._broker_id: self._promises.directory_id}

    # -- what the links tell (PeerHandlers) --------------------------------------------------------------------------

    def session_up(self, session: PeerSession) -> None:
        peer = session.peer
        self._kafka_addresses[peer.broker_id] = peer.kafka_address
        self._sightings.session_up(
            Sighting(
                broker_id=peer.broker_id,
                directory_id=peer.directory_id,
                start_number=peer.start_number,
                sequence=0,
                addresses=Addresses(peer.grpc_address, peer.peer_address, peer.http_address),
                rack=peer.rack,
                version=peer.version,
                leads=(),
            )
        )
        for part in self._sightings.own_parts():
            self._links.send_control(peer.broker_id, FrameType.SIGHTING, part)
        self._board.session_up(peer.broker_id)
        self._replicas.session_up(peer.broker_id, peer.directory_id)
        self._formation.session_up(peer.broker_id, peer.directory_id, peer.cluster_id or "")

    def session_down(self, broker_id: int, why: str) -> None:
        self._sightings.session_down(broker_id)
        self._board.session_down(broker_id)
        self._formation.session_down(broker_id)
        self._replicas.session_down(broker_id)

    def frame(self, broker_id: int, frame_type: FrameType, body: memoryview) -> None:
        if frame_type is FrameType.RAFT:
            self._messages.take((broker_id, *addressed) for addressed in decode_raft_bundle(body))
        elif frame_type in FRAME_TYPES:
            session = self._links.session(broker_id)
            # A pair is heard only while both its links answer: with the bulk link stuck, a heartbeat means nothing.
            if session is not None and self._answers(session):
                self._replicas.heartbeats.receive(broker_id, frame_type, body, self._environment.monotonic_ms())
        elif frame_type is FrameType.SIGHTING:
            sighting = decode_sighting(body)
            if sighting.broker_id == broker_id:
                self._sightings.see(sighting)
        elif frame_type is FrameType.BOARD:
            self._board.receive(broker_id, body)
        elif frame_type is FrameType.CLUSTER:
            self._formation.told(broker_id, body)
        else:
            raise InvalidRequest(f"broker {self._broker_id} takes no frame of type {frame_type.name}")

    async def call(self, broker_id: int, method: str, body: bytes) -> bytes:
        if method == STATUS_CALL:
            return self._view.encoded()
        if method == DAMAGE_CALL:
            return self._view.encoded_damage()
        if method == END_CALL:
            return (await self._end_of_decisions()).to_bytes(8, "big")
        if method == TAKE_OVER_CALL:
            return b"\x01" if self._may_lead_more() else b"\x00"
        if method == LET_GO_CALL:
            return await self._moves.carry_out(body)
        if method == HOLDING_CALL:
            return await self._holdings.carry_out(body)
        if method == CLOCK_CALL:
            return self._retention.encoded_clock()
        if method == ROLES_CALL:
            return self._role_changes.encoded()
        if method == UNREAD_CALL:
            return await self._lag.carry_out(body)
        if method == LAG_CALL:
            return await self._lag_watch.carry_out(broker_id, body)
        if method.startswith(CALL_PREFIX):
            return await self._admin.carry_out(method, body)
        raise InvalidRequest(f"broker {self._broker_id} knows no call {method[:80]!r}")

    def superseded(self, why: str) -> None:
        log.error("superseded", why=why)
        with contextlib.suppress(OSError):
            self._directory.note_superseded(self._promises.directory_id, self._identity.start_number, why)
        # At once, and without a clean stop: the other process uses the directory already.
        self._outside.end_process(EXIT_SUPERSEDED)

    def _answers(self, session: PeerSession) -> bool:
        now_ms = asyncio.get_running_loop().time() * 1000
        allowed_ms = self.config.replica.election_timeout_ms + self.config.peer.heartbeat_interval_ms
        return now_ms - session.heard_ms <= allowed_ms

    # -- sightings ---------------------------------------------------------------------------------------------------

    def _publish_whole_soon(self) -> None:
        self._whole_is_due = True
        self._publish_soon()

    def _publish_soon(self) -> None:
        """Tell what changed, together with whatever else changes within a moment."""
        if not self._sighting_is_due and not self._stopping:
            self._sighting_is_due = True
            delay_s = max(SIGHTING_DELAY_S, SIGHTING_DELAY_S_PER_REPLICA * len(self._replicas.table))
            asyncio.get_running_loop().call_later(delay_s, lambda: self._publish(whole=self._whole_is_due))

    def _publish(self, *, whole: bool = True) -> None:
        self._sighting_is_due = False
        self._whole_is_due &= not whole
        if self._stopping:
            return
        self._sequence += 1
        led = sorted((replica.partition, replica.term) for replica in self._replicas.led)
        self._sightings.publish(
            Sighting(
                broker_id=self._broker_id,
                directory_id=self._promises.directory_id,
                start_number=self._identity.start_number,
                sequence=self._sequence,
                addresses=self._addresses,
                rack=self.config.broker.rack,
                version=self._identity.version,
                leads=tuple(Led(partition.topic_id, partition.number, term) for partition, term in led),
            ),
            whole=whole,
        )

    def _send_sighting(self, part: bytes) -> None:
        """Both ways: a broker that the board does not reach just now would not know where to send a client."""
        self._board.publish(part)
        for session in self._links.sessions:
            self._links.send_control(session.broker_id, FrameType.SIGHTING, part)

    def _send_board(self, broker_id: int, body: bytes) -> bool:
        session = self._links.session(broker_id)
        if session is None or session.control.waiting_bytes > ROOM_BYTES:
            return False  # the board can wait, the heartbeats on this link cannot
        return self._links.send_control(broker_id, FrameType.BOARD, body)

    def _on_sightings(self) -> None:
        """Brokers that joined later are dialled at the addresses they tell of themselves, or others of them."""
        for sighting in self._sightings.brokers():
            if sighting.broker_id != self._broker_id and sighting.addresses.peer:
                self._links.know(sighting.broker_id, sighting.addresses.peer)

    # -- again and again ---------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._replicas.tick()
        self._board.tick()  # in the same turn of the loop: its frames leave with the heartbeats

    async def _tend(self) -> None:
        """Be ready when it is true; and, as the controller, register who is in session, and make what groups need."""
        if not self._ready and not self._stopping and self._missing() is None:
            self._ready = True
            await self._rpc.say_serving(self._serving())
            log.info("ready", cluster_id=self._admin.cluster_id)
        if self._ready and not self._stopping:
            self._note_readiness()
            await self._rpc.say_serving(self._serving())
        controller = self._controller
        if controller is None or not controller.is_active:
            return
        racks = {session.broker_id: session.peer.rack for session in self._links.sessions}
        racks[self._broker_id] = self.config.broker.rack
        for broker_id, directory_id in sorted(self.alive_brokers().items()):
            known = self._replicas.state.brokers.get(broker_id)
            is_known = known is not None and (known.directory_id, known.rack) == (
                directory_id,
                racks.get(broker_id, ""),
            )
            if known is None or known.gone or not is_known:
                try:
                    await controller.register_broker(broker_id, directory_id, racks.get(broker_id, ""))
                except LograftError as error:
                    log.info("broker_not_registered", broker=broker_id, why=error.message)
                    return
        if self._replicas.state.topic(OFFSETS_TOPIC) is None:
            await self._make_offsets_topic(controller)
        try:
            if grown := await controller.grow_internal_topics():
                log.info("internal_topics_grown", topics=grown)
        except LograftError as error:
            log.info("internal_topics_not_grown", why=error.message)

    def _note_readiness(self) -> None:
        if self._readiness.note(
            self._environment.monotonic_ms(),
            has_controller=self._signs.has_leader(CLUSTER_PARTITION),
            heard=self._signs.up(),
            members=len(self._signs.registered()),
        ):
            why_not = self._readiness.why_not()
            log.info("ready_again") if why_not is None else log.warning("unready", why=why_not)

    def _serving(self) -> dict[str, bool]:
        """Of a broker that is up, which of its services are of use just now."""
        is_ready = self._readiness.why_not() is None
        return {
            "": is_ready,
            BROKER_SERVICE: is_ready,
            ADMIN_SERVICE: self._signs.has_leader(CLUSTER_PARTITION),
            GROUPS_SERVICE: any(
                self._signs.has_leader(PartitionId(OFFSETS_TOPIC_ID, number))
                for number in range(self._coordinators.partition_count)
            ),
        }

    async def _look_for_absences(self) -> None:
        """As the controller: who has been out of sight for too long is gone."""
        controller, replica = self._controller, self._replicas.table.get(CLUSTER_PARTITION)
        if controller is None or replica is None or not controller.is_active:
            return
        brokers = self._replicas.state.brokers
        members = [broker_id for broker_id, fact in brokers.items() if not fact.removed]
        unseen_ms = self._absences.look(
            self._environment.monotonic_ms(), replica.term, members, self.alive_brokers().keys()
        )
        gone_after_ms = value_of(self._replicas.state.settings, GONE_AFTER_MS)
        if gone_after_ms is None:
            return
        gone = [broker_id for broker_id, for_ms in unseen_ms.items() if for_ms >= gone_after_ms]
        if not gone:
            return
        try:
            if changed := await controller.declare_gone(gone):
                log.info("brokers_gone", brokers=gone, changed=changed)
        except LograftError as error:
            log.info("brokers_not_declared_gone", brokers=gone, why=error.message)

    async def _make_offsets_topic(self, controller: Controller) -> None:
        """Once, when the cluster forms: as soon as enough brokers are registered to hold it."""
        count = self.config.groups.offsets_partitions
        try:
            made = await controller.create_topic(OFFSETS_TOPIC, OFFSETS_TOPIC_ID, count, internal=True)
        except LograftError as error:
            # Again a quarter of a second later, until enough brokers are there; said once, not each time.
            if error.message != self._offsets_topic_missing:
                self._offsets_topic_missing = error.message
                log.info("offsets_topic_not_made", why=error.message)
            return
        if not made.existed:
            log.info("offsets_topic_made", partitions=count, replication=made.topic.replication)

    def _seen_offset(self, partition: PartitionId) -> int | None:
        """How far the state of decisions here has seen their log; None for a partition of which no state is built."""
        if partition == CLUSTER_PARTITION:
            return 0 if self._cluster_log is None else self._cluster_log.seen_offset
        return self._coordinators.seen_offset(partition) if partition.topic_id == OFFSETS_TOPIC_ID else None

    def _settle_memory(self) -> None:
        count, before = len(self._replicas.table), self._settled_replicas
        if not before or count >= before + SETTLED_AFTER_OPENING or count <= before - SETTLED_AFTER_CLOSING:
            self._outside.settle_memory(thoroughly=count <= before or not before)
            self._settled_replicas = max(count, 1)

    async def _look(self) -> None:
        self._settle_memory()
        self._replicas.look_at_disk()
        self._replicas.look_after_recoveries()
        await self._look_after_unopened()
        self._view.look()
        led = [view for replica in self._replicas.led if (view := self._led_partition(replica)) is not None]
        await hand_back_once(
            self._hand_back, self._environment.monotonic_ms(), led, self._transfer_leadership, _log_event
        )

    def _led_partition(self, replica: Replica) -> LedPartition | None:
        """What is to be known of a partition that another broker should lead; None of any other."""
        fact = self._replicas.state.partition(replica.partition)
        if fact is None or not fact.placement:
            return None
        brokers, wanted = self._replicas.state.brokers, self._replicas.placed_voters(replica)
        free = [voter for voter in wanted if (known := brokers.get(voter.broker_id)) is None or not known.draining]
        preferred = (free or wanted)[0]
        if preferred == replica.voter:
            return None  # it is where it should be, and so are nearly all
        status = replica.status()
        match: Point | None = None
        for follower in status.followers:
            if follower.voter == preferred and follower.votes and follower.heard and follower.counts:
                match = follower.match
        return LedPartition(replica.partition, replica.voter, preferred, status.end, match)

    async def _transfer_leadership(self, partition: PartitionId, broker_id: int) -> None:
        replica = self._replicas.table.get(partition)
        if replica is None:
            return
        if not await self._takes_over(broker_id):
            raise BrokerUnavailable(f"broker {broker_id} is not ready to lead, or is about to stop")
        await replica.transfer_leadership(broker_id)

    def _log_event(self, event: str, **facts: Any) -> None:
        """As `_log_event`; and where it is about a partition, with the topic's name."""
        if "partition" in facts and self._cluster_log is not None:
            topic = self._cluster_log.state.topic_by_id(str(facts["partition"]).rpartition("-")[0])
            if topic is not None:
                facts["topic"] = topic.name
        _log_event(event, **facts)


def groups_limits(section: GroupsSection, kafka: KafkaSection | None = None) -> GroupsLimits:
    """What the configuration says that coordinators go by: settings of the same names."""
    sections = (section, kafka or KafkaSection())
    return GroupsLimits(
        **{
            field.name: next(getattr(one, field.name) for one in sections if hasattr(one, field.name))
            for field in dataclasses.fields(GroupsLimits)
        }
    )


def _log_event(event: str, **facts: Any) -> None:
    log.log(level_of(event, facts), event, **facts)
