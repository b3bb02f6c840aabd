"""Which identities should vote in `__cluster`: every broker holds a replica of it, three or five of them decide.

What always holds
    it depends on who votes now, who is registered, and who is alive, and on nothing remembered
    whoever votes and may go on voting goes on, dead or alive, unless there are more voters than seats
    the seats are three, or five in a cluster that began with five; never more than there are brokers
    a removed broker has no seat, but hears of the decisions as long as it is there
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ...partitions.raft.messages import Voter
from .facts import BrokerFact

CLUSTER_REPLICA_NUMBER = 1
"""`__cluster` is never placed anew, so its replicas are told apart by their directory ids alone."""
FEW_SEATS, MANY_SEATS = 3, 5


def identities(brokers: Mapping[int, BrokerFact]) -> tuple[Voter, ...]:
    """Everybody who holds a replica, by broker id: each under the directory id that it has now.

    A removed broker too: it may hold what nobody else has yet, and must hear where that is to go.
    """
    return tuple(
        Voter(broker_id, fact.directory_id, CLUSTER_REPLICA_NUMBER) for broker_id, fact in sorted(brokers.items())
    )


def seats(present: Sequence[Voter], brokers: Mapping[int, BrokerFact], alive: Collection[int]) -> tuple[Voter, ...]:
    """Who should vote, where `present` vote now."""
    # A founder votes before it is registered; without its seat then, the cluster would never get it back.
    usable = {voter.broker_id: voter for voter in present if voter.broker_id not in brokers}
    usable |= {voter.broker_id: voter for voter in identities(brokers) if not brokers[voter.broker_id].removed}
    count = min(MANY_SEATS if len(present) >= MANY_SEATS else FEW_SEATS, len(usable))
    kept = list(dict.fromkeys(voter.broker_id for voter in present if voter.broker_id in usable))
    others = [broker_id for broker_id in usable if broker_id in alive and broker_id not in kept]
    # A stable sort: of those who stay in any case the order is kept.
    kept.sort(key=lambda broker_id: (broker_id not in alive, usable[broker_id] not in present))
    # Who is gone gives its seat to one who is there, and keeps it if there is nobody: fewer voters bear no more.
    gone = [
        broker_id for broker_id in kept if broker_id in brokers and brokers[broker_id].gone and broker_id not in alive
    ]
    staying = [broker_id for broker_id in kept if broker_id not in gone]
    return tuple(usable[broker_id] for broker_id in (staying + others + gone)[:count])
