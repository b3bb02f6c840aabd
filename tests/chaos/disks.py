"""Where a broker keeps its data: a plain directory, or as root a small file system of its own, or one that can lose
what was not synced.

    plain      a directory
    small      tmpfs of some size, which can be filled up
    volatile   over such a tmpfs, `volatile_disk.py`: a power failure loses what was not synced
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Literal

from . import tools

Kind = Literal["plain", "small", "volatile"]
SMALL_BYTES = 192 << 20
MOUNTED_S_MAX = 10.0


def best_kind() -> Kind:
    if tools.missing("fuse") is None:
        return "volatile"
    return "small" if tools.missing("mount") is None else "plain"


class Disk:
    """One broker's disk, mounted at `path`."""

    def __init__(self, directory: Path, name: str, kind: Kind) -> None:
        self.kind = kind
        self.path = directory / f"{name}.disk"
        self.boot_id_path = directory / f"{name}.boot-id"
        self.slow_path = directory / f"{name}.slow"
        self._below = directory / f"{name}.platter"
        """Of a volatile one: what is on the medium, and in the page cache."""
        self._socket_path = directory / f"{name}.volatile"
        self._log_path = directory / f"{name}.volatile.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self.boot()

    def boot(self) -> None:
        """The machine starts anew."""
        self.boot_id_path.write_text(str(uuid.uuid4()) + "\n")

    def mount(self) -> None:
        self.path.mkdir()
        if self.kind == "plain":
            return
        medium = self.path
        if self.kind == "volatile":
            medium = self._below
            medium.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "chaos", medium], check=True)
        if self.kind == "volatile":
            self._mount_volatile()

    def _mount_volatile(self) -> None:
        from .cluster import ROOT

        with self._log_path.open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.volatile_disk", self._below, self.path, self._socket_path],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
            )
        deadline = time.monotonic() + MOUNTED_S_MAX
        while not (self.path.is_mount() and self._socket_path.exists()):
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the volatile disk did not come up; see {self._log_path}")
            time.sleep(0.02)

    # Trouble -------------------------------------------------------------------------------------------------------

    def ask(self, **question: Any) -> dict[str, Any]:
        """Of a volatile disk's own process."""
        assert self.kind == "volatile"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30.0)
            connection.connect(str(self._socket_path))
            connection.sendall(json.dumps(question).encode() + b"\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise RuntimeError(f"the volatile disk at {self.path}: {found['error']}")
        return found

    def lose_power(self, seed: int) -> dict[str, int]:
        """What was not synced is gone, wholly or page by page, and the machine starts anew. Its broker is dead."""
        lost = self.ask(do="lose", seed=seed)
        self.slow_down(0)
        self.boot()
        return lost

    def slow_down(self, sync_s: float) -> None:
        """Each sync takes so much longer; 0: no longer."""
        if not sync_s:
            self.slow_path.unlink(missing_ok=True)
            return
        fresh = self.slow_path.with_suffix(".new")
        fresh.write_text(str(sync_s))
        fresh.rename(self.slow_path)

    @property
    def medium(self) -> Path:
        return self._below if self.kind == "volatile" else self.path

    @property
    def _ballast(self) -> Path:
        return self.medium / ".ballast"

    def fill(self, leave_bytes: int) -> None:
        """Something else takes the space, but for so much."""
        assert self.kind != "plain"
        free = shutil.disk_usage(self.medium).free
        # Whoever else writes there may leave less than it said; then closing the file fails, too.
        with contextlib.suppress(OSError), self._ballast.open("ab") as ballast:
            chunk = bytes(1 << 20)
            for _ in range(max(free - leave_bytes, 0) >> 20):
                ballast.write(chunk)
            ballast.flush()

    def relieve(self) -> None:
        """Space again, and speed."""
        self.slow_down(0)
        self._ballast.unlink(missing_ok=True)

    def wipe(self) -> None:
        """A new, empty disk in its place. Its broker is dead."""
        shutil.rmtree(self.path / "data", ignore_errors=True)
        if self.kind == "volatile":
            self.ask(do="sync")

    async def unmount(self) -> None:
        if self.kind != "plain" and self.path.exists():
            await asyncio.to_thread(subprocess.run, ["umount", "--lazy", self.path], capture_output=True)
        if self._daemon is not None:
            self._daemon.kill()
            await asyncio.to_thread(self._daemon.wait)
        if self.kind == "volatile" and self._below.exists():
            await asyncio.to_thread(subprocess.run, ["umount", "--lazy", self._below], capture_output=True)
