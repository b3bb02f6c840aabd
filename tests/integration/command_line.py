"""`lograft` as users type it, in a directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LOGRAFT = [sys.executable, "-P", "-m", "lograft.client.cli.main"]


class CommandLine:
    """Runs `lograft` in a directory where nothing but its own cluster is found."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith("LOGRAFT_")}
        self.environment["XDG_STATE_HOME"] = str(directory / "state")
        self.environment["XDG_CONFIG_HOME"] = str(directory / "config")

    def run(self, *arguments: str, given: str = "", exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [*LOGRAFT, *arguments],
            cwd=self.directory,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == exit_code, ended
        assert "Traceback" not in ended.stderr, ended
        return ended

    def broker_pids(self) -> list[int | None]:
        described = json.loads((self.directory / "lograft-data" / "cluster.json").read_text())
        return [broker["pid"] for broker in described["brokers"]]
