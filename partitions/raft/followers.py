"""What a leader sends to its followers, and when: each by its own progress.

Invariants
    only who is in touch is sent anything; what was said in an older session counts for nothing
    a follower is sent items only from a point on that it can go on from, else the head of the leader's log
    who votes is never throttled, and neither is a learner that has caught up: redundancy and changes of voters wait for
    no allowance
    nothing of the log, of terms or of votes is decided here
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .contacts import Contacts
from .events import Effects, Replicate
from .messages import AppendReply, AppendRequest, HeadOffer, Voter
from .points import ORIGIN, Item, Point
from .progress import Pace, Progress, can_go_on
from .standing import Standing

PATIENCE_MAX = 8
"""A follower that says nothing is left alone for so many rounds of the leader's timer at most."""


class Followers:
    """Of one replica, while it leads; before and after there are none, but learners are known."""

    def __init__(
        self,
        leader: Voter,
        standing: Standing,
        contacts: Contacts,
        *,
        append_bytes_max: int,
        in_flight_bytes_max: int,
    ) -> None:
        self.progress: dict[Voter, Progress] = {}
        self.learners: tuple[Voter, ...] = ()
        self.throttled = False
        """Do learners that catch up wait for allowances?"""
        self._leader = leader
        self._standing = standing
        self._contacts = contacts
        self._append_bytes_max = append_bytes_max
        self._in_flight_bytes_max = in_flight_bytes_max
        self._term = 0
        self._end_before = ORIGIN
        """Where the leader's log ended when its timer last fired."""

    # -- who follows -------------------------------------------------------------------------------------------------

    def begin(self, term: int, before: Point, term_start: Point, voters: Iterable[Voter], effects: Effects) -> None:
        """The replica leads, with a log that ended at `before` and got its term start."""
        self._term = term
        self._end_before = term_start
        self.progress = {
            peer: Progress(peer, next=before) for peer in (*voters, *self.learners) if peer != self._leader
        }
        for progress in self.progress.values():
            progress.begin_session(before, self._standing.last)
            self.pump(progress, effects)

    def end(self) -> None:
        """It leads no more."""
        self.progress = {}

    def set_learners(self, learners: Iterable[Voter]) -> None:
        voters = self._standing.voters
        self.learners = tuple(peer for peer in learners if peer not in voters and peer != self._leader)

    def keep_as_learners(self, removed: Iterable[Voter]) -> None:
        """Other voters count from now on. Who votes no more gets the log on: so it hears that."""
        voters = self._standing.voters
        self.learners = (*(learner for learner in self.learners if learner not in voters), *removed)

    def follow_learners(self, effects: Effects) -> None:
        """Of those who do not vote, the learners alone are sent anything."""
        voters = self._standing.voters
        for peer in [peer for peer in self.progress if peer not in voters and peer not in self.learners]:
            del self.progress[peer]
        for peer in self.learners:
            if peer not in self.progress:
                self.progress[peer] = Progress(peer, next=self._standing.last)
                self._new_session(self.progress[peer], effects)

    def is_within_reach(self, voter: Voter) -> bool:
        """Does it surely hold what the leader's log held when its timer last fired?"""
        progress = self.progress.get(voter)
        return progress is not None and self._contacts.has(voter) and progress.counted_synced >= self._end_before

    # -- sessions ----------------------------------------------------------------------------------------------------

    def greet(self, broker_id: int, effects: Effects) -> None:
        """That broker is in touch, maybe anew."""
        for progress in self.progress.values():
            if progress.voter.broker_id == broker_id:
                self._new_session(progress, effects)

    def note_begun(self, effects: Effects) -> None:
        """The leader's log begins later now."""
        for progress in self.progress.values():
            if progress.next < self._standing.base:
                self._new_session(progress, effects)

    def note_cleaned(self, cleaned_to: int, effects: Effects) -> None:
        for progress in self.progress.values():
            # By what it surely holds: what was sent may never have come.
            if progress.match.offset < cleaned_to:
                progress.copies = False
                self._new_session(progress, effects)

    def find_common(self, progress: Progress, match: Point, effects: Effects) -> None:
        """It refused, as it holds the leader's log up to `match` at most.

        Every further refusal of this session would say the same: begin another one at the common point, or before it if
        it is not known yet. No item of ours may follow what it holds if we dropped what came between.
        """
        common = self._standing.journal.floor(match)
        if match >= self._standing.base and self._can_go_on(progress, common):
            progress.begin_session(common, self._standing.last)
            self.pump(progress, effects)
        else:
            progress.begin_session(self._standing.base, self._standing.last)
            self._offer_head(progress, effects)

    def note_match(self, progress: Progress, reply: AppendReply) -> None:
        """It acknowledged what it says."""
        assert reply.match <= self._standing.last, (
            f"{reply.sender} holds {reply.match}, past our own end {self._standing.last}"
        )
        if progress.is_offered:
            progress.is_offered, progress.copies = False, True
        progress.note_match(reply.match, reply.synced or reply.match, counts=reply.counts)
        if not progress.caught_up and progress.counted >= self._end_before:
            progress.caught_up = True
            progress.allowance_bytes = 0
        progress.committed = max(progress.committed, reply.committed)

    def is_any_behind(self) -> bool:
        return any(map(self.is_behind, self.progress.values()))

    def is_behind(self, progress: Progress) -> bool:
        """Is it in touch, and has not acknowledged everything?"""
        return self._contacts.has(progress.voter) and (
            progress.synced < self._standing.last or progress.committed < self._standing.committed
        )

    def nudge(self, effects: Effects) -> None:
        """Messages can be lost: begin a new session with each follower that should have answered by now."""
        self._end_before = self._standing.last
        for progress in self.progress.values():
            if not self.is_behind(progress) or (not progress.in_flight and self._lacks_allowance(progress)):
                continue
            if progress.progressed:
                progress.progressed = False
                progress.waited = 0
                continue
            progress.waited += 1
            if progress.waited >= progress.patience:
                progress.waited = 0
                progress.patience = min(progress.patience * 2, PATIENCE_MAX)
                self._new_session(progress, effects)

    def _new_session(self, progress: Progress, effects: Effects) -> None:
        """Begin again with a follower: nothing it said before counts, nothing on its way to it is relied on."""
        begin = max(min(progress.next, self._standing.last), self._standing.base)
        if not self._can_go_on(progress, begin):
            begin = self._standing.last  # where it really stands its refusal will tell
        progress.begin_session(begin, self._standing.last)
        self.pump(progress, effects)

    def _can_go_on(self, progress: Progress, match: Point) -> bool:
        return can_go_on(match, self._standing.base, self._standing.cleaned_to, copies=progress.copies)

    # -- what is sent ------------------------------------------------------------------------------------------------

    def pump_all(self, effects: Effects) -> None:
        for progress in self.progress.values():
            self.pump(progress, effects)

    def pump(self, progress: Progress, effects: Effects) -> None:
        """Send a follower what it lacks, as far as its window allows; else the news of the committed point."""
        if not self._contacts.has(progress.voter) or progress.pace is Pace.HALTED or progress.filling:
            return
        throttled = self._is_throttled(progress)
        if progress.pace is Pace.PROBE:
            if not progress.awaits_reply:
                progress.awaits_reply = True
                room = progress.allowance_bytes if throttled else self._append_bytes_max
                self._replicate(progress, min(room, self._append_bytes_max), effects)
            return
        room = self._in_flight_bytes_max - progress.in_flight_bytes
        if throttled:
            room = min(room, progress.allowance_bytes)
        if progress.next < self._standing.last:
            if room > 0:
                self._replicate(progress, min(room, self._append_bytes_max), effects)
        elif progress.committed_sent < self._standing.committed:
            effects.has_news = True

    def note_sent(self, to: Voter, session: int, through: Point, size_bytes: int, effects: Effects) -> None:
        """The items asked for in `Effects.replicate` are on their way."""
        progress = self.progress.get(to)
        if progress is None or progress.session != session:
            return
        progress.filling = False
        if self._is_throttled(progress):
            progress.allowance_bytes -= size_bytes
        progress.note_sent(through, size_bytes)
        if progress.pace is Pace.STREAM and progress.next < self._standing.last:
            self.pump(progress, effects)

    def tell_committed(self, effects: Effects) -> None:
        for progress in self.progress.values():
            if self._lacks_news(progress):
                progress.committed_sent = self._standing.committed
                effects.send_now.append(self._append_request(progress))

    def _lacks_news(self, progress: Progress) -> bool:
        """Was it sent all that the log holds, but not how far that is committed?"""
        return (
            progress.committed_sent < self._standing.committed
            and progress.pace is Pace.STREAM
            and progress.next == self._standing.last
            and not progress.filling
            and self._contacts.has(progress.voter)
        )

    def _replicate(self, progress: Progress, bytes_max: int, effects: Effects) -> None:
        request = self._append_request(progress)
        progress.committed_sent = self._standing.committed
        if progress.next < self._standing.last and bytes_max > 0:
            progress.filling = True
            effects.replicate.append(Replicate(request, self._standing.last, bytes_max))
        else:
            effects.send_now.append(request)

    def _append_request(self, progress: Progress) -> AppendRequest:
        committed, synced = self._standing.committed, self._standing.committed_synced
        return AppendRequest(
            self._leader,
            progress.voter,
            self._term,
            progress.session,
            progress.session_end,
            prev=progress.next,
            committed=committed,
            committed_synced=synced if synced < committed else None,
        )

    def _offer_head(self, progress: Progress, effects: Effects) -> None:
        """Let a follower begin anew where our log begins; the answer is that to a probe of our base."""
        if self._contacts.has(progress.voter):
            progress.awaits_reply = progress.is_offered = True
            progress.copies = False
            offer = HeadOffer(
                self._leader,
                progress.voter,
                self._term,
                progress.session,
                self._standing.base,
                cleaned_to=self._standing.cleaned_to,
            )
            effects.offers.append(offer)

    # -- what learners are allowed -----------------------------------------------------------------------------------

    def set_throttled(self, throttled: bool, effects: Effects) -> None:
        self.throttled = throttled
        self.pump_all(effects)

    def allow(self, to: Voter, size_bytes: int, effects: Effects) -> bool:
        """False: it waits for no allowance."""
        progress = self.progress.get(to)
        if progress is None or not self._is_throttled(progress):
            return False
        progress.allowance_bytes += size_bytes
        self.pump(progress, effects)
        return True

    def allow_new(self, items: Sequence[Item]) -> None:
        """Beyond the backlog a learner is sent what comes in meanwhile: else it never caught up with a busy log."""
        for progress in self._throttled_learners():
            progress.allowance_bytes += sum(len(item.data) for item in items)

    def waiting_for_allowance(self) -> list[Voter]:
        return [progress.voter for progress in self._throttled_learners() if self._lacks_allowance(progress)]

    def _is_throttled(self, progress: Progress) -> bool:
        return self.throttled and not progress.caught_up and progress.voter not in self._standing.voters

    def _throttled_learners(self) -> list[Progress]:
        return list(filter(self._is_throttled, self.progress.values())) if self.throttled else []

    def _lacks_allowance(self, progress: Progress) -> bool:
        """Is it the word of whoever throttles alone that it waits for?"""
        return (
            self._is_throttled(progress)
            and progress.allowance_bytes <= 0
            and progress.pace is Pace.STREAM
            and not progress.filling
            and progress.next < self._standing.last
            and self._contacts.has(progress.voter)
        )
