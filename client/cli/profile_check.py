"""Can clients here reach a cluster: the addresses they begin with, and those that its brokers send them to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .health import BrokerHealth, HealthProbe

_TIMEOUT_S = 3.0


class Checked(NamedTuple):
    address: str
    told_by: str
    """`profile`, or the broker that advertises it."""
    serves: bool
    state: str


async def check_addresses(addresses: Sequence[str]) -> list[Checked]:
    """Each address of `addresses`, then each other that a broker of the cluster behind them advertises."""
    async with HealthProbe(addresses, _TIMEOUT_S) as probe:
        health = await probe.ask()
    checked = [
        Checked(address, "profile", *_standing(found)) for address, found in zip(addresses, health.brokers, strict=True)
    ]
    members = [one for one in health.described.brokers if not one.removed] if health.described else []
    advertised = {one.address: one for one in members if one.address and one.address not in addresses}
    async with HealthProbe(list(advertised), _TIMEOUT_S) as probe:
        further = await probe.ask()
    for (address, broker), found in zip(advertised.items(), further.brokers, strict=True):
        serves, state = _standing(found)
        if not serves and not broker.alive:
            state = "is down: the others do not hear of it either"
        checked.append(Checked(address, f"broker {broker.broker_id}", serves, state))
    return checked


def _standing(found: BrokerHealth) -> tuple[bool, str]:
    return found.serves, "serves" if found.serves else found.why
