"""One line in the log for each call that changes something, with an id to follow it by from broker to broker.

Calls that come by the thousand (records, heartbeats) and those that only ask are counted, not logged.

Invariants
    an id comes from the client's `x-request-id`, if that is short and plain, else it is drawn here; it is in each line
        that is logged for the call, here and on the broker that it was forwarded to, and in the facts of its error
    what a client sent is shown cut, and without control characters
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import structlog
from google.protobuf.message import Message

from ..groups.rules import for_people

REQUEST_ID_HEADER = "x-request-id"
CHANGING = frozenset(
    (
        "AlterTopic",
        "ChangeClusterSetting",
        "CreateTopic",
        "DeleteGroup",
        "DeleteTopic",
        "GrowTopic",
        "MovePartition",
        "RecoverPartition",
        "RemoveBroker",
        "SeekGroup",
        "SetBrokerDraining",
        "TransferLeadership",
        "TrimTopic",
    )
)
_SHOWN_FIELDS = ("name", "topic", "group", "partition", "broker_id", "value", "validate_only")
_PLAIN = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_TAG = b"\x82\xf9+"
"""Of field 90,000, bytes: no message has it, so that whoever does not know of ids passes over it."""

log = structlog.get_logger("rpc")


class RequestIds:
    """Draws ids. `prefix` tells this process from all others; it is set when that is known."""

    def __init__(self) -> None:
        self.prefix = "0"
        self._count = 0

    def given_or_drawn(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
        given = given_id(metadata)
        if given:
            return given
        self._count += 1
        return f"{self.prefix}-{self._count:x}"


def given_id(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """What the client calls its request; empty if it says nothing, or something odd."""
    for name, value in metadata or ():
        if name == REQUEST_ID_HEADER and isinstance(value, str) and _PLAIN.fullmatch(value):
            return value
    return ""


def what_is_asked(request: Any) -> dict[str, object]:
    """What of a request is worth a place in the line."""
    if not isinstance(request, Message):
        return {}
    shown: dict[str, object] = {}
    for name in _SHOWN_FIELDS:
        field = request.DESCRIPTOR.fields_by_name.get(name)
        if field is None or field.message_type is not None:
            continue
        value = getattr(request, name)
        if isinstance(value, str) and value:
            shown[name] = for_people(value)
        elif isinstance(value, bool | int) and (value or name in ("partition", "broker_id")):
            shown[name] = value
    return shown


def log_call(api: str, request: Any, code: str, reason: str, peer: str, seconds: float) -> None:
    """A call that changes something has ended. `reason` is empty if it went well."""
    facts: dict[str, object] = {"api": api, "code": code, "peer": peer, "seconds": round(seconds, 3)}
    if reason:
        facts["reason"] = reason
    log.info("call", **facts, **what_is_asked(request))


def with_id(body: bytes) -> bytes:
    """A message to be forwarded, with the id of the call that is being carried out, if it has one."""
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    told = str(request_id).encode()
    return body + _TAG + bytes((len(told),)) + told if 0 < len(told) < 128 else body


def id_in(body: bytes) -> str:
    """Of a message that was forwarded; empty if it brings none."""
    at = body.rfind(_TAG)
    if at < 0 or at + len(_TAG) >= len(body):
        return ""
    told = body[at + len(_TAG) + 1 :]
    text = told.decode("ascii", "replace")
    return text if len(told) == body[at + len(_TAG)] and _PLAIN.fullmatch(text) else ""
