"""Profiles: clusters by name, and how this user likes to talk to them. `$XDG_CONFIG_HOME/lograft/profiles.toml`.

Always
    the file is replaced as a whole, and readable by its owner alone: addresses may tell more than everybody should know
    what a command is told, and LOGRAFT_BROKERS, go before a profile; a profile goes before the local cluster
    a name that is asked for and not there is refused, never passed over: it may be production that is meant
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .endings import Refused

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:,\[\]]+):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Profile:
    """One cluster: where it is, and what options are where a command is not told."""

    brokers: tuple[str, ...]
    defaults: Mapping[str, str] = field(default_factory=dict)
    """`command.option` (`produce.acks`, `topic.list.output`), or an option of every command that has it (`output`)."""

    def default_of(self, command: str, option: str) -> str | None:
        """`command` as it is typed, without `lograft`; `option` by its long name, without dashes."""
        exact = self.defaults.get(f"{command.replace(' ', '.')}.{option}")
        return exact if exact is not None else self.defaults.get(option)


@dataclass(slots=True)
class Profiles:
    """All profiles of this user, and which of them is in use."""

    path: Path
    in_use: str | None = None
    by_name: dict[str, Profile] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None = None) -> Profiles:
        """Those of the file; none if there is no file. Raises Refused if it cannot be understood."""
        profiles = cls(path or default_path())
        try:
            text = profiles.path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return profiles
        except UnicodeDecodeError:
            raise _unreadable(profiles.path, "it is no text") from None
        import tomllib

        try:
            told = tomllib.loads(text)
            profiles.in_use = told.get("in_use")
            for name, one in told.get("profile", {}).items():
                profiles.by_name[name] = Profile(
                    tuple(map(checked_address, one["brokers"])),
                    {str(key): str(value) for key, value in one.get("defaults", {}).items()},
                )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable(profiles.path, error) from None
        if profiles.in_use is not None and profiles.in_use not in profiles.by_name:
            raise _unreadable(profiles.path, f"in_use names {profiles.in_use!r}, which is no profile")
        return profiles

    def save(self) -> None:
        lines = ["# Written by `lograft profile`; it may be edited by hand."]
        if self.in_use is not None:
            lines.append(f"in_use = {_quoted(self.in_use)}")
        for name, profile in sorted(self.by_name.items()):
            lines += ["", f"[profile.{_quoted(name)}]", f"brokers = [{', '.join(map(_quoted, profile.brokers))}]"]
            if profile.defaults:
                lines += ["", f"[profile.{_quoted(name)}.defaults]"]
                lines += [f"{_quoted(key)} = {_quoted(value)}" for key, value in sorted(profile.defaults.items())]
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        new.replace(self.path)

    def named(self, name: str) -> Profile:
        found = self.by_name.get(name)
        if found is None:
            there = ", ".join(sorted(self.by_name)) or "none yet"
            raise Refused(f"there is no profile {name[:80]!r}", f"there are: {there}")
        return found


def default_path() -> Path:
    config_home = os.environ.get("XDG_CONFIG_HOME") or ""
    base = Path(config_home) if os.path.isabs(config_home) else Path.home() / ".config"
    return base / "lograft" / "profiles.toml"


def chosen(asked_for: str | None) -> Profile | None:
    """The profile that a command goes by: the one asked for, else the one in use; None if there is none."""
    if not asked_for and not default_path().exists():
        return None  # what most users have: nothing is read or imported for it
    profiles = Profiles.load()
    name = asked_for or profiles.in_use
    return None if name is None else profiles.named(name)


def goes_before(addresses: Collection[str]) -> str | None:
    """What sends commands elsewhere than to the local cluster at `addresses`, in a line that says how to go there."""
    here = ",".join(addresses)
    if told := os.environ.get("LOGRAFT_BROKERS", "").strip():
        if {one.strip() for one in told.split(",")} & {*addresses}:
            return None
        return f"LOGRAFT_BROKERS sends commands to {told}, not here; unset it, or say --brokers {here}"
    name = os.environ.get("LOGRAFT_PROFILE") or None
    try:
        found = chosen(name)
        shown = f"LOGRAFT_PROFILE={name}" if name else f"the profile in use, {Profiles.load().in_use},"
    except Refused:
        return None  # every other command says so
    if found is None or not found.brokers or {*found.brokers} & {*addresses}:
        return None
    remedy = "unset it" if name else "`lograft profile use --none`"
    return f"{shown} sends commands to {','.join(found.brokers)}, not here; {remedy}, or say --brokers {here}"


def checked_address(text: Any) -> str:
    """`host:port`. Raises ValueError that says what is wrong with it."""
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text) or not 0 < int(text.rpartition(":")[2]) < 65536:
        raise ValueError(f"{str(text)[:80]!r} is no address such as broker-1:9600")
    return text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML string


def _unreadable(path: Path, why: object) -> Refused:
    return Refused(f"{path} cannot be read ({why})", "repair it, or remove it to begin without profiles")
