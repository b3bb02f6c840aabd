"""`check log`: finds the data directories that are meant, and has them checked by what can read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .endings import Ended, Refused
from .local_commands import OutputOption
from .tables import OutputFormat


def check_log(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR",
            help="Data directories of brokers, or a local cluster's for all of its brokers (the default).",
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Also where brokers run: what stands before their marks, looked at twice.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Tell of every replica, not of findings alone.")
    ] = False,
    output: OutputOption = OutputFormat.text,
) -> None:
    """Check what stopped brokers have stored, and compare the copies. Nothing is ever changed.

    Every item of every log is read: CRCs, points, heads, indexes, promises and marks. What the broker will do about a
    flaw when it starts is told with it, and what is left for you to do. Of directories of one cluster given together,
    the replicas of each partition are compared, and it is told where fewer than a majority hold what a majority
    acknowledged.

    A torn end that a crash left, a missing index and leftovers are notes; the broker deals with them.
    Exit codes: 0 clean (notes at most), 1 damage or a difference, 2 nothing could be checked.

    \b
      lograft down && lograft check log                 the local cluster, all brokers
      lograft check log /var/lib/lograft                one broker's data directory
      lograft check log copy-of-0 copy-of-1 copy-of-2   and the replicas compared
      lograft check log -o json DIR | jq .verdict
    """
    import subprocess

    from . import processes

    found = _data_directories(directories)
    options = ["-o", output.value, *(["--live"] if live else []), *(["-v"] if verbose else [])]
    command = [*processes.module_command("lograft.node.check_log"), *options, "--", *map(str, found)]
    with subprocess.Popen(command) as checking:
        while True:
            try:
                code = checking.wait()
                break
            except KeyboardInterrupt:
                continue  # Ctrl-C reached it as well, and it ends
    if code:
        raise Ended(code if code > 0 else 128 - code)


def _data_directories(named: list[Path] | None) -> list[Path]:
    """Those of brokers; of a local cluster, of all its brokers."""
    from .local_cluster import find

    if not named:
        try:
            return _of_cluster(find(None).directory)
        except Refused as error:
            from .endings import WRONG_USAGE, say

            say(f"lograft: {error}, or name data directories")
            raise Ended(WRONG_USAGE) from None
    return [one for directory in named for one in (_of_cluster(directory) or [directory])]


def _of_cluster(directory: Path) -> list[Path]:
    """Data directories of the brokers of a local cluster, or of one of them; empty if it is nothing of the kind."""
    if (directory / "format").exists() or (directory / "promises.log").exists():
        return []
    if (directory / "data").is_dir():
        return [directory / "data"]
    brokers = [path for path in directory.glob("broker-*/data") if path.parent.name.removeprefix("broker-").isdigit()]
    return sorted(brokers, key=lambda path: int(path.parent.name.removeprefix("broker-")))
