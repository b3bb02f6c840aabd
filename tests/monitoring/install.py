"""Prometheus and promtool for tests: `python -m tests.monitoring.install` puts them there, if they are not installed.

Debian's package, unpacked into the user's cache: no root, no service that listens on port 9090, nothing of the system
changed. It lies there as `lograft up --monitoring` looks for it.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from lograft.client.cli.local_monitoring import cache_directory


class CannotBeHad(Exception):
    """There is no Prometheus here, and why none can be brought."""


class Installed(NamedTuple):
    prometheus: Path
    promtool: Path


def installed() -> Installed | None:
    """What is there, on PATH or in the cache."""
    for path in (None, str(cache_directory() / "usr" / "bin")):
        prometheus, promtool = shutil.which("prometheus", path=path), shutil.which("promtool", path=path)
        if prometheus and promtool:
            return Installed(Path(prometheus), Path(promtool))
    return None


def install() -> Installed:
    """Both, brought if need be. Raises CannotBeHad."""
    cache = cache_directory()
    cache.parent.mkdir(parents=True, exist_ok=True)
    with (cache.parent / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers of one test run may want it at once
        found = installed()
        if found is not None:
            return found
        if not all(map(shutil.which, ("apt-get", "dpkg"))):
            raise CannotBeHad("prometheus and promtool are not installed, and there is no apt-get to bring them")
        _unpack(cache)
        found = installed()
        if found is None:
            raise CannotBeHad(f"the package prometheus was unpacked into {cache}, and holds no prometheus and promtool")
        return found


def _unpack(cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix="prometheus-") as directory:
        # Lists of its own: the system's may be missing or stale, and only root may renew those.
        lists, archives = Path(directory) / "lists", Path(directory) / "archives"
        for made in (lists, archives):
            (made / "partial").mkdir(parents=True)
        ours = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={archives}", "-o", "APT::Sandbox::User="]
        _run(["apt-get", "-qq", *ours, "update"], directory)
        _run(["apt-get", "-qq", *ours, "download", "prometheus"], directory)
        packages = list(Path(directory).glob("prometheus_*.deb"))
        if len(packages) != 1:
            raise CannotBeHad("apt-get brought no package prometheus")
        unpacked = Path(directory) / "unpacked"
        _run(["dpkg", "-x", str(packages[0]), str(unpacked)], directory)
        shutil.rmtree(cache, ignore_errors=True)
        unpacked.rename(cache)


def _run(command: list[str], directory: str) -> None:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBeHad(f"{command[0]}: {error}") from None
    if done.returncode:
        raise CannotBeHad(f"{' '.join(command[:1] + command[-2:])} failed: {done.stderr.strip()[-200:]}")


def main() -> int:
    try:
        found = install()
    except CannotBeHad as why:
        print(f"monitoring: {why}", file=sys.stderr)
        return 1
    print(f"{found.prometheus}\n{found.promtool}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
