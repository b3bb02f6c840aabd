"""Bugs of the kind that has lost records elsewhere, to be planted in the real code.

A simulation that does not find them proves nothing by being green. Each says what it does to the code, and which runs
make it likely to matter; the faults of those runs alone do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from lograft.node.controller import moves as moves_module
from lograft.node.controller.facts import TopicFact
from lograft.partitions import compactor, repairer
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft import followers as followers_module
from lograft.partitions.raft.core import RaftCore
from lograft.partitions.raft.events import Effects, PeerHeard
from lograft.partitions.raft.messages import AppendReply, AppendRequest, Message, RepairRequest, Serving, Voter
from lograft.partitions.raft.points import ORIGIN, ItemKind, Point
from lograft.partitions.raft.progress import Progress, held_by_majority
from lograft.partitions.raft.standing import Standing
from lograft.partitions.replica import Replica
from lograft.partitions.storage import log as log_module
from lograft.partitions.storage import reader as reader_module
from lograft.partitions.storage import settlement as settlement_module
from lograft.partitions.storage.chain import Placed
from lograft.partitions.storage.contents import Contents
from lograft.partitions.storage.log import PartitionLog, Ticket
from lograft.partitions.storage.log_starts import LogStarts, _Move
from lograft.partitions.storage.promised import Promised
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.recovery import Evidence, Judgement
from lograft.partitions.storage.repair import Common
from lograft.partitions.storage.replacement import Replacement
from lograft.partitions.storage.reset import note_reset
from lograft.partitions.storage.rewriting import Job, Outcome, Rewritten, Take
from lograft.partitions.storage.segment import Segment, segment_path
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.partitions.storage.zero_width import decode_log_start
from lograft.proto.record_batch import BatchHeader, read_header

from tests.simulation import decisions as decisions_module
from tests.simulation import process as process_module
from tests.simulation.faults import COMMON
from tests.simulation.process import BrokerProcess
from tests.simulation.simulation import Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedBug:
    """What is wrong, how it gets into the code, and where to look for it."""

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    plan: Plan
    seeds: int = 10
    """It must be found within so many, counted from 0."""
    quick_from: int = 0
    """Where the quick suite begins: what finds it is rare, and the seeds before this one take too long there."""


def commits_a_prior_term_by_counting(patch: pytest.MonkeyPatch) -> None:
    def advance_commit(core: RaftCore, effects: Effects) -> None:
        held = held_by_majority(
            core.persisted if voter == core.voter else core.progress[voter].counted for voter in core.voters
        )
        if held > core.committed:
            core._standing.committed = effects.committed = held
            core._followers.pump_all(effects)
            core._keep_timer(effects)

    patch.setattr(RaftCore, "_advance_commit", advance_commit)


def counts_the_own_copy_before_it_is_flushed(patch: pytest.MonkeyPatch) -> None:
    right = RaftCore._advance_commit

    def advance_commit(core: RaftCore, effects: Effects) -> None:
        standing = core._standing
        persisted, standing.persisted = standing.persisted, standing.last
        right(core, effects)
        standing.persisted = persisted

    patch.setattr(RaftCore, "_advance_commit", advance_commit)


def forgets_its_vote(patch: pytest.MonkeyPatch) -> None:
    def note_vote(promises: Promises, partition: PartitionId, term: int, voted_for: Voter | None) -> int:
        promises._change(partition, term=term, voted_for=voted_for)  # in memory, where it ends with the process
        return promises.synced

    patch.setattr(Promises, "note_vote", note_vote)


def sends_its_vote_before_it_is_synced(patch: pytest.MonkeyPatch) -> None:
    right = Promises.note_vote

    def note_vote(promises: Promises, partition: PartitionId, term: int, voted_for: Voter | None) -> int:
        right(promises, partition, term, voted_for)
        return promises.synced

    patch.setattr(Promises, "note_vote", note_vote)


def cuts_on_a_heartbeat(patch: pytest.MonkeyPatch) -> None:
    right = RaftCore._take_items

    def take_items(core: RaftCore, request: AppendRequest, effects: Effects) -> Point:
        if not request.items and core.last > request.prev:
            standing = core._standing
            standing.journal.cut(request.prev)
            standing.persisted = min(standing.persisted, request.prev)
            standing.committed = min(standing.committed, request.prev)
            effects.cut = request.prev
        return right(core, request, effects)

    patch.setattr(RaftCore, "_take_items", take_items)


def ignores_the_mark_at_recovery(patch: pytest.MonkeyPatch) -> None:
    def judge(evidence: Evidence) -> Judgement:
        return Judgement.UNFINISHED

    patch.setattr(settlement_module, "judge", judge)


def believes_a_flush_from_before_a_cut(patch: pytest.MonkeyPatch) -> None:
    right = Replica.on_flushed

    def on_flushed(replica: Replica, ticket: Ticket) -> None:
        right(replica, ticket._replace(cuts=replica.log.cuts))

    def announce_cut(log: PartitionLog) -> None:
        log._is_cutting = True

    def take_ticket(log: PartitionLog) -> Ticket:
        return Ticket(log.cuts, log._written, log.end)

    patch.setattr(Replica, "on_flushed", on_flushed)
    patch.setattr(PartitionLog, "announce_cut", announce_cut)
    patch.setattr(PartitionLog, "ticket", take_ticket)


def leaves_its_mark_at_a_conflict(patch: pytest.MonkeyPatch) -> None:
    async def cut(replica: Replica, point: Point) -> None:
        if not replica._stopped:
            await replica.log.cut(point)
            replica._flushed = Ticket(replica.log.cuts, replica._flushed.written, min(replica._flushed.end, point))

    patch.setattr(Replica, "_cut", cut)


def syncs_only_the_newest_segment(patch: pytest.MonkeyPatch) -> None:
    async def sync(log: PartitionLog) -> None:
        await log._segments[-1].sync()

    patch.setattr(PartitionLog, "sync", sync)


def acknowledges_before_the_flush(patch: pytest.MonkeyPatch) -> None:
    def send_when_persisted(replica: Replica, messages: list[Message]) -> None:
        for message in messages:
            replica._deliver(message)

    patch.setattr(Replica, "_send_when_persisted", send_when_persisted)


def trusts_the_page_cache_after_a_failed_sync(patch: pytest.MonkeyPatch) -> None:
    async def write_again(segment: Segment, position: int) -> None:
        await segment.file.fdatasync()

    patch.setattr(Segment, "write_again", write_again)


def takes_a_batch_twice(patch: pytest.MonkeyPatch) -> None:
    right = Replica.append

    def append(replica: Replica, batch: Any, header: Any, first_open: int | None) -> Any:
        return right(replica, batch, _Unproduced(header), first_open)

    patch.setattr(Replica, "append", append)


def lets_the_start_move_back(patch: pytest.MonkeyPatch) -> None:
    right = Contents.note

    def note(contents: Contents, placed: Placed, header: BatchHeader) -> None:
        right(contents, placed, header)
        if placed.kind is ItemKind.LOG_START:
            contents.start_offset = decode_log_start(placed.payload, placed.point.offset)

    def note_start(starts: LogStarts, point: Point, start_offset: int) -> None:
        if start_offset != starts.newest:
            starts._moves.append(_Move(point, start_offset))

    async def move_log_start(replica: Replica, offset: int) -> int:
        replica.require_ready()
        replica._start.propose(min(offset, replica.committed.offset))
        return await right_move(replica, offset)

    right_move = Replica.move_log_start
    patch.setattr(Contents, "note", note)
    patch.setattr(LogStarts, "note", note_start)
    patch.setattr(Replica, "move_log_start", move_log_start)


def acts_on_a_start_that_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PartitionLog, "start_offset_at", lambda log, point: log.start_offset)


def forgets_its_word_at_a_reset(patch: pytest.MonkeyPatch) -> None:
    async def reset(log: PartitionLog, head: SegmentHead, on_decided: object) -> None:
        # The log is empty for a moment, as it would be with any reset that is not noted first.
        for begin in (log_module._first_head(log.partition, log.voters), head):
            await note_reset(log._env.disk, log._directory, begin)
            await log._begin_anew(begin)
        log._is_cutting = False

    patch.setattr(PartitionLog, "_reset", reset)
    patch.setattr(Promises, "note_word", lambda promises, partition, word: promises.synced)


def drops_a_tombstone_too_early(patch: pytest.MonkeyPatch) -> None:
    """A follower that has not heard of it is taken for one that needs to hear no more of it."""
    patch.setattr(followers_module, "can_go_on", lambda match, base, cleaned_to, *, copies: match >= base)


def promises_what_it_cleans_only_in_memory(patch: pytest.MonkeyPatch) -> None:
    def note_compacted(promises: Promises, partition: PartitionId, *, rewritten_to: int, cleaned_to: int) -> int:
        promises._change(partition, rewritten_to=rewritten_to, cleaned_to=cleaned_to)
        return promises.synced

    patch.setattr(Promises, "note_compacted", note_compacted)


def puts_newer_segments_in_place_before_older_ones(patch: pytest.MonkeyPatch) -> None:
    right = compactor.compact

    async def compact(environment: Any, replica: Any, settings: Any, work: compactor.Work) -> Any:
        async def reversed_work(job: Job, take: Take) -> Outcome:
            written: list[Rewritten] = []

            async def keep(rewritten: Rewritten) -> None:
                written.append(rewritten)

            outcome = await work(job, keep)
            for rewritten in reversed(written):
                await take(rewritten)
            return outcome

        return await right(environment, replica, settings, reversed_work)

    patch.setattr(process_module, "compact", compact)


def removes_older_segments_before_the_replacement_counts(patch: pytest.MonkeyPatch) -> None:
    async def decide(disk: Any, directory: str, replacement: Replacement, new_path: str) -> None:
        path = segment_path(directory, replacement.base_offset) + ".log"
        disk.unlink(path)
        await disk.sync_directory(directory)
        disk.rename(new_path, replacement.path(directory))
        await disk.sync_directory(directory)

    patch.setattr(log_module, "decide_replacement", decide)


class _Unproduced:
    """A header that does not own up to its producer."""

    has_producer = False

    def __init__(self, header: Any) -> None:
        self._header = header

    def __getattr__(self, name: str) -> Any:
        return getattr(self._header, name)


def reads_its_voters_from_the_configuration(patch: pytest.MonkeyPatch) -> None:
    """Where replicas are placed, as far as a broker has heard, is taken for who votes."""
    configured: dict[Standing, tuple[Voter, ...]] = {}

    def voters(standing: Standing) -> tuple[Voter, ...]:
        return configured.get(standing, standing.voter_sets.newest)

    def take_step(process: BrokerProcess, partition: PartitionId, replica: Replica) -> None:
        core = replica._core
        placed = process.placement(partition)
        if core.is_leader:
            if core.voter not in placed:
                process.transfer(partition, placed[0].broker_id)
                return
            replica.set_learners(())
            for peer in placed:
                if peer != core.voter and peer not in core.progress:
                    core.progress[peer] = Progress(peer, next=core.last)
                    replica.take(PeerHeard(*peer[:2]))
        if core.voter in placed:
            configured[core._standing] = placed
        process.heartbeats.role_changed(replica)

    patch.setattr(Standing, "voters", property(voters))
    patch.setattr(BrokerProcess, "_take_step", take_step)


def tells_replicas_apart_by_their_disks_alone(patch: pytest.MonkeyPatch) -> None:
    """A replica that is placed where one was deleted is taken for the one that was there."""

    def placed_again(topic: TopicFact, number: int, brokers: Sequence[int], directories: dict[int, str]) -> TopicFact:
        partition = topic.partitions[number]
        numbers = {voter[:2]: voter.replica_number for voter in partition.first_voters}
        placement = tuple(
            Voter(broker, directories[broker], numbers.get((broker, directories[broker]), 1)) for broker in brokers
        )
        partitions = list(topic.partitions)
        partitions[number] = msgspec.structs.replace(partition, placement=placement)
        return msgspec.structs.replace(topic, partitions=tuple(partitions))

    patch.setattr(decisions_module, "placed_on", placed_again)
    patch.setattr(moves_module, "placed_on", placed_again)


def makes_a_first_voter_again_that_had_gone(patch: pytest.MonkeyPatch) -> None:
    def never_held(promised: Promised, partition: PartitionId) -> bool:
        return partition not in promised.replicas

    patch.setattr(Promised, "never_held", never_held)


def changes_voters_before_the_last_change_is_committed(patch: pytest.MonkeyPatch) -> None:
    right = RaftCore.refuses_voters

    def refuses_voters(core: RaftCore, voters: tuple[Voter, ...]) -> str | None:
        standing = core._standing
        committed, standing.committed = standing.committed, standing.last
        refusal = right(core, voters)
        standing.committed = committed
        return refusal

    def require_ready(replica: Replica) -> None:
        replica._leadership.require()

    patch.setattr(RaftCore, "refuses_voters", refuses_voters)
    patch.setattr(Replica, "require_ready", require_ready)


def lets_a_learner_vote_before_it_caught_up(patch: pytest.MonkeyPatch) -> None:
    def is_within_reach(core: RaftCore, voter: Voter) -> bool:
        return voter in core.progress

    patch.setattr(RaftCore, "is_within_reach", is_within_reach)


def forgets_its_word_when_it_finds_damage(patch: pytest.MonkeyPatch) -> None:
    right = RaftCore.__init__

    def init(core: RaftCore, **arguments: Any) -> None:
        right(core, **{**arguments, "word": ORIGIN})

    patch.setattr(RaftCore, "__init__", init)


def repairs_from_a_peer_that_cleaned(patch: pytest.MonkeyPatch) -> None:
    right = repairer.judge_request

    def judge(request: RepairRequest, common: Common, begin: Point, base: Point, cleaned_to: int) -> Serving:
        return right(request, common, begin, base, 0)

    patch.setattr(repairer, "judge_request", judge)


def gives_items_that_it_did_not_check(patch: pytest.MonkeyPatch) -> None:
    for module in (log_module, reader_module):
        patch.setattr(module, "verify", read_header)


def acknowledges_from_memory_before_it_is_written(patch: pytest.MonkeyPatch) -> None:
    right = Replica._carry_out_from_append

    def carry_out(replica: Replica, effects: Effects) -> None:
        if effects.append and replica._copy.may_count():
            for message in [one for one in effects.send_when_persisted if isinstance(one, AppendReply)]:
                effects.send_when_persisted.remove(message)
                replica._deliver(replace(message, synced=replica._core.persisted))
        right(replica, effects)

    patch.setattr(Replica, "_carry_out_from_append", carry_out)


def does_not_promise_that_memory_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Promises, "note_memory_boot", lambda promises, partition, boot_id: promises.synced)


def counts_written_copies_of_what_binds(patch: pytest.MonkeyPatch) -> None:
    right = RaftCore._advance_commit

    def advance_commit(core: RaftCore, effects: Effects) -> None:
        core._copies.must_be_synced = ORIGIN
        right(core, effects)

    patch.setattr(RaftCore, "_advance_commit", advance_commit)


ELECTIONS = Plan(
    faults=("crash_after_promise", "crash_after_promise", "kill", "kill", "kill", "bad_weather"),
    fault_count=20,
    span_ms=8_000.0,
    brokers=5,
    pace_ms=150.0,
)
IN_MEMORY = Plan(
    durability="memory",
    faults=("lose_power", "lose_power", "lose_power_everywhere", "kill", "isolate"),
    fault_count=8,
    pace_ms=20.0,
)
COMPACTED = Plan(
    faults=("leave_behind",),
    fault_count=6,
    span_ms=10_000.0,
    brokers=3,
    segment_bytes_max=1000,
    pace_ms=20.0,
    trim_pace_ms=0.0,
    compaction_pace_ms=150.0,
)
CRASHED_WHILE_COMPACTED = replace(
    COMPACTED, faults=("kill", "lose_power", "crash_at_disk_operation"), fault_count=16, span_ms=None, pace_ms=40.0
)
MOVES = Plan(
    faults=("move", "move", "kill", "isolate", "cut_leader_from_majority", "transfer"),
    moving=True,
    fault_count=20,
    span_ms=8_000.0,
    trim_pace_ms=0.0,
)
MOVED_APART = Plan(
    faults=("cut_old_from_new",),
    moving=True,
    brokers=5,
    fault_count=6,
    span_ms=10_000.0,
    trim_pace_ms=0.0,
)
CONFLICTS = ("cut_leader_from_majority", "slow_disk", "slow_disk", "isolate", "transfer", "kill")

DECAYED = Plan(
    faults=("decay",) * 8 + COMMON, fault_count=24, scrub_pace_ms=800.0, moving=False, compaction_pace_ms=0.0
)
DECAYED_WHERE_CLEANED = replace(DECAYED, segment_bytes_max=1000, compaction_pace_ms=150.0)

PLANTED_BUGS = (
    PlantedBug(
        name="commits a prior term by counting",
        plant=commits_a_prior_term_by_counting,
        plan=Plan(faults=CONFLICTS, fault_count=8),
    ),
    PlantedBug(
        name="counts the own copy before it is flushed",
        plant=counts_the_own_copy_before_it_is_flushed,
        plan=Plan(faults=("slow_disk", "lose_power"), fault_count=4),
    ),
    PlantedBug(name="forgets its vote", plant=forgets_its_vote, plan=ELECTIONS, seeds=20),
    PlantedBug(
        name="sends its vote before it is synced",
        plant=sends_its_vote_before_it_is_synced,
        plan=ELECTIONS,
        seeds=20,
    ),
    PlantedBug(name="cuts on a heartbeat", plant=cuts_on_a_heartbeat, plan=Plan(fault_count=5)),
    PlantedBug(
        name="ignores the mark at recovery",
        plant=ignores_the_mark_at_recovery,
        plan=Plan(faults=("decay", "kill", "lose_power"), fault_count=6),
    ),
    PlantedBug(
        name="believes a flush from before a cut",
        plant=believes_a_flush_from_before_a_cut,
        plan=Plan(faults=("depose_with_stuck_sync",), fault_count=4, pace_ms=30.0),
    ),
    PlantedBug(
        name="leaves its mark at a conflict",
        plant=leaves_its_mark_at_a_conflict,
        plan=Plan(faults=("depose_with_stuck_sync", *CONFLICTS, "lose_power_everywhere"), fault_count=12, pace_ms=30.0),
        seeds=20,
    ),
    PlantedBug(
        name="syncs only the newest segment",
        plant=syncs_only_the_newest_segment,
        plan=Plan(fault_count=3, segment_bytes_max=1000),
    ),
    PlantedBug(
        name="acknowledges before the flush", plant=acknowledges_before_the_flush, plan=Plan(fault_count=3), seeds=3
    ),
    PlantedBug(
        name="acknowledges from memory before it is written",
        plant=acknowledges_from_memory_before_it_is_written,
        plan=IN_MEMORY,
        seeds=3,
    ),
    PlantedBug(name="does not promise that memory counts", plant=does_not_promise_that_memory_counts, plan=IN_MEMORY),
    PlantedBug(
        name="counts written copies of what binds",
        plant=counts_written_copies_of_what_binds,
        plan=replace(IN_MEMORY, faults=("slow_disk", "slow_disk", "transfer"), trim_pace_ms=100.0),
        seeds=5,
    ),
    PlantedBug(
        name="trusts the page cache after a failed sync",
        plant=trusts_the_page_cache_after_a_failed_sync,
        plan=Plan(
            faults=("fail_sync", "fail_sync", "lose_power"),
            fault_count=16,
            moving=False,
            trim_pace_ms=0.0,
            compaction_pace_ms=0.0,
        ),
    ),
    PlantedBug(
        name="lets the start move back",
        plant=lets_the_start_move_back,
        plan=Plan(fault_count=3, trim_pace_ms=200.0),
        seeds=3,
    ),
    PlantedBug(
        name="acts on a start that is not committed",
        plant=acts_on_a_start_that_is_not_committed,
        plan=Plan(faults=CONFLICTS, fault_count=4, trim_pace_ms=200.0),
        seeds=3,
    ),
    PlantedBug(
        name="forgets its word at a reset",
        plant=forgets_its_word_at_a_reset,
        plan=Plan(
            faults=("leave_behind", "leave_behind", "crash_at_reset"),
            fault_count=12,
            brokers=3,
            segment_bytes_max=1000,
            trim_pace_ms=150.0,
        ),
    ),
    PlantedBug(name="drops a tombstone too early", plant=drops_a_tombstone_too_early, plan=COMPACTED),
    PlantedBug(
        name="promises what it cleans only in memory",
        plant=promises_what_it_cleans_only_in_memory,
        plan=replace(COMPACTED, faults=("leave_behind", "leave_behind", "lose_power"), fault_count=12),
    ),
    PlantedBug(
        name="puts newer segments in place before older ones",
        plant=puts_newer_segments_in_place_before_older_ones,
        plan=CRASHED_WHILE_COMPACTED,
        seeds=20,
    ),
    PlantedBug(
        name="removes older segments before the replacement counts",
        plant=removes_older_segments_before_the_replacement_counts,
        plan=CRASHED_WHILE_COMPACTED,
    ),
    PlantedBug(
        name="takes a batch twice", plant=takes_a_batch_twice, plan=Plan(faults=("bad_weather", "kill"), fault_count=6)
    ),
    PlantedBug(
        name="reads its voters from the configuration",
        plant=reads_its_voters_from_the_configuration,
        plan=MOVES,
        seeds=30,
    ),
    PlantedBug(
        name="tells replicas apart by their disks alone",
        plant=tells_replicas_apart_by_their_disks_alone,
        plan=MOVES,
        seeds=30,
    ),
    PlantedBug(
        name="makes a first voter again that had gone",
        plant=makes_a_first_voter_again_that_had_gone,
        plan=MOVES,
    ),
    PlantedBug(
        name="changes voters before the last change is committed",
        plant=changes_voters_before_the_last_change_is_committed,
        plan=MOVED_APART,
        seeds=60,
        quick_from=31,
    ),
    PlantedBug(
        name="lets a learner vote before it caught up", plant=lets_a_learner_vote_before_it_caught_up, plan=MOVES
    ),
    PlantedBug(
        name="forgets its word when it finds damage",
        plant=forgets_its_word_when_it_finds_damage,
        plan=DECAYED,
        seeds=200,
        quick_from=55,
    ),
    PlantedBug(
        name="repairs from a peer that cleaned",
        plant=repairs_from_a_peer_that_cleaned,
        plan=DECAYED_WHERE_CLEANED,
        seeds=30,
    ),
    PlantedBug(
        name="gives items that it did not check", plant=gives_items_that_it_did_not_check, plan=DECAYED, seeds=20
    ),
)
