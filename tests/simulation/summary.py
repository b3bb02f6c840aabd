"""What many seeds saw together, told to people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.simulation.reach import Function, Lines, functions_in, merge
from tests.simulation.simulation import Report

FOLDERS = ("partitions",)
"""Whose code is followed."""
NOT_SIMULATED = ("partitions/storage/checks/", "partitions/real_environment.py")
"""Below those folders, and meant for real disks and for stopped brokers."""


@dataclass(slots=True)
class Outcome:
    """What became of one seed, in a form that passes between processes."""

    report: Report
    why: str = ""
    """Why it failed, with the last of its trace; empty if it did not."""
    cpu_s: float = 0.0
    ran_twice: bool = False
    followed: bool = False
    reached: Lines = field(default_factory=dict)


@dataclass(slots=True)
class Summary:
    """Sums over outcomes. Seeds that are not worth it are counted apart, and add to nothing else."""

    seeds: int = 0
    worthless: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    twice: int = 0
    followed: int = 0
    cpu_s: float = 0.0
    simulated_ms: float = 0.0
    sums: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seeds_with_fault: Counter[str] = field(default_factory=Counter)
    idle_faults: Counter[str] = field(default_factory=Counter)
    log_notes: Counter[str] = field(default_factory=Counter)
    seeds_with_note: Counter[str] = field(default_factory=Counter)
    acknowledged: list[int] = field(default_factory=list)
    fault_counts: list[int] = field(default_factory=list)
    reached: Lines = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        report = outcome.report
        self.cpu_s += outcome.cpu_s
        self.twice += outcome.ran_twice
        self.followed += outcome.followed
        merge(self.reached, outcome.reached)
        if outcome.why:
            self.failed[report.seed] = outcome.why
        elif report.why_worthless:
            self.worthless[report.seed] = report.why_worthless
            return
        self.seeds += 1
        self.simulated_ms += report.simulated_ms
        for name in SUMMED:
            self.sums[name] += getattr(report, name)
        self.faults.update(report.faults)
        self.seeds_with_fault.update({*report.faults})
        self.idle_faults.update(report.idle_faults)
        self.log_notes.update(report.log_notes)
        self.seeds_with_note.update({*report.log_notes})
        self.acknowledged.append(report.records_acknowledged)
        self.fault_counts.append(report.fault_count)

    def told(self, *, never_reached: bool = False) -> str:
        return "\n".join(self._lines(never_reached))

    def _lines(self, never_reached: bool) -> Iterator[str]:
        hours = self.simulated_ms / 3_600_000
        cpu_hours = self.cpu_s / 3600
        yield f"{self.seeds:,} seeds, {hours:,.2f} hours simulated in {cpu_hours:,.2f} hours of processor time"
        if self.seeds:
            pace = self.seeds / max(cpu_hours, 1e-9)
            yield f"  {pace:,.0f} seeds an hour of one core, {self.cpu_s / self.seeds:.2f} s each"
            yield f"  {self.twice:,} ran twice, to the same trace"
            yield f"  simulated seconds a seed            {hours * 3600 / self.seeds:>12,.1f}"
            yield f"  faults a seed: least, median, most  {_spread(self.fault_counts)}"
            yield f"  records acknowledged                {_spread(self.acknowledged)} of {sum(self.acknowledged):,}"
        for name, said in SUMMED.items():
            yield f"  {said:<34}  {self.sums[name]:>12,}"
        if self.faults:
            yield f"faults {'':<29}{'count':>12}{'in seeds':>12}{'in vain':>12}"
        for fault in sorted({*self.faults, *self.idle_faults}, key=lambda name: (-self.faults[name], name)):
            counts = self.faults[fault], self.seeds_with_fault[fault], self.idle_faults[fault]
            yield f"  {fault:<34}{counts[0]:>12,}{counts[1]:>12,}{counts[2] or '':>12}"
        if self.log_notes:
            yield f"what brokers noted {'':<17}{'count':>12}{'in seeds':>12}"
        for note, count in self.log_notes.most_common():
            yield f"  {note:<34}{count:>12,}{self.seeds_with_note[note]:>12,}"
        if self.followed:
            yield from self._told_reach(never_reached)
        for seed, why in list(self.worthless.items())[:20]:
            yield f"seed {seed} does not count: {why}"
        if len(self.worthless) > 20:
            yield f"and {len(self.worthless) - 20} more seeds do not count"

    def _told_reach(self, never_reached: bool) -> Iterator[str]:
        yield f"code reached, in the {self.followed:,} seeds that were followed"
        by_path: dict[str, list[Function]] = defaultdict(list)
        for function in functions_in(FOLDERS):
            if function.path.startswith(NOT_SIMULATED):
                continue
            by_path[function.path].append(function)
        shares = {path: self._share(functions) for path, functions in by_path.items()}
        for path, functions in sorted(by_path.items(), key=lambda item: shares[item[0]]):
            missing = [one for one in functions if not self._reached(one)]
            whole = f"{len(functions) - len(missing)} of {len(functions)} functions"
            yield f"  {path:<44} {shares[path]:>4.0%} of lines, {whole}"
            if never_reached:
                yield from (f"      never: {one.name} (line {one.first_line})" for one in missing)
        everything = [function for functions in by_path.values() for function in functions]
        yield f"  {'all of it':<44} {self._share(everything):>4.0%} of lines"

    def _reached(self, function: Function) -> set[int]:
        return self.reached.get((function.path, function.first_line), set()) & function.lines

    def _share(self, functions: Sequence[Function]) -> float:
        return sum(len(self._reached(one)) for one in functions) / sum(len(one.lines) for one in functions)


SUMMED = {
    "records_read": "records read",
    "leaders_elected": "leaders elected",
    "starts": "process starts",
    "trims": "moves of a log start",
    "resets": "resets of a log",
    "compactions": "compactions",
    "runs": "runs of several batches appended",
    "voter_changes": "voter changes",
    "messages": "messages delivered",
}


def _spread(values: Sequence[int]) -> str:
    return f"{min(values):>12,} {median(values):>9,.0f} {max(values):>9,}"
