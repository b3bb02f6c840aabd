"""The requests that this door answers, and in which versions. What is not in the table is neither told nor answered.

Where the lowest version told is below the lowest answered, clients are to believe that older ones work: librdkafka
before 2.11.1 sends batches without compression to a broker that does not tell of Produce 0 (KAFKA-18659).
"""

from __future__ import annotations

from typing import NamedTuple

SMALL_BYTES_MAX = 512 << 10
"""Of a request that brings no records: it is decoded in one turn of the loop, which must not be a long one."""
MEMBERS_BYTES_MAX = 2 << 20
"""Of one that brings what members of a group tell each other: few pieces, which may be large."""
PRODUCE, FETCH, HEARTBEAT, API_VERSIONS = 0, 1, 12, 18


class Api(NamedTuple):
    """One kind of request."""

    key: int
    name: str
    """As Kafka's documentation has it."""
    lowest: int
    """Version told to clients."""
    highest: int
    answered_from: int
    bytes_max: int | None = SMALL_BYTES_MAX
    """Of one request; None: as large as any."""

    def answers(self, version: int) -> bool:
        return self.answered_from <= version <= self.highest

    @property
    def method(self) -> str:
        """Name of the handler's method."""
        return "".join(f"_{mark.lower()}" if mark.isupper() else mark for mark in self.name).lstrip("_")


def _api(key: int, name: str, lowest: int, highest: int, **more: int | None) -> Api:
    answered_from = more.pop("answered_from", None)
    return Api(key, name, lowest, highest, lowest if answered_from is None else answered_from, **more)


_ALL = (
    _api(PRODUCE, "Produce", 0, 11, answered_from=3, bytes_max=None),
    _api(FETCH, "Fetch", 4, 16),
    _api(2, "ListOffsets", 1, 10),
    _api(3, "Metadata", 0, 12),
    _api(8, "OffsetCommit", 2, 9),
    _api(9, "OffsetFetch", 1, 9),
    _api(10, "FindCoordinator", 0, 6),
    _api(11, "JoinGroup", 0, 9, bytes_max=MEMBERS_BYTES_MAX),
    _api(HEARTBEAT, "Heartbeat", 0, 4),
    _api(13, "LeaveGroup", 0, 5),
    _api(14, "SyncGroup", 0, 5, bytes_max=MEMBERS_BYTES_MAX),
    _api(15, "DescribeGroups", 0, 6),
    _api(16, "ListGroups", 0, 5),
    _api(42, "DeleteGroups", 0, 2),
    _api(47, "OffsetDelete", 0, 0),
    _api(API_VERSIONS, "ApiVersions", 0, 4),
    _api(19, "CreateTopics", 2, 7),
    _api(20, "DeleteTopics", 1, 6),
    _api(21, "DeleteRecords", 0, 2),
    _api(32, "DescribeConfigs", 1, 4),
    _api(33, "AlterConfigs", 0, 2),
    _api(37, "CreatePartitions", 0, 3),
    _api(44, "IncrementalAlterConfigs", 0, 1),
    _api(35, "DescribeLogDirs", 1, 4),
    _api(43, "ElectLeaders", 0, 2),
    _api(45, "AlterPartitionReassignments", 0, 0),
    _api(46, "ListPartitionReassignments", 0, 0),
    _api(60, "DescribeCluster", 0, 2),
    _api(68, "ConsumerGroupHeartbeat", 0, 1),
    _api(69, "ConsumerGroupDescribe", 0, 1),
    _api(61, "DescribeProducers", 0, 0),
    _api(75, "DescribeTopicPartitions", 0, 0),
    _api(22, "InitProducerId", 0, 5),
    _api(23, "OffsetForLeaderEpoch", 2, 4),
)
APIS: dict[int, Api] = {api.key: api for api in sorted(_ALL)}
"""By API key."""


def table() -> str:
    """For docs/kafka.md, in Markdown."""
    lines = ["| key | request | versions | told as |", "| ---: | --- | --- | --- |"]
    for api in APIS.values():
        answered, told = f"{api.answered_from} to {api.highest}", f"{api.lowest} to {api.highest}"
        lines.append(f"| {api.key} | {api.name} | {answered} | {'the same' if told == answered else told} |")
    return "\n".join(lines)
