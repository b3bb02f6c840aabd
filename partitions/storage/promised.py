"""What the frames of `promises.log` say, taken one after the other. Nothing is read or written here.

Invariants
    it is a function of the frames in their order, so reading a file again gives the same
    nothing is promised for a replica that is not listed
    of a replica that was deleted it stays known that there was one, until its topic is deleted: one made again would
        be the same to the others, without its votes
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..environment import PartitionId
from ..raft.messages import Voter
from ..raft.points import ORIGIN, Point
from .promise_frames import (
    BootFrame,
    ClusterSetFrame,
    CompactedFrame,
    CreatedFrame,
    DeletedFrame,
    DirectoryFrame,
    DoubtFrame,
    Frame,
    MarkFrame,
    MemoryBootFrame,
    StartNumberFrame,
    VoteFrame,
    WordFrame,
)


@dataclass(frozen=True, slots=True)
class ReplicaPromises:
    """What a broker has promised for one of its replicas."""

    replica_number: int
    term: int = 0
    voted_for: Voter | None = None
    mark: Point = ORIGIN
    """The disk surely holds the log through here."""
    word: Point | None = None
    """A damaged replica once held this, and votes with it until its log end is there again."""
    doubtful: bool = False
    memory_boot: str | None = None
    """The boot under which bytes were acknowledged that no sync had covered."""
    rewritten_to: int = 0
    """Below this offset compaction may have taken records out of the log; above, it has the bytes of every other."""
    cleaned_to: int = 0
    """Below this offset it may have dropped tombstones, and bounds between batches."""


class Promised:
    """The word of one data directory."""

    def __init__(self) -> None:
        self.directory_id = ""
        self.boot_id: str | None = None
        """Under which the logs were last read."""
        self.start_number = 0
        self.cluster_set: bytes | None = None
        self.replicas: dict[PartitionId, ReplicaPromises] = {}
        self.departed: set[PartitionId] = set()
        """Of which a replica was here, and is not any more."""
        self._departures_are_kept = False

    def recall(self, partition: PartitionId) -> ReplicaPromises | None:
        """What was promised for this replica; None if none is listed."""
        return self.replicas.get(partition)

    def listed(self) -> list[PartitionId]:
        return sorted(self.replicas)

    def never_held(self, partition: PartitionId) -> bool:
        """Was there surely no replica of it here, ever?"""
        return self._departures_are_kept and partition not in self.replicas and partition not in self.departed

    def apply(self, frame: Frame) -> None:
        match frame:
            case DirectoryFrame():
                self.directory_id = frame.directory_id
                self._departures_are_kept = frame.departures_are_kept
            case BootFrame():
                self.boot_id = frame.boot_id
            case StartNumberFrame():
                self.start_number = frame.start_number
            case ClusterSetFrame():
                self.cluster_set = frame.cluster_set
            case CreatedFrame():
                self.replicas[frame.partition] = ReplicaPromises(frame.replica_number)
                self.departed.discard(frame.partition)
            case DeletedFrame():
                self.replicas.pop(frame.partition, None)
                self.departed.add(frame.partition)
            case VoteFrame():
                self._change(frame.partition, term=frame.term, voted_for=frame.voted_for)
            case MarkFrame():
                self._change(frame.partition, mark=frame.mark)
            case WordFrame():
                self._change(frame.partition, word=frame.word)
            case DoubtFrame():
                self._change(frame.partition, doubtful=frame.doubtful)
            case MemoryBootFrame():
                self._change(frame.partition, memory_boot=frame.boot_id)
            case CompactedFrame():
                self._change(frame.partition, rewritten_to=frame.rewritten_to, cleaned_to=frame.cleaned_to)

    def _change(self, partition: PartitionId, **facts: object) -> None:
        assert partition in self.replicas, f"{partition} is not listed, so nothing can be promised for it"
        self.replicas[partition] = replace(self.replicas[partition], **facts)  # type: ignore[arg-type]
