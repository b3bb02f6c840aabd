"""Put the tools there that some faults need: `python -m tests.chaos.install`. Needs root; what cannot be had is told.

A run leaves out the faults whose tools are missing, and says so; so this never fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess

PACKAGES = {"strace": "strace", "fuse": "fuse3 libfuse2"}
ENOUGH = {"strace": ("strace",), "fuse": ("fusermount3",)}


def main() -> None:
    wanted = [tool for tool, programs in ENOUGH.items() if not all(map(shutil.which, programs))]
    if not wanted:
        return
    packages = [package for tool in wanted for package in PACKAGES[tool].split()]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        print(f"chaos: not root, or no apt-get: install {' '.join(packages)} for more kinds of faults")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *words], capture_output=True, text=True, env=environment)
        if done.returncode:
            print(f"chaos: apt-get {' '.join(words)} failed: {done.stderr.strip()[-200:]}")
            return


if __name__ == "__main__":
    main()
