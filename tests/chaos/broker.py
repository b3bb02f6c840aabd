"""`python -m tests.chaos.broker -c FILE`: a broker as it is, on a machine whose boots can be told apart by the tests.

CHAOS_BOOT_ID  a file that stands for /proc/sys/kernel/random/boot_id: a power failure of one broker changes it
CHAOS_BUG      the name of a bug in `bugs.py`, planted before the broker starts; empty: none
"""

from __future__ import annotations

import os
import sys

from lograft.node.__main__ import main
from lograft.partitions import real_environment

from . import bugs
from .tools import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    if path := os.environ.get("CHAOS_BOOT_ID"):
        real_environment._BOOT_ID_PATH = path
    if bug := os.environ.get("CHAOS_BUG"):
        bugs.BUGS[bug]()
    sys.exit(main())
