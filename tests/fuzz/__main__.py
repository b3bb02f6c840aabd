"""Fuzz every reader for a while, led by coverage: python -m tests.fuzz --minutes 10 [--only "frame RAFT"].

Each target gets its share of the time, in a process of its own: whatever that dies of is then known. An input that
crashed its reader is kept in `tests/fuzz/crashes`, where the quick suite reads it again; the ending is then 1.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from random import Random

from tests.fuzz.corpus import CORPUS, CRASHES, directory_of, save

BYTES_MAX = 64 << 10
SECONDS_MIN = 2
"""Of a target: in less the fuzzer has hardly read what it starts from."""
START_S = 2
"""Until a process has instrumented what it fuzzes; on a busy machine more, which is then beyond the time given."""


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    asked.add_argument("--only", action="append", help="name of a target; may be given again")
    asked.add_argument("--list", action="store_true", help="name the targets")
    asked.add_argument("--run", help=argparse.SUPPRESS)
    asked.add_argument("--seconds", type=int, default=60, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.run is not None:
        return fuzz(given.run, given.seconds)
    from tests.fuzz.targets import TARGETS

    if given.list:
        print("\n".join(TARGETS))
        return 0
    names = given.only or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        asked.error(f"there is no target {unknown[0]!r}; --list names them")
    seconds = int(given.minutes * 60 / len(names)) - START_S
    if seconds < SECONDS_MIN:
        least = minutes_min(len(names))
        asked.error(
            f"--minutes {given.minutes:g} is too short for {len(names)} targets, each with {SECONDS_MIN} s or more and "
            f"{START_S} s to start: give {least} minutes, or name fewer with --only"
        )
    print(f"{len(names)} targets, {seconds} s each, in {given.minutes:g} minutes", flush=True)
    failed = []
    for number, name in enumerate(names, start=1):
        began = time.monotonic()
        print(f"[{number}/{len(names)}] {name}: {seconds} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--run", name, "--seconds", str(seconds)]
        ended = subprocess.run(command, capture_output=True, text=True)
        told = [line for line in ended.stderr.splitlines() if line.startswith(("#", "Done", "stat::"))]
        print(f"    {told[-1] if told else ''} ({time.monotonic() - began:.0f} s)", flush=True)
        if ended.returncode:
            failed.append(name)
            print((ended.stdout + ended.stderr)[-4000:], flush=True)
    print(f"{len(names) - len(failed)} of {len(names)} targets without a finding" + (f"; not: {failed}" * bool(failed)))
    return 1 if failed else 0


def minutes_min(targets: int) -> int:
    return math.ceil(targets * (SECONDS_MIN + START_S) / 60)


def fuzz(name: str, seconds: int) -> int:
    """One target, in this process, until its time is over or its reader crashes."""
    import atheris

    with atheris.instrument_imports(include=["lograft"]):
        from tests.fuzz.mutations import mutated
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    corpus = directory_of(target, CORPUS)
    for seed in target.seeds:
        save(target, seed, CORPUS)

    def attempt(data: bytes) -> None:
        target.attempt(data)
        sealed = target.seal(data)
        if sealed == data:
            return
        try:
            target.attempt(sealed)
        except BaseException:
            save(target, sealed, CRASHES)
            raise

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        # Half by the library's own means, which know what was compared with what; half by ours, which know formats.
        chance = Random(seed)
        if chance.random() < 0.5:
            return atheris.Mutate(data, max_size)
        return mutated(data, target.seeds, chance)[:max_size]

    crashes = directory_of(target, CRASHES)
    crashes.mkdir(parents=True, exist_ok=True)
    arguments = [
        "fuzz",
        f"-max_total_time={seconds}",
        f"-max_len={BYTES_MAX}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={crashes}/",
        str(corpus),
    ]
    atheris.Setup(arguments, attempt, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
