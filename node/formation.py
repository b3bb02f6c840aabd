"""First formation: how a cluster comes to be, once, and how a broker comes to belong to it.

Invariants
    the initial voter with the lowest broker id alone writes the set, once it has live sessions with all initial voters
        and none of them holds a set
    a broker that holds a set keeps it for good; the set's hash is the cluster's id, and another cluster is refused
    only an identity that the set names begins as a voter of `__cluster`: a wiped or later broker begins as a learner
    the set is durable here before anything is done in its name
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ..partitions.raft.messages import Voter
from ..proto.errors import UNDECODABLE, LograftError
from .controller.cluster_seats import CLUSTER_REPLICA_NUMBER


class WrongCluster(LograftError):
    """A peer belongs to another cluster. Facts: ours, theirs."""

    reason, grpc_status = "WRONG_CLUSTER", "FAILED_PRECONDITION"


class MalformedSet(LograftError):
    """A peer sent a cluster set that cannot be read, or is none."""

    reason, grpc_status = "MALFORMED_SET", "INVALID_ARGUMENT"


class ClusterSet(NamedTuple):
    """The first voters of `__cluster`, by broker id."""

    voters: tuple[Voter, ...]
    recovery: int = 0
    """How often an operator gave up what the majority of `__cluster` held; each time it is another cluster."""

    @property
    def cluster_id(self) -> str:
        """32 hexadecimal digits. Directory ids are random, so no two clusters ever have the same."""
        return hashlib.sha256(self.encode()).hexdigest()[:32]

    def encode(self) -> bytes:
        # As it always was, where nothing was ever given up: the id depends on it.
        return msgspec.msgpack.encode(self if self.recovery else self[:1])

    @staticmethod
    def decode(body: bytes | memoryview) -> ClusterSet:
        """Raises MalformedSet."""
        try:
            decoded = msgspec.msgpack.decode(body, type=ClusterSet)
        except UNDECODABLE as error:
            raise MalformedSet(f"a cluster set could not be read: {error}") from None
        broker_ids = [voter.broker_id for voter in decoded.voters]
        if not broker_ids or broker_ids != sorted(set(broker_ids)):
            raise MalformedSet(f"a cluster set must name each of its brokers once, in order, not {broker_ids}")
        return decoded


class Formation:
    """Watches the sessions of this broker until it belongs to a cluster. Sans-I/O.

    `settle(set)` is called once, when the set that this broker will belong to is known: the caller makes it durable
    and then calls `settled`. `tell(broker_id, body)` sends a set to a peer in session.
    """

    def __init__(
        self,
        own: Voter,
        initial_voters: tuple[int, ...],
        held: ClusterSet | None,
        settle: Callable[[ClusterSet], None],
        tell: Callable[[int, bytes], None],
    ) -> None:
        self.held = held
        self._own = own
        self._initial_voters = tuple(sorted(initial_voters))
        self._settle = settle
        self._tell = tell
        self._settling = False
        self._sessions: dict[int, Voter] = {}
        self._strangers: set[int] = set()
        """Peers in session that hold no set, as far as known."""

    @property
    def is_voter(self) -> bool:
        """Does the set held name this very directory?"""
        return self.held is not None and self._own in self.held.voters

    def start(self) -> None:
        """A cluster of one needs nobody's session."""
        self._found_if_called_to()

    def session_up(self, broker_id: int, directory_id: str, cluster_id: str) -> None:
        """A peer is in session; `cluster_id` is empty if it holds no set."""
        self._sessions[broker_id] = Voter(broker_id, directory_id, CLUSTER_REPLICA_NUMBER)
        if cluster_id:
            self._strangers.discard(broker_id)
        else:
            self._strangers.add(broker_id)
            if self.held is not None:
                self._tell(broker_id, self.held.encode())
        self._found_if_called_to()

    def session_down(self, broker_id: int) -> None:
        self._sessions.pop(broker_id, None)
        self._strangers.discard(broker_id)

    def told(self, broker_id: int, body: bytes | memoryview) -> None:
        """A peer sent the set it holds. Raises MalformedSet, WrongCluster."""
        theirs = ClusterSet.decode(body)
        self._strangers.discard(broker_id)
        if self.held is None:
            self._begin_to_settle(theirs)
        elif theirs != self.held:
            raise WrongCluster(
                f"broker {broker_id} belongs to cluster {theirs.cluster_id}, this broker to {self.held.cluster_id}; "
                "one of them has the wrong data directory or the wrong peers",
                ours=self.held.cluster_id,
                theirs=theirs.cluster_id,
            )

    def settled(self, held: ClusterSet) -> None:
        """The set is durable here: this broker belongs to its cluster."""
        assert self.held is None, f"held {self.held}, and now {held}"
        self.held = held
        for broker_id in sorted(self._strangers):
            self._tell(broker_id, held.encode())

    def missing(self) -> list[int]:
        """Initial voters that the first formation waits for."""
        return [broker_id for broker_id in self._initial_voters if not self._is_present(broker_id)]

    def _found_if_called_to(self) -> None:
        if self.held is not None or not self._initial_voters or self._own.broker_id != self._initial_voters[0]:
            return
        if self.missing() or any(self._holds_a_set(broker_id) for broker_id in self._initial_voters):
            return
        voters = (self._own, *(self._sessions[broker_id] for broker_id in self._initial_voters[1:]))
        self._begin_to_settle(ClusterSet(voters))

    def _is_present(self, broker_id: int) -> bool:
        return broker_id == self._own.broker_id or broker_id in self._sessions

    def _holds_a_set(self, broker_id: int) -> bool:
        return broker_id != self._own.broker_id and broker_id not in self._strangers

    def _begin_to_settle(self, chosen: ClusterSet) -> None:
        if not self._settling:
            self._settling = True
            self._settle(chosen)
