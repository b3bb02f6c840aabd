"""What a figure was measured on, and with."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that the clients ran on."""

    cpus: int
    model: str
    system: str
    python: str
    load: float
    """One-minute load average before the run."""
    memory_bytes: int
    lograft: str


def this_machine() -> Machine:
    import psutil

    return Machine(
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        model=_model(),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        load=round(os.getloadavg()[0], 2),
        memory_bytes=psutil.virtual_memory().total,
        lograft=version("lograft"),
    )


def _model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, text = line.partition(":")
                if name.strip() in ("model name", "Model"):
                    return " ".join(text.split())
    except OSError:
        pass
    return platform.processor() or platform.machine()
