"""The cluster as the pages take it: plain values for JSON, made from what the client library tells. Pure.

Invariants
    whatever is not known is null, never a number that could be added up or compared
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...client.admin import BrokerDescription, ClusterDescription, PartitionDescription, TopicDescription
from ...client.groups import GroupDescription, GroupListing
from ...client.seek_plan import SeekPlan
from ..role_changes import RoleChange
from .history import History
from .snapshot import Snapshot, Told, size_bytes

Json = dict[str, Any]
HOT_MAX = 8


def age(told: Told[Any], now_ms: int) -> Json:
    """How old what is shown is, and why it is not newer."""
    return {"age_ms": max(0, now_ms - told.at_ms) if told.at_ms else None, "trouble": told.trouble}


def overview(snapshot: Snapshot, now_ms: int) -> Json:
    cluster = snapshot.cluster.value
    lag = snapshot.history.columns("cluster/lag")
    inflow = snapshot.history.rates("cluster/topics")
    bytes_in = snapshot.history.rates("cluster/topics", 1)
    return {
        "told": {
            "cluster": age(snapshot.cluster, now_ms),
            "topics": age(snapshot.topics, now_ms),
            "groups": age(snapshot.groups, now_ms),
        },
        "cluster": None if cluster is None else cluster_json(cluster),
        "brokers": [] if cluster is None else [broker_json(broker) for broker in cluster.brokers],
        "hot": hot_lags(snapshot.described)[:HOT_MAX],
        "groups": len(snapshot.groups.value),
        "charts": {"records": inflow, "bytes": bytes_in, "lag": lag},
        "rates": {
            "records": snapshot.history.rate("cluster/topics", 0),
            "bytes": snapshot.history.rate("cluster/topics", 1),
        },
    }


def cluster_json(cluster: ClusterDescription) -> Json:
    return {
        "cluster_id": cluster.cluster_id,
        "controller_id": cluster.controller_id,
        "controller_term": cluster.controller_term,
        "healthy": cluster.healthy,
        "reasons": list(cluster.reasons),
        "losses_borne": cluster.losses_borne,
        "topics": cluster.topics,
        "partitions": cluster.partitions,
        "leaderless": cluster.leaderless_partitions,
        "under_replicated": cluster.under_replicated_partitions,
        "frail": cluster.frail_partitions,
    }


def broker_json(broker: BrokerDescription) -> Json:
    return {
        "id": broker.broker_id,
        "address": broker.address,
        "peer_address": broker.peer_address,
        "http_address": broker.http_address,
        "rack": broker.rack,
        "directory_id": broker.directory_id,
        "alive": broker.alive,
        "version": broker.version,
        "start_number": broker.start_number,
        "replicas": broker.replicas,
        "leaders": broker.leaders,
        "voter": broker.cluster_voter,
        "draining": broker.draining,
        "removed": broker.removed,
        "gone": broker.gone,
        "protocol": None if broker.peer_protocol is None else list(broker.peer_protocol),
    }


def hot_lags(described: Mapping[str, Told[GroupDescription]]) -> list[Json]:
    """Groups that have something to read, by the age of it, then by how much it is."""
    groups = sorted(
        (told.value for told in described.values() if told.value.lag_records > 0),
        key=lambda group: (-group.lag_seconds, -group.lag_records, group.group),
    )
    return [
        {
            "group": group.group,
            "state": group.state,
            "members": len(group.members),
            "lag_records": group.lag_records,
            "lag_seconds": group.lag_seconds,
        }
        for group in groups
    ]


def topic_rows(snapshot: Snapshot) -> list[Json]:
    """The list of topics, with how far behind the groups are that read them."""
    behind = lag_by_topic(told.value for told in snapshot.described.values())
    return [
        {
            "name": topic.name,
            "internal": topic.internal,
            "partitions": len(topic.partitions),
            "replication": topic.replication,
            "records": records_held(topic.partitions),
            "size_bytes": size_bytes(topic),
            "in_records_s": snapshot.history.rate(f"topic/{topic.name}", 0),
            "in_bytes_s": snapshot.history.rate(f"topic/{topic.name}", 1),
            "leaderless": sum(partition.leader_id < 0 for partition in topic.partitions),
            "unsound": sum(not is_sound(partition) for partition in topic.partitions),
            "groups": behind.get(topic.name, []),
        }
        for topic in snapshot.topics.value
    ]


def records_held(partitions: Iterable[PartitionDescription]) -> int | None:
    """From log starts to committed ends; compaction may have taken some of them out."""
    held = [partition.committed_offset - partition.log_start_offset for partition in partitions]
    known = all(partition.committed_offset >= 0 for partition in partitions)
    return sum(held) if known else None


def is_sound(partition: PartitionDescription) -> bool:
    return all(replica.state.upper() == "OK" for replica in partition.replicas)


def lag_by_topic(groups: Iterable[GroupDescription]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for group in groups:
        sums: dict[str, list[float]] = {}
        for one in group.partitions:
            of_topic = sums.setdefault(one.partition.topic, [0, 0.0])
            of_topic[0] += one.lag_records or 0
            of_topic[1] = max(of_topic[1], one.lag_seconds or 0.0)
        for topic, (records, seconds) in sums.items():
            found.setdefault(topic, []).append({"group": group.group, "lag_records": records, "lag_seconds": seconds})
    for rows in found.values():
        rows.sort(key=lambda row: (-row["lag_records"], row["group"]))
    return found


def topic_json(topic: TopicDescription, history: History, groups: Sequence[Json]) -> Json:
    return {
        "name": topic.name,
        "topic_id": topic.topic_id,
        "internal": topic.internal,
        "replication": topic.replication,
        "config": dict(topic.config),
        "records": records_held(topic.partitions),
        "size_bytes": size_bytes(topic),
        "in_records_s": history.rate(f"topic/{topic.name}", 0),
        "in_bytes_s": history.rate(f"topic/{topic.name}", 1),
        "charts": {"records": history.rates(f"topic/{topic.name}"), "bytes": history.rates(f"topic/{topic.name}", 1)},
        "groups": list(groups),
        "partitions": [partition_json(partition) for partition in topic.partitions],
    }


def partition_json(partition: PartitionDescription) -> Json:
    is_known = partition.committed_offset >= 0
    return {
        "number": partition.number,
        "leader_id": partition.leader_id,
        "term": partition.term,
        "log_start": partition.log_start_offset if is_known else None,
        "committed": partition.committed_offset if is_known else None,
        "size_bytes": partition.size_bytes if partition.size_bytes >= 0 else None,
        "moving": partition.moving,
        "recovered": partition.recovery is not None,
        "replicas": [
            {
                "broker_id": replica.broker_id,
                "voter": replica.voter,
                "alive": replica.alive,
                "state": replica.state,
                "leaving": replica.leaving,
                "match": replica.match_offset if replica.match_offset >= 0 else None,
                "lag": max(0, partition.committed_offset - replica.match_offset)
                if is_known and replica.match_offset >= 0
                else None,
                "copying": None
                if replica.copying is None
                else {
                    "bytes_done": replica.copying.bytes_done,
                    "bytes_total": replica.copying.bytes_total,
                    "time_left_s": replica.copying.time_left_s,
                },
            }
            for replica in partition.replicas
        ],
    }


def group_rows(listings: Iterable[GroupListing], described: Mapping[str, Told[GroupDescription]]) -> list[Json]:
    return [
        {
            "group": listing.group,
            "state": listing.state,
            "members": listing.members,
            "partitions": listing.partitions,
            "topics": list(listing.topics),
            "coordinator_id": listing.coordinator_id,
            "lag_records": None if (told := described.get(listing.group)) is None else told.value.lag_records,
            "lag_seconds": None if told is None else told.value.lag_seconds,
        }
        for listing in listings
    ]


def group_json(group: GroupDescription, history: History) -> Json:
    return {
        "group": group.group,
        "state": group.state,
        "generation": group.generation,
        "coordinator_id": group.coordinator_id,
        "lag_records": group.lag_records,
        "lag_seconds": group.lag_seconds,
        "chart": history.columns(f"group/{group.group}"),
        "members": [
            {
                "member_id": member.member_id,
                "instance_id": member.instance_id,
                "client_id": member.client_id,
                "host": member.host,
                "topics": list(member.topics),
                "pattern": member.pattern,
                "partitions": member.partitions,
                "session_timeout_ms": member.session_timeout_ms,
                "heard_ms_ago": member.heard_ms_ago,
                "joined_ms": member.joined_ms,
            }
            for member in group.members
        ],
        "partitions": [
            {
                "topic": one.partition.topic,
                "partition": one.partition.partition,
                "member_id": one.member_id,
                "next_member_id": one.next_member_id,
                "generation": one.generation,
                "stored_offset": one.stored_offset,
                "stored_ms": one.stored_ms,
                "metadata": one.metadata[:200],
                "start_offset": one.start_offset,
                "committed_offset": one.committed_offset,
                "lag_records": one.lag_records,
                "lag_seconds": one.lag_seconds,
            }
            for one in group.partitions
        ],
    }


def plan_json(plan: SeekPlan) -> Json:
    return {
        "group": plan.group,
        "generation": plan.generation,
        "owners": len(plan.owners),
        "records_back": plan.records_back,
        "records_forward": plan.records_forward,
        "moves": [
            {
                "topic": move.partition.topic,
                "partition": move.partition.partition,
                "topic_id": move.topic_id,
                "owner": move.owner,
                "stored_offset": move.stored_offset,
                "to_offset": move.to_offset,
                "asked_offset": move.asked_offset,
                "change": move.change,
            }
            for move in plan.moves
        ],
        "left_out": [
            {"topic": left.partition.topic, "partition": left.partition.partition, "why": left.why}
            for left in plan.left_out
        ],
    }


def elections_json(changes: Iterable[RoleChange], names: Mapping[str, str], count_max: int) -> list[Json]:
    """`names`: of topics by id."""
    rows = []
    for change in changes:
        rows.append(
            {
                "at_ms": change.at_ms,
                "broker_id": change.broker_id,
                "topic": names.get(change.topic_id, ""),
                "topic_id": change.topic_id,
                "partition": change.number,
                "term": change.term,
                "leads": change.leads,
                "other_id": change.other_id,
                "why": change.why,
            }
        )
        if len(rows) >= count_max:
            break
    return rows
