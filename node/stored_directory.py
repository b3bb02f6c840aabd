"""A data directory as it lies there, for whoever checks it: whose it is, what its broker promised, what is in it.

Invariants
    nothing in it is changed; unless it is read live, no broker starts on it meanwhile
    what its broker would refuse at a start is a finding here, never an exception
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..partitions.environment import PartitionId
from ..partitions.storage.checks.findings import Finding, Level
from ..partitions.storage.checks.replica import ReplicaCheck, check_replica
from ..partitions.storage.checks.word import check_word
from ..partitions.storage.lineage import SET_ASIDE_DIRECTORY
from ..partitions.storage.promised import Promised
from ..partitions.storage.promises import FILE_NAME, PARTITIONS_DIRECTORY
from ..proto.errors import InvalidConfig
from .data_directory import FORMAT, SUPERSEDED, DataDirectory, first_link, read_format, share_lock
from .formation import ClusterSet, MalformedSet
from .read_only_disk import ReadOnlyDisk

_ITS_FILES = {"format", "lock", FILE_NAME, f"{FILE_NAME}.new", PARTITIONS_DIRECTORY, SUPERSEDED, SET_ASIDE_DIRECTORY}


class NoDataDirectory(Exception):
    """There is nothing of a broker's there, or it may not be read."""


class StoredDirectory:
    """One data directory.

    Raises
        NoDataDirectory  it is none
        InvalidConfig    a broker runs on it, and it is not to be read live
    """

    def __init__(self, path: Path, *, allow_live: bool = False) -> None:
        self.path = path
        self.is_live = False
        self.broker_id: int | None = None
        self.cluster_id: str | None = None
        self.promised: Promised | None = None
        self.same_boot = False
        self.findings: list[Finding] = []
        self.disk = ReadOnlyDisk()
        self._lock: int | None = None
        _refuse_what_is_none(path)
        try:
            self._lock = share_lock(path)
        except InvalidConfig:
            if not allow_live:
                raise
            self.is_live = True
        self.look()

    @property
    def name(self) -> str:
        """As a person would call it."""
        return f"broker {self.broker_id}" if self.broker_id is not None else str(self.path)

    @property
    def directory_id(self) -> str:
        return self.promised.directory_id if self.promised is not None else ""

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def look(self) -> None:
        """Read all of it but the logs."""
        self.findings = []
        self._look_at_format()
        link = first_link(self.path)
        if link is not None:
            self._tell(
                Level.DAMAGE, link, "it is a symbolic link, for which the broker does not start", "put the file there"
            )
        word = check_word(self.disk, str(self.path))
        self.findings += word.findings
        self.promised = word.promised
        if word.promised is not None:
            self.same_boot = word.promised.boot_id == self.disk.boot_id
            self._look_at_identity(word.promised)
        self._look_at_names()

    def listed(self) -> list[PartitionId]:
        return self.promised.listed() if self.promised is not None else []

    def check(self, partition: PartitionId, on_read: Callable[[int], None]) -> ReplicaCheck | None:
        """Check the replica of a partition; None if none is listed here."""
        promises = self.promised.recall(partition) if self.promised is not None else None
        if promises is None:
            return None
        return check_replica(
            self.disk,
            str(self.path),
            partition,
            promises,
            directory_id=self.directory_id,
            same_boot=self.same_boot,
            on_read=on_read,
            is_live=self.is_live,
        )

    def log_bytes(self) -> int:
        """Of all segments, about: for whoever waits."""
        partitions = self.path / PARTITIONS_DIRECTORY
        total = 0
        for directory, _, names in os.walk(partitions):
            for name in names:
                if name.endswith(".log"):
                    try:
                        total += os.stat(os.path.join(directory, name)).st_size
                    except OSError:
                        continue  # gone meanwhile, of a running broker
        return total

    def _tell(self, level: Level, path: Path, what: str, remedy: str) -> None:
        self.findings.append(Finding(level, str(path), what, remedy))

    def _look_at_format(self) -> None:
        path = self.path / "format"
        try:
            number, self.broker_id = read_format(self.path)
        except FileNotFoundError:
            self._tell(
                Level.DAMAGE,
                path,
                "it is missing, so whose directory this is is unknown",
                "start the broker: it says how",
            )
            return
        except (ValueError, OSError) as error:
            self._tell(
                Level.DAMAGE, path, f"it is unreadable: {error}", "start the broker: it says what to write there"
            )
            return
        if number > FORMAT:
            self._tell(
                Level.UNJUDGED,
                path,
                f"it says format {number}, and this lograft reads up to {FORMAT}",
                "check it with the lograft that wrote it",
            )

    def _look_at_identity(self, promised: Promised) -> None:
        if promised.cluster_set is not None:
            try:
                self.cluster_id = ClusterSet.decode(promised.cluster_set).cluster_id
            except MalformedSet as error:
                self._tell(Level.DAMAGE, self.path / FILE_NAME, str(error), "report it; the broker cannot start")
        try:
            DataDirectory(self.path, -1).check_not_superseded(promised.directory_id, promised.start_number)
        except InvalidConfig as error:
            why, _, remedy = str(error).partition("; ")
            self._tell(Level.DAMAGE, self.path / SUPERSEDED, why, remedy)

    def _look_at_names(self) -> None:
        for name in self.disk.list(str(self.path)):
            path = self.path / name
            if name == SET_ASIDE_DIRECTORY:
                self._tell(
                    Level.NOTE,
                    path,
                    "logs that recoveries set aside",
                    "delete it once nothing in it is missed",
                )
            elif ".lost-" in name:
                self._tell(
                    Level.NOTE, path, "promises that could not be read once", "delete it once all is whole again"
                )
            elif name not in _ITS_FILES:
                self._tell(Level.NOTE, path, "it does not belong there; the broker passes it over", "move it away")
        partitions = self.path / PARTITIONS_DIRECTORY
        if self.promised is None or not partitions.is_dir():
            return
        listed = {str(partition) for partition in self.listed()}
        for name in self.disk.list(str(partitions)):
            if name in listed:
                continue
            names = self.disk.list(str(partitions / name)) if (partitions / name).is_dir() else [name]
            if names and all(".lost-" in one for one in names):
                what = "logs from before the broker's word was lost: sources for nobody any more"
            else:
                what = "no such replica is listed: a creation or deletion that did not end, or a foreign directory"
            self._tell(
                Level.NOTE, partitions / name, what, "the broker passes it over; move it away if nobody misses it"
            )


def _refuse_what_is_none(path: Path) -> None:
    if not path.exists():
        raise NoDataDirectory(f"{path} does not exist; name a broker's data directory (broker.data_directory)")
    if not path.is_dir():
        raise NoDataDirectory(f"{path} is a file; name a broker's data directory (broker.data_directory)")
    if not os.access(path, os.R_OK | os.X_OK):
        raise NoDataDirectory(f"{path} may not be read by this user; run this as the one that brokers run as")
    if not any((path / name).exists() for name in ("format", FILE_NAME, PARTITIONS_DIRECTORY)):
        raise NoDataDirectory(
            f"{path} is no broker's data directory: it has neither `format` nor `{FILE_NAME}`; name the one that "
            "broker.data_directory says, or the directory of a local cluster"
        )
