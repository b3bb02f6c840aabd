"""What this machine lets us do to a broker: a tool that is missing leaves its faults out, by name."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from functools import cache

from .install import PACKAGES

NOTHING_SHOWN = 3
"""The exit code of what could not be tried here: neither well (0), nor a finding (1), nor a mistake in asking (2)."""

FOLDERS = ("/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib/x86_64-linux-gnu")


@cache
def missing(tool: str) -> str | None:
    """Why `tool` cannot be used here, or None."""
    if tool == "strace":
        return _missing_strace()
    if tool == "mount":
        return _missing_mount()
    assert tool == "fuse", tool
    return _missing_fuse()


def _library(name: str) -> str | None:
    return next((path for folder in FOLDERS if os.path.exists(path := f"{folder}/{name}")), None)


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _not_installed(tool: str) -> str:
    return f"{tool} is not installed (apt-get install {PACKAGES[tool]})"


def _missing_strace() -> str | None:
    if shutil.which("strace") is None:
        return _not_installed("strace")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()[:100]}"


def _missing_mount() -> str | None:
    if os.geteuid() != 0:
        return "mounting takes root"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True
    )
    return None if tried.returncode == 0 else f"mounting is refused: {tried.stderr.strip()[:100]}"


def _missing_fuse() -> str | None:
    if (why := missing("mount")) is not None:
        return why
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not there"
    if shutil.which("fusermount") is None and shutil.which("fusermount3") is None:
        return _not_installed("fuse")
    return None if _library("libfuse.so.2") else _not_installed("fuse")
