"""What can go wrong with a cluster, each kind a small class: it begins, lasts, ends, and leaves things as they were."""

from __future__ import annotations

from .clients import KillMembers, PauseMembers
from .composed import PartKill, PauseKill
from .media import (
    FlippedBits,
    FlippedBitsOfStopped,
    FullDisk,
    PowerFailure,
    SlowSync,
    SyncFails,
    WipedDisk,
    WriteFails,
    cut_power,
)
from .network import (
    ClientsCutOff,
    DrippingLinks,
    PartitionInHalves,
    PartitionLeaderAlone,
    PartitionMajoritiesRing,
    PartitionOneWay,
    ResetLinks,
    SlowLinks,
    SwizzleClog,
    both_ways,
)
from .operators import ClockJump, DrainOne, MovePartitions, TransferLeadership, restore_order
from .processes import (
    KillAgainAndAgain,
    KillAll,
    KillLeader,
    KillMajority,
    KillOne,
    Pause,
    PauseAll,
    PauseLeader,
    RestartOneByOne,
    StopOne,
)
from .scene import Fault, Scene

PROCESSES: tuple[type[Fault], ...] = (
    *(KillOne, KillLeader, KillMajority, KillAll, KillAgainAndAgain),
    *(Pause, PauseLeader, PauseAll, RestartOneByOne, StopOne),
)
NETWORK: tuple[type[Fault], ...] = (
    *(PartitionInHalves, PartitionLeaderAlone, PartitionOneWay, PartitionMajoritiesRing, ClientsCutOff),
    *(SwizzleClog, SlowLinks, DrippingLinks, ResetLinks),
)
DISKS: tuple[type[Fault], ...] = (
    *(FullDisk, SyncFails, SlowSync, WriteFails, PowerFailure, WipedDisk, FlippedBits, FlippedBitsOfStopped),
)
OTHERS: tuple[type[Fault], ...] = (
    *(ClockJump, TransferLeadership, MovePartitions, DrainOne, KillMembers, PauseMembers, PauseKill, PartKill),
)
ALL = (*PROCESSES, *NETWORK, *DISKS, *OTHERS)

__all__ = [
    "ALL",
    "DISKS",
    "NETWORK",
    "OTHERS",
    "PROCESSES",
    "Fault",
    "Scene",
    "both_ways",
    "cut_power",
    "restore_order",
]
