"""Have a browser here for the tests of the console: `python -m tests.integration.console.install`.

Chromium comes from the system's packages (installed where we are root), axe-core by npm into the user's cache. What
cannot be had is told, and the tests that need it are skipped; so this never fails.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

AXE = ("axe-core", "4.14.1")
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
"""Of axe.min.js in it."""
NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str | None:
    """Path of the browser; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def axe() -> Path | None:
    """axe.min.js in the cache; None if it is not there, or not what it should be."""
    path = _cache() / f"{AXE[0]}-{AXE[1]}.min.js"
    is_whole = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == AXE_SHA256
    return path if is_whole else None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lograft" / "console"


def _install_browser() -> str:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "not root, or no apt-get: install chromium"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    packages = ["chromium", "fonts-dejavu-core"]
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *words], capture_output=True, text=True, env=environment)
        if done.returncode:
            return f"apt-get {' '.join(words)} failed: {done.stderr.strip()[-200:]}"
    return ""


def _install_axe() -> str:
    if shutil.which("npm") is None:
        return "no npm: axe-core is not here"
    with tempfile.TemporaryDirectory() as directory:
        words = ["npm", "pack", "@".join(AXE), "--pack-destination", directory, "--silent"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=directory)
        if done.returncode:
            return f"npm pack failed: {done.stderr.strip()[-200:]}"
        with tarfile.open(next(Path(directory).glob("*.tgz"))) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            script = member.read()
    if hashlib.sha256(script).hexdigest() != AXE_SHA256:
        return "axe-core is not what it was when it was pinned"
    _cache().mkdir(parents=True, exist_ok=True)
    (_cache() / f"{AXE[0]}-{AXE[1]}.min.js").write_bytes(script)
    return ""


def main() -> None:
    for there, install in ((browser, _install_browser), (axe, _install_axe)):
        if there() is None and (trouble := install()):
            print(f"console: {trouble}; the tests that need it are skipped")


if __name__ == "__main__":
    main()
