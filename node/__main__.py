"""`python -m lograft.node -c FILE [--set section.key=value]...`: runs one broker until SIGTERM or SIGINT.

What stands in the way of a start is told in one line on standard error, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence

if "rich" not in sys.modules:  # structlog would import it, for tracebacks in colour: a tenth of what a start imports
    sys.modules["rich"] = None  # type: ignore[assignment]

import structlog

from ..proto.errors import LograftError
from .cluster_recovery import follow_recovered, recover_cluster
from .config import BrokerConfig, load_config
from .logs import set_up_logging
from .node import Node
from .service_manager import tell
from .stacks import answer_signal

SWITCH_INTERVAL_S = 0.0005


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after a clean stop, 1 if the broker could not start."""
    parser = argparse.ArgumentParser(prog="lograft broker", description="Run one broker.")
    parser.add_argument("-c", "--config", metavar="FILE", help="TOML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="overrides the file; may be repeated"
    )
    parser.add_argument("--recover-cluster", action="store_true", help="explain; see docs/operating.md")
    parser.add_argument("--accept-loss", action="store_true", help="with --recover-cluster: do it")
    parser.add_argument("--yes", action="store_true", help="with --accept-loss: do not ask")
    parser.add_argument(
        "--follow-recovered", metavar="TOKEN", help="belong to the cluster that was recovered elsewhere"
    )
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.config, os.environ, given.set)
        set_up_logging(config.log.level, config.log.format, broker_id=config.broker.id)
        if given.recover_cluster:
            return asyncio.run(recover_cluster(config, accept_loss=given.accept_loss, is_sure=given.yes))
        if given.follow_recovered is not None:
            return asyncio.run(follow_recovered(config, given.follow_recovered))
        return _run(config)
    except (LograftError, OSError) as error:
        print(f"lograft: {error}", file=sys.stderr)
        return 1


def _run(config: BrokerConfig) -> int:
    # glibc gives a freed block of this size back to the system at once, and from then on keeps those up to its size
    # for the next one. Else each message would be written into pages that the system has to make and clear first.
    bytearray(config.limits.message_bytes_max)
    # A thread that has synced a file tells the loop so, and should not wait 5 ms for that, as is the default.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # kio would import it with Kafka's schemas, for tests, wherever it is installed: 0.4 s of a start.
    sys.modules.setdefault("hypothesis", None)  # type: ignore[arg-type]
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_serve(config, "asyncio"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, "uvloop"))


async def _serve(config: BrokerConfig, loop_kind: str) -> int:
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    answer_signal(structlog.get_logger().warning)
    node = Node(config, loop_kind=loop_kind)
    await node.start()
    tell("READY=1", os.environ)  # it listens; that it has found the others is another matter, asked by /readyz
    await asked_to_stop.wait()
    tell("STOPPING=1", os.environ)
    await node.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
