"""Brokers that run the real replicas, logs, promises and heartbeats, on simulated disks and a simulated network.

Invariants
    two brokers talk only within a session, which ends with either process, and nothing said in it outlives it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from lograft.node.voter_steps import who_should_vote
from lograft.partitions.environment import PartitionId, ReplicaConfig
from lograft.partitions.raft.messages import Message, Voter
from lograft.partitions.raft.points import Point
from lograft.partitions.replica import Replica
from lograft.partitions.storage.compaction import CompactionSettings
from lograft.partitions.storage.retention import RetentionLimits
from lograft.proto.errors import LograftError

from tests.simulation.decisions import Decisions
from tests.simulation.invariants import Invariants
from tests.simulation.machine import Machine
from tests.simulation.network import Network, Weather
from tests.simulation.process import Answer, BrokerProcess, log_directory
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import VirtualLoop

RECONNECT_MS = 100.0
COPY_BYTES_PER_SECOND_SETTLING = 300_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a seed draws before it begins."""

    brokers: int = 3
    replicas: int = 0
    """Of each partition when it begins; 0: one on every broker."""
    partitions: int = 1
    config: ReplicaConfig
    weather: Weather
    compaction: CompactionSettings
    clock_rates: tuple[float, ...]
    write_back_chance: float = 0.05
    flush_threads: int = 4
    news_delay_ms: float = 0.0
    """How long followers wait to hear what is committed, at most, where no items come that tell them."""
    gather_ms: float = 0.0
    """Batches of a partition that come within it are appended at once; 0: each by itself."""
    retention: RetentionLimits | None = None
    """What every partition may keep."""
    compaction_pace_ms: float = 0.0
    """Mean time between two compactions of a replica's log; 0: it is never compacted."""
    copy_bytes_per_second: int | None = None
    """What each broker may send of a backlog to learners."""
    waits_for_decisions: bool = False
    """A process leads nothing before it has applied all that was decided when it started, as a real broker does."""
    scrub_pace_ms: float = 0.0
    """Mean time between two scrubs of a replica's log; 0: it is never scrubbed."""
    in_memory: bool = False
    """The topic has durability=memory, and maybe at times fsync again."""


class Cluster:
    """Machines, the network between them, and the ways in for clients and faults."""

    def __init__(self, seed: str, options: Options, *, loop: VirtualLoop, trace: Trace) -> None:
        self.seed = seed
        self.options = options
        self.loop = loop
        self.trace = trace
        self.random = Random(f"{seed} cluster")
        self.network = Network(loop=loop, random=Random(f"{seed} network"), weather=options.weather)
        self.partitions = [PartitionId(f"{0xABC:032x}", number) for number in range(options.partitions)]
        self.machines = {
            number: Machine(self, number, options.clock_rates[number - 1]) for number in range(1, options.brokers + 1)
        }
        self.durability = "memory" if options.in_memory else "fsync"
        self.hears_of_durability = Random(f"{seed} durability")
        self.decisions: Decisions
        self.invariants: Invariants
        self.failure: BaseException | None = None
        self.compactions = 0
        self.runs = 0
        """Of several batches that were appended at once."""
        self.on_sent: Callable[[BrokerProcess, Message], None] | None = None
        """Told of each message once it has left: the moment at which a promise begins to bind."""
        self.restarts_ms: tuple[float, float] = (10.0, 1500.0)
        self.allowances = 0
        """Given to learners that waited for one."""
        self.traffic = 1.0
        """Chance of each thing that a client is about to begin: less in calm stretches."""
        self.is_healed = False
        """Nothing is forgotten any more: what is there can be compared."""
        self._sessions: dict[tuple[int, int], tuple[BrokerProcess, BrokerProcess]] = {}
        self._moved: dict[Replica, tuple[Voter, ...]] = {}
        """Those whose committed point moved in this step, each with who voted when it first did."""
        self._forgotten: set[Replica] = set()
        loop.after_step = self._after_step
        loop.set_exception_handler(self._on_loop_failure)

    async def form(self) -> None:
        """Mint every directory id, then let the brokers open their replicas."""
        processes = [machine.start() for machine in self.machines.values()]
        for process in processes:
            await process.environment.start(process.open_promises())
        directories = {number: machine.directory_id or "" for number, machine in self.machines.items()}
        assert all(directories.values()), f"not every machine minted its directory id: {directories}"
        count = self.options.replicas or len(self.machines)
        placements = [self.random.sample(list(self.machines), count) for _ in self.partitions]
        self.decisions = Decisions(self.partitions[0].topic_id, placements, directories)
        self.invariants = Invariants(
            self.partitions,
            first_voters={partition: self.decisions.placement(partition) for partition in self.partitions},
            is_durable=self.is_durable,
            is_written=self.is_written if self.options.in_memory else None,
        )
        late = self._late_broker() if count >= 3 else None
        for number, process in zip(self.machines, processes, strict=True):
            if number != late:
                process.environment.spawn(process.create())
        self._keep_sessions()

    def _late_broker(self) -> int | None:
        """In some seeds a broker is away while the topic is made: who votes there has yet to be made."""
        random = Random(f"{self.seed} late")
        if random.random() >= 0.15:
            return None
        machine = random.choice(list(self.machines.values()))
        machine.kill()
        # Or until nothing fails any more: then what goes wrong when it comes back is not set right by another fault.
        away_s = random.choice((random.uniform(0.5, 12.0), random.uniform(0.5, 12.0), 60.0))
        self.loop.call_later(away_s, self.ensure_up, machine)
        return machine.broker_id

    # -- what brokers tell ---------------------------------------------------------------------------------------------

    def fail(self, failure: BaseException) -> None:
        """A broker's code let this out, or a rule was broken inside of it."""
        if self.failure is None:
            self.failure = failure

    def note_committed(self, replica: Replica) -> None:
        self._moved.setdefault(replica, replica.voters)

    def forget_crashed(self, replica: Replica) -> None:
        """Its process has ended in the midst of a step: what it committed in that step it may have told already."""
        if replica in self._moved:
            self.invariants.note_committed(replica, self._moved[replica])
        self.forget(replica)

    def forget(self, replica: Replica) -> None:
        self._moved.pop(replica, None)
        self.invariants.forget(replica)

    def sent(self, process: BrokerProcess, message: Message) -> None:
        if self.on_sent is not None:
            self.on_sent(process, message)

    def restart_later(self, machine: Machine) -> None:
        self.loop.call_later(self.random.uniform(*self.restarts_ms) / 1000.0, self.ensure_up, machine)

    def ensure_up(self, machine: Machine) -> None:
        if not machine.is_up:
            machine.run()

    def is_settled(self, partition: PartitionId) -> bool:
        """Do just those vote who should? Only then does the controller take another move, unless it takes one back."""
        leader = self.leader_of(partition)
        return leader is not None and {*leader.voters} == {*self.placed_voters(partition)}

    def placed_voters(self, partition: PartitionId) -> tuple[Voter, ...]:
        """Who should vote, by the newest decision and the leader's log."""
        leader, fact = self.leader_of(partition), self.decisions.newest.partitions[partition.number]
        return fact.placement if leader is None else who_should_vote(fact, leader.voters)

    def has_been_led(self, partition: PartitionId) -> bool:
        return len(self.invariants.committed[partition].places) > 1

    def is_short_of_a_disk(self) -> bool:
        """Does a set of voters that may count name one that is lost? Then all others are needed."""
        return any(voter in self.invariants.lost for voters in self._voter_sets() for voter in voters)

    def awaits_a_failure(self) -> bool:
        """Was a failure ordered that no disk has met yet, and that may leave what is there in doubt?"""
        return any(
            machine.disk.sync_failures or machine.disk.directory_sync_failures for machine in self.machines.values()
        )

    def outvotes_any_one(self) -> bool:
        """Is a majority of every set of voters that may count left, whichever one of them is in doubt?"""
        return all(len(voters) >= 3 for voters in self._voter_sets() if voters)

    def _voter_sets(self) -> list[tuple[Voter, ...]]:
        return [voters for partition in self.partitions for voters in self._voter_sets_of(partition)]

    def other_holders(self, machine: Machine, partition: PartitionId) -> list[Machine]:
        """Whose logs may be counted on for what decays on this machine: those that vote by any set that may count."""
        voting = {voter for voters in self._voter_sets_of(partition) for voter in voters}
        there = {voter.broker_id for voter in voting if self.is_there(voter, partition)}
        return [other for other in self.machines.values() if other is not machine and other.broker_id in there]

    def _voter_sets_of(self, partition: PartitionId) -> list[tuple[Voter, ...]]:
        return [self.invariants.committed[partition].voters, *(one.voters for one in self.live_replicas(partition))]

    def may_lose_disk(self, machine: Machine) -> bool:
        """Does a majority of disks survive, in every set of voters that may count now? One at a time is lost."""
        doubtful = any(
            replica.status().doubtful for partition in self.partitions for replica in self.live_replicas(partition)
        )
        # One that is still starting has not said yet whether it is in doubt.
        open_here = {replica.voter for partition in self.partitions for replica in self.live_replicas(partition)}
        return (
            machine.directory_id is not None
            and all(other.is_up for other in self.machines.values())
            and all(open_here.issuperset(voters) for voters in self._voter_sets())
            and all(len(voters) >= 3 for voters in self._voter_sets())
            and not doubtful
            and not self.is_short_of_a_disk()
            and not self.awaits_a_failure()
        )

    def is_durable(self, voter: Voter, partition: PartitionId, point: Point) -> bool:
        return self.is_there(voter, partition) and self.machines[voter.broker_id].platter.holds(
            log_directory(partition), point
        )

    def is_written(self, voter: Voter, partition: PartitionId, point: Point) -> bool:
        """Would it outlive the process?"""
        return self.is_there(voter, partition) and self.machines[voter.broker_id].page_cache.holds(
            log_directory(partition), point
        )

    def is_there(self, voter: Voter, partition: PartitionId) -> bool:
        """Is this identity's replica on its machine's disk?"""
        machine = self.machines[voter.broker_id]
        return voter[1:] == (machine.directory_id, machine.numbers.get(partition))

    def registered_later(self, machine: Machine) -> None:
        """The controller hears that a broker came up, and on which disk."""
        directory_id = machine.directory_id
        assert directory_id is not None, f"{machine.name} has no directory id"

        def register() -> None:
            if machine.directory_id == directory_id:
                self.decisions.register(machine.broker_id, directory_id)

        self.loop.call_later(self.random.uniform(10, 500) / 1000.0, register)

    def _after_step(self) -> None:
        while self._moved:
            replica, voted = next(iter(self._moved.items()))
            del self._moved[replica]
            self.trace.note("committed", f"{replica.voter} {replica.partition.number} {replica.committed}")
            self.invariants.note_committed(replica, voted)
        if self.failure is not None:
            raise self.failure

    def _on_loop_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failure = context.get("exception")
        if isinstance(failure, Exception):
            self.fail(failure)

    # -- sessions ------------------------------------------------------------------------------------------------------

    def _keep_sessions(self) -> None:
        """End sessions whose processes have ended, and begin those that can be."""
        for one in self.machines.values():
            for other in self.machines.values():
                if one.broker_id < other.broker_id:
                    self._keep_session(one, other)
        self.loop.call_later(RECONNECT_MS / 1000.0, self._keep_sessions)

    def _keep_session(self, one: Machine, other: Machine) -> None:
        pair = (one.broker_id, other.broker_id)
        session = self._sessions.get(pair)
        if (session is not None and session != (one.process, other.process)) or (
            session and not all(process.is_alive for process in session)
        ):
            self.end_session(*pair)
            session = None
        if session is None and one.process is not None and other.process is not None:
            processes = (one.process, other.process)
            ready = all(
                process.is_alive and process.is_open and not process.environment.is_paused for process in processes
            )
            if ready and not self.network.is_cut(*pair) and not self.network.is_cut(*reversed(pair)):
                self.network.reset(*pair)
                self._sessions[pair] = processes
                for process, peer in zip(processes, reversed(processes), strict=True):
                    assert peer.promises is not None, f"{peer.environment.name} is open, but has no promises"
                    process.session_up(peer.broker_id, peer.promises.directory_id)

    def end_session(self, one_id: int, other_id: int) -> None:
        """Both connections of a pair break."""
        pair = (min(one_id, other_id), max(one_id, other_id))
        session = self._sessions.pop(pair, None)
        if session is not None:
            self.network.reset(*pair)
            for process, peer_id in zip(session, reversed(pair), strict=True):
                process.session_down(peer_id)

    # -- clients -------------------------------------------------------------------------------------------------------

    def call(self, broker_id: int, request: Callable[[BrokerProcess, Answer], None], answer: Answer) -> None:
        """Carry a client's request to a broker and its answer back; either may be late, and either may be lost.

        Requests to one broker arrive in the order of their calls.
        """
        process = self.machines[broker_id].process
        if process is None or not process.is_alive or not process.is_open:
            return

        def answer_later(outcome: Any) -> None:
            if self.random.random() >= self.network.weather.drop_chance:
                self.loop.call_later(self.random.uniform(0.0001, 0.001), answer, outcome)

        def take() -> None:
            try:
                request(process, answer_later)
            except LograftError as refusal:
                answer_later(refusal)

        if self.random.random() >= self.network.weather.drop_chance:
            self.loop.call_later(0.0005, process.environment.enter, take)

    # -- what can be asked ---------------------------------------------------------------------------------------------

    def wall_clocks(self) -> dict[int, int]:
        """Of the brokers that are up."""
        return {
            machine.broker_id: machine.process.environment.wall_ms()
            for machine in self.machines.values()
            if machine.is_up and machine.process is not None
        }

    def copy_bytes_per_second(self) -> int | None:
        """A throttle that would take all the time there is for settling is lifted then."""
        limit = self.options.copy_bytes_per_second
        return None if limit is None or (self.is_healed and limit < COPY_BYTES_PER_SECOND_SETTLING) else limit

    def live_replicas(self, partition: PartitionId) -> list[Replica]:
        return [
            machine.process.replicas[partition]
            for machine in self.machines.values()
            if machine.is_up and machine.process is not None and partition in machine.process.replicas
            if not self.invariants.is_ended(machine.process.replicas[partition])
        ]

    def leader_of(self, partition: PartitionId) -> Replica | None:
        """The one of the highest term."""
        leaders = [replica for replica in self.live_replicas(partition) if replica.is_leader]
        return max(leaders, key=lambda replica: replica.term, default=None)
