"""How the leader of an internal partition decides: one writer, against all that was decided before.

What always holds
    it decides only while its replica leads, and once all of the replica's log is committed and applied
    it decides against the committed state with its own unfinished proposals applied, and nothing awaits between a
        decision and its append: so there is one writer, and no two decisions contradict each other
    whatever it answers, refusals too, rests on committed records alone: an answer waits for every proposal it leans on
    a proposal whose outcome is unknown takes all that was decided on top of it with it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from ..proto import record_batch
from ..proto.errors import LograftError, NoLeader, NotLeader, UnknownOutcome
from .decision_log import DecidedReplica, DecidedState, DecisionLog

Change = TypeVar("Change")
Answer = TypeVar("Answer")


class AheadState(DecidedState, Protocol):
    """A state that can be copied, and run ahead of the log by applying changes of its own kind."""

    def copy(self) -> Any: ...
    def apply(self, change: Any) -> str | None: ...


State = TypeVar("State", bound=AheadState)


class Decider(Generic[State, Change]):
    """Decides, while `replica` leads. `encode` makes one batch of changes: they are committed, and applied, together.

    `title` is what errors call it, such as "the controller".

    Raises, from everything
        NotLeader       another broker is it; facts: leader_id, term
        NoLeader        this one is about to be
        UnknownOutcome  leadership went while a decision was under way
    """

    def __init__(
        self,
        replica: DecidedReplica,
        log: DecisionLog[State],
        encode: Callable[[Sequence[Change]], bytes],
        title: str,
    ) -> None:
        self._replica = replica
        self._log = log
        self._encode = encode
        self._title = title
        self._ahead: State | None = None
        """The committed state with the unfinished proposals of `_term` applied."""
        self._term = 0
        self._last_proposal: asyncio.Future[Any] | None = None
        self._confirming: asyncio.Task[None] | None = None
        self._confirming_next: asyncio.Task[None] | None = None

    def ahead(self) -> State:
        """The state to decide against. The same object as long as nothing got in between; read and propose at once."""
        replica = self._replica
        if not replica.is_leader:
            self._ahead = None
            leader = replica.leader
            raise NotLeader(
                f"{self._title} is " + (f"broker {leader.broker_id}" if leader else "not known here"),
                leader_id=leader.broker_id if leader else None,
                term=replica.term,
            )
        if not replica.is_ready:
            self._not_yet()
        if self._ahead is None or self._term != replica.term:
            self._log.catch_up()
            # All of the own log, not only what came before this term: a proposal of unknown outcome may be in it.
            if self._log.applied_offset < replica.log.end.offset:
                self._not_yet()
            self._ahead = self._log.state.copy()
            self._term = replica.term
            self._last_proposal = None
        return self._ahead

    async def decide(self, decision: Callable[[State], tuple[Sequence[Change], Answer]]) -> Answer:
        """Decide, propose, and answer once everything that the answer leans on is committed and applied here."""
        state = self.ahead()
        refusal: LograftError | None = None
        try:
            changes, answer = decision(state)
        except LograftError as error:
            refusal = error
        else:
            if changes:
                self.propose(changes)
        # From here on others may decide.
        await self.settled()
        if refusal is not None:
            raise refusal
        return answer

    def propose(self, changes: Sequence[Change]) -> None:
        """Append the changes, and apply them to the state ahead."""
        state = self._ahead
        assert state is not None, "decided against no state"
        batch = self._encode(changes)
        try:
            committed = self._replica.append(batch, record_batch.read_header(batch), None).committed
        except LograftError:
            self._ahead = None  # whoever decided may have applied the changes already
            raise
        for change in changes:
            state.apply(change)
        self._last_proposal = committed

        def finished(proposal: asyncio.Future[Any]) -> None:
            if (proposal.cancelled() or proposal.exception() is not None) and self._ahead is state:
                self._ahead = None

        committed.add_done_callback(finished)

    async def settled(self) -> None:
        """Wait until all that was proposed so far is committed and applied here."""
        proposal = self._last_proposal
        if proposal is None:
            return
        try:
            # Shielded: one caller who goes away must not take the proposal from the others who wait for it.
            await asyncio.shield(proposal)
        except asyncio.CancelledError:
            if not proposal.cancelled():
                raise
            raise UnknownOutcome(f"{self._title} stopped while it decided; ask again") from None
        self._log.catch_up()

    async def confirmed(self) -> None:
        """Return once a majority has confirmed, after this was called, that this replica leads; with all that was
        committed by then applied here. Those who ask while a round is under way share the next one."""
        if self._confirming_next is None:
            self._confirming_next = asyncio.get_running_loop().create_task(self._confirm_after(self._confirming))
            self._confirming_next.add_done_callback(_note_outcome)
        await asyncio.shield(self._confirming_next)

    async def _confirm_after(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait({previous})
        self._confirming, self._confirming_next = self._confirming_next, None
        committed_offset = await self._replica.confirm_read()
        self._log.catch_up()
        if self._log.applied_offset < committed_offset:
            self._not_yet()

    def _not_yet(self) -> NoReturn:
        raise NoLeader(f"{self._title} is taking office; try again in a moment", term=self._replica.term)


def _note_outcome(task: asyncio.Task[None]) -> None:
    """A round that failed once nobody waited for it any more is no error."""
    if not task.cancelled():
        task.exception()
