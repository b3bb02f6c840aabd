"""Have programs with Kafka clients for Go here for their tests: `python -m tests.integration.kafka.go_clients`.

Go brings the modules, checks them by go/go.sum, and builds go/ into the user's cache. If that cannot be done it is
told, and the tests are skipped; so this never fails.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).with_name("go")
MODULES = ("go.mod", "go.sum")
"""What pins the clients, for programs of other places too."""
BUILD_SECONDS_MAX = 600
"""With all modules to be brought and compiled, on a small machine that does other things too."""


def go() -> str | None:
    """Path of the tool; where Go's own archive puts it counts too, though few have that in their PATH."""
    return shutil.which("go") or shutil.which("/usr/local/go/bin/go")


def versions() -> dict[str, str]:
    """Of the clients, by module."""
    required = (SOURCES / "go.mod").read_text().partition("require (")[2].partition(")")[0]
    return dict(re.findall(r"^\t(\S+) (v\S+)$", required, re.M))


def session() -> Path:
    """The program, once it is built from what go/ holds now."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return _cache() / f"session-{digest.hexdigest()[:16]}"


def what_is_missing() -> str:
    """Why they cannot be run; empty if they can."""
    if go() is None:
        return "go is not installed: https://go.dev/dl, or apt-get install golang-go"
    if not session().is_file():
        return "the clients for Go are not built: python -m tests.integration.kafka.go_clients does it"
    return ""


def build(directory: Path, into: Path) -> str:
    """Build the program in `directory`. Why that failed; empty if it did not."""
    tool = go()
    if tool is None:
        return "no go: its clients are not here"
    command = [tool, "build", "-mod=readonly", "-o", str(into), "."]
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return f"go build was not done within {BUILD_SECONDS_MAX} s"
    return f"go build failed: {done.stderr.strip()[-300:]}" if done.returncode else ""


def install() -> str:
    """Why that failed; empty if it did not."""
    target = session()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    if trouble := build(SOURCES, fresh):
        return trouble
    fresh.rename(target)
    return ""


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lograft" / "go-clients"


def main() -> None:
    if not session().is_file() and (trouble := install()):
        print(f"kafka: {trouble}; the tests of Go's clients are skipped")


if __name__ == "__main__":
    main()
