"""What groups and members may be called, and stored offsets hold. Refusals name the thing, the limit, the remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import re2

from ...proto.errors import InvalidGroup, InvalidRequest, InvalidSession, OffsetMetadataTooLarge
from .calls import Join

NAME_LENGTH_MAX = 249
MEMBER_ID_LENGTH_MAX = 64
TOPICS_MAX = 1_000
"""That one member may name."""
PATTERN_LENGTH_MAX = 1_000
TEXT_LENGTH_MAX = 200
"""Of what is kept for people only."""

_MEMBER_ID = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_PATTERN_OPTIONS = re2.Options()
_PATTERN_OPTIONS.log_errors = False
_PATTERN_OPTIONS.max_mem = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupsLimits:
    """How much may be asked for. The same on every broker."""

    members_max: int = 1_000
    """Of one group."""
    groups_max: int = 10_000
    """In one partition of `__offsets`."""
    session_ms_min: int = 1_000
    session_ms_max: int = 1_800_000
    metadata_bytes_max: int = 4_096
    """Beside one stored offset."""
    offsets_retention_ms: int = 7 * 24 * 3_600_000
    """A group that has had no members, and has stored nothing, for so long is forgotten."""
    settle_ms: int = 50
    """Joins and leaves that come within so long of each other are answered by one new assignment."""
    rebalance_delay_ms: int = 1_000
    """The first members of a group of Kafka clients wait so long for others."""
    consumer_session_ms: int = 45_000
    """How long a member may be silent whose protocol leaves that to the broker."""
    consumer_heartbeat_ms: int = 5_000
    """How often such a member is to be heard."""


def check_group(name: str) -> None:
    _check_name("group", name)
    if not name:
        raise InvalidGroup(f"A group needs a name: give one of 1 to {NAME_LENGTH_MAX} printable characters")


def check_text(what: str, text: str) -> None:
    """A name that a client gives and that is logged. Raises InvalidGroup."""
    _check_name(what, text)


def check_member_id(member_id: str) -> None:
    if len(member_id) > MEMBER_ID_LENGTH_MAX or not _MEMBER_ID.fullmatch(member_id):
        raise InvalidGroup(
            f"Member id {_shown(member_id)} is not 1 to {MEMBER_ID_LENGTH_MAX} of the characters A-Z a-z 0-9 . _ -; "
            "draw one at random",
            member_id=repr(member_id[:80]),
        )


def check_join(join: Join, limits: GroupsLimits) -> None:
    """Raises InvalidGroup, InvalidSession, InvalidRequest."""
    _check_name("instance id", join.instance_id)
    if not limits.session_ms_min <= join.session_timeout_ms <= limits.session_ms_max:
        raise InvalidSession(
            f"A session time-out of {join.session_timeout_ms} ms is not possible: ask for {limits.session_ms_min} to "
            f"{limits.session_ms_max} ms",
            limit_min=limits.session_ms_min,
            limit_max=limits.session_ms_max,
        )
    if not join.topics and join.pattern is None and not join.may_be_empty:
        raise InvalidRequest("A member subscribes to topics, or to a pattern; this one names neither")
    if len(join.topics) > TOPICS_MAX:
        raise InvalidRequest(f"A member may name {TOPICS_MAX} topics, this one names {len(join.topics)}: use a pattern")
    if join.pattern is not None:
        compile_pattern(join.pattern)


def compile_pattern(pattern: str) -> Any:
    """The pattern, ready to match in time linear in a name's length: it comes from a client. Raises InvalidRequest."""
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise InvalidRequest(
            f"Pattern {_shown(pattern)} is longer than {PATTERN_LENGTH_MAX} characters; write a shorter one"
        )
    try:
        return re2.compile(pattern, _PATTERN_OPTIONS)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else error
        raise InvalidRequest(
            f"Pattern {_shown(pattern)} is no regular expression of the kind that brokers match (RE2: no look-around, "
            f"no references): {why}"
        ) from None


def check_metadata(metadata: str, limits: GroupsLimits) -> None:
    size = len(metadata.encode(errors="replace"))
    if size > limits.metadata_bytes_max:
        raise OffsetMetadataTooLarge(
            f"Metadata of {size} bytes beside an offset is above the limit of {limits.metadata_bytes_max}; store it "
            "elsewhere, and a reference to it here",
            size=size,
            limit=limits.metadata_bytes_max,
        )


def for_people(text: str) -> str:
    """A text that only people read, cut to a length and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:TEXT_LENGTH_MAX])


def _check_name(what: str, name: str) -> None:
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidGroup(f"The {what} {_shown(name)} is longer than {NAME_LENGTH_MAX} characters; shorten it")
    if not name.isprintable():
        raise InvalidGroup(f"The {what} {_shown(name)} has characters that cannot be printed; leave them out")


def _shown(name: str) -> str:
    return repr(name) if len(name) <= 80 else f"{name[:80]!r}... ({len(name)} characters)"
