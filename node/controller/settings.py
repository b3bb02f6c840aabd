"""Settings of the whole cluster: decided once for all brokers, in force a moment later, without a restart.

What always holds
    a setting that nobody decided, or whose decision cannot be understood here, has its default
    OFF is a value of its own, with a word of its own: 0 never means "no limit"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ...proto.errors import InvalidConfig
from .facts import SettingFact

OFF = -1
BYTES_PER_SECOND = "moves.bytes_per_second"
GONE_AFTER_MS = "brokers.gone_after_ms"
DEFAULT = "default"
"""As a value: whatever the default is."""
_VALUE_MAX = 2**53

_RATE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_TIME_UNITS = {"": 1, "ms": 1, "s": 1_000, "min": 60_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER = re.compile(r"(\d{1,17}(?:\.\d{1,6})?)\s*([A-Za-z]*)", re.ASCII)


class ClusterSetting(NamedTuple):
    """What may be set, and how it is written."""

    name: str
    default: int
    lowest: int
    off: str
    """The word for OFF."""
    is_rate: bool
    """Bytes a second; else milliseconds."""
    explained: str

    def parse(self, text: str) -> int:
        """Raises InvalidConfig."""
        text = text.strip()
        if text == DEFAULT:
            return self.default
        if text == self.off:
            return OFF
        units = _RATE_UNITS if self.is_rate else _TIME_UNITS
        found = _NUMBER.fullmatch(text.removesuffix("/s") if self.is_rate else text)
        if found is None or found[2] not in units:
            raise self._refused(text, "is no such value")
        value = round(float(found[1]) * units[found[2]])
        if not self.lowest <= value <= _VALUE_MAX:
            raise self._refused(text, f"must be from {self.shown(self.lowest)} to {_VALUE_MAX}")
        return value

    def shown(self, value: int) -> str:
        """As `parse` reads it."""
        if value == OFF:
            return self.off
        units = [(size, unit) for unit, size in (_RATE_UNITS if self.is_rate else _TIME_UNITS).items() if unit]
        size, unit = max((size, unit) for size, unit in units if value % size == 0 and unit not in ("KB", "m"))
        return f"{value // size}{unit}" + ("/s" if self.is_rate else "")

    def _refused(self, text: str, why: str) -> InvalidConfig:
        example = "20MB/s or 5000000" if self.is_rate else "45min or 2700000"
        return InvalidConfig(
            f"{self.name} = {text[:80]!r} {why}; write it like {example}, {self.off!r}, or {DEFAULT!r} for "
            f"{self.shown(self.default)}",
            key=self.name,
            value=text[:80],
        )


SETTINGS: Mapping[str, ClusterSetting] = {
    setting.name: setting
    for setting in (
        ClusterSetting(
            name=BYTES_PER_SECOND,
            # Two fifths of a link of 1 Gbit/s: clients keep most of it, and a terabyte is copied in a working day.
            default=50_000_000,
            lowest=100_000,
            off="unlimited",
            is_rate=True,
            explained="what each broker sends at most, beyond what comes in, to replicas that are being copied",
        ),
        ClusterSetting(
            name=GONE_AFTER_MS,
            # Longer than restarts, upgrades and most repairs take: copying everything costs more than waiting.
            default=30 * 60_000,
            lowest=10_000,
            off="never",
            is_rate=False,
            explained="a broker unseen for so long is gone: what it holds is placed on others",
        ),
    )
}


def known_setting(name: str) -> ClusterSetting:
    """Raises InvalidConfig."""
    setting = SETTINGS.get(name)
    if setting is None:
        raise InvalidConfig(f"The cluster has no setting {name[:80]!r}; it has {', '.join(SETTINGS)}", key=name[:80])
    return setting


def value_of(decided: Mapping[str, SettingFact], name: str) -> int | None:
    """What is in force; None if it is OFF."""
    setting, fact = SETTINGS[name], decided.get(name)
    value = setting.default if fact is None else fact.value
    if value != OFF and not setting.lowest <= value <= _VALUE_MAX:
        value = setting.default
    return None if value == OFF else value
