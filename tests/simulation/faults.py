"""What goes wrong in a simulated cluster, and when.

A fault is a method of `Nemesis`: it breaks something now, and sees to it that the breakage ends after a while. None of
them takes a disk's synced bytes away but `lose_disk`, and `decay`, which leaves a good copy of each item somewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from lograft.partitions.raft.messages import AppendReply, HeadOffer, Message, Voter, VoteReply, VoteRequest

from tests.simulation.cluster import Cluster
from tests.simulation.decay import decayable
from tests.simulation.disk import UNBOUNDED_BYTES
from tests.simulation.environment import Clock
from tests.simulation.machine import Machine
from tests.simulation.process import REPLICATION_STOP_FREE_BYTES, BrokerProcess

COMMON = (
    "kill",
    "lose_power",
    "crash_at_disk_operation",
    "crash_after_promise",
    "isolate",
    "cut_one_way",
    "break_connection",
    "bad_weather",
    "pause",
    "slow_disk",
    "transfer",
    "cut_leader_from_majority",
)
MOVING = ("move", "move", "cut_old_from_new", "lose_disk")
"""Where replicas are not where they began: moves, and disks that are gone for good."""
RARE = (
    "depose_with_stuck_sync",
    "lose_power_everywhere",
    "fail_sync",
    "jump_wall_clock",
    "crash_everywhere_at_disk_operations",
    "swizzle",
)
RARER = (
    "pause_long",
    "pause_kill",
    "kill_majority",
    "restart_rolling",
    "cut_into_ring",
    "cut_into_halves",
    "strobe_wall_clock",
    "drift_clock",
    "get_stuck_sync",
    "fill_disk_nearly",
    "fill_disk",
    "fail_write",
    "fail_directory_sync",
)
DECAYING = ("decay", "break_sector", "break_sector", "fail_reads")
"""What disks do that begin to die; and what else may then not be lost, is not."""
WHERE_FOLLOWERS_BEGIN_ANEW = ("leave_behind", "leave_behind", "crash_at_reset")
"""What it takes for a follower to be behind what its leader dropped, and for its reset to be disturbed."""


class Nemesis:
    """Breaks things, as a seed has it. `count` says what was done."""

    def __init__(self, cluster: Cluster, seed: str) -> None:
        self.done: Counter[str] = Counter()
        self.idle: Counter[str] = Counter()
        """What found nothing that it could break."""
        self._cluster = cluster
        self._random = Random(f"{seed} nemesis")
        self._crash_after: dict[type[Message], float] = {}
        self._crash_at_reset = False
        self._is_over = False
        self._loses_disks = Random(f"{seed} disks").random() < 0.5
        """Then no other fault may cost what the others need: moves follow one another, and leave three or more."""
        # Of its own, so that what else is drawn for a seed stays as it was.
        self._chooses_gone = Random(f"{seed} gone")
        self._replicas_min = 3 if self._loses_disks else 2
        self._has_few_copies = False
        """Something decayed that not all others had: whoever has to go, for a move, might be the last that has it."""
        self._decays_on: int | None = None
        """Where logs are compacted, or forget, one machine's disk decays: nobody else may need what only it has."""
        if cluster.options.compaction_pace_ms or cluster.options.retention is not None:
            self._decays_on = self._random.choice(list(cluster.machines))
        self._breaks_on = Random(f"{seed} breaks").choice(list(cluster.machines))
        """The machine whose disk may give no answer: what the broker drops for that, another must have."""
        cluster.on_sent = self._look_at

    def start(self, kinds: Sequence[str], count: int, span_ms: float, *, after_ms: float = 0.0) -> None:
        """Order `count` faults of these kinds within a span of time that begins `after_ms` from now."""
        if {"decay", *DECAYING} & {*kinds}:
            self._loses_disks = False  # three replicas do not survive both
            self._replicas_min = 3
        for _ in range(count):
            kind = self._random.choice(kinds)
            self._later(after_ms + self._random.uniform(0, span_ms), partial(self.inflict, kind))

    def start_absences(self, span_ms: float) -> None:
        """In every other seed some broker is away for so long that it is declared gone."""
        for _ in range(self._chooses_gone.choice((0, 0, 1, 2))):
            self._later(self._chooses_gone.uniform(0, span_ms), partial(self.inflict, "declare_gone"))

    @property
    def _moves_follow_one_another(self) -> bool:
        """Each only once the one before is done: else those who have what others have lost might have to go."""
        return self._loses_disks or self._has_few_copies

    def inflict(self, kind: str) -> None:
        if self._is_over:
            return
        self._cluster.trace.note("fault", kind)
        if getattr(self, kind)() is False:
            self.idle[kind] += 1
        else:
            self.done[kind] += 1

    def heal(self) -> None:
        """Let go of everything: from here on nothing fails any more."""
        self._is_over = True
        cluster = self._cluster
        self._crash_after.clear()
        self._crash_at_reset = False
        cluster.network.mend_all()
        for machine in cluster.machines.values():
            machine.disk.sync_delay_ms = 0.0
            machine.disk.sync_failures = 0
            machine.disk.directory_sync_failures = 0
            machine.disk.write_failures = 0
            machine.disk.read_failure_chance = 0.0
            machine.disk.capacity_bytes = UNBOUNDED_BYTES
            machine.disk.stalls_ms.clear()
            machine.power_fails = False
            if machine.process is not None and machine.process.is_alive:
                machine.process.environment.crash_at_operation = None
                if machine.process.environment.is_paused:
                    machine.process.environment.resume()

    # -- processes and machines ----------------------------------------------------------------------------------------

    def kill(self) -> None:
        machine = self._some_machine()
        machine.kill()
        self._cluster.restart_later(machine)

    def lose_power(self) -> None:
        machine = self._some_machine()
        machine.lose_power()
        self._cluster.restart_later(machine)

    def lose_power_everywhere(self) -> None:
        for machine in self._cluster.machines.values():
            machine.lose_power()
            self._cluster.restart_later(machine)

    def crash_at_disk_operation(self) -> None:
        self._plan_crash(self._some_machine())

    def crash_everywhere_at_disk_operations(self) -> None:
        for machine in self._cluster.machines.values():
            self._plan_crash(machine)

    def crash_after_promise(self) -> None:
        """For a while, whoever lets a promise go may crash in the same instant."""
        kind = self._random.choice((VoteReply, VoteReply, AppendReply, VoteRequest))
        self._crash_after[kind] = 0.02 if kind is AppendReply else 0.5
        self._later(self._random.uniform(500, 3000), lambda: self._crash_after.pop(kind, None))

    def crash_at_reset(self) -> None:
        """For a while, whoever is offered a head crashes at one of its next disk operations."""
        self._crash_at_reset = True
        self._later(self._random.uniform(1000, 6000), lambda: setattr(self, "_crash_at_reset", False))

    def pause(self) -> bool:
        return self._pause(self._some_machine(), self._random.choice((50, 400, 900, 2500)))

    def pause_long(self) -> bool:
        return self._pause(self._some_machine(), self._random.uniform(4_000, 12_000))

    def _pause(self, machine: Machine, for_ms: float) -> bool:
        process = machine.process
        if process is None or not process.is_alive or process.environment.is_paused:
            return False
        process.environment.pause()
        self._later(for_ms, process.environment.resume)
        return True

    def pause_kill(self) -> None:
        """A minority falls behind; then one that is up to date loses its power, and of the others only those go on
        that fell behind."""
        machines = list(self._cluster.machines.values())
        self._random.shuffle(machines)
        few = (len(machines) - 1) // 2
        behind, pivot, ahead = machines[:few], machines[few], machines[few + 1 :]
        lag_ms, gap_ms = self._random.uniform(300, 2000), self._random.uniform(300, 2000)
        for machine in behind:
            self._pause(machine, lag_ms + self._random.uniform(1, 50))

        def turn() -> None:
            if not self._is_over:
                for machine in ahead:
                    self._pause(machine, gap_ms)
                pivot.lose_power()
                self._cluster.restart_later(pivot)

        self._later(lag_ms, turn)

    def kill_majority(self) -> None:
        machines = list(self._cluster.machines.values())
        for machine in self._random.sample(machines, len(machines) // 2 + 1):
            machine.kill()
            self._cluster.restart_later(machine)

    def restart_rolling(self) -> None:
        at_ms = 0.0
        for machine in self._cluster.machines.values():
            self._later(at_ms, partial(self._restart, machine))
            at_ms += self._random.uniform(50, 1500)

    def _restart(self, machine: Machine) -> None:
        if not self._is_over:
            machine.kill()
            self._later(self._random.uniform(5, 400), partial(self._cluster.ensure_up, machine))

    def transfer(self) -> bool:
        orders = 0
        for partition in self._cluster.partitions:
            leader = self._cluster.leader_of(partition)
            if leader is not None:
                process = self._cluster.machines[leader.voter.broker_id].process
                target = self._random.choice(list(self._cluster.machines))
                if process is not None:
                    orders += 1
                    process.environment.enter(partial(process.transfer, partition, target))
        return orders > 0

    def jump_wall_clock(self) -> None:
        self._some_machine().clock.wall_offset_ms += self._random.uniform(-3_600_000, 3_600_000)

    def strobe_wall_clock(self) -> None:
        """It jumps to and fro for a while."""
        clock, far_ms = self._some_machine().clock, self._random.choice((10.0, 3_000.0, 86_400_000.0))
        at_ms = 0.0
        for _ in range(self._random.randint(2, 20)):
            for jump_ms in (far_ms, -far_ms):
                at_ms += self._random.uniform(1, 200)
                self._later(at_ms, partial(self._jump, clock, jump_ms))

    @staticmethod
    def _jump(clock: Clock, by_ms: float) -> None:
        clock.wall_offset_ms += by_ms

    def drift_clock(self) -> None:
        """One machine's time runs a good deal faster or slower for a while, as on a bad virtual machine."""
        cluster, clock = self._cluster, self._some_machine().clock
        rate = clock.rate
        if rate in (0.8, 1.25):
            rate = 1.0  # drifts already
        clock.run_at(self._random.choice((0.8, 1.25)), cluster.loop.now_ms())
        self._later(self._random.uniform(1000, 8000), lambda: clock.run_at(rate, cluster.loop.now_ms()))

    # -- disks ---------------------------------------------------------------------------------------------------------

    def slow_disk(self) -> None:
        disk = self._some_machine().disk
        disk.sync_delay_ms = self._random.choice((50.0, 300.0, 1500.0))
        self._later(self._random.uniform(300, 3000), lambda: setattr(disk, "sync_delay_ms", 0.0))

    def move(self) -> bool:
        """Some of a partition's replicas are placed on other brokers, or one more or one fewer is placed."""
        cluster = self._cluster
        partition = self._random.choice(cluster.partitions)
        if self._moves_follow_one_another and not cluster.is_settled(partition):
            return False
        present = [voter.broker_id for voter in cluster.decisions.placement(partition)]
        count = len(present) + self._random.choice((-1, 0, 0, 0, 1))
        count = min(max(count, self._replicas_min), len(cluster.machines))
        brokers = self._random.sample(list(cluster.machines), count)
        kept = self._random.sample(present, self._random.randint(0, len(present)))
        return cluster.decisions.move(partition, list(dict.fromkeys((*kept, *brokers)))[:count])

    def declare_gone(self) -> None:
        """A broker dies, what it holds is placed on others, and it comes back with its old replicas on its disk."""
        cluster = self._cluster
        machine = self._chooses_gone.choice(list(cluster.machines.values()))
        machine.kill()
        self._later(self._chooses_gone.uniform(500, 5000), partial(cluster.ensure_up, machine))
        for partition in cluster.partitions:
            present = [voter.broker_id for voter in cluster.decisions.placement(partition)]
            spare = [broker for broker in cluster.machines if broker not in present]
            may_move = cluster.is_settled(partition) or not self._moves_follow_one_another
            # Whoever is placed anew before anybody led would be one of two lost voters that nothing was ever asked of.
            may_move = may_move and cluster.has_been_led(partition)
            if machine.broker_id in present and spare and may_move:
                left = [broker for broker in present if broker != machine.broker_id]
                cluster.decisions.move(partition, [*left, self._chooses_gone.choice(spare)])

    def cut_old_from_new(self) -> bool:
        """A leader is to have other voters beside it; once one could vote, it is cut off with them from the old."""
        cluster = self._cluster
        partition = self._random.choice(cluster.partitions)
        leader = cluster.leader_of(partition)
        if leader is None or (self._moves_follow_one_another and not cluster.is_settled(partition)):
            return False
        one = leader.voter.broker_id
        old = [voter.broker_id for voter in leader.voters if voter.broker_id != one]
        new = [broker for broker in cluster.machines if broker not in (one, *old)]
        if not old or not new:
            return False
        cluster.decisions.move(partition, [one, *(*new, *old)[: len(old)]])
        links = [link for here in (one, *new) for there in old for link in ((here, there), (there, here))]
        deadline_ms = cluster.loop.now_ms() + 4000.0

        def cut_once_one_keeps_up() -> None:
            if leader.is_leader and any(map(leader.keeps_up, leader.learners)):
                self._cut(links)
            elif cluster.loop.now_ms() < deadline_ms:
                self._later(5, cut_once_one_keeps_up)

        cut_once_one_keeps_up()
        return True

    def lose_disk(self) -> bool:
        """A machine whose disk the others can do without gets an empty one, and comes back under its broker id."""
        machine = self._some_machine()
        if not self._loses_disks or not self._cluster.may_lose_disk(machine):
            return False
        machine.lose_disk()
        self._cluster.restart_later(machine)
        return True

    def lose_word(self) -> bool:
        """As with a lost disk, but that its logs are still there, and may serve nobody as more than a source."""
        machine = self._some_machine()
        if not self._loses_disks or not self._cluster.may_lose_disk(machine):
            return False
        machine.lose_word(self._random)
        self._cluster.restart_later(machine)
        return True

    def fail_sync(self) -> bool:
        machine = self._some_machine()
        if self._cluster.is_short_of_a_disk():
            return False  # what it leaves in doubt, nobody could lift
        machine.may_halt = True
        machine.disk.sync_failures = 1
        return True

    def fail_directory_sync(self) -> bool:
        machine = self._some_machine()
        if self._cluster.is_short_of_a_disk():
            return False
        machine.may_halt = True
        machine.disk.directory_sync_failures = 1
        return True

    def fail_write(self) -> None:
        machine = self._some_machine()
        machine.may_halt = True
        machine.disk.write_failures = self._random.randint(1, 3)

    def get_stuck_sync(self) -> None:
        """A disk does not answer for seconds, and the links stay as they are."""
        self._some_machine().disk.stalls_ms = [
            self._random.uniform(500, 6000) for _ in range(self._random.randint(1, 3))
        ]

    def fill_disk_nearly(self) -> None:
        """Somebody else's files leave so little room that producing stops, or replication too, until they are gone."""
        self._fill(self._some_machine(), self._random.randint(REPLICATION_STOP_FREE_BYTES // 2, 3 << 20))

    def fill_disk(self) -> None:
        """To the brim, from one moment to the next: no mark can warn of that."""
        machine = self._some_machine()
        machine.may_halt = True
        self._fill(machine, self._random.choice((0, 100, 5_000, 50_000)))

    def _fill(self, machine: Machine, left_bytes: int) -> None:
        disk = machine.disk
        disk.capacity_bytes = disk.used_bytes() + left_bytes
        self._later(self._random.uniform(500, 5000), lambda: setattr(disk, "capacity_bytes", UNBOUNDED_BYTES))

    def fail_reads(self) -> bool:
        """For a while one disk answers many reads with an error."""
        cluster = self._cluster
        if self._loses_disks or cluster.is_short_of_a_disk() or not cluster.outvotes_any_one():
            return False  # what can neither be read nor synced is in doubt, and of two voters nobody could lift that
        machine = cluster.machines[self._breaks_on]
        machine.may_halt = True
        disk = machine.disk
        self._note_unreadable(machine)
        disk.read_failure_chance = self._random.choice((0.02, 0.2, 0.9))
        self._later(self._random.uniform(200, 3000), lambda: setattr(disk, "read_failure_chance", 0.0))
        return True

    def break_sector(self) -> bool:
        """Some place of a disk gives no answer any more; what stood there, another disk has."""
        return self._decay(self._cluster.machines[self._breaks_on], breaks=True)

    def depose_with_stuck_sync(self) -> bool:
        """A leader is cut off while its disk is stuck with what nobody else holds, and has to drop it."""
        leader = self._cluster.leader_of(self._random.choice(self._cluster.partitions))
        if leader is not None:
            one = leader.voter.broker_id
            self._cluster.machines[one].disk.stalls_ms = [self._random.uniform(1000, 4000)]
            self._cut([(one, other) for other in self._others(one)] + [(other, one) for other in self._others(one)])
        return leader is not None

    def decay(self) -> bool:
        """A bit on some medium flips, or a segment's file or its end is lost, where another disk still has what it was.
        In most cases the broker there runs on."""
        machine = self._some_machine() if self._decays_on is None else self._cluster.machines[self._decays_on]
        return self._decay(machine, breaks=False)

    def _decay(self, machine: Machine, *, breaks: bool) -> bool:
        cluster = self._cluster
        partition = self._random.choice(cluster.partitions)
        if self._loses_disks or cluster.is_short_of_a_disk():
            return False
        kinds = ("log", "log", "log", "log", "head", "index", "promises")
        kind = self._random.choice(kinds if breaks else (*kinds, "gone", "short"))
        others = cluster.other_holders(machine, partition)
        place = decayable(machine, others, partition, kind, self._random)
        if place is None:
            return False
        is_on_all_others = 2 <= len(others) == place.holders
        if not is_on_all_others and not cluster.is_settled(partition):
            return False  # the only one that has it may be about to go
        self._has_few_copies = self._has_few_copies or not is_on_all_others
        self.done[f"({'broke' if breaks else 'decayed'} {place.what})"] += 1
        cluster.trace.note("decay", f"{machine.name} {place.path} at {place.position}")
        if place.what in ("promises", "gone", "short") or self._random.random() < 0.4:
            machine.kill()
            cluster.restart_later(machine)
        self._note_unreadable(machine)
        if breaks:
            machine.disk.break_byte(place.path, place.position)
        elif place.what == "gone":
            machine.disk.vanish(place.path)
        elif place.what == "short":
            machine.disk.shorten(place.path, place.position)
        else:
            machine.disk.flip_bit(place.path, place.position, self._random.randrange(8))
        return True

    def _note_unreadable(self, machine: Machine) -> None:
        for number in machine.numbers.values():
            self._cluster.invariants.unreadable.add(Voter(machine.broker_id, machine.directory_id or "", number))

    # -- network -------------------------------------------------------------------------------------------------------

    def isolate(self) -> None:
        one = self._some_machine().broker_id
        self._cut([(one, other) for other in self._others(one)] + [(other, one) for other in self._others(one)])

    def cut_leader_from_majority(self) -> bool:
        """The leader keeps clients, and as many followers as are not enough."""
        leader = self._cluster.leader_of(self._random.choice(self._cluster.partitions))
        if leader is not None:
            one = leader.voter.broker_id
            others = self._others(one)
            self._random.shuffle(others)
            lost = others[: len(self._cluster.machines) // 2 + self._random.randint(0, 1)]
            self._cut([(one, other) for other in lost] + [(other, one) for other in lost])
        return leader is not None

    def leave_behind(self) -> bool:
        """A follower is cut off for so long that the others may drop what it needs."""
        leader = self._cluster.leader_of(self._random.choice(self._cluster.partitions))
        if leader is not None:
            one = self._random.choice(self._others(leader.voter.broker_id))
            self._cut([(one, other) for other in self._others(one)] + [(other, one) for other in self._others(one)])
        return leader is not None

    def cut_into_ring(self) -> None:
        """Each broker reaches only its two neighbours; of three, two do not reach each other."""
        brokers = list(self._cluster.machines)
        self._random.shuffle(brokers)
        count = len(brokers)
        apart = [
            (one, other)
            for at, one in enumerate(brokers)
            for beside, other in enumerate(brokers)
            if min((at - beside) % count, (beside - at) % count) > 1 or (count == 3 and {at, beside} == {0, 1})
        ]
        self._cut(apart)

    def cut_into_halves(self) -> None:
        brokers = list(self._cluster.machines)
        self._random.shuffle(brokers)
        half = brokers[: len(brokers) // 2]
        others = brokers[len(brokers) // 2 :]
        self._cut([link for one in half for other in others for link in ((one, other), (other, one))])

    def cut_one_way(self) -> None:
        one = self._some_machine().broker_id
        to = self._random.sample(self._others(one), self._random.randint(1, len(self._others(one))))
        self._cut([(one, other) for other in to] if self._random.random() < 0.5 else [(other, one) for other in to])

    def swizzle(self) -> None:
        """Cut the links of a machine one by one, and mend them in another order."""
        one = self._some_machine().broker_id
        for other in self._others(one):
            self._later(self._random.uniform(0, 1000), partial(self._cut, [(one, other), (other, one)]))

    def break_connection(self) -> None:
        one = self._some_machine().broker_id
        for other in self._random.sample(self._others(one), self._random.randint(1, len(self._others(one)))):
            self._cluster.end_session(one, other)

    def bad_weather(self) -> None:
        network = self._cluster.network
        network.weather = replace(
            network.weather,
            late_chance=self._random.choice((0.0, 0.1, 0.3)),
            drop_chance=self._random.choice((0.0, 0.02, 0.2)),
            double_chance=self._random.choice((0.0, 0.1)),
            in_order=self._random.random() < 0.3,
        )
        self._later(self._random.uniform(300, 3000), lambda: setattr(network, "weather", self._cluster.options.weather))

    # ------------------------------------------------------------------------------------------------------------------

    def _look_at(self, process: BrokerProcess, message: Message) -> None:
        if isinstance(message, HeadOffer) and self._crash_at_reset:
            self._plan_crash(self._cluster.machines[message.to.broker_id], within=25)
        chance = self._crash_after.get(type(message))
        if chance is None or getattr(message, "pre", False):
            return
        binds = getattr(message, "granted", True) and getattr(message, "accepted", True)
        if binds and self._random.random() < chance:
            machine = self._cluster.machines[process.broker_id]
            self._cluster.loop.call_soon(self._crash_now, machine, process)

    def _crash_now(self, machine: Machine, process: BrokerProcess) -> None:
        if machine.process is process and process.is_alive:
            self.done["(crashed after a promise)"] += 1
            if self._random.random() < 0.6:
                machine.lose_power()
            else:
                machine.kill()
            # Often so soon that the others are still at what they asked it for.
            self._later(self._random.choice((2, 20, 80, 800)), partial(self._cluster.ensure_up, machine))

    def _plan_crash(self, machine: Machine, *, within: int | None = None) -> None:
        process = machine.process
        if process is not None and process.is_alive:
            machine.power_fails = self._random.random() < 0.6
            environment = process.environment
            count = self._random.choice((1, 2, 3, self._random.randint(1, 30), self._random.randint(1, 200)))
            if within is not None:
                count = self._random.randint(1, within)
            environment.crash_at_operation = environment.disk_operations + count

    def _some_machine(self) -> Machine:
        """Often one that leads: that is where most can go wrong."""
        if self._random.random() < 0.5:
            leader = self._cluster.leader_of(self._random.choice(self._cluster.partitions))
            if leader is not None:
                return self._cluster.machines[leader.voter.broker_id]
        return self._random.choice(list(self._cluster.machines.values()))

    def _others(self, broker_id: int) -> list[int]:
        return [other for other in self._cluster.machines if other != broker_id]

    def _cut(self, links: Sequence[tuple[int, int]]) -> None:
        if self._is_over:
            return
        for link in links:
            self._cluster.network.cut(*link)
        # TCP may come back as if nothing had been, or find its connections broken.
        breaks = self._random.random() < 0.5

        def mend() -> None:
            for link in links:
                self._cluster.network.mend(*link)
                if breaks:
                    self._cluster.end_session(*link)

        self._later(self._random.choice((200, 800, 2000, 4000)), mend)

    def _later(self, delay_ms: float, callback: Callable[[], object]) -> None:
        self._cluster.loop.call_later(delay_ms / 1000.0, callback)
