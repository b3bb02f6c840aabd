"""Where the broker's log goes, and in which form: for people on a terminal, one JSON object a line elsewhere.

Invariants
    everything goes to standard error, in the order it happened, each line by one write
    what a client or peer sent appears as a quoted value, never raw: no line of theirs can look like one of ours
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog

MESSAGE_MAX = 2000
_CLIENTS_FAULT = ("Invalid encoding on", "ExecuteBatchError raised in core by servicer method")
"""What gRPC logs, whole and with a traceback, of metadata that are no text, and of a client that went away in the midst
of an answer: anybody could fill a disk so."""
WARNINGS = frozenset(
    (
        "a log is unreadable",
        "committed_in_memory_and_lost",
        "compaction_given_up",
        "loop_slept",
        "memory_lost",
        "partition_recovered",
        "peer.call_failed",
        "promises_decayed",
        "recovery_not_carried_out",
        "replica_damaged",
        "replica_doubtful",
        "replica_refused",
        "replica_unopened",
        "replica_unreadable",
        "segment_not_rolled",
        "the broker's word is lost: it starts like a wiped one",
    )
)
"""What somebody should look at, of the events that replicas, links and coordinators tell of. The rest is the ordinary
course of things."""
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up_logging(level: str = "info", form: str = "auto", stream: TextIO | None = None, **always: Any) -> None:
    """Called once a process. `form` is auto, human or json; `always` is bound to each line, such as the broker id."""
    stream = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "human" or (form == "auto" and stream.isatty()):
        rendering: list[Any] = [structlog.dev.ConsoleRenderer()]
    else:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**always)
    # Libraries (grpc, asyncio) log through the standard module; theirs are warnings at least, and rare.
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)


def level_of(event: str, facts: Mapping[str, Any]) -> int:
    is_stop = event == "disk_space" and bool(facts.get("produce_stopped"))
    return logging.WARNING if event in WARNINGS or is_stop else logging.INFO


class _Libraries(logging.Handler):
    """Has what libraries log written as ours is: quoted and cut, as it may hold what a client sent."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(_CLIENTS_FAULT):
            return
        structlog.get_logger(record.name).log(
            record.levelno, "library", library=record.name, message=message[:MESSAGE_MAX], exc_info=record.exc_info
        )
