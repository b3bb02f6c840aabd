"""`python -m lograft.node.check_log DIR...`: checks data directories of stopped brokers, and compares their replicas.

Invariants
    nothing is written to any of them
    partitions are checked one after the other, so that memory does not grow with their number
    findings are told as they are found; the exit code is 0 if all are notes, 1 if not, 2 if nothing could be checked

What a running broker does to its directory meanwhile is no damage: what is found there counts only if a second look
finds it as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..partitions.environment import PartitionId
from ..partitions.storage.checks.comparison import compare
from ..partitions.storage.checks.findings import Finding, Level
from ..partitions.storage.checks.replica import ReplicaCheck
from ..partitions.storage.log import PartitionLog
from ..partitions.storage.segment import DamagedLog
from ..proto import record_batch
from ..proto.errors import InvalidConfig, LograftError
from .controller.facts import CLUSTER_TOPIC_ID, OFFSETS_TOPIC, OFFSETS_TOPIC_ID
from .controller.state import ClusterState
from .replicas import CLUSTER_PARTITION
from .stored_directory import NoDataDirectory, StoredDirectory

CLEAN, FOUND, COULD_NOT = 0, 1, 2
SHOW_INTERVAL_S = 0.2
_READ_BYTES = 4 << 20


class _Progress:
    """How far reading has come, on a terminal."""

    def __init__(self, total_bytes: int, *, is_shown: bool, now: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        self._total = max(total_bytes, 1)
        self._is_shown = is_shown
        self._now = now
        self._began = self._shown_at = now()

    @property
    def seconds(self) -> float:
        return max(self._now() - self._began, 1e-6)

    def note(self, size: int) -> None:
        self.bytes += size
        now = self._now()
        if self._is_shown and now - self._shown_at >= SHOW_INTERVAL_S:
            self._shown_at = now
            rate = self.bytes / self.seconds
            left_s = max(self._total - self.bytes, 0) / max(rate, 1)
            sys.stderr.write(
                f"\r\x1b[Kchecked {_size(self.bytes)} of {_size(self._total)}, {_size(rate)}/s, {left_s:.0f} s left"
            )
            sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class CheckedPartition(NamedTuple):
    partition: PartitionId
    replicas: list[tuple[StoredDirectory, ReplicaCheck]]
    findings: list[Finding]
    compared: tuple[int, int] | None
    """Offsets between which at least two replicas were compared."""

    def all_findings(self) -> list[Finding]:
        return [*(finding for _, replica in self.replicas for finding in replica.findings), *self.findings]


def check_partition(
    partition: PartitionId, directories: Sequence[StoredDirectory], on_read: Callable[[int], None]
) -> CheckedPartition:
    """Check what is stored of a partition, and compare it."""
    checked = _look(partition, directories, on_read)
    if all(finding.is_clean for finding in checked.all_findings()) or not any(one.is_live for one in directories):
        return checked
    for directory in directories:
        if directory.is_live:
            directory.look()
    again = _look(partition, directories, on_read)
    seen = {_key(finding) for finding in checked.all_findings()}
    for _, replica in again.replicas:
        replica.findings[:] = [finding for finding in replica.findings if _key(finding) in seen]
    return again._replace(findings=[finding for finding in again.findings if _key(finding) in seen])


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.level, finding.path, finding.position, finding.from_offset


def _look(
    partition: PartitionId, directories: Sequence[StoredDirectory], on_read: Callable[[int], None]
) -> CheckedPartition:
    replicas = []
    for directory in directories:
        replica = directory.check(partition, on_read)
        if replica is not None:
            replicas.append((directory, replica))
    checks = [replica for _, replica in replicas]
    found = compare(checks, [directory.name for directory, _ in replicas])
    is_compared = sum(replica.is_judged for replica in checks) > 1
    return CheckedPartition(
        partition, replicas, found.findings, (found.begin.offset, found.end.offset) if is_compared else None
    )


# -- decisions ---------------------------------------------------------------------------------------------------------


def read_decisions(log: PartitionLog) -> ClusterState:
    """What a copy of `__cluster` says, as far as it can be read."""
    state = ClusterState()
    offset = log.base.offset
    while offset < log.end.offset:
        try:
            batches = log.read_records(offset, log.end.offset, _READ_BYTES)
        except DamagedLog:
            break
        for batch in batches:
            try:
                records = record_batch.decode(batch)
            except LograftError:
                state.bad_record_count += 1
                continue
            for record in records:
                state.apply_record(record.key, record.value)
        if not batches:
            break
        offset = record_batch.read_header(batches[-1]).next_offset
    return state


class Names:
    """What topics are called, as the decisions in these directories say."""

    def __init__(self) -> None:
        self._names = {CLUSTER_TOPIC_ID: "__cluster", OFFSETS_TOPIC_ID: OFFSETS_TOPIC}

    def learn(self, state: ClusterState) -> None:
        for name, topic in state.topics.items():
            self._names.setdefault(topic.topic_id, name)

    def topic(self, partition: PartitionId) -> str:
        return self._names.get(partition.topic_id, partition.topic_id)

    def of(self, partition: PartitionId) -> str:
        return f"{self.topic(partition)}-{partition.number}"


def _look_at_decisions(checked: CheckedPartition, names: Names) -> None:
    for directory, replica in checked.replicas:
        if replica.log is None:
            continue
        state = read_decisions(replica.log)
        names.learn(state)
        if state.bad_record_count:
            unreadable = ", ".join(sorted(state.unreadable)[:3])
            directory.findings.append(
                Finding(
                    Level.NOTE,
                    replica.directory,
                    f"{state.bad_record_count} decisions say nothing to this lograft{unreadable and f': {unreadable}'}",
                    "a later version made them; go back to it if they matter",
                )
            )


# -- all of it ---------------------------------------------------------------------------------------------------------


class Report:
    """What was found, told as text while it is found, or as one JSON document in the end."""

    def __init__(self, directories: Sequence[StoredDirectory], *, as_json: bool, verbose: bool) -> None:
        self._directories = directories
        self._as_json = as_json
        self._verbose = verbose
        self._partitions: list[dict[str, Any]] = []
        self._levels: Counter[Level] = Counter()
        self._replica_count = self._partition_count = self._compared_count = 0
        self._record_count = 0
        self.exit_code = CLEAN

    def take_directory(self, directory: StoredDirectory) -> None:
        self._take(directory.findings, directory.name)

    def take(self, checked: CheckedPartition, names: Names) -> None:
        self._partition_count += 1
        self._replica_count += len(checked.replicas)
        self._compared_count += checked.compared is not None
        self._record_count += sum(replica.record_count for _, replica in checked.replicas)
        name = names.of(checked.partition)
        for directory, replica in checked.replicas:
            self._take(replica.findings, f"{name} on {directory.name}")
        self._take(checked.findings, name)
        if self._as_json:
            self._partitions.append(_partition_json(checked, names))
        elif self._verbose:
            for directory, replica in checked.replicas:
                print(
                    f"{name} on {directory.name}: offsets {replica.start_offset} to {replica.end.offset}, "
                    f"mark {replica.mark}, {_size(replica.size_bytes)}, {replica.item_count} items, "
                    f"{'whole' if replica.is_clean else 'not whole'}"
                )

    def finish(self, progress: _Progress) -> None:
        if self._as_json:
            document = {
                "verdict": "clean" if self.exit_code == CLEAN else "not clean",
                "directories": [_directory_json(directory) for directory in self._directories],
                "partitions": self._partitions,
                "bytes": progress.bytes,
                "seconds": round(progress.seconds, 3),
            }
            print(json.dumps(document, indent=2, ensure_ascii=False))
            return
        rate = progress.bytes / progress.seconds
        print(
            f"{_count(len(self._directories), 'directory')}, {_count(self._partition_count, 'partition')}, "
            f"{_count(self._replica_count, 'replica')}, {_count(self._record_count, 'record')}, "
            f"{_size(progress.bytes)} in {progress.seconds:.1f} s ({_size(rate)}/s)"
        )
        told = ", ".join(f"{self._levels[level]} {level}" for level in Level if self._levels[level]) or "no finding"
        compared = f"the replicas of {_count(self._compared_count, 'partition')} were compared"
        live = " as far as it can be told while brokers run" if any(one.is_live for one in self._directories) else ""
        print(f"{'clean' if self.exit_code == CLEAN else 'NOT clean'}{live}: {told}; {compared}")

    def _take(self, findings: Iterable[Finding], where: str) -> None:
        for finding in findings:
            self._levels[finding.level] += 1
            if not finding.is_clean:
                self.exit_code = FOUND
            if not self._as_json:
                print(_told(finding, where), flush=True)


def run(paths: Sequence[Path], *, allow_live: bool, as_json: bool, verbose: bool) -> int:
    """Returns the exit code."""
    directories: list[StoredDirectory] = []
    try:
        directories.extend(StoredDirectory(path, allow_live=allow_live) for path in paths)
        return _run(directories, as_json=as_json, verbose=verbose)
    except NoDataDirectory as error:
        print(f"lograft: {error}", file=sys.stderr)
        return COULD_NOT
    except InvalidConfig as error:
        print(
            f"lograft: {error}; stop that broker first (`lograft down`, if `lograft up` started it), or say --live to "
            "check only what stands before its marks",
            file=sys.stderr,
        )
        return COULD_NOT
    finally:
        for directory in directories:
            directory.close()


def _run(directories: Sequence[StoredDirectory], *, as_json: bool, verbose: bool) -> int:
    progress = _Progress(sum(one.log_bytes() for one in directories), is_shown=sys.stderr.isatty())
    report = Report(directories, as_json=as_json, verbose=verbose)
    names = Names()
    live = [one.name for one in directories if one.is_live]
    if live:
        print(
            f"lograft: {', '.join(live)} running: only what stands before the marks is checked, and what is found "
            "counts if a second look finds it too",
            file=sys.stderr,
        )
    _look_for_copies(directories)
    partitions = {partition for one in directories for partition in one.listed()}
    for partition in sorted(partitions, key=lambda partition: (partition != CLUSTER_PARTITION, partition)):
        groups: dict[str | None, list[StoredDirectory]] = {}
        for one in directories:
            # The internal topics of two clusters have the same ids, and nothing to do with each other.
            groups.setdefault(one.cluster_id, []).append(one)
        for group in groups.values():
            checked = check_partition(partition, group, progress.note)
            if not checked.replicas:
                continue
            if partition == CLUSTER_PARTITION:
                _look_at_decisions(checked, names)
            progress.clear()
            report.take(checked, names)
            for _, replica in checked.replicas:
                if replica.log is not None:
                    replica.log.close()
    progress.clear()
    for one in directories:
        report.take_directory(one)
    report.finish(progress)
    return report.exit_code


def _look_for_copies(directories: Sequence[StoredDirectory]) -> None:
    seen: dict[str, StoredDirectory] = {}
    for one in directories:
        if not one.directory_id:
            continue
        first = seen.setdefault(one.directory_id, one)
        if first is not one:
            one.findings.append(
                Finding(
                    Level.DIFFERENCE,
                    str(one.path),
                    f"it has the directory id of {first.path}: one of them is a copy of the other",
                    "never let brokers run on both; go on with the newest, and move the other one away",
                )
            )


# -- telling -----------------------------------------------------------------------------------------------------------


def _told(finding: Finding, where: str) -> str:
    at = f" at {finding.position}" if finding.position is not None else ""
    offsets = ""
    if finding.from_offset is not None:
        last = ""
        if finding.to_offset is not None and finding.to_offset > finding.from_offset:
            last = f" to {finding.to_offset - 1}"
        offsets = f" (offsets from {finding.from_offset}{last})"
    lines = f"{finding.level}: {where}: {finding.path}{at}: {finding.what}{offsets}"
    return f"{lines}\n  {finding.remedy}" if finding.remedy else lines


def _directory_json(directory: StoredDirectory) -> dict[str, Any]:
    return {
        "path": str(directory.path),
        "broker_id": directory.broker_id,
        "directory_id": directory.directory_id or None,
        "cluster_id": directory.cluster_id,
        "running": directory.is_live,
        "findings": [_finding_json(finding) for finding in directory.findings],
    }


def _partition_json(checked: CheckedPartition, names: Names) -> dict[str, Any]:
    return {
        "topic": names.topic(checked.partition),
        "topic_id": checked.partition.topic_id,
        "partition": checked.partition.number,
        "compared_offsets": list(checked.compared) if checked.compared is not None else None,
        "replicas": [
            {
                "directory": str(directory.path),
                "broker_id": directory.broker_id,
                "replica_number": replica.promises.replica_number if replica.promises is not None else None,
                "clean": replica.is_clean,
                "judged": replica.is_judged,
                "start_offset": replica.start_offset,
                "end": list(replica.end),
                "mark": list(replica.mark),
                "voters": [voter.broker_id for voter in replica.voters],
                "bytes": replica.size_bytes,
                "items": replica.item_count,
                "records": replica.record_count,
                "findings": [_finding_json(finding) for finding in replica.findings],
            }
            for directory, replica in checked.replicas
        ],
        "findings": [_finding_json(finding) for finding in checked.findings],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return finding._asdict()


def _size(bytes_count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if bytes_count < 1024 or unit == "GiB":
            break
        bytes_count /= 1024
    return f"{bytes_count:.0f} {unit}" if unit == "B" else f"{bytes_count:.1f} {unit}"


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="lograft check log", description="Check data directories.")
    parser.add_argument("directories", nargs="+", metavar="DIR")
    parser.add_argument("--live", action="store_true", help="also those of running brokers, as far as that can be done")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell of every replica")
    given = parser.parse_args(arguments)
    paths = list(dict.fromkeys(Path(path).absolute() for path in given.directories))
    try:
        return run(paths, allow_live=given.live, as_json=given.output == "json", verbose=given.verbose)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        print(f"lograft: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return COULD_NOT


if __name__ == "__main__":
    sys.exit(main())
