"""Raft for one partition, as a value that takes events and says what follows from them.

No clock, socket, file, thread or await: whoever calls owns time, disk and the way to the peers.

Invariants
    the term never falls, and in one term at most one vote is given
    a leader never changes what it appended; it commits by counting only items of its own term (Raft paper, 5.4.2)
    a follower cuts only at a true conflict, and never below what is committed by synced copies
    the committed point never moves back, and never passes what this log is proved to share with the leader's
    a follower drops its log only for a head whose base is committed and not in it, or for a log that is cleaned past
    what it knows to be committed: so it held nothing else to be kept
    what it may have acknowledged before it dropped its log it keeps as its word
    who votes is what the newest voter change in this log says, committed or not; a cut brings the earlier set back
    a leader changes one voter at a time: each change only once the one before is committed, and an item of its own term
    a voter is in touch, votes and counts as that identity alone: not whoever else bears its broker id
    what binds this replica leaves it only in `Effects.send_when_persisted`
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from random import Random

from .contacts import Contacts
from .copies import Copies
from .election import Election
from .events import (
    Allow,
    AskLeader,
    CountWritten,
    DamageFound,
    Effects,
    Event,
    HoleLost,
    LeaderResigned,
    LogBegan,
    LogCleaned,
    LogRecovered,
    PeerHeard,
    PeerSilent,
    Persisted,
    Promise,
    Propose,
    ReadIndex,
    Sent,
    SetLearners,
    SetThrottled,
    SetWilling,
    StepDown,
    TellCommitted,
    TermSeen,
    TimerFired,
    TransferAbandoned,
    TransferTo,
)
from .followers import Followers
from .messages import (
    AppendReply,
    AppendRequest,
    CampaignNow,
    HeadOffer,
    ReadProbe,
    ReadProbeReply,
    Voter,
    VoteReply,
    VoteRequest,
)
from .points import ORIGIN, Item, ItemKind, Point, TermJournal
from .progress import Pace, Progress, majority
from .read_rounds import ReadRounds
from .standing import Standing
from .voter_sets import VoterSets

TERMS_AHEAD_MAX = 1_000_000
"""A term further ahead than this is no term that elections could have reached."""


class Role(Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class RaftCore:
    """One member of one group.

    Whoever is not among the newest of `voter_sets` follows whoever leads and never campaigns, but answers for its vote
    like any other: who counts it goes by their own log.
    `journal` and `voter_sets` become the core's own; all of the log is persisted when the core begins.
    """

    def __init__(
        self,
        *,
        voter: Voter,
        voter_sets: VoterSets,
        journal: TermJournal,
        random: Random,
        term: int = 0,
        voted_for: Voter | None = None,
        word: Point = ORIGIN,
        doubtful: bool = False,
        damaged: bool = False,
        cleaned_to: int = 0,
        election_timeout_ms: int = 500,
        election_stagger_ms: int = 150,
        append_bytes_max: int = 1 << 20,
        in_flight_bytes_max: int = 16 << 20,
    ) -> None:
        self.voter = voter
        self.term = max(term, journal.last.term)
        self.voted_for = voted_for if self.term == term else None
        self.word = word
        self.doubtful = doubtful
        self.damaged = damaged
        self.willing = True
        """It leads if elected. An unwilling one votes and follows like any other."""
        self.role = Role.FOLLOWER
        self.leader: Voter | None = None
        self.transfer_target: Voter | None = None
        self._standing = Standing(journal, voter_sets, cleaned_to)
        self._contacts = Contacts()
        self._election = Election()
        self._reads = ReadRounds()
        self._followers = Followers(
            voter,
            self._standing,
            self._contacts,
            append_bytes_max=append_bytes_max,
            in_flight_bytes_max=in_flight_bytes_max,
        )
        self._copies = Copies(voter, self._standing, self._followers)
        self._doubted: tuple[AppendRequest, Point] | None = None
        self._random = random
        self._election_timeout_ms = election_timeout_ms
        self._election_stagger_ms = election_stagger_ms
        self._term_start = ORIGIN
        self._leader_timer_set = False
        self._session_heard: AppendRequest | HeadOffer | None = None
        """The last message of the present leader that this follower answered."""
        self._began_for: tuple[Voter, int, int] | None = None
        """The offer (sender, term, session) for which this log was begun anew last."""

    # -- what can be asked -------------------------------------------------------------------------------------------

    @property
    def journal(self) -> TermJournal:
        return self._standing.journal

    @property
    def voter_sets(self) -> VoterSets:
        return self._standing.voter_sets

    @property
    def last(self) -> Point:
        return self._standing.last

    @property
    def persisted(self) -> Point:
        return self._standing.persisted

    @property
    def committed(self) -> Point:
        return self._standing.committed

    @property
    def committed_synced(self) -> Point:
        """As far as it is known that a majority once held it on disk."""
        return self._standing.committed_synced

    @property
    def cleaned_to(self) -> int:
        """Below this offset the log lacks tombstones, or bounds, that the whole one had."""
        return self._standing.cleaned_to

    @property
    def voters(self) -> tuple[Voter, ...]:
        return self._standing.voters

    @property
    def progress(self) -> dict[Voter, Progress]:
        """Of a leader's followers."""
        return self._followers.progress

    @property
    def learners(self) -> tuple[Voter, ...]:
        return self._followers.learners

    @property
    def throttled(self) -> bool:
        """Do learners that catch up wait for allowances?"""
        return self._followers.throttled

    @property
    def is_leader(self) -> bool:
        return self.role is Role.LEADER

    @property
    def is_ready(self) -> bool:
        """Leads, and has committed an item of its own term: only now does it know what is committed."""
        return self.role is Role.LEADER and self.committed >= self._term_start

    @property
    def counts_written(self) -> bool:
        """Do others' copies count once they are written?"""
        return self._copies.others_count_written

    def copies_of(self, point: Point) -> int:
        """Voters known to hold `point`: on disk, or written where that counts (leader only)."""
        return self._copies.count_holding(point)

    def is_heard(self, voter: Voter) -> bool:
        """Is its broker in touch, on the disk that this identity belongs to?"""
        return self._contacts.has(voter)

    def is_within_reach(self, voter: Voter) -> bool:
        """Does a peer surely hold what this leader's log held when its timer last fired? Less is not caught up.

        The timer fires at least once an election timeout while anything is appended.
        """
        return self._followers.is_within_reach(voter)

    def waiting_for_allowance(self) -> list[Voter]:
        """The learners in touch that could be sent more, had they an allowance (leader only)."""
        return self._followers.waiting_for_allowance()

    def refuses_voters(self, voters: tuple[Voter, ...]) -> str | None:
        """Why this replica cannot make `voters` the voters now, in words; None if it can."""
        if not self.is_ready:
            return "it does not lead, or has not committed anything of its own term yet"
        if self.voter_sets.changed_at > self.committed:
            return f"the change of voters at {self.voter_sets.changed_at} is not committed yet"
        if self.transfer_target is not None:
            return f"leadership is being handed to {self.transfer_target}"
        # Two sets that differ by one voter have no two majorities apart from each other.
        changed = {*voters} ^ {*self.voters}
        if len(changed) != 1 or len({*voters}) != len(voters) or not voters:
            return "a change adds or removes exactly one voter, and leaves at least one"
        for added in changed & {*voters}:
            if not self.is_within_reach(added):
                return f"{added} has not caught up"
        able = sum(voter == self.voter or self.is_within_reach(voter) for voter in voters)
        if able < majority(len(voters)):
            return f"only {able} of the {len(voters)} voters would be in touch and caught up, which is no majority"
        return None

    @property
    def cleanable_to(self) -> Point:
        """How far compaction may go: what is committed by synced copies, on this disk, and held by each live follower
        that is behind.

        What a loss of power could take from the partition supersedes nothing: what it superseded would be gone too.
        """
        if self.damaged or self.doubtful or self.word > self.last:
            return self.journal.base
        live = [
            progress.match
            for progress in self.progress.values()
            if self.role is Role.LEADER and self.is_heard(progress.voter) and progress.pace is not Pace.HALTED
        ]
        return min(self.committed_synced, self.persisted, *live)

    # -- the one entrance --------------------------------------------------------------------------------------------

    def start(self) -> Effects:
        """Begin, as a follower that knows no leader."""
        effects = Effects()
        self._maybe_reach_word(effects)
        self._await_leader(effects)
        return effects

    def step(self, event: Event) -> Effects:
        """Take one event and say what follows from it."""
        effects = Effects()
        match event:
            case AppendRequest():
                self._on_append_request(event, effects)
            case AppendReply():
                self._on_append_reply(event, effects)
            case HeadOffer():
                self._on_head_offer(event, effects)
            case Sent():
                self._followers.note_sent(event.to, event.session, event.through, event.size_bytes, effects)
            case Propose():
                self._on_propose(event, effects)
            case Persisted():
                self._on_persisted(event, effects)
            case CountWritten():
                self._on_count_written(event, effects)
            case VoteRequest():
                self._on_vote_request(event, effects)
            case VoteReply():
                self._on_vote_reply(event, effects)
            case ReadProbe():
                self._on_read_probe(event, effects)
            case ReadProbeReply():
                self._on_read_probe_reply(event, effects)
            case CampaignNow():
                self._on_campaign_now(event, effects)
            case TimerFired():
                self._on_timer(effects)
            case PeerHeard():
                self._on_peer_heard(event, effects)
            case PeerSilent():
                self._on_peer_silent(event, effects)
            case TellCommitted():
                self._followers.tell_committed(effects)
            case LeaderResigned():
                self._on_leader_resigned(event, effects)
            case TermSeen():
                if self.term < event.term <= self.term + TERMS_AHEAD_MAX:
                    self._enter_term(event.term, effects)
            case ReadIndex():
                self._on_read_index(event, effects)
            case TransferTo():
                self._on_transfer_to(event, effects)
            case TransferAbandoned():
                self.transfer_target = None
            case StepDown():
                self._step_down(event.reason, effects)
            case SetLearners():
                self._on_set_learners(event, effects)
            case SetThrottled():
                self._followers.set_throttled(event.throttled, effects)
            case Allow():
                if self._followers.allow(event.to, event.size_bytes, effects):
                    self._keep_timer(effects)
            case SetWilling():
                self._on_set_willing(event, effects)
            case DamageFound():
                self._on_damage_found(event, effects)
            case LogRecovered():
                self._on_log_recovered(event, effects)
            case AskLeader():
                self._on_ask_leader(effects)
            case HoleLost():
                self._on_hole_lost(event, effects)
            case LogBegan():
                self._on_log_began(event, effects)
            case LogCleaned():
                self._on_log_cleaned(event, effects)
        return effects

    # -- terms and elections -----------------------------------------------------------------------------------------

    def _enter_term(self, term: int, effects: Effects, *, leader: Voter | None = None) -> None:
        """Follow in a newer term. The promise that we did goes with these effects."""
        assert term > self.term, f"entering term {term} from {self.term}"
        self.term = term
        self.voted_for = None
        effects.promise = Promise(term, None)
        self._become_follower(leader, effects)

    def _become_follower(self, leader: Voter | None, effects: Effects) -> None:
        if self.role is Role.LEADER:
            effects.notes.append(("leadership_lost", {"term": self.term}))
            effects.timer_ms = 0
            effects.reads_refused.extend(self._reads.give_up())
        self.role = Role.FOLLOWER
        self.leader = leader
        self.transfer_target = None
        self._followers.end()
        self._election.begin()
        self._doubted = None
        self._session_heard = None
        self._leader_timer_set = False
        effects.role_changed = True
        if leader is not None:
            self._election.forget_failures()
            effects.timer_ms = 0
        if not self._is_led():
            self._await_leader(effects)

    def _is_led(self) -> bool:
        """Is there a leader whose silence we would be told of? Of one that is silent already nobody tells us again."""
        return self.leader is not None and (self.leader == self.voter or self.is_heard(self.leader))

    @property
    def is_heard_by_majority(self) -> bool:
        """Are enough voters in touch to elect anybody?"""
        in_touch = sum(voter == self.voter or self.is_heard(voter) for voter in self.voters)
        return in_touch >= majority(len(self.voters))

    def _await_leader(self, effects: Effects) -> None:
        """Nobody leads as far as we know: run our own random timer."""
        if self._may_campaign():
            effects.timer_ms = self._election_timeout_ms * self._election.back_off * self._random.uniform(1, 2)

    def _may_campaign(self) -> bool:
        # With its word above its log end this replica once held more than it can show: it must not win.
        if not self.willing or self.damaged or self.word > self.last:
            return False
        # The others may need it to commit the change that removes it, if it alone has it (Raft dissertation, 4.2.2).
        # It then leads without counting itself. Once the removal is known to be committed, it campaigns no more.
        return self.voter_sets.may_need(self.voter, self.committed)

    def _step_down(self, reason: str, effects: Effects) -> None:
        if self.role is Role.LEADER:
            effects.notes.append(("stepping_down", {"term": self.term, "reason": reason}))
            self._become_follower(None, effects)

    def _on_timer(self, effects: Effects) -> None:
        if self.role is Role.LEADER:
            self._nudge_followers(effects)
        elif not self._is_led() and self._may_campaign():
            self.leader = None
            self._campaign(effects, pre=True)

    def _campaign(self, effects: Effects, *, pre: bool, transfer: bool = False) -> None:
        self._election.begin()
        effects.role_changed = True
        if pre:
            self.role = Role.PRE_CANDIDATE
            self._await_leader(effects)
            self._election.note_failure()
            term = self.term + 1
        else:
            self.role = Role.CANDIDATE
            self.leader = None
            self.term += 1
            self.voted_for = self.voter
            effects.promise = Promise(self.term, self.voter)
            effects.notes.append(("campaigning", {"term": self.term, "last": str(self.last)}))
            self._await_leader(effects)
            term = self.term
        out = effects.send_now if pre else effects.send_when_persisted
        for voter in self.voters:
            if voter != self.voter:
                out.append(VoteRequest(self.voter, voter, term, self.last, pre=pre, transfer=transfer))
        own = VoteReply(self.voter, self.voter, term, granted=True, pre=pre, doubtful=self.doubtful)
        # Our own vote counts like any other: once it is on disk. The shell hands it back to us then.
        if pre:
            self._on_vote_reply(own, effects)
        else:
            effects.send_when_persisted.append(own)

    def _on_vote_request(self, request: VoteRequest, effects: Effects) -> None:
        if request.to != self.voter or request.term > self.term + TERMS_AHEAD_MAX:
            return
        in_touch = self._is_led() and not request.transfer
        good_enough = request.last >= max(self.last, self.word)
        if request.pre:
            granted = not in_touch and good_enough and request.term > self.term
            reply = VoteReply(
                self.voter,
                request.sender,
                request.term if granted else self.term,
                granted,
                pre=True,
                doubtful=self.doubtful,
            )
            effects.send_now.append(reply)
            return
        if in_touch:
            # While a leader is heard, nobody is helped by an election (Raft dissertation, 4.2.3).
            effects.send_when_persisted.append(VoteReply(self.voter, request.sender, self.term, granted=False))
            return
        if request.term > self.term:
            self._enter_term(request.term, effects)
        unpledged = self.voted_for in (None, request.sender) and self.role is not Role.LEADER
        granted = request.term == self.term and unpledged and good_enough
        if granted:
            if self.role is not Role.FOLLOWER:
                self._become_follower(None, effects)
            self.voted_for = request.sender
            effects.promise = Promise(self.term, request.sender)
            self._election.forget_failures()
            self._await_leader(effects)
        effects.send_when_persisted.append(
            VoteReply(self.voter, request.sender, self.term, granted, doubtful=self.doubtful)
        )

    def _on_vote_reply(self, reply: VoteReply, effects: Effects) -> None:
        if reply.to != self.voter or reply.sender not in self.voters:
            return
        if not reply.granted and self.term < reply.term <= self.term + TERMS_AHEAD_MAX:
            self._enter_term(reply.term, effects)
            return
        asked = (Role.PRE_CANDIDATE, self.term + 1) if reply.pre else (Role.CANDIDATE, self.term)
        if reply.granted:
            if asked != (self.role, reply.term):
                return
            self._election.note_vote(reply.sender, doubtful=reply.doubtful)
            # A leader that a majority does not hear would lead nobody, and nothing would tell it to step down.
            if self._election.is_won(len(self.voters)) and self.is_heard_by_majority:
                if reply.pre:
                    self._campaign(effects, pre=False)
                else:
                    self._become_leader(effects)
        elif self.role is asked[0] and reply.term <= self.term:
            self._election.note_refusal(reply.sender)
            if self._election.is_lost(len(self.voters)):
                # Cannot be won any more. The timer that runs already brings the next try.
                self.role = Role.FOLLOWER
                effects.role_changed = True

    def _become_leader(self, effects: Effects) -> None:
        if not self._election.is_sure(len(self.voters)):
            effects.notes.append(("led_by_all_voters_in_doubt", {"term": self.term, "last": str(self.last)}))
        self.role = Role.LEADER
        self.leader = self.voter
        self._election.forget_failures()
        effects.role_changed = True
        effects.timer_ms = 0
        before = self.last
        self._term_start = Point(self.term, before.offset, 1)
        effects.notes.append(("leading", {"term": self.term, "offset": before.offset}))
        self._append((Item(self._term_start, ItemKind.TERM_START, b""),), effects)
        self._followers.begin(self.term, before, self._term_start, self.voters, effects)
        self._keep_timer(effects)

    def _on_campaign_now(self, order: CampaignNow, effects: Effects) -> None:
        if order.to == self.voter and order.term == self.term and order.sender == self.leader and self._may_campaign():
            self._campaign(effects, pre=False, transfer=True)

    # -- who is in touch ---------------------------------------------------------------------------------------------

    def _on_peer_heard(self, event: PeerHeard, effects: Effects) -> None:
        self._contacts.note(event.broker_id, event.directory_id)
        if self.role is Role.LEADER:
            self._followers.greet(event.broker_id, effects)
            if self._reads.is_under_way:
                self._send_read_probes(effects)
            self._keep_timer(effects)
        elif self.leader is not None:
            if self._is_led():
                effects.timer_ms = 0
        elif self._may_campaign() and (event.broker_id, event.directory_id) in {voter[:2] for voter in self.voters}:
            # A new session may be what was missing for a majority. The order keeps voters out of each other's way.
            self._election.forget_failures()
            effects.timer_ms = self._election_stagger_ms * self._turn(self.voters)

    def _on_peer_silent(self, event: PeerSilent, effects: Effects) -> None:
        self._contacts.forget(event.broker_id)
        if self.role is Role.LEADER:
            if self.transfer_target is not None and self.transfer_target.broker_id == event.broker_id:
                self.transfer_target = None  # it will not take over: lead on, rather than wait for nobody
            if not self.is_heard_by_majority:
                self._step_down("no majority is in touch", effects)
        elif self.leader is not None and self.leader.broker_id == event.broker_id:
            self._lose_leader(effects)

    def _on_leader_resigned(self, event: LeaderResigned, effects: Effects) -> None:
        if (
            self.role is Role.FOLLOWER
            and self.leader is not None
            and self.leader.broker_id == event.broker_id
            and self.term == event.term
        ):
            self._lose_leader(effects)

    def _lose_leader(self, effects: Effects) -> None:
        """The k-th of the remaining voters asks for pre-votes after k staggers, so that they do not split the vote."""
        gone, self.leader = self.leader, None
        self._doubted = None
        effects.role_changed = True
        if self._may_campaign():
            remaining = tuple(voter for voter in self.voters if voter != gone)
            effects.timer_ms = self._election_stagger_ms * self._turn(remaining)

    def _turn(self, voters: tuple[Voter, ...]) -> int:
        """Which of the voters it is, from 1; who is about to be none comes after them all."""
        return (voters.index(self.voter) if self.voter in voters else len(voters)) + 1

    # -- the leader's side of replication ----------------------------------------------------------------------------

    def _on_propose(self, event: Propose, effects: Effects) -> None:
        assert self.role is Role.LEADER and self.transfer_target is None, f"proposal to a {self.role.value}"
        for item in event.items:
            if item.kind is ItemKind.VOTERS:
                refusal = self.refuses_voters(item.voters)
                assert refusal is None and len(event.items) == 1, f"{self.voter} changes its voters: {refusal}"
        self._append(event.items, effects)
        self._followers.pump_all(effects)
        self._keep_timer(effects)
        # With fewer voters, what they hold already may be enough.
        self._advance_commit(effects)

    def _append(self, items: tuple[Item, ...], effects: Effects) -> None:
        self._followers.allow_new(items)
        journal = self.journal
        for item in items:
            assert item.point.term == self.term, f"a leader of term {self.term} appends {item.point}"
            journal.extend(item.point)
            if item.kind is not ItemKind.RECORDS:
                self._copies.must_be_synced = item.point
            if item.kind is ItemKind.VOTERS:
                self._lead_new_voters(item, effects)
        effects.append = items

    def _lead_new_voters(self, item: Item, effects: Effects) -> None:
        """The set that a change names counts from now on. Who votes no more gets the log on: so it hears that."""
        removed = tuple(voter for voter in self.voters if voter not in item.voters and voter != self.voter)
        self._note_voters(item, effects)
        self._followers.keep_as_learners(removed)
        if self._reads.is_under_way:
            self._send_read_probes(effects)
            self._maybe_end_read_round(effects)

    def _note_voters(self, item: Item, effects: Effects) -> None:
        self.voter_sets.note(item.point, item.voters)
        effects.role_changed = True
        effects.notes.append(("voters", {"voters": [str(voter) for voter in item.voters], "at": str(item.point)}))

    def _leave(self, effects: Effects) -> None:
        """The others committed the change that removes this leader: the one that holds most takes over at once."""
        self._ask_heir(effects)
        self._step_down("it votes no more", effects)

    def _ask_heir(self, effects: Effects) -> None:
        """Let the voter that holds all of this log, if there is one, campaign at once."""
        able = [progress for progress in self.progress.values() if progress.voter in self.voters]
        heir = max(able, key=lambda progress: (self.is_heard(progress.voter), progress.match), default=None)
        if heir is not None and heir.match == self.last:
            effects.send_now.append(CampaignNow(self.voter, heir.voter, self.term))

    def _on_append_reply(self, reply: AppendReply, effects: Effects) -> None:
        if reply.to != self.voter:
            return
        if self.term < reply.term <= self.term + TERMS_AHEAD_MAX:
            self._enter_term(reply.term, effects)
            return
        progress = self.progress.get(reply.sender)
        if reply.term != self.term or progress is None or progress.session != reply.session:
            return
        if not reply.accepted and not reply.counts:
            # It mends its log by itself, and then takes items again: ask now and then, ever more seldom.
            progress.halt()
            progress.progressed = False
            self._keep_timer(effects)
            return
        if reply.accepted and progress.pace is Pace.HALTED:
            return  # it was under way for longer than the news that its log is damaged
        progress.progressed = True
        progress.patience = 1
        if not reply.accepted:
            self._followers.find_common(progress, reply.match, effects)
            return
        self._followers.note_match(progress, reply)
        self._advance_commit(effects)
        if self.role is Role.LEADER:
            self._followers.pump(progress, effects)
            self._maybe_hand_over(progress, effects)

    def _on_log_began(self, event: LogBegan, effects: Effects) -> None:
        self._standing.drop_before(event.base)
        self._followers.note_begun(effects)

    def _on_log_cleaned(self, event: LogCleaned, effects: Effects) -> None:
        self._standing.clean_to(event.cleaned_to)
        self._followers.note_cleaned(event.cleaned_to, effects)

    def _on_persisted(self, event: Persisted, effects: Effects) -> None:
        if event.point <= self.persisted:
            return
        assert self.journal.holds(event.point), f"persisted {event.point}, but the log holds {self.journal.spans}"
        self._standing.persisted = event.point
        self._maybe_reach_word(effects)
        if self.role is Role.LEADER:
            if self.doubtful and self.persisted >= self._term_start:
                # Nobody whose vote counted held more than it did when it was elected, and now that is on its disk. Not
                # before: a loss of power would leave a replica that is sure, without what it acknowledged once.
                self._end_doubt(effects)
            self._advance_commit(effects)
        elif self.doubtful:
            self._maybe_clear_doubt(effects)

    def _on_count_written(self, event: CountWritten, effects: Effects) -> None:
        self._copies.others_count_written, self._copies.own_counts_written = event.copies, event.own
        if self.role is Role.LEADER:
            self._advance_commit(effects)

    def _advance_commit(self, effects: Effects) -> None:
        standing = self._standing
        held, synced = self._copies.held_by_majority()
        if synced > standing.committed_synced and synced.term == self.term:
            standing.committed_synced = synced
        if held <= standing.committed or held.term != self.term:
            return
        was_ready = self.is_ready
        standing.committed = effects.committed = held
        if not was_ready and self.is_ready:
            effects.role_changed = True
            self._begin_read_round(effects)
        self._followers.pump_all(effects)
        self._keep_timer(effects)
        if self.voter not in self.voters and self.voter_sets.changed_at <= self.committed:
            self._leave(effects)

    def _keep_timer(self, effects: Effects) -> None:
        """A leader's timer runs only while a follower in touch has not acknowledged everything."""
        if not self._leader_timer_set and (self._reads.is_under_way or self._followers.is_any_behind()):
            self._leader_timer_set = True
            effects.timer_ms = self._election_timeout_ms

    def _nudge_followers(self, effects: Effects) -> None:
        self._leader_timer_set = False
        self._followers.nudge(effects)
        if self._reads.is_under_way:
            self._send_read_probes(effects)
        self._keep_timer(effects)

    def _on_set_learners(self, event: SetLearners, effects: Effects) -> None:
        self._followers.set_learners(event.learners)
        if self.role is Role.LEADER:
            self._followers.follow_learners(effects)
            self._keep_timer(effects)

    # -- the follower's side of replication --------------------------------------------------------------------------

    def _takes_from_leader(self, request: AppendRequest | HeadOffer, effects: Effects) -> bool:
        """Follow the sender. False if it does not lead any more, or this replica can take nothing; it is told so."""
        if request.to != self.voter or request.term > self.term + TERMS_AHEAD_MAX:
            return False
        if request.term < self.term:
            effects.send_now.append(self._append_reply(request, accepted=False, match=ORIGIN))
            return False
        if request.term > self.term:
            self._enter_term(request.term, effects, leader=request.sender)
        elif self.leader != request.sender or self.role is not Role.FOLLOWER:
            assert self.role is not Role.LEADER, f"{request.sender} and {self.voter} both lead term {self.term}"
            self._become_follower(request.sender, effects)
        elif not self._is_led():
            self._await_leader(effects)
        self._session_heard = replace(request, items=()) if isinstance(request, AppendRequest) else request
        if self.damaged:
            effects.send_when_persisted.append(
                self._append_reply(request, accepted=False, match=self.last, counts=False)
            )
            return False
        return True

    def _on_append_request(self, request: AppendRequest, effects: Effects) -> None:
        if not self._takes_from_leader(request, effects):
            return
        standing = self._standing
        if not standing.journal.holds(request.prev):
            hint = standing.journal.floor(request.prev)
            effects.send_when_persisted.append(self._append_reply(request, accepted=False, match=hint))
            return
        proved = self._take_items(request, effects)
        committed = min(request.committed, proved)
        if committed > standing.committed:
            standing.committed = effects.committed = committed
        synced = committed if request.committed_synced is None else min(request.committed_synced, committed)
        if synced > standing.committed_synced:
            standing.committed_synced = synced
        if self.doubtful:
            self._doubted = (request, proved)
            self._maybe_clear_doubt(effects)
        counts = not self.doubtful
        effects.send_when_persisted.append(self._append_reply(request, accepted=True, match=proved, counts=counts))

    def _take_items(self, request: AppendRequest, effects: Effects) -> Point:
        """Append what is new, cutting what conflicts with it; the last point that the message proved common."""
        common, journal = request.prev, self.journal
        for at, item in enumerate(request.items):
            if not journal.holds(item.point):
                if self.last > common:
                    self._cut(common, effects)
                new = request.items[at:]
                journal.extend_all(one.point for one in new)
                for one in new:
                    if one.kind is ItemKind.VOTERS:
                        self._note_voters(one, effects)
                effects.append = new
                effects.append_time_ms = request.append_time_ms
                return new[-1].point
            common = item.point
        return common

    def _cut(self, point: Point, effects: Effects) -> None:
        committed, last = self.committed, self.last
        if self._standing.cut(point):
            effects.role_changed = True
        if point < committed:
            # A majority held it in memory alone, and has lost its memory since: an election by all voters has shown
            # that none of them holds it any more. This one does not vote, else it would not be lost.
            effects.notes.append(("committed_in_memory_and_lost", {"from": str(committed), "to": str(point)}))
            effects.commits_lost = True
        effects.notes.append(("cut", {"from": str(last), "to": str(point), "term": self.term}))
        effects.cut = point

    def _on_head_offer(self, offer: HeadOffer, effects: Effects) -> None:
        if not self._takes_from_leader(offer, effects):
            return
        # Who knows to be committed what the offer's sender cleaned has followed it since: the offer came late. And one
        # that comes twice is not for the log that was begun for it.
        # By what is synced: of the rest the voters may have lost what this one holds, and cleaned what is there now.
        is_other = self._began_for != _identity_of(offer)
        is_cleaned_past = is_other and offer.cleaned_to > self.committed_synced.offset
        if offer.base < self.journal.base and not is_cleaned_past:
            # An offer that came late: this log has dropped more since.
            effects.send_when_persisted.append(self._append_reply(offer, accepted=False, match=self.journal.base))
            return
        if is_cleaned_past or not self.journal.holds(offer.base):
            self._begin_anew(offer, effects)
        counts = not self.doubtful
        effects.send_when_persisted.append(self._append_reply(offer, accepted=True, match=offer.base, counts=counts))

    def _begin_anew(self, offer: HeadOffer, effects: Effects) -> None:
        """Drop the log for a head: nothing committed in it would still be read. What it acknowledged stays our word."""
        assert offer.base > self.committed or offer.cleaned_to > self.committed_synced.offset, (
            f"{offer.base} is not in the log, though {self.committed} is committed"
        )
        self._begin_at(offer, effects)

    def _begin_at(self, offer: HeadOffer, effects: Effects) -> None:
        effects.notes.append(("reset", {"from": str(self.last), "to": str(offer.base), "term": self.term}))
        self.word = max(self.word, self.last)
        self._standing.begin_anew(offer.base, offer.voters, offer.cleaned_to)
        self._doubted = None
        effects.role_changed = True
        effects.committed = offer.base
        self._began_for = _identity_of(offer)
        effects.reset = offer

    def _maybe_reach_word(self, effects: Effects) -> None:
        if ORIGIN < self.word <= self.persisted and not self.damaged:
            self.word = ORIGIN
            effects.word_reached = True

    def _append_reply(
        self, request: AppendRequest | HeadOffer, *, accepted: bool, match: Point, counts: bool = True
    ) -> AppendReply:
        return AppendReply(
            self.voter, request.sender, self.term, request.session, accepted, match, self.committed, counts=counts
        )

    def _maybe_clear_doubt(self, effects: Effects) -> None:
        """We hold, on disk, all that the leader held when this session began: what we may have lost is back."""
        if self._doubted is None:
            return
        request, proved = self._doubted
        until = request.session_end
        if self.persisted >= until and self.journal.holds(until):
            self._end_doubt(effects)
            # All of it, and not only what is on disk by now: of what came meanwhile it was said that it does not count,
            # and where nothing more is appended nobody would ever say otherwise.
            effects.send_when_persisted.append(self._append_reply(request, accepted=True, match=proved))

    def _end_doubt(self, effects: Effects) -> None:
        self.doubtful = False
        self._doubted = None
        effects.doubt_cleared = True
        effects.notes.append(("doubt_cleared", {"through": str(self.persisted)}))

    def _on_set_willing(self, event: SetWilling, effects: Effects) -> None:
        self.willing = event.willing
        if not self.willing:
            self._step_down("its broker cannot serve", effects)
        elif not self._is_led():
            self._await_leader(effects)

    def _on_damage_found(self, event: DamageFound, effects: Effects) -> None:
        self.damaged = True
        self.word = max(self.word, event.word)
        if self.role is Role.LEADER:
            self._ask_heir(effects)
        self._step_down("stored bytes are unreadable", effects)
        if self.role is not Role.FOLLOWER:
            self._become_follower(None, effects)
        effects.timer_ms = 0

    def _on_log_recovered(self, event: LogRecovered, effects: Effects) -> None:
        """What the log says, says it anew. Term, vote and who is in touch are as they were."""
        assert self.role is not Role.LEADER, f"the log of {self.voter} is read anew while it leads"
        assert event.word >= self.word or self.word <= event.journal.last, f"{self.voter} forgets its word {self.word}"
        if self.role is not Role.FOLLOWER:
            self._become_follower(None, effects)
        self._standing.read_anew(event.journal, event.voter_sets, event.cleaned_to, event.committed)
        self.word, self.doubtful, self.damaged = event.word, event.doubtful, event.damaged
        self._doubted = None
        self._began_for = None
        effects.role_changed = True
        self._maybe_reach_word(effects)
        if not self._is_led():
            self._await_leader(effects)

    def _on_ask_leader(self, effects: Effects) -> None:
        heard = self._session_heard
        if heard is not None and self.role is Role.FOLLOWER and not self.damaged:
            effects.send_when_persisted.append(self._append_reply(heard, accepted=False, match=self.last))

    def _on_hole_lost(self, event: HoleLost, effects: Effects) -> None:
        """As at a conflict that was found, or at a reset: the word stays, and what is beyond the hole goes."""
        if not self.damaged or (self.role, self.leader, self.term) != (Role.FOLLOWER, event.leader, event.term):
            return  # it leads no more: what it said of its log says nothing now
        self.damaged = False
        self._standing.give_up_beyond_hole()
        self.word = max(self.word, self.last)
        if event.offer is None:
            self._cut(self.last, effects)
        else:
            self._begin_at(event.offer, effects)

    # -- reads and transfer ------------------------------------------------------------------------------------------

    def _on_read_index(self, event: ReadIndex, effects: Effects) -> None:
        if self.role is not Role.LEADER:
            effects.reads_refused.append(event.token)
            return
        self._reads.wait(event.token)
        self._begin_read_round(effects)
        self._keep_timer(effects)

    def _begin_read_round(self, effects: Effects) -> None:
        if self.is_ready and self._reads.begin(self.voter):
            self._send_read_probes(effects)
            self._maybe_end_read_round(effects)

    def _send_read_probes(self, effects: Effects) -> None:
        for voter in self._reads.unheard(self.voters):
            effects.send_now.append(ReadProbe(self.voter, voter, self.term, self._reads.number))

    def _on_read_probe(self, probe: ReadProbe, effects: Effects) -> None:
        if probe.to != self.voter or probe.term > self.term + TERMS_AHEAD_MAX:
            return
        if probe.term > self.term:
            self._enter_term(probe.term, effects, leader=probe.sender)
        elif probe.term == self.term and self.leader != probe.sender:
            self._become_follower(probe.sender, effects)
        # The term is not on disk yet if we just entered it, and until then it does not bind us.
        effects.send_when_persisted.append(ReadProbeReply(self.voter, probe.sender, self.term, probe.round_number))

    def _on_read_probe_reply(self, reply: ReadProbeReply, effects: Effects) -> None:
        if reply.to != self.voter:
            return
        if self.term < reply.term <= self.term + TERMS_AHEAD_MAX:
            self._enter_term(reply.term, effects)
        elif (
            self.role is Role.LEADER
            and reply.term == self.term
            and reply.sender in self.voters
            and self._reads.note(reply.sender, reply.round_number)
        ):
            self._maybe_end_read_round(effects)

    def _maybe_end_read_round(self, effects: Effects) -> None:
        confirmed = self._reads.end(self.voters)
        if confirmed:
            effects.reads_confirmed.extend(confirmed)
            self._begin_read_round(effects)

    def _on_transfer_to(self, event: TransferTo, effects: Effects) -> None:
        if self.role is not Role.LEADER:
            return
        there = [voter for voter in self.voters if voter.broker_id == event.broker_id and voter in self.progress]
        if there:
            # A broker may bear two voters for a moment: one of them was never made, or is no more.
            self.transfer_target = max(there, key=lambda voter: (self.is_heard(voter), self.progress[voter].match))
            self._maybe_hand_over(self.progress[self.transfer_target], effects)

    def _maybe_hand_over(self, progress: Progress, effects: Effects) -> None:
        if self.role is Role.LEADER and progress.voter == self.transfer_target and progress.match == self.last:
            effects.send_now.append(CampaignNow(self.voter, progress.voter, self.term))


def _identity_of(offer: HeadOffer) -> tuple[Voter, int, int]:
    return offer.sender, offer.term, offer.session
