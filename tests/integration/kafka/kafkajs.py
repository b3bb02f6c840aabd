"""Have kafkajs here for its test: `python -m tests.integration.kafka.kafkajs`.

It comes by npm into the user's cache, and has no dependencies. If it cannot be had that is told, and the test is
skipped; so this never fails.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "2.2.4"
SHA256 = "c814f61afbb2b42e314a5e17780475e6a15aa47bbd33b126b81123e69b02a6f6"
"""Of the archive that npm gives."""
SECONDS_MAX = 120


def directory() -> Path:
    """Where it is, once it is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lograft" / f"kafkajs-{VERSION}"


def what_is_missing() -> str:
    """Why it cannot be run; empty if it can."""
    if shutil.which("node") is None:
        return "node is not installed: apt-get install nodejs"
    if not (directory() / "index.js").is_file():
        return "kafkajs is not here: python -m tests.integration.kafka.kafkajs brings it"
    return ""


def install() -> str:
    """Why that failed; empty if it did not."""
    if shutil.which("npm") is None:
        return "no npm: kafkajs is not here"
    target = directory()
    with tempfile.TemporaryDirectory() as scratch:
        words = ["npm", "pack", f"kafkajs@{VERSION}", "--pack-destination", scratch, "--silent"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, cwd=scratch, timeout=SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired:
            return f"npm pack was not done within {SECONDS_MAX} s"
        if done.returncode:
            return f"npm pack failed: {done.stderr.strip()[-200:]}"
        packed = next(Path(scratch).glob("*.tgz"))
        if hashlib.sha256(packed.read_bytes()).hexdigest() != SHA256:
            return "kafkajs is not what it was when it was pinned"
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="kafkajs-", dir=target.parent))
        with tarfile.open(packed) as archive:
            archive.extractall(fresh, filter="data")
        shutil.rmtree(target, ignore_errors=True)
        (fresh / "package").rename(target)
        shutil.rmtree(fresh)
    return ""


def main() -> None:
    if not (directory() / "index.js").is_file() and (trouble := install()):
        print(f"kafka: {trouble}; its test is skipped")


if __name__ == "__main__":
    main()
